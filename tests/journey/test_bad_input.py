"""Bad input over the wire: each a clear error that names what is wrong; nothing is lost, the server keeps its calm."""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from tests.running import REGION, VAULT, Member, Running, found_organization, join, refusal

from holdfast.cli.client import session
from holdfast.core.clock import SystemMachineTime

_TARGET = "AWSOrganizationsV20161128"
_JSON = {"Content-Type": "application/x-amz-json-1.1"}
_FORM: Any = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


_Signer: Any = SigV4Auth


class At(_Signer):  # type: ignore[misc] # botocore has no types
    """Signs as if it were some other time."""

    def __init__(self, service: str, region: str, key: tuple[str, str], late: timedelta) -> None:
        super().__init__(Credentials(*key), service, region)
        self._at = SystemMachineTime().now() - late

    def add_auth(self, request: Any) -> None:
        request.context["timestamp"] = self._at.strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))


@pytest.fixture(scope="module")
def server(dev_server: Running) -> Iterator[Running]:
    dev_server.reset()
    before = dev_server.said()
    yield dev_server
    assert "Traceback" not in dev_server.said()[len(before) :]


@pytest.fixture(scope="module")
def shop(server: Running) -> Member:
    found_organization(server, "SERVICE_CONTROL_POLICY")
    return join(server, "shop")


def send(
    server: Running,
    service: str,
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    signed_by: tuple[str, str] = ("testing", "testing"),
    region: str = REGION,
    late: timedelta = timedelta(),
    after_signing: Mapping[str, str] | None = None,
    **headers: str,
) -> tuple[int, Mapping[str, str], bytes]:
    """Send a request signed by hand."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, server.url + path, headers=given, data=body)
    At(service, region, signed_by, late).add_auth(request)
    sent = {**dict(request.headers), **(after_signing or {})}
    status, answered, content = server.ask(path, body or None, method=method, headers=sent)
    assert 400 <= status < 500, (status, content)
    assert b"<html" not in content.lower()
    assert "html" not in answered.get("content-type", answered.get("Content-Type", ""))
    assert b"Traceback" not in content
    return status, answered, content


def organizations(server: Running, body: bytes, operation: str = "DescribeOrganization", **more: Any) -> Any:
    headers = {**_JSON, "X-Amz-Target": f"{_TARGET}.{operation}"}
    return send(server, "organizations", "/", body, **{**headers, **more})


ASKED: dict[str, dict[str, Any]] = {
    "rest-json": {"service": "backup", "path": "/backup-vaults", "method": "GET"},
    "json": {
        "service": "organizations",
        "path": "/",
        "body": b"{}",
        "X-Amz-Target": f"{_TARGET}.ListRoots",
        **_JSON,
    },
    "query": {"service": "iam", "path": "/", "body": b"Action=ListRoles&Version=2010-05-08", **_FORM},
}


@pytest.mark.parametrize("protocol", ASKED)
@pytest.mark.parametrize(
    ("how", "codes", "words"),
    [
        (
            {"signed_by": ("testing", "wrong")},
            ("InvalidSignatureException", "SignatureDoesNotMatch"),
            "signature",
        ),
        (
            {"signed_by": ("AKIAUNKNOWN000000000", "testing")},
            ("UnrecognizedClientException", "InvalidClientTokenId"),
            "security token included in the request is invalid",
        ),
        ({"late": timedelta(minutes=10)}, ("InvalidSignatureException", "SignatureDoesNotMatch"), "expired"),
        ({"late": timedelta(minutes=-10)}, ("InvalidSignatureException", "SignatureDoesNotMatch"), "not yet current"),
        ({"region": "moon-east-1"}, ("InvalidSignatureException", "SignatureDoesNotMatch"), "moon-east-1"),
        (
            {"after_signing": {"Authorization": "AWS4-HMAC-SHA256 nothing"}},
            ("IncompleteSignatureException", "IncompleteSignature"),
            "Authorization",
        ),
    ],
    ids=["wrong secret", "unknown key", "ten minutes late", "ten minutes early", "unknown region", "torn"],
)
def test_who_is_not_known_is_told_why(
    server: Running, protocol: str, how: dict[str, Any], codes: tuple[str, ...], words: str
) -> None:
    status, headers, body = send(server, **{**ASKED[protocol], **how})
    assert status == 403
    told = headers.get("x-amzn-errortype", "") + body.decode()
    assert any(code in told for code in codes), told
    assert words.lower() in told.lower()


def test_a_body_that_was_changed_after_signing_is_refused(server: Running) -> None:
    headers = {**_JSON, "X-Amz-Target": f"{_TARGET}.ListRoots"}
    request = AWSRequest("POST", server.url + "/", headers=headers, data=b"{}")
    SigV4Auth(Credentials("testing", "testing"), "organizations", REGION).add_auth(request)
    status, _, body = server.ask("/", b'{"MaxResults": 1}', method="POST", headers=dict(request.headers))
    assert status == 403
    assert "InvalidSignatureException" in body.decode()


@pytest.mark.parametrize(
    "body", [b"{", b"nonsense", b"[]", b'"text"', b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000], ids=range(7)
)
def test_a_body_that_is_no_json_object_is_named_so(server: Running, body: bytes) -> None:
    status, _, answer = organizations(server, body)
    assert status == 400
    assert json.loads(answer)["__type"].endswith("SerializationException")
    status, headers, _ = send(
        server, "backup", "/backup-vaults/mine", body, method="PUT", Content_Type="application/json"
    )
    assert status == 400
    assert "SerializationException" in {name.lower(): value for name, value in headers.items()}["x-amzn-errortype"]


def test_an_unknown_operation_is_named(server: Running) -> None:
    _, _, answer = organizations(server, b"{}", "MakeCoffee")
    assert json.loads(answer)["__type"].endswith("UnknownOperationException")
    assert "MakeCoffee" in answer.decode()
    _, _, answer = send(server, "iam", "/", b"Action=MakeCoffee&Version=2010-05-08", **_FORM)
    assert b"<Code>InvalidAction</Code>" in answer
    assert b"MakeCoffee" in answer
    _, headers, answer = send(server, "backup", "/coffee/make", method="GET")
    assert "UnknownOperationException" in {name.lower(): value for name, value in headers.items()}["x-amzn-errortype"]
    assert "/coffee/make" in json.loads(answer)["Message"]


def test_an_operation_that_is_modelled_and_not_offered_says_so(server: Running) -> None:
    code, sentence = refusal(server.client("backup").start_report_job, ReportPlanName="coverage_2026")
    assert code == "ServiceUnavailableException"
    assert "StartReportJob" in sentence


def unchecked(server: Running, service: str, who: Mapping[str, str] | None = None) -> Any:
    """Return a client that sends whatever it is told to, as clients in other languages do."""
    of = who or server.credentials
    made = session(
        access_key=of["AccessKeyId"], secret_key=of["SecretAccessKey"], token=of.get("SessionToken"), region=REGION
    )
    config = Config(parameter_validation=False, retries={"max_attempts": 0})
    return made.client(service, endpoint_url=server.url, config=config)


def test_a_missing_member_is_named(shop: Member) -> None:
    server = shop.server
    code, sentence = refusal(unchecked(server, "backup", shop.credentials).start_backup_job, BackupVaultName=VAULT)
    assert code == "MissingParameterValueException"
    assert "ResourceArn" in sentence
    assert "IamRoleArn" in sentence
    code, sentence = refusal(unchecked(server, "organizations").create_policy, Name="x", Type="BACKUP_POLICY")
    assert code == "InvalidInputException"
    assert "Content" in sentence
    code, sentence = refusal(unchecked(server, "iam").create_role, RoleName="x")
    assert code == "ValidationError"
    assert "AssumeRolePolicyDocument" in sentence
    code, sentence = refusal(unchecked(server, "holdfast").put_resource, Name="x")
    assert code == "ValidationException"
    assert "SourceUrl" in sentence


def test_a_value_out_of_range_is_named_with_the_range(shop: Member) -> None:
    backup, organizations_ = unchecked(shop.server, "backup", shop.credentials), unchecked(shop.server, "organizations")
    for call, asked, words in (
        (backup.list_backup_jobs, {"MaxResults": 0}, ("MaxResults is 0", "at least 1")),
        (backup.list_backup_jobs, {"MaxResults": 100_000}, ("MaxResults", "1000")),
        (backup.list_backup_jobs, {"ByState": "BORED"}, ("ByState", "BORED", "COMPLETED")),
        (backup.create_backup_vault, {"BackupVaultName": "no spaces allowed"}, ("BackupVaultName",)),
        (organizations_.create_organizational_unit, {"ParentId": "r-1234", "Name": "n" * 200}, ("Name", "128")),
        (organizations_.create_account, {"Email": "nobody", "AccountName": "x"}, ("Email",)),
    ):
        code, sentence = refusal(call, **asked)
        assert code in {"InvalidParameterValueException", "InvalidInputException"}, sentence
        for word in words:
            assert word in sentence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "a key in double quotes is expected"),
        ("[]", "object"),
        ('{"plans": {"p": {"rules": 7}}}', "rules"),
        ('{"plans": {"p": {"rules": {"r": {"schedule": {"@@assign": "x"}}}}}}', "schedule"),
        ('{"plans": {"p": {"@@invent": 1}}}', "@@invent"),
        ('{"plans": {"p": {"regions": {"@@assign": ["moon-east-1"]}}}}', "moon-east-1"),
        ('{"plans": {}, "plans": {}}', "plans"),
    ],
)
def test_an_invalid_policy_is_told_where_it_is_wrong(shop: Member, content: str, words: str) -> None:
    organizations_ = shop.server.client("organizations")
    known = organizations_.list_policies(Filter="BACKUP_POLICY")["Policies"]
    code, sentence = refusal(
        organizations_.create_policy, Type="BACKUP_POLICY", Name="wrong", Description="", Content=content
    )
    assert code == "MalformedPolicyDocumentException"
    assert words in sentence
    assert organizations_.list_policies(Filter="BACKUP_POLICY")["Policies"] == known
