"""Vaults and their repositories in the control database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.tag import clear_tags, put_tags
from holdfast.database.values import FOREVER, from_json, instant, instant_or_none, stamp, stamp_or_none, to_json
from holdfast.vault.model import DeletionDelay, Lock, Lowering, Vault
from holdfast.vault.records import START, Head

_UNUSABLE_KEY = text("""
    SELECT r.key_arn FROM repository r LEFT JOIN kms_key k ON k.arn = r.key_arn
     WHERE r.id IN :ids AND (k.state IS NULL OR k.state <> 'Enabled') LIMIT 1""").bindparams(
    sa.bindparam("ids", expanding=True)
)


@dataclass(frozen=True, slots=True)
class RepositoryRow:
    """One restic repository of a vault: of one source account, in one generation, warm or cold."""

    id: str
    vault_id: str
    source_account: str
    generation: int
    storage: str
    path: str
    """From ids only, relative to the storage; it never changes."""
    wrapped_password: bytes
    key_arn: str
    is_cold: bool
    """Whether it takes what goes to cold storage; its password is that of the warm one."""
    ready: bool
    """Whether the repository exists in storage and its key lies beside it."""
    created_at: datetime


_VAULT_COLUMNS = (
    "id, account, region, name, arn, storage, key_arn, creator_request_id, policy, min_retention_days, "
    "max_retention_days, locked, lock_at, deletion_delay_days, lowered_delay_days, lowered_at, notifications, "
    "created_at, deleted_at"
)
_INSERT = text(
    f"INSERT INTO vault ({_VAULT_COLUMNS}, record_sequence, record_hash) VALUES (:id, :account, :region, :name, :arn, "
    ":storage, :key_arn, :creator_request_id, :policy, :min_retention_days, :max_retention_days, :locked, :lock_at, "
    ":deletion_delay_days, :lowered_delay_days, :lowered_at, :notifications, :created_at, :deleted_at, :sequence, "
    ":digest)"
)
_BY_NAME = text(
    f"SELECT {_VAULT_COLUMNS} FROM vault "
    f"WHERE account = :account AND region = :region AND name = :name AND deleted_at = {FOREVER}"
)
_BY_ID = text(f"SELECT {_VAULT_COLUMNS} FROM vault WHERE id = :id")
_LIST = text(
    f"SELECT {_VAULT_COLUMNS} FROM vault WHERE account = :account AND region = :region AND deleted_at = {FOREVER} "
    "AND name > :after ORDER BY name LIMIT :limit"
)
_EVERY = text(f"SELECT {_VAULT_COLUMNS} FROM vault ORDER BY id")
_OF_KEY = text(f"""
    SELECT {_VAULT_COLUMNS} FROM vault
     WHERE key_arn = :key_arn OR id IN (SELECT vault_id FROM repository WHERE key_arn = :key_arn) ORDER BY id""")
_NUMBER = text(f"SELECT count(*) FROM vault WHERE account = :account AND region = :region AND deleted_at = {FOREVER}")
_UPDATE = text(
    "UPDATE vault SET policy = :policy, min_retention_days = :min_retention_days, "
    "max_retention_days = :max_retention_days, locked = :locked, lock_at = :lock_at, "
    "deletion_delay_days = :deletion_delay_days, lowered_delay_days = :lowered_delay_days, lowered_at = :lowered_at, "
    "notifications = :notifications, deleted_at = :deleted_at "
    "WHERE id = :id"
)
_KEEP_HIDDEN = text(
    "UPDATE recovery_point SET purge_at = deleted_at + :delay "
    "WHERE vault_id = :id AND deleted_at IS NOT NULL AND purge_at < deleted_at + :delay"
)
_POINTS = text(
    "SELECT vault_id, count(*) AS points FROM recovery_point WHERE vault_id IN :ids AND deleted_at IS NULL "
    "GROUP BY vault_id"
).bindparams(sa.bindparam("ids", expanding=True))
_REMOVE = text("DELETE FROM vault WHERE id = :id")
_REMOVE_REPOSITORIES = text("DELETE FROM repository WHERE vault_id = :id")

_REPOSITORY_COLUMNS = (
    "id, vault_id, source_account, generation, storage, path, wrapped_password, key_arn, is_cold, ready, created_at"
)
_INSERT_REPOSITORY = text(
    f"INSERT INTO repository ({_REPOSITORY_COLUMNS}) VALUES (:id, :vault_id, :source_account, :generation, :storage, "
    ":path, :wrapped_password, :key_arn, :is_cold, :ready, :created_at)"
)
_NEWEST_REPOSITORY = text(
    f"SELECT {_REPOSITORY_COLUMNS} FROM repository WHERE vault_id = :vault_id AND source_account = :source_account "
    "AND NOT is_cold ORDER BY generation DESC LIMIT 1"
)
_COLD_BESIDE = text(
    f"SELECT {_REPOSITORY_COLUMNS} FROM repository WHERE vault_id = :vault_id AND source_account = :source_account "
    "AND generation = :generation AND is_cold"
)
_REPOSITORY = text(f"SELECT {_REPOSITORY_COLUMNS} FROM repository WHERE id = :id")
_REPOSITORIES = text(
    f"SELECT {_REPOSITORY_COLUMNS} FROM repository WHERE vault_id = :vault_id ORDER BY source_account, generation"
)
_WRAPPED = text("UPDATE repository SET wrapped_password = :wrapped WHERE id = :id")
_READY = text("UPDATE repository SET ready = :ready WHERE id = :id")

_NEXT_SEQUENCE = text(
    "UPDATE vault SET record_sequence = record_sequence + 1 WHERE id = :id RETURNING record_sequence, record_hash"
)
_SET_HASH = text("UPDATE vault SET record_hash = :digest WHERE id = :id")
_SET_HEAD = text("UPDATE vault SET record_sequence = :sequence, record_hash = :digest WHERE id = :id")
_HEAD = text("SELECT record_sequence, record_hash FROM vault WHERE id = :id")
_ADD_PENDING = text("INSERT INTO vault_record (vault_id, sequence, content) VALUES (:id, :sequence, :content)")
_PENDING = text("SELECT sequence, content FROM vault_record WHERE vault_id = :id ORDER BY sequence")
_SETTLE = text("DELETE FROM vault_record WHERE vault_id = :id AND sequence <= :sequence")
_DROP_PENDING = text("DELETE FROM vault_record WHERE vault_id = :id")


def insert_vault(tx: sa.Connection, vault: Vault, *, head: Head | None = None) -> None:
    """Insert a vault; `head` is where its records end, None: it has none yet."""
    head = head or Head()
    same = {
        "account": vault.account,
        "region": vault.region,
        "name": vault.name,
        "arn": vault.arn,
        "storage": vault.storage,
        "key_arn": vault.key_arn,
        "creator_request_id": vault.creator_request_id,
        "created_at": stamp(vault.created_at),
        "sequence": head.sequence,
        "digest": head.digest,
    }
    tx.execute(_INSERT, _changing(vault) | same)


def update_vault(tx: sa.Connection, vault: Vault) -> None:
    """Store what may change of a vault."""
    tx.execute(_UPDATE, _changing(vault))


def keep_hidden_for(tx: sa.Connection, vault_id: str, delay: timedelta) -> None:
    """Keep every point of a vault that is hidden now for at least so long."""
    tx.execute(_KEEP_HIDDEN, {"id": vault_id, "delay": delay // timedelta(microseconds=1)})


def find_vault(tx: sa.Connection, *, account: str, region: str, name: str) -> Vault | None:
    """Return the vault of that name, None if there is none."""
    row = tx.execute(_BY_NAME, {"account": account, "region": region, "name": name}).one_or_none()
    return None if row is None else _vault(row)


def find_vault_by_id(tx: sa.Connection, vault_id: str) -> Vault | None:
    """Return the vault with that id, deleted ones too; None if there is none."""
    row = tx.execute(_BY_ID, {"id": vault_id}).one_or_none()
    return None if row is None else _vault(row)


def list_vaults(tx: sa.Connection, *, account: str, region: str, after: str, limit: int) -> list[Vault]:
    """Return vaults in the order of their names, those after the name `after`."""
    rows = tx.execute(_LIST, {"account": account, "region": region, "after": after, "limit": limit})
    return [_vault(row) for row in rows]


def every_vault(tx: sa.Connection) -> list[Vault]:
    """Return all vaults of all accounts, deleted ones that still hold something included."""
    return [_vault(row) for row in tx.execute(_EVERY)]


def vaults_of_key(tx: sa.Connection, key_arn: str) -> list[Vault]:
    """Return the vaults of all accounts that a key is or was of, deleted ones that still hold something included."""
    return [_vault(row) for row in tx.execute(_OF_KEY, {"key_arn": key_arn})]


def number_of_vaults(tx: sa.Connection, *, account: str, region: str) -> int:
    """Return how many vaults an account has in a region."""
    return int(tx.execute(_NUMBER, {"account": account, "region": region}).scalar_one())


def numbers_of_points(tx: sa.Connection, vault_ids: Sequence[str]) -> dict[str, int]:
    """Return how many recovery points each of these vaults shows."""
    if not vault_ids:
        return {}
    return {row.vault_id: int(row.points) for row in tx.execute(_POINTS, {"ids": list(vault_ids)})}


def remove_vault(tx: sa.Connection, vault_id: str) -> None:
    """Remove a vault's row with its repositories: nothing of it is left that could come back."""
    tx.execute(_DROP_PENDING, {"id": vault_id})
    tx.execute(_REMOVE_REPOSITORIES, {"id": vault_id})
    tx.execute(_REMOVE, {"id": vault_id})


def insert_repository(tx: sa.Connection, row: RepositoryRow) -> None:
    """Insert a repository."""
    tx.execute(
        _INSERT_REPOSITORY,
        {
            "id": row.id,
            "vault_id": row.vault_id,
            "source_account": row.source_account,
            "generation": row.generation,
            "storage": row.storage,
            "path": row.path,
            "wrapped_password": row.wrapped_password,
            "key_arn": row.key_arn,
            "is_cold": row.is_cold,
            "ready": row.ready,
            "created_at": stamp(row.created_at),
        },
    )


def newest_repository(tx: sa.Connection, vault_id: str, source_account: str) -> RepositoryRow | None:
    """Return the latest generation that a source account writes to, None if there is none."""
    place = {"vault_id": vault_id, "source_account": source_account}
    row = tx.execute(_NEWEST_REPOSITORY, place).one_or_none()
    return None if row is None else _repository(row)


def find_cold_beside(tx: sa.Connection, warm: RepositoryRow) -> RepositoryRow | None:
    """Return the cold repository of a warm one, None if there is none yet."""
    place = {"vault_id": warm.vault_id, "source_account": warm.source_account, "generation": warm.generation}
    row = tx.execute(_COLD_BESIDE, place).one_or_none()
    return None if row is None else _repository(row)


def find_repository(tx: sa.Connection, repository_id: str) -> RepositoryRow | None:
    """Return a repository, None if there is none."""
    row = tx.execute(_REPOSITORY, {"id": repository_id}).one_or_none()
    return None if row is None else _repository(row)


def unusable_key(tx: sa.Connection, repository_ids: Sequence[str]) -> str | None:
    """Return the ARN of a key, of those that these repositories lie under, that is not enabled; None if all are."""
    found: str | None = tx.execute(_UNUSABLE_KEY, {"ids": list(repository_ids)}).scalar()
    return found


def repositories_of(tx: sa.Connection, vault_id: str) -> list[RepositoryRow]:
    """Return every repository of a vault."""
    return [_repository(row) for row in tx.execute(_REPOSITORIES, {"vault_id": vault_id})]


def set_ready(tx: sa.Connection, repository_id: str) -> None:
    """Note that a repository exists in storage, with its key beside it."""
    tx.execute(_READY, {"id": repository_id, "ready": True})


def set_wrapped_password(tx: sa.Connection, repository_id: str, wrapped: bytes) -> None:
    """Replace what a repository's password is wrapped as."""
    tx.execute(_WRAPPED, {"id": repository_id, "wrapped": wrapped})


def take_sequence(tx: sa.Connection, vault_id: str) -> Head:
    """Take the next number of a vault's records; return the head before it. Others wait until `tx` has ended."""
    row = tx.execute(_NEXT_SEQUENCE, {"id": vault_id}).one()
    return Head(row.record_sequence - 1, row.record_hash)


def add_pending(tx: sa.Connection, vault_id: str, sequence: int, digest: str, content: bytes) -> None:
    """Keep a signed record until it is known to be in storage."""
    tx.execute(_SET_HASH, {"id": vault_id, "digest": digest})
    tx.execute(_ADD_PENDING, {"id": vault_id, "sequence": sequence, "content": content})


def head_of(tx: sa.Connection, vault_id: str) -> Head:
    """Return where a vault's records end, as the database knows it."""
    row = tx.execute(_HEAD, {"id": vault_id}).one_or_none()
    return Head(0, START) if row is None else Head(row.record_sequence, row.record_hash)


def set_head(tx: sa.Connection, vault_id: str, head: Head) -> None:
    """Set where a vault's records end, after those in storage were taken over."""
    tx.execute(_SET_HEAD, {"id": vault_id, "sequence": head.sequence, "digest": head.digest})


def pending(tx: sa.Connection, vault_id: str) -> list[tuple[int, bytes]]:
    """Return the records that may not be in storage yet, in order."""
    return [(row.sequence, bytes(row.content)) for row in tx.execute(_PENDING, {"id": vault_id})]


def settle(tx: sa.Connection, vault_id: str, *, through: int) -> None:
    """Forget pending records up to and with `through`: they are in storage."""
    tx.execute(_SETTLE, {"id": vault_id, "sequence": through})


def drop_pending(tx: sa.Connection, vault_id: str) -> None:
    """Forget all pending records, to write them anew with other numbers."""
    tx.execute(_DROP_PENDING, {"id": vault_id})


def replace_tags(tx: sa.Connection, tags: Mapping[str, str], *, account: str, region: str, arn: str) -> None:
    """Make these the tags of what has this ARN."""
    clear_tags(tx, account, region, arn)
    put_tags(tx, account, region, arn, tags)


def _changing(vault: Vault) -> dict[str, Any]:
    lock = vault.lock or Lock()
    lowering = vault.deletion_delay.lowering
    return {
        "id": vault.id,
        "policy": vault.policy,
        "min_retention_days": lock.min_retention_days,
        "max_retention_days": lock.max_retention_days,
        "locked": vault.lock is not None,
        "lock_at": stamp_or_none(lock.lock_at),
        "deletion_delay_days": vault.deletion_delay.present.days,
        "lowered_delay_days": None if lowering is None else lowering.delay.days,
        "lowered_at": None if lowering is None else stamp(lowering.at),
        "notifications": None if vault.notifications is None else to_json(vault.notifications),
        "deleted_at": FOREVER if vault.deleted_at is None else stamp(vault.deleted_at),
    }


def _vault(row: Any) -> Vault:
    lock = Lock(row.min_retention_days, row.max_retention_days, instant_or_none(row.lock_at)) if row.locked else None
    lowering = None
    if row.lowered_at is not None:
        lowering = Lowering(timedelta(days=row.lowered_delay_days), instant(row.lowered_at))
    return Vault(
        id=row.id,
        account=row.account,
        region=row.region,
        name=row.name,
        arn=row.arn,
        storage=row.storage,
        key_arn=row.key_arn,
        creator_request_id=row.creator_request_id,
        created_at=instant(row.created_at),
        lock=lock,
        policy=row.policy,
        deletion_delay=DeletionDelay(timedelta(days=row.deletion_delay_days), lowering),
        notifications=None if row.notifications is None else from_json(row.notifications),
        deleted_at=instant_or_none(row.deleted_at),
    )


def _repository(row: Any) -> RepositoryRow:
    return RepositoryRow(
        id=row.id,
        vault_id=row.vault_id,
        source_account=row.source_account,
        generation=row.generation,
        storage=row.storage,
        path=row.path,
        wrapped_password=bytes(row.wrapped_password),
        key_arn=row.key_arn,
        is_cold=bool(row.is_cold),
        ready=bool(row.ready),
        created_at=instant(row.created_at),
    )
