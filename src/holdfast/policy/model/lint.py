"""Everything that can be said about a policy document while it is being written: errors, and what is likely a mistake.

Errors are what admission would refuse, all of them rather than the first. Warnings are about what is admitted and yet
will not work, or not as it reads: limits of the effective policy and of the plans that come of it (AWS Backup Developer
Guide, "AWS Backup quotas" and "Backup plan options and configuration").
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from typing import Final

from holdfast.policy.model.admission import PolicyTooLongError, problems_of, refuse_too_long
from holdfast.policy.model.backup_grammar import COLD_STORAGE_DAYS
from holdfast.policy.model.document import Json, MalformedPolicyError, Parsed, line_and_column, parse
from holdfast.policy.model.grammar import Fragment, fragment_of
from holdfast.policy.model.kind import BACKUP, KINDS
from holdfast.policy.model.validation import MOST_RULES

_MOST_ERRORS: Final = 100
_MOST_COPIES: Final = 5
_LONGEST_DAYS: Final = 36_500
_SHORTEST_VAULT_NAME: Final = 2
_TAG_CONDITION: Final = "aws:ResourceTag/"


class Severity(StrEnum):
    """Whether a remark is about something that keeps the document from being stored."""

    ERROR = "ERROR"
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing to say about a place in a document."""

    severity: Severity
    pointer: str
    line: int
    column: int
    message: str
    suggestion: str | None = None


def lint(policy_type: str, content: str, *, regions: Collection[str], now: datetime) -> tuple[Remark, ...]:
    """Return what there is to say about a document, by its place from top to bottom; a hundred errors at most."""
    try:
        parsed = parse(content, fold_keys=KINDS[policy_type].inherits)
    except MalformedPolicyError as error:
        line, column = line_and_column(content, error.offset or 0)
        return (Remark(Severity.ERROR, error.pointer, line, column, error.reason, error.suggestion),)
    errors = [
        _remark(parsed, Severity.ERROR, problem.pointer, problem.reason, problem.suggestion)
        for problem in islice(problems_of(policy_type, parsed.value, regions=regions, now=now), _MOST_ERRORS)
    ]
    try:
        refuse_too_long(policy_type, content)
    except PolicyTooLongError as error:
        errors.append(_remark(parsed, Severity.ERROR, "", str(error), None))
    warnings = [
        _remark(parsed, Severity.WARNING, pointer, message, None)
        for pointer, message in (_backup_warnings(parsed.value) if policy_type == BACKUP and not errors else ())
    ]
    return tuple(sorted((*errors, *warnings), key=lambda remark: (remark.line, remark.column, remark.message)))


def _remark(parsed: Parsed, severity: Severity, pointer: str, message: str, suggestion: str | None) -> Remark:
    line, column = parsed.line_and_column(pointer)
    return Remark(severity, pointer, line, column, message, suggestion)


def _backup_warnings(value: Json) -> Iterator[tuple[str, str]]:
    top = fragment_of(value if isinstance(value, dict) else {}, "")
    for plan in top.below("plans").below_each():
        rules = list(plan.below("rules").below_each())
        if len(rules) > MOST_RULES:
            yield plan.below("rules").pointer, f"a plan may have {MOST_RULES} rules; with {len(rules)} it is invalid"
        for rule in rules:
            yield from _rule_warnings(rule)
        for kind in plan.below("selections").below_each():
            for selection in kind.below_each():
                yield from _condition_warnings(selection.below("conditions"))


def _rule_warnings(rule: Fragment) -> Iterator[tuple[str, str]]:
    start, complete = _number(rule, "start_backup_window_minutes"), _number(rule, "complete_backup_window_minutes")
    if start is not None and complete is not None and complete < start:
        yield (
            rule.below("complete_backup_window_minutes").pointer,
            "the time to complete is shorter than the time to start: a late job would end before it is done",
        )
    vault = rule.assigned("target_backup_vault_name")
    if vault is not None and len(vault) < _SHORTEST_VAULT_NAME:
        yield rule.below("target_backup_vault_name").pointer, "no vault can have a name of one character"
    copies = list(rule.below("copy_actions").below_each())
    if len(copies) > _MOST_COPIES:
        yield rule.below("copy_actions").pointer, f"a rule may make {_MOST_COPIES} copies, not {len(copies)}"
    for kept in (rule.below("lifecycle"), *(copy.below("lifecycle") for copy in copies)):
        yield from _lifecycle_warnings(kept)


def _lifecycle_warnings(lifecycle: Fragment) -> Iterator[tuple[str, str]]:
    cold, delete = _number(lifecycle, "move_to_cold_storage_after_days"), _number(lifecycle, "delete_after_days")
    if delete is not None and delete > _LONGEST_DAYS:
        yield lifecycle.below("delete_after_days").pointer, f"points are kept for {_LONGEST_DAYS} days at most"
    if cold is not None and delete is not None and delete < cold + COLD_STORAGE_DAYS:
        yield (
            lifecycle.below("delete_after_days").pointer,
            f"points stay in cold storage for {COLD_STORAGE_DAYS} days: delete_after_days is at least {cold + 90} here",
        )


def _condition_warnings(conditions: Fragment) -> Iterator[tuple[str, str]]:
    for kind in conditions.below_each():
        for condition in kind.below_each():
            key = condition.assigned("condition_key")
            if key is not None and not key.startswith(_TAG_CONDITION):
                yield (
                    condition.below("condition_key").pointer,
                    f"conditions are about tags: the key is written {_TAG_CONDITION}KEY",
                )


def _number(fragment: Fragment, key: str) -> int | None:
    value = fragment.assigned(key)
    return None if value is None else int(value)
