"""Jobs on the `backup` API: started, stopped, described."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from holdfast.access.backup_role import why_role_cannot
from holdfast.access.tag import check_tags
from holdfast.core.errors import InvalidInputError
from holdfast.job import service
from holdfast.job.model import BackupRequest, Job, Kind, RestoreRequest, State, Subject
from holdfast.job.origin import created_by
from holdfast.monitor.service import describe_job
from holdfast.organization.service.tree import placement_of
from holdfast.plan.model.lifecycle import refuse_bad_lifecycle
from holdfast.recovery.model import RecoveryPoint, point_id_of
from holdfast.recovery.service import arn_for, get_point
from holdfast.source.restore_metadata import refuse_bad_restore
from holdfast.source.service import get_resource
from holdfast.vault.service import get_vault
from holdfast.wire.backup_points import lifecycle_from_wire
from holdfast.wire.call import Call, Handler

_STANDARD: Final = "BACKUP_VAULT"
_TOLD_AT_ONCE: Final = frozenset({"EFS"})
"""Types whose backups tell the ARN of the recovery point that they will make (AWS Backup API, "StartBackupJob")."""

STATE_NAMES: Final[Mapping[Kind, Mapping[State, str]]] = {
    Kind.BACKUP: {},
    Kind.COPY: {State.ABORTING: "RUNNING", State.ABORTED: "FAILED", State.EXPIRED: "FAILED"},
    Kind.RESTORE: {
        State.CREATED: "PENDING",
        State.ABORTING: "RUNNING",
        State.EXPIRED: "FAILED",
        State.PARTIAL: "FAILED",
    },
}
"""What AWS's states of copies and restores are called that have no state of that name."""


class WrongTypeError(InvalidInputError):
    """A restore names another resource type than its recovery point has."""


class RoleRefusedError(InvalidInputError):
    """The backup service may not act as this role."""


def refuse_unusable_role(call: Call, role: str) -> None:
    """Refuse a role that jobs could never act as; what it may do is looked at when they run.

    Raises:
        RoleRefusedError: it is gone, is none, or does not trust the backup service.
    """
    why = why_role_cannot(call.tx, role, ())
    if why is not None:
        raise RoleRefusedError(f"IAM Role {role} cannot be assumed by AWS Backup. {why}")


def state_name(job: Job) -> str:
    """Return a job's state as clients know it."""
    return STATE_NAMES[job.kind].get(job.state, job.state.value)


def states_named(kind: Kind, name: str) -> tuple[State, ...]:
    """Return the states that clients know by a name; none for one that no job here is ever in."""
    return tuple(state for state in State if STATE_NAMES[kind].get(state, state.value) == name)


def start_backup_job(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Start a backup of one resource now."""
    account = call.caller.account
    vault = get_vault(call.tx, account, call.region, shape["BackupVaultName"])
    resource = get_resource(call.tx, account, call.region, shape["ResourceArn"])
    lifecycle = lifecycle_from_wire(shape.get("Lifecycle", {}))
    refuse_bad_lifecycle(lifecycle)
    refuse_unusable_role(call, shape["IamRoleArn"])
    request = BackupRequest(
        subject=subject_of(
            call,
            resource_arn=resource.arn,
            resource_type=resource.type,
            resource_name=resource.name,
            resource_id=resource.id,
            site=resource.site,
            role_arn=shape["IamRoleArn"],
            vault_name=vault.name,
            vault_arn=vault.arn,
        ),
        cold_after_days=lifecycle.cold_after_days,
        delete_after_days=lifecycle.delete_after_days,
        point_tags=check_tags(shape.get("RecoveryPointTags", {}).items()),
        backup_options=shape.get("BackupOptions", {}),
        **_windows(shape),
    )
    job = service.start_backup_job(call.tx, request, now=call.now)
    promised = None
    if resource.type in _TOLD_AT_ONCE:
        promised = arn_for(
            vault,
            resource_type=resource.type,
            resource_arn=resource.arn,
            point_id=point_id_of(job.id),
            job_id=job.id,
            at=job.created_at,
        )
    return {
        "BackupJobId": job.id,
        "RecoveryPointArn": promised,
        "CreationDate": job.created_at,
        "IsParent": False,
    }


def start_restore_job(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Restore one recovery point; what no later change could mend is refused at once, the rest when the job runs."""
    account = call.caller.account
    point = get_point(call.tx, account, call.region, shape["RecoveryPointArn"])
    wanted_type = shape.get("ResourceType", point.resource_type)
    refuse_bad_restore(wanted_type, shape["Metadata"])
    if wanted_type != point.resource_type:
        raise WrongTypeError(f"ResourceType {wanted_type} is not that of {point.arn}, which is {point.resource_type}")
    role = shape.get("IamRoleArn", point.role_arn)
    refuse_unusable_role(call, role)
    request = RestoreRequest(
        subject=subject_of_point(call, point, role_arn=role, vault_name=point.vault_name, vault_arn=point.vault_arn),
        recovery_point_id=point.id,
        recovery_point_arn=point.arn,
        recovery_point_created_at=point.created_at,
        metadata=shape["Metadata"],
        copy_tags=shape.get("CopySourceTagsToRestoredResource", False),
        bytes_total=point.size_bytes,
    )
    return {"RestoreJobId": service.start_restore_job(call.tx, request, now=call.now).id}


def subject_of_point(call: Call, point: RecoveryPoint, *, role_arn: str, vault_name: str, vault_arn: str) -> Subject:
    """Return whom and what a job of the caller is about that reads a recovery point: of the resource it was made of."""
    return subject_of(
        call,
        resource_arn=point.resource_arn,
        resource_type=point.resource_type,
        resource_name=point.resource_name,
        site=call.instance.settings.site_for(call.region),
        role_arn=role_arn,
        vault_name=vault_name,
        vault_arn=vault_arn,
    )


def subject_of(call: Call, **what: Any) -> Subject:
    """Return whom and what a job of the caller is about, with where in its organization the account stands now."""
    placement = placement_of(call.tx, call.caller.account)
    return Subject(
        account=call.caller.account,
        region=call.region,
        organization_id=None if placement is None else placement.organization_id,
        unit_path="" if placement is None else placement.path,
        **what,
    )


def stop_backup_job(call: Call, shape: dict[str, Any]) -> None:
    """Stop a backup job."""
    job = _mine(call, shape["BackupJobId"], Kind.BACKUP)
    service.request_stop(call.tx, job, now=call.now, machine_now=call.instance.machine.now())


def describe_backup_job(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe one backup job, the caller's own or one in its view of the organization."""
    return backup_job_to_wire(call, _seen(call, shape["BackupJobId"], Kind.BACKUP))


def describe_restore_job(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe one restore job, the caller's own or one in its view of the organization."""
    return restore_job_to_wire(_seen(call, shape["RestoreJobId"], Kind.RESTORE))


def _mine(call: Call, job_id: str, kind: Kind) -> Job:
    return service.describe_job(call.tx, job_id, kind=kind, account=call.caller.account, region=call.region)


def _seen(call: Call, job_id: str, kind: Kind) -> Job:
    return describe_job(call.tx, call.caller.account, job_id, kind=kind, region=call.region, now=call.now)


def backup_job_to_wire(call: Call, job: Job) -> dict[str, Any]:
    """Return a backup job as DescribeBackupJob and ListBackupJobs show it."""
    size = job.result.get("brought", {}).get("bytes_total", job.bytes_total)
    return {
        "AccountId": job.account,
        "BackupJobId": job.id,
        "State": state_name(job),
        "StatusMessage": job.message,
        "MessageCategory": None if job.category is None else job.category.value,
        "PercentDone": f"{job.percent:.1f}",
        "ResourceArn": job.resource_arn,
        "ResourceType": job.resource_type,
        "ResourceName": job.resource_name,
        "BackupVaultName": job.vault_name,
        "BackupVaultArn": job.vault_arn,
        "RecoveryPointArn": job.recovery_point_arn,
        "BackupSizeInBytes": size,
        "BytesTransferred": job.bytes_done,
        "BackupOptions": job.options.get("backup_options") or None,
        "VaultType": _STANDARD,
        "VaultLockState": lock_state(job),
        "EncryptionKeyArn": job.result.get("key_arn"),
        "IsEncrypted": True if "key_arn" in job.result else None,
        "RecoveryPointLifecycle": lifecycle_of(job),
        "IamRoleArn": job.role_arn,
        "CreatedBy": created_by(call.tx, job),
        "CreationDate": job.created_at,
        "InitiationDate": job.started_at,
        "StartBy": job.start_by,
        "ExpectedCompletionDate": job.complete_by,
        "CompletionDate": job.completed_at,
        "IsParent": False,
        "ParentJobId": job.parent_id,
    }


def lock_state(job: Job) -> str | None:
    """Return whether the vault that a job writes into was locked when it ran; None before that."""
    if "is_locked" not in job.result:
        return None
    return "LOCKED" if job.result["is_locked"] else "UNLOCKED"


def lifecycle_of(job: Job) -> dict[str, int] | None:
    """Return the lifecycle of the recovery point that a job makes, as far as it is known; None without any."""
    known = job.result if "delete_after_days" in job.result else job.options
    members = {"MoveToColdStorageAfterDays": "cold_after_days", "DeleteAfterDays": "delete_after_days"}
    return {member: known[name] for member, name in members.items() if known.get(name) is not None} or None


def get_restore_job_metadata(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give the metadata that a restore was started with."""
    job = _mine(call, shape["RestoreJobId"], Kind.RESTORE)
    return {"RestoreJobId": job.id, "Metadata": dict(job.options.get("metadata", {}))}


def put_restore_validation_result(call: Call, shape: dict[str, Any]) -> None:
    """Note what was found when a restore was looked at."""
    job = _mine(call, shape["RestoreJobId"], Kind.RESTORE)
    service.put_validation(call.tx, job, shape["ValidationStatus"], shape.get("ValidationStatusMessage"))


def restore_job_to_wire(job: Job) -> dict[str, Any]:
    """Return a restore job as DescribeRestoreJob and ListRestoreJobs show it."""
    validation = job.result.get("validation", {})
    made_at = job.options.get("recovery_point_created_at")
    return {
        "ValidationStatus": validation.get("status"),
        "ValidationStatusMessage": validation.get("message"),
        "AccountId": job.account,
        "RestoreJobId": job.id,
        "RecoveryPointArn": job.recovery_point_arn,
        "RecoveryPointCreationDate": None if made_at is None else datetime.fromisoformat(made_at),
        "IsParent": False,
        "ParentJobId": job.parent_id,
        "Status": state_name(job),
        "StatusMessage": job.message,
        "PercentDone": f"{job.percent:.2f}%",
        "BackupSizeInBytes": job.bytes_total,
        "IamRoleArn": job.role_arn,
        "CreationDate": job.created_at,
        "CompletionDate": job.completed_at,
        "CreatedResourceArn": job.result.get("created_resource"),
        "ResourceType": job.resource_type,
        "SourceResourceArn": job.resource_arn,
        "BackupVaultArn": job.vault_arn,
    }


def _windows(shape: Mapping[str, Any]) -> dict[str, timedelta]:
    members = {"StartWindowMinutes": "start_window", "CompleteWindowMinutes": "completion_window"}
    return {name: timedelta(minutes=shape[member]) for member, name in members.items() if member in shape}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "StartBackupJob": start_backup_job,
    "StopBackupJob": stop_backup_job,
    "DescribeBackupJob": describe_backup_job,
    "StartRestoreJob": start_restore_job,
    "DescribeRestoreJob": describe_restore_job,
    "GetRestoreJobMetadata": get_restore_job_metadata,
    "PutRestoreValidationResult": put_restore_validation_result,
}
