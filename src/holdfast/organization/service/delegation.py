"""Trusted access, and members that act for the management account: delegated administrators."""

from datetime import datetime

import sqlalchemy as sa

from holdfast.core.paging import Page, Position
from holdfast.organization.errors import (
    AccountAlreadyRegisteredError,
    AccountNotRegisteredError,
    Constraint,
    ConstraintError,
)
from holdfast.organization.model.tree import Account, AccountStatus, Organization
from holdfast.organization.model.trusted import get_service, refuse_another_administrator
from holdfast.organization.service import news
from holdfast.organization.service.accounts import get_account
from holdfast.organization.service.tree import lock
from holdfast.organization.store import accounts, delegation, tree


def enable_service(tx: sa.Connection, organization: Organization, principal: str, *, now: datetime) -> None:
    """Trust a service; one that is trusted stays so.

    Raises:
        OrganizationInputError: no such service works with organizations.
        ConstraintError: the organization has not all features.
    """
    get_service(principal)
    refuse_without_all_features(organization)
    lock(tx, organization)
    delegation.trust(tx, organization.id, principal, now=now)
    news.forget_decisions(tx)


def disable_service(tx: sa.Connection, organization: Organization, principal: str) -> None:
    """Trust a service no longer; one that is not trusted stays so.

    Raises:
        OrganizationInputError: no such service works with organizations.
        ConstraintError: it has delegated administrators, or a policy type that needs it is switched on.
    """
    service = get_service(principal)
    lock(tx, organization)
    switched_on = {kind for kind, _ in tree.policy_types(tx, organization.id)}
    for kind in service.policy_types:
        if kind in switched_on:
            raise ConstraintError(
                Constraint.POLICY_TYPE_ENABLED_FOR_THIS_SERVICE,
                f"The policy type {kind} needs {principal}. Disable the policy type first.",
            )
    if delegation.count_administrators(tx, organization.id, principal):
        raise ConstraintError(
            Constraint.DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE,
            f"{principal} still has delegated administrators. Deregister them first.",
        )
    delegation.distrust(tx, organization.id, principal)
    news.forget_decisions(tx)


def is_trusted(tx: sa.Connection, organization: Organization, principal: str) -> bool:
    """Return whether the organization trusts a service."""
    return delegation.is_trusted(tx, organization.id, principal)


def list_services(
    tx: sa.Connection, organization: Organization, *, after: Position, limit: int
) -> Page[delegation.Enabled]:
    """Return a page of the services that the organization trusts, by name.

    Raises:
        ConstraintError: the organization has not all features.
    """
    refuse_without_all_features(organization)
    return delegation.trusted_services(tx, organization.id, after=after, limit=limit)


def register_administrator(
    tx: sa.Connection, organization: Organization, account_id: str, principal: str, *, now: datetime
) -> None:
    """Let a member be the delegated administrator of a service.

    Raises:
        AccountNotFoundError: the organization has no such account.
        AccountAlreadyRegisteredError: it is one already.
        OrganizationInputError: no such service works with organizations, or it has no delegated administrators.
        ConstraintError: it is the management account or suspended, the service is not trusted, there are as many as
            there may be, or the organization has not all features.
    """
    service = get_service(principal)
    refuse_without_all_features(organization)
    lock(tx, organization)
    account = get_account(tx, organization, account_id)
    if account.id == organization.management_account:
        raise ConstraintError(
            Constraint.CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR,
            "You cannot register master account/yourself as delegated administrator for your organization.",
        )
    if account.status is AccountStatus.SUSPENDED:
        raise ConstraintError(
            Constraint.CANNOT_REGISTER_SUSPENDED_ACCOUNT_AS_DELEGATED_ADMINISTRATOR,
            "You cannot register a suspended account as a delegated administrator.",
        )
    if not delegation.is_trusted(tx, organization.id, principal):
        raise ConstraintError(
            Constraint.SERVICE_ACCESS_NOT_ENABLED,
            f"The organization does not trust {principal}. Call EnableAWSServiceAccess first.",
        )
    if delegation.is_registered(tx, organization.id, account_id, principal):
        raise AccountAlreadyRegisteredError
    refuse_another_administrator(service, delegation.count_administrators(tx, organization.id, principal))
    delegation.register(tx, organization.id, account_id, principal, now=now)
    news.forget_decisions(tx)


def deregister_administrator(tx: sa.Connection, organization: Organization, account_id: str, principal: str) -> None:
    """Let a member be the delegated administrator of a service no longer.

    Raises:
        AccountNotFoundError: the organization has no such account.
        AccountNotRegisteredError: it is none.
        OrganizationInputError: no such service works with organizations.
    """
    get_service(principal)
    lock(tx, organization)
    get_account(tx, organization, account_id)
    if not delegation.deregister(tx, organization.id, account_id, principal):
        raise AccountNotRegisteredError
    news.forget_decisions(tx)


def is_administrator(tx: sa.Connection, organization: Organization, account_id: str, principal: str) -> bool:
    """Return whether an account is a delegated administrator of a service."""
    return delegation.is_registered(tx, organization.id, account_id, principal)


def list_administrators(
    tx: sa.Connection, organization: Organization, principal: str | None = None, *, after: Position, limit: int
) -> Page[tuple[Account, datetime]]:
    """Return a page of the delegated administrators, of one service or of any, each with since when it is one."""
    page = delegation.administrators(tx, organization.id, principal, after=after, limit=limit)
    found = {account.id: account for account in accounts.accounts_by_id(tx, [entry.name for entry in page.items])}
    return Page(tuple((found[entry.name], entry.enabled_at) for entry in page.items), page.position)


def list_administered_services(
    tx: sa.Connection, organization: Organization, account_id: str, *, after: Position, limit: int
) -> Page[delegation.Enabled]:
    """Return a page of the services that a member administers, by name.

    Raises:
        AccountNotFoundError: the organization has no such account.
        AccountNotRegisteredError: it administers none.
    """
    get_account(tx, organization, account_id)
    if not delegation.is_delegated(tx, organization.id, account_id):
        raise AccountNotRegisteredError
    return delegation.services_of(tx, organization.id, account_id, after=after, limit=limit)


def refuse_without_all_features(organization: Organization) -> None:
    """Refuse what needs all features.

    Raises:
        ConstraintError: the organization has one bill only.
    """
    if not organization.has_all_features:
        raise ConstraintError(
            Constraint.ORGANIZATION_NOT_IN_ALL_FEATURES_MODE,
            "The organization supports only consolidated billing. Call EnableAllFeatures first.",
        )
