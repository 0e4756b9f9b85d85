"""The grammar that management policies share: containers of named places, and leaves that hold operators.

A `Leaf` says what a value may be, a `Container` which keys it may have; `check` walks a document along them and
reports the first place that is not as it should be, with its JSON pointer.
"""

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from holdfast.policy.model.document import (
    CONTROL,
    CONTROL_VALUES,
    OPERATOR_MARK,
    Json,
    MalformedPolicyError,
    Operator,
    child,
)

ValueCheck: TypeAlias = Callable[[str], str | None]
"""Says what is wrong with a value, or None if it is right."""

Members: TypeAlias = dict[str, Json]
CrossCheck: TypeAlias = Callable[["Fragment"], None]
"""Looks at the members of one container together; raises MalformedPolicyError."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A place that holds a value: one, or a list."""

    value: ValueCheck
    is_list: bool = False
    may_be_empty: bool = True
    known: Collection[str] = ()
    """The values there are, where they can be listed."""


@dataclass(frozen=True, slots=True)
class Container:
    """A place that holds other places: fixed ones, or any number of a kind, whose names `name` checks."""

    fields: Mapping[str, "Leaf | Container"] = field(default_factory=dict)
    name: ValueCheck | None = None
    each: "Leaf | Container | None" = None
    what: str = "field"
    cross_check: CrossCheck | None = None


Place: TypeAlias = Leaf | Container


@dataclass(frozen=True, slots=True)
class Fragment:
    """The part of one document below one place, for checks that look at several fields together."""

    key: str
    pointer: str
    members: Mapping[str, Json]  # keys in lower case
    keys: Mapping[str, str]  # the same keys as they were written

    def has(self, key: str) -> bool:
        """Return whether the fragment has this member."""
        return key in self.members

    def below(self, key: str) -> "Fragment":
        """Return the fragment of a member; one without members if there is no such member."""
        member = self.members.get(key)
        return fragment_of(member if isinstance(member, dict) else {}, child(self.pointer, self.keys.get(key, key)))

    def below_each(self) -> Iterable["Fragment"]:
        """Return the fragments of all members that are no operators."""
        return [self.below(key) for key in self.members if not key.startswith(OPERATOR_MARK)]

    def assigned(self, key: str) -> str | None:
        """Return the value that a leaf of this fragment assigns, if it does."""
        value = self.below(key).members.get(Operator.ASSIGN)
        return str(value) if isinstance(value, str) else None

    def refuse(self, reason: str, key: str | None = None) -> MalformedPolicyError:
        """Return the error that says what is wrong here, or with the member `key`."""
        pointer = self.pointer if key is None else child(self.pointer, self.keys.get(key, key))
        return MalformedPolicyError(reason, pointer)


def fragment_of(members: Members, pointer: str) -> Fragment:
    """Return the fragment with these members at this pointer."""
    key = pointer.rpartition("/")[2].replace("~1", "/").replace("~0", "~")
    folded = {name.lower(): member for name, member in members.items()}
    return Fragment(key, pointer, folded, {name.lower(): name for name in members})


def check(place: Place, value: Json, pointer: str = "") -> None:
    """Check that `value` is what `place` admits, and everything below it.

    Raises:
        MalformedPolicyError: it is not; the error is the first one that `problems` gives.
    """
    for problem in problems(place, value, pointer):
        raise problem


def problems(place: Place, value: Json, pointer: str = "") -> Iterator[MalformedPolicyError]:
    """Yield everything in `value` that `place` does not admit, from top to bottom.

    What must stand together is looked at only where each part is right by itself.
    """
    if not isinstance(value, dict):
        hint = ': a value stands in an operator, as in {"@@assign": ...}' if isinstance(place, Leaf) else ""
        yield MalformedPolicyError(f"an object is expected here{hint}", pointer)
    elif isinstance(place, Leaf):
        yield from _leaf_problems(place, value, pointer)
    else:
        yield from _container_problems(place, value, pointer)


def _leaf_problems(leaf: Leaf, members: Members, pointer: str) -> Iterator[MalformedPolicyError]:
    for key, operand in members.items():
        here, folded = child(pointer, key), key.lower()
        if folded == CONTROL:
            yield from _control_problems(operand, here)
        elif folded not in set(Operator):
            known = [*Operator, CONTROL]
            reason = f"{key!r} is no operator; there are {', '.join(known)}"
            yield MalformedPolicyError(reason, here, suggestion=closest(key, known))
        elif not leaf.is_list and folded != Operator.ASSIGN:
            yield MalformedPolicyError(f"a single value can only be assigned, {key} is for lists", here)
        elif leaf.is_list:
            yield from _list_problems(leaf, operand, here, may_be_empty=leaf.may_be_empty or folded == Operator.REMOVE)
        else:
            yield from _value_problems(leaf, operand, here)


def _list_problems(leaf: Leaf, operand: Json, pointer: str, *, may_be_empty: bool) -> Iterator[MalformedPolicyError]:
    if not isinstance(operand, list):
        yield MalformedPolicyError("a list is expected here", pointer)
        return
    if not operand and not may_be_empty:
        yield MalformedPolicyError("the list must not be empty", pointer)
    for index, element in enumerate(operand):
        yield from _value_problems(leaf, element, child(pointer, index))


def _value_problems(leaf: Leaf, value: Json, pointer: str) -> Iterator[MalformedPolicyError]:
    if not isinstance(value, str):
        yield MalformedPolicyError("a single value is expected here", pointer)
        return
    wrong = leaf.value(str(value))
    if wrong is not None:
        yield MalformedPolicyError(wrong, pointer, suggestion=closest(value, leaf.known))


def _container_problems(container: Container, members: Members, pointer: str) -> Iterator[MalformedPolicyError]:
    found = False
    for problem in _member_problems(container, members, pointer):
        found = True
        yield problem
    if container.cross_check is not None and not found:
        try:
            container.cross_check(fragment_of(members, pointer))
        except MalformedPolicyError as problem:
            yield problem


def _member_problems(container: Container, members: Members, pointer: str) -> Iterator[MalformedPolicyError]:
    for key, member in members.items():
        here, folded = child(pointer, key), key.lower()
        if folded == CONTROL:
            yield from _control_problems(member, here)
        elif folded.startswith(OPERATOR_MARK):
            yield from _stray_operator_problems(key, member, pointer, here)
        elif folded in container.fields:
            yield from problems(container.fields[folded], member, here)
        elif container.each is not None and container.name is not None:
            wrong = container.name(key)
            if wrong is not None:
                yield MalformedPolicyError(wrong, here)
            yield from problems(container.each, member, here)
        else:
            known = sorted(container.fields)
            reason = f"{key!r} is no {container.what} here; there is {', '.join(known)}"
            yield MalformedPolicyError(reason, here, suggestion=closest(key, known))


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that was probably meant, None if none is near."""
    by_folded = {each.lower(): each for each in known}
    close = difflib.get_close_matches(word.lower(), by_folded, n=1)
    return by_folded[close[0]] if close else None


def _stray_operator_problems(key: str, member: Json, pointer: str, here: str) -> Iterator[MalformedPolicyError]:
    # At the top of the document, AWS takes operators with plain values and does nothing with them.
    flat = isinstance(member, str) or (isinstance(member, list) and all(isinstance(item, str) for item in member))
    if pointer or not flat or key.lower() == "@@enforced_for":
        yield MalformedPolicyError(f"{key} stands at a value, not at an object that holds others", here)


def _control_problems(member: Json, pointer: str) -> Iterator[MalformedPolicyError]:
    known = ", ".join(CONTROL_VALUES)
    if not isinstance(member, list) or not member:
        yield MalformedPolicyError(f"{CONTROL} is a list with at least one of {known}", pointer)
        return
    words = [str(word) if isinstance(word, str) else "" for word in member]
    for index, word in enumerate(words):
        if word.lower() not in CONTROL_VALUES:
            reason = f"{word!r} is no operator; there is {known}"
            yield MalformedPolicyError(reason, child(pointer, index), suggestion=closest(word, CONTROL_VALUES))
    if len(set(words)) != len(words):
        yield MalformedPolicyError("an operator stands twice in the list", pointer)
    if len(words) > 1 and "@@none" in {word.lower() for word in words}:
        yield MalformedPolicyError("@@none stands alone", pointer)


def matching(pattern: str, what: str) -> ValueCheck:
    """Return a check that the whole value matches a regular expression; `what` says what is expected."""
    compiled = re.compile(pattern)
    return lambda value: None if compiled.fullmatch(value) else f"{value!r} is not {what}"


def one_of(*known: str) -> ValueCheck:
    """Return a check that the value is one of these."""
    return lambda value: None if value in known else f"{value!r} is not {' or '.join(known)}"


def length(shortest: int, longest: int) -> ValueCheck:
    """Return a check on the number of characters."""
    return lambda value: (
        None if shortest <= len(value) <= longest else f"a text of {shortest} to {longest} characters is expected"
    )


def whole_number(least: int) -> ValueCheck:
    """Return a check that the value is a whole number of at most 16 digits and not below `least`."""
    digits = re.compile("[0-9]{1,16}")
    return lambda value: (
        None if digits.fullmatch(value) and int(value) >= least else f"{value!r} is no whole number from {least} up"
    )
