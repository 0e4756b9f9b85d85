"""News for other stations, written in the transaction that made it and handled after it.

A publisher names what happened (`AccountJoined`, `PolicyChanged`, `JobEnded`, ...). Handlers are registered once, in
`server/app.py`, and must be idempotent: news may be handled more than once, and each handler has a reconciler of its
own, so that a lost one only delays.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import text

from holdfast.database.connection import Database
from holdfast.database.values import from_json, stamp, to_json

log = structlog.get_logger()

_BATCH = 100
_LONGEST_PAUSE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened."""

    id: int
    kind: str
    body: Mapping[str, Any]


Handler = Callable[[News], None]

_PUBLISH = text("INSERT INTO outbox (kind, body, created_at, available_at, attempts) VALUES (:kind, :body, :at, 0, 0)")
_DUE = text("SELECT id, kind, body, attempts FROM outbox WHERE available_at <= :now ORDER BY id LIMIT :batch")
_DONE = text("DELETE FROM outbox WHERE id = :id")
_LATER = text("UPDATE outbox SET attempts = attempts + 1, available_at = :at, error = :error WHERE id = :id")


def publish(tx: sa.Connection, kind: str, body: Mapping[str, Any], *, at: datetime) -> None:
    """Write down, in the open transaction, that `kind` happened at `at`.

    It is due at once, whichever clock `at` was read from: civil time may be far ahead of the machine's.
    """
    tx.execute(_PUBLISH, {"kind": kind, "body": to_json(dict(body)), "at": stamp(at)})


def handle_news(database: Database, handlers: Mapping[str, Handler], *, now: datetime) -> int:
    """Hand every piece of news that is due to its handler; return how many were handled.

    One whose handler fails is tried again later, with growing pauses; news nobody handles is dropped.
    """
    with database.reading() as tx:
        due = tx.execute(_DUE, {"now": stamp(now), "batch": _BATCH}).all()
    handled = 0
    for row in due:
        handler = handlers.get(row.kind)
        try:
            if handler is not None:
                handler(News(row.id, row.kind, from_json(row.body)))
        except Exception as error:  # noqa: BLE001 - one bad handler must not hold up the others
            pause = min(timedelta(seconds=2**row.attempts), _LONGEST_PAUSE)
            log.warning("outbox.handler_failed", kind=row.kind, news=row.id, error=str(error), again_in=str(pause))
            with database.transaction() as tx:
                tx.execute(_LATER, {"id": row.id, "at": stamp(now + pause), "error": str(error)[:500]})
            continue
        with database.transaction() as tx:
            tx.execute(_DONE, {"id": row.id})
        handled += 1
    return handled
