"""Lists of jobs, by every filter and in stable pages."""

import re
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from tests.job.builders import ACCOUNT, NOON, REGION, AJob

from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.job.listing import JobFilter, Position, list_jobs
from holdfast.job.model import Category, Job, Kind, State

HOUR = timedelta(hours=1)
MINE = JobFilter((Kind.BACKUP,), (REGION,), accounts=(ACCOUNT,))
EVERYBODYS = JobFilter((Kind.BACKUP,), (REGION,), monitored_by="o-1")


def found(database: Database, wanted: JobFilter) -> list[str]:
    with database.reading() as tx:
        return [job.id for job in list_jobs(tx, wanted).jobs]


def test_the_newest_job_comes_first(database: Database, a_job: AJob) -> None:
    jobs = [a_job(now=NOON + n * HOUR) for n in range(3)]
    assert found(database, MINE) == [job.id for job in reversed(jobs)]


def test_an_account_sees_its_own_jobs_and_the_organization_all_that_were_made_under_its_eyes(
    database: Database, a_job: AJob
) -> None:
    mine = a_job(monitored_by="o-1")
    sister = a_job(account="222233334444", now=NOON + HOUR, monitored_by="o-1")
    stranger = a_job(account="333344445555", monitored_by="o-2")
    a_job(account="222233334444", organization_id="o-1", monitored_by=None)
    assert found(database, MINE) == [mine.id]
    assert found(database, EVERYBODYS) == [sister.id, mine.id]
    assert found(database, replace(EVERYBODYS, accounts=("222233334444",))) == [sister.id]
    assert found(database, replace(EVERYBODYS, monitored_by="o-2")) == [stranger.id]
    assert found(database, replace(MINE, kinds=(Kind.RESTORE,))) == []
    with pytest.raises(ValueError, match="of an account or of an organization"):
        found(database, replace(MINE, accounts=()))


COLUMNS: dict[str, tuple[Any, ...]] = {
    "account": (ACCOUNT, "222233334444"),
    "monitored_by": ("o-1", "o-2", None),
    "kind": ("BACKUP", "COPY", "RESTORE"),
    "region": (REGION, "dc-helsinki"),
    "resource_type": ("EFS", "RDS"),
    "vault_name": ("near", "far"),
    "vault_arn": ("arn:near", "arn:far"),
    "message_category": (None, "SUCCESS", "ACCESS_DENIED"),
    "recovery_point_arn": (None, "arn:point"),
    "parent_id": (None, "parent"),
    "plan_name": (None, "daily", "hourly"),
    "document_id": (None, "first", "second"),
    "unit_path": ("o-1/r-1/", "o-1/r-1/ou-1/", "o-1/r-1/ou-2/"),
    "message": (None, "cannot reach 10% of it", "Cannot Reach it_", "done"),
    "created_at": tuple(stamp(NOON + n * HOUR) for n in range(3)),
}


OVER = ("COMPLETED", "FAILED", "EXPIRED")
ONE_VALUE = (
    *("monitored_by", "resource_arn", "resource_type", "vault_name", "vault_arn", "category"),
    *("recovery_point_arn", "parent_id"),
)


def wants(wanted: JobFilter, job: Job) -> bool:
    """The rule, one job at a time, as a reader would put it."""

    def among(value: object, allowed: tuple[object, ...]) -> bool:
        return not allowed or value in allowed

    def between(at: datetime | None, since: datetime | None, until: datetime | None) -> bool:
        if at is None:
            return since is None and until is None
        return (since is None or at >= since) and (until is None or at < until)

    return (
        all(getattr(wanted, name) in {None, getattr(job, name)} for name in ONE_VALUE)
        and among(job.account, wanted.accounts)
        and among(job.kind, wanted.kinds)
        and among(job.region, wanted.regions)
        and among(job.state, wanted.states)
        and among(job.plan_name, wanted.plan_names)
        and among(job.document_id, wanted.document_ids)
        and among(job.unit_path, wanted.unit_paths)
        and (wanted.message is None or (job.message is not None and wanted.message.lower() in job.message.lower()))
        and between(job.created_at, wanted.created_after, wanted.created_before)
        and between(job.completed_at, wanted.completed_after, wanted.completed_before)
        and (
            wanted.open_or_completed_after is None
            or job.completed_at is None
            or job.completed_at >= wanted.open_or_completed_after
        )
    )


def pages_of(database: Database, wanted: JobFilter, *, limit: int, scan: int) -> list[str]:
    seen: list[str] = []
    after: Position | None = None
    for _ in range(1000):
        with database.reading() as tx:
            page = list_jobs(tx, wanted, after=after, limit=limit, scan=scan)
        assert len(page.jobs) <= limit
        seen += [job.id for job in page.jobs]
        after = page.after
        if after is None:
            return seen
    raise AssertionError("the pages never end")


def test_any_filters_in_any_pages_give_what_the_rule_says_in_order(database: Database, a_job: AJob) -> None:
    chance = Random(20261127)  # noqa: S311 - it picks examples

    def ended() -> dict[str, Any]:
        return {"state": chance.choice(OVER), "completed_at": stamp(NOON + chance.randint(1, 3) * HOUR)}

    jobs = [
        a_job(
            f"fs-{chance.randrange(4)}",
            **{name: chance.choice(values) for name, values in COLUMNS.items()},
            **({"state": "CREATED"} if chance.random() < 0.3 else ended()),
        )
        for _ in range(160)
    ]
    choices: dict[str, tuple[Any, ...]] = {
        "resource_arn": (jobs[0].resource_arn,),
        "resource_type": ("RDS",),
        "states": (
            (State.FAILED, State.EXPIRED),
            (State.COMPLETED,),
            (State.COMPLETED, State.CREATED),
            (State.CREATED,),
        ),
        "vault_name": ("far",),
        "vault_arn": ("arn:far",),
        "category": (Category.SUCCESS, Category.ACCESS_DENIED),
        "recovery_point_arn": ("arn:point",),
        "parent_id": ("parent",),
        "plan_names": (("daily",), ("daily", "hourly")),
        "document_ids": (("first",), ("first", "second")),
        "unit_paths": (("o-1/r-1/ou-1/",), ("o-1/r-1/ou-1/", "o-1/r-1/ou-2/")),
        "message": ("REACH", "10% of", "it_", "\\"),
        "created_after": (NOON + HOUR,),
        "created_before": (NOON + 2 * HOUR,),
        "completed_after": (NOON + 2 * HOUR,),
        "completed_before": (NOON + 3 * HOUR,),
        "open_or_completed_after": (NOON + 2 * HOUR,),
    }
    alone = [(name,) for name in choices]
    together = [tuple(chance.sample(sorted(choices), chance.randint(0, 3))) for _ in range(30)]
    found_any = 0
    for names in (*alone, *together):
        given: dict[str, Any] = {name: chance.choice(choices[name]) for name in names}
        wanted = JobFilter(
            kinds=chance.choice([(Kind.BACKUP,), (Kind.COPY,), tuple(Kind)]),
            regions=chance.choice([(REGION,), (REGION, "dc-helsinki")]),
            accounts=chance.choice([(ACCOUNT,), (ACCOUNT, "222233334444"), ()]),
            **given,
        )
        wanted = wanted if wanted.accounts else replace(wanted, monitored_by="o-1")
        by_completion = wanted.completed_after is not None or wanted.completed_before is not None
        right = sorted(
            (job for job in jobs if wants(wanted, job)),
            key=lambda job: (job.completed_at if by_completion else job.created_at, job.id),
            reverse=True,
        )
        found_any += bool(right)
        seen = pages_of(database, wanted, limit=chance.choice([1, 3, 1000]), scan=chance.choice([1, 5, 1000]))
        assert seen == [job.id for job in right], wanted
    assert found_any > 20


def test_a_restore_is_found_by_when_its_point_was_made(database: Database, a_job: AJob) -> None:
    restore = a_job(kind="RESTORE", recovery_point_id="point")
    wanted = replace(MINE, kinds=(Kind.RESTORE,), point_created_after=NOON)
    assert found(database, wanted) == []
    with database.transaction() as tx:
        columns = {column["name"]: column for column in sa.inspect(tx).get_columns("recovery_point")}
        row = {name: 0 if "INT" in str(column["type"]) else "" for name, column in columns.items()}
        row |= {"id": "point", "created_at": stamp(NOON), "archive_opt_in": False}
        tx.execute(sa.table("recovery_point", *map(sa.column, row)).insert(), row)
    assert found(database, wanted) == [restore.id]
    assert found(database, replace(wanted, point_created_before=NOON)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_show_each_job_once_although_new_ones_come_in_between(database: Database, a_job: AJob, size: int) -> None:
    jobs = [a_job(now=NOON + (n // 3) * HOUR) for n in range(7)]
    seen: list[Job] = []
    after: Position | None = None
    while True:
        with database.reading() as tx:
            page = list_jobs(tx, MINE, after=after, limit=size)
        seen.extend(page.jobs)
        after = page.after
        if after is None:
            break
        a_job(now=NOON + 100 * HOUR)
    assert [job.id for job in seen if job.created_at < NOON + 100 * HOUR] == [
        job.id for job in sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)
    ]
    assert len({job.id for job in seen}) == len(seen)


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        (MINE, "open_account ended_account"),
        (replace(MINE, completed_after=NOON), "ended_account_completed"),
        (replace(MINE, states=(State.RUNNING,)), "open_account"),
        (replace(MINE, states=(State.FAILED,)), "ended_account_amiss"),
        (replace(MINE, resource_arn="arn:aws:s3:::bucket"), "open_resource ended_resource"),
        (EVERYBODYS, "open ended"),
        pytest.param(replace(EVERYBODYS, created_after=NOON - HOUR), "open ended", id="created"),
        (replace(EVERYBODYS, completed_before=NOON), "ended_completed"),
        (replace(EVERYBODYS, states=(State.CREATED,)), "open"),
        (replace(EVERYBODYS, states=(State.COMPLETED,)), "ended"),
        (replace(EVERYBODYS, states=(State.FAILED,)), "ended_state"),
        (replace(EVERYBODYS, category=Category.ACCESS_DENIED), "open ended_category"),
        (replace(EVERYBODYS, resource_type="RDS"), "open ended_type"),
        (replace(EVERYBODYS, vault_name="far"), "open ended_vault"),
        (replace(EVERYBODYS, plan_names=("daily",)), "open ended_plan"),
        pytest.param(
            replace(EVERYBODYS, accounts=(ACCOUNT,), unit_paths=("o-1/r-1/",)), "open_account ended_account", id="unit"
        ),
        (replace(EVERYBODYS, recovery_point_arn="arn:point"), "point"),
        (replace(EVERYBODYS, parent_id="parent"), "parent"),
        (replace(EVERYBODYS, kinds=(Kind.COPY,), vault_arn="arn:far"), "copied_into"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_page_is_read_from_an_index_in_its_order(sqlite_database: Database, wanted: JobFilter, indexes: str) -> None:
    asked: list[tuple[str, Any]] = []

    def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        asked.append((statement, parameters))

    with sqlite_database.reading() as tx:
        sa.event.listen(tx, "before_cursor_execute", remember)
        list_jobs(tx, wanted, after=Position(NOON, "j"))
        sa.event.remove(tx, "before_cursor_execute", remember)
        used = []
        for statement, parameters in asked:
            rows = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plan = "\n".join(row.detail for row in rows)
            used += re.findall(r"USING (?:COVERING )?INDEX job_(\w+) ", plan)
            assert "SCAN" not in plan
            assert "TEMP B-TREE" not in plan
    assert set(used) == set(indexes.split())
