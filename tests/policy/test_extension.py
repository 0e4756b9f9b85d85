"""The extension's operations about policies, through boto3: explain, preview, lint, distribution."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.policy.builders import CONTROL, a_plan, a_policy, a_rule, assign
from tests.policy.served import MANAGEMENT, Served
from tests.policy.test_preview import keeping
from tests.policy.test_wire import BROKEN, POLICY, clear, effective, made_account, made_policy

from holdfast.wire.model import MODEL_DIRECTORY


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return served.client()


@pytest.fixture(scope="module")
def holdfast(served: Served) -> Any:
    return served.client(service="holdfast")


@pytest.fixture(scope="module")
def root(client: Any) -> str:
    return str(client.list_roots()["Roots"][0]["Id"])


@pytest.fixture(scope="module")
def member(client: Any) -> str:
    return made_account(client, "member")


@pytest.fixture
def backup(client: Any, root: str) -> Iterator[None]:
    client.enable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")
    yield
    clear(client, root, "BACKUP_POLICY")


def test_explain_names_the_policy_node_and_operator_of_every_value(
    client: Any, holdfast: Any, root: str, member: str, backup: None
) -> None:
    base = a_policy(core=a_plan(regions={"@@assign": ["eu-north-1"], CONTROL: ["@@append"]}))
    above = made_policy(client, "above", json.dumps(base))
    below = made_policy(
        client,
        "below",
        json.dumps({"plans": {"core": {"regions": {"@@append": ["us-east-1"], "@@remove": ["eu-north-1"]}}}}),
    )
    client.attach_policy(PolicyId=above, TargetId=root)
    client.attach_policy(PolicyId=below, TargetId=member)
    pages = list(
        holdfast.get_paginator("explain_effective_policy").paginate(TargetId=member, PaginationConfig={"PageSize": 2})
    )
    leaves = {leaf["Path"]: leaf for page in pages for leaf in page["Leaves"]}
    assert len(pages) == 3
    assert leaves["/plans/core/regions"] == {
        "Path": "/plans/core/regions",
        "Value": '["eu-north-1","us-east-1"]',
        "PolicyId": below,
        "TargetId": member,
        "Operator": "@@append",
        "Overrode": [{"PolicyId": above, "TargetId": root, "Operator": "@@assign", "Value": '["eu-north-1"]'}],
        "ChangeableBelow": {"Assign": False, "Append": True, "Remove": False},
    }
    (ignored,) = pages[0]["Ignored"]
    assert (ignored["PolicyId"], ignored["Operator"]) == (below, "@@remove")
    assert f"policy {above} at {root} allows @@append" in ignored["Reason"]
    assert json.loads(pages[0]["PolicyContent"]) == effective(client, member)


def test_explain_answers_for_a_past_instant(
    served: Served, client: Any, holdfast: Any, root: str, member: str, backup: None
) -> None:
    policy = made_policy(client, "one")
    client.attach_policy(PolicyId=policy, TargetId=root)
    held = client.describe_effective_policy(PolicyType="BACKUP_POLICY", TargetId=member)["EffectivePolicy"]
    served.advance(120)
    client.update_policy(PolicyId=policy, Content=json.dumps(keeping(7)))
    served.advance(120)
    client.detach_policy(PolicyId=policy, TargetId=root)
    assert holdfast.explain_effective_policy(TargetId=member)["Leaves"] == []
    days = [
        next((leaf["Value"] for leaf in leaves if leaf["Path"].endswith("delete_after_days")), None)
        for minutes in (1, 3, 5)
        for leaves in [
            holdfast.explain_effective_policy(
                TargetId=member, At=held["LastUpdatedTimestamp"] + timedelta(minutes=minutes)
            )["Leaves"]
        ]
    ]
    assert days == [None, '"7"', None]
    past = holdfast.explain_effective_policy(TargetId=member, At=held["LastUpdatedTimestamp"] + timedelta(minutes=1))
    assert past["PolicyContent"] == held["PolicyContent"]


def test_lint_gives_line_column_and_suggestion(holdfast: Any) -> None:
    draft = '{\n "plans": {"core": {"region": {"@@assign": ["eu-north-1"]}}}\n}'
    (remark,) = holdfast.lint_policy(Content=draft)["Remarks"]
    assert remark == {
        "Severity": "ERROR",
        "Path": "/plans/core/region",
        "Line": 2,
        "Column": 31,
        "Message": remark["Message"],
        "Suggestion": "regions",
    }
    assert holdfast.lint_policy(Content=POLICY)["Remarks"] == []
    assert holdfast.lint_policy(Content="{", PolicyType="SERVICE_CONTROL_POLICY")["Remarks"][0]["Line"] == 1


def test_a_preview_says_what_then_happens(client: Any, holdfast: Any, root: str, member: str, backup: None) -> None:
    policy = made_policy(client, "kept", json.dumps(keeping(90)))
    change = {"Attach": {"PolicyId": policy, "TargetId": root}}
    (gained,) = holdfast.preview_policy_change(Change=change)["Effects"]
    everybody = sorted(a["Id"] for page in client.get_paginator("list_accounts").paginate() for a in page["Accounts"])
    assert {MANAGEMENT, member} <= set(everybody)
    assert sorted(gained["AccountIds"]) == everybody
    assert gained["PlansGained"] == ["core"]
    client.attach_policy(PolicyId=policy, TargetId=root)
    assert json.loads(gained["After"]) == effective(client, member)
    change = {"Update": {"PolicyId": policy, "Content": json.dumps(keeping(7))}}
    (shortened,) = holdfast.preview_policy_change(Change=change)["Effects"]
    assert shortened["Shortened"] == [{"PlanName": "core", "RuleName": "daily", "DaysBefore": 90, "DaysAfter": 7}]
    change = {"Update": {"PolicyId": policy, "Content": BROKEN}}
    (broken,) = holdfast.preview_policy_change(Change=change)["Effects"]
    assert [error["ErrorMessage"] for error in broken["ValidationErrors"]] == ["'regions' is missing"]
    (lost,) = holdfast.preview_policy_change(Change={"Disable": {"PolicyType": "BACKUP_POLICY"}})["Effects"]
    assert lost["PlansLost"] == ["core"]
    assert effective(client, member) == json.loads(gained["After"])


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown policy": ({"Update": {"PolicyId": "p-00000000", "Content": POLICY}}, "ResourceNotFoundException"),
    "an unknown node": ({"Attach": {"PolicyId": "POLICY", "TargetId": "999999999999"}}, "ResourceNotFoundException"),
    "a node twice": ({"Attach": {"PolicyId": "POLICY", "TargetId": "ROOT"}}, "ConflictException"),
    "a type that is on": ({"Enable": {"PolicyType": "BACKUP_POLICY"}}, "InvalidRequestException"),
    "a malformed document": ({"Create": {"Content": "{}"}}, "ValidationException"),
    "nothing": ({}, "ValidationException"),
    "two changes": (
        {"Enable": {"PolicyType": "TAG_POLICY"}, "Disable": {"PolicyType": "BACKUP_POLICY"}},
        "ValidationException",
    ),
}


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES)
def test_a_change_that_cannot_be_made_cannot_be_foreseen(
    served: Served, client: Any, root: str, backup: None, change: dict[str, Any], code: str
) -> None:
    policy = made_policy(client, "one")
    client.attach_policy(PolicyId=policy, TargetId=root)
    named = json.loads(json.dumps(change).replace('"POLICY"', f'"{policy}"').replace('"ROOT"', f'"{root}"'))
    holdfast = served.client(service="holdfast", checks=False)
    with pytest.raises(ClientError) as refused:
        holdfast.preview_policy_change(Change=named)
    assert refused.value.response["Error"]["Code"] == code


def test_distribution_tells_who_has_the_present_version_and_who_has_not(
    client: Any, holdfast: Any, root: str, member: str, backup: None
) -> None:
    unit = client.create_organizational_unit(ParentId=root, Name="strict")["OrganizationalUnit"]["Id"]
    inside = made_account(client, "inside")
    client.move_account(AccountId=inside, SourceParentId=root, DestinationParentId=unit)
    policy = made_policy(client, "watched")
    client.attach_policy(PolicyId=policy, TargetId=root)
    needs_vault = {"plans": {"core": {"rules": {"weekly": {"start_backup_window_minutes": assign(60)}}}}}
    client.update_policy(PolicyId=policy, Content=json.dumps(a_policy(core=a_plan(rules={"daily": a_rule()}))))
    client.attach_policy(PolicyId=made_policy(client, "incomplete", json.dumps(needs_vault)), TargetId=unit)
    client.update_policy(PolicyId=policy, Content=json.dumps(keeping(30)))
    answer = holdfast.list_policy_distribution(PolicyId=policy)
    found = {receipt["AccountId"]: receipt for receipt in answer["Accounts"]}
    assert answer["Version"] == 2
    assert {account: (each["State"], each["VersionInForce"]) for account, each in found.items()} == {
        MANAGEMENT: ("IN_FORCE", 2),
        member: ("IN_FORCE", 2),
        inside: ("WITHHELD", 1),
    }
    (error,) = found[inside]["ValidationErrors"]
    assert (error["ErrorMessage"], error["PathToError"]) == (
        "'target_backup_vault_name' is missing",
        "plans/core/rules/weekly",
    )
    pages = holdfast.get_paginator("list_policy_distribution").paginate(
        PolicyId=policy, PaginationConfig={"PageSize": 1}
    )
    assert [receipt["AccountId"] for page in pages for receipt in page["Accounts"]] == sorted(found)


def test_the_aws_cli_foresees_a_change_as_the_guide_shows(
    served: Served, client: Any, root: str, backup: None, tmp_path: Path
) -> None:
    draft = tmp_path / "draft.json"
    draft.write_text(POLICY)
    policy = made_policy(client, "one")
    change = json.dumps({"Attach": {"PolicyId": policy, "TargetId": root}})

    def aws(*arguments: str) -> Any:
        command = [str(Path(sys.executable).with_name("aws")), "--endpoint-url", served.url, "holdfast", *arguments]
        credential = {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        environment = {**os.environ, **credential, "AWS_DATA_PATH": str(MODEL_DIRECTORY), "AWS_PAGER": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert aws("lint-policy", "--policy-type", "BACKUP_POLICY", "--content", f"file://{draft}") == {"Remarks": []}
    (effect,) = aws("preview-policy-change", "--change", change)["Effects"]
    assert effect["PlansGained"] == ["core"]
    client.attach_policy(PolicyId=policy, TargetId=root)
    answer = aws("list-policy-distribution", "--policy-id", policy)
    assert {receipt["State"] for receipt in answer["Accounts"]} == {"IN_FORCE"}


def test_members_see_none_of_it(served: Served, client: Any, member: str, backup: None) -> None:
    policy = made_policy(client, "one")
    own = served.client(member, "holdfast")
    for call, parameters in (
        (own.preview_policy_change, {"Change": {"Disable": {"PolicyType": "BACKUP_POLICY"}}}),
        (own.list_policy_distribution, {"PolicyId": policy}),
        (own.explain_effective_policy, {"TargetId": MANAGEMENT}),
    ):
        with pytest.raises(ClientError) as refused:
            call(**parameters)
        assert refused.value.response["Error"]["Code"] == "AccessDeniedException"
    assert own.lint_policy(Content=POLICY)["Remarks"] == []
    assert own.explain_effective_policy(TargetId=member)["Leaves"] == []
