"""Event routes: which events go to which receiver, and what is sent.

CloudEvents 1.0 in its JSON format, signed as "Standard Webhooks" says (HMAC-SHA256 over identifier, time and body), or
the JSON of Amazon Simple Notification Service, Developer Guide, "Parsing message formats".
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from holdfast.assessment.settings import REGION_CHANGE
from holdfast.core.errors import ConflictError, InvalidInputError, InvalidStateError, NotFoundError
from holdfast.job.event import DETAIL_TYPES
from holdfast.job.model import State
from holdfast.monitor.incident import FAILURES, INCIDENT_CHANGE
from holdfast.plan.event import PLAN_CHANGE
from holdfast.recovery.event import POINT_CHANGE
from holdfast.trail.event import DETAIL_TYPE, RESOURCES, told_instant
from holdfast.trail.reading import Recorded
from holdfast.trail.service import Decision
from holdfast.vault.event import VAULT_CHANGE

TEST: Final = "Holdfast Test Event"
ALL_DETAIL_TYPES: Final = frozenset(
    {*DETAIL_TYPES.values(), VAULT_CHANGE, PLAN_CHANGE, POINT_CHANGE, REGION_CHANGE, INCIDENT_CHANGE}
)
MOST_ATTEMPTS: Final = 8
"""Times that a delivery is tried before it is a dead letter; with the pauses of `pause_after` some ten minutes."""
_LONGEST_PAUSE: Final = timedelta(minutes=5)
_OURS: Final = frozenset({"jobId", "epoch"})
"""What an entry tells and an event does not."""


class UnknownRouteError(NotFoundError):
    """There is no such event route or dead letter."""


class RouteChangedError(ConflictError):
    """The route is at another version than the one that was expected."""


class InvalidRouteError(InvalidInputError):
    """A route names a receiver, a filter or a secret that makes no sense."""


class UnconfirmedRouteError(InvalidStateError):
    """The receiver of the route has not confirmed yet that it wants what the topic tells."""


class Format(StrEnum):
    """What a receiver understands."""

    CLOUDEVENTS = "CLOUDEVENTS"
    SNS = "SNS"


@dataclass(frozen=True, slots=True)
class Route:
    """Where events of an account, or of its whole organization, go."""

    account: str
    name: str
    region: str
    """Where its secret lies."""
    url: str
    format: Format
    secret_name: str | None
    """Signs what is sent."""
    organization_wide: bool
    topic: str | None
    """The topic whose subscriber the receiver is: it gets what vaults tell that topic, and nothing else."""
    detail_types: tuple[str, ...]
    states: tuple[str, ...]
    """Empty: all."""
    confirmation: str | None
    """The token that the receiver still has to give back."""
    version: int
    created_at: datetime
    updated_at: datetime

    def wants(self, event: "Event") -> bool:
        """Return whether an event passes its filters."""
        return (not self.detail_types or event.detail_type in self.detail_types) and (
            not self.states or event.state in self.states
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed its state."""

    id: str
    account: str
    region: str
    at: datetime
    detail_type: str
    resources: tuple[str, ...]
    detail: Mapping[str, Any]
    position: int = 0
    """Where it stands in the trail: a receiver is told in this order."""

    @property
    def state(self) -> str:
        """The state that it came into."""
        return str(self.detail.get("state") or self.detail.get("status") or "")

    @property
    def vault_arn(self) -> str | None:
        """The vault that it is about: of a copy the one that is copied into."""
        found = self.detail.get("backupVaultArn") or self.detail.get("destinationBackupVaultArn")
        return None if found is None else str(found)

    def envelope(self) -> dict[str, Any]:
        """Return it as Amazon EventBridge would give it to its targets."""
        return {
            "version": "0",
            "id": self.id,
            "detail-type": self.detail_type,
            "source": "holdfast" if self.detail_type == INCIDENT_CHANGE else "aws.backup",
            "account": self.account,
            "time": told_instant(self.at),
            "region": self.region,
            "resources": list(self.resources),
            "detail": dict(self.detail),
        }


def event_of(entry: Recorded, *, installation: str) -> Event | None:
    """Return the event that an entry of the trail tells of; None where nothing came into another state.

    Its id follows from the entry, so that an event has one id however often it is made.
    """
    facts = dict(entry.parameters)
    detail_type = facts.pop(DETAIL_TYPE, None)
    if entry.decision is not Decision.EVENT or detail_type is None:
        return None
    resources = tuple(str(arn) for arn in facts.pop(RESOURCES, ()))
    detail = {name: value for name, value in facts.items() if name not in _OURS}
    digest = hashlib.sha256(f"{installation} {entry.id}".encode()).hexdigest()
    event_id = f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-a{digest[17:20]}-{digest[20:32]}"
    return Event(event_id, entry.account, entry.region, entry.at, str(detail_type), resources, detail, entry.id)


def ended_jobs(entries: Iterable[Recorded]) -> list[tuple[str, bool]]:
    """Return the ids of jobs that entries tell the end of, each with whether it failed; those that were stopped not."""
    found = []
    for entry in entries:
        facts = entry.parameters
        if entry.decision is Decision.EVENT and facts.get(DETAIL_TYPE) in DETAIL_TYPES.values():
            state = State(facts.get("state") or facts["status"])
            if state in FAILURES or state is State.COMPLETED:
                found.append((str(facts["jobId"]), state in FAILURES))
    return found


def vault_events_of(event: Event) -> set[str]:
    """Return what the notifications of vaults call an event (AWS Backup API Reference, PutBackupVaultNotifications)."""
    kind = {value: key.value for key, value in DETAIL_TYPES.items()}.get(event.detail_type)
    if kind is None:
        return {"RECOVERY_POINT_MODIFIED"} if event.detail_type == POINT_CHANGE and event.state == "MODIFIED" else set()
    names = {
        "RUNNING": ("STARTED",),
        "COMPLETED": ("COMPLETED", "SUCCESSFUL"),
        "PARTIAL": ("COMPLETED", "SUCCESSFUL"),
        "FAILED": ("COMPLETED", "FAILED"),
        "ABORTED": ("COMPLETED", "FAILED"),
        "EXPIRED": ("COMPLETED", "EXPIRED"),
    }.get(event.state, ())
    return {f"{kind}_JOB_{name}" for name in names}


def cloud_event(event: Event) -> dict[str, Any]:
    """Return an event in the JSON format of CloudEvents 1.0; its data is the envelope of EventBridge."""
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/holdfast/{event.account}/{event.region}",
        "type": f"{event.envelope()['source']}.{event.detail_type.replace(' ', '')}",
        "subject": event.resources[0] if event.resources else event.account,
        "time": told_instant(event.at),
        "datacontenttype": "application/json",
        "data": event.envelope(),
    }


def sns_notification(event: Event, topic: str) -> dict[str, Any]:
    """Return an event as a subscriber of a topic gets it."""
    what = event.detail_type.removesuffix(" State Change")
    resource = event.detail.get("resourceArn") or event.detail.get("sourceResourceArn") or ""
    attributes = {"EventType": what.upper().replace(" ", "_"), "State": event.state, "AccountId": event.account}
    return {
        "Type": "Notification",
        "MessageId": event.id,
        "TopicArn": topic,
        "Subject": "Notification from AWS Backup",
        "Message": f"AWS {what} is {event.state}. Resource ARN : {resource}. {json.dumps(event.detail)}",
        "Timestamp": told_instant(event.at),
        "MessageAttributes": {name: {"Type": "String", "Value": value} for name, value in attributes.items() if value},
    }


def sns_confirmation(route: Route, message_id: str, at: datetime) -> dict[str, Any]:
    """Return what asks a new subscriber for the token: `ConfirmEventRoute` takes it."""
    return {
        "Type": "SubscriptionConfirmation",
        "MessageId": message_id,
        "Token": route.confirmation,
        "TopicArn": route.topic,
        "Message": f"You have chosen to subscribe to the topic {route.topic}. Give the token to ConfirmEventRoute of "
        f"Holdfast, with the route's name, {route.name}.",
        "Timestamp": told_instant(at),
    }


def headers_of(route: Route, event_id: str, body: bytes, secret: bytes | None, at: datetime) -> dict[str, str]:
    """Return the headers that go with a body sent at an instant; signed where the route has a secret."""
    stamp = str(int(at.timestamp()))
    headers = {"webhook-id": event_id, "webhook-timestamp": stamp}
    if route.format is Format.CLOUDEVENTS:
        headers["Content-Type"] = "application/cloudevents+json; charset=UTF-8"
    else:
        headers |= {"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-id": event_id}
        headers |= {
            "x-amz-sns-message-type": "Notification" if route.confirmation is None else "SubscriptionConfirmation",
            "x-amz-sns-topic-arn": route.topic or "",
        }
    if secret is not None:
        signed = hmac.new(secret, f"{event_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = "v1," + base64.b64encode(signed).decode("ascii")
    return headers


def pause_after(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts failed."""
    return min(timedelta(seconds=5 * 2 ** max(attempts - 1, 0)), _LONGEST_PAUSE)
