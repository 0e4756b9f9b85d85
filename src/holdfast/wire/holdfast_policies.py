"""What the `holdfast` API says about policies: which one every value of an effective policy came from."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from holdfast.organization.service.authority import Reach
from holdfast.policy import effective, service
from holdfast.policy.model.document import Operator
from holdfast.policy.model.merge import Leaf, Step
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import organization_for

_PAGE: Final = 500


def explain_effective_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Explain the effective policy of an account: each value, who set it, what it overrode, who may still change it."""
    account = shape["TargetId"]
    policy_type = shape.get("PolicyType", "BACKUP_POLICY")
    if account != call.caller.account:
        service.get_target(call.tx, organization_for(call, Reach.READER).id, account)
    found = effective.explain(call.tx, account, policy_type, at=call.now)
    filters = {"TargetId": account, "PolicyType": policy_type}
    start = call.page_position(filters, shape.get("NextToken")) or 0
    end = start + shape.get("MaxResults", _PAGE)
    return {
        "TargetId": account,
        "PolicyType": policy_type,
        "PolicyContent": orjson.dumps(found.document).decode(),
        "Leaves": [_leaf_to_wire(leaf) for leaf in found.leaves[start:end]],
        "NextToken": call.page_token(filters, end if end < len(found.leaves) else None),
    }


def _leaf_to_wire(leaf: Leaf) -> dict[str, Any]:
    return {
        "Path": "/".join(leaf.path),
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


def _step_to_wire(step: Step) -> dict[str, Any]:
    return {
        "PolicyId": step.policy_id,
        "TargetId": step.node_id,
        "Operator": step.operator.value,
        "Value": orjson.dumps(step.operand).decode(),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"ExplainEffectivePolicy": explain_effective_policy}
