"""Short ways to make parts of an organization for tests."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from holdfast.core.paging import Page
from holdfast.organization.model.tree import Organization, Unit
from holdfast.organization.service import accounts, tree

MANAGEMENT = "123456789012"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def a_unit(tx: sa.Connection, organization: Organization, name: str, under: Unit | None = None) -> Unit:
    """Make a unit under another one, or under the root."""
    return tree.create_unit(tx, organization, under.id if under else organization.root_id, name, now=NOON)


def an_account(
    tx: sa.Connection, organization: Organization, name: str, unit: Unit | None = None, *, now: datetime = NOON
) -> str:
    """Make an account under a unit, or under the root; return its id."""
    made = accounts.create_account(tx, organization, name, f"{name}@example.com", now=now)
    assert made.account_id is not None
    if unit is not None:
        accounts.move_account(tx, organization, made.account_id, organization.root_id, unit.id, now=now)
    return made.account_id


def names(page: Page[Unit]) -> list[str]:
    """Return the names of the units on a page."""
    return [unit.name for unit in page.items]
