"""Rows of accounts and of the requests that create them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, Position, page_of
from holdfast.database.values import FOREVER, instant, instant_or_none, stamp, stamp_or_none
from holdfast.organization.model.request import CreateAccountRequest, CreateAccountState
from holdfast.organization.model.tree import Account, AccountStatus, JoinedMethod

_ACCOUNT = """
    SELECT a.id, a.name, a.email, a.alias, a.external_id, a.status, a.organization_id, a.joined_method, a.joined_at,
           a.created_at, a.closed_at, p.unit_id, p.path, p.starts_at
      FROM account a
      LEFT JOIN placement p ON p.account_id = a.id AND p.ends_at = :forever"""
_BY_ID = text(f"{_ACCOUNT} WHERE a.id = :id")
_BY_EMAIL = text(f"{_ACCOUNT} WHERE lower(a.email) = lower(:email) AND a.paired_with IS NULL")
_BY_ALIAS = text(f"{_ACCOUNT} WHERE a.alias = :alias")
_BY_EXTERNAL_ID = text(f"{_ACCOUNT} WHERE a.external_id = :external_id")
_BY_IDS = text(f"{_ACCOUNT} WHERE a.id IN :ids ORDER BY a.id").bindparams(
    sa.bindparam("ids", type_=sa.String(), expanding=True)
)
_IN_ORGANIZATION = text(f"""{_ACCOUNT}
     WHERE a.organization_id = :organization AND (a.joined_at, a.id) > (:after_at, :after_id)
     ORDER BY a.joined_at, a.id LIMIT :limit""")
_UNDER = text("""
    SELECT a.id, a.name, a.email, a.alias, a.external_id, a.status, a.organization_id, a.joined_method, a.joined_at,
           a.created_at, a.closed_at, p.unit_id, p.path, p.starts_at
      FROM placement p
      JOIN account a ON a.id = p.account_id
     WHERE p.unit_id = :unit AND p.ends_at = :forever AND (p.starts_at, p.account_id) > (:after_at, :after_id)
     ORDER BY p.starts_at, p.account_id LIMIT :limit""")
_COUNT = text("SELECT count(*) FROM account WHERE organization_id = :organization")
_OTHERS = text("SELECT count(*) FROM account WHERE organization_id = :organization AND id <> :management")
_INVITED = text("""
    SELECT id FROM account
     WHERE organization_id = :organization AND joined_method = 'INVITED' AND status = 'ACTIVE' AND id <> :management
     ORDER BY joined_at, id""")
_CLOSED_SINCE = text("SELECT count(*) FROM account WHERE organization_id = :organization AND closed_at > :since")
_INSERT = text("""
    INSERT INTO account (id, name, email, alias, external_id, status, created_at, paired_with)
    VALUES (:id, :name, :email, :alias, :external_id, :status, :now, :paired_with)
    ON CONFLICT DO NOTHING""")
_JOIN = text("""
    UPDATE account SET organization_id = :organization, joined_method = :method, joined_at = :now WHERE id = :id""")
_LEAVE = text("UPDATE account SET organization_id = NULL, joined_method = NULL, joined_at = NULL WHERE id = :id")
_CLOSE = text("UPDATE account SET status = :status, closed_at = :now WHERE id = :id")
_LOCK = text("UPDATE account SET status = status WHERE id = :id")
_SET_NAMES = text("UPDATE account SET alias = :alias, external_id = :external_id WHERE id = :id")
_LONG_CLOSED = text("""
    SELECT id, organization_id FROM account
     WHERE closed_at <= :before AND organization_id IS NOT NULL ORDER BY id LIMIT :limit""")
_FIRST_CLOSING = text("SELECT min(closed_at) FROM account WHERE organization_id IS NOT NULL")

_REQUEST = """
    SELECT id, organization_id, account_id, account_name, email, state, failure_reason, requested_at, completed_at,
           gov_cloud_account_id
      FROM create_account_request
     WHERE organization_id = :organization"""
_REQUEST_BY_ID = text(f"{_REQUEST} AND id = :id")
_REQUESTS = text(f"""{_REQUEST} AND state IN :states AND (requested_at, id) > (:after_at, :after_id)
     ORDER BY requested_at, id LIMIT :limit""").bindparams(sa.bindparam("states", type_=sa.String(), expanding=True))
_INSERT_REQUEST = text("""
    INSERT INTO create_account_request (id, organization_id, account_id, account_name, email, state, failure_reason,
                                        requested_at, completed_at, gov_cloud_account_id)
    VALUES (:id, :organization, :account, :name, :email, :state, :failure, :requested, :completed, :gov_cloud)""")


def account_of(row: Any) -> Account:
    """Return the account that a row of all its columns and of its placement holds."""
    return Account(
        id=row.id,
        name=row.name,
        email=row.email,
        status=AccountStatus(row.status),
        created_at=instant(row.created_at),
        alias=row.alias,
        external_id=row.external_id,
        organization_id=row.organization_id,
        unit_id=row.unit_id,
        unit_path=row.path,
        placed_at=instant_or_none(row.starts_at),
        joined_method=None if row.joined_method is None else JoinedMethod(row.joined_method),
        joined_at=instant_or_none(row.joined_at),
        closed_at=instant_or_none(row.closed_at),
    )


def _one(tx: sa.Connection, statement: sa.TextClause, **given: str) -> Account | None:
    row = tx.execute(statement, {**given, "forever": FOREVER}).one_or_none()
    return None if row is None else account_of(row)


def find_account(tx: sa.Connection, account_id: str) -> Account | None:
    """Return the account with this id, wherever it stands."""
    return _one(tx, _BY_ID, id=account_id)


def lock_account(tx: sa.Connection, account_id: str) -> Account | None:
    """Return an account; other transactions that lock it wait until this one ends."""
    tx.execute(_LOCK, {"id": account_id})
    return find_account(tx, account_id)


def find_account_by_email(tx: sa.Connection, email: str) -> Account | None:
    """Return the account with this e-mail address; letter case does not matter."""
    return _one(tx, _BY_EMAIL, email=email)


def find_account_by_alias(tx: sa.Connection, alias: str) -> Account | None:
    """Return the account with this alias."""
    return _one(tx, _BY_ALIAS, alias=alias)


def find_account_by_external_id(tx: sa.Connection, external_id: str) -> Account | None:
    """Return the account with this external id."""
    return _one(tx, _BY_EXTERNAL_ID, external_id=external_id)


def accounts_by_id(tx: sa.Connection, account_ids: Sequence[str]) -> list[Account]:
    """Return those of the accounts that exist, by id."""
    return [account_of(row) for row in tx.execute(_BY_IDS, {"ids": list(account_ids), "forever": FOREVER})]


def accounts_in(tx: sa.Connection, organization_id: str, *, after: Position, limit: int) -> Page[Account]:
    """Return a page of an organization's accounts, the first to join first."""
    after_at, after_id = after or (-1, "")
    found = tx.execute(
        _IN_ORGANIZATION,
        {
            "organization": organization_id,
            "after_at": after_at,
            "after_id": after_id,
            "limit": limit + 1,
            "forever": FOREVER,
        },
    )
    return page_of([account_of(row) for row in found], limit, lambda a: [stamp_or_none(a.joined_at), a.id])


def accounts_under(tx: sa.Connection, unit_id: str, *, after: Position, limit: int) -> Page[Account]:
    """Return a page of the accounts directly under a unit, the first to come there first."""
    after_at, after_id = after or (-1, "")
    found = tx.execute(
        _UNDER,
        {"unit": unit_id, "after_at": after_at, "after_id": after_id, "limit": limit + 1, "forever": FOREVER},
    )
    return page_of([account_of(row) for row in found], limit, lambda a: [stamp_or_none(a.placed_at), a.id])


def count_accounts(tx: sa.Connection, organization_id: str) -> int:
    """Return how many accounts an organization has, closed ones included."""
    return int(tx.execute(_COUNT, {"organization": organization_id}).scalar_one())


def has_members(tx: sa.Connection, organization_id: str, management: str) -> bool:
    """Return whether an organization has accounts besides its management account."""
    return bool(tx.execute(_OTHERS, {"organization": organization_id, "management": management}).scalar_one())


def invited_members(tx: sa.Connection, organization_id: str, management: str) -> list[str]:
    """Return the ids of the active members that were not created in the organization."""
    found = tx.execute(_INVITED, {"organization": organization_id, "management": management})
    return [row.id for row in found]


def count_closed_since(tx: sa.Connection, organization_id: str, since: datetime) -> int:
    """Return how many of an organization's accounts were closed after an instant."""
    return int(tx.execute(_CLOSED_SINCE, {"organization": organization_id, "since": stamp(since)}).scalar_one())


def insert_account(tx: sa.Connection, account: Account, *, paired_with: str | None = None) -> bool:
    """Write a new account that stands in no organization yet; return whether nobody was faster to take its names."""
    done = tx.execute(
        _INSERT,
        {
            "id": account.id,
            "name": account.name,
            "email": account.email,
            "alias": account.alias,
            "external_id": account.external_id,
            "status": account.status.value,
            "now": stamp(account.created_at),
            "paired_with": paired_with,
        },
    )
    return done.rowcount == 1


def set_joined(
    tx: sa.Connection, account_id: str, organization_id: str, method: JoinedMethod, *, now: datetime
) -> None:
    """Write that an account belongs to an organization from now on."""
    tx.execute(_JOIN, {"id": account_id, "organization": organization_id, "method": method.value, "now": stamp(now)})


def set_left(tx: sa.Connection, account_id: str) -> None:
    """Write that an account belongs to no organization any more."""
    tx.execute(_LEAVE, {"id": account_id})


def set_closed(tx: sa.Connection, account_id: str, *, now: datetime) -> None:
    """Write that an account is closed."""
    tx.execute(_CLOSE, {"id": account_id, "status": AccountStatus.SUSPENDED.value, "now": stamp(now)})


def set_names(tx: sa.Connection, account_id: str, *, alias: str | None, external_id: str | None) -> None:
    """Write an account's alias and external id."""
    tx.execute(_SET_NAMES, {"id": account_id, "alias": alias, "external_id": external_id})


def closed_before(tx: sa.Connection, before: datetime, limit: int) -> list[tuple[str, str]]:
    """Return accounts (with their organizations) that were closed by an instant and still belong to one."""
    found = tx.execute(_LONG_CLOSED, {"before": stamp(before), "limit": limit})
    return [(row.id, row.organization_id) for row in found]


def first_closing(tx: sa.Connection) -> datetime | None:
    """Return when the first of the accounts was closed that still belong to an organization."""
    return instant_or_none(tx.execute(_FIRST_CLOSING).scalar_one())


def _request(row: Any) -> CreateAccountRequest:
    return CreateAccountRequest(
        id=row.id,
        organization_id=row.organization_id,
        account_name=row.account_name,
        email=row.email,
        state=CreateAccountState(row.state),
        requested_at=instant(row.requested_at),
        completed_at=instant_or_none(row.completed_at),
        account_id=row.account_id,
        gov_cloud_account_id=row.gov_cloud_account_id,
        failure_reason=row.failure_reason,
    )


def insert_request(tx: sa.Connection, request: CreateAccountRequest) -> None:
    """Write a request to create an account, with what came of it."""
    tx.execute(
        _INSERT_REQUEST,
        {
            "id": request.id,
            "organization": request.organization_id,
            "account": request.account_id,
            "name": request.account_name,
            "email": request.email,
            "state": request.state.value,
            "failure": request.failure_reason,
            "requested": stamp(request.requested_at),
            "completed": stamp_or_none(request.completed_at),
            "gov_cloud": request.gov_cloud_account_id,
        },
    )


def find_request(tx: sa.Connection, organization_id: str, request_id: str) -> CreateAccountRequest | None:
    """Return a request to create an account."""
    row = tx.execute(_REQUEST_BY_ID, {"organization": organization_id, "id": request_id}).one_or_none()
    return None if row is None else _request(row)


def requests(
    tx: sa.Connection,
    organization_id: str,
    states: Sequence[CreateAccountState],
    *,
    after: Position,
    limit: int,
) -> Page[CreateAccountRequest]:
    """Return a page of the requests to create accounts that are in one of these states, oldest first."""
    after_at, after_id = after or (-1, "")
    found = tx.execute(
        _REQUESTS,
        {
            "organization": organization_id,
            "states": [state.value for state in states],
            "after_at": after_at,
            "after_id": after_id,
            "limit": limit + 1,
        },
    )
    return page_of([_request(row) for row in found], limit, lambda r: [stamp(r.requested_at), r.id])
