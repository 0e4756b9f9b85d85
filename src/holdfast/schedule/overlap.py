"""Rules of one plan whose start windows overlap: only the one whose recovery points are kept longer makes a backup.

Rule and example: AWS Backup Developer Guide, "Backup plan options and configuration" (overlapping backup rules).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.calendar.cron import parse


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


def taken_over(rule: Recurring, due_at: datetime, others: Iterable[Recurring]) -> tuple[Recurring, datetime] | None:
    """Return the rule, and the run of it, that makes the backup in the place of `rule`'s run; None: nobody does.

    Windows that only touch do not overlap. Of rules that keep their points equally long none stands back. Nobody stands
    back behind a run that stands back itself: there would be no backup at all.
    """
    longest_first = sorted(others, key=lambda other: (other.kept_days is not None, -(other.kept_days or 0), other.name))
    return _taken_over(rule, due_at, longest_first, {})


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
    """Yield the runs of a rule, the latest first, whose start windows overlap with one."""
    cron, zone = parse(rule.schedule), ZoneInfo(rule.timezone)
    run = cron.latest_before(ends, zone)
    while run is not None and run + rule.start_window > begins:
        yield run
        run = cron.latest_before(run, zone)
