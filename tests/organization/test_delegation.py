"""Trusted access and delegated administrators, on both databases."""

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.organization.builders import DAY, HOUR, MANAGEMENT, NOON, an_account

from holdfast.organization.errors import (
    AccountAlreadyRegisteredError,
    AccountNotFoundError,
    AccountNotRegisteredError,
    Constraint,
    ConstraintError,
    InputReason,
    OrganizationInputError,
)
from holdfast.organization.model.tree import FeatureSet, Organization
from holdfast.organization.model.trusted import BACKUP, SERVICES
from holdfast.organization.service import accounts, delegation, membership, tree

GUARDDUTY = "guardduty.amazonaws.com"


@pytest.fixture
def trusting(tx: sa.Connection, organization: Organization) -> Organization:
    """An organization that trusts the backup service."""
    delegation.enable_service(tx, organization, BACKUP, now=NOON)
    return organization


def test_a_service_is_trusted_from_the_first_time_on(tx: sa.Connection, trusting: Organization) -> None:
    delegation.enable_service(tx, trusting, BACKUP, now=NOON + HOUR)
    (entry,) = delegation.list_services(tx, trusting, after=None, limit=20).items
    assert (entry.name, entry.enabled_at) == (BACKUP, NOON)
    assert delegation.is_trusted(tx, trusting, BACKUP)
    delegation.disable_service(tx, trusting, BACKUP)
    delegation.disable_service(tx, trusting, BACKUP)
    assert delegation.list_services(tx, trusting, after=None, limit=20).items == ()


def test_services_nobody_knows_are_refused(tx: sa.Connection, organization: Organization) -> None:
    with pytest.raises(OrganizationInputError) as refused:
        delegation.enable_service(tx, organization, "toaster.amazonaws.com", now=NOON)
    assert refused.value.reason is InputReason.UNRECOGNIZED_SERVICE_PRINCIPAL


def test_trust_needs_all_features(tx: sa.Connection) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    with pytest.raises(ConstraintError) as refused:
        delegation.enable_service(tx, billing, BACKUP, now=NOON)
    assert refused.value.reason is Constraint.ORGANIZATION_NOT_IN_ALL_FEATURES_MODE


def test_a_service_whose_policies_are_on_stays_trusted(tx: sa.Connection, organization: Organization) -> None:
    principal = "inspector2.amazonaws.com"
    delegation.enable_service(tx, organization, principal, now=NOON)
    on = text("INSERT INTO policy_type (organization_id, type, status, enabled_at) VALUES (:id, :t, 'ENABLED', 0)")
    tx.execute(on, {"id": organization.id, "t": "INSPECTOR_POLICY"})
    with pytest.raises(ConstraintError) as refused:
        delegation.disable_service(tx, organization, principal)
    assert refused.value.reason is Constraint.POLICY_TYPE_ENABLED_FOR_THIS_SERVICE


def test_a_delegated_administrator_reads_the_whole_organization(tx: sa.Connection, trusting: Organization) -> None:
    member = an_account(tx, trusting, "member")
    delegation.register_administrator(tx, trusting, member, BACKUP, now=NOON + HOUR)
    assert membership.reader_of(tx, member) == trusting
    assert delegation.is_administrator(tx, trusting, member, BACKUP)
    ((account, since),) = delegation.list_administrators(tx, trusting, BACKUP, after=None, limit=20).items
    assert (account.id, since) == (member, NOON + HOUR)
    assert delegation.list_administrators(tx, trusting, GUARDDUTY, after=None, limit=20).items == ()
    (service,) = delegation.list_administered_services(tx, trusting, member, after=None, limit=20).items
    assert service.name == BACKUP
    with pytest.raises(AccountAlreadyRegisteredError):
        delegation.register_administrator(tx, trusting, member, BACKUP, now=NOON)
    with pytest.raises(ConstraintError) as refused:
        delegation.disable_service(tx, trusting, BACKUP)
    assert refused.value.reason is Constraint.DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE
    delegation.deregister_administrator(tx, trusting, member, BACKUP)
    with pytest.raises(AccountNotRegisteredError):
        delegation.deregister_administrator(tx, trusting, member, BACKUP)
    with pytest.raises(AccountNotRegisteredError):
        delegation.list_administered_services(tx, trusting, member, after=None, limit=20)


def test_an_administrator_of_two_services_is_listed_once(tx: sa.Connection, trusting: Organization) -> None:
    member = an_account(tx, trusting, "member")
    delegation.enable_service(tx, trusting, GUARDDUTY, now=NOON)
    delegation.register_administrator(tx, trusting, member, GUARDDUTY, now=NOON + HOUR)
    delegation.register_administrator(tx, trusting, member, BACKUP, now=NOON)
    ((account, since),) = delegation.list_administrators(tx, trusting, after=None, limit=20).items
    assert (account.id, since) == (member, NOON)


def test_who_cannot_be_a_delegated_administrator(tx: sa.Connection, trusting: Organization) -> None:
    member, closed = an_account(tx, trusting, "member"), an_account(tx, trusting, "closed")
    accounts.close_account(tx, trusting, closed, now=NOON)
    with pytest.raises(AccountNotFoundError):
        delegation.register_administrator(tx, trusting, "999999999999", BACKUP, now=NOON)
    for account, principal, reason in (
        (MANAGEMENT, BACKUP, Constraint.CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR),
        (closed, BACKUP, Constraint.CANNOT_REGISTER_SUSPENDED_ACCOUNT_AS_DELEGATED_ADMINISTRATOR),
        (member, GUARDDUTY, Constraint.SERVICE_ACCESS_NOT_ENABLED),
    ):
        with pytest.raises(ConstraintError) as refused:
            delegation.register_administrator(tx, trusting, account, principal, now=NOON)
        assert refused.value.reason is reason


@pytest.mark.parametrize(
    ("principal", "reason"),
    [
        (GUARDDUTY, Constraint.DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE),
        (BACKUP, Constraint.MAX_DELEGATED_ADMINISTRATORS_FOR_SERVICE_LIMIT_EXCEEDED),
    ],
)
def test_a_service_has_only_so_many_administrators(
    tx: sa.Connection, organization: Organization, principal: str, reason: Constraint
) -> None:
    delegation.enable_service(tx, organization, principal, now=NOON)
    for n in range(SERVICES[principal].administrators):
        delegation.register_administrator(tx, organization, an_account(tx, organization, f"a{n}"), principal, now=NOON)
    with pytest.raises(ConstraintError) as refused:
        delegation.register_administrator(tx, organization, an_account(tx, organization, "more"), principal, now=NOON)
    assert refused.value.reason is reason


def test_some_services_have_no_administrators(tx: sa.Connection, organization: Organization) -> None:
    delegation.enable_service(tx, organization, "ram.amazonaws.com", now=NOON)
    member = an_account(tx, organization, "member")
    with pytest.raises(OrganizationInputError):
        delegation.register_administrator(tx, organization, member, "ram.amazonaws.com", now=NOON)


def test_a_deregistered_administrator_may_leave(tx: sa.Connection, trusting: Organization) -> None:
    member = an_account(tx, trusting, "member")
    delegation.register_administrator(tx, trusting, member, BACKUP, now=NOON)
    delegation.deregister_administrator(tx, trusting, member, BACKUP)
    accounts.remove_account(tx, trusting, member, now=NOON + 5 * DAY)
