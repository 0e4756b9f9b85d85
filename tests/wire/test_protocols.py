"""The corners of the protocols: routes, forms, and the parts of a reply that are not its body."""

from datetime import UTC, datetime
from typing import Any

import pytest

from holdfast.wire.application import protocol_of
from holdfast.wire.jsonbody import MalformedBodyError, ResultError
from holdfast.wire.message import HttpRequest
from holdfast.wire.model import Service, compiled_service
from holdfast.wire.protocol import ErrorReply, UnknownOperationError
from holdfast.wire.rest_json import RestJsonProtocol
from holdfast.wire.validation import InvalidParametersError


def rest(method: str, path: str, query: str = "", body: bytes = b"") -> HttpRequest:
    return HttpRequest(method, path, query, {"host": "localhost"}, body)


def form(body: str) -> HttpRequest:
    return HttpRequest("POST", "/", "", {"host": "localhost"}, body.encode())


@pytest.mark.parametrize(
    ("request_", "operation", "parameters"),
    [
        (rest("GET", "/backup/plans/x/"), "GetBackupPlan", {"BackupPlanId": "x"}),
        (rest("GET", "/backup/plans/x"), "GetBackupPlan", {"BackupPlanId": "x"}),
        (rest("GET", "/backup/plans/orgs%2Fx"), "GetBackupPlan", {"BackupPlanId": "orgs/x"}),
        (rest("GET", "/backup/template/plans"), "ListBackupPlanTemplates", {}),
        (rest("GET", "/backup-vaults"), "ListBackupVaults", {}),
        (rest("GET", "/backup-jobs/"), "ListBackupJobs", {}),
        (rest("PUT", "/backup-jobs/", body=b"{}"), "StartBackupJob", {}),
        (
            rest("GET", "/backup-vaults/v/recovery-points/arn%3Aaws%3Aec2%3Aeu-north-1%3A%3Asnapshot%2Fsnap-1"),
            "DescribeRecoveryPoint",
            {"BackupVaultName": "v", "RecoveryPointArn": "arn:aws:ec2:eu-north-1::snapshot/snap-1"},
        ),
        (
            rest("POST", "/backup-vaults/v/mpaApprovalTeam", "delete", b"{}"),
            "DisassociateBackupVaultMpaApprovalTeam",
            {"BackupVaultName": "v"},
        ),
        (
            rest("POST", "/backup-vaults/v/mpaApprovalTeam/", "delete=", b"{}"),
            "DisassociateBackupVaultMpaApprovalTeam",
            {"BackupVaultName": "v"},
        ),
        (rest("GET", "/tags/arn%3Ax/", "unknown=1"), "ListTags", {"ResourceArn": "arn:x"}),
    ],
    ids=lambda value: f"{value.method} {value.path}?{value.query}" if isinstance(value, HttpRequest) else None,
)
def test_a_path_means_one_operation(request_: HttpRequest, operation: str, parameters: dict[str, Any]) -> None:
    parsed = protocol_of("backup").parse(request_)
    assert (parsed.operation.name, parsed.parameters) == (operation, parameters)


@pytest.mark.parametrize(
    "request_",
    [
        rest("GET", "/"),
        rest("GET", "/nowhere"),
        rest("PATCH", "/backup-vaults/v"),
        rest("POST", "/backup-vaults/v/mpaApprovalTeam"),
        rest("get", "/backup-vaults/v"),
    ],
    ids=lambda request: f"{request.method} {request.path}",
)
def test_a_path_that_means_nothing_is_an_unknown_operation(request_: HttpRequest) -> None:
    with pytest.raises(UnknownOperationError, match=request_.method):
        protocol_of("backup").parse(request_)


@pytest.mark.parametrize(
    "path",
    ["/backup-vaults//access-policy", "/backup-vaults/../access-policy", "/backup-vaults/./x", "/backup-vaults/.."],
)
def test_a_part_that_vanishes_from_the_signed_path_is_refused(path: str) -> None:
    with pytest.raises(InvalidParametersError, match="path"):
        protocol_of("backup").parse(rest("DELETE", path))


@pytest.mark.parametrize(
    "request_",
    [
        rest("GET", "/backup-vaults/%ff"),
        rest("GET", "/backup-jobs", "state=%ff"),
        rest("PUT", "/backup-jobs", body=b"nothing"),
        rest("PUT", "/backup-jobs", body=b"[]"),
    ],
    ids=["path", "query", "body", "list"],
)
def test_a_request_that_cannot_be_read_is_malformed(request_: HttpRequest) -> None:
    with pytest.raises(MalformedBodyError):
        protocol_of("backup").parse(request_)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("maxResults=many", "MaxResults"),
        ("maxResults=1_0", "MaxResults"),
        ("maxResults=%D9%A3", "MaxResults"),
        ("createdAfter=yesterday", "ByCreatedAfter"),
        ("createdAfter=9999999999999999", "ByCreatedAfter"),
        ("maxResults=1&maxResults=2", "MaxResults"),
    ],
)
def test_a_query_of_the_wrong_type_is_named(query: str, named: str) -> None:
    with pytest.raises(InvalidParametersError, match=named):
        protocol_of("backup").parse(rest("GET", "/backup-jobs", query))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-01-02T03%3A04%3A05.678000Z", datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)),
        ("2026-01-02T03:04:05%2B01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("1767323045.678", datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)),
        ("Fri,%2002%20Jan%202026%2003:04:05%20GMT", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_in_every_form_that_clients_send(text: str, instant: datetime) -> None:
    parsed = protocol_of("backup").parse(rest("GET", "/backup-jobs", f"createdAfter={text}"))
    assert parsed.parameters == {"ByCreatedAfter": instant}


@pytest.mark.parametrize(
    "body",
    [
        "Action=GetUser&UserName=a&UserName=b",
        "Action=GetUser&.=a",
        "Action=GetUser&" + "a." * 40 + "a=1",
        "Action=GetUser&UserName=%ff",
    ],
)
def test_a_form_that_means_nothing_is_malformed(body: str) -> None:
    with pytest.raises(MalformedBodyError):
        protocol_of("iam").parse(form(body))


@pytest.mark.parametrize(
    "body",
    [
        "Action=TagUser&UserName=a&Tags=x",
        "Action=TagUser&UserName=a&Tags.member.first.Key=x",
        "Action=TagUser&UserName.x=a",
        "Action=ListUsers&MaxItems=",
    ],
)
def test_a_form_of_the_wrong_type_is_named(body: str) -> None:
    with pytest.raises(InvalidParametersError, match=r"Tags|UserName|MaxItems"):
        protocol_of("iam").parse(form(body))


def test_the_numbers_of_a_form_order_its_lists() -> None:
    body = "Action=TagUser&UserName=a&Tags.member.10.Key=z&Tags.member.2.Key=b&Tags.member.1.Key=a"
    assert protocol_of("iam").parse(form(body)).parameters["Tags"] == [{"Key": "a"}, {"Key": "b"}, {"Key": "z"}]


def test_another_version_of_a_service_is_an_unknown_operation() -> None:
    with pytest.raises(UnknownOperationError, match="1999-01-01"):
        protocol_of("iam").parse(form("Action=ListUsers&Version=1999-01-01"))


@pytest.mark.parametrize("service", ["backup", "iam", "kms"])
@pytest.mark.parametrize(
    "result",
    [{"NoSuchMember": 1}, {"Tags": "not a list"}, {"Tags": [5]}, {"NextToken": 5}, {"Truncated": "yes"}],
    ids=str,
)
def test_a_result_that_does_not_fit_is_a_mistake_in_the_program(service: str, result: dict[str, Any]) -> None:
    name = {"backup": "ListTags", "iam": "ListUserTags", "kms": "ListResourceTags"}[service]
    with pytest.raises(ResultError):
        protocol_of(service).result(protocol_of(service).service.operations[name], result, "an-id")


def test_an_instant_without_a_time_zone_is_a_mistake_in_the_program() -> None:
    protocol = protocol_of("backup")
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the mistake that is refused
    with pytest.raises(ResultError, match="time zone"):
        protocol.result(protocol.service.operations["DescribeBackupJob"], {"CreationDate": naive}, "an-id")


def test_members_that_are_none_are_left_out() -> None:
    protocol = protocol_of("backup")
    result = {"BackupJobId": None, "State": "CREATED"}
    reply = protocol.result(protocol.service.operations["DescribeBackupJob"], result, "an-id")
    assert reply.body == b'{"State":"CREATED"}'


def test_a_result_without_an_output_shape_has_no_body() -> None:
    protocol = protocol_of("backup")
    deleted = protocol.service.operations["DeleteBackupVault"]
    assert protocol.result(deleted, {}, "an-id").body == b""
    with pytest.raises(ResultError, match="no output"):
        protocol.result(deleted, {"Anything": 1}, "an-id")


@pytest.mark.parametrize(
    ("operation", "status"),
    [("CancelLegalHold", 201), ("CreateRestoreTestingPlan", 201), ("PutRestoreValidationResult", 204)],
)
def test_the_model_s_own_status_is_sent(operation: str, status: int) -> None:
    protocol = protocol_of("backup")
    assert protocol.result(protocol.service.operations[operation], {}, "an-id").status == status


def test_what_xml_cannot_carry_is_replaced() -> None:
    reply = protocol_of("iam").error(ErrorReply("NoSuchEntity", "a\x00b\x1bc\rd<e>&", 404), "an-id")
    assert "<Message>a\ufffdb\ufffdc&#13;d&lt;e&gt;&amp;</Message>" in reply.body.decode()


@pytest.fixture(scope="module")
def headed() -> RestJsonProtocol:
    """A service whose parameters and results are also in headers, in the status and in a payload."""
    shapes = {
        "Text": {"type": "string"},
        "Count": {"type": "integer"},
        "Moment": {"type": "timestamp"},
        "Bytes": {"type": "blob"},
        "Texts": {"type": "list", "member": {"shape": "Text"}},
        "Input": {
            "type": "structure",
            "payload": "Body",
            "members": {
                "Since": {"shape": "Moment", "location": "header", "locationName": "If-Modified-Since"},
                "Only": {"shape": "Texts", "location": "querystring", "locationName": "only"},
                "Body": {"shape": "Bytes"},
            },
        },
        "Output": {
            "type": "structure",
            "payload": "Inner",
            "members": {
                "Kind": {"shape": "Text", "location": "header", "locationName": "X-Kind"},
                "At": {"shape": "Moment", "location": "header", "locationName": "Last-Modified"},
                "Status": {"shape": "Count", "location": "statusCode"},
                "Inner": {"shape": "Inner"},
            },
        },
        "Inner": {"type": "structure", "members": {"Name": {"shape": "Text", "locationName": "name"}}},
    }
    operation = {
        "name": "Do",
        "http": {"method": "PUT", "requestUri": "/things"},
        "input": {"shape": "Input"},
        "output": {"shape": "Output"},
    }
    metadata = {"protocol": "rest-json", "apiVersion": "2026-01-01", "endpointPrefix": "made-up"}
    model = {"metadata": metadata, "operations": {"Do": operation}, "shapes": shapes}
    service: Service = compiled_service("made-up", model)
    return RestJsonProtocol(service)


def test_headers_query_and_payload_are_read(headed: RestJsonProtocol) -> None:
    sent = {"host": "localhost", "if-modified-since": "Fri, 02 Jan 2026 03:04:05 GMT"}
    parsed = headed.parse(HttpRequest("PUT", "/things", "only=a&only=b%20c", sent, b"\x00\xff"))
    assert parsed.parameters == {
        "Since": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "Only": ["a", "b c"],
        "Body": b"\x00\xff",
    }


def test_headers_status_and_payload_are_written(headed: RestJsonProtocol) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    result = {"Kind": "thing", "At": at, "Status": 202, "Inner": {"Name": "n"}}
    reply = headed.result(headed.service.operations["Do"], result, "an-id")
    assert (reply.status, reply.body) == (202, b'{"name":"n"}')
    assert dict(reply.headers)["X-Kind"] == "thing"
    assert dict(reply.headers)["Last-Modified"] == "Fri, 02 Jan 2026 03:04:05 GMT"
