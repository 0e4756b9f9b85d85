"""Linting: everything that can be said about a policy while it is being written, with its place."""

import json
from typing import Any

import pytest
from hypothesis import given
from tests.policy.builders import (
    COPY,
    FULL_POLICY,
    NOW,
    REGIONS,
    a_plan,
    a_policy,
    a_rule,
    assign,
    json_values,
    policies,
)

from holdfast.policy.model.admission import admit
from holdfast.policy.model.document import MalformedPolicyError
from holdfast.policy.model.lint import Remark, Severity, lint


def remarks(policy: Any, policy_type: str = "BACKUP_POLICY") -> tuple[Remark, ...]:
    content = policy if isinstance(policy, str) else json.dumps(policy)
    return lint(policy_type, content, regions=REGIONS, now=NOW)


def said(policy: Any) -> list[tuple[str, str]]:
    return [(remark.pointer, remark.message) for remark in remarks(policy)]


DRAFT = """{
  "plans": {
    "Core": {
      "region": {"@@assign": ["eu-north-1"]},
      "regions": {"@@assign": ["eu-nort-1", "us-east-1"], "@@assig": []},
      "rules": {
        "daily": {
          "schedule_expression": {"@@assign": "rate(1 day)"},
          "start_backup_window_minutes": {"@@assign": 30}
        }
      }
    }
  }
}"""


def test_all_errors_are_found_with_line_column_and_suggestion() -> None:
    found = [(each.line, each.column, each.pointer, each.suggestion) for each in remarks(DRAFT)]
    assert found == [
        (4, 17, "/plans/Core/region", "regions"),
        (5, 32, "/plans/Core/regions/@@assign/0", "eu-north-1"),
        (5, 70, "/plans/Core/regions/@@assig", "@@assign"),
        (8, 47, "/plans/Core/rules/daily/schedule_expression/@@assign", None),
        (9, 55, "/plans/Core/rules/daily/start_backup_window_minutes/@@assign", None),
    ]
    assert {each.severity for each in remarks(DRAFT)} == {Severity.ERROR}


def test_a_text_that_is_no_json_has_one_remark_where_reading_ended() -> None:
    (found,) = remarks('{\n  "plans": {,}\n}')
    assert (found.line, found.column, found.severity) == (2, 13, Severity.ERROR)


def test_a_document_that_is_too_long_is_told_so() -> None:
    (found,) = remarks(json.dumps(a_policy()) + " " * 10_000)
    assert "may have 10000" in found.message


def test_a_hundred_errors_are_enough_to_begin_with() -> None:
    assert len(remarks({"plans": {"core": {"regions": assign(["nowhere"] * 3_000)}}})) == 101  # and it is too long


def test_nothing_is_said_about_a_complete_policy() -> None:
    assert remarks(FULL_POLICY) == ()
    assert remarks({"tags": {"a": {}}}, "TAG_POLICY") == ()


def with_rule(**fields: Any) -> dict[str, Any]:
    return a_policy(core=a_plan(rules={"daily": a_rule(**fields)}))


def keeping(cold: int, delete: int) -> dict[str, Any]:
    return {"move_to_cold_storage_after_days": assign(cold), "delete_after_days": assign(delete)}


WARNINGS = {
    "eleven rules": (
        a_policy(core=a_plan(rules={f"r{number}": a_rule() for number in range(11)})),
        "/plans/core/rules",
        "with 11 it is invalid",
    ),
    "too little time to complete": (
        with_rule(start_backup_window_minutes=assign(600), complete_backup_window_minutes=assign(60)),
        "/plans/core/rules/daily/complete_backup_window_minutes",
        "shorter than the time to start",
    ),
    "a vault of one letter": (
        with_rule(target_backup_vault_name=assign("V")),
        "/plans/core/rules/daily/target_backup_vault_name",
        "one character",
    ),
    "six copies": (
        with_rule(copy_actions={f"{COPY}{number}": {"lifecycle": {}} for number in range(6)}),
        "/plans/core/rules/daily/copy_actions",
        "5 copies, not 6",
    ),
    "more than a hundred years": (
        with_rule(lifecycle={"delete_after_days": assign(40_000)}),
        "/plans/core/rules/daily/lifecycle/delete_after_days",
        "36500 days",
    ),
    "deleted while in cold storage": (
        with_rule(lifecycle=keeping(30, 60)),
        "/plans/core/rules/daily/lifecycle/delete_after_days",
        "at least 120 here",
    ),
    "a copy deleted while in cold storage": (
        with_rule(copy_actions={COPY: {"lifecycle": keeping(1, 90)}}),
        f"/plans/core/rules/daily/copy_actions/{COPY}/lifecycle/delete_after_days",
        "at least 91 here",
    ),
    "a condition that is not about a tag": (
        {
            "plans": {
                "core": {
                    "selections": {
                        "resources": {
                            "all": {
                                "conditions": {
                                    "string_like": {
                                        "c": {"condition_key": assign("Env"), "condition_value": assign("x")}
                                    }
                                }
                            }
                        }
                    }
                }
            }
        },
        "/plans/core/selections/resources/all/conditions/string_like/c/condition_key",
        "aws:ResourceTag/KEY",
    ),
}


@pytest.mark.parametrize(("policy", "pointer", "what"), WARNINGS.values(), ids=WARNINGS)
def test_what_is_admitted_and_likely_a_mistake_is_a_warning(policy: dict[str, Any], pointer: str, what: str) -> None:
    admit("BACKUP_POLICY", json.dumps(policy), regions=REGIONS, now=NOW)
    (found,) = remarks(policy)
    assert (found.severity, found.pointer) == (Severity.WARNING, pointer)
    assert what in found.message


def refusal_of(content: str) -> tuple[str, str] | None:
    try:
        admit("BACKUP_POLICY", content, regions=REGIONS, now=NOW)
    except MalformedPolicyError as refusal:
        return refusal.pointer, refusal.reason
    return None


@given(policies | json_values)
def test_there_are_errors_exactly_where_admission_refuses(policy: Any) -> None:
    content = json.dumps(policy)
    found = remarks(content)
    errors = [remark for remark in found if remark.severity is Severity.ERROR]
    first = refusal_of(content)
    assert (first in {(error.pointer, error.message) for error in errors}) is bool(errors)
    assert (first is None) is not bool(errors)
    lines = content.split("\n")
    assert all(1 <= remark.column <= len(lines[remark.line - 1]) + 1 for remark in found)
