"""Incidents: which failures have one cause, and what shows that it is over. Pure.

An incident groups by a category of causes and the thing at fault, never by resource: a role that is missing in
forty accounts is one incident. Each affected account recovers by itself, and the incident closes with the last of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from holdfast.core.errors import InvalidStateError, NotFoundError
from holdfast.job.model import Category, Fault, Kind, State

INCIDENT_CHANGE: Final = "Holdfast Incident State Change"
FAILURES: Final = frozenset({State.FAILED, State.EXPIRED, State.PARTIAL})
"""States that something is wrong behind; a job that somebody stopped is none of them."""

_KEY: Final = re.compile(r"arn:[\w-]+:kms:[\w-]*:\d*:(?:key|alias)/[\w/-]+")
_OF_ITS_OWN: Final = re.compile(r"arn:\S+|\w+://\S+|/\S+|'[^']*'|\"[^\"]*\"|[0-9a-f]{8,}|\d+")
_FINGERPRINT: Final = 160


class UnknownIncidentError(NotFoundError):
    """There is no such incident, or it is not the caller's to see."""


class IncidentClosedError(InvalidStateError):
    """The incident is closed: there is nothing to acknowledge any more."""


class IncidentState(StrEnum):
    """Where an incident is in its life."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    """Somebody has taken note; it still takes what fails for its cause, and closes when that is over."""
    CLOSED = "CLOSED"


FOLLOWS: Final[Mapping[IncidentState, frozenset[IncidentState]]] = {
    IncidentState.OPEN: frozenset({IncidentState.ACKNOWLEDGED, IncidentState.CLOSED}),
    IncidentState.ACKNOWLEDGED: frozenset({IncidentState.CLOSED}),
    # What fails again later is another incident.
    IncidentState.CLOSED: frozenset(),
}


class CauseKind(StrEnum):
    """What is wrong."""

    BACKUP_ROLE = "BACKUP_ROLE"
    """The role of backups is missing, not trusted, or lacks permissions."""
    COPY_ROLE = "COPY_ROLE"
    RESTORE_ROLE = "RESTORE_ROLE"
    GRANT = "GRANT"
    """What a site may touch does not hold the source or target."""
    VAULT = "VAULT"
    """The vault is missing, or its policy or lock refuses."""
    KEY = "KEY"
    """The vault's key is disabled or cannot be used."""
    STORAGE = "STORAGE"
    """The vault's storage refused, is full or was not there."""
    SOURCE = "SOURCE"
    """What is to be read, or written to, was not there or failed."""
    START_WINDOW = "START_WINDOW"
    """Start windows closed before the site had a mover free."""
    COMPLETION_WINDOW = "COMPLETION_WINDOW"
    """It takes longer than its completion window, or its resource was busy."""
    OTHER = "OTHER"


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended, with what is known of its vault and resource."""

    id: str
    kind: Kind
    account: str
    region: str
    state: State
    category: Category | None
    message: str
    role_arn: str
    vault_arn: str
    storage: str
    key_arn: str
    resource_arn: str
    source_url: str
    site: str
    unit_path: str
    monitored_by: str | None
    started_at: datetime | None
    completed_at: datetime
    fault: Fault

    @property
    def place(self) -> str:
        """The server that its source lies on, or the resource where that is on the site's own host."""
        try:
            host = urlsplit(self.source_url).hostname
        except ValueError:
            host = None
        return f"{host} from site {self.site}" if host else self.resource_arn


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a job failed."""

    kind: CauseKind
    thing: str
    """What is at fault, with `$account` for the account: failures with the same kind and thing are one incident."""
    proof: str
    """What a later success has to have used to show that it is over for this job."""


def cause_of(job: Ended) -> Cause:
    """Return why a job failed, by its message category, the thing that its message names, and where its error lay."""
    match job.category:
        case Category.JOB_EXPIRED if job.started_at is None:
            return _cause(CauseKind.START_WINDOW, job, f"site {job.site}")
        case Category.JOB_EXPIRED | Category.CONCURRENT_JOB:
            return Cause(CauseKind.COMPLETION_WINDOW, job.resource_arn, job.resource_arn)
        case Category.KMS_KEY_ERROR | Category.ACCESS_KEY_ERROR:
            named = _KEY.search(job.message)
            return _cause(CauseKind.KEY, job, named[0] if named else job.key_arn or job.vault_arn)
        case Category.ACCESS_DENIED | Category.RESOURCE_NOT_FOUND if job.role_arn and job.role_arn in job.message:
            return _cause(CauseKind(f"{job.kind}_ROLE"), job, job.role_arn)
        case Category.ACCESS_DENIED | Category.RESOURCE_NOT_FOUND | Category.INVALID_LIFECYCLE if job.vault_arn and (
            job.vault_arn in job.message or job.category is Category.INVALID_LIFECYCLE
        ):
            return _cause(CauseKind.VAULT, job, job.vault_arn)
        case Category.ACCESS_DENIED if job.fault is not Fault.STORAGE:
            return Cause(CauseKind.GRANT, f"site {job.site}", job.resource_arn)
    match job.fault:
        case Fault.STORAGE:
            return _cause(CauseKind.STORAGE, job, job.storage or job.vault_arn)
        case Fault.SOURCE:
            return Cause(CauseKind.SOURCE, job.place, job.place)
        case Fault.NOTHING:
            if job.category is Category.RESOURCE_NOT_FOUND:
                return Cause(CauseKind.SOURCE, job.place, job.place)
            return Cause(CauseKind.OTHER, _fingerprint(job.message), job.resource_arn)


def proofs_of(job: Ended) -> set[tuple[CauseKind, str]]:
    """Return what a job that completed shows to work."""
    found = {
        (CauseKind(f"{job.kind}_ROLE"), job.role_arn),
        (CauseKind.GRANT, job.resource_arn),
        (CauseKind.VAULT, job.vault_arn),
        (CauseKind.KEY, job.key_arn),
        (CauseKind.KEY, job.vault_arn),
        (CauseKind.STORAGE, job.storage),
        (CauseKind.STORAGE, job.vault_arn),
        (CauseKind.SOURCE, job.place),
        (CauseKind.START_WINDOW, f"site {job.site}"),
        (CauseKind.COMPLETION_WINDOW, job.resource_arn),
        (CauseKind.OTHER, job.resource_arn),
    }
    return {(kind, proof) for kind, proof in found if proof}


def _cause(kind: CauseKind, job: Ended, proof: str) -> Cause:
    return Cause(kind, proof.replace(f":{job.account}:", ":$account:"), proof)


def _fingerprint(message: str) -> str:
    """Return what two messages about the same trouble have in common: names, addresses and numbers are left out."""
    return " ".join(_OF_ITS_OWN.sub("*", message).split())[:_FINGERPRINT] or "no message"


@dataclass(frozen=True, slots=True)
class Incident:
    """Failures with one cause, as one viewer sees them."""

    id: str
    scope: str
    account: str
    """Where it is announced: the management account of the organization, or the account itself."""
    region: str
    cause: CauseKind
    thing: str
    state: IncidentState
    message: str
    """What the first of the failures said."""
    opened_at: datetime
    closed_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resources: int = 0
    """How many resources were affected, of those that the viewer sees."""
    accounts: int = 0
    unrecovered: int = 0
    """How many of the resources still are."""
    last_failed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Affected:
    """A resource that an incident touches."""

    account: str
    region: str
    resource_arn: str
    thing: str
    job_id: str
    """The last job that failed."""
    failed_at: datetime
    recovered_at: datetime | None


def detail_of(incident: Incident) -> dict[str, Any]:
    """Return the `detail` of the event of the state that an incident came into."""
    return {
        "incidentId": incident.id,
        "state": incident.state.value,
        "cause": incident.cause.value,
        "thing": incident.thing,
        "message": incident.message,
        "affectedResources": incident.resources,
        "affectedAccounts": incident.accounts,
    }
