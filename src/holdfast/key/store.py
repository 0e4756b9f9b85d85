"""The SQL of encryption keys: keys, their material by version, aliases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import instant, instant_or_none, stamp, stamp_or_none
from holdfast.key.model import Key, KeyState, Manager

_COLUMNS = (
    "id, account, region, arn, description, manager, state, policy, rotation_enabled, rotation_days, created_at, "
    "deletion_at"
)
_INSERT = text(f"""
    INSERT INTO kms_key ({_COLUMNS})
    VALUES (:id, :account, :region, :arn, :description, :manager, :state, :policy, :rotation_enabled, :rotation_days,
            :created_at, :deletion_at)""")
_UPDATE = text("""
    UPDATE kms_key SET description = :description, state = :state, policy = :policy,
                       rotation_enabled = :rotation_enabled, rotation_days = :rotation_days, deletion_at = :deletion_at
     WHERE id = :id""")
_DELETE = text("DELETE FROM kms_key WHERE id = :id")
_BY_ID = text(f"SELECT {_COLUMNS} FROM kms_key WHERE account = :account AND region = :region AND id = :id")
_BY_ID_ALONE = text(f"SELECT {_COLUMNS} FROM kms_key WHERE id = :id")
_BY_ARN = text(f"SELECT {_COLUMNS} FROM kms_key WHERE arn = :arn")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM kms_key
     WHERE account = :account AND region = :region AND id > :after ORDER BY id LIMIT :limit""")
_DUE_DELETION = text(f"SELECT {_COLUMNS} FROM kms_key WHERE state = 'PendingDeletion' AND deletion_at <= :now")
_ROTATING = text(f"SELECT {_COLUMNS} FROM kms_key WHERE rotation_enabled AND state = 'Enabled'")

_ADD_MATERIAL = text(
    "INSERT INTO kms_material (key_id, version, sealed, created_at) VALUES (:key_id, :version, :sealed, :created_at)"
)
_MATERIALS = text("SELECT version, sealed, created_at FROM kms_material WHERE key_id = :key_id ORDER BY version")
_MATERIAL = text("SELECT version, sealed, created_at FROM kms_material WHERE key_id = :key_id AND version = :version")
_NEWEST = text("""
    SELECT version, sealed, created_at FROM kms_material WHERE key_id = :key_id ORDER BY version DESC LIMIT 1""")
_DELETE_MATERIAL = text("DELETE FROM kms_material WHERE key_id = :key_id")
_ALL_MATERIAL = text("""
    SELECT m.key_id, m.version, m.sealed, k.arn FROM kms_material m JOIN kms_key k ON k.id = m.key_id""")
_RESEAL = text("UPDATE kms_material SET sealed = :sealed WHERE key_id = :key_id AND version = :version")

_ADD_ALIAS = text("""
    INSERT INTO kms_alias (account, region, name, key_id, created_at)
    VALUES (:account, :region, :name, :key_id, :created_at) ON CONFLICT DO NOTHING""")
_MOVE_ALIAS = text(
    "UPDATE kms_alias SET key_id = :key_id WHERE account = :account AND region = :region AND name = :name"
)
_DELETE_ALIAS = text("DELETE FROM kms_alias WHERE account = :account AND region = :region AND name = :name")
_DELETE_GRANTS = text("DELETE FROM kms_grant WHERE key_id = :key_id")
_DELETE_ALIASES = text("DELETE FROM kms_alias WHERE key_id = :key_id")
_ALIAS = text("SELECT key_id FROM kms_alias WHERE account = :account AND region = :region AND name = :name")
_ALIASES = text("""
    SELECT name, key_id, created_at FROM kms_alias
     WHERE account = :account AND region = :region AND name > :after AND (:key_id = '' OR key_id = :key_id)
     ORDER BY name LIMIT :limit""")

# Recovery points that this key opens and that nobody may delete: a vault lock keeps them, or a legal hold.
_KEPT = """(v.locked OR EXISTS (SELECT 1 FROM legal_hold_point h JOIN legal_hold l ON l.id = h.hold_id
                                WHERE h.point_id = p.id AND l.status = 'ACTIVE'))"""
_LOCKED_POINTS = text(f"""
    SELECT p.arn FROM recovery_point p JOIN vault v ON v.id = p.vault_id
     WHERE p.key_arn = :key_arn AND p.deleted_at IS NULL AND {_KEPT}
     ORDER BY p.created_at LIMIT :limit""")
_POINTS_OF = text(f"""
    SELECT p.id, p.arn, p.account, p.vault_name, p.resource_arn, p.created_at, {_KEPT} AS is_kept
      FROM recovery_point p JOIN vault v ON v.id = p.vault_id
     WHERE p.key_arn = :key_arn AND p.deleted_at IS NULL AND (p.created_at, p.id) > (:at, :id)
     ORDER BY p.created_at, p.id LIMIT :limit""")
_POINTS = text("SELECT count(*) FROM recovery_point WHERE key_arn = :key_arn AND deleted_at IS NULL")


@dataclass(frozen=True, slots=True)
class SealedMaterial:
    """One version of a key, as it lies in the database."""

    version: int
    sealed: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Alias:
    """A name of a key within an account and region."""

    name: str
    key_id: str
    created_at: datetime


def _key(row: sa.Row[Any]) -> Key:
    return Key(
        id=row.id,
        account=row.account,
        region=row.region,
        arn=row.arn,
        description=row.description,
        manager=Manager(row.manager),
        state=KeyState(row.state),
        policy=row.policy,
        rotation_enabled=bool(row.rotation_enabled),
        rotation_days=row.rotation_days,
        created_at=instant(row.created_at),
        deletion_at=instant_or_none(row.deletion_at),
    )


def _columns(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "account": key.account,
        "region": key.region,
        "arn": key.arn,
        "description": key.description,
        "manager": key.manager.value,
        "state": key.state.value,
        "policy": key.policy,
        "rotation_enabled": key.rotation_enabled,
        "rotation_days": key.rotation_days,
        "created_at": stamp(key.created_at),
        "deletion_at": stamp_or_none(key.deletion_at),
    }


def insert_key(tx: sa.Connection, key: Key) -> None:
    """Write a new key."""
    tx.execute(_INSERT, _columns(key))


def update_key(tx: sa.Connection, key: Key) -> None:
    """Write what may change of a key."""
    tx.execute(_UPDATE, _columns(key))


def delete_key(tx: sa.Connection, key_id: str) -> None:
    """Remove a key with its material, aliases and grants, for good."""
    tx.execute(_DELETE_ALIASES, {"key_id": key_id})
    tx.execute(_DELETE_GRANTS, {"key_id": key_id})
    tx.execute(_DELETE_MATERIAL, {"key_id": key_id})
    tx.execute(_DELETE, {"id": key_id})


def find_key(tx: sa.Connection, account: str, region: str, key_id: str) -> Key | None:
    """Return the key with this id in this account and region."""
    row = tx.execute(_BY_ID, {"account": account, "region": region, "id": key_id}).one_or_none()
    return None if row is None else _key(row)


def find_key_by_id(tx: sa.Connection, key_id: str) -> Key | None:
    """Return the key with this id, wherever it is."""
    row = tx.execute(_BY_ID_ALONE, {"id": key_id}).one_or_none()
    return None if row is None else _key(row)


def find_key_by_arn(tx: sa.Connection, arn: str) -> Key | None:
    """Return the key with this ARN."""
    row = tx.execute(_BY_ARN, {"arn": arn}).one_or_none()
    return None if row is None else _key(row)


def list_keys(tx: sa.Connection, account: str, region: str, *, after: str, limit: int) -> list[Key]:
    """Return the keys of an account and region whose ids come after `after`."""
    rows = tx.execute(_LIST, {"account": account, "region": region, "after": after, "limit": limit})
    return [_key(row) for row in rows]


def keys_due_for_deletion(tx: sa.Connection, now: datetime) -> list[Key]:
    """Return the keys whose waiting time has passed."""
    return [_key(row) for row in tx.execute(_DUE_DELETION, {"now": stamp(now)})]


def rotating_keys(tx: sa.Connection) -> list[Key]:
    """Return the keys that are rotated by themselves."""
    return [_key(row) for row in tx.execute(_ROTATING)]


def add_material(tx: sa.Connection, key_id: str, version: int, sealed: bytes, now: datetime) -> None:
    """Write a new version of a key's material."""
    tx.execute(_ADD_MATERIAL, {"key_id": key_id, "version": version, "sealed": sealed, "created_at": stamp(now)})


def materials(tx: sa.Connection, key_id: str) -> list[SealedMaterial]:
    """Return every version of a key's material, the oldest first."""
    rows = tx.execute(_MATERIALS, {"key_id": key_id})
    return [SealedMaterial(row.version, bytes(row.sealed), instant(row.created_at)) for row in rows]


def find_material(tx: sa.Connection, key_id: str, version: int | None = None) -> SealedMaterial | None:
    """Return one version of a key's material, the newest without a number."""
    row = (
        tx.execute(_NEWEST, {"key_id": key_id})
        if version is None
        else tx.execute(_MATERIAL, {"key_id": key_id, "version": version})
    ).one_or_none()
    return None if row is None else SealedMaterial(row.version, bytes(row.sealed), instant(row.created_at))


def all_materials(tx: sa.Connection) -> list[tuple[str, str, SealedMaterial]]:
    """Return every sealed material here with the id and ARN of its key."""
    return [
        (row.key_id, row.arn, SealedMaterial(row.version, bytes(row.sealed), instant(0)))
        for row in tx.execute(_ALL_MATERIAL)
    ]


def reseal(tx: sa.Connection, boxes: Sequence[Mapping[str, Any]]) -> None:
    """Replace sealed materials: each has `key_id`, `version`, `sealed`."""
    if boxes:
        tx.execute(_RESEAL, list(boxes))


def add_alias(tx: sa.Connection, account: str, region: str, name: str, key_id: str, now: datetime) -> bool:
    """Write an alias; return False when the name is taken."""
    where = {"account": account, "region": region, "name": name, "key_id": key_id, "created_at": stamp(now)}
    return bool(tx.execute(_ADD_ALIAS, where).rowcount)


def move_alias(tx: sa.Connection, account: str, region: str, name: str, key_id: str) -> bool:
    """Point an alias to another key; return False when there is none."""
    where = {"account": account, "region": region, "name": name, "key_id": key_id}
    return bool(tx.execute(_MOVE_ALIAS, where).rowcount)


def delete_alias(tx: sa.Connection, account: str, region: str, name: str) -> bool:
    """Remove an alias; return False when there was none."""
    return bool(tx.execute(_DELETE_ALIAS, {"account": account, "region": region, "name": name}).rowcount)


def find_alias(tx: sa.Connection, account: str, region: str, name: str) -> str | None:
    """Return the id of the key that an alias names."""
    row = tx.execute(_ALIAS, {"account": account, "region": region, "name": name}).one_or_none()
    return None if row is None else str(row.key_id)


def list_aliases(
    tx: sa.Connection, account: str, region: str, *, key_id: str = "", after: str = "", limit: int = 1000
) -> list[Alias]:
    """Return the aliases of an account and region, of one key if `key_id` is given."""
    where = {"account": account, "region": region, "key_id": key_id, "after": after, "limit": limit}
    return [Alias(row.name, row.key_id, instant(row.created_at)) for row in tx.execute(_ALIASES, where)]


def locked_points(tx: sa.Connection, key_arn: str, *, limit: int) -> list[str]:
    """Return recovery points that only this key opens and that a lock or a hold keeps."""
    return [row.arn for row in tx.execute(_LOCKED_POINTS, {"key_arn": key_arn, "limit": limit})]


@dataclass(frozen=True, slots=True)
class PointOfKey:
    """A recovery point that only one key opens."""

    id: str
    arn: str
    account: str
    vault_name: str
    resource_arn: str
    created_at: datetime
    is_kept: bool
    """Whether a vault lock or a legal hold keeps it."""


def points_of(tx: sa.Connection, key_arn: str, *, after: tuple[datetime, str] | None, limit: int) -> list[PointOfKey]:
    """Return recovery points that only this key opens, the oldest first, those after an instant and id."""
    at, point_id = after or (instant(0), "")
    where = {"key_arn": key_arn, "at": stamp(at), "id": point_id, "limit": limit}
    return [
        PointOfKey(
            row.id,
            row.arn,
            row.account,
            row.vault_name,
            row.resource_arn,
            instant(row.created_at),
            bool(row.is_kept),
        )
        for row in tx.execute(_POINTS_OF, where)
    ]


def count_points(tx: sa.Connection, key_arn: str) -> int:
    """Return how many recovery points only this key opens."""
    return int(tx.execute(_POINTS, {"key_arn": key_arn}).scalar_one())
