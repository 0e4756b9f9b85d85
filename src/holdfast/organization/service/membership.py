"""Who belongs to which organization, and what it may therefore ask."""

from dataclasses import dataclass

import sqlalchemy as sa

from holdfast.organization.errors import NotInOrganizationError, OrganizationAccessDeniedError
from holdfast.organization.model.tree import Organization
from holdfast.organization.store import delegation, tree


@dataclass(frozen=True, slots=True)
class Membership:
    """An account's part in its organization."""

    organization: Organization
    account_id: str
    is_delegated: bool
    """Whether it is a delegated administrator of some service."""

    @property
    def is_management(self) -> bool:
        """Whether it is the management account."""
        return self.account_id == self.organization.management_account

    @property
    def sees_everything(self) -> bool:
        """Whether it may read the whole organization by itself."""
        return self.is_management or self.is_delegated


def find_membership(tx: sa.Connection, account_id: str) -> Membership | None:
    """Return an account's part in its organization; None if it belongs to none."""
    organization = tree.find_organization_of(tx, account_id)
    if organization is None:
        return None
    is_delegated = delegation.is_delegated(tx, organization.id, account_id)
    return Membership(organization, account_id, is_delegated)


def membership_of(tx: sa.Connection, account_id: str) -> Membership:
    """Return an account's part in its organization.

    Raises:
        NotInOrganizationError: it belongs to none.
    """
    found = find_membership(tx, account_id)
    if found is None:
        raise NotInOrganizationError
    return found


def management_of(tx: sa.Connection, account_id: str) -> Organization:
    """Return the organization that this account manages.

    Raises:
        NotInOrganizationError: it belongs to none.
        OrganizationAccessDeniedError: it is a member only.
    """
    found = membership_of(tx, account_id)
    if not found.is_management:
        raise OrganizationAccessDeniedError
    return found.organization


def reader_of(tx: sa.Connection, account_id: str) -> Organization:
    """Return the organization that this account may read as a whole: as its management or a delegated administrator.

    Raises:
        NotInOrganizationError: it belongs to none.
        OrganizationAccessDeniedError: it is an ordinary member.
    """
    found = membership_of(tx, account_id)
    if not found.sees_everything:
        raise OrganizationAccessDeniedError
    return found.organization
