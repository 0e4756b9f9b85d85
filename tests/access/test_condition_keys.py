"""What policies may ask of requests: each key that the Service Authorization Reference gives an operation is there."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.conftest import MEMBER, REGION, World
from tests.access.test_attacks import a_user, allow, document, refused, trusting

TOPIC = f"arn:aws:sns:{REGION}:{MEMBER}:topic"
TARGET = f"arn:aws:backup:{REGION}:{MEMBER}:backup-vault:Elsewhere"
NO_TAGS = {"Null": {"aws:TagKeys": "true"}}
RED = {"StringEquals": {"aws:RequestTag/team": "red"}}
EQUALS, INCLUDES, NUMBER = "StringEquals", "ForAnyValue:StringEquals", "NumericEquals"
Call = Callable[[Any], Any]
VAULT = {"BackupVaultName": "Daily"}
_TRUST = trusting({"AWS": MEMBER})

ASKED: list[tuple[str, str, str, str, Any, Call]] = [
    # service, action, operator, key, its value here, a call that is about it
    ("backup", "backup:CreateBackupVault", EQUALS, "aws:RequestTag/team", "red",
     lambda c: c.create_backup_vault(BackupVaultName="tagged", BackupVaultTags={"team": "red"})),
    ("backup", "backup:CreateBackupVault", INCLUDES, "aws:TagKeys", ["team"],
     lambda c: c.create_backup_vault(BackupVaultName="tagged", BackupVaultTags={"team": "red"})),
    ("backup", "backup:PutBackupVaultLockConfiguration", NUMBER, "backup:MinRetentionDays", "3",
     lambda c: c.put_backup_vault_lock_configuration(**VAULT, MinRetentionDays=3)),
    ("backup", "backup:PutBackupVaultLockConfiguration", NUMBER, "backup:MaxRetentionDays", "30",
     lambda c: c.put_backup_vault_lock_configuration(**VAULT, MaxRetentionDays=30)),
    ("backup", "backup:PutBackupVaultLockConfiguration", NUMBER, "backup:ChangeableForDays", "5",
     lambda c: c.put_backup_vault_lock_configuration(**VAULT, MinRetentionDays=3, ChangeableForDays=5)),
    ("backup", "backup:TagResource", EQUALS, "aws:RequestTag/team", "red",
     lambda c: c.tag_resource(ResourceArn=TARGET, Tags={"team": "red"})),
    ("backup", "backup:UntagResource", INCLUDES, "aws:TagKeys", ["team"],
     lambda c: c.untag_resource(ResourceArn=TARGET, TagKeyList=["team"])),
    ("iam", "iam:AttachRolePolicy", "ArnEquals", "iam:PolicyARN", "arn:aws:iam::aws:policy/ReadOnlyAccess",
     lambda c: c.attach_role_policy(RoleName="r", PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")),
    ("iam", "iam:CreateUser", EQUALS, "iam:PermissionsBoundary", "arn:aws:iam::aws:policy/ReadOnlyAccess",
     lambda c: c.create_user(UserName="u", PermissionsBoundary="arn:aws:iam::aws:policy/ReadOnlyAccess")),
    ("iam", "iam:CreateRole", EQUALS, "aws:RequestTag/team", "red",
     lambda c: c.create_role(
         RoleName="r", AssumeRolePolicyDocument=_TRUST, Tags=[{"Key": "team", "Value": "red"}])),
    ("iam", "iam:CreateServiceLinkedRole", EQUALS, "iam:AWSServiceName", "backup.amazonaws.com",
     lambda c: c.create_service_linked_role(AWSServiceName="backup.amazonaws.com")),
    ("kms", "kms:CreateKey", EQUALS, "kms:KeySpec", "SYMMETRIC_DEFAULT", lambda c: c.create_key()),
    ("kms", "kms:CreateKey", EQUALS, "aws:RequestTag/team", "red",
     lambda c: c.create_key(Tags=[{"TagKey": "team", "TagValue": "red"}])),
    ("organizations", "organizations:CreatePolicy", EQUALS, "organizations:PolicyType", "BACKUP_POLICY",
     lambda c: c.create_policy(Type="BACKUP_POLICY", Name="p", Description="", Content='{"plans": {}}')),
    ("organizations", "organizations:EnableAWSServiceAccess", EQUALS, "organizations:ServicePrincipal",
     "backup.amazonaws.com", lambda c: c.enable_aws_service_access(ServicePrincipal="backup.amazonaws.com")),
    ("organizations", "organizations:ListPolicies", EQUALS, "organizations:PolicyType", "BACKUP_POLICY",
     lambda c: c.list_policies(Filter="BACKUP_POLICY")),
    ("backup", "backup:ListBackupJobs", EQUALS, "aws:PrincipalOrgID", "o-1", lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", "ForAnyValue:StringLike", "aws:PrincipalOrgPaths", ["o-1/r-1/*"],
     lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", EQUALS, "aws:ResourceOrgID", "o-1", lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", "ForAnyValue:StringLike", "aws:ResourceOrgPaths", ["o-1/r-1/*"],
     lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", EQUALS, "aws:ResourceAccount", MEMBER, lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", EQUALS, "aws:RequestedRegion", REGION, lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", "IpAddress", "aws:SourceIp", "127.0.0.0/8", lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", "Bool", "aws:ViaAWSService", "false", lambda c: c.list_backup_jobs()),
    ("backup", "backup:ListBackupJobs", "Bool", "aws:SecureTransport", "false", lambda c: c.list_backup_jobs()),
]  # fmt: skip


def without(value: Any) -> Any:
    """Return a value that the request does not have."""
    if isinstance(value, list):
        return ["something-else"]
    if value in {"true", "false"}:
        return "true" if value == "false" else "false"
    return {"127.0.0.0/8": "203.0.113.0/24"}.get(value, "9" if value.isdigit() else value + "x")


def told(call: Call, client: Any) -> str:
    """Make a call; return what was said against it, nothing if it was done."""
    try:
        call(client)
    except ClientError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("service", "action", "operator", "key", "value", "call"), ASKED, ids=[f"{each[1]} {each[3]}" for each in ASKED]
)
def test_a_key_says_what_the_request_is(
    whole_world: World, service: str, action: str, operator: str, key: str, value: Any, call: Call
) -> None:
    world = whole_world
    rest = allow([f"{action.partition(':')[0]}:Tag*"])
    user = a_user(world, "asking", allow(action, Condition={operator: {key: without(value)}}))
    asked = world.client(service, user)
    assert f"to perform: {action}" in refused(lambda: call(asked))
    iam = world.client("iam", MEMBER)
    fitting = document(allow(action, Condition={operator: {key: value}}), rest)
    iam.put_user_policy(UserName="asking", PolicyName="own", PolicyDocument=fitting)
    # What comes after access may refuse: there is no such role, or the account is no management account.
    assert f"to perform: {action}" not in told(call, asked)


MAKING: list[tuple[str, str, str, Call]] = [
    ("backup", "backup:CreateBackupVault", "backup:TagResource",
     lambda c: c.create_backup_vault(BackupVaultName="tagged", BackupVaultTags={"team": "red"})),
    ("iam", "iam:CreateUser", "iam:TagUser",
     lambda c: c.create_user(UserName="u", Tags=[{"Key": "team", "Value": "red"}])),
    ("iam", "iam:CreateRole", "iam:TagRole",
     lambda c: c.create_role(RoleName="r", AssumeRolePolicyDocument=_TRUST, Tags=[{"Key": "team", "Value": "red"}])),
    ("iam", "iam:CreatePolicy", "iam:TagPolicy",
     lambda c: c.create_policy(
         PolicyName="p", PolicyDocument=document(allow("s3:*")), Tags=[{"Key": "team", "Value": "red"}])),
    ("kms", "kms:CreateKey", "kms:TagResource", lambda c: c.create_key(Tags=[{"TagKey": "team", "TagValue": "red"}])),
]  # fmt: skip


@pytest.mark.parametrize(("service", "making", "tagging", "call"), MAKING, ids=[each[1] for each in MAKING])
def test_making_something_with_tags_needs_the_right_to_tag_it(
    whole_world: World, service: str, making: str, tagging: str, call: Call
) -> None:
    user = a_user(whole_world, "maker", allow(making))
    made = whole_world.client(service, user)
    assert f"to perform: {tagging}" in refused(lambda: call(made))
    both = document(allow([making, tagging]))
    whole_world.client("iam", MEMBER).put_user_policy(UserName="maker", PolicyName="own", PolicyDocument=both)
    call(made)


def test_what_was_tagged_is_known_by_its_tags(whole_world: World) -> None:
    root = whole_world.client("backup", MEMBER)
    root.create_backup_vault(BackupVaultName="red", BackupVaultTags={"team": "red"})
    root.create_backup_vault(BackupVaultName="blue", BackupVaultTags={"team": "blue"})
    for prefix in ("aws", "backup"):
        own = allow("backup:DescribeBackupVault", Condition={"StringEquals": {f"{prefix}:ResourceTag/team": "red"}})
        backup = whole_world.client("backup", a_user(whole_world, f"by-{prefix}", own))
        backup.describe_backup_vault(BackupVaultName="red")
        assert "no identity-based policy" in refused(backup.describe_backup_vault, BackupVaultName="blue")
