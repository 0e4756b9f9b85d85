"""What botocore's client writes, we read; what we write, botocore's client reads: for every operation."""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore import parsers, serialize
from botocore.auth import SigV4Auth
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.shapes import described, seeded, value_for

from holdfast.wire.application import protocol_of
from holdfast.wire.message import HttpRequest
from holdfast.wire.signature import SigningKeys, read_signature, verify

SERVICES = ["backup", "organizations", "iam", "sts", "kms", "holdfast", "resourcegroupstaggingapi", "cloudtrail"]
OPERATIONS = [(service, operation) for service in SERVICES for operation in described(service).operation_names]
SEEDS = st.integers(min_value=0, max_value=2**32)
# Hundreds of operations are each tried a few times here; the deep profile tries them more often.
EXAMPLES = max(settings.default.max_examples // 10, 3) if settings.default else 5


def sent(service: str, operation: str, parameters: dict[str, Any]) -> HttpRequest:
    """Return the signed request that botocore puts on the wire for a call."""
    model = described(service)
    protocol = protocol_of(service).service.protocol
    serializer = serialize.create_serializer(protocol, include_validation=False, timestamp_precision="millisecond")
    prepared = serializer.serialize_to_request(parameters, model.operation_model(operation))
    prepare_request_dict(prepared, "http://localhost:8420", context={})
    request = create_request_object(prepared)
    signing_name = protocol_of(service).service.signing_name
    SigV4Auth(Credentials("AKID", "secret"), signing_name, "eu-north-1").add_auth(request)
    final = request.prepare()
    parts = urlsplit(final.url)
    headers = [(name, value.decode() if isinstance(value, bytes) else value) for name, value in final.headers.items()]
    body = final.body.encode() if isinstance(final.body, str) else final.body or b""
    return HttpRequest.of(
        final.method, parts.path, parts.query, [*headers, ("host", parts.netloc)], body, source_ip="127.0.0.1"
    )


@pytest.mark.parametrize(("service", "operation"), OPERATIONS, ids="-".join)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_we_read_what_botocore_asks(service: str, operation: str, seed: int) -> None:
    shape = described(service).operation_model(operation).input_shape
    protocol = protocol_of(service)
    # A form cannot say that a structure or a map is empty.
    empty = protocol.service.protocol != "query"
    parameters = {} if shape is None else value_for(shape, seeded(seed), empty=empty)
    request = sent(service, operation, parameters)
    signature = read_signature(request)
    verify(request, signature, "secret", now=signature.signed_at, keys=SigningKeys())
    parsed = protocol.parse(request)
    assert parsed.operation.name == operation
    assert parsed.parameters == parameters


@pytest.mark.parametrize(("service", "operation"), OPERATIONS, ids="-".join)
@settings(max_examples=EXAMPLES)
@given(seed=SEEDS)
def test_botocore_reads_what_we_answer(service: str, operation: str, seed: int) -> None:
    protocol = protocol_of(service)
    shape: Any = described(service).operation_model(operation).output_shape
    result = {} if shape is None else value_for(shape, seeded(seed), empty=True)
    reply = protocol.result(protocol.service.operations[operation], result, "an-id")
    response = {
        "status_code": reply.status,
        "headers": {name.lower(): value for name, value in reply.headers},
        "body": reply.body,
    }
    understood = parsers.create_parser(protocol.service.protocol).parse(response, shape)
    metadata = understood.pop("ResponseMetadata")
    assert metadata["RequestId"] == "an-id"
    assert understood == result


def test_instants_keep_their_fractions() -> None:
    protocol = protocol_of("backup")
    instant = datetime(2026, 11, 23, 17, 5, 6, 789000, tzinfo=UTC)
    assert protocol.parse(sent("backup", "ListBackupJobs", {"ByCreatedAfter": instant})).parameters == {
        "ByCreatedAfter": instant
    }
    precise = instant.replace(microsecond=789012)
    reply = protocol.result(protocol.service.operations["DescribeBackupJob"], {"CreationDate": precise}, "an-id")
    assert reply.body == b'{"CreationDate":1795453506.789012}'
