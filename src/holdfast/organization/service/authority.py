"""Whether an organization lets a caller of one of its accounts ask something: the organization's half of the decision.

The other half, what the caller's own policies allow, was decided before. The management account may ask everything;
delegated administrators may read; and the organization's resource policy lets members do more, or denies it to them
(AWS Organizations User Guide, "Delegated administrator for AWS Organizations").
"""

from collections.abc import Callable, Iterable
from enum import IntEnum

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model import (
    AccessRequest,
    Caller,
    Document,
    DocumentKind,
    Policy,
    PolicySet,
    Verdict,
    caller_values,
    evaluate,
    parse_document,
)
from holdfast.access.model.pattern import Values
from holdfast.organization.errors import OrganizationAccessDeniedError
from holdfast.organization.model.tree import Organization
from holdfast.organization.service.membership import Membership, membership_of

_RESOURCE_POLICY = text("SELECT content FROM resource_policy WHERE organization_id = :organization")
_EVERYTHING = parse_document(
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}',
    DocumentKind.IDENTITY,
)
_DECIDED_BEFORE = Policy("the caller's own policies", _EVERYTHING)


class Reach(IntEnum):
    """Who may ask something without anybody's leave. What is not for the management alone can be delegated."""

    MEMBER = 1
    READER = 2
    """The management account and every delegated administrator."""
    DELEGABLE = 3
    """The management account, and whom the organization's resource policy allows it."""
    MANAGEMENT = 4
    """The management account, and nobody else ever."""


def organization_for(
    tx: sa.Connection,
    caller: Caller,
    action: str,
    reach: Reach,
    *,
    name_resources: Callable[[Organization], Iterable[str]] | None = None,
    values: Values | None = None,
) -> Organization:
    """Return the caller's organization, if it lets the caller do `action`.

    `name_resources` gives the ARNs that it is done to, all of which must be allowed; without it, it is done to the
    organization as a whole. It is only asked where a resource policy decides. `values` are the condition keys that the
    request itself has, in lower case.

    Raises:
        NotInOrganizationError: the caller's account belongs to none.
        OrganizationAccessDeniedError: it does not let the caller.
    """
    membership = membership_of(tx, caller.account)
    organization = membership.organization
    if membership.is_management:
        return organization
    if reach is Reach.MANAGEMENT:
        raise OrganizationAccessDeniedError
    by_itself = _may_by_itself(membership, reach)
    document = _resource_policy(tx, organization)
    if document is None:
        if not by_itself:
            raise OrganizationAccessDeniedError
        return organization
    policies = PolicySet(
        identity=(_DECIDED_BEFORE,), resource=(Policy("the organization's resource policy", document),)
    )
    known = {**caller_values(caller), **(values or {})}
    for resource in ("*",) if name_resources is None else name_resources(organization):
        request = AccessRequest(caller, action, resource, organization.management_account, known)
        decision = evaluate(request, policies)
        if not decision.allowed and not (by_itself and decision.reason.verdict is Verdict.IMPLICIT_DENY):
            raise OrganizationAccessDeniedError
    return organization


def _may_by_itself(membership: Membership, reach: Reach) -> bool:
    if reach is Reach.READER:
        return membership.is_delegated
    return reach is Reach.MEMBER


def _resource_policy(tx: sa.Connection, organization: Organization) -> Document | None:
    content = tx.execute(_RESOURCE_POLICY, {"organization": organization.id}).scalar_one_or_none()
    return None if content is None else parse_document(content, DocumentKind.RESOURCE)
