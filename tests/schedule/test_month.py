"""The scheduler against a model that looks at every minute: any schedules, zones, months, and times that it looks."""

import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise, takewhile
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from tests.plan.test_body import a_body, a_rule
from tests.schedule.month import DAY, MINUTE, Rule, Run, backups, due
from tests.schedule.test_own_plans import Accounts

from holdfast.calendar.cron import parse
from holdfast.database.connection import Database
from holdfast.database.values import instant
from holdfast.plan.model.body import PlanBody
from holdfast.plan.model.plan import Lifecycle
from holdfast.schedule import service

ZONES = ("Etc/UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo")
HOUR = timedelta(hours=1)
_EXAMPLES = max(15, settings().max_examples // 10)  # each is a month of minutes


def spans(low: int, high: int) -> st.SearchStrategy[str]:
    ends = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    steps = st.integers(1, (high - low + 1) // 2).map("*/{}".format)
    return st.one_of(ends.map("{0[0]}-{0[1]}".format), ends.map("{0[0]},{0[1]}".format), steps, st.just("*"))


_NAMED = ("MON-FRI", "SUN,WED-THU", "SATL", "SUN#2")
_DAYS = st.one_of(
    st.one_of(spans(1, 31), st.just("L")).map(lambda day: (day, "?")),
    st.one_of(spans(1, 7), st.sampled_from(_NAMED)).map(lambda weekday: ("?", weekday)),
)
# Clocks change in some zone in each of these; Brazil's did until 2019, at midnight.
_MONTHS = st.sampled_from([(2026, 3), (2026, 4), (2026, 10), (2026, 11), (2018, 2), (2018, 11), (2028, 2)])


@st.composite
def crons(draw: st.DrawFn, minutes: st.SearchStrategy[str]) -> str:
    day, weekday = draw(_DAYS)
    months = draw(st.sampled_from(["*", "2-4", "3,10,11", "*/2"]))
    return f"cron({draw(minutes)} {draw(st.integers(0, 23).map(str) | spans(0, 23))} {day} {months} {weekday} *)"


@settings(max_examples=_EXAMPLES)
@given(crons(st.integers(0, 59).map(str) | spans(0, 59)), st.sampled_from(ZONES), _MONTHS)
def test_a_month_of_firings_is_what_a_clock_on_the_wall_shows(
    expression: str, zone: str, month: tuple[int, int]
) -> None:
    begins = datetime(*month, 1, tzinfo=UTC)
    ends = begins + 31 * DAY
    expected = [run.at for run in due(Rule("p", "r", expression, zone), begins, ends)]
    firings = parse(expression).after(begins - MINUTE, ZoneInfo(zone))
    assert list(takewhile(lambda at: at < ends, firings)) == expected


def a_plan(rules: list[Rule]) -> PlanBody:
    return a_body(
        *(
            a_rule(
                name=rule.name,
                schedule=rule.cron,
                timezone=rule.zone,
                start_window=rule.start_window,
                lifecycle=Lifecycle(None, rule.delete_after_days),
            )
            for rule in rules
        ),
        name="p",
    )


def rules_named(name: str) -> st.SearchStrategy[Rule]:
    return st.builds(
        Rule,
        plan=st.just("p"),
        name=st.just(name),
        cron=crons(st.integers(0, 59).map(str)),
        zone=st.sampled_from(ZONES),
        start_window=st.integers(1, 12).map(lambda hours: hours * HOUR),
        delete_after_days=st.none() | st.integers(1, 3),
    )


def considered(rules: list[Rule], begins: datetime, looks: list[datetime]) -> list[Run]:
    """Of each rule's runs between one look and the next, the last one: the others were missed."""
    found = []
    for rule in rules:
        for since, until in pairwise([begins, *looks]):
            missed = due(rule, since + MINUTE, until + MINUTE)
            found += missed[-1:]
    return sorted(found)


@given(
    st.lists(st.sampled_from("abc").flatmap(rules_named), unique_by=lambda rule: rule.name, min_size=1),
    _MONTHS,
    st.integers(1, 26),
    st.lists(st.integers(1, 72), min_size=1, max_size=5).map(sorted),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=_EXAMPLES)
def test_whenever_it_looks_the_scheduler_makes_the_jobs_of_the_latest_runs_that_do_not_stand_back(
    empty_sqlite: Path, tmp_path: Path, rules: list[Rule], month: tuple[int, int], day: int, hours: list[int]
) -> None:
    begins = datetime(*month, day, tzinfo=UTC)
    looks = [begins + hour * HOUR for hour in hours]
    shutil.copyfile(empty_sqlite, tmp_path / "control.db")
    database = Database.open(f"sqlite:///{tmp_path / 'control.db'}")
    try:
        Accounts(database).plan(a_plan(rules), at=begins)
        for at in looks:
            service.tick(database, now=at)
        with database.reading() as tx:
            rows = tx.execute(text("SELECT due_at, plan_name, rule_name FROM job")).all()
            skipped = tx.execute(text("SELECT due_at, plan_name, rule_name FROM skipped_run")).all()
    finally:
        database.close()
    every = {run for rule in rules for run in due(rule, begins + MINUTE, looks[-1] + MINUTE)}
    made = set(backups(rules, begins + MINUTE, looks[-1] + MINUTE)) & set(considered(rules, begins, looks))
    assert {Run(instant(row.due_at), row.plan_name, row.rule_name) for row in rows} == made
    assert len(rows) == len(made)
    assert {Run(instant(row.due_at), row.plan_name, row.rule_name) for row in skipped} == every - made
