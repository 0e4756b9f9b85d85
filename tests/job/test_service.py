"""Jobs as rows: claimed, beaten, stopped, expired, ended; on both databases."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.job.builders import ACCOUNT, MACHINE, NOON, AJob, a_subject

from holdfast.core.errors import InvalidInputError
from holdfast.database.connection import Database
from holdfast.job import service, store
from holdfast.job.model import (
    BackupRequest,
    Category,
    Claim,
    Completed,
    Failed,
    FencedError,
    Job,
    JobEndedError,
    JobNotFoundError,
    Kind,
    Outcome,
    Progress,
    RestoreRequest,
    State,
    Stopped,
    Waiting,
)

HOUR = timedelta(hours=1)


def claim(
    database: Database, job: Job, expected: int | None = None, *, now: datetime = NOON, machine: datetime = MACHINE
) -> Claim | None:
    with database.transaction() as tx:
        return service.claim(tx, job.id, expected, now=now, machine_now=machine, mover="serve")


def complete(
    database: Database,
    job: Job,
    epoch: int,
    outcome: Outcome,
    *,
    now: datetime = NOON,
    catalogue: service.Catalogue | None = None,
) -> Job:
    with database.transaction() as tx:
        return service.complete(tx, job.id, epoch, outcome, now=now, machine_now=MACHINE, catalogue=catalogue)


def present(database: Database, job: Job) -> Job:
    with database.reading() as tx:
        found = store.find(tx, job.id)
    assert found is not None
    return found


def news(database: Database) -> list[str]:
    with database.reading() as tx:
        return list(tx.execute(text("SELECT body FROM outbox WHERE kind = 'JobEnded' ORDER BY id")).scalars())


def states(database: Database, job: Job) -> list[State]:
    with database.reading() as tx:
        return [state for state, _, _ in store.transitions(tx, job.id)]


def test_a_backup_asked_for_by_hand_waits_for_its_windows(database: Database, a_job: AJob) -> None:
    job = a_job()
    assert job.state is State.CREATED
    assert job.start_by == NOON + 8 * HOUR
    assert job.complete_by == NOON + timedelta(days=7)
    assert not job.has_ended


@pytest.mark.parametrize(
    ("start", "completion", "words"),
    [
        (timedelta(minutes=59), timedelta(days=1), "at least 60 minutes"),
        (timedelta(hours=2), timedelta(hours=2), "longer than the start window"),
    ],
)
def test_windows_that_make_no_sense_are_refused(
    database: Database, start: timedelta, completion: timedelta, words: str
) -> None:
    request = BackupRequest(a_subject(), start_window=start, completion_window=completion)
    with pytest.raises(InvalidInputError, match=words), database.transaction() as tx:
        service.start_backup_job(tx, request, now=NOON)


def test_a_claimed_job_runs_under_the_next_epoch(database: Database, a_job: AJob) -> None:
    job = a_job()
    claimed = claim(database, job)
    assert claimed is not None
    assert (claimed.epoch, claimed.job.state, claimed.job.attempts) == (1, State.RUNNING, 1)
    assert claimed.job.started_at == NOON
    assert claimed.job.seen_at == MACHINE
    assert claim(database, job) is None, "whoever does not know the epoch cannot take a running job"
    assert states(database, job) == [State.RUNNING]


def test_a_takeover_needs_the_present_epoch(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    assert claim(database, job, 0) is None
    taken = claim(database, job, 1, now=NOON + HOUR)
    assert taken is not None
    assert taken.epoch == 2
    assert taken.job.started_at == NOON, "a takeover does not start the job anew"
    assert claim(database, job, 1) is None
    assert states(database, job) == [State.RUNNING]


def test_a_job_is_not_claimed_after_its_start_window(database: Database, a_job: AJob) -> None:
    job = a_job()
    assert claim(database, job, now=NOON + 8 * HOUR) is None
    assert present(database, job).state is State.CREATED


def test_a_resource_is_backed_up_by_one_job_at_a_time(database: Database, a_job: AJob) -> None:
    first, second = a_job("same"), a_job("same", dispatched_at=1)
    assert claim(database, first) is not None
    assert claim(database, second) is None
    waiting = present(database, second)
    assert (waiting.state, waiting.waiting_for, waiting.dispatched_at) == (State.CREATED, Waiting.RESOURCE, None)
    complete(database, first, 1, Completed())
    assert claim(database, second) is not None


def test_the_database_itself_keeps_two_jobs_off_one_resource(database: Database, a_job: AJob) -> None:
    first, second = a_job("same"), a_job("same")
    with database.transaction() as tx:
        tx.execute(text("UPDATE job SET state = 'RUNNING' WHERE id = :id"), {"id": first.id})
    with pytest.raises(sa.exc.IntegrityError), database.transaction() as tx:
        tx.execute(text("UPDATE job SET state = 'RUNNING' WHERE id = :id"), {"id": second.id})


def test_a_restore_runs_beside_a_backup_of_the_same_resource(database: Database, a_job: AJob) -> None:
    backup = a_job("same")
    claim(database, backup)
    with database.transaction() as tx:
        restore = service.start_restore_job(
            tx, RestoreRequest(a_subject(name="same"), "point", "arn:point", {"newFileSystem": "true"}), now=NOON
        )
    assert restore.start_by is None
    assert claim(database, restore, now=NOON + timedelta(days=400)) is not None


def test_a_beat_says_how_far_the_job_is(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    with database.transaction() as tx:
        progress = Progress(bytes_done=30, bytes_total=120, bytes_stored=7)
        state = service.beat(tx, job.id, 1, progress, machine_now=MACHINE + HOUR)
    seen = present(database, job)
    assert state is State.RUNNING
    assert (seen.percent, seen.bytes_done, seen.bytes_total, seen.bytes_stored) == (25.0, 30, 120, 7)
    assert seen.seen_at == MACHINE + HOUR


def test_a_superseded_run_can_neither_beat_nor_commit_nor_end_the_job(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    claim(database, job, 1)
    made: list[str] = []
    with pytest.raises(FencedError, match="epoch 1"), database.transaction() as tx:
        service.beat(tx, job.id, 1, Progress(), machine_now=MACHINE)
    with pytest.raises(FencedError), database.transaction() as tx:
        service.allow_commit(tx, job.id, 1, {}, machine_now=MACHINE)
    with pytest.raises(FencedError, match="does not count"):
        complete(database, job, 1, Completed(), catalogue=lambda _tx, done, _outcome: made.append(done.id))
    assert made == []
    assert complete(database, job, 2, Completed()).state is State.COMPLETED


def test_a_recovery_point_is_made_in_the_transaction_that_ends_its_job(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)

    def catalogue(tx: sa.Connection, done: Job, outcome: Completed) -> None:
        tx.execute(
            text("INSERT INTO instance (name, value) VALUES (:id, :point)"),
            {"id": done.id, "point": outcome.recovery_point_id},
        )
        if outcome.message == "break":
            raise RuntimeError("the catalogue is broken")

    with pytest.raises(RuntimeError):
        complete(database, job, 1, Completed(recovery_point_id="p-0", message="break"), catalogue=catalogue)
    assert present(database, job).state is State.RUNNING
    assert news(database) == []
    done = complete(
        database,
        job,
        1,
        Completed(recovery_point_id="p-1", recovery_point_arn="arn:p-1", bytes_read=10, result={"files": 3}),
        catalogue=catalogue,
    )
    assert (done.state, done.recovery_point_arn, done.percent, done.bytes_done) == (
        State.COMPLETED,
        "arn:p-1",
        100,
        10,
    )
    assert done.result == {"files": 3}
    with database.reading() as tx:
        points = tx.execute(text("SELECT value FROM instance WHERE name = :id"), {"id": job.id}).scalars().all()
    assert points == ["p-1"]
    assert len(news(database)) == 1


def test_a_job_ends_once(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    complete(database, job, 1, Completed())
    with pytest.raises(FencedError):
        complete(database, job, 1, Failed("too late"))
    assert claim(database, job, 1) is None
    assert present(database, job).state is State.COMPLETED


def test_a_definite_failure_ends_the_job_with_its_reason(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    failed = complete(database, job, 1, Failed("the role is missing", Category.ACCESS_DENIED))
    assert (failed.state, failed.message, failed.category) == (
        State.FAILED,
        "the role is missing",
        Category.ACCESS_DENIED,
    )
    assert failed.completed_at == NOON


def test_a_failure_that_may_pass_is_tried_again_with_growing_pauses_inside_the_window(
    database: Database, a_job: AJob
) -> None:
    job = a_job(window=HOUR)
    now, pauses = NOON, []
    while (claimed := claim(database, job, now=now)) is not None:
        after = complete(database, job, claimed.epoch, Failed("server went away", retryable=True), now=now)
        if after.retry_at is None or after.has_ended:
            break
        pauses.append((after.retry_at - now).total_seconds() / 60)
        now = after.retry_at
    ended = present(database, job)
    assert pauses == [1, 2, 4, 8, 10, 10, 10, 10]
    assert (ended.state, ended.message) == (State.FAILED, "server went away")
    assert ended.epoch == 9
    assert states(database, job) == [State.RUNNING, State.CREATED] * 8 + [State.RUNNING, State.FAILED]


def test_stopping_a_waiting_job_ends_it_at_once(database: Database, a_job: AJob) -> None:
    job = a_job()
    with database.transaction() as tx:
        stopped = service.request_stop(tx, job, now=NOON, machine_now=MACHINE)
    assert (stopped.state, stopped.message) == (State.ABORTED, "Backup job was stopped by user.")
    assert claim(database, job) is None
    assert len(news(database)) == 1


def test_stopping_a_running_job_reaches_its_run_at_the_next_beat(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    for _ in range(2):
        with database.transaction() as tx:
            assert service.request_stop(tx, job, now=NOON, machine_now=MACHINE).state is State.ABORTING
    with database.transaction() as tx:
        assert service.beat(tx, job.id, 1, Progress(), machine_now=MACHINE) is State.ABORTING
        assert not service.allow_commit(tx, job.id, 1, {}, machine_now=MACHINE)
    stopped = complete(database, job, 1, Stopped())
    assert (stopped.state, stopped.message) == (State.ABORTED, "Backup job was stopped by user.")
    assert states(database, job) == [State.RUNNING, State.ABORTING, State.ABORTED]


@pytest.mark.parametrize("outcome", [Completed(recovery_point_id="p"), Failed("broke", retryable=True)])
def test_a_job_that_was_told_to_stop_ends_as_stopped_whatever_its_run_brings(
    database: Database, a_job: AJob, outcome: Completed | Failed
) -> None:
    job = a_job()
    claim(database, job)
    with database.transaction() as tx:
        service.request_stop(tx, job, now=NOON, machine_now=MACHINE)
    made: list[str] = []
    ended = complete(database, job, 1, outcome, catalogue=lambda _tx, done, _outcome: made.append(done.id))
    assert ended.state is State.ABORTED
    assert ended.recovery_point_id is None
    assert made == []


def test_a_job_that_has_ended_cannot_be_stopped(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    complete(database, job, 1, Completed())
    with pytest.raises(JobEndedError, match="COMPLETED"), database.transaction() as tx:
        service.request_stop(tx, job, now=NOON, machine_now=MACHINE)


def test_a_job_whose_start_window_closes_expires_and_says_what_it_waited_for(database: Database, a_job: AJob) -> None:
    running = a_job("same")
    claim(database, running)
    jobs = {
        "running job for the same resource": a_job("same"),
        "server went away": a_job(waiting_for="retry", message="server went away"),
        "writing into its vault": a_job(waiting_for="vault"),
        "no mover of its site was free": a_job(),
    }
    later = a_job(window=9 * HOUR)
    with database.transaction() as tx:
        assert service.expire_unstarted(tx, now=NOON + 8 * HOUR, machine_now=MACHINE) == 4
        assert service.expire_unstarted(tx, now=NOON + 8 * HOUR, machine_now=MACHINE) == 0
    for words, job in jobs.items():
        expired = present(database, job)
        assert expired.state is State.EXPIRED
        assert words in (expired.message or "")
        assert expired.category is (Category.CONCURRENT_JOB if "same" in words else Category.JOB_EXPIRED)
    assert present(database, later).state is State.CREATED
    assert present(database, running).state is State.RUNNING
    assert len(news(database)) == 4


def test_a_job_that_runs_past_its_completion_window_is_stopped_and_expires(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    with database.transaction() as tx:
        assert service.stop_overdue(tx, now=NOON + timedelta(days=6)) == 0
        assert service.stop_overdue(tx, now=NOON + timedelta(days=7)) == 1
    ended = complete(database, job, 1, Stopped())
    assert (ended.state, ended.message, ended.category) == (
        State.EXPIRED,
        "Backup job expired before completion.",
        Category.JOB_EXPIRED,
    )


def test_the_completion_window_of_a_rule_counts_from_the_start(database: Database, a_job: AJob) -> None:
    job = a_job(due_at=1, complete_by=None, completion_window=2 * 3600 * 10**6)
    claimed = claim(database, job, now=NOON + HOUR)
    assert claimed is not None
    assert claimed.job.complete_by == NOON + 3 * HOUR
    again = complete(database, job, 1, Failed("later", retryable=True), now=NOON + HOUR)
    assert again.complete_by is None


def test_what_a_run_was_about_to_commit_is_known_to_the_next_one(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    with database.transaction() as tx:
        assert service.allow_commit(tx, job.id, 1, {"epoch": 1, "tree": "abc"}, machine_now=MACHINE)
    taken = claim(database, job, 1)
    assert taken is not None
    assert taken.prepared == {"epoch": 1, "tree": "abc"}


def test_a_job_is_described_to_its_own_account_only(database: Database, a_job: AJob) -> None:
    job = a_job()
    with database.reading() as tx:
        assert service.describe_job(tx, job.id.upper(), kind=Kind.BACKUP, account=ACCOUNT).id == job.id
        with pytest.raises(JobNotFoundError):
            service.describe_job(tx, job.id, kind=Kind.BACKUP, account="999988887777")
        with pytest.raises(JobNotFoundError):
            service.describe_job(tx, job.id, kind=Kind.RESTORE, account=ACCOUNT)
        with pytest.raises(JobNotFoundError):
            service.describe_job(tx, job.id, kind=Kind.BACKUP, account=ACCOUNT, region="us-east-1")


def test_a_hand_over_that_came_too_late_changes_nothing(database: Database, a_job: AJob) -> None:
    job = a_job()
    claim(database, job)
    complete(database, job, 1, Failed("later", retryable=True))
    with database.transaction() as tx:
        tx.execute(text("UPDATE job SET dispatched_at = 7 WHERE id = :id"), {"id": job.id})
    before = present(database, job)
    assert claim(database, job, 0) is None
    assert present(database, job) == before
