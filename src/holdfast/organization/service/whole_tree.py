"""The whole tree in one answer, at any instant: what an overview needs."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from holdfast.core.paging import Page, Position, page_of
from holdfast.database.values import stamp_or_none
from holdfast.organization.errors import ParentNotFoundError
from holdfast.organization.model.tree import Account, Organization, Unit
from holdfast.organization.store import tree, whole_tree
from holdfast.organization.store.whole_tree import Below


@dataclass(frozen=True, slots=True)
class Branch:
    """A root or unit with how many accounts stand directly under it, and the first of them."""

    unit: Unit
    account_count: int
    accounts: Page[Account]


def get_tree(
    tx: sa.Connection,
    organization: Organization,
    parent_id: str | None = None,
    *,
    at: datetime | None = None,
    limit: int,
) -> list[Branch]:
    """Return the node with this id (the root, if none is given) and every unit below it, each after its parent.

    `at` asks for a past instant; names and statuses are the present ones. Up to `limit` accounts come with each unit;
    `get_branch` gives the following ones.

    Raises:
        ParentNotFoundError: there is no such node, or was none then.
    """
    below = _below(tx, organization, parent_id or organization.root_id, at)
    units = whole_tree.units(tx, below)
    if not units:
        raise ParentNotFoundError
    counts = whole_tree.counts(tx, below)
    accounts: dict[str | None, list[Account]] = defaultdict(list)
    for account in whole_tree.first_accounts(tx, below, after=None, limit=limit + 1):
        accounts[account.unit_id].append(account)
    return [Branch(unit, counts.get(unit.id, 0), _page(accounts[unit.id], limit)) for unit in units]


def get_branch(
    tx: sa.Connection,
    organization: Organization,
    parent_id: str,
    *,
    at: datetime | None = None,
    after: Position,
    limit: int,
) -> Branch:
    """Return one node without what is below it, and its accounts after a position.

    Raises:
        ParentNotFoundError: there is no such node, or was none then.
    """
    below = _below(tx, organization, parent_id, at)
    unit = next((unit for unit in whole_tree.units(tx, below) if unit.id == parent_id), None)
    if unit is None:
        raise ParentNotFoundError
    count = whole_tree.counts(tx, below).get(parent_id, 0)
    found = whole_tree.first_accounts(tx, below, after=after, limit=limit + 1)
    return Branch(unit, count, _page([account for account in found if account.unit_id == parent_id], limit))


def _below(tx: sa.Connection, organization: Organization, parent_id: str, at: datetime | None) -> Below:
    path = tree.find_path(tx, organization.id, parent_id)
    if path is None:
        raise ParentNotFoundError
    return Below(organization.id, path, at)


def _page(found: list[Account], limit: int) -> Page[Account]:
    return page_of(found, limit, lambda account: [stamp_or_none(account.placed_at), account.id])
