"""Conditions of a policy statement: every operator of the policy language, as values that answer yes or no.

Rules: AWS Identity and Access Management User Guide, "IAM JSON policy elements: Condition operators" and
"Multivalued context keys".
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import lru_cache

from holdfast.access.model.pattern import (
    InvalidPatternError,
    Template,
    Values,
    arn_pattern,
    parse_template,
    text_pattern,
    union,
)
from holdfast.core.errors import InvalidInputError

Test = Callable[[str, Values], bool]
"""Whether one value of the request is one that the policy names."""

_QUALIFIERS = ("ForAllValues", "ForAnyValue")
_IF_EXISTS = "IfExists"
_KEYS_WITH_TAG = ("aws:requesttag", "aws:resourcetag", "aws:principaltag")
_KEY = re.compile(r"[^\s:]+:.+", re.DOTALL)
_W3C_DATE = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d{2})(-(?P<day>\d{2})"
    r"(?P<time>T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2}))?)?)?\Z",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?\Z")


class InvalidConditionError(InvalidInputError):
    """A condition in a policy document is not well formed."""


class Qualifier(Enum):
    """How a condition treats a key with several values."""

    NONE = ""
    ALL = "ForAllValues"
    ANY = "ForAnyValue"


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator applied to one key: `StringEquals` of `aws:RequestedRegion` to some values."""

    operator: str
    """As it is written in the policy."""
    key: str
    """As it is written in the policy."""
    values: tuple[str, ...]
    lookup: str
    """The key in lower case; keys are told apart without regard to case."""
    test: Test | None
    """None for Null, which asks only whether the key is there."""
    is_negated: bool
    if_exists: bool
    qualifier: Qualifier
    wants_absent: bool
    templates: tuple[Template, ...]

    def holds(self, request: Values) -> bool:
        """Return whether the request meets this condition."""
        present = request.get(self.lookup)
        if self.test is None:
            return (not present) is self.wants_absent
        if not present:
            if self.if_exists or self.qualifier is Qualifier.ALL:
                return True
            return self.is_negated and self.qualifier is Qualifier.NONE
        test = self.test
        if self.qualifier is Qualifier.ALL:
            return all(test(value, request) is not self.is_negated for value in present)
        if self.qualifier is Qualifier.ANY:
            return any(test(value, request) is not self.is_negated for value in present)
        return any(test(value, request) for value in present) is not self.is_negated


def _parse_number(text: str) -> Decimal | None:
    if _NUMBER.match(text) is None:
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _parse_date(text: str) -> datetime | None:
    """Return the instant that a date of W3C's profile of ISO 8601, or a number of seconds since 1970, names."""
    form = _W3C_DATE.match(text)
    try:
        # A year alone looks like a number of seconds; the profile's form is taken first.
        if form is not None:
            whole = text.upper() if form["time"] else f"{form['year']}-{form['month'] or '01'}-{form['day'] or '01'}"
            instant = datetime.fromisoformat(whole)
            return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
        number = _parse_number(text)
        return None if number is None else datetime.fromtimestamp(float(number), UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _equals(templates: Sequence[Template], *, ignore_case: bool) -> Test:
    def fold(text: str) -> str:
        return text.casefold() if ignore_case else text

    fixed = frozenset(fold(template.literal()) for template in templates if not template.variables)
    open_ones = tuple(template for template in templates if template.variables)
    if not open_ones:
        return lambda value, _request: fold(value) in fixed

    def test(value: str, request: Values) -> bool:
        folded = fold(value)
        if folded in fixed:
            return True
        resolved = (template.resolve(request) for template in open_ones)
        return any(one is not None and fold(one.literal()) == folded for one in resolved)

    return test


def _like(templates: Sequence[Template], expression: Callable[[Template], str], *, arn: bool) -> Test:
    fixed = [expression(template) for template in templates if not template.variables]
    fixed_union = union(fixed) if fixed else None
    open_ones = tuple(template for template in templates if template.variables)

    def test(value: str, request: Values) -> bool:
        if arn and not value.startswith("arn:"):
            return False
        if fixed_union is not None and fixed_union.match(value) is not None:
            return True
        for template in open_ones:
            resolved = template.resolve(request)
            if resolved is not None and union([expression(resolved)]).match(value) is not None:
                return True
        return False

    return test


def _numeric(values: Sequence[str], operator: str, compare: Callable[[Decimal, Decimal], bool]) -> Test:
    numbers = []
    for value in values:
        number = _parse_number(value)
        if number is None:
            raise InvalidConditionError(f"{operator} compares numbers, and {value!r} is not one")
        numbers.append(number)

    def test(value: str, _request: Values) -> bool:
        given = _parse_number(value)
        return given is not None and any(compare(given, number) for number in numbers)

    return test


def _dated(values: Sequence[str], operator: str, compare: Callable[[datetime, datetime], bool]) -> Test:
    instants = []
    for value in values:
        instant = _parse_date(value)
        if instant is None:
            raise InvalidConditionError(
                f"{operator} compares dates, and {value!r} is not one; write 2026-11-01T00:00:00Z or epoch seconds"
            )
        instants.append(instant)

    def test(value: str, _request: Values) -> bool:
        given = _parse_date(value)
        return given is not None and any(compare(given, instant) for instant in instants)

    return test


def _boolean(values: Sequence[str], operator: str) -> Test:
    wanted = {value.lower() for value in values}
    if not wanted <= {"true", "false"}:
        raise InvalidConditionError(f'{operator} takes "true" or "false", not {sorted(wanted)}')
    return lambda value, _request: value.lower() in wanted


def _binary(values: Sequence[str], operator: str) -> Test:
    wanted = set()
    for value in values:
        try:
            wanted.add(base64.b64decode(value, validate=True))
        except (binascii.Error, ValueError) as error:
            raise InvalidConditionError(f"{operator} takes base64, and {value!r} is not") from error

    def test(value: str, _request: Values) -> bool:
        try:
            return base64.b64decode(value, validate=True) in wanted
        except (binascii.Error, ValueError):
            return False

    return test


def _address(values: Sequence[str], operator: str) -> Test:
    networks = []
    for value in values:
        try:
            networks.append(ipaddress.ip_network(value, strict=False))
        except ValueError as error:
            raise InvalidConditionError(
                f"{operator} takes addresses such as 203.0.113.0/24 or 2001:db8::/32, not {value!r}"
            ) from error

    def test(value: str, _request: Values) -> bool:
        given = _parse_address(value)
        return given is not None and any(given in network for network in networks)

    return test


_TEXT_OPERATORS: dict[str, Callable[[Sequence[Template]], Test]] = {
    "StringEquals": lambda templates: _equals(templates, ignore_case=False),
    "StringEqualsIgnoreCase": lambda templates: _equals(templates, ignore_case=True),
    "StringLike": lambda templates: _like(templates, text_pattern, arn=False),
    "ArnEquals": lambda templates: _like(templates, arn_pattern, arn=True),
    "ArnLike": lambda templates: _like(templates, arn_pattern, arn=True),
}
_PLAIN_OPERATORS: dict[str, Callable[[Sequence[str], str], Test]] = {
    "NumericEquals": lambda values, name: _numeric(values, name, lambda a, b: a == b),
    "NumericLessThan": lambda values, name: _numeric(values, name, lambda a, b: a < b),
    "NumericLessThanEquals": lambda values, name: _numeric(values, name, lambda a, b: a <= b),
    "NumericGreaterThan": lambda values, name: _numeric(values, name, lambda a, b: a > b),
    "NumericGreaterThanEquals": lambda values, name: _numeric(values, name, lambda a, b: a >= b),
    "DateEquals": lambda values, name: _dated(values, name, lambda a, b: a == b),
    "DateLessThan": lambda values, name: _dated(values, name, lambda a, b: a < b),
    "DateLessThanEquals": lambda values, name: _dated(values, name, lambda a, b: a <= b),
    "DateGreaterThan": lambda values, name: _dated(values, name, lambda a, b: a > b),
    "DateGreaterThanEquals": lambda values, name: _dated(values, name, lambda a, b: a >= b),
    "Bool": _boolean,
    "BinaryEquals": _binary,
    "IpAddress": _address,
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
}
OPERATORS = frozenset({*_TEXT_OPERATORS, *_PLAIN_OPERATORS, *_NEGATED, "Null"})
"""Every base operator of the policy language."""


@lru_cache(maxsize=256)
def _base_of(written: str) -> tuple[str, Qualifier, bool]:
    """Return the base operator, the qualifier and whether IfExists was added; names are told apart by case."""
    qualifier = Qualifier.NONE
    name = written
    prefix, colon, rest = written.partition(":")
    if colon:
        if prefix not in _QUALIFIERS:
            raise InvalidConditionError(
                f"{written!r} is not a condition operator; the qualifiers are ForAllValues and ForAnyValue"
            )
        qualifier, name = Qualifier(prefix), rest
    if_exists = name.endswith(_IF_EXISTS)
    base = name.removesuffix(_IF_EXISTS)
    if base not in OPERATORS:
        near = next((known for known in sorted(OPERATORS) if known.lower() == base.lower()), None)
        hint = f"; did you mean {near}?" if near else ""
        raise InvalidConditionError(f"{written!r} is not a condition operator{hint}")
    if base == "Null" and (if_exists or qualifier is not Qualifier.NONE):
        raise InvalidConditionError(
            "Null asks whether a key is there at all, and takes neither IfExists nor a qualifier"
        )
    return base, qualifier, if_exists


def check_operator(operator: str) -> None:
    """Refuse what is no condition operator.

    Raises:
        InvalidConditionError: it is none.
    """
    _base_of(operator)


def parse_condition(operator: str, key: str, values: Sequence[str], *, with_variables: bool) -> Condition:
    """Return the condition that `operator`, `key` and `values` of a policy spell.

    Raises:
        InvalidConditionError: there is no such operator, the key is not one, or a value does not fit the operator.
    """
    base, qualifier, if_exists = _base_of(operator)
    lookup = key.lower()
    if _KEY.match(key) is None:
        raise InvalidConditionError(f"{key!r} is not a condition key; write service:Name, such as aws:SourceIp")
    if lookup.rstrip("/") in _KEYS_WITH_TAG:
        raise InvalidConditionError(f"{key} needs the key of a tag behind it: {key.rstrip('/')}/Department")
    if not values:
        raise InvalidConditionError(f"{operator} of {key} names no value")
    is_negated = base in _NEGATED
    positive = _NEGATED.get(base, base)
    templates: tuple[Template, ...] = ()
    test: Test | None = None
    wants_absent = False
    if positive in _TEXT_OPERATORS:
        try:
            templates = tuple(parse_template(value, with_variables=with_variables) for value in values)
        except InvalidPatternError as error:
            raise InvalidConditionError(str(error)) from error
        test = _TEXT_OPERATORS[positive](templates)
    else:
        if with_variables and any("${" in value for value in values):
            raise InvalidConditionError(f"{operator} takes no policy variables")
        if base == "Null":
            asked = {value.lower() for value in values}
            if asked not in ({"true"}, {"false"}):
                raise InvalidConditionError('Null takes "true" (the key is absent) or "false" (it is there)')
            wants_absent = asked == {"true"}
        else:
            test = _PLAIN_OPERATORS[positive](values, operator)
    return Condition(
        operator, key, tuple(values), lookup, test, is_negated, if_exists, qualifier, wants_absent, templates
    )
