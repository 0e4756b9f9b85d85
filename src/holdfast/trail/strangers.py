"""Refusals before anybody is known: counted, with a few examples, so that a flood of them fills no trail.

Whose call it was nobody can say: no key, an unknown one, a wrong signature. Once a minute what came is one entry.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from holdfast.database.connection import Database
from holdfast.trail.service import Decision, Entry, record

EXAMPLES: Final = 5
"""Refusals that are told in full, of each entry."""
_EVERY_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Refused:
    """One request that was refused before it was known whose it is."""

    flaw: str
    source_ip: str
    access_key_id: str
    path: str


@dataclass
class Strangers:
    """The refusals since the last entry. Safe to share between threads."""

    _counts: Counter[str] = field(default_factory=Counter)
    _examples: list[Refused] = field(default_factory=list)
    _written_at: float | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, refused: Refused) -> None:
        """Count one more."""
        with self._guard:
            self._counts[refused.flaw] += 1
            if len(self._examples) < EXAMPLES:
                self._examples.append(refused)

    def write(self, database: Database, *, account: str, region: str, now: datetime, monotonic: float) -> int:
        """Write down what came since the last entry, once a minute at most; return how many refusals that were."""
        with self._guard:
            if not self._counts or (self._written_at is not None and monotonic < self._written_at + _EVERY_SECONDS):
                return 0
            counts, examples = self._counts, self._examples
            self._counts, self._examples, self._written_at = Counter(), [], monotonic
        total = counts.total()
        entry = Entry(
            at=now,
            account=account,
            region=region,
            service="holdfast",
            operation="RefusedBeforeAuthentication",
            principal_arn="anonymous",
            decision=Decision.EVENT,
            reason=f"{total} requests were refused before it was known whose they are",
            parameters={
                "counts": dict(counts),
                "examples": [
                    {
                        "flaw": each.flaw,
                        "sourceIPAddress": each.source_ip,
                        "accessKeyId": each.access_key_id,
                        "path": each.path,
                    }
                    for each in examples
                ],
            },
        )
        try:
            with database.transaction() as tx:
                record(tx, entry)
        except BaseException:
            with self._guard:
                self._counts.update(counts)
            raise
        return total
