"""Telling receivers: what is due goes out, in its order, beside everything else.

Each route has one hand at a time, so that its receiver is told in the order of the trail; one that answers slowly or
never makes its own deliveries late and nobody else's.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy import text

from holdfast.core.errors import HoldfastError
from holdfast.core.outgoing import Outgoing
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.monitor.route import MOST_ATTEMPTS, headers_of, pause_after
from holdfast.monitor.routing import get_route
from holdfast.source.service import web_secret

log = structlog.get_logger()

MOST_ROUTES: Final = 16
"""So many receivers are told at once; further ones wait until a hand is free."""
_BATCH: Final = 50

_ROUTES: Final = text("""
    SELECT account, route FROM event_delivery WHERE state = 'PENDING' AND available_at <= :now
     GROUP BY account, route ORDER BY min(available_at), account, route""")
_DUE: Final = text("""
    SELECT account, route, event_id, body, attempts FROM event_delivery
     WHERE account = :account AND route = :route AND state = 'PENDING' AND available_at <= :now
     ORDER BY available_at, position, event_id LIMIT :limit""")
_DONE: Final = text("DELETE FROM event_delivery WHERE account = :account AND route = :route AND event_id = :event_id")
_FAILED: Final = text("""
    UPDATE event_delivery SET state = :state, attempts = :attempts, available_at = :at, error = :error
     WHERE account = :account AND route = :route AND event_id = :event_id""")
_OTHERS_WAIT: Final = text("""
    UPDATE event_delivery SET available_at = :at
     WHERE account = :account AND route = :route AND state = 'PENDING' AND available_at < :at""")


@dataclass
class Deliverer:
    """Sends what is due to the receivers of one installation."""

    database: Database
    outgoing: Outgoing
    root_key: RootKey
    _busy: dict[tuple[str, str], threading.Thread] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def tick(self) -> None:
        """Begin to tell every receiver that has something due and is not being told; wait for none."""
        with self.database.reading() as tx:
            due = tx.execute(_ROUTES, {"now": stamp(self.outgoing.machine.now())}).all()
        for row in due:
            route = (row.account, row.route)
            with self._guard:
                if route in self._busy or len(self._busy) >= MOST_ROUTES or self._stopping.is_set():
                    continue
                hand = threading.Thread(target=self._serve, args=route, name=f"event-route-{row.route}", daemon=True)
                self._busy[route] = hand
                hand.start()

    def wait(self) -> None:
        """Wait until what was begun is done."""
        with self._guard:
            hands = list(self._busy.values())
        for hand in hands:
            hand.join()

    def start(self) -> None:
        """Let events be delivered, also again after a stop."""
        self._stopping.clear()

    def stop(self) -> None:
        """Begin nothing more, and wait for what is on its way; it takes as long as a receiver may take to answer."""
        self._stopping.set()
        self.wait()

    def _serve(self, account: str, route: str) -> None:
        try:
            while not self._stopping.is_set() and self._some(account, route):
                pass
        except Exception:
            # The next tick tries again; no receiver's trouble may end the server's.
            log.exception("event.unforeseen", account=account, route=route)
        finally:
            with self._guard:
                del self._busy[account, route]

    def _some(self, account: str, route: str) -> bool:
        """Send some of what is due to one receiver, in order; return whether it took all and there may be more."""
        now = stamp(self.outgoing.machine.now())
        with self.database.reading() as tx:
            due = tx.execute(_DUE, {"account": account, "route": route, "now": now, "limit": _BATCH}).all()
        for row in due:
            if self._stopping.is_set():
                return False
            where = {"account": account, "route": route, "event_id": row.event_id}
            try:
                self._post(row)
            except Exception as error:
                # Whatever it is, the rest for this receiver waits as well.
                if not isinstance(error, HoldfastError):
                    log.exception("event.unforeseen", **where)
                why = (
                    str(error) if isinstance(error, HoldfastError) else f"something went wrong ({type(error).__name__})"
                )
                self._note_failure(where, row.attempts + 1, why, self.outgoing.machine.now())
                return False
            with self.database.transaction() as tx:
                tx.execute(_DONE, where)
        return len(due) == _BATCH

    def _post(self, row: sa.Row[Any]) -> None:
        secret = None
        with self.database.reading() as tx:
            route = get_route(tx, row.account, row.route)
            if route.secret_name is not None:
                secret = web_secret(tx, self.root_key, route.account, route.region, route.secret_name, route.url)
        body = row.body.encode()
        self.outgoing.post(route.url, body, headers_of(route, row.event_id, body, secret, self.outgoing.machine.now()))

    def _note_failure(self, where: Mapping[str, str], attempts: int, error: str, now: datetime) -> None:
        is_over = attempts >= MOST_ATTEMPTS
        later = stamp(now + pause_after(attempts))
        log.warning("event.not_delivered", **where, attempts=attempts, error=error, given_up=is_over)
        with self.database.transaction() as tx:
            tx.execute(_OTHERS_WAIT, {"account": where["account"], "route": where["route"], "at": later})
            tx.execute(
                _FAILED,
                {
                    **where,
                    "state": "DEAD" if is_over else "PENDING",
                    "attempts": attempts,
                    "at": stamp(now) if is_over else later,
                    "error": error[:500],
                },
            )
