"""The API as clients speak it: shapes, errors, signatures, paging; one file per service."""
