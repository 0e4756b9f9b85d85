"""What only a development server has: moving the civil clock, and emptying everything.

`POST /_holdfast/clock` moves civil time as a discrete-event loop: to the next instant at which something is due, act,
and on, until the time that was asked for. `POST /_holdfast/reset` empties the server. Both refuse browsers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import orjson

from holdfast.core.clock import MovableClock
from holdfast.core.errors import InvalidInputError, InvalidStateError
from holdfast.wire.message import HttpReply, HttpRequest

_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)
"""Lifecycles reach a hundred years further, and all of it has to fit into what a date can be."""


class ClockRequestError(InvalidInputError):
    """What was asked of the clock makes no sense."""


class ClockBackwardError(InvalidStateError):
    """Civil time goes backward only while the server is empty."""


@dataclass(frozen=True, slots=True)
class Move:
    """Where the clock is asked to go."""

    advance: timedelta | None
    to: datetime | None
    settle: bool


class World(Protocol):
    """What the clock moves: everything that acts when civil time passes."""

    def next_instant(self, after: datetime) -> datetime | None:
        """Return the next instant after `after` at which something is due, None when nothing is."""

    def act(self, *, settle: bool) -> Mapping[str, int]:
        """Do all that is due now; return what was done, by name.

        Jobs that are due are waited for: until each is running, has ended or waits for a named cause; with `settle`,
        until each has ended or waits for civil time.
        """

    def is_empty(self) -> bool:
        """Return whether nothing has happened here yet."""

    def reset(self) -> None:
        """Remove everything."""


def parse_move(body: bytes) -> Move:
    """Return what a request to move the clock asks for.

    Raises:
        ClockRequestError: it is no JSON object with `advance_seconds` (not negative) or `set` (an ISO 8601 instant).
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ClockRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise ClockRequestError('the body has to be an object such as {"advance_seconds": 3600}')
    unknown = sorted(set(request) - {"advance_seconds", "set", "settle"})
    if unknown:
        raise ClockRequestError(f"{unknown[0]!r} is not known here; give advance_seconds or set, and settle")
    if ("advance_seconds" in request) == ("set" in request):
        raise ClockRequestError("give either advance_seconds or set")
    settle = request.get("settle", False)
    if not isinstance(settle, bool):
        raise ClockRequestError("settle is true or false")
    if "set" in request:
        return Move(None, _instant(request["set"]), settle)
    seconds = request["advance_seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= 100 * 366 * 86400:
        raise ClockRequestError("advance_seconds is a number from 0 to a hundred years")
    return Move(timedelta(seconds=seconds), None, settle)


def move_clock(clock: MovableClock, world: World, move: Move) -> dict[str, Any]:
    """Move civil time from event to event up to where `move` asks; return the new time and what was done on the way.

    Raises:
        ClockRequestError: the target lies in a year that the clock does not reach.
        ClockBackwardError: the target lies in the past, and the server is not empty.
    """
    start = clock.now()
    target = move.to if move.to is not None else start + (move.advance or timedelta())
    if not _EARLIEST <= target < _LATEST:
        raise ClockRequestError(f"the clock goes from {_EARLIEST.year} to {_LATEST.year - 1}, not to {target.year}")
    if target < start:
        if not world.is_empty():
            raise ClockBackwardError(
                f"it is {start.isoformat()} here, and the clock goes back only right after a reset"
            )
        clock.set(target)
        start = target
    counts: dict[str, int] = {}
    acted_at = clock.now()
    _add(counts, world.act(settle=move.settle))
    while True:
        # Time went on while jobs ran, and what came due then is done before anything later.
        following = world.next_instant(acted_at)
        if following is None or following > target:
            break
        if following > clock.now():
            clock.set(following)
        acted_at = clock.now()
        _add(counts, world.act(settle=move.settle))
    if clock.now() < target:
        clock.set(target)
        _add(counts, world.act(settle=move.settle))
    return {"now": clock.now().isoformat(), **counts}


def routes(clock: MovableClock, world: World) -> dict[str, Any]:
    """Return the routes that only a development server has, by path."""

    def clock_route(request: HttpRequest) -> HttpReply:
        return _answered(request, lambda: move_clock(clock, world, parse_move(request.body)))

    def reset_route(request: HttpRequest) -> HttpReply:
        def reset() -> dict[str, Any]:
            world.reset()
            return {"now": clock.now().isoformat()}

        return _answered(request, reset)

    return {"/_holdfast/clock": clock_route, "/_holdfast/reset": reset_route}


def _answered(request: HttpRequest, act: Any) -> HttpReply:
    if request.method != "POST":
        return json_reply(405, {"error": "send a POST request"})
    try:
        return json_reply(200, act())
    except (ClockRequestError, ClockBackwardError) as error:
        return json_reply(400, {"error": str(error)})


def json_reply(status: int, body: Mapping[str, Any]) -> HttpReply:
    """Return a reply with a JSON body."""
    return HttpReply(status, (("Content-Type", "application/json"),), orjson.dumps(body) + b"\n")


def _instant(text: Any) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError) as error:
        raise ClockRequestError(f'set is an instant such as "2026-01-01T00:00:00Z", not {text!r}') from error


def _add(counts: dict[str, int], done: Mapping[str, int]) -> None:
    for name, count in done.items():
        counts[name] = counts.get(name, 0) + count
