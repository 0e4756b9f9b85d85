"""Rules of one plan whose start windows overlap: only the one whose recovery points are kept longer makes a backup.

Rule and example: AWS Backup Developer Guide, "Backup plan options and configuration" (overlapping backup rules).
"""

from collections.abc import Iterable
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

    Windows that only touch do not overlap. Of rules that keep their points equally long none stands back.
    """
    window_ends = due_at + rule.start_window
    for other in others:
        if other.outlives(rule):
            run = parse(other.schedule).latest_before(window_ends, ZoneInfo(other.timezone))
            if run is not None and run + other.start_window > due_at:
                return other, run
    return None
