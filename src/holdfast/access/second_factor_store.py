"""The SQL of second factors."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model.second_factor import Device
from holdfast.database.values import instant, instant_or_none, stamp

_DEVICE = "serial, account, user_name, enabled_at, drift, last_step, created_at"
_ADD = text("""
    INSERT INTO iam_mfa_device (serial, account, sealed_seed, drift, last_step, created_at)
    VALUES (:serial, :account, :sealed, 0, 0, :at)""")
_FIND = text(f"SELECT {_DEVICE}, sealed_seed FROM iam_mfa_device WHERE serial = :serial")
_OF_USER = text(f"SELECT {_DEVICE} FROM iam_mfa_device WHERE account = :account AND user_name = :name ORDER BY serial")
_OF_ACCOUNT = text(f"SELECT {_DEVICE} FROM iam_mfa_device WHERE account = :account ORDER BY serial")
_ASSIGN = text("""
    UPDATE iam_mfa_device SET user_name = :name, enabled_at = :at, drift = :drift, last_step = :step
     WHERE serial = :serial""")
_USE = text("UPDATE iam_mfa_device SET last_step = :step WHERE serial = :serial AND last_step < :step")
_RELEASE = text("UPDATE iam_mfa_device SET user_name = NULL, enabled_at = NULL WHERE serial = :serial")
_DELETE = text("DELETE FROM iam_mfa_device WHERE serial = :serial")


def _device(row: sa.Row[Any]) -> Device:
    return Device(
        serial=row.serial,
        account=row.account,
        user_name=row.user_name,
        enabled_at=instant_or_none(row.enabled_at),
        drift=row.drift,
        last_step=row.last_step,
        created_at=instant(row.created_at),
    )


def add_device(tx: sa.Connection, device: Device, sealed_seed: bytes) -> None:
    """Write a new device."""
    tx.execute(
        _ADD,
        {
            "serial": device.serial,
            "account": device.account,
            "sealed": sealed_seed,
            "at": stamp(device.created_at),
        },
    )


def find_device(tx: sa.Connection, serial: str) -> tuple[Device, bytes] | None:
    """Return the device with this serial number, and its sealed seed."""
    row = tx.execute(_FIND, {"serial": serial}).one_or_none()
    return None if row is None else (_device(row), bytes(row.sealed_seed))


def devices_of(tx: sa.Connection, account: str, user_name: str | None = None) -> list[Device]:
    """Return the devices of a user, or all of an account."""
    if user_name is None:
        return [_device(row) for row in tx.execute(_OF_ACCOUNT, {"account": account})]
    return [_device(row) for row in tx.execute(_OF_USER, {"account": account, "name": user_name})]


def assign(tx: sa.Connection, serial: str, user_name: str, *, drift: int, step: int, at: datetime) -> None:
    """Give a device to a user, or note how far its clock is off."""
    tx.execute(_ASSIGN, {"serial": serial, "name": user_name, "drift": drift, "step": step, "at": stamp(at)})


def use_step(tx: sa.Connection, serial: str, step: int) -> bool:
    """Note that the code of a time step was taken; return False when it, or a later one, was taken already."""
    return tx.execute(_USE, {"serial": serial, "step": step}).rowcount == 1


def release(tx: sa.Connection, serial: str) -> None:
    """Take a device away from its user."""
    tx.execute(_RELEASE, {"serial": serial})


def delete_device(tx: sa.Connection, serial: str) -> None:
    """Remove a device."""
    tx.execute(_DELETE, {"serial": serial})
