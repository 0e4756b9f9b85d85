"""Who calls: the principal behind a verified signature."""

from dataclasses import dataclass
from enum import StrEnum


class CallerKind(StrEnum):
    """What kind of principal signed a request."""

    ROOT = "root"
    """The account itself."""
    USER = "user"
    ROLE = "role"
    """A session of a role."""
    SERVICE = "service"
    """Holdfast itself, acting for an account (as a service-linked role would)."""


@dataclass(frozen=True, slots=True)
class Person:
    """The human being behind a session, as the identity provider names them; kept through chained roles."""

    issuer: str
    subject: str


@dataclass(frozen=True, slots=True)
class Caller:
    """The principal of one request."""

    account: str
    """The account of 12 digits that the principal belongs to."""
    arn: str
    """As GetCallerIdentity gives it: a user's ARN, an assumed role's session ARN, or the account's root ARN."""
    user_id: str
    """As GetCallerIdentity gives it: `AIDA...`, `AROA...:SESSION`, or the account id for root."""
    principal_arn: str
    """What `aws:PrincipalArn` is: the user's, the role's (not the session's), or the root's ARN."""
    kind: CallerKind
    session_name: str | None = None
    person: Person | None = None
    mfa: bool = False
