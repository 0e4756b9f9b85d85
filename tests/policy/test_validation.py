"""Validation of effective backup policies: codes, messages, paths, and who contributed."""

from typing import Any

import pytest
from tests.policy.builders import COPY, NOW, ROLE, a_chain, a_plan, a_policy, a_rule, a_selection, assign

from holdfast.policy.model.merge import effective
from holdfast.policy.model.validation import validate_effective

ARCHIVE = "opt_in_to_archive_for_supported_resources"
TOGETHER = "in policy block daily are invalid when used together"
RULE = "plans/core/rules/daily"


def errors(*levels: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    found = validate_effective(effective(a_chain(*levels)), NOW)
    return [(error.code, error.message, error.path) for error in found]


def a_policy_with(rule: dict[str, Any], **plan: Any) -> dict[str, Any]:
    return a_policy(core=a_plan(rules={"daily": rule}, **plan))


def keeping(cold: int, delete: int) -> dict[str, Any]:
    return {
        "move_to_cold_storage_after_days": assign(cold),
        "delete_after_days": assign(delete),
        ARCHIVE: assign("true"),
    }


MONTHLY = assign("cron(0 5 1 * ? *)")
DAILY = {"plans": {"core": {"rules": {"daily": {"schedule_expression": assign("cron(0 5 ? * * *)")}}}}}


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        pytest.param([[a_policy()]], [], id="a complete plan"),
        pytest.param([[{"plans": {"core": {}}}]], [], id="a plan with nothing in it is not there"),
        pytest.param(
            [[a_policy(core=a_plan(rules=None))]], [("KEY_REQUIRED", "'rules' is missing", "plans/core")], id="no rules"
        ),
        pytest.param(
            [[a_policy(core=a_plan(regions={"@@remove": ["eu-north-1"]}))]],
            [("KEY_REQUIRED", "'regions' is missing", "plans/core")],
            id="regions only removed",
        ),
        pytest.param(
            [[a_policy()], [{"plans": {"core": {"regions": {"@@remove": ["eu-north-1"]}}}}]],
            [("ELEMENTS_TOO_FEW", "'regions' is less than the allowed minimum limit 1", "plans/core/regions")],
            id="the last region removed",
        ),
        pytest.param(
            [[a_policy(core=a_plan(rules={f"r{number}": a_rule() for number in range(11)}))]],
            [("ELEMENTS_TOO_MANY", "'rules' exceeds the allowed maximum limit 10", "plans/core/rules")],
            id="eleven rules",
        ),
        pytest.param(
            [[a_policy(core=a_plan(selections={"tags": {"Tier": {"iam_role_arn": assign(ROLE)}}}))]],
            [
                ("KEY_REQUIRED", "'tag_key' is missing", "plans/core/selections/tags/tier"),
                ("KEY_REQUIRED", "'tag_value' is missing", "plans/core/selections/tags/tier"),
            ],
            id="a selection by tag without a tag",
        ),
        pytest.param(
            [[a_policy(core=a_plan(selections={"resources": {"all": {"resource_types": assign(["*"])}}}))]],
            [("KEY_REQUIRED", "'iam_role_arn' is missing", "plans/core/selections/resources/all")],
            id="a selection by resource without a role",
        ),
        pytest.param(
            [
                [a_policy()],
                [
                    {
                        "plans": {
                            "core": {
                                "selections": {
                                    "tags": {"tier": {"tag_key": assign("T"), "tag_value": {"@@remove": ["gold"]}}}
                                }
                            }
                        }
                    }
                ],
            ],
            [
                (
                    "ELEMENTS_TOO_FEW",
                    "'tag_value' is less than the allowed minimum limit 1",
                    "plans/core/selections/tags/tier/tag_value",
                )
            ],
            id="the last tag value removed",
        ),
        pytest.param(
            [
                [a_policy_with(a_rule(enable_continuous_backup=assign("true")))],
            ],
            [
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    f"Dependent fields enable_continuous_backup=true,delete_after_days=undefined {TOGETHER}",
                    RULE,
                )
            ],
            id="continuous without an end",
        ),
        pytest.param(
            [[a_policy_with(a_rule(schedule_expression=MONTHLY, lifecycle=keeping(30, 120)))], [DAILY]],
            [
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    f"Dependent fields {ARCHIVE}=true,schedule_expression=cron(0 5 ? * * *) {TOGETHER}",
                    RULE,
                )
            ],
            id="archived, and a child makes it daily",
        ),
        pytest.param(
            [[a_policy_with(a_rule(schedule_expression=MONTHLY, lifecycle=keeping(90, 120)))]],
            [
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    f"Dependent fields {ARCHIVE}=true,delete_after_days=120,move_to_cold_storage_after_days=90 "
                    + TOGETHER,
                    RULE,
                )
            ],
            id="archived with too few days",
        ),
        pytest.param(
            [[a_policy_with(a_rule(lifecycle={ARCHIVE: assign("true")}))]],
            [
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    (
                        f"Dependent fields {ARCHIVE}=true,delete_after_days=undefined,"
                        f"move_to_cold_storage_after_days=undefined {TOGETHER}"
                    ),
                    RULE,
                ),
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    f"Dependent fields {ARCHIVE}=true,schedule_expression=undefined {TOGETHER}",
                    RULE,
                ),
            ],
            id="archived without anything it needs",
        ),
        pytest.param(
            [
                [
                    a_policy_with(
                        a_rule(
                            schedule_expression=MONTHLY,
                            copy_actions={
                                COPY: {"lifecycle": keeping(30, 120)},
                                COPY + "2": {"lifecycle": keeping(30, 120)},
                            },
                        )
                    )
                ],
                [DAILY],
            ],
            [
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    f"Dependent fields {ARCHIVE}=true,schedule_expression=cron(0 5 ? * * *) {TOGETHER}",
                    RULE,
                )
            ],
            id="two copies archived daily are one error",
        ),
        pytest.param(
            [[a_policy_with(a_rule(scan_actions={"GUARDDUTY": {"scan_mode": assign("FULL_SCAN")}}))]],
            [
                (
                    "CROSS_ATTRIBUTE_VALIDATION",
                    f"Dependent fields scan_actions(undefined),scan_settings(undefined) {TOGETHER}",
                    RULE,
                )
            ],
            id="a scan without settings",
        ),
    ],
)
def test_what_makes_a_document_invalid(
    levels: list[list[dict[str, Any]]], expected: list[tuple[str, str, str]]
) -> None:
    assert errors(*levels) == expected


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(
            a_policy_with(
                a_rule(lifecycle={"move_to_cold_storage_after_days": assign(30), "delete_after_days": assign(60)})
            ),
            id="cold storage for thirty days without archiving",
        ),
        pytest.param(
            a_policy_with(a_rule(), scan_settings={"GUARDDUTY": {"scanner_role_arn": assign(ROLE)}}),
            id="scan settings without a scan",
        ),
        pytest.param(
            a_policy_with(a_rule(start_backup_window_minutes=assign(600), complete_backup_window_minutes=assign(60))),
            id="a window to complete that is shorter than that to start",
        ),
        pytest.param(
            a_policy(
                core=a_plan(
                    selections={
                        "tags": {"t": a_selection()},
                        "resources": {
                            "r": {
                                "iam_role_arn": assign(ROLE),
                                "conditions": {"string_like": {}},
                                "resource_types": assign(["*"]),
                            }
                        },
                    }
                )
            ),
            id="tags and resources together",
        ),
    ],
)
def test_what_is_left_to_the_account(policy: dict[str, Any]) -> None:
    assert errors([policy]) == []


def test_continuous_backup_may_inherit_days_of_cold_storage() -> None:
    root = a_policy_with(a_rule(enable_continuous_backup=assign("true"), lifecycle={"delete_after_days": assign(35)}))
    child = {"plans": {"core": {"rules": {"daily": {"lifecycle": {"move_to_cold_storage_after_days": assign(1)}}}}}}
    assert errors([root], [child]) == []


def test_an_emptied_list_of_types_to_index_is_left_alone() -> None:
    root = a_policy_with(a_rule(index_actions={"resource_types": assign(["EBS"])}))
    child = {"plans": {"core": {"rules": {"daily": {"index_actions": {"resource_types": {"@@remove": ["EBS"]}}}}}}}
    assert errors([root], [child]) == []


def test_the_policies_named_are_those_whose_values_stand_at_the_place() -> None:
    first = {"plans": {"core": {"rules": {"daily": {"start_backup_window_minutes": assign(60)}}}}}
    second = {"plans": {"core": {"rules": {"weekly": a_rule()}}, "other": a_plan()}}
    overridden = {"plans": {"core": {"rules": {"weekly": a_rule(target_backup_vault_name=assign("X"))}}}}
    found = validate_effective(effective(a_chain([overridden], [first, second])), NOW)
    assert {(error.path, error.message): error.contributing_policies for error in found} == {
        ("plans/core", "'regions' is missing"): ("n1p1", "n1p0"),
        ("plans/core", "'selections' is missing"): ("n1p1", "n1p0"),
        ("plans/core/rules/daily", "'target_backup_vault_name' is missing"): ("n1p0",),
    }


def test_the_rule_is_named_in_lower_case() -> None:
    policy = a_policy(core=a_plan(rules={"DAILY": {"start_backup_window_minutes": assign(60)}}))
    assert errors([policy]) == [("KEY_REQUIRED", "'target_backup_vault_name' is missing", RULE)]
