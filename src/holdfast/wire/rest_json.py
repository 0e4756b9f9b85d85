"""The rest-json protocol: the operation in method and path, parameters in path, query, headers and a JSON body."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import orjson

from holdfast.wire import timestamps
from holdfast.wire.jsonbody import (
    MalformedBodyError,
    ResultError,
    check_members,
    check_scalar,
    read_object,
    reader,
    writer,
)
from holdfast.wire.message import HttpReply, HttpRequest
from holdfast.wire.model import Operation, Service
from holdfast.wire.protocol import ErrorReply, Parsed, UnknownOperationError, request_id_headers
from holdfast.wire.query import TEXT_SCALARS, text_of
from holdfast.wire.routing import Router
from holdfast.wire.shape import Shape
from holdfast.wire.validation import Fault, InvalidParametersError, Problem, shown

_CONTENT_TYPE = ("Content-Type", "application/json")
_NO_CONTENT = 204


class RestJsonProtocol:
    """Reads and answers the calls of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._router = Router(service.operations.values())

    def parse(self, request: HttpRequest) -> Parsed:
        """Return the operation a request names, and its parameters, which are still to be validated.

        Raises:
            MalformedBodyError: path, query or body cannot be read.
            UnknownOperationError: the service has no such operation.
            InvalidParametersError: parameters are of the wrong type.
        """
        # Such parts vanish from the path that is signed, so what they mean is not what was signed.
        if not {"", ".", ".."}.isdisjoint(request.path.split("/")[1:-1]) or request.path.endswith(("/.", "/..")):
            sentence = "a name in the path is empty or made of dots only; every name in it is required"
            raise InvalidParametersError([Problem("the path", Fault.MISSING, sentence)])
        try:
            query = request.query_pairs
            route = self._router.find(request.method, request.path, dict(query))
        except ValueError as error:
            raise MalformedBodyError("Path and query of the request must be UTF-8 with percent escapes") from error
        if route is None:
            raise UnknownOperationError(f"{self.service.name} has no operation {request.method} {request.path[:200]}")
        parameters: dict[str, Any] = {}
        problems: list[Problem] = []
        if route.operation.input is not None:
            plan = _input_plan(route.operation.input)
            plan.read_body(request.body, parameters, problems)
            for name, shape, wire_name in plan.labels:
                parameters[name] = _from_text(shape, name, route.labels[wire_name], problems)
            if plan.query:
                _read_query(plan.query, query, parameters, problems)
            for name, shape, wire_name in plan.headers:
                if wire_name in request.headers:
                    parameters[name] = _from_text(shape, name, request.headers[wire_name], problems)
        if problems:
            raise InvalidParametersError(problems)
        return Parsed(route.operation, parameters)

    def result(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> HttpReply:
        """Return the reply that carries a handler's result.

        Raises:
            ResultError: the result does not fit the operation's output.
        """
        headers = [_CONTENT_TYPE, *request_id_headers(request_id)]
        if operation.output is None:
            if result:
                raise ResultError(f"{operation.name} has no output, but the result has {', '.join(result)}")
            return HttpReply(operation.status, tuple(headers), b"")
        status, body = operation.status, {}
        for name, value in check_members(operation.output, result).items():
            member = operation.output.members[name]
            if value is None:
                continue
            if member.location == "header":
                headers.append((member.wire_name or name, _header_text(member, value)))
            elif member.location == "statusCode":
                status = check_scalar(member, "integer", value)
            else:
                body[member.wire_name or name] = writer(member)(value)
        payload = operation.output.payload
        if payload is not None:
            # The payload member is the whole body; bytes and text go as they are.
            whole = result.get(payload)
            content = whole if isinstance(whole, bytes) else whole.encode() if isinstance(whole, str) else None
            if content is None:
                content = orjson.dumps(next(iter(body.values()), {}))
            return HttpReply(status, tuple(headers), content)
        return HttpReply(status, tuple(headers), b"" if status == _NO_CONTENT else orjson.dumps(body))

    def error(self, error: ErrorReply, request_id: str) -> HttpReply:
        """Return the reply that tells of an error: its code in a header, where clients look first."""
        modelled = self.service.errors.get(error.code)
        message = "message" if modelled is not None and "message" in modelled.members else "Message"
        blame = "Client" if error.status < 500 else "Server"  # noqa: PLR2004 - HTTP's own border
        body = {"Code": error.code, message: error.message, "Context": None, "Type": blame, **error.members}
        headers = (_CONTENT_TYPE, *request_id_headers(request_id), ("x-amzn-ErrorType", error.code))
        return HttpReply(error.status, headers, orjson.dumps(body))


_Member = tuple[str, Shape, str]


class _InputPlan:
    """Where each parameter of an operation comes from, worked out once."""

    def __init__(self, shape: Shape) -> None:
        at: dict[str | None, list[_Member]] = {}
        for name, member in shape.members.items():
            at.setdefault(member.location, []).append((name, member, member.wire_name or name))
        self.labels = at.get("uri", [])
        self.query = {wire_name: (name, member) for name, member, wire_name in at.get("querystring", [])}
        self.headers = [(name, member, wire_name.lower()) for name, member, wire_name in at.get("header", [])]
        self.read_body = _body_reader(shape, at.get(None, []))


@cache
def _input_plan(shape: Shape) -> _InputPlan:
    return _InputPlan(shape)


def _body_reader(shape: Shape, members: list[_Member]) -> Callable[[bytes, dict[str, Any], list[Problem]], None]:
    if shape.payload is not None:
        name, payload = shape.payload, shape.members[shape.payload]

        def read_payload(body: bytes, parameters: dict[str, Any], problems: list[Problem]) -> None:
            if payload.kind == "blob":
                parameters[name] = body
            elif body:
                parameters[name] = reader(payload)(read_object(body), name, problems)

        return read_payload
    readers = {wire_name: (name, reader(member)) for name, member, wire_name in members}

    def read(body: bytes, parameters: dict[str, Any], problems: list[Problem]) -> None:
        if not readers:
            return
        for wire_name, value in read_object(body).items():
            known = readers.get(wire_name)
            if known is not None and value is not None:
                name, read_one = known
                parameters[name] = read_one(value, name, problems)

    return read


def _read_query(
    members: Mapping[str, tuple[str, Shape]],
    pairs: list[tuple[str, str]],
    parameters: dict[str, Any],
    problems: list[Problem],
) -> None:
    for wire_name, text in pairs:
        known = members.get(wire_name)
        if known is None:
            continue
        name, shape = known
        if shape.kind == "list" and shape.element is not None:
            parameters.setdefault(name, []).append(_from_text(shape.element, name, text, problems))
        elif name in parameters:
            problems.append(Problem(name, Fault.TYPE, f"{name} is given twice"))
        else:
            parameters[name] = _from_text(shape, name, text, problems)


def _from_text(shape: Shape, name: str, text: str, problems: list[Problem]) -> Any:
    wanted, convert = TEXT_SCALARS[shape.kind]
    try:
        return convert(text)
    except (ValueError, OverflowError):
        problems.append(Problem(name, Fault.TYPE, f"{name} must be {wanted}, but is {shown(shape, text)!r}"))
        return None


def _header_text(shape: Shape, value: Any) -> str:
    if shape.kind == "timestamp" and shape.timestamp_format is None:
        return timestamps.to_http_date(check_scalar(shape, "timestamp", value))
    return text_of(shape, shape.kind, value)
