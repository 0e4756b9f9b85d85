"""The verbs of policies: functions over an open transaction that the caller commits.

Every verb that changes something locks the organization first, so that of two changes the second sees what the first
did, and leaves the effective policies as the change makes them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from holdfast.access.model.document import DocumentKind, parse_document
from holdfast.access.store import raise_access_version
from holdfast.core import ids
from holdfast.core.errors import InvalidInputError
from holdfast.database.outbox import publish
from holdfast.organization.errors import TargetNotFoundError
from holdfast.policy import chain_store, distribution, store
from holdfast.policy.errors import (
    DuplicateAttachmentError,
    DuplicatePolicyError,
    PolicyConstraint,
    PolicyConstraintError,
    PolicyInputError,
    PolicyInputReason,
    PolicyInUseError,
    PolicyNotAttachedError,
    PolicyNotFoundError,
    PolicyTypeAlreadyEnabledError,
    PolicyTypeNotAvailableError,
    PolicyTypeNotEnabledError,
    ResourcePolicyNotFoundError,
)
from holdfast.policy.model.admission import admit
from holdfast.policy.model.kind import KINDS, RESOURCE_CONTROL, SERVICE_CONTROL, Kind
from holdfast.policy.store import Policy, Target


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """The one policy of an organization that lets member accounts manage its policies."""

    id: str
    content: str


CHANGED = "PolicyChanged"
"""The news that effective policies may be others now."""

_MANAGED = {
    SERVICE_CONTROL: (
        "FullAWSAccess",
        "Allows access to every operation",
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
    ),
    RESOURCE_CONTROL: (
        "RCPFullAWSAccess",
        "Allows all access to every resource",
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}',
    ),
}


def kind_of(policy_type: str) -> Kind:
    """Return the type of policies with this name.

    Raises:
        PolicyInputError: there is none.
    """
    kind = KINDS.get(policy_type)
    if kind is None:
        raise PolicyInputError(PolicyInputReason.INVALID_ENUM, "You specified an invalid value.")
    return kind


def create_policy(
    tx: sa.Connection,
    organization_id: str,
    policy_type: str,
    name: str,
    description: str,
    content: str,
    *,
    regions: Collection[str],
    now: datetime,
) -> Policy:
    """Store a policy; it does nothing until it is attached. Its type need not be switched on.

    Raises:
        MalformedPolicyError: the document is not one of its type.
        PolicyTooLongError: it is longer than documents of its type may be.
        DuplicatePolicyError: there is a policy of this type and name.
        PolicyConstraintError: there are as many policies of the type as there may be.
        PolicyTypeNotAvailableError: the organization does not have all features.
    """
    store.lock_organization(tx, organization_id)
    refuse_creation(tx, organization_id, policy_type, content, regions=regions, now=now)
    if store.find_policy_by_name(tx, organization_id, policy_type, name) is not None:
        raise DuplicatePolicyError
    policy = Policy(ids.policy_id(), organization_id, policy_type, name, description, content)
    store.insert_policy(tx, policy, now=now)
    return get_policy(tx, organization_id, policy.id)


def refuse_creation(
    tx: sa.Connection, organization_id: str, policy_type: str, content: str, *, regions: Collection[str], now: datetime
) -> None:
    """Refuse a policy that cannot be stored, whatever its name.

    Raises:
        PolicyInputError: there is no such type.
        PolicyTypeNotAvailableError, MalformedPolicyError, PolicyConstraintError: see `create_policy`.
    """
    kind = kind_of(policy_type)
    _require_all_features(tx, organization_id)
    admit(policy_type, content, regions=regions, now=now)
    if store.count_policies(tx, organization_id, policy_type) >= kind.most_policies:
        raise PolicyConstraintError(
            PolicyConstraint.POLICY_NUMBER_LIMIT_EXCEEDED,
            f"You have exceeded the number of policies of this type for an organization ({kind.most_policies}).",
        )


def get_policy(tx: sa.Connection, organization_id: str, policy_id: str) -> Policy:
    """Return a policy.

    Raises:
        PolicyNotFoundError: the organization has none with this id.
    """
    found = store.find_policy(tx, organization_id, policy_id)
    if found is None:
        raise PolicyNotFoundError
    return found


def update_policy(
    tx: sa.Connection,
    organization_id: str,
    policy_id: str,
    *,
    name: str | None = None,
    description: str | None = None,
    content: str | None = None,
    regions: Collection[str],
    now: datetime,
) -> Policy:
    """Change a policy; what is None stays. Effective policies below its attachments are computed anew.

    Raises:
        PolicyNotFoundError: there is no such policy.
        PolicyInputError: it is one that AWS manages.
        MalformedPolicyError, PolicyTooLongError: the document is not one of its type.
        DuplicatePolicyError: another policy of its type has the name.
    """
    store.lock_organization(tx, organization_id)
    policy = changeable(tx, organization_id, policy_id)
    if content is not None:
        admit(policy.type, content, regions=regions, now=now)
    if name not in {None, policy.name} and _is_taken(tx, policy, name):
        raise DuplicatePolicyError
    changed = replace(
        policy,
        name=policy.name if name is None else name,
        description=policy.description if description is None else description,
        content=policy.content if content is None else content,
    )
    new_version = (changed.name, changed.content) != (policy.name, policy.content)
    changed = replace(changed, version=policy.version + new_version)
    store.update_policy(tx, changed, new_version=new_version, now=now)
    if KINDS[policy.type].inherits:
        distribution.policy_changed(tx, organization_id, policy.type, policy_id, now=now)
    _tell(tx, organization_id, policy.type, now=now)
    return get_policy(tx, organization_id, policy_id)


def changeable(tx: sa.Connection, organization_id: str, policy_id: str) -> Policy:
    """Return a policy that can be changed.

    Raises:
        PolicyNotFoundError: there is no such policy.
        PolicyInputError: it is one that AWS manages.
    """
    policy = get_policy(tx, organization_id, policy_id)
    _require_own(policy)
    return policy


def delete_policy(tx: sa.Connection, organization_id: str, policy_id: str, *, now: datetime) -> Policy:
    """Delete a policy that is attached nowhere; return it as it was.

    Raises:
        PolicyNotFoundError: there is no such policy.
        PolicyInputError: it is one that AWS manages.
        PolicyInUseError: it is attached.
    """
    store.lock_organization(tx, organization_id)
    policy = changeable(tx, organization_id, policy_id)
    if store.count_targets(tx, organization_id, policy_id):
        raise PolicyInUseError
    store.delete_policy(tx, organization_id, policy_id, now=now)
    return policy


def get_target(tx: sa.Connection, organization_id: str, target_id: str) -> Target:
    """Return the root, unit or account that a policy may be attached to.

    Raises:
        TargetNotFoundError: the organization has none with this id.
    """
    found = store.find_target(tx, organization_id, target_id)
    if found is None:
        raise TargetNotFoundError
    return found


def attach_policy(tx: sa.Connection, organization_id: str, policy_id: str, target_id: str, *, now: datetime) -> None:
    """Attach a policy to a node, behind those that are attached there.

    Raises:
        PolicyNotFoundError, TargetNotFoundError: there is no such policy or node.
        PolicyTypeNotEnabledError: the policy's type is not switched on.
        DuplicateAttachmentError: it is attached there already.
        PolicyConstraintError: as many policies of the type are attached there as may be.
    """
    store.lock_organization(tx, organization_id)
    policy = get_policy(tx, organization_id, policy_id)
    target, _ = attachable(tx, policy, target_id)
    store.attach(tx, organization_id, policy.type, policy_id, target_id, now=now)
    _attachments_changed(tx, organization_id, KINDS[policy.type], target, now=now)


def attachable(tx: sa.Connection, policy: Policy, target_id: str) -> tuple[Target, list[str]]:
    """Return the node that a policy can be attached to, with the policies of its type attached there in order.

    Raises:
        TargetNotFoundError, PolicyTypeNotEnabledError, DuplicateAttachmentError, PolicyConstraintError: it cannot.
    """
    target = get_target(tx, policy.organization_id, target_id)
    kind = KINDS[policy.type]
    if not store.is_enabled(tx, policy.organization_id, policy.type):
        raise PolicyTypeNotEnabledError
    attached = store.attachments(tx, policy.organization_id, policy.type, [target_id]).get(target_id, [])
    if policy.id in attached:
        raise DuplicateAttachmentError
    if len(attached) >= kind.most_attached_to_a_node:
        raise PolicyConstraintError(
            PolicyConstraint.MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED,
            "You have exceeded the number of policies of this type that may be attached to an entity "
            f"({kind.most_attached_to_a_node}).",
        )
    return target, attached


def detach_policy(tx: sa.Connection, organization_id: str, policy_id: str, target_id: str, *, now: datetime) -> None:
    """End the attachment of a policy to a node.

    Raises:
        PolicyNotFoundError, TargetNotFoundError: there is no such policy or node.
        PolicyNotAttachedError: it is not attached there.
        PolicyInputError: it is the resource control policy that stays everywhere.
        PolicyConstraintError: it is the node's last service control policy.
    """
    store.lock_organization(tx, organization_id)
    policy = get_policy(tx, organization_id, policy_id)
    target, _ = detachable(tx, policy, target_id)
    store.detach(tx, organization_id, policy_id, target_id, now=now)
    _attachments_changed(tx, organization_id, KINDS[policy.type], target, now=now)


def detachable(tx: sa.Connection, policy: Policy, target_id: str) -> tuple[Target, list[str]]:
    """Return the node that a policy can be detached from, with the policies of its type attached there in order.

    Raises:
        TargetNotFoundError, PolicyNotAttachedError, PolicyInputError, PolicyConstraintError: it cannot.
    """
    target = get_target(tx, policy.organization_id, target_id)
    attached = store.attachments(tx, policy.organization_id, policy.type, [target_id]).get(target_id, [])
    if policy.id not in attached:
        raise PolicyNotAttachedError
    if policy.type == RESOURCE_CONTROL and policy.aws_managed:
        raise PolicyInputError(
            PolicyInputReason.NON_DETACHABLE_POLICY, f"{policy.name} is attached to every entity and can't be detached."
        )
    if policy.type == SERVICE_CONTROL and len(attached) == 1:
        raise PolicyConstraintError(
            PolicyConstraint.MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED,
            "You can't detach the last service control policy of an entity. Attach another one first.",
        )
    return target, attached


def _attachments_changed(tx: sa.Connection, organization_id: str, kind: Kind, target: Target, *, now: datetime) -> None:
    if kind.inherits:
        distribution.node_changed(tx, organization_id, kind.name, target.path, now=now)
    _tell(tx, organization_id, kind.name, now=now)


def _tell(tx: sa.Connection, organization_id: str, policy_type: str, *, now: datetime) -> None:
    raise_access_version(tx)
    publish(tx, CHANGED, {"organization": organization_id, "type": policy_type}, at=now)


def enable_policy_type(tx: sa.Connection, organization_id: str, policy_type: str, *, now: datetime) -> None:
    """Switch a type on. Control policies start with the one that allows everything, attached to every node.

    Raises:
        PolicyInputError: there is no such type.
        PolicyTypeNotAvailableError: the organization does not have all features.
        PolicyTypeAlreadyEnabledError: it is switched on.
    """
    store.lock_organization(tx, organization_id)
    kind = enableable(tx, organization_id, policy_type)
    store.enable_type(tx, organization_id, policy_type, now=now)
    _keep_managed(tx, organization_id, kind, now=now)
    if kind.managed_id is not None:
        store.attach_everywhere(tx, organization_id, policy_type, kind.managed_id, now=now)
    if kind.inherits:
        distribution.place_accounts(tx, organization_id, policy_type, None, now=now)
    _tell(tx, organization_id, policy_type, now=now)


def enableable(tx: sa.Connection, organization_id: str, policy_type: str) -> Kind:
    """Return the type that can be switched on.

    Raises:
        PolicyInputError: there is no such type.
        PolicyTypeNotAvailableError, PolicyTypeAlreadyEnabledError: see `enable_policy_type`.
    """
    kind = kind_of(policy_type)
    _require_all_features(tx, organization_id)
    if store.is_enabled(tx, organization_id, policy_type):
        raise PolicyTypeAlreadyEnabledError
    return kind


def disable_policy_type(tx: sa.Connection, organization_id: str, policy_type: str, *, now: datetime) -> None:
    """Switch a type off: every attachment of it ends, and no account has an effective policy of it. Policies stay.

    Raises:
        PolicyInputError: there is no such type.
        PolicyTypeNotEnabledError: it is not switched on.
    """
    kind_of(policy_type)
    store.lock_organization(tx, organization_id)
    if not store.is_enabled(tx, organization_id, policy_type):
        raise PolicyTypeNotEnabledError
    store.disable_type(tx, organization_id, policy_type)
    store.detach_type(tx, organization_id, policy_type, now=now)
    chain_store.end_type(tx, organization_id, policy_type, now=now)
    _tell(tx, organization_id, policy_type, now=now)


def _keep_managed(tx: sa.Connection, organization_id: str, kind: Kind, *, now: datetime) -> None:
    """Let the organization have the policy that AWS manages for this type, if there is one."""
    if kind.managed_id is None:
        return
    name, description, content = _MANAGED[kind.name]
    managed = Policy(kind.managed_id, organization_id, kind.name, name, description, content, aws_managed=True)
    store.insert_policy(tx, managed, now=now)


def organization_created(tx: sa.Connection, organization_id: str, *, now: datetime) -> None:
    """Give a new organization the policies that AWS manages; they are attached when their type is switched on."""
    for kind in KINDS.values():
        _keep_managed(tx, organization_id, kind, now=now)


def nodes_added(tx: sa.Connection, organization_id: str, node_ids: Sequence[str], *, now: datetime) -> None:
    """Attach the control policies that stand everywhere to units and accounts that are new in the organization."""
    for policy_type in store.enabled_types(tx, organization_id):
        managed = KINDS[policy_type].managed_id
        if managed is not None:
            store.attach_first(tx, organization_id, policy_type, managed, node_ids, now=now)


def node_removed(tx: sa.Connection, organization_id: str, node_id: str, *, now: datetime) -> None:
    """End every attachment to a unit that was deleted, or to an account that left."""
    store.detach_all_from(tx, organization_id, node_id, now=now)


def recompute_accounts(tx: sa.Connection, account_ids: Sequence[str], *, now: datetime) -> None:
    """Make the effective policies of accounts follow from where they stand now.

    To be called in the transaction in which they joined, moved or left; doing it again changes nothing.
    """
    chain_store.end_accounts(tx, chain_store.accounts_that_left(tx, account_ids), now=now)
    for organization_id, accounts in chain_store.accounts_by_organization(tx, account_ids).items():
        _place(tx, organization_id, accounts, now=now)
    raise_access_version(tx)


def recompute_organization(tx: sa.Connection, organization_id: str, *, now: datetime) -> None:
    """Make the effective policies of all accounts of an organization follow from where they stand now."""
    _place(tx, organization_id, None, now=now)


def _place(tx: sa.Connection, organization_id: str, accounts: Sequence[str] | None, *, now: datetime) -> None:
    for policy_type in store.enabled_types(tx, organization_id):
        if KINDS[policy_type].inherits:
            moved = distribution.place_accounts(tx, organization_id, policy_type, accounts, now=now)
            if moved:
                _tell(tx, organization_id, policy_type, now=now)


def _is_taken(tx: sa.Connection, policy: Policy, name: str | None) -> bool:
    found = store.find_policy_by_name(tx, policy.organization_id, policy.type, name or "")
    return found is not None


def _require_all_features(tx: sa.Connection, organization_id: str) -> None:
    if store.feature_set(tx, organization_id) != "ALL":
        raise PolicyTypeNotAvailableError


def _require_own(policy: Policy) -> None:
    if policy.aws_managed:
        raise PolicyInputError(
            PolicyInputReason.IMMUTABLE_POLICY,
            "You specified a policy that is managed by AWS and can't be modified.",
        )


def get_resource_policy(tx: sa.Connection, organization_id: str) -> ResourcePolicy:
    """Return the organization's resource policy.

    Raises:
        ResourcePolicyNotFoundError: it has none.
    """
    found = store.find_resource_policy(tx, organization_id)
    if found is None:
        raise ResourcePolicyNotFoundError
    return ResourcePolicy(*found)


def put_resource_policy(tx: sa.Connection, organization_id: str, content: str, *, now: datetime) -> ResourcePolicy:
    """Give the organization this resource policy instead of the one it has; there is at most one.

    Raises:
        PolicyInputError: the document is not one that grants something to somebody, or speaks of other services.
    """
    store.lock_organization(tx, organization_id)
    try:
        document = parse_document(content, DocumentKind.RESOURCE)
    except InvalidInputError as error:
        raise PolicyInputError(
            PolicyInputReason.INVALID_RESOURCE_POLICY_JSON, f"The resource policy is not valid: {error}"
        ) from error
    for statement in document.statements:
        if statement.is_not_action or not all(_is_of_organizations(action) for action in statement.action_texts):
            raise PolicyInputError(
                PolicyInputReason.UNSUPPORTED_ACTION,
                f"Statement {statement.number} must name actions of AWS Organizations only, as in organizations:List*.",
            )
    store.put_resource_policy(tx, organization_id, ids.resource_policy_id(), content, now=now)
    raise_access_version(tx)
    return get_resource_policy(tx, organization_id)


def _is_of_organizations(action: str) -> bool:
    return action.lower().startswith("organizations:")


def delete_resource_policy(tx: sa.Connection, organization_id: str) -> None:
    """Delete the organization's resource policy; what it granted ends at once.

    Raises:
        ResourcePolicyNotFoundError: it has none.
    """
    store.lock_organization(tx, organization_id)
    if not store.delete_resource_policy(tx, organization_id):
        raise ResourcePolicyNotFoundError
    raise_access_version(tx)
