"""Accounts: made, taken in, moved, closed, let go, on both databases."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.organization.builders import DAY, HOUR, MANAGEMENT, NOON, a_unit, an_account

from holdfast.organization.errors import (
    AccountAlreadyClosedError,
    AccountExistsError,
    AccountNotFoundError,
    Constraint,
    ConstraintError,
    CreateAccountRequestNotFoundError,
    DestinationParentNotFoundError,
    DuplicateAccountError,
    InputReason,
    ManagementCannotLeaveError,
    OrganizationInputError,
    ParentNotFoundError,
    SourceParentNotFoundError,
)
from holdfast.organization.model.limits import Limits
from holdfast.organization.model.request import CreateAccountState
from holdfast.organization.model.tree import AccountStatus, FeatureSet, JoinedMethod, Organization
from holdfast.organization.service import accounts, tags, tree
from holdfast.organization.store import delegation
from holdfast.organization.store.tree import placements


def test_a_created_account_stands_under_the_root(tx: sa.Connection, organization: Organization) -> None:
    made = accounts.create_account(tx, organization, "shop", "shop@example.com", {"team": "web"}, now=NOON)
    assert made.state is CreateAccountState.SUCCEEDED
    assert made.account_id is not None
    account = accounts.get_account(tx, organization, made.account_id)
    assert account.joined_method is JoinedMethod.CREATED
    assert account.path == f"{organization.id}/{organization.root_id}/{account.id}/"
    assert tags.tags_on(tx, organization, account.id) == {"team": "web"}
    assert accounts.get_request(tx, organization, made.id) == made


@pytest.mark.parametrize(
    ("email", "failure"),
    [("Master@Example.com", "EMAIL_ALREADY_EXISTS"), ("shop@localhost", "INVALID_EMAIL")],
)
def test_a_request_that_fails_says_why(tx: sa.Connection, organization: Organization, email: str, failure: str) -> None:
    made = accounts.create_account(tx, organization, "shop", email, now=NOON)
    assert (made.state, made.failure_reason, made.account_id) == (CreateAccountState.FAILED, failure, None)
    failed = accounts.list_requests(tx, organization, [CreateAccountState.FAILED], after=None, limit=20)
    assert failed.items == (made,)
    assert accounts.list_requests(tx, organization, [CreateAccountState.SUCCEEDED], after=None, limit=20).items == ()
    assert accounts.list_requests(tx, organization, after=None, limit=20).items == (made,)


def test_requests_nobody_made_are_not_found(tx: sa.Connection, organization: Organization) -> None:
    with pytest.raises(CreateAccountRequestNotFoundError):
        accounts.get_request(tx, organization, "car-00000000")


def test_reserved_role_names_are_refused(tx: sa.Connection, organization: Organization) -> None:
    with pytest.raises(OrganizationInputError) as refused:
        accounts.create_account(tx, organization, "a", "a@example.com", role_name="AWSServiceRoleForX", now=NOON)
    assert refused.value.reason is InputReason.INVALID_ROLE_NAME


def test_a_gov_cloud_account_shares_the_address_and_stands_alone(tx: sa.Connection, organization: Organization) -> None:
    made = accounts.create_account(tx, organization, "gov", "gov@example.com", gov_cloud=True, now=NOON)
    assert made.gov_cloud_account_id is not None
    second = accounts.find_account(tx, made.gov_cloud_account_id)
    assert second is not None
    assert (second.email, second.organization_id) == ("gov@example.com", None)


def test_there_are_only_so_many_accounts(tx: sa.Connection, organization: Organization) -> None:
    few = Limits(accounts=2)
    accounts.create_account(tx, organization, "a", "a@example.com", now=NOON, limits=few)
    for refuse in (
        lambda: accounts.create_account(tx, organization, "b", "b@example.com", now=NOON, limits=few),
        lambda: accounts.import_account(tx, organization, "111122223333", "b", "b@example.com", now=NOON, limits=few),
    ):
        with pytest.raises(ConstraintError) as refused:
            refuse()
        assert refused.value.reason is Constraint.ACCOUNT_NUMBER_LIMIT_EXCEEDED


def test_importing_twice_changes_nothing(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")

    def bring(name: str = "shop") -> bool:
        _, new = accounts.import_account(
            tx, organization, "111122223333", name, "shop@example.com", parent_id=prod.id, alias="shop",
            external_id="cmdb-17", now=NOON,
        )  # fmt: skip
        return new

    assert bring()
    assert not bring()
    with pytest.raises(AccountExistsError, match="as shop"):
        bring("other")
    found = accounts.find_account_by_name(tx, organization, alias="shop")
    assert found == accounts.find_account_by_name(tx, organization, external_id="cmdb-17")
    assert (found.id, found.unit_id) == ("111122223333", prod.id)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"account_id": "12"}, OrganizationInputError),
        ({"email": "nobody"}, OrganizationInputError),
        ({"alias": "UPPER"}, OrganizationInputError),
        ({"alias": "111122223333"}, OrganizationInputError),
        ({"external_id": "two words"}, OrganizationInputError),
        ({"parent_id": "ou-0000-00000000"}, ParentNotFoundError),
        ({"email": "master@example.com"}, AccountExistsError),
        ({"alias": "taken"}, AccountExistsError),
        ({"external_id": "taken"}, AccountExistsError),
        ({"account_id": "444455556666"}, AccountExistsError),
    ],
    ids=str,
)
def test_what_cannot_be_imported(
    tx: sa.Connection, organization: Organization, given: dict[str, str], error: type[Exception]
) -> None:
    other = an_account(tx, organization, "other")
    accounts.name_account(tx, organization, other, alias="taken", external_id="taken")
    accounts.register_account(tx, "444455556666", "alone", "alone@example.com", now=NOON)
    shape = {"account_id": "111122223333", "name": "shop", "email": "shop@example.com", **given}
    with pytest.raises(error):
        accounts.import_account(
            tx,
            organization,
            shape["account_id"],
            shape["name"],
            shape["email"],
            parent_id=shape.get("parent_id"),
            alias=shape.get("alias"),
            external_id=shape.get("external_id"),
            now=NOON,
        )
    assert accounts.find_account(tx, "111122223333") is None


def test_other_names_can_be_given_and_taken_back(tx: sa.Connection, organization: Organization) -> None:
    member = an_account(tx, organization, "member")
    accounts.name_account(tx, organization, member, alias="first", external_id=None)
    accounts.name_account(tx, organization, member, alias="second", external_id="x")
    accounts.name_account(tx, organization, MANAGEMENT, alias="first", external_id=None)
    assert accounts.find_account_by_name(tx, organization, alias="second").id == member
    with pytest.raises(AccountNotFoundError):
        accounts.find_account_by_name(tx, organization, alias="third")
    with pytest.raises(AccountNotFoundError):
        accounts.find_account_by_name(tx, organization)


def test_lists_show_every_account_once(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")
    made = [an_account(tx, organization, f"a{n}", prod, now=NOON + n * HOUR) for n in range(1, 6)]
    first = accounts.list_accounts(tx, organization, after=None, limit=4)
    second = accounts.list_accounts(tx, organization, after=first.position, limit=4)
    assert [account.id for account in first.items + second.items] == [MANAGEMENT, *made]
    assert second.position is None
    under = accounts.list_accounts_under(tx, organization, prod.id, after=None, limit=3)
    rest = accounts.list_accounts_under(tx, organization, prod.id, after=under.position, limit=3)
    assert [account.id for account in under.items + rest.items] == made
    assert {account.id for account in accounts.accounts_by_id(tx, made)} == set(made)


def test_a_move_needs_the_right_source_and_another_destination(tx: sa.Connection, organization: Organization) -> None:
    prod, test = a_unit(tx, organization, "Prod"), a_unit(tx, organization, "Test")
    member = an_account(tx, organization, "member", prod)
    root = organization.root_id
    for account_id, source, destination, error in (
        ("999999999999", prod.id, test.id, AccountNotFoundError),
        (member, test.id, root, SourceParentNotFoundError),
        (member, "ou-0000-00000000", root, SourceParentNotFoundError),
        (member, prod.id, "ou-0000-00000000", DestinationParentNotFoundError),
        (member, prod.id, prod.id, DuplicateAccountError),
    ):
        with pytest.raises(error):
            accounts.move_account(tx, organization, account_id, source, destination, now=NOON)
    accounts.move_account(tx, organization, member, prod.id, test.id, now=NOON + HOUR)
    assert accounts.get_account(tx, organization, member).unit_path == test.path


def test_moves_within_one_instant_leave_one_placement(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")
    member = an_account(tx, organization, "member", prod)
    assert [(p.unit_id, p.ends_at) for p in placements(tx, member)] == [(prod.id, None)]


def test_a_clock_set_back_does_not_make_placements_overlap(tx: sa.Connection, organization: Organization) -> None:
    prod = a_unit(tx, organization, "Prod")
    member = an_account(tx, organization, "member", now=NOON)
    accounts.move_account(tx, organization, member, organization.root_id, prod.id, now=NOON + HOUR)
    accounts.move_account(tx, organization, member, prod.id, organization.root_id, now=NOON)
    first, second = placements(tx, member)
    assert first.ends_at == second.starts_at == NOON + HOUR
    assert second.unit_id == organization.root_id


def test_a_closed_account_stays_suspended_for_ninety_days(tx: sa.Connection, organization: Organization) -> None:
    member = an_account(tx, organization, "member")
    accounts.close_account(tx, organization, member, now=NOON)
    assert accounts.get_account(tx, organization, member).status is AccountStatus.SUSPENDED
    with pytest.raises(AccountAlreadyClosedError):
        accounts.close_account(tx, organization, member, now=NOON)
    assert accounts.next_departure(tx) == NOON + 90 * DAY
    assert accounts.remove_long_closed(tx, now=NOON + 89 * DAY) == []
    assert accounts.remove_long_closed(tx, now=NOON + 90 * DAY) == [(member, organization.id)]
    assert accounts.next_departure(tx) is None
    with pytest.raises(AccountNotFoundError):
        accounts.get_account(tx, organization, member)
    assert accounts.remove_long_closed(tx, now=NOON + 91 * DAY) == []


def test_what_cannot_be_closed(tx: sa.Connection, organization: Organization) -> None:
    member, other = an_account(tx, organization, "member"), an_account(tx, organization, "other")
    delegation.register(tx, organization.id, other, "backup.amazonaws.com", now=NOON)
    none = Limits(closings_at_least=0)
    for account_id, limits, reason in (
        (MANAGEMENT, Limits(), Constraint.CANNOT_CLOSE_MANAGEMENT_ACCOUNT),
        (other, Limits(), Constraint.CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG),
        (member, none, Constraint.CLOSE_ACCOUNT_QUOTA_EXCEEDED),
    ):
        with pytest.raises(ConstraintError) as refused:
            accounts.close_account(tx, organization, account_id, now=NOON, limits=limits)
        assert refused.value.reason is reason


def test_closing_needs_all_features(tx: sa.Connection) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    member = an_account(tx, billing, "member")
    with pytest.raises(ConstraintError) as refused:
        accounts.close_account(tx, billing, member, now=NOON)
    assert refused.value.reason is Constraint.ORGANIZATION_NOT_IN_ALL_FEATURES_MODE


def test_the_closing_quota_looks_back_thirty_days(tx: sa.Connection, organization: Organization) -> None:
    one = Limits(closings_at_least=1, closings_at_most=1)
    first, second = an_account(tx, organization, "first"), an_account(tx, organization, "second")
    accounts.close_account(tx, organization, first, now=NOON, limits=one)
    with pytest.raises(ConstraintError):
        accounts.close_account(tx, organization, second, now=NOON + 29 * DAY, limits=one)
    accounts.close_account(tx, organization, second, now=NOON + 30 * DAY, limits=one)


def test_a_new_account_waits_four_days_before_it_may_go(tx: sa.Connection, organization: Organization) -> None:
    member = an_account(tx, organization, "member")
    tags.tag(tx, organization, member, {"team": "web"})
    with pytest.raises(ConstraintError) as refused:
        accounts.remove_account(tx, organization, member, now=NOON + 4 * DAY - timedelta(seconds=1))
    assert refused.value.reason is Constraint.WAIT_PERIOD_ACTIVE
    accounts.remove_account(tx, organization, member, now=NOON + 4 * DAY)
    alone = accounts.find_account(tx, member)
    assert alone is not None
    assert (alone.organization_id, alone.path, alone.joined_method) == (None, None, None)
    assert tree.path_of(tx, member, NOON + DAY) != ()
    assert tree.path_of(tx, member) == ()


def test_an_imported_account_may_go_at_once(tx: sa.Connection, organization: Organization) -> None:
    accounts.import_account(tx, organization, "111122223333", "shop", "shop@example.com", now=NOON)
    accounts.remove_account(tx, organization, "111122223333", now=NOON + HOUR)
    with pytest.raises(AccountNotFoundError):
        accounts.remove_account(tx, organization, "111122223333", now=NOON + HOUR)


def test_who_cannot_go(tx: sa.Connection, organization: Organization) -> None:
    member = an_account(tx, organization, "member")
    delegation.register(tx, organization.id, member, "backup.amazonaws.com", now=NOON)
    with pytest.raises(ManagementCannotLeaveError):
        accounts.remove_account(tx, organization, MANAGEMENT, now=NOON + 9 * DAY)
    with pytest.raises(ConstraintError) as refused:
        accounts.remove_account(tx, organization, member, now=NOON + 9 * DAY)
    assert refused.value.reason is Constraint.CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG


def test_registering_an_account_checks_its_names(tx: sa.Connection) -> None:
    with pytest.raises(OrganizationInputError):
        accounts.register_account(tx, "12345", "a", "a@example.com", now=NOON)
    with pytest.raises(AccountExistsError):
        accounts.register_account(tx, MANAGEMENT, "a", "a@example.com", now=NOON)
