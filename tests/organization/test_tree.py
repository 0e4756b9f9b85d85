"""Organizations, units and the way from the root to an account, on both databases."""

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.organization.builders import HOUR, MANAGEMENT, NOON, a_unit, an_account, names

from holdfast.organization.errors import (
    AccountNotFoundError,
    AlreadyInOrganizationError,
    ChildNotFoundError,
    Constraint,
    ConstraintError,
    DuplicateUnitError,
    NotInOrganizationError,
    OrganizationAccessDeniedError,
    OrganizationNotEmptyError,
    ParentNotFoundError,
    RootNotFoundError,
    UnitNotEmptyError,
    UnitNotFoundError,
)
from holdfast.organization.model.limits import Limits
from holdfast.organization.model.tree import FeatureSet, NodeKind, Organization
from holdfast.organization.service import accounts, membership, tree


def test_the_creating_account_manages_the_organization_and_stands_under_its_root(tx: sa.Connection) -> None:
    made = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    assert membership.management_of(tx, MANAGEMENT) == made
    assert made.management_email == "master@example.com"
    assert not made.has_all_features
    assert [node.kind for node in tree.path_of(tx, MANAGEMENT)] == [NodeKind.ROOT, NodeKind.ACCOUNT]
    assert tree.policy_types(tx, made) == []


def test_an_account_is_in_one_organization_only(tx: sa.Connection, organization: Organization) -> None:
    with pytest.raises(AlreadyInOrganizationError):
        tree.create_organization(tx, MANAGEMENT, now=NOON)
    with pytest.raises(AccountNotFoundError):
        tree.create_organization(tx, "999999999999", now=NOON)


def test_only_the_management_account_manages(tx: sa.Connection, organization: Organization) -> None:
    member = an_account(tx, organization, "member")
    assert membership.membership_of(tx, member).organization == organization
    with pytest.raises(OrganizationAccessDeniedError):
        membership.management_of(tx, member)
    with pytest.raises(OrganizationAccessDeniedError):
        membership.reader_of(tx, member)
    with pytest.raises(NotInOrganizationError):
        membership.membership_of(tx, "999999999999")


def test_an_organization_is_deleted_only_without_members(tx: sa.Connection, organization: Organization) -> None:
    unit = a_unit(tx, organization, "Prod")
    member = an_account(tx, organization, "member", unit)
    with pytest.raises(OrganizationNotEmptyError):
        tree.delete_organization(tx, organization, now=NOON)
    accounts.let_go(tx, organization, member, now=NOON + HOUR)
    tree.delete_organization(tx, organization, now=NOON + HOUR)
    assert membership.find_membership(tx, MANAGEMENT) is None
    assert tree.path_of(tx, MANAGEMENT) == ()
    assert tree.path_of(tx, MANAGEMENT, NOON)[0].id == organization.root_id
    with pytest.raises(NotInOrganizationError):
        tree.create_unit(tx, organization, organization.root_id, "late", now=NOON + HOUR)
    again = tree.create_organization(tx, MANAGEMENT, now=NOON + HOUR)
    assert again.id != organization.id


def test_units_nest_five_levels_deep(tx: sa.Connection, organization: Organization) -> None:
    parent = tree.get_root(tx, organization)
    for level in range(5):
        parent = a_unit(tx, organization, f"level {level}", parent)
    assert parent.depth == 5
    with pytest.raises(ConstraintError) as refused:
        a_unit(tx, organization, "too deep", parent)
    assert refused.value.reason is Constraint.OU_DEPTH_LIMIT_EXCEEDED


def test_there_are_only_so_many_units(tx: sa.Connection, organization: Organization) -> None:
    few = Limits(units=2)
    for name in ("a", "b"):
        tree.create_unit(tx, organization, organization.root_id, name, now=NOON, limits=few)
    with pytest.raises(ConstraintError) as refused:
        tree.create_unit(tx, organization, organization.root_id, "c", now=NOON, limits=few)
    assert refused.value.reason is Constraint.OU_NUMBER_LIMIT_EXCEEDED


def test_siblings_have_different_names(tx: sa.Connection, organization: Organization) -> None:
    prod, test = a_unit(tx, organization, "Prod"), a_unit(tx, organization, "Test")
    with pytest.raises(DuplicateUnitError):
        a_unit(tx, organization, "Prod")
    with pytest.raises(DuplicateUnitError):
        tree.rename_unit(tx, organization, test.id, "Prod")
    inner = a_unit(tx, organization, "Prod", prod)
    assert tree.rename_unit(tx, organization, inner.id, "Inner").name == "Inner"
    assert tree.rename_unit(tx, organization, inner.id, None).name == "Inner"
    assert tree.get_unit(tx, organization, inner.id).path == f"{prod.path}{inner.id}/"


def test_a_name_is_free_again_when_its_unit_is_gone(tx: sa.Connection, organization: Organization) -> None:
    first = a_unit(tx, organization, "Prod")
    tree.delete_unit(tx, organization, first.id, now=NOON)
    second = a_unit(tx, organization, "Prod")
    assert names(tree.list_units(tx, organization, organization.root_id, after=None, limit=20)) == ["Prod"]
    assert second.id != first.id
    with pytest.raises(UnitNotFoundError):
        tree.get_unit(tx, organization, first.id)


def test_only_an_empty_unit_is_deleted(tx: sa.Connection, organization: Organization) -> None:
    outer = a_unit(tx, organization, "outer")
    inner = a_unit(tx, organization, "inner", outer)
    with pytest.raises(UnitNotEmptyError):
        tree.delete_unit(tx, organization, outer.id, now=NOON)
    member = an_account(tx, organization, "member", inner)
    with pytest.raises(UnitNotEmptyError):
        tree.delete_unit(tx, organization, inner.id, now=NOON)
    accounts.move_account(tx, organization, member, inner.id, organization.root_id, now=NOON)
    tree.delete_unit(tx, organization, inner.id, now=NOON)
    tree.delete_unit(tx, organization, outer.id, now=NOON)


def test_the_root_is_no_unit(tx: sa.Connection, organization: Organization) -> None:
    root = organization.root_id
    with pytest.raises(UnitNotFoundError):
        tree.get_unit(tx, organization, root)
    with pytest.raises(UnitNotFoundError):
        tree.rename_unit(tx, organization, root, "mine")
    with pytest.raises(UnitNotFoundError):
        tree.delete_unit(tx, organization, root, now=NOON)
    with pytest.raises(RootNotFoundError):
        tree.get_root(tx, organization, "r-0000")
    with pytest.raises(ParentNotFoundError):
        tree.list_units(tx, organization, "ou-0000-00000000", after=None, limit=20)


def test_every_child_has_one_parent(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")
    member = an_account(tx, organization, "member", prod)
    assert tree.parent_of(tx, organization, member).id == prod.id
    assert tree.parent_of(tx, organization, prod.id).id == organization.root_id
    for nothing in (organization.root_id, "ou-0000-00000000", "999999999999"):
        with pytest.raises(ChildNotFoundError):
            tree.parent_of(tx, organization, nothing)


def test_lists_go_on_where_the_page_before_ended(tx: sa.Connection, organization: Organization) -> None:
    made = {a_unit(tx, organization, f"unit {n}").id for n in range(7)}
    seen: list[str] = []
    after = None
    while True:
        page = tree.list_children(tx, organization, organization.root_id, NodeKind.UNIT, after=after, limit=3)
        seen += page.items
        after = page.position
        if after is None:
            break
    assert len(seen) == 7
    assert set(seen) == made


def test_the_path_names_every_node(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")
    web = a_unit(tx, organization, "Web", prod)
    member = an_account(tx, organization, "shop", web)
    assert [(node.id, node.name) for node in tree.path_of(tx, member)] == [
        (organization.root_id, "Root"),
        (prod.id, "Prod"),
        (web.id, "Web"),
        (member, "shop"),
    ]


def test_any_past_instant_can_be_asked(tx: sa.Connection, organization: Organization) -> None:
    prod, test = a_unit(tx, organization, "Prod"), a_unit(tx, organization, "Test")
    member = an_account(tx, organization, "shop")
    accounts.move_account(tx, organization, member, organization.root_id, prod.id, now=NOON + HOUR)
    accounts.move_account(tx, organization, member, prod.id, test.id, now=NOON + 2 * HOUR)

    def stood(at: float) -> list[str]:
        return [node.name for node in tree.path_of(tx, member, NOON + at * HOUR)]

    assert stood(-0.1) == []
    assert stood(0) == ["Root", "shop"]
    assert stood(1) == stood(1.9) == ["Root", "Prod", "shop"]
    assert stood(2) == stood(1000) == ["Root", "Test", "shop"]
    assert tree.accounts_below(tx, organization, prod.id, NOON + HOUR) == [member]
    assert tree.accounts_below(tx, organization, prod.id) == []
    tree.delete_unit(tx, organization, prod.id, now=NOON + 3 * HOUR)
    assert tree.accounts_below(tx, organization, prod.id, NOON + HOUR) == [member]
    with pytest.raises(ParentNotFoundError):
        tree.accounts_below(tx, organization, prod.id)


def test_what_is_below_a_node_is_found_however_deep(tx: sa.Connection, organization: Organization) -> None:
    outer = a_unit(tx, organization, "outer")
    inner = a_unit(tx, organization, "inner", outer)
    deep, shallow, beside = (
        an_account(tx, organization, "deep", inner),
        an_account(tx, organization, "shallow", outer),
        an_account(tx, organization, "beside"),
    )
    assert tree.accounts_below(tx, organization, outer.id) == sorted([deep, shallow])
    assert tree.accounts_below(tx, organization, inner.id) == [deep]
    assert tree.accounts_below(tx, organization, organization.root_id) == sorted([deep, shallow, beside, MANAGEMENT])
    assert tree.accounts_below(tx, organization, beside) == [beside]
    assert tree.accounts_below(tx, organization, "999999999999") == []


def test_a_change_of_the_tree_is_told_and_makes_decisions_stale(tx: sa.Connection, organization: Organization) -> None:
    def version() -> int:
        return int(tx.execute(text("SELECT version FROM access_version")).scalar_one())

    prod = a_unit(tx, organization, "Prod")
    before = version()
    an_account(tx, organization, "shop", prod)
    assert version() > before
    told = [row.kind for row in tx.execute(text("SELECT kind FROM outbox ORDER BY id"))]
    assert told == ["AccountJoined", "AccountJoined", "AccountMoved"]
