"""Deleted recovery points that can be brought back, how long vaults keep them, and what stops all deletion."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from holdfast.core.errors import DeniedError
from holdfast.database.facts import OPERATOR, recalled
from holdfast.database.values import instant, stamp
from holdfast.key import store as keys
from holdfast.key.model import KeyNotFoundError
from holdfast.key.service import get_key
from holdfast.recovery import guard, service
from holdfast.recovery.model import RecoveryPoint
from holdfast.recovery.store import PointFilter, Position
from holdfast.vault.model import DeletionDelay
from holdfast.vault.service import get_vault, put_deletion_delay
from holdfast.wire.backup_vaults import custody_of, writing_records
from holdfast.wire.call import Call, Handler

_PAGE: Final = 100


class NotTheOperatorError(DeniedError):
    """Only the account that runs the installation may do it."""


def undelete_recovery_point(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Bring a deleted recovery point back."""
    point = service.bring_back_point(
        call.tx,
        custody_of(call),
        account=call.caller.account,
        region=call.region,
        arn=shape["RecoveryPointArn"],
        now=call.now,
    )
    return {
        "RecoveryPointArn": point.arn,
        "BackupVaultName": point.vault_name,
        "Status": point.status.value,
        "DeleteAt": point.delete_at,
    }


def list_deleted_recovery_points(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the account's deleted recovery points that can be brought back, the newest first."""
    only = PointFilter(vault_name=shape.get("BackupVaultName"), resource_arn=shape.get("ResourceArn"))
    filters = {"vault": only.vault_name, "resource": only.resource_arn}
    place = call.page_position(filters, shape.get("NextToken"))
    after = None if place is None else Position(instant(place[0]), place[1])
    limit = shape.get("MaxResults", _PAGE)
    found = service.list_hidden(call.tx, call.caller.account, call.region, only, after=after, limit=limit + 1)
    shown = found[:limit]
    following = [stamp(shown[-1].created_at), shown[-1].id] if len(found) > limit else None
    return {
        "RecoveryPoints": [_hidden_to_wire(point) for point in shown],
        "NextToken": call.page_token(filters, following),
    }


def set_vault_deletion_delay(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Set for how long a vault keeps deleted recovery points."""
    name = shape["BackupVaultName"]
    delay = put_deletion_delay(
        call.tx,
        custody_of(call),
        account=call.caller.account,
        region=call.region,
        name=name,
        delay=timedelta(days=shape["Days"]),
        now=call.now,
    )
    return _delay_to_wire(call, name, delay)


def describe_vault_deletion_delay(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Say for how long a vault keeps deleted recovery points, and what a shorter time waits for."""
    vault = get_vault(call.tx, call.caller.account, call.region, shape["BackupVaultName"])
    return _delay_to_wire(call, vault.name, vault.deletion_delay)


def describe_deletion_guard(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Say whether deletion is stopped in the whole installation, and why."""
    why = guard.why_stopped(call.tx)
    return {"Stopped": why is not None, "Reason": why}


def list_recovery_points_by_key(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List what would become unreadable if a key of the account were deleted, the oldest first."""
    key = get_key(call.tx, call.caller.account, call.region, shape["KeyId"])
    if key.account != call.caller.account:
        raise KeyNotFoundError(f"Key {shape['KeyId']!r} does not exist in account {call.caller.account}")
    filters = {"key": key.id}
    place = call.page_position(filters, shape.get("NextToken"))
    limit = shape.get("MaxResults", _PAGE)
    after = None if place is None else (instant(place[0]), place[1])
    found = keys.points_of(call.tx, key.arn, after=after, limit=limit + 1)
    shown = found[:limit]
    following = [stamp(shown[-1].created_at), shown[-1].id] if len(found) > limit else None
    return {
        "KeyArn": key.arn,
        "Count": keys.count_points(call.tx, key.arn),
        "RecoveryPoints": [
            {
                "RecoveryPointArn": point.arn,
                "AccountId": point.account,
                "BackupVaultName": point.vault_name,
                "ResourceArn": point.resource_arn,
                "CreationDate": point.created_at,
                "Kept": point.is_kept,
            }
            for point in shown
        ],
        "NextToken": call.page_token(filters, following),
    }


def release_deletion(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Let deletion go on, for an administrator of the account that runs the installation."""
    operator = recalled(call.tx, OPERATOR)
    if operator != call.caller.account:
        raise NotTheOperatorError(
            f"deletion is released by account {operator}, which runs this installation, and by nobody else"
        )
    why = guard.why_stopped(call.tx)
    guard.release_deletion(call.tx)
    return {"Stopped": False, "Reason": why}


def _hidden_to_wire(point: RecoveryPoint) -> dict[str, Any]:
    return {
        "RecoveryPointArn": point.arn,
        "BackupVaultName": point.vault_name,
        "ResourceArn": point.resource_arn,
        "ResourceType": point.resource_type,
        "ResourceName": point.resource_name,
        "CreationDate": point.created_at,
        "BackupSizeInBytes": point.size_bytes,
        "DeletedAt": point.deleted_at,
        "KeptUntil": point.purge_at,
    }


def _delay_to_wire(call: Call, name: str, delay: DeletionDelay) -> dict[str, Any]:
    waiting = delay.lowering if delay.lowering is not None and delay.lowering.at > call.now else None
    return {
        "BackupVaultName": name,
        "Days": delay.at(call.now).days,
        "LoweredToDays": None if waiting is None else waiting.delay.days,
        "LoweredAt": None if waiting is None else waiting.at,
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "UndeleteRecoveryPoint": writing_records(undelete_recovery_point),
    "ListDeletedRecoveryPoints": list_deleted_recovery_points,
    "SetVaultDeletionDelay": writing_records(set_vault_deletion_delay),
    "DescribeVaultDeletionDelay": describe_vault_deletion_delay,
    "DescribeDeletionGuard": describe_deletion_guard,
    "ListRecoveryPointsByKey": list_recovery_points_by_key,
    "ReleaseDeletion": release_deletion,
}
