"""What is done with encryption keys: made, used, rotated, disabled, deleted after a wait.

Keys lie sealed under the root key, every version of them; what they open never leaves this process except as the
answer to Decrypt. Rules: AWS Key Management Service Developer Guide, "Key states", "Rotating keys", "Deleting keys".
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from holdfast.access.model import Caller, DocumentKind, parse_document
from holdfast.access.store import raise_access_version
from holdfast.core.arn import partition_of
from holdfast.core.errors import AlreadyExistsError, InvalidInputError, LimitExceededError, NotFoundError
from holdfast.core.ids import new_uuid
from holdfast.core.seal import KEY_BYTES, RootKey
from holdfast.key import store
from holdfast.key.model import (
    BACKUP_ALIAS,
    LONGEST_WAIT,
    PURPOSE,
    SHORTEST_WAIT,
    IncorrectKeyError,
    InvalidCiphertextError,
    Key,
    KeyNeededError,
    KeyNotFoundError,
    KeyState,
    KeyStateError,
    Manager,
    Material,
    decrypt,
    default_policy,
    encrypt,
    generate_recovery_pair,
    make_chain,
    managed_policy,
    open_chain,
    open_with_recovery,
    print_recovery_key,
    read_header,
    read_recovery_key,
    seal_to_recovery,
    sealing_context,
)
from holdfast.key.policy import refuse_lockout

__all__ = [
    "generate_recovery_pair",
    "open_chain",
    "open_with_recovery",
    "print_recovery_key",
    "read_recovery_key",
    "seal_to_recovery",
]

_ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}\Z")
_LONGEST_PLAINTEXT = 4096
_LONGEST_POLICY = 32_768
_SHORTEST_ROTATION, _LONGEST_ROTATION = 90, 2560
_NAMED_AT_MOST = 20


class AliasExistsError(AlreadyExistsError):
    """The alias names a key already."""


class InvalidAliasError(InvalidInputError):
    """This cannot be an alias."""


class AliasNotFoundError(NotFoundError):
    """There is no such alias."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh key for somebody's data, open and wrapped."""

    plaintext: bytes = field(repr=False)
    ciphertext: bytes


def create_key(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    region: str,
    *,
    description: str = "",
    policy: str | None = None,
    caller: Caller | None = None,
    bypass_lockout_check: bool = False,
    now: datetime,
) -> Key:
    """Make a customer managed key with fresh material.

    Raises:
        MalformedPolicyError: the policy is none, or would lock its maker out and `bypass_lockout_check` is not set.
    """
    partition = partition_of(region)
    if policy is not None:
        _check_policy(policy, account, caller, bypass_lockout_check=bypass_lockout_check)
    return _make(
        tx,
        root_key,
        account,
        region,
        description=description,
        manager=Manager.CUSTOMER,
        policy=policy or default_policy(account, partition),
        now=now,
    )


def _make(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    region: str,
    *,
    description: str,
    manager: Manager,
    policy: str,
    now: datetime,
) -> Key:
    key_id = new_uuid()
    key = Key(
        id=key_id,
        account=account,
        region=region,
        arn=f"arn:{partition_of(region)}:kms:{region}:{account}:key/{key_id}",
        description=description,
        manager=manager,
        state=KeyState.ENABLED,
        policy=policy,
        rotation_enabled=manager is Manager.AWS,
        rotation_days=365,
        created_at=now,
        deletion_at=None,
    )
    store.insert_key(tx, key)
    _add_version(tx, root_key, key, 1, now)
    return key


def _add_version(tx: sa.Connection, root_key: RootKey, key: Key, version: int, now: datetime) -> None:
    sealed = root_key.seal(PURPOSE, secrets.token_bytes(KEY_BYTES), context=sealing_context(key.arn, version))
    store.add_material(tx, key.id, version, sealed, now)


def backup_key(tx: sa.Connection, root_key: RootKey, account: str, region: str, *, now: datetime) -> Key:
    """Return the key `aws/backup` that Holdfast manages for an account and region, made when first asked for."""
    existing = store.find_alias(tx, account, region, BACKUP_ALIAS)
    if existing is None:
        partition = partition_of(region)
        made = _make(
            tx,
            root_key,
            account,
            region,
            description="Default key that protects my Backup data when no other key is defined",
            manager=Manager.AWS,
            policy=managed_policy(account, partition, f"backup.{region}.amazonaws.com"),
            now=now,
        )
        if store.add_alias(tx, account, region, BACKUP_ALIAS, made.id, now):
            return made
        store.delete_key(tx, made.id)  # another transaction was first
        existing = store.find_alias(tx, account, region, BACKUP_ALIAS)
    return get_key(tx, account, region, existing or BACKUP_ALIAS)


def get_key(tx: sa.Connection, account: str, region: str, name: str) -> Key:
    """Return the key that `name` means in an account and region: an id, a key ARN, an alias, or an alias ARN.

    Raises:
        KeyNotFoundError: there is none.
    """
    key: Key | None
    missing = f"Key {name!r} does not exist"
    if name.startswith("arn:"):
        service, _, rest = name.split(":", 2)[2].partition(":")
        named_region, _, rest = rest.partition(":")
        named_account, _, resource = rest.partition(":")
        if service != "kms":
            raise KeyNotFoundError(f"{missing}: this is not the ARN of a key")
        if named_region != region:
            raise KeyNotFoundError(f"{missing} in {region}: it names {named_region}")
        if resource.startswith("key/"):
            key = store.find_key_by_arn(tx, name)
        else:
            key_id = store.find_alias(tx, named_account, named_region, resource)
            key = None if key_id is None else store.find_key(tx, named_account, named_region, key_id)
    else:
        key_id = store.find_alias(tx, account, region, name) if name.startswith("alias/") else name
        if key_id is None and name == BACKUP_ALIAS:
            raise KeyNotFoundError(f"{missing} yet; it is made with the first vault that names no other key")
        key = None if key_id is None else store.find_key(tx, account, region, key_id)
    if key is None:
        raise KeyNotFoundError(missing)
    return key


def get_key_by_arn(tx: sa.Connection, key_arn: str) -> Key:
    """Return the key with this ARN.

    Raises:
        KeyNotFoundError: there is none.
    """
    key = store.find_key_by_arn(tx, key_arn)
    if key is None:
        raise KeyNotFoundError(f"Key {key_arn!r} does not exist")
    return key


def _open(tx: sa.Connection, root_key: RootKey, key: Key, version: int | None = None) -> Material:
    sealed = store.find_material(tx, key.id, version)
    if sealed is None:
        raise InvalidCiphertextError(f"version {version} of {key.arn} does not exist")
    opened = root_key.unseal(PURPOSE, sealed.sealed, context=sealing_context(key.arn, sealed.version))
    return Material(sealed.version, opened)


def wrap(tx: sa.Connection, root_key: RootKey, key_arn: str, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """Return `plaintext` encrypted by the newest version of a key, bound to `context`.

    Raises:
        KeyNotFoundError: there is no such key.
        KeyDisabledError: it is disabled.
        KeyStateError: it waits for deletion.
    """
    key = get_key_by_arn(tx, key_arn)
    key.require_usable()
    return encrypt(key.id, _open(tx, root_key, key), plaintext, context)


def unwrap(tx: sa.Connection, root_key: RootKey, key_arn: str, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """Return what `wrap` was given.

    Raises:
        KeyNotFoundError: there is no such key.
        KeyDisabledError: it is disabled.
        KeyStateError: it waits for deletion.
        InvalidCiphertextError: it was wrapped with another key or context, or was changed.
    """
    key = get_key_by_arn(tx, key_arn)
    return _decrypt(tx, root_key, key, wrapped, context)


def unwrap_whatever_state(
    tx: sa.Connection, root_key: RootKey, key_arn: str, wrapped: bytes, context: Mapping[str, str]
) -> bytes:
    """Return what `wrap` was given, also where the key is disabled: to lay it under another root key, for nothing else.

    Raises:
        KeyNotFoundError: there is no such key.
        InvalidCiphertextError: it was wrapped with another key or context, or was changed.
    """
    key = get_key_by_arn(tx, key_arn)
    return decrypt(key.id, _open(tx, root_key, key, read_header(wrapped)[1]), wrapped, context)


def _decrypt(tx: sa.Connection, root_key: RootKey, key: Key, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
    key.require_usable()
    named, version = read_header(ciphertext)
    if named != key.id:
        raise IncorrectKeyError(f"the ciphertext was made by key {named}, not by {key.arn}")
    return decrypt(key.id, _open(tx, root_key, key, version), ciphertext, context)


def exported_chain(tx: sa.Connection, root_key: RootKey, key_arn: str) -> bytes:
    """Return a key's versions, sealed under the root key, as a file to lay beside what the key protects.

    With it, `open_chain`, the root key and the wrapped value need no database. A wrap by a newer version needs the
    chain exported after that version was made.
    """
    key = get_key_by_arn(tx, key_arn)
    sealed = {each.version: each.sealed for each in store.materials(tx, key.id)}
    return make_chain(root_key, key.id, key.arn, sealed)


def newest_version(tx: sa.Connection, key_arn: str) -> int:
    """Return the number of a key's newest version, which tells whether an exported chain is complete."""
    material = store.find_material(tx, get_key_by_arn(tx, key_arn).id)
    return 0 if material is None else material.version


def encrypt_for(tx: sa.Connection, root_key: RootKey, key: Key, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """Return a small plaintext encrypted by a key.

    Raises:
        InvalidInputError: it has more than 4,096 bytes; encrypt those with a data key.
    """
    key.require_usable()
    if not 1 <= len(plaintext) <= _LONGEST_PLAINTEXT:
        raise InvalidInputError(f"Encrypt takes 1 to {_LONGEST_PLAINTEXT} bytes; use GenerateDataKey for more")
    return encrypt(key.id, _open(tx, root_key, key), plaintext, context)


def decrypt_for(
    tx: sa.Connection, root_key: RootKey, ciphertext: bytes, context: Mapping[str, str], *, expected: Key | None
) -> tuple[Key, bytes]:
    """Return the key that made a ciphertext, and the plaintext.

    Raises:
        InvalidCiphertextError: no key here made it, or the context is another.
        IncorrectKeyError: another key than `expected` made it.
    """
    key = key_of_ciphertext(tx, ciphertext)
    if expected is not None and expected.id != key.id:
        raise IncorrectKeyError(f"the ciphertext was not made by {expected.arn}")
    return key, _decrypt(tx, root_key, key, ciphertext, context)


def key_of_ciphertext(tx: sa.Connection, ciphertext: bytes) -> Key:
    """Return the key that a ciphertext names.

    Raises:
        InvalidCiphertextError: no key here made it.
    """
    key = store.find_key_by_id(tx, read_header(ciphertext)[0])
    if key is None:
        raise InvalidCiphertextError("the key that made this ciphertext does not exist")
    return key


def generate_data_key(tx: sa.Connection, root_key: RootKey, key: Key, size: int, context: Mapping[str, str]) -> DataKey:
    """Return fresh random bytes, open and encrypted by a key."""
    key.require_usable()
    plaintext = secrets.token_bytes(size)
    return DataKey(plaintext, encrypt(key.id, _open(tx, root_key, key), plaintext, context))


def _check_policy(policy: str, account: str, caller: Caller | None, *, bypass_lockout_check: bool) -> None:
    if len(policy) > _LONGEST_POLICY:
        raise LimitExceededError(f"a key policy has {_LONGEST_POLICY} characters at most")
    document = parse_document(policy, DocumentKind.RESOURCE)
    if not bypass_lockout_check and caller is not None:
        refuse_lockout(document, account, caller)


def put_policy(
    tx: sa.Connection, key: Key, policy: str, *, caller: Caller | None, bypass_lockout_check: bool = False
) -> None:
    """Replace a key's policy; it binds the next request.

    Raises:
        MalformedPolicyError: it is no policy, or would lock the caller out and `bypass_lockout_check` is not set.
    """
    key.require_changeable()
    _check_policy(policy, key.account, caller, bypass_lockout_check=bypass_lockout_check)
    store.update_key(tx, replace(key, policy=policy))
    raise_access_version(tx)


def describe_as(tx: sa.Connection, key: Key, description: str) -> None:
    """Replace a key's description."""
    key.require_changeable()
    store.update_key(tx, replace(key, description=description))


def set_enabled(tx: sa.Connection, key: Key, *, enabled: bool) -> None:
    """Enable or disable a key; disabling stops every new use at once."""
    key.require_changeable()
    store.update_key(tx, replace(key, state=KeyState.ENABLED if enabled else KeyState.DISABLED))
    raise_access_version(tx)


def set_rotation(tx: sa.Connection, key: Key, *, enabled: bool, days: int | None = None) -> None:
    """Let a key be rotated by itself every so many days, or not any more."""
    key.require_changeable()
    if days is not None and not _SHORTEST_ROTATION <= days <= _LONGEST_ROTATION:
        raise InvalidInputError(f"a rotation period has {_SHORTEST_ROTATION} to {_LONGEST_ROTATION} days")
    store.update_key(tx, replace(key, rotation_enabled=enabled, rotation_days=days or key.rotation_days))


def rotate(tx: sa.Connection, root_key: RootKey, key: Key, *, now: datetime) -> int:
    """Give a key a new version, which encrypts from now on; older ones still open what they made. Return its number."""
    key.require_usable()
    newest = store.find_material(tx, key.id)
    version = 1 if newest is None else newest.version + 1
    _add_version(tx, root_key, key, version, now)
    return version


def rotate_due(tx: sa.Connection, root_key: RootKey, *, now: datetime) -> list[Key]:
    """Rotate every key whose period has passed; return them."""
    due = []
    for key in store.rotating_keys(tx):
        newest = store.find_material(tx, key.id)
        if newest is not None and newest.created_at + timedelta(days=key.rotation_days) <= now:
            rotate(tx, root_key, key, now=now)
            due.append(key)
    return due


def schedule_deletion(tx: sa.Connection, key: Key, *, days: int = LONGEST_WAIT, now: datetime) -> Key:
    """Let a key be deleted after so many days; until then it cannot be used, and the deletion can be cancelled.

    Raises:
        KeyNeededError: locked recovery points can be opened with this key only.
        KeyStateError: it is managed by Holdfast, or waits for deletion already.
    """
    if not SHORTEST_WAIT <= days <= LONGEST_WAIT:
        raise InvalidInputError(f"a key waits {SHORTEST_WAIT} to {LONGEST_WAIT} days for its deletion")
    key.require_changeable()
    _refuse_if_needed(tx, key)
    waiting = replace(key, state=KeyState.PENDING_DELETION, deletion_at=now + timedelta(days=days))
    store.update_key(tx, waiting)
    raise_access_version(tx)
    return waiting


def _refuse_if_needed(tx: sa.Connection, key: Key) -> None:
    locked = store.locked_points(tx, key.arn, limit=_NAMED_AT_MOST + 1)
    if locked:
        more = ", and more" if len(locked) > _NAMED_AT_MOST else ""
        named = ", ".join(locked[:_NAMED_AT_MOST])
        raise KeyNeededError(
            f"{key.arn} cannot be deleted: recovery points that a lock or a hold keeps open with it only: {named}{more}"
        )


def cancel_deletion(tx: sa.Connection, key: Key) -> Key:
    """Keep a key that waits for deletion; it is disabled then.

    Raises:
        KeyStateError: it does not wait for deletion.
    """
    if key.state is not KeyState.PENDING_DELETION:
        raise KeyStateError(f"{key.arn} is not pending deletion")
    kept = replace(key, state=KeyState.DISABLED, deletion_at=None)
    store.update_key(tx, kept)
    raise_access_version(tx)
    return kept


def due_for_deletion(tx: sa.Connection, *, now: datetime) -> tuple[list[Key], list[Key]]:
    """Return the keys whose wait is over, and apart from them those kept because locked points need them."""
    due: list[Key] = []
    kept: list[Key] = []
    for key in store.keys_due_for_deletion(tx, now):
        (kept if store.locked_points(tx, key.arn, limit=1) else due).append(key)
    return due, kept


def delete_key(tx: sa.Connection, key: Key) -> None:
    """Delete a key whose wait is over, for good."""
    store.delete_key(tx, key.id)
    raise_access_version(tx)


def _check_alias(name: str) -> None:
    if _ALIAS.match(name) is None:
        raise InvalidAliasError("an alias is alias/ and up to 250 letters, digits, / _ -")
    if name.startswith("alias/aws/"):
        raise InvalidAliasError("aliases that begin with alias/aws/ are reserved")


def create_alias(tx: sa.Connection, key: Key, name: str, *, now: datetime) -> None:
    """Give a key a name.

    Raises:
        AliasExistsError: the name is taken.
        InvalidAliasError: it is none, or reserved.
    """
    _check_alias(name)
    key.require_changeable()
    if not store.add_alias(tx, key.account, key.region, name, key.id, now):
        raise AliasExistsError(f"{name} exists already in {key.account}, {key.region}")
    raise_access_version(tx)


def update_alias(tx: sa.Connection, key: Key, name: str) -> None:
    """Let an alias name another key.

    Raises:
        AliasNotFoundError: there is no such alias.
    """
    _check_alias(name)
    key.require_changeable()
    if not store.move_alias(tx, key.account, key.region, name, key.id):
        raise AliasNotFoundError(f"Alias {name!r} does not exist")
    raise_access_version(tx)


def delete_alias(tx: sa.Connection, account: str, region: str, name: str) -> None:
    """Take a name away.

    Raises:
        AliasNotFoundError: there is no such alias.
    """
    _check_alias(name)
    if not store.delete_alias(tx, account, region, name):
        raise AliasNotFoundError(f"Alias {name!r} does not exist")
    raise_access_version(tx)


def change_root_key(tx: sa.Connection, old: RootKey, new: RootKey) -> int:
    """Seal every key's material under another root key; return how many versions there were."""
    boxes = []
    for key_id, arn, material in store.all_materials(tx):
        context = sealing_context(arn, material.version)
        opened = old.unseal(PURPOSE, material.sealed, context=context)
        sealed = new.seal(PURPOSE, opened, context=context)
        boxes.append({"key_id": key_id, "version": material.version, "sealed": sealed})
    store.reseal(tx, boxes)
    return len(boxes)
