"""What an organization tells other stations, in the transaction in which it happened."""

from datetime import datetime

import sqlalchemy as sa

from holdfast.access.store import raise_access_version
from holdfast.database.outbox import publish
from holdfast.organization.model.tree import Unit

ACCOUNT_JOINED = "AccountJoined"
ACCOUNT_MOVED = "AccountMoved"
ACCOUNT_LEFT = "AccountLeft"


def tell_joined(tx: sa.Connection, account_id: str, unit: Unit, *, now: datetime) -> None:
    """Tell that an account has come into an organization, under `unit`."""
    body = {"account_id": account_id, "organization_id": unit.organization_id, "unit_id": unit.id}
    _tell(tx, ACCOUNT_JOINED, body, now=now)


def tell_moved(tx: sa.Connection, account_id: str, source: Unit, destination: Unit, *, now: datetime) -> None:
    """Tell that an account now stands under another unit."""
    body = {
        "account_id": account_id,
        "organization_id": destination.organization_id,
        "unit_id": destination.id,
        "from_unit_id": source.id,
    }
    _tell(tx, ACCOUNT_MOVED, body, now=now)


def tell_left(tx: sa.Connection, account_id: str, organization_id: str, *, now: datetime) -> None:
    """Tell that an account belongs to an organization no more."""
    _tell(tx, ACCOUNT_LEFT, {"account_id": account_id, "organization_id": organization_id}, now=now)


def forget_decisions(tx: sa.Connection) -> None:
    """Make every process decide anew who may do what: something changed that decisions rest on."""
    raise_access_version(tx)


def _tell(tx: sa.Connection, kind: str, body: dict[str, str], *, now: datetime) -> None:
    publish(tx, kind, body, at=now)
    forget_decisions(tx)
