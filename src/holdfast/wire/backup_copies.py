"""Copies on the `backup` API: started by hand, and described.

Members: AWS Backup API Reference, "StartCopyJob" and "CopyJob". What must hold for a copy is looked at when it runs;
only what no later change can mend is refused at once.
"""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.core.arn import Arn
from holdfast.core.errors import InvalidInputError, InvalidStateError
from holdfast.job import service
from holdfast.job.model import CopyRequest, Job, Kind
from holdfast.job.origin import created_by
from holdfast.monitor.service import describe_job
from holdfast.plan.model.lifecycle import refuse_bad_lifecycle
from holdfast.recovery.model import StorageClass
from holdfast.recovery.service import get_point_of
from holdfast.vault.service import get_vault
from holdfast.wire.backup_jobs import lifecycle_of, lock_state, state_name, subject_of_point
from holdfast.wire.backup_points import lifecycle_from_wire
from holdfast.wire.call import Call, Handler

_STANDARD: Final = "BACKUP_VAULT"


class NoCopyTargetError(InvalidInputError):
    """What was named is no vault that could take a copy."""


class ColdPointError(InvalidStateError):
    """The recovery point is in cold storage."""


def start_copy_job(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Copy one recovery point into another vault, of this or another account and region."""
    account = call.caller.account
    vault = get_vault(call.tx, account, call.region, shape["SourceBackupVaultName"])
    point = get_point_of(call.tx, vault, shape["RecoveryPointArn"])
    target = vault_named(shape["DestinationBackupVaultArn"])
    if str(target) == vault.arn:
        raise NoCopyTargetError(f"{point.arn} lies in {vault.arn} already; name another destination vault")
    lifecycle = lifecycle_from_wire(shape.get("Lifecycle", {}))
    refuse_bad_lifecycle(lifecycle)
    if point.storage_class is StorageClass.COLD:
        raise ColdPointError(f"{point.arn} is in cold storage, and recovery points in cold storage cannot be copied")
    name = target.resource.rpartition(":")[2]
    request = CopyRequest(
        subject=subject_of_point(call, point, role_arn=shape["IamRoleArn"], vault_name=name, vault_arn=str(target)),
        recovery_point_id=point.id,
        recovery_point_arn=point.arn,
        source_vault_arn=vault.arn,
        cold_after_days=lifecycle.cold_after_days,
        delete_after_days=lifecycle.delete_after_days,
        bytes_total=point.size_bytes,
    )
    job = service.start_copy_job(call.tx, request, now=call.now)
    return {"CopyJobId": job.id, "CreationDate": job.created_at, "IsParent": False}


def describe_copy_job(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe one copy job, the caller's own or one in its view of the organization."""
    job = describe_job(
        call.tx, call.caller.account, shape["CopyJobId"], kind=Kind.COPY, region=call.region, now=call.now
    )
    return {"CopyJob": copy_job_to_wire(call, job)}


def vault_named(text: str) -> Arn:
    """Return the ARN of a vault that may be one of another account or region.

    Raises:
        NoCopyTargetError: it is none.
    """
    try:
        arn = Arn.parse(text)
    except InvalidInputError as error:
        raise NoCopyTargetError(f"DestinationBackupVaultArn must be the ARN of a backup vault: {error}") from error
    if arn.service != "backup" or not arn.resource.startswith("backup-vault:") or not arn.account or not arn.region:
        raise NoCopyTargetError(f"DestinationBackupVaultArn must be the ARN of a backup vault, not {text}")
    return arn


def copy_job_to_wire(call: Call, job: Job) -> dict[str, Any]:
    """Return a copy job as DescribeCopyJob and ListCopyJobs show it."""
    known: Mapping[str, Any] = job.result
    return {
        "AccountId": job.account,
        "CopyJobId": job.id,
        "SourceBackupVaultArn": job.options.get("source_vault_arn"),
        "SourceRecoveryPointArn": job.recovery_point_arn,
        "DestinationBackupVaultArn": job.vault_arn,
        "DestinationVaultType": _STANDARD,
        "DestinationVaultLockState": lock_state(job),
        "DestinationRecoveryPointArn": known.get("recovery_point_arn"),
        "DestinationEncryptionKeyArn": known.get("key_arn"),
        "DestinationRecoveryPointLifecycle": lifecycle_of(job),
        "ResourceArn": job.resource_arn,
        "ResourceType": job.resource_type,
        "ResourceName": job.resource_name,
        "CreationDate": job.created_at,
        "CompletionDate": job.completed_at,
        "State": state_name(job),
        "StatusMessage": job.message,
        "MessageCategory": None if job.category is None else job.category.value,
        "BackupSizeInBytes": job.bytes_total,
        "IamRoleArn": job.role_arn,
        "CreatedBy": created_by(call.tx, job),
        "CreatedByBackupJobId": job.options.get("created_by_job"),
        "ParentJobId": job.parent_id,
        "IsParent": False,
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "StartCopyJob": start_copy_job,
    "DescribeCopyJob": describe_copy_job,
}
