"""What stops all deletion: a civil clock that jumped, records that are not as they were written, an old catalogue.

Deleting waits for an administrator then; backups and restores go on.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

LONGEST_JUMP: Final = timedelta(hours=1)
_NAME: Final = "deletion_stopped"

_REASON = text("SELECT value FROM instance WHERE name = :name")
_STOP = text("INSERT INTO instance (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
_RELEASE = text("DELETE FROM instance WHERE name = :name")


@dataclass(frozen=True, slots=True)
class Reading:
    """Both clocks, read together."""

    civil: datetime
    monotonic: float


def jump(before: Reading, now: Reading) -> timedelta | None:
    """Return how far civil time jumped against machine time between two readings, None if not further than allowed."""
    passed = timedelta(seconds=now.monotonic - before.monotonic)
    off = now.civil - before.civil - passed
    return off if abs(off) > LONGEST_JUMP else None


def why_stopped(tx: sa.Connection) -> str | None:
    """Return why nothing is deleted now, None if deletion goes on."""
    found: str | None = tx.execute(_REASON, {"name": _NAME}).scalar_one_or_none()
    return found


def stop_deletion(tx: sa.Connection, why: str) -> None:
    """Stop all deletion until it is released; the first reason stays."""
    tx.execute(_STOP, {"name": _NAME, "value": why})


def release_deletion(tx: sa.Connection) -> None:
    """Let deletion go on: an administrator has looked at what stopped it."""
    tx.execute(_RELEASE, {"name": _NAME})
