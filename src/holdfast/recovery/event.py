"""What is told of a recovery point that came into another state, in the shape of AWS Backup's events.

Members and statuses: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon EventBridge", the examples
of "Recovery Point State Change". Names in the trail: "Logging AWS Backup API calls with CloudTrail".
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from holdfast.recovery.model import RecoveryPoint
from holdfast.trail.event import state_change, told_instant, told_of_plan
from holdfast.trail.service import record

POINT_CHANGE: Final = "Recovery Point State Change"


class Change(StrEnum):
    """What happened to a recovery point, by its name in the trail."""

    CREATED = "RecoveryPointCreated"
    DELETED = "BackupDeleted"
    """Somebody or its lifecycle deleted it; it can be brought back for a while."""
    BROUGHT_BACK = "RecoveryPointBroughtBack"
    EXPIRED = "RecoveryPointExpired"
    """Its lifecycle is over, and something keeps it."""
    LIFECYCLE_PUT = "RecoveryPointLifecycleUpdated"
    COLD = "BackupTransitionedToCold"


_STATUS: Final = {Change.DELETED: "DELETED", Change.LIFECYCLE_PUT: "MODIFIED", Change.COLD: "MODIFIED"}
"""The status that an event tells of; for other changes it is the point's own."""


def note_change(tx: sa.Connection, change: Change, point: RecoveryPoint, *, reason: str, at: datetime) -> None:
    """Write into the trail what has just happened to a point; `point` is how it is now, `at` civil time."""
    lifecycle = {
        "moveToColdStorageAfterDays": point.lifecycle.cold_after_days,
        "deleteAfterDays": point.lifecycle.delete_after_days,
    }
    calculated = {"moveToColdStorageAt": told_instant(point.cold_at), "deleteAt": told_instant(point.delete_at)}
    detail = {
        "backupVaultName": point.vault_name,
        "backupVaultArn": point.vault_arn,
        "creationDate": told_instant(point.created_at),
        "completionDate": told_instant(point.completed_at),
        "iamRoleArn": point.role_arn,
        "resourceType": point.resource_type,
        "resourceArn": point.resource_arn,
        "status": _STATUS.get(change, point.status.value),
        "statusMessage": point.status_message,
        "isEncrypted": "true",
        "storageClass": point.storage_class.value,
        "createdBy": told_of_plan(point.created_by),
        "lifecycle": {name: days for name, days in lifecycle.items() if days is not None} or None,
        "calculatedLifeCycle": {name: at for name, at in calculated.items() if at is not None} or None,
    }
    entry = state_change(
        change.value,
        POINT_CHANGE,
        detail,
        account=point.account,
        region=point.region,
        resources=[point.arn],
        reason=reason,
        at=at,
    )
    record(tx, entry)
