"""Users, groups, roles, managed policies and credentials, as values."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from holdfast.access.model.caller import Person
from holdfast.access.model.document import DocumentKind, MalformedPolicyError, parse_document
from holdfast.core.errors import AlreadyExistsError, InvalidInputError, InvalidStateError, NotFoundError

ACCESS_ROLE: Final = "OrganizationAccountAccessRole"
ADMINISTRATOR: Final = "AdministratorAccess"
LONGEST_MANAGED_POLICY: Final = 6144
LONGEST_TRUST: Final = 4096
LONGEST_SESSION_POLICY: Final = 2048
MOST_ATTACHED: Final = 20
MOST_VERSIONS: Final = 5
MOST_ACCESS_KEYS: Final = 2
MOST_GROUPS: Final = 10
MOST_MFA_DEVICES: Final = 8

_NAME = re.compile(r"[\w+=,.@-]{1,128}\Z", re.ASCII)
_PATH = re.compile(r"(/|/[\x21-\x7e]{1,510}/)\Z")
_WHITESPACE = re.compile(r"\s")


class IdentityNotFoundError(NotFoundError):
    """There is no such user, group, role, policy or access key."""


class IdentityExistsError(AlreadyExistsError):
    """The name is taken in the account; letter case does not tell names apart."""


class IdentityInUseError(InvalidStateError):
    """Something still belongs to what should be deleted."""


class ProtectedIdentityError(InvalidStateError):
    """A service-linked role or a policy that comes with Holdfast is not the account's to change."""


class InvalidNameError(InvalidInputError):
    """This cannot be a name or path."""


class Kind(StrEnum):
    """What policies are attached to."""

    USER = "user"
    GROUP = "group"
    ROLE = "role"


LONGEST_INLINE: Final = {Kind.USER: 2048, Kind.GROUP: 5120, Kind.ROLE: 10_240}
"""Characters that all inline policies of one identity have together, not counting white space."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with long-term credentials."""

    account: str
    name: str
    id: str
    path: str
    arn: str
    boundary: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Group:
    """Users who share policies."""

    account: str
    name: str
    id: str
    path: str
    arn: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Role:
    """What somebody trusted may act as, for a while."""

    account: str
    name: str
    id: str
    path: str
    arn: str
    description: str
    trust: str
    max_session: int
    """Seconds."""
    boundary: str | None
    created_at: datetime
    last_used_at: datetime | None = None
    last_used_region: str | None = None

    @property
    def is_service_linked(self) -> bool:
        """Whether it belongs to a service, which looks after it."""
        return self.path.startswith("/aws-service-role/")


@dataclass(frozen=True, slots=True)
class ManagedPolicy:
    """A policy with a name and versions of its own."""

    arn: str
    account: str
    name: str
    id: str
    path: str
    description: str
    default_version: str
    last_version: int
    created_at: datetime
    updated_at: datetime

    @property
    def is_aws_managed(self) -> bool:
        """Whether it comes with Holdfast."""
        return self.account == "aws"


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """One version of a managed policy."""

    version: str
    document: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A long-term credential of a user, or of an account's root."""

    id: str
    account: str
    user_name: str | None
    """None for the root's."""
    status: str
    created_at: datetime
    last_used_at: datetime | None = None
    last_used_service: str | None = None
    last_used_region: str | None = None

    @property
    def is_active(self) -> bool:
        """Whether requests signed with it are heard."""
        return self.status == "Active"


@dataclass(frozen=True, slots=True)
class SessionPolicy:
    """A policy given when a session begins: a document, or the ARN of a managed policy."""

    arn: str | None = None
    document: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A temporary credential's row: who acts, as what, until when."""

    access_key_id: str
    account: str
    arn: str
    user_id: str
    principal_arn: str
    session_name: str
    policies: tuple[SessionPolicy, ...] | None
    tags: tuple[tuple[str, str], ...]
    transitive: tuple[str, ...]
    """Keys of the tags that go on into sessions begun from this one."""
    person: Person | None
    mfa_at: datetime | None
    """When a second factor was given, by machine time; None when none was."""
    source_identity: str | None
    provider: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client signs with; the secret is shown once."""

    id: str
    """Of the access key."""
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    expires_at: datetime | None


def check_name(name: str, what: str, *, longest: int = 64) -> None:
    """Refuse what cannot be the name of `what`.

    Raises:
        InvalidNameError: it has other characters than names have, or too many.
    """
    if _NAME.match(name) is None or len(name) > longest:
        raise InvalidNameError(
            f"the name of a {what} has 1 to {longest} letters, digits and + = , . @ _ -: not {name!r}"
        )


def check_path(path: str) -> None:
    """Refuse what cannot be a path.

    Raises:
        InvalidNameError: it does not begin and end with a slash.
    """
    if _PATH.match(path) is None:
        raise InvalidNameError(f"a path is / or begins and ends with it, such as /backup/: not {path!r}")


def policy_length(text: str) -> int:
    """Return how long a policy is as limits count it: without white space."""
    return len(_WHITESPACE.sub("", text))


def check_document(text: str, kind: DocumentKind, *, longest: int) -> None:
    """Refuse a document that is none, or too long.

    Raises:
        MalformedPolicyError: it is one of those.
    """
    if policy_length(text) > longest:
        raise MalformedPolicyError(f"the {kind} has more than {longest} characters, white space not counted")
    parse_document(text, kind)
