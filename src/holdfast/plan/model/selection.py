"""Selections: which resources a plan takes.

    chosen = (matches any of resources OR any of tags) AND all conditions AND none of the excluded resources

A selection that names neither resources nor tags begins with every resource. It is judged against a *class* of
resources (type, region, tags), so that a verdict holds for every resource of the class; only selections that name
single ARNs need the resource itself. Rules: AWS Backup Developer Guide, "Assigning resources to a backup plan"; API
Reference, BackupSelection and Conditions.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import lru_cache

import orjson

from holdfast.core.arn import partition_of
from holdfast.plan.model.resource_type import RESOURCE_TYPES

_TAG_CONDITION_PREFIX = "aws:ResourceTag/"
_TYPE_PATTERN = re.compile(r"\*|arn:[^:]+:[^:*]+:(?:\*|\*?:\*?:(?:[A-Za-z-]+[/:])?\*)")
_ANY = "\0"
"""Stands for an account or a name that is not known: only a star matches it."""


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
    def named_resources(self) -> list[str | tuple[str, ...]]:
        """What depends on the ARN of a resource and not on its class alone: patterns, and a tuple of whole ARNs."""
        named = [pattern for pattern in (*self.resources, *self.not_resources) if not is_type_pattern(pattern)]
        whole = tuple(arn for arn in named if "*" not in arn)
        return [*(pattern for pattern in named if "*" in pattern), *([whole] if whole else [])]

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
    regardless: bool = False
    """Whether it is taken also where its type is switched off: it was named by its ARN or by a pattern for its type."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """A clause that keeps a selection from taking a resource."""

    clause: str
    found: str | None
    """What the resource has instead, None when it has nothing of the kind."""
    is_far: bool = False
    """Whether nothing of the resource comes near what is asked for."""


def selects(selection: Selection, resource: ResourceClass, arn: str | None = None) -> Verdict:
    """Return whether `selection` takes resources of this class.

    Args:
        selection: what is asked for.
        resource: type, region and tags of the resource.
        arn: the resource's own ARN; without it a pattern that names single resources matches nothing.

    A resource without the tag that a `StringNotEquals` or `StringNotLike` condition names passes it. Tag keys and
    values are compared with regard to case.
    """
    for missing in unmet(selection, resource, arn):
        return Verdict(selected=False, clause=missing.clause)
    return _chosen_by(selection, resource, arn or _any_arn(resource))


def unmet(selection: Selection, resource: ResourceClass, arn: str | None = None) -> Iterator[Unmet]:
    """Yield each clause that keeps `selection` from taking a resource, the one that decides first."""
    whole = arn or _any_arn(resource)
    for pattern in selection.not_resources:
        if _matches(pattern, whole):
            yield Unmet(f"NotResources {pattern}", arn)
    if not _chosen_by(selection, resource, whole).selected:
        near = [(term, found) for term in selection.tags if (found := _tag_like(resource.tags, term.key)) is not None]
        if near:
            key, found = near[0][0].key, near[0][1]
            values = " or ".join(term.value for term, _ in near if term.key == key)
            yield Unmet(f"ListOfTags {key} = {values}", found)
        else:
            yield Unmet("neither Resources nor ListOfTags takes it", None, is_far=True)
    for condition in selection.conditions:
        if not _holds(condition, resource.tags):
            found = _tag_like(resource.tags, condition.key.removeprefix(_TAG_CONDITION_PREFIX))
            yield Unmet(f"{condition.operator} {condition.key} = {condition.value}", found)


def _tag_like(tags: Mapping[str, str], key: str) -> str | None:
    # The tag itself, else one whose key differs in case only.
    for known in sorted(tags, key=lambda each: (each != key, each)):
        if known.casefold() == key.casefold():
            return f"{known} = {tags[known]}"
    return None


def _chosen_by(selection: Selection, resource: ResourceClass, arn: str) -> Verdict:
    matching = [pattern for pattern in selection.resources if _matches(pattern, arn)]
    for pattern in matching:
        if _spells_type(pattern, resource.type):
            return Verdict(selected=True, clause=f"Resources {pattern}", regardless=True)
    if matching:
        return Verdict(selected=True, clause=f"Resources {matching[0]}")
    for term in selection.tags:
        if resource.tags.get(term.key) == term.value:
            return Verdict(selected=True, clause=f"ListOfTags {term.key} = {term.value}")
    if not selection.resources and not selection.tags:
        return Verdict(selected=True, clause="neither Resources nor ListOfTags, so every resource")
    return Verdict(selected=False, clause="")


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
    """Return whether a pattern means whole types (`*`, `arn:aws:ec2:*`, `arn:aws:ec2:*:*:volume/*`).

    Any other may tell resources of one class apart.
    """
    return _TYPE_PATTERN.fullmatch(pattern) is not None


def _spells_type(pattern: str, type_name: str) -> bool:
    # AWS Backup Developer Guide, "Service opt-in": a single ARN or the pattern of a type goes before the setting of the
    # region; `*` and the pattern of a whole service do not.
    kind = RESOURCE_TYPES[type_name]
    parts = pattern.split(":", 5)
    return len(parts) == 6 and parts[2] == kind.service and parts[5].startswith(kind.prefix)  # noqa: PLR2004 - of an ARN


def _any_arn(resource: ResourceClass) -> str:
    kind = RESOURCE_TYPES[resource.type]
    where = ":" if kind.name == "S3" else f"{resource.region}:{_ANY}"
    return f"arn:{partition_of(resource.region)}:{kind.service}:{where}:{kind.prefix}{_ANY}"


def _matches(pattern: str, arn: str) -> bool:
    return _arn_pattern(pattern).fullmatch(arn) is not None


@lru_cache(maxsize=4096)
def _arn_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
