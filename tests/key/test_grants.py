"""Grants on keys through boto3: who was given what, how it is taken back, and that a denial still wins."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.running import Running

MANAGEMENT = "123456789012"
CONTEXT = {"team": "web", "stage": "prod"}


@pytest.fixture
def kms(dev: Running) -> Any:
    return dev.client("kms")


@pytest.fixture
def key(kms: Any) -> str:
    """A key whose policy lets its account's administrators manage it, and nobody else do anything."""
    return str(kms.create_key()["KeyMetadata"]["KeyId"])


def a_user(dev: Running, name: str, *statements: dict[str, Any]) -> tuple[str, Any]:
    """A user with these statements as a policy; return the ARN, and a KMS client."""
    iam = dev.client("iam")
    arn: str = iam.create_user(UserName=name)["User"]["Arn"]
    if statements:
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=document)
    return arn, dev.client("kms", iam.create_access_key(UserName=name)["AccessKey"])


def refused(call: Any, **parameters: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return str(error.value.response["Error"]["Code"])


def test_a_grant_lets_a_user_do_what_it_names_until_it_is_revoked(dev: Running, kms: Any, key: str) -> None:
    arn, maria = a_user(dev, "maria")
    sealed = kms.encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]
    assert refused(maria.decrypt, CiphertextBlob=sealed) == "AccessDeniedException"
    made = kms.create_grant(KeyId=key, GranteePrincipal=arn, Operations=["Decrypt", "DescribeKey"])
    assert maria.decrypt(CiphertextBlob=sealed, GrantTokens=[made["GrantToken"]])["Plaintext"] == b"text"
    assert maria.describe_key(KeyId=f"arn:aws:kms:eu-north-1:{MANAGEMENT}:key/{key}")["KeyMetadata"]["KeyId"] == key
    assert refused(maria.encrypt, KeyId=key, Plaintext=b"x") == "AccessDeniedException"
    kms.revoke_grant(KeyId=key, GrantId=made["GrantId"])
    assert refused(maria.decrypt, CiphertextBlob=sealed) == "AccessDeniedException"
    assert kms.list_grants(KeyId=key)["Grants"] == []


def test_a_denial_wins_over_a_grant(dev: Running, kms: Any, key: str) -> None:
    arn, maria = a_user(dev, "maria", {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": "*"})
    kms.create_grant(KeyId=key, GranteePrincipal=arn, Operations=["Decrypt", "Encrypt"])
    sealed = maria.encrypt(KeyId=key, Plaintext=b"text")["CiphertextBlob"]
    assert refused(maria.decrypt, CiphertextBlob=sealed) == "AccessDeniedException"


@pytest.mark.parametrize(
    ("constraint", "given", "opens"),
    [
        ("EncryptionContextSubset", {"team": "web"}, True),
        ("EncryptionContextSubset", {"team": "mail"}, False),
        ("EncryptionContextEquals", CONTEXT, True),
        ("EncryptionContextEquals", {"team": "web"}, False),
    ],
)
def test_a_grant_can_be_bound_to_an_encryption_context(
    dev: Running, kms: Any, key: str, constraint: str, given: dict[str, str], *, opens: bool
) -> None:
    arn, maria = a_user(dev, "maria")
    sealed = kms.encrypt(KeyId=key, Plaintext=b"text", EncryptionContext=CONTEXT)["CiphertextBlob"]
    kms.create_grant(KeyId=key, GranteePrincipal=arn, Operations=["Decrypt"], Constraints={constraint: given})
    if opens:
        assert maria.decrypt(CiphertextBlob=sealed, EncryptionContext=CONTEXT)["Plaintext"] == b"text"
    else:
        code = refused(maria.decrypt, CiphertextBlob=sealed, EncryptionContext=CONTEXT)
        assert code == "AccessDeniedException"


def test_a_grant_is_retired_by_whom_it_names_and_nobody_else(dev: Running, kms: Any, key: str) -> None:
    arn, maria = a_user(dev, "maria")
    other, jo = a_user(dev, "jo")
    made = kms.create_grant(KeyId=key, GranteePrincipal=arn, RetiringPrincipal=other, Operations=["Decrypt"])
    assert refused(maria.retire_grant, GrantToken=made["GrantToken"]) == "AccessDeniedException"
    jo.retire_grant(GrantToken=made["GrantToken"])
    own = kms.create_grant(KeyId=key, GranteePrincipal=arn, Operations=["Decrypt", "RetireGrant"])
    maria.retire_grant(KeyId=f"arn:aws:kms:eu-north-1:{MANAGEMENT}:key/{key}", GrantId=own["GrantId"])
    assert kms.list_grants(KeyId=key)["Grants"] == []
    assert refused(kms.retire_grant, GrantToken="none") == "NotFoundException"


def test_grants_are_listed_page_by_page(dev: Running, kms: Any, key: str) -> None:
    arns = [a_user(dev, f"user{number}")[0] for number in range(3)]
    for arn in arns:
        kms.create_grant(KeyId=key, GranteePrincipal=arn, RetiringPrincipal=arns[0], Operations=["Decrypt"])
    pages = kms.get_paginator("list_grants").paginate(KeyId=key, PaginationConfig={"PageSize": 1})
    assert sorted(each["GranteePrincipal"] for page in pages for each in page["Grants"]) == sorted(arns)
    (one,) = kms.list_grants(KeyId=key, GranteePrincipal=arns[1])["Grants"]
    assert (one["Operations"], one["IssuingAccount"]) == (["Decrypt"], f"arn:aws:iam::{MANAGEMENT}:root")
    retirable = kms.get_paginator("list_retirable_grants").paginate(
        RetiringPrincipal=arns[0], PaginationConfig={"PageSize": 2}
    )
    assert len([each for page in retirable for each in page["Grants"]]) == 3


def test_a_grant_of_one_name_is_made_once(dev: Running, kms: Any, key: str) -> None:
    arn, _ = a_user(dev, "maria")
    given = {"KeyId": key, "GranteePrincipal": arn, "Operations": ["Decrypt"], "Name": "once"}
    assert kms.create_grant(**given)["GrantId"] == kms.create_grant(**given)["GrantId"]
    assert kms.create_grant(**{**given, "Operations": ["Encrypt"]})["GrantId"]
    assert len(kms.list_grants(KeyId=key)["Grants"]) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"Operations": ["CreateGrant"]},
        {"Operations": ["Sign"]},
        {"GranteePrincipal": "maria"},
        {"GranteePrincipal": f"arn:aws:s3:::{MANAGEMENT}"},
        {"RetiringPrincipal": "*"},
        {"Name": "a name with spaces"},
        {"GranteeServicePrincipal": "backup.amazonaws.com", "GranteePrincipal": None},
    ],
    ids=str,
)
def test_what_no_grant_can_say_is_refused(kms: Any, key: str, wrong: dict[str, Any]) -> None:
    given = {"KeyId": key, "GranteePrincipal": f"arn:aws:iam::{MANAGEMENT}:root", "Operations": ["Decrypt"], **wrong}
    parameters = {name: value for name, value in given.items() if value is not None}
    assert refused(kms.create_grant, **parameters) == "ValidationException"


def test_a_disabled_key_gets_no_grants(kms: Any, key: str) -> None:
    kms.disable_key(KeyId=key)
    arn = f"arn:aws:iam::{MANAGEMENT}:root"
    assert refused(kms.create_grant, KeyId=key, GranteePrincipal=arn, Operations=["Decrypt"]) == "DisabledException"
