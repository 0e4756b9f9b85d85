"""Reads in the audit trail: collected beside the requests, written together, and counted where they are too many.

A call that only reads must not wait for a write. So its entry goes into a buffer of a bounded size, which is written
down each second; what does not fit is lost, and how much was lost is an entry of its own.
"""

import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from holdfast.database.connection import Database
from holdfast.trail.service import Decision, Entry, record

HOLDS: Final = 10_000
"""Entries that wait at most."""
_WRITES: Final = 2_000
_LOST: Final = "ReadsNotRecorded"


@dataclass
class Reads:
    """The reads that wait to be written into the trail. Safe to share between threads."""

    holds: int = HOLDS
    _waiting: deque[Entry] = field(default_factory=deque)
    _lost: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, entry: Entry) -> None:
        """Take an entry in, or count it as lost where too many wait."""
        with self._guard:
            if len(self._waiting) < self.holds:
                self._waiting.append(entry)
            else:
                self._lost += 1

    def write(self, database: Database, *, account: str, region: str, now: datetime) -> int:
        """Write down what waits; return how many reads were written.

        What was lost is told under `account`, whoever runs the installation.
        """
        with self._guard:
            entries = [self._waiting.popleft() for _ in range(min(_WRITES, len(self._waiting)))]
            lost, self._lost = self._lost, 0
        if not entries and not lost:
            return 0
        told = [_lost(lost, account, region, now)] if lost else []
        try:
            with database.transaction() as tx:
                record(tx, *entries, *told)
        except BaseException:
            with self._guard:
                self._lost += lost + len(entries)
            raise
        return len(entries)


def _lost(count: int, account: str, region: str, now: datetime) -> Entry:
    return Entry(
        at=now,
        account=account,
        region=region,
        service="holdfast",
        operation=_LOST,
        principal_arn="holdfast",
        decision=Decision.EVENT,
        reason=f"{count} calls that only read came faster than they could be written down",
        parameters={"count": count},
    )
