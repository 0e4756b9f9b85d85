"""The json protocol (1.0 and 1.1): the operation in a header, JSON in and out; `organizations` and `kms` speak it."""

from collections.abc import Mapping
from typing import Any

import orjson

from holdfast.wire.jsonbody import ResultError, read_object, reader, write_object
from holdfast.wire.message import HttpReply, HttpRequest
from holdfast.wire.model import Operation, Service
from holdfast.wire.protocol import ErrorReply, Parsed, UnknownOperationError, request_id_headers
from holdfast.wire.validation import InvalidParametersError, Problem


class JsonProtocol:
    """Reads and answers the calls of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._content_type = ("Content-Type", f"application/x-amz-json-{service.json_version}")

    def parse(self, request: HttpRequest) -> Parsed:
        """Return the operation a request names, and its parameters, which are still to be validated.

        Raises:
            MalformedBodyError: the body is not a JSON object.
            UnknownOperationError: the service has no such operation.
            InvalidParametersError: parameters are of the wrong type.
        """
        target = request.headers.get("x-amz-target", "")
        prefix, _, name = target.rpartition(".")
        operation = self.service.operations.get(name) if prefix == self.service.target_prefix else None
        if operation is None:
            raise UnknownOperationError(f"{self.service.name} has no operation {target or '(no X-Amz-Target given)'}")
        body = read_object(request.body)
        problems: list[Problem] = []
        parameters = {} if operation.input is None else reader(operation.input)(body, "", problems)
        if problems:
            raise InvalidParametersError(problems)
        return Parsed(operation, parameters)

    def result(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> HttpReply:
        """Return the reply that carries a handler's result.

        Raises:
            ResultError: the result does not fit the operation's output.
        """
        if operation.output is not None:
            body = write_object(operation.output, result)
        elif result:
            raise ResultError(f"{operation.name} has no output, but the result has {', '.join(result)}")
        else:
            body = b""
        return HttpReply(operation.status, (self._content_type, *request_id_headers(request_id)), body)

    def error(self, error: ErrorReply, request_id: str) -> HttpReply:
        """Return the reply that tells of an error."""
        modelled = self.service.errors.get(error.code)
        message = "Message" if modelled is not None and "Message" in modelled.members else "message"
        body = orjson.dumps({"__type": error.code, message: error.message, **error.members})
        headers = (self._content_type, *request_id_headers(request_id), ("x-amzn-ErrorType", error.code))
        return HttpReply(error.status, headers, body)
