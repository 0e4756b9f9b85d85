"""What is told of a job that came into another state, in the shapes of AWS Backup's events.

Members and their types: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon EventBridge", the
examples of each event. Instants are texts, sizes of backups and restores are texts, and a restore has a status.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.job.model import Job, Kind, State

DETAIL_TYPES: Final[Mapping[Kind, str]] = {
    Kind.BACKUP: "Backup Job State Change",
    Kind.COPY: "Copy Job State Change",
    Kind.RESTORE: "Restore Job State Change",
}


def detail_of(job: Job) -> dict[str, Any]:
    """Return the `detail` of the event of the state that a job is in; what is not known is left out."""
    common = {
        "creationDate": _text(job.created_at),
        "completionDate": _text(job.completed_at),
        "iamRoleArn": job.role_arn,
        "resourceType": job.resource_type,
        "statusMessage": None if job.message is None else f'"{job.message}"',
        "createdBy": _created_by(job),
    }
    own: dict[str, Any]
    match job.kind:
        case Kind.BACKUP:
            own = {
                "backupJobId": job.id,
                "backupVaultArn": job.vault_arn,
                "backupVaultName": job.vault_name,
                "bytesTransferred": str(job.bytes_done),
                "backupSizeInBytes": str(job.bytes_total),
                "startBy": _text(job.start_by) if job.plan_name is not None else None,
                "expectedCompletionDate": _text(job.complete_by),
                "resourceArn": job.resource_arn,
                "state": job.state.value,
                "percentDone": job.percent,
                "retryCount": max(job.attempts - 1, 0),
                "recoveryPointArn": job.recovery_point_arn,
            }
        case Kind.COPY:
            made = job.result.get("recovery_point_arn") if job.state in {State.COMPLETED, State.PARTIAL} else None
            own = {
                "copyJobId": job.id,
                "backupSizeInBytes": job.bytes_total,
                "resourceArn": job.resource_arn,
                "sourceBackupVaultArn": job.options.get("source_vault_arn"),
                "sourceRecoveryPointArn": job.recovery_point_arn,
                "destinationBackupVaultArn": job.vault_arn,
                "destinationRecoveryPointArn": made or {},
                "state": job.state.value,
            }
        case Kind.RESTORE:
            own = {
                "restoreJobId": job.id,
                "backupVaultArn": job.vault_arn,
                "recoveryPointArn": job.recovery_point_arn,
                "sourceResourceArn": job.resource_arn,
                "backupSizeInBytes": str(job.bytes_total),
                "percentDone": job.percent,
                "status": job.state.value,
                "createdResourceArn": job.result.get("created_resource"),
            }
    return {name: value for name, value in {**own, **common}.items() if value is not None}


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def _created_by(job: Job) -> dict[str, str] | None:
    if job.plan_name is None:
        return None
    known = {"backupPlanName": job.plan_name, "backupPlanVersion": job.plan_version, "backupRuleName": job.rule_name}
    return {name: value for name, value in known.items() if value is not None}
