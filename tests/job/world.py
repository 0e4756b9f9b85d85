"""A small installation for the tests of jobs: one database, one repository, real movers, real directories."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text
from tests.job.builders import ACCOUNT, REGION, a_subject, set_columns

from holdfast.core.clock import MachineTime, SystemClock, SystemMachineTime
from holdfast.core.settings import HostGrant, Mode, Settings, SiteSettings, StorageSettings
from holdfast.database.connection import Database
from holdfast.database.values import stamp, to_json
from holdfast.job import service, store
from holdfast.job.model import BackupRequest, Claim, Completed, Job, Kind, RestoreRequest, State
from holdfast.job.protocol import BackupWork, Host, Place, RepositoryAccess, RestoreWork, Ticket
from holdfast.job.supervisor import SILENT_BEATS, Duties, Preparation, Refusal, Supervisor
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage

PASSWORD = "correct horse battery staple"
MACHINE_TIME = SystemMachineTime()
SOON = timedelta(seconds=0.5)
"""A beat; after four without a word a run counts as gone, which a busy machine must not be mistaken for."""


@dataclass
class World:
    """Where everything lies, and how it is put together."""

    root: Path
    database: Database
    heartbeat: timedelta = SOON
    concurrency: int = 2
    read_bytes_per_second: int = 0
    refuse: Refusal | None = None
    host_grants: tuple[HostGrant, ...] | None = None
    catalogue_is_broken: bool = False
    make_ready: Callable[..., None] = lambda *_anything: None
    record: Callable[..., None] = lambda *_anything: None
    machine: MachineTime = field(default_factory=SystemMachineTime)

    @property
    def data(self) -> Path:
        """What is backed up; a directory for each resource."""
        return self.root / "data"

    @property
    def silence(self) -> timedelta:
        """After how long without a word a run counts as gone."""
        return self.heartbeat * SILENT_BEATS

    @property
    def storage(self) -> Path:
        """Where the repository lies."""
        return self.root / "storage"

    def lay_out(self) -> None:
        """Make the directories and the repository, unless they are there."""
        self.data.mkdir(exist_ok=True)
        (self.root / "restored").mkdir(exist_ok=True)
        if not (self.storage / "repository").exists():
            Repository.create(
                LocalStorage(self.storage / "repository"), PASSWORD, host_id="test", at=MACHINE_TIME.now()
            )

    def repository(self) -> Repository:
        """Open the repository as a reader would."""
        return Repository.open(LocalStorage(self.storage / "repository"), PASSWORD, host_id="test-host")

    def settings(self) -> Settings:
        """Return the configuration."""
        return Settings(
            data_dir=self.root,
            mode=Mode.SERVE,
            regions={REGION: "local"},
            storages={"local": StorageSettings("local", f"file://{self.storage}", "here")},
            sites={"local": SiteSettings("local", concurrency=self.concurrency)},
            heartbeat=self.heartbeat,
        )

    def supervisor(self, executor: str = "serve") -> Supervisor:
        """Return a supervisor; its duties are what a server's stations would do."""
        grants = self.host_grants
        if grants is None:
            grants = (HostGrant(f"file://{self.data}"), HostGrant(f"file://{self.root / 'restored'}"))
        return Supervisor(
            self.database,
            self.settings(),
            clock=SystemClock(),
            machine=self.machine,
            duties=Duties(
                prepare=self.prepare, make_ready=self.make_ready, record=self.record, catalogue=self.catalogue
            ),
            host=Host("test-host", grants=grants, forbidden=(str(self.storage),)),
            executor=executor,
        )

    def prepare(self, tx: sa.Connection, claim: Claim) -> Preparation | Refusal:
        """Make a ticket."""
        if self.refuse is not None:
            return self.refuse
        job = claim.job
        access = RepositoryAccess(f"file://{self.storage}", "repository", PASSWORD)
        grants = (HostGrant(f"file://{self.root}"),)
        ticket = Ticket(
            job_id=job.id,
            epoch=claim.epoch,
            kind=job.kind,
            account=job.account,
            resource_arn=job.resource_arn,
            repository=access,
            at=MACHINE_TIME.now(),
            beat=self.heartbeat,
            silence=self.heartbeat,
        )
        if job.kind is Kind.RESTORE:
            snapshot = tx.execute(
                text("SELECT snapshot_id FROM recovery_point WHERE id = :id"), {"id": job.recovery_point_id}
            ).scalar_one()
            metadata = job.options["metadata"]
            target = Place(metadata["holdfast:target-url"], job.resource_type, grants=grants)
            return Preparation(
                replace(ticket, restore=RestoreWork(snapshot, target, metadata, asked_at=job.created_at))
            )
        parent = tx.execute(
            text("SELECT snapshot_id FROM recovery_point WHERE resource_arn = :arn ORDER BY created_at DESC LIMIT 1"),
            {"arn": job.resource_arn},
        ).scalar_one_or_none()
        work = BackupWork(
            Place(f"file://{self.data / job.resource_name}", job.resource_type, grants=grants),
            parent_snapshot=parent,
            read_bytes_per_second=self.read_bytes_per_second,
        )
        return Preparation(
            replace(ticket, backup=work, recovery_point_id=f"point-{job.id}"),
            recovery_point_arn=f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:{job.id}",
        )

    def catalogue(self, tx: sa.Connection, job: Job, outcome: Completed) -> None:
        """Insert the recovery point of a backup, unless the catalogue is broken."""
        if self.catalogue_is_broken:
            raise RuntimeError("the catalogue is broken")
        if job.kind is Kind.BACKUP:
            catalogue(tx, job, outcome)

    def pretend(self, job: Job, **columns: Any) -> None:
        """Change columns of a job's row, as if time had gone by."""
        with self.database.transaction() as tx:
            set_columns(tx, job.id, **columns)

    def a_tree(self, name: str, *, files: int = 20, size: int = 1000) -> Path:
        """Make a directory tree that is the resource `name`."""
        tree = self.data / name
        tree.mkdir()
        for number in range(files):
            (tree / f"file-{number:04}").write_bytes(os.urandom(size))
        return tree

    def backup(self, name: str) -> Job:
        """Ask for a backup of the resource `name`."""
        with self.database.transaction() as tx:
            return service.start_backup_job(tx, BackupRequest(a_subject(name=name)), now=MACHINE_TIME.now())

    def restore(self, point: str, **metadata: str) -> Job:
        """Ask for a restore of a recovery point."""
        with self.database.transaction() as tx:
            request = RestoreRequest(a_subject(), point, f"arn:{point}", metadata)
            return service.start_restore_job(tx, request, now=MACHINE_TIME.now())

    def job(self, job: Job) -> Job:
        """Return a job as it is now."""
        with self.database.reading() as tx:
            found = store.find(tx, job.id)
        assert found is not None
        return found

    def points(self) -> list[str]:
        """Return the snapshots of all recovery points."""
        with self.database.reading() as tx:
            return list(tx.execute(text("SELECT snapshot_id FROM recovery_point ORDER BY created_at")).scalars())

    def states(self, job: Job) -> list[State]:
        """Return the states that a job came into."""
        with self.database.reading() as tx:
            return [state for state, _, _ in store.transitions(tx, job.id)]

    def until(
        self, job: Job, true: Callable[[Job], bool], *, tick: Supervisor | None = None, seconds: float = 60
    ) -> Job:
        """Wait until something is true of a job, ticking a supervisor meanwhile."""
        found = job

        def holds() -> bool:
            nonlocal found
            if tick is not None:
                tick.tick()
            found = self.job(job)
            return true(found)

        eventually(holds, seconds, lambda: f"{found.state}: {found.message}")
        return found

    def until_ended(self, job: Job, *, tick: Supervisor | None = None) -> Job:
        """Wait until a job has ended."""
        return self.until(job, lambda found: found.has_ended, tick=tick)


@contextmanager
def running(world: World, executor: str = "serve") -> Iterator[Supervisor]:
    """Run a supervisor in this process."""
    supervisor = world.supervisor(executor)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop()


def eventually(true: Callable[[], bool], seconds: float = 60, say: Callable[[], str] = lambda: "") -> None:
    """Wait until something is true."""
    end = MACHINE_TIME.monotonic() + seconds
    never = threading.Event()
    while not true():
        assert MACHINE_TIME.monotonic() < end, f"did not come true in time: {say()}"
        MACHINE_TIME.wait(never, 0.05)


def catalogue(tx: sa.Connection, job: Job, outcome: Completed) -> None:
    """Insert a recovery point."""
    values: dict[str, Any] = {
        "id": outcome.recovery_point_id,
        "arn": outcome.recovery_point_arn,
        "account": job.account,
        "region": job.region,
        "vault_id": "vault",
        "vault_name": job.vault_name,
        "repository_id": "repository",
        "snapshot_id": outcome.result["snapshot_id"],
        "resource_account": job.account,
        "resource_arn": job.resource_arn,
        "resource_type": job.resource_type,
        "resource_name": job.resource_name,
        "job_id": job.id,
        "status": "COMPLETED",
        "role_arn": job.role_arn,
        "created_by": "{}",
        "created_at": stamp(job.created_at),
        "completed_at": stamp(job.completed_at or job.created_at),
        "size_bytes": outcome.bytes_read,
        "stored_bytes": outcome.bytes_stored,
        "archive_opt_in": False,
        "storage_class": "WARM",
        "key_arn": "key",
        "consistency": outcome.result["brought"]["consistency"],
        "restore_metadata": to_json(outcome.result["brought"]["restore_metadata"]),
        "problems": to_json(outcome.result["troubles"]),
    }
    names: Sequence[str] = list(values)
    tx.execute(
        text(f"INSERT INTO recovery_point ({', '.join(names)}) VALUES ({', '.join(':' + n for n in names)})"), values
    )


def restic_check(world: World, *, locked_by_the_dead: bool = False) -> None:
    """Have plain restic read every byte of the repository, which nobody may hold locked any more.

    Where a mover was killed its lock may still be there, for restic goes by our host's name and not by the process.
    """
    done = subprocess.run(
        [
            *("restic", "-r", str(world.storage / "repository"), "--no-cache"),
            *(["--no-lock"] if locked_by_the_dead else []),
            *("check", "--read-data"),
        ],
        env={"RESTIC_PASSWORD": PASSWORD, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
