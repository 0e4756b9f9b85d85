"""How accounts join and leave, through boto3: created, invited, imported; closed, removed, gone by themselves."""

from datetime import timedelta
from typing import Any

import boto3
import pytest
from tests.devserver import MANAGEMENT, DevServer, refused

from holdfast.wire.organizations import OPERATIONS

WAIT = timedelta(days=4)
INVITED = "111122223333"


def an_account(organizations: Any, name: str, **more: Any) -> str:
    """Make an account and return its id."""
    status = organizations.create_account(AccountName=name, Email=f"{name}@example.com", **more)
    return str(status["CreateAccountStatus"]["AccountId"])


def everything(client: Any, operation: str, member: str, **parameters: Any) -> list[Any]:
    """Return all items of a list, read by its paginator one by one."""
    pages = client.get_paginator(operation).paginate(PaginationConfig={"PageSize": 1}, **parameters)
    return [item for page in pages for item in page[member]]


@pytest.fixture
def guest(server: DevServer, organizations: Any, root: str) -> dict[str, str]:
    """Credentials in an account that stands on its own: it was imported, and let go."""
    server.client("holdfast").import_account(AccountId=INVITED, Name="guest", Email="guest@example.com")
    credentials = server.credentials_in(INVITED)
    organizations.remove_account_from_organization(AccountId=INVITED)
    return credentials


def test_every_operation_is_offered_but_the_transfer_of_bills() -> None:
    client = boto3.client("organizations", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    modelled = set(client.meta.service_model.operation_names)
    missing = modelled - set(OPERATIONS)
    assert len(missing) == 6
    assert all("Responsibility" in name for name in missing)
    assert set(OPERATIONS) <= modelled


def test_an_account_is_made_at_once_with_its_role_and_tags(server: DevServer, organizations: Any, root: str) -> None:
    request = organizations.create_account(
        AccountName="shop", Email="shop@example.com", RoleName="Admin", Tags=[{"Key": "team", "Value": "web"}]
    )["CreateAccountStatus"]
    described = organizations.describe_create_account_status(CreateAccountRequestId=request["Id"])
    assert described["CreateAccountStatus"] == request
    identity = server.client("sts", server.credentials_in(request["AccountId"], "Admin")).get_caller_identity()
    assert identity["Account"] == request["AccountId"]
    tags = organizations.list_tags_for_resource(ResourceId=request["AccountId"])["Tags"]
    assert tags == [{"Key": "team", "Value": "web"}]


def test_requests_that_fail_say_why(organizations: Any, root: str) -> None:
    failed = organizations.create_account(AccountName="again", Email="MASTER@example.com")["CreateAccountStatus"]
    assert (failed["State"], failed["FailureReason"]) == ("FAILED", "EMAIL_ALREADY_EXISTS")
    assert "AccountId" not in failed
    assert everything(organizations, "list_create_account_status", "CreateAccountStatuses", States=["FAILED"]) == [
        failed
    ]
    create = organizations.create_account
    pattern = ("InvalidInputException", "INVALID_PATTERN:EMAIL")
    assert refused(create, AccountName="a", Email="nobody") == pattern
    role = refused(create, AccountName="a", Email="a@example.com", RoleName="AWSServiceRoleForX")
    assert role == ("InvalidInputException", "INVALID_ROLE_NAME")
    unknown = refused(organizations.describe_create_account_status, CreateAccountRequestId="car-01234567")
    assert unknown[0] == "CreateAccountStatusNotFoundException"


def test_a_gov_cloud_account_comes_in_pairs(organizations: Any, root: str) -> None:
    status = organizations.create_gov_cloud_account(AccountName="gov", Email="gov@example.com")["CreateAccountStatus"]
    assert len({status["AccountId"], status["GovCloudAccountId"]}) == 2
    listed = [account["Id"] for account in everything(organizations, "list_accounts", "Accounts")]
    assert listed == [MANAGEMENT, status["AccountId"]]


def test_a_closed_account_can_do_nothing_any_more(server: DevServer, organizations: Any, root: str) -> None:
    member = an_account(organizations, "shop")
    client = server.client("organizations", server.credentials_in(member))
    client.describe_organization()
    organizations.close_account(AccountId=member)
    account = organizations.describe_account(AccountId=member)["Account"]
    assert (account["Status"], account["State"]) == ("SUSPENDED", "CLOSED")
    assert refused(client.describe_organization)[0] == "UnrecognizedClientException"
    assert refused(organizations.close_account, AccountId=member)[0] == "AccountAlreadyClosedException"
    management = refused(organizations.close_account, AccountId=MANAGEMENT)
    assert management == ("ConstraintViolationException", "CANNOT_CLOSE_MANAGEMENT_ACCOUNT")


def test_a_closed_account_is_gone_after_ninety_days(server: DevServer, organizations: Any, root: str) -> None:
    member = an_account(organizations, "shop")
    organizations.close_account(AccountId=member)
    server.advance(timedelta(days=90))
    assert refused(organizations.describe_account, AccountId=member)[0] == "AccountNotFoundException"
    organizations.delete_organization()


def test_a_new_account_is_let_go_after_four_days(server: DevServer, organizations: Any, root: str) -> None:
    first, second = an_account(organizations, "first"), an_account(organizations, "second")
    remove = organizations.remove_account_from_organization
    waiting = ("ConstraintViolationException", "WAIT_PERIOD_ACTIVE")
    assert refused(remove, AccountId=first) == waiting
    leaving = server.client("organizations", server.credentials_in(second))
    assert refused(leaving.leave_organization) == waiting
    assert refused(remove, AccountId=MANAGEMENT)[0] == "MasterCannotLeaveOrganizationException"
    assert refused(organizations.leave_organization)[0] == "MasterCannotLeaveOrganizationException"
    assert refused(organizations.delete_organization)[0] == "OrganizationNotEmptyException"
    server.advance(WAIT)
    remove(AccountId=first)
    leaving.leave_organization()
    assert refused(leaving.describe_organization)[0] == "AWSOrganizationsNotInUseException"
    assert refused(remove, AccountId=first)[0] == "AccountNotFoundException"
    organizations.delete_organization()


def test_an_invitation_is_sent_seen_and_accepted(
    server: DevServer, organizations: Any, root: str, guest: dict[str, str]
) -> None:
    invited = server.client("organizations", guest)
    sent = organizations.invite_account_to_organization(
        Target={"Type": "ACCOUNT", "Id": INVITED}, Notes="join us", Tags=[{"Key": "team", "Value": "web"}]
    )["Handshake"]
    organization = organizations.describe_organization()["Organization"]["Id"]
    assert sent["Arn"] == f"arn:aws:organizations::{MANAGEMENT}:handshake/{organization}/invite/{sent['Id']}"
    assert (sent["State"], sent["Action"]) == ("OPEN", "INVITE")
    assert sent["ExpirationTimestamp"] - sent["RequestedTimestamp"] == timedelta(days=15)
    assert sent["Parties"] == [
        {"Id": organization.removeprefix("o-"), "Type": "ORGANIZATION"},
        {"Id": INVITED, "Type": "ACCOUNT"},
    ]
    assert [detail["Type"] for detail in sent["Resources"]] == ["ORGANIZATION", "ACCOUNT", "NOTES"]
    assert sent["Resources"][0]["Resources"][0] == {"Type": "MASTER_EMAIL", "Value": "master@example.com"}
    assert everything(invited, "list_handshakes_for_account", "Handshakes") == [sent]
    assert everything(organizations, "list_handshakes_for_organization", "Handshakes") == [sent]
    assert invited.describe_handshake(HandshakeId=sent["Id"])["Handshake"] == sent
    accepted = invited.accept_handshake(HandshakeId=sent["Id"])["Handshake"]
    assert accepted == {**sent, "State": "ACCEPTED"}
    assert organizations.describe_account(AccountId=INVITED)["Account"]["JoinedMethod"] == "INVITED"
    assert organizations.list_tags_for_resource(ResourceId=INVITED)["Tags"] == [{"Key": "team", "Value": "web"}]
    assert refused(invited.accept_handshake, HandshakeId=sent["Id"])[0] == "HandshakeAlreadyInStateException"
    assert refused(invited.decline_handshake, HandshakeId=sent["Id"])[0] == "InvalidHandshakeTransitionException"


def test_invitations_are_declined_cancelled_or_expire(
    server: DevServer, organizations: Any, root: str, guest: dict[str, str]
) -> None:
    invited, target = server.client("organizations", guest), {"Type": "ACCOUNT", "Id": INVITED}

    def invite() -> str:
        return str(organizations.invite_account_to_organization(Target=target)["Handshake"]["Id"])

    first = invite()
    assert refused(organizations.invite_account_to_organization, Target=target)[0] == "DuplicateHandshakeException"
    assert refused(invited.cancel_handshake, HandshakeId=first)[0] == "AccessDeniedException"
    assert refused(organizations.accept_handshake, HandshakeId=first)[0] == "AccessDeniedException"
    assert invited.decline_handshake(HandshakeId=first)["Handshake"]["State"] == "DECLINED"
    assert organizations.cancel_handshake(HandshakeId=invite())["Handshake"]["State"] == "CANCELED"
    last = invite()
    server.advance(timedelta(days=15))
    assert organizations.describe_handshake(HandshakeId=last)["Handshake"]["State"] == "EXPIRED"
    states = [h["State"] for h in everything(organizations, "list_handshakes_for_organization", "Handshakes")]
    assert states == ["DECLINED", "CANCELED", "EXPIRED"]


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ({"Type": "ACCOUNT", "Id": "bad"}, ("InvalidInputException", "INVALID_PATTERN")),
        ({"Type": "ACCOUNT", "Id": "999999999999"}, ("InvalidInputException", "INVALID_PARTY_TYPE_TARGET")),
        ({"Type": "ORGANIZATION", "Id": "o-exampleorgid"}, ("InvalidInputException", "INVALID_PARTY_TYPE_TARGET")),
        ({"Type": "EMAIL", "Id": "invalid"}, ("InvalidInputException", "INVALID_EMAIL_ADDRESS_TARGET")),
        (
            {"Type": "ACCOUNT", "Id": MANAGEMENT},
            ("HandshakeConstraintViolationException", "ALREADY_IN_AN_ORGANIZATION"),
        ),
    ],
    ids=str,
)
def test_who_cannot_be_invited(organizations: Any, root: str, target: dict[str, str], answer: tuple[str, str]) -> None:
    assert refused(organizations.invite_account_to_organization, Target=target) == answer


def test_handshakes_are_filtered_one_way_at_a_time(organizations: Any, root: str) -> None:
    both = {"ActionType": "INVITE", "ParentHandshakeId": "h-00000000"}
    for call in (organizations.list_handshakes_for_account, organizations.list_handshakes_for_organization):
        assert refused(call, Filter=both) == ("InvalidInputException", "MAX_LIMIT_EXCEEDED_FILTER")
        assert call(Filter={"ActionType": "TRANSFER_RESPONSIBILITY"})["Handshakes"] == []
        assert call(Filter={"ParentHandshakeId": "h-00000000"})["Handshakes"] == []
        assert call(Filter={})["Handshakes"] == []
    unknown = refused(organizations.describe_handshake, HandshakeId="h-00000000")
    assert unknown[0] == "HandshakeNotFoundException"


def test_all_features_are_asked_for_and_completed(organizations: Any) -> None:
    organizations.create_organization(FeatureSet="CONSOLIDATED_BILLING")
    root = organizations.list_roots()["Roots"][0]["Id"]
    enable = organizations.enable_policy_type
    unavailable = refused(enable, RootId=root, PolicyType="BACKUP_POLICY")
    assert unavailable[0] == "PolicyTypeNotAvailableForOrganizationException"
    parent = organizations.enable_all_features()["Handshake"]
    assert (parent["Action"], parent["State"]) == ("ENABLE_ALL_FEATURES", "OPEN")
    organizations.accept_handshake(HandshakeId=parent["Id"])
    assert organizations.describe_organization()["Organization"]["FeatureSet"] == "ALL"
    enable(RootId=root, PolicyType="BACKUP_POLICY")
    again = refused(organizations.enable_all_features)
    assert again == ("HandshakeConstraintViolationException", "ORGANIZATION_ALREADY_HAS_ALL_FEATURES")
