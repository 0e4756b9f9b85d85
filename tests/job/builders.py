"""Jobs to test with."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.job.model import Job, Subject

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
