"""Lists of jobs: of an account or a whole organization, by every filter, in stable pages, newest first.

A list is read from *streams*. A stream is the part of an index in which every column before the instant has one value,
so that its jobs come out in the order of the pages; a filter with several values has a stream for each. What no index
answers is looked at job by job, in a bounded scan: such a page may be short, even empty, and still go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import instant, stamp
from holdfast.job.model import Category, Job, Kind, State
from holdfast.job.store import COLUMNS, from_row

SCANNED: Final = 20_000
"""How many jobs of a stream are looked at for one page, at most, where an index does not answer all that was asked."""

_MOST_STREAMS: Final = 200


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted; what is None or empty does not matter. `accounts` or `monitored_by` is given.

    Lists with an instant of completion are in the order of completion, all others in the order of creation.
    """

    kinds: tuple[Kind, ...]
    regions: tuple[str, ...]
    accounts: tuple[str, ...] = ()
    monitored_by: str | None = None
    """The organization whose view is asked for: jobs made while it trusted AWS Backup."""
    resource_arn: str | None = None
    resource_type: str | None = None
    states: tuple[State, ...] = ()
    vault_name: str | None = None
    vault_arn: str | None = None
    category: Category | None = None
    recovery_point_arn: str | None = None
    parent_id: str | None = None
    plan_names: tuple[str, ...] = ()
    """As job rows have them: those of an organization's plans in lower case."""
    document_ids: tuple[str, ...] = ()
    """Effective documents, one of which made the job."""
    unit_paths: tuple[str, ...] = ()
    """Where the account stood when the job was made: one of these paths."""
    message: str | None = None
    """Text that the message contains, in any case."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None
    open_or_completed_after: datetime | None = None
    point_created_after: datetime | None = None
    """When the recovery point that the job has made or restores was created."""
    point_created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ends: the instant that the list is ordered by, and a job's id. The next page begins after it."""

    at: datetime
    job_id: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs in order, and where to go on; None at the end."""

    jobs: tuple[Job, ...]
    after: Position | None


@dataclass(frozen=True, slots=True)
class _Path:
    """An index, and the columns before its instant."""

    index: str
    columns: tuple[str, ...]
    condition: str = ""
    """What a partial index wants to be told."""
    is_narrow: bool = False
    """Whether all that it finds is so little that nothing needs to bound the scan."""


_SINGLE: Final[Mapping[str, str]] = {
    "monitored_by": "monitored_by",
    "resource_arn": "resource_arn",
    "resource_type": "resource_type",
    "vault_name": "vault_name",
    "vault_arn": "vault_arn",
    "message_category": "category",
    "recovery_point_arn": "recovery_point_arn",
    "parent_id": "parent_id",
}
"""Columns with one wanted value, and the filter's name for it."""

_BY_ID = text(f"SELECT {COLUMNS} FROM job WHERE id IN :ids").bindparams(sa.bindparam("ids", expanding=True))

_ONE_MORE: Final[Mapping[str, str]] = {
    "job_plan": "plan_name",
    "job_vault": "vault_name",
    "job_type": "resource_type",
}
"""Indexes of an organization's jobs with one more column, most telling first."""

_MANY: Final[Mapping[str, str]] = {
    "account": "accounts",
    "kind": "kinds",
    "region": "regions",
    "state": "states",
    "plan_name": "plan_names",
    "document_id": "document_ids",
    "unit_path": "unit_paths",
}


def list_jobs(
    tx: sa.Connection,
    wanted: JobFilter,
    *,
    after: Position | None = None,
    limit: int = 1000,
    scan: int = SCANNED,
) -> Page:
    """Return one page of the jobs that fit, newest first. Jobs created meanwhile shift nothing on later pages.

    A page has `limit` jobs at most. It has fewer and yet goes on where `scan` jobs of a stream were looked at.
    """
    if not wanted.accounts and wanted.monitored_by is None:
        raise ValueError("jobs are listed of an account or of an organization")
    order = _order(wanted)
    values = _values(wanted)
    path = _path(wanted, values, order)
    streams = [dict(zip(path.columns, one, strict=True)) for one in product(*(values[name] for name in path.columns))]
    within, bounds = _within(wanted, order, after)
    residual, given = _residual(wanted, values, path, order)
    newest_first = f"ORDER BY {order} DESC, id DESC"
    condition = f"({path.condition}) AND" if path.condition else ""
    # SQLite has no statistics to choose by, and an unlucky choice would read a whole organization.
    source = f"job INDEXED BY {path.index}" if tx.dialect.name == "sqlite" else "job"
    equal = " AND ".join(f"{name} = :{name}" for name in path.columns)
    horizon: Position | None = None
    if residual and not path.is_narrow:
        end = text(
            f"SELECT {order} AS at, id FROM {source} WHERE {condition} {equal} {within} {newest_first}"
            " LIMIT 1 OFFSET :scan"
        )
        for stream in streams:
            row = tx.execute(end, {**stream, **bounds, "scan": scan - 1}).one_or_none()
            if row is not None and (horizon is None or (row.at, row.id) > (stamp(horizon.at), horizon.job_id)):
                horizon = Position(instant(row.at), row.id)
        if horizon is not None:
            within += f" AND ({order}, id) >= (:horizon_at, :horizon_id)"
            bounds |= {"horizon_at": stamp(horizon.at), "horizon_id": horizon.job_id}
    expanding = [name for name, value in given.items() if isinstance(value, tuple)]
    page = text(
        f"SELECT {order} AS at, id FROM {source} WHERE {condition} {equal} {within} {residual} {newest_first}"
        " LIMIT :limit"
    ).bindparams(*(sa.bindparam(name, expanding=True) for name in expanding))
    found = [
        (row.at, row.id)
        for stream in streams
        for row in tx.execute(page, {**stream, **bounds, **given, "limit": limit + 1}).all()
    ]
    found.sort(reverse=True)
    jobs = _jobs(tx, [job_id for _, job_id in found[:limit]])
    if len(found) > limit:
        at, job_id = found[limit - 1]
        return Page(jobs, Position(instant(at), job_id))
    return Page(jobs, horizon)


def _jobs(tx: sa.Connection, ids: Sequence[str]) -> tuple[Job, ...]:
    """Return the jobs with these ids in this order."""
    rows = tx.execute(_BY_ID, {"ids": ids}).all() if ids else []
    by_id = {row.id: row for row in rows}
    return tuple(from_row(by_id[job_id]) for job_id in ids)


def _order(wanted: JobFilter) -> str:
    by_completion = wanted.completed_after is not None or wanted.completed_before is not None
    return "completed_at" if by_completion else "created_at"


def _values(wanted: JobFilter) -> dict[str, tuple[Any, ...]]:
    """Return the values that each restricted column may have."""
    values = {column: tuple(getattr(wanted, name)) for column, name in _MANY.items() if getattr(wanted, name)}
    single = {column: getattr(wanted, name) for column, name in _SINGLE.items()}
    return values | {column: (value,) for column, value in single.items() if value is not None}


def _path(wanted: JobFilter, values: Mapping[str, tuple[Any, ...]], order: str) -> _Path:
    """Choose the index that leaves the least to look at."""
    per_account = 0 < len(wanted.accounts) * len(wanted.kinds) * len(wanted.regions) <= _MOST_STREAMS
    scope = ("account" if per_account or wanted.monitored_by is None else "monitored_by", "kind", "region")
    if "resource_arn" in values:
        return _Path("job_run", ("resource_arn",), is_narrow=True)
    if "parent_id" in values:
        return _Path("job_parent", ("parent_id",), is_narrow=True)
    if "recovery_point_arn" in values:
        return _Path("job_point", ("recovery_point_arn", "kind"), is_narrow=True)
    if scope[0] == "account":
        return _Path("job_account" if order == "created_at" else "job_account_completed", scope)
    if order == "completed_at":
        return _Path("job_completed", scope)
    if wanted.states and State.COMPLETED not in wanted.states:
        return _Path("job_state", (*scope, "state"), "state <> 'COMPLETED'")
    if wanted.category not in {None, Category.SUCCESS}:
        return _Path("job_category", (*scope, "message_category"), "message_category <> 'SUCCESS'")
    if "vault_arn" in values and wanted.kinds == (Kind.COPY,):
        return _Path("job_copied_into", ("vault_arn",), "kind = 'COPY'")
    for index, column in _ONE_MORE.items():
        if column in values and len(wanted.kinds) * len(wanted.regions) * len(values[column]) <= _MOST_STREAMS:
            return _Path(index, (*scope, column))
    return _Path("job_organization", scope)


def _within(wanted: JobFilter, order: str, after: Position | None) -> tuple[str, dict[str, Any]]:
    """Return the bounds of the instant that the list is ordered by."""
    since = wanted.created_after if order == "created_at" else wanted.completed_after
    until = wanted.created_before if order == "created_at" else wanted.completed_before
    words, bounds = "", dict[str, Any]()
    if since is not None:
        words += f" AND {order} >= :since"
        bounds["since"] = stamp(since)
    if until is not None:
        words += f" AND {order} < :until"
        bounds["until"] = stamp(until)
    if after is not None:
        words += f" AND ({order}, id) < (:after_at, :after_id)"
        bounds |= {"after_at": stamp(after.at), "after_id": after.job_id}
    return words, bounds


def _residual(
    wanted: JobFilter, values: Mapping[str, tuple[Any, ...]], path: _Path, order: str
) -> tuple[str, dict[str, Any]]:
    """Return what is left to look at in each job that the index gives."""
    words, given = "", dict[str, Any]()
    for column, allowed in values.items():
        if column not in path.columns and not (column == "kind" and path.condition == "kind = 'COPY'"):
            words += f" AND {column} IN :wanted_{column}"
            given[f"wanted_{column}"] = allowed
    if order == "completed_at":
        for operator, name, at in ((">=", "since", wanted.created_after), ("<", "until", wanted.created_before)):
            if at is not None:
                words += f" AND created_at {operator} :created_{name}"
                given[f"created_{name}"] = stamp(at)
    if wanted.open_or_completed_after is not None:
        words += " AND (completed_at IS NULL OR completed_at >= :visible_since)"
        given["visible_since"] = stamp(wanted.open_or_completed_after)
    for operator, name, at in (
        (">=", "since", wanted.point_created_after),
        ("<", "until", wanted.point_created_before),
    ):
        if at is not None:
            words += f"""
                AND EXISTS (SELECT 1 FROM recovery_point AS point
                             WHERE point.id = job.recovery_point_id AND point.created_at {operator} :point_{name})"""
            given[f"point_{name}"] = stamp(at)
    if wanted.message is not None:
        words += r" AND lower(message) LIKE lower(:message) ESCAPE '\'"
        literal = wanted.message.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        given["message"] = f"%{literal}%"
    return words, given
