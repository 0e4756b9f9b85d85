"""What is told of a job that came into another state, in the shapes of AWS Backup's events.

Members and their types: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon EventBridge", the
examples of each event. Instants are texts, sizes of backups and restores are texts, and a restore has a status.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.job.model import Job, Kind, State
from holdfast.trail.event import told_instant, told_of_plan

DETAIL_TYPES: Final[Mapping[Kind, str]] = {
    Kind.BACKUP: "Backup Job State Change",
    Kind.COPY: "Copy Job State Change",
    Kind.RESTORE: "Restore Job State Change",
}


_IDS: Final[Mapping[Kind, str]] = {
    Kind.BACKUP: "backupJobId",
    Kind.COPY: "copyJobId",
    Kind.RESTORE: "restoreJobId",
}


def created(job_id: str, kind: Kind, created_at: datetime) -> dict[str, Any]:
    """Return the `detail` of the event of a new job: hardly anything, and a restore has a state here too."""
    return {_IDS[kind]: job_id, "state": State.CREATED.value, "creationDate": told_instant(created_at)}


def detail_of(job: Job, created_by: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the `detail` of the event of the state that a job is in; what is not known is left out.

    `created_by` is the plan behind it, by the API's names.
    """
    if job.state is State.CREATED and not job.attempts:
        return created(job.id, job.kind, job.created_at)
    common = {
        "creationDate": told_instant(job.created_at),
        "completionDate": told_instant(job.completed_at),
        "iamRoleArn": job.role_arn,
        "resourceType": job.resource_type,
        "statusMessage": None if job.message is None else f'"{job.message}"',
        "createdBy": told_of_plan(created_by),
    }
    own: dict[str, Any]
    match job.kind:
        case Kind.BACKUP:
            own = {
                _IDS[job.kind]: job.id,
                "backupVaultArn": job.vault_arn,
                "backupVaultName": job.vault_name,
                "bytesTransferred": str(job.bytes_done),
                "backupSizeInBytes": str(job.bytes_total),
                "startBy": told_instant(job.start_by) if job.plan_name is not None else None,
                "expectedCompletionDate": told_instant(job.complete_by),
                "resourceArn": job.resource_arn,
                "state": job.state.value,
                "percentDone": job.percent,
                "retryCount": max(job.attempts - 1, 0),
            }
        case Kind.COPY:
            made = job.result.get("recovery_point_arn") if job.state in {State.COMPLETED, State.PARTIAL} else None
            own = {
                _IDS[job.kind]: job.id,
                "backupSizeInBytes": job.bytes_total,
                "resourceArn": job.resource_arn,
                "sourceBackupVaultArn": job.options.get("source_vault_arn"),
                "destinationBackupVaultArn": job.vault_arn,
                "destinationRecoveryPointArn": made or {},
                "state": job.state.value,
            }
        case Kind.RESTORE:
            own = {
                _IDS[job.kind]: job.id,
                "backupVaultArn": job.vault_arn,
                "recoveryPointArn": job.recovery_point_arn,
                "sourceResourceArn": job.resource_arn,
                "backupSizeInBytes": str(job.bytes_total),
                "percentDone": job.percent,
                "status": job.state.value,
                "createdResourceArn": job.result.get("created_resource"),
            }
    return {name: value for name, value in {**own, **common}.items() if value is not None}


def resources_of(job: Job) -> list[str]:
    """Return the ARNs that the event of a job names: the recovery point that it made or reads, once there is one."""
    return [] if job.recovery_point_arn is None else [job.recovery_point_arn]
