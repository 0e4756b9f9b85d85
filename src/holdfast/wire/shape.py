"""The shapes of requests and answers, compiled once from a service's model."""

import re
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any


@dataclass(slots=True, eq=False)
class Shape:
    """One shape where it is used: its type, its constraints, and its place and name on the wire.

    Shapes refer to each other, also to themselves, so they are filled in after they are made, and then left alone.
    """

    name: str
    kind: str
    """structure, list, map, string, blob, timestamp, boolean, integer, long, float or double."""
    wire_name: str | None = None
    location: str | None = None
    """uri, querystring, header, headers or statusCode; None is the body."""
    timestamp_format: str | None = None
    flattened: bool = False
    sensitive: bool = False
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    """As the model writes it, for Java; `compiled_pattern` makes it one of ours."""
    enum: frozenset[str] | None = None
    members: dict[str, "Shape"] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    payload: str | None = None
    union: bool = False
    document: bool = False
    result_wrapper: str | None = None
    element: "Shape | None" = None
    key: "Shape | None" = None
    value: "Shape | None" = None


# Where a model's own words contradict what the service accepts. By service and shape, or service and member.
# AWS Backup Developer Guide, "Cross-account monitoring" (`*` for all accounts) and the API reference of the List...
# JobSummaries operations (ANY, AGGREGATE_ALL); the resource types of DescribeRegionSettings have spaces in them.
_OTHER_PATTERNS = {
    ("backup", "member:ByAccountId"): r"^(\*|[0-9]{12})$",
    ("backup", "member:AccountId"): r"^(ANY|AGGREGATE_ALL|[0-9]{12})$",
    ("backup", "ResourceType"): r"^[a-zA-Z0-9\-\_\. ]{1,50}$",
    # Escapes of five digits and of surrogates, which no regular expression reads as they were meant.
    ("sts", "arnType"): "[\t\n\r -\u007e\u0085\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+",
    ("cloudtrail", "PartitionKeyName"): r"[^\x00-\x08\x0a-\x1f]*",
    ("cloudtrail", "PartitionKeyType"): r"[^\x00-\x08\x0a-\x1f]*",
}
_MORE_VALUES = {
    # The guide's own examples spell the one condition type of a selection in mixed case.
    ("backup", "ConditionType"): {"StringEquals"},
}


class Shapes:
    """Compiles the shapes of one service, each once per place it is used in."""

    def __init__(self, service: str, raw: Mapping[str, Any]) -> None:
        self._service = service
        self._raw = raw
        self._made: dict[tuple[Any, ...], Shape] = {}

    def raw(self, name: str) -> Mapping[str, Any]:
        """Return a shape as the model file spells it."""
        found: Mapping[str, Any] = self._raw[name]
        return found

    def shape(self, reference: Mapping[str, Any], member: str = "") -> Shape:
        """Return the shape that `reference` (a shape's name, and traits of this use of it) stands for."""
        name = reference["shape"]
        raw = self._raw[name]
        wire_name = reference.get("locationName")
        other = _OTHER_PATTERNS.get((self._service, f"member:{member}")) if raw.get("pattern") else None
        key = (
            name,
            wire_name,
            reference.get("location"),
            reference.get("timestampFormat"),
            reference.get("flattened"),
            reference.get("resultWrapper"),
            other,
        )
        made = self._made.get(key)
        if made is not None:
            return made
        made = Shape(
            name=name,
            kind=raw["type"],
            wire_name=wire_name,
            location=reference.get("location"),
            timestamp_format=reference.get("timestampFormat") or raw.get("timestampFormat"),
            flattened=bool(reference.get("flattened") or raw.get("flattened")),
            sensitive=bool(raw.get("sensitive")),
            minimum=raw.get("min"),
            maximum=raw.get("max"),
            required=tuple(raw.get("required", ())),
            payload=raw.get("payload"),
            union=bool(raw.get("union")),
            document=bool(raw.get("document")),
            result_wrapper=reference.get("resultWrapper"),
        )
        self._made[key] = made
        made.pattern = other or _OTHER_PATTERNS.get((self._service, name)) or raw.get("pattern")
        if "enum" in raw:
            made.enum = frozenset(raw["enum"]) | _MORE_VALUES.get((self._service, name), set())
        made.members = {each: self.shape(use, each) for each, use in raw.get("members", {}).items()}
        if made.kind == "list":
            made.element = self.shape(raw["member"])
        if made.kind == "map":
            made.key, made.value = self.shape(raw["key"]), self.shape(raw["value"])
        return made


@cache
def compiled_pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a model, written for Java, as one of Python; it has to match the whole value."""
    translated = re.sub(r"\\p\{([A-Z][a-z]?)\}", lambda found: _category(found.group(1)), text)
    # In Java \w, \d and \s know ASCII only.
    return re.compile(translated, re.ASCII)


def _category(prefix: str) -> str:
    """Return the members of a Unicode category as ranges for the inside of a character class."""
    return "".join(f"\\U{low:08x}-\\U{high:08x}" for name, low, high in _category_ranges() if name.startswith(prefix))


@cache
def _category_ranges() -> tuple[tuple[str, int, int], ...]:
    """Return all code points as ranges of one category each."""
    ranges = []
    low, name = 0, unicodedata.category("\0")
    for point in range(1, sys.maxunicode + 2):
        other = unicodedata.category(chr(point)) if point <= sys.maxunicode else ""
        if other != name:
            ranges.append((name, low, point - 1))
            low, name = point, other
    return tuple(ranges)
