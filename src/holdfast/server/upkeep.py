"""What time makes due for credentials and keys: sessions are forgotten, keys rotated, keys deleted after their wait."""

from datetime import datetime

import structlog

from holdfast.access.credentials import end_expired_sessions
from holdfast.key.model import Key
from holdfast.key.service import delete_due, rotate_due
from holdfast.trail.service import Decision, Entry, record
from holdfast.wire.call import Instance

log = structlog.get_logger()


def keep_keys(instance: Instance, *, now: datetime) -> None:
    """Do it, and write into the trail what was done to keys; `now` is civil time."""
    with instance.database.transaction() as tx:
        end_expired_sessions(tx, now=instance.machine.now())
        for key in rotate_due(tx, instance.root_key, now=now):
            record(tx, _entry(key, now, "RotateKey", "its rotation period has passed"))
        deleted, kept = delete_due(tx, now=now)
        for key in deleted:
            record(tx, _entry(key, now, "DeleteKey", "its waiting time has passed"))
    for key in kept:
        log.warning("key.deletion_held", key=key.arn, reason="locked recovery points open with it only")


def _entry(key: Key, now: datetime, operation: str, reason: str) -> Entry:
    return Entry(
        at=now,
        account=key.account,
        region=key.region,
        service="kms",
        operation=operation,
        principal_arn="kms.amazonaws.com",
        decision=Decision.EVENT,
        reason=reason,
        parameters={"KeyId": key.arn},
    )
