"""Questions about access: may this principal do that and why, and who could at all and by which path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from holdfast.access.model import Decision, Reason
from holdfast.core.arn import Arn
from holdfast.core.errors import DeniedError
from holdfast.organization.service.membership import find_membership
from holdfast.server.principals import (
    Households,
    Principal,
    Target,
    get_principal,
    get_target,
    judge,
    list_principals,
    neighbours,
)
from holdfast.wire.call import Call, Handler

_ASSUME: Final = "sts:AssumeRole"
_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Way:
    """Somebody who could, and how: by themselves, or by acting in one role after another."""

    principal: str
    account: str
    roles: tuple[str, ...]
    decision: Decision
    """On the action itself, or on acting in the first of the roles."""


def who_can(
    principals: Sequence[Principal],
    action: str,
    target: Target,
    roles: Mapping[str, Target],
    context: Mapping[str, Sequence[str]],
) -> list[Way]:
    """Return every principal that could do an action to a target, each by its shortest way.

    `roles` are the roles that could be acted in, as targets, by ARN.
    """
    found: dict[str, Way] = {}
    for principal in principals:
        decision = judge(principal, action, target, context)
        if decision.allowed:
            found[principal.arn] = Way(principal.arn, principal.caller.account, (), decision)
    reached = [arn for arn in found if arn in roles]
    while reached:
        nearer: list[str] = []
        for role in reached:
            for principal in principals:
                if principal.arn in found:
                    continue
                decision = judge(principal, _ASSUME, roles[role], context)
                if decision.allowed:
                    way = (role, *found[role].roles)
                    found[principal.arn] = Way(principal.arn, principal.caller.account, way, decision)
                    if principal.arn in roles:
                        nearer.append(principal.arn)
        reached = nearer
    return sorted(found.values(), key=lambda way: way.principal)


def _refuse_foreign_question(call: Call, *accounts: str | None) -> None:
    """Let the management account and delegated administrators ask about their organization, others about themselves.

    Raises:
        DeniedError: the question is about an account that is not the caller's to ask about.
    """
    own = call.caller.account
    asked = {account for account in accounts if account and account != own}
    if not asked:
        return
    membership = find_membership(call.tx, own)
    if membership is None or not membership.sees_everything or asked - set(neighbours(call.tx, own)):
        raise DeniedError(f"account {own} may ask about itself only, not about {', '.join(sorted(asked))}")


def _context(shape: Mapping[str, Any]) -> dict[str, list[str]]:
    return {key: list(values) for key, values in (shape.get("Context") or {}).items()}


def step_to_wire(reason: Reason) -> dict[str, Any]:
    """Return one step of a decision."""
    return {
        "Verdict": reason.verdict.name,
        "PolicyType": reason.policy_type.value,
        "Policy": reason.policy,
        "Node": reason.node,
        "Statement": reason.statement,
        "Sid": reason.sid,
        "Explanation": str(reason),
    }


def explain_access(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell whether a principal may do an action to a resource, and each step of the decision."""
    households = Households(call.tx)
    # Asked before anything is looked up, so that nobody learns who exists in other accounts.
    _refuse_foreign_question(call, Arn.parse(shape["PrincipalArn"]).account, shape.get("ResourceAccount"))
    principal = get_principal(call.tx, households, shape["PrincipalArn"])
    resource = shape.get("ResourceArn", "*")
    target = get_target(
        call.tx,
        households,
        resource,
        shape["Action"],
        owner=shape.get("ResourceAccount"),
        default_owner=principal.caller.account,
    )
    _refuse_foreign_question(call, principal.caller.account, target.owner)
    decision = judge(principal, shape["Action"], target, _context(shape))
    return {
        "Allowed": decision.allowed,
        "Sentence": decision.sentence,
        "Explanation": str(decision.reason),
        "Steps": [step_to_wire(step) for step in decision.steps],
    }


def _roles(tx: sa.Connection, households: Households, principals: Sequence[Principal]) -> dict[str, Target]:
    return {
        principal.arn: get_target(
            tx, households, principal.arn, _ASSUME, owner=None, default_owner=principal.caller.account
        )
        for principal in principals
        if ":role/" in principal.arn
    }


def who_can_do(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List every principal of the organization that could do an action to a resource, and by which way."""
    households = Households(call.tx)
    resource, action = shape.get("ResourceArn", "*"), shape["Action"]
    _refuse_foreign_question(call, shape.get("ResourceAccount"))
    target = get_target(
        call.tx,
        households,
        resource,
        action,
        owner=shape.get("ResourceAccount"),
        default_owner=call.caller.account,
    )
    _refuse_foreign_question(call, target.owner)
    filters = {"action": action, "resource": resource, "owner": target.owner, "context": _context(shape)}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    principals = list_principals(call.tx, households, neighbours(call.tx, target.owner))
    ways = who_can(principals, action, target, _roles(call.tx, households, principals), _context(shape))
    rest = [way for way in ways if way.principal > after]
    size = shape.get("MaxResults", _PAGE)
    return {
        "Principals": [
            {
                "PrincipalArn": way.principal,
                "AccountId": way.account,
                "Roles": list(way.roles),
                "Explanation": str(way.decision.reason),
            }
            for way in rest[:size]
        ],
        "NextToken": call.page_token(filters, rest[size - 1].principal if len(rest) > size else None),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"ExplainAccess": explain_access, "WhoCan": who_can_do}
