"""What can be done with recovery points. Each verb runs in its caller's transaction, unless it says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import sqlalchemy as sa

from holdfast.access.tag import MOST_TAGS, check_tags
from holdfast.core.errors import LimitExceededError
from holdfast.database.connection import Database
from holdfast.plan.model.lifecycle import refuse_bad_lifecycle
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import store
from holdfast.recovery.catch_up import catch_up
from holdfast.recovery.event import Change, note_change
from holdfast.recovery.model import (
    DELETED,
    EXPIRED,
    PointBusyError,
    RecoveryPoint,
    Status,
    UnknownPointError,
    calculated,
    deletion_blockers,
    fitting,
    lifecycle_to_body,
    point_arn,
    point_to_body,
    refuse_deletion,
    with_lifecycle,
)
from holdfast.recovery.store import PointFilter, Position
from holdfast.vault import ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.ledger import CatalogueBehindError
from holdfast.vault.model import UnknownVaultError, Vault, refuse_retention
from holdfast.vault.records import Kind
from holdfast.vault.service import bring_back_vault


class UnprotectedResourceError(UnknownPointError):
    """The resource never had a recovery point here."""


@dataclass(frozen=True, slots=True)
class Made:
    """What a job made: all that a recovery point needs to know, before it has an ARN."""

    point_id: str
    job_id: str
    epoch: int
    vault_id: str
    repository_id: str
    snapshot_id: str
    resource_account: str
    resource_arn: str
    resource_type: str
    resource_name: str
    role_arn: str
    created_at: datetime
    """When the job began."""
    completed_at: datetime
    size_bytes: int
    stored_bytes: int
    consistency: str
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    created_by: Mapping[str, str] = field(default_factory=dict)
    restore_metadata: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Mapping[str, str], ...] = ()
    status_message: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    source_vault_arn: str | None = None
    arn: str | None = None
    """Given for one that was promised before; else it follows from the rest."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recovery point whose signed record is in storage, and whose row the job's ending transaction inserts."""

    point: RecoveryPoint
    tags: Mapping[str, str]
    sequence: int


def arn_for(vault: Vault, *, resource_type: str, resource_arn: str, point_id: str, job_id: str, at: datetime) -> str:
    """Return the ARN that a recovery point of this job gets, which some types are told before it exists."""
    return point_arn(
        partition=vault.arn.split(":")[1],
        region=vault.region,
        account=vault.account,
        resource_type=resource_type,
        resource_arn=resource_arn,
        point_id=point_id,
        job_id=job_id,
        created_at=at,
    )


def refuse_new_point(vault: Vault, lifecycle: Lifecycle, resource_type: str, *, continuous: bool = False) -> None:
    """Refuse a recovery point that the vault would not take; called before a job begins and again before it ends.

    Raises:
        UnknownVaultError: the vault was deleted.
        InvalidLifecycleError: the lifecycle makes no sense.
        RetentionError: the vault's lock does not allow the retention.
    """
    if vault.deleted_at is not None:
        raise UnknownVaultError(f"backup vault {vault.arn} does not exist")
    refuse_bad_lifecycle(lifecycle, continuous=continuous)
    refuse_retention(vault.name, vault.lock, fitting(lifecycle, resource_type).delete_after_days)


def record_point(database: Database, custody: Custody, made: Made, *, now: datetime) -> Recorded:
    """Write the signed record of a recovery point to storage, after its snapshot and before its row.

    Slow, and so with transactions of its own. What comes next is `catalogue_point` in the transaction that ends the
    job; if the job ends otherwise, `withdraw_point`.

    Raises:
        UnknownVaultError, RetentionError: the vault does not take it any more.
        CatalogueBehindError: storage records more than the database knows.
    """
    with database.transaction() as tx:
        vault = vaults.find_vault_by_id(tx, made.vault_id)
        if vault is None:
            raise UnknownVaultError(f"vault {made.vault_id} does not exist any more")
        refuse_new_point(vault, made.lifecycle, made.resource_type)
        point = _point_of(vault, made)
        body = {"point": point_to_body(point), "tags": dict(made.tags), "epoch": made.epoch}
        store.announce(tx, point_id=point.id, vault_id=vault.id, job_id=made.job_id, epoch=made.epoch)
        written = ledger.append(tx, custody, vault, Kind.POINT_MADE, body, at=now)
    try:
        through = ledger.put_pending(database, custody, vault)
    except CatalogueBehindError:
        with database.transaction() as tx:
            catch_up(tx, custody, vault.id)
        through = ledger.put_pending(database, custody, vault)
    return Recorded(point, made.tags, max(through, written.record.sequence))


def catalogue_point(tx: sa.Connection, recorded: Recorded) -> RecoveryPoint:
    """Insert the recovery point, in the transaction that ends its job; from here on it is listed."""
    point = recorded.point
    if store.find_point_by_id(tx, point.id) is None:
        store.insert_point(tx, point)
    else:
        store.replace_point(tx, point)
    vaults.replace_tags(tx, recorded.tags, account=point.account, region=point.region, arn=point.arn)
    vaults.settle(tx, point.vault_id, through=recorded.sequence)
    store.forget_announced(tx, point.id)
    note_change(tx, Change.CREATED, point, reason=f"job {point.job_id} made it", at=point.completed_at)
    return point


def withdraw_point(tx: sa.Connection, custody: Custody, point_id: str, vault_id: str, *, now: datetime) -> bool:
    """Take back the record of a point whose job ended without it; return whether there was one to take back."""
    vault = vaults.find_vault_by_id(tx, vault_id)
    if vault is None or store.find_point_by_id(tx, point_id) is not None or not store.forget_announced(tx, point_id):
        return False
    ledger.write(tx, custody, vault, Kind.POINT_WITHDRAWN, {"point": point_id}, at=now)
    return True


def get_point(tx: sa.Connection, account: str, region: str, arn: str) -> RecoveryPoint:
    """Return a recovery point of an account, in whichever of its vaults; hidden ones are not there.

    Raises:
        UnknownPointError: there is none of this ARN.
    """
    point = store.find_point(tx, account=account, region=region, arn=arn)
    if point is None or point.deleted_at is not None:
        raise UnknownPointError(f"account {account} has no recovery point {arn} in {region}")
    return point


def get_point_of(tx: sa.Connection, vault: Vault, arn: str) -> RecoveryPoint:
    """Return a recovery point of a vault; hidden ones are not there.

    Raises:
        UnknownPointError: the vault has none of this ARN.
    """
    point = store.find_point(tx, account=vault.account, region=vault.region, arn=arn)
    if point is None or point.vault_id != vault.id or point.deleted_at is not None:
        raise UnknownPointError(f"Backup vault {vault.name} has no recovery point {arn}")
    return point


def list_points(
    tx: sa.Connection, vault: Vault, only: PointFilter, *, after: Position | None = None, limit: int
) -> list[RecoveryPoint]:
    """Return up to `limit` recovery points of a vault, the newest first, those after the position."""
    return store.list_by_vault(tx, vault.id, only, after=after, limit=limit)


def list_points_of_resource(
    tx: sa.Connection, *, account: str, region: str, resource_arn: str, after: Position | None = None, limit: int
) -> list[RecoveryPoint]:
    """Return up to `limit` recovery points of a resource, the newest first; none of one that is not protected."""
    return store.list_by_resource(
        tx, account=account, region=region, resource_arn=resource_arn, after=after, limit=limit
    )


def delete_point(tx: sa.Connection, custody: Custody, vault: Vault, arn: str, *, now: datetime) -> RecoveryPoint:
    """Hide a recovery point; its data goes when the vault's deletion delay is over, and until then it can come back.

    Raises:
        UnknownPointError: there is none.
        PointKeptError: a lock or a legal hold keeps it.
        PointBusyError: something else is being done with it.
    """
    point = get_point_of(tx, vault, arn)
    holds = store.holds_on(tx, [point.id]).get(point.id, frozenset())
    refuse_deletion(deletion_blockers(point, lock=vault.lock, holds=holds, in_use_by=store.jobs_using(tx, point)))
    return hide_point(tx, custody, vault, point, why=DELETED, now=now)


def hide_point(
    tx: sa.Connection, custody: Custody, vault: Vault, point: RecoveryPoint, *, why: str, now: datetime
) -> RecoveryPoint:
    """Hide a recovery point that nothing keeps, with its record written first."""
    purge_at = now + vault.deletion_delay.at(now)
    hidden = replace(point, status=Status.DELETING, deleted_at=now, purge_at=purge_at)
    body = {
        "point": point.id,
        "deleted_at": now.isoformat(),
        "purge_at": purge_at.isoformat(),
        "why": why,
    }
    ledger.write(tx, custody, vault, Kind.POINT_DELETED, body, at=now)
    store.update_point(tx, hidden)
    reason = "its lifecycle is over" if why == EXPIRED else "somebody deleted it"
    note_change(tx, Change.DELETED, hidden, reason=f"{reason}; it can be brought back until {purge_at}", at=now)
    return hidden


def bring_back_point(
    tx: sa.Connection, custody: Custody, *, account: str, region: str, arn: str, now: datetime
) -> RecoveryPoint:
    """Show a hidden recovery point again, and with it its vault, if that was deleted since.

    One whose lifecycle is over is kept for good then, until somebody gives it another.

    Raises:
        UnknownPointError: there is none, or its data has begun to go.
        PointBusyError: it is not hidden.
        VaultExistsError: its vault was deleted, and another one has its name.
    """
    point = store.find_point(tx, account=account, region=region, arn=arn)
    vault = None if point is None else vaults.find_vault_by_id(tx, point.vault_id)
    if point is None or vault is None:
        raise UnknownPointError(f"account {account} has no recovery point {arn} in {region}, and none that was deleted")
    if point.deleted_at is None:
        raise PointBusyError(f"{arn} is not deleted")
    if not store.show_again(tx, point.id):
        raise UnknownPointError(f"the time to bring {arn} back ended on {point.purge_at:%d %B %Y %H:%M} UTC")
    if vault.deleted_at is not None:
        vault = bring_back_vault(tx, custody, vault, now=now)
    shown = replace(point, status=Status.COMPLETED, status_message=None, deleted_at=None, purge_at=None)
    if shown.delete_at is not None and shown.delete_at <= now:
        # Its lifecycle is over, and the next expiry would hide it again at once: whoever brought it back decides anew.
        shown = replace(shown, lifecycle=replace(shown.lifecycle, delete_after_days=None), delete_at=None)
        body = {"point": point.id, "lifecycle": lifecycle_to_body(shown)}
        ledger.append(tx, custody, vault, Kind.LIFECYCLE_PUT, body, at=now)
    ledger.write(tx, custody, vault, Kind.POINT_BROUGHT_BACK, {"point": point.id}, at=now)
    store.update_point(tx, shown)
    note_change(tx, Change.BROUGHT_BACK, shown, reason="somebody brought it back", at=now)
    return shown


def list_hidden(
    tx: sa.Connection, account: str, region: str, only: PointFilter, *, after: Position | None = None, limit: int
) -> list[RecoveryPoint]:
    """Return up to `limit` deleted recovery points of an account that can be brought back, the newest first."""
    return store.list_hidden(tx, account=account, region=region, only=only, after=after, limit=limit)


def update_lifecycle(
    tx: sa.Connection, custody: Custody, vault: Vault, arn: str, wanted: Lifecycle, *, now: datetime
) -> RecoveryPoint:
    """Give a recovery point another lifecycle, whole: what `wanted` leaves out becomes never.

    Raises:
        UnknownPointError: there is none.
        PointKeptError: the vault is locked.
        LifecycleFixedError: it is cold already, or too old for that.
        InvalidLifecycleError: the lifecycle makes no sense.
    """
    changed = with_lifecycle(get_point_of(tx, vault, arn), wanted, lock=vault.lock, now=now)
    body = {"point": changed.id, "lifecycle": lifecycle_to_body(changed)}
    ledger.write(tx, custody, vault, Kind.LIFECYCLE_PUT, body, at=now)
    store.update_point(tx, changed)
    note_change(tx, Change.LIFECYCLE_PUT, changed, reason="somebody gave it another lifecycle", at=now)
    return changed


def put_tags(
    tx: sa.Connection, custody: Custody, *, account: str, region: str, arn: str, tags: Mapping[str, str], now: datetime
) -> bool:
    """Make these the tags of a vault or a recovery point; return False if the ARN names neither.

    Raises:
        InvalidTagError, LimitExceededError: the tags can't be.
    """
    vault = vault_of(tx, account=account, region=region, arn=arn)
    if vault is None:
        return False
    check_tags(tags.items())
    if len(tags) > MOST_TAGS:
        raise LimitExceededError(f"{arn} would have {len(tags)} tags, more than {MOST_TAGS}")
    ledger.write(tx, custody, vault, Kind.TAGS_PUT, {"arn": arn, "tags": dict(tags)}, at=now)
    vaults.replace_tags(tx, tags, account=account, region=region, arn=arn)
    return True


def vault_of(tx: sa.Connection, *, account: str, region: str, arn: str) -> Vault | None:
    """Return the vault that an ARN names, or that holds the recovery point it names; None for anything else."""
    _, marker, name = arn.partition(":backup-vault:")
    if marker:
        vault = vaults.find_vault(tx, account=account, region=region, name=name)
        return vault if vault is not None and vault.arn == arn else None
    point = store.find_point(tx, account=account, region=region, arn=arn)
    if point is None or point.deleted_at is not None:
        return None
    return vaults.find_vault_by_id(tx, point.vault_id)


@dataclass(frozen=True, slots=True)
class Protected:
    """A resource that has recovery points: its latest one, and its last restore."""

    latest: RecoveryPoint
    last_restore: store.LastRestore | None = None
    restored_point_created_at: datetime | None = None


def list_protected(
    tx: sa.Connection, *, account: str, region: str, vault: Vault | None = None, after: str = "", limit: int
) -> list[Protected]:
    """Return up to `limit` resources that have recovery points, by ARN: of an account, or of one of its vaults."""
    latest = store.latest_of_resources(
        tx,
        account=account,
        region=region,
        vault_id=None if vault is None else vault.id,
        after=after,
        limit=limit,
    )
    return [Protected(point) for point in latest]


def describe_protected(tx: sa.Connection, *, account: str, region: str, resource_arn: str) -> Protected:
    """Return a resource that has recovery points.

    Raises:
        UnprotectedResourceError: it has none.
    """
    points = list_points_of_resource(tx, account=account, region=region, resource_arn=resource_arn, limit=1)
    if not points:
        raise UnprotectedResourceError(f"{resource_arn} has no recovery points in account {account}, region {region}")
    restore = store.last_restore(tx, account=account, region=region, resource_arn=resource_arn)
    restored = None
    if restore is not None and restore.point_arn is not None:
        restored = store.find_point(tx, account=account, region=region, arn=restore.point_arn)
    return Protected(points[0], restore, None if restored is None else restored.created_at)


def _point_of(vault: Vault, made: Made) -> RecoveryPoint:
    lifecycle = fitting(made.lifecycle, made.resource_type)
    ends = calculated(lifecycle, made.created_at)
    arn = made.arn or arn_for(
        vault,
        resource_type=made.resource_type,
        resource_arn=made.resource_arn,
        point_id=made.point_id,
        job_id=made.job_id,
        at=made.created_at,
    )
    return RecoveryPoint(
        id=made.point_id,
        arn=arn,
        account=vault.account,
        region=vault.region,
        vault_id=vault.id,
        vault_name=vault.name,
        repository_id=made.repository_id,
        snapshot_id=made.snapshot_id,
        resource_account=made.resource_account,
        resource_arn=made.resource_arn,
        resource_type=made.resource_type,
        resource_name=made.resource_name,
        job_id=made.job_id,
        status=Status.COMPLETED,
        status_message=made.status_message,
        role_arn=made.role_arn,
        created_by=made.created_by,
        created_at=made.created_at,
        completed_at=made.completed_at,
        size_bytes=made.size_bytes,
        stored_bytes=made.stored_bytes,
        key_arn=vault.key_arn,
        consistency=made.consistency,
        lifecycle=lifecycle,
        cold_at=ends.cold_at,
        delete_at=ends.delete_at,
        restore_metadata=made.restore_metadata,
        problems=made.problems,
        source_vault_arn=made.source_vault_arn,
    )
