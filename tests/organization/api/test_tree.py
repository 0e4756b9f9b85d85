"""The organization and its tree through boto3."""

import re
from typing import Any

import pytest
from tests.devserver import MANAGEMENT, DevServer, refused

ACCOUNT = re.compile(rf"arn:aws:organizations::{MANAGEMENT}:account/o-[a-z0-9]{{10}}/[0-9]{{12}}")


def an_account(organizations: Any, name: str) -> str:
    """Make an account and return its id."""
    status = organizations.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"]
    assert status["State"] == "SUCCEEDED"
    return str(status["AccountId"])


def everything(client: Any, operation: str, member: str, page: int, **parameters: Any) -> list[Any]:
    """Return all items of a list, read by its paginator in pages of so many."""
    pages = list(client.get_paginator(operation).paginate(PaginationConfig={"PageSize": page}, **parameters))
    assert all(len(one[member]) <= page for one in pages)
    return [item for one in pages for item in one[member]]


def test_an_organization_from_beginning_to_end(organizations: Any) -> None:
    assert refused(organizations.describe_organization)[0] == "AWSOrganizationsNotInUseException"
    made = organizations.create_organization(FeatureSet="ALL")["Organization"]
    assert re.fullmatch("o-[a-z0-9]{10}", made["Id"])
    assert made == organizations.describe_organization()["Organization"]
    assert (made["MasterAccountId"], made["MasterAccountEmail"]) == (MANAGEMENT, "master@example.com")
    assert made["MasterAccountArn"] == f"arn:aws:organizations::{MANAGEMENT}:account/{made['Id']}/{MANAGEMENT}"
    assert refused(organizations.create_organization)[0] == "AlreadyInOrganizationException"
    (root,) = everything(organizations, "list_roots", "Roots", 20)
    assert (root["Name"], root["PolicyTypes"]) == ("Root", [])
    assert root["Arn"] == f"arn:aws:organizations::{MANAGEMENT}:root/{made['Id']}/{root['Id']}"
    organizations.delete_organization()
    assert refused(organizations.list_roots)[0] == "AWSOrganizationsNotInUseException"


def test_units_are_made_renamed_and_deleted(organizations: Any, root: str) -> None:
    unit = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]
    assert re.fullmatch(rf"ou-{root[2:]}-[a-z0-9]{{8}}", unit["Id"])
    organization = organizations.describe_organization()["Organization"]["Id"]
    assert unit["Path"] == f"{organization}/{root}/{unit['Id']}/"
    described = organizations.describe_organizational_unit(OrganizationalUnitId=unit["Id"])["OrganizationalUnit"]
    assert described == unit
    inner = organizations.create_organizational_unit(ParentId=unit["Id"], Name="Web")["OrganizationalUnit"]
    update = organizations.update_organizational_unit
    assert update(OrganizationalUnitId=unit["Id"], Name="Live")["OrganizationalUnit"]["Name"] == "Live"
    assert update(OrganizationalUnitId=unit["Id"], Name=" ")["OrganizationalUnit"]["Name"] == "Live"
    assert update(OrganizationalUnitId=unit["Id"])["OrganizationalUnit"]["Name"] == "Live"
    delete = organizations.delete_organizational_unit
    assert refused(delete, OrganizationalUnitId=unit["Id"])[0] == "OrganizationalUnitNotEmptyException"
    delete(OrganizationalUnitId=inner["Id"])
    delete(OrganizationalUnitId=unit["Id"])
    assert refused(delete, OrganizationalUnitId=unit["Id"])[0] == "OrganizationalUnitNotFoundException"


def test_refusals_about_units_have_the_exact_codes(organizations: Any, root: str) -> None:
    create = organizations.create_organizational_unit
    create(ParentId=root, Name="Prod")
    assert refused(create, ParentId=root, Name="Prod")[0] == "DuplicateOrganizationalUnitException"
    assert refused(create, ParentId="r-zzzz", Name="Test")[0] == "ParentNotFoundException"
    assert refused(create, ParentId="nowhere", Name="Test") == ("InvalidInputException", "INVALID_PATTERN:PARENT_ID")
    long = refused(create, ParentId=root, Name="x" * 129)
    assert long == ("InvalidInputException", "MAX_LENGTH_EXCEEDED:NAME")
    doubled = [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]
    assert refused(create, ParentId=root, Name="T", Tags=doubled) == ("InvalidInputException", "DUPLICATE_TAG_KEY")
    parent = root
    for level in range(5):
        parent = create(ParentId=parent, Name=f"level {level}")["OrganizationalUnit"]["Id"]
    deep = refused(create, ParentId=parent, Name="too deep")
    assert deep == ("ConstraintViolationException", "OU_DEPTH_LIMIT_EXCEEDED")


def test_every_list_pages(organizations: Any, root: str) -> None:
    units = [organizations.create_organizational_unit(ParentId=root, Name=f"u{n}") for n in range(5)]
    ids = [unit["OrganizationalUnit"]["Id"] for unit in units]
    members = [an_account(organizations, f"a{n}") for n in range(4)]
    listed = everything(organizations, "list_organizational_units_for_parent", "OrganizationalUnits", 2, ParentId=root)
    assert [unit["Id"] for unit in listed] == ids
    children = everything(organizations, "list_children", "Children", 2, ParentId=root, ChildType="ORGANIZATIONAL_UNIT")
    assert children == [{"Id": unit, "Type": "ORGANIZATIONAL_UNIT"} for unit in ids]
    children = everything(organizations, "list_children", "Children", 3, ParentId=root, ChildType="ACCOUNT")
    assert [child["Id"] for child in children] == [MANAGEMENT, *members]
    accounts = everything(organizations, "list_accounts", "Accounts", 2)
    assert [account["Id"] for account in accounts] == [MANAGEMENT, *members]
    assert everything(organizations, "list_accounts_for_parent", "Accounts", 2, ParentId=root) == accounts
    (parent,) = everything(organizations, "list_parents", "Parents", 1, ChildId=members[0])
    assert parent == {"Id": root, "Type": "ROOT"}
    statuses = everything(organizations, "list_create_account_status", "CreateAccountStatuses", 3, States=["SUCCEEDED"])
    assert [status["AccountId"] for status in statuses] == members


def test_page_tokens_belong_to_their_list(organizations: Any, root: str) -> None:
    for n in range(3):
        organizations.create_organizational_unit(ParentId=root, Name=f"u{n}")
    token = organizations.list_organizational_units_for_parent(ParentId=root, MaxResults=1)["NextToken"]
    unit = organizations.list_organizational_units_for_parent(ParentId=root)["OrganizationalUnits"][0]["Id"]
    invalid = ("InvalidInputException", "INVALID_NEXT_TOKEN")
    list_units = organizations.list_organizational_units_for_parent
    assert refused(list_units, ParentId=unit, NextToken=token) == invalid
    assert refused(organizations.list_accounts, NextToken=token) == invalid
    assert refused(organizations.list_accounts, NextToken="") == invalid
    too_many = ("InvalidInputException", "MAX_VALUE_EXCEEDED:MAX_RESULTS")
    assert refused(organizations.list_accounts, MaxResults=21) == too_many


def test_accounts_move_and_say_where_they_are(organizations: Any, root: str) -> None:
    unit = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]
    member = an_account(organizations, "shop")
    move = organizations.move_account
    move(AccountId=member, SourceParentId=root, DestinationParentId=unit["Id"])
    account = organizations.describe_account(AccountId=member)["Account"]
    assert account["Paths"] == [f"{unit['Path']}{member}/"]
    assert (account["Status"], account["State"], account["JoinedMethod"]) == ("ACTIVE", "ACTIVE", "CREATED")
    assert ACCOUNT.fullmatch(account["Arn"])
    for source, destination, code in (
        (root, unit["Id"], "SourceParentNotFoundException"),
        (unit["Id"], unit["Id"], "DuplicateAccountException"),
        (unit["Id"], "r-zzzz", "DestinationParentNotFoundException"),
    ):
        assert refused(move, AccountId=member, SourceParentId=source, DestinationParentId=destination)[0] == code
    nobody = refused(move, AccountId="999999999999", SourceParentId=root, DestinationParentId=unit["Id"])
    assert nobody[0] == "AccountNotFoundException"
    assert refused(organizations.list_parents, ChildId="999999999999")[0] == "ChildNotFoundException"


def test_the_partition_is_that_of_the_signing_region(server: DevServer, organizations: Any, root: str) -> None:
    chinese = server.client("organizations", region="cn-north-1").describe_organization()["Organization"]
    assert chinese["Arn"].startswith(f"arn:aws-cn:organizations::{MANAGEMENT}:organization/o-")


def test_a_member_sees_less(server: DevServer, organizations: Any, root: str) -> None:
    member = server.client("organizations", server.credentials_in(an_account(organizations, "shop")))
    seen = member.describe_organization()["Organization"]
    assert seen["MasterAccountId"] == MANAGEMENT
    assert "AvailablePolicyTypes" not in seen
    denied = "AccessDeniedException"
    for call, parameters in (
        (member.list_accounts, {}),
        (member.list_roots, {}),
        (member.list_children, {"ParentId": root, "ChildType": "ACCOUNT"}),
        (member.describe_account, {"AccountId": MANAGEMENT}),
        (member.list_tags_for_resource, {"ResourceId": root}),
        (member.create_organizational_unit, {"ParentId": root, "Name": "mine"}),
        (member.create_account, {"AccountName": "a", "Email": "a@example.com"}),
        (member.enable_all_features, {}),
        (member.delete_organization, {}),
        (member.close_account, {"AccountId": MANAGEMENT}),
    ):
        assert refused(call, **parameters)[0] == denied
    with pytest.raises(member.exceptions.AccessDeniedException, match="You don't have permissions to access this"):
        member.list_accounts()


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("describe_responsibility_transfer", {"Id": "rt-01234567"}),
        ("list_inbound_responsibility_transfers", {"Type": "BILLING"}),
        ("list_outbound_responsibility_transfers", {"Type": "BILLING"}),
        ("terminate_responsibility_transfer", {"Id": "rt-01234567"}),
        ("update_responsibility_transfer", {"Id": "rt-01234567", "Name": "n"}),
        (
            "invite_organization_to_transfer_responsibility",
            {"Type": "BILLING", "Target": {"Type": "ACCOUNT", "Id": "1" * 12}, "StartTimestamp": 0, "SourceName": "n"},
        ),
    ],
)
def test_bills_are_not_transferred_here(
    organizations: Any, root: str, operation: str, parameters: dict[str, Any]
) -> None:
    assert refused(getattr(organizations, operation), **parameters)[0] == "UnsupportedAPIEndpointException"
