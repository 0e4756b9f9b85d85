"""Recovery points, protected resources, legal holds and tags on the `backup` API."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.access.tag import check_tags, clear_tags, put_tags, tags_of
from holdfast.core.arn import Arn
from holdfast.core.errors import InvalidStateError, NotFoundError
from holdfast.database.values import instant, stamp
from holdfast.plan.model.plan import Lifecycle
from holdfast.plan.service import OrganizationPlanError, organization_plan_at, own_plan_at
from holdfast.recovery import holds, service, store
from holdfast.recovery.hold import Hold, InvalidHoldError, Selection, UnknownHoldError
from holdfast.recovery.model import RecoveryPoint
from holdfast.recovery.service import Protected
from holdfast.recovery.store import PointFilter, Position
from holdfast.vault.model import Vault
from holdfast.vault.service import get_vault, get_vault_or_deny
from holdfast.wire.backup_vaults import custody_of, key_type, vault_account, vault_name, writing_records
from holdfast.wire.call import Call, Handler

_PAGE: Final = 1000
_STANDARD: Final = "BACKUP_VAULT"


class NotContinuousError(InvalidStateError):
    """Only a continuous recovery point can be given back to its source."""


class NotCompositeError(InvalidStateError):
    """The recovery point is no part of another one."""


class UntaggableError(NotFoundError):
    """Nothing that can have tags has this ARN."""


def describe_recovery_point(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe one recovery point."""
    vault = _vault(call, shape)
    point = service.get_point_of(call.tx, vault, shape["RecoveryPointArn"])
    return point_to_wire(call, point) | {
        "StorageClass": point.storage_class.value,
    }


def list_recovery_points_by_backup_vault(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List a vault's recovery points, the newest first."""
    vault = get_vault_or_deny(call.tx, vault_account(call, shape), call.region, vault_name(shape))
    only = PointFilter(
        resource_arn=shape.get("ByResourceArn"),
        resource_type=shape.get("ByResourceType"),
        plan_id=shape.get("ByBackupPlanId"),
        created_before=shape.get("ByCreatedBefore"),
        created_after=shape.get("ByCreatedAfter"),
    )
    filters = {name: value for name, value in shape.items() if name not in {"NextToken", "MaxResults"}}
    if shape.get("ByParentRecoveryPointArn") is not None:
        return {"RecoveryPoints": []}
    points, token = _paged(
        call, shape, filters, lambda after, limit: service.list_points(call.tx, vault, only, after=after, limit=limit)
    )
    return {"RecoveryPoints": [point_to_wire(call, point) for point in points], "NextToken": token}


def list_recovery_points_by_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List a resource's recovery points in all vaults of the account, the newest first."""
    arn = shape["ResourceArn"]
    points, token = _paged(
        call,
        shape,
        {"resource": arn},
        lambda after, limit: service.list_points_of_resource(
            call.tx, account=call.caller.account, region=call.region, resource_arn=arn, after=after, limit=limit
        ),
    )
    shown = [
        {
            "RecoveryPointArn": point.arn,
            "CreationDate": point.created_at,
            "Status": point.status.value,
            "StatusMessage": point.status_message,
            "EncryptionKeyArn": point.key_arn,
            "EncryptionKeyType": key_type(call, point.key_arn),
            "BackupSizeBytes": point.size_bytes,
            "BackupVaultName": point.vault_name,
            "IsParent": False,
            "ResourceName": point.resource_name,
            "VaultType": _STANDARD,
        }
        for point in points
    ]
    return {"RecoveryPoints": shown, "NextToken": token}


def delete_recovery_point(call: Call, shape: dict[str, Any]) -> None:
    """Delete a recovery point that nothing keeps."""
    service.delete_point(call.tx, custody_of(call), _vault(call, shape), shape["RecoveryPointArn"], now=call.now)


def update_recovery_point_lifecycle(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a recovery point another lifecycle."""
    vault = _vault(call, shape)
    wanted = lifecycle_from_wire(shape.get("Lifecycle", {}))
    arn = shape["RecoveryPointArn"]
    point = service.update_lifecycle(call.tx, custody_of(call), vault, arn, wanted, now=call.now)
    return {
        "BackupVaultArn": vault.arn,
        "RecoveryPointArn": point.arn,
        "Lifecycle": _lifecycle_to_wire(point.lifecycle),
        "CalculatedLifecycle": _calculated_to_wire(point),
    }


def get_recovery_point_restore_metadata(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give what was noted at the backup that a restore starts from."""
    vault = _vault(call, shape)
    point = service.get_point_of(call.tx, vault, shape["RecoveryPointArn"])
    return {
        "BackupVaultArn": vault.arn,
        "RecoveryPointArn": point.arn,
        "RestoreMetadata": dict(point.restore_metadata),
        "ResourceType": point.resource_type,
    }


def disassociate_recovery_point(call: Call, shape: dict[str, Any]) -> None:
    """Refuse to give a recovery point back: that is for continuous ones."""
    point = service.get_point_of(call.tx, _vault(call, shape), shape["RecoveryPointArn"])
    raise NotContinuousError(f"{point.arn} is a snapshot; only continuous recovery points can be disassociated")


def disassociate_recovery_point_from_parent(call: Call, shape: dict[str, Any]) -> None:
    """Refuse to cut a recovery point loose that is no part of another."""
    point = service.get_point_of(call.tx, _vault(call, shape), shape["RecoveryPointArn"])
    raise NotCompositeError(f"{point.arn} has no parent recovery point")


def list_protected_resources(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the account's resources that have recovery points."""
    return _protected(call, shape, None)


def list_protected_resources_by_backup_vault(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the resources that have recovery points in a vault."""
    return _protected(call, shape, _vault(call, shape))


def describe_protected_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a resource that has recovery points."""
    found = service.describe_protected(
        call.tx, account=call.caller.account, region=call.region, resource_arn=shape["ResourceArn"]
    )
    restore = found.last_restore
    return _protected_to_wire(found) | {
        "LatestRestoreExecutionTimeMinutes": None if restore is None else restore.minutes,
        "LatestRestoreJobCreationDate": None if restore is None else restore.created_at,
        "LatestRestoreRecoveryPointCreationDate": found.restored_point_created_at,
    }


def create_legal_hold(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Hold the recovery points that fall under a selection."""
    hold = holds.place_hold(
        call.tx,
        custody_of(call),
        account=call.caller.account,
        region=call.region,
        title=shape["Title"],
        description=shape["Description"],
        selection=_selection_from_wire(shape.get("RecoveryPointSelection", {})),
        token=shape.get("IdempotencyToken"),
        now=call.now,
    )
    put_tags(call.tx, hold.account, hold.region, hold.arn, check_tags(shape.get("Tags", {}).items()))
    return {**_hold_to_wire(hold), "RecoveryPointSelection": _selection_to_wire(hold.selection)}


def get_legal_hold(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a legal hold."""
    hold = _hold_named(call, shape)
    return {
        **_hold_to_wire(hold),
        "CancellationDate": hold.canceled_at,
        "CancelDescription": hold.cancel_description,
        "RetainRecordUntil": hold.retain_until,
        "RecoveryPointSelection": _selection_to_wire(hold.selection),
    }


def cancel_legal_hold(call: Call, shape: dict[str, Any]) -> None:
    """Release what a legal hold keeps."""
    holds.release_hold(
        call.tx,
        custody_of(call),
        account=call.caller.account,
        region=call.region,
        hold_id=_hold_id(shape["LegalHoldId"]),
        description=shape["CancelDescription"],
        retain_record_days=shape.get("RetainRecordInDays"),
        now=call.now,
    )


def list_legal_holds(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the account's legal holds, the oldest first."""
    after = _position(call, {}, shape)
    limit = shape.get("MaxResults", _PAGE)
    found = holds.list_holds(
        call.tx, account=call.caller.account, region=call.region, after=after, limit=limit + 1, now=call.now
    )
    shown = found[:limit]
    following = [stamp(shown[-1].created_at), shown[-1].id] if len(found) > limit else None
    return {
        "LegalHolds": [{**_hold_to_wire(hold), "CancellationDate": hold.canceled_at} for hold in shown],
        "NextToken": call.page_token({}, following),
    }


def list_recovery_points_by_legal_hold(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the recovery points that a legal hold keeps."""
    try:
        hold = _hold_named(call, shape)
    except UnknownHoldError as error:  # this operation's model has no other word for it
        raise InvalidHoldError(str(error)) from error
    filters = {"hold": hold.id}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    limit = shape.get("MaxResults", _PAGE)
    found = holds.list_points_held(call.tx, hold, after=after, limit=limit + 1)
    shown = found[:limit]
    members = [
        {
            "RecoveryPointArn": point.arn,
            "ResourceArn": point.resource_arn,
            "ResourceType": point.resource_type,
            "BackupVaultName": point.vault_name,
        }
        for point in shown
    ]
    following = shown[-1].id if len(found) > limit else None
    return {"RecoveryPoints": members, "NextToken": call.page_token(filters, following)}


def tag_resource(call: Call, shape: dict[str, Any]) -> None:
    """Add tags to a vault, a recovery point, a legal hold or a plan of the account's own."""
    added = check_tags(shape["Tags"].items())
    _put_tags(call, shape["ResourceArn"], lambda present: present | added)


def untag_resource(call: Call, shape: dict[str, Any]) -> None:
    """Take tags away."""
    keys = set(shape["TagKeyList"])
    _put_tags(
        call,
        shape["ResourceArn"],
        lambda present: {key: value for key, value in present.items() if key not in keys},
    )


def list_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a vault, a recovery point, a legal hold or a plan."""
    arn = shape["ResourceArn"]
    account = call.caller.account
    of_policy = organization_plan_at(call.tx, account, call.region, arn, now=call.now)
    if (
        of_policy is None
        and service.vault_of(call.tx, account=account, region=call.region, arn=arn) is None
        and not _has_plain_tags(call, arn)
    ):
        raise UntaggableError(f"there is nothing with tags that has the ARN {arn}")
    filters = {"arn": arn}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    limit = shape.get("MaxResults", _PAGE)
    tags = tags_of(call.tx, account, call.region, arn) if of_policy is None else of_policy.tags
    found = [(key, value) for key, value in sorted(tags.items()) if key > after]
    following = found[limit - 1][0] if len(found) > limit else None
    return {"Tags": dict(found[:limit]), "NextToken": call.page_token(filters, following)}


def lifecycle_from_wire(shape: Mapping[str, Any]) -> Lifecycle:
    """Return the lifecycle that a call gives."""
    return Lifecycle(
        cold_after_days=shape.get("MoveToColdStorageAfterDays"),
        delete_after_days=shape.get("DeleteAfterDays"),
        archive=shape.get("OptInToArchiveForSupportedResources"),
    )


def point_to_wire(call: Call, point: RecoveryPoint) -> dict[str, Any]:
    """Return a recovery point as descriptions and lists show it."""
    return {
        "RecoveryPointArn": point.arn,
        "BackupVaultName": point.vault_name,
        "BackupVaultArn": point.vault_arn,
        "SourceBackupVaultArn": point.source_vault_arn,
        "ResourceArn": point.resource_arn,
        "ResourceType": point.resource_type,
        "ResourceName": point.resource_name,
        "CreatedBy": dict(point.created_by) or None,
        "IamRoleArn": point.role_arn,
        "Status": point.status.value,
        "StatusMessage": point.status_message,
        "CreationDate": point.created_at,
        "InitiationDate": point.created_at,
        "CompletionDate": point.completed_at,
        "BackupSizeInBytes": point.size_bytes,
        "CalculatedLifecycle": _calculated_to_wire(point),
        "Lifecycle": _lifecycle_to_wire(point.lifecycle),
        "EncryptionKeyArn": point.key_arn,
        "EncryptionKeyType": key_type(call, point.key_arn),
        "IsEncrypted": True,
        "IsParent": False,
        "LastRestoreTime": point.last_restored_at,
        "VaultType": _STANDARD,
    }


def _lifecycle_to_wire(lifecycle: Lifecycle) -> dict[str, Any] | None:
    members = {
        "MoveToColdStorageAfterDays": lifecycle.cold_after_days,
        "DeleteAfterDays": lifecycle.delete_after_days,
        "OptInToArchiveForSupportedResources": lifecycle.archive or None,
    }
    return members if any(value is not None for value in members.values()) else None


def _calculated_to_wire(point: RecoveryPoint) -> dict[str, datetime | None] | None:
    if point.cold_at is None and point.delete_at is None:
        return None
    return {"MoveToColdStorageAt": point.cold_at, "DeleteAt": point.delete_at}


def _vault(call: Call, shape: Mapping[str, Any]) -> Vault:
    return get_vault(call.tx, vault_account(call, shape), call.region, vault_name(shape))


def _paged(
    call: Call,
    shape: Mapping[str, Any],
    filters: Mapping[str, Any],
    read: Callable[[Position | None, int], list[RecoveryPoint]],
) -> tuple[list[RecoveryPoint], str | None]:
    limit = shape.get("MaxResults", _PAGE)
    found = read(_position(call, filters, shape), limit + 1)
    shown = found[:limit]
    following = [stamp(shown[-1].created_at), shown[-1].id] if len(found) > limit else None
    return shown, call.page_token(filters, following)


def _position(call: Call, filters: Mapping[str, Any], shape: Mapping[str, Any]) -> Position | None:
    place = call.page_position(filters, shape.get("NextToken"))
    return None if place is None else Position(instant(place[0]), place[1])


def _protected(call: Call, shape: Mapping[str, Any], vault: Vault | None) -> dict[str, Any]:
    filters = {"vault": None if vault is None else vault.id}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    limit = shape.get("MaxResults", _PAGE)
    found = service.list_protected(
        call.tx, account=call.caller.account, region=call.region, vault=vault, after=after, limit=limit + 1
    )
    shown = found[:limit]
    following = shown[-1].latest.resource_arn if len(found) > limit else None
    return {
        "Results": [_protected_to_wire(one) for one in shown],
        "NextToken": call.page_token(filters, following),
    }


def _protected_to_wire(found: Protected) -> dict[str, Any]:
    point = found.latest
    return {
        "ResourceArn": point.resource_arn,
        "ResourceType": point.resource_type,
        "ResourceName": point.resource_name,
        "LastBackupTime": point.created_at,
        "LastBackupVaultArn": point.vault_arn,
        "LastRecoveryPointArn": point.arn,
    }


def _selection_from_wire(shape: Mapping[str, Any]) -> Selection:
    dates = shape.get("DateRange", {})
    return Selection(
        vault_names=tuple(shape.get("VaultNames", ())),
        resource_arns=tuple(shape.get("ResourceIdentifiers", ())),
        from_at=dates.get("FromDate"),
        to_at=dates.get("ToDate"),
    )


def _selection_to_wire(selection: Selection) -> dict[str, Any]:
    dates = None
    if selection.from_at is not None and selection.to_at is not None:
        dates = {"FromDate": selection.from_at, "ToDate": selection.to_at}
    return {
        "VaultNames": list(selection.vault_names) or None,
        "ResourceIdentifiers": list(selection.resource_arns) or None,
        "DateRange": dates,
    }


def _hold_to_wire(hold: Hold) -> dict[str, Any]:
    return {
        "Title": hold.title,
        "Status": hold.status.value,
        "Description": hold.description,
        "LegalHoldId": hold.id,
        "LegalHoldArn": hold.arn,
        "CreationDate": hold.created_at,
    }


def _hold_named(call: Call, shape: Mapping[str, Any]) -> Hold:
    return holds.get_hold(
        call.tx,
        account=call.caller.account,
        region=call.region,
        hold_id=_hold_id(shape["LegalHoldId"]),
        now=call.now,
    )


def _hold_id(named: str) -> str:
    return named.rpartition(":legal-hold:")[2]


def _find_hold(call: Call, arn: str) -> Hold | None:
    _, named, hold_id = arn.partition(":legal-hold:")
    if not named:
        return None
    return store.find_hold(call.tx, account=call.caller.account, region=call.region, hold_id=hold_id)


def _has_plain_tags(call: Call, arn: str) -> bool:
    """Return whether the ARN is of something whose tags are in no record in storage: a legal hold or a plan."""
    if _find_hold(call, arn) is not None:
        return True
    return own_plan_at(call.tx, call.caller.account, call.region, arn) is not None


def _put_tags(call: Call, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    account, region = call.caller.account, call.region
    of_policy = organization_plan_at(call.tx, account, region, arn, now=call.now)
    if of_policy is not None:
        raise OrganizationPlanError(f"Tags cannot be changed for backup plan {of_policy.id} created by organizations")
    tags = change(tags_of(call.tx, account, region, arn))
    custody = custody_of(call)
    if _has_plain_tags(call, arn):
        clear_tags(call.tx, account, region, arn)
        put_tags(call.tx, account, region, arn, tags)
        return
    if not service.put_tags(call.tx, custody, account=account, region=region, arn=arn, tags=tags, now=call.now):
        raise UntaggableError(f"there is nothing with tags that has the ARN {Arn.parse(arn)}")


OPERATIONS: Final[Mapping[str, Handler]] = {
    "DescribeRecoveryPoint": describe_recovery_point,
    "ListRecoveryPointsByBackupVault": list_recovery_points_by_backup_vault,
    "ListRecoveryPointsByResource": list_recovery_points_by_resource,
    "DeleteRecoveryPoint": writing_records(delete_recovery_point),
    "UpdateRecoveryPointLifecycle": writing_records(update_recovery_point_lifecycle),
    "GetRecoveryPointRestoreMetadata": get_recovery_point_restore_metadata,
    "DisassociateRecoveryPoint": disassociate_recovery_point,
    "DisassociateRecoveryPointFromParent": disassociate_recovery_point_from_parent,
    "ListProtectedResources": list_protected_resources,
    "ListProtectedResourcesByBackupVault": list_protected_resources_by_backup_vault,
    "DescribeProtectedResource": describe_protected_resource,
    "CreateLegalHold": writing_records(create_legal_hold),
    "GetLegalHold": get_legal_hold,
    "CancelLegalHold": writing_records(cancel_legal_hold),
    "ListLegalHolds": list_legal_holds,
    "ListRecoveryPointsByLegalHold": list_recovery_points_by_legal_hold,
    "TagResource": writing_records(tag_resource),
    "UntagResource": writing_records(untag_resource),
    "ListTags": list_tags,
}
