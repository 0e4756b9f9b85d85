"""What a vault's signed records add up to: the vault, its lock, repositories, recovery points and holds.

A record that says what could not be done when it was written (a deletion or a shorter life under a lock or a hold, a
change of an irrevocable lock) counts for nothing: whoever edits rows of the database can have such records signed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from holdfast.recovery.model import (
    DELETED,
    RecoveryPoint,
    Standing,
    StorageClass,
    instant_from_body,
    lifecycle_from_body,
    point_from_body,
)
from holdfast.vault.model import DeletionDelay, Lock, LockMode, Lowering, Vault
from holdfast.vault.records import Head, Kind, Record, Written


@dataclass(frozen=True, slots=True)
class RecordedHold:
    """A legal hold, as far as one vault's records know it."""

    body: Mapping[str, Any]
    points: frozenset[str]
    released: Mapping[str, Any] | None = None


@dataclass(slots=True)
class History:
    """A vault as its records tell it, up to `head`. `take` moves it on by one record."""

    vault_id: str
    head: Head = field(default_factory=Head)
    created: Mapping[str, Any] | None = None
    lock: Lock | None = None
    policy: str | None = None
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """By ARN: of the vault and of its points."""
    deletion_delay: DeletionDelay = field(default_factory=DeletionDelay)
    deleted_at: datetime | None = None
    repositories: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    points: dict[str, RecoveryPoint] = field(default_factory=dict)
    """Those in force, hidden ones included; purged and withdrawn ones are not."""
    deleted_keys: set[str] = field(default_factory=set)
    """ARNs of keys that are no more, with what they encrypted."""
    gone: set[str] = field(default_factory=set)
    """Points that were purged or withdrawn."""
    epochs: dict[str, int] = field(default_factory=dict)
    holds: dict[str, RecordedHold] = field(default_factory=dict)
    latest: datetime | None = None
    """The latest instant that any record names; time does not go back."""
    void: list[str] = field(default_factory=list)
    """What records say and could not be, in words."""
    unknown: list[str] = field(default_factory=list)
    """Kinds of records that this release does not know."""

    def take_all(self, records: Iterable[Written]) -> "History":
        """Take records in their order."""
        for written in records:
            self.take(written)
        return self

    def take(self, written: Written) -> None:
        """Take the next record."""
        record = written.record
        self.head = Head(record.sequence, written.digest)
        self.latest = record.at if self.latest is None else max(self.latest, record.at)
        why = self._refused(record, record.body, at=self.latest)
        if why is None:
            self._take(record, record.body)
        else:
            self.void.append(f"record {record.sequence}, {record.kind}: {why}")

    def standing(self, point_id: str) -> Standing | None:
        """Return what keeps a point, as the records know it; None if they do not know the point."""
        point = self.points.get(point_id)
        if point is None:
            return None
        return Standing(point.delete_at, point.purge_at, self.holds_on(point_id))

    def holds_on(self, point_id: str) -> frozenset[str]:
        """Return the holds in force that keep a point."""
        return frozenset(
            hold_id for hold_id, hold in self.holds.items() if hold.released is None and point_id in hold.points
        )

    def vault(self) -> Vault | None:
        """Return the vault, None while no record told of its creation."""
        body = self.created
        if body is None:
            return None
        return Vault(
            id=self.vault_id,
            account=body["account"],
            region=body["region"],
            name=body["name"],
            arn=body["arn"],
            storage=body["storage"],
            key_arn=body["key_arn"],
            creator_request_id=body["creator_request_id"],
            created_at=datetime.fromisoformat(body["created_at"]),
            lock=self.lock,
            policy=self.policy,
            deletion_delay=self.deletion_delay,
            deleted_at=self.deleted_at,
        )

    def _refused(self, record: Record, body: Mapping[str, Any], *, at: datetime) -> str | None:
        """Return why what a record says could not be done, None if it could."""
        match record.kind:
            case Kind.LOCK_PUT | Kind.LOCK_REMOVED:
                fixed = self.lock is not None and self.lock.mode(now=at) is LockMode.COMPLIANCE
                return "the lock is irrevocable" if fixed else None
            case Kind.KEY_DELETED:
                kept = any(self._is_kept_under(body["key"], point) for point in self.points.values())
                return "points that a lock or a hold keeps open with the key only" if kept else None
            case Kind.POINT_DELETED:
                return self._refused_deletion(body, at=at)
            case Kind.LIFECYCLE_PUT:
                point = self.points.get(body["point"])
                wanted = instant_from_body(body["lifecycle"]["delete_at"])
                if self.lock is None or point is None or wanted is None:
                    return None
                shorter = point.delete_at is None or wanted < point.delete_at
                return "the vault is locked" if shorter else None
            case _:
                return None

    def _is_kept_under(self, key_arn: str, point: RecoveryPoint) -> bool:
        repository = self.repositories.get(point.repository_id, {})
        return repository.get("key_arn") == key_arn and (self.lock is not None or bool(self.holds_on(point.id)))

    def _refused_deletion(self, body: Mapping[str, Any], *, at: datetime) -> str | None:
        point = self.points.get(body["point"])
        if point is None:
            return None
        if self.holds_on(point.id):
            return "a legal hold keeps the point"
        if body["why"] == DELETED:
            return None if self.lock is None else "the vault is locked"
        return None if point.delete_at is not None and point.delete_at <= at else "its lifecycle is not over"

    def _take(self, record: Record, body: Mapping[str, Any]) -> None:
        match record.kind:
            case Kind.VAULT_CREATED:
                self.created = body
                self.deletion_delay = DeletionDelay(timedelta(days=body["deletion_delay_days"]))
                self.tags[body["arn"]] = dict(body["tags"])
            case Kind.VAULT_DELETED:
                self.deleted_at = datetime.fromisoformat(body["deleted_at"])
                self.policy = None
                self.tags.pop((self.created or {}).get("arn", ""), None)
            case Kind.VAULT_BROUGHT_BACK:
                self.deleted_at = None
            case Kind.POLICY_PUT:
                self.policy = body["policy"]
            case Kind.TAGS_PUT:
                self.tags[body["arn"]] = dict(body["tags"])
            case Kind.DELETION_DELAY_PUT:
                self._put_delay(body)
            case Kind.LOCK_PUT:
                self.lock = Lock(
                    body["min_retention_days"], body["max_retention_days"], instant_from_body(body["lock_at"])
                )
            case Kind.LOCK_REMOVED:
                self.lock = None
            case Kind.REPOSITORY_CREATED:
                self.repositories[body["repository"]] = body
            case Kind.POINT_MADE:
                self._take_point(body)
            case Kind.LIFECYCLE_PUT:
                self._change(body["point"], lambda point: lifecycle_from_body(point, body["lifecycle"]))
            case Kind.POINT_MOVED:
                self._change(
                    body["point"],
                    lambda point: replace(
                        point,
                        repository_id=body["repository"],
                        snapshot_id=body["snapshot"],
                        storage_class=StorageClass.COLD,
                    ),
                )
            case Kind.POINT_DELETED:
                deleted_at, purge_at = instant_from_body(body["deleted_at"]), instant_from_body(body["purge_at"])
                self._change(body["point"], lambda point: replace(point, deleted_at=deleted_at, purge_at=purge_at))
            case Kind.POINT_BROUGHT_BACK:
                self._change(body["point"], lambda point: replace(point, deleted_at=None, purge_at=None))
            case Kind.POINT_PURGED | Kind.POINT_WITHDRAWN:
                went = self.points.pop(body["point"], None)
                if went is not None:
                    self.tags.pop(went.arn, None)
                self.gone.add(body["point"])
            case Kind.KEY_DELETED:
                self.deleted_keys.add(body["key"])
            case Kind.HOLD_PLACED:
                hold = body["hold"]
                self.holds[hold["id"]] = RecordedHold(hold, frozenset(body["points"]))
            case Kind.HOLD_RELEASED:
                held = self.holds.get(body["hold"])
                if held is not None:
                    self.holds[body["hold"]] = replace(held, released=body)
            case Kind.TAKEN_OVER:
                if self.created is not None:
                    self.created = {**self.created, "key": body["key"]}
            case _:
                self.unknown.append(record.kind)

    def _take_point(self, body: Mapping[str, Any]) -> None:
        point = point_from_body(self.vault_id, body["point"])
        # Two runs of one job may both have written a record: the one of the later epoch holds, in whatever order.
        if body["epoch"] < self.epochs.get(point.id, 0):
            return
        self.epochs[point.id] = body["epoch"]
        self.points[point.id] = point
        self.gone.discard(point.id)
        self.tags[point.arn] = dict(body["tags"])

    def _put_delay(self, body: Mapping[str, Any]) -> None:
        lowered_at = instant_from_body(body["lowered_at"])
        lowering = None if lowered_at is None else Lowering(timedelta(days=body["lowered_days"]), lowered_at)
        self.deletion_delay = DeletionDelay(timedelta(days=body["days"]), lowering)
        for point in list(self.points.values()):
            if point.deleted_at is not None and point.purge_at is not None:
                kept_until = max(point.purge_at, point.deleted_at + self.deletion_delay.present)
                self.points[point.id] = replace(point, purge_at=kept_until)

    def _change(self, point_id: str, change: Callable[[RecoveryPoint], RecoveryPoint]) -> None:
        point = self.points.get(point_id)
        if point is not None:
            self.points[point_id] = change(point)
