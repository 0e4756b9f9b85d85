"""What the tests of the view across accounts share."""

from tests.job.conftest import a_job

__all__ = ["a_job"]
