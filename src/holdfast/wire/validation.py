"""Parameters against their shapes: what is missing, out of range, too long, malformed or not in the list."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Protocol

from holdfast.wire.shape import Shape, compiled_pattern

_MOST_PROBLEMS = 10
_MOST_SHOWN = 100
_NUL = "\x00"
"""The one character that a text column cannot hold on every database."""


class Fault(Enum):
    """What kind of mistake a problem is."""

    MISSING = "missing"
    TYPE = "type"
    ENUM = "enum"
    PATTERN = "pattern"
    TOO_SHORT = "too short"
    TOO_LONG = "too long"
    TOO_SMALL = "too small"
    TOO_LARGE = "too large"
    UNION = "union"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the parameters of a call: where, what kind, and in words."""

    path: str
    fault: Fault
    sentence: str


class InvalidParametersError(Exception):
    """The parameters of a call do not fit their shapes."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(each.sentence for each in problems))
        self.problems = tuple(problems)


class _Check(Protocol):
    def __call__(self, value: Any, path: str, problems: list[Problem]) -> None: ...


def validate(shape: Shape | None, parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that do not fit their shape; members the shape does not know are not looked at.

    Raises:
        InvalidParametersError: with up to ten of the problems.
    """
    if shape is None:
        return
    problems: list[Problem] = []
    _check_for(shape)(parameters, "", problems)
    if problems:
        raise InvalidParametersError(problems[:_MOST_PROBLEMS])


def shown(shape: Shape, value: Any) -> str:
    """Return a value as an error may quote it: shortened, and not at all where it is a secret."""
    if shape.sensitive:
        return "***"
    text = str(value)
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "..."


def below(path: str, member: str) -> str:
    """Return the path of a member below `path`."""
    return f"{path}.{member}" if path else member


@cache
def _check_for(shape: Shape) -> _Check:
    match shape.kind:
        case "structure":
            return _structure_check(shape)
        case "list":
            return _list_check(shape)
        case "map":
            return _map_check(shape)
        case "string":
            return _string_check(shape)
        case "blob":
            return _length_check(shape)
        case "integer" | "long" | "float" | "double":
            return _number_check(shape)
        case _:
            return _nothing


def _nothing(value: Any, path: str, problems: list[Problem]) -> None:
    """Accept any value."""


def _structure_check(shape: Shape) -> _Check:
    checks: dict[str, _Check] = {}

    def check(value: Any, path: str, problems: list[Problem]) -> None:
        if not checks:  # made on the first use, because shapes may contain themselves
            checks.update({name: _check_for(member) for name, member in shape.members.items()})
        for name in shape.required:
            if value.get(name) is None:
                where = below(path, name)
                problems.append(Problem(where, Fault.MISSING, f"{where} is required but was not given"))
        if shape.union and len(value) != 1:
            where, names = path or shape.name, ", ".join(shape.members)
            problems.append(Problem(where, Fault.UNION, f"{where} takes exactly one of {names}"))
        for name, one in value.items():
            if len(problems) >= _MOST_PROBLEMS:
                return
            if one is not None and name in checks:
                checks[name](one, below(path, name), problems)

    return check


def _list_check(shape: Shape) -> _Check:
    length = _length_check(shape)
    element = shape.element

    def check(value: Any, path: str, problems: list[Problem]) -> None:
        length(value, path, problems)
        assert element is not None  # noqa: S101 - a list has an element, by its kind
        check_one = _check_for(element)
        if check_one is _nothing:
            return
        for number, one in enumerate(value):
            if len(problems) >= _MOST_PROBLEMS:
                return
            check_one(one, f"{path}[{number}]", problems)

    return check


def _map_check(shape: Shape) -> _Check:
    length = _length_check(shape)
    key, value_shape = shape.key, shape.value

    def check(value: Any, path: str, problems: list[Problem]) -> None:
        length(value, path, problems)
        assert key is not None and value_shape is not None  # noqa: S101, PT018 - a map has both, by its kind
        check_key, check_value = _check_for(key), _check_for(value_shape)
        for name, one in value.items():
            if len(problems) >= _MOST_PROBLEMS:
                return
            check_key(name, f"{path}[{shown(key, name)}]", problems)
            check_value(one, f"{path}[{shown(key, name)}]", problems)

    return check


def _length_check(shape: Shape) -> _Check:
    least, most = shape.minimum, shape.maximum
    unit = {"list": "items", "map": "entries", "blob": "bytes"}.get(shape.kind, "characters")

    def check(value: Any, path: str, problems: list[Problem]) -> None:
        length = len(value)
        if least is not None and length < least:
            sentence = f"{path} has {length} {unit}, but needs at least {least:g}"
            problems.append(Problem(path, Fault.TOO_SHORT, sentence))
        elif most is not None and length > most:
            sentence = f"{path} has {length} {unit}, but may have {most:.0f} at most"
            problems.append(Problem(path, Fault.TOO_LONG, sentence))

    return _nothing if least is None and most is None else check


def _string_check(shape: Shape) -> _Check:
    length, enum = _length_check(shape), shape.enum
    pattern = compiled_pattern(shape.pattern) if shape.pattern else None

    def check(value: Any, path: str, problems: list[Problem]) -> None:
        before = len(problems)
        if _NUL in value:
            problems.append(Problem(path, Fault.PATTERN, f"{path} holds the character U+0000, which no text may hold"))
            return
        if enum is not None and value not in enum:
            sentence = f"{path} is {shown(shape, value)!r}, but takes one of {', '.join(sorted(enum))}"
            problems.append(Problem(path, Fault.ENUM, sentence))
            return
        length(value, path, problems)
        if len(problems) == before and pattern is not None and not pattern.fullmatch(value):
            sentence = f"{path} is {shown(shape, value)!r}, which does not match the pattern {shape.pattern}"
            problems.append(Problem(path, Fault.PATTERN, sentence))

    return check


def _number_check(shape: Shape) -> _Check:
    # Integers are 32 bits and longs 64 on the wire, whatever narrower range the model gives.
    width = {"integer": 31, "long": 63}.get(shape.kind)
    floor, ceiling = (None, None) if width is None else (-(2**width), 2**width - 1)
    least = floor if shape.minimum is None else shape.minimum
    most = ceiling if shape.maximum is None else shape.maximum

    def check(value: Any, path: str, problems: list[Problem]) -> None:
        if least is not None and value < least:
            sentence = f"{path} is {shown(shape, value)}, but must be at least {least}"
            problems.append(Problem(path, Fault.TOO_SMALL, sentence))
        elif most is not None and value > most:
            sentence = f"{path} is {shown(shape, value)}, but must be at most {most}"
            problems.append(Problem(path, Fault.TOO_LARGE, sentence))

    return check
