"""The whole tree in a few statements, at any instant."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Position
from holdfast.database.values import FOREVER, stamp
from holdfast.organization.model.tree import Account, Unit
from holdfast.organization.store.accounts import account_of
from holdfast.organization.store.tree import unit_of

_UNITS = text("""
    SELECT id, organization_id, parent_id, name, depth, path, created_at
      FROM unit
     WHERE organization_id = :organization AND path LIKE :prefix AND created_at <= :at AND deleted_at > :at
     ORDER BY path""")
_STANDING = """
      FROM unit u
      JOIN placement p ON p.unit_id = u.id AND p.starts_at <= :at AND p.ends_at > :at
     WHERE u.organization_id = :organization AND u.path LIKE :prefix"""
_COUNTS = text(f"SELECT u.id, count(*) AS accounts {_STANDING} GROUP BY u.id")
_ACCOUNTS = text(f"""
    SELECT a.id, a.name, a.email, a.alias, a.external_id, a.status, a.organization_id, a.joined_method, a.joined_at,
           a.created_at, a.closed_at, ranked.unit_id, ranked.path, ranked.starts_at
      FROM (SELECT p.account_id, p.unit_id, p.path, p.starts_at,
                   row_number() OVER (PARTITION BY p.unit_id ORDER BY p.starts_at, p.account_id) AS number
            {_STANDING} AND (p.starts_at, p.account_id) > (:after_at, :after_id)) ranked
      JOIN account a ON a.id = ranked.account_id
     WHERE ranked.number <= :limit
     ORDER BY ranked.unit_id, ranked.number""")


@dataclass(frozen=True, slots=True)
class Below:
    """What of a tree is asked for: everything below a path, at an instant (None: now)."""

    organization_id: str
    path: str
    at: datetime | None = None

    @property
    def parameters(self) -> dict[str, str | int]:
        """What the statements take."""
        at = FOREVER - 1 if self.at is None else stamp(self.at)
        return {"organization": self.organization_id, "prefix": f"{self.path}%", "at": at}


def units(tx: sa.Connection, below: Below) -> list[Unit]:
    """Return the units, each after its parent."""
    return [unit_of(row) for row in tx.execute(_UNITS, below.parameters)]


def counts(tx: sa.Connection, below: Below) -> dict[str, int]:
    """Return how many accounts stand directly under each unit that has any."""
    return {row.id: row.accounts for row in tx.execute(_COUNTS, below.parameters)}


def first_accounts(tx: sa.Connection, below: Below, *, after: Position, limit: int) -> Iterable[Account]:
    """Return, for each unit, the first accounts that stand directly under it after a position, in their order."""
    after_at, after_id = after or (-1, "")
    given = {**below.parameters, "after_at": after_at, "after_id": after_id, "limit": limit}
    return [account_of(row) for row in tx.execute(_ACCOUNTS, given)]
