"""Every valid effective policy becomes plans: what inheritance makes of admitted policies, plans can read."""

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.policy.builders import (
    CONTROL,
    FULL_POLICY,
    NOW,
    REGIONS,
    ROLE,
    a_chain,
    a_plan,
    a_policy,
    a_rule,
    assign,
    policies,
)

from holdfast.plan.model.derive import derive_plans, rules_of, selections_of
from holdfast.policy.model.admission import admit
from holdfast.policy.model.merge import effective
from holdfast.policy.model.validation import validate_effective
from holdfast.schedule import service as scheduler


def read(document: dict[str, Any]) -> None:
    for region in REGIONS:
        list(derive_plans(document, organization_id="o-1", account="111122223333", region=region))
    for name, plan in document.get("plans", {}).items():
        for _, rule in rules_of(document, name):
            scheduler.job_options(rule)
        selections_of(plan)


COMPLETE = st.sampled_from([a_policy(), FULL_POLICY, a_policy(core=a_plan(), extra=a_plan())])


@given(st.lists(st.lists(st.one_of(policies, COMPLETE), max_size=2), min_size=1, max_size=3))
def test_a_valid_document_can_be_read_as_plans(levels: list[list[dict[str, Any]]]) -> None:
    result = effective(a_chain(*levels))
    if validate_effective(result, NOW) == ():
        read(result.document)


def test_windows_and_days_beyond_every_calendar_are_cut_to_a_hundred_years() -> None:
    most = assign("9999999999999999")
    rule = a_rule(
        start_backup_window_minutes=most,
        complete_backup_window_minutes=most,
        lifecycle={"delete_after_days": most},
    )
    policy = a_policy(core=a_plan(rules={"daily": rule}, regions=assign(["eu-north-1", "eu-north-1"])))
    admit("BACKUP_POLICY", json.dumps(policy), regions=REGIONS, now=NOW)
    document = effective(a_chain([policy])).document
    (plan,) = derive_plans(document, organization_id="o-1", account="111122223333", region="eu-north-1")
    assert plan.rules[0].start_window == plan.rules[0].completion_window == timedelta(minutes=52_560_000)
    assert plan.rules[0].lifecycle.delete_after_days == 36_500


def locked(*leaves: str) -> dict[str, Any]:
    return {leaf: {CONTROL: ["@@none"]} for leaf in leaves[:1]} | {leaf: {} for leaf in leaves[1:]}


TAG = ("tag_key", "tag_value")
CONDITION = ("condition_key", "condition_value")


def with_tag(leaves: dict[str, Any]) -> dict[str, Any]:
    return {"backup_plan_tags": {"cost": leaves}}


def with_condition(leaves: dict[str, Any]) -> dict[str, Any]:
    return {
        "selections": {
            "resources": {
                "all": {
                    "iam_role_arn": assign(ROLE),
                    "resource_types": assign(["*"]),
                    "conditions": {"string_like": {"c": leaves}},
                }
            }
        }
    }


@pytest.mark.parametrize(
    ("above", "below", "path"),
    [
        pytest.param(
            with_tag(locked(*TAG)),
            with_tag({"tag_key": assign("cost"), "tag_value": assign("1")}),
            "plans/core/backup_plan_tags/cost",
            id="a tag",
        ),
        pytest.param(
            with_condition(locked(*CONDITION)),
            with_condition({"condition_key": assign("aws:ResourceTag/x"), "condition_value": assign("1")}),
            "plans/core/selections/resources/all/conditions/string_like/c",
            id="a condition",
        ),
    ],
)
def test_half_of_what_belongs_together_makes_the_document_invalid(
    above: dict[str, Any], below: dict[str, Any], path: str
) -> None:
    chain = a_chain([a_policy(core=a_plan(**above))], [a_policy(core=a_plan(**below))])
    for level in chain:
        for policy in level.policies:
            admit("BACKUP_POLICY", policy.content, regions=REGIONS, now=NOW)
    errors = validate_effective(effective(chain), NOW)
    assert [(error.code, error.path) for error in errors] == [("KEY_REQUIRED", path)]
