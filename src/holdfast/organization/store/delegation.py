"""Rows of trusted access and of delegated administrators."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, Position, page_of
from holdfast.database.values import instant, stamp

_TRUSTED = text("""
    SELECT principal, enabled_at FROM service_access
     WHERE organization_id = :organization AND principal > :after ORDER BY principal LIMIT :limit""")
_IS_TRUSTED = text("SELECT 1 FROM service_access WHERE organization_id = :organization AND principal = :principal")
_TRUST = text("""
    INSERT INTO service_access (organization_id, principal, enabled_at) VALUES (:organization, :principal, :now)
    ON CONFLICT (organization_id, principal) DO NOTHING""")
_DISTRUST = text("DELETE FROM service_access WHERE organization_id = :organization AND principal = :principal")
_DISTRUST_ALL = text("DELETE FROM service_access WHERE organization_id = :organization")

_IS_DELEGATED = text("""
    SELECT count(*) FROM delegated_administrator WHERE organization_id = :organization AND account_id = :account""")
_IS_REGISTERED = text("""
    SELECT count(*) FROM delegated_administrator
     WHERE organization_id = :organization AND account_id = :account AND principal = :principal""")
_COUNT = text("""
    SELECT count(*) FROM delegated_administrator WHERE organization_id = :organization AND principal = :principal""")
_REGISTER = text("""
    INSERT INTO delegated_administrator (organization_id, account_id, principal, enabled_at)
    VALUES (:organization, :account, :principal, :now)""")
_DEREGISTER = text("""
    DELETE FROM delegated_administrator
     WHERE organization_id = :organization AND account_id = :account AND principal = :principal""")
_DEREGISTER_ALL = text("DELETE FROM delegated_administrator WHERE organization_id = :organization")
_ADMINISTRATORS = text("""
    SELECT account_id, min(enabled_at) AS enabled_at FROM delegated_administrator
     WHERE organization_id = :organization AND (:principal = '' OR principal = :principal) AND account_id > :after
     GROUP BY account_id ORDER BY account_id LIMIT :limit""")
_SERVICES = text("""
    SELECT principal, enabled_at FROM delegated_administrator
     WHERE organization_id = :organization AND account_id = :account AND principal > :after
     ORDER BY principal LIMIT :limit""")


@dataclass(frozen=True, slots=True)
class Enabled:
    """A service principal or an account, and since when it is enabled."""

    name: str
    enabled_at: datetime


def trusted_services(tx: sa.Connection, organization_id: str, *, after: Position, limit: int) -> Page[Enabled]:
    """Return a page of the services that are trusted, by name."""
    found = tx.execute(_TRUSTED, {"organization": organization_id, "after": after or "", "limit": limit + 1})
    return page_of([Enabled(row.principal, instant(row.enabled_at)) for row in found], limit, lambda e: e.name)


def is_trusted(tx: sa.Connection, organization_id: str, principal: str) -> bool:
    """Return whether a service is trusted."""
    return tx.execute(_IS_TRUSTED, {"organization": organization_id, "principal": principal}).first() is not None


def trust(tx: sa.Connection, organization_id: str, principal: str, *, now: datetime) -> None:
    """Write that a service is trusted; one that is already stays as it is."""
    tx.execute(_TRUST, {"organization": organization_id, "principal": principal, "now": stamp(now)})


def distrust(tx: sa.Connection, organization_id: str, principal: str) -> None:
    """Write that a service is not trusted."""
    tx.execute(_DISTRUST, {"organization": organization_id, "principal": principal})


def forget_all(tx: sa.Connection, organization_id: str) -> None:
    """Remove all trust and every delegated administrator."""
    tx.execute(_DISTRUST_ALL, {"organization": organization_id})
    tx.execute(_DEREGISTER_ALL, {"organization": organization_id})


def is_delegated(tx: sa.Connection, organization_id: str, account_id: str) -> bool:
    """Return whether an account is a delegated administrator of any service."""
    return bool(tx.execute(_IS_DELEGATED, {"organization": organization_id, "account": account_id}).scalar_one())


def is_registered(tx: sa.Connection, organization_id: str, account_id: str, principal: str) -> bool:
    """Return whether an account is a delegated administrator of this service."""
    given = {"organization": organization_id, "account": account_id, "principal": principal}
    return bool(tx.execute(_IS_REGISTERED, given).scalar_one())


def count_administrators(tx: sa.Connection, organization_id: str, principal: str) -> int:
    """Return how many delegated administrators a service has."""
    return int(tx.execute(_COUNT, {"organization": organization_id, "principal": principal}).scalar_one())


def register(tx: sa.Connection, organization_id: str, account_id: str, principal: str, *, now: datetime) -> None:
    """Write that an account is a delegated administrator of a service."""
    given = {"organization": organization_id, "account": account_id, "principal": principal, "now": stamp(now)}
    tx.execute(_REGISTER, given)


def deregister(tx: sa.Connection, organization_id: str, account_id: str, principal: str) -> bool:
    """Remove an account as a delegated administrator of a service; return whether it was one."""
    given = {"organization": organization_id, "account": account_id, "principal": principal}
    return tx.execute(_DEREGISTER, given).rowcount == 1


def administrators(
    tx: sa.Connection, organization_id: str, principal: str | None, *, after: Position, limit: int
) -> Page[Enabled]:
    """Return a page of the delegated administrators, of one service or of any, by account."""
    given = {"organization": organization_id, "principal": principal or "", "after": after or "", "limit": limit + 1}
    found = tx.execute(_ADMINISTRATORS, given)
    return page_of([Enabled(row.account_id, instant(row.enabled_at)) for row in found], limit, lambda e: e.name)


def services_of(
    tx: sa.Connection, organization_id: str, account_id: str, *, after: Position, limit: int
) -> Page[Enabled]:
    """Return a page of the services that an account administers, by name."""
    given = {"organization": organization_id, "account": account_id, "after": after or "", "limit": limit + 1}
    found = tx.execute(_SERVICES, given)
    return page_of([Enabled(row.principal, instant(row.enabled_at)) for row in found], limit, lambda e: e.name)
