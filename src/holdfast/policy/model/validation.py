"""Validation of an effective backup policy: what an account's document still lacks, and what contradicts.

Codes, messages and paths are those of ListEffectivePolicyValidationErrors (AWS Organizations User Guide, "Invalid
effective policy alerts"). One error withholds the whole document.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from holdfast.policy.model.backup_grammar import (
    COLD_STORAGE_DAYS,
    LONGEST_CONTINUOUS_DAYS,
    is_too_frequent_for_archive,
)
from holdfast.policy.model.merge import Effective

MOST_RULES: Final = 10
_ARCHIVE: Final = "opt_in_to_archive_for_supported_resources"
_UNDEFINED: Final = "undefined"


@dataclass(frozen=True, slots=True, order=True)
class ValidationError:
    """One thing that makes an effective policy invalid."""

    path: str
    code: str
    message: str
    contributing_policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Flaw:
    path: tuple[str, ...]
    code: str
    message: str


def validate_effective(effective: Effective, now: datetime) -> tuple[ValidationError, ...]:
    """Return what makes the document invalid, in a fixed order; schedules are judged by the firings after `now`.

    An empty document is valid: nothing is attached that says anything.
    """
    plans = effective.document.get("plans", {})
    flaws = {flaw: None for name, plan in plans.items() for flaw in _plan(name, plan, now)}
    return tuple(
        sorted(
            ValidationError("/".join(found.path), found.code, found.message, effective.contributors(found.path))
            for found in flaws
        )
    )


def _plan(name: str, plan: dict[str, Any], now: datetime) -> Iterator[_Flaw]:
    here = ("plans", name)
    yield from _missing(plan, ("regions", "rules", "selections"), here)
    if plan.get("regions") == []:
        yield _too_few("regions", here)
    yield from _tags(plan, "backup_plan_tags", here)
    rules = plan.get("rules", {})
    if len(rules) > MOST_RULES:
        message = f"'rules' exceeds the allowed maximum limit {MOST_RULES}"
        yield _Flaw((*here, "rules"), "ELEMENTS_TOO_MANY", message)
    for rule_name, rule in rules.items():
        yield from _rule(rule_name, rule, (*here, "rules", rule_name), now)
        if "scan_actions" in rule and "scan_settings" not in plan:
            operands = f"scan_actions({_UNDEFINED}),scan_settings({_UNDEFINED})"
            yield _contradiction(operands, rule_name, (*here, "rules", rule_name))
    selections = plan.get("selections", {})
    for selection_name, selection in selections.get("tags", {}).items():
        place = (*here, "selections", "tags", selection_name)
        yield from _missing(selection, ("iam_role_arn", "tag_key", "tag_value"), place)
        yield from _conditions(selection, place)
        if selection.get("tag_value") == []:
            yield _too_few("tag_value", place)
    for selection_name, selection in selections.get("resources", {}).items():
        place = (*here, "selections", "resources", selection_name)
        yield from _missing(selection, ("iam_role_arn",), place)
        yield from _conditions(selection, place)
        if selection.get("resource_types") == []:
            yield _too_few("resource_types", place)


def _rule(name: str, rule: dict[str, Any], here: tuple[str, ...], now: datetime) -> Iterator[_Flaw]:
    yield from _missing(rule, ("target_backup_vault_name",), here)
    yield from _tags(rule, "recovery_point_tags", here)
    lifecycle = rule.get("lifecycle", {})
    if rule.get("enable_continuous_backup") == "true":
        days = lifecycle.get("delete_after_days", _UNDEFINED)
        if days == _UNDEFINED or int(days) > LONGEST_CONTINUOUS_DAYS:
            yield _contradiction(f"enable_continuous_backup=true,delete_after_days={days}", name, here)
    copies = rule.get("copy_actions", {}).values()
    for kept in (lifecycle, *(copy.get("lifecycle", {}) for copy in copies)):
        yield from _archive(name, kept, rule.get("schedule_expression"), here, now)


def _archive(
    rule_name: str, lifecycle: dict[str, Any], schedule: str | None, here: tuple[str, ...], now: datetime
) -> Iterator[_Flaw]:
    if lifecycle.get(_ARCHIVE) != "true":
        return
    if is_too_frequent_for_archive(schedule, now):
        operands = f"{_ARCHIVE}=true,schedule_expression={schedule or _UNDEFINED}"
        yield _contradiction(operands, rule_name, here)
    delete = lifecycle.get("delete_after_days", _UNDEFINED)
    cold = lifecycle.get("move_to_cold_storage_after_days", _UNDEFINED)
    if _UNDEFINED in {delete, cold} or int(delete) - int(cold) < COLD_STORAGE_DAYS:
        operands = f"{_ARCHIVE}=true,delete_after_days={delete},move_to_cold_storage_after_days={cold}"
        yield _contradiction(operands, rule_name, here)


def _tags(members: dict[str, Any], key: str, here: tuple[str, ...]) -> Iterator[_Flaw]:
    for name, tag in members.get(key, {}).items():
        yield from _missing(tag, ("tag_key", "tag_value"), (*here, key, name))


def _conditions(selection: dict[str, Any], here: tuple[str, ...]) -> Iterator[_Flaw]:
    for kind, conditions in selection.get("conditions", {}).items():
        for name, condition in conditions.items():
            place = (*here, "conditions", kind, name)
            yield from _missing(condition, ("condition_key", "condition_value"), place)


def _missing(members: dict[str, Any], required: tuple[str, ...], here: tuple[str, ...]) -> Iterator[_Flaw]:
    for key in required:
        if key not in members:
            yield _Flaw(here, "KEY_REQUIRED", f"'{key}' is missing")


def _too_few(key: str, here: tuple[str, ...]) -> _Flaw:
    return _Flaw((*here, key), "ELEMENTS_TOO_FEW", f"'{key}' is less than the allowed minimum limit 1")


def _contradiction(operands: str, rule_name: str, here: tuple[str, ...]) -> _Flaw:
    message = f"Dependent fields {operands} in policy block {rule_name} are invalid when used together"
    return _Flaw(here, "CROSS_ATTRIBUTE_VALIDATION", message)
