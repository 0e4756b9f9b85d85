"""Inheritance: the policies on the way from the root to an account become one document, and every value its origin.

The rules (AWS Organizations User Guide, "Inheritance operators", "Inheritance examples"). Levels are taken from the
root down. At one level, at every place of the document:

1. the first attached policy that assigns sets the value, if assigning is allowed there; later ones are ignored;
2. then all appends, in the order of attachment, add what is not there yet;
3. then all removes take away;
4. afterwards what the policies of this level allow their descendants is cut down to what each of them allows.

A control binds descendants only. On a container it governs new keys directly beneath it: adding one needs append, and
a refused key takes everything under it along. A key is new if no level above wrote it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from holdfast.policy.model.document import EVERY_OPERATOR, Node, Operator, Value, read

TAG_POLICY: Final = "TAG_POLICY"


@dataclass(frozen=True, slots=True)
class Attached:
    """A policy as it is attached to a node."""

    policy_id: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Level:
    """One node on the path with the policies attached directly to it, in the order of attachment."""

    node_id: str
    policies: tuple[Attached, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of one policy, at the place where it stands."""

    operator: Operator
    operand: Value
    policy_id: str
    node_id: str

    def apply(self, value: Value | None) -> Value | None:
        """Return what this step makes of the value that was there before."""
        if self.operator is Operator.ASSIGN:
            return self.operand
        named = _elements(self.operand)
        if self.operator is Operator.APPEND:
            present = _elements(value)
            return present + tuple(element for element in dict.fromkeys(named) if element not in present)
        return None if value is None else tuple(element for element in _elements(value) if element not in named)


@dataclass(frozen=True, slots=True)
class Limit:
    """A control: from this node on, descendants may use these operators at most."""

    allowed: frozenset[Operator]
    policy_id: str
    node_id: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that a policy asked for and did not get, and why."""

    path: tuple[str, ...]
    policy_id: str
    node_id: str
    operator: Operator | None  # None: a new key was refused, with everything under it
    reason: str


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value of an effective document, and where it comes from."""

    path: tuple[str, ...]
    value: Value
    steps: tuple[Step, ...]  # what made the value, beginning with its last assignment, in the order it happened
    overrode: tuple[Step, ...]  # what held before and was replaced by the first of `steps`
    limits: tuple[Limit, ...]  # who cut down what descendants may still do here
    allowed: frozenset[Operator]  # what descendants may still do here

    @property
    def origin(self) -> Step:
        """The step that gave the value its present form."""
        return self.steps[-1]


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for an account: the document, the origin of every value in it, and what was asked for in vain."""

    document: dict[str, Any]
    leaves: tuple[Leaf, ...]
    ignored: tuple[Ignored, ...] = ()

    def contributors(self, path: Sequence[str]) -> tuple[str, ...]:
        """Return the ids of the policies that made the values at or below `path`, in order from the root."""
        found = {
            step.policy_id: None for leaf in self.leaves if leaf.path[: len(path)] == tuple(path) for step in leaf.steps
        }
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Place:
    """The state of one place of the document after some levels."""

    value: Value | None = None
    steps: tuple[Step, ...] = ()
    allowed: frozenset[Operator] = EVERY_OPERATOR
    limits: tuple[Limit, ...] = ()
    ignored: tuple[Ignored, ...] = ()
    children: Mapping[str, "Place"] = field(default_factory=dict)


NOTHING: Final = Place()


def effective(chain: Sequence[Level], *, policy_type: str = "BACKUP_POLICY") -> Effective:
    """Return what the policies on the path `chain`, from the root down, make together.

    Raises:
        MalformedPolicyError: a content is no JSON object; contents that were admitted never are.
    """
    state = NOTHING
    for level in chain:
        state = merge_level(state, level)
    return conclude(state, policy_type=policy_type)


def merge_level(above: Place, level: Level) -> Place:
    """Return the state after one more level; `above` stays as it is, so that many children can start from it."""
    policies = [(policy.policy_id, read(policy.content)) for policy in level.policies]
    return _merge(above, policies, level.node_id, ()) if policies else above


def _merge(above: Place, peers: list[tuple[str, Node]], node_id: str, path: tuple[str, ...]) -> Place:
    """Return one place after a level: `peers` are the policies that say something here, in order of attachment."""
    wishes = [
        Step(operator, peer.operations[operator], policy_id, node_id)
        for operator in Operator
        for policy_id, peer in peers
        if operator in peer.operations
    ]
    value, steps, ignored = above.value, list(above.steps), list(above.ignored)
    assigned_by: str | None = None
    for wish in wishes:
        if wish.operator not in above.allowed:
            ignored.append(_refused(wish, path, above.limits))
        elif wish.operator is Operator.ASSIGN and assigned_by is not None:
            reason = f"policy {assigned_by}, attached earlier to the same node, assigns here too"
            ignored.append(Ignored(path, wish.policy_id, node_id, wish.operator, reason))
        else:
            changed = wish.apply(value)
            if wish.operator is Operator.ASSIGN:
                assigned_by = wish.policy_id
            if wish.operator is Operator.ASSIGN or changed != value:
                steps.append(wish)
            value = changed
    limits = tuple(Limit(peer.control, policy_id, node_id) for policy_id, peer in peers if peer.control is not None)
    children, refused = _merge_children(above, peers, node_id, path)
    return Place(
        value=value,
        steps=tuple(steps),
        allowed=above.allowed.intersection(*(limit.allowed for limit in limits)),
        limits=above.limits + tuple(limit for limit in limits if limit.allowed != EVERY_OPERATOR),
        ignored=(*ignored, *refused),
        children=children,
    )


def _merge_children(
    above: Place, peers: list[tuple[str, Node]], node_id: str, path: tuple[str, ...]
) -> tuple[Mapping[str, Place], list[Ignored]]:
    children: dict[str, Place] = dict(above.children)
    refused: list[Ignored] = []
    for key in dict.fromkeys(key for _, peer in peers for key in peer.children):
        speakers = [(policy_id, peer.children[key]) for policy_id, peer in peers if key in peer.children]
        if key in above.children or Operator.APPEND in above.allowed:
            children[key] = _merge(above.children.get(key, NOTHING), speakers, node_id, (*path, key))
            continue
        reason = f"new keys may not be added here: {_limited(Operator.APPEND, above.limits)}"
        refused += [Ignored((*path, key), policy_id, node_id, None, reason) for policy_id, _ in speakers]
    return children, refused


def _refused(wish: Step, path: tuple[str, ...], limits: tuple[Limit, ...]) -> Ignored:
    reason = f"{wish.operator} is not allowed here: {_limited(wish.operator, limits)}"
    return Ignored(path, wish.policy_id, wish.node_id, wish.operator, reason)


def _limited(operator: Operator, limits: tuple[Limit, ...]) -> str:
    by = next(limit for limit in limits if operator not in limit.allowed)
    allowed = ", ".join(sorted(by.allowed)) or "nothing"
    return f"policy {by.policy_id} at {by.node_id} allows {allowed} to policies below"


def _elements(value: Value | None) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else value


def conclude(state: Place, *, policy_type: str = "BACKUP_POLICY") -> Effective:
    """Return the document of a state, without what holds no value, and the origins of its values."""
    document = _plain(state)
    if policy_type == TAG_POLICY:
        document = _with_tag_defaults(document, state)
    return Effective(document, tuple(_leaves(state, ())), tuple(_ignored(state)))


def _plain(place: Place) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, below in place.children.items():
        if below.value is not None:
            document[key] = below.value if isinstance(below.value, str) else list(below.value)
        elif inner := _plain(below):
            document[key] = inner
    return document


def _with_tag_defaults(document: dict[str, Any], state: Place) -> dict[str, Any]:
    """Return a tag policy with what AWS fills in: a rule without a spelling has its key's, without values takes any."""
    tags = state.children.get("tags", NOTHING)
    if not tags.children:
        return document
    rules = document.get("tags", {})
    filled = {key: {"tag_key": key, "tag_value": ["*"]} | rules.get(key, {}) for key in tags.children}
    return document | {"tags": filled}


def _leaves(place: Place, path: tuple[str, ...]) -> Iterator[Leaf]:
    for key, below in place.children.items():
        here = (*path, key)
        if below.value is None:
            yield from _leaves(below, here)
            continue
        assigned = [index for index, step in enumerate(below.steps) if step.operator is Operator.ASSIGN]
        start = assigned[-1] if assigned else 0
        yield Leaf(here, below.value, below.steps[start:], below.steps[:start], below.limits, below.allowed)


def _ignored(place: Place) -> Iterator[Ignored]:
    yield from place.ignored
    for below in place.children.values():
        yield from _ignored(below)


def replay(leaves: Sequence[Leaf]) -> dict[str, Any]:
    """Return the document that the steps of `leaves` make when they are done again, one after the other."""
    document: dict[str, Any] = {}
    for leaf in leaves:
        value: Value | None = None
        for step in (*leaf.overrode, *leaf.steps):
            value = step.apply(value)
        *above, last = leaf.path
        place = document
        for key in above:
            place = place.setdefault(key, {})
        place[last] = list(value) if isinstance(value, tuple) else value
    return document


def canonical(document: Mapping[str, Any]) -> str:
    """Return the one JSON text of a document: keys sorted, no spaces, characters as they are."""
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def document_id(policy_type: str, content: str) -> str:
    """Return the id of a document of this type with this canonical text: the same everywhere."""
    return hashlib.sha256(f"{policy_type}\n{content}".encode()).hexdigest()
