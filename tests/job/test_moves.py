"""Every move between states that the table does not have: whatever is tried, the job does not make it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from itertools import product

import pytest
import sqlalchemy as sa
from tests.job.builders import MACHINE, NOON, a_subject, set_columns

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.job import service, store
from holdfast.job.model import (
    FOLLOWS,
    BackupRequest,
    Completed,
    Failed,
    FencedError,
    Job,
    JobEndedError,
    Outcome,
    Partial,
    State,
    Stopped,
)

_LATER = NOON + timedelta(days=30)
"""When every window has closed."""
Try = Callable[[sa.Connection, Job], object]


def claiming(tx: sa.Connection, job: Job) -> object:
    return service.claim(tx, job.id, job.epoch, now=NOON, machine_now=MACHINE, mover="other")


def stopping(tx: sa.Connection, job: Job) -> object:
    return service.request_stop(tx, job, now=NOON, machine_now=MACHINE)


def closing_the_start_window(tx: sa.Connection, _job: Job) -> object:
    return service.expire_unstarted(tx, now=_LATER, machine_now=MACHINE)


def closing_the_completion_window(tx: sa.Connection, _job: Job) -> object:
    return service.stop_overdue(tx, now=_LATER)


def bringing(outcome: Outcome) -> Try:
    def bring(tx: sa.Connection, job: Job) -> object:
        return service.complete(tx, job.id, job.epoch, outcome, now=NOON, machine_now=MACHINE)

    return bring


LEADS_TO: dict[State, tuple[Try, ...]] = {
    State.CREATED: (bringing(Failed("it may pass", retryable=True)),),
    State.RUNNING: (claiming,),
    State.ABORTING: (stopping, closing_the_completion_window),
    State.ABORTED: (stopping, bringing(Stopped())),
    State.COMPLETED: (bringing(Completed()),),
    State.FAILED: (bringing(Failed("it will not pass")),),
    State.EXPIRED: (closing_the_start_window, closing_the_completion_window),
    State.PARTIAL: (bringing(Partial("some are missing")),),
}
"""What is done to a job that shall come into a state."""
MOVES = [(before, after) for before, after in product(State, State) if before is not after]


def a_job_that_is(database: Database, state: State) -> Job:
    with database.transaction() as tx:
        made = service.start_backup_job(tx, BackupRequest(a_subject(name=new_uuid())), now=NOON)
        set_columns(tx, made.id, state=state.value, epoch=1, attempts=1)
        job = store.find(tx, made.id)
    assert job is not None
    return job


def after_trying(database: Database, job: Job, attempt: Try) -> State:
    with suppress(FencedError, JobEndedError), database.transaction() as tx:
        attempt(tx, job)
    with database.reading() as tx:
        found = store.find(tx, job.id)
    assert found is not None
    return found.state


def test_there_is_something_to_try_for_every_state() -> None:
    assert set(LEADS_TO) == set(State)


@pytest.mark.parametrize(
    ("before", "after"),
    [pytest.param(before, after, id=f"{before}-{after}") for before, after in MOVES if after not in FOLLOWS[before]],
)
def test_a_move_that_the_table_does_not_have_is_not_made(
    sqlite_database: Database, before: State, after: State
) -> None:
    for attempt in LEADS_TO[after]:
        reached = after_trying(sqlite_database, a_job_that_is(sqlite_database, before), attempt)
        assert reached is not after
        assert reached is before or reached in FOLLOWS[before]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(before, after, id=f"{before}-{after}")
        for before, after in MOVES
        # A job that was told to stop expires if it was its window that told it, which its category remembers.
        if after in FOLLOWS[before] and (before, after) != (State.ABORTING, State.EXPIRED)
    ],
)
def test_a_move_that_the_table_has_is_made(sqlite_database: Database, before: State, after: State) -> None:
    reached = {
        after_trying(sqlite_database, a_job_that_is(sqlite_database, before), attempt) for attempt in LEADS_TO[after]
    }
    assert after in reached


def test_nothing_ever_moves_a_job_that_has_ended(database: Database) -> None:
    for state in (each for each in State if not FOLLOWS[each]):
        job = a_job_that_is(database, state)
        for attempts in LEADS_TO.values():
            for attempt in attempts:
                assert after_trying(database, job, attempt) is state
