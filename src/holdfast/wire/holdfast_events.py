"""Event routes on the `holdfast` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.access.tag import check_tags, clear_tags, put_tags, tags_of
from holdfast.core.arn import Arn
from holdfast.monitor import routing
from holdfast.monitor.route import Format, InvalidRouteError, Route
from holdfast.wire.call import Call, Handler

_PAGE: Final = 100


def put_event_route(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Send events to a receiver."""
    topic = shape.get("TopicArn")
    if topic is not None:
        parsed = Arn.parse(topic)
        if parsed.service != "sns" or parsed.account != call.caller.account:
            raise InvalidRouteError("TopicArn is the ARN of a topic in the route's own account")
    wanted = Route(
        account=call.caller.account,
        name=shape["Name"],
        region=call.region,
        url=shape["Url"],
        format=Format(shape.get("Format", "CLOUDEVENTS")),
        secret_name=shape.get("SecretName"),
        organization_wide=shape.get("OrganizationWide", False),
        topic=topic,
        detail_types=tuple(sorted(set(shape.get("DetailTypes", ())))),
        states=tuple(sorted(set(shape.get("States", ())))),
        confirmation=None,
        version=0,
        created_at=call.now,
        updated_at=call.now,
    )
    route = routing.put_route(
        call.tx,
        call.instance.root_key,
        wanted,
        expected_version=_expected(shape),
        now=call.now,
        machine_now=call.instance.machine.now(),
    )
    if "Tags" in shape:
        arn = _arn(call, route.name)
        clear_tags(call.tx, route.account, "", arn)
        put_tags(call.tx, route.account, "", arn, check_tags(shape["Tags"].items()))
    return {"EventRoute": _to_wire(call, route)}


def describe_event_route(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a route."""
    return {"EventRoute": _to_wire(call, routing.get_route(call.tx, call.caller.account, shape["Name"]))}


def list_event_routes(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the routes of the account by name."""
    size = shape.get("MaxResults", _PAGE)
    after = call.page_position({}, shape.get("NextToken")) or ""
    found = routing.list_routes(call.tx, call.caller.account, after=after, limit=size + 1)
    return {
        "EventRoutes": [_to_wire(call, route) for route in found[:size]],
        "NextToken": call.page_token({}, found[size - 1].name if len(found) > size else None),
    }


def delete_event_route(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Forget a route, with all that was on its way."""
    routing.delete_route(call.tx, call.caller.account, shape["Name"], expected_version=_expected(shape))
    clear_tags(call.tx, call.caller.account, "", _arn(call, shape["Name"]))
    return {}


def confirm_event_route(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take the token that a topic's subscriber was sent."""
    return {
        "EventRoute": _to_wire(call, routing.confirm_route(call.tx, call.caller.account, shape["Name"], shape["Token"]))
    }


def send_test_event(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Send an event that says nothing."""
    sent = routing.send_test(
        call.tx, call.caller.account, shape["Name"], now=call.now, machine_now=call.instance.machine.now()
    )
    return {"EventId": sent}


def list_dead_letters(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List what could not be delivered."""
    filters = {"route": shape.get("Name", "")}
    size = shape.get("MaxResults", _PAGE)
    after = call.page_position(filters, shape.get("NextToken")) or ["", ""]
    found = routing.list_dead_letters(
        call.tx, call.caller.account, route=filters["route"], after=(after[0], after[1]), limit=size + 1
    )
    return {
        "DeadLetters": [
            {
                "Name": letter.route,
                "EventId": letter.event_id,
                "Body": letter.body,
                "Attempts": letter.attempts,
                "CreatedAt": letter.created_at,
                "FailedAt": letter.failed_at,
                "Problem": letter.error,
            }
            for letter in found[:size]
        ],
        "NextToken": call.page_token(
            filters, [found[size - 1].route, found[size - 1].event_id] if len(found) > size else None
        ),
    }


def redeliver_dead_letters(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Try dead letters again."""
    count = routing.redeliver(
        call.tx,
        call.caller.account,
        shape["Name"],
        event_id=shape.get("EventId", ""),
        machine_now=call.instance.machine.now(),
    )
    return {"Redelivered": count}


def _to_wire(call: Call, route: Route) -> dict[str, Any]:
    arn = _arn(call, route.name)
    return {
        "Name": route.name,
        "EventRouteArn": arn,
        "Url": route.url,
        "Format": route.format.value,
        "SecretName": route.secret_name,
        "OrganizationWide": route.organization_wide,
        "TopicArn": route.topic,
        "DetailTypes": list(route.detail_types),
        "States": list(route.states),
        "Confirmed": route.confirmation is None,
        "Tags": dict(tags_of(call.tx, route.account, "", arn)),
        "Version": str(route.version),
        "CreatedAt": route.created_at,
        "UpdatedAt": route.updated_at,
    }


def _arn(call: Call, name: str) -> str:
    return f"arn:{call.partition}:holdfast::{call.caller.account}:event-route/{name}"


def _expected(shape: Mapping[str, Any]) -> int | None:
    text = shape.get("ExpectedVersion")
    if text is not None and not text.isdecimal():
        raise InvalidRouteError(
            f"ExpectedVersion {text!r} is no version that was ever given; 0 means that there is none"
        )
    return None if text is None else int(text)


OPERATIONS: Final[Mapping[str, Handler]] = {
    "PutEventRoute": put_event_route,
    "DescribeEventRoute": describe_event_route,
    "ListEventRoutes": list_event_routes,
    "DeleteEventRoute": delete_event_route,
    "ConfirmEventRoute": confirm_event_route,
    "SendTestEvent": send_test_event,
    "ListDeadLetters": list_dead_letters,
    "RedeliverDeadLetters": redeliver_dead_letters,
}
