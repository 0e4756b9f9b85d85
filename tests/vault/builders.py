"""Vaults, storages and recovery points for tests, with everything that is not the point filled in."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from holdfast.core.clock import ManualMachineTime
from holdfast.core.ids import new_uuid
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings, SiteSettings, StorageSettings
from holdfast.database.connection import Database
from holdfast.key.model import RecoveryPair
from holdfast.key.service import generate_recovery_pair
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery.model import JOB_TAG, POINT_TAG, RecoveryPoint, Status, calculated
from holdfast.recovery.service import Made, catalogue_point, record_point
from holdfast.repository.entry import BytesContent, Entry, Kind, Metadata
from holdfast.repository.repository import Repository
from holdfast.vault import repositories
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault
from holdfast.vault.repositories import RepositoryAccess
from holdfast.vault.service import create_vault
from holdfast.vault.storage import Below
from holdfast.vault.store import RepositoryRow

NOON: Final = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
DAY: Final = timedelta(days=1)
ACCOUNT: Final = "111122223333"
OTHER: Final = "444455556666"
REGION: Final = "eu-north-1"
ROOT_KEY: Final = RootKey(bytes(range(32)))
RECOVERY: Final[RecoveryPair] = generate_recovery_pair()
ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/Backup"
TREE: Final = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/fs-1"


class StillMachine(ManualMachineTime):
    """Machine time that stands still until it is moved, also while somebody waits."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for `event`; a lock's refresher waits so until the lock is released."""
        return event.wait(seconds)


def a_custody(
    directory: Path, *, root_key: RootKey = ROOT_KEY, recovery_key: bytes | None = RECOVERY.public
) -> Custody:
    """A custody whose one storage is a directory."""
    storage = StorageSettings("local", f"file://{directory}", "here")
    settings = Settings(
        data_dir=directory.parent,
        mode=Mode.SERVE,
        regions={REGION: "local", "us-east-1": "local"},
        storages={"local": storage},
        sites={"local": SiteSettings("local")},
    )
    return Custody(settings, root_key, recovery_key)


def a_vault(database: Database, custody: Custody, name: str = "Daily", **more: Any) -> Vault:
    """A vault that exists."""
    with database.transaction() as tx:
        given: dict[str, Any] = {"partition": "aws", "account": ACCOUNT, "region": REGION, "now": NOON} | more
        return create_vault(tx, custody, name=name, **given)


def a_repository(
    database: Database, custody: Custody, vault: Vault, source_account: str = ACCOUNT
) -> tuple[RepositoryRow, Repository]:
    """A repository that exists in storage, open."""
    with database.transaction() as tx:
        row = repositories.repository_for(tx, custody, vault, source_account, now=NOON)
    machine = StillMachine(NOON)
    row = repositories.prepare_repository(database, custody, row.id, host_id="test", machine=machine, now=NOON)
    with database.reading() as tx:
        access = repositories.access_for_job(tx, custody, row.id)
    return row, opened(custody, access)


def opened(custody: Custody, access: RepositoryAccess) -> Repository:
    """The repository that an access leads to, as a mover opens it."""
    storage = Below(custody.storage("local"), access.path)
    return Repository.open(storage, access.password, host_id="test", machine=StillMachine(NOON))


def entries(texts: Sequence[str] = ("hello",)) -> list[Entry]:
    """A small directory tree."""
    return [
        Entry((f"file{number}".encode(),), Kind.FILE, Metadata(mode=0o644, size=len(text)), BytesContent(text.encode()))
        for number, text in enumerate(texts)
    ]


@dataclass(frozen=True, slots=True)
class Backup:
    """A recovery point that a test made, and how."""

    point: RecoveryPoint
    made: Made


def made(vault: Vault, row: RepositoryRow, snapshot_id: str = "0" * 64, **more: Any) -> Made:
    """What a job made."""
    given: dict[str, Any] = {
        "point_id": new_uuid(),
        "job_id": new_uuid(),
        "epoch": 1,
        "vault_id": vault.id,
        "repository_id": row.id,
        "snapshot_id": snapshot_id,
        "resource_account": row.source_account,
        "resource_arn": TREE,
        "resource_type": "EFS",
        "resource_name": "www",
        "role_arn": ROLE,
        "created_at": NOON,
        "completed_at": NOON + timedelta(minutes=1),
        "size_bytes": 5,
        "stored_bytes": 7,
        "consistency": "crash",
        "lifecycle": Lifecycle(delete_after_days=35),
    }
    return Made(**(given | more))


def back_up(
    database: Database, custody: Custody, vault: Vault, *, texts: Sequence[str] = ("hello",), **more: Any
) -> Backup:
    """A backup as a job makes it: packs, snapshot, record, row."""
    row, repository = a_repository(database, custody, vault, more.get("resource_account", ACCOUNT))
    point_id, job_id = more.pop("point_id", new_uuid()), more.pop("job_id", new_uuid())
    at = more.get("created_at", NOON)
    written = repository.write(entries(texts), at=at, tags=[POINT_TAG + point_id, JOB_TAG + job_id])
    one = made(vault, row, written.snapshot_id, point_id=point_id, job_id=job_id, **more)
    recorded = record_point(database, custody, one, now=at)
    with database.transaction() as tx:
        return Backup(catalogue_point(tx, recorded), one)


def a_point(**more: Any) -> RecoveryPoint:
    """A recovery point as a value."""
    lifecycle = more.pop("lifecycle", Lifecycle(delete_after_days=35))
    created_at = more.pop("created_at", NOON)
    ends = calculated(lifecycle, created_at)
    given: dict[str, Any] = {
        "id": "00000000-0000-4000-8000-000000000001",
        "arn": f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:00000000-0000-4000-8000-000000000001",
        "account": ACCOUNT,
        "region": REGION,
        "vault_id": "vault",
        "vault_name": "Daily",
        "repository_id": "repository",
        "snapshot_id": "0" * 64,
        "resource_account": ACCOUNT,
        "resource_arn": TREE,
        "resource_type": "EFS",
        "resource_name": "www",
        "job_id": "job",
        "status": Status.COMPLETED,
        "role_arn": ROLE,
        "created_at": created_at,
        "completed_at": created_at,
        "size_bytes": 5,
        "stored_bytes": 7,
        "key_arn": "arn:aws:kms:eu-north-1:111122223333:key/k",
        "consistency": "crash",
        "lifecycle": lifecycle,
        "cold_at": ends.cold_at,
        "delete_at": ends.delete_at,
    }
    return RecoveryPoint(**(given | more))
