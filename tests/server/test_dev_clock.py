"""The development clock goes from event to event."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from holdfast.core.clock import ManualMachineTime, MovableClock
from holdfast.server.dev import ClockBackwardError, ClockRequestError, Move, move_clock, parse_move

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Events:
    """A world in which something happens at given instants."""

    def __init__(self, clock: MovableClock, *instants: datetime, empty: bool = True) -> None:
        self.clock = clock
        self.waiting = sorted(instants)
        self.acted: list[datetime] = []
        self.empty = empty
        self.takes = timedelta()

    def next_instant(self, after: datetime) -> datetime | None:
        return next((at for at in self.waiting if at > after), None)

    def act(self, *, settle: bool) -> Mapping[str, int]:
        due = [at for at in self.waiting if at <= self.clock.now()]
        self.waiting = [at for at in self.waiting if at > self.clock.now()]
        self.acted += [self.clock.now() for _ in due]
        self.clock.advance(self.takes)
        return {"runs": len(due)}

    def is_empty(self) -> bool:
        return self.empty

    def reset(self) -> None:
        self.waiting = []


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock(ManualMachineTime(NOON))


def test_everything_on_the_way_happens_at_its_own_time(clock: MovableClock) -> None:
    world = Events(clock, NOON + timedelta(hours=1), NOON + timedelta(hours=5), NOON + timedelta(days=2))
    done = move_clock(clock, world, Move(timedelta(days=1), None, settle=False))
    assert world.acted == [NOON + timedelta(hours=1), NOON + timedelta(hours=5)]
    assert done == {"now": "2026-03-02T12:00:00+00:00", "runs": 2}


def test_what_came_due_while_something_was_done_is_done_before_the_clock_goes_on(clock: MovableClock) -> None:
    world = Events(clock, *(NOON + timedelta(hours=1, seconds=seconds) for seconds in (0, 1, 5)))
    world.takes = timedelta(seconds=3)
    move_clock(clock, world, Move(timedelta(days=1), None, settle=True))
    assert world.acted == [NOON + timedelta(hours=1, seconds=seconds) for seconds in (0, 3, 6)]


def test_the_clock_stops_exactly_where_it_was_sent(clock: MovableClock) -> None:
    world = Events(clock, NOON + timedelta(hours=1))
    move_clock(clock, world, Move(None, NOON + timedelta(hours=1), settle=True))
    assert clock.now() == NOON + timedelta(hours=1)
    assert world.acted == [NOON + timedelta(hours=1)]


def test_the_clock_goes_back_only_while_nothing_has_happened(clock: MovableClock) -> None:
    move_clock(clock, Events(clock), Move(None, NOON - timedelta(days=100), settle=False))
    assert clock.now() == NOON - timedelta(days=100)
    with pytest.raises(ClockBackwardError, match="right after a reset"):
        move_clock(clock, Events(clock, empty=False), Move(None, NOON - timedelta(days=101), settle=False))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"not json", "not JSON"),
        (b"[]", "an object"),
        (b"{}", "either advance_seconds or set"),
        (b'{"advance_seconds": 1, "set": "2026-01-01T00:00:00Z"}', "either advance_seconds or set"),
        (b'{"advance_seconds": -1}', "from 0"),
        (b'{"advance_seconds": true}', "from 0"),
        (b'{"advance_seconds": "1"}', "from 0"),
        (b'{"set": "tomorrow"}', "an instant such as"),
        (b'{"set": 5}', "an instant such as"),
        (b'{"advance_seconds": 1, "settle": 1}', "true or false"),
        (b'{"seconds": 1}', "not known"),
    ],
)
def test_a_bad_request_says_what_is_wrong(body: bytes, words: str) -> None:
    with pytest.raises(ClockRequestError, match=words):
        parse_move(body)


def test_an_instant_may_have_any_offset() -> None:
    move = parse_move(orjson.dumps({"set": "2026-01-01T01:00:00+01:00", "settle": True}))
    assert move == Move(None, datetime(2026, 1, 1, tzinfo=UTC), settle=True)
