"""Putting event routes, finding what they are to be told, and telling it; see `route` for what a route is.

The trail itself is the outbox: each sealed block is looked through once for what happened to backups, in its order, and
what a route wants becomes a delivery. Sending is beside everything else: a receiver that fails or is slow makes its own
deliveries late, and nothing that is backed up.
"""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
import structlog
from sqlalchemy import bindparam, text

from holdfast.core.ids import new_uuid
from holdfast.core.outgoing import check_url
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.facts import recalled, remember
from holdfast.database.facts import replace as replace_fact
from holdfast.database.values import from_json, instant, stamp, to_json
from holdfast.monitor.incidents import follow
from holdfast.monitor.route import (
    ALL_DETAIL_TYPES,
    TEST,
    Event,
    Format,
    InvalidRouteError,
    Route,
    RouteChangedError,
    UnconfirmedRouteError,
    UnknownRouteError,
    cloud_event,
    ended_jobs,
    event_of,
    sns_confirmation,
    sns_notification,
    vault_events_of,
)
from holdfast.organization.service.membership import find_membership
from holdfast.source.service import web_secret
from holdfast.trail.reading import changes_in_block, sealed_up_to

log = structlog.get_logger()

_FORWARDED: Final = "events forwarded up to block"
_INSTALLATION: Final = "events installation"
_BLOCKS: Final = 20

_COLUMNS = (
    "account, name, region, url, format, secret_name, organization_wide, topic, detail_types, states, confirmation, "
    "version, created_at, updated_at"
)
_PUT = text(f"""
    INSERT INTO event_route ({_COLUMNS})
    VALUES (:account, :name, :region, :url, :format, :secret_name, :organization_wide, :topic, :detail_types, :states,
            :confirmation, :version, :created_at, :updated_at)
    ON CONFLICT (account, name) DO UPDATE
       SET region = excluded.region, url = excluded.url, format = excluded.format, secret_name = excluded.secret_name,
           organization_wide = excluded.organization_wide, topic = excluded.topic,
           detail_types = excluded.detail_types, states = excluded.states, confirmation = excluded.confirmation,
           version = excluded.version, updated_at = excluded.updated_at""")
_FIND = text(f"SELECT {_COLUMNS} FROM event_route WHERE account = :account AND name = :name")
_LIST = text(f"""
    SELECT {_COLUMNS} FROM event_route WHERE account = :account AND name > :after ORDER BY name LIMIT :limit""")
_ALL = text(f"SELECT {_COLUMNS} FROM event_route ORDER BY account, name")
_DELETE = text("DELETE FROM event_route WHERE account = :account AND name = :name")
_DELETE_DELIVERIES = text("DELETE FROM event_delivery WHERE account = :account AND route = :name")
_CONFIRM = text("UPDATE event_route SET confirmation = NULL WHERE account = :account AND name = :name")
_MEMBERS = text("SELECT id, organization_id FROM account WHERE id IN :ids AND organization_id IS NOT NULL").bindparams(
    bindparam("ids", expanding=True, type_=sa.Text)
)
_NOTIFYING = text("""
    SELECT arn, account, notifications FROM vault WHERE arn IN :arns AND notifications IS NOT NULL""").bindparams(
    bindparam("arns", expanding=True, type_=sa.Text)
)
_DELIVER = text("""
    INSERT INTO event_delivery (account, route, event_id, position, body, state, attempts, available_at, created_at)
    VALUES (:account, :route, :event_id, :position, :body, 'PENDING', 0, :at, :at)
    ON CONFLICT (account, route, event_id) DO NOTHING""")
_DEAD = text("""
    SELECT route, event_id, body, attempts, created_at, available_at, error FROM event_delivery
     WHERE account = :account AND state = 'DEAD' AND (:route = '' OR route = :route)
       AND (route > :after_route OR route = :after_route AND event_id > :after_event)
     ORDER BY route, event_id LIMIT :limit""")
_AGAIN = text("""
    UPDATE event_delivery SET state = 'PENDING', attempts = 0, available_at = :at
     WHERE account = :account AND route = :route AND state = 'DEAD' AND (:event_id = '' OR event_id = :event_id)""")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be delivered."""

    route: str
    event_id: str
    body: str
    attempts: int
    created_at: datetime
    failed_at: datetime
    error: str


def _route(row: sa.Row[Any]) -> Route:
    return Route(
        account=row.account,
        name=row.name,
        region=row.region,
        url=row.url,
        format=Format(row.format),
        secret_name=row.secret_name,
        organization_wide=bool(row.organization_wide),
        topic=row.topic,
        detail_types=tuple(from_json(row.detail_types)),
        states=tuple(from_json(row.states)),
        confirmation=row.confirmation,
        version=row.version,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
    )


def put_route(
    tx: sa.Connection,
    root_key: RootKey,
    wanted: Route,
    *,
    expected_version: int | None,
    now: datetime,
    machine_now: datetime,
) -> Route:
    """Make a route, or change the one of this name; what stays as it is keeps its version.

    A receiver that becomes a topic's subscriber is asked to confirm first.

    Raises:
        InvalidRouteError: receiver, filters or secret make no sense, or the whole organization is not the account's
            to see.
        RouteChangedError: it is at another version.
    """
    _check(tx, root_key, wanted)
    row = tx.execute(_FIND, {"account": wanted.account, "name": wanted.name}).one_or_none()
    known = None if row is None else _route(row)
    version = 0 if known is None else known.version
    if expected_version is not None and expected_version != version:
        raise RouteChangedError(f"{wanted.name} has version {version}, not {expected_version}: read it again")
    if known is None:
        route = replace(wanted, version=1, created_at=now, updated_at=now)
    else:
        kept = replace(wanted, confirmation=known.confirmation, version=version, created_at=known.created_at)
        if replace(kept, updated_at=known.updated_at) == known:
            return known
        route = replace(kept, version=version + 1, updated_at=now)
    subscribes = route.topic is not None
    is_new = known is None or (known.url, known.topic) != (route.url, route.topic)
    if not subscribes:
        route = replace(route, confirmation=None)
    elif is_new:
        route = replace(route, confirmation=secrets.token_urlsafe(32))
    tx.execute(
        _PUT,
        {
            "account": route.account,
            "name": route.name,
            "region": route.region,
            "url": route.url,
            "format": route.format.value,
            "secret_name": route.secret_name,
            "organization_wide": route.organization_wide,
            "topic": route.topic,
            "detail_types": to_json(list(route.detail_types)),
            "states": to_json(list(route.states)),
            "confirmation": route.confirmation,
            "version": route.version,
            "created_at": stamp(route.created_at),
            "updated_at": stamp(route.updated_at),
        },
    )
    if subscribes and is_new:
        message_id = new_uuid()
        _send(tx, [(route, message_id, 0, sns_confirmation(route, message_id, now))], machine_now)
    return route


def _check(tx: sa.Connection, root_key: RootKey, route: Route) -> None:
    check_url(route.url, plain=True)
    unknown = sorted(set(route.detail_types) - ALL_DETAIL_TYPES)
    if unknown:
        raise InvalidRouteError(f"{unknown[0]!r} is no type of event; there are {', '.join(sorted(ALL_DETAIL_TYPES))}")
    if (route.topic is None) != (route.format is Format.CLOUDEVENTS):
        raise InvalidRouteError("a route has the format SNS and a TopicArn, or the format CLOUDEVENTS and none")
    if route.topic is not None and (route.organization_wide or route.detail_types or route.states):
        raise InvalidRouteError("what a topic is told, its vaults say; a route with a TopicArn has no filters")
    if route.organization_wide and _organization_seen_by(tx, route.account) is None:
        raise InvalidRouteError("only the management account and delegated administrators see the whole organization")
    if route.secret_name is not None:
        web_secret(tx, root_key, route.account, route.region, route.secret_name, route.url)


def _organization_seen_by(tx: sa.Connection, account: str) -> str | None:
    membership = find_membership(tx, account)
    return membership.organization.id if membership is not None and membership.sees_everything else None


def get_route(tx: sa.Connection, account: str, name: str) -> Route:
    """Return a route.

    Raises:
        UnknownRouteError: there is none of this name.
    """
    row = tx.execute(_FIND, {"account": account, "name": name}).one_or_none()
    if row is None:
        raise UnknownRouteError(f"there is no event route {name!r} in account {account}")
    return _route(row)


def list_routes(tx: sa.Connection, account: str, *, after: str = "", limit: int) -> list[Route]:
    """Return the routes of an account by name."""
    return [_route(row) for row in tx.execute(_LIST, {"account": account, "after": after, "limit": limit})]


def delete_route(tx: sa.Connection, account: str, name: str, *, expected_version: int | None) -> None:
    """Forget a route, with all that was on its way.

    Raises:
        UnknownRouteError: there is none of this name.
        RouteChangedError: it is at another version.
    """
    route = get_route(tx, account, name)
    if expected_version is not None and expected_version != route.version:
        raise RouteChangedError(f"{name} has version {route.version}, not {expected_version}: read it again")
    tx.execute(_DELETE_DELIVERIES, {"account": account, "name": name})
    tx.execute(_DELETE, {"account": account, "name": name})


def confirm_route(tx: sa.Connection, account: str, name: str, token: str) -> Route:
    """Take back the token that the receiver of a topic's route was sent; from now on it is told of events.

    Raises:
        UnknownRouteError: there is no such route.
        InvalidRouteError: it was sent another token.
    """
    route = get_route(tx, account, name)
    if route.confirmation is not None:
        if not secrets.compare_digest(route.confirmation.encode(), token.encode()):
            raise InvalidRouteError("this is not the token that the receiver was sent")
        tx.execute(_CONFIRM, {"account": account, "name": name})
    return replace(route, confirmation=None)


def send_test(tx: sa.Connection, account: str, name: str, *, now: datetime, machine_now: datetime) -> str:
    """Send an event that says nothing, whatever the filters; return its id.

    Raises:
        UnknownRouteError: there is no such route.
        UnconfirmedRouteError: its receiver has not confirmed.
    """
    route = get_route(tx, account, name)
    if route.confirmation is not None:
        raise UnconfirmedRouteError(f"the receiver of {name} has not confirmed; give its token to ConfirmEventRoute")
    event = Event(new_uuid(), account, route.region, now, TEST, (), {"state": "TEST"})
    _send(tx, [(route, event.id, 0, _body(route, event))], machine_now)
    return event.id


def _body(route: Route, event: Event) -> dict[str, Any]:
    return cloud_event(event) if route.topic is None else sns_notification(event, route.topic)


def _send(tx: sa.Connection, what: Iterable[tuple[Route, str, int, Mapping[str, Any]]], machine_now: datetime) -> None:
    rows = [
        {
            "account": route.account,
            "route": route.name,
            "event_id": event_id,
            "position": position,
            "body": body,
            "at": stamp(machine_now),
        }
        for route, event_id, position, shape in what
        for body in (json.dumps(shape, ensure_ascii=False, separators=(",", ":")),)
    ]
    if rows:
        tx.execute(_DELIVER, rows)


def forward(database: Database, *, now: datetime, machine_now: datetime) -> int:
    """Look through the blocks since the last time: jobs that ended go into incidents, and events become deliveries.

    Of two who look at the same blocks, one does. What happened before the first call is told to nobody. Returns how
    many events were looked at.
    """
    with database.reading() as tx:
        newest, done = sealed_up_to(tx), recalled(tx, _FORWARDED)
    if done == str(newest):
        return 0
    with database.transaction() as tx:
        if done is None:
            remember(tx, _INSTALLATION, new_uuid())
            remember(tx, _FORWARDED, str(newest))
            return 0
        first, last = int(done), min(newest, int(done) + _BLOCKS)
        if not replace_fact(tx, _FORWARDED, done, str(last)):
            return 0
        installation = recalled(tx, _INSTALLATION) or ""
        entries = [entry for number in range(first + 1, last + 1) for entry in changes_in_block(tx, number)]
        follow(tx, ended_jobs(entries), now=now)
        found = [event for entry in entries if (event := event_of(entry, installation=installation)) is not None]
        routes = [route for row in tx.execute(_ALL) if (route := _route(row)).confirmation is None]
        wanted = _wanted(tx, routes, found) if routes else []
        _send(tx, ((route, event.id, event.position, _body(route, event)) for route, event in wanted), machine_now)
    return len(found)


def _wanted(tx: sa.Connection, routes: Sequence[Route], events: Sequence[Event]) -> list[tuple[Route, Event]]:
    """Return which route is to be told of which event."""
    if not events:
        return []
    ids = sorted({event.account for event in events})
    organization = {row.id: row.organization_id for row in tx.execute(_MEMBERS, {"ids": ids})}
    seen = {route.account: _organization_seen_by(tx, route.account) for route in routes if route.organization_wide}
    arns = sorted({event.vault_arn for event in events if event.vault_arn})
    told = {row.arn: (row.account, from_json(row.notifications)) for row in tx.execute(_NOTIFYING, {"arns": arns})}
    found = []
    for event in events:
        owner, notifications = told.get(event.vault_arn or "", ("", {}))
        for route in routes:
            if route.topic is not None:
                is_told = (route.account, route.topic) == (owner, notifications.get("topic")) and bool(
                    vault_events_of(event) & set(notifications.get("events", ()))
                )
            else:
                theirs = organization.get(event.account)
                is_near = route.account == event.account or (
                    route.organization_wide and theirs is not None and theirs == seen[route.account]
                )
                is_told = is_near and route.wants(event)
            if is_told:
                found.append((route, event))
    return found


def list_dead_letters(
    tx: sa.Connection, account: str, *, route: str = "", after: tuple[str, str] = ("", ""), limit: int
) -> list[DeadLetter]:
    """Return what could not be delivered to the receivers of an account's routes."""
    where = {"account": account, "route": route, "after_route": after[0], "after_event": after[1], "limit": limit}
    return [
        DeadLetter(
            row.route,
            row.event_id,
            row.body,
            row.attempts,
            instant(row.created_at),
            instant(row.available_at),
            row.error or "",
        )
        for row in tx.execute(_DEAD, where)
    ]


def redeliver(tx: sa.Connection, account: str, name: str, *, event_id: str = "", machine_now: datetime) -> int:
    """Try dead letters of a route again, all or one; return how many.

    Raises:
        UnknownRouteError: there is no such route, or no such dead letter.
    """
    get_route(tx, account, name)
    where = {"account": account, "route": name, "event_id": event_id, "at": stamp(machine_now)}
    count = tx.execute(_AGAIN, where).rowcount
    if event_id and not count:
        raise UnknownRouteError(f"route {name} has no dead letter {event_id}")
    return count
