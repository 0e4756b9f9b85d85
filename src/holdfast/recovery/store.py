"""Recovery points and legal holds in the control database."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import from_json, instant, instant_or_none, stamp, stamp_or_none, to_json
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery.hold import Hold, HoldStatus, Selection
from holdfast.recovery.model import RecoveryPoint, Standing, Status, StorageClass

_COLUMNS = (
    "id, arn, account, region, vault_id, vault_name, repository_id, snapshot_id, resource_account, resource_arn, "
    "resource_type, resource_name, job_id, status, status_message, role_arn, created_by, created_at, completed_at, "
    "size_bytes, stored_bytes, cold_after_days, delete_after_days, cold_at, delete_at, archive_opt_in, storage_class, "
    "key_arn, consistency, restore_metadata, problems, deleted_at, purge_at, source_vault_arn, last_restored_at"
)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
_INSERT = text(f"INSERT INTO recovery_point ({_COLUMNS}) VALUES ({_VALUES})")
_CHANGES = (
    "UPDATE recovery_point SET status = :status, status_message = :status_message, "
    "cold_after_days = :cold_after_days, delete_after_days = :delete_after_days, cold_at = :cold_at, "
    "delete_at = :delete_at, archive_opt_in = :archive_opt_in, "
    "deleted_at = :deleted_at, purge_at = :purge_at, last_restored_at = :last_restored_at"
)
_UPDATE = text(f"{_CHANGES} WHERE id = :id")
_REPLACE = text(
    f"{_CHANGES}, storage_class = :storage_class, repository_id = :repository_id, snapshot_id = :snapshot_id "
    "WHERE id = :id"
)
_TURNING_COLD = text(
    f"SELECT {_COLUMNS} FROM recovery_point WHERE storage_class = 'WARM' AND deleted_at IS NULL AND cold_at <= :now "
    "AND (cold_at > :at OR (cold_at = :at AND id > :id)) ORDER BY cold_at, id LIMIT :limit"
)
_MOVE = text(
    "UPDATE recovery_point SET storage_class = 'COLD', repository_id = :repository_id, snapshot_id = :snapshot_id, "
    "status_message = NULL WHERE id = :id AND repository_id = :old AND storage_class = 'WARM' AND deleted_at IS NULL "
    "AND cold_at <= :now"
)
_NOT_MOVED = text("UPDATE recovery_point SET status_message = :why WHERE id = :id AND storage_class = 'WARM'")
_BY_ARN = text(f"SELECT {_COLUMNS} FROM recovery_point WHERE account = :account AND region = :region AND arn = :arn")
_BY_ID = text(f"SELECT {_COLUMNS} FROM recovery_point WHERE id = :id")
_REMOVE = text("DELETE FROM recovery_point WHERE id = :id")
_OF_VAULT = text(f"SELECT {_COLUMNS} FROM recovery_point WHERE vault_id = :vault_id ORDER BY created_at, id")
_EXPIRING = text(
    f"SELECT {_COLUMNS} FROM recovery_point WHERE deleted_at IS NULL AND delete_at <= :now "
    "AND (delete_at > :at OR (delete_at = :at AND id > :id)) ORDER BY delete_at, id LIMIT :limit"
)
_PURGEABLE = text(f"SELECT {_COLUMNS} FROM recovery_point WHERE purge_at <= :now ORDER BY purge_at, id LIMIT :limit")
_LATEST_SNAPSHOT = text(
    "SELECT snapshot_id FROM recovery_point WHERE repository_id = :repository_id AND resource_arn = :resource_arn "
    "ORDER BY created_at DESC, id DESC LIMIT 1"
)
_SHOW = text(
    "UPDATE recovery_point SET deleted_at = NULL, purge_at = NULL "
    "WHERE id = :id AND deleted_at IS NOT NULL AND storage_class <> 'DELETED'"
)
_BEGIN_PURGE = text(
    "UPDATE recovery_point SET storage_class = 'DELETED' "
    "WHERE id = :id AND deleted_at = :deleted_at AND purge_at = :purge_at AND purge_at <= :now"
)
_RESTORED = text("UPDATE recovery_point SET last_restored_at = :at WHERE id = :id")

_IN_USE = text(
    "SELECT id FROM job WHERE recovery_point_arn = :arn AND account = :account AND kind IN ('RESTORE', 'COPY') "
    "AND state IN ('CREATED', 'PENDING', 'RUNNING', 'ABORTING')"
)
_UNFINISHED = text(
    "SELECT id FROM job WHERE id IN :ids AND state IN ('CREATED', 'PENDING', 'RUNNING', 'ABORTING')"
).bindparams(sa.bindparam("ids", expanding=True))

_ANNOUNCE = text(
    "INSERT INTO announced_point (point_id, vault_id, job_id, epoch) VALUES (:point_id, :vault_id, :job_id, :epoch) "
    "ON CONFLICT (point_id) DO UPDATE SET epoch = excluded.epoch, job_id = excluded.job_id"
)
_EVERY_ANNOUNCED = text("SELECT point_id, vault_id, job_id FROM announced_point ORDER BY point_id")
_FORGET_ANNOUNCED = text("DELETE FROM announced_point WHERE point_id = :point_id")

_PROTECTED = """
    SELECT {columns} FROM (
        SELECT {columns}, row_number() OVER (PARTITION BY resource_arn ORDER BY created_at DESC, id DESC) AS place
          FROM recovery_point
         WHERE account = :account AND region = :region AND deleted_at IS NULL {narrower}
    ) latest WHERE place = 1 AND resource_arn > :after ORDER BY resource_arn LIMIT :limit"""
_LAST_RESTORE = text(
    "SELECT created_at, started_at, completed_at, recovery_point_arn FROM job WHERE kind = 'RESTORE' "
    "AND account = :account AND region = :region AND resource_arn = :arn AND state = 'COMPLETED' "
    "AND completed_at IS NOT NULL "  # said for the index of ended jobs
    "ORDER BY created_at DESC, id DESC LIMIT 1"
)

_HOLD_COLUMNS = (
    "id, account, region, arn, title, description, status, selection, token, created_at, canceled_at, "
    "cancel_description, retain_until"
)
_INSERT_HOLD = text(
    f"INSERT INTO legal_hold ({_HOLD_COLUMNS}) VALUES (:id, :account, :region, :arn, :title, :description, :status, "
    ":selection, :token, :created_at, :canceled_at, :cancel_description, :retain_until)"
)
_UPDATE_HOLD = text(
    "UPDATE legal_hold SET status = :status, canceled_at = :canceled_at, cancel_description = :cancel_description, "
    "retain_until = :retain_until WHERE id = :id"
)
_HOLD = text(f"SELECT {_HOLD_COLUMNS} FROM legal_hold WHERE account = :account AND region = :region AND id = :id")
_HOLD_BY_TOKEN = text(
    f"SELECT {_HOLD_COLUMNS} FROM legal_hold WHERE account = :account AND region = :region AND token = :token"
)
_HOLDS = text(
    f"SELECT {_HOLD_COLUMNS} FROM legal_hold WHERE account = :account AND region = :region "
    "AND (retain_until IS NULL OR retain_until > :now) "
    "AND (created_at > :at OR (created_at = :at AND id > :id)) ORDER BY created_at, id LIMIT :limit"
)
_ACTIVE_HOLDS = text(
    "SELECT count(*) FROM legal_hold WHERE account = :account AND region = :region AND status = 'ACTIVE'"
)
_HOLD_POINT = text(
    "INSERT INTO legal_hold_point (hold_id, point_id) VALUES (:hold_id, :point_id) ON CONFLICT DO NOTHING"
)
_HOLDS_ON = text(
    "SELECT p.point_id, p.hold_id FROM legal_hold_point p JOIN legal_hold h ON h.id = p.hold_id "
    "WHERE h.status = 'ACTIVE' AND p.point_id IN :ids"
).bindparams(sa.bindparam("ids", expanding=True))
_POINTS_HELD = text(
    f"SELECT {', '.join('r.' + name for name in _COLUMNS.split(', '))} FROM legal_hold_point p "
    "JOIN recovery_point r ON r.id = p.point_id WHERE p.hold_id = :hold_id AND r.deleted_at IS NULL "
    "AND r.id > :after ORDER BY r.id LIMIT :limit"
)
_DROP_FROM_HOLDS = text("DELETE FROM legal_hold_point WHERE point_id = :id")
_HOLD_VAULTS = text(
    "SELECT DISTINCT r.vault_id FROM legal_hold_point p JOIN recovery_point r ON r.id = p.point_id "
    "WHERE p.hold_id = :hold_id"
)


@dataclass(frozen=True, slots=True)
class PointFilter:
    """Which recovery points a list shows; None: any."""

    vault_name: str | None = None
    resource_arn: str | None = None
    resource_type: str | None = None
    plan_id: str | None = None
    created_before: datetime | None = None
    created_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a list goes on: after the point of this creation and id."""

    created_at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class LastRestore:
    """The latest restore of a resource that completed."""

    created_at: datetime
    minutes: int
    point_arn: str | None


def insert_point(tx: sa.Connection, point: RecoveryPoint) -> None:
    """Insert a recovery point."""
    tx.execute(_INSERT, _row(point))


def update_point(tx: sa.Connection, point: RecoveryPoint) -> None:
    """Store what an account may change of a recovery point; where its data lies is left as it is."""
    tx.execute(_UPDATE, _row(point))


def replace_point(tx: sa.Connection, point: RecoveryPoint) -> None:
    """Store all that may ever change of a recovery point, where its data lies included."""
    tx.execute(_REPLACE, _row(point))


def turning_cold(tx: sa.Connection, *, now: datetime, after: RecoveryPoint | None, limit: int) -> list[RecoveryPoint]:
    """Return warm points whose row says that they go cold, in the order of these instants, those after a point."""
    place = _place(after, after.cold_at if after is not None else None)
    return [_point(row) for row in tx.execute(_TURNING_COLD, {"now": stamp(now), "limit": limit} | place)]


def move_to_cold(
    tx: sa.Connection, point: RecoveryPoint, *, repository_id: str, snapshot_id: str, now: datetime
) -> bool:
    """Say that a point's data lies in cold storage now, unless it is not to go there any more; return whether it is."""
    values = {"id": point.id, "old": point.repository_id, "repository_id": repository_id, "snapshot_id": snapshot_id}
    return tx.execute(_MOVE, values | {"now": stamp(now)}).rowcount == 1


def say_not_moved(tx: sa.Connection, point_id: str, why: str) -> None:
    """Note why a point that should be in cold storage is not there yet."""
    tx.execute(_NOT_MOVED, {"id": point_id, "why": why})


def show_again(tx: sa.Connection, point_id: str) -> bool:
    """Take back that a point is hidden; return False where its data has begun to go, or it is not hidden."""
    return tx.execute(_SHOW, {"id": point_id}).rowcount == 1


def begin_purge(tx: sa.Connection, point: RecoveryPoint, *, now: datetime) -> bool:
    """Note that a hidden point's data begins to go, unless it was changed since it was read; return whether it does."""
    values = {"id": point.id, "deleted_at": stamp_or_none(point.deleted_at), "purge_at": stamp_or_none(point.purge_at)}
    return tx.execute(_BEGIN_PURGE, values | {"now": stamp(now)}).rowcount == 1


def remove_point(tx: sa.Connection, point_id: str) -> None:
    """Remove a recovery point's row: its data is gone."""
    tx.execute(_DROP_FROM_HOLDS, {"id": point_id})
    tx.execute(_REMOVE, {"id": point_id})


def find_point(tx: sa.Connection, *, account: str, region: str, arn: str) -> RecoveryPoint | None:
    """Return the point with this ARN, hidden or not; None if there is none."""
    row = tx.execute(_BY_ARN, {"account": account, "region": region, "arn": arn}).one_or_none()
    return None if row is None else _point(row)


def find_point_by_id(tx: sa.Connection, point_id: str) -> RecoveryPoint | None:
    """Return the point with this id, hidden or not; None if there is none."""
    row = tx.execute(_BY_ID, {"id": point_id}).one_or_none()
    return None if row is None else _point(row)


def points_of_vault(tx: sa.Connection, vault_id: str) -> list[RecoveryPoint]:
    """Return every point of a vault, hidden ones included."""
    return [_point(row) for row in tx.execute(_OF_VAULT, {"vault_id": vault_id})]


def list_by_vault(
    tx: sa.Connection, vault_id: str, only: PointFilter, *, after: Position | None, limit: int
) -> list[RecoveryPoint]:
    """Return points of a vault, the newest first, those that come after the position."""
    clauses = ["vault_id = :vault_id", "deleted_at IS NULL"]
    values: dict[str, Any] = {"vault_id": vault_id, "limit": limit}
    if only.resource_arn is not None:
        clauses.append("resource_arn = :resource_arn")
        values["resource_arn"] = only.resource_arn
    if only.resource_type is not None:
        clauses.append("resource_type = :resource_type")
        values["resource_type"] = only.resource_type
    if only.plan_id is not None:
        # Our own JSON, keys sorted and without spaces, so the text is known.
        clauses.append("created_by LIKE :plan ESCAPE '!'")
        values["plan"] = f'%"BackupPlanId":{_like(to_json(only.plan_id))}%'
    if only.created_before is not None:
        clauses.append("created_at < :before")
        values["before"] = stamp(only.created_before)
    if only.created_after is not None:
        clauses.append("created_at > :since")
        values["since"] = stamp(only.created_after)
    return _listed(tx, clauses, values, after)


def list_by_resource(
    tx: sa.Connection, *, account: str, region: str, resource_arn: str, after: Position | None, limit: int
) -> list[RecoveryPoint]:
    """Return points of a resource in all vaults of an account, the newest first."""
    clauses = ["account = :account", "region = :region", "resource_arn = :resource_arn", "deleted_at IS NULL"]
    values: dict[str, Any] = {"account": account, "region": region, "resource_arn": resource_arn, "limit": limit}
    return _listed(tx, clauses, values, after)


def list_hidden(
    tx: sa.Connection, *, account: str, region: str, only: PointFilter, after: Position | None, limit: int
) -> list[RecoveryPoint]:
    """Return hidden points of an account that can still be brought back, the newest first."""
    clauses = ["account = :account", "region = :region", "deleted_at IS NOT NULL", "storage_class <> 'DELETED'"]
    values: dict[str, Any] = {"account": account, "region": region, "limit": limit}
    for column in ("vault_name", "resource_arn"):
        wanted = getattr(only, column)
        if wanted is not None:
            clauses.append(f"{column} = :{column}")
            values[column] = wanted
    return _listed(tx, clauses, values, after)


def latest_of_resources(
    tx: sa.Connection, *, account: str, region: str, vault_id: str | None = None, after: str, limit: int
) -> list[RecoveryPoint]:
    """Return the latest point of each resource that has any, in the order of the resources' ARNs."""
    narrower = "" if vault_id is None else "AND vault_id = :vault_id"
    values = {"account": account, "region": region, "after": after, "limit": limit}
    if vault_id is not None:
        values["vault_id"] = vault_id
    return [_point(row) for row in tx.execute(text(_PROTECTED.format(columns=_COLUMNS, narrower=narrower)), values)]


def last_restore(tx: sa.Connection, *, account: str, region: str, resource_arn: str) -> LastRestore | None:
    """Return the latest completed restore of a resource, None if there was none."""
    row = tx.execute(_LAST_RESTORE, {"account": account, "region": region, "arn": resource_arn}).one_or_none()
    if row is None:
        return None
    began, ended = row.started_at or row.created_at, row.completed_at or row.created_at
    return LastRestore(instant(row.created_at), (ended - began) // 60_000_000, row.recovery_point_arn)


def expiring(tx: sa.Connection, *, now: datetime, after: RecoveryPoint | None, limit: int) -> list[RecoveryPoint]:
    """Return points whose row says that their time is over, in the order of their ends, those after a point."""
    place = _place(after, after.delete_at if after is not None else None)
    return [_point(row) for row in tx.execute(_EXPIRING, {"now": stamp(now), "limit": limit} | place)]


def purgeable(tx: sa.Connection, *, now: datetime, after: RecoveryPoint | None, limit: int) -> list[RecoveryPoint]:
    """Return hidden points whose row says that their delay is over, in the order of its ends, those after a point."""
    place = _place(after, after.purge_at if after is not None else None)
    return [_point(row) for row in tx.execute(_PURGEABLE, {"now": stamp(now), "limit": limit} | place)]


def latest_snapshot(tx: sa.Connection, repository_id: str, resource_arn: str) -> str | None:
    """Return the snapshot of a resource's latest point in a repository, which the next backup is compared with."""
    values = {"repository_id": repository_id, "resource_arn": resource_arn}
    found: str | None = tx.execute(_LATEST_SNAPSHOT, values).scalar_one_or_none()
    return found


def set_restored(tx: sa.Connection, point_id: str, *, at: datetime) -> None:
    """Note when a point was last restored from."""
    tx.execute(_RESTORED, {"id": point_id, "at": stamp(at)})


def jobs_using(tx: sa.Connection, point: RecoveryPoint) -> list[str]:
    """Return the ids of unfinished jobs that read a point."""
    return list(tx.execute(_IN_USE, {"arn": point.arn, "account": point.account}).scalars())


def unfinished(tx: sa.Connection, job_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the jobs that have not ended."""
    return frozenset(tx.execute(_UNFINISHED, {"ids": list(job_ids)}).scalars()) if job_ids else frozenset()


def announce(tx: sa.Connection, *, point_id: str, vault_id: str, job_id: str, epoch: int) -> None:
    """Note that a point's record may be in storage though its job has not ended."""
    tx.execute(_ANNOUNCE, {"point_id": point_id, "vault_id": vault_id, "job_id": job_id, "epoch": epoch})


def announced(tx: sa.Connection) -> list[tuple[str, str, str]]:
    """Return the announced points: each one's id, its vault's and its job's."""
    return [(row.point_id, row.vault_id, row.job_id) for row in tx.execute(_EVERY_ANNOUNCED)]


def forget_announced(tx: sa.Connection, point_id: str) -> int:
    """Forget an announcement: the point came to be, or was withdrawn. Return how many there were."""
    return tx.execute(_FORGET_ANNOUNCED, {"point_id": point_id}).rowcount


def standing_of(point: RecoveryPoint, holds: Iterable[str]) -> Standing:
    """Return what keeps a point, as its row knows it."""
    return Standing(point.delete_at, point.purge_at, frozenset(holds))


def insert_hold(tx: sa.Connection, hold: Hold) -> None:
    """Insert a legal hold."""
    tx.execute(_INSERT_HOLD, _hold_row(hold))


def update_hold(tx: sa.Connection, hold: Hold) -> None:
    """Store what may change of a legal hold."""
    tx.execute(_UPDATE_HOLD, _hold_row(hold))


def find_hold(tx: sa.Connection, *, account: str, region: str, hold_id: str) -> Hold | None:
    """Return a legal hold, None if there is none."""
    row = tx.execute(_HOLD, {"account": account, "region": region, "id": hold_id}).one_or_none()
    return None if row is None else _hold(row)


def find_hold_by_token(tx: sa.Connection, *, account: str, region: str, token: str) -> Hold | None:
    """Return the legal hold that a request with this token created, None if there is none."""
    row = tx.execute(_HOLD_BY_TOKEN, {"account": account, "region": region, "token": token}).one_or_none()
    return None if row is None else _hold(row)


def list_holds(
    tx: sa.Connection, *, account: str, region: str, after: Position | None, limit: int, now: datetime
) -> list[Hold]:
    """Return legal holds whose record is still kept, the oldest first."""
    place = {"at": -1, "id": ""} if after is None else {"at": stamp(after.created_at), "id": after.id}
    values = {"account": account, "region": region, "limit": limit, "now": stamp(now)} | place
    return [_hold(row) for row in tx.execute(_HOLDS, values)]


def number_of_active_holds(tx: sa.Connection, *, account: str, region: str) -> int:
    """Return how many legal holds are in force."""
    return int(tx.execute(_ACTIVE_HOLDS, {"account": account, "region": region}).scalar_one())


def hold_points(tx: sa.Connection, hold_id: str, point_ids: Iterable[str]) -> None:
    """Note which points a hold keeps."""
    rows = [{"hold_id": hold_id, "point_id": point_id} for point_id in point_ids]
    if rows:
        tx.execute(_HOLD_POINT, rows)


def holds_on(tx: sa.Connection, point_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the holds in force on each of the points that has any."""
    found: dict[str, set[str]] = {}
    if point_ids:
        for row in tx.execute(_HOLDS_ON, {"ids": list(point_ids)}):
            found.setdefault(row.point_id, set()).add(row.hold_id)
    return {point_id: frozenset(holds) for point_id, holds in found.items()}


def points_held(tx: sa.Connection, hold_id: str, *, after: str, limit: int) -> list[RecoveryPoint]:
    """Return the points that a hold keeps or kept and that are not hidden, in the order of their ids."""
    rows = tx.execute(_POINTS_HELD, {"hold_id": hold_id, "after": after, "limit": limit})
    return [_point(row) for row in rows]


def vaults_of_hold(tx: sa.Connection, hold_id: str) -> list[str]:
    """Return the ids of the vaults that a hold keeps something in."""
    return list(tx.execute(_HOLD_VAULTS, {"hold_id": hold_id}).scalars())


def _listed(
    tx: sa.Connection, clauses: list[str], values: dict[str, Any], after: Position | None
) -> list[RecoveryPoint]:
    if after is not None:
        clauses = [*clauses, "(created_at < :at OR (created_at = :at AND id < :after_id))"]
        values |= {"at": stamp(after.created_at), "after_id": after.id}
    where = " AND ".join(clauses)
    query = f"SELECT {_COLUMNS} FROM recovery_point WHERE {where} ORDER BY created_at DESC, id DESC LIMIT :limit"
    return [_point(row) for row in tx.execute(text(query), values)]


def _place(after: RecoveryPoint | None, at: datetime | None) -> dict[str, Any]:
    return {"at": 0, "id": ""} if after is None or at is None else {"at": stamp(at), "id": after.id}


def _like(value: str) -> str:
    return value.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _row(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "id": point.id,
        "arn": point.arn,
        "account": point.account,
        "region": point.region,
        "vault_id": point.vault_id,
        "vault_name": point.vault_name,
        "repository_id": point.repository_id,
        "snapshot_id": point.snapshot_id,
        "resource_account": point.resource_account,
        "resource_arn": point.resource_arn,
        "resource_type": point.resource_type,
        "resource_name": point.resource_name,
        "job_id": point.job_id,
        "status": point.status.value,
        "status_message": point.status_message,
        "role_arn": point.role_arn,
        "created_by": to_json(dict(point.created_by)),
        "created_at": stamp(point.created_at),
        "completed_at": stamp(point.completed_at),
        "size_bytes": point.size_bytes,
        "stored_bytes": point.stored_bytes,
        "cold_after_days": point.lifecycle.cold_after_days,
        "delete_after_days": point.lifecycle.delete_after_days,
        "cold_at": stamp_or_none(point.cold_at),
        "delete_at": stamp_or_none(point.delete_at),
        "archive_opt_in": bool(point.lifecycle.archive),
        "storage_class": point.storage_class.value,
        "key_arn": point.key_arn,
        "consistency": point.consistency,
        "restore_metadata": to_json(dict(point.restore_metadata)),
        "problems": to_json([dict(problem) for problem in point.problems]),
        "deleted_at": stamp_or_none(point.deleted_at),
        "purge_at": stamp_or_none(point.purge_at),
        "source_vault_arn": point.source_vault_arn,
        "last_restored_at": stamp_or_none(point.last_restored_at),
    }


def _point(row: Any) -> RecoveryPoint:
    return RecoveryPoint(
        id=row.id,
        arn=row.arn,
        account=row.account,
        region=row.region,
        vault_id=row.vault_id,
        vault_name=row.vault_name,
        repository_id=row.repository_id,
        snapshot_id=row.snapshot_id,
        resource_account=row.resource_account,
        resource_arn=row.resource_arn,
        resource_type=row.resource_type,
        resource_name=row.resource_name,
        job_id=row.job_id,
        status=Status(row.status),
        status_message=row.status_message,
        role_arn=row.role_arn,
        created_by=from_json(row.created_by),
        created_at=instant(row.created_at),
        completed_at=instant(row.completed_at),
        size_bytes=row.size_bytes,
        stored_bytes=row.stored_bytes,
        lifecycle=Lifecycle(row.cold_after_days, row.delete_after_days, bool(row.archive_opt_in)),
        cold_at=instant_or_none(row.cold_at),
        delete_at=instant_or_none(row.delete_at),
        storage_class=StorageClass(row.storage_class),
        key_arn=row.key_arn,
        consistency=row.consistency,
        restore_metadata=from_json(row.restore_metadata),
        problems=tuple(from_json(row.problems)),
        deleted_at=instant_or_none(row.deleted_at),
        purge_at=instant_or_none(row.purge_at),
        source_vault_arn=row.source_vault_arn,
        last_restored_at=instant_or_none(row.last_restored_at),
    )


def _hold_row(hold: Hold) -> dict[str, Any]:
    return {
        "id": hold.id,
        "account": hold.account,
        "region": hold.region,
        "arn": hold.arn,
        "title": hold.title,
        "description": hold.description,
        "status": hold.status.value,
        "selection": to_json(hold.selection.to_body()),
        "token": hold.token,
        "created_at": stamp(hold.created_at),
        "canceled_at": stamp_or_none(hold.canceled_at),
        "cancel_description": hold.cancel_description,
        "retain_until": stamp_or_none(hold.retain_until),
    }


def _hold(row: Any) -> Hold:
    return Hold(
        id=row.id,
        account=row.account,
        region=row.region,
        arn=row.arn,
        title=row.title,
        description=row.description,
        selection=Selection.from_body(from_json(row.selection)),
        created_at=instant(row.created_at),
        status=HoldStatus(row.status),
        token=row.token,
        canceled_at=instant_or_none(row.canceled_at),
        cancel_description=row.cancel_description,
        retain_until=instant_or_none(row.retain_until),
    )
