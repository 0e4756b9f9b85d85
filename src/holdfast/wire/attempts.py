"""Failed attempts: whoever guesses is made to wait, and nobody is locked out by somebody else's guesses.

Counted are wrong signatures and unknown keys, by address and key together and by address alone; never by key alone,
since that would let a stranger shut out its owner. Passwords and one-time passwords that belong to a user are counted
in the same way. What is right is never counted.
"""

import threading
from collections import OrderedDict
from typing import Final

from holdfast.core.clock import MachineTime
from holdfast.core.errors import UnavailableError

_MOST_REMEMBERED: Final = 50_000
_SIGNED_WRONGLY: Final = (
    "Too many requests from this address were signed wrongly; correct the key and try again in a minute"
)


class TooManyAttemptsError(UnavailableError):
    """Too many attempts from this address were wrong; the next ones count again after a while."""


class FailedAttempts:
    """Counts failures in a bucket that empties steadily."""

    def __init__(
        self,
        machine_time: MachineTime,
        *,
        by_key: int = 60,
        by_address: int = 600,
        emptied_in: float = 60.0,
        sentence: str = _SIGNED_WRONGLY,
    ) -> None:
        self._machine_time = machine_time
        self._emptied_in = emptied_in
        self._most = {True: by_key, False: by_address}
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        self._guard = threading.Lock()
        self._sentence = sentence

    def refuse_if_too_many(self, address: str, key_id: str) -> None:
        """Refuse to look at what comes from an address that failed too often lately.

        Raises:
            TooManyAttemptsError: it did, with this key or with all of them.
        """
        now = self._machine_time.monotonic()
        with self._guard:
            full = any(self._level(place, now) >= self._most[bool(place[1])] for place in _places(address, key_id))
        if full:
            raise TooManyAttemptsError(self._sentence)

    def failed(self, address: str, key_id: str) -> None:
        """Count a failure."""
        now = self._machine_time.monotonic()
        with self._guard:
            for place in _places(address, key_id):
                self._buckets[place] = (self._level(place, now) + 1, now)
                self._buckets.move_to_end(place)
            while len(self._buckets) > _MOST_REMEMBERED:
                self._buckets.popitem(last=False)

    def _level(self, place: tuple[str, str], now: float) -> float:
        level, since = self._buckets.get(place, (0.0, now))
        return max(0.0, level - (now - since) * self._most[bool(place[1])] / self._emptied_in)


def _places(address: str, key_id: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (address, key_id), (address, "")


def guesses(machine_time: MachineTime) -> FailedAttempts:
    """Return what counts wrong passwords and codes: ten for one user's, a hundred from one address, in ten minutes."""
    sentence = "Too many wrong passwords or codes were given; try again in ten minutes"
    return FailedAttempts(machine_time, by_key=10, by_address=100, emptied_in=600.0, sentence=sentence)
