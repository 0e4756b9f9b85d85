"""Recovery points: their lifecycle, what keeps them from being deleted, and what a sweep may remove.

Rules: AWS Backup Developer Guide, "Deleting backups", "Editing a backup" and "Backup plan options and configuration"
(lifecycle); AWS Backup API Reference, UpdateRecoveryPointLifecycle and DeleteRecoveryPoint.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from holdfast.core.arn import Arn, partition_of
from holdfast.core.errors import ConflictError, InvalidStateError, NotFoundError
from holdfast.core.ids import name_uuid
from holdfast.plan.model.lifecycle import NEVER, normal, refuse_bad_lifecycle
from holdfast.plan.model.plan import Lifecycle
from holdfast.vault.model import Lock, vault_arn

ORPHAN_AGE: Final = timedelta(days=1)
DELETED: Final = "deleted"
EXPIRED: Final = "expired"
"""Why a point was hidden: somebody asked for it, or its lifecycle was over."""
POINT_TAG: Final = "holdfast:recovery-point="
JOB_TAG: Final = "holdfast:job="
_COLD_TYPES: Final = frozenset({"EFS", "DynamoDB"})
_ARCHIVE_TYPES: Final = frozenset({"EBS"})


class UnknownPointError(NotFoundError):
    """The vault has no such recovery point."""


class PointKeptError(InvalidStateError):
    """A lock, a hold or the point's own state keeps it; `blockers` says which."""

    def __init__(self, message: str, blockers: "tuple[Blocker, ...]") -> None:
        super().__init__(message)
        self.blockers = blockers


class PointBusyError(ConflictError):
    """Something else is being done with the recovery point."""


class LifecycleFixedError(InvalidStateError):
    """The lifecycle of the point can't be changed any more."""


class Status(StrEnum):
    """What a recovery point is good for."""

    CREATING = "CREATING"
    COMPLETED = "COMPLETED"
    AVAILABLE = "AVAILABLE"
    PARTIAL = "PARTIAL"
    DELETING = "DELETING"
    EXPIRED = "EXPIRED"
    """Its time is over, but it could not be deleted; the status message says why."""
    STOPPED = "STOPPED"


class StorageClass(StrEnum):
    """Where its data lies."""

    WARM = "WARM"
    COLD = "COLD"
    DELETED = "DELETED"
    """On its way out: it can't be brought back any more."""


class BlockerKind(StrEnum):
    """What sort of thing keeps a recovery point."""

    LOCK = "vault lock"
    HOLD = "legal hold"
    STATE = "state"
    USE = "use"


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing that keeps a recovery point from being deleted, in words."""

    kind: BlockerKind
    sentence: str


@dataclass(frozen=True, slots=True)
class Calculated:
    """The instants that a lifecycle comes to; None is never."""

    cold_at: datetime | None
    delete_at: datetime | None


@dataclass(frozen=True, slots=True)
class RecoveryPoint:
    """A state of one resource that can be restored."""

    id: str
    arn: str
    account: str
    """The vault's."""
    region: str
    vault_id: str
    vault_name: str
    repository_id: str
    snapshot_id: str
    resource_account: str
    resource_arn: str
    resource_type: str
    resource_name: str
    job_id: str
    status: Status
    role_arn: str
    created_at: datetime
    """When its job began, from which the lifecycle counts."""
    completed_at: datetime
    size_bytes: int
    stored_bytes: int
    key_arn: str
    consistency: str
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    cold_at: datetime | None = None
    delete_at: datetime | None = None
    storage_class: StorageClass = StorageClass.WARM
    status_message: str | None = None
    created_by: Mapping[str, str] = field(default_factory=dict)
    """The plan and rule, by the API's names; empty for one made on demand."""
    restore_metadata: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Mapping[str, str], ...] = ()
    """What could not be read as it was."""
    deleted_at: datetime | None = None
    """Since when it is hidden."""
    purge_at: datetime | None = None
    """Until when it can be brought back."""
    source_vault_arn: str | None = None
    last_restored_at: datetime | None = None

    @property
    def vault_arn(self) -> str:
        """The ARN of the vault that it lies in."""
        return vault_arn(partition_of(self.region), self.region, self.account, self.vault_name)


@dataclass(frozen=True, slots=True)
class Standing:
    """What keeps a recovery point, and until when, as one witness knows it: the row, or the signed record."""

    delete_at: datetime | None
    """When it expires; None is never."""
    purge_at: datetime | None
    """Until when a deleted one is kept; None: it is not deleted."""
    holds: frozenset[str] = frozenset()


def stricter(one: Standing, other: Standing) -> Standing:
    """Return what both witnesses together demand: the later end, deleted only where both say so, every hold."""
    return Standing(
        delete_at=_later(one.delete_at, other.delete_at),
        purge_at=_later(one.purge_at, other.purge_at),
        holds=one.holds | other.holds,
    )


def calculated(lifecycle: Lifecycle, created_at: datetime) -> Calculated:
    """Return when a point of this lifecycle goes cold and when it expires, counted from its creation."""
    return Calculated(_after(created_at, lifecycle.cold_after_days), _after(created_at, lifecycle.delete_after_days))


def fitting(lifecycle: Lifecycle, resource_type: str) -> Lifecycle:
    """Return the part of a lifecycle that a type of resource knows: the move to cold storage is ignored elsewhere."""
    lifecycle = normal(lifecycle)
    if resource_type in _COLD_TYPES or (resource_type in _ARCHIVE_TYPES and lifecycle.archive):
        return lifecycle
    return replace(lifecycle, cold_after_days=None)


def with_lifecycle(point: RecoveryPoint, wanted: Lifecycle, *, lock: Lock | None, now: datetime) -> RecoveryPoint:
    """Return the point with another lifecycle; what `wanted` leaves out becomes never. A hold outlives any.

    Raises:
        PointKeptError: the vault is locked.
        LifecycleFixedError: the point is deleted, cold already, or too old for the day it should go cold.
        InvalidLifecycleError: the lifecycle makes no sense.
    """
    if lock is not None:
        blocker = _locked(point)
        raise PointKeptError(blocker.sentence, (blocker,))
    if point.deleted_at is not None:
        raise LifecycleFixedError(f"{point.arn} is deleted")
    refuse_bad_lifecycle(wanted)
    lifecycle = fitting(wanted, point.resource_type)
    if point.storage_class is StorageClass.COLD and lifecycle.cold_after_days != point.lifecycle.cold_after_days:
        raise LifecycleFixedError(
            f"{point.arn} is in cold storage already; MoveToColdStorageAfterDays cannot be changed any more"
        )
    age = (now - point.created_at).days
    if (
        lifecycle.cold_after_days is not None
        and lifecycle.cold_after_days != point.lifecycle.cold_after_days
        and lifecycle.cold_after_days < age + 1
    ):
        raise LifecycleFixedError(
            f"MoveToColdStorageAfterDays must be at least {age + 1}, one more than the recovery point's age in days"
        )
    ends = calculated(lifecycle, point.created_at)
    return replace(point, lifecycle=lifecycle, cold_at=ends.cold_at, delete_at=ends.delete_at)


def deletion_blockers(
    point: RecoveryPoint, *, lock: Lock | None, holds: Collection[str], in_use_by: Collection[str] = ()
) -> tuple[Blocker, ...]:
    """Return everything that keeps somebody from deleting a recovery point now, in words; empty: nothing does."""
    found: list[Blocker] = []
    if lock is not None:
        found.append(_locked(point))
    if holds:
        found.append(
            Blocker(
                BlockerKind.HOLD,
                "The recovery point cannot be deleted because it has active legal hold(s): " + ", ".join(sorted(holds)),
            )
        )
    if point.status in {Status.CREATING, Status.DELETING} or point.deleted_at is not None:
        found.append(
            Blocker(BlockerKind.STATE, f"The recovery point {point.arn} is {point.status}; there is nothing to delete")
        )
    if in_use_by:
        found.append(
            Blocker(
                BlockerKind.USE,
                f"The recovery point {point.arn} is in use by job {', '.join(sorted(in_use_by))}; "
                "delete it when that has ended",
            )
        )
    return tuple(found)


def refuse_deletion(blockers: tuple[Blocker, ...]) -> None:
    """Refuse a deletion that anything blocks.

    Raises:
        PointKeptError: a lock or a hold keeps the point.
        PointBusyError: its state does, or somebody uses it.
    """
    if not blockers:
        return
    first = blockers[0]
    if first.kind in {BlockerKind.LOCK, BlockerKind.HOLD}:
        raise PointKeptError(first.sentence, blockers)
    raise PointBusyError(first.sentence)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A recovery point with what both witnesses say of it."""

    point: RecoveryPoint
    standing: Standing
    """The stricter of record and row."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What an expiry will do."""

    hide: tuple[RecoveryPoint, ...]
    kept: tuple[tuple[RecoveryPoint, str], ...]
    """Points that the row alone would let go, and what keeps them."""


def plan_expiry(candidates: Iterable[Candidate], *, now: datetime) -> Expiry:
    """Return which points have come to their end, and which of those that seem so are kept, with the reason.

    A vault's lock does not keep a point beyond its lifecycle; a legal hold does.
    """
    hide: list[RecoveryPoint] = []
    kept: list[tuple[RecoveryPoint, str]] = []
    for candidate in candidates:
        point, standing = candidate.point, candidate.standing
        if point.deleted_at is not None or point.delete_at is None or point.delete_at > now:
            continue
        if standing.holds:
            kept.append((point, f"kept by legal hold {', '.join(sorted(standing.holds))}"))
        elif standing.delete_at is None or standing.delete_at > now:
            until = "for ever" if standing.delete_at is None else f"until {standing.delete_at:%d %B %Y %H:%M} UTC"
            kept.append((point, f"its signed record keeps it {until}, whatever the database says"))
        else:
            hide.append(point)
    return Expiry(tuple(hide), tuple(kept))


def is_turning_cold(point: RecoveryPoint, *, now: datetime) -> bool:
    """Return whether a point is to be moved to cold storage at `now`."""
    return (
        point.storage_class is StorageClass.WARM
        and point.deleted_at is None
        and point.cold_at is not None
        and point.cold_at <= now
    )


def may_purge(standing: Standing, *, now: datetime) -> bool:
    """Return whether a point's data may go: deleted by both witnesses, its delay over, and nothing holds it."""
    return not standing.holds and standing.purge_at is not None and standing.purge_at <= now


def point_id_of(job_id: str) -> str:
    """Return the id of the recovery point that a job makes: the same for every run, so that it never makes a second."""
    return name_uuid("recovery point", job_id)


def point_arn(
    *,
    partition: str,
    region: str,
    account: str,
    resource_type: str,
    resource_arn: str,
    point_id: str,
    job_id: str,
    created_at: datetime,
) -> str:
    """Return the ARN of a recovery point, in the form that AWS gives points of its resource type."""
    match resource_type:
        case "RDS":
            return f"arn:{partition}:rds:{region}:{account}:snapshot:awsbackup:job-{job_id.lower()}"
        case "EBS" | "Storage Gateway":
            return f"arn:{partition}:ec2:{region}::snapshot/snap-{point_id.replace('-', '')[:17]}"
        case "S3":
            bucket = Arn.parse(resource_arn).resource
            name = f"{bucket}-{created_at:%Y%m%d%H%M%S}-{name_uuid('s3-point', point_id)[:8]}"
            return f"arn:{partition}:backup:{region}:{account}:recovery-point:{name}"
        case _:
            return f"arn:{partition}:backup:{region}:{account}:recovery-point:{point_id}"


@dataclass(frozen=True, slots=True)
class FoundSnapshot:
    """A snapshot as it lies in a repository, as far as the sweep needs to know it."""

    id: str
    at: datetime
    tags: tuple[str, ...]

    @property
    def point_id(self) -> str | None:
        """The recovery point that it was written for; None: it is not one of ours."""
        return _tagged(self.tags, POINT_TAG)

    @property
    def job_id(self) -> str | None:
        """The job that wrote it."""
        return _tagged(self.tags, JOB_TAG)


@dataclass(frozen=True, slots=True)
class Orphans:
    """What a look into a repository found beside the catalogue."""

    forget: tuple[str, ...]
    """Snapshots that nothing names and no unfinished job may still adopt."""
    waiting: tuple[str, ...]
    """Such that are younger than a day, or whose job may still end."""
    foreign: tuple[str, ...]
    """Snapshots that somebody else wrote into the repository; they are not touched."""
    missing: tuple[str, ...]
    """Snapshots that the catalogue or the records name and the repository has not."""


def plan_orphans(
    snapshots: Iterable[FoundSnapshot],
    *,
    named: Collection[str],
    unfinished_jobs: Collection[str],
    now: datetime,
) -> Orphans:
    """Return what to do with the snapshots of one repository.

    Args:
        snapshots: what lies there.
        named: the snapshots that a row, hidden ones included, or a record in force names.
        unfinished_jobs: the jobs that have not ended.
        now: civil time.
    """
    forget: list[str] = []
    waiting: list[str] = []
    foreign: list[str] = []
    seen = set()
    for snapshot in snapshots:
        seen.add(snapshot.id)
        if snapshot.id in named:
            continue
        if snapshot.point_id is None:
            foreign.append(snapshot.id)
        elif snapshot.job_id in unfinished_jobs or snapshot.at > now - ORPHAN_AGE:
            waiting.append(snapshot.id)
        else:
            forget.append(snapshot.id)
    missing = tuple(sorted(set(named) - seen))
    return Orphans(tuple(forget), tuple(waiting), tuple(foreign), missing)


def point_to_body(point: RecoveryPoint) -> dict[str, Any]:
    """Return a point as its record holds it."""
    return {
        "id": point.id,
        "arn": point.arn,
        "account": point.account,
        "region": point.region,
        "vault_name": point.vault_name,
        "repository": point.repository_id,
        "snapshot": point.snapshot_id,
        "resource_account": point.resource_account,
        "resource_arn": point.resource_arn,
        "resource_type": point.resource_type,
        "resource_name": point.resource_name,
        "job": point.job_id,
        "status": str(point.status),
        "status_message": point.status_message,
        "role_arn": point.role_arn,
        "created_by": dict(point.created_by),
        "created_at": point.created_at.isoformat(),
        "completed_at": point.completed_at.isoformat(),
        "size_bytes": point.size_bytes,
        "stored_bytes": point.stored_bytes,
        "key_arn": point.key_arn,
        "consistency": point.consistency,
        "lifecycle": lifecycle_to_body(point),
        "restore_metadata": dict(point.restore_metadata),
        "problems": [dict(problem) for problem in point.problems],
        "source_vault_arn": point.source_vault_arn,
    }


def lifecycle_to_body(point: RecoveryPoint) -> dict[str, Any]:
    """Return a point's lifecycle as records hold it."""
    return {
        "cold_after_days": point.lifecycle.cold_after_days,
        "delete_after_days": point.lifecycle.delete_after_days,
        "archive": bool(point.lifecycle.archive),
        "cold_at": None if point.cold_at is None else point.cold_at.isoformat(),
        "delete_at": None if point.delete_at is None else point.delete_at.isoformat(),
    }


def point_from_body(vault_id: str, body: Mapping[str, Any]) -> RecoveryPoint:
    """Return the point that a record holds."""
    point = RecoveryPoint(
        id=body["id"],
        arn=body["arn"],
        account=body["account"],
        region=body["region"],
        vault_id=vault_id,
        vault_name=body["vault_name"],
        repository_id=body["repository"],
        snapshot_id=body["snapshot"],
        resource_account=body["resource_account"],
        resource_arn=body["resource_arn"],
        resource_type=body["resource_type"],
        resource_name=body["resource_name"],
        job_id=body["job"],
        status=Status(body["status"]),
        status_message=body["status_message"],
        role_arn=body["role_arn"],
        created_by=body["created_by"],
        created_at=datetime.fromisoformat(body["created_at"]),
        completed_at=datetime.fromisoformat(body["completed_at"]),
        size_bytes=body["size_bytes"],
        stored_bytes=body["stored_bytes"],
        key_arn=body["key_arn"],
        consistency=body["consistency"],
        restore_metadata=body["restore_metadata"],
        problems=tuple(body["problems"]),
        source_vault_arn=body["source_vault_arn"],
    )
    return lifecycle_from_body(point, body["lifecycle"])


def lifecycle_from_body(point: RecoveryPoint, body: Mapping[str, Any]) -> RecoveryPoint:
    """Return the point with the lifecycle that a record holds."""
    return replace(
        point,
        lifecycle=Lifecycle(body["cold_after_days"], body["delete_after_days"], body["archive"]),
        cold_at=instant_from_body(body["cold_at"]),
        delete_at=instant_from_body(body["delete_at"]),
    )


def instant_from_body(value: str | None) -> datetime | None:
    """Return an instant of a record, None for None."""
    return None if value is None else datetime.fromisoformat(value)


def _locked(point: RecoveryPoint) -> Blocker:
    return Blocker(
        BlockerKind.LOCK,
        f"Backup vault {point.vault_name} is locked: its recovery points cannot be deleted, nor their lifecycle "
        "changed, before they expire",
    )


def _after(created_at: datetime, days: int | None) -> datetime | None:
    return None if days is None or days == NEVER else created_at + timedelta(days=days)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one is not None and other is not None else None


def _tagged(tags: Iterable[str], prefix: str) -> str | None:
    return next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), None)
