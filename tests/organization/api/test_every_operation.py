"""Every operation of Organizations, called once by boto3 in one story, and every list read page by page."""

import json
from datetime import timedelta
from typing import Any

import botocore.session
import pytest
from tests.devserver import DevServer, refused
from tests.policy.builders import a_plan, a_policy

GUEST, PAIRED = "111122223333", "111122224444"
TRANSFERS = "Responsibility"
LONG_ENOUGH = timedelta(days=4)
POLICY = json.dumps(a_policy())
BROKEN = json.dumps(a_policy(more=a_plan(regions=None), less=a_plan(rules=None)))
PAGINATORS: dict[str, dict[str, Any]] = (
    botocore.session.get_session().get_component("data_loader").load_service_model("organizations", "paginators-1")
)["pagination"]
NOT_PAGED = {"ListParents", "ListRoots", "ListTagsForResource"}
"""A node has one parent and an organization one root; tags come all at once, the operation has no page size."""


@pytest.fixture
def called(server: DevServer) -> set[str]:
    """The operations that clients of these tests have called."""
    return set()


def heard(client: Any, called: set[str]) -> Any:
    """Note what a client calls and gets an answer to; return it."""

    def note(model: Any, http_response: Any, **_: Any) -> None:
        if http_response.status_code == 200:
            called.add(model.name)

    client.meta.events.register("after-call.organizations", note)
    return client


def test_one_story_calls_every_operation(server: DevServer, called: set[str]) -> None:
    master = heard(server.client("organizations"), called)
    master.create_organization(FeatureSet="CONSOLIDATED_BILLING")
    asked = master.enable_all_features()["Handshake"]
    master.accept_handshake(HandshakeId=asked["Id"])
    organization = master.describe_organization()["Organization"]
    (root,) = master.list_roots()["Roots"]
    _tree(server, master, root["Id"], called)
    _policies(master, root["Id"])
    _guests(server, master, root["Id"], called)
    _trust(server, master, called)
    server.advance(LONG_ENOUGH)
    for account in master.list_accounts()["Accounts"]:
        if account["Id"] != organization["MasterAccountId"]:
            master.remove_account_from_organization(AccountId=account["Id"])
    for unit in master.list_organizational_units_for_parent(ParentId=root["Id"])["OrganizationalUnits"]:
        master.delete_organizational_unit(OrganizationalUnitId=unit["Id"])
    master.delete_organization()
    offered = {name for name in master.meta.service_model.operation_names if TRANSFERS not in name}
    assert called == offered


def _tree(server: DevServer, master: Any, root: str, called: set[str]) -> None:
    unit = master.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    master.update_organizational_unit(OrganizationalUnitId=unit, Name="Live")
    assert master.describe_organizational_unit(OrganizationalUnitId=unit)["OrganizationalUnit"]["Name"] == "Live"
    asked = master.create_account(AccountName="shop", Email="shop@example.com")["CreateAccountStatus"]
    assert master.describe_create_account_status(CreateAccountRequestId=asked["Id"])["CreateAccountStatus"] == asked
    master.create_gov_cloud_account(AccountName="gov", Email="gov@example.com")
    assert len(master.list_create_account_status()["CreateAccountStatuses"]) == 2
    shop = asked["AccountId"]
    master.move_account(AccountId=shop, SourceParentId=root, DestinationParentId=unit)
    assert master.list_parents(ChildId=shop)["Parents"] == [{"Id": unit, "Type": "ORGANIZATIONAL_UNIT"}]
    assert [each["Id"] for each in master.list_accounts_for_parent(ParentId=unit)["Accounts"]] == [shop]
    assert master.list_children(ParentId=unit, ChildType="ACCOUNT")["Children"] == [{"Id": shop, "Type": "ACCOUNT"}]
    master.tag_resource(ResourceId=shop, Tags=[{"Key": "team", "Value": "web"}])
    master.untag_resource(ResourceId=shop, TagKeys=["other"])
    assert master.list_tags_for_resource(ResourceId=shop)["Tags"] == [{"Key": "team", "Value": "web"}]
    assert master.describe_account(AccountId=shop)["Account"]["Name"] == "shop"
    last = master.create_account(AccountName="last", Email="last@example.com")["CreateAccountStatus"]["AccountId"]
    master.close_account(AccountId=last)
    assert master.describe_account(AccountId=last)["Account"]["Status"] == "SUSPENDED"
    server.advance(timedelta(days=91))  # it is gone by itself
    leaving = master.create_account(AccountName="leaving", Email="l@example.com")["CreateAccountStatus"]["AccountId"]
    server.advance(LONG_ENOUGH)
    heard(server.client("organizations", server.credentials_in(leaving)), called).leave_organization()


def _policies(master: Any, root: str) -> None:
    master.enable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")
    made = master.create_policy(Name="daily", Description="", Type="BACKUP_POLICY", Content=POLICY)["Policy"]
    policy = made["PolicySummary"]["Id"]
    assert master.describe_policy(PolicyId=policy)["Policy"] == made
    master.attach_policy(PolicyId=policy, TargetId=root)
    assert [each["Id"] for each in master.list_policies(Filter="BACKUP_POLICY")["Policies"]] == [policy]
    there = master.list_policies_for_target(TargetId=root, Filter="BACKUP_POLICY")["Policies"]
    assert [each["Id"] for each in there] == [policy]
    assert [each["TargetId"] for each in master.list_targets_for_policy(PolicyId=policy)["Targets"]] == [root]
    content = master.describe_effective_policy(PolicyType="BACKUP_POLICY")["EffectivePolicy"]["PolicyContent"]
    assert list(json.loads(content)["plans"]) == ["core"]
    master.update_policy(PolicyId=policy, Content=BROKEN)
    invalid = master.list_accounts_with_invalid_effective_policy(PolicyType="BACKUP_POLICY")["Accounts"]
    assert len(invalid) == len(master.list_accounts()["Accounts"])
    errors = master.list_effective_policy_validation_errors(AccountId=invalid[0]["Id"], PolicyType="BACKUP_POLICY")
    assert {each["ErrorCode"] for each in errors["EffectivePolicyValidationErrors"]} == {"KEY_REQUIRED"}
    master.detach_policy(PolicyId=policy, TargetId=root)
    master.delete_policy(PolicyId=policy)
    master.disable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")


def _guests(server: DevServer, master: Any, root: str, called: set[str]) -> None:
    server.client("holdfast").import_account(AccountId=GUEST, Name="guest", Email="guest@example.com")
    guest = heard(server.client("organizations", server.credentials_in(GUEST)), called)
    master.remove_account_from_organization(AccountId=GUEST)
    target = {"Type": "ACCOUNT", "Id": GUEST}
    for end in ("decline", "cancel", "accept"):
        sent = master.invite_account_to_organization(Target=target)["Handshake"]["Id"]
        assert master.describe_handshake(HandshakeId=sent)["Handshake"]["State"] == "OPEN"
        if end == "cancel":
            master.cancel_handshake(HandshakeId=sent)
        elif end == "decline":
            guest.decline_handshake(HandshakeId=sent)
        else:
            guest.accept_handshake(HandshakeId=sent)
    assert len(guest.list_handshakes_for_account()["Handshakes"]) == 3
    assert len(master.list_handshakes_for_organization(Filter={"ActionType": "INVITE"})["Handshakes"]) == 3
    assert [each["Id"] for each in master.list_children(ParentId=root, ChildType="ACCOUNT")["Children"]].count(GUEST)


def _trust(server: DevServer, master: Any, called: set[str]) -> None:
    service = "backup.amazonaws.com"
    master.enable_aws_service_access(ServicePrincipal=service)
    assert len(master.list_aws_service_access_for_organization()["EnabledServicePrincipals"]) == 1
    master.register_delegated_administrator(AccountId=GUEST, ServicePrincipal=service)
    assert [each["Id"] for each in master.list_delegated_administrators()["DelegatedAdministrators"]] == [GUEST]
    assert len(master.list_delegated_services_for_account(AccountId=GUEST)["DelegatedServices"]) == 1
    statement = {"Effect": "Allow", "Principal": {"AWS": GUEST}, "Action": "organizations:List*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    made = master.put_resource_policy(Content=policy)["ResourcePolicy"]["ResourcePolicySummary"]
    assert master.describe_resource_policy()["ResourcePolicy"]["ResourcePolicySummary"] == made
    master.delete_resource_policy()
    master.deregister_delegated_administrator(AccountId=GUEST, ServicePrincipal=service)
    master.disable_aws_service_access(ServicePrincipal=service)


@pytest.fixture
def full(server: DevServer) -> tuple[Any, dict[str, dict[str, Any]]]:
    """An organization with three of everything, and the parameters that each paged list takes there."""
    master = server.client("organizations")
    master.create_organization()
    root = master.list_roots()["Roots"][0]["Id"]
    master.enable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")
    accounts = []
    services = ("backup.amazonaws.com", "mgn.amazonaws.com", "config.amazonaws.com")
    for name, service in zip(("one", "two", "three"), services, strict=True):
        master.create_organizational_unit(ParentId=root, Name=name)
        asked = master.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"]
        accounts.append(asked["AccountId"])
        master.enable_aws_service_access(ServicePrincipal=service)
        master.invite_account_to_organization(Target={"Type": "EMAIL", "Id": f"{name}@elsewhere.example"})
    for account in accounts:
        for service in services:
            master.register_delegated_administrator(AccountId=account, ServicePrincipal=service)
    targets = [root, *accounts[:2]]
    for number, content in enumerate((BROKEN, POLICY, POLICY)):
        made = master.create_policy(Name=f"p{number}", Description="", Type="BACKUP_POLICY", Content=content)
        for target in targets if number == 0 else [root]:
            master.attach_policy(PolicyId=made["Policy"]["PolicySummary"]["Id"], TargetId=target)
    policy = master.list_policies(Filter="BACKUP_POLICY")["Policies"][0]["Id"]
    return (
        master,
        {
            "ListAccountsForParent": {"ParentId": root},
            "ListAccountsWithInvalidEffectivePolicy": {"PolicyType": "BACKUP_POLICY"},
            "ListChildren": {"ParentId": root, "ChildType": "ACCOUNT"},
            "ListDelegatedServicesForAccount": {"AccountId": accounts[0]},
            "ListEffectivePolicyValidationErrors": {"AccountId": accounts[0], "PolicyType": "BACKUP_POLICY"},
            "ListOrganizationalUnitsForParent": {"ParentId": root},
            "ListParents": {"ChildId": accounts[0]},
            "ListPolicies": {"Filter": "BACKUP_POLICY"},
            "ListPoliciesForTarget": {"TargetId": root, "Filter": "BACKUP_POLICY"},
            "ListTagsForResource": {"ResourceId": root},
            "ListTargetsForPolicy": {"PolicyId": policy},
        },
    )


def test_every_list_is_the_same_page_by_page_as_at_once(full: tuple[Any, dict[str, dict[str, Any]]]) -> None:
    master, parameters = full
    names = {botocore.xform_name(operation): operation for operation in PAGINATORS}
    for name, operation in names.items():
        member = PAGINATORS[operation]["result_key"]
        given = parameters.get(operation, {})
        whole = getattr(master, name)(**given)
        if operation in NOT_PAGED:
            assert "NextToken" not in whole
            continue
        config = {"PageSize": 1}
        pages = list(master.get_paginator(name).paginate(**given, PaginationConfig=config))
        assert [item for page in pages for item in page[member]] == whole[member], operation
        if operation == "ListHandshakesForAccount":
            continue  # an account has none of its own here
        assert len(pages) > 1, operation
        token = pages[0]["NextToken"]
        turned = token[:-1] + ("A" if token[-1] != "A" else "B")
        assert refused(getattr(master, name), **given, NextToken=turned) == (
            "InvalidInputException",
            "INVALID_NEXT_TOKEN",
        ), operation
