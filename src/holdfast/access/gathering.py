"""The policies that speak for an identity or a session, compiled, ready for the evaluator."""

from collections.abc import Iterable

import sqlalchemy as sa

from holdfast.access import store
from holdfast.access.managed import find_managed
from holdfast.access.model.document import DocumentKind, parse_document
from holdfast.access.model.identity import Kind, Role, SessionPolicy
from holdfast.access.model.request import Policy


def identity_policies(tx: sa.Connection, account: str, kind: Kind, name: str) -> tuple[Policy, ...]:
    """Return what a user (with their groups), a group or a role is allowed and denied by its own policies."""
    policies = []
    for held in store.held_documents(tx, account, kind, name):
        through = f" of {held.kind.value} {held.holder}" if held.document is not None else ""
        document = held.document
        if document is None:
            managed = find_managed(held.policy)
            if managed is None:
                continue  # attached, and deleted since: it says nothing
            document = managed[1].document
        label = held.policy if held.policy.startswith("arn:") else f"{held.policy}{through}"
        policies.append(Policy(label, parse_document(document, DocumentKind.IDENTITY)))
    return tuple(policies)


def managed_policy(tx: sa.Connection, arn: str) -> Policy | None:
    """Return the version in force of a managed policy."""
    managed = find_managed(arn)
    text = managed[1].document if managed is not None else store.default_documents(tx, [arn]).get(arn)
    return None if text is None else Policy(arn, parse_document(text, DocumentKind.IDENTITY))


NOTHING = '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}'


def boundary_policy(tx: sa.Connection, arn: str | None) -> Policy | None:
    """Return the boundary with this ARN; one that does not exist any more allows nothing."""
    if arn is None:
        return None
    return managed_policy(tx, arn) or Policy(arn, parse_document(NOTHING, DocumentKind.IDENTITY))


def session_policies(tx: sa.Connection, given: Iterable[SessionPolicy] | None) -> tuple[Policy, ...] | None:
    """Return the policies that were given when a session began; None when none were."""
    if given is None:
        return None
    policies = []
    for each in given:
        if each.document is not None:
            policies.append(Policy("the session's policy", parse_document(each.document, DocumentKind.IDENTITY)))
        elif each.arn is not None:
            managed = managed_policy(tx, each.arn)
            if managed is not None:
                policies.append(managed)
    return tuple(policies)


def trust_policy(role: Role) -> Policy:
    """Return who may act in a role."""
    return Policy(f"trust policy of {role.name}", parse_document(role.trust, DocumentKind.TRUST))
