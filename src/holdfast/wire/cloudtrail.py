"""The audit trail on the `cloudtrail` API: what was done in an account and region, the newest first.

Shape of an event: AWS CloudTrail User Guide, "CloudTrail record contents".
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.errors import InvalidInputError
from holdfast.database.values import to_json
from holdfast.trail.reading import Recorded, Wanted, find_entries
from holdfast.trail.service import Decision
from holdfast.wire.call import Call, Handler

_PAGE: Final = 50
_YES_NO: Final = ("true", "false")
_SOURCE: Final = ".amazonaws.com"
_EVENT_ID = re.compile(r"00000000-0000-0000-([0-9a-f]{4})-([0-9a-f]{12})\Z")


def event_id(entry: Recorded) -> str:
    """Return the id that clients know an entry by."""
    digits = f"{entry.id:016x}"
    return f"00000000-0000-0000-{digits[:4]}-{digits[4:]}"


def _entry_id(event_id: str) -> int:
    """Return the entry's id, one that no entry has for what is no event id of ours."""
    found = _EVENT_ID.match(event_id.lower())
    return -1 if found is None else int(found[1] + found[2], 16)


def lookup_events(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List what was done in the caller's account and the region, the newest first.

    Raises:
        InvalidInputError: more than one attribute is asked for, or one that entries do not have.
    """
    attributes = shape.get("LookupAttributes") or []
    if len(attributes) > 1:
        raise InvalidInputError("LookupAttributes takes one attribute at a time")
    key, value = (attributes[0]["AttributeKey"], attributes[0]["AttributeValue"]) if attributes else ("", "")
    since, until = shape.get("StartTime"), shape.get("EndTime")
    filters = {"key": key, "value": value, "since": since, "until": until}
    before = call.page_position(filters, shape.get("NextToken"))
    size = shape.get("MaxResults", _PAGE)
    unknown = key in {"ResourceType", "AccessKeyId"} or (key == "ReadOnly" and value not in _YES_NO)
    if unknown or shape.get("EventCategory"):
        # Types of resources and access keys are not recorded, nor are there insights.
        return {"Events": []}
    wanted = Wanted(
        account=call.caller.account,
        region=call.region,
        since=since,
        until=until,
        id=_entry_id(value) if key == "EventId" else 0,
        operation=value if key == "EventName" else "",
        service=value.removesuffix(_SOURCE) if key == "EventSource" else "",
        name=value if key == "Username" else "",
        resource=value if key == "ResourceName" else "",
        reads=value if key == "ReadOnly" else "",
    )
    found = find_entries(call.tx, wanted, before=before, limit=size + 1)
    shown, more = found[:size], len(found) > size
    return {
        "Events": [_to_wire(entry) for entry in shown],
        "NextToken": call.page_token(filters, shown[-1].id) if more else None,
    }


def _to_wire(entry: Recorded) -> dict[str, Any]:
    source = entry.service + _SOURCE
    name = entry.principal_arn.rpartition("/")[2]
    record: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": {"arn": entry.principal_arn, "accountId": entry.account, "person": entry.person},
        "eventTime": entry.at.isoformat(),
        "eventSource": source,
        "eventName": entry.operation,
        "awsRegion": entry.region,
        "sourceIPAddress": entry.source_ip,
        "userAgent": entry.user_agent,
        "serviceEventDetails" if entry.decision is Decision.EVENT else "requestParameters": entry.parameters,
        "requestID": entry.request_id,
        "eventID": event_id(entry),
        "readOnly": entry.reads,
        "eventType": "AwsServiceEvent" if entry.decision is Decision.EVENT else "AwsApiCall",
        "recipientAccountId": entry.account,
    }
    if entry.decision is Decision.REFUSED:
        record |= {"errorCode": "AccessDenied", "errorMessage": entry.reason_for_members}
    return {
        "EventId": event_id(entry),
        "EventName": entry.operation,
        "ReadOnly": "true" if entry.reads else "false",
        "EventTime": entry.at,
        "EventSource": source,
        "Username": name,
        "Resources": [],
        "CloudTrailEvent": to_json(record),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"LookupEvents": lookup_events}
