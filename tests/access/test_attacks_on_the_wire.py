"""What an attacker does to bytes on the wire, each with the refusal that meets it; on the server as users run it."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.attacker import Forged, answer, signed
from tests.running import REGION, Running

from holdfast.core.clock import SystemMachineTime

JSON_1_1 = "application/x-amz-json-1.1"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
NOW = SystemMachineTime().now


def create_vault(url: str, name: str, **more: Any) -> Forged:
    """Return a signed request that makes a vault, with something in every part that can be tampered with."""
    body = json.dumps({"BackupVaultTags": {"team": "red"}}).encode()
    headers = {"content-type": "application/json", "x-amz-meta": "plain"}
    return signed(url, "backup", "PUT", f"/backup-vaults/{name}", "a=1&b=2", body=body, headers=headers, **more)


def header(name: str, value: str) -> Callable[[Forged], Forged]:
    return lambda forged: replace(forged, headers={**forged.headers, name: value})


def scoped(part: int, value: str) -> Callable[[Forged], Forged]:
    def change(forged: Forged) -> Forged:
        authorization = forged.headers["authorization"]
        credential = authorization.split("Credential=")[1].split(",")[0]
        parts = credential.split("/")
        parts[part] = value
        return header("authorization", authorization.replace(credential, "/".join(parts)))(forged)

    return change


TAMPERED: dict[str, Callable[[Forged], Forged]] = {
    "body": lambda forged: replace(forged, body=forged.body.replace(b"red", b"bad")),
    "body, its hash made to fit": lambda forged: header(
        "x-amz-content-sha256", signed("http://x", "backup", body=b"{}").headers["x-amz-content-sha256"]
    )(replace(forged, body=b"{}")),
    "body left out": lambda forged: replace(forged, body=b""),
    "signed header": header("x-amz-meta", "other"),
    "content type": header("content-type", "text/plain"),
    "host": header("host", "elsewhere.example"),
    "date": header("x-amz-date", (NOW() + timedelta(seconds=200)).strftime("%Y%m%dT%H%M%SZ")),
    "query value": lambda forged: replace(forged, query="a=1&b=3"),
    "query added": lambda forged: replace(forged, query=forged.query + "&c=3"),
    "query left out": lambda forged: replace(forged, query=""),
    "path": lambda forged: replace(forged, path=forged.path + "x"),
    "path encoded twice": lambda forged: replace(forged, path=forged.path.replace("-vaults", "%2Dvaults")),
    "method": lambda forged: replace(forged, method="DELETE"),
    "an x-amz header that nobody signed": lambda forged: replace(forged, more=[("x-amz-security-token", "x")]),
    "a signed header sent twice": lambda forged: replace(forged, more=[("x-amz-meta", "other")]),
    "another key": scoped(0, "AKIA0000000000000000"),
    "another day": scoped(1, "20200101"),
    "another region": scoped(2, "us-east-1"),
    "another service": scoped(3, "organizations"),
    "the end of the scope": scoped(4, "aws5_request"),
    "signature of nothing": lambda forged: header(
        "authorization", forged.headers["authorization"].rpartition("Signature=")[0] + "Signature=" + "0" * 64
    )(forged),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_request_that_was_tampered_with_is_refused(dev_server: Running, what: str) -> None:
    url = dev_server.url
    status, told = answer(url, TAMPERED[what](create_vault(url, "tampered")).raw())
    assert status == 403, told
    vaults = dev_server.client("backup").list_backup_vaults()["BackupVaultList"]
    assert [vault["BackupVaultName"] for vault in vaults if vault["BackupVaultName"].startswith("tampered")] == []


def test_the_same_request_untampered_is_heard(dev: Running) -> None:
    status, told = answer(dev.url, create_vault(dev.url, "untampered").raw())
    assert (status, json.loads(told)["BackupVaultName"]) == (200, "untampered")


@pytest.mark.parametrize("seconds", [-301, 301, -86_400])
def test_a_request_is_not_heard_again_after_five_minutes(dev_server: Running, seconds: int) -> None:
    whoami = b"Action=GetCallerIdentity&Version=2011-06-15"
    headers = {"content-type": FORM}

    def at(moment: int) -> Forged:
        then = NOW() + timedelta(seconds=moment)
        return signed(dev_server.url, "sts", "POST", body=whoami, headers=headers, at=then)

    assert answer(dev_server.url, at(seconds).raw())[0] == 403
    assert answer(dev_server.url, at(-280).raw())[0] == 200


@pytest.mark.parametrize(
    ("region", "service"),
    [("mars-1", "backup"), ("", "backup"), ("eu-north-1/x", "backup"), (REGION, "ec2"), (REGION, "s3"), (REGION, "x")],
)
def test_a_foreign_region_or_service_in_the_scope_is_refused(dev_server: Running, region: str, service: str) -> None:
    forged = signed(dev_server.url, "backup", path="/backup-vaults/", region=region, scope_service=service)
    assert answer(dev_server.url, forged.raw())[0] == 403


def test_a_signature_for_one_service_opens_no_other(dev: Running) -> None:
    forged = signed(dev.url, "sts", path="/backup-vaults/", scope_service="sts")
    status, told = answer(dev.url, forged.raw())
    assert status in {400, 403, 404}, told
    assert b"BackupVaultList" not in told
    listing = {"content-type": JSON_1_1, "x-amz-target": "AWSOrganizationsV20161128.CreateOrganization"}
    status, told = answer(dev.url, signed(dev.url, "kms", "POST", body=b"{}", headers=listing).raw())
    assert status == 400
    with pytest.raises(ClientError, match="AWSOrganizationsNotInUse"):
        dev.client("organizations").describe_organization()


BODIES: dict[str, bytes] = {
    "deeply nested": b'{"BackupVaultTags":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deeply nested objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a key twice": b'{"BackupVaultTags": {"team": "red"}, "BackupVaultTags": {"team": "blue"}}',
    "a key twice inside": b'{"BackupVaultTags": {"team": "red", "team": "blue"}}',
    "not UTF-8": b'{"BackupVaultTags": {"team": "\xff\xfe"}}',
    "half of a pair": b'{"BackupVaultTags": {"team": "\\ud800"}}',
    "UTF-16": '{"BackupVaultTags": {}}'.encode("utf-16"),
    "cut off": b'{"BackupVaultTags": {"team"',
    "two documents": b"{}{}",
    "no object": b'["BackupVaultTags"]',
    "not a number": b'{"BackupVaultTags": NaN}',
    "a null byte": b'{"BackupVaultTags": {"a\x00": "b"}}',
}


@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_none_is_refused_and_nothing_is_done(dev_server: Running, kind: str) -> None:
    dev, body = dev_server, BODIES[kind]
    keys = dev.client("kms").list_keys()["Keys"]
    rest = signed(
        dev.url, "backup", "PUT", "/backup-vaults/odd", body=body, headers={"content-type": "application/json"}
    )
    target = {"content-type": JSON_1_1, "x-amz-target": "TrentService.CreateKey"}
    rpc = signed(dev.url, "kms", "POST", body=body, headers=target)
    for forged in (rest, rpc):
        status, told = answer(dev.url, forged.raw())
        assert 400 <= status < 500, (status, told[:300])
        assert b"Traceback" not in told
    vaults = dev.client("backup").list_backup_vaults()["BackupVaultList"]
    assert "odd" not in [vault["BackupVaultName"] for vault in vaults]
    assert dev.client("kms").list_keys()["Keys"] == keys


@pytest.mark.parametrize("size", [(1 << 20) + 1, 10**12, 10**30])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(dev_server: Running, size: int) -> None:
    forged = create_vault(dev_server.url, "large")
    raw = forged.raw().replace(f"content-length: {len(forged.body)}".encode(), f"content-length: {size}".encode())
    assert answer(dev_server.url, raw)[0] in {400, 413}


FORMS: dict[str, bytes] = {
    "an action twice": b"Action=GetCallerIdentity&Action=AssumeRole&Version=2011-06-15",
    "not UTF-8": b"Action=%ff%fe&Version=2011-06-15",
    "a thousand levels": b"Action=AssumeRole&Version=2011-06-15&" + b".".join([b"Tags.member.1"] * 1000) + b"=x",
    "a list of a billion": b"Action=AssumeRole&Version=2011-06-15&Tags.member.1000000000.Key=x",
    "cut off": b"Action=GetCallerIdentity%&Version=2011-06-15",
}


@pytest.mark.parametrize("kind", FORMS)
def test_a_form_that_is_none_is_refused(dev_server: Running, kind: str) -> None:
    forged = signed(dev_server.url, "sts", "POST", body=FORMS[kind], headers={"content-type": FORM})
    status, told = answer(dev_server.url, forged.raw())
    assert 400 <= status < 500, (status, told[:300])
