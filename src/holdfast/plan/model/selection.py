"""Selections: which resources a plan takes.

    chosen = (matches any of resources OR any of tags) AND all conditions AND none of the excluded resources

A selection is judged against a *class* of resources (type, region, tags), so that a verdict holds for every resource of
the class; only selections that name single ARNs need the resource itself. Rules: AWS Backup Developer Guide, "Assigning
resources to a backup plan" and API Reference, BackupSelection and Conditions.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache

import orjson

from holdfast.core.arn import Arn, InvalidArnError
from holdfast.plan.model.resource_type import RESOURCE_TYPES

_TAG_CONDITION_PREFIX = "aws:ResourceTag/"


class Operator(StrEnum):
    """How a condition compares a tag's value."""

    EQUALS = "StringEquals"
    NOT_EQUALS = "StringNotEquals"
    LIKE = "StringLike"
    NOT_LIKE = "StringNotLike"


@dataclass(frozen=True, slots=True)
class TagTerm:
    """A resource that carries this tag with this value is taken."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that must hold for every resource taken."""

    operator: Operator
    key: str
    """As clients write it: `aws:ResourceTag/KEY`."""
    value: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What a selection says, apart from its name and role: the same text in two plans is the same selection."""

    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    tags: tuple[TagTerm, ...] = ()
    conditions: tuple[Condition, ...] = ()

    @property
    def hash(self) -> str:
        """The content's address: equal selections have equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def names_single_resources(self) -> bool:
        """Whether a verdict depends on the ARN of the resource and not on its class alone."""
        return any(not is_type_pattern(pattern) for pattern in (*self.resources, *self.not_resources))

    def to_json(self) -> str:
        """Return it as canonical JSON."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS).decode()

    @classmethod
    def from_json(cls, text: str) -> "Selection":
        """Return the selection that `to_json` wrote."""
        body = orjson.loads(text)
        return cls(
            resources=tuple(body["resources"]),
            not_resources=tuple(body["not_resources"]),
            tags=tuple(TagTerm(**term) for term in body["tags"]),
            conditions=tuple(Condition(Operator(c["operator"]), c["key"], c["value"]) for c in body["conditions"]),
        )


@dataclass(frozen=True, slots=True)
class ResourceClass:
    """What resources have in common that a selection can ask for."""

    type: str
    region: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a selection takes a resource, and the clause of the selection that decided."""

    selected: bool
    clause: str


def selects(selection: Selection, resource: ResourceClass, arn: str | None = None) -> Verdict:
    """Return whether `selection` takes resources of this class.

    Args:
        selection: what is asked for.
        resource: type, region and tags of the resource.
        arn: the resource's own ARN; without it a pattern that names single resources matches nothing.

    A resource without the tag that a `StringNotEquals` or `StringNotLike` condition names passes it. Tag keys and
    values are compared with regard to case.
    """
    for pattern in selection.not_resources:
        if _matches(pattern, resource, arn):
            return Verdict(selected=False, clause=f"NotResources {pattern}")
    chosen = _chosen_by(selection, resource, arn)
    if chosen is None:
        return Verdict(selected=False, clause="neither Resources nor ListOfTags takes it")
    for condition in selection.conditions:
        if not _holds(condition, resource.tags):
            return Verdict(selected=False, clause=f"{condition.operator} {condition.key} = {condition.value}")
    return Verdict(selected=True, clause=chosen)


def _chosen_by(selection: Selection, resource: ResourceClass, arn: str | None) -> str | None:
    for pattern in selection.resources:
        if _matches(pattern, resource, arn):
            return f"Resources {pattern}"
    for term in selection.tags:
        if resource.tags.get(term.key) == term.value:
            return f"ListOfTags {term.key} = {term.value}"
    if not selection.resources and not selection.tags and selection.conditions:
        return "Conditions alone"
    return None


def _holds(condition: Condition, tags: Mapping[str, str]) -> bool:
    value = tags.get(condition.key.removeprefix(_TAG_CONDITION_PREFIX))
    match condition.operator:
        case Operator.EQUALS:
            return value == condition.value
        case Operator.NOT_EQUALS:
            return value != condition.value
        case Operator.LIKE:
            return value is not None and _like(condition.value).fullmatch(value) is not None
        case Operator.NOT_LIKE:
            return value is None or _like(condition.value).fullmatch(value) is None


@lru_cache(maxsize=4096)
def _like(pattern: str) -> re.Pattern[str]:
    # A star does not match white space: `prod*` misses `prod server`.
    return re.compile(r"\S*".join(re.escape(part) for part in pattern.split("*")))


def is_type_pattern(pattern: str) -> bool:
    """Return whether a pattern means whole types (`*`, `arn:aws:ec2:*`, `arn:aws:ec2:*:*:volume/*`)."""
    return _types_of(pattern) is not None


@lru_cache(maxsize=4096)
def _types_of(pattern: str) -> frozenset[str] | None:
    """Return the types that a pattern means as a whole, None when it names single resources."""
    if pattern == "*":
        return frozenset(RESOURCE_TYPES)
    parts = pattern.split(":", 5)
    if len(parts) < 3 or parts[0] != "arn":  # noqa: PLR2004 - arn, partition, service
        return frozenset()
    region_account = parts[3:5]
    if any(part not in {"*", ""} for part in region_account):
        return None
    resource = parts[5] if len(parts) > 5 else "*"  # noqa: PLR2004 - the sixth part
    of_service = [kind for kind in RESOURCE_TYPES.values() if parts[2] in {kind.service, "*"}]
    if resource == "*":
        return frozenset(kind.name for kind in of_service)
    exact = frozenset(kind.name for kind in of_service if resource in {f"{kind.prefix}*", kind.prefix})
    if exact or (resource.endswith("*") and not of_service):
        return exact
    return None if of_service else frozenset()


def _matches(pattern: str, resource: ResourceClass, arn: str | None) -> bool:
    types = _types_of(pattern)
    if types is not None:
        return resource.type in types
    if arn is None:
        return False
    try:
        Arn.parse(arn)
    except InvalidArnError:
        return False
    return _arn_pattern(pattern).fullmatch(arn) is not None


@lru_cache(maxsize=4096)
def _arn_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
