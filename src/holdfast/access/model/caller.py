"""Who calls: the principal behind a request, and the person behind the principal."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from holdfast.access.model.web_identity import WebIdentity


class CallerKind(StrEnum):
    """What kind of principal signed a request."""

    ROOT = "root"
    """The account itself."""
    USER = "user"
    ROLE = "role"
    """A session of a role."""
    FEDERATED = "federated"
    """Somebody whom an identity provider vouches for, and who acts in no role yet."""
    SERVICE = "service"
    """Holdfast itself, acting for an account (as a service-linked role would)."""


@dataclass(frozen=True, slots=True)
class Person:
    """The human being behind a session, as an identity provider names them."""

    issuer: str
    subject: str

    def __str__(self) -> str:
        return f"{self.subject} ({self.issuer})"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, with everything that policies may ask about them."""

    account: str
    arn: str
    """The ARN that GetCallerIdentity gives: of the user, or of the session in a role."""
    user_id: str
    """The unique id; for a session, the role's id, a colon and the session's name."""
    principal_arn: str
    """The ARN of the user, or of the role that a session acts in."""
    kind: CallerKind
    session_name: str | None = None
    person: Person | None = None
    access_key_id: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    """The principal's tags, those of the session first in force."""
    is_service_linked: bool = False
    """Acts in a service-linked role, which control policies of the organization do not bind."""
    mfa_at: datetime | None = None
    """When a second factor was given for the session or for the one that it began from; None when none was."""
    issued_at: datetime | None = None
    """When the temporary credential was made; None for a long-term key."""
    source_identity: str | None = None
    federated_provider: str | None = None
    web_identity: WebIdentity | None = None
    """What their identity provider says, of somebody who acts in no role yet."""
    organization_id: str | None = None
    organization_path: str | None = None
    """`o-ID/r-ID/ou-ID/`: the path of the unit that the account is in."""

    @property
    def unique_id(self) -> str:
        """The unique id of the user or role, without a session's name."""
        return self.user_id.partition(":")[0]

    @property
    def name(self) -> str | None:
        """The friendly name of a user; nobody else has one."""
        return self.principal_arn.rpartition("/")[2] if self.kind is CallerKind.USER else None


def root_caller(account: str, *, partition: str = "aws", access_key_id: str = "") -> Caller:
    """Return the root user of `account`."""
    arn = f"arn:{partition}:iam::{account}:root"
    return Caller(account, arn, account, arn, CallerKind.ROOT, access_key_id=access_key_id)


def federated_caller(account: str, identity: WebIdentity) -> Caller:
    """Return somebody whom an identity provider of `account` vouches for, on their way to a role in it."""
    return Caller(
        account=account,
        arn=identity.provider,
        user_id=f"{identity.provider}:{identity.subject}",
        principal_arn=identity.provider,
        kind=CallerKind.FEDERATED,
        person=Person(identity.issuer, identity.subject),
        federated_provider=identity.provider,
        web_identity=identity,
    )


def service_caller(service: str, *, account: str = "") -> Caller:
    """Return one of Holdfast's own services, such as `backup.amazonaws.com`, acting on behalf of `account`."""
    return Caller(account, service, service, service, CallerKind.SERVICE)
