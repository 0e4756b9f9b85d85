"""Policies through boto3: every operation, the errors and reasons, and the worked examples of inheritance."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy.builders import FULL_POLICY, a_plan, a_policy, json_values
from tests.policy.served import MANAGEMENT, Served
from tests.policy.test_service import DENY
from tests.policy.test_vectors import EFFECTIVE, INVALID, REFUSED, VECTORS

POLICY = json.dumps(a_policy())
BROKEN = json.dumps(a_policy(core=a_plan(regions=None)))


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return served.client()


@pytest.fixture(scope="module")
def root(client: Any) -> str:
    return str(client.list_roots()["Roots"][0]["Id"])


@pytest.fixture(scope="module")
def member(client: Any) -> str:
    return made_account(client, "member")


@pytest.fixture
def backup(client: Any, root: str) -> Iterator[None]:
    """Backup policies are switched on; afterwards everything about them is gone again."""
    client.enable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")
    yield
    clear(client, root, "BACKUP_POLICY")


def clear(client: Any, root: str, policy_type: str) -> None:
    client.disable_policy_type(RootId=root, PolicyType=policy_type)
    for page in client.get_paginator("list_policies").paginate(Filter=policy_type):
        for policy in page["Policies"]:
            if not policy["AwsManaged"]:
                client.delete_policy(PolicyId=policy["Id"])


def made_account(client: Any, name: str) -> str:
    status = client.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"]
    assert status["State"] == "SUCCEEDED", status
    return str(status["AccountId"])


def made_policy(client: Any, name: str, content: str = POLICY, policy_type: str = "BACKUP_POLICY") -> str:
    answer = client.create_policy(Name=name, Description="", Type=policy_type, Content=content)
    return str(answer["Policy"]["PolicySummary"]["Id"])


def refusal(call: Any, /, **parameters: Any) -> tuple[str, str | None, str]:
    """Return code, reason and message of the error that a call gives."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    response: Any = refused.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return response["Error"]["Code"], response.get("Reason"), response["Error"]["Message"]


def effective(client: Any, account: str, policy_type: str = "BACKUP_POLICY") -> Any:
    found = client.describe_effective_policy(PolicyType=policy_type, TargetId=account)["EffectivePolicy"]
    assert (found["TargetId"], found["PolicyType"]) == (account, policy_type)
    return json.loads(found["PolicyContent"])


def test_a_policy_is_made_read_changed_and_deleted(client: Any, backup: None) -> None:
    made = client.create_policy(
        Name="daily", Description="why", Type="BACKUP_POLICY", Content=POLICY, Tags=[{"Key": "team", "Value": "ops"}]
    )["Policy"]
    summary = made["PolicySummary"]
    organization = client.describe_organization()["Organization"]["Id"]
    assert made["Content"] == POLICY
    assert summary | {"Id": "", "Arn": ""} == {
        "Id": "",
        "Arn": "",
        "Name": "daily",
        "Description": "why",
        "Type": "BACKUP_POLICY",
        "AwsManaged": False,
    }
    arn = f"arn:aws:organizations::{MANAGEMENT}:policy/{organization}/backup_policy/{summary['Id']}"
    assert summary["Arn"] == arn
    assert client.list_tags_for_resource(ResourceId=summary["Id"])["Tags"] == [{"Key": "team", "Value": "ops"}]
    changed = client.update_policy(PolicyId=summary["Id"], Name="nightly", Content=BROKEN)["Policy"]
    assert client.describe_policy(PolicyId=summary["Id"])["Policy"] == changed
    assert (changed["PolicySummary"]["Name"], changed["Content"]) == ("nightly", BROKEN)
    client.delete_policy(PolicyId=summary["Id"])
    assert refusal(client.describe_policy, PolicyId=summary["Id"])[0] == "PolicyNotFoundException"


def test_policies_and_targets_are_listed_page_by_page(client: Any, root: str, member: str, backup: None) -> None:
    made = [made_policy(client, f"policy {number}", '{"plans": {}}') for number in range(5)]
    for policy in made:
        client.attach_policy(PolicyId=policy, TargetId=member)
    client.attach_policy(PolicyId=made[0], TargetId=root)

    def ids(operation: str, member_name: str, key: str, **parameters: Any) -> list[str]:
        pages = list(client.get_paginator(operation).paginate(**parameters, PaginationConfig={"PageSize": 2}))
        assert len(pages) == -(-sum(len(page[member_name]) for page in pages) // 2)
        return [item[key] for page in pages for item in page[member_name]]

    assert ids("list_policies", "Policies", "Id", Filter="BACKUP_POLICY") == made
    assert ids("list_policies_for_target", "Policies", "Id", TargetId=member, Filter="BACKUP_POLICY") == made
    assert sorted(ids("list_targets_for_policy", "Targets", "TargetId", PolicyId=made[0])) == sorted([member, root])
    targets = {target["TargetId"]: target for target in client.list_targets_for_policy(PolicyId=made[0])["Targets"]}
    assert (targets[root]["Type"], targets[root]["Name"], targets[member]["Type"]) == ("ROOT", "Root", "ACCOUNT")


def test_what_aws_manages_is_listed_and_cannot_be_changed(client: Any) -> None:
    (policy,) = client.list_policies(Filter="SERVICE_CONTROL_POLICY")["Policies"]
    assert policy["Arn"] == "arn:aws:organizations::aws:policy/service_control_policy/p-FullAWSAccess"
    assert refusal(client.update_policy, PolicyId=policy["Id"], Name="x")[:2] == (
        "InvalidInputException",
        "IMMUTABLE_POLICY",
    )


def test_switching_types_on_and_off_is_seen_at_the_root(client: Any, root: str) -> None:
    shown = client.enable_policy_type(RootId=root, PolicyType="TAG_POLICY")["Root"]
    assert shown == client.list_roots()["Roots"][0]
    assert {"Type": "TAG_POLICY", "Status": "ENABLED"} in shown["PolicyTypes"]
    again = refusal(client.enable_policy_type, RootId=root, PolicyType="TAG_POLICY")
    assert again[0] == "PolicyTypeAlreadyEnabledException"
    assert client.disable_policy_type(RootId=root, PolicyType="TAG_POLICY")["Root"]["PolicyTypes"] == []
    off = refusal(client.disable_policy_type, RootId=root, PolicyType="TAG_POLICY")
    assert off[0] == "PolicyTypeNotEnabledException"
    assert refusal(client.enable_policy_type, RootId="r-zzzz", PolicyType="TAG_POLICY")[0] == "RootNotFoundException"


def test_every_refusal_has_its_own_exception(client: Any, root: str, member: str, backup: None) -> None:
    policy = made_policy(client, "one")
    client.attach_policy(PolicyId=policy, TargetId=root)
    assert refusal(client.attach_policy, PolicyId=policy, TargetId=root)[0] == "DuplicatePolicyAttachmentException"
    assert refusal(client.attach_policy, PolicyId=policy, TargetId="999999999999")[0] == "TargetNotFoundException"
    assert refusal(client.attach_policy, PolicyId="p-00000000", TargetId=root)[0] == "PolicyNotFoundException"
    assert refusal(client.detach_policy, PolicyId=policy, TargetId=member)[0] == "PolicyNotAttachedException"
    assert refusal(client.delete_policy, PolicyId=policy)[0] == "PolicyInUseException"
    assert refusal(made_policy, client=client, name="one")[0] == "DuplicatePolicyException"
    tags = made_policy(client, "tags", '{"tags": {}}', "TAG_POLICY")
    assert refusal(client.attach_policy, PolicyId=tags, TargetId=root)[0] == "PolicyTypeNotEnabledException"
    client.delete_policy(PolicyId=tags)
    code, reason, _ = refusal(made_policy, client=client, name="long", content=POLICY + " " * 10_000)
    assert (code, reason) == ("ConstraintViolationException", "POLICY_CONTENT_LIMIT_EXCEEDED")
    code, _, message = refusal(made_policy, client=client, name="bad", content='{"plan": {}}')
    assert code == "MalformedPolicyDocumentException"
    assert message.startswith(
        "The provided policy document does not meet the requirements of the specified policy type. At /plan:"
    )
    for policy_number in range(9):
        client.attach_policy(PolicyId=made_policy(client, f"more {policy_number}", '{"plans": {}}'), TargetId=root)
    eleventh = made_policy(client, "eleventh", '{"plans": {}}')
    assert refusal(client.attach_policy, PolicyId=eleventh, TargetId=root)[:2] == (
        "ConstraintViolationException",
        "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
    )


UNSUPPORTED = (
    "InvalidInputException",
    "TARGET_NOT_SUPPORTED",
    "You specified a target that is not currently supported.",
)
NOT_ENABLED = (
    "EffectivePolicyNotFoundException",
    None,
    "The specified policy type is not enabled. Enable that policy type on your organization root and then retry.",
)
INVALID_TYPE = ("InvalidInputException", "INVALID_ENUM_POLICY_TYPE", "You specified an invalid policy type.")
INVALID_VALUE = ("InvalidInputException", "INVALID_ENUM:POLICY_TYPE", "You specified an invalid value.")
NO_TYPE = ("InvalidInputException", "INPUT_REQUIRED:POLICY_TYPE", "You must provide a value for the parameter.")
NO_TARGET = ("TargetNotFoundException", None, "You specified a target that doesn't exist.")


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({"PolicyType": "BACKUP_POLICY", "TargetId": "ROOT"}, UNSUPPORTED, id="the root"),
        pytest.param({"PolicyType": "BACKUP_POLICY", "TargetId": "999999999999"}, NO_TARGET, id="an unknown account"),
        pytest.param({"PolicyType": "BACKUP_POLICY"}, NOT_ENABLED, id="a type that is off"),
        pytest.param({"PolicyType": "SERVICE_CONTROL_POLICY"}, INVALID_TYPE, id="service control policies"),
        pytest.param({"PolicyType": "RESOURCE_CONTROL_POLICY"}, INVALID_VALUE, id="resource control policies"),
        pytest.param({"PolicyType": "wrong"}, INVALID_VALUE, id="no type at all"),
    ],
)
def test_an_effective_policy_that_there_is_not(
    client: Any, root: str, parameters: dict[str, str], expected: tuple[str, str | None, str]
) -> None:
    given_parameters = {key: root if value == "ROOT" else value for key, value in parameters.items()}
    assert refusal(client.describe_effective_policy, **given_parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        pytest.param({"AccountId": "ROOT"}, UNSUPPORTED, id="the root"),
        pytest.param(
            {"AccountId": "999999999999"},
            ("AccountNotFoundException", None, "You specified an account that doesn't exist."),
            id="an unknown account",
        ),
        pytest.param({}, NOT_ENABLED, id="a type that is off"),
        pytest.param({"PolicyType": "SERVICE_CONTROL_POLICY"}, INVALID_TYPE, id="service control policies"),
        pytest.param({"PolicyType": "RESOURCE_CONTROL_POLICY"}, INVALID_TYPE, id="resource control policies"),
        pytest.param({"PolicyType": "wrong"}, INVALID_TYPE, id="no type at all"),
        pytest.param(
            {"MaxResults": 21},
            (
                "InvalidInputException",
                "MAX_VALUE_EXCEEDED:MAX_RESULTS",
                "You provided a value that exceeds the maximum allowed.",
            ),
            id="too many results",
        ),
    ],
)
def test_validation_errors_that_cannot_be_listed(
    client: Any, root: str, member: str, parameters: dict[str, Any], expected: tuple[str, str | None, str]
) -> None:
    asked = {"PolicyType": "BACKUP_POLICY", "AccountId": member} | parameters
    asked = {key: root if value == "ROOT" else value for key, value in asked.items()}
    assert refusal(client.list_effective_policy_validation_errors, **asked) == expected


def test_what_boto3_would_not_send_is_refused_in_the_same_words(served: Served, member: str) -> None:
    client = served.client(checks=False)
    assert refusal(client.describe_effective_policy) == NO_TYPE
    assert refusal(client.list_effective_policy_validation_errors, PolicyType="BACKUP_POLICY") == UNSUPPORTED
    assert refusal(client.list_accounts_with_invalid_effective_policy) == NO_TYPE
    code, reason, _ = refusal(
        client.list_effective_policy_validation_errors, AccountId=member, PolicyType="BACKUP_POLICY", MaxResults=0
    )
    assert (code, reason) == ("InvalidInputException", "MIN_VALUE_EXCEEDED:MAX_RESULTS")


@pytest.mark.parametrize("token", ["invalid", ""])
def test_a_page_token_that_was_not_given_out_is_refused(client: Any, member: str, backup: None, token: str) -> None:
    asked = {"AccountId": member, "PolicyType": "BACKUP_POLICY", "NextToken": token}
    assert refusal(client.list_effective_policy_validation_errors, **asked)[:2] == (
        "InvalidInputException",
        "INVALID_NEXT_TOKEN",
    )


def test_a_member_reads_its_own_effective_policy_and_no_other(
    served: Served, client: Any, root: str, member: str, backup: None
) -> None:
    client.attach_policy(PolicyId=made_policy(client, "one"), TargetId=root)
    own = served.client(member)
    assert effective(own, member) == effective(client, member) != {}
    assert own.describe_effective_policy(PolicyType="BACKUP_POLICY")["EffectivePolicy"]["TargetId"] == member
    denied = ("AccessDeniedException", None, "You don't have permissions to access this resource.")
    assert refusal(own.describe_effective_policy, PolicyType="BACKUP_POLICY", TargetId=MANAGEMENT) == denied
    assert refusal(made_policy, client=own, name="mine") == denied
    assert refusal(own.list_policies, Filter="BACKUP_POLICY") == denied
    asked = {"AccountId": member, "PolicyType": "BACKUP_POLICY"}
    assert refusal(own.list_effective_policy_validation_errors, **asked) == denied


def test_the_resource_policy_lets_a_member_manage_backup_policies_and_no_others(
    served: Served, client: Any, root: str, member: str, backup: None
) -> None:
    assert refusal(client.describe_resource_policy)[0] == "ResourcePolicyNotFoundException"
    grant = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{member}:root"},
                "Action": ["organizations:*Policy", "organizations:List*", "organizations:Describe*"],
                "Resource": "*",
                "Condition": {"StringLikeIfExists": {"organizations:PolicyType": ["BACKUP_POLICY"]}},
            }
        ],
    }
    put = client.put_resource_policy(Content=json.dumps(grant))["ResourcePolicy"]
    assert client.describe_resource_policy()["ResourcePolicy"] == put
    delegate = served.client(member)
    policy = made_policy(delegate, "delegated")
    delegate.attach_policy(PolicyId=policy, TargetId=root)
    assert effective(client, MANAGEMENT) != {}
    assert (
        refusal(
            made_policy, client=delegate, name="scp", content=json.dumps(DENY), policy_type="SERVICE_CONTROL_POLICY"
        )[0]
        == "AccessDeniedException"
    )
    assert refusal(delegate.put_resource_policy, Content=json.dumps(grant))[0] == "AccessDeniedException"
    client.delete_resource_policy()
    assert refusal(made_policy, client=delegate, name="late")[0] == "AccessDeniedException"
    assert refusal(client.put_resource_policy, Content="{}")[:2] == (
        "InvalidInputException",
        "INVALID_RESOURCE_POLICY_JSON",
    )


def test_an_invalid_document_is_reported_and_mended(client: Any, root: str, member: str, backup: None) -> None:
    asked = {"AccountId": member, "PolicyType": "BACKUP_POLICY"}
    assert client.list_effective_policy_validation_errors(**asked) | {"ResponseMetadata": None} == asked | {
        "EffectivePolicyValidationErrors": [],
        "ResponseMetadata": None,
    }
    broken = json.dumps({"plans": {"core": {"rules": {"daily": {"start_backup_window_minutes": {"@@assign": "60"}}}}}})
    policy = made_policy(client, "broken", broken)
    client.attach_policy(PolicyId=policy, TargetId=member)
    pages = list(
        client.get_paginator("list_effective_policy_validation_errors").paginate(
            **asked, PaginationConfig={"PageSize": 2}
        )
    )
    errors = [error for page in pages for error in page["EffectivePolicyValidationErrors"]]
    assert {(error["ErrorCode"], error["ErrorMessage"], error["PathToError"]) for error in errors} == {
        ("KEY_REQUIRED", "'regions' is missing", "plans/core"),
        ("KEY_REQUIRED", "'selections' is missing", "plans/core"),
        ("KEY_REQUIRED", "'target_backup_vault_name' is missing", "plans/core/rules/daily"),
    }
    organization = client.describe_organization()["Organization"]["Id"]
    assert {page["Path"] for page in pages} == {f"{organization}/{root}/{member}/"}
    assert all(page["EvaluationTimestamp"] for page in pages)
    (account,) = client.list_accounts_with_invalid_effective_policy(PolicyType="BACKUP_POLICY")["Accounts"]
    assert account == client.describe_account(AccountId=member)["Account"]
    assert effective(client, member) == {}
    client.update_policy(PolicyId=policy, Content=POLICY)
    assert client.list_accounts_with_invalid_effective_policy(PolicyType="BACKUP_POLICY")["Accounts"] == []
    assert effective(client, member)["plans"]


def test_the_effective_policy_follows_an_account_that_moves(client: Any, root: str, member: str, backup: None) -> None:
    unit = client.create_organizational_unit(ParentId=root, Name="moving")["OrganizationalUnit"]["Id"]
    client.attach_policy(PolicyId=made_policy(client, "unit"), TargetId=unit)
    assert effective(client, member) == {}
    client.move_account(AccountId=member, SourceParentId=root, DestinationParentId=unit)
    assert effective(client, member)["plans"]
    client.move_account(AccountId=member, SourceParentId=unit, DestinationParentId=root)
    assert effective(client, member) == {}
    client.delete_organizational_unit(OrganizationalUnitId=unit)


def laid(client: Any, root: str, account: str, vector: dict[str, Any], name: str) -> dict[str, str]:
    """Make and attach the policies of an example, from the account up; return the ids by `level/index`."""
    targets: list[str] = []
    made: dict[str, str] = {}
    for depth, level in enumerate(vector["chain"]):
        parent = targets[-1] if targets else root
        if level["node"] == "ou":
            unit = client.create_organizational_unit(ParentId=parent, Name=f"{name} {depth}")
            targets.append(unit["OrganizationalUnit"]["Id"])
        else:
            targets.append(root if level["node"] == "root" else account)
    unit = next(target for target in reversed(targets) if target != account)
    if unit != root:
        client.move_account(AccountId=account, SourceParentId=root, DestinationParentId=unit)
    for depth, level in reversed(list(enumerate(vector["chain"]))):
        for index, content in enumerate(level["policies"]):
            policy = made_policy(client, f"{depth}/{index}", json.dumps(content), vector["policy_type"])
            client.attach_policy(PolicyId=policy, TargetId=targets[depth])
            made[f"{depth}/{index}"] = policy
    return made


@pytest.mark.parametrize("name", [*EFFECTIVE, *INVALID])
def test_the_worked_examples_come_out_through_the_api(client: Any, root: str, name: str) -> None:
    vector = VECTORS[name]
    policy_type = vector["policy_type"]
    account = made_account(client, f"a{name}"[:40])
    client.enable_policy_type(RootId=root, PolicyType=policy_type)
    made = laid(client, root, account, vector, name)
    if "effective" in vector:
        assert effective(client, account, policy_type) == vector["effective"]
    else:
        assert effective(client, account) == {}
        found = client.list_effective_policy_validation_errors(AccountId=account, PolicyType=policy_type)
        expected = [
            error | {"ContributingPolicies": sorted(made[place] for place in error["ContributingPolicies"])}
            for error in vector["error"]["validation_errors"]
        ]
        listed = [
            error | {"ContributingPolicies": sorted(error["ContributingPolicies"])}
            for error in found["EffectivePolicyValidationErrors"]
        ]
        assert sorted(listed, key=str) == sorted(expected, key=str)
    clear(client, root, policy_type)


@pytest.mark.parametrize("name", REFUSED)
def test_the_worked_examples_that_are_refused(client: Any, name: str) -> None:
    vector = VECTORS[name]
    content = json.dumps(vector["chain"][0]["policies"][0])
    found = refusal(made_policy, client=client, name=name, content=content, policy_type=vector["policy_type"])
    assert found[0] == vector["error"]["code"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(json_values.map(json.dumps), st.text(min_size=1, max_size=60), st.just(json.dumps(FULL_POLICY))))
def test_no_document_makes_the_server_fail(client: Any, content: str) -> None:
    try:
        policy = made_policy(client, "random", content)
    except ClientError as error:
        assert error.response["Error"]["Code"] in {"MalformedPolicyDocumentException", "InvalidInputException"}  # noqa: PT017 - either answer is right
        return
    client.delete_policy(PolicyId=policy)
