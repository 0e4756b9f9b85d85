"""Rebuilding the catalogue from storage: vaults, keys, repositories, recovery points, locks and holds.

What is needed is the storage and the root key, or the storage and the recovery key's private half; the database may be
empty, or an older copy. Nothing in storage is deleted. Every record's signature is verified, every repository is opened
and its snapshots are compared with the records; whatever does not fit is named, and what fits is brought in.

With the recovery key alone the old root key is lost: vaults get new KMS key material under the new root key,
repositories' passwords are wrapped anew, and a record by the new signer vouches for those of the old one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from holdfast.core.clock import MachineTime
from holdfast.core.errors import AlreadyExistsError, HoldfastError, InvalidInputError
from holdfast.database.connection import Database
from holdfast.organization.service.accounts import find_account, register_account
from holdfast.recovery.catch_up import BroughtIn, bring_in
from holdfast.recovery.history import History
from holdfast.recovery.model import FoundSnapshot
from holdfast.repository.repository import Repository
from holdfast.repository.storage import Storage
from holdfast.vault import keys, ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody, vault_path
from holdfast.vault.model import Vault
from holdfast.vault.records import DIRECTORY, Head, Kind, decode
from holdfast.vault.repositories import KEY_FILE, lay_key_file_anew, read_key_file, rewrap
from holdfast.vault.storage import VAULTS, Below

_HOST: Final = "holdfast-rebuild"


class NothingToRebuildError(InvalidInputError):
    """The storages hold no vault."""


class NameTakenError(AlreadyExistsError):
    """Two vaults of one account and region have one name, and something in them."""


@dataclass(slots=True)
class VaultRebuilt:
    """What became of one vault."""

    id: str
    storage: str
    account: str = ""
    region: str = ""
    name: str = ""
    records: int = 0
    behind: int = 0
    """Records that the database did not know, where it knew the vault."""
    locked: str | None = None
    unfinished: bool = False
    """Its creation was interrupted and repeated under the same name: there is nothing in it, and it is left out."""
    brought_in: BroughtIn = field(default_factory=BroughtIn)
    points: int = 0
    hidden: int = 0
    holds: int = 0
    faults: list[str] = field(default_factory=list)
    """What is missing or not as it was written."""
    unrecorded: list[str] = field(default_factory=list)
    """Snapshots of our own that no record tells of, as `repository path: snapshot`."""
    missing: list[str] = field(default_factory=list)
    """Recovery points whose snapshot is gone, by ARN."""

    @property
    def lost(self) -> int:
        """How many of the points are known by their records and cannot be opened."""
        return len({*self.missing, *self.brought_in.without_repository})

    @property
    def is_sound(self) -> bool:
        """Whether the keys, the records and the list of snapshots are as they were written."""
        brought = self.brought_in
        return not (self.faults or self.missing or self.unrecorded or brought.unnamed or brought.without_repository)


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild brought back, and what it could not."""

    vaults: list[VaultRebuilt] = field(default_factory=list)
    accounts: list[str] = field(default_factory=list)
    """Accounts that were made anew, by id; their names and users are not in storage."""

    @property
    def is_sound(self) -> bool:
        """Whether everything in storage was as it was written, and all of it was brought in."""
        return all(vault.is_sound for vault in self.vaults)


@dataclass(slots=True)
class _Found:
    """What lies in one vault's directory."""

    records: int = 0
    repositories: list[str] = field(default_factory=list)
    """Paths, relative to the storage, that a key file lies in."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """A repository that its key file opened."""

    password: str = field(repr=False)
    repository: Repository = field(repr=False)


def rebuild(
    database: Database,
    custody: Custody,
    *,
    now: datetime,
    machine: MachineTime,
    recovery_private: bytes | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Rebuilt:
    """Bring everything that storage records into the database, which may be empty; return what was done.

    `recovery_private` is for when the old root key is lost: `custody` then holds a new one.

    Raises:
        NothingToRebuildError: the storages hold no vault.
    """
    work = _Work(database, custody, machine, now, recovery_private)
    for name in custody.settings.storages:
        progress(f"looking for vaults in storage {name}")
        storage = custody.storage(name)
        # The fullest first: of two vaults of one name, the one that was used keeps it.
        for vault_id, found in sorted(_survey(storage).items(), key=lambda item: (-item[1].records, item[0])):
            work.read_key_files(storage, VaultRebuilt(vault_id, name), found)
    done = Rebuilt()
    for one, beside in work.found:
        done.vaults.append(one)
        try:
            work.rebuild_vault(one, beside, done)
        except HoldfastError as error:
            one.faults.append(str(error))
        progress(_line(one))
    if not done.vaults:
        where = ", ".join(settings.url for settings in custody.settings.storages.values())
        raise NothingToRebuildError(f"there are no vaults in {where}; name the storage that they lie in")
    return done


@dataclass
class _Work:
    """One rebuild under way."""

    database: Database
    custody: Custody
    machine: MachineTime
    now: datetime
    recovery_private: bytes | None
    found: list[tuple[VaultRebuilt, dict[str, _Opened]]] = field(default_factory=list)
    signers: set[bytes] = field(default_factory=set)
    """Signers of records that are to be trusted besides our own: one installation has one, whatever the vault."""
    renewed: set[str] = field(default_factory=set)
    """KMS keys that have new material already."""

    def read_key_files(self, storage: Storage, one: VaultRebuilt, found: _Found) -> None:
        """Open the key files of one vault, before anything of any vault is believed."""
        beside: dict[str, _Opened] = {}
        self.found.append((one, beside))
        for path in found.repositories:
            try:
                beside[path] = self._open(Below(storage, path), one, path)
            except HoldfastError as error:
                one.faults.append(f"{path}: {error}")

    def _open(self, place: Storage, one: VaultRebuilt, path: str) -> _Opened:
        key_file = read_key_file(place)
        if self.recovery_private is None:
            if key_file.signed_by != self.custody.signer.public:
                one.faults.append(f"{path}: the key file was signed by another root key")
            password = key_file.password(self.custody.root_key)
            return _Opened(password, Repository.open(place, password, host_id=_HOST, machine=self.machine))
        password, signer = key_file.password_by_recovery(self.recovery_private)
        repository = Repository.open(place, password, host_id=_HOST, machine=self.machine)
        # Only who knows the password can have sealed it, so the signer is believed once the repository has opened.
        self.signers.add(signer)
        return _Opened(password, repository)

    def rebuild_vault(self, one: VaultRebuilt, beside: dict[str, _Opened], done: Rebuilt) -> None:
        """Bring one vault in, and say what of it is not as it was written."""
        own = Below(self.custody.storage(one.storage), vault_path(one.id))
        with self.database.reading() as tx:
            known = vaults.head_of(tx, one.id)
            waiting = vaults.pending(tx, one.id)
        if waiting:
            first = decode(waiting[0][1], name="a pending record").record
            known = Head(first.sequence - 1, first.previous)
        trusted = frozenset({self.custody.signer.public, *self.signers})
        good, faults = ledger.read(own, one.id, trusted=trusted, end=known if known.sequence else None)
        one.faults += [fault.what for fault in faults]
        history = History(one.id).take_all(good)
        told = history.vault()
        if told is None:
            one.faults.append("no record that can be trusted tells of its creation")
            return
        one.account, one.region, one.name = told.account, told.region, told.name
        one.records = len(good)
        one.behind = max(0, history.head.sequence - known.sequence) if known.sequence else 0
        one.locked = None if told.lock is None else str(told.lock.mode(now=self.now))
        one.faults += [f"a record of the kind {kind} is of a later release" for kind in history.unknown]
        with self.database.transaction() as tx:
            namesake = vaults.find_vault(tx, account=told.account, region=told.region, name=told.name)
            if namesake is not None and namesake.id != one.id and told.deleted_at is None:
                if history.repositories:
                    raise NameTakenError(f"vault {namesake.id} has its name already, and both hold recovery points")
                one.unfinished = True
                return
            for account in sorted({told.account, *(body["source_account"] for body in history.repositories.values())}):
                if _bring_in_account(tx, account, now=self.now):
                    done.accounts.append(account)
            one.brought_in = bring_in(tx, history, self.custody, storage_name=one.storage)
            vaults.drop_pending(tx, one.id)
            vaults.set_head(tx, one.id, history.head)
            vault = replace(told, storage=one.storage)
            there = {written.content for written in good}
            for content in (content for _, content in waiting if content not in there):
                # Our own, that never reached storage: they follow after those that are there.
                record = decode(content, name="a pending record").record
                ledger.append(tx, self.custody, vault, record.kind, record.body, at=record.at)
            if self.recovery_private is not None and vault.key_arn:
                self._take_over(tx, vault, beside)
            ledger.flush(tx, self.custody, vault)
        one.points = sum(point.deleted_at is None for point in history.points.values())
        one.hidden = len(history.points) - one.points
        one.holds = sum(hold.released is None for hold in history.holds.values())
        _compare_snapshots(one, history, beside)

    def _take_over(self, tx: sa.Connection, vault: Vault, beside: dict[str, _Opened]) -> None:
        """Put a vault whose root key is lost under the new one."""
        rows = vaults.repositories_of(tx, vault.id)
        for key_arn in sorted({vault.key_arn, *(row.key_arn for row in rows)} - self.renewed):
            keys.give_new_material(tx, self.custody.root_key, key_arn, now=self.now)
            self.renewed.add(key_arn)
        for row in rows:
            if row.path in beside:
                password = beside[row.path].password
                fresh = rewrap(tx, self.custody, row, password)
                lay_key_file_anew(tx, self.custody, vault, fresh, password)
        body = {"key": keys.key_to_body(tx, self.custody.root_key, vault.key_arn)}
        ledger.append(tx, self.custody, vault, Kind.TAKEN_OVER, body, at=self.now)


def _compare_snapshots(one: VaultRebuilt, history: History, beside: dict[str, _Opened]) -> None:
    for repository_id, body in history.repositories.items():
        path = body["path"]
        points = [point for point in history.points.values() if point.repository_id == repository_id]
        if path not in beside:
            one.faults.append(f"{path}: it does not open, and with it {len(points)} recovery points")
            continue
        named = {point.snapshot_id for point in points}
        told = history.gone | set(history.points)
        seen = set()
        for snapshot in beside[path].repository.snapshots():
            seen.add(snapshot.id)
            found = FoundSnapshot(snapshot.id, snapshot.at, snapshot.tags)
            if snapshot.id not in named and found.point_id is not None and found.point_id not in told:
                one.unrecorded.append(f"{path}: {snapshot.id}")
        one.missing += [point.arn for point in points if point.snapshot_id not in seen]


def _bring_in_account(tx: sa.Connection, account: str, *, now: datetime) -> bool:
    if find_account(tx, account) is not None:
        return False
    register_account(tx, account, f"account {account}", f"{account}@rebuilt.invalid", now=now)
    return True


def _survey(storage: Storage) -> dict[str, _Found]:
    """Return what lies in the directories of vaults, from one listing of the storage."""
    found: dict[str, _Found] = {}
    for stored in storage.list(VAULTS):
        vault_id, _, rest = stored.name.removeprefix(VAULTS).partition("/")
        if rest.startswith(DIRECTORY):
            found.setdefault(vault_id, _Found()).records += 1
        elif rest.endswith("/" + KEY_FILE):
            path = f"{vault_path(vault_id)}/{rest.removesuffix('/' + KEY_FILE)}"
            found.setdefault(vault_id, _Found()).repositories.append(path)
    for each in found.values():
        each.repositories.sort()
    return found


def _line(one: VaultRebuilt) -> str:
    what = f"{one.name or one.id} of account {one.account or '?'} in {one.region or '?'}"
    state = "as it was written" if one.is_sound else "not as it was written, see below"
    return f"vault {what}: {one.records} records, {one.points} recovery points, {state}"
