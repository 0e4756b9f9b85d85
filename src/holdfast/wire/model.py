"""The services as their models describe them: botocore's own, and Holdfast's extension in the same format."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from botocore.loaders import Loader

from holdfast.wire.shape import Shape, Shapes

MODEL_DIRECTORY = Path(__file__).parent / "models"
"""Where the extension's model is; in `AWS_DATA_PATH`, it lets boto3 and the AWS CLI call the extension."""

SERVICES = {
    "backup": "backup",
    "backup-gateway": "backup-gateway",
    "backup-search": "backupsearch",
    "cloudformation": "cloudformation",
    "cloudtrail": "cloudtrail",
    "holdfast": "holdfast",
    "iam": "iam",
    "kms": "kms",
    "mpa": "mpa",
    "organizations": "organizations",
    "ram": "ram",
    "sns": "sns",
    "sts": "sts",
    "tagging": "resourcegroupstaggingapi",
}
"""The services that are answered: the name in a signature's scope, and boto3's name. Models are read on first use."""

# The protocols we speak, the one that SDKs take first among several in front.
_PROTOCOLS = ("rest-json", "json", "query")


# Operations that name what is wrong with their input in words of their own: their handlers check it.
_CHECKED_BY_HANDLERS = frozenset(
    {
        ("organizations", "DescribeEffectivePolicy"),
        ("organizations", "ListAccountsWithInvalidEffectivePolicy"),
        ("organizations", "ListEffectivePolicyValidationErrors"),
    }
)


@dataclass(frozen=True, slots=True, eq=False)
class ErrorShape:
    """An error that a service's model names."""

    name: str
    code: str
    status: int | None
    members: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation of a service."""

    service: str
    name: str
    method: str
    uri: str
    status: int
    input: Shape | None
    output: Shape | None
    errors: tuple[str, ...]
    unsigned: bool
    """It is called without a signature, as AssumeRoleWithWebIdentity is."""
    idempotency_member: str | None = None
    """The member that clients fill with a token of their own, so that a call sent twice acts once."""


@dataclass(frozen=True, slots=True, eq=False)
class Service:
    """One service: its protocol, its operations and its errors."""

    name: str
    """As boto3 names it."""
    signing_name: str
    """As the scope of a signature names it."""
    api_version: str
    protocol: str
    target_prefix: str
    xml_namespace: str
    json_version: str
    operations: dict[str, Operation] = field(repr=False)
    errors: dict[str, ErrorShape] = field(repr=False)
    """By the code on the wire."""


@cache
def load_service(name: str) -> Service:
    """Return the service that boto3 calls `name`.

    Raises:
        botocore.exceptions.UnknownServiceError: there is no such model.
    """
    loader = Loader(extra_search_paths=[str(MODEL_DIRECTORY)])
    return compiled_service(name, loader.load_service_model(name, "service-2"))


def compiled_service(name: str, raw: Mapping[str, Any]) -> Service:
    """Return the service that a model describes, `raw` being the content of its file."""
    metadata = raw["metadata"]
    shapes = Shapes(name, raw["shapes"])
    spoken = metadata.get("protocols") or [metadata["protocol"]]
    operations = {each: _operation(name, shapes, one) for each, one in raw["operations"].items()}
    errors = [_error(each, one) for each, one in raw["shapes"].items() if one.get("exception")]
    return Service(
        name=name,
        signing_name=metadata.get("signingName") or metadata["endpointPrefix"],
        api_version=metadata["apiVersion"],
        protocol=next(each for each in _PROTOCOLS if each in spoken),
        target_prefix=metadata.get("targetPrefix", ""),
        xml_namespace=metadata.get("xmlNamespace", ""),
        json_version=metadata.get("jsonVersion", "1.1"),
        operations=operations,
        errors={each.code: each for each in errors},
    )


def _operation(service: str, shapes: Shapes, raw: Mapping[str, Any]) -> Operation:
    shape = shapes.shape(raw["input"]) if "input" in raw else None
    if shape is not None and (service, raw["name"]) in _CHECKED_BY_HANDLERS:
        shape = _unconstrained(shape)
    return Operation(
        service=service,
        name=raw["name"],
        method=raw["http"]["method"],
        uri=raw["http"]["requestUri"],
        status=raw["http"].get("responseCode", 200),
        input=shape,
        output=shapes.shape(raw["output"]) if "output" in raw else None,
        errors=tuple(each["shape"] for each in raw.get("errors", ())),
        unsigned=raw.get("authtype") == "none",
        idempotency_member=_idempotency_member(shapes, raw),
    )


def _unconstrained(shape: Shape) -> Shape:
    members = {
        name: replace(member, enum=None, pattern=None, minimum=None, maximum=None)
        for name, member in shape.members.items()
    }
    return replace(shape, required=(), members=members)


def _idempotency_member(shapes: Shapes, raw: Mapping[str, Any]) -> str | None:
    members = shapes.raw(raw["input"]["shape"]).get("members", {}) if "input" in raw else {}
    return next((name for name, one in members.items() if one.get("idempotencyToken")), None)


def _error(name: str, raw: Mapping[str, Any]) -> ErrorShape:
    described = raw.get("error", {})
    status = described.get("httpStatusCode")
    if status is None and raw.get("fault"):
        status = 500
    return ErrorShape(name, described.get("code", name), status, frozenset(raw.get("members", ())))
