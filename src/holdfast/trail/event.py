"""Entries of the trail that tell that something came into another state; routes make events of them.

Details are in the shapes of AWS Backup's events: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon
EventBridge". Such an entry is written by the code that changes the state, in the transaction of the change.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from holdfast.trail.service import Decision, Entry

DETAIL_TYPE: Final = "detailType"
RESOURCES: Final = "resources"
"""What an entry's parameters name beside the event's detail."""

_PRINCIPAL: Final = "backup.amazonaws.com"
_CREATED_BY: Final[Mapping[str, str]] = {
    "BackupPlanId": "backupPlanId",
    "BackupPlanArn": "backupPlanArn",
    "BackupPlanVersion": "backupPlanVersion",
    "BackupRuleId": "backupPlanRuleId",
}


def state_change(
    operation: str,
    detail_type: str,
    detail: Mapping[str, Any],
    *,
    account: str,
    region: str,
    resources: Sequence[str] = (),
    reason: str,
    at: datetime,
) -> Entry:
    """Return the entry of a change of state; what is None in the detail is left out.

    Args:
        operation: what the trail calls it, where there is one the name of AWS CloudTrail's service event.
        detail_type: the type of the event.
        detail: its detail.
        account: where it happened.
        region: where it happened.
        resources: ARNs of what it is about.
        reason: a sentence for a person.
        at: civil time.
    """
    known = {name: value for name, value in detail.items() if value is not None}
    return Entry(
        at=at,
        account=account,
        region=region,
        service="backup",
        operation=operation,
        principal_arn=_PRINCIPAL,
        decision=Decision.EVENT,
        reason=reason,
        parameters={DETAIL_TYPE: detail_type, RESOURCES: list(resources), **known},
    )


def told_of_plan(created_by: Mapping[str, Any] | None) -> dict[str, str] | None:
    """Return what an event tells of the plan and rule behind something, of the API's `CreatedBy`; None without one."""
    return (
        {ours: created_by[theirs] for theirs, ours in _CREATED_BY.items() if created_by.get(theirs)}
        if created_by
        else None
    )


def told_instant(at: datetime | None) -> str | None:
    """Return an instant as events have it: a text in UTC."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")
