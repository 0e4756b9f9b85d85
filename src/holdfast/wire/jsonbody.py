"""JSON bodies to parameters, and results to JSON bodies, by their shapes."""

import base64
import binascii
import json
import math
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import orjson

from holdfast.wire import timestamps
from holdfast.wire.shape import Shape
from holdfast.wire.validation import Fault, Problem, below, shown

Reader = Callable[[Any, str, list[Problem]], Any]
Writer = Callable[[Any], Any]


class MalformedBodyError(Exception):
    """A request's body is not what its protocol wants."""


class ResultError(TypeError):
    """A handler's result does not fit its operation's shape: a mistake in the program."""


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds; an empty body is an empty object.

    Raises:
        MalformedBodyError: it is not JSON, or not an object, or says something twice.
    """
    if not body:
        return {}
    try:
        value = orjson.loads(body)  # the strict one: RFC 8259 in UTF-8, no NaN, no halves of pairs, no deep nesting
        if isinstance(value, dict):
            json.loads(body, object_pairs_hook=_refuse_twice)
    except (orjson.JSONDecodeError, RecursionError) as error:
        raise MalformedBodyError(f"The body of the request is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedBodyError("The body of the request must be a JSON object")
    return value


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that has a member twice: whoever reads it may take either for what was meant."""
    if len({name for name, _ in pairs}) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedBodyError(f"The body of the request has the member {twice[:100]!r} twice in one object")


@cache
def reader(shape: Shape) -> Reader:
    """Return what turns a JSON value into a parameter of this shape, noting values of another type as problems."""
    match shape.kind:
        case "structure" if shape.document:
            return _as_it_is
        case "structure":
            return _structure_reader(shape)
        case "list":
            return _list_reader(shape)
        case "map":
            return _map_reader(shape)
        case kind:
            return _scalar_reader(shape, kind)


def _as_it_is(value: Any, _path: str, _problems: list[Problem]) -> Any:
    return value


def _wrong(path: str, wanted: str, value: Any, shape: Shape) -> Problem:
    return Problem(path, Fault.TYPE, f"{path} must be {wanted}, but is {shown(shape, value)!r}")


def _structure_reader(shape: Shape) -> Reader:
    readers: dict[str, tuple[str, Reader]] = {}

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if not readers:  # made on the first use, because shapes may contain themselves
            readers.update({member.wire_name or name: (name, reader(member)) for name, member in shape.members.items()})
        if not isinstance(value, dict):
            problems.append(_wrong(path or "the body", "an object", value, shape))
            return {}
        result = {}
        for wire_name, one in value.items():
            known = readers.get(wire_name)
            if known is not None and one is not None:
                name, read_one = known
                result[name] = read_one(one, below(path, name), problems)
        return result

    return read


def _list_reader(shape: Shape) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, list):
            problems.append(_wrong(path, "a list", value, shape))
            return []
        read_one = reader(_part(shape.element))
        return [read_one(one, f"{path}[{number}]", problems) for number, one in enumerate(value)]

    return read


def _map_reader(shape: Shape) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if not isinstance(value, dict):
            problems.append(_wrong(path, "an object", value, shape))
            return {}
        read_one = reader(_part(shape.value))
        return {name: read_one(one, f"{path}[{name}]", problems) for name, one in value.items() if one is not None}

    return read


def _part(shape: Shape | None) -> Shape:
    if shape is None:
        raise TypeError("a list has an element and a map a key and a value")
    return shape


def _scalar_reader(shape: Shape, kind: str) -> Reader:
    wanted, convert = _SCALARS[kind]

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        try:
            return convert(value)
        except (ValueError, TypeError, OverflowError):
            problems.append(_wrong(path, wanted, value, shape))
            return None

    return read


def _string(value: Any) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise TypeError


def _number(value: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    if value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    raise TypeError


def _instant(value: Any) -> datetime:
    if type(value) is int or type(value) is float:
        return timestamps.from_seconds(value)
    if type(value) is str:
        return timestamps.from_text(value)
    raise TypeError


def _blob(value: Any) -> bytes:
    if type(value) is not str:
        raise TypeError
    return decode_blob(value)


def decode_blob(text: str) -> bytes:
    """Return the bytes that `text` holds in base64.

    Raises:
        ValueError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


_SCALARS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "string": ("a string", _string),
    "character": ("a string", _string),
    "boolean": ("true or false", _boolean),
    "integer": ("a whole number", _integer),
    "long": ("a whole number", _integer),
    "float": ("a number", _number),
    "double": ("a number", _number),
    "timestamp": ("an instant (seconds since 1970, or ISO 8601)", _instant),
    "blob": ("base64", _blob),
}


def write_object(shape: Shape, result: Any) -> bytes:
    """Return a result of this shape as a JSON body.

    Raises:
        ResultError: the result does not fit the shape.
    """
    return orjson.dumps(writer(shape)(result))


@cache
def writer(shape: Shape) -> Writer:
    """Return what turns a result of this shape into JSON values."""
    match shape.kind:
        case "structure" if shape.document:
            return lambda value: value
        case "structure":
            return _structure_writer(shape)
        case "list":
            return _list_writer(shape)
        case "map":
            return _map_writer(shape)
        case "timestamp":
            return _timestamp_writer(shape)
        case kind:
            return _plain_writer(shape, kind)


def check_members(shape: Shape, value: Any) -> dict[str, Any]:
    """Return a structure's members, refusing what is not a structure of this shape.

    Raises:
        ResultError: it is not a dictionary, or it has members that the shape does not know.
    """
    if not isinstance(value, dict):
        raise ResultError(f"{shape.name} is a structure, but the result has {type(value).__name__}")
    if not value.keys() <= shape.members.keys():
        unknown = ", ".join(sorted(value.keys() - shape.members.keys()))
        raise ResultError(f"{shape.name} has no member {unknown}")
    return value


def _structure_writer(shape: Shape) -> Writer:
    writers: dict[str, tuple[str, Writer]] = {}

    def write(value: Any) -> Any:
        if not writers:
            writers.update({name: (member.wire_name or name, writer(member)) for name, member in shape.members.items()})
        result = {}
        for name, one in check_members(shape, value).items():
            if one is not None:
                wire_name, write_one = writers[name]
                result[wire_name] = write_one(one)
        return result

    return write


def _list_writer(shape: Shape) -> Writer:
    def write(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ResultError(f"{shape.name} is a list, but the result has {type(value).__name__}")
        write_one = writer(_part(shape.element))
        return [write_one(one) for one in value]

    return write


def _map_writer(shape: Shape) -> Writer:
    def write(value: Any) -> Any:
        if not isinstance(value, dict):
            raise ResultError(f"{shape.name} is a map, but the result has {type(value).__name__}")
        write_one = writer(_part(shape.value))
        for name in value:
            if not isinstance(name, str):
                raise ResultError(f"{shape.name} has strings as keys, but the result has {name!r}")
        return {name: write_one(one) for name, one in value.items()}

    return write


def _timestamp_writer(shape: Shape) -> Writer:
    form = {"iso8601": timestamps.to_iso, "rfc822": timestamps.to_http_date}.get(
        shape.timestamp_format or "", timestamps.to_seconds
    )

    def write(value: Any) -> Any:
        return form(check_scalar(shape, "timestamp", value))

    return write


def _plain_writer(shape: Shape, kind: str) -> Writer:
    def write(value: Any) -> Any:
        check_scalar(shape, kind, value)
        if kind == "blob":
            return base64.b64encode(value).decode()
        if isinstance(value, float) and not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return value

    return write


_PYTHON_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "character": str,
    "boolean": bool,
    "integer": int,
    "long": int,
    "float": (float, int),
    "double": (float, int),
    "timestamp": datetime,
    "blob": bytes,
}


def check_scalar(shape: Shape, kind: str, value: Any) -> Any:
    """Return a scalar of a result, refusing one of another type than its shape.

    Raises:
        ResultError: it is of another type, or an instant without a time zone.
    """
    if not isinstance(value, _PYTHON_TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        raise ResultError(f"{shape.name} is a {kind}, but the result has {value!r}")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ResultError(f"{shape.name} needs an instant with its time zone")
    return value
