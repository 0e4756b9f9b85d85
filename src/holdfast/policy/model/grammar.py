"""The grammar that management policies share: containers of named places, and leaves that hold operators.

A `Leaf` says what a value may be, a `Container` which keys it may have; `check` walks a document along them and
reports the first place that is not as it should be, with its JSON pointer.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
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
        MalformedPolicyError: it is not; the error says where and why.
    """
    if not isinstance(value, dict):
        hint = ': a value stands in an operator, as in {"@@assign": ...}' if isinstance(place, Leaf) else ""
        raise MalformedPolicyError(f"an object is expected here{hint}", pointer)
    if isinstance(place, Leaf):
        _check_leaf(place, value, pointer)
    else:
        _check_container(place, value, pointer)


def _check_leaf(leaf: Leaf, members: Members, pointer: str) -> None:
    for key, operand in members.items():
        here, folded = child(pointer, key), key.lower()
        if folded == CONTROL:
            _check_control(operand, here)
        elif folded not in set(Operator):
            known = ", ".join(Operator)
            raise MalformedPolicyError(f"{key!r} is no operator; there are {known} and {CONTROL}", here)
        elif not leaf.is_list and folded != Operator.ASSIGN:
            raise MalformedPolicyError(f"a single value can only be assigned, {key} is for lists", here)
        elif leaf.is_list:
            _check_list(leaf, operand, here, may_be_empty=leaf.may_be_empty or folded == Operator.REMOVE)
        else:
            _check_value(leaf, operand, here)


def _check_list(leaf: Leaf, operand: Json, pointer: str, *, may_be_empty: bool) -> None:
    if not isinstance(operand, list):
        raise MalformedPolicyError("a list is expected here", pointer)
    if not operand and not may_be_empty:
        raise MalformedPolicyError("the list must not be empty", pointer)
    for index, element in enumerate(operand):
        _check_value(leaf, element, child(pointer, index))


def _check_value(leaf: Leaf, value: Json, pointer: str) -> None:
    if not isinstance(value, str):
        raise MalformedPolicyError("a single value is expected here", pointer)
    wrong = leaf.value(str(value))
    if wrong is not None:
        raise MalformedPolicyError(wrong, pointer)


def _check_container(container: Container, members: Members, pointer: str) -> None:
    for key, member in members.items():
        here, folded = child(pointer, key), key.lower()
        if folded == CONTROL:
            _check_control(member, here)
        elif folded.startswith(OPERATOR_MARK):
            _check_stray_operator(key, member, pointer, here)
        elif folded in container.fields:
            check(container.fields[folded], member, here)
        elif container.each is not None and container.name is not None:
            wrong = container.name(key)
            if wrong is not None:
                raise MalformedPolicyError(wrong, here)
            check(container.each, member, here)
        else:
            raise MalformedPolicyError(f"{key!r} is no {container.what} here{suggestion(key, container.fields)}", here)
    if container.cross_check is not None:
        container.cross_check(fragment_of(members, pointer))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return a half-sentence with the known word that was probably meant, or all known ones if there are few."""
    known = sorted(known)
    close = difflib.get_close_matches(word.lower(), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(known)}" if known else ""


def _check_stray_operator(key: str, member: Json, pointer: str, here: str) -> None:
    # At the top of the document, AWS takes operators with plain values and does nothing with them.
    flat = isinstance(member, str) or (isinstance(member, list) and all(isinstance(item, str) for item in member))
    if pointer or not flat or key.lower() == "@@enforced_for":
        raise MalformedPolicyError(f"{key} stands at a value, not at an object that holds others", here)


def _check_control(member: Json, pointer: str) -> None:
    if not isinstance(member, list) or not member:
        raise MalformedPolicyError(f"{CONTROL} is a list with at least one of {', '.join(CONTROL_VALUES)}", pointer)
    words = [str(word) if isinstance(word, str) else "" for word in member]
    for index, word in enumerate(words):
        if word.lower() not in CONTROL_VALUES:
            known = ", ".join(CONTROL_VALUES)
            raise MalformedPolicyError(f"{word!r} is no operator; there is {known}", child(pointer, index))
    if len(set(words)) != len(words):
        raise MalformedPolicyError("an operator stands twice in the list", pointer)
    if len(words) > 1 and "@@none" in {word.lower() for word in words}:
        raise MalformedPolicyError("@@none stands alone", pointer)


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
