"""What is told of a vault that was created, changed or deleted, in the shape of AWS Backup's events.

Members: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon EventBridge", "Backup Vault State
Change".
"""

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from holdfast.trail.event import state_change
from holdfast.trail.service import record
from holdfast.vault.model import Vault

VAULT_CHANGE: Final = "Backup Vault State Change"
CREATED: Final = "CREATED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"


def note_change(tx: sa.Connection, state: str, vault: Vault, *, reason: str, at: datetime) -> None:
    """Write into the trail what has just happened to a vault; `vault` is how it is now, `at` civil time."""
    detail = {"backupVaultName": vault.name, "state": state, "isLocked": "true" if vault.is_locked else "false"}
    entry = state_change(
        "BackupVaultStateChanged",
        VAULT_CHANGE,
        detail,
        account=vault.account,
        region=vault.region,
        resources=[vault.arn],
        reason=reason,
        at=at,
    )
    record(tx, entry)
