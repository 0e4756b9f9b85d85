"""Vaults and the rules about them: names, locks, retention, when one may be deleted.

Rules: AWS Backup Developer Guide, "AWS Backup Vault Lock" and "Backup vault creation and deletion"; AWS Backup API
Reference, PutBackupVaultLockConfiguration.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from holdfast.core.errors import (
    AlreadyExistsError,
    DeniedError,
    InvalidInputError,
    InvalidStateError,
    LimitExceededError,
    NotFoundError,
)

LONGEST_RETENTION_DAYS: Final = 36_500
SHORTEST_GRACE_DAYS: Final = 3
DELETION_DELAY_DAYS: Final = 7
SHORTEST_DELETION_DELAY_DAYS: Final = 1
"""So that there is always a time to bring a deleted recovery point back in."""
MOST_VAULTS: Final = 300
MANAGED_KEY_ALIAS: Final = "alias/aws/backup"
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{2,50}")
_REQUEST_ID: Final = re.compile(r"[a-zA-Z0-9._-]{1,50}")


class InvalidVaultError(InvalidInputError):
    """A vault's name, key or lock makes no sense."""


class UnknownVaultError(NotFoundError):
    """There is no such vault in this account and region."""


class HiddenVaultError(DeniedError):
    """Nobody is told whether such a vault exists."""


class VaultExistsError(AlreadyExistsError):
    """The account has a vault of that name in this region."""

    def __init__(self, message: str, *, arn: str, creator_request_id: str) -> None:
        super().__init__(message)
        self.arn = arn
        self.creator_request_id = creator_request_id


class VaultLimitError(LimitExceededError):
    """The region holds as many vaults of this account as it may."""


class VaultNotEmptyError(InvalidStateError):
    """A vault that holds recovery points is not deleted."""


class VaultLockedError(InvalidStateError):
    """The vault's lock forbids it."""


class RetentionError(InvalidStateError):
    """A retention lies outside of what the vault's lock allows."""


class LockMode(StrEnum):
    """How firmly a vault is locked at one instant."""

    NONE = "none"
    GOVERNANCE = "governance"
    """Whoever has the permission may remove the lock."""
    GRACE = "compliance, still changeable"
    COMPLIANCE = "compliance"
    """Nobody may remove or change the lock, ever."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The promise not to remove recovery points early; `lock_at` is when it becomes irrevocable, None for never."""

    min_retention_days: int | None = None
    max_retention_days: int | None = None
    lock_at: datetime | None = None

    def mode(self, *, now: datetime) -> LockMode:
        """Return how firmly it binds at `now`."""
        if self.lock_at is None:
            return LockMode.GOVERNANCE
        return LockMode.COMPLIANCE if self.lock_at <= now else LockMode.GRACE


@dataclass(frozen=True, slots=True)
class Lowering:
    """A shorter deletion delay that was asked for, and the instant from which it holds."""

    delay: timedelta
    at: datetime


@dataclass(frozen=True, slots=True)
class DeletionDelay:
    """For how long a vault keeps deleted recovery points; it is made shorter only after it has passed itself."""

    present: timedelta = timedelta(days=DELETION_DELAY_DAYS)
    lowering: Lowering | None = None

    def at(self, now: datetime) -> timedelta:
        """Return the delay that holds at `now`."""
        return self.lowering.delay if self.lowering is not None and self.lowering.at <= now else self.present

    def changed(self, wanted: timedelta, *, now: datetime) -> Self:
        """Return what holds once `wanted` was asked for: a longer delay at once, a shorter one when this has passed.

        Raises:
            InvalidVaultError: it is no number of days that may be.
        """
        if not SHORTEST_DELETION_DELAY_DAYS <= wanted.days <= LONGEST_RETENTION_DAYS:
            raise InvalidVaultError(
                f"a vault keeps deleted recovery points for {SHORTEST_DELETION_DELAY_DAYS} to "
                f"{LONGEST_RETENTION_DAYS} days, not for {wanted.days}"
            )
        present = self.at(now)
        if wanted >= present:
            return replace(self, present=wanted, lowering=None)
        return replace(self, present=present, lowering=Lowering(wanted, now + present))


@dataclass(frozen=True, slots=True)
class Vault:
    """A place for recovery points, in one account and region; it lies on the storage that it was created on."""

    id: str
    account: str
    region: str
    name: str
    arn: str
    storage: str
    key_arn: str
    creator_request_id: str
    created_at: datetime
    lock: Lock | None = None
    policy: str | None = None
    deletion_delay: DeletionDelay = field(default_factory=DeletionDelay)
    notifications: Mapping[str, object] | None = None
    deleted_at: datetime | None = None

    @property
    def is_locked(self) -> bool:
        """Whether any lock, of either kind, is on it."""
        return self.lock is not None

    def lock_mode(self, *, now: datetime) -> LockMode:
        """Return how firmly it is locked at `now`."""
        return LockMode.NONE if self.lock is None else self.lock.mode(now=now)


def vault_arn(partition: str, region: str, account: str, name: str) -> str:
    """Return the ARN of a vault."""
    return f"arn:{partition}:backup:{region}:{account}:backup-vault:{name}"


def refuse_bad_name(name: str) -> None:
    """Refuse what is no name for a vault.

    Raises:
        InvalidVaultError: it is not 2 to 50 letters, digits, hyphens and underscores.
    """
    if not _NAME.fullmatch(name):
        raise InvalidVaultError(
            f"Invalid backup vault name {name!r}: give 2 to 50 letters, digits, hyphens or underscores"
        )


def refuse_bad_request_id(request_id: str) -> None:
    """Refuse what is no creator request id.

    Raises:
        InvalidVaultError: it is not 1 to 50 letters, digits and `-_.`.
    """
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidVaultError("Invalid CreatorRequestId: give 1 to 50 letters, digits or any of '-_.'")


def new_lock(
    present: Lock | None,
    *,
    min_retention_days: int | None,
    max_retention_days: int | None,
    changeable_for_days: int | None,
    now: datetime,
) -> Lock:
    """Return the lock that takes the place of `present`; with `changeable_for_days` it becomes irrevocable after them.

    Raises:
        VaultLockedError: the present lock is irrevocable already.
        InvalidVaultError: a number is out of range, or the minimum is above the maximum.
    """
    refuse_lock_change(present, now=now)
    for name, days in (("MinRetentionDays", min_retention_days), ("MaxRetentionDays", max_retention_days)):
        if days is not None and not 1 <= days <= LONGEST_RETENTION_DAYS:
            raise InvalidVaultError(f"{name} must be between 1 and {LONGEST_RETENTION_DAYS} days, not {days}")
    if min_retention_days is not None and max_retention_days is not None and min_retention_days > max_retention_days:
        raise InvalidVaultError(
            f"MinRetentionDays ({min_retention_days}) must not be above MaxRetentionDays ({max_retention_days})"
        )
    if changeable_for_days is None:
        return Lock(min_retention_days, max_retention_days)
    if not SHORTEST_GRACE_DAYS <= changeable_for_days <= LONGEST_RETENTION_DAYS:
        raise InvalidVaultError(
            f"ChangeableForDays must be between {SHORTEST_GRACE_DAYS} and {LONGEST_RETENTION_DAYS} days, "
            f"not {changeable_for_days}"
        )
    return Lock(min_retention_days, max_retention_days, now + timedelta(days=changeable_for_days))


def refuse_lock_change(present: Lock | None, *, now: datetime) -> None:
    """Refuse to change or remove a lock whose date has passed.

    Raises:
        VaultLockedError: it is irrevocable.
    """
    if present is not None and present.mode(now=now) is LockMode.COMPLIANCE:
        raise VaultLockedError(
            "Backup vault lock configuration can no longer be changed or deleted: the vault has been locked in "
            f"compliance mode since {present.lock_at:%d %B %Y %H:%M} UTC"
        )


def refuse_retention(vault_name: str, lock: Lock | None, delete_after_days: int | None) -> None:
    """Refuse a new recovery point whose retention the vault's lock does not allow; None is for ever.

    Raises:
        RetentionError: it is shorter than the minimum or longer than the maximum.
    """
    if lock is None:
        return
    kept = "for ever" if delete_after_days is None else f"for {delete_after_days} days"
    if lock.max_retention_days is not None and (
        delete_after_days is None or delete_after_days > lock.max_retention_days
    ):
        raise RetentionError(
            f"The retention specified in the job is not within the range specified for the target Backup Vault: "
            f"{vault_name} takes recovery points that are kept for at most {lock.max_retention_days} days, and this "
            f"one would be kept {kept}"
        )
    if (
        lock.min_retention_days is not None
        and delete_after_days is not None
        and delete_after_days < lock.min_retention_days
    ):
        raise RetentionError(
            f"The retention specified in the job is not within the range specified for the target Backup Vault: "
            f"{vault_name} takes recovery points that are kept for at least {lock.min_retention_days} days, and this "
            f"one would be kept {kept}"
        )


def refuse_vault_deletion(number_of_points: int) -> None:
    """Refuse to delete a vault with something in it; a locked vault may be deleted when it is empty.

    Raises:
        VaultNotEmptyError: it holds recovery points.
    """
    if number_of_points:
        raise VaultNotEmptyError("Backup vault cannot be deleted because it contains recovery points.")


def stricter_lock(one: Lock | None, other: Lock | None, *, now: datetime) -> Lock | None:
    """Return what both locks together demand: of record and row, neither may be weakened by the other.

    An irrevocable lock beats one that can be changed; of two irrevocable ones the longer minimum, the shorter maximum
    and the earlier date hold.
    """
    if one is None or other is None:
        return one or other
    firm = [lock for lock in (one, other) if lock.mode(now=now) is LockMode.COMPLIANCE]
    if len(firm) == 1:
        return firm[0]
    return Lock(
        _most(one.min_retention_days, other.min_retention_days),
        _least(one.max_retention_days, other.max_retention_days),
        _earliest(one.lock_at, other.lock_at),
    )


def _most(one: int | None, other: int | None) -> int | None:
    return max(one, other) if one is not None and other is not None else one if other is None else other


def _least(one: int | None, other: int | None) -> int | None:
    return min(one, other) if one is not None and other is not None else one if other is None else other


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one is not None and other is not None else one if other is None else other
