"""Cron as AWS schedules write it: `cron(minutes hours day-of-month month day-of-week year)`, and when it fires.

Grammar: Amazon EventBridge User Guide, "Cron expressions reference"; AWS Organizations User Guide, "Backup policy
syntax and examples". One of the two day fields is `?`. The year may be left out, and what follows the sixth field is
ignored, as the policy validator of AWS does. Days of the week count from SUN = 1. `L` is the last day (as a weekday:
Saturday), `L-3` three days before the last, `15W` the weekday nearest to the 15th within its month, `LW` the last
weekday, `6L` the last Friday, `MON#2` the second Monday. A range may run over the end (`NOV-FEB`, `20-2`), but not
that of the years.

Daylight saving (Amazon EventBridge Scheduler User Guide, "Daylight savings time on EventBridge Scheduler"): a local
time that the clocks skip does not fire; one that they show twice fires once, the first time.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from itertools import islice
from typing import Final

from holdfast.core.errors import InvalidInputError

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_SATURDAY: Final = 7
_MAX_BEFORE_LAST: Final = 30
_REQUIRED_FIELDS: Final = 5
_YEAR_FIELD: Final = 5
_WORKING_DAYS: Final = 5

_CRON = re.compile(r"cron\((.*)\)", re.DOTALL)
_LAST_DAY = re.compile(r"L(?:-([0-9]{1,2}))?(W)?")
_NEAREST = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?W")
_LAST_OF_WEEKDAY = re.compile(r"([0-9]|[A-Z]{3})L")
_NTH_OF_WEEKDAY = re.compile(r"([0-9]|[A-Z]{3})#([1-5])")


class InvalidScheduleError(InvalidInputError):
    """A text that should be a schedule is not one; the text of the error says which part is wrong."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of the expression: what it is called, its smallest and largest value, and their names if they have."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def value(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.low
        if re.fullmatch("[0-9]{1,4}", text) and self.low <= int(text) <= self.high:
            return int(text)
        raise InvalidScheduleError(f"{text!r} is no {self.name}: it goes from {self.low} to {self.high}")

    def values(self, item: str) -> list[int]:
        """Return the values of one item of a list: `*`, a value, a range, each with or without a step."""
        span, slash, step_text = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            values = list(range(self.low, self.high + 1))
        elif dash:
            values = self._between(self.value(first), self.value(last), item)
        else:
            start = self.value(first)
            values = list(range(start, self.high + 1)) if slash else [start]
        if not slash:
            return values
        if not re.fullmatch("[0-9]{1,4}", step_text) or not 1 <= int(step_text) <= min(
            self.high, self.high - self.low + 1
        ):
            raise InvalidScheduleError(f"{step_text!r} is no step for {self.name} in {item!r}")
        return values[:: int(step_text)]

    def _between(self, first: int, last: int, item: str) -> list[int]:
        if first <= last:
            return list(range(first, last + 1))
        if self.name == "year":
            raise InvalidScheduleError(f"the years {item!r} run backward")
        return [*range(first, self.high + 1), *range(self.low, last + 1)]


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of the week", 1, 7, _WEEKDAYS)
_YEAR = _Field("year", FIRST_YEAR, LAST_YEAR)


@dataclass(frozen=True, slots=True)
class Days:
    """Which days of a month a schedule takes. Weekdays are numbered from Monday = 0, as `date.weekday` does."""

    days: frozenset[int] = frozenset()  # the 1st to the 31st
    before_last: frozenset[int] = frozenset()  # 0 for the last day, 3 for three days before it
    nearest: frozenset[int] = frozenset()  # the working day nearest to that day
    nearest_before_last: frozenset[int] = frozenset()  # the working day nearest to n days before the last
    weekdays: frozenset[int] = frozenset()
    last_weekdays: frozenset[int] = frozenset()  # the last such weekday of the month
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()  # (weekday, which of them in the month)

    def in_month(self, year: int, month: int) -> tuple[int, ...]:
        """Return the days taken in that month, in order."""
        return _days_in_month(self, year, month)


@lru_cache(maxsize=16_384)
def _days_in_month(rule: Days, year: int, month: int) -> tuple[int, ...]:
    last = _month_length(year, month)
    first_weekday = date(year, month, 1).weekday()
    taken = {day for day in rule.days if day <= last}
    taken |= {last - back for back in rule.before_last if back < last}
    taken |= {_nearest_working_day(year, month, day) for day in rule.nearest if day <= last}
    taken |= {_nearest_working_day(year, month, last - back) for back in rule.nearest_before_last if back < last}
    for day in range(1, last + 1):
        weekday = (first_weekday + day - 1) % 7
        if (
            weekday in rule.weekdays
            or (weekday in rule.last_weekdays and day + 7 > last)
            or (weekday, (day + 6) // 7) in rule.nth_weekdays
        ):
            taken.add(day)
    return tuple(sorted(taken))


def _month_length(year: int, month: int) -> int:
    following = date(year + 1, 1, 1) if month == len(_MONTHS) else date(year, month + 1, 1)
    return (following - date(year, month, 1)).days


def _nearest_working_day(year: int, month: int, day: int) -> int:
    """Return the day from Monday to Friday that is nearest to `day` and in the same month."""
    for candidate in (day, day - 1, day + 1, day - 2, day + 2):
        inside = 1 <= candidate <= _month_length(year, month)
        if inside and date(year, month, candidate).weekday() < _WORKING_DAYS:
            return candidate
    raise AssertionError("five days in a row hold a working day")  # pragma: no cover


@dataclass(frozen=True, slots=True)
class Cron:
    """A schedule that was understood. All instants it takes and gives are aware; those it gives are in UTC."""

    expression: str
    minutes: tuple[int, ...] = field(repr=False)
    hours: tuple[int, ...] = field(repr=False)
    days: Days = field(repr=False)
    months: tuple[int, ...] = field(repr=False)
    years: tuple[int, ...] = field(repr=False)

    def next_after(self, instant: datetime, zone: tzinfo) -> datetime | None:
        """Return the first firing later than `instant`, or None if there is none any more."""
        return next(self.after(instant, zone), None)

    def upcoming(self, instant: datetime, zone: tzinfo, count: int) -> tuple[datetime, ...]:
        """Return the next `count` firings later than `instant`, fewer if the schedule ends before."""
        return tuple(islice(self.after(instant, zone), count))

    def after(self, instant: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Yield the firings later than `instant`, in order, to the end of the schedule."""
        local = _local(instant, zone)
        for wall in self._walls_from(local.replace(tzinfo=None, second=0, microsecond=0)):
            firing = _instant(wall, zone)
            if firing is not None and firing > instant:
                yield firing

    def latest_before(self, instant: datetime, zone: tzinfo) -> datetime | None:
        """Return the last firing earlier than `instant`, or None if there was none."""
        local = _local(instant, zone)
        # In the second pass of a repeated hour, firings of the first pass carry local times that are still to come.
        ahead = timedelta(days=1) if local.fold else timedelta()
        for wall in self._walls_back_from(local.replace(tzinfo=None) + ahead):
            firing = _instant(wall, zone)
            if firing is not None and firing < instant:
                return firing
        return None

    def _walls_from(self, start: datetime) -> Iterator[datetime]:
        for year in self.years[bisect_left(self.years, start.year) :]:
            for month in self.months:
                if (year, month) < (start.year, start.month):
                    continue
                for day in self.days.in_month(year, month):
                    is_first = (year, month, day) == (start.year, start.month, start.day)
                    if is_first or (year, month, day) > (start.year, start.month, start.day):
                        for hour in self.hours:
                            for minute in self.minutes:
                                if not is_first or (hour, minute) >= (start.hour, start.minute):
                                    yield datetime.combine(date(year, month, day), time(hour, minute))

    def _walls_back_from(self, start: datetime) -> Iterator[datetime]:
        for year in reversed([year for year in self.years if year <= start.year]):
            for month in reversed(self.months):
                if (year, month) > (start.year, start.month):
                    continue
                for day in reversed(self.days.in_month(year, month)):
                    is_first = (year, month, day) == (start.year, start.month, start.day)
                    if is_first or (year, month, day) < (start.year, start.month, start.day):
                        for hour in reversed(self.hours):
                            for minute in reversed(self.minutes):
                                if not is_first or (hour, minute) <= (start.hour, start.minute):
                                    yield datetime.combine(date(year, month, day), time(hour, minute))


def _local(instant: datetime, zone: tzinfo) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant without a time zone says nothing")
    return instant.astimezone(zone)


def _instant(wall: datetime, zone: tzinfo) -> datetime | None:
    """Return the instant at which clocks in `zone` first show `wall`, or None if they skip it."""
    if zone is UTC:
        return wall.replace(tzinfo=UTC)
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    return instant if instant.astimezone(zone).replace(tzinfo=None) == wall else None


@lru_cache(maxsize=4096)
def parse(expression: str) -> Cron:
    """Return the schedule that `expression` writes.

    Raises:
        InvalidScheduleError: it is no `cron(...)`, or a field is wrong; the text names the part.
    """
    whole = _CRON.fullmatch(expression)
    if whole is None or not expression.isascii():
        hint = "; rate(...) is not supported" if expression.startswith("rate(") else ""
        raise InvalidScheduleError(
            f"{expression!r} is not written cron(minutes hours day-of-month month day-of-week year){hint}"
        )
    fields = whole[1].upper().split()
    if len(fields) < _REQUIRED_FIELDS:
        raise InvalidScheduleError(
            f"{expression!r} has {len(fields)} fields; cron needs minutes, hours, day of month, month and day of week"
        )
    minutes, hours, day, month, weekday = fields[:_REQUIRED_FIELDS]
    year = fields[_YEAR_FIELD] if len(fields) > _YEAR_FIELD else "*"
    if (day == "?") == (weekday == "?"):
        raise InvalidScheduleError(
            f"{expression!r} must have ? either as day of month or as day of week, and the days in the other of the two"
        )
    return Cron(
        expression=expression,
        minutes=_values(_MINUTE, minutes),
        hours=_values(_HOUR, hours),
        days=_weekdays(weekday) if day == "?" else _month_days(day),
        months=_values(_MONTH, month),
        years=_values(_YEAR, year),
    )


def _values(of: _Field, text: str) -> tuple[int, ...]:
    return tuple(sorted({value for item in text.split(",") for value in of.values(item)}))


def _month_days(text: str) -> Days:
    last = _LAST_DAY.fullmatch(text)
    if last:
        back = int(last[1] or 0)
        if back > _MAX_BEFORE_LAST:
            raise InvalidScheduleError(f"{text!r} reaches before every month: at most L-{_MAX_BEFORE_LAST}")
        return Days(nearest_before_last=frozenset({back})) if last[2] else Days(before_last=frozenset({back}))
    days: set[int] = set()
    nearest: set[int] = set()
    for item in text.split(","):
        if item.startswith("L"):
            raise InvalidScheduleError(f"{text!r}: L as a day of the month stands alone, not in a list")
        near = _NEAREST.fullmatch(item)
        if near:
            nearest.update(_DAY.values(item.removesuffix("W")))
        else:
            days.update(_DAY.values(item))
    return Days(days=frozenset(days), nearest=frozenset(nearest))


def _weekdays(text: str) -> Days:
    if text == "L":
        return Days(weekdays=frozenset({_from_monday(_SATURDAY)}))
    last = _LAST_OF_WEEKDAY.fullmatch(text)
    if last:
        return Days(last_weekdays=frozenset({_from_monday(_WEEKDAY.value(last[1]))}))
    weekdays: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for item in text.split(","):
        if item == "L" or _LAST_OF_WEEKDAY.fullmatch(item):
            raise InvalidScheduleError(f"{text!r}: L as a day of the week stands alone, not in a list")
        numbered = _NTH_OF_WEEKDAY.fullmatch(item)
        if numbered and nth:
            raise InvalidScheduleError(f"{text!r}: only one numbered weekday (MON#2) may stand in a list")
        if numbered:
            nth.add((_from_monday(_WEEKDAY.value(numbered[1])), int(numbered[2])))
        else:
            weekdays.update(_from_monday(value) for value in _WEEKDAY.values(item))
    return Days(weekdays=frozenset(weekdays), nth_weekdays=frozenset(nth))


def _from_monday(sunday_is_one: int) -> int:
    return (sunday_is_one + 5) % 7
