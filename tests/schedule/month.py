"""A month as the guides describe it, told by a model that looks at every minute: small, slow, and knowing no database.

It shares no code with the scheduler. Schedules: Amazon EventBridge User Guide, "Cron expressions reference"; Amazon
EventBridge Scheduler User Guide, "Daylight savings time on EventBridge Scheduler". Overlapping rules and lifecycles:
AWS Backup Developer Guide, "Backup plan options and configuration".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True)
class Rule:
    """A rule as a policy writes it."""

    plan: str
    name: str
    cron: str
    zone: str = "Etc/UTC"
    start_window: timedelta = timedelta(hours=8)
    cold_after_days: int | None = None
    delete_after_days: int | None = None


@dataclass(frozen=True, order=True)
class Run:
    """One occurrence of a rule."""

    at: datetime
    plan: str
    rule: str


@dataclass(frozen=True)
class Points:
    """What has become of the recovery points at an instant, each named by the run that made it."""

    warm: frozenset[Run]
    cold: frozenset[Run]
    hidden: frozenset[Run]
    """Expired, and still kept for the deletion delay."""


def fires(rule: Rule, at: datetime) -> bool:
    """Whether a clock on the wall of the rule's zone shows, for the first time, a time that the rule names."""
    wall = at.astimezone(ZoneInfo(rule.zone))
    minute, hour, day, month, weekday, year = rule.cron[len("cron(") : -len(")")].split()
    return (
        wall.fold == 0
        and _matches(minute, wall.minute, 0, 59)
        and _matches(hour, wall.hour, 0, 23)
        and _matches(month, wall.month, 1, 12)
        and _matches(year, wall.year, 1970, 2199)
        and (day == "?" or _is_day(day, wall))
        and (weekday == "?" or _is_weekday(weekday, wall))
    )


def due(rule: Rule, begins: datetime, ends: datetime) -> list[Run]:
    """Every run of a rule from `begins` until before `ends`, both whole minutes."""
    minutes = range(int((ends - begins) / MINUTE))
    return [Run(begins + n * MINUTE, rule.plan, rule.name) for n in minutes if fires(rule, begins + n * MINUTE)]


def backups(rules: Sequence[Rule], begins: datetime, ends: datetime) -> list[Run]:
    """The runs that make a backup of a resource that every rule takes, in order.

    Of the rules of a plan the one that keeps its points longest goes first; a run stands back where its start window
    overlaps with that of a backup which a rule that keeps its points longer makes.
    """
    margin = sum((rule.start_window for rule in rules), timedelta())  # what lies outside casts its shadow inside
    made: list[tuple[Rule, Run]] = []
    for rule in sorted(rules, key=_kept_days, reverse=True):
        longer = [
            (other, run) for other, run in made if other.plan == rule.plan and _kept_days(other) > _kept_days(rule)
        ]
        made += [
            (rule, run)
            for run in due(rule, begins - margin, ends + margin)
            if not any(
                other_run.at < run.at + rule.start_window and run.at < other_run.at + other.start_window
                for other, other_run in longer
            )
        ]
    return sorted(run for _, run in made if begins <= run.at < ends)


def points(rules: Iterable[Rule], made: Iterable[Run], at: datetime, *, deletion_delay: timedelta) -> Points:
    """What has become at `at` of the recovery points that these runs made."""
    by_name = {(rule.plan, rule.name): rule for rule in rules}
    warm, cold, hidden = set[Run](), set[Run](), set[Run]()
    for run in made:
        rule, age = by_name[run.plan, run.rule], at - run.at
        if age < timedelta():
            continue
        if rule.delete_after_days is None or age < rule.delete_after_days * DAY:
            is_cold = rule.cold_after_days is not None and age >= rule.cold_after_days * DAY
            (cold if is_cold else warm).add(run)
        elif age < rule.delete_after_days * DAY + deletion_delay:
            hidden.add(run)
    return Points(frozenset(warm), frozenset(cold), frozenset(hidden))


def _kept_days(rule: Rule) -> float:
    return float("inf") if rule.delete_after_days is None else rule.delete_after_days


@cache
def _matches(field: str, value: int, low: int, high: int) -> bool:
    return any(_matches_item(item, value, low, high) for item in field.split(","))


def _matches_item(item: str, value: int, low: int, high: int) -> bool:
    span, _, step = item.partition("/")
    first, _, last = span.partition("-")
    begin = low if first == "*" else int(first)
    end = int(last) if last else (high if first == "*" or step else begin)
    return begin <= value <= end and (value - begin) % int(step or 1) == 0


def _is_day(field: str, wall: datetime) -> bool:
    is_last = (wall + DAY).month != wall.month
    return is_last if field == "L" else _matches(field, wall.day, 1, 31)


def _is_weekday(field: str, wall: datetime) -> bool:
    name = wall.strftime("%a").upper()
    if "#" in field:
        day, _, which = field.partition("#")
        return day == name and (wall.day - 1) // 7 + 1 == int(which)
    if field.endswith("L"):
        return field[:-1] == name and (wall + 7 * DAY).month != wall.month
    if field[0].isalpha():
        spans = [item.split("-") for item in field.split(",")]
        return any(_WEEKDAYS.index(span[0]) <= _WEEKDAYS.index(name) <= _WEEKDAYS.index(span[-1]) for span in spans)
    return _matches(field, _WEEKDAYS.index(name) + 1, 1, 7)
