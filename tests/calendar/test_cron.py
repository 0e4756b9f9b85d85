"""Schedules in the cron dialect of AWS, and when they fire."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from holdfast.calendar.cron import Cron, InvalidScheduleError, parse

HELSINKI = ZoneInfo("Europe/Helsinki")
ZONES = [ZoneInfo(name) for name in ("Europe/Helsinki", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def firings(expression: str, after: str, count: int = 3) -> list[str]:
    return [f"{firing:%Y-%m-%dT%H:%M}" for firing in parse(expression).upcoming(at(after), UTC, count)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cron(0 5 ? * * *)", ["2026-01-01T05:00", "2026-01-02T05:00", "2026-01-03T05:00"]),
        ("cron(0 5/8 ? * * *)", ["2026-01-01T05:00", "2026-01-01T13:00", "2026-01-01T21:00"]),
        ("cron(*/30 0 ? * * *)", ["2026-01-01T00:30", "2026-01-02T00:00", "2026-01-02T00:30"]),
        ("cron(0 20-2 ? * * *)", ["2026-01-01T01:00", "2026-01-01T02:00", "2026-01-01T20:00"]),
        ("cron(0 5 ? * MON-FRI/2 *)", ["2026-01-02T05:00", "2026-01-05T05:00", "2026-01-07T05:00"]),
        ("cron(0 5 ? * 7-1 *)", ["2026-01-03T05:00", "2026-01-04T05:00", "2026-01-10T05:00"]),
        ("cron(0 5 ? * fri,SUN *)", ["2026-01-02T05:00", "2026-01-04T05:00", "2026-01-09T05:00"]),
        ("cron(0 5 ? NOV-FEB 1 *)", ["2026-01-04T05:00", "2026-01-11T05:00", "2026-01-18T05:00"]),
        ("cron(0 5 1,15 * ? *)", ["2026-01-01T05:00", "2026-01-15T05:00", "2026-02-01T05:00"]),
        ("cron(0 5 30-2 JAN,MAR ? *)", ["2026-01-01T05:00", "2026-01-02T05:00", "2026-01-30T05:00"]),
        ("cron(0 5 L * ? *)", ["2026-01-31T05:00", "2026-02-28T05:00", "2026-03-31T05:00"]),
        ("cron(0 5 L-3 * ? *)", ["2026-01-28T05:00", "2026-02-25T05:00", "2026-03-28T05:00"]),
        ("cron(0 5 L-30 * ? *)", ["2026-01-01T05:00", "2026-03-01T05:00", "2026-05-01T05:00"]),
        ("cron(0 5 LW * ? *)", ["2026-01-30T05:00", "2026-02-27T05:00", "2026-03-31T05:00"]),
        ("cron(0 5 L-3W * ? *)", ["2026-01-28T05:00", "2026-02-25T05:00", "2026-03-27T05:00"]),
        ("cron(0 5 15W * ? *)", ["2026-01-15T05:00", "2026-02-16T05:00", "2026-03-16T05:00"]),
        ("cron(0 5 1W * ? *)", ["2026-01-01T05:00", "2026-02-02T05:00", "2026-03-02T05:00"]),
        ("cron(0 5 31W * ? *)", ["2026-01-30T05:00", "2026-03-31T05:00", "2026-05-29T05:00"]),
        ("cron(0 5 1W,15W * ? *)", ["2026-01-01T05:00", "2026-01-15T05:00", "2026-02-02T05:00"]),
        ("cron(0 5 ? * 6L *)", ["2026-01-30T05:00", "2026-02-27T05:00", "2026-03-27T05:00"]),
        ("cron(0 5 ? * MONL *)", ["2026-01-26T05:00", "2026-02-23T05:00", "2026-03-30T05:00"]),
        ("cron(0 5 ? * L *)", ["2026-01-03T05:00", "2026-01-10T05:00", "2026-01-17T05:00"]),
        ("cron(0 5 ? * MON#2 *)", ["2026-01-12T05:00", "2026-02-09T05:00", "2026-03-09T05:00"]),
        ("cron(0 5 ? * 5#5 *)", ["2026-01-29T05:00", "2026-04-30T05:00", "2026-07-30T05:00"]),
        ("cron(0 5 ? * 1#1,2 *)", ["2026-01-04T05:00", "2026-01-05T05:00", "2026-01-12T05:00"]),
        ("cron(0 5 29 FEB ? *)", ["2028-02-29T05:00", "2032-02-29T05:00", "2036-02-29T05:00"]),
        ("cron(0 5 1 1 ? 2030/2)", ["2030-01-01T05:00", "2032-01-01T05:00", "2034-01-01T05:00"]),
        ("cron(0 5 1 1 ? 2026-2027)", ["2026-01-01T05:00", "2027-01-01T05:00"]),
        ("cron(0 5 1 * ?)", ["2026-01-01T05:00", "2026-02-01T05:00", "2026-03-01T05:00"]),
        ("cron(0 5 1 * ? * garbage)", ["2026-01-01T05:00", "2026-02-01T05:00", "2026-03-01T05:00"]),
        ("cron( 0  5 ? * * * )", ["2026-01-01T05:00", "2026-01-02T05:00", "2026-01-03T05:00"]),
        ("cron(0 5 30 2 ? *)", []),
        ("cron(0 5 31W FEB ? *)", []),
        ("cron(0 5 ? JAN * 1970)", []),
    ],
)
def test_a_schedule_fires_when_its_fields_say(expression: str, expected: list[str]) -> None:
    assert firings(expression, "2026-01-01T00:00") == expected


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        ("", "is not written cron"),
        ("rate(1 day)", "rate"),
        ("0 5 ? * * *", "is not written cron"),
        ("cron(0 5 ? * * *) ", "is not written cron"),
        ("cron(0 5 ? * FRı *)", "is not written cron"),  # noqa: RUF001 - a letter that upper-cases to I is no English name
        ("cron()", "0 fields"),
        ("cron(0 5 ? *)", "4 fields"),
        ("cron(0 5 * * * *)", "must have [?]"),
        ("cron(0 5 ? * ? *)", "must have [?]"),
        ("cron(0 5 1 * MON *)", "must have [?]"),
        ("cron(60 5 ? * * *)", "no minute"),
        ("cron(0 24 ? * * *)", "no hour"),
        ("cron(0 5 0 * ? *)", "no day of the month"),
        ("cron(0 5 32 * ? *)", "no day of the month"),
        ("cron(0 5 1 13 ? *)", "no month"),
        ("cron(0 5 ? * 0 *)", "no day of the week"),
        ("cron(0 5 ? * 0L *)", "no day of the week"),
        ("cron(0 5 ? * MO *)", "no day of the week"),
        ("cron(0 5 ? JAN * 1969)", "no year"),
        ("cron(0 5 ? JAN * 2200)", "no year"),
        ("cron(0 5 ? JAN * 2035-2030)", "run backward"),
        ("cron(*/60 5 ? * * *)", "no step"),
        ("cron(0/0 5 ? * * *)", "no step"),
        ("cron(0/ 5 ? * * *)", "no step"),
        ("cron(0/x 5 ? * * *)", "no step"),
        ("cron(-1 5 ? * * *)", "no minute"),
        ("cron(+1 5 ? * * *)", "no minute"),
        ("cron(1,,2 5 ? * * *)", "no minute"),
        ("cron(? 5 ? * * *)", "no minute"),
        ("cron(0 5 L-31 * ? *)", "L-31"),
        ("cron(0 5 L,L * ? *)", "stands alone"),
        ("cron(0 5 1,L * ? *)", "stands alone"),
        ("cron(0 5 ? * 1L,2L *)", "stands alone"),
        ("cron(0 5 ? * 1-2L *)", "no day of the week"),
        ("cron(0 5 ? * MON#0 *)", "no day of the week"),
        ("cron(0 5 ? * MON#6 *)", "no day of the week"),
        ("cron(0 5 ? * MON#1/2 *)", "no day of the week"),
        ("cron(0 5 ? * MON#2,TUE#3 *)", "only one numbered weekday"),
    ],
)
def test_what_is_no_schedule_is_refused_naming_the_part(expression: str, what: str) -> None:
    with pytest.raises(InvalidScheduleError, match=what):
        parse(expression)


@given(st.text(max_size=40) | st.text(alphabet="0123456789*,-/?LW#MONJAFEB ", max_size=40).map("cron({})".format))
def test_any_text_is_a_schedule_or_refused_with_one_class(text: str) -> None:
    try:
        cron = parse(text)
    except InvalidScheduleError:
        return
    assert isinstance(cron, Cron)


def test_a_local_time_that_the_clocks_skip_does_not_fire() -> None:
    # Helsinki goes from 03:00 to 04:00 on 29 March 2026.
    nightly = parse("cron(30 3 ? * * *)")
    assert [f"{t:%m-%dT%H:%M}" for t in nightly.upcoming(at("2026-03-27T12:00"), HELSINKI, 3)] == [
        "03-28T01:30",
        "03-30T00:30",
        "03-31T00:30",
    ]


def test_a_local_time_that_comes_twice_fires_once_the_first_time() -> None:
    # Helsinki goes from 04:00 back to 03:00 on 25 October 2026.
    nightly = parse("cron(30 3 ? * * *)")
    assert [f"{t:%m-%dT%H:%M}" for t in nightly.upcoming(at("2026-10-24T12:00"), HELSINKI, 2)] == [
        "10-25T00:30",
        "10-26T01:30",
    ]


def test_the_latest_firing_is_found_from_inside_the_repeated_hour() -> None:
    assert parse("cron(30 3 ? * * *)").latest_before(at("2026-10-25T01:10"), HELSINKI) == at("2026-10-25T00:30")


def test_before_and_after_exclude_the_instant_itself() -> None:
    daily = parse("cron(0 5 ? * * *)")
    assert daily.next_after(at("2026-01-01T05:00"), UTC) == at("2026-01-02T05:00")
    assert daily.latest_before(at("2026-01-01T05:00"), UTC) == at("2025-12-31T05:00")
    assert daily.latest_before(at("2026-01-01T05:00:01"), UTC) == at("2026-01-01T05:00")
    assert parse("cron(0 5 1 1 ? 2030)").latest_before(at("2026-01-01T05:00"), UTC) is None


def test_an_instant_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        parse("cron(0 5 ? * * *)").next_after(datetime(2026, 1, 1), UTC)  # noqa: DTZ001 - the naive instant is the case


def _numbers(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    single = number.map(str)
    # cronsim reads a range of one value with a step (3-3/2) as if it had no end.
    pair = st.lists(number, min_size=2, max_size=2, unique=True)
    span = pair.map(lambda ends: f"{min(ends)}-{max(ends)}")
    step = st.integers(1, max(high // 2, 1))
    stepped = st.tuples(st.one_of(st.just("*"), span, single), step).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.one_of(st.just("*"), st.lists(st.one_of(single, span, stepped), min_size=1, max_size=3).map(",".join))


_BEFORE_DAYS = st.tuples(_numbers(0, 59), _numbers(0, 23))
_MONTH_DAYS = st.one_of(_numbers(1, 31), st.just("L"), st.just("LW"))
_MONTHS = st.one_of(_numbers(1, 12), st.sampled_from(["JAN", "FEB-MAY", "SEP,OCT"]))
_WEEKDAYS = st.one_of(
    st.sampled_from(["SUN", "MON-FRI", "MON,WED,SAT", "MON#2", "FRI#5"]),
    st.integers(1, 7).map("{}L".format),
)
_INSTANTS = st.integers(0, 60 * 24 * 365 * 60).map(lambda minutes: at("1990-01-01") + timedelta(minutes=minutes))


def _as_cronsim(expression: str) -> str:
    """Return the schedule in the five-field dialect, where the last Friday is 5L rather than 6L."""
    minutes, hours, day, month, weekday, _ = expression.removeprefix("cron(").removesuffix(")").split()
    if weekday.endswith("L"):
        weekday = f"{int(weekday[:-1]) - 1}L"
    return " ".join([minutes, hours, day.replace("?", "*"), month, weekday.replace("?", "*")])


@st.composite
def schedules(draw: st.DrawFn) -> str:
    minutes, hours = draw(_BEFORE_DAYS)
    day, weekday = draw(st.one_of(st.tuples(_MONTH_DAYS, st.just("?")), st.tuples(st.just("?"), _WEEKDAYS)))
    return f"cron({minutes} {hours} {day} {draw(_MONTHS)} {weekday} *)"


@given(schedules(), _INSTANTS)
def test_firings_agree_with_cronsim_where_the_dialects_overlap(expression: str, instant: datetime) -> None:
    cron = parse(expression)
    ours = cron.upcoming(instant, UTC, 5)
    if not ours:
        return
    assert list(islice(CronSim(_as_cronsim(expression), instant), 5)) == list(ours)
    backward = CronSim(_as_cronsim(expression), instant, reverse=True)
    assert next(backward) == cron.latest_before(instant, UTC)


def _minute_by_minute(cron: Cron, start: datetime, zone: ZoneInfo, days: int) -> Iterator[datetime]:
    """Look at every minute: it fires if a clock in the zone shows a time of the schedule for the first time."""
    for minute in range(1, days * 24 * 60):
        instant = start + timedelta(minutes=minute)
        wall = instant.astimezone(zone)
        if (
            wall.fold == 0
            and wall.minute in cron.minutes
            and wall.hour in cron.hours
            and wall.month in cron.months
            and wall.day in cron.days.in_month(wall.year, wall.month)
        ):
            yield instant


@given(
    schedules(),
    st.sampled_from(ZONES),
    st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]),
    st.integers(0, 24 * 60),
)
def test_firings_across_a_clock_change_are_those_that_a_clock_shows(
    expression: str, zone: ZoneInfo, day: str, minute: int
) -> None:
    cron = parse(expression)
    start = at(day) + timedelta(minutes=minute)
    expected = list(_minute_by_minute(cron, start, zone, days=2))
    end = start + timedelta(days=2)
    assert [firing for firing in islice(cron.after(start, zone), len(expected) + 1) if firing < end] == expected
    if expected:
        assert cron.latest_before(end, zone) == expected[-1]


@given(schedules(), st.sampled_from([UTC, *ZONES]), _INSTANTS)
def test_firings_ascend_and_the_latest_before_the_next_one_is_not_skipped(
    expression: str, zone: ZoneInfo, instant: datetime
) -> None:
    cron = parse(expression)
    found = cron.upcoming(instant, zone, 4)
    assert list(found) == sorted(set(found))
    for earlier, later in pairwise(found):
        assert cron.latest_before(later, zone) == earlier
