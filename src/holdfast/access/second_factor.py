"""What is done with second factors: virtual devices made, enabled for a user, asked for codes, and removed.

Seeds lie sealed under the root key, and are shown once. Which time step it is, machine time tells. Rules: AWS Identity
and Access Management API Reference, "CreateVirtualMFADevice", "EnableMFADevice", "ResyncMFADevice".
"""

import secrets
from datetime import datetime

import sqlalchemy as sa

from holdfast.access import second_factor_store as store
from holdfast.access.model.caller import Caller
from holdfast.access.model.identity import (
    MOST_MFA_DEVICES,
    IdentityExistsError,
    IdentityInUseError,
    IdentityNotFoundError,
    check_name,
    check_path,
)
from holdfast.access.model.second_factor import (
    SEED_BYTES,
    Device,
    WrongCodeError,
    accepted_step,
    step_of,
    synchronized_step,
)
from holdfast.access.store import find_user, raise_access_version
from holdfast.access.tag import clear_tags
from holdfast.core.errors import LimitExceededError
from holdfast.core.seal import RootKey

SEED_PURPOSE = "mfa-seed"


def create_device(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    name: str,
    *,
    path: str = "/",
    partition: str = "aws",
    now: datetime,
) -> tuple[Device, bytes]:
    """Make a virtual device that is nobody's yet; return it and its seed, which is not shown again.

    Raises:
        IdentityExistsError: the name is taken.
    """
    check_name(name, "virtual MFA device", longest=226)
    check_path(path)
    serial = f"arn:{partition}:iam::{account}:mfa{path}{name}"
    if store.find_device(tx, serial) is not None:
        raise IdentityExistsError(f"MFADevice entity at the same path and name already exists: {serial}")
    device = Device(serial, account, None, None, 0, 0, now)
    seed = secrets.token_bytes(SEED_BYTES)
    store.add_device(tx, device, root_key.seal(SEED_PURPOSE, seed, context=serial))
    return device, seed


def get_device(tx: sa.Connection, account: str, serial: str) -> Device:
    """Return a device of the account.

    Raises:
        IdentityNotFoundError: it has none with this serial number.
    """
    found = store.find_device(tx, serial)
    if found is None or found[0].account != account:
        raise IdentityNotFoundError(f"VirtualMFADevice with serial number {serial} does not exist.")
    return found[0]


def _of_user(tx: sa.Connection, account: str, user_name: str, serial: str) -> Device:
    device = get_device(tx, account, serial)
    if device.user_name != user_name:
        raise IdentityNotFoundError(f"MFA device {serial} is not enabled for the user {user_name}.")
    return device


def _seed(tx: sa.Connection, root_key: RootKey, serial: str) -> bytes:
    found = store.find_device(tx, serial)
    if found is None:
        raise IdentityNotFoundError(f"VirtualMFADevice with serial number {serial} does not exist.")
    return root_key.unseal(SEED_PURPOSE, found[1], context=serial)


def enable_device(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    user_name: str,
    serial: str,
    codes: tuple[str, str],
    *,
    now: datetime,
    machine_now: datetime,
) -> None:
    """Give a device to a user, who shows by two codes in a row that they have it.

    Raises:
        IdentityNotFoundError: there is no such user or device.
        IdentityExistsError: the device is somebody's already.
        WrongCodeError: the codes are not those of the device.
    """
    if find_user(tx, account, user_name) is None:
        raise IdentityNotFoundError(f"The user with name {user_name} cannot be found.")
    device = get_device(tx, account, serial)
    if device.user_name is not None:
        raise IdentityExistsError(f"MFA device {serial} is already in use.")
    if len(store.devices_of(tx, account, user_name)) >= MOST_MFA_DEVICES:
        raise LimitExceededError(f"Cannot exceed quota for MFADevicesPerUser: {MOST_MFA_DEVICES}")
    _synchronize(tx, root_key, serial, user_name, codes, at=now, machine_now=machine_now)
    raise_access_version(tx)


def resync_device(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    user_name: str,
    serial: str,
    codes: tuple[str, str],
    *,
    machine_now: datetime,
) -> None:
    """Learn how far the clock of a user's device is off, from two codes in a row.

    Raises:
        IdentityNotFoundError: the user has no such device.
        WrongCodeError: the codes are not those of the device within an hour.
    """
    device = _of_user(tx, account, user_name, serial)
    enabled_at = device.enabled_at or device.created_at
    _synchronize(tx, root_key, serial, user_name, codes, at=enabled_at, machine_now=machine_now)


def _synchronize(
    tx: sa.Connection,
    root_key: RootKey,
    serial: str,
    user_name: str,
    codes: tuple[str, str],
    *,
    at: datetime,
    machine_now: datetime,
) -> None:
    step = synchronized_step(_seed(tx, root_key, serial), *codes, now=machine_now)
    if step is None:
        raise WrongCodeError(
            "Authentication code for device is not valid: give two codes in a row, the older one first."
        )
    store.assign(tx, serial, user_name, drift=step - step_of(machine_now), step=step, at=at)


def deactivate_device(tx: sa.Connection, account: str, user_name: str, serial: str) -> None:
    """Take a device away from its user.

    Raises:
        IdentityNotFoundError: the user has no such device.
    """
    device = _of_user(tx, account, user_name, serial)
    store.release(tx, device.serial)
    raise_access_version(tx)


def delete_device(tx: sa.Connection, account: str, serial: str) -> None:
    """Delete a device that is nobody's.

    Raises:
        IdentityInUseError: a user still has it.
    """
    device = get_device(tx, account, serial)
    if device.user_name is not None:
        raise IdentityInUseError(f"MFA device {serial} is in use by {device.user_name}; deactivate it first.")
    store.delete_device(tx, serial)
    clear_tags(tx, account, "", serial)


def is_right_code(
    tx: sa.Connection, root_key: RootKey, caller: Caller, serial: str, code: str, *, machine_now: datetime
) -> bool:
    """Return whether a code is the present one of a device of the calling user, and was not taken yet."""
    return _step_of_code(tx, root_key, caller.account, caller.name, serial, code, machine_now) is not None


def use_code(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    user_name: str | None,
    serial: str,
    code: str,
    *,
    machine_now: datetime,
) -> None:
    """Take a code of a user's device; it counts once.

    Raises:
        WrongCodeError: the user has no such device, or the code is not its present one, or was taken already.
    """
    step = _step_of_code(tx, root_key, account, user_name, serial, code, machine_now)
    if step is None or not store.use_step(tx, serial, step):
        raise WrongCodeError("MultiFactorAuthentication failed with invalid MFA one time pass code.")


def _step_of_code(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    user_name: str | None,
    serial: str,
    code: str,
    machine_now: datetime,
) -> int | None:
    found = store.find_device(tx, serial)
    if found is None:
        return None
    device, sealed = found
    if user_name is None or (device.account, device.user_name) != (account, user_name):
        return None
    return accepted_step(device, root_key.unseal(SEED_PURPOSE, sealed, context=serial), code, now=machine_now)
