"""Inheritance once more, slowly and straight from the rules: what the fast one must agree with.

Every policy is flattened to its places; every level is done place by place, operator by operator.
"""

from collections import defaultdict
from typing import Any, TypeAlias

Path: TypeAlias = tuple[str, ...]
Policy: TypeAlias = dict[str, Any]

ALL = {"@@assign", "@@append", "@@remove"}
CONTROL = "@@operators_allowed_for_child_policies"


def text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def flatten(policy: Policy, path: Path = ()) -> dict[Path, dict[str, Any]]:
    """Return for each place of a policy its operators, with keys in lower case and values as strings."""
    places: dict[Path, dict[str, Any]] = {path: {}}
    for key, value in policy.items():
        word = key.lower()
        if not word.startswith("@@"):
            places |= flatten(value, (*path, word))
        elif word == CONTROL:
            words = {item.lower() for item in value}
            places[path][word] = ALL if "@@all" in words else words - {"@@none"}
        elif path:
            places[path][word] = [text(item) for item in value] if isinstance(value, list) else text(value)
    return places


def merge(chain: list[list[Policy]]) -> tuple[dict[str, Any], dict[Path, set[str]]]:
    """Return the effective document of a chain of levels, and which operators descendants may use at each place."""
    values: dict[Path, Any] = {}
    allowed: dict[Path, set[str]] = defaultdict(lambda: set(ALL))
    known: set[Path] = {()}
    for level in chain:
        policies = [flatten(policy) for policy in level]
        before, known_before = {path: set(allowed[path]) for path in known}, set(known)

        def is_refused(path: Path, before: dict[Path, set[str]] = before, seen: set[Path] = known_before) -> bool:
            """A new key under a known container that does not allow adding, or anything below such a key."""
            prefixes = [path[:length] for length in range(1, len(path) + 1)]
            return any(
                prefix not in seen and prefix[:-1] in seen and "@@append" not in before[prefix[:-1]]
                for prefix in prefixes
            )

        places = {path for policy in policies for path in policy if not is_refused(path)}
        for path in places:
            may = before.get(path, ALL)
            here = [policy[path] for policy in policies if path in policy]
            assigns = [operators["@@assign"] for operators in here if "@@assign" in operators]
            if assigns and "@@assign" in may:
                values[path] = assigns[0]
            for operators in here:
                if "@@append" in operators and "@@append" in may:
                    present = list(values.get(path, []))
                    for item in operators["@@append"]:
                        if item not in present:
                            present.append(item)
                    values[path] = present
            for operators in here:
                if "@@remove" in operators and "@@remove" in may and path in values:
                    values[path] = [item for item in values[path] if item not in operators["@@remove"]]
            for operators in here:
                allowed[path] &= operators.get(CONTROL, ALL)
        known |= places
    return nested(values), {path: allowed[path] for path in values}


def nested(values: dict[Path, Any]) -> dict[str, Any]:
    """Return the document with these values; what holds none is not there."""
    document: dict[str, Any] = {}
    for path, value in values.items():
        place = document
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value
    return document
