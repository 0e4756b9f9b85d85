"""Rows of handshakes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, Position, page_of
from holdfast.database.values import from_json, instant, instant_or_none, stamp, stamp_or_none, to_json
from holdfast.organization.model.handshake import Detail, Handshake, HandshakeAction, HandshakeState, Party, PartyKind

_HANDSHAKE = """
    SELECT h.id, h.organization_id, o.management_account, h.action, h.state, h.parties, h.resources, h.account_id,
           h.email, h.parent_id, h.tags, h.requested_at, h.expires_at, h.ended_at
      FROM handshake h
      JOIN organization o ON o.id = h.organization_id"""
_SHOWN = "(CASE WHEN h.ended_at IS NULL THEN h.expires_at ELSE h.ended_at END) > :shown"
_FILTERED = "(:action = '' OR h.action = :action) AND (:parent = '' OR h.parent_id = :parent)"
_PAGE = "(h.requested_at, h.id) > (:after_at, :after_id) ORDER BY h.requested_at, h.id LIMIT :limit"
_BY_ID = text(f"{_HANDSHAKE} WHERE h.id = :id")
_FROM = text(f"{_HANDSHAKE} WHERE h.organization_id = :organization AND {_SHOWN} AND {_FILTERED} AND {_PAGE}")
_TO = text(f"""{_HANDSHAKE}
     WHERE (h.account_id = :account OR h.email = :email) AND {_SHOWN} AND {_FILTERED} AND {_PAGE}""")
_OPEN = f"{_HANDSHAKE} WHERE h.organization_id = :organization AND h.ended_at IS NULL AND h.expires_at > :now"
_OPEN_INVITATION = text(f"""{_OPEN} AND h.action = 'INVITE'
       AND (h.account_id = :account OR h.email = :email) ORDER BY h.requested_at LIMIT 1""")
_OPEN_MIGRATION = text(f"{_OPEN} AND h.action = 'ENABLE_ALL_FEATURES' LIMIT 1")
_COUNT_OPEN = text("""
    SELECT count(*) FROM handshake
     WHERE organization_id = :organization AND action = 'INVITE' AND ended_at IS NULL AND expires_at > :now""")
_COUNT_SENT = text("""
    SELECT count(*) FROM handshake
     WHERE organization_id = :organization AND action = 'INVITE' AND requested_at > :since AND state <> 'ACCEPTED'""")
_INSERT = text("""
    INSERT INTO handshake (id, organization_id, action, state, parties, resources, account_id, email, parent_id, tags,
                           requested_at, expires_at, ended_at)
    VALUES (:id, :organization, :action, :state, :parties, :resources, :account, :email, :parent, :tags, :requested,
            :expires, :ended)""")
_OPEN_PARENT = text("""
    UPDATE handshake SET state = 'OPEN'
     WHERE organization_id = :organization AND action = 'ENABLE_ALL_FEATURES' AND state = 'REQUESTED'
       AND expires_at > :now
       AND NOT EXISTS (SELECT 1 FROM handshake child
                        WHERE child.parent_id = handshake.id AND child.state NOT IN ('ACCEPTED', 'CANCELED'))""")
_SET_STATE = text("UPDATE handshake SET state = :state, ended_at = :ended WHERE id = :id")
_CANCEL = "UPDATE handshake SET state = 'CANCELED', ended_at = :now WHERE ended_at IS NULL AND expires_at > :now"
_CANCEL_CHILDREN = text(f"{_CANCEL} AND parent_id = :parent")
_CANCEL_FROM = text(f"{_CANCEL} AND organization_id = :organization")
_CANCEL_APPROVALS = text(f"""{_CANCEL}
       AND organization_id = :organization AND account_id = :account AND action = 'APPROVE_ALL_FEATURES'""")


def _handshake(row: Any) -> Handshake:
    return Handshake(
        id=row.id,
        organization_id=row.organization_id,
        management_account=row.management_account,
        action=HandshakeAction(row.action),
        state=HandshakeState(row.state),
        parties=tuple(Party(PartyKind(kind), party_id) for kind, party_id in from_json(row.parties)),
        details=tuple(map(_detail, from_json(row.resources))),
        requested_at=instant(row.requested_at),
        expires_at=instant(row.expires_at),
        account_id=row.account_id,
        email=row.email,
        parent_id=row.parent_id,
        tags=from_json(row.tags),
        ended_at=instant_or_none(row.ended_at),
    )


def _detail(column: Any) -> Detail:
    kind, value, details = column
    return Detail(kind, value, tuple(map(_detail, details)))


def _detail_column(detail: Detail) -> list[Any]:
    return [detail.kind, detail.value, [_detail_column(inner) for inner in detail.details]]


def find_handshake(tx: sa.Connection, handshake_id: str) -> Handshake | None:
    """Return a handshake, whoever is party to it."""
    row = tx.execute(_BY_ID, {"id": handshake_id}).one_or_none()
    return None if row is None else _handshake(row)


def insert_handshakes(tx: sa.Connection, handshakes: Sequence[Handshake]) -> None:
    """Write new handshakes."""
    rows = [
        {
            "id": handshake.id,
            "organization": handshake.organization_id,
            "action": handshake.action.value,
            "state": handshake.state.value,
            "parties": to_json([[party.kind.value, party.id] for party in handshake.parties]),
            "resources": to_json(list(map(_detail_column, handshake.details))),
            "account": handshake.account_id,
            "email": handshake.email,
            "parent": handshake.parent_id,
            "tags": to_json(dict(handshake.tags)),
            "requested": stamp(handshake.requested_at),
            "expires": stamp(handshake.expires_at),
            "ended": stamp_or_none(handshake.ended_at),
        }
        for handshake in handshakes
    ]
    if rows:
        tx.execute(_INSERT, rows)


def set_state(tx: sa.Connection, handshake_id: str, state: HandshakeState, *, ended_at: datetime) -> None:
    """Write that a handshake is over, and how."""
    tx.execute(_SET_STATE, {"id": handshake_id, "state": state.value, "ended": stamp(ended_at)})


def _page(
    tx: sa.Connection, statement: sa.TextClause, given: dict[str, Any], after: Position, limit: int
) -> Page[Handshake]:
    after_at, after_id = after or (-1, "")
    found = tx.execute(statement, {**given, "after_at": after_at, "after_id": after_id, "limit": limit + 1})
    return page_of([_handshake(row) for row in found], limit, lambda h: [stamp(h.requested_at), h.id])


def handshakes_from(
    tx: sa.Connection,
    organization_id: str,
    *,
    action: HandshakeAction | None,
    parent_id: str | None,
    shown_since: datetime,
    after: Position,
    limit: int,
) -> Page[Handshake]:
    """Return a page of what an organization sent and what is open or ended after `shown_since`, oldest first."""
    given = {
        "organization": organization_id,
        "action": action.value if action else "",
        "parent": parent_id or "",
        "shown": stamp(shown_since),
    }
    return _page(tx, _FROM, given, after, limit)


def handshakes_to(
    tx: sa.Connection,
    account_id: str,
    email: str,
    *,
    action: HandshakeAction | None,
    parent_id: str | None,
    shown_since: datetime,
    after: Position,
    limit: int,
) -> Page[Handshake]:
    """Return a page of what an account was sent and what is open or ended after `shown_since`, oldest first."""
    given = {
        "account": account_id,
        "email": email.lower(),
        "action": action.value if action else "",
        "parent": parent_id or "",
        "shown": stamp(shown_since),
    }
    return _page(tx, _TO, given, after, limit)


def find_open_invitation(
    tx: sa.Connection, organization_id: str, account_id: str | None, email: str, *, now: datetime
) -> Handshake | None:
    """Return the invitation that an account or an e-mail address has not answered yet."""
    given = {"organization": organization_id, "account": account_id or "", "email": email.lower(), "now": stamp(now)}
    row = tx.execute(_OPEN_INVITATION, given).one_or_none()
    return None if row is None else _handshake(row)


def find_open_migration(tx: sa.Connection, organization_id: str, *, now: datetime) -> Handshake | None:
    """Return the question to enable all features that is not completed yet."""
    row = tx.execute(_OPEN_MIGRATION, {"organization": organization_id, "now": stamp(now)}).one_or_none()
    return None if row is None else _handshake(row)


def count_open_invitations(tx: sa.Connection, organization_id: str, *, now: datetime) -> int:
    """Return how many invitations wait for an answer."""
    return int(tx.execute(_COUNT_OPEN, {"organization": organization_id, "now": stamp(now)}).scalar_one())


def count_invitations_since(tx: sa.Connection, organization_id: str, since: datetime) -> int:
    """Return how many invitations were sent after an instant and not accepted."""
    return int(tx.execute(_COUNT_SENT, {"organization": organization_id, "since": stamp(since)}).scalar_one())


def open_if_all_approved(tx: sa.Connection, organization_id: str, *, now: datetime) -> None:
    """Let the question to enable all features be completed, once no member's approval is missing any more."""
    tx.execute(_OPEN_PARENT, {"organization": organization_id, "now": stamp(now)})


def cancel_children(tx: sa.Connection, parent_id: str, *, now: datetime) -> None:
    """Cancel the children of a handshake that wait for an answer."""
    tx.execute(_CANCEL_CHILDREN, {"parent": parent_id, "now": stamp(now)})


def cancel_all_from(tx: sa.Connection, organization_id: str, *, now: datetime) -> None:
    """Cancel everything an organization sent that waits for an answer."""
    tx.execute(_CANCEL_FROM, {"organization": organization_id, "now": stamp(now)})


def cancel_approvals(tx: sa.Connection, organization_id: str, account_id: str, *, now: datetime) -> bool:
    """Cancel what asks this account to approve all features; return whether there was anything."""
    given = {"organization": organization_id, "account": account_id, "now": stamp(now)}
    return tx.execute(_CANCEL_APPROVALS, given).rowcount > 0
