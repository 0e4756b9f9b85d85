"""What a plan of an account's own may say, and what it is refused for."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.plan.model.body import InvalidPlanError, PlanBody, refuse_bad_body, with_rule_ids
from holdfast.plan.model.plan import CopyAction, Lifecycle, Rule
from holdfast.plan.model.template import TEMPLATES

VAULT = "arn:aws:backup:eu-north-1:111122223333:backup-vault:Second"


def a_rule(**changed: Any) -> Rule:
    return replace(Rule(id="", name="daily", vault_name="Central"), **changed)


def a_body(*rules: Rule, **changed: Any) -> PlanBody:
    return replace(PlanBody("plan", rules or (a_rule(),)), **changed)


def minutes(number: int) -> timedelta:
    return timedelta(minutes=number)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (a_body(name=""), "BackupPlanName must be"),
        (a_body(name="a b"), "BackupPlanName must be"),
        (a_body(name="x" * 201), "BackupPlanName must be"),
        (PlanBody("plan", ()), "1 to 10 rules, not 0"),
        (a_body(*(a_rule(name=f"r{number}") for number in range(11))), "1 to 10 rules, not 11"),
        (a_body(a_rule(), a_rule()), "2 rules of this name"),
        (a_body(a_rule(schedule="rate(1 day)")), "rate"),
        (a_body(a_rule(schedule="cron(0 5 * * * *)")), "ScheduleExpression"),
        (a_body(a_rule(schedule="cron(0/30 5 ? * * *)")), "once an hour at most"),
        (a_body(a_rule(timezone="Mars/Olympus")), "Invalid ScheduleExpressionTimezone 'Mars/Olympus'"),
        (a_body(a_rule(timezone="../UTC")), "Invalid ScheduleExpressionTimezone"),
        (a_body(a_rule(start_window=minutes(59))), "StartWindowMinutes must be between 60 and 52560000"),
        (a_body(a_rule(completion_window=minutes(59))), "CompletionWindowMinutes must be between 60"),
        (
            a_body(a_rule(lifecycle=Lifecycle(30, 119))),
            "DeleteAfterDays cannot be less than 90 days apart from MoveToColdStorageAfterDays",
        ),
        (a_body(a_rule(lifecycle=Lifecycle(None, 0))), "cannot be less than 1 or more than 36500 days"),
        (a_body(a_rule(continuous=True)), "cannot be less than 1 or more than 35 days"),
        (a_body(a_rule(continuous=True, lifecycle=Lifecycle(None, 36))), "less than 1 or more than 35 days"),
        (a_body(a_rule(continuous=True, lifecycle=Lifecycle(1, 35))), "MoveToColdStorageAfterDays is unavailable"),
        (a_body(a_rule(recovery_point_tags={"aws:x": "y"})), "reserved"),
        (a_body(a_rule(recovery_point_tags={str(n): "" for n in range(11)})), "RecoveryPointTags may be 10, not 11"),
        (a_body(a_rule(copies=tuple(CopyAction(VAULT + str(n)) for n in range(6)))), "CopyActions may be 5, not 6"),
        (a_body(a_rule(copies=(CopyAction(VAULT), CopyAction(VAULT)))), "2 times"),
        (a_body(a_rule(copies=(CopyAction("Second"),))), "DestinationBackupVaultArn"),
        (a_body(a_rule(copies=(CopyAction("arn:aws:s3:::second"),))), "is not the ARN of a backup vault"),
        (a_body(a_rule(copies=(CopyAction(VAULT, Lifecycle(10, 50)),))), "less than 90 days apart"),
        (a_body(a_rule(air_gapped_vault_arn="arn:aws:s3:::second")), "TargetLogicallyAirGappedBackupVaultArn"),
        (a_body(a_rule(index_types=("RDS",))), "IndexActions are for EBS and S3"),
        (a_body(advanced_settings={"RDS": {}}), "AdvancedBackupSettings are for EC2 and S3"),
        (a_body(advanced_settings={"EC2": {"WindowsVSS": "on"}}), "Invalid backup option WindowsVSS = on for EC2"),
        (a_body(advanced_settings={"S3": {"WindowsVSS": "enabled"}}), "Invalid backup option"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_what_is_wrong(body: PlanBody, says: str) -> None:
    with pytest.raises(InvalidPlanError) as refused:
        refuse_bad_body(body)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        a_body(),
        a_body(*(a_rule(name=f"r{number}") for number in range(10))),
        a_body(a_rule(schedule="cron(15 * ? * * *)", timezone="America/New_York")),
        a_body(a_rule(lifecycle=Lifecycle(30, 120), start_window=minutes(60), completion_window=minutes(52_560_000))),
        a_body(a_rule(lifecycle=Lifecycle(-1, -1), copies=(CopyAction(VAULT, Lifecycle(None, -1)),))),
        a_body(a_rule(continuous=True, lifecycle=Lifecycle(None, 35))),
        a_body(advanced_settings={"EC2": {"WindowsVSS": "enabled"}, "S3": {"BackupACLs": "disabled"}}),
        *TEMPLATES.values(),
    ],
)
def test_a_plan_that_can_be_is_read_back_as_it_was_written(body: PlanBody) -> None:
    refuse_bad_body(body)
    assert PlanBody.from_json(body.to_json().decode()) == body
    assert with_rule_ids(body).hash == body.hash


@given(st.lists(st.sampled_from("abcde"), unique=True, min_size=1), st.lists(st.sampled_from("abcde"), unique=True))
def test_a_rule_keeps_its_id_as_long_as_its_name_is_there(before: list[str], after: list[str]) -> None:
    first = with_rule_ids(PlanBody("plan", tuple(a_rule(name=name) for name in before)))
    second = with_rule_ids(PlanBody("plan", tuple(a_rule(name=name, vault_name="Other") for name in after)), first)
    known = {rule.name: rule.id for rule in first.rules}
    assert len({rule.id for rule in second.rules}) == len(after)
    for rule in second.rules:
        assert (rule.id == known.get(rule.name)) is (rule.name in known)
