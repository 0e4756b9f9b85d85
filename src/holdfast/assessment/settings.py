"""What accounts switch on and off: resource types per region, and the organization's global settings.

Rules: AWS Backup Developer Guide, "Service opt-in" and "Managing AWS Backup resources across multiple AWS accounts":
for plans that come from the organization's policies the management account's choice counts, not the member's.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import InvalidInputError, InvalidStateError
from holdfast.database.values import instant, stamp
from holdfast.organization.service.membership import find_membership
from holdfast.plan.model.resource_type import RESOURCE_TYPES
from holdfast.trail.event import state_change, told_instant
from holdfast.trail.service import record

REGION_CHANGE: Final = "Region Setting State Change"
OPT_IN: Final = "opt-in "
"""What the names of opt-in settings begin with; the resource type follows."""
_MANAGEMENT: Final = "management "
_GLOBAL: Final = "global "
GLOBAL_SETTINGS: Final = ("isCrossAccountBackupEnabled", "isMpaEnabled", "isDelegatedAdministratorEnabled")

_READ = text(
    "SELECT name, value, updated_at FROM setting"
    " WHERE account = :account AND region = :region AND substr(name, 1, :length) = :prefix"
)
_WRITE = text(
    "INSERT INTO setting (account, region, name, value, updated_at) VALUES (:account, :region, :name, :value, :at)"
    " ON CONFLICT (account, region, name) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at"
)


class UnknownSettingError(InvalidInputError):
    """There is no such setting or value."""


class NotYoursToSetError(InvalidStateError):
    """Only the management account of an organization may change this."""


def region_settings(tx: sa.Connection, account: str, region: str) -> tuple[dict[str, bool], dict[str, bool]]:
    """Return which resource types are switched on in a region, and which are fully managed by AWS Backup there."""
    opted = dict.fromkeys(RESOURCE_TYPES, True) | _booleans(tx, account, region, OPT_IN)
    managed = {"DynamoDB": False, "EFS": True} | _booleans(tx, account, region, _MANAGEMENT)
    return opted, managed


def switched_off(tx: sa.Connection, account: str, region: str, *, organizational: bool) -> frozenset[str]:
    """Return the resource types that plans of an account do not take in a region unless they name them.

    For plans of the organization that is the management account's choice, for others the account's own.
    """
    membership = find_membership(tx, account)
    if organizational and membership is not None:
        account = membership.organization.management_account
    opted, _ = region_settings(tx, account, region)
    return frozenset(name for name, is_on in opted.items() if not is_on)


def update_region_settings(
    tx: sa.Connection,
    account: str,
    region: str,
    *,
    opt_in: Mapping[str, bool],
    management: Mapping[str, bool],
    now: datetime,
) -> None:
    """Change the given settings of a region and leave the others.

    Raises:
        UnknownSettingError: there is no such resource type.
    """
    for name in (*opt_in, *management):
        if name not in RESOURCE_TYPES:
            raise UnknownSettingError(
                f"{name} is no resource type that can be backed up here; there are {', '.join(RESOURCE_TYPES)}"
            )
    rows = [(OPT_IN + name, value) for name, value in opt_in.items()]
    rows += [(_MANAGEMENT + name, value) for name, value in management.items()]
    _write(tx, account, region, {name: "true" if value else "false" for name, value in rows}, now)
    detail = {
        "modifiedAt": told_instant(now),
        "ResourceTypeOptInPreference": dict(opt_in) or None,
        "ResourceTypeManagementPreference": dict(management) or None,
        "state": "MODIFIED",
    }
    reason = "resource types were switched on or off"
    record(
        tx,
        state_change(
            "RegionSettingStateChanged", REGION_CHANGE, detail, account=account, region=region, reason=reason, at=now
        ),
    )


def global_settings(tx: sa.Connection, account: str) -> tuple[dict[str, str], datetime | None]:
    """Return the organization's global settings, and when cross-account backup was last changed.

    Raises:
        NotYoursToSetError: the account is in no organization.
    """
    membership = find_membership(tx, account)
    if membership is None:
        raise NotYoursToSetError("Your account is not a member of an organization.")
    rows = _rows(tx, membership.organization.management_account, "", _GLOBAL)
    values = dict.fromkeys(GLOBAL_SETTINGS, "false") | {name: value for name, (value, _) in rows.items()}
    changed = rows.get("isCrossAccountBackupEnabled")
    return values, None if changed is None else changed[1]


def fully_managed_types(tx: sa.Connection, account: str, region: str) -> frozenset[str]:
    """Return the resource types whose recovery points AWS Backup manages fully, so that the vault's key alone counts.

    Types: AWS Backup Developer Guide, "Feature availability by resource"; DynamoDB where its advanced features are on.
    """
    _, managed = region_settings(tx, account, region)
    return frozenset({"EFS", "S3", *(("DynamoDB",) if managed["DynamoDB"] else ())})


def is_cross_account_enabled(tx: sa.Connection, account: str) -> bool:
    """Return whether copies between accounts are switched on in the account's organization; no where it is in none."""
    membership = find_membership(tx, account)
    if membership is None:
        return False
    rows = _rows(tx, membership.organization.management_account, "", _GLOBAL)
    return rows.get("isCrossAccountBackupEnabled", ("false", None))[0] == "true"


def update_global_settings(tx: sa.Connection, account: str, settings: Mapping[str, str], *, now: datetime) -> None:
    """Change global settings of the organization that `account` manages.

    Raises:
        NotYoursToSetError: it is not the management account of an organization.
        UnknownSettingError: there is no such setting, or its value is neither `true` nor `false`.
    """
    membership = find_membership(tx, account)
    if membership is None or not membership.is_management:
        raise NotYoursToSetError("Global settings can be changed by the management account of an organization only.")
    for name, value in settings.items():
        if name not in GLOBAL_SETTINGS:
            raise UnknownSettingError(f"{name} is no global setting; there are {', '.join(GLOBAL_SETTINGS)}")
        if value not in {"true", "false"}:
            raise UnknownSettingError(f'{name} is "true" or "false", not {value!r}')
    _write(tx, account, "", {_GLOBAL + name: value for name, value in settings.items()}, now)


def _booleans(tx: sa.Connection, account: str, region: str, prefix: str) -> dict[str, bool]:
    return {name: value == "true" for name, (value, _) in _rows(tx, account, region, prefix).items()}


def _rows(tx: sa.Connection, account: str, region: str, prefix: str) -> dict[str, tuple[str, datetime]]:
    where = {"account": account, "region": region, "prefix": prefix, "length": len(prefix)}
    return {row.name.removeprefix(prefix): (row.value, instant(row.updated_at)) for row in tx.execute(_READ, where)}


def _write(tx: sa.Connection, account: str, region: str, values: Mapping[str, str], now: datetime) -> None:
    if values:
        where = {"account": account, "region": region, "at": stamp(now)}
        tx.execute(_WRITE, [{**where, "name": name, "value": value} for name, value in values.items()])
