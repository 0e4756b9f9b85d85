"""What the development clock moves: the whole installation, step by step, and emptying it."""

import shutil
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.store import access_version
from holdfast.core.clock import MovableClock
from holdfast.database.facts import recalled, remember
from holdfast.database.values import instant, stamp
from holdfast.job.dispatch import next_instant as next_job_instant
from holdfast.organization.service.accounts import next_departure
from holdfast.schedule.service import next_due_at
from holdfast.server.app import Holdfast
from holdfast.server.data_directory import DataDirectory

_POLL_SECONDS: Final = 0.05
_KEPT_TABLES: Final = frozenset({"alembic_version", "dbos_migrations"})
_OFFSET: Final = "civil offset"

# A job is settled when it has ended, or when it waits for civil time (its next try); without settling it is enough
# that it runs, or waits for a named cause.
_UNSETTLED = text("""
    SELECT count(*) FROM job
     WHERE state IN ('RUNNING', 'ABORTING') AND :settle
        OR state = 'CREATED' AND (retry_at IS NULL OR retry_at <= :now) AND (:settle OR waiting_for = '')""")
_NEXT_OF_POINTS = text("""
    SELECT min(at) FROM (
        SELECT min(delete_at) AS at FROM recovery_point WHERE delete_at > :now AND deleted_at IS NULL
        UNION ALL
        SELECT min(cold_at) FROM recovery_point WHERE cold_at > :now AND deleted_at IS NULL
        UNION ALL
        SELECT min(purge_at) FROM recovery_point WHERE purge_at > :now
        UNION ALL
        SELECT min(deletion_at) FROM kms_key WHERE deletion_at > :now
    ) AS instants""")


class DevWorld:
    """A development server's installation, as its clock sees it."""

    def __init__(
        self, running: Holdfast, clock: MovableClock, directory: DataDirectory, begin: Callable[[], None]
    ) -> None:
        """Take the running installation; `begin` lays the first account down again after a reset."""
        self._running = running
        self._clock = clock
        self._directory = directory
        self._begin = begin
        self._never = threading.Event()
        self._guard = threading.RLock()

    def next_instant(self, after: datetime) -> datetime | None:
        """Return the next instant at which something is due."""
        with self._running.instance.database.reading() as tx:
            of_points = tx.execute(_NEXT_OF_POINTS, {"now": stamp(after)}).scalar_one()
            found = [next_due_at(tx), next_job_instant(tx, now=after), next_departure(tx)]
        if of_points is not None:
            found.append(instant(of_points))
        return min((at for at in found if at is not None and at > after), default=None)

    def act(self, *, settle: bool) -> Mapping[str, int]:
        """Do all that is due now, and wait for the jobs of it."""
        with self._guard:
            ticked = self._running.make_due_jobs()
            self._running.supervisor.tick()
            self._running.keep_house()
            self._running.move_to_cold()
            self._wait(settle=settle)
            self._remember_offset()
            return {"runs": ticked.runs, "jobs": ticked.jobs}

    def is_empty(self) -> bool:
        """Return whether there is neither an organization nor a job."""
        with self._running.instance.database.reading() as tx:
            return not any(
                tx.execute(text(f"SELECT 1 FROM {table} LIMIT 1")).first()
                for table in ("organization", "job", "vault", "resource", "recovery_point")
            )

    def reset(self) -> None:
        """Stop what runs, remove every row and every repository, and begin anew."""
        with self._guard:
            self._running.stop()
            database = self._running.instance.database
            with database.transaction() as tx:
                # Decisions are remembered by this number, so it never comes back to one that it has been.
                version = access_version(tx)[0] + 1
                for table in sorted(set(sa.inspect(tx).get_table_names()) - _KEPT_TABLES):
                    tx.execute(text(f'DELETE FROM "{table}"'))
                tx.execute(
                    text("INSERT INTO access_version (id, version, mark) VALUES (1, :version, '')"),
                    {"version": version},
                )
            shutil.rmtree(self._directory.storage, ignore_errors=True)
            self._directory.storage.mkdir(mode=0o700, exist_ok=True)
            self._clock.set(self._running.instance.machine.now())
            self._begin()
            self._running.start()

    def _wait(self, *, settle: bool) -> None:
        instance = self._running.instance
        while True:
            with instance.database.reading() as tx:
                waiting = tx.execute(_UNSETTLED, {"settle": settle, "now": stamp(self._clock.now())}).scalar_one()
            if not waiting:
                return
            instance.machine.wait(self._never, _POLL_SECONDS)
            self._running.supervisor.tick()

    def _remember_offset(self) -> None:
        with self._running.instance.database.transaction() as tx:
            remember(tx, _OFFSET, str(self._clock.offset.total_seconds()))


def civil_offset(tx: sa.Connection) -> float:
    """Return how many seconds a development server's civil time was ahead when it last ran."""
    return float(recalled(tx, _OFFSET) or 0.0)
