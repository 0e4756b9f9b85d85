"""What time makes due for recovery points: expire, let hidden ones go for good, forget what no row names.

Each step is planned by a pure function of `model` on the stricter of row and signed record, then carried out: record
first, then the snapshot is forgotten, then the row goes. A vault whose records are not as they were written, or further
along than the database, loses nothing until somebody has looked at it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import Final

import structlog

from holdfast.core.clock import MachineTime
from holdfast.core.errors import HoldfastError
from holdfast.core.settings import Mode
from holdfast.database.connection import Database
from holdfast.recovery import store
from holdfast.recovery.catch_up import RecordsFaultyError, catch_up
from holdfast.recovery.event import Change, note_change
from holdfast.recovery.guard import Reading, jump, stop_deletion, why_stopped
from holdfast.recovery.history import History
from holdfast.recovery.model import (
    EXPIRED,
    Candidate,
    FoundSnapshot,
    RecoveryPoint,
    Standing,
    Status,
    is_turning_cold,
    may_purge,
    plan_expiry,
    plan_orphans,
    stricter,
)
from holdfast.recovery.service import hide_point, withdraw_point
from holdfast.repository.repository import Repository
from holdfast.vault import ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault, stricter_lock
from holdfast.vault.records import Kind
from holdfast.vault.repositories import open_repository
from holdfast.vault.store import RepositoryRow

log = structlog.get_logger()

_BATCH: Final = 500
_LOOK_INTO_REPOSITORIES_EVERY: Final = 6 * 3600.0


@dataclass(slots=True)
class Kept:
    """What one round of housekeeping did."""

    expired: int = 0
    purged: int = 0
    withdrawn: int = 0
    orphans: int = 0
    packs: int = 0
    """Files of blobs that nothing needed any more."""
    kept: dict[str, str] = field(default_factory=dict)
    """Points whose time is over and that something keeps, by ARN, with the reason."""
    missing: list[str] = field(default_factory=list)
    """Snapshots that should be there and are not."""
    foreign: list[str] = field(default_factory=list)
    """Snapshots that somebody else wrote into our repositories."""
    trouble: dict[str, str] = field(default_factory=dict)
    """Vaults, by ARN, that were left alone, with the reason."""
    stopped: str | None = None
    """Why nothing at all is deleted, if so."""


@dataclass
class Housekeeper:
    """Keeps the recovery points of one installation; remembers what it read, so each round reads only what is new."""

    database: Database
    custody: Custody
    machine: MachineTime
    _histories: dict[str, History] = field(default_factory=dict)
    _looked_at: dict[str, float] = field(default_factory=dict)
    _clean: set[str] = field(default_factory=set)
    """Repositories that a sweep found nothing more to do in, and that nothing was forgotten in since."""
    _reading: Reading | None = None

    def keep(self, *, now: datetime) -> Kept:
        """Do everything that is due at `now`; what can't be done is named, and tried again the next time."""
        done = Kept()
        self._watch_clock(now)
        with self.database.reading() as tx:
            done.stopped = why_stopped(tx)
        if done.stopped is not None:
            return done
        self._withdraw(done, now)
        self._expire(done, now)
        self._purge(done, now)
        self._look_for_orphans(done, now)
        self._drop_empty_vaults(now)
        return done

    def note_forgotten(self, repository_id: str) -> None:
        """Take note that somebody else forgot a snapshot, so that the next sweep gives its room back."""
        self._clean.discard(repository_id)

    def _watch_clock(self, now: datetime) -> None:
        reading = Reading(now, self.machine.monotonic())
        before, self._reading = self._reading, reading
        # In development mode the civil clock is there to be moved.
        if before is None or self.custody.settings.mode is Mode.DEV:
            return
        off = jump(before, reading)
        if off is not None:
            log.error("deletion.stopped", jump=str(off))
            with self.database.transaction() as tx:
                stop_deletion(tx, f"the machine's date jumped by {off} on {before.civil:%d %B %Y %H:%M} UTC")

    def _withdraw(self, done: Kept, now: datetime) -> None:
        with self.database.reading() as tx:
            announced = store.announced(tx)
            unfinished = store.unfinished(tx, [job_id for _, _, job_id in announced])
        for point_id, vault_id, job_id in announced:
            if job_id in unfinished:
                continue
            with self.database.reading() as tx:
                vault = vaults.find_vault_by_id(tx, vault_id)
            if vault is None or self._history(vault, done) is None:
                continue
            with self.database.transaction() as tx:
                done.withdrawn += withdraw_point(tx, self.custody, point_id, vault_id, now=now)

    def _expire(self, done: Kept, now: datetime) -> None:
        after: RecoveryPoint | None = None
        while True:
            with self.database.reading() as tx:
                found = store.expiring(tx, now=now, after=after, limit=_BATCH)
            for vault, points in self._by_vault(found):
                history = self._history(vault, done)
                if history is not None:
                    self._expire_in(vault, points, history, done, now)
            if len(found) < _BATCH:
                return
            after = found[-1]

    def _expire_in(
        self, vault: Vault, points: list[RecoveryPoint], history: History, done: Kept, now: datetime
    ) -> None:
        plan = plan_expiry(self._candidates(points, history), now=now)
        for point, why in plan.kept:
            done.kept[point.arn] = why
            standing = history.standing(point.id)
            if standing is not None and standing.holds:
                continue
            if point.status is not Status.EXPIRED:
                expired = replace(point, status=Status.EXPIRED, status_message=why)
                with self.database.transaction() as tx:
                    store.update_point(tx, expired)
                    note_change(tx, Change.EXPIRED, expired, reason=why, at=now)
        for point in plan.hide:
            with self.database.transaction() as tx:
                # Somebody may have placed a hold or changed the lifecycle since: the row is read again where nobody
                # else can write.
                present = store.find_point_by_id(tx, point.id)
                if present != point or store.holds_on(tx, [point.id]):
                    continue
                hide_point(tx, self.custody, vault, point, why=EXPIRED, now=now)
            done.expired += 1

    def _purge(self, done: Kept, now: datetime) -> None:
        after: RecoveryPoint | None = None
        while True:
            with self.database.reading() as tx:
                found = store.purgeable(tx, now=now, after=after, limit=_BATCH)
            for vault, points in self._by_vault(found):
                history = self._history(vault, done)
                if history is None:
                    continue
                gone = [point for point in points if self._may_go(point, history, done, now)]
                for repository_id, those in groupby(
                    sorted(gone, key=lambda point: point.repository_id), key=lambda point: point.repository_id
                ):
                    self._purge_from(vault, repository_id, list(those), history, done, now)
            if len(found) < _BATCH:
                return
            after = found[-1]

    def _may_go(self, point: RecoveryPoint, history: History, done: Kept, now: datetime) -> bool:
        if point.id in history.gone:
            return True  # the record is written; the last round was interrupted
        (candidate,) = self._candidates([point], history)
        if may_purge(candidate.standing, now=now):
            return True
        done.kept[point.arn] = "its signed record, or a legal hold, still keeps it"
        return False

    def _purge_from(
        self, vault: Vault, repository_id: str, points: list[RecoveryPoint], history: History, done: Kept, now: datetime
    ) -> None:
        try:
            repository = self._open(repository_id)
            for point in points:
                if point.id in history.gone:
                    continue
                with self.database.transaction() as tx:
                    if store.jobs_using(tx, point) or not store.begin_purge(tx, point, now=now):
                        continue
                    ledger.write(tx, self.custody, vault, Kind.POINT_PURGED, {"point": point.id}, at=now)
            fresh = self._history(vault, done)
            going = {point.id: point for point in points if fresh is not None and point.id in fresh.gone}
            with self.database.reading() as tx:
                every = store.points_of_vault(tx, vault.id)
            shared = {point.snapshot_id for point in every if point.id not in going}
            repository.forget(sorted({point.snapshot_id for point in going.values()} - shared))
            self._clean.discard(repository_id)
        except HoldfastError as error:
            done.trouble[vault.arn] = str(error)
            log.warning("points.not_purged", vault=vault.arn, error=str(error))
            return
        with self.database.transaction() as tx:
            for point in going.values():
                store.remove_point(tx, point.id)
                vaults.replace_tags(tx, {}, account=point.account, region=point.region, arn=point.arn)
        done.purged += len(going)

    def _look_for_orphans(self, done: Kept, now: datetime) -> None:
        with self.database.reading() as tx:
            rows = [(vault, row) for vault in vaults.every_vault(tx) for row in vaults.repositories_of(tx, vault.id)]
        for vault, row in rows:
            since = self._looked_at.get(row.id)
            at = self.machine.monotonic()
            if not row.ready or (since is not None and at - since < _LOOK_INTO_REPOSITORIES_EVERY):
                continue
            history = self._history(vault, done)
            if history is None:
                continue
            self._looked_at[row.id] = at
            self._mend(vault, history, now)
            try:
                repository = self._open(row.id)
                self._forget_orphans(repository, row, vault, history, done, now)
                self._sweep(repository, row, done, now)
            except HoldfastError as error:
                done.trouble[vault.arn] = str(error)
                log.warning("repository.not_looked_into", repository=row.id, error=str(error))

    def _mend(self, vault: Vault, history: History, now: datetime) -> None:
        """Give rows back what the records say of a vault's lock and of what is not deleted: somebody edited them."""
        with self.database.transaction() as tx:
            present = vaults.find_vault_by_id(tx, vault.id)
            if present is None or vaults.head_of(tx, vault.id) != history.head:
                return  # somebody is changing it now; the next look will do
            lock = stricter_lock(present.lock, history.lock, now=now)
            if lock != present.lock:
                log.error("vault.lock_put_back", vault=vault.arn)
                vaults.update_vault(tx, replace(present, lock=lock))
            for point in store.points_of_vault(tx, vault.id):
                told = history.points.get(point.id)
                if told is not None and told.deleted_at is None and point.deleted_at is not None:
                    log.error("point.put_back", point=point.arn)
                    store.replace_point(tx, replace(told, last_restored_at=point.last_restored_at))

    def _forget_orphans(
        self, repository: Repository, row: RepositoryRow, vault: Vault, history: History, done: Kept, now: datetime
    ) -> None:
        snapshots = [FoundSnapshot(found.id, found.at, found.tags) for found in repository.snapshots()]
        # What names a snapshot is read after the snapshots are listed, so one that came to be named between is seen.
        with self.database.reading() as tx:
            every = store.points_of_vault(tx, vault.id)
            jobs = [found.job_id for found in snapshots if found.job_id is not None]
            unfinished = store.unfinished(tx, jobs)
        rows = [point for point in every if point.repository_id == row.id]
        if row.is_cold:
            # What lies here of a point that is on its way into cold storage is taken up when that goes on.
            unfinished |= {point.job_id for point in every if is_turning_cold(point, now=now)}
        told = [point for point in history.points.values() if point.repository_id == row.id]
        named = {point.snapshot_id for point in [*rows, *told]}
        # A point that is being purged has lost its snapshot already.
        orphans = plan_orphans(snapshots, named=named, unfinished_jobs=unfinished, now=now)
        gone = {point.snapshot_id for point in rows if point.id in history.gone}
        done.missing.extend(sorted(set(orphans.missing) - gone))
        done.foreign.extend(orphans.foreign)
        if orphans.forget:
            repository.forget(orphans.forget)
            self._clean.discard(row.id)
            done.orphans += len(orphans.forget)
            log.info("orphans.forgotten", repository=row.id, snapshots=len(orphans.forget))

    def _sweep(self, repository: Repository, row: RepositoryRow, done: Kept, now: datetime) -> None:
        """Give back room in two rounds: one puts on record what will go, a later one deletes what nothing needs."""
        if row.id in self._clean:
            return
        plan = repository.plan_sweep()
        if plan.doomed:
            done.packs += len(repository.carry_out_sweep().deleted)
        elif plan.has_work:
            repository.mark_sweep(plan, at=now)
        else:
            self._clean.add(row.id)

    def _drop_empty_vaults(self, now: datetime) -> None:
        with self.database.reading() as tx:
            gone = [
                vault
                for vault in vaults.every_vault(tx)
                if vault.deleted_at is not None
                and vault.deleted_at + vault.deletion_delay.present <= now
                and not store.points_of_vault(tx, vault.id)
            ]
        for vault in gone:
            with self.database.transaction() as tx:
                vaults.remove_vault(tx, vault.id)

    def _history(self, vault: Vault, done: Kept) -> History | None:
        """Return what the vault's records say up to now, None where nothing may be deleted by them."""
        if vault.arn in done.trouble:
            return None
        try:
            with self.database.transaction() as tx:
                catch_up(tx, self.custody, vault.id)
                ledger.flush(tx, self.custody, vault)
                end = vaults.head_of(tx, vault.id)
            history = self._histories.get(vault.id) or History(vault.id)
            trusted = frozenset({self.custody.signer.public})
            new, faults = ledger.read(
                self.custody.storage_of(vault), vault.id, trusted=trusted, start=history.head, end=end
            )
            if faults:
                raise RecordsFaultyError(vault.id, faults)
            self._histories[vault.id] = history.take_all(new)
        except HoldfastError as error:
            self._histories.pop(vault.id, None)
            done.trouble[vault.arn] = str(error)
            log.warning("vault.left_alone", vault=vault.arn, error=str(error))
            return None
        return history

    def _candidates(self, points: Iterable[RecoveryPoint], history: History) -> list[Candidate]:
        points = list(points)
        with self.database.reading() as tx:
            holds = store.holds_on(tx, [point.id for point in points])
        found = []
        for point in points:
            row = store.standing_of(point, holds.get(point.id, ()))
            # A point that no record tells of is kept: its record was lost, and nobody knows what it said.
            told = history.standing(point.id) or Standing(None, None)
            found.append(Candidate(point, stricter(row, told)))
        return found

    def _by_vault(self, points: Iterable[RecoveryPoint]) -> list[tuple[Vault, list[RecoveryPoint]]]:
        by_id: dict[str, list[RecoveryPoint]] = {}
        for point in points:
            by_id.setdefault(point.vault_id, []).append(point)
        with self.database.reading() as tx:
            found = [(vaults.find_vault_by_id(tx, vault_id), those) for vault_id, those in by_id.items()]
        return [(vault, those) for vault, those in found if vault is not None]

    def _open(self, repository_id: str) -> Repository:
        return open_repository(self.database, self.custody, repository_id, machine=self.machine)


def keep_points(database: Database, custody: Custody, *, now: datetime, machine: MachineTime) -> Kept:
    """Do one round of housekeeping with nothing remembered from rounds before."""
    return Housekeeper(database, custody, machine).keep(now=now)
