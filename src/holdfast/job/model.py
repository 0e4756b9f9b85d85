"""What a job is: its kinds and states, how it moves between them, how it ends, and when it is tried again.

The states are those of AWS Backup ("Backup job statuses" in the AWS Backup Developer Guide), without PENDING: a job
waits in CREATED until a mover is given to it. A retryable failure brings it back there, while its start window lasts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from holdfast.core.errors import ConflictError, InvalidStateError, NotFoundError

DEFAULT_START_WINDOW: Final = timedelta(hours=8)
DEFAULT_COMPLETION_WINDOW: Final = timedelta(days=7)
SHORTEST_START_WINDOW: Final = timedelta(hours=1)

DEFAULT_PRIORITY: Final = 5
ON_DEMAND_PRIORITY: Final = 3
"""Somebody waits for what was asked for by hand. Lower goes first."""

_FIRST_PAUSE: Final = timedelta(minutes=1)
_LONGEST_PAUSE: Final = timedelta(minutes=10)
_WITHOUT_WINDOW: Final = timedelta(hours=2)
"""How long a job without a start window, a copy or a restore, is tried again after it was created."""


_UNSTOPPABLE: Final = frozenset({"RDS"})


class Kind(StrEnum):
    """What work a job is."""

    BACKUP = "BACKUP"
    COPY = "COPY"
    RESTORE = "RESTORE"

    @property
    def word(self) -> str:
        """How sentences about such a job begin."""
        return self.value.capitalize()


class State(StrEnum):
    """Where a job is in its life."""

    CREATED = "CREATED"
    """Waiting: for its resource, for a free mover, or for another try."""
    RUNNING = "RUNNING"
    ABORTING = "ABORTING"
    """Told to stop; its mover has not yet said that it did."""
    ABORTED = "ABORTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    """One of its windows closed."""
    PARTIAL = "PARTIAL"
    """Some of its children did not complete."""


FOLLOWS: Final[Mapping[State, frozenset[State]]] = {
    # RUNNING: a mover was given to it. EXPIRED: the start window closed first. ABORTED: stopped before it started.
    State.CREATED: frozenset({State.RUNNING, State.EXPIRED, State.ABORTED}),
    # CREATED: a failure that may pass, and the start window is still open.
    State.RUNNING: frozenset({State.COMPLETED, State.PARTIAL, State.FAILED, State.ABORTING, State.CREATED}),
    # EXPIRED: the completion window closed. ABORTED: somebody stopped it.
    State.ABORTING: frozenset({State.ABORTED, State.EXPIRED}),
    State.ABORTED: frozenset(),
    State.COMPLETED: frozenset(),
    State.FAILED: frozenset(),
    State.EXPIRED: frozenset(),
    State.PARTIAL: frozenset(),
}
"""Which states may come next. A takeover is no move: the state stays and the epoch rises."""

ENDED: Final = frozenset(state for state, after in FOLLOWS.items() if not after)
ACTIVE: Final = frozenset({State.RUNNING, State.ABORTING})
"""The states in which a job has an epoch that works on it."""


class Category(StrEnum):
    """What a job's message is about, in AWS Backup's words."""

    SUCCESS = "SUCCESS"
    ACCESS_DENIED = "ACCESS_DENIED"
    ACCESS_KEY_ERROR = "ACCESS_KEY_ERROR"
    CONCURRENT_JOB = "CONCURRENT_JOB"
    FATAL_ERROR = "FATAL_ERROR"
    FEATURE_NOT_ENABLED = "FEATURE_NOT_ENABLED"
    HYPERVISOR_OFFLINE = "HYPERVISOR_OFFLINE"
    INVALID_LIFECYCLE = "INVALID_LIFECYCLE"
    INVALID_STATE = "INVALID_STATE"
    JOB_EXPIRED = "JOB_EXPIRED"
    KMS_KEY_ERROR = "KMS_KEY_ERROR"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    MISCELLANEOUS = "MISCELLANEOUS"
    RESOURCE_NOT_FOUND = "RESOURCE_NOT_FOUND"
    RESOURCE_NOT_SUPPORTED = "RESOURCE_NOT_SUPPORTED"
    TAG_COPY_ERROR = "TAG_COPY_ERROR"
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a category, not a token
    UNSUPPORTED_OPERATION = "UNSUPPORTED_OPERATION"
    VSS_ERROR = "VSS_ERROR"


class Fault(StrEnum):
    """Where a failed run's error lies; what AWS's categories do not tell."""

    NOTHING = ""
    SOURCE = "source"
    """At the resource, or the place that it is restored to."""
    STORAGE = "storage"
    """At the storage of the vault, or the repository in it."""


class Waiting(StrEnum):
    """What keeps a job in CREATED."""

    NOTHING = ""
    """Nothing that is known; it is next, or nobody has looked at it yet."""
    RESOURCE = "resource"
    """Another backup or copy of the same resource is under way."""
    SITE = "site"
    """Every mover of the site is busy."""
    VAULT = "vault"
    """As many jobs write into the vault as may at once."""
    RETRY = "retry"
    """The last try failed in a way that may pass; the job's message says how."""


class JobNotFoundError(NotFoundError):
    """There is no such job in this account."""


class ValidationFixedError(InvalidStateError):
    """A restore was validated before, or there is nothing to validate yet."""


class JobEndedError(InvalidStateError):
    """The job has ended, so it cannot be stopped."""


class UnstoppableError(InvalidStateError):
    """Backups of this type of resource are not stopped by hand."""


class FencedError(ConflictError):
    """Another run of the job has taken over: whoever holds this epoch must stop and may commit nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as its row has it. Names and the unit path are those of the moment it was created."""

    id: str
    kind: Kind
    account: str
    region: str
    state: State
    epoch: int
    priority: int
    site: str
    organization_id: str | None
    unit_path: str
    resource_arn: str
    resource_type: str
    resource_name: str
    resource_id: int | None
    vault_name: str | None
    vault_arn: str | None
    recovery_point_id: str | None
    """The recovery point that a backup makes, or that a copy or restore reads."""
    recovery_point_arn: str | None
    role_arn: str
    document_id: str | None
    plan_id: str | None
    plan_name: str | None
    plan_version: str | None
    rule_id: str | None
    rule_name: str | None
    selection_name: str | None
    options: Mapping[str, Any]
    """What was asked for besides; see `BackupRequest`, `CopyRequest` and `RestoreRequest` for the names."""
    due_at: datetime | None
    created_at: datetime
    start_by: datetime | None
    complete_by: datetime | None
    completion_window: timedelta
    started_at: datetime | None
    completed_at: datetime | None
    dispatched_at: datetime | None
    seen_at: datetime | None
    mover: str | None
    attempts: int
    retry_at: datetime | None
    message: str | None
    category: Category | None
    waiting_for: Waiting
    percent: float
    bytes_total: int
    bytes_done: int
    bytes_stored: int
    result: Mapping[str, Any]
    parent_id: str | None
    monitored_by: str | None
    """The organization whose management sees the job: it trusted AWS Backup when the job was created."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Subject:
    """What a job works on, as the caller found it: who owns it, where it is, how it is called."""

    account: str
    region: str
    resource_arn: str
    resource_type: str
    resource_name: str
    site: str
    role_arn: str
    vault_name: str
    vault_arn: str
    resource_id: int | None = None
    organization_id: str | None = None
    unit_path: str = ""


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """A backup asked for by hand."""

    subject: Subject
    start_window: timedelta = DEFAULT_START_WINDOW
    completion_window: timedelta = DEFAULT_COMPLETION_WINDOW
    cold_after_days: int | None = None
    delete_after_days: int | None = None
    point_tags: Mapping[str, str] = field(default_factory=dict)
    backup_options: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """Return what lies in the job's `options`; the scheduler's jobs use the same names."""
        return {
            "cold_after_days": self.cold_after_days,
            "delete_after_days": self.delete_after_days,
            "point_tags": dict(self.point_tags),
            "backup_options": dict(self.backup_options),
        }


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """A restore of one recovery point. The subject is the resource that the point was made of."""

    subject: Subject
    recovery_point_id: str
    recovery_point_arn: str
    metadata: Mapping[str, str]
    copy_tags: bool = False
    bytes_total: int = 0
    recovery_point_created_at: datetime | None = None

    def options(self) -> dict[str, Any]:
        """Return what lies in the job's `options`."""
        made_at = self.recovery_point_created_at
        return {
            "metadata": dict(self.metadata),
            "copy_tags": self.copy_tags,
            "recovery_point_created_at": None if made_at is None else made_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """A copy of one recovery point into another vault, which is the one that the subject names.

    Where the point lies already, `recovery_point_id` is its; its row stays under the job's account and region.
    """

    subject: Subject
    recovery_point_id: str
    recovery_point_arn: str
    source_vault_arn: str
    cold_after_days: int | None = None
    delete_after_days: int | None = None
    """Without it, or with -1, the copy follows the lifecycle of the point."""
    bytes_total: int = 0

    def options(self) -> dict[str, Any]:
        """Return what lies in the job's `options`."""
        return {
            "source_vault_arn": self.source_vault_arn,
            "cold_after_days": self.cold_after_days,
            "delete_after_days": self.delete_after_days,
        }


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one run to work on a job, until another one claims it with a higher epoch."""

    job: Job
    """The job as it is under this claim; its epoch is this claim's."""
    prepared: Mapping[str, Any]
    """What the run before had said of itself when it was allowed to write its snapshot; empty if none was."""

    @property
    def epoch(self) -> int:
        """The number of this run."""
        return self.job.epoch


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come."""

    bytes_done: int = 0
    bytes_total: int = 0
    bytes_stored: int = 0
    items_done: int = 0

    @property
    def percent(self) -> float:
        """How much of the work is done; under 100 until the job has ended."""
        if self.bytes_total <= 0:
            return 0.0
        return min(99.0, round(100.0 * self.bytes_done / self.bytes_total, 2))


@dataclass(frozen=True, slots=True)
class Completed:
    """The work was done. A backup or copy has made a recovery point, a restore has made a resource."""

    result: Mapping[str, Any] = field(default_factory=dict)
    """What the mover reported, JSON values only; `job.protocol.Result` has the names."""
    recovery_point_id: str | None = None
    recovery_point_arn: str | None = None
    bytes_read: int = 0
    bytes_stored: int = 0
    message: str | None = None
    category: Category = Category.SUCCESS
    """Anything but SUCCESS is what the console calls "completed with issues"."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Some of the parts were done, others not."""

    message: str
    category: Category = Category.MISCELLANEOUS
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    """The work was not done, and nothing of it counts."""

    reason: str
    category: Category = Category.FATAL_ERROR
    retryable: bool = False
    """Whether the same work may succeed a little later without anybody doing something about it."""
    fault: Fault = Fault.NOTHING


@dataclass(frozen=True, slots=True)
class Stopped:
    """The work was given up because the job was told to stop."""


Outcome = Completed | Partial | Failed | Stopped


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The job goes back to waiting until an instant (civil time)."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job ends with the failure that it had last."""


def after_failure(job: Job, failure: Failed, *, now: datetime) -> TryAgain | GiveUp:
    """Say whether a job that failed is tried again, and when.

    Pauses grow from one minute to ten. A backup is tried while its start window lasts, a copy or a restore, which have
    none, for two hours after it was created.
    """
    if not failure.retryable:
        return GiveUp()
    pause = min(_FIRST_PAUSE * 2 ** min(max(job.attempts - 1, 0), 10), _LONGEST_PAUSE)
    until = job.start_by if job.kind is Kind.BACKUP else job.created_at + _WITHOUT_WINDOW
    at = now + pause
    if until is not None and at >= until:
        return GiveUp()
    return TryAgain(at)


def stopped_by_user(kind: Kind) -> str:
    """Return what a job says that somebody stopped."""
    return f"{kind.word} job was stopped by user."


def expired_before_completion(kind: Kind) -> str:
    """Return what a job says whose completion window closed before it was done."""
    return f"{kind.word} job expired before completion."


def expired_before_start(kind: Kind, waiting_for: Waiting, reason: str | None) -> tuple[str, Category]:
    """Return what a job says whose start window closed before it started, by what it was waiting for."""
    match waiting_for:
        case Waiting.RESOURCE:
            text = f"{kind.word} job failed because there was a running job for the same resource."
            return text, Category.CONCURRENT_JOB
        case Waiting.RETRY:
            return f"{kind.word} job expired before start. The last try failed: {reason}", Category.JOB_EXPIRED
        case Waiting.VAULT:
            why = "as many jobs were writing into its vault as may at once"
        case _:
            why = "no mover of its site was free in its start window; raise the site's concurrency or the window"
    return f"{kind.word} job expired before start: {why}.", Category.JOB_EXPIRED


def refuse_stop(job: Job) -> None:
    """Refuse to stop a job that has ended, or one of a type of resource whose backups cannot be stopped.

    Types: AWS Backup Developer Guide, "Stopping a backup job".

    Raises:
        JobEndedError: it has ended.
        UnstoppableError: its resource is of such a type.
    """
    if job.resource_type in _UNSTOPPABLE:
        raise UnstoppableError(f"backup jobs of resource type {job.resource_type} cannot be stopped")
    if job.has_ended:
        raise JobEndedError(f"job {job.id} has ended already: it is {job.state}")
