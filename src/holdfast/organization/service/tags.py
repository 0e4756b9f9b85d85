"""Tags on the root, units, accounts, policies and the resource policy of an organization."""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from holdfast.organization.errors import TargetNotFoundError
from holdfast.organization.model.limits import LIMITS, Limits
from holdfast.organization.model.names import OrganizationArns
from holdfast.organization.model.tags import refuse_reserved, refuse_too_many
from holdfast.organization.model.tree import NodeKind, Organization, kind_of
from holdfast.organization.service import news
from holdfast.organization.store import accounts, tags, tree


def tag(
    tx: sa.Connection,
    organization: Organization,
    target_id: str,
    added: Mapping[str, str],
    *,
    limits: Limits = LIMITS,
) -> None:
    """Add tags to a root, unit, account or policy; those with the same key are replaced.

    Raises:
        TargetNotFoundError: the organization has nothing with this id.
        ConstraintError: it would have too many tags.
    """
    tree.lock_organization(tx, organization.id)
    arn = arn_of(tx, organization, target_id)
    refuse_too_many(tags.tags_on(tx, organization.management_account, arn), added, limits)
    tags.put_tags(tx, organization.management_account, arn, added)
    news.forget_decisions(tx)


def untag(tx: sa.Connection, organization: Organization, target_id: str, keys: Sequence[str]) -> None:
    """Remove the tags with these keys; a key that is not there is no error.

    Raises:
        TargetNotFoundError: the organization has nothing with this id.
        OrganizationInputError: a key is reserved.
    """
    arn = arn_of(tx, organization, target_id)
    refuse_reserved(keys)
    tags.remove_tags(tx, organization.management_account, arn, keys)
    news.forget_decisions(tx)


def tags_on(tx: sa.Connection, organization: Organization, target_id: str) -> dict[str, str]:
    """Return the tags on a root, unit, account or policy, in the order of their keys.

    Raises:
        TargetNotFoundError: the organization has nothing with this id.
    """
    return tags.tags_on(tx, organization.management_account, arn_of(tx, organization, target_id))


def set_first_tags(
    tx: sa.Connection, organization: Organization, node_id: str, given: Mapping[str, str] | None, limits: Limits
) -> None:
    """Write the tags that a new unit or account begins with.

    Raises:
        ConstraintError: there are too many.
    """
    if given:
        refuse_too_many({}, given, limits)
        tags.put_tags(tx, organization.management_account, _node_arn(organization, node_id), given)


def drop_tags(tx: sa.Connection, organization: Organization, node_id: str | None = None) -> None:
    """Remove every tag on a root, unit or account; without an id, on everything in the organization."""
    if node_id is None:
        tags.drop_all_tags(tx, organization.management_account)
    else:
        tags.drop_tags(tx, organization.management_account, _node_arn(organization, node_id))


def arn_of(tx: sa.Connection, organization: Organization, target_id: str, partition: str = "aws") -> str:
    """Return the ARN of a root, unit, account, policy or resource policy of the organization.

    Raises:
        TargetNotFoundError: the organization has nothing with this id.
    """
    arns = OrganizationArns(partition, organization.management_account, organization.id)
    match kind_of(target_id):
        case NodeKind.ACCOUNT:
            account = accounts.find_account(tx, target_id)
            found = account is not None and account.organization_id == organization.id
        case NodeKind.ROOT | NodeKind.UNIT:
            found = tree.find_unit(tx, organization.id, target_id) is not None
        case _ if target_id.startswith("rp-"):
            if tags.has_resource_policy(tx, organization.id, target_id):
                return arns.resource_policy(target_id)
            found = False
        case _:
            policy_type = tags.policy_type_of(tx, organization.id, target_id)
            if policy_type is not None:
                return arns.policy(policy_type, target_id)
            found = False
    if not found:
        raise TargetNotFoundError
    return arns.node(target_id)


def _node_arn(organization: Organization, node_id: str) -> str:
    return OrganizationArns("aws", organization.management_account, organization.id).node(node_id)
