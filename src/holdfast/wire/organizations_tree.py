"""The organization, its root and its units on the `organizations` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.paging import Page
from holdfast.organization.model.tree import FeatureSet, NodeKind, Unit
from holdfast.organization.service import accounts, membership, tree
from holdfast.organization.service.authority import Reach
from holdfast.wire import organizations_effects as effects
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import (
    arns_of,
    listed,
    organization_for,
    organization_to_wire,
    tags_from_wire,
    unit_to_wire,
)


def create_organization(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make an organization that the caller's account manages."""
    features = FeatureSet(shape.get("FeatureSet", FeatureSet.ALL))
    organization = tree.create_organization(call.tx, call.caller.account, features, now=call.now)
    effects.organization_created(call, organization)
    return {"Organization": organization_to_wire(call, organization)}


def describe_organization(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Describe the caller's organization."""
    organization = organization_for(
        call, Reach.MEMBER, lambda organization: [arns_of(call, organization).organization()]
    )
    found = membership.membership_of(call.tx, call.caller.account)
    return {"Organization": organization_to_wire(call, organization, narrow=not found.sees_everything)}


def delete_organization(call: Call, _shape: dict[str, Any]) -> None:
    """Delete the organization that the caller's account manages."""
    organization = organization_for(call, Reach.MANAGEMENT)
    tree.delete_organization(call.tx, organization, now=call.now)
    effects.accounts_left(call, organization.id, [organization.management_account])


def leave_organization(call: Call, _shape: dict[str, Any]) -> None:
    """Let the caller's account leave its organization."""
    organization = organization_for(call, Reach.MEMBER)
    accounts.remove_account(call.tx, organization, call.caller.account, now=call.now)
    effects.accounts_left(call, organization.id, [call.caller.account])


def list_roots(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the organization's only root, with the policy types that are switched on."""
    organization = organization_for(call, Reach.READER)
    arns = arns_of(call, organization)
    root = tree.get_root(call.tx, organization)
    types = tree.policy_types(call.tx, organization)

    def to_wire(unit: Unit) -> dict[str, Any]:
        return {
            "Id": unit.id,
            "Arn": arns.root(unit.id),
            "Name": unit.name,
            "PolicyTypes": [{"Type": kind, "Status": status} for kind, status in types],
        }

    return listed(call, shape, "Roots", lambda _after, _limit: Page((root,)), to_wire)


def create_organizational_unit(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a unit under the root or another unit."""
    organization = organization_for(call, Reach.MANAGEMENT)
    tags = tags_from_wire(shape)
    unit = tree.create_unit(call.tx, organization, shape["ParentId"], shape["Name"], tags, now=call.now)
    effects.unit_created(call, organization, unit.id)
    return {"OrganizationalUnit": unit_to_wire(arns_of(call, organization), unit)}


def update_organizational_unit(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Rename a unit. A name of blanks alone changes nothing."""
    organization = organization_for(call, Reach.MANAGEMENT)
    name = shape.get("Name", "").strip() and shape["Name"]
    unit = tree.rename_unit(call.tx, organization, shape["OrganizationalUnitId"], name or None)
    return {"OrganizationalUnit": unit_to_wire(arns_of(call, organization), unit)}


def delete_organizational_unit(call: Call, shape: dict[str, Any]) -> None:
    """Delete a unit that holds nothing."""
    organization = organization_for(call, Reach.MANAGEMENT)
    unit = tree.delete_unit(call.tx, organization, shape["OrganizationalUnitId"], now=call.now)
    effects.unit_deleted(call, organization, unit.id)


def describe_organizational_unit(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a unit."""
    unit_id = shape["OrganizationalUnitId"]
    organization = organization_for(
        call, Reach.READER, lambda organization: [arns_of(call, organization).unit(unit_id)]
    )
    unit = tree.get_unit(call.tx, organization, unit_id)
    return {"OrganizationalUnit": unit_to_wire(arns_of(call, organization), unit)}


def list_organizational_units_for_parent(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the units directly under a node."""
    parent = shape["ParentId"]
    organization = organization_for(call, Reach.READER, lambda organization: [arns_of(call, organization).node(parent)])
    arns = arns_of(call, organization)
    return listed(
        call,
        shape,
        "OrganizationalUnits",
        lambda after, limit: tree.list_units(call.tx, organization, parent, after=after, limit=limit),
        lambda unit: unit_to_wire(arns, unit),
    )


def list_children(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the ids of the units, or of the accounts, directly under a node."""
    parent, kind = shape["ParentId"], NodeKind(shape["ChildType"])
    organization = organization_for(call, Reach.READER, lambda organization: [arns_of(call, organization).node(parent)])
    return listed(
        call,
        shape,
        "Children",
        lambda after, limit: tree.list_children(call.tx, organization, parent, kind, after=after, limit=limit),
        lambda child: {"Id": child, "Type": kind.value},
    )


def list_parents(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the only parent of a unit or an account."""
    child = shape["ChildId"]
    organization = organization_for(call, Reach.READER, lambda organization: [arns_of(call, organization).node(child)])
    parent = tree.parent_of(call.tx, organization, child)
    return listed(
        call,
        shape,
        "Parents",
        lambda _after, _limit: Page((parent,)),
        lambda unit: {"Id": unit.id, "Type": unit.kind.value},
    )


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CreateOrganization": create_organization,
    "DescribeOrganization": describe_organization,
    "DeleteOrganization": delete_organization,
    "LeaveOrganization": leave_organization,
    "ListRoots": list_roots,
    "CreateOrganizationalUnit": create_organizational_unit,
    "UpdateOrganizationalUnit": update_organizational_unit,
    "DeleteOrganizationalUnit": delete_organizational_unit,
    "DescribeOrganizationalUnit": describe_organizational_unit,
    "ListOrganizationalUnitsForParent": list_organizational_units_for_parent,
    "ListChildren": list_children,
    "ListParents": list_parents,
}
