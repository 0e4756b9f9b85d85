"""What the `holdfast` API says about policies: origins of values, what a change would do, mistakes, distribution."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from holdfast.organization.errors import TargetNotFoundError
from holdfast.organization.model.tree import NodeKind, Organization, kind_of
from holdfast.organization.service import tree
from holdfast.organization.service.authority import Reach
from holdfast.policy import effective
from holdfast.policy.model.document import Operator, child
from holdfast.policy.model.kind import BACKUP
from holdfast.policy.model.lint import Remark, lint
from holdfast.policy.model.merge import Effective, Ignored, Leaf, Step
from holdfast.policy.model.validation import ValidationError
from holdfast.policy.preview import (
    AttachDraft,
    CreateDraft,
    DetachDraft,
    DisableDraft,
    Draft,
    Effect,
    EnableDraft,
    MoveDraft,
    UpdateDraft,
    preview,
)
from holdfast.policy.receipts import Receipt, policy_version, receipts
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import arns_of, organization_for

_PAGE: Final = 500


def explain_effective_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Explain an effective policy: each value, who set it, what it overrode, who may still change it."""
    target_id = shape["TargetId"]
    policy_type = shape.get("PolicyType", BACKUP)
    found = _explained(call, target_id, policy_type, shape.get("At", call.now))
    filters = {"TargetId": target_id, "PolicyType": policy_type, "At": shape.get("At")}
    start = call.page_position(filters, shape.get("NextToken")) or 0
    end = start + shape.get("MaxResults", _PAGE)
    return {
        "TargetId": target_id,
        "PolicyType": policy_type,
        "PolicyContent": orjson.dumps(found.document).decode(),
        "Leaves": [_leaf_to_wire(leaf) for leaf in found.leaves[start:end]],
        "Ignored": [_ignored_to_wire(ignored) for ignored in found.ignored],
        "NextToken": call.page_token(filters, end if end < len(found.leaves) else None),
    }


def _explained(call: Call, target_id: str, policy_type: str, at: datetime) -> Effective:
    if target_id == call.caller.account:
        return effective.explain(call.tx, target_id, policy_type, at=at)
    organization = organization_for(call, Reach.READER)
    if kind_of(target_id) is NodeKind.ACCOUNT:
        placement = tree.placement_of(call.tx, target_id, at)
        if placement is None or placement.organization_id != organization.id:
            raise TargetNotFoundError  # what another organization had for it is not this one's to see
        return effective.explain(call.tx, target_id, policy_type, at=at)
    path = tree.path_of_unit(call.tx, organization, target_id, at)
    return effective.explain_node(call.tx, organization.id, path, policy_type, at=at)


def lint_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Say everything that is wrong or likely mistaken in a document; nothing is stored."""
    regions = call.instance.settings.regions.keys()
    found = lint(shape.get("PolicyType", BACKUP), shape["Content"], regions=regions, now=call.now)
    return {"Remarks": [_remark_to_wire(remark) for remark in found]}


def preview_policy_change(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Say what a change would do to every account; nothing is written."""
    draft = draft_from_wire(shape["Change"])
    organization = organization_for(call, Reach.READER, _about(call))
    effects = preview(call.tx, organization.id, draft, regions=call.instance.settings.regions.keys(), now=call.now)
    filters = {"Change": shape["Change"]}
    start = call.page_position(filters, shape.get("NextToken")) or 0
    end = start + shape.get("MaxResults", _PAGE)
    return {
        "Effects": [_effect_to_wire(effect) for effect in effects[start:end]],
        "NextToken": call.page_token(filters, end if end < len(effects) else None),
    }


def list_policy_distribution(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List how far a policy has come in each account below its attachments."""
    organization = organization_for(call, Reach.READER, _about(call))
    policy_id, at = shape["PolicyId"], shape.get("At", call.now)
    version = policy_version(call.tx, organization.id, policy_id, at=at)
    filters = {"PolicyId": policy_id, "At": shape.get("At")}
    after = call.page_position(filters, shape.get("NextToken"))
    limit = shape.get("MaxResults", _PAGE)
    page = receipts(call.tx, organization.id, policy_id, at=at, after=after, limit=limit)
    return {
        "PolicyId": policy_id,
        "Version": version,
        "Accounts": [_receipt_to_wire(receipt) for receipt in page.items],
        "NextToken": call.page_token(filters, page.position),
    }


def draft_from_wire(change: Mapping[str, Any]) -> Draft:
    """Return the change that a request describes; the shape holds exactly one."""
    ((kind, given),) = change.items()
    policy_type = given.get("PolicyType", BACKUP)
    match kind:
        case "Create":
            return CreateDraft(policy_type, given["Content"], given.get("TargetId"))
        case "Update":
            return UpdateDraft(given["PolicyId"], given["Content"])
        case "Attach":
            return AttachDraft(given["PolicyId"], given["TargetId"])
        case "Detach":
            return DetachDraft(given["PolicyId"], given["TargetId"])
        case "Move":
            return MoveDraft(policy_type, given["AccountId"], given["DestinationParentId"])
        case "Enable":
            return EnableDraft(policy_type)
        case _:
            return DisableDraft(policy_type)


def _about(call: Call) -> Callable[[Organization], list[str]]:
    return lambda organization: [arns_of(call, organization).organization()]


def _leaf_to_wire(leaf: Leaf) -> dict[str, Any]:
    return {
        "Path": _pointer(leaf.path),
        "Value": orjson.dumps(leaf.value).decode(),
        "PolicyId": leaf.origin.policy_id,
        "TargetId": leaf.origin.node_id,
        "Operator": leaf.origin.operator.value,
        "Overrode": [_step_to_wire(step) for step in (*leaf.overrode, *leaf.steps[:-1])],
        "ChangeableBelow": {
            "Assign": Operator.ASSIGN in leaf.allowed,
            "Append": Operator.APPEND in leaf.allowed,
            "Remove": Operator.REMOVE in leaf.allowed,
        },
    }


def _pointer(path: tuple[str, ...]) -> str:
    pointer = ""
    for key in path:
        pointer = child(pointer, key)
    return pointer


def _step_to_wire(step: Step) -> dict[str, Any]:
    return {
        "PolicyId": step.policy_id,
        "TargetId": step.node_id,
        "Operator": step.operator.value,
        "Value": orjson.dumps(step.operand).decode(),
    }


def _ignored_to_wire(ignored: Ignored) -> dict[str, Any]:
    return {
        "Path": _pointer(ignored.path),
        "PolicyId": ignored.policy_id,
        "TargetId": ignored.node_id,
        "Operator": None if ignored.operator is None else ignored.operator.value,
        "Reason": ignored.reason,
    }


def _remark_to_wire(remark: Remark) -> dict[str, Any]:
    return {
        "Severity": remark.severity.value,
        "Path": remark.pointer,
        "Line": remark.line,
        "Column": remark.column,
        "Message": remark.message,
        "Suggestion": remark.suggestion,
    }


def _effect_to_wire(effect: Effect) -> dict[str, Any]:
    return {
        "AccountIds": list(effect.account_ids),
        "Before": effect.before,
        "After": effect.after,
        "PlansGained": list(effect.comparison.plans_gained),
        "PlansLost": list(effect.comparison.plans_lost),
        "PlansChanged": list(effect.comparison.plans_changed),
        "Shortened": [
            {
                "PlanName": each.plan,
                "RuleName": each.rule,
                "CopyAction": each.copy_action,
                "DaysBefore": each.days_before,
                "DaysAfter": each.days_after,
            }
            for each in effect.comparison.shortened
        ],
        "ValidationErrors": [_error_to_wire(error) for error in effect.errors],
    }


def _receipt_to_wire(receipt: Receipt) -> dict[str, Any]:
    return {
        "AccountId": receipt.account_id,
        "State": "WITHHELD" if receipt.errors else "IN_FORCE",
        "VersionInForce": receipt.version_in_force,
        "Since": receipt.since,
        "ValidationErrors": [_error_to_wire(error) for error in receipt.errors],
    }


def _error_to_wire(error: ValidationError) -> dict[str, Any]:
    return {
        "ErrorCode": error.code,
        "ErrorMessage": error.message,
        "PathToError": error.path,
        "ContributingPolicies": list(error.contributing_policies),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "ExplainEffectivePolicy": explain_effective_policy,
    "LintPolicy": lint_policy,
    "ListPolicyDistribution": list_policy_distribution,
    "PreviewPolicyChange": preview_policy_change,
}
