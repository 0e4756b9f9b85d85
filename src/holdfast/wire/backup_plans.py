"""Plans and selections on the `backup` API: those that policies make are read here, and cannot be changed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

from holdfast.calendar.cron import parse
from holdfast.plan.model.plan import Lifecycle, Plan, PlanSelection, Rule
from holdfast.plan.model.selection import Selection
from holdfast.plan.service import DatedPlan, get_plan, get_selection, list_plans, refuse_change
from holdfast.wire.call import Call, Handler

_PAGE: Final = 1000


def list_backup_plans(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the plans of the caller's account in the region."""
    found = list_plans(call.tx, call.caller.account, call.region, now=call.now)
    start = call.page_position({}, shape.get("NextToken")) or 0
    end = start + shape.get("MaxResults", _PAGE)
    return {
        "BackupPlansList": [_summary(dated) for dated in found[start:end]],
        "NextToken": call.page_token({}, end if end < len(found) else None),
    }


def get_backup_plan(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a plan, and on request its next runs."""
    dated = get_plan(
        call.tx,
        call.caller.account,
        call.region,
        shape["BackupPlanId"],
        version_id=shape.get("VersionId"),
        now=call.now,
    )
    answer = {**_summary(dated), "BackupPlan": plan_to_wire(dated.plan)}
    del answer["BackupPlanName"]
    preview = shape.get("MaxScheduledRunsPreview", 0)
    if preview:
        answer["ScheduledRunsPreview"] = next_runs(dated.plan, call.now, preview)
    return answer


def list_backup_plan_versions(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the present version of a plan."""
    dated = get_plan(call.tx, call.caller.account, call.region, shape["BackupPlanId"], now=call.now)
    return {"BackupPlanVersionsList": [_summary(dated)]}


def list_backup_selections(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the selections of a plan, without what they select."""
    dated = get_plan(call.tx, call.caller.account, call.region, shape["BackupPlanId"], now=call.now)
    return {
        "BackupSelectionsList": [
            {
                "SelectionId": selection.id,
                "SelectionName": selection.name,
                "BackupPlanId": dated.plan.id,
                "CreationDate": dated.since,
                "IamRoleArn": selection.role_arn,
            }
            for selection in dated.plan.selections
        ]
    }


def get_backup_selection(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give one selection of a plan."""
    dated = get_plan(call.tx, call.caller.account, call.region, shape["BackupPlanId"], now=call.now)
    found = get_selection(dated.plan, shape["SelectionId"])
    return {
        "BackupSelection": selection_to_wire(found),
        "SelectionId": found.id,
        "BackupPlanId": dated.plan.id,
        "CreationDate": dated.since,
    }


def delete_backup_plan(_call: Call, shape: dict[str, Any]) -> NoReturn:
    """Refuse to delete a plan that the organization made."""
    refuse_change(shape["BackupPlanId"], "Backup plan cannot be deleted")


def update_backup_plan(_call: Call, shape: dict[str, Any]) -> NoReturn:
    """Refuse to change a plan that the organization made."""
    refuse_change(shape["BackupPlanId"], "Backup plan cannot be updated")


def create_backup_selection(_call: Call, shape: dict[str, Any]) -> NoReturn:
    """Refuse to add a selection to a plan that the organization made."""
    refuse_change(shape["BackupPlanId"], "Cannot create selection")


def delete_backup_selection(_call: Call, shape: dict[str, Any]) -> NoReturn:
    """Refuse to take a selection from a plan that the organization made."""
    refuse_change(shape["BackupPlanId"], "Cannot delete selection")


def plan_to_wire(plan: Plan) -> dict[str, Any]:
    """Return a plan as GetBackupPlan shows it."""
    return {
        "BackupPlanName": plan.name,
        "Rules": [rule_to_wire(rule) for rule in plan.rules],
        "AdvancedBackupSettings": [
            {"ResourceType": kind, "BackupOptions": dict(options)} for kind, options in plan.advanced_settings.items()
        ]
        or None,
    }


def rule_to_wire(rule: Rule) -> dict[str, Any]:
    """Return a rule as GetBackupPlan shows it, with its defaults filled in."""
    return {
        "RuleId": rule.id,
        "RuleName": rule.name,
        "TargetBackupVaultName": rule.vault_name,
        "TargetLogicallyAirGappedBackupVaultArn": rule.air_gapped_vault_arn,
        "ScheduleExpression": rule.schedule,
        "ScheduleExpressionTimezone": rule.timezone,
        "StartWindowMinutes": int(rule.start_window.total_seconds() // 60),
        "CompletionWindowMinutes": int(rule.completion_window.total_seconds() // 60),
        "Lifecycle": lifecycle_to_wire(rule.lifecycle),
        "RecoveryPointTags": dict(rule.recovery_point_tags),
        "CopyActions": [
            {"DestinationBackupVaultArn": copy.vault_arn, "Lifecycle": lifecycle_to_wire(copy.lifecycle)}
            for copy in rule.copies
        ],
        "EnableContinuousBackup": rule.continuous,
        "IndexActions": [{"ResourceTypes": list(rule.index_types)}] if rule.index_types else None,
    }


def lifecycle_to_wire(lifecycle: Lifecycle) -> dict[str, Any] | None:
    """Return a lifecycle, None when it says nothing."""
    members = {
        "MoveToColdStorageAfterDays": lifecycle.cold_after_days,
        "DeleteAfterDays": lifecycle.delete_after_days,
        "OptInToArchiveForSupportedResources": lifecycle.archive,
    }
    return {name: value for name, value in members.items() if value is not None} or None


def selection_to_wire(found: PlanSelection) -> dict[str, Any]:
    """Return a selection as GetBackupSelection shows it."""
    selection: Selection = found.selection
    conditions: dict[str, list[dict[str, str]]] = {}
    for condition in selection.conditions:
        conditions.setdefault(condition.operator.value, []).append(
            {"ConditionKey": condition.key, "ConditionValue": condition.value}
        )
    return {
        "SelectionName": found.name,
        "IamRoleArn": found.role_arn,
        "Resources": list(selection.resources),
        "NotResources": list(selection.not_resources),
        "ListOfTags": [
            {"ConditionType": "STRINGEQUALS", "ConditionKey": term.key, "ConditionValue": term.value}
            for term in selection.tags
        ],
        "Conditions": conditions,
    }


def next_runs(plan: Plan, now: datetime, count: int) -> list[dict[str, Any]]:
    """Return the next `count` runs of a plan's rules after `now`, in order."""
    runs = [
        {
            "ExecutionTime": at,
            "RuleId": rule.id,
            "RuleExecutionType": "CONTINUOUS_AND_SNAPSHOTS" if rule.continuous else "SNAPSHOTS",
        }
        for rule in plan.rules
        for at in parse(rule.schedule).upcoming(now, ZoneInfo(rule.timezone), count)
    ]
    return sorted(runs, key=lambda run: (run["ExecutionTime"], run["RuleId"]))[:count]


def _summary(dated: DatedPlan) -> dict[str, Any]:
    return {
        "BackupPlanArn": dated.plan.arn,
        "BackupPlanId": dated.plan.id,
        "BackupPlanName": dated.plan.name,
        "VersionId": dated.plan.version_id,
        "CreationDate": dated.since,
        "AdvancedBackupSettings": plan_to_wire(dated.plan)["AdvancedBackupSettings"],
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "ListBackupPlans": list_backup_plans,
    "GetBackupPlan": get_backup_plan,
    "ListBackupPlanVersions": list_backup_plan_versions,
    "ListBackupSelections": list_backup_selections,
    "GetBackupSelection": get_backup_selection,
    "DeleteBackupPlan": delete_backup_plan,
    "UpdateBackupPlan": update_backup_plan,
    "CreateBackupSelection": create_backup_selection,
    "DeleteBackupSelection": delete_backup_selection,
}
