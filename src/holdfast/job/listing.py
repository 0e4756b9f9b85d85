"""Lists of jobs: of an account or a whole organization, by every filter of the API, in stable pages, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import stamp, stamp_or_none
from holdfast.job.model import Category, Job, Kind, State
from holdfast.job.store import COLUMNS, from_row


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; what is None does not matter. `account` or `organization_id` is given."""

    kind: Kind
    account: str | None = None
    organization_id: str | None = None
    """Jobs of every account that was in this organization when the job was created."""
    region: str | None = None
    resource_arn: str | None = None
    resource_type: str | None = None
    state: State | None = None
    vault_name: str | None = None
    vault_arn: str | None = None
    category: Category | None = None
    recovery_point_arn: str | None = None
    parent_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The last job of a page; the next one begins after it."""

    created_at: datetime
    job_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs in order, and where to go on; None at the end."""

    jobs: tuple[Job, ...]
    after: Position | None


_CONDITIONS: Final[Mapping[str, str]] = {
    "account": "account = :account",
    "organization_id": "organization_id = :organization_id",
    "region": "region = :region",
    "resource_arn": "resource_arn = :resource_arn",
    "resource_type": "resource_type = :resource_type",
    "state": "state = :state",
    "vault_name": "vault_name = :vault_name",
    "vault_arn": "vault_arn = :vault_arn",
    "category": "message_category = :category",
    "recovery_point_arn": "recovery_point_arn = :recovery_point_arn",
    "parent_id": "parent_id = :parent_id",
    "created_after": "created_at >= :created_after",
    "created_before": "created_at < :created_before",
    "completed_after": "completed_at >= :completed_after",
    "completed_before": "completed_at < :completed_before",
}


def list_jobs(tx: sa.Connection, wanted: JobFilter, *, after: Position | None = None, limit: int = 1000) -> Page:
    """Return one page of the jobs that fit, newest first. Jobs created meanwhile shift nothing on later pages."""
    if wanted.account is None and wanted.organization_id is None:
        raise ValueError("jobs are listed of an account or of an organization")
    conditions = ["kind = :kind"]
    values: dict[str, Any] = {"kind": wanted.kind, "limit": limit + 1}
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(condition)
            values[name] = stamp_or_none(value) if isinstance(value, datetime) else value
    if after is not None:
        conditions.append("(created_at, id) < (:at, :id)")
        values |= {"at": stamp(after.created_at), "id": after.job_id}
    rows = tx.execute(
        text(
            f"SELECT {COLUMNS} FROM job WHERE {' AND '.join(conditions)} ORDER BY created_at DESC, id DESC LIMIT :limit"
        ),
        values,
    ).all()
    jobs = tuple(from_row(row) for row in rows[:limit])
    more = len(rows) > limit
    return Page(jobs, Position(jobs[-1].created_at, jobs[-1].id) if more and jobs else None)
