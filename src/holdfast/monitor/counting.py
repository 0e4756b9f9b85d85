"""How many jobs there are, without counting them: sums by day of creation, account, type, state and category.

Triggers write every change of a job into `job_count_delta` in the transaction that makes it; `fold` adds the changes up
in `job_count`. Who reads adds both, so that a count is exact at every moment, however far folding has come.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, Position, page_of
from holdfast.database.connection import Database

FOLDED: Final = 20_000
"""How many changes are folded in one transaction, at most."""

DAY: Final = 86_400_000_000
"""A day in microseconds, as columns count time."""

DIMENSIONS: Final = ("day", "region", "account", "state", "resource_type", "category")
"""By what counts can be broken out, in the order of their rows."""

_ADD: Final = """
    ON CONFLICT (level, kind, monitored_by, day, account, region, state, resource_type, category, unit_path)
    DO UPDATE SET count = job_count.count + excluded.count"""
_LEVELS: Final = """
    INSERT INTO job_count (level, kind, monitored_by, day, account, region, state, resource_type, category, unit_path,
                           count)
    SELECT 'all', kind, monitored_by, day, account, region, state, resource_type, category, unit_path, sum(change)
      FROM {source} GROUP BY 2, 3, 4, 5, 6, 7, 8, 9, 10
     UNION ALL
    SELECT 'account', kind, monitored_by, day, account, region, state, '', '', unit_path, sum(change)
      FROM {source} GROUP BY 2, 3, 4, 5, 6, 7, 10
     UNION ALL
    SELECT 'organization', kind, monitored_by, day, '', region, state, resource_type, category, '', sum(change)
      FROM {source} GROUP BY 2, 3, 4, 6, 7, 8, 9"""
_NEXT = text("SELECT max(id) FROM (SELECT id FROM job_count_delta ORDER BY id LIMIT :limit) AS oldest")
_FOLD_SQLITE = text(_LEVELS.format(source="(SELECT * FROM job_count_delta WHERE id <= :until)") + _ADD)
_FORGET = text("DELETE FROM job_count_delta WHERE id <= :until")
# Others may commit changes with lower numbers meanwhile: only what was deleted here is added.
_FOLD_POSTGRESQL = text(
    "WITH folded AS (DELETE FROM job_count_delta WHERE id IN (SELECT id FROM job_count_delta ORDER BY id LIMIT :limit"
    " FOR UPDATE SKIP LOCKED) RETURNING *)" + _LEVELS.format(source="folded") + _ADD
)
_ONE_FOLDS = text("SELECT pg_advisory_xact_lock(hashtext('job_count'))")
_LEFT = text("SELECT count(*) FROM (SELECT 1 FROM job_count_delta LIMIT :limit) AS oldest")


@dataclass(frozen=True, slots=True)
class CountFilter:
    """Which jobs are counted; what is None or empty does not matter. `account` or `monitored_by` is given."""

    kinds: tuple[str, ...]
    first_day: int
    """Days since 1970, by creation; both ends are counted."""
    last_day: int
    account: str | None = None
    monitored_by: str | None = None
    regions: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    resource_type: str | None = None
    category: str | None = None
    unit_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Count:
    """How many jobs there are of one combination; a dimension that was summed over is None."""

    count: int
    of: Mapping[str, Any] = field(default_factory=dict)
    """By the names of `DIMENSIONS`."""


def fold(database: Database, *, limit: int = FOLDED) -> int:
    """Add the oldest changes up, at most `limit` of them; return how many were waiting, up to `limit`."""
    with database.transaction() as tx:
        waiting = int(tx.execute(_LEFT, {"limit": limit}).scalar_one())
        if not waiting:
            return 0
        if database.is_sqlite:
            until = tx.execute(_NEXT, {"limit": limit}).scalar_one()
            tx.execute(_FOLD_SQLITE, {"until": until})
            tx.execute(_FORGET, {"until": until})
        else:
            tx.execute(_ONE_FOLDS)
            tx.execute(_FOLD_POSTGRESQL, {"limit": limit})
    return waiting


def fold_all(database: Database) -> None:
    """Add up all changes that wait."""
    while fold(database) >= FOLDED:
        pass


def count_jobs(
    tx: sa.Connection,
    wanted: CountFilter,
    by: Sequence[str],
    *,
    state_names: Mapping[str, str] | None = None,
    after: Position = None,
    limit: int = 1000,
) -> Page[Count]:
    """Return a page of counts, broken out by the dimensions `by` (in the order of `DIMENSIONS`), none of them zero.

    Args:
        tx: the open transaction.
        wanted: what is counted.
        by: the names of dimensions; the others are summed over.
        state_names: under which name a state is counted, for those that have another one.
        after: the values of `by` of the last row shown.
        limit: how many rows, at most.
    """
    conditions, values = _conditions(wanted)
    renamed = "".join(f" WHEN '{state}' THEN '{name}'" for state, name in sorted((state_names or {}).items()))
    shown = {name: name for name in by}
    if renamed and "state" in shown:
        shown["state"] = f"CASE state{renamed} ELSE state END"
    groups = ", ".join(f"{expression} AS {name}" for name, expression in shown.items())
    values["level"] = _level(wanted, by)
    numbers = ", ".join(str(number) for number in range(1, len(by) + 1))
    counted = f"""
        SELECT {groups + "," if groups else ""} sum(n) AS total
          FROM (SELECT {", ".join(DIMENSIONS)}, count AS n FROM job_count WHERE level = :level AND {conditions}
                 UNION ALL
                SELECT {", ".join(DIMENSIONS)}, change FROM job_count_delta WHERE {conditions}) AS counted
         {f"GROUP BY {numbers}" if by else ""}"""
    beyond = ""
    if after is not None and by:
        beyond = f"AND ({', '.join(by)}) > ({', '.join(f':after_{name}' for name in by)})"
        values |= {f"after_{name}": value for name, value in zip(by, after, strict=True)}
    rows = tx.execute(
        text(
            f"SELECT * FROM ({counted}) AS counts WHERE total > 0 {beyond}"
            f" {f'ORDER BY {numbers}' if by else ''} LIMIT :limit"
        ).bindparams(
            *(sa.bindparam(name, expanding=True) for name, value in values.items() if isinstance(value, list))
        ),
        {**values, "limit": limit + 1},
    )
    counts = [Count(int(row.total), {name: getattr(row, name) for name in by}) for row in rows]
    return page_of(counts, limit, lambda count: [count.of[name] for name in by])


def _level(wanted: CountFilter, by: Sequence[str]) -> str:
    """Return the level whose rows tell apart what is asked for, and no more than that."""
    if wanted.account is None and "account" not in by and not wanted.unit_paths:
        return "organization"
    finer = wanted.resource_type is not None or wanted.category is not None
    return "all" if finer or not {"resource_type", "category"}.isdisjoint(by) else "account"


def _conditions(wanted: CountFilter) -> tuple[str, dict[str, Any]]:
    words = ["kind IN :kinds", "day >= :first_day", "day <= :last_day"]
    values: dict[str, Any] = {
        "kinds": list(wanted.kinds),
        "first_day": wanted.first_day,
        "last_day": wanted.last_day,
    }
    for column in ("account", "monitored_by", "resource_type", "category"):
        value = getattr(wanted, column)
        if value is not None:
            words.append(f"{column} = :{column}")
            values[column] = value
    for column, name in (("region", "regions"), ("state", "states"), ("unit_path", "unit_paths")):
        allowed = getattr(wanted, name)
        if allowed:
            words.append(f"{column} IN :{name}")
            values[name] = list(allowed)
    return " AND ".join(words), values
