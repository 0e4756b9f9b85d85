"""Organizations and their trees: create, describe, delete, and the way from the root to an account at any instant."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from holdfast.core import ids
from holdfast.core.paging import Page, Position
from holdfast.organization.errors import (
    AccountNotFoundError,
    AlreadyInOrganizationError,
    ChildNotFoundError,
    ConcurrentChangeError,
    DuplicateUnitError,
    NotInOrganizationError,
    OrganizationNotEmptyError,
    ParentNotFoundError,
    RootNotFoundError,
    TargetNotFoundError,
    UnitNotEmptyError,
    UnitNotFoundError,
)
from holdfast.organization.model.limits import LIMITS, Limits
from holdfast.organization.model.tree import (
    ROOT_NAME,
    FeatureSet,
    JoinedMethod,
    Node,
    NodeKind,
    Organization,
    Placement,
    Unit,
    child_path,
    kind_of,
    node_ids,
    refuse_another_level,
    refuse_too_many_units,
)
from holdfast.organization.service import news
from holdfast.organization.service.tags import drop_tags, set_first_tags
from holdfast.organization.store import accounts, delegation, handshakes, tree


def create_organization(
    tx: sa.Connection, account_id: str, features: FeatureSet = FeatureSet.ALL, *, now: datetime
) -> Organization:
    """Make an organization with a root, managed by this account, which stands under the root.

    No policy type is switched on: `EnablePolicyType` does that, as for organizations that AWS makes through its API.

    Raises:
        AccountNotFoundError: there is no such account.
        AlreadyInOrganizationError: the account belongs to one.
    """
    account = accounts.lock_account(tx, account_id)
    if account is None:
        raise AccountNotFoundError
    if account.organization_id is not None:
        raise AlreadyInOrganizationError
    organization_id, root_id = ids.organization_id(), ids.root_id()
    root = Unit(
        id=root_id,
        organization_id=organization_id,
        parent_id=None,
        name=ROOT_NAME,
        depth=0,
        path=f"{organization_id}/{root_id}/",
        created_at=now,
    )
    tree.insert_organization(
        tx, organization_id=organization_id, management=account_id, root_id=root_id, features=features, now=now
    )
    tree.insert_unit(tx, root)
    accounts.set_joined(tx, account_id, organization_id, JoinedMethod.INVITED, now=now)
    tree.place(tx, account_id, root, now=now)
    news.tell_joined(tx, account_id, root, now=now)
    return Organization(
        id=organization_id,
        management_account=account_id,
        management_email=account.email,
        management_name=account.name,
        root_id=root_id,
        feature_set=features,
        created_at=now,
    )


def delete_organization(tx: sa.Connection, organization: Organization, *, now: datetime) -> None:
    """Delete an organization that has no accounts but its management account, which is on its own afterwards.

    Raises:
        OrganizationNotEmptyError: there are members.
    """
    lock(tx, organization)
    if accounts.has_members(tx, organization.id, organization.management_account):
        raise OrganizationNotEmptyError
    delegation.forget_all(tx, organization.id)
    handshakes.cancel_all_from(tx, organization.id, now=now)
    drop_tags(tx, organization)
    tree.end_placement(tx, organization.management_account, now=now)
    accounts.set_left(tx, organization.management_account)
    tree.mark_organization_deleted(tx, organization.id, now=now)
    news.tell_left(tx, organization.management_account, organization.id, now=now)


def lock(tx: sa.Connection, organization: Organization) -> None:
    """Make other changes to this organization wait until this transaction ends.

    Raises:
        NotInOrganizationError: it was deleted meanwhile.
    """
    if not tree.lock_organization(tx, organization.id):
        raise NotInOrganizationError


def policy_types(tx: sa.Connection, organization: Organization) -> list[tuple[str, str]]:
    """Return the policy types that are switched on at the root, each with its status."""
    return tree.policy_types(tx, organization.id)


def get_root(tx: sa.Connection, organization: Organization, root_id: str | None = None) -> Unit:
    """Return the organization's root.

    Raises:
        RootNotFoundError: `root_id` is given and is not that root's.
    """
    if root_id is not None and root_id != organization.root_id:
        raise RootNotFoundError
    return get_parent(tx, organization, organization.root_id)


def get_parent(tx: sa.Connection, organization: Organization, parent_id: str) -> Unit:
    """Return the root or unit with this id.

    Raises:
        ParentNotFoundError: there is none.
    """
    found = tree.find_unit(tx, organization.id, parent_id)
    if found is None:
        raise ParentNotFoundError
    return found


def get_unit(tx: sa.Connection, organization: Organization, unit_id: str) -> Unit:
    """Return a unit; the root is none.

    Raises:
        UnitNotFoundError: there is none with this id.
    """
    found = tree.find_unit(tx, organization.id, unit_id)
    if found is None or found.kind is NodeKind.ROOT:
        raise UnitNotFoundError
    return found


def create_unit(
    tx: sa.Connection,
    organization: Organization,
    parent_id: str,
    name: str,
    tags: Mapping[str, str] | None = None,
    *,
    now: datetime,
    limits: Limits = LIMITS,
) -> Unit:
    """Make a unit under the root or another unit.

    Raises:
        ParentNotFoundError: there is no such parent.
        DuplicateUnitError: the parent holds a unit of this name.
        ConstraintError: the tree would become too deep or too large, or there are too many tags.
    """
    lock(tx, organization)
    parent = get_parent(tx, organization, parent_id)
    refuse_another_level(parent, limits)
    refuse_too_many_units(tree.count_units(tx, organization.id), limits)
    if tree.find_sibling(tx, organization.id, parent.id, name) is not None:
        raise DuplicateUnitError
    unit_id = ids.unit_id(organization.root_id)
    unit = Unit(
        id=unit_id,
        organization_id=organization.id,
        parent_id=parent.id,
        name=name,
        depth=parent.depth + 1,
        path=child_path(parent.path, unit_id),
        created_at=now,
    )
    tree.insert_unit(tx, unit)
    set_first_tags(tx, organization, unit_id, tags, limits)
    return unit


def rename_unit(tx: sa.Connection, organization: Organization, unit_id: str, name: str | None) -> Unit:
    """Give a unit another name; without one, or with its own, nothing changes.

    Raises:
        UnitNotFoundError: there is no such unit.
        DuplicateUnitError: a sibling has this name.
    """
    lock(tx, organization)
    unit = get_unit(tx, organization, unit_id)
    if name is None or name == unit.name:
        return unit
    if tree.find_sibling(tx, organization.id, unit.parent_id, name) is not None:
        raise DuplicateUnitError
    tree.set_unit_name(tx, unit_id, name)
    return replace(unit, name=name)


def delete_unit(tx: sa.Connection, organization: Organization, unit_id: str, *, now: datetime) -> Unit:
    """Delete a unit that holds nothing; return it as it was.

    Raises:
        UnitNotFoundError: there is no such unit.
        UnitNotEmptyError: accounts or units stand under it.
    """
    lock(tx, organization)
    unit = get_unit(tx, organization, unit_id)
    if not tree.unit_is_empty(tx, unit_id):
        raise UnitNotEmptyError
    tree.mark_unit_deleted(tx, unit_id, now=now)
    drop_tags(tx, organization, unit_id)
    return unit


def list_units(
    tx: sa.Connection, organization: Organization, parent_id: str, *, after: Position, limit: int
) -> Page[Unit]:
    """Return a page of the units directly under a node, oldest first.

    Raises:
        ParentNotFoundError: there is no such node.
    """
    parent = get_parent(tx, organization, parent_id)
    return tree.units_under(tx, organization.id, parent.id, after=after, limit=limit)


def list_children(
    tx: sa.Connection, organization: Organization, parent_id: str, kind: NodeKind, *, after: Position, limit: int
) -> Page[str]:
    """Return a page of the ids of the units, or of the accounts, directly under a node.

    Raises:
        ParentNotFoundError: there is no such node.
    """
    parent = get_parent(tx, organization, parent_id)
    if kind is NodeKind.ACCOUNT:
        members = accounts.accounts_under(tx, parent.id, after=after, limit=limit)
        return Page(tuple(account.id for account in members.items), members.position)
    units = tree.units_under(tx, organization.id, parent.id, after=after, limit=limit)
    return Page(tuple(unit.id for unit in units.items), units.position)


def parent_of(tx: sa.Connection, organization: Organization, child_id: str) -> Unit:
    """Return the root or unit that a unit or an account stands directly under.

    Raises:
        ChildNotFoundError: the organization has no such unit or account.
    """
    if kind_of(child_id) is NodeKind.ACCOUNT:
        placement = tree.find_placement(tx, child_id, None)
        parent_id = placement.unit_id if placement and placement.organization_id == organization.id else None
    else:
        unit = tree.find_unit(tx, organization.id, child_id)
        parent_id = None if unit is None else unit.parent_id
    if parent_id is None:
        raise ChildNotFoundError
    return get_parent(tx, organization, parent_id)


def placement_of(tx: sa.Connection, account_id: str, at: datetime | None = None) -> Placement | None:
    """Return where an account stood at an instant (without one: stands now); None where it stood in no organization."""
    return tree.find_placement(tx, account_id, at)


def path_of(tx: sa.Connection, account_id: str, at: datetime | None = None) -> tuple[Node, ...]:
    """Return the nodes from the root down to and with an account, as they are now or were at an instant.

    Empty where the account stood in no organization then. Names are the present ones.
    """
    placement = tree.find_placement(tx, account_id, at)
    if placement is None:
        return ()
    unit_ids = node_ids(placement.path)
    names = tree.unit_names(tx, unit_ids)
    account = accounts.find_account(tx, account_id)
    if account is None or len(names) != len(unit_ids):
        raise ConcurrentChangeError("The account's place in its organization changed. Try again.")
    units = (Node(i, NodeKind.ROOT if n == 0 else NodeKind.UNIT, names[i]) for n, i in enumerate(unit_ids))
    return (*units, Node(account_id, NodeKind.ACCOUNT, account.name))


def path_of_unit(tx: sa.Connection, organization: Organization, unit_id: str, at: datetime) -> tuple[str, ...]:
    """Return the ids from the root down to and with a unit (or the root) that there was at an instant.

    Raises:
        TargetNotFoundError: there was none then.
    """
    path = tree.find_path(tx, organization.id, unit_id, at)
    if path is None:
        raise TargetNotFoundError
    return tuple(node_ids(path))


def accounts_below(
    tx: sa.Connection, organization: Organization, node_id: str, at: datetime | None = None
) -> list[str]:
    """Return the ids of all accounts that stand anywhere below a node, or stood there at an instant; by id.

    For an account it is that account, if it belongs to the organization.

    Raises:
        ParentNotFoundError: there is no such node.
    """
    if kind_of(node_id) is NodeKind.ACCOUNT:
        placement = tree.find_placement(tx, node_id, at)
        return [node_id] if placement and placement.organization_id == organization.id else []
    path = tree.find_path(tx, organization.id, node_id) if at else get_parent(tx, organization, node_id).path
    if path is None:
        raise ParentNotFoundError
    return tree.accounts_below(tx, organization.id, path, at=at)
