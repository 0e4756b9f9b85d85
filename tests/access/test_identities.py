"""Users, groups, roles and policies as administrators use them, by boto3 and the AWS CLI."""

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.conftest import MEMBER, NOW, REGION, World

from holdfast.access.managed import managed_policies

READ = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}})
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": MEMBER}},
    }
)


@pytest.fixture
def iam(world: World) -> Any:
    return world.client("iam", MEMBER)


def code_of(call: Callable[..., Any], **parameters: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return str(caught.value.response["Error"]["Code"])


def test_a_user_is_made_found_listed_and_deleted(iam: Any) -> None:
    tags = [{"Key": "team", "Value": "red"}]
    made = iam.create_user(UserName="maria", Path="/backup/", Tags=tags)["User"]
    assert made["Arn"] == f"arn:aws:iam::{MEMBER}:user/backup/maria"
    assert made["UserId"].startswith("AIDA")
    found = iam.get_user(UserName="maria")["User"]
    assert (found["CreateDate"], found["Tags"]) == (made["CreateDate"], tags)
    assert [user["UserName"] for user in iam.list_users(PathPrefix="/backup/")["Users"]] == ["maria"]
    assert iam.list_users(PathPrefix="/other/")["Users"] == []
    iam.delete_user(UserName="maria")
    assert code_of(iam.get_user, UserName="maria") == "NoSuchEntity"


def test_names_are_told_apart_without_letter_case(iam: Any) -> None:
    iam.create_user(UserName="Maria")
    iam.create_group(GroupName="Admins")
    iam.create_role(RoleName="Backups", AssumeRolePolicyDocument=TRUST)
    iam.create_policy(PolicyName="Read", PolicyDocument=READ)
    assert code_of(iam.create_user, UserName="maria") == "EntityAlreadyExists"
    assert code_of(iam.create_group, GroupName="ADMINS") == "EntityAlreadyExists"
    assert code_of(iam.create_role, RoleName="backups", AssumeRolePolicyDocument=TRUST) == "EntityAlreadyExists"
    assert code_of(iam.create_policy, PolicyName="READ", PolicyDocument=READ) == "EntityAlreadyExists"


def test_a_user_is_deleted_only_when_nothing_belongs_to_them(iam: Any) -> None:
    iam.create_user(UserName="maria")
    iam.create_group(GroupName="admins")
    key = iam.create_access_key(UserName="maria")["AccessKey"]["AccessKeyId"]
    iam.add_user_to_group(GroupName="admins", UserName="maria")
    iam.attach_user_policy(UserName="maria", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    iam.put_user_policy(UserName="maria", PolicyName="own", PolicyDocument=READ)
    steps: list[Callable[[], Any]] = [
        lambda: iam.delete_access_key(UserName="maria", AccessKeyId=key),
        lambda: iam.remove_user_from_group(GroupName="admins", UserName="maria"),
        lambda: iam.detach_user_policy(UserName="maria", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess"),
        lambda: iam.delete_user_policy(UserName="maria", PolicyName="own"),
    ]
    for step in steps:
        assert code_of(iam.delete_user, UserName="maria") == "DeleteConflict"
        step()
    iam.delete_user(UserName="maria")


def test_a_group_gives_its_members_its_policies(world: World, iam: Any) -> None:
    iam.create_user(UserName="maria")
    key = iam.create_access_key(UserName="maria")["AccessKey"]
    maria = world.client("iam", {name: key[name] for name in ("AccessKeyId", "SecretAccessKey")})
    iam.create_group(GroupName="readers")
    iam.attach_group_policy(GroupName="readers", PolicyArn="arn:aws:iam::aws:policy/IAMReadOnlyAccess")
    assert code_of(maria.list_users) == "AccessDenied"
    iam.add_user_to_group(GroupName="readers", UserName="maria")
    assert [user["UserName"] for user in maria.list_users()["Users"]] == ["maria"]
    assert [group["GroupName"] for group in iam.list_groups_for_user(UserName="maria")["Groups"]] == ["readers"]
    assert [user["UserName"] for user in iam.get_group(GroupName="readers")["Users"]] == ["maria"]
    assert code_of(iam.delete_group, GroupName="readers") == "DeleteConflict"
    iam.remove_user_from_group(GroupName="readers", UserName="maria")
    assert code_of(maria.list_users) == "AccessDenied"
    assert code_of(iam.remove_user_from_group, GroupName="readers", UserName="maria") == "NoSuchEntity"


def test_a_role_comes_back_as_it_was_made(iam: Any) -> None:
    iam.create_role(RoleName="Backups", AssumeRolePolicyDocument=TRUST, Description="by night", MaxSessionDuration=7200)
    iam.put_role_policy(RoleName="Backups", PolicyName="own", PolicyDocument=READ)
    role = iam.get_role(RoleName="Backups")["Role"]
    assert role["AssumeRolePolicyDocument"] == json.loads(TRUST)
    assert (role["Description"], role["MaxSessionDuration"]) == ("by night", 7200)
    assert iam.get_role_policy(RoleName="Backups", PolicyName="own")["PolicyDocument"] == json.loads(READ)
    assert iam.list_role_policies(RoleName="Backups")["PolicyNames"] == ["own"]
    iam.update_role(RoleName="Backups", Description="by day", MaxSessionDuration=3600)
    changed = iam.get_role(RoleName="Backups")["Role"]
    assert (changed["Description"], changed["MaxSessionDuration"]) == ("by day", 3600)
    assert code_of(iam.delete_role, RoleName="Backups") == "DeleteConflict"
    iam.delete_role_policy(RoleName="Backups", PolicyName="own")
    iam.delete_role(RoleName="Backups")


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("create_role", {"RoleName": "R", "AssumeRolePolicyDocument": READ}, "MalformedPolicyDocument"),
        ("create_role", {"RoleName": "R", "AssumeRolePolicyDocument": "{"}, "MalformedPolicyDocument"),
        ("create_role", {"RoleName": "a b", "AssumeRolePolicyDocument": TRUST}, "ValidationError"),
        (
            "create_role",
            {"RoleName": "R", "AssumeRolePolicyDocument": TRUST, "MaxSessionDuration": 50_000},
            "ValidationError",
        ),
        (
            "create_role",
            {"RoleName": "R", "AssumeRolePolicyDocument": TRUST, "Path": "/aws-service-role/x/"},
            "ValidationError",
        ),
        ("create_policy", {"PolicyName": "P", "PolicyDocument": TRUST}, "MalformedPolicyDocument"),
        (
            "create_policy",
            {"PolicyName": "P", "PolicyDocument": READ.replace("s3:Get*", "s3:" + "x" * 6200)},
            "MalformedPolicyDocument",
        ),
        ("create_user", {"UserName": "u", "PermissionsBoundary": "arn:aws:iam::aws:policy/None"}, "NoSuchEntity"),
        ("create_user", {"UserName": "u", "Tags": [{"Key": "aws:x", "Value": ""}]}, "InvalidInput"),
        ("attach_role_policy", {"RoleName": "None", "PolicyArn": "arn:aws:iam::aws:policy/None"}, "NoSuchEntity"),
        ("create_service_linked_role", {"AWSServiceName": "lex.amazonaws.com"}, "InvalidInput"),
        ("create_policy_version", {"PolicyArn": "arn:aws:iam::aws:policy/ReadOnlyAccess", "PolicyDocument": READ}, ""),
        ("list_users", {"Marker": "forged"}, "ValidationError"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_code_that_clients_know(
    iam: Any, operation: str, parameters: dict[str, Any], code: str
) -> None:
    assert code_of(getattr(iam, operation), **parameters) == (code or "UnmodifiableEntity")


def test_a_managed_policy_has_five_versions_at_most_and_one_in_force(world: World, iam: Any) -> None:
    arn = iam.create_policy(PolicyName="Own", PolicyDocument=READ)["Policy"]["Arn"]
    for number in range(2, 6):
        version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=READ)["PolicyVersion"]
        assert (version["VersionId"], version["IsDefaultVersion"]) == (f"v{number}", False)
    assert code_of(iam.create_policy_version, PolicyArn=arn, PolicyDocument=READ) == "LimitExceeded"
    assert code_of(iam.delete_policy_version, PolicyArn=arn, VersionId="v1") == "DeleteConflict"
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v5")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [version["VersionId"] for version in versions] == ["v5", "v4", "v3", "v2"]
    # Numbers are never used again.
    iam.delete_policy_version(PolicyArn=arn, VersionId="v4")
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=READ, SetAsDefault=True)["PolicyVersion"]
    assert made["VersionId"] == "v6"
    document = iam.get_policy_version(PolicyArn=arn, VersionId="v6")["PolicyVersion"]["Document"]
    assert document == json.loads(READ)
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"


def test_a_policy_knows_whom_it_is_attached_to(iam: Any) -> None:
    arn = iam.create_policy(PolicyName="Own", PolicyDocument=READ, Path="/team/")["Policy"]["Arn"]
    iam.create_user(UserName="maria", PermissionsBoundary=arn)
    iam.create_role(RoleName="Backups", AssumeRolePolicyDocument=TRUST)
    iam.attach_role_policy(RoleName="Backups", PolicyArn=arn)
    found = iam.list_entities_for_policy(PolicyArn=arn)
    assert [role["RoleName"] for role in found["PolicyRoles"]] == ["Backups"]
    assert [user["UserName"] for user in found["PolicyUsers"]] == ["maria"]
    assert code_of(iam.delete_policy, PolicyArn=arn) == "DeleteConflict"
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    local = iam.list_policies(Scope="Local")["Policies"]
    assert [(policy["PolicyName"], policy["Path"]) for policy in local] == [("Own", "/team/")]
    assert [policy["PolicyName"] for policy in iam.list_policies(OnlyAttached=True, Scope="Local")["Policies"]] == [
        "Own"
    ]


def test_the_policies_that_people_refer_to_are_there(iam: Any) -> None:
    pages = iam.get_paginator("list_policies").paginate(Scope="AWS", PaginationConfig={"PageSize": 4})
    names = {policy["PolicyName"] for page in pages for policy in page["Policies"]}
    assert names == {policy.name for policy in managed_policies()}
    assert names >= {
        "AdministratorAccess",
        "ReadOnlyAccess",
        "AWSBackupServiceRolePolicyForBackup",
        "AWSBackupServiceRolePolicyForRestores",
        "AWSBackupFullAccess",
        "AWSBackupOperatorAccess",
        "AWSBackupOrganizationAdminAccess",
        "AWSOrganizationsFullAccess",
    }
    for policy in managed_policies():
        document = iam.get_policy_version(PolicyArn=policy.arn, VersionId="v1")["PolicyVersion"]["Document"]
        assert document["Version"] == "2012-10-17"


def test_lists_come_in_pages(iam: Any) -> None:
    for number in range(5):
        iam.create_user(UserName=f"user-{number}")
    pages = list(iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 2}))
    assert [[user["UserName"] for user in page["Users"]] for page in pages] == [
        ["user-0", "user-1"],
        ["user-2", "user-3"],
        ["user-4"],
    ]


def test_access_keys_are_rotated_two_at_a_time(iam: Any) -> None:
    iam.create_user(UserName="maria")
    first = iam.create_access_key(UserName="maria")["AccessKey"]
    iam.create_access_key(UserName="maria")
    assert code_of(iam.create_access_key, UserName="maria") == "LimitExceeded"
    iam.update_access_key(UserName="maria", AccessKeyId=first["AccessKeyId"], Status="Inactive")
    shown = iam.list_access_keys(UserName="maria")["AccessKeyMetadata"]
    assert sorted(key["Status"] for key in shown) == ["Active", "Inactive"]
    assert all("SecretAccessKey" not in key for key in shown)
    assert iam.get_access_key_last_used(AccessKeyId=first["AccessKeyId"])["UserName"] == "maria"


def test_a_scanner_sees_the_whole_account_in_pages(iam: Any) -> None:
    own = iam.create_policy(PolicyName="Own", PolicyDocument=READ)["Policy"]["Arn"]
    iam.create_user(UserName="maria", PermissionsBoundary=own, Tags=[{"Key": "team", "Value": "red"}])
    iam.create_group(GroupName="readers")
    iam.add_user_to_group(GroupName="readers", UserName="maria")
    iam.attach_group_policy(GroupName="readers", PolicyArn=own)
    iam.put_user_policy(UserName="maria", PolicyName="own", PolicyDocument=READ)
    pages = list(iam.get_paginator("get_account_authorization_details").paginate(PaginationConfig={"PageSize": 2}))
    (user,) = [each for page in pages for each in page["UserDetailList"]]
    assert user["UserPolicyList"] == [{"PolicyName": "own", "PolicyDocument": json.loads(READ)}]
    assert (user["GroupList"], user["PermissionsBoundary"]["PermissionsBoundaryArn"]) == (["readers"], own)
    (group,) = [each for page in pages for each in page["GroupDetailList"]]
    assert group["AttachedManagedPolicies"] == [{"PolicyName": "Own", "PolicyArn": own}]
    (role,) = [each for page in pages for each in page["RoleDetailList"]]
    assert role["RoleName"] == "OrganizationAccountAccessRole"
    policies = {each["PolicyName"]: each for page in pages for each in page["Policies"]}
    assert set(policies) == {"Own", "AdministratorAccess"}
    assert policies["Own"]["PolicyVersionList"][0]["Document"] == json.loads(READ)
    only = iam.get_account_authorization_details(Filter=["Group"])
    assert (len(only["GroupDetailList"]), only["UserDetailList"]) == (1, [])
    assert iam.get_account_summary()["SummaryMap"]["Users"] == 1


def test_a_key_knows_when_it_was_last_used(world: World, iam: Any) -> None:
    iam.create_user(UserName="maria")
    key = iam.create_access_key(UserName="maria")["AccessKey"]
    never = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]
    assert (never["ServiceName"], "LastUsedDate" in never) == ("N/A", False)
    world.client("sts", {name: key[name] for name in ("AccessKeyId", "SecretAccessKey")}).get_caller_identity()
    assert world.authorizer.note_usage() > 0
    assert world.authorizer.note_usage() == 0
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])["AccessKeyLastUsed"]
    assert (used["ServiceName"], used["Region"], used["LastUsedDate"]) == ("sts", REGION, NOW)


def test_the_aws_cli_makes_a_role(world: World) -> None:
    key_id, secret = world.keys[MEMBER]
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": world.url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    command = ["aws", "iam", "create-role", "--role-name", "Backups", "--assume-role-policy-document", TRUST]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["Role"]["Arn"] == f"arn:aws:iam::{MEMBER}:role/Backups"
