"""Overlapping rules of one plan: who stands back, in the guide's own example and as a law."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.schedule.test_due_runs import REGION, Installation

from holdfast.database.connection import Database
from holdfast.schedule import service
from holdfast.schedule.overlap import Recurring, taken_over

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
HOURLY = Recurring("hourly", "cron(0 * ? * * *)", "Etc/UTC", HOUR, kept_days=1)
TWICE = Recurring("twice", "cron(0 0/12 ? * * *)", "Etc/UTC", 8 * HOUR, kept_days=7)


def test_the_example_of_the_guide_makes_two_and_eight_backups_a_day() -> None:
    """Hourly, kept for a day, with a window of an hour; every 12 hours, kept for a week, with a window of 8 hours."""
    hours = [hour for hour in range(24) if taken_over(HOURLY, MIDNIGHT + hour * HOUR, [TWICE]) is None]
    assert hours == [8, 9, 10, 11, 20, 21, 22, 23]
    assert taken_over(HOURLY, MIDNIGHT + 3 * HOUR, [TWICE]) == (TWICE, MIDNIGHT)
    assert [taken_over(TWICE, MIDNIGHT + hour * HOUR, [HOURLY]) for hour in (0, 12)] == [None, None]


def recurring(name: str) -> st.SearchStrategy[Recurring]:
    return st.builds(
        Recurring,
        name=st.just(name),
        schedule=st.integers(0, 23).map(lambda hour: f"cron(0 {hour} ? * * *)"),
        timezone=st.just("Etc/UTC"),
        start_window=st.integers(1, 30).map(lambda hours: hours * HOUR),
        kept_days=st.none() | st.integers(1, 3),
    )


@given(recurring("a"), recurring("b"), st.integers(0, 23))
def test_of_two_runs_at_most_one_stands_back_and_only_where_windows_overlap(
    one: Recurring, other: Recurring, hour: int
) -> None:
    due = MIDNIGHT + hour * HOUR
    found = taken_over(one, due, [other])
    if found is None:
        return
    taker, run = found
    assert taker is other
    assert run < due + one.start_window
    assert due < run + other.start_window
    assert taken_over(other, run, [one]) is None, "who takes over does not stand back itself"


def test_nobody_stands_back_behind_a_run_that_stands_back_itself() -> None:
    """B overlaps with A and with C, A and C do not meet: C and A make backups, B stands back."""
    a, b, c = (
        Recurring(name, f"cron(0 {hour} ? * * *)", "Etc/UTC", 3 * HOUR, kept_days=days)
        for name, hour, days in (("a", 6, 1), ("b", 4, 7), ("c", 2, 30))
    )
    due = {rule.name: MIDNIGHT + hour * HOUR for rule, hour in ((a, 6), (b, 4), (c, 2))}
    assert taken_over(c, due["c"], [a, b]) is None
    assert taken_over(b, due["b"], [a, c]) == (c, due["c"])
    assert taken_over(a, due["a"], [b, c]) is None
    # An earlier run that is made counts, where the latest one stands back.
    often = Recurring("often", "cron(0 0/2 ? * * *)", "Etc/UTC", 4 * HOUR, kept_days=7)
    once = Recurring("once", "cron(0 7 ? * * *)", "Etc/UTC", HOUR, kept_days=30)
    daily = Recurring("daily", "cron(0 5 ? * * *)", "Etc/UTC", 2 * HOUR, kept_days=1)
    assert taken_over(often, MIDNIGHT + 6 * HOUR, [daily, once]) == (once, MIDNIGHT + 7 * HOUR)
    assert taken_over(daily, MIDNIGHT + 5 * HOUR, [often, once]) == (often, MIDNIGHT + 2 * HOUR)


@given(st.lists(st.sampled_from("abcde").flatmap(recurring), unique_by=lambda rule: rule.name, min_size=2))
def test_whoever_takes_over_makes_its_backup(rules: list[Recurring]) -> None:
    for rule in rules:
        for hour in range(24):
            others = [other for other in rules if other is not rule]
            found = taken_over(rule, MIDNIGHT + hour * HOUR, others)
            if found is not None:
                taker, run = found
                assert taken_over(taker, run, [other for other in rules if other is not taker]) is None


def a_document() -> dict[str, Any]:
    def rule(schedule: str, window: int, days: int) -> dict[str, Any]:
        return {
            "target_backup_vault_name": "V",
            "schedule_expression": schedule,
            "start_backup_window_minutes": str(window),
            "lifecycle": {"delete_after_days": str(days)},
        }

    selection = {"iam_role_arn": "arn:aws:iam::$account:role/Backup", "tag_key": "t", "tag_value": ["v"]}
    return {
        "plans": {
            "both": {
                "regions": [REGION],
                "rules": {
                    "hourly": rule("cron(0 * ? * * *)", 60, 1),
                    "twice": rule("cron(0 0/12 ? * * *)", 480, 7),
                },
                "selections": {"tags": {"s": selection}},
            }
        }
    }


def test_a_run_that_stands_back_makes_no_job_and_leaves_its_reason(database: Database) -> None:
    installation = Installation(database)
    installation.document(a_document())
    installation.account("111122223333")
    installation.resource("111122223333", "fs-1", {"t": "v"})
    service.tick(database, now=MIDNIGHT - HOUR / 2)
    for hour in range(24):
        service.tick(database, now=MIDNIGHT + hour * HOUR)
    with database.reading() as tx:
        made = Counter(tx.execute(text("SELECT rule_name FROM job")).scalars())
        reasons = tx.execute(text("SELECT rule_name, reason FROM skipped_run")).all()
    assert made == {"hourly": 8, "twice": 2}
    assert len(reasons) == 16
    assert {row.rule_name for row in reasons} == {"hourly"}
    assert all("rule twice of the same plan" in row.reason for row in reasons)


def test_start_windows_of_a_hundred_years_are_looked_through_in_no_time() -> None:
    monthly = Recurring("monthly", "cron(0 5 1 * ? *)", "Etc/UTC", timedelta(hours=1), 100)
    endless = Recurring("endless", "cron(30 * ? * * *)", "Etc/UTC", timedelta(minutes=52_560_000), 50)
    hourly = Recurring("hourly", "cron(0 * ? * * *)", "Etc/UTC", timedelta(hours=1), 1)
    # Every run of `endless` stands back behind one of `monthly`, and there are half a million of them.
    assert taken_over(hourly, datetime(2026, 1, 5, 12, tzinfo=UTC), [monthly, endless]) is None
