"""What the tests of jobs share."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.job.builders import NOON, AJob, a_subject, set_columns

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.job import service, store
from holdfast.job.model import BackupRequest, Job


@pytest.fixture
def a_job(database: Database) -> AJob:
    """Make one waiting backup job; `name` is its resource's, other arguments are columns."""

    def make(
        name: str | None = None, *, now: datetime = NOON, window: timedelta = timedelta(hours=8), **columns: Any
    ) -> Job:
        with database.transaction() as tx:
            subject = a_subject(name=name or new_uuid())
            job = service.start_backup_job(tx, BackupRequest(subject, start_window=window), now=now)
            set_columns(tx, job.id, **columns)
            made = store.find(tx, job.id)
        assert made is not None
        return made

    return make
