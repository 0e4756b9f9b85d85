"""Jobs to test with."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.job.model import Job, Kind, State, Subject, Waiting

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
MACHINE = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
ACCOUNT = "111122223333"
REGION = "eu-central-1"


def a_subject(**changes: Any) -> Subject:
    """A directory tree at the local site."""
    name = changes.pop("name", "fs-1")
    values: dict[str, Any] = {
        "account": ACCOUNT,
        "region": REGION,
        "resource_arn": f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/{name}",
        "resource_type": "EFS",
        "resource_name": name,
        "site": "local",
        "role_arn": f"arn:aws:iam::{ACCOUNT}:role/backup",
        "vault_name": "main",
        "vault_arn": f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:main",
        "organization_id": "o-1",
        "unit_path": "o-1/r-1/",
    }
    return Subject(**{**values, **changes})


AJob = Callable[..., Job]


def set_columns(tx: sa.Connection, job_id: str, **columns: Any) -> None:
    """Change columns of one job, as the scheduler would have filled them."""
    if columns:
        assignments = ", ".join(f"{name} = :{name}" for name in columns)
        tx.execute(text(f"UPDATE job SET {assignments} WHERE id = :job"), {**columns, "job": job_id})


def a_waiting_job(**changes: Any) -> Job:
    """A waiting backup job as a value, with a start window of eight hours from noon."""
    subject = a_subject()
    job = Job(
        id="job",
        kind=Kind.BACKUP,
        account=subject.account,
        region=subject.region,
        state=State.CREATED,
        epoch=0,
        priority=5,
        site=subject.site,
        organization_id=subject.organization_id,
        unit_path=subject.unit_path,
        resource_arn=subject.resource_arn,
        resource_type=subject.resource_type,
        resource_name=subject.resource_name,
        resource_id=None,
        vault_name=subject.vault_name,
        vault_arn=subject.vault_arn,
        recovery_point_id=None,
        recovery_point_arn=None,
        role_arn=subject.role_arn,
        document_id=None,
        plan_id=None,
        plan_name=None,
        plan_version=None,
        rule_id=None,
        rule_name=None,
        selection_name=None,
        options={},
        due_at=None,
        created_at=NOON,
        start_by=NOON + timedelta(hours=8),
        complete_by=None,
        completion_window=timedelta(days=7),
        started_at=None,
        completed_at=None,
        dispatched_at=None,
        seen_at=None,
        mover=None,
        attempts=1,
        retry_at=None,
        message=None,
        category=None,
        waiting_for=Waiting.NOTHING,
        percent=0,
        bytes_total=0,
        bytes_done=0,
        bytes_stored=0,
        result={},
        parent_id=None,
        monitored_by=None,
    )
    return replace(job, **changes)
