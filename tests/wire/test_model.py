"""Models: which services there are, and that what they say is what we do."""

from typing import Any

import pytest
from botocore.exceptions import UnknownServiceError
from tests.wire.shapes import described

from holdfast.wire.application import protocol_of
from holdfast.wire.errors import CODES, EVERYWHERE
from holdfast.wire.model import SERVICES, load_service
from holdfast.wire.shape import compiled_pattern

# Codes that AWS's services answer with though their models do not name them.
COMMON = {
    "AccessDenied",
    "AccessDeniedException",
    "AlreadyExistsException",
    "ConflictException",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAction",
    "InvalidRequestException",
    "InvalidResourceStateException",
    "LimitExceededException",
    "MalformedInput",
    "ResourceNotFoundException",
    "SerializationException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
    "Throttling",
    "ThrottlingException",
    "UnknownOperationException",
    "UnsupportedOperationException",
    "ValidationError",
    "ValidationException",
}


@pytest.mark.parametrize(("signing_name", "service"), SERVICES.items())
def test_a_signature_names_a_service_as_botocore_does(signing_name: str, service: str) -> None:
    assert described(service).signing_name == signing_name
    assert load_service(service).signing_name == signing_name
    assert set(load_service(service).operations) == set(described(service).operation_names)


def test_a_service_without_a_model_is_an_error() -> None:
    with pytest.raises(UnknownServiceError):
        load_service("teapot")


@pytest.mark.parametrize("service", SERVICES.values())
def test_every_pattern_of_a_model_can_be_matched(service: str) -> None:
    shapes = [described(service).shape_for(name) for name in described(service).shape_names]
    patterns = {shape.metadata["pattern"] for shape in shapes if "pattern" in shape.metadata}
    unreadable = {pattern for pattern in patterns if "\\uDBFF" in pattern}  # see the table of other patterns
    for pattern in patterns - unreadable:
        compiled_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        (r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$", ["", "größe 12", "日本"], ["a\n", "!", "a\tb"]),
        (r"[\w+=,.@-]+", ["a.b@c"], ["ü", "", "a b"]),
        (r"^[0-9]{12}$", ["123456789012"], ["123456789012\n", "1234567890123", "\u0661" * 12]),
        (r"[\u0020-\u007E]+", ["a b"], ["ü"]),
    ],
)
def test_a_pattern_of_java_matches_whole_values_as_java_does(
    pattern: str, fits: list[str], fits_not: list[str]
) -> None:
    assert [value for value in fits if not compiled_pattern(pattern).fullmatch(value)] == []
    assert [value for value in fits_not if compiled_pattern(pattern).fullmatch(value)] == []


@pytest.mark.parametrize("service", ["backup", "organizations", "iam", "sts", "kms", "holdfast"])
def test_every_code_of_the_table_is_one_that_clients_of_the_service_know(service: str) -> None:
    known = set(load_service(service).errors) | COMMON
    codes = {each.get(service, each[EVERYWHERE]).code for each in CODES.values()}
    assert codes - known == set()


def test_the_codes_of_our_own_service_are_all_in_its_model() -> None:
    modelled = set(load_service("holdfast").errors)
    told_before_the_model = {"ExpiredTokenException", "SerializationException", "UnknownOperationException"}
    codes = {each.get("holdfast", each[EVERYWHERE]).code for each in CODES.values()}
    assert codes - modelled - told_before_the_model == set()


def test_the_extension_describes_itself_as_the_others_do() -> None:
    service: Any = described("holdfast")
    for name in service.operation_names:
        operation = service.operation_model(name)
        assert operation.documentation, name
        assert {"ValidationException", "AccessDeniedException"} <= {each.name for each in operation.error_shapes}
        if name.startswith("Put"):
            thing = name.removeprefix("Put")
            assert {"ExpectedVersion", "Tags", "Name"} <= set(operation.input_shape.members), name
            assert {"Version", "Tags", "Name"} <= set(service.shape_for(thing).members), thing
            assert {f"{verb}{thing}" for verb in ("Describe", "Delete")} <= set(service.operation_names)
            kept = set(operation.input_shape.members) - {"ExpectedVersion"}
            assert kept - set(service.shape_for(thing).members) <= {"Value"}, "only a secret's value is write-only"


def test_a_protocol_is_made_once() -> None:
    assert protocol_of("backup") is protocol_of("backup")
