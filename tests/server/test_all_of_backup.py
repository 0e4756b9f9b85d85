"""Every operation of AWS Backup gets an answer that a client can act on, also the ones that are not offered."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.running import MANAGEMENT, REGION, Running, found_organization

from holdfast.server.handlers import HANDLERS
from holdfast.wire.model import load_service
from holdfast.wire.shape import Shape, compiled_pattern

BACKUP = load_service("backup")
_EXAMPLES = (
    *("example-1", "example_1", MANAGEMENT, "aa:bb"),
    f"arn:aws:backup:{REGION}:{MANAGEMENT}:backup-vault:example",
    f"arn:aws:backup:{REGION}:{MANAGEMENT}:accesspoint/example",
)


def least(shape: Shape) -> Any:
    """The smallest value that the model lets through."""
    match shape.kind:
        case "structure":
            return {name: least(shape.members[name]) for name in shape.required}
        case "list":
            return [least(shape.element)] if shape.element is not None and shape.minimum else []
        case "map":
            return {}
        case "string" if shape.enum:
            return min(shape.enum)
        case "string":
            pattern = compiled_pattern(shape.pattern) if shape.pattern else re.compile(".*")
            return next(example for example in _EXAMPLES if pattern.fullmatch(example))
        case "integer" | "long":
            return int(shape.minimum or 1)
        case "boolean":
            return False
        case "timestamp":
            return datetime(2026, 1, 1, tzinfo=UTC)
        case other:
            raise AssertionError(f"no operation has needed a {other} so far")


@pytest.fixture(scope="module")
def server(dev_server: Running) -> Running:
    dev_server.reset()
    found_organization(dev_server)
    return dev_server


def asked(call: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Make a call; return the error that it answers, None if it answers well."""
    try:
        call(**parameters)
    except ClientError as refused:
        return refused.response
    return None


def test_every_operation_answers_or_refuses_in_words_and_none_breaks(server: Running) -> None:
    assert len(BACKUP.operations) == 115
    before = len(server.said())
    client = server.client("backup")
    methods = {operation: method for method, operation in client.meta.method_to_api_mapping.items()}
    for name, operation in BACKUP.operations.items():
        parameters = {} if operation.input is None else least(operation.input)
        answer = asked(getattr(client, methods[name]), parameters)
        if name not in HANDLERS["backup"]:
            assert answer is not None
            declared = client.meta.service_model.operation_model(name).error_shapes
            assert answer["Error"]["Code"] in {shape.name for shape in declared}, name
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400, "clients would try again"
            assert name in answer["Error"]["Message"]
        elif answer is not None:
            assert answer["ResponseMetadata"]["HTTPStatusCode"] in {400, 403}, (name, answer)
            assert answer["Error"]["Code"] in {*BACKUP.errors, "AccessDeniedException"}, (name, answer)
    assert "Traceback" not in server.said()[before:]
