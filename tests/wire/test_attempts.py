"""Guessing secrets: the guesser waits, others do not."""

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.core.clock import ManualMachineTime
from holdfast.wire.attempts import FailedAttempts, TooManyAttemptsError

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def machine() -> ManualMachineTime:
    return ManualMachineTime(NOW)


def test_who_guesses_is_made_to_wait(machine: ManualMachineTime) -> None:
    attempts = FailedAttempts(machine, by_key=3, by_address=100)
    for _ in range(3):
        attempts.refuse_if_too_many("203.0.113.9", "AKIA1")
        attempts.failed("203.0.113.9", "AKIA1")
    with pytest.raises(TooManyAttemptsError, match="in a minute"):
        attempts.refuse_if_too_many("203.0.113.9", "AKIA1")
    machine.advance(timedelta(seconds=20))  # a third of a minute empties one of three
    attempts.refuse_if_too_many("203.0.113.9", "AKIA1")
    attempts.failed("203.0.113.9", "AKIA1")
    with pytest.raises(TooManyAttemptsError):
        attempts.refuse_if_too_many("203.0.113.9", "AKIA1")
    machine.advance(timedelta(minutes=1))
    attempts.refuse_if_too_many("203.0.113.9", "AKIA1")


def test_nobody_is_shut_out_by_a_strangers_guesses(machine: ManualMachineTime) -> None:
    attempts = FailedAttempts(machine, by_key=3, by_address=100)
    for _ in range(50):
        attempts.failed("198.51.100.7", "AKIA1")
    attempts.refuse_if_too_many("203.0.113.9", "AKIA1")
    attempts.refuse_if_too_many("198.51.100.7", "AKIA2")


def test_guessing_with_many_keys_from_one_address_is_slowed_as_well(machine: ManualMachineTime) -> None:
    attempts = FailedAttempts(machine, by_key=3, by_address=10)
    for number in range(10):
        attempts.failed("198.51.100.7", f"AKIA{number}")
    with pytest.raises(TooManyAttemptsError):
        attempts.refuse_if_too_many("198.51.100.7", "AKIAnew")
    attempts.refuse_if_too_many("203.0.113.9", "AKIAnew")
