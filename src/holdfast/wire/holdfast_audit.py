"""The audit trail over all accounts, on the `holdfast` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.database.values import to_json
from holdfast.monitor.audit import Asked, search_trail
from holdfast.trail.reading import Recorded
from holdfast.wire.call import Call, Handler
from holdfast.wire.cloudtrail import event_id

_PAGE: Final = 100
_SOURCE: Final = ".amazonaws.com"


def search_audit_trail(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Find entries of the audit trail, the newest first."""
    asked = {name: value for name, value in shape.items() if name not in {"MaxResults", "NextToken"}}
    page = search_trail(
        call.tx,
        call.caller.account,
        Asked(
            account=shape.get("AccountId"),
            unit_id=shape.get("UnitId"),
            region=shape.get("Region", ""),
            operation=shape.get("EventName", ""),
            service=shape.get("EventSource", "").removesuffix(_SOURCE),
            principal=shape.get("Principal", ""),
            resource=shape.get("ResourceName", ""),
            since=shape.get("StartTime"),
            until=shape.get("EndTime"),
        ),
        before=call.page_position(asked, shape.get("NextToken")),
        limit=shape.get("MaxResults", _PAGE),
        now=call.now,
    )
    return {
        "Entries": [_to_wire(entry) for entry in page.items],
        "NextToken": call.page_token(asked, page.position),
    }


def _to_wire(entry: Recorded) -> dict[str, Any]:
    return {
        "EventId": event_id(entry),
        "EventTime": entry.at,
        "AccountId": entry.account,
        "Region": entry.region,
        "EventSource": entry.service + _SOURCE,
        "EventName": entry.operation,
        "PrincipalArn": entry.principal_arn,
        "Person": entry.person,
        "SourceIp": entry.source_ip,
        "Decision": entry.decision.value,
        "Reason": entry.reason,
        "Parameters": to_json(entry.parameters),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"SearchAuditTrail": search_audit_trail}
