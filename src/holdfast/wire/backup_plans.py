"""Plans and selections on the `backup` API: the account's own, and those that policies make."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from holdfast.assessment.store import intern_selection
from holdfast.plan import service
from holdfast.plan.model.assignment import InvalidSelectionError
from holdfast.plan.model.body import InvalidPlanError, PlanBody, refuse_bad_body
from holdfast.plan.model.plan import LONGEST_WINDOW_MINUTES, CopyAction, Lifecycle, Plan, PlanSelection, Rule
from holdfast.plan.model.selection import Condition, Operator, Selection, TagTerm
from holdfast.plan.model.template import TEMPLATES, get_template
from holdfast.plan.service import DatedPlan, get_selection
from holdfast.schedule.overlap import next_runs
from holdfast.schedule.service import take_up_plan
from holdfast.wire.backup_points import lifecycle_from_wire
from holdfast.wire.call import Call, Handler
from holdfast.wire.jsonbody import MalformedBodyError, read_object, reader, write_object
from holdfast.wire.model import load_service
from holdfast.wire.shape import Shape
from holdfast.wire.validation import InvalidParametersError, Problem, validate

_PAGE: Final = 1000


def create_backup_plan(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a plan of the caller's account in the region."""
    dated = service.create_plan(
        call.tx,
        call.caller.account,
        call.region,
        body_from_wire(shape["BackupPlan"]),
        tags=shape.get("BackupPlanTags"),
        creator_request_id=shape.get("CreatorRequestId"),
        now=call.now,
    )
    _take_up(call, dated.plan.id)
    return _changed(dated)


def update_backup_plan(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Let a plan say something else from now on."""
    body = body_from_wire(shape["BackupPlan"])
    dated = service.update_plan(call.tx, call.caller.account, call.region, shape["BackupPlanId"], body, now=call.now)
    _take_up(call, dated.plan.id)
    return _changed(dated)


def delete_backup_plan(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Delete a plan; its versions can still be read."""
    dated = service.delete_plan(call.tx, call.caller.account, call.region, shape["BackupPlanId"], now=call.now)
    _take_up(call, dated.plan.id)
    return {
        "BackupPlanId": dated.plan.id,
        "BackupPlanArn": dated.plan.arn,
        "DeletionDate": dated.deleted_at,
        "VersionId": dated.plan.version_id,
    }


def list_backup_plans(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the plans of the caller's account in the region, its own and those of its organization."""
    deleted = shape.get("IncludeDeleted", False)
    filters = {"deleted": deleted}
    page = service.list_plans(
        call.tx,
        call.caller.account,
        call.region,
        deleted=deleted,
        after=call.page_position(filters, shape.get("NextToken")) or "",
        limit=shape.get("MaxResults", _PAGE),
        now=call.now,
    )
    return {
        "BackupPlansList": [_summary(dated) for dated in page.items],
        "NextToken": call.page_token(filters, page.position),
    }


def get_backup_plan(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a plan as it is or was, and on request its next runs."""
    dated = _get(call, shape, version_id=shape.get("VersionId"))
    answer = {**_summary(dated), "BackupPlan": plan_to_wire(dated.plan)}
    del answer["BackupPlanName"]
    preview = shape.get("MaxScheduledRunsPreview", 0)
    if preview and dated.deleted_at is None:
        answer["ScheduledRunsPreview"] = _runs_to_wire(dated.plan, call.now, preview)
    return answer


def list_backup_plan_versions(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the versions of a plan, the latest first."""
    filters = {"plan": shape["BackupPlanId"]}
    page = service.list_versions(
        call.tx,
        call.caller.account,
        call.region,
        shape["BackupPlanId"],
        before=call.page_position(filters, shape.get("NextToken")),
        limit=shape.get("MaxResults", _PAGE),
        now=call.now,
    )
    return {
        "BackupPlanVersionsList": [{**_summary(dated), "CreationDate": dated.since} for dated in page.items],
        "NextToken": call.page_token(filters, page.position),
    }


def export_backup_plan_template(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a plan as a text that another can be made of."""
    plan = _get(call, shape).plan
    rules = tuple(replace(rule, id="") for rule in plan.rules)
    body = body_to_wire(PlanBody(plan.name, rules, plan.advanced_settings))
    return {"BackupPlanTemplateJson": write_object(_plan_shape(), body).decode()}


def get_backup_plan_from_json(_call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give the plan that a text describes, its defaults filled in; nothing is made."""
    body = body_from_wire(_read_template(shape["BackupPlanTemplateJson"]))
    refuse_bad_body(body)
    return {"BackupPlan": body_to_wire(body)}


def list_backup_plan_templates(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the plans that are ready to begin with."""
    start = call.page_position({}, shape.get("NextToken")) or 0
    end = start + shape.get("MaxResults", _PAGE)
    found = list(TEMPLATES.items())
    return {
        "BackupPlanTemplatesList": [
            {"BackupPlanTemplateId": template_id, "BackupPlanTemplateName": body.name}
            for template_id, body in found[start:end]
        ],
        "NextToken": call.page_token({}, end if end < len(found) else None),
    }


def get_backup_plan_from_template(_call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give one of those plans."""
    return {"BackupPlanDocument": body_to_wire(get_template(shape["BackupPlanTemplateId"]))}


def create_backup_selection(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Let a plan of the account's own take resources."""
    given = shape["BackupSelection"]
    selection = selection_from_wire(given)
    intern_selection(call.tx, selection)
    made = service.create_selection(
        call.tx,
        call.caller.account,
        call.region,
        shape["BackupPlanId"],
        name=given["SelectionName"],
        role_arn=given["IamRoleArn"],
        selection=selection,
        creator_request_id=shape.get("CreatorRequestId"),
        now=call.now,
    )
    _take_up(call, shape["BackupPlanId"])
    return {"SelectionId": made.id, "BackupPlanId": shape["BackupPlanId"], "CreationDate": made.created_at}


def delete_backup_selection(call: Call, shape: dict[str, Any]) -> None:
    """Take a selection from a plan of the account's own."""
    service.delete_selection(call.tx, call.caller.account, call.region, shape["BackupPlanId"], shape["SelectionId"])
    _take_up(call, shape["BackupPlanId"])


def list_backup_selections(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the selections of a plan, without what they select."""
    dated = _get(call, shape)
    filters = {"plan": dated.plan.id}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    page = service.list_selections(dated.plan, after=after, limit=shape.get("MaxResults", _PAGE))
    return {
        "BackupSelectionsList": [
            {
                "SelectionId": selection.id,
                "SelectionName": selection.name,
                "BackupPlanId": dated.plan.id,
                "CreationDate": selection.created_at or dated.created_at,
                "CreatorRequestId": selection.creator_request_id,
                "IamRoleArn": selection.role_arn,
            }
            for selection in page.items
        ],
        "NextToken": call.page_token(filters, page.position),
    }


def get_backup_selection(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give one selection of a plan."""
    dated = _get(call, shape)
    found = get_selection(dated.plan, shape["SelectionId"])
    return {
        "BackupSelection": selection_to_wire(found),
        "SelectionId": found.id,
        "BackupPlanId": dated.plan.id,
        "CreationDate": found.created_at or dated.created_at,
        "CreatorRequestId": found.creator_request_id,
    }


def selection_from_wire(shape: Mapping[str, Any]) -> Selection:
    """Return what a selection is to take.

    Raises:
        InvalidSelectionError: a condition lacks its key or its value.
    """
    conditions = []
    for operator, parameters in (shape.get("Conditions") or {}).items():
        for parameter in parameters or ():
            if parameter.get("ConditionKey") is None or parameter.get("ConditionValue") is None:
                raise InvalidSelectionError(f"Each condition of {operator} has a ConditionKey and a ConditionValue")
            conditions.append(Condition(Operator(operator), parameter["ConditionKey"], parameter["ConditionValue"]))
    return Selection(
        resources=tuple(shape.get("Resources") or ()),
        not_resources=tuple(shape.get("NotResources") or ()),
        tags=tuple(TagTerm(tag["ConditionKey"], tag["ConditionValue"]) for tag in shape.get("ListOfTags") or ()),
        conditions=tuple(conditions),
    )


def body_from_wire(shape: Mapping[str, Any]) -> PlanBody:
    """Return what a plan is to say, its defaults filled in.

    Raises:
        InvalidPlanError: it asks for what is not offered, or sets the options of a type twice.
    """
    if shape.get("ScanSettings") or any(rule.get("ScanActions") for rule in shape["Rules"]):
        raise InvalidPlanError("Malware scans are not offered here: leave ScanSettings and ScanActions out")
    settings: dict[str, dict[str, str]] = {}
    for setting in shape.get("AdvancedBackupSettings") or ():
        kind = setting.get("ResourceType", "")
        if kind in settings:
            raise InvalidPlanError(f"AdvancedBackupSettings are given twice for {kind}")
        settings[kind] = setting.get("BackupOptions") or {}
    return PlanBody(shape["BackupPlanName"], tuple(_rule_from_wire(rule) for rule in shape["Rules"]), settings)


def _rule_from_wire(shape: Mapping[str, Any]) -> Rule:
    index_actions = shape.get("IndexActions") or ()
    if len(index_actions) > 1:
        raise InvalidPlanError(f"Error in rule {shape['RuleName']} : A rule has one of IndexActions at most")
    spans = {"StartWindowMinutes": "start_window", "CompletionWindowMinutes": "completion_window"}
    texts = {
        "ScheduleExpression": "schedule",
        "ScheduleExpressionTimezone": "timezone",
        "TargetLogicallyAirGappedBackupVaultArn": "air_gapped_vault_arn",
        "EnableContinuousBackup": "continuous",
    }
    given: dict[str, Any] = {name: shape[member] for member, name in texts.items() if shape.get(member) is not None}
    for member, name in spans.items():
        if shape.get(member) is not None:
            given[name] = _window(shape["RuleName"], member, shape[member])
    return Rule(
        id="",
        name=shape["RuleName"],
        vault_name=shape["TargetBackupVaultName"],
        lifecycle=_lifecycle_from_wire(shape),
        recovery_point_tags=shape.get("RecoveryPointTags") or {},
        copies=tuple(
            CopyAction(copy["DestinationBackupVaultArn"], _lifecycle_from_wire(copy))
            for copy in shape.get("CopyActions") or ()
        ),
        index_types=tuple(kind for action in index_actions for kind in action.get("ResourceTypes") or ()),
        **given,
    )


def _window(rule_name: str, member: str, minutes: int) -> timedelta:
    if not 0 <= minutes <= LONGEST_WINDOW_MINUTES:  # a larger number would be no timedelta
        raise InvalidPlanError(
            f"Error in rule {rule_name} : {member} must be between 60 and {LONGEST_WINDOW_MINUTES} minutes"
        )
    return timedelta(minutes=minutes)


def _lifecycle_from_wire(shape: Mapping[str, Any]) -> Lifecycle:
    given = shape.get("Lifecycle") or {}
    if given.get("DeleteAfterEvent") is not None:
        raise InvalidPlanError("Invalid lifecycle. DeleteAfterEvent is told, and cannot be set")
    return lifecycle_from_wire(given)


def body_to_wire(body: PlanBody) -> dict[str, Any]:
    """Return what a plan says as clients give and get it."""
    return {
        "BackupPlanName": body.name,
        "Rules": [rule_to_wire(rule) for rule in body.rules],
        "AdvancedBackupSettings": _settings_to_wire(body.advanced_settings),
    }


def plan_to_wire(plan: Plan) -> dict[str, Any]:
    """Return a plan as GetBackupPlan shows it."""
    return body_to_wire(PlanBody(plan.name, plan.rules, plan.advanced_settings))


def rule_to_wire(rule: Rule) -> dict[str, Any]:
    """Return a rule as GetBackupPlan shows it, with its defaults filled in."""
    return {
        "RuleId": rule.id or None,
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


def _runs_to_wire(plan: Plan, now: datetime, count: int) -> list[dict[str, Any]]:
    return [
        {
            "ExecutionTime": at,
            "RuleId": rule.id,
            "RuleExecutionType": "CONTINUOUS_AND_SNAPSHOTS" if rule.continuous else "SNAPSHOTS",
        }
        for at, rule in next_runs(plan.rules, now, count)
    ]


def _summary(dated: DatedPlan) -> dict[str, Any]:
    return {
        "BackupPlanArn": dated.plan.arn,
        "BackupPlanId": dated.plan.id,
        "BackupPlanName": dated.plan.name,
        "VersionId": dated.plan.version_id,
        "CreatorRequestId": dated.creator_request_id,
        "CreationDate": dated.created_at,
        "DeletionDate": dated.deleted_at,
        "LastExecutionDate": dated.last_run_at,
        "AdvancedBackupSettings": _settings_to_wire(dated.plan.advanced_settings),
    }


def _changed(dated: DatedPlan) -> dict[str, Any]:
    return {
        "BackupPlanId": dated.plan.id,
        "BackupPlanArn": dated.plan.arn,
        "CreationDate": dated.since,
        "VersionId": dated.plan.version_id,
        "AdvancedBackupSettings": _settings_to_wire(dated.plan.advanced_settings),
    }


def _settings_to_wire(settings: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]] | None:
    return [{"ResourceType": kind, "BackupOptions": dict(options)} for kind, options in settings.items()] or None


def _take_up(call: Call, plan_id: str) -> None:
    take_up_plan(call.tx, call.caller.account, call.region, plan_id, now=call.now)


def _get(call: Call, shape: Mapping[str, Any], *, version_id: str | None = None) -> DatedPlan:
    account, plan_id = call.caller.account, shape["BackupPlanId"]
    return service.get_plan(call.tx, account, call.region, plan_id, version_id=version_id, now=call.now)


def _read_template(text: str) -> dict[str, Any]:
    """Return the plan in a text, checked as one in a request is."""
    try:
        given = read_object(text.encode())
    except MalformedBodyError as error:
        raise InvalidPlanError(f"BackupPlanTemplateJson is no JSON object: {error}") from error
    problems: list[Problem] = []
    read: dict[str, Any] = reader(_plan_shape())(given, "BackupPlanTemplateJson", problems)
    if problems:
        raise InvalidParametersError(problems)
    validate(_plan_shape(), read)
    return read


@cache
def _plan_shape() -> Shape:
    """Return the shape of a plan, as a text has it too."""
    given = load_service("backup").operations["GetBackupPlanFromJSON"].output
    if given is None:
        raise LookupError("the model of backup does not say what GetBackupPlanFromJSON gives")
    return given.members["BackupPlan"]


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CreateBackupPlan": create_backup_plan,
    "ListBackupPlans": list_backup_plans,
    "GetBackupPlan": get_backup_plan,
    "ListBackupPlanVersions": list_backup_plan_versions,
    "ExportBackupPlanTemplate": export_backup_plan_template,
    "GetBackupPlanFromJSON": get_backup_plan_from_json,
    "ListBackupPlanTemplates": list_backup_plan_templates,
    "GetBackupPlanFromTemplate": get_backup_plan_from_template,
    "ListBackupSelections": list_backup_selections,
    "GetBackupSelection": get_backup_selection,
    "DeleteBackupPlan": delete_backup_plan,
    "UpdateBackupPlan": update_backup_plan,
    "CreateBackupSelection": create_backup_selection,
    "DeleteBackupSelection": delete_backup_selection,
}
