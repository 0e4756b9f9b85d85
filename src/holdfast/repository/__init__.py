"""The repository engine: reads and writes restic repositories of format version 2, and knows nothing of vaults.

Start at `repository.py`. `docs/repository-format.md` says what lies on storage and in which order it gets there.
"""
