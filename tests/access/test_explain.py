"""Why somebody may, and who may ask; what WhoCan answers is held against really trying in test_destructive.py."""

from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.builders import allow, document
from tests.access.conftest import MANAGEMENT, MEMBER, OTHER, REGION, STRANGER, World

POINT = f"arn:aws:backup:{REGION}:{MEMBER}:recovery-point:1"


def ask(world: World, who: str = MANAGEMENT, **more: Any) -> list[dict[str, Any]]:
    pages = (
        world.client("holdfast", who)
        .get_paginator("who_can")
        .paginate(
            Action="backup:DeleteRecoveryPoint",
            ResourceArn=POINT,
            ResourceAccount=MEMBER,
            PaginationConfig={"PageSize": 3},
            **more,
        )
    )
    return [way for page in pages for way in page["Principals"]]


def test_a_decision_is_explained_step_by_step(world: World) -> None:
    world.control("ou-1-prod", document({**allow("backup:*"), "Effect": "Deny", "Sid": "Never"}), name="p-never")
    explained = world.client("holdfast").explain_access(
        PrincipalArn=f"arn:aws:iam::{MEMBER}:root", Action="backup:DeleteRecoveryPoint", ResourceArn=POINT
    )
    assert explained["Allowed"] is False
    assert explained["Sentence"].endswith("with an explicit deny in a service control policy")
    (step,) = explained["Steps"]
    assert (step["PolicyType"], step["Node"], step["Sid"], step["Statement"]) == (
        "service control policy",
        "unit ou-1-prod",
        "Never",
        1,
    )
    allowed = world.client("holdfast").explain_access(
        PrincipalArn=f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole", Action="iam:CreateUser"
    )
    assert allowed["Allowed"] is True
    assert [each["PolicyType"] for each in allowed["Steps"]] == ["service control policy"] * 3 + [
        "identity-based policy"
    ]


def test_questions_about_others_are_for_the_management_account(world: World) -> None:
    root = f"arn:aws:iam::{MEMBER}:root"
    question = {"PrincipalArn": root, "Action": "iam:CreateUser"}
    assert world.client("holdfast", MEMBER).explain_access(**question)["Allowed"] is True
    for who in (OTHER, STRANGER):
        with pytest.raises(ClientError, match="may ask about itself only"):
            world.client("holdfast", who).explain_access(**question)
        with pytest.raises(ClientError, match="may ask about itself only"):
            ask(world, who)
    with pytest.raises(ClientError, match="does not exist"):
        world.client("holdfast").explain_access(**{**question, "PrincipalArn": root.replace("root", "user/nobody")})


def test_a_simulation_answers_for_each_action_and_resource(world: World) -> None:
    iam = world.client("iam", MEMBER)
    iam.create_user(UserName="maria")
    policy = document(allow("backup:*", POINT), {**allow("backup:Delete*"), "Effect": "Deny"})
    iam.put_user_policy(UserName="maria", PolicyName="own", PolicyDocument=policy)
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=f"arn:aws:iam::{MEMBER}:user/maria",
        ActionNames=["backup:DescribeRecoveryPoint", "backup:DeleteRecoveryPoint", "s3:GetObject"],
        ResourceArns=[POINT],
        PaginationConfig={"PageSize": 2},
    )
    results = {each["EvalActionName"]: each for page in pages for each in page["EvaluationResults"]}
    assert {name: each["EvalDecision"] for name, each in results.items()} == {
        "backup:DescribeRecoveryPoint": "allowed",
        "backup:DeleteRecoveryPoint": "explicitDeny",
        "s3:GetObject": "implicitDeny",
    }
    (matched,) = results["backup:DeleteRecoveryPoint"]["MatchedStatements"]
    assert matched == {"SourcePolicyId": "own of user maria", "SourcePolicyType": "IAM Policy"}
    world.control(MEMBER, document({**allow("backup:*"), "Effect": "Deny"}))
    (again,) = iam.simulate_principal_policy(
        PolicySourceArn=f"arn:aws:iam::{MEMBER}:user/maria",
        ActionNames=["backup:DescribeRecoveryPoint"],
        ResourceArns=[POINT],
    )["EvaluationResults"]
    assert again["OrganizationsDecisionDetail"]["AllowedByOrganizations"] is False


def test_policies_can_be_tried_before_anybody_has_them(world: World) -> None:
    iam = world.client("iam", MEMBER)
    condition = {"IpAddress": {"aws:SourceIp": "203.0.113.0/24"}}
    tried = {"PolicyInputList": [document(allow("backup:*", Condition=condition))], "ActionNames": ["backup:ListTags"]}
    entry = {"ContextKeyName": "aws:SourceIp", "ContextKeyType": "ip", "ContextKeyValues": ["203.0.113.9"]}
    assert iam.simulate_custom_policy(**tried)["EvaluationResults"][0]["EvalDecision"] == "implicitDeny"
    inside = iam.simulate_custom_policy(**tried, ContextEntries=[entry])["EvaluationResults"][0]
    assert inside["EvalDecision"] == "allowed"
