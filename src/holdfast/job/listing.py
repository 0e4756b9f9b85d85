"""Lists of jobs: of an account or a whole organization, by every filter, in stable pages, newest first.

A list is read from *streams*. A stream is the part of an index in which every column before the instant has one value,
so that its jobs come out in the order of the pages; a filter with several values has a stream for each. Jobs that are
open and jobs that have ended have streams of their own. What no index answers is looked at job by job, in a bounded
scan: such a page may be short, even empty, and still go on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import instant, stamp
from holdfast.job.model import ENDED, Category, Job, Kind, State
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
    """An index, the columns before its instant, and the condition by which it holds only a part of all jobs."""

    index: str
    columns: tuple[str, ...]
    condition: str
    is_narrow: bool = False
    """Whether all that it finds is so little that it can be sorted, and nothing needs to bound the scan."""


_OPEN: Final = "completed_at IS NULL"
_ENDED: Final = "completed_at IS NOT NULL"
_AMISS: Final = f"{_ENDED} AND (state <> 'COMPLETED' OR message_category <> 'SUCCESS')"

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
    "job_ended_plan": "plan_name",
    "job_ended_vault": "vault_name",
    "job_ended_type": "resource_type",
}
"""Indexes of an organization's ended jobs with one more column, most telling first."""

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
    streams = [
        (path, dict(zip(path.columns, one, strict=True)))
        for path in _paths(wanted, values, order)
        for one in product(*(values[name] for name in path.columns))
    ]
    horizon: Position | None = None
    for path, stream in streams:
        if _residual(wanted, values, path, order)[0] and not path.is_narrow:
            end = _stream_end(tx, wanted, order, after, path, stream, scan)
            if end is not None and (horizon is None or (end.at, end.job_id) > (horizon.at, horizon.job_id)):
                horizon = end
    within, bounds = _within(tx, wanted, order, after, horizon)
    found: list[tuple[int, str]] = []
    for path, stream in streams:
        residual, given = _residual(wanted, values, path, order)
        expanding = [name for name, value in given.items() if isinstance(value, tuple)]
        page = text(_select(tx, path, order, f"{within} {residual}") + " LIMIT :limit")
        rows = tx.execute(
            page.bindparams(*(sa.bindparam(name, expanding=True) for name in expanding)),
            {**stream, **bounds, **given, "limit": limit + 1},
        )
        found += [(row.at, row.id) for row in rows]
    found.sort(reverse=True)
    jobs = _jobs(tx, [job_id for _, job_id in found[:limit]])
    if len(found) > limit:
        at, job_id = found[limit - 1]
        return Page(jobs, Position(instant(at), job_id))
    return Page(jobs, horizon)


def _select(tx: sa.Connection, path: _Path, order: str, conditions: str) -> str:
    """Return the statement that reads instants and ids of one stream in order."""
    # SQLite has no statistics to choose by, and an unlucky choice would read a whole organization.
    source = f"job INDEXED BY {path.index}" if tx.dialect.name == "sqlite" else "job"
    equal = " AND ".join(f"{name} = :{name}" for name in path.columns)
    return (
        f"SELECT {order} AS at, id FROM {source} WHERE {path.condition} AND {equal} {conditions}"
        f" ORDER BY {order} DESC, id DESC"
    )


def _stream_end(
    tx: sa.Connection,
    wanted: JobFilter,
    order: str,
    after: Position | None,
    path: _Path,
    stream: Mapping[str, Any],
    scan: int,
) -> Position | None:
    """Return the last job of a stream that is looked at for one page; None if the stream is shorter."""
    within, bounds = _within(tx, wanted, order, after, None)
    statement = text(_select(tx, path, order, within) + " LIMIT 1 OFFSET :scan")
    row = tx.execute(statement, {**stream, **bounds, "scan": scan - 1}).one_or_none()
    return None if row is None else Position(instant(row.at), row.id)


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


def _paths(wanted: JobFilter, values: Mapping[str, tuple[Any, ...]], order: str) -> list[_Path]:
    """Choose the indexes that together hold all jobs that fit and leave the least to look at."""
    if "parent_id" in values:
        return [_Path("job_parent", ("parent_id",), "parent_id IS NOT NULL", is_narrow=True)]
    if "recovery_point_arn" in values:
        columns = ("recovery_point_arn", "kind")
        return [_Path("job_point", columns, "recovery_point_arn IS NOT NULL", is_narrow=True)]
    if "resource_arn" not in values and "vault_arn" in values and wanted.kinds == (Kind.COPY,):
        # By their end they have to be sorted: no vault of an organization takes millions of copies.
        return [_Path("job_copied_into", ("vault_arn",), "kind = 'COPY'", is_narrow=order == "completed_at")]
    per_account = 0 < len(wanted.accounts) * len(wanted.kinds) * len(wanted.regions) <= _MOST_STREAMS
    of_accounts = per_account or wanted.monitored_by is None
    scope = ("account" if of_accounts else "monitored_by", "kind", "region")
    paths = []
    if order == "created_at" and (not wanted.states or not ENDED.issuperset(wanted.states)):
        if "resource_arn" in values:
            paths.append(_Path("job_open_resource", ("resource_arn",), _OPEN, is_narrow=True))
        else:
            paths.append(_Path("job_open_account" if of_accounts else "job_open", scope, _OPEN))
    if not wanted.states or not ENDED.isdisjoint(wanted.states):
        if "resource_arn" in values:
            paths.append(_Path("job_ended_resource", ("resource_arn",), _ENDED, is_narrow=True))
        elif of_accounts:
            paths.append(_of_ended_in_account(wanted, scope, order))
        else:
            paths.append(_of_ended(wanted, values, scope, order))
    return paths


def _of_ended_in_account(wanted: JobFilter, scope: tuple[str, ...], order: str) -> _Path:
    if order == "completed_at":
        return _Path("job_ended_account_completed", scope, _ENDED)
    if _nothing_usual(wanted):
        return _Path("job_ended_account_amiss", scope, _AMISS)
    return _Path("job_ended_account", scope, _ENDED)


def _of_ended(wanted: JobFilter, values: Mapping[str, tuple[Any, ...]], scope: tuple[str, ...], order: str) -> _Path:
    if order == "completed_at":
        return _Path("job_ended_completed", scope, _ENDED)
    if wanted.states and State.COMPLETED not in wanted.states:
        return _Path("job_ended_state", (*scope, "state"), f"{_ENDED} AND state <> 'COMPLETED'")
    if wanted.category not in {None, Category.SUCCESS}:
        columns = (*scope, "message_category")
        return _Path("job_ended_category", columns, f"{_ENDED} AND message_category <> 'SUCCESS'")
    for index, column in _ONE_MORE.items():
        if column in values and len(wanted.kinds) * len(wanted.regions) * len(values[column]) <= _MOST_STREAMS:
            told = f"{_ENDED} AND plan_name IS NOT NULL" if column == "plan_name" else _ENDED
            return _Path(index, (*scope, column), told)
    return _Path("job_ended", scope, _ENDED)


def _nothing_usual(wanted: JobFilter) -> bool:
    """Return whether only jobs are wanted that did not simply succeed."""
    by_state = bool(wanted.states) and State.COMPLETED not in wanted.states
    return by_state or wanted.category not in {None, Category.SUCCESS}


def _within(
    tx: sa.Connection, wanted: JobFilter, order: str, after: Position | None, horizon: Position | None
) -> tuple[str, dict[str, Any]]:
    """Return the bounds of the instant that the list is ordered by, one at each end: an index takes no more."""
    since = wanted.created_after if order == "created_at" else wanted.completed_after
    until = wanted.created_before if order == "created_at" else wanted.completed_before
    words, bounds = "", dict[str, Any]()
    # PostgreSQL has statistics of instants and none of pairs: by those alone it takes a third of the table to fit, and
    # reads it. SQLite takes one bound at each end, and should take the closer one.
    alone = tx.dialect.name == "postgresql"
    if horizon is not None:
        words += f" AND {order} >= :horizon_at" if alone else ""
        words += f" AND ({order}, id) >= (:horizon_at, :horizon_id)"
        bounds |= {"horizon_at": stamp(horizon.at), "horizon_id": horizon.job_id}
    elif since is not None:
        words += f" AND {order} >= :since"
        bounds["since"] = stamp(since)
    if after is not None and (until is None or after.at < until):
        words += f" AND {order} <= :after_at" if alone else ""
        words += f" AND ({order}, id) < (:after_at, :after_id)"
        bounds |= {"after_at": stamp(after.at), "after_id": after.job_id}
    elif until is not None:
        words += f" AND {order} < :until"
        bounds["until"] = stamp(until)
    return words, bounds


def _residual(
    wanted: JobFilter, values: Mapping[str, tuple[Any, ...]], path: _Path, order: str
) -> tuple[str, dict[str, Any]]:
    """Return what is left to look at in each job that the index gives."""
    words, given = "", dict[str, Any]()
    for column, allowed in values.items():
        if column not in path.columns and not (column == "kind" and path.index == "job_copied_into"):
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
