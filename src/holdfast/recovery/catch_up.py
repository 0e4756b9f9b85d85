"""Bringing the catalogue to what storage's signed records say, from nothing or from an older state.

The records are the truth. A crash between a record and its commit leaves the database one step behind; an older copy
that somebody restored leaves it many behind. A few steps are taken over as they are needed; more only when somebody
asks for it, since until then nothing should be deleted by an old catalogue.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from holdfast.core.errors import DamagedError, HoldfastError
from holdfast.recovery import store
from holdfast.recovery.history import History
from holdfast.recovery.hold import Hold, HoldStatus
from holdfast.recovery.model import RecoveryPoint, Status, instant_from_body
from holdfast.repository.storage import NotStoredError, Storage
from holdfast.vault import keys, ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.ledger import CatalogueBehindError
from holdfast.vault.model import Vault
from holdfast.vault.records import Fault, Head, decode, record_name
from holdfast.vault.repositories import read_key_file
from holdfast.vault.storage import Below
from holdfast.vault.store import RepositoryRow

FEW: Final = 64
"""How many records a crash may have left uncommitted; more of them mean an older copy of the database."""

Answer = TypeVar("Answer")


class RecordsFaultyError(DamagedError):
    """A vault's records are not as they were written, so nothing is taken over from them."""

    def __init__(self, vault_id: str, faults: tuple[Fault, ...]) -> None:
        shown = "; ".join(fault.what for fault in faults[:5])
        super().__init__(f"the signed records of vault {vault_id} are not as they were written: {shown}")
        self.faults = faults


@dataclass(slots=True)
class BroughtIn:
    """What was taken over from a vault's records."""

    keys: int = 0
    repositories: int = 0
    points: int = 0
    changed: int = 0
    removed: int = 0
    holds: int = 0
    unnamed: list[str] = field(default_factory=list)
    """Points of the catalogue that no record tells of."""
    without_repository: list[str] = field(default_factory=list)
    """Points whose repository's key file is missing or damaged."""


def recorded(tx: sa.Connection, custody: Custody, verb: Callable[[], Answer]) -> Answer:
    """Do what writes records; where the catalogue is a few of them behind, catch up first and do it then.

    Raises:
        CatalogueBehindError: it is too far behind for a crash.
    """
    try:
        with tx.begin_nested():
            return verb()
    except CatalogueBehindError as behind:
        catch_up(tx, custody, behind.vault_id)
    return verb()


def catch_up(tx: sa.Connection, custody: Custody, vault_id: str, *, most: int | None = FEW) -> int:
    """Take over what storage records of a vault beyond what the database knows; return how many records.

    Records of our own that never reached storage follow after them, with other numbers.

    Raises:
        CatalogueBehindError: there are more than `most`.
        RecordsFaultyError: they are not as they were written.
    """
    vault = vaults.find_vault_by_id(tx, vault_id)
    if vault is None:
        return 0
    storage = custody.storage_of(vault)
    base, waiting = _common_base(tx, storage, vault)
    trusted = frozenset({custody.signer.public})
    tail, faults = ledger.read(storage, vault_id, trusted=trusted, start=base)
    if faults:
        raise RecordsFaultyError(vault_id, faults)
    if not tail:
        return 0
    if most is not None and len(tail) > most:
        raise CatalogueBehindError(
            f"storage records {len(tail)} changes of vault {vault.name} of account {vault.account} that the database "
            "does not know: it is an older copy. Run `holdfast rebuild` to take them over",
            vault_id,
        )
    whole, faults = ledger.read(storage, vault_id, trusted=trusted)
    if faults:
        raise RecordsFaultyError(vault_id, faults)
    history = History(vault_id).take_all(whole)
    bring_in(tx, history, custody, storage_name=vault.storage)
    vaults.drop_pending(tx, vault_id)
    vaults.set_head(tx, vault_id, history.head)
    fresh = vaults.find_vault_by_id(tx, vault_id) or vault
    for content in waiting:
        record = decode(content, name="a pending record").record
        ledger.append(tx, custody, fresh, record.kind, record.body, at=record.at)
    return len(tail)


def bring_in(tx: sa.Connection, history: History, custody: Custody, *, storage_name: str) -> BroughtIn:
    """Make the catalogue of one vault what its records add up to; what it has beyond them stays and is named.

    The caller has verified the records. Nothing is read from storage but the key files of repositories that the
    catalogue does not have.
    """
    done = BroughtIn()
    told = history.vault()
    if told is None or history.created is None:
        return done
    done.keys += _bring_back_key(tx, history, history.created["key"])
    vault = replace(told, storage=storage_name)
    present = vaults.find_vault_by_id(tx, vault.id)
    if present is None:
        vaults.insert_vault(tx, vault, head=history.head)
    else:
        vaults.update_vault(tx, replace(vault, notifications=present.notifications))
    _bring_in_repositories(tx, history, vault, custody.storage(storage_name), done)
    _bring_in_points(tx, history, vault, done)
    _bring_in_holds(tx, history, done)
    for arn, tags in history.tags.items():
        vaults.replace_tags(tx, tags, account=vault.account, region=vault.region, arn=arn)
    return done


def _common_base(tx: sa.Connection, storage: Storage, vault: Vault) -> tuple[Head, list[bytes]]:
    """Return the last record that database and storage agree on, and our own that storage does not have."""
    waiting = vaults.pending(tx, vault.id)
    base = vaults.head_of(tx, vault.id)
    if waiting:
        first = decode(waiting[0][1], name="a pending record").record
        base = Head(first.sequence - 1, first.previous)
    while waiting:
        sequence, content = waiting[0]
        try:
            if storage.get(record_name(sequence)) != content:
                break
        except NotStoredError:
            break
        base = Head(sequence, decode(content, name="a pending record").digest)
        waiting = waiting[1:]
    return base, [content for _, content in waiting]


def _bring_back_key(tx: sa.Connection, history: History, body: Mapping[str, Any]) -> bool:
    """Bring a key back unless it was deleted after its waiting time, which is final."""
    return body["arn"] not in history.deleted_keys and keys.bring_back_key(tx, body)


def _bring_in_repositories(
    tx: sa.Connection, history: History, vault: Vault, storage: Storage, done: BroughtIn
) -> None:
    for repository_id, body in history.repositories.items():
        if vaults.find_repository(tx, repository_id) is not None:
            continue
        try:
            beside = read_key_file(Below(storage, body["path"]))
        except HoldfastError:
            continue  # its points are named as being without a repository
        done.keys += _bring_back_key(tx, history, beside.key)
        vaults.insert_repository(
            tx,
            RepositoryRow(
                id=repository_id,
                vault_id=vault.id,
                source_account=body["source_account"],
                generation=body["generation"],
                storage=vault.storage,
                path=body["path"],
                wrapped_password=beside.wrapped_password,
                key_arn=body["key_arn"],
                is_cold=body["is_cold"],
                ready=True,
                created_at=datetime.fromisoformat(body["created_at"]),
            ),
        )
        done.repositories += 1


def _bring_in_points(tx: sa.Connection, history: History, vault: Vault, done: BroughtIn) -> None:
    present = {point.id: point for point in store.points_of_vault(tx, vault.id)}
    with_repository = {row.id for row in vaults.repositories_of(tx, vault.id)}
    for told in history.points.values():
        if told.repository_id not in with_repository:
            done.without_repository.append(told.arn)
            continue
        point = told if told.deleted_at is None else replace(told, status=Status.DELETING)
        old = present.get(point.id)
        if old is None:
            store.insert_point(tx, point)
            done.points += 1
        elif _as_recorded(old) != _as_recorded(point):
            store.replace_point(tx, replace(point, last_restored_at=old.last_restored_at))
            done.changed += 1
        store.forget_announced(tx, point.id)
    for point_id, point in present.items():
        if point_id in history.gone:
            store.remove_point(tx, point_id)
            done.removed += 1
        elif point_id not in history.points:
            done.unnamed.append(point.arn)


def _bring_in_holds(tx: sa.Connection, history: History, done: BroughtIn) -> None:
    for told in history.holds.values():
        hold = Hold.from_body(told.body)
        if told.released is not None:
            hold = replace(
                hold,
                status=HoldStatus.CANCELED,
                canceled_at=instant_from_body(told.released["canceled_at"]),
                cancel_description=told.released["description"],
                retain_until=instant_from_body(told.released["retain_until"]),
            )
        old = store.find_hold(tx, account=hold.account, region=hold.region, hold_id=hold.id)
        if old is None:
            store.insert_hold(tx, hold)
            done.holds += 1
        elif old.status is not hold.status:
            store.update_hold(tx, hold)
        store.hold_points(tx, hold.id, told.points & history.points.keys())


def _as_recorded(point: RecoveryPoint) -> RecoveryPoint:
    return replace(point, last_restored_at=None)
