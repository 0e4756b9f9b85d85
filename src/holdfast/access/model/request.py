"""What is asked of the evaluator: one action on one resource, and the policies that bear on it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from holdfast.access.model.caller import Caller, CallerKind
from holdfast.access.model.document import Document
from holdfast.access.model.pattern import Values


class PolicyType(StrEnum):
    """Where a policy stands in the evaluation, in the words that AWS uses for it in refusals."""

    SCP = "service control policy"
    RCP = "resource control policy"
    RESOURCE = "resource-based policy"
    TRUST = "role trust policy"
    IDENTITY = "identity-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as it bears on a request: a compiled document and what people call it."""

    name: str
    """Its ARN, or for an inline policy its name; what a reason shows."""
    document: Document


@dataclass(frozen=True, slots=True)
class Level:
    """One node of the organization with the control policies attached to it."""

    node: str
    """`root r-ab12`, `unit ou-ab12-x`, `account 111122223333`."""
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every policy that bears on one request."""

    identity: tuple[Policy, ...] = ()
    """Of the user and their groups, or of the role: managed and inline."""
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None
    """Policies given when the session began; None when none were given."""
    scps: tuple[Level, ...] = ()
    """From the root down to the caller's account; empty where no organization, or none with SCPs on, is above it."""
    rcps: tuple[Level, ...] = ()
    """From the root down to the resource's account."""
    resource: tuple[Policy, ...] = ()
    """The vault's, key's or role's own policy."""
    resource_policy_decides: bool = False
    """Whether the resource's own policy must allow, even within the account: so it is with keys and roles."""
    management_accounts: frozenset[str] = frozenset()
    """The accounts that no control policy binds: of the caller's organization and of the resource's."""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """May this caller do this to that?"""

    caller: Caller
    action: str
    resource: str
    """An ARN, or `*` for an action that names no resource."""
    resource_account: str
    """The account that owns the resource, which S3 and snapshot ARNs do not say."""
    values: Values = field(default_factory=dict)
    """Condition keys in lower case, each with its values; `values_of` and `caller_values` make them."""


def values_of(pairs: Mapping[str, str | bool | int | datetime | Iterable[str] | None]) -> dict[str, tuple[str, ...]]:
    """Return condition values with their keys in lower case; None means that the request does not say.

    Tag keys that differ in letter case only become one key with several values, since policies cannot tell them apart.
    """
    values: dict[str, tuple[str, ...]] = {}
    for key, value in pairs.items():
        if value is None:
            continue
        if isinstance(value, bool):
            new: tuple[str, ...] = ("true" if value else "false",)
        elif isinstance(value, str):
            new = (value,)
        elif isinstance(value, int):
            new = (str(value),)
        elif isinstance(value, datetime):
            new = (value.strftime("%Y-%m-%dT%H:%M:%SZ"),)
        else:
            new = tuple(value)
        folded = key.lower()
        values[folded] = values.get(folded, ()) + new
    return values


_PRINCIPAL_TYPE = {CallerKind.ROOT: "Account", CallerKind.USER: "User", CallerKind.ROLE: "AssumedRole"}


def caller_values(caller: Caller) -> dict[str, tuple[str, ...]]:
    """Return the condition keys that say who calls."""
    is_service = caller.kind is CallerKind.SERVICE
    is_nobody_here = is_service or caller.kind is CallerKind.FEDERATED
    pairs: dict[str, str | bool | int | datetime | Iterable[str] | None] = {
        "aws:PrincipalArn": None if is_nobody_here else caller.principal_arn,
        "aws:PrincipalAccount": None if is_nobody_here else caller.account,
        "aws:PrincipalType": _PRINCIPAL_TYPE.get(caller.kind),
        "aws:userid": None if is_service else caller.user_id,
        "aws:username": caller.name,
        "aws:PrincipalIsAWSService": is_service,
        "aws:PrincipalServiceName": caller.arn if is_service else None,
        "aws:MultiFactorAuthPresent": None if caller.issued_at is None else caller.mfa_at is not None,
        "aws:TokenIssueTime": caller.issued_at,
        "aws:SourceIdentity": caller.source_identity,
        "aws:FederatedProvider": caller.federated_provider,
        "aws:PrincipalOrgID": caller.organization_id,
        "aws:PrincipalOrgPaths": (caller.organization_path,) if caller.organization_path else None,
    }
    said = {} if caller.web_identity is None else dict(caller.web_identity.keys)
    values = values_of(said) | values_of(pairs)
    seen: set[str] = set()
    for key, value in caller.tags:  # the session's tags come first and hide the role's
        folded = f"aws:principaltag/{key}".lower()
        if folded not in seen:
            seen.add(folded)
            values[folded] = (value,)
    return values
