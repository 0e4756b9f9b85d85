"""A month by the development clock, with a clock change in it: every job and point is one that a model predicts.

The server is a real one, its jobs read a real directory, and everything is asked by boto3.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from tests.running import REGION, ROLE, VAULT, Member, Running, found_organization, join
from tests.schedule.month import DAY, MINUTE, Points, Rule, Run, backups, points

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
HOUR = timedelta(hours=1)
_DELETION_DELAY = timedelta(days=7)
_GRAIN = timedelta(minutes=30)
"""Every schedule here is due on a full or a half hour: what happens belongs to the last one before it."""


def policy(rules: Sequence[Rule]) -> dict[str, Any]:
    """A policy of rules of one plan; policies know no time zones."""
    assert {rule.zone for rule in rules} == {"Etc/UTC"}
    selection = {
        "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
        "tag_key": {"@@assign": "backup"},
        "tag_value": {"@@assign": ["yes"]},
    }
    plan = {
        "regions": {"@@assign": [REGION]},
        "rules": {
            rule.name: {
                "schedule_expression": {"@@assign": rule.cron},
                "start_backup_window_minutes": {"@@assign": str(rule.start_window // MINUTE)},
                "target_backup_vault_name": {"@@assign": VAULT},
                "lifecycle": {"delete_after_days": {"@@assign": str(rule.delete_after_days)}},
            }
            for rule in rules
        },
        "selections": {"tags": {"all": selection}},
    }
    return {"plans": {rules[0].plan: plan}}


def own_plan(rules: Sequence[Rule]) -> dict[str, Any]:
    """The plan of these rules as an account makes it."""
    return {
        "BackupPlanName": rules[0].plan,
        "Rules": [
            {
                "RuleName": rule.name,
                "TargetBackupVaultName": VAULT,
                "ScheduleExpression": rule.cron,
                "ScheduleExpressionTimezone": rule.zone,
                "StartWindowMinutes": rule.start_window // MINUTE,
                "Lifecycle": {
                    name: days
                    for name, days in (
                        ("MoveToColdStorageAfterDays", rule.cold_after_days),
                        ("DeleteAfterDays", rule.delete_after_days),
                    )
                    if days is not None
                },
            }
            for rule in rules
        ],
    }


class Month:
    """A server on which the rules hold from `begins` on, and one small resource that all of them take."""

    def __init__(self, server: Running, begins: datetime, *, own: Sequence[Rule], inherited: Sequence[Rule]) -> None:
        server.clock(set=begins.isoformat())
        root = found_organization(server)
        self.server, self.rules = server, [*own, *inherited]
        self.shop: Member = join(server, "shop")
        self.tree = self.shop.sandbox / "files"
        self.tree.mkdir()
        self.write(begins)
        self.shop.register("files", self.tree, Tags={"backup": "yes"})
        self._organizations = server.client("organizations")
        made = self._organizations.create_policy(
            Type="BACKUP_POLICY", Name="month", Description="", Content=json.dumps(policy(inherited))
        )
        self._policy = {"PolicyId": made["Policy"]["PolicySummary"]["Id"], "TargetId": root}
        self._organizations.attach_policy(**self._policy)
        self._backup = self.shop.client("backup")
        self._plan = self._backup.create_backup_plan(BackupPlan=own_plan(own))["BackupPlanId"]
        self._selection = self._backup.create_backup_selection(
            BackupPlanId=self._plan,
            BackupSelection={
                "SelectionName": "all",
                "IamRoleArn": self.shop.role,
                "ListOfTags": [{"ConditionType": "STRINGEQUALS", "ConditionKey": "backup", "ConditionValue": "yes"}],
            },
        )["SelectionId"]

    def write(self, at: datetime) -> None:
        """Let the resource say what instant it is."""
        (self.tree / "diary").write_text(at.isoformat())

    def go_to(self, at: datetime) -> None:
        """Let time pass until `at`, and whatever is due by then be done."""
        self.server.clock(set=at.isoformat(), settle=True)

    def end_plans(self) -> None:
        """Let no rule hold any more."""
        self._organizations.detach_policy(**self._policy)
        self._backup.delete_backup_selection(BackupPlanId=self._plan, SelectionId=self._selection)
        self._backup.delete_backup_plan(BackupPlanId=self._plan)

    def jobs(self) -> list[dict[str, Any]]:
        """Every backup job of the organization."""
        pages = self.server.client("backup").get_paginator("list_backup_jobs").paginate(ByAccountId="*")
        return [job for page in pages for job in page["BackupJobs"]]

    def points(self, jobs: Sequence[dict[str, Any]]) -> Points:
        """What the vault shows, and what of the gone is still kept."""
        listed = {_run(point): point["RecoveryPointArn"] for point in self.shop.points()}
        to_cold = {(rule.plan, rule.name) for rule in self.rules if rule.cold_after_days is not None}
        cold = {run for run, arn in listed.items() if (run.plan, run.rule) in to_cold and self._is_cold(arn)}
        made = {job["RecoveryPointArn"]: _run(job) for job in jobs}
        pages = self.shop.client("holdfast").get_paginator("list_deleted_recovery_points").paginate()
        hidden = {made[point["RecoveryPointArn"]] for page in pages for point in page["RecoveryPoints"]}
        return Points(frozenset(listed) - cold, frozenset(cold), frozenset(hidden))

    def _is_cold(self, arn: str) -> bool:
        place = {"BackupVaultName": VAULT, "RecoveryPointArn": arn}
        storage_class: str = self._backup.describe_recovery_point(**place)["StorageClass"]
        return storage_class == "COLD"

    def restored(self, run: Run) -> str:
        """What the point of a run gives back."""
        (point,) = [point for point in self.shop.points() if _run(point) == run]
        target = self.shop.sandbox / f"{run.rule}-{run.at:%d-%H}"
        job = self.shop.start_restore(point, {"newFileSystem": "true", "holdfast:target-url": target.as_uri()})
        self.server.settle()
        assert self.shop.restored(job)["Status"] == "COMPLETED"
        (diary,) = target.rglob("diary")
        return diary.read_text()


def _run(of: dict[str, Any]) -> Run:
    """What a job or a point was made for."""
    at, by = of["CreationDate"].astimezone(UTC), of["CreatedBy"]
    return Run(at - (at - datetime.min.replace(tzinfo=UTC)) % _GRAIN, by["BackupPlanName"], by["BackupRuleName"])


def check_against_the_model(month: Month, begins: datetime, ends: datetime) -> None:
    """Let the time pass, and compare at every step what was made and what has become of it."""
    predicted = backups(month.rules, begins, ends)
    for days in range(1, (ends - begins).days + 1):
        at = begins + days * DAY
        month.write(at - DAY)
        month.go_to(at)
        jobs = month.jobs()
        assert sorted(map(_run, jobs)) == [run for run in predicted if run.at <= at], at
        assert month.points(jobs) == points(month.rules, predicted, at, deletion_delay=_DELETION_DELAY), at
    jobs = sorted(month.jobs(), key=lambda job: job["InitiationDate"])
    assert {job["State"] for job in jobs} == {"COMPLETED"}
    for earlier, later in pairwise(jobs):
        assert earlier["CompletionDate"] <= later["InitiationDate"], "one job per resource at a time"


@pytest.mark.parametrize(
    ("begins", "expected"),
    [
        pytest.param(
            datetime(2026, 3, 28, 23, 45, tzinfo=UTC),
            [
                "29 00:00 hourly",
                "29 01:00 hourly",
                "29 22:00 hourly",
                "29 23:00 hourly",
                "30 00:00 midnight",
                "30 00:30 daily",
                "30 22:00 hourly",
                "30 23:00 hourly",
            ],
            id="an hour that does not exist",
        ),
        pytest.param(
            datetime(2026, 10, 24, 23, 45, tzinfo=UTC),
            [
                "25 00:30 daily",
                "25 02:00 hourly",
                "25 23:00 hourly",
                "26 00:00 hourly",
                "26 00:00 midnight",
                "26 01:30 daily",
                "26 23:00 hourly",
            ],
            id="an hour that comes twice",
        ),
    ],
)
def test_the_nights_around_a_clock_change_are_as_a_model_predicts(
    dev: Running, begins: datetime, expected: list[str]
) -> None:
    own = [
        Rule("own", "daily", "cron(30 2 ? * * *)", BERLIN, HOUR, cold_after_days=1, delete_after_days=91),
        Rule("own", "hourly", "cron(0 0-3 ? * * *)", BERLIN, HOUR, delete_after_days=1),
    ]
    inherited = [Rule("prescribed", "midnight", "cron(0 0 ? * MON *)", delete_after_days=7)]
    rules, ends = [*own, *inherited], begins + 2 * DAY
    assert [f"{run.at:%d %H:%M} {run.rule}" for run in backups(rules, begins, ends)] == expected
    check_against_the_model(Month(dev, begins, own=own, inherited=inherited), begins, ends)


@pytest.mark.deep
@pytest.mark.parametrize(
    "begins",
    [
        pytest.param(datetime(2026, 3, 1, 23, 45, tzinfo=UTC), id="clocks go forward"),
        pytest.param(datetime(2026, 10, 10, 23, 45, tzinfo=UTC), id="clocks go back"),
    ],
)
def test_a_whole_month_is_as_a_model_predicts(dev: Running, begins: datetime) -> None:
    """Berlin changes its clocks on 29 March and 25 October 2026, New York on 8 March and 1 November."""
    own = [
        Rule("own", "daily", "cron(30 2 ? * * *)", BERLIN, 4 * HOUR, cold_after_days=5, delete_after_days=95),
        Rule("own", "hourly", "cron(0 * ? * * *)", BERLIN, HOUR, delete_after_days=2),
        Rule("own", "abroad", "cron(0 1,2 ? * SUN,WED *)", NEW_YORK, HOUR, delete_after_days=10),
    ]
    inherited = [
        Rule("prescribed", "twice", "cron(0 0/12 ? * * *)", start_window=8 * HOUR, delete_after_days=7),
        Rule("prescribed", "hourly", "cron(0 3-15 ? * SAT,SUN *)", start_window=HOUR, delete_after_days=1),
    ]
    month, rules, ends = Month(dev, begins, own=own, inherited=inherited), [*own, *inherited], begins + 31 * DAY
    check_against_the_model(month, begins, ends)
    predicted = backups(rules, begins, ends)
    made = [run for run in predicted if run.rule == "daily"]
    for run in (made[0], made[-1]):
        written_at = datetime.fromisoformat(month.restored(run))
        assert written_at <= run.at < written_at + DAY
    month.end_plans()
    jobs = month.jobs()
    for days in range(5, 110, 7):
        month.go_to(ends + days * DAY)
        left = points(rules, predicted, ends + days * DAY, deletion_delay=_DELETION_DELAY)
        assert month.points(jobs) == left, days
    assert month.points(jobs) == Points(frozenset(), frozenset(), frozenset())
    assert len(month.jobs()) == len(jobs)
