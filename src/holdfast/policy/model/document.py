"""Policy documents: JSON read with the place of everything, and the operators that it holds.

Keys are the same whatever their letter case, and numbers, booleans and null count as strings (AWS Organizations User
Guide, "Backup policy syntax and examples" and "Inheritance operators").
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final, TypeAlias

from holdfast.core.errors import InvalidInputError

CONTROL: Final = "@@operators_allowed_for_child_policies"
OPERATOR_MARK: Final = "@@"
_DEEPEST: Final = 64

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(r"true|false|null")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_STRING = json.JSONDecoder()

Json: TypeAlias = "dict[str, Json] | list[Json] | Literal | str"
Value: TypeAlias = str | tuple[str, ...]


class Operator(StrEnum):
    """What a policy does to an inherited setting."""

    ASSIGN = "@@assign"
    APPEND = "@@append"
    REMOVE = "@@remove"


EVERY_OPERATOR: Final = frozenset(Operator)
CONTROL_VALUES: Final[Mapping[str, frozenset[Operator]]] = MappingProxyType(
    {"@@all": EVERY_OPERATOR, "@@none": frozenset()} | {operator.value: frozenset({operator}) for operator in Operator}
)


class Literal(str):
    """A JSON number, true, false or null, as it was spelled: `60` and `60.0` are different things to a policy."""

    __slots__ = ()


_REFUSAL = "The provided policy document does not meet the requirements of the specified policy type."


class MalformedPolicyError(InvalidInputError):
    """A policy document that its type does not admit.

    `reason` is a sentence, `pointer` the JSON pointer (RFC 6901) of the place, `offset` the character where it begins
    if the text could not be read as far as a pointer tells; `suggestion` is what was probably meant, if that is clear.
    """

    def __init__(
        self, reason: str, pointer: str = "", offset: int | None = None, *, suggestion: str | None = None
    ) -> None:
        meant = "" if suggestion is None else f"; did you mean {suggestion!r}?"
        super().__init__(f"{_REFUSAL} At {pointer or 'its top'}: {reason}{meant}")
        self.reason = reason
        self.pointer = pointer
        self.offset = offset
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Parsed:
    """A JSON text that was read: its value, and at which character the value of each JSON pointer begins."""

    text: str = field(repr=False)
    value: Json
    offsets: Mapping[str, int] = field(repr=False)

    def line_and_column(self, pointer: str) -> tuple[int, int]:
        """Return where the value at `pointer`, or what is nearest above it, begins; both count from 1."""
        while pointer not in self.offsets:
            pointer = pointer.rpartition("/")[0]
        return line_and_column(self.text, self.offsets[pointer])


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of the character at `offset`; both count from 1."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def child(pointer: str, key: str | int) -> str:
    """Return the JSON pointer of a member or element below `pointer`."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def parse(text: str, *, fold_keys: bool = True) -> Parsed:
    """Return the JSON value that `text` spells; with `fold_keys`, letter case makes no difference between keys.

    Raises:
        MalformedPolicyError: it is no JSON, nested too deeply, has a character that cannot be stored, or an object has
            a key twice.
    """
    reader = _Reader(text, fold_keys=fold_keys)
    value, end = reader.value(reader.skip(0), "", 0)
    end = reader.skip(end)
    if end != len(text):
        raise MalformedPolicyError("there is text after the end of the JSON document", offset=end)
    return Parsed(text, value, reader.offsets)


class _Reader:
    """Reads one JSON text from left to right and notes where each value begins."""

    def __init__(self, text: str, *, fold_keys: bool) -> None:
        self.text = text
        self.fold_keys = fold_keys
        self.offsets: dict[str, int] = {}

    def skip(self, at: int) -> int:
        space = _SPACE.match(self.text, at)
        return space.end() if space else at

    def value(self, at: int, pointer: str, depth: int) -> tuple[Json, int]:
        self.offsets[pointer] = at
        if depth > _DEEPEST:
            raise MalformedPolicyError(f"the document is nested more than {_DEEPEST} levels deep", pointer, at)
        start = self.text[at : at + 1]
        if start == "{":
            return self.object(at, pointer, depth)
        if start == "[":
            return self.array(at, pointer, depth)
        if start == '"':
            return self.string(at, pointer)
        literal = _WORD.match(self.text, at) or _NUMBER.match(self.text, at)
        if literal is None:
            what = f"{start!r} begins no JSON value" if start else "the document ends where a value is expected"
            raise MalformedPolicyError(what, pointer, at)
        return Literal(literal[0]), literal.end()

    def string(self, at: int, pointer: str) -> tuple[str, int]:
        try:
            text, end = _STRING.raw_decode(self.text, at)
        except json.JSONDecodeError as error:
            raise MalformedPolicyError(f"the string is no JSON: {error.msg}", pointer, error.pos) from None
        if _UNSTORABLE.search(text):
            raise MalformedPolicyError("a string holds a null character or half a surrogate pair", pointer, at)
        return text, end

    def array(self, at: int, pointer: str, depth: int) -> tuple[list[Json], int]:
        elements: list[Json] = []
        at = self.skip(at + 1)
        while self.text[at : at + 1] != "]":
            if elements:
                at = self.expect(",", at, pointer, "an element of the list")
            element, at = self.value(at, child(pointer, len(elements)), depth + 1)
            elements.append(element)
            at = self.skip(at)
        return elements, at + 1

    def object(self, at: int, pointer: str, depth: int) -> tuple[dict[str, Json], int]:
        members: dict[str, Json] = {}
        seen: dict[str, str] = {}
        at = self.skip(at + 1)
        while self.text[at : at + 1] != "}":
            if members:
                at = self.expect(",", at, pointer, "a member of the object")
            if self.text[at : at + 1] != '"':
                raise MalformedPolicyError("a key in double quotes is expected here", pointer, at)
            key, after_key = self.string(at, pointer)
            twin = seen.setdefault(key.lower() if self.fold_keys else key, key)
            if twin != key or key in members:
                what = "stands twice" if twin == key else f"and {twin!r} are the same key, letter case apart,"
                raise MalformedPolicyError(f"{key!r} {what} in one object", child(pointer, key), at)
            at = self.expect(":", self.skip(after_key), child(pointer, key), "the key")
            members[key], at = self.value(at, child(pointer, key), depth + 1)
            at = self.skip(at)
        return members, at + 1

    def expect(self, mark: str, at: int, pointer: str, after: str) -> int:
        if self.text[at : at + 1] != mark:
            raise MalformedPolicyError(f"{mark!r} is expected after {after}", pointer, at)
        return self.skip(at + 1)


@dataclass(frozen=True, slots=True)
class Node:
    """One place in a policy: what the policy does there, what it leaves to policies below, and the places under it."""

    operations: Mapping[Operator, Value] = field(default_factory=dict)
    control: frozenset[Operator] | None = None
    children: Mapping[str, "Node"] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def read(content: str) -> Node:
    """Return the places of an admitted policy, keys in lower case and scalars as strings.

    Value operators at the top of the document do nothing, as in AWS.

    Raises:
        MalformedPolicyError: `content` is no JSON object.
    """
    value = parse(content).value
    if not isinstance(value, dict):
        raise MalformedPolicyError("a policy is a JSON object")
    top = _node(value)
    return Node(control=top.control, children=top.children)


def _node(members: dict[str, Json]) -> Node:
    operations: dict[Operator, Value] = {}
    children: dict[str, Node] = {}
    allowed: frozenset[Operator] | None = None
    for key, member in members.items():
        folded = key.lower()
        if folded == CONTROL:
            allowed = _control(member)
        elif folded in EVERY_OPERATOR:
            operations[Operator(folded)] = _value(member)
        elif isinstance(member, dict) and not folded.startswith(OPERATOR_MARK):
            children[folded] = _node(member)
    return Node(operations, allowed, children)


def _control(member: Json) -> frozenset[Operator]:
    words = member if isinstance(member, list) else [member]
    known = [CONTROL_VALUES.get(word.lower(), frozenset()) for word in words if isinstance(word, str)]
    return frozenset().union(*known)


def _value(member: Json) -> Value:
    if isinstance(member, list):
        return tuple(str(element) for element in member if isinstance(element, str))
    return str(member) if isinstance(member, str) else ()
