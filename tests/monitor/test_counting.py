"""Counts without counting: what the sums say is what one finds who counts the rows, at every moment."""

from collections import Counter
from random import Random
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text
from tests.job.builders import ACCOUNT, NOON, REGION, AJob, set_columns

from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.job.model import Job
from holdfast.monitor.counting import DAY, DIMENSIONS, CountFilter, count_jobs, fold, fold_all

TODAY = stamp(NOON) // DAY
EVERYTHING = CountFilter(("BACKUP", "COPY", "RESTORE"), TODAY - 30, TODAY + 30, monitored_by="o-1")
VALUES: dict[str, tuple[Any, ...]] = {
    "account": (ACCOUNT, "222233334444", "333344445555"),
    "region": (REGION, "dc-helsinki"),
    "resource_type": ("EFS", "RDS"),
    "state": ("CREATED", "RUNNING", "COMPLETED", "FAILED", "EXPIRED"),
    "message_category": (None, "SUCCESS", "ACCESS_DENIED"),
    "unit_path": ("o-1/r-1/", "o-1/r-1/ou-1/"),
    "kind": ("BACKUP", "RESTORE"),
    "monitored_by": ("o-1", "o-2", None),
    "created_at": (stamp(NOON), stamp(NOON) - DAY, stamp(NOON) - 9 * DAY),
}


def counted(tx: sa.Connection, wanted: CountFilter, *by: str, **more: Any) -> dict[tuple[Any, ...], int]:
    rows = count_jobs(tx, wanted, by, **more).items
    return {tuple(row.of[name] for name in by): row.count for row in rows}


def rows_counted(tx: sa.Connection, *by: str, where: str) -> dict[tuple[Any, ...], int]:
    columns = {"day": f"created_at / {DAY}", "category": "COALESCE(message_category, '')"}
    shown = ", ".join(columns.get(name, name) for name in by)
    rows = tx.execute(text(f"SELECT {shown} FROM job WHERE {where}")).all()
    return dict(Counter(tuple(row) for row in rows))


def test_sums_follow_every_change_whether_folded_or_not(database: Database, a_job: AJob) -> None:
    chance = Random(7)  # noqa: S311 - it picks examples
    jobs: list[Job] = []

    def agrees() -> None:
        everybodys = f"monitored_by = 'o-1' AND created_at >= {stamp(NOON) - 30 * DAY}"
        with database.reading() as tx:
            for by in (("state",), ("region", "state"), ("account", "category"), DIMENSIONS):
                assert counted(tx, EVERYTHING, *by) == rows_counted(tx, *by, where=everybodys)
            mine = CountFilter(("BACKUP",), TODAY - 1, TODAY, account=ACCOUNT, states=("FAILED", "EXPIRED"))
            where = f"account = '{ACCOUNT}' AND kind = 'BACKUP' AND state IN ('FAILED', 'EXPIRED')"
            where += f" AND created_at / {DAY} >= {TODAY - 1}"
            assert counted(tx, mine, "state") == rows_counted(tx, "state", where=where)
            below = CountFilter(("BACKUP",), 0, TODAY, monitored_by="o-1", unit_paths=("o-1/r-1/ou-1/",))
            where = "monitored_by = 'o-1' AND kind = 'BACKUP' AND unit_path = 'o-1/r-1/ou-1/'"
            assert counted(tx, below, "account") == rows_counted(tx, "account", where=where)

    for step in range(60):
        columns = {name: chance.choice(values) for name, values in VALUES.items()}
        if step < 30:
            jobs.append(a_job(f"fs-{step}", **{**columns, "state": "CREATED"}))
        else:
            with database.transaction() as tx:
                moved = {name: columns[name] for name in chance.sample(sorted(columns), 2) if name != "state"}
                set_columns(tx, chance.choice(jobs).id, state="FAILED", **moved)
                if step % 7 == 0:
                    tx.execute(text("DELETE FROM job WHERE id = :id"), {"id": jobs.pop().id})
        if step % 4 == 0:
            fold(database, limit=chance.choice([1, 3, 100]))
        if step % 6 == 0:
            agrees()
    fold_all(database)
    agrees()
    with database.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM job_count_delta")).scalar_one() == 0


def test_a_change_that_is_rolled_back_was_never_counted(database: Database, a_job: AJob) -> None:
    job = a_job(monitored_by="o-1")
    with database.engine.connect() as connection:
        connection.execute(text("UPDATE job SET state = 'FAILED' WHERE id = :id"), {"id": job.id})
        connection.rollback()
    with database.reading() as tx:
        assert counted(tx, EVERYTHING, "state") == {("CREATED",): 1}


def test_counts_come_in_pages_that_together_are_all(database: Database, a_job: AJob) -> None:
    for number in range(7):
        a_job(f"fs-{number}", account=f"{number:012}", monitored_by="o-1")
    seen: list[str] = []
    after = None
    with database.reading() as tx:
        while True:
            page = count_jobs(tx, EVERYTHING, ("region", "account"), after=after, limit=3)
            seen += [row.of["account"] for row in page.items]
            after = page.position
            if after is None:
                break
    assert seen == [f"{number:012}" for number in range(7)]


def test_states_that_clients_know_by_one_name_are_counted_as_one(database: Database, a_job: AJob) -> None:
    for number, state in enumerate(("FAILED", "EXPIRED", "COMPLETED")):
        a_job(f"fs-{number}", state=state, monitored_by="o-1")
    with database.reading() as tx:
        names = counted(tx, EVERYTHING, "state", state_names={"EXPIRED": "FAILED"})
        assert names == {("FAILED",): 2, ("COMPLETED",): 1}
        assert counted(tx, EVERYTHING) == {(): 3}
