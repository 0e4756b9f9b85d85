"""Wildcards of policies: `*` and `?` in actions, ARNs and condition values, with policy variables in between.

Rules: AWS Identity and Access Management User Guide, "IAM JSON policy elements: Resource", "... Action", "... Condition
operators" and "IAM policy elements: Variables and tags".

Every pattern becomes one regular expression that never backtracks over more than one wildcard, so that nobody can make
the evaluator slow with a policy full of asterisks.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from holdfast.core.errors import InvalidInputError

Values = Mapping[str, tuple[str, ...]]
"""What a request says of itself: condition keys in lower case, each with its values."""

_ARN_PARTS = 6
_VARIABLE = re.compile(r"\$\{(?P<inside>[^}]*)\}")
_INSIDE = re.compile(r"\s*(?P<key>[A-Za-z0-9][A-Za-z0-9:/_.+=@ -]*?)\s*(?:,\s*'(?P<default>[^']*)'\s*)?\Z")
_ESCAPES = frozenset("*?$")


class InvalidPatternError(InvalidInputError):
    """A pattern or a policy variable in a policy document is not well formed."""


@dataclass(frozen=True, slots=True)
class Variable:
    """`${key}` or `${key, 'default'}`: replaced by what the request says of itself."""

    key: str
    default: str | None

    def value(self, values: Values) -> str | None:
        """Return what stands for it in this request, or None when there is nothing."""
        found = values.get(self.key)
        if found is not None and len(found) == 1:
            return found[0]
        return self.default


@dataclass(frozen=True, slots=True)
class Exact:
    """Text whose asterisks and question marks mean themselves."""

    text: str


Part = str | Exact | Variable
"""A piece of a template; a plain string may hold wildcards."""


@dataclass(frozen=True, slots=True)
class Template:
    """A text of a policy, cut at its variables."""

    parts: tuple[Part, ...]

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables that must be replaced before the text means anything."""
        return tuple(part for part in self.parts if isinstance(part, Variable))

    def resolve(self, values: Values) -> "Template | None":
        """Return the text with every variable replaced, or None when one has no value."""
        resolved: list[Part] = []
        for part in self.parts:
            if isinstance(part, Variable):
                value = part.value(values)
                if value is None:
                    return None
                resolved.append(Exact(value))
            else:
                resolved.append(part)
        return Template(tuple(resolved))

    def literal(self) -> str:
        """Return the text of a template without variables, wildcards meaning themselves."""
        return "".join(part.text if isinstance(part, Exact) else part for part in _split(self))


def parse_template(text: str, *, with_variables: bool) -> Template:
    """Return `text` cut at its policy variables; without variables `${` means itself.

    Raises:
        InvalidPatternError: a variable is not closed, empty, or not of the form `${key}` or `${key, 'default'}`.
    """
    if not with_variables or "${" not in text:
        return Template((text,))
    parts: list[Part] = []
    at = 0
    while (start := text.find("${", at)) >= 0:
        found = _VARIABLE.match(text, start)
        if found is None:
            raise InvalidPatternError(f"the policy variable in {text!r} is not closed: a }} is missing")
        if start > at:
            parts.append(text[at:start])
        inside = found["inside"]
        if inside in _ESCAPES:
            parts.append(Exact(inside))
        else:
            form = _INSIDE.match(inside)
            if form is None:
                raise InvalidPatternError(
                    f"${{{inside}}} in {text!r} is not a policy variable; write ${{key}} or ${{key, 'default'}}"
                )
            parts.append(Variable(form["key"].lower(), form["default"]))
        at = found.end()
    if at < len(text):
        parts.append(text[at:])
    return Template(tuple(parts))


# A wildcard is compiled as one of four: across anything, or inside one colon-separated part only.
_STAR, _STAR_INSIDE, _ONE, _ONE_INSIDE = object(), object(), object(), object()
_Token = object
_CLASS = {_ONE: ".", _ONE_INSIDE: "[^:]"}


def _split(template: Template) -> list[str | Exact]:
    """Return the parts of a resolved template."""
    parts: list[str | Exact] = []
    for part in template.parts:
        if isinstance(part, Variable):
            raise TypeError("a template is resolved before it is compiled")
        parts.append(part)
    return parts


def _plain_tokens(template: Template) -> list[_Token]:
    tokens: list[_Token] = []
    for part in _split(template):
        if isinstance(part, Exact):
            tokens.append(part.text)
        else:
            tokens += [_STAR if c == "*" else _ONE if c == "?" else c for c in part]
    return tokens


def _arn_tokens(template: Template, *, resource: bool) -> list[_Token]:
    """Return the tokens of an ARN pattern.

    In a Resource an asterisk stays inside its part of the ARN unless it is that part's last character; in a condition
    it stays inside, but the last of the six parts may hold colons. An ARN with parts missing ends in anything.
    """
    parts = _split(template)
    colons = sum(part.count(":") for part in parts if isinstance(part, str))
    missing = _ARN_PARTS - 1 - colons
    if missing > 0:
        parts = [*parts, ":*" * missing]
    tokens: list[_Token] = []
    seen_colons = 0
    for index, part in enumerate(parts):
        if isinstance(part, Exact):
            tokens.append(part.text)
            continue
        for position, c in enumerate(part):
            if c == ":":
                seen_colons += 1
            last_of_all = position + 1 == len(part) and index + 1 == len(parts)
            ends_part = last_of_all or (position + 1 < len(part) and part[position + 1] == ":")
            in_resource_part = seen_colons >= _ARN_PARTS - 1
            if c == "*":
                crosses = ends_part if resource else in_resource_part
                tokens.append(_STAR if crosses else _STAR_INSIDE)
            elif c == "?":
                tokens.append(_ONE if in_resource_part and not resource else _ONE_INSIDE)
            else:
                tokens.append(c)
    return tokens


def _expression(tokens: Sequence[_Token]) -> str:
    """Return a regular expression, to be matched from the start, that matches as the tokens say.

    The earliest match of what stands between two wildcards leaves most room for the rest, so each such piece is atomic:
    once found it is not searched again. Only the last wildcard is greedy, and only it can be stepped back.
    """
    pieces: list[tuple[_Token | None, str]] = [(None, "")]
    for token in tokens:
        if token is _STAR or token is _STAR_INSIDE:
            wildcard, piece = pieces[-1]
            if wildcard is not None and not piece:
                pieces[-1] = (_STAR if _STAR in {wildcard, token} else _STAR_INSIDE, "")
            else:
                pieces.append((token, ""))
        else:
            text = _CLASS[token] if token in _CLASS else re.escape(str(token))
            wildcard, piece = pieces[-1]
            pieces[-1] = (wildcard, piece + text)
    # Chunks are what stands between two wildcards that cross everything.
    chunks: list[list[str]] = [[pieces[0][1]]]
    for wildcard, piece in pieces[1:]:
        if wildcard is _STAR:
            chunks.append([piece])
        else:
            chunks[-1].append(piece)
    written: list[str] = []
    for number, chunk in enumerate(chunks):
        is_last = number + 1 == len(chunks)
        inner = chunk[0]
        for index, piece in enumerate(chunk[1:], start=1):
            ends_all = is_last and index + 1 == len(chunk)
            inner += f"[^:]*{piece}" if ends_all else f"(?>[^:]*?{piece})"
        if number == 0:
            written.append(inner)
        elif is_last:
            written.append(f".*{inner}")
        else:
            written.append(f"(?>.*?{inner})")
    return "".join(written) + r"\Z"


@lru_cache(maxsize=8192)
def _compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression, re.DOTALL)


def text_pattern(template: Template) -> str:
    """Return the regular expression for a text in which `*` and `?` may stand for anything."""
    return _expression(_plain_tokens(template))


def resource_pattern(template: Template) -> str:
    """Return the regular expression for an ARN in a Resource element."""
    if template.parts == ("*",):
        return r".*\Z"
    return _expression(_arn_tokens(template, resource=True))


def arn_pattern(template: Template) -> str:
    """Return the regular expression for an ARN in a condition, whose six parts are matched one by one."""
    if template.parts == ("*",):
        return r".*\Z"
    return _expression(_arn_tokens(template, resource=False))


def matches_any(expressions: Iterable[str], text: str) -> bool:
    """Return whether one of the regular expressions that this module made matches `text`."""
    return any(_compiled(expression).match(text) is not None for expression in expressions)


def union(expressions: Iterable[str]) -> re.Pattern[str]:
    """Return one compiled expression that matches what any of the given ones matches."""
    return _compiled("|".join(f"(?:{expression})" for expression in expressions))
