"""Incidents on the `holdfast` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.database.values import stamp
from holdfast.monitor import incidents
from holdfast.monitor.incident import Affected, Incident, IncidentState
from holdfast.wire.call import Call, Handler

_PAGE: Final = 100


def list_incidents(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List incidents, the newest first."""
    size, state = shape.get("MaxResults", _PAGE), shape.get("State")
    asked = {"account": shape.get("AccountId"), "unit": shape.get("UnitId"), "state": state}
    after = call.page_position(asked, shape.get("NextToken"))
    found = incidents.list_incidents(
        call.tx,
        call.caller.account,
        account=asked["account"],
        unit_id=asked["unit"],
        state=None if state is None else IncidentState(state),
        after=incidents.BEFORE_ALL if after is None else (after[0], after[1]),
        limit=size + 1,
        now=call.now,
    )
    shown = found[:size]
    return {
        "Incidents": [_incident(incident) for incident in shown],
        "NextToken": call.page_token(asked, [stamp(shown[-1].opened_at), shown[-1].id] if len(found) > size else None),
    }


def describe_incident(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give an incident and what it affects."""
    size = shape.get("MaxResults", _PAGE)
    asked = {"incident": shape["IncidentId"]}
    after = call.page_position(asked, shape.get("NextToken")) or ["", "", ""]
    incident, found = incidents.describe_incident(
        call.tx,
        call.caller.account,
        shape["IncidentId"],
        after=(after[0], after[1], after[2]),
        limit=size + 1,
        now=call.now,
    )
    shown = found[:size]
    last = [shown[-1].account, shown[-1].resource_arn, shown[-1].thing] if len(found) > size else None
    return {
        "Incident": _incident(incident),
        "Affected": [_affected(each) for each in shown],
        "NextToken": call.page_token(asked, last),
    }


def acknowledge_incident(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take note of an incident."""
    incident = incidents.acknowledge(
        call.tx, call.caller.account, shape["IncidentId"], who=call.caller.arn, now=call.now
    )
    return {"Incident": _incident(incident)}


def _incident(incident: Incident) -> dict[str, Any]:
    return {
        "IncidentId": incident.id,
        "State": incident.state.value,
        "Cause": incident.cause.value,
        "Thing": incident.thing,
        "Message": incident.message,
        "AffectedResources": incident.resources,
        "AffectedAccounts": incident.accounts,
        "UnrecoveredResources": incident.unrecovered,
        "OpenedAt": incident.opened_at,
        "LastFailedAt": incident.last_failed_at,
        "AcknowledgedAt": incident.acknowledged_at,
        "AcknowledgedBy": incident.acknowledged_by,
        "ClosedAt": incident.closed_at,
    }


def _affected(each: Affected) -> dict[str, Any]:
    return {
        "AccountId": each.account,
        "Region": each.region,
        "ResourceArn": each.resource_arn,
        "Thing": each.thing,
        "JobId": each.job_id,
        "FailedAt": each.failed_at,
        "RecoveredAt": each.recovered_at,
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "AcknowledgeIncident": acknowledge_incident,
    "DescribeIncident": describe_incident,
    "ListIncidents": list_incidents,
}
