"""Why somebody may, and who could at all: held against really trying."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.builders import insert_row
from tests.access.conftest import MANAGEMENT, MEMBER, OTHER, REGION, ROOT_KEY, STRANGER, World

from holdfast.access.backup_role import find_role_by_arn
from holdfast.access.credentials import RoleSession, assume_role
from holdfast.access.model import root_caller
from holdfast.database.values import FOREVER

POINT = f"arn:aws:backup:{REGION}:{MEMBER}:recovery-point:1"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
OPERATOR = "arn:aws:iam::aws:policy/AWSBackupOperatorAccess"
FULL = "arn:aws:iam::aws:policy/AWSBackupFullAccess"


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def trusting(*accounts_or_arns: str) -> str:
    return document({"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": list(accounts_or_arns)}})


def allow(action: str | list[str], resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def lay_people(world: World) -> dict[str, dict[str, str]]:
    """Make users and roles of every kind in all accounts; return the users' credentials by ARN."""
    found = {}
    for account in (MANAGEMENT, MEMBER, OTHER):
        iam = world.client("iam", account)
        iam.create_role(RoleName="Keepers", AssumeRolePolicyDocument=trusting(account))
        iam.attach_role_policy(RoleName="Keepers", PolicyArn=FULL)
        iam.create_role(RoleName="Readers", AssumeRolePolicyDocument=trusting(MEMBER, OTHER))
        iam.attach_role_policy(RoleName="Readers", PolicyArn=OPERATOR)
        iam.put_role_policy(RoleName="Readers", PolicyName="further", PolicyDocument=document(allow("sts:AssumeRole")))
        for name, policy in (
            ("admin", document(allow("*"))),
            ("operator", document(allow("backup:Start*"))),
            ("walker", document(allow("sts:AssumeRole", f"arn:aws:iam::{account}:role/Readers"))),
            ("traveller", document(allow("sts:AssumeRole"))),
            ("denied", document(allow("*"), {"Effect": "Deny", "Action": "backup:Delete*", "Resource": "*"})),
            ("narrow", document(allow("backup:DeleteRecoveryPoint", POINT))),
        ):
            user = iam.create_user(UserName=name)["User"]
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=policy)
            key = iam.create_access_key(UserName=name)["AccessKey"]
            found[user["Arn"]] = {each: key[each] for each in ("AccessKeyId", "SecretAccessKey")}
        found[f"arn:aws:iam::{account}:root"] = dict(
            zip(("AccessKeyId", "SecretAccessKey"), world.keys[account], strict=True)
        )
    return found


def succeeds(call: Any, **parameters: Any) -> bool:
    try:
        call(**parameters)
    except ClientError as error:
        if error.response["Error"]["Code"].startswith("AccessDenied"):
            return False
        raise
    return True


def really_can(world: World, people: dict[str, dict[str, str]]) -> tuple[set[str], set[str]]:
    """Let each principal really try: return who deletes the point by themselves, and who can in the end."""
    deletes = {"BackupVaultName": "Daily", "RecoveryPointArn": POINT}
    roles = {
        role["Arn"]
        for account in (MANAGEMENT, MEMBER, OTHER)
        for role in world.client("iam", account).list_roles()["Roles"]
    }
    sessions = {}
    with world.database.transaction() as tx:
        for arn in sorted(roles):
            role = find_role_by_arn(tx, arn)
            assert role is not None
            asked = RoleSession(name="trial")
            _, made = assume_role(tx, ROOT_KEY, root_caller(role.account), role, asked, now=world.machine.now())
            sessions[arn] = {"AccessKeyId": made.id, "SecretAccessKey": made.secret, "SessionToken": made.token or ""}
    everybody = {**people, **sessions}
    # A call names the point in the caller's own account, so only the member's own principals can name this one.
    directly = {
        arn
        for arn, who in everybody.items()
        if f":{MEMBER}:" in arn and succeeds(world.client("backup", who).delete_recovery_point, **deletes)
    }
    assumes = {}
    for arn, who in everybody.items():
        assume = world.client("sts", who).assume_role
        assumes[arn] = {role for role in roles if succeeds(assume, RoleArn=role, RoleSessionName="trial")}
    reached = set(directly)
    while True:
        nearer = {arn for arn, steps in assumes.items() if steps & reached} | reached
        if nearer == reached:
            return directly, reached
        reached = nearer


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


@pytest.mark.parametrize("controlled", [False, True], ids=["no control policy", "deletion denied in the member"])
def test_who_can_delete_a_recovery_point_agrees_with_everybody_trying(world: World, controlled: bool) -> None:
    with world.database.transaction() as tx:
        insert_row(tx, "vault", id="v", account=MEMBER, region=REGION, name="Daily", deleted_at=FOREVER)
        insert_row(tx, "recovery_point", id="p", arn=POINT, account=MEMBER, region=REGION, vault_id="v")
    people = lay_people(world)
    if controlled:
        world.control("ou-1-prod", document({"Effect": "Deny", "Action": "backup:Delete*", "Resource": "*"}))
    directly, reached = really_can(world, people)
    found = ask(world)
    assert {way["PrincipalArn"] for way in found if not way["Roles"]} == directly
    by_roles = {way["PrincipalArn"]: way["Roles"] for way in found if way["Roles"]}
    assert set(by_roles) == reached - directly
    if controlled:
        assert found == []
    else:
        assert by_roles[f"arn:aws:iam::{MEMBER}:user/walker"] == [
            f"arn:aws:iam::{MEMBER}:role/Readers",
            f"arn:aws:iam::{MEMBER}:role/Keepers",
        ]
        access_role = f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole"
        assert by_roles[f"arn:aws:iam::{MANAGEMENT}:root"] == [access_role]


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
