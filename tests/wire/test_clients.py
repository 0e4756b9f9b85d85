"""Stock clients over HTTP: what boto3 and the AWS CLI make of our answers."""

import http.client
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from tests.wire.conftest import KEY, SECRET, TOKEN, Server

from holdfast.core.errors import AlreadyExistsError, DeniedError, InvalidInputError, LimitExceededError, NotFoundError
from holdfast.wire.model import MODEL_DIRECTORY


def refused(call: Any, **parameters: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return dict(caught.value.response)


def test_a_call_reaches_the_backend_with_all_that_is_known_of_it(server: Server) -> None:
    server.backend.answers["GetCallerIdentity"] = lambda call, _: {
        "Account": "123456789012",
        "UserId": call.access_key_id,
    }
    answer = server.client("sts", token=TOKEN).get_caller_identity()
    [call] = server.backend.calls
    assert answer["UserId"] == KEY
    assert answer["ResponseMetadata"]["RequestId"] == call.request_id
    assert (call.service, call.operation, call.region, call.partition) == (
        "sts",
        "GetCallerIdentity",
        "eu-north-1",
        "aws",
    )
    assert call.source_ip == "127.0.0.1"
    assert call.user_agent.startswith("Boto3/")


def test_an_encoded_slash_stays_inside_its_label(server: Server) -> None:
    server.backend.answers["GetBackupPlan"] = lambda _, asked: {"BackupPlanId": asked["BackupPlanId"]}
    answer = server.client("backup").get_backup_plan(BackupPlanId="orgs/5b8e/ü %2F")
    assert answer["BackupPlanId"] == "orgs/5b8e/ü %2F"
    assert [call.operation for call in server.backend.calls] == ["GetBackupPlan"]


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("backup", "list_backup_vaults", "ServiceUnavailableException"),
        ("organizations", "describe_organization", "UnsupportedAPIEndpointException"),
        ("iam", "list_users", "UnsupportedOperationException"),
        ("sts", "get_caller_identity", "UnsupportedOperationException"),
        ("kms", "list_keys", "UnsupportedOperationException"),
        ("holdfast", "list_resources", "UnsupportedOperationException"),
        ("resourcegroupstaggingapi", "get_resources", "UnsupportedOperationException"),
    ],
)
def test_an_operation_that_is_not_built_is_named_and_not_worth_a_retry(
    server: Server, service: str, call: str, code: str
) -> None:
    response = refused(getattr(server.client(service), call))
    assert response["Error"]["Code"] == code
    assert server.backend.calls[-1].operation in response["Error"]["Message"]
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("service", "call", "unknown", "wrong"),
    [
        ("sts", "get_caller_identity", "InvalidClientTokenId", "SignatureDoesNotMatch"),
        ("organizations", "list_roots", "UnrecognizedClientException", "InvalidSignatureException"),
        ("backup", "list_backup_plans", "UnrecognizedClientException", "InvalidSignatureException"),
    ],
)
def test_an_unknown_key_and_a_wrong_secret_are_told_apart_as_aws_does(
    server: Server, service: str, call: str, unknown: str, wrong: str
) -> None:
    response = refused(getattr(server.client(service, key="AKIDSOMEBODY"), call))
    assert response["Error"]["Code"] == unknown
    response = refused(getattr(server.client(service, secret="another"), call))
    assert response["Error"]["Code"] == wrong
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert server.backend.calls == []


@pytest.mark.parametrize(
    ("service", "call", "parameters", "code", "named"),
    [
        ("backup", "list_backup_jobs", {"MaxResults": 5000}, "InvalidParameterValueException", "MaxResults"),
        ("backup", "list_backup_jobs", {"ByAccountId": "x"}, "InvalidParameterValueException", "ByAccountId"),
        ("backup", "list_backup_jobs", {"ByState": "GONE"}, "InvalidParameterValueException", "ByState"),
        ("backup", "get_backup_vault_access_policy", {"BackupVaultName": ""}, "MissingParameterValueException", "path"),
        ("organizations", "list_accounts", {"MaxResults": 21}, "InvalidInputException", "MaxResults"),
        ("iam", "get_user", {"UserName": "a/b"}, "ValidationError", "UserName"),
        ("kms", "create_key", {"KeyUsage": "HANGING"}, "ValidationException", "KeyUsage"),
        ("holdfast", "describe_secret", {"Name": "a b"}, "ValidationException", "Name"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(
    server: Server, service: str, call: str, parameters: dict[str, Any], code: str, named: str
) -> None:
    response = refused(getattr(server.client(service), call), **parameters)
    assert response["Error"]["Code"] == code
    assert named in response["Error"]["Message"]
    assert server.backend.calls == []


@pytest.mark.parametrize(
    ("call", "parameters", "reason"),
    [
        ("list_accounts", {"MaxResults": 21}, "MAX_VALUE_EXCEEDED:MAX_RESULTS"),
        ("describe_handshake", {"HandshakeId": "bad"}, "INVALID_PATTERN:HANDSHAKE_ID"),
        ("create_organizational_unit", {"ParentId": "r-ab12", "Name": "a\x00b"}, "INVALID_PATTERN:NAME"),
        ("list_handshakes_for_account", {"Filter": {"ActionType": "?"}}, "INVALID_ENUM:FILTER_ACTION_TYPE"),
        (
            "tag_resource",
            {"ResourceId": "r-ab12", "Tags": [{"Key": "k" * 129, "Value": ""}]},
            "MAX_LENGTH_EXCEEDED:TAGS_KEY",
        ),
    ],
)
def test_organizations_says_why_an_input_is_invalid(
    server: Server, call: str, parameters: dict[str, Any], reason: str
) -> None:
    answer = refused(getattr(server.client("organizations"), call), **parameters)
    assert (answer["Error"]["Code"], answer["Reason"]) == ("InvalidInputException", reason)


@pytest.mark.parametrize("account", ["*", "123456789012"])
def test_all_accounts_may_be_asked_for_with_an_asterisk(server: Server, account: str) -> None:
    server.backend.answers["ListBackupJobs"] = lambda _, asked: {"BackupJobs": [{"AccountId": asked["ByAccountId"]}]}
    answer = server.client("backup").list_backup_jobs(ByAccountId=account)
    assert answer["BackupJobs"] == [{"AccountId": account}]


@pytest.mark.parametrize(
    ("service", "call", "parameters", "error", "exception", "status"),
    [
        ("backup", "get_backup_plan", {"BackupPlanId": "x"}, NotFoundError, "ResourceNotFoundException", 400),
        ("backup", "list_backup_plans", {}, InvalidInputError, "InvalidParameterValueException", 400),
        ("iam", "get_user", {"UserName": "x"}, NotFoundError, "NoSuchEntityException", 404),
        ("iam", "create_user", {"UserName": "x"}, AlreadyExistsError, "EntityAlreadyExistsException", 409),
        ("kms", "describe_key", {"KeyId": "x"}, NotFoundError, "NotFoundException", 400),
        ("kms", "create_key", {}, LimitExceededError, "LimitExceededException", 400),
        ("organizations", "describe_organization", {}, DeniedError, "AccessDeniedException", 400),
        ("holdfast", "list_secrets", {}, DeniedError, "AccessDeniedException", 403),
    ],
)
def test_an_error_becomes_the_exception_that_clients_catch(
    server: Server,
    service: str,
    call: str,
    parameters: dict[str, Any],
    error: type[Exception],
    exception: str,
    status: int,
) -> None:
    def refuse(_call: Any, _parameters: Any) -> None:
        raise error("a sentence for a person, with <angles> & ümlauts")

    client = server.client(service)
    operation = client.meta.method_to_api_mapping[call]
    server.backend.answers[operation] = refuse
    with pytest.raises(getattr(client.exceptions, exception)) as caught:
        getattr(client, call)(**parameters)
    assert caught.value.response["Error"]["Message"] == "a sentence for a person, with <angles> & ümlauts"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert caught.value.response["ResponseMetadata"]["RequestId"] == server.backend.calls[-1].request_id


@pytest.mark.parametrize("result", [{"NoSuchMember": 1}, {"Account": 5}])
def test_a_mistake_in_the_program_shows_the_client_an_id_and_no_more(server: Server, result: dict[str, Any]) -> None:
    server.backend.answers["GetCallerIdentity"] = lambda _call, _parameters: result
    response = refused(server.client("sts").get_caller_identity)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert response["Error"]["Code"] == "InternalServerException"
    assert server.backend.calls[-1].request_id in response["Error"]["Message"]
    assert "Traceback" not in response["Error"]["Message"]


def test_the_aws_cli_calls_the_extension_by_its_model_file(server: Server, tmp_path: Path) -> None:
    server.backend.answers["PutResource"] = lambda _, asked: {
        "Resource": {"Name": asked["Name"], "Tags": asked["Tags"]}
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "eu-north-1",
        "AWS_DATA_PATH": str(MODEL_DIRECTORY),
        "AWS_MAX_ATTEMPTS": "1",
    }
    options = ["--resource-type", "EFS", "--source-url", "file:/srv/www", "--tags", "dataType=PII"]
    command = Path(sys.executable).parent / "aws"
    ran = subprocess.run(
        [command, "--endpoint-url", server.url, "holdfast", "put-resource", "--name", "www", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout) == {"Resource": {"Name": "www", "Tags": {"dataType": "PII"}}}


def test_paginators_of_the_extension_follow_its_tokens(server: Server) -> None:
    pages: dict[str | None, dict[str, Any]] = {
        None: {"Resources": [{"Name": "a"}], "NextToken": "t"},
        "t": {"Resources": [{"Name": "b"}]},
    }
    server.backend.answers["ListResources"] = lambda _, asked: pages[asked.get("NextToken")]
    found = server.client("holdfast").get_paginator("list_resources").paginate().build_full_result()
    assert [each["Name"] for each in found["Resources"]] == ["a", "b"]


def plain(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers.get("x-amzn-ErrorType", "")
    finally:
        connection.close()


def test_a_request_without_a_signature_is_refused_in_every_method(server: Server) -> None:
    for method in ("GET", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"):
        status, body, code = plain(server, method, "/backup-vaults/")
        assert (status, code) == (403, "MissingAuthenticationTokenException")
        assert json.loads(body)["Message"] == "Request is missing Authentication Token"
    assert plain(server, "HEAD", "/backup-vaults/")[:2] == (403, b"")


def test_what_is_not_http_gets_a_clean_refusal(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"Traceback" not in answer


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    status, body, code = plain(server, "PUT", "/backup-vaults/x", b"x" * 200_001)
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert b"200000 bytes" in body


def test_a_body_without_an_announced_size_is_bounded_too(server: Server) -> None:
    head = b"PUT /x HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = exchange(server, head, b"%x\r\n" % 200_001 + b"x" * 200_001 + b"\r\n0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_client_that_stalls_is_told_so(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"PUT /x HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\nab")
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"RequestTimeoutException" in answer


def test_a_plain_route_is_not_for_pages_in_a_browser(server: Server) -> None:
    assert plain(server, "GET", "/_holdfast/health")[:2] == (200, b"well\n")
    assert plain(server, "GET", "/_holdfast/health", Origin="https://elsewhere.example")[0] == 403


def exchange(server: Server, *pieces: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def test_a_head_that_never_ends_is_cut_off(server: Server) -> None:
    assert exchange(server, b"GET / HTTP/1.1\r\nHost: here\r\nX-Slow: ").startswith(b"HTTP/1.1 408")
    assert exchange(server).startswith(b"HTTP/1.1 408")


def test_a_second_head_that_never_ends_is_cut_off_too(server: Server) -> None:
    first = b"GET /_holdfast/health HTTP/1.1\r\nHost: here\r\n\r\n"
    answers = exchange(server, first, b"GET / HTTP/1.1\r\nHost: ")
    assert answers.startswith(b"HTTP/1.1 200")


def test_a_head_without_bounds_is_refused(server: Server) -> None:
    answer = exchange(server, b"GET / HTTP/1.1\r\nHost: here\r\nX-Long: ", b"x" * 70_000)
    assert answer.startswith(b"HTTP/1.1 431")


def test_a_trailer_adds_no_header(server: Server) -> None:
    answer = exchange(
        server,
        b"PUT /x HTTP/1.1\r\nHost: here\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2\r\nab\r\n0\r\nX-Amz-Target: AWSOrganizationsV20161128.ListRoots\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"application/json" in answer  # not the type of the service that the trailer names


def test_a_foreign_region_in_the_scope_is_refused(server: Server) -> None:
    response = refused(server.client("backup", region="atlantis-1").list_backup_vaults)
    assert response["Error"]["Code"] == "InvalidSignatureException"
    assert "atlantis-1" in response["Error"]["Message"]


def test_a_service_that_is_not_served_is_refused(server: Server) -> None:
    response = refused(server.client("sqs").list_queues)
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert "organizations" in response["Error"]["Message"]


def test_a_presigned_identity_is_answered(server: Server) -> None:
    server.backend.answers["GetCallerIdentity"] = lambda _call, _parameters: {"Account": "123456789012"}
    url = urlsplit(server.client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET"))
    status, body, _ = plain(server, "GET", f"{url.path}?{url.query}")
    assert status == 200
    assert b"<Account>123456789012</Account>" in body


def test_an_operation_that_needs_no_signature_is_answered_without_one(server: Server) -> None:
    server.backend.answers["AssumeRoleWithWebIdentity"] = lambda _, asked: {
        "AssumedRoleUser": {"AssumedRoleId": asked["RoleSessionName"], "Arn": asked["RoleArn"]}
    }
    arn = "arn:aws:iam::123456789012:role/backup"
    answer = server.client("sts").assume_role_with_web_identity(
        RoleArn=arn, RoleSessionName="ci", WebIdentityToken="a.b.c"
    )
    assert answer["AssumedRoleUser"]["Arn"] == arn
    assert server.backend.calls[-1].access_key_id == ""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "SerializationException"),
        (b"[]", "SerializationException"),
        (b'{"MaxResults": "\xff"}', "SerializationException"),
        (b"[" * 100_000, "SerializationException"),
        (b'{"MaxResults": 1.5}', "InvalidInputException"),
        (b'{"MaxResults": true}', "InvalidInputException"),
        (b'{"NextToken": {}}', "InvalidInputException"),
    ],
    ids=["cut off", "a list", "not UTF-8", "deep", "a fraction", "a truth value", "an object"],
)
def test_a_body_that_cannot_be_read_is_named(server: Server, body: bytes, code: str) -> None:
    status, answer, told = signed_post(server, "organizations", body, target="AWSOrganizationsV20161128.ListRoots")
    assert (status, told) == (400, code)
    assert json.loads(answer)["__type"] == code


def test_an_unknown_operation_is_named(server: Server) -> None:
    status, answer, told = signed_post(server, "organizations", b"{}", target="AWSOrganizationsV20161128.Fly")
    assert (status, told) == (400, "UnknownOperationException")
    assert b"AWSOrganizationsV20161128.Fly" in answer
    status, answer, _ = signed_post(server, "sts", b"Action=Fly&Version=2011-06-15")
    assert status == 400
    assert b"<Code>InvalidAction</Code>" in answer


def signed_post(server: Server, service: str, body: bytes, target: str = "") -> tuple[int, bytes, str]:
    headers = {"X-Amz-Target": target} if target else {}
    request: Any = AWSRequest("POST", server.url + "/", headers=headers, data=body)
    SigV4Auth(Credentials(KEY, SECRET), service, "eu-north-1").add_auth(request)
    return plain(server, "POST", "/", body, **dict(request.headers.items()))
