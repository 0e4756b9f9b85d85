"""The query protocol: a form in, XML out; `iam`, `sts`, `cloudformation` and `sns` speak it."""

import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from holdfast.wire import timestamps
from holdfast.wire.jsonbody import MalformedBodyError, ResultError, check_members, check_scalar, decode_blob
from holdfast.wire.message import HttpReply, HttpRequest, decoded_pairs
from holdfast.wire.model import Operation, Service
from holdfast.wire.protocol import ErrorReply, Parsed, UnknownOperationError, request_id_headers
from holdfast.wire.shape import Shape
from holdfast.wire.validation import Fault, InvalidParametersError, Problem, below, shown

_DEEPEST = 24
_CONTENT_TYPE = ("Content-Type", "text/xml")

# A form's keys as a tree: `Tags.member.1.Key=x` is {"Tags": {"member": {"1": {"Key": {"": "x"}}}}}; the value of a
# key itself stands under the empty name.
_Tree = dict[str, Any]


class QueryProtocol:
    """Reads and answers the calls of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def parse(self, request: HttpRequest) -> Parsed:
        """Return the operation a request names, and its parameters, which are still to be validated.

        Raises:
            MalformedBodyError: the form cannot be read.
            UnknownOperationError: the service has no such operation in this version.
            InvalidParametersError: parameters are of the wrong type.
        """
        tree = form_tree(request)
        operation = self._operation(tree)
        problems: list[Problem] = []
        parameters = {} if operation.input is None else _reader(operation.input)(tree, "", problems)
        if problems:
            raise InvalidParametersError(problems)
        return Parsed(operation, parameters)

    def _operation(self, tree: _Tree) -> Operation:
        action = tree.get("Action", {}).get("", "")
        version = tree.get("Version", {}).get("", self.service.api_version)
        operation = self.service.operations.get(action)
        if operation is None or version != self.service.api_version:
            raise UnknownOperationError(f"Could not find operation {action} for version {version}")
        return operation

    def result(self, operation: Operation, result: Mapping[str, Any], request_id: str) -> HttpReply:
        """Return the reply that carries a handler's result.

        Raises:
            ResultError: the result does not fit the operation's output.
        """
        body = ""
        if operation.output is not None:
            body = _writer(operation.output)(result)
            wrapper = operation.output.result_wrapper
            body = f"<{wrapper}>{body}</{wrapper}>" if wrapper else body
        elif result:
            raise ResultError(f"{operation.name} has no output, but the result has {', '.join(result)}")
        document = (
            f'<{operation.name}Response xmlns="{self.service.xml_namespace}">{body}'
            f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation.name}Response>"
        )
        return HttpReply(operation.status, (_CONTENT_TYPE, *request_id_headers(request_id)), document.encode())

    def error(self, error: ErrorReply, request_id: str) -> HttpReply:
        """Return the reply that tells of an error."""
        blame = "Sender" if error.status < 500 else "Receiver"  # noqa: PLR2004 - HTTP's own border
        members = "".join(f"<{name}>{_text(str(value))}</{name}>" for name, value in error.members.items())
        document = (
            f'<ErrorResponse xmlns="{self.service.xml_namespace}"><Error><Type>{blame}</Type>'
            f"<Code>{_text(error.code)}</Code><Message>{_text(error.message)}</Message>{members}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return HttpReply(error.status, (_CONTENT_TYPE, *request_id_headers(request_id)), document.encode())


def form_tree(request: HttpRequest) -> _Tree:
    """Return the keys of a request's form, or of its query string where it has no body, as a tree.

    Raises:
        MalformedBodyError: it is not a form, a key is given twice, or keys are nested beyond reason.
    """
    try:
        body = request.body.decode("ascii")
        pairs = decoded_pairs(body, plus_is_space=True) if body else request.query_pairs
    except ValueError as error:
        raise MalformedBodyError("The form of the request is not UTF-8 with percent escapes") from error
    tree: _Tree = {}
    for key, value in pairs:
        parts = key.split(".")
        if len(parts) > _DEEPEST or not all(parts):
            raise MalformedBodyError(f"The form has a key that means nothing: {key[:100]}")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        if "" in node:
            raise MalformedBodyError(f"The form gives {key} twice")
        node[""] = value
    return tree


_Reader = Callable[[_Tree, str, list[Problem]], Any]
_Writer = Callable[[Any], str]


@cache
def _reader(shape: Shape) -> _Reader:
    match shape.kind:
        case "structure":
            return _structure_reader(shape)
        case "list":
            return _list_reader(shape)
        case "map":
            return _map_reader(shape)
        case kind:
            return _scalar_reader(shape, kind)


def _structure_reader(shape: Shape) -> _Reader:
    readers: dict[str, tuple[str, _Reader]] = {}

    def read(node: _Tree, path: str, problems: list[Problem]) -> dict[str, Any]:
        if not readers:  # made on the first use, because shapes may contain themselves
            readers.update({_key(member, name): (name, _reader(member)) for name, member in shape.members.items()})
        result = {}
        for wire_name, below_node in node.items():
            known = readers.get(wire_name)
            if known is not None:
                name, read_one = known
                result[name] = read_one(below_node, below(path, name), problems)
        return result

    return read


def _key(member: Shape, name: str) -> str:
    if member.kind == "list" and member.flattened and member.element is not None and member.element.wire_name:
        return member.element.wire_name
    return member.wire_name or name


def _list_reader(shape: Shape) -> _Reader:
    element = shape.element
    if element is None:
        raise TypeError("a list has an element")
    name = element.wire_name or "member"

    def read(node: _Tree, path: str, problems: list[Problem]) -> list[Any]:
        _refuse_value(node, path, shape, problems)
        items = node if shape.flattened else node.get(name, {})
        read_one = _reader(element)
        return [
            read_one(one, f"{path}[{number}]", problems) for number, one in enumerate(_in_order(items, path, problems))
        ]

    return read


def _map_reader(shape: Shape) -> _Reader:
    key, value = shape.key, shape.value
    if key is None or value is None:
        raise TypeError("a map has a key and a value")
    key_name, value_name = key.wire_name or "key", value.wire_name or "value"

    def read(node: _Tree, path: str, problems: list[Problem]) -> dict[str, Any]:
        _refuse_value(node, path, shape, problems)
        entries = node if shape.flattened else node.get("entry", {})
        read_key, read_value = _reader(key), _reader(value)
        result = {}
        for number, entry in enumerate(_in_order(entries, path, problems)):
            where = f"{path}[{number}]"
            name = read_key(entry.get(key_name, {}), f"{where}.{key_name}", problems)
            result[name] = read_value(entry.get(value_name, {}), f"{where}.{value_name}", problems)
        return result

    return read


def _refuse_value(node: _Tree, path: str, shape: Shape, problems: list[Problem]) -> None:
    """Note a value where only parts belong; an empty one is how clients send an empty list."""
    if node.get(""):
        sentence = f"{path} must be a {shape.kind}, but is {shown(shape, node[''])!r}"
        problems.append(Problem(path, Fault.TYPE, sentence))


def _in_order(items: _Tree, path: str, problems: list[Problem]) -> list[_Tree]:
    numbered = {each: node for each, node in items.items() if each}
    if not all(each.isascii() and each.isdigit() and len(each) < 8 for each in numbered):  # noqa: PLR2004 - an index
        sentence = f"{path} is a list, so its keys in the form need numbers ({path}.member.1), not {min(numbered)[:40]}"
        problems.append(Problem(path, Fault.TYPE, sentence))
        return []
    return [numbered[each] for each in sorted(numbered, key=int)]


def _scalar_reader(shape: Shape, kind: str) -> _Reader:
    wanted, convert = TEXT_SCALARS[kind]

    def read(node: _Tree, path: str, problems: list[Problem]) -> Any:
        text = node.get("")
        if text is None or len(node) > 1:
            problems.append(Problem(path, Fault.TYPE, f"{path} must be {wanted}, but the form gives it parts"))
            return None
        try:
            return convert(text)
        except (ValueError, OverflowError):
            problems.append(Problem(path, Fault.TYPE, f"{path} must be {wanted}, but is {shown(shape, text)!r}"))
            return None

    return read


def _boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


def _integer(text: str) -> int:
    if not text.isascii() or len(text) > 20 or "_" in text:  # noqa: PLR2004 - longer than any number of 64 bits
        raise ValueError(text)
    return int(text)


TEXT_SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "string": ("a string", str),
    "character": ("a string", str),
    "boolean": ("true or false", _boolean),
    "integer": ("a whole number", _integer),
    "long": ("a whole number", _integer),
    "float": ("a number", float),
    "double": ("a number", float),
    "timestamp": ("an instant (ISO 8601)", timestamps.from_text),
    "blob": ("base64", decode_blob),
}
"""How scalars are read from text: of forms, and of paths, query strings and headers."""


@cache
def _writer(shape: Shape) -> _Writer:
    match shape.kind:
        case "structure":
            return _structure_writer(shape)
        case "list":
            return _list_writer(shape)
        case "map":
            return _map_writer(shape)
        case kind:
            return lambda value: _text(text_of(shape, kind, value))


def _structure_writer(shape: Shape) -> _Writer:
    writers: dict[str, _Writer] = {}

    def write(value: Any) -> str:
        if not writers:
            writers.update({name: _member_writer(name, member) for name, member in shape.members.items()})
        return "".join(writers[name](one) for name, one in check_members(shape, value).items() if one is not None)

    return write


def _member_writer(name: str, member: Shape) -> _Writer:
    write = _writer(member)
    if member.flattened and member.kind in {"list", "map"}:
        return write  # each item brings its own element
    tag = member.wire_name or name
    return lambda value: f"<{tag}>{write(value)}</{tag}>"


def _list_writer(shape: Shape) -> _Writer:
    element = shape.element
    if element is None:
        raise TypeError("a list has an element")
    tag = element.wire_name or (shape.wire_name if shape.flattened else None) or "member"

    def write(value: Any) -> str:
        if not isinstance(value, list | tuple):
            raise ResultError(f"{shape.name} is a list, but the result has {type(value).__name__}")
        write_one = _writer(element)
        return "".join(f"<{tag}>{write_one(one)}</{tag}>" for one in value)

    return write


def _map_writer(shape: Shape) -> _Writer:
    key, value_shape = shape.key, shape.value
    if key is None or value_shape is None:
        raise TypeError("a map has a key and a value")
    key_tag, value_tag = key.wire_name or "key", value_shape.wire_name or "value"
    entry = (shape.wire_name or shape.name) if shape.flattened else "entry"

    def write(value: Any) -> str:
        if not isinstance(value, dict):
            raise ResultError(f"{shape.name} is a map, but the result has {type(value).__name__}")
        write_key, write_value = _writer(key), _writer(value_shape)
        return "".join(
            f"<{entry}><{key_tag}>{write_key(name)}</{key_tag}><{value_tag}>{write_value(one)}</{value_tag}></{entry}>"
            for name, one in value.items()
        )

    return write


def text_of(shape: Shape, kind: str, value: Any) -> str:
    """Return a scalar of a result as text, in XML or in a header.

    Raises:
        ResultError: it is of another type than its shape.
    """
    check_scalar(shape, kind, value)
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        return timestamps.to_iso(value)
    if kind == "blob":
        return b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return str(value)


# What XML 1.0 cannot carry at all becomes the replacement character; a bare carriage return needs its escape.
_UNSPEAKABLE = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 0xFFFE, 0xFFFF), "\ufffd")


def _text(text: str) -> str:
    return escape(text, {"\r": "&#13;"}).translate(_UNSPEAKABLE)
