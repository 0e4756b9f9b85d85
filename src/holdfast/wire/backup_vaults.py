"""Vaults on the `backup` API: created, described, locked, and who may do what with them."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.arn import Arn
from holdfast.key.model import KeyNotFoundError, Manager
from holdfast.key.service import get_key_by_arn
from holdfast.recovery.catch_up import recorded
from holdfast.vault import service
from holdfast.vault.custody import Custody
from holdfast.vault.model import HiddenVaultError, InvalidVaultError, UnknownVaultError, Vault
from holdfast.vault.service import VaultView
from holdfast.wire.call import Call, Handler

_PAGE: Final = 1000
_STANDARD: Final = "BACKUP_VAULT"
_EVENTS: Final = frozenset(
    {
        "BACKUP_JOB_STARTED",
        "BACKUP_JOB_COMPLETED",
        "BACKUP_JOB_SUCCESSFUL",
        "BACKUP_JOB_FAILED",
        "BACKUP_JOB_EXPIRED",
        "RESTORE_JOB_STARTED",
        "RESTORE_JOB_COMPLETED",
        "RESTORE_JOB_SUCCESSFUL",
        "RESTORE_JOB_FAILED",
        "COPY_JOB_STARTED",
        "COPY_JOB_SUCCESSFUL",
        "COPY_JOB_FAILED",
        "RECOVERY_POINT_MODIFIED",
        "BACKUP_PLAN_CREATED",
        "BACKUP_PLAN_MODIFIED",
        "S3_BACKUP_OBJECT_FAILED",
        "S3_RESTORE_OBJECT_FAILED",
        "CONTINUOUS_BACKUP_INTERRUPTED",
        "RECOVERY_POINT_INDEX_COMPLETED",
        "RECOVERY_POINT_INDEX_DELETED",
        "RECOVERY_POINT_INDEXING_FAILED",
    }
)


class NoNotificationsError(UnknownVaultError):
    """The vault notifies nobody."""


def custody_of(call: Call) -> Custody:
    """Return what it takes to open vaults in this installation."""
    return Custody(call.instance.settings, call.instance.root_key)


def create_backup_vault(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Create a vault in the caller's account and region."""
    vault = service.create_vault(
        call.tx,
        custody_of(call),
        partition=call.partition,
        account=call.caller.account,
        region=call.region,
        name=shape["BackupVaultName"],
        key_arn=shape.get("EncryptionKeyArn"),
        creator_request_id=shape.get("CreatorRequestId"),
        tags=shape.get("BackupVaultTags"),
        now=call.now,
    )
    return {"BackupVaultName": vault.name, "BackupVaultArn": vault.arn, "CreationDate": vault.created_at}


def describe_backup_vault(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe one vault; one that is not there looks like one that is forbidden."""
    view = service.describe_vault(call.tx, vault_account(call, shape), call.region, vault_name(shape))
    return vault_to_wire(call, view)


def list_backup_vaults(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the account's vaults in the region, by name."""
    filters = {"type": shape.get("ByVaultType"), "shared": shape.get("ByShared")}
    after = call.page_position(filters, shape.get("NextToken")) or ""
    if filters["type"] not in {None, _STANDARD} or filters["shared"]:
        return {"BackupVaultList": []}
    limit = shape.get("MaxResults", _PAGE)
    found = service.list_vaults(call.tx, account=call.caller.account, region=call.region, after=after, limit=limit + 1)
    shown = found[:limit]
    following = shown[-1].vault.name if len(found) > limit else None
    return {
        "BackupVaultList": [vault_to_wire(call, view) for view in shown],
        "NextToken": call.page_token(filters, following),
    }


def delete_backup_vault(call: Call, shape: dict[str, Any]) -> None:
    """Delete an empty vault."""
    service.delete_vault(call.tx, custody_of(call), **_place(call, shape), now=call.now)


def put_backup_vault_access_policy(call: Call, shape: dict[str, Any]) -> None:
    """Set a vault's access policy."""
    _put_policy(call, shape, shape.get("Policy"))


def get_backup_vault_access_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a vault's access policy."""
    vault, policy = service.get_access_policy(call.tx, **_place(call, shape))
    return {"BackupVaultName": vault.name, "BackupVaultArn": vault.arn, "Policy": policy}


def delete_backup_vault_access_policy(call: Call, shape: dict[str, Any]) -> None:
    """Take a vault's access policy away."""
    _put_policy(call, shape, None)


def put_backup_vault_lock_configuration(call: Call, shape: dict[str, Any]) -> None:
    """Lock a vault, in governance or compliance mode."""
    service.put_lock(
        call.tx,
        custody_of(call),
        **_place(call, shape),
        min_retention_days=shape.get("MinRetentionDays"),
        max_retention_days=shape.get("MaxRetentionDays"),
        changeable_for_days=shape.get("ChangeableForDays"),
        now=call.now,
    )


def delete_backup_vault_lock_configuration(call: Call, shape: dict[str, Any]) -> None:
    """Take a vault's lock away while that can be done."""
    service.remove_lock(call.tx, custody_of(call), **_place(call, shape), now=call.now)


def put_backup_vault_notifications(call: Call, shape: dict[str, Any]) -> None:
    """Set which events of a vault a topic is told of."""
    topic = Arn.parse(shape["SNSTopicArn"])
    if topic.service != "sns" or topic.account != call.caller.account or topic.resource.endswith(".fifo"):
        raise InvalidVaultError("SNSTopicArn must be the ARN of a standard topic in the vault's own account")
    unknown = sorted(set(shape["BackupVaultEvents"]) - _EVENTS)
    if unknown or not shape["BackupVaultEvents"]:
        raise InvalidVaultError(f"BackupVaultEvents names no event that a vault has: {', '.join(unknown) or 'none'}")
    wanted = {"topic": str(topic), "events": sorted(set(shape["BackupVaultEvents"]))}
    service.put_notifications(call.tx, **_place(call, shape), notifications=wanted)


def get_backup_vault_notifications(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give which events of a vault a topic is told of."""
    vault = service.get_vault(call.tx, **_place(call, shape))
    if vault.notifications is None:
        raise NoNotificationsError(f"Backup vault {vault.name} has no notifications")
    return {
        "BackupVaultName": vault.name,
        "BackupVaultArn": vault.arn,
        "SNSTopicArn": vault.notifications["topic"],
        "BackupVaultEvents": vault.notifications["events"],
    }


def delete_backup_vault_notifications(call: Call, shape: dict[str, Any]) -> None:
    """Tell nobody of a vault's events any more."""
    service.put_notifications(call.tx, **_place(call, shape), notifications=None)


def writing_records(handler: Handler) -> Handler:
    """Return the handler so that it first catches up where a crash left the catalogue behind storage's records."""

    def run(call: Call, shape: dict[str, Any]) -> Mapping[str, Any] | None:
        return recorded(call.tx, custody_of(call), lambda: handler(call, shape))

    return run


def vault_name(shape: Mapping[str, Any]) -> str:
    """Return the vault's name, which some calls give as its ARN."""
    name: str = shape["BackupVaultName"]
    return name.rpartition(":backup-vault:")[2]


def vault_account(call: Call, shape: Mapping[str, Any]) -> str:
    """Return the account whose vault is meant, which is the caller's: standard vaults are not shared.

    Raises:
        HiddenVaultError: the call names another account.
    """
    if shape.get("BackupVaultAccountId", call.caller.account) != call.caller.account:
        raise HiddenVaultError("Insufficient privileges to perform this action.")
    return call.caller.account


def key_type(call: Call, key_arn: str) -> str:
    """Return the wire's word for who looks after a key."""
    try:
        managed = get_key_by_arn(call.tx, key_arn).manager is Manager.AWS
    except KeyNotFoundError:
        managed = False
    return "AWS_OWNED_KMS_KEY" if managed else "CUSTOMER_MANAGED_KMS_KEY"


def vault_to_wire(call: Call, view: VaultView) -> dict[str, Any]:
    """Return a vault as descriptions and lists show it."""
    vault = view.vault
    return {
        "BackupVaultName": vault.name,
        "BackupVaultArn": vault.arn,
        "VaultType": _STANDARD,
        "VaultState": "AVAILABLE",
        "EncryptionKeyArn": vault.key_arn,
        "EncryptionKeyType": key_type(call, vault.key_arn),
        "CreationDate": vault.created_at,
        "CreatorRequestId": vault.creator_request_id,
        "NumberOfRecoveryPoints": view.points,
        **_lock_to_wire(vault),
    }


def _lock_to_wire(vault: Vault) -> dict[str, Any]:
    if vault.lock is None:
        return {"Locked": False}
    return {
        "Locked": True,
        "MinRetentionDays": vault.lock.min_retention_days,
        "MaxRetentionDays": vault.lock.max_retention_days,
        "LockDate": vault.lock.lock_at,
    }


def _put_policy(call: Call, shape: dict[str, Any], policy: str | None) -> None:
    service.put_access_policy(call.tx, custody_of(call), **_place(call, shape), policy=policy, now=call.now)


def _place(call: Call, shape: Mapping[str, Any]) -> dict[str, str]:
    return {"account": call.caller.account, "region": call.region, "name": vault_name(shape)}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CreateBackupVault": writing_records(create_backup_vault),
    "DescribeBackupVault": describe_backup_vault,
    "ListBackupVaults": list_backup_vaults,
    "DeleteBackupVault": writing_records(delete_backup_vault),
    "PutBackupVaultAccessPolicy": writing_records(put_backup_vault_access_policy),
    "GetBackupVaultAccessPolicy": get_backup_vault_access_policy,
    "DeleteBackupVaultAccessPolicy": writing_records(delete_backup_vault_access_policy),
    "PutBackupVaultLockConfiguration": writing_records(put_backup_vault_lock_configuration),
    "DeleteBackupVaultLockConfiguration": writing_records(delete_backup_vault_lock_configuration),
    "PutBackupVaultNotifications": put_backup_vault_notifications,
    "GetBackupVaultNotifications": get_backup_vault_notifications,
    "DeleteBackupVaultNotifications": delete_backup_vault_notifications,
}
