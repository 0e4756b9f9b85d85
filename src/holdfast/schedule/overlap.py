"""Rules of one plan whose start windows overlap: only the one whose recovery points are kept longer makes a backup.

Rule and example: AWS Backup Developer Guide, "Backup plan options and configuration" (overlapping backup rules).
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from holdfast.calendar.cron import parse
from holdfast.plan.model.lifecycle import normal
from holdfast.plan.model.plan import Rule

_LATEST: Final = 50
"""So many runs of a rule are looked at, since a start window may last a hundred years."""
_LOOKED_AT: Final = 30
"""So many runs are looked at for each that is asked for; a rule of a plan may never come to make a backup."""


@dataclass(frozen=True, slots=True)
class Recurring:
    """What decides between two rules of a plan."""

    name: str
    schedule: str
    timezone: str
    start_window: timedelta
    kept_days: int | None
    """How long its recovery points are kept; None is for ever."""

    def outlives(self, other: "Recurring") -> bool:
        """Return whether its recovery points are kept longer than another rule's."""
        if other.kept_days is None:
            return False
        return self.kept_days is None or self.kept_days > other.kept_days


def recurring(rule: Rule) -> Recurring:
    """Return what decides between a rule and others of its plan."""
    return Recurring(
        rule.name, rule.schedule, rule.timezone, rule.start_window, normal(rule.lifecycle).delete_after_days
    )


def next_runs(rules: Sequence[Rule], now: datetime, count: int) -> list[tuple[datetime, Rule]]:
    """Return the next runs of a plan's rules after `now` that make backups, in order; fewer where most stand back."""
    streams = (_numbered(number, rule, now) for number, rule in enumerate(rules))
    found: list[tuple[datetime, Rule]] = []
    known: _Known = {}
    for at, number in islice(heapq.merge(*streams), count * _LOOKED_AT):
        others = [recurring(rule) for place, rule in enumerate(rules) if place != number and not rule.continuous]
        if _taken_over(recurring(rules[number]), at, _longest_first(others), known) is None:
            found.append((at, rules[number]))
            if len(found) == count:
                break
    return found


def _numbered(number: int, rule: Rule, now: datetime) -> Iterator[tuple[datetime, int]]:
    for at in parse(rule.schedule).after(now, ZoneInfo(rule.timezone)):
        yield at, number


def taken_over(rule: Recurring, due_at: datetime, others: Iterable[Recurring]) -> tuple[Recurring, datetime] | None:
    """Return the rule, and the run of it, that makes the backup in the place of `rule`'s run; None: nobody does.

    Windows that only touch do not overlap. Of rules that keep their points equally long none stands back. Nobody stands
    back behind a run that stands back itself: there would be no backup at all.
    """
    return _taken_over(rule, due_at, _longest_first(others), {})


def _longest_first(rules: Iterable[Recurring]) -> list[Recurring]:
    return sorted(rules, key=lambda rule: (rule.kept_days is not None, -(rule.kept_days or 0), rule.name))


_Known = dict[tuple[str, datetime], tuple[Recurring, datetime] | None]


def _taken_over(
    rule: Recurring, due_at: datetime, others: list[Recurring], known: _Known
) -> tuple[Recurring, datetime] | None:
    if (rule.name, due_at) not in known:
        known[rule.name, due_at] = next(
            (
                (other, run)
                for other in others
                if other.outlives(rule)
                for run in _overlapping(other, due_at, due_at + rule.start_window)
                if _taken_over(other, run, others, known) is None
            ),
            None,
        )
    return known[rule.name, due_at]


def _overlapping(rule: Recurring, begins: datetime, ends: datetime) -> Iterator[datetime]:
    """Yield the latest runs of a rule, the latest first, whose start windows overlap with one."""
    cron, zone = parse(rule.schedule), ZoneInfo(rule.timezone)
    run = cron.latest_before(ends, zone)
    for _ in range(_LATEST):
        if run is None or run + rule.start_window <= begins:
            return
        yield run
        run = cron.latest_before(run, zone)
