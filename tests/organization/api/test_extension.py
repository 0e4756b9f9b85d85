"""The extension through boto3: given ids, other names, and the tree in one answer."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.devserver import MANAGEMENT, DevServer, refused

GIVEN = "111122223333"


@pytest.fixture
def holdfast(server: DevServer, root: str) -> Any:
    """The management account's client of the extension."""
    return server.client("holdfast")


def bring(holdfast: Any, account: str = GIVEN, name: str = "shop", **more: Any) -> Any:
    """Import an account."""
    return holdfast.import_account(AccountId=account, Name=name, Email=f"{name}@example.com", **more)["Account"]


def test_an_account_is_imported_with_its_id_once(server: DevServer, organizations: Any, holdfast: Any) -> None:
    first = bring(holdfast, Alias="web-shop", ExternalId="cmdb/17", Tags={"team": "web"})
    assert first["AccountId"] == GIVEN
    assert first["Tags"] == {"team": "web"}
    assert bring(holdfast) == first
    assert holdfast.describe_account(AccountId=GIVEN)["Account"] == first
    identity = server.client("sts", server.credentials_in(GIVEN)).get_caller_identity()
    assert identity["Account"] == GIVEN
    assert refused(bring, holdfast=holdfast, name="other")[0] == "ConflictException"
    assert refused(bring, holdfast=holdfast, account="444455556666")[0] == "ConflictException"
    taken = refused(bring, holdfast=holdfast, account="444455556666", name="other", Alias="web-shop")
    assert taken[0] == "ConflictException"
    nowhere = refused(bring, holdfast=holdfast, account="444455556666", name="other", ParentId="r-zzzz")
    assert nowhere[0] == "ResourceNotFoundException"


def test_accounts_are_found_by_their_other_names(holdfast: Any) -> None:
    made = bring(holdfast)
    put = holdfast.update_account_names
    named = put(AccountId=GIVEN, Alias="web-shop", ExternalId="17", ExpectedVersion=made["Version"])["Account"]
    assert named["Version"] != made["Version"]
    late = refused(put, AccountId=GIVEN, Alias="other", ExpectedVersion=made["Version"])
    assert late[0] == "ConflictException"
    assert [a["AccountId"] for a in holdfast.list_accounts(Alias="web-shop")["Accounts"]] == [GIVEN]
    assert [a["AccountId"] for a in holdfast.list_accounts(ExternalId="17")["Accounts"]] == [GIVEN]
    assert refused(holdfast.list_accounts, Alias="web-shop", ExternalId="17")[0] == "ValidationException"
    assert refused(holdfast.list_accounts, Alias="nobody")[0] == "ResourceNotFoundException"
    put(AccountId=GIVEN)
    assert refused(holdfast.list_accounts, Alias="web-shop")[0] == "ResourceNotFoundException"
    pages = holdfast.get_paginator("list_accounts").paginate(PaginationConfig={"PageSize": 1})
    assert [account["AccountId"] for page in pages for account in page["Accounts"]] == [MANAGEMENT, GIVEN]


def test_members_see_nothing_of_the_organization(server: DevServer, holdfast: Any) -> None:
    bring(holdfast)
    member = server.client("holdfast", server.credentials_in(GIVEN))
    for call, parameters in (
        (member.get_organization_tree, {}),
        (member.list_accounts, {}),
        (member.describe_account, {"AccountId": GIVEN}),
        (member.update_account_names, {"AccountId": GIVEN, "Alias": "mine"}),
        (member.import_account, {"AccountId": "444455556666", "Name": "a", "Email": "a@example.com"}),
    ):
        assert refused(call, **parameters)[0] == "AccessDeniedException"


def test_the_tree_comes_in_one_answer(organizations: Any, holdfast: Any, root: str) -> None:
    prod = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    web = organizations.create_organizational_unit(ParentId=prod, Name="Web")["OrganizationalUnit"]["Id"]
    for number in range(5):
        bring(holdfast, f"11112222333{number}", f"shop{number}", ParentId=web)
    organizations.enable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")
    policy = organizations.create_policy(Type="BACKUP_POLICY", Name="p", Description="", Content='{"plans": {}}')[
        "Policy"
    ]["PolicySummary"]["Id"]
    for target in (prod, "111122223330"):
        organizations.attach_policy(PolicyId=policy, TargetId=target)

    tree = holdfast.get_organization_tree(MaxResults=2)
    assert tree["ManagementAccountId"] == MANAGEMENT
    nodes = {node["Id"]: node for node in tree["Nodes"]}
    assert [node["Id"] for node in tree["Nodes"]] == [root, prod, web]
    assert [nodes[one].get("ParentId") for one in (root, prod, web)] == [None, root, prod]
    assert [nodes[one]["AccountCount"] for one in (root, prod, web)] == [1, 0, 5]
    assert [one["PolicyId"] for one in nodes[prod]["Attachments"]] == [policy]
    assert nodes[web]["Attachments"] == []
    assert nodes[web]["Accounts"][0]["Attachments"][0]["PolicyType"] == "BACKUP_POLICY"

    seen, node = nodes[web]["Accounts"], nodes[web]
    while "NextToken" in node:
        page = holdfast.get_organization_tree(ParentId=web, MaxResults=2, NextToken=node["NextToken"])
        (node,) = page["Nodes"]
        seen += node["Accounts"]
    assert [account["AccountId"] for account in seen] == [f"11112222333{number}" for number in range(5)]
    part = holdfast.get_organization_tree(ParentId=prod)["Nodes"]
    assert [one["Id"] for one in part] == [prod, web]


def test_page_tokens_of_the_tree_belong_to_one_node(organizations: Any, holdfast: Any, root: str) -> None:
    bring(holdfast)
    prod = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    token = holdfast.get_organization_tree(MaxResults=1)["Nodes"][0]["NextToken"]
    for parameters in ({}, {"ParentId": prod}, {"ParentId": root, "At": datetime(2026, 1, 1, tzinfo=UTC)}):
        assert refused(holdfast.get_organization_tree, NextToken=token, **parameters)[0] == "ValidationException"
    assert refused(holdfast.get_organization_tree, ParentId="ou-zzzz-01234567")[0] == "ResourceNotFoundException"


def test_the_tree_can_be_asked_for_any_instant(server: DevServer, organizations: Any, holdfast: Any, root: str) -> None:
    prod = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    bring(holdfast, ParentId=prod)
    before = organizations.describe_account(AccountId=GIVEN)["Account"]["JoinedTimestamp"]
    server.advance(timedelta(hours=1))
    organizations.move_account(AccountId=GIVEN, SourceParentId=prod, DestinationParentId=root)
    organizations.delete_organizational_unit(OrganizationalUnitId=prod)

    def standing(**asked: Any) -> dict[str, list[str]]:
        nodes = holdfast.get_organization_tree(**asked)["Nodes"]
        return {node["Id"]: sorted(account["AccountId"] for account in node["Accounts"]) for node in nodes}

    assert standing() == {root: sorted([MANAGEMENT, GIVEN])}
    assert standing(At=before + timedelta(minutes=1)) == {root: [MANAGEMENT], prod: [GIVEN]}
    assert refused(holdfast.get_organization_tree, At=before - timedelta(days=1))[0] == "ResourceNotFoundException"


def test_policies_follow_an_account_at_once(organizations: Any, holdfast: Any, root: str) -> None:
    prod = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    organizations.enable_policy_type(RootId=root, PolicyType="TAG_POLICY")
    policy = organizations.create_policy(
        Type="TAG_POLICY", Name="p", Description="", Content='{"tags": {"team": {"tag_key": {"@@assign": "Team"}}}}'
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=prod)
    bring(holdfast)

    def effective() -> str:
        answer = organizations.describe_effective_policy(PolicyType="TAG_POLICY", TargetId=GIVEN)
        return str(answer["EffectivePolicy"]["PolicyContent"])

    assert effective() == "{}"
    organizations.move_account(AccountId=GIVEN, SourceParentId=root, DestinationParentId=prod)
    assert "Team" in effective()
    organizations.move_account(AccountId=GIVEN, SourceParentId=prod, DestinationParentId=root)
    assert effective() == "{}"
    bring(holdfast, "444455556666", "other", ParentId=prod)
    answer = organizations.describe_effective_policy(PolicyType="TAG_POLICY", TargetId="444455556666")
    assert "Team" in answer["EffectivePolicy"]["PolicyContent"]


def test_new_nodes_get_the_control_policy_that_allows_everything(organizations: Any, holdfast: Any, root: str) -> None:
    organizations.enable_policy_type(RootId=root, PolicyType="SERVICE_CONTROL_POLICY")
    prod = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    bring(holdfast, ParentId=prod)
    for target in (root, prod, GIVEN):
        attached = organizations.list_policies_for_target(TargetId=target, Filter="SERVICE_CONTROL_POLICY")
        assert [policy["Id"] for policy in attached["Policies"]] == ["p-FullAWSAccess"]
    organizations.remove_account_from_organization(AccountId=GIVEN)
    targets = organizations.list_targets_for_policy(PolicyId="p-FullAWSAccess")["Targets"]
    assert GIVEN not in [target["TargetId"] for target in targets]
