"""What the three protocols have in common: a request becomes an operation and parameters, a result a reply."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from holdfast.wire.message import HttpReply, HttpRequest
from holdfast.wire.model import Operation, Service


class UnknownOperationError(Exception):
    """A service has no such operation."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A request understood: which operation, with which parameters, of the right types but not yet validated."""

    operation: Operation
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as a client is told of it."""

    code: str
    message: str
    status: int = 400
    members: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the error, `Reason` for one."""


class WireProtocol(Protocol):
    """Reads the requests of one service and writes its replies."""

    service: Service

    def parse(self, request: HttpRequest) -> Parsed:
        """Return what a request asks for, or raise one of the errors that `wire/errors.py` knows."""

    def result(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> HttpReply:
        """Return the reply that carries a handler's result."""

    def error(self, error: ErrorReply, request_id: str) -> HttpReply:
        """Return the reply that tells of an error."""


def request_id_headers(request_id: str) -> tuple[tuple[str, str], ...]:
    """Return the header that carries the request's id, as every AWS service sends it."""
    return (("x-amzn-RequestId", request_id),)
