"""The first calls of everybody: who am I, acting in a member account, laying a key and a role down."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.conftest import MANAGEMENT, MEMBER, OTHER, STRANGER, World

ACCESS_ROLE = f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole"
TRUST_BACKUP = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "backup.amazonaws.com"}}
        ],
    }
)


def refusal(call: Any, **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_the_root_of_an_account_knows_itself(world: World) -> None:
    identity = world.client("sts").get_caller_identity()
    assert identity["Account"] == MANAGEMENT
    assert identity["Arn"] == f"arn:aws:iam::{MANAGEMENT}:root"


def test_the_management_account_acts_in_a_member(world: World) -> None:
    session = world.assume(ACCESS_ROLE)
    identity = world.client("sts", session).get_caller_identity()
    assert identity["Arn"] == f"arn:aws:sts::{MEMBER}:assumed-role/OrganizationAccountAccessRole/session"
    iam = world.client("iam", session)
    role = iam.create_role(RoleName="Backups", AssumeRolePolicyDocument=TRUST_BACKUP)["Role"]
    assert role["Arn"] == f"arn:aws:iam::{MEMBER}:role/Backups"
    policy = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
    iam.attach_role_policy(RoleName="Backups", PolicyArn=policy)
    kms = world.client("kms", session)
    key = kms.create_key(Description="vault")["KeyMetadata"]
    kms.create_alias(AliasName="alias/vault", TargetKeyId=key["KeyId"])
    boxed = kms.encrypt(KeyId="alias/vault", Plaintext=b"hello")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=boxed)["Plaintext"] == b"hello"


def test_nobody_else_acts_in_a_member(world: World) -> None:
    for who in (OTHER, STRANGER):
        code, message = refusal(world.client("sts", who).assume_role, RoleArn=ACCESS_ROLE, RoleSessionName="foreigner")
        assert code == "AccessDenied"
        assert message.startswith(f"User: arn:aws:iam::{who}:root is not authorized to perform: sts:AssumeRole on")
