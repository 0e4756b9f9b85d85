"""The two clocks: civil time, which schedules and retention follow, and machine time, which nobody moves.

This is the only module that reads the time. `Clock` (civil) drives schedules, windows, timestamps of jobs and recovery
points, lifecycles, lock dates, holds and waiting times; development mode moves it. `MachineTime` drives signature
skew, session expiry, heartbeats and takeover, repository locks, cache lives and back-off.
"""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Civil time."""

    def now(self) -> datetime:
        """Return the present civil instant, aware and in UTC."""


class MachineTime(Protocol):
    """The machine's own time: a wall clock and a monotonic one."""

    def now(self) -> datetime:
        """Return the machine's wall-clock time, aware and in UTC."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back; only differences mean anything."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait until `event` is set or `seconds` have passed; return whether it was set."""


class SystemClock:
    """Civil time as the machine's wall clock gives it."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        return datetime.now(UTC)


class MovableClock:
    """Civil time that is the machine's plus an offset which development mode moves."""

    def __init__(self, machine: MachineTime, offset: timedelta = timedelta()) -> None:
        self._machine = machine
        self._offset = offset
        self._lock = threading.Lock()

    @property
    def offset(self) -> timedelta:
        """How far civil time is ahead of the machine's."""
        with self._lock:
            return self._offset

    def now(self) -> datetime:
        """Return the present civil instant in UTC."""
        with self._lock:
            return self._machine.now() + self._offset

    def advance(self, by: timedelta) -> None:
        """Move civil time forward by `by`.

        Raises:
            ValueError: `by` is negative.
        """
        if by < timedelta():
            raise ValueError("civil time is only moved forward")
        with self._lock:
            self._offset += by

    def set(self, to: datetime) -> None:
        """Make `to` the present civil instant, even if that is in the past."""
        with self._lock:
            self._offset = to - self._machine.now()


class SystemMachineTime:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """Return the wall clock in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the monotonic clock, in seconds."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for `event` at most `seconds`; return whether it was set."""
        return event.wait(seconds)


class ManualClock:
    """A clock for tests that stands still until it is moved."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        """Return the instant it was last set to."""
        return self._at

    def advance(self, by: timedelta) -> None:
        """Move it forward by `by`."""
        self._at += by


class ManualMachineTime:
    """Machine time for tests: both clocks stand still until they are moved, and waiting moves them."""

    def __init__(self, at: datetime) -> None:
        self._at = at
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Return the instant it was last moved to."""
        return self._at

    def monotonic(self) -> float:
        """Return the seconds it was moved by so far."""
        return self._monotonic

    def advance(self, by: timedelta) -> None:
        """Move both clocks forward by `by`."""
        self._at += by
        self._monotonic += by.total_seconds()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Move both clocks by `seconds` unless `event` is set; return whether it was."""
        if event.is_set():
            return True
        self.advance(timedelta(seconds=seconds))
        return event.is_set()
