"""Who is next: order, fairness, limits, and what becomes of jobs that nobody works on any more."""

from datetime import datetime, timedelta

from sqlalchemy import text
from tests.job.builders import MACHINE, NOON, AJob, a_subject

from holdfast.core.settings import SiteSettings
from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.job import dispatch, service, store
from holdfast.job.dispatch import VAULT_CONCURRENCY, Handover, Lane, lane_of, lanes
from holdfast.job.model import Completed, Failed, Job, Kind, RestoreRequest, State, Waiting

HOUR = timedelta(hours=1)
LANE, RESTORES = lanes(SiteSettings("local", concurrency=2, restore_concurrency=1))


def choose(database: Database, lane: Lane = LANE, *, now: datetime = NOON, machine: datetime = MACHINE) -> list[str]:
    with database.transaction() as tx:
        chosen = dispatch.dispatch(tx, lane, now=now, machine_now=machine)
        dispatch.tell_waiting(tx, lane)
    return [handover.job_id for handover in chosen]


def claim(database: Database, job: Job, expected: int | None = None, *, machine: datetime = MACHINE) -> None:
    with database.transaction() as tx:
        assert service.claim(tx, job.id, expected, now=NOON, machine_now=machine, mover="serve") is not None


def end(database: Database, job: Job, outcome: Completed | Failed) -> None:
    with database.transaction() as tx:
        service.complete(tx, job.id, 1, outcome, now=NOON, machine_now=MACHINE)


def waiting_for(database: Database, job: Job) -> Waiting:
    with database.reading() as tx:
        found = store.find(tx, job.id)
    assert found is not None
    return found.waiting_for


def test_jobs_go_by_priority_and_then_by_how_soon_they_must_start(database: Database, a_job: AJob) -> None:
    late = a_job(window=9 * HOUR)
    soon = a_job(window=2 * HOUR)
    urgent = a_job(window=9 * HOUR, priority=1)
    middle = a_job(window=5 * HOUR)
    assert choose(database) == [urgent.id, soon.id, middle.id, late.id]
    assert choose(database) == []


def test_the_engine_is_given_twice_what_a_site_does_at_once_and_no_more(database: Database, a_job: AJob) -> None:
    jobs = [a_job(window=(2 + n) * HOUR) for n in range(7)]
    assert choose(database) == [job.id for job in jobs[:4]]
    claim(database, jobs[0])
    claim(database, jobs[1])
    assert choose(database) == [], "two run and two are in the engine"
    end(database, jobs[0], Completed())
    assert choose(database) == [jobs[4].id]
    assert waiting_for(database, jobs[6]) is Waiting.SITE
    assert waiting_for(database, jobs[4]) is Waiting.NOTHING


def test_a_resource_with_many_jobs_keeps_nobody_elses_waiting(database: Database, a_job: AJob) -> None:
    crowd = [a_job("crowded", window=2 * HOUR) for _ in range(250)]
    others = [a_job(window=8 * HOUR) for _ in range(3)]
    chosen = choose(database)
    assert len(set(chosen) & {job.id for job in crowd}) == 1
    assert {job.id for job in others} <= set(chosen)
    left_behind = next(job for job in crowd if job.id not in chosen)
    assert waiting_for(database, left_behind) is Waiting.RESOURCE


def test_sites_do_not_wait_for_each_other(database: Database, a_job: AJob) -> None:
    for _ in range(10):
        a_job()
    elsewhere = a_job(site="dc-helsinki")
    choose(database)
    assert choose(database, Lane("dc-helsinki", 1)) == [elsewhere.id]


def test_restores_do_not_wait_for_backups(database: Database, a_job: AJob) -> None:
    for _ in range(10):
        a_job("same")
    assert len(choose(database)) == 1
    with database.transaction() as tx:
        restore = service.start_restore_job(tx, RestoreRequest(a_subject(name="same"), "p", "arn:p", {}), now=NOON)
    assert choose(database, RESTORES) == [restore.id]
    assert RESTORES.queue == lane_of("local", Kind.RESTORE) != LANE.queue == lane_of("local", Kind.COPY)


def test_only_so_many_jobs_write_into_one_vault(database: Database, a_job: AJob) -> None:
    wide = Lane("local", 100)
    jobs = [a_job() for _ in range(VAULT_CONCURRENCY + 2)]
    other = a_job(vault_arn="arn:another", window=20 * HOUR)
    chosen = choose(database, wide)
    assert len(chosen) == VAULT_CONCURRENCY + 1
    assert other.id in chosen
    assert {waiting_for(database, job) for job in jobs if job.id not in chosen} == {Waiting.VAULT}


def test_a_job_waits_out_its_pause_and_its_window(database: Database, a_job: AJob) -> None:
    paused = a_job(retry_at=stamp(NOON + HOUR), waiting_for="retry")
    a_job(window=HOUR, start_by=stamp(NOON))
    assert choose(database) == []
    assert choose(database, now=NOON + HOUR) == [paused.id]


def test_a_silent_run_is_taken_up_once(database: Database, a_job: AJob) -> None:
    silent, lively = a_job(), a_job()
    claim(database, silent)
    claim(database, lively, machine=MACHINE + HOUR)
    now = MACHINE + HOUR + timedelta(seconds=5)
    with database.transaction() as tx:
        assert dispatch.reap(tx, machine_now=now, silence=timedelta(seconds=20)) == [Handover(silent.id, 1, LANE.queue)]
        assert dispatch.reap(tx, machine_now=now, silence=timedelta(seconds=20)) == []
        later = now + timedelta(seconds=21)
        again = dispatch.reap(tx, machine_now=later, silence=timedelta(seconds=20))
    assert {handover.job_id for handover in again} == {silent.id, lively.id}, "nobody has claimed it meanwhile"


def test_a_new_process_takes_up_what_its_predecessor_was_at(database: Database, a_job: AJob) -> None:
    mine, theirs, waiting = a_job(), a_job(), a_job()
    claim(database, mine)
    claim(database, theirs)
    with database.transaction() as tx:
        tx.execute(text("UPDATE job SET mover = 'other' WHERE id = :id"), {"id": theirs.id})
        taken = dispatch.reap_own(tx, machine_now=MACHINE, mover="serve")
    assert [handover.job_id for handover in taken] == [mine.id]
    assert waiting.state is State.CREATED


def test_a_hand_over_that_was_lost_is_made_again(database: Database, a_job: AJob) -> None:
    lost, kept = a_job(), a_job()
    assert len(choose(database)) == 2
    with database.transaction() as tx:
        assert dispatch.take_back_lost(tx, {(kept.id, 0)}, before=MACHINE) == 0
        assert dispatch.take_back_lost(tx, {(kept.id, 0)}, before=MACHINE + HOUR) == 1
    assert choose(database) == [lost.id]


def test_the_next_instant_is_the_next_window_that_closes_or_the_next_try(database: Database, a_job: AJob) -> None:
    def next_instant(now: datetime = NOON) -> datetime | None:
        with database.reading() as tx:
            return dispatch.next_instant(tx, now=now)

    assert next_instant() is None
    with database.transaction() as tx:
        service.start_restore_job(tx, RestoreRequest(a_subject(), "p", "arn:p", {}), now=NOON)
    assert next_instant() is None
    running = a_job(window=2 * HOUR)
    assert next_instant() == NOON + 2 * HOUR
    claim(database, running)
    assert next_instant() == NOON + timedelta(days=7)
    a_job(window=30 * HOUR, retry_at=stamp(NOON + HOUR))
    assert next_instant() == NOON + HOUR
    assert next_instant(NOON + HOUR) == NOON + 30 * HOUR


def test_what_the_dispatcher_asks_is_answered_from_indexes(sqlite_database: Database) -> None:
    """A backlog of any size must not be read to find the next few."""
    questions = {
        dispatch._WAITING.format(kind="kind <> 'RESTORE'"): "job_waiting",
        dispatch._WAITING.format(kind="kind = 'RESTORE'"): "job_waiting_restore",
        str(dispatch._LOST): "job_dispatched",
        str(dispatch._UNDER_WAY): "job_dispatched",
        "SELECT 1 FROM job WHERE state = 'CREATED' AND start_by <= :now ORDER BY start_by": "job_start_by",
        "SELECT 1 FROM job WHERE state = 'RUNNING' AND complete_by <= :now ORDER BY complete_by": "job_complete_by",
    }
    values = {"site": "local", "priority": 0, "start_by": 0, "id": "", "limit": 1, "now": 0, "handed_over_before": 0}
    with sqlite_database.reading() as tx:
        for question, index in questions.items():
            bound = {name: value for name, value in values.items() if f":{name}" in question}
            plan = "\n".join(row.detail for row in tx.execute(text(f"EXPLAIN QUERY PLAN {question}"), bound))
            assert f"USING INDEX {index} " in plan or f"USING COVERING INDEX {index} " in plan, plan
            assert "TEMP B-TREE" not in plan, plan
