"""Lists of jobs, by every filter and in stable pages."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from tests.job.builders import ACCOUNT, NOON, REGION, AJob

from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.job.listing import JobFilter, Position, list_jobs
from holdfast.job.model import Category, Job, Kind, State

HOUR = timedelta(hours=1)
MINE = JobFilter(Kind.BACKUP, account=ACCOUNT)


def found(database: Database, wanted: JobFilter) -> list[str]:
    with database.reading() as tx:
        return [job.id for job in list_jobs(tx, wanted).jobs]


def test_the_newest_job_comes_first(database: Database, a_job: AJob) -> None:
    jobs = [a_job(now=NOON + n * HOUR) for n in range(3)]
    assert found(database, MINE) == [job.id for job in reversed(jobs)]


def test_an_account_sees_its_own_jobs_and_the_organization_all_of_its_own(database: Database, a_job: AJob) -> None:
    mine = a_job()
    sister = a_job(account="222233334444", now=NOON + HOUR)
    stranger = a_job(account="333344445555", organization_id="o-2")
    assert found(database, MINE) == [mine.id]
    assert found(database, JobFilter(Kind.BACKUP, organization_id="o-1")) == [sister.id, mine.id]
    assert found(database, JobFilter(Kind.BACKUP, organization_id="o-2")) == [stranger.id]
    assert found(database, JobFilter(Kind.RESTORE, account=ACCOUNT)) == []
    with pytest.raises(ValueError, match="of an account or of an organization"):
        found(database, JobFilter(Kind.BACKUP))


def test_every_filter_keeps_what_fits_and_drops_the_rest(database: Database, a_job: AJob) -> None:
    wanted = a_job(
        "wanted",
        now=NOON + HOUR,
        region="dc-helsinki",
        resource_type="RDS",
        state="COMPLETED",
        vault_name="far",
        vault_arn="arn:far",
        message_category="MISCELLANEOUS",
        recovery_point_arn="arn:point",
        parent_id="parent",
        completed_at=stamp(NOON + 2 * HOUR),
    )
    a_job("other")
    filters = [
        replace(MINE, region="dc-helsinki"),
        replace(MINE, resource_arn=wanted.resource_arn),
        replace(MINE, resource_type="RDS"),
        replace(MINE, state=State.COMPLETED),
        replace(MINE, vault_name="far"),
        replace(MINE, vault_arn="arn:far"),
        replace(MINE, category=Category.MISCELLANEOUS),
        replace(MINE, recovery_point_arn="arn:point"),
        replace(MINE, parent_id="parent"),
        replace(MINE, created_after=NOON + HOUR),
        replace(MINE, completed_after=NOON + 2 * HOUR),
        replace(MINE, completed_before=NOON + 3 * HOUR),
    ]
    for one in filters:
        assert found(database, one) == [wanted.id], one
    assert wanted.id not in found(database, replace(MINE, created_before=NOON + HOUR))
    assert found(database, replace(MINE, completed_before=NOON + 2 * HOUR)) == []
    assert found(database, replace(MINE, region=REGION, state=State.COMPLETED)) == []


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
    ("wanted", "index"),
    [
        (replace(MINE, region=REGION), "job_account"),
        (JobFilter(Kind.BACKUP, organization_id="o-1", region=REGION), "job_organization"),
    ],
)
def test_a_page_is_read_from_an_index_in_its_order(sqlite_database: Database, wanted: JobFilter, index: str) -> None:
    asked: list[tuple[str, Any]] = []

    def remember(_connection: object, _cursor: object, statement: str, parameters: Any, *_more: object) -> None:
        asked.append((statement, parameters))

    with sqlite_database.reading() as tx:
        sa.event.listen(tx, "before_cursor_execute", remember)
        list_jobs(tx, wanted, after=Position(NOON, "j"))
        sa.event.remove(tx, "before_cursor_execute", remember)
        ((statement, parameters),) = asked
        rows = tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        plan = "\n".join(row.detail for row in rows)
    assert f"USING INDEX {index} " in plan
    assert "created_at" in plan
    assert "TEMP B-TREE" not in plan
