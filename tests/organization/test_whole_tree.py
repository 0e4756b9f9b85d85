"""The whole tree in one answer, on both databases."""

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.organization.builders import HOUR, MANAGEMENT, NOON, a_unit, an_account

from holdfast.database.values import FOREVER, stamp
from holdfast.organization.errors import ParentNotFoundError
from holdfast.organization.model.tree import NodeKind, Organization
from holdfast.organization.service import accounts, tree, whole_tree
from holdfast.policy.attached import attached_to

_ATTACH = text("""
    INSERT INTO attachment (organization_id, policy_id, target_id, type, sequence, starts_at, ends_at)
    VALUES (:organization, :policy, :target, 'BACKUP_POLICY', :sequence, :starts, :ends)""")


def test_every_unit_comes_after_its_parent_with_its_first_accounts(
    tx: sa.Connection, organization: Organization
) -> None:
    outer = a_unit(tx, organization, "outer")
    inner = a_unit(tx, organization, "inner", outer)
    beside = a_unit(tx, organization, "beside")
    made = [an_account(tx, organization, f"a{n}", inner, now=NOON + n * HOUR) for n in range(5)]
    branches = {branch.unit.id: branch for branch in whole_tree.get_tree(tx, organization, limit=2)}
    order = list(branches)
    assert set(order) == {organization.root_id, outer.id, inner.id, beside.id}
    assert order[0] == organization.root_id
    assert order.index(outer.id) < order.index(inner.id)
    assert [account.id for account in branches[organization.root_id].accounts.items] == [MANAGEMENT]
    assert branches[beside.id].account_count == 0
    branch = branches[inner.id]
    assert branch.account_count == 5
    seen = [account.id for account in branch.accounts.items]
    while branch.accounts.position is not None:
        after = branch.accounts.position
        branch = whole_tree.get_branch(tx, organization, inner.id, after=after, limit=2)
        assert branch.account_count == 5
        seen += [account.id for account in branch.accounts.items]
    assert seen == made


def test_a_part_of_the_tree_begins_where_it_is_asked_to(tx: sa.Connection, organization: Organization) -> None:
    outer = a_unit(tx, organization, "outer")
    inner = a_unit(tx, organization, "inner", outer)
    a_unit(tx, organization, "beside")
    part = whole_tree.get_tree(tx, organization, outer.id, limit=20)
    assert [branch.unit.id for branch in part] == [outer.id, inner.id]
    with pytest.raises(ParentNotFoundError):
        whole_tree.get_tree(tx, organization, "ou-zzzz-01234567", limit=20)


def test_the_tree_of_a_past_instant_has_what_is_gone(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")
    member = an_account(tx, organization, "shop", prod)
    accounts.move_account(tx, organization, member, prod.id, organization.root_id, now=NOON + HOUR)
    tree.delete_unit(tx, organization, prod.id, now=NOON + 2 * HOUR)

    def standing(hours: float) -> dict[str, list[str]]:
        branches = whole_tree.get_tree(tx, organization, at=NOON + hours * HOUR, limit=20)
        return {branch.unit.id: sorted(a.id for a in branch.accounts.items) for branch in branches}

    root = organization.root_id
    assert standing(0.5) == {root: [MANAGEMENT], prod.id: [member]}
    assert standing(1.5) == {root: sorted([MANAGEMENT, member]), prod.id: []}
    assert standing(2.5) == {root: sorted([MANAGEMENT, member])}
    with pytest.raises(ParentNotFoundError):
        whole_tree.get_branch(tx, organization, prod.id, after=None, limit=20)


@pytest.mark.parametrize("others", [0, 600], ids=["few nodes", "many nodes"])
def test_attachments_are_given_in_their_order_at_any_instant(
    tx: sa.Connection, organization: Organization, others: int
) -> None:
    root, beside = organization.root_id, "ou-zzzz-01234567"
    for sequence, (policy, target, starts, ends) in enumerate(
        [
            ("p-second", root, NOON + HOUR, None),
            ("p-first", root, NOON, None),
            ("p-past", root, NOON, NOON + HOUR),
            ("p-beside", beside, NOON, None),
        ]
    ):
        given = {"organization": organization.id, "policy": policy, "target": target, "sequence": -sequence}
        end = FOREVER if ends is None else stamp(ends)
        tx.execute(_ATTACH, {**given, "starts": stamp(starts), "ends": end})
    nodes = [root, *(f"ou-zzzz-{n:08}" for n in range(others))]

    def attached(hours: float | None) -> list[str]:
        at = None if hours is None else NOON + hours * HOUR
        found = attached_to(tx, organization.id, nodes, at)
        assert beside not in found
        return [one.policy_id for one in found.get(root, ())]

    assert attached(None) == ["p-first", "p-second"]
    assert attached(0.5) == ["p-past", "p-first"]
    assert attached(-1) == []


def test_the_root_is_one(tx: sa.Connection, organization: Organization) -> None:
    (branch,) = whole_tree.get_tree(tx, organization, limit=20)
    assert branch.unit.kind is NodeKind.ROOT
