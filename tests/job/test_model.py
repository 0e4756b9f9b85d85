"""The life of a job as a table, the words it ends with, and when it is tried again."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.job.builders import NOON, a_waiting_job

from holdfast.job.model import (
    ACTIVE,
    ENDED,
    FOLLOWS,
    Category,
    Failed,
    GiveUp,
    Job,
    JobEndedError,
    Kind,
    Progress,
    State,
    TryAgain,
    UnstoppableError,
    Waiting,
    after_failure,
    expired_before_completion,
    expired_before_start,
    refuse_stop,
    stopped_by_user,
)

HOUR = timedelta(hours=1)
PASSES = Failed("the server went away", retryable=True)


def test_every_state_has_its_place_in_the_table() -> None:
    assert set(FOLLOWS) == set(State)
    assert {state for after in FOLLOWS.values() for state in after} | {State.CREATED} == set(State)


def test_a_job_that_has_ended_stays_as_it_is() -> None:
    assert {State.ABORTED, State.COMPLETED, State.FAILED, State.EXPIRED, State.PARTIAL} == ENDED
    assert not ENDED & ACTIVE
    assert all(not FOLLOWS[state] for state in ENDED)


def test_from_every_state_that_is_no_end_an_end_can_be_reached() -> None:
    for state in set(State) - ENDED:
        seen, waiting = {state}, [state]
        while waiting:
            new = FOLLOWS[waiting.pop()] - seen
            seen |= new
            waiting += new
        assert seen & ENDED


@pytest.mark.parametrize(("attempts", "minutes"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (6, 10), (100_000, 10)])
def test_pauses_grow_to_ten_minutes(attempts: int, minutes: int) -> None:
    job = a_waiting_job(attempts=attempts)
    assert after_failure(job, PASSES, now=NOON) == TryAgain(NOON + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("job", "failure", "at"),
    [
        pytest.param(a_waiting_job(), Failed("no"), NOON, id="a definite failure"),
        pytest.param(a_waiting_job(start_by=NOON + HOUR), PASSES, NOON + HOUR - timedelta(minutes=1), id="the window"),
        pytest.param(a_waiting_job(kind=Kind.RESTORE, start_by=None), PASSES, NOON + 2 * HOUR, id="a restore"),
        pytest.param(a_waiting_job(kind=Kind.COPY, start_by=None), PASSES, NOON + 2 * HOUR, id="a copy"),
    ],
)
def test_some_failures_are_the_end(job: Job, failure: Failed, at: object) -> None:
    assert after_failure(job, failure, now=at) == GiveUp()  # type: ignore[arg-type] # instants from the table


@given(st.integers(0, 10**9), st.integers(0, 8 * 60))
def test_no_job_is_tried_again_outside_of_its_window(attempts: int, minute: int) -> None:
    job = a_waiting_job(attempts=attempts)
    now = NOON + timedelta(minutes=minute)
    decision = after_failure(job, PASSES, now=now)
    assert job.start_by is not None
    if isinstance(decision, TryAgain):
        assert now < decision.at < job.start_by
        assert timedelta(minutes=1) <= decision.at - now <= timedelta(minutes=10)
    else:
        assert job.start_by - now <= timedelta(minutes=10)


def test_the_words_are_those_that_clients_know() -> None:
    assert stopped_by_user(Kind.BACKUP) == "Backup job was stopped by user."
    assert expired_before_completion(Kind.BACKUP) == "Backup job expired before completion."
    assert expired_before_start(Kind.BACKUP, Waiting.RESOURCE, None) == (
        "Backup job failed because there was a running job for the same resource.",
        Category.CONCURRENT_JOB,
    )


@pytest.mark.parametrize("cause", list(Waiting))
def test_whatever_a_job_waited_for_its_end_says_so(cause: Waiting) -> None:
    words, _ = expired_before_start(Kind.COPY, cause, "the disk is full")
    assert words.startswith("Copy job")
    assert words.endswith((".", "the disk is full"))


def test_what_has_ended_is_not_stopped() -> None:
    refuse_stop(a_waiting_job())
    with pytest.raises(JobEndedError, match="is FAILED"):
        refuse_stop(replace(a_waiting_job(), state=State.FAILED))


def test_a_backup_of_a_database_is_not_stopped_by_hand() -> None:
    with pytest.raises(UnstoppableError, match="RDS cannot be stopped"):
        refuse_stop(a_waiting_job(resource_type="RDS"))


@given(st.integers(0, 2**60), st.integers(0, 2**60))
def test_nothing_is_a_hundred_percent_before_its_end(done: int, total: int) -> None:
    assert 0 <= Progress(bytes_done=done, bytes_total=total).percent <= 99
