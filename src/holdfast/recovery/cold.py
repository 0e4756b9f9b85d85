"""Moving recovery points to cold storage: copied into a second repository, read back, the row switched, then forgotten.

Lifecycles: AWS Backup Developer Guide, "Backup plan options and configuration", on the transition to cold storage. What
is named is written before what names it, so a move can stop anywhere: a copy that nothing names yet is taken up by the
next round, and a snapshot that nothing names any more goes as an orphan does.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from holdfast.core.clock import MachineTime
from holdfast.core.errors import HoldfastError
from holdfast.database.connection import Database
from holdfast.recovery import store
from holdfast.recovery.catch_up import catch_up
from holdfast.recovery.event import Change, note_change
from holdfast.recovery.guard import why_stopped
from holdfast.recovery.model import POINT_TAG, RecoveryPoint
from holdfast.repository.repository import Repository
from holdfast.repository.writer import CancelledError
from holdfast.vault import ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.records import Kind
from holdfast.vault.repositories import cold_repository_for, open_repository, prepare_repository

log = structlog.get_logger()

_BATCH: Final = 100


@dataclass(slots=True)
class Moved:
    """What one round moved."""

    points: list[str] = field(default_factory=list)
    """By ARN."""
    waiting: dict[str, str] = field(default_factory=dict)
    """Points that stay warm for now, by ARN, with the reason."""


@dataclass
class ColdMover:
    """Moves the recovery points of one installation to cold storage when their time has come."""

    database: Database
    custody: Custody
    machine: MachineTime
    forgotten: Callable[[str], None] = lambda _repository_id: None
    """Told of each repository that a snapshot was forgotten in."""
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Let points be moved, also again after a stop."""
        self._stopping.clear()

    def stop(self) -> None:
        """Give up what is being moved, at once, and move nothing more; whoever comes next begins that point anew."""
        self._stopping.set()

    def move_due(self, *, now: datetime) -> Moved:
        """Move every point that is due at `now`; one that can't be moved says why, and is tried again the next time."""
        done = Moved()
        with self._one_at_a_time:
            after: RecoveryPoint | None = None
            while True:
                with self.database.reading() as tx:
                    # A move ends by forgetting what is warm, and while deletion is stopped nothing is forgotten.
                    due = [] if why_stopped(tx) else store.turning_cold(tx, now=now, after=after, limit=_BATCH)
                for point in due:
                    if self._stopping.is_set():
                        return done
                    self._try(point, done, now)
                if len(due) < _BATCH:
                    return done
                after = due[-1]

    def _try(self, point: RecoveryPoint, done: Moved, now: datetime) -> None:
        try:
            if self._move(point, now):
                done.points.append(point.arn)
                log.info("point.moved_to_cold", point=point.arn)
        except CancelledError:
            log.info("point.move_given_up", point=point.arn)
        except HoldfastError as error:
            why = f"It could not be moved to cold storage yet: {error}"
            done.waiting[point.arn] = why
            log.warning("point.not_moved_to_cold", point=point.arn, error=str(error))
            if point.status_message != why:
                with self.database.transaction() as tx:
                    store.say_not_moved(tx, point.id, why)

    def _move(self, point: RecoveryPoint, now: datetime) -> bool:
        with self.database.transaction() as tx:
            vault = vaults.find_vault_by_id(tx, point.vault_id)
            warm_row = vaults.find_repository(tx, point.repository_id)
            if vault is None or warm_row is None or store.jobs_using(tx, point):
                return False
            catch_up(tx, self.custody, vault.id)
            cold_row = cold_repository_for(tx, self.custody, warm_row, now=now)
        host = self.custody.settings.host_id
        prepare_repository(self.database, self.custody, cold_row.id, host_id=host, machine=self.machine, now=now)
        warm, cold = self._open(warm_row.id), self._open(cold_row.id)
        snapshot_id = _copied_before(cold, point)
        if snapshot_id is None:
            stopping = self._stopping.is_set
            snapshot_id = cold.copy_from(warm, point.snapshot_id, cancelled=stopping).snapshot_id
        cold.read_back(snapshot_id)
        body = {"point": point.id, "repository": cold_row.id, "snapshot": snapshot_id}
        with self.database.transaction() as tx:
            # A job may have begun to read it, or its lifecycle may have changed: then it stays for the next round.
            if store.jobs_using(tx, point) or not store.move_to_cold(
                tx, point, repository_id=cold_row.id, snapshot_id=snapshot_id, now=now
            ):
                return False
            ledger.write(tx, self.custody, vault, Kind.POINT_MOVED, body, at=now)
            cold_point = store.find_point_by_id(tx, point.id) or point
            note_change(tx, Change.COLD, cold_point, reason="its lifecycle moved it to cold storage", at=now)
        self._forget(warm, point)
        return True

    def _forget(self, warm: Repository, point: RecoveryPoint) -> None:
        with self.database.reading() as tx:
            named = {each.snapshot_id for each in store.points_of_vault(tx, point.vault_id)}
        if point.snapshot_id not in named:
            warm.forget([point.snapshot_id])
            self.forgotten(point.repository_id)

    def _open(self, repository_id: str) -> Repository:
        return open_repository(self.database, self.custody, repository_id, machine=self.machine)


def _copied_before(cold: Repository, point: RecoveryPoint) -> str | None:
    """Return the snapshot that an interrupted move of the point left, None if there is none."""
    return next((found.id for found in cold.snapshots() if POINT_TAG + point.id in found.tags), None)
