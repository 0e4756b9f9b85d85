"""What time makes due for credentials and keys: sessions are forgotten, keys rotated, keys deleted after their wait."""

from datetime import datetime

import sqlalchemy as sa
import structlog

from holdfast.access.credentials import end_expired_sessions
from holdfast.core.errors import HoldfastError
from holdfast.key.model import Key
from holdfast.key.service import due_for_deletion, rotate_due
from holdfast.trail.service import Decision, Entry, record
from holdfast.vault.custody import Custody
from holdfast.vault.keys import delete_for_good
from holdfast.wire.call import Instance

log = structlog.get_logger()


def keep_keys(instance: Instance, *, now: datetime) -> None:
    """Do it, and write into the trail what was done to keys; `now` is civil time."""
    with instance.database.transaction() as tx:
        end_expired_sessions(tx, now=instance.machine.now())
        for key in rotate_due(tx, instance.root_key, now=now):
            record(tx, _entry(key, now, "RotateKey", "its rotation period has passed"))
        due, kept = due_for_deletion(tx, now=now)
    for key in due:
        try:
            with instance.database.transaction() as tx:
                _delete(tx, instance, key, now=now)
        except HoldfastError as error:
            # Not before every vault has it in writing: from storage alone the key would come back.
            log.warning("key.deletion_held", key=key.arn, reason=str(error))
    for key in kept:
        log.warning("key.deletion_held", key=key.arn, reason="locked recovery points open with it only")


def _delete(tx: sa.Connection, instance: Instance, key: Key, *, now: datetime) -> None:
    delete_for_good(tx, Custody(instance.settings, instance.root_key), key, now=now)
    record(tx, _entry(key, now, "DeleteKey", "its waiting time has passed"))


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
