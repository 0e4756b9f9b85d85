"""What can be done with vaults. Each verb runs in the transaction that its caller opened."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from holdfast.access.model.document import DocumentKind, parse_document
from holdfast.access.store import raise_access_version
from holdfast.access.tag import check_tags
from holdfast.core.arn import Arn, InvalidArnError
from holdfast.core.errors import InvalidInputError, NotFoundError
from holdfast.core.ids import new_uuid
from holdfast.vault import event, keys, ledger, store
from holdfast.vault.custody import Custody
from holdfast.vault.model import (
    MOST_VAULTS,
    DeletionDelay,
    HiddenVaultError,
    InvalidVaultError,
    Lock,
    UnknownVaultError,
    Vault,
    VaultExistsError,
    VaultLimitError,
    VaultLockedError,
    new_lock,
    refuse_bad_name,
    refuse_bad_request_id,
    refuse_lock_change,
    refuse_vault_deletion,
    vault_arn,
)
from holdfast.vault.records import Kind

_COPY_INTO = "backup:CopyIntoBackupVault"


class NoPolicyError(NotFoundError):
    """The vault has no access policy."""


class InvalidAccessPolicyError(InvalidInputError):
    """A vault's access policy makes no sense, or grants what a vault never grants to others."""


@dataclass(frozen=True, slots=True)
class VaultView:
    """A vault, with how many recovery points it shows."""

    vault: Vault
    points: int


def create_vault(
    tx: sa.Connection,
    custody: Custody,
    *,
    partition: str,
    account: str,
    region: str,
    name: str,
    key_arn: str | None = None,
    creator_request_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    now: datetime,
) -> Vault:
    """Create a vault on the storage of its region, or return the one that the same request created before.

    Raises:
        InvalidVaultError: the name, the request id or the region can't be used.
        InvalidTagError, LimitExceededError: the tags can't be.
        VaultExistsError: another request created a vault of that name.
        VaultLimitError: there are too many.
        InvalidKeyError, KeyDisabledError, KeyStateError: the key can't be a vault's.
    """
    refuse_bad_name(name)
    if creator_request_id is not None:
        refuse_bad_request_id(creator_request_id)
    check_tags((tags or {}).items())
    if region not in custody.settings.regions:
        raise InvalidVaultError(f"region {region} is not configured here; its vaults would lie nowhere")
    present = store.find_vault(tx, account=account, region=region, name=name)
    if present is not None:
        if creator_request_id is not None and present.creator_request_id == creator_request_id:
            return present
        raise VaultExistsError(
            f"Backup vault with the same name already exists: {name}",
            arn=present.arn,
            creator_request_id=present.creator_request_id,
        )
    if store.number_of_vaults(tx, account=account, region=region) >= MOST_VAULTS:
        raise VaultLimitError(
            f"account {account} has {MOST_VAULTS} backup vaults in {region} already, the most allowed"
        )
    key = keys.key_for_vault(tx, custody.root_key, key_arn, account=account, region=region, now=now)
    vault = Vault(
        id=new_uuid(),
        account=account,
        region=region,
        name=name,
        arn=vault_arn(partition, region, account, name),
        storage=custody.settings.storage_of(region).name,
        key_arn=key.arn,
        creator_request_id=creator_request_id or new_uuid(),
        created_at=now,
    )
    store.insert_vault(tx, vault)
    store.replace_tags(tx, tags or {}, account=account, region=region, arn=vault.arn)
    body = created_body(vault, keys.key_to_body(tx, custody.root_key, key.arn), tags or {})
    ledger.write(tx, custody, vault, Kind.VAULT_CREATED, body, at=now)
    event.note_change(tx, event.CREATED, vault, reason="it was created", at=now)
    return vault


def get_vault(tx: sa.Connection, account: str, region: str, name: str) -> Vault:
    """Return the vault of that name.

    Raises:
        UnknownVaultError: there is none.
    """
    vault = store.find_vault(tx, account=account, region=region, name=name)
    if vault is None:
        raise UnknownVaultError(f"Backup vault {name} does not exist in account {account}, region {region}")
    return vault


def find_vault_by_arn(tx: sa.Connection, arn: str) -> Vault | None:
    """Return the vault with this ARN, None also for what is no vault's ARN."""
    try:
        parsed = Arn.parse(arn)
    except InvalidArnError:
        return None
    name = parsed.resource.removeprefix("backup-vault:")
    vault = store.find_vault(tx, account=parsed.account, region=parsed.region, name=name)
    return vault if vault is not None and vault.arn == arn else None


def get_vault_or_deny(tx: sa.Connection, account: str, region: str, name: str) -> Vault:
    """Return the vault of that name, as calls do that do not tell a missing one from a forbidden one.

    Raises:
        HiddenVaultError: there is none.
    """
    vault = store.find_vault(tx, account=account, region=region, name=name)
    if vault is None:
        raise HiddenVaultError("Insufficient privileges to perform this action.")
    return vault


def describe_vault(tx: sa.Connection, account: str, region: str, name: str) -> VaultView:
    """Return a vault with the number of its recovery points.

    Raises:
        HiddenVaultError: there is none, or it may not be seen.
    """
    vault = get_vault_or_deny(tx, account=account, region=region, name=name)
    return VaultView(vault, store.numbers_of_points(tx, [vault.id]).get(vault.id, 0))


def list_vaults(tx: sa.Connection, *, account: str, region: str, after: str = "", limit: int) -> list[VaultView]:
    """Return up to `limit` vaults in the order of their names, those after the name `after`."""
    found = store.list_vaults(tx, account=account, region=region, after=after, limit=limit)
    points = store.numbers_of_points(tx, [vault.id for vault in found])
    return [VaultView(vault, points.get(vault.id, 0)) for vault in found]


def delete_vault(tx: sa.Connection, custody: Custody, *, account: str, region: str, name: str, now: datetime) -> None:
    """Delete an empty vault; points hidden in it stay until their deletion delay is over.

    Raises:
        UnknownVaultError: there is none.
        VaultNotEmptyError: it shows recovery points.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    refuse_vault_deletion(store.numbers_of_points(tx, [vault.id]).get(vault.id, 0))
    ledger.write(tx, custody, vault, Kind.VAULT_DELETED, {"deleted_at": now.isoformat()}, at=now)
    store.update_vault(tx, replace(vault, deleted_at=now, policy=None, notifications=None))
    event.note_change(tx, event.DELETED, vault, reason="it was deleted", at=now)
    store.replace_tags(tx, {}, account=account, region=region, arn=vault.arn)
    raise_access_version(tx)


def put_access_policy(
    tx: sa.Connection, custody: Custody, *, account: str, region: str, name: str, policy: str | None, now: datetime
) -> None:
    """Set who may do what with a vault; None takes the policy away.

    Raises:
        UnknownVaultError: there is no such vault.
        InvalidAccessPolicyError: the policy makes no sense, or grants to others what only its own account may do.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    if policy is not None:
        refuse_bad_access_policy(policy, account=account)
    ledger.write(tx, custody, vault, Kind.POLICY_PUT, {"policy": policy}, at=now)
    store.update_vault(tx, replace(vault, policy=policy))
    event.note_change(tx, event.MODIFIED, vault, reason="its access policy was changed", at=now)
    raise_access_version(tx)


def get_access_policy(tx: sa.Connection, *, account: str, region: str, name: str) -> tuple[Vault, str]:
    """Return a vault and its access policy.

    Raises:
        UnknownVaultError: there is no such vault.
        NoPolicyError: it has none.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    if vault.policy is None:
        raise NoPolicyError(f"Backup vault {name} has no access policy")
    return vault, vault.policy


def put_lock(
    tx: sa.Connection,
    custody: Custody,
    *,
    account: str,
    region: str,
    name: str,
    min_retention_days: int | None,
    max_retention_days: int | None,
    changeable_for_days: int | None,
    now: datetime,
) -> Lock:
    """Lock a vault: in governance mode, or with `changeable_for_days` in compliance mode, irrevocable after them.

    Raises:
        UnknownVaultError: there is no such vault.
        VaultLockedError: its present lock is irrevocable.
        InvalidVaultError: a number makes no sense.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    lock = new_lock(
        vault.lock,
        min_retention_days=min_retention_days,
        max_retention_days=max_retention_days,
        changeable_for_days=changeable_for_days,
        now=now,
    )
    ledger.write(tx, custody, vault, Kind.LOCK_PUT, lock_body(lock), at=now)
    locked = replace(vault, lock=lock)
    store.update_vault(tx, locked)
    event.note_change(tx, event.MODIFIED, locked, reason="it was locked", at=now)
    return lock


def remove_lock(tx: sa.Connection, custody: Custody, *, account: str, region: str, name: str, now: datetime) -> None:
    """Take a lock away that is not irrevocable yet; without one nothing happens.

    Raises:
        UnknownVaultError: there is no such vault.
        VaultLockedError: the lock is irrevocable.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    if vault.lock is None:
        return
    refuse_lock_change(vault.lock, now=now)
    ledger.write(tx, custody, vault, Kind.LOCK_REMOVED, {}, at=now)
    unlocked = replace(vault, lock=None)
    store.update_vault(tx, unlocked)
    event.note_change(tx, event.MODIFIED, unlocked, reason="its lock was taken away", at=now)


def put_notifications(
    tx: sa.Connection,
    *,
    account: str,
    region: str,
    name: str,
    notifications: Mapping[str, object] | None,
) -> None:
    """Set which events a vault tells to which topic; None: none.

    Raises:
        UnknownVaultError: there is no such vault.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    store.update_vault(tx, replace(vault, notifications=notifications))


def put_deletion_delay(
    tx: sa.Connection, custody: Custody, *, account: str, region: str, name: str, delay: timedelta, now: datetime
) -> DeletionDelay:
    """Set for how long a vault keeps deleted recovery points, those that are deleted already too.

    A longer delay holds at once, a shorter one when the present one has passed, and never shortens what a point that
    is deleted already was given.

    Raises:
        UnknownVaultError: there is no such vault.
        InvalidVaultError: it is no number of days that may be.
        VaultLockedError: the vault is locked, and the delay would become shorter.
    """
    vault = get_vault(tx, account=account, region=region, name=name)
    changed = vault.deletion_delay.changed(delay, now=now)
    if changed.lowering is not None and vault.is_locked:
        raise VaultLockedError(
            f"Backup vault {name} is locked: it keeps deleted recovery points for {changed.present.days} days, and "
            "that is only made longer"
        )
    ledger.write(tx, custody, vault, Kind.DELETION_DELAY_PUT, delay_body(changed), at=now)
    store.update_vault(tx, replace(vault, deletion_delay=changed))
    event.note_change(tx, event.MODIFIED, vault, reason="its deletion delay was changed", at=now)
    store.keep_hidden_for(tx, vault.id, changed.present)
    return changed


def bring_back_vault(tx: sa.Connection, custody: Custody, vault: Vault, *, now: datetime) -> Vault:
    """Bring a deleted vault back under its name, with its lock and without its access policy, tags and notifications.

    Raises:
        VaultExistsError: another vault has its name now.
    """
    taken = store.find_vault(tx, account=vault.account, region=vault.region, name=vault.name)
    if taken is not None:
        raise VaultExistsError(
            f"Backup vault {vault.name} was deleted, and another one has its name now; delete that one first",
            arn=taken.arn,
            creator_request_id=taken.creator_request_id,
        )
    shown = replace(vault, deleted_at=None)
    ledger.write(tx, custody, vault, Kind.VAULT_BROUGHT_BACK, {}, at=now)
    store.update_vault(tx, shown)
    event.note_change(tx, event.CREATED, shown, reason="it was brought back", at=now)
    raise_access_version(tx)
    return shown


def refuse_bad_access_policy(policy: str, *, account: str) -> None:
    """Refuse an access policy that can't hold for a vault of `account`.

    Raises:
        InvalidAccessPolicyError: its grammar is wrong, an action has a wildcard, or it lets other accounts do more
            than copy into the vault.
    """
    try:
        parse_document(policy, DocumentKind.RESOURCE)
    except InvalidInputError as error:
        raise InvalidAccessPolicyError(f"The specified policy is malformed: {error}") from error
    shape = json.loads(policy)
    statements = shape["Statement"] if isinstance(shape["Statement"], list) else [shape["Statement"]]
    for number, statement in enumerate(statements, start=1):
        actions = _texts(statement.get("Action", statement.get("NotAction")))
        wild = [action for action in actions if "*" in action or "?" in action]
        if wild and statement["Effect"] == "Allow":
            raise InvalidAccessPolicyError(
                f"Statement {number}: {wild[0]} is a wildcard; name each action that the vault allows"
            )
        foreign = [name for name in _principals(statement) if not _is_of(name, account)]
        more = [action for action in actions if action.lower() != _COPY_INTO.lower()]
        if statement["Effect"] == "Allow" and foreign and more and not _is_confined(statement, account):
            raise InvalidAccessPolicyError(
                "The specified policy cannot be added to the vault due to cross-account sharing restrictions. Amend "
                f"the policy or the vault's settings, then retry request. (Statement {number} lets {foreign[0]} do "
                f"{more[0]}; other accounts may only be allowed {_COPY_INTO})"
            )


def created_body(vault: Vault, key: Mapping[str, Any], tags: Mapping[str, str]) -> dict[str, Any]:
    """Return what the first record of a vault says."""
    return {
        "account": vault.account,
        "region": vault.region,
        "name": vault.name,
        "arn": vault.arn,
        "storage": vault.storage,
        "key_arn": vault.key_arn,
        "key": key,
        "creator_request_id": vault.creator_request_id,
        "created_at": vault.created_at.isoformat(),
        "deletion_delay_days": vault.deletion_delay.present.days,
        "tags": dict(tags),
    }


def delay_body(delay: DeletionDelay) -> dict[str, Any]:
    """Return what a record of a deletion delay says."""
    lowering = delay.lowering
    return {
        "days": delay.present.days,
        "lowered_days": None if lowering is None else lowering.delay.days,
        "lowered_at": None if lowering is None else lowering.at.isoformat(),
    }


def lock_body(lock: Lock) -> dict[str, Any]:
    """Return what a record of a lock says."""
    return {
        "min_retention_days": lock.min_retention_days,
        "max_retention_days": lock.max_retention_days,
        "lock_at": None if lock.lock_at is None else lock.lock_at.isoformat(),
    }


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _principals(statement: Mapping[str, Any]) -> list[str]:
    named = statement.get("Principal", statement.get("NotPrincipal", "*"))
    if isinstance(named, str):
        return [named]
    return [name for kind, names in named.items() if kind != "Service" for name in _texts(names)]


def _is_of(principal: str, account: str) -> bool:
    return principal == account or (principal.startswith("arn:") and principal.split(":")[4:5] == [account])


def _is_confined(statement: Mapping[str, Any], account: str) -> bool:
    """Return whether conditions confine a statement for everybody to the vault's own account."""
    for operator, tests in (statement.get("Condition") or {}).items():
        if operator.startswith(("StringEquals", "ArnEquals", "ArnLike", "StringLike")) and not operator.endswith(
            "IfExists"
        ):
            for key, values in tests.items():
                if key.lower() == "aws:principalaccount" and _texts(values) == [account]:
                    return True
                if key.lower() == "aws:principalarn" and all(_is_of(value, account) for value in _texts(values)):
                    return True
    return False
