"""Trying selections on registered resources on the `holdfast` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.assessment.service import Outcome, Trial, Tried, try_on_all, try_on_resource
from holdfast.core.errors import InvalidInputError
from holdfast.plan.model.assignment import refuse_bad_selection
from holdfast.plan.service import get_plan, get_selection
from holdfast.wire.backup_plans import selection_from_wire
from holdfast.wire.call import Call, Handler
from holdfast.wire.holdfast_resources import refuse_stranger

_PAGE: Final = 100
_PAGING: Final = frozenset({"NextToken", "MaxResults"})


def test_selection(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell which resources a selection takes or nearly takes, or what it means for one of them."""
    trial = _trial(call, shape)
    if "ResourceArn" in shape:
        return {"Results": [_tried_to_wire(try_on_resource(call.tx, trial, shape["ResourceArn"]))]}
    asked = {member: value for member, value in shape.items() if member not in _PAGING}
    outcomes = shape.get("Outcomes") or [Outcome.MATCHED, Outcome.NEARLY_MATCHED]
    found, after = try_on_all(
        call.tx,
        trial,
        frozenset(map(Outcome, outcomes)),
        after=call.page_position(asked, shape.get("NextToken")) or "",
        limit=shape.get("MaxResults", _PAGE),
    )
    return {"Results": [_tried_to_wire(tried) for tried in found], "NextToken": call.page_token(asked, after)}


def _trial(call: Call, shape: dict[str, Any]) -> Trial:
    account = shape.get("AccountId", call.caller.account)
    if account != call.caller.account:
        refuse_stranger(call, account)
    planned = {member for member in ("BackupPlanId", "SelectionId") if member in shape}
    if "Selection" in shape and not planned:
        selection = selection_from_wire(shape["Selection"])
        refuse_bad_selection(selection)
        return Trial(selection, account, call.region, organizational=shape.get("ForOrganization", False))
    if len(planned) != 2 or "Selection" in shape or "ForOrganization" in shape:  # noqa: PLR2004 - plan and selection
        raise InvalidInputError(
            "give either Selection, with ForOrganization if you like, or BackupPlanId and SelectionId of one there is"
        )
    plan = get_plan(call.tx, account, call.region, shape["BackupPlanId"], now=call.now).plan
    selection = get_selection(plan, shape["SelectionId"]).selection
    return Trial(selection, account, call.region, organizational=plan.is_organizational)


def _tried_to_wire(tried: Tried) -> dict[str, Any]:
    judged = tried.judged
    return {
        "ResourceArn": judged.resource.arn,
        "Name": tried.name,
        "ResourceType": judged.resource.resource_class.type,
        "Outcome": tried.outcome.value,
        "DecidedBy": judged.verdict.clause,
        "IgnoresOptIn": judged.verdict.regardless,
        "Unmet": [{"Clause": missing.clause, "Found": missing.found} for missing in judged.unmet],
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"TestSelection": test_selection}
