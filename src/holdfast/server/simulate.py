"""Simulation on the `iam` API: what a principal's policies would say to actions on resources."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from holdfast.access import service
from holdfast.access.gathering import identity_policies
from holdfast.access.model import (
    Caller,
    CallerKind,
    Decision,
    DocumentKind,
    Policy,
    PolicyType,
    Reason,
    Verdict,
    parse_document,
)
from holdfast.access.model.identity import Kind
from holdfast.core.arn import Arn
from holdfast.core.errors import InvalidInputError
from holdfast.server.authorize import Standing
from holdfast.server.principals import Households, Principal, get_principal, get_target, judge
from holdfast.wire.call import Call, Handler

_DECISION: Final = {
    Verdict.ALLOWED: "allowed",
    Verdict.EXPLICIT_DENY: "explicitDeny",
    Verdict.IMPLICIT_DENY: "implicitDeny",
}
_SOURCE: Final = {
    PolicyType.IDENTITY: "IAM Policy",
    PolicyType.BOUNDARY: "PermissionsBoundary",
    PolicyType.RESOURCE: "Resource Policy",
    PolicyType.TRUST: "Resource Policy",
    PolicyType.SESSION: "Session Policy",
    PolicyType.SCP: "Organizations Policy",
    PolicyType.RCP: "Organizations Policy",
}


def _given(texts: Sequence[str], label: str) -> tuple[Policy, ...]:
    return tuple(
        Policy(f"{label}.{number}", parse_document(text, DocumentKind.IDENTITY))
        for number, text in enumerate(texts, start=1)
    )


def _boundary(shape: Mapping[str, Any]) -> Policy | None:
    given = _given(shape.get("PermissionsBoundaryPolicyInputList") or (), "PermissionsBoundaryPolicyInputList")
    return given[0] if given else None


def _context(shape: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        entry["ContextKeyName"]: list(entry.get("ContextKeyValues") or ())
        for entry in shape.get("ContextEntries") or ()
        if "ContextKeyName" in entry
    }


def simulate_principal_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell how a user's, group's or role's policies, and others given, answer to actions on resources."""
    households = Households(call.tx)
    source = Arn.parse(shape["PolicySourceArn"])
    if source.account != call.caller.account:
        raise InvalidInputError("PolicySourceArn names a user, group or role of the account")
    if source.resource.startswith("group/"):
        name = source.resource.rpartition("/")[2]
        service.get_group(call.tx, source.account, name)
        # A group calls nobody; its policies are asked as if a user without others had them.
        arn = str(source).replace(":group/", ":user/")
        caller = Caller(source.account, arn, "AIDASIMULATION", arn, CallerKind.USER)
        identity = identity_policies(call.tx, source.account, Kind.GROUP, name)
        principal = Principal(caller, Standing(identity, None, None, (), frozenset()))
    else:
        principal = get_principal(call.tx, households, str(source))
    standing = replace(
        principal.standing,
        identity=(*principal.standing.identity, *_given(shape.get("PolicyInputList") or (), "PolicyInputList")),
        boundary=_boundary(shape) or principal.standing.boundary,
    )
    return _answer(call, households, shape, Principal(principal.caller, standing))


def simulate_custom_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell how policies that are given answer to actions on resources, whoever would have them."""
    arn = shape.get("CallerArn") or f"arn:{call.partition}:iam::{call.caller.account}:user/simulation"
    caller = Caller(call.caller.account, arn, "AIDASIMULATION", arn, CallerKind.USER)
    identity = _given(shape["PolicyInputList"], "PolicyInputList")
    principal = Principal(caller, Standing(identity, _boundary(shape), None, (), frozenset()))
    return _answer(call, Households(call.tx), shape, principal)


def _answer(call: Call, households: Households, shape: Mapping[str, Any], principal: Principal) -> dict[str, Any]:
    context = _context(shape)
    resources = shape.get("ResourceArns") or ["*"]
    owner = shape.get("ResourceOwner")
    owner = Arn.parse(owner).account if owner and owner.startswith("arn:") else owner
    given = shape.get("ResourcePolicy")
    results = []
    for action in shape["ActionNames"]:
        for resource in resources:
            target = get_target(
                call.tx, households, resource, action, owner=owner, default_owner=principal.caller.account
            )
            policy = None
            if given is not None:
                policy = Policy("ResourcePolicy", parse_document(given, DocumentKind.RESOURCE))
            # As in AWS, the policy of a resource takes part only when it is given.
            asked = replace(target, policy=policy, policy_decides=False, copies_only=False)
            results.append(_result(judge(principal, action, asked, context)))
    size = shape.get("MaxItems", len(results) or 1)
    filters = {"shape": {key: value for key, value in shape.items() if key not in {"Marker", "MaxItems"}}}
    start = call.page_position(filters, shape.get("Marker")) or 0
    more = start + size < len(results)
    return {
        "EvaluationResults": results[start : start + size],
        "IsTruncated": more,
        "Marker": call.page_token(filters, start + size) if more else None,
    }


def _result(decision: Decision) -> dict[str, Any]:
    decided = [decision.reason] if not decision.allowed else [*decision.steps]
    matched = [step for step in decided if step.statement is not None and not _of_organization(step)]
    refused = None if decision.allowed else decision.reason.policy_type
    return {
        "EvalActionName": decision.action,
        "EvalResourceName": decision.resource,
        "EvalDecision": _DECISION[Verdict.ALLOWED if decision.allowed else decision.reason.verdict],
        "MatchedStatements": [
            {"SourcePolicyId": step.policy, "SourcePolicyType": _SOURCE[step.policy_type]} for step in matched
        ],
        "MissingContextValues": [],
        "OrganizationsDecisionDetail": {"AllowedByOrganizations": refused not in {PolicyType.SCP, PolicyType.RCP}},
        "PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": refused is not PolicyType.BOUNDARY},
    }


def _of_organization(step: Reason) -> bool:
    return step.policy_type in {PolicyType.SCP, PolicyType.RCP}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "SimulateCustomPolicy": simulate_custom_policy,
    "SimulatePrincipalPolicy": simulate_principal_policy,
}
