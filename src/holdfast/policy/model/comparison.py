"""Two effective backup policies side by side: plans gained, lost and changed, and what will be kept for less long."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shortening:
    """A rule, or a copy that it makes, whose points would be kept for fewer days than before."""

    plan: str
    rule: str
    copy_action: str | None
    """The key of the copy action; None for the backup itself."""
    days_before: int | None
    """None: for ever."""
    days_after: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changes from one effective policy to another; plans by name, in order."""

    plans_gained: tuple[str, ...]
    plans_lost: tuple[str, ...]
    plans_changed: tuple[str, ...]
    shortened: tuple[Shortening, ...]


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Return what changes when `after` takes the place of `before`."""
    old, new = before.get("plans", {}), after.get("plans", {})
    both = sorted(old.keys() & new.keys())
    return Comparison(
        plans_gained=tuple(sorted(new.keys() - old.keys())),
        plans_lost=tuple(sorted(old.keys() - new.keys())),
        plans_changed=tuple(name for name in both if old[name] != new[name]),
        shortened=tuple(found for name in both for found in _shortened(name, old[name], new[name])),
    )


def _shortened(plan: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Shortening]:
    old_rules, new_rules = old.get("rules", {}), new.get("rules", {})
    for rule in sorted(old_rules.keys() & new_rules.keys()):
        before, after = dict(_kept(old_rules[rule])), dict(_kept(new_rules[rule]))
        for place in before.keys() & after.keys():
            days_before, days_after = before[place], after[place]
            if days_after is not None and (days_before is None or days_after < days_before):
                yield Shortening(plan, rule, place, days_before, days_after)


def _kept(rule: Mapping[str, Any]) -> Iterator[tuple[str | None, int | None]]:
    """Yield for how many days the points of a rule and of its copies are kept, None for ever.

    A copy without a lifecycle of its own is kept as long as the backup.
    """
    own = _days(rule)
    yield None, own
    for key, action in rule.get("copy_actions", {}).items():
        yield key, _days(action) if "lifecycle" in action else own


def _days(kept: Mapping[str, Any]) -> int | None:
    days = kept.get("lifecycle", {}).get("delete_after_days")
    return None if days is None else int(days)
