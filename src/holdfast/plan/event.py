"""What is told of a plan that an account made, changed or deleted, in the shape of AWS Backup's events.

Members: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon EventBridge", "Backup Plan State
Change".
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from holdfast.plan.model.plan import Plan
from holdfast.trail.event import state_change, told_instant
from holdfast.trail.service import record

PLAN_CHANGE: Final = "Backup Plan State Change"


class PlanState(StrEnum):
    """What happened to a plan."""

    CREATED = "CREATED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


_WHEN: Final = {
    PlanState.CREATED: "creationDate",
    PlanState.MODIFIED: "modifiedAt",
    PlanState.DELETED: "deletionDate",
}


def note_change(tx: sa.Connection, state: PlanState, plan: Plan, *, account: str, region: str, at: datetime) -> None:
    """Write into the trail what has just happened to a plan; `plan` is how it is now, `at` civil time."""
    detail = {
        "backupPlanId": plan.id,
        "versionId": plan.version_id,
        "state": state.value,
        _WHEN[state]: told_instant(at),
    }
    entry = state_change(
        "BackupPlanStateChanged",
        PLAN_CHANGE,
        detail,
        account=account,
        region=region,
        resources=[plan.arn],
        reason=f"the backup plan {plan.name} was {state.value.lower()}",
        at=at,
    )
    record(tx, entry)
