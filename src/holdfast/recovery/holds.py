"""Placing and releasing legal holds; see `hold` for what they are. Each verb runs in its caller's transaction."""

from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from holdfast.core.arn import partition_of
from holdfast.core.ids import new_uuid
from holdfast.recovery import store
from holdfast.recovery.hold import (
    MOST_HOLDS,
    RECORD_KEPT_DAYS,
    Hold,
    HoldLimitError,
    HoldReleasedError,
    HoldStatus,
    InvalidHoldError,
    Selection,
    UnknownHoldError,
    refuse_bad_hold,
)
from holdfast.recovery.model import RecoveryPoint
from holdfast.vault import ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.records import Kind

_EVERY_NAME = 1_000_000


def place_hold(
    tx: sa.Connection,
    custody: Custody,
    *,
    account: str,
    region: str,
    title: str,
    description: str,
    selection: Selection,
    token: str | None = None,
    now: datetime,
) -> Hold:
    """Hold the recovery points that fall under a selection now, until the hold is released.

    Raises:
        InvalidHoldError: it makes no sense, or names a vault that does not exist.
        HoldLimitError: too many are in force.
    """
    refuse_bad_hold(title, description, selection)
    if token is not None:
        earlier = store.find_hold_by_token(tx, account=account, region=region, token=token)
        if earlier is not None:
            return earlier
    if store.number_of_active_holds(tx, account=account, region=region) >= MOST_HOLDS:
        raise HoldLimitError(f"account {account} has {MOST_HOLDS} legal holds in force in {region}, the most allowed")
    hold_id = new_uuid()
    hold = Hold(
        id=hold_id,
        account=account,
        region=region,
        arn=f"arn:{partition_of(region)}:backup:{region}:{account}:legal-hold:{hold_id}",
        title=title,
        description=description,
        selection=selection,
        created_at=now,
        token=token,
    )
    found = vaults.list_vaults(tx, account=account, region=region, after="", limit=_EVERY_NAME)
    missing = set(selection.vault_names) - {vault.name for vault in found}
    if missing:
        raise InvalidHoldError(f"there is no backup vault {', '.join(sorted(missing))} in account {account}, {region}")
    taken = {
        vault.id: [point.id for point in store.points_of_vault(tx, vault.id) if selection.takes(point)]
        for vault in found
    }
    for vault in found:
        if taken[vault.id]:
            body = {"hold": hold.to_body(), "points": taken[vault.id]}
            ledger.write(tx, custody, vault, Kind.HOLD_PLACED, body, at=now)
    store.insert_hold(tx, hold)
    for points in taken.values():
        store.hold_points(tx, hold.id, points)
    return hold


def release_hold(
    tx: sa.Connection,
    custody: Custody,
    *,
    account: str,
    region: str,
    hold_id: str,
    description: str,
    retain_record_days: int | None = None,
    now: datetime,
) -> Hold:
    """Release what a hold keeps, at once; only its record stays for a while.

    Raises:
        UnknownHoldError: there is none.
        HoldReleasedError: it was released before.
        InvalidHoldError: no reason is given.
    """
    hold = get_hold(tx, account=account, region=region, hold_id=hold_id, now=now)
    if hold.status is not HoldStatus.ACTIVE:
        raise HoldReleasedError(f"legal hold {hold.title} was canceled on {hold.canceled_at:%d %B %Y}")
    if not description.strip():
        raise InvalidHoldError("say why the legal hold is canceled")
    days = RECORD_KEPT_DAYS if retain_record_days is None else retain_record_days
    if not 0 <= days <= RECORD_KEPT_DAYS * 20:
        raise InvalidHoldError(f"the record of a canceled legal hold is kept for 0 to {RECORD_KEPT_DAYS * 20} days")
    released = replace(
        hold,
        status=HoldStatus.CANCELED,
        canceled_at=now,
        cancel_description=description,
        retain_until=now + timedelta(days=days),
    )
    body = {
        "hold": hold.id,
        "canceled_at": now.isoformat(),
        "description": description,
        "retain_until": (now + timedelta(days=days)).isoformat(),
    }
    for vault_id in store.vaults_of_hold(tx, hold.id):
        vault = vaults.find_vault_by_id(tx, vault_id)
        if vault is not None:
            ledger.write(tx, custody, vault, Kind.HOLD_RELEASED, body, at=now)
    store.update_hold(tx, released)
    return released


def get_hold(tx: sa.Connection, *, account: str, region: str, hold_id: str, now: datetime) -> Hold:
    """Return a legal hold, in force, or released and its record still kept.

    Raises:
        UnknownHoldError: there is none, or none any more.
    """
    hold = store.find_hold(tx, account=account, region=region, hold_id=hold_id)
    if hold is None or (hold.retain_until is not None and hold.retain_until <= now):
        raise UnknownHoldError(f"account {account} has no legal hold {hold_id} in {region}")
    return hold


def list_holds(
    tx: sa.Connection, *, account: str, region: str, after: store.Position | None, limit: int, now: datetime
) -> list[Hold]:
    """Return up to `limit` legal holds, the oldest first, those after the position."""
    return store.list_holds(tx, account=account, region=region, after=after, limit=limit, now=now)


def list_points_held(tx: sa.Connection, hold: Hold, *, after: str, limit: int) -> list[RecoveryPoint]:
    """Return up to `limit` recovery points that a hold keeps or kept, by id, those after `after`; no deleted ones."""
    return store.points_held(tx, hold.id, after=after, limit=limit)
