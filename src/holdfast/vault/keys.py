"""What a vault asks of its KMS key: that it is one, what to write down of it, and how to have it back from storage."""

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.arn import Arn
from holdfast.core.errors import InvalidInputError
from holdfast.core.seal import KEY_BYTES, RootKey
from holdfast.key import store
from holdfast.key.model import BACKUP_ALIAS, PURPOSE, Key, KeyNotFoundError, KeyState, Manager, sealing_context
from holdfast.key.service import backup_key, delete_key, exported_chain, get_key_by_arn
from holdfast.vault import ledger
from holdfast.vault.custody import Custody
from holdfast.vault.records import Kind
from holdfast.vault.store import vaults_of_key

_DROP_MATERIAL = text("DELETE FROM kms_material WHERE key_id = :id AND version = :version")


class InvalidKeyError(InvalidInputError):
    """What was given as a vault's key is no KMS key that exists."""


def key_for_vault(
    tx: sa.Connection, root_key: RootKey, key_arn: str | None, *, account: str, region: str, now: datetime
) -> Key:
    """Return the key for a new vault: the one named, or the account's managed one, made at its first use.

    Raises:
        InvalidKeyError: what was named is not the ARN of a key that exists.
        KeyDisabledError, KeyStateError: it can't be used now.
    """
    if key_arn is None:
        return backup_key(tx, root_key, account, region, now=now)
    try:
        arn = Arn.parse(key_arn)
    except InvalidInputError as error:
        raise InvalidKeyError(f"EncryptionKeyArn must be the ARN of a KMS key: {error}") from error
    if arn.service != "kms" or not arn.resource.startswith("key/"):
        raise InvalidKeyError(f"EncryptionKeyArn must be the ARN of a KMS key, not of an alias: {key_arn}")
    if arn.region != region:
        raise InvalidKeyError(f"EncryptionKeyArn names a key of {arn.region}; a vault in {region} needs one of its own")
    try:
        key = get_key_by_arn(tx, key_arn)
    except KeyNotFoundError as error:
        raise InvalidKeyError(f"EncryptionKeyArn: {error}; create it first") from error
    key.require_usable()
    return key


def key_to_body(tx: sa.Connection, root_key: RootKey, key_arn: str) -> dict[str, Any]:
    """Return a key as records and key files hold it: sealed under the root key, with what else is known of it."""
    key = get_key_by_arn(tx, key_arn)
    return {
        "arn": key.arn,
        "id": key.id,
        "account": key.account,
        "region": key.region,
        "description": key.description,
        "manager": str(key.manager),
        "policy": key.policy,
        "rotation_enabled": key.rotation_enabled,
        "rotation_days": key.rotation_days,
        "created_at": key.created_at.isoformat(),
        "chain": exported_chain(tx, root_key, key_arn).decode(),
    }


def bring_back_key(tx: sa.Connection, body: Mapping[str, Any]) -> bool:
    """Insert the key that a record or key file holds, or the versions of it that are lacking; return whether any was.

    Its material stays sealed as it is; whether the root key opens it shows when it is used.
    """
    changed = False
    created_at = datetime.fromisoformat(body["created_at"])
    if store.find_key_by_arn(tx, body["arn"]) is None:
        changed = True
        manager = Manager(body["manager"])
        key = Key(
            id=body["id"],
            account=body["account"],
            region=body["region"],
            arn=body["arn"],
            description=body["description"],
            manager=manager,
            state=KeyState.ENABLED,
            policy=body["policy"],
            rotation_enabled=body["rotation_enabled"],
            rotation_days=body["rotation_days"],
            created_at=created_at,
            deletion_at=None,
        )
        store.insert_key(tx, key)
        if manager is Manager.AWS:
            store.add_alias(tx, key.account, key.region, BACKUP_ALIAS, key.id, created_at)
    present = {material.version for material in store.materials(tx, body["id"])}
    for version in orjson.loads(body["chain"])["versions"]:
        if int(version["version"]) not in present:
            changed = True
            sealed = base64.b64decode(version["sealed"])
            store.add_material(tx, body["id"], int(version["version"]), sealed, created_at)
    return changed


def delete_for_good(tx: sa.Connection, custody: Custody, key: Key, *, now: datetime) -> None:
    """Delete a key whose waiting time is over, after every vault that it is or was of has it in writing.

    Storage holds the key too, sealed, in records that nobody can take back: without that a rebuild would bring it back.

    Raises:
        HoldfastError: a vault's storage can't be written.
    """
    for vault in vaults_of_key(tx, key.arn):
        ledger.write(tx, custody, vault, Kind.KEY_DELETED, {"key": key.arn}, at=now)
    delete_key(tx, key)


def give_new_material(tx: sa.Connection, root_key: RootKey, key_arn: str, *, now: datetime) -> None:
    """Let a key whose material no root key opens any more go on under a new one: with fresh material alone.

    What the lost material encrypted is lost; the caller wraps anew what it has by other means.
    """
    key = get_key_by_arn(tx, key_arn)
    versions = [material.version for material in store.materials(tx, key.id)]
    for version in versions:
        tx.execute(_DROP_MATERIAL, {"id": key.id, "version": version})
    fresh = max(versions, default=0) + 1
    material = secrets.token_bytes(KEY_BYTES)
    sealed = root_key.seal(PURPOSE, material, context=sealing_context(key.arn, fresh))
    store.add_material(tx, key.id, fresh, sealed, now)
