"""Every change of a state is one event, in the shape that AWS Backup gives it.

Fields: AWS Backup Developer Guide, "Monitoring AWS Backup events using Amazon EventBridge".
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import text
from tests.access.builders import insert_row
from tests.job.builders import MACHINE, NOON, a_subject, set_columns
from tests.recovery.test_cold import Cellar
from tests.schedule.test_due_runs import Installation, a_document
from tests.vault.builders import ACCOUNT, DAY, REGION, a_custody, a_vault

from holdfast.assessment.settings import update_region_settings
from holdfast.database.connection import Database
from holdfast.database.values import to_json
from holdfast.job import service, store
from holdfast.job.model import (
    FOLLOWS,
    BackupRequest,
    Completed,
    CopyRequest,
    Failed,
    Job,
    Kind,
    Partial,
    RestoreRequest,
    State,
    Stopped,
    Waiting,
)
from holdfast.monitor.route import Event, event_of
from holdfast.plan.model.plan import Lifecycle, organization_plan_id, organization_rule_id
from holdfast.recovery import service as points
from holdfast.schedule.service import tick
from holdfast.trail.reading import changes_in_block
from holdfast.vault import service as vaults

POINT: Final = "arn:aws:backup:eu-central-1:111122223333:recovery-point:1"
ENDED: Final = {"completionDate"}
ALWAYS: Final = {
    Kind.BACKUP: {
        *("backupJobId", "backupVaultArn", "backupVaultName", "bytesTransferred", "backupSizeInBytes", "creationDate"),
        *("iamRoleArn", "resourceArn", "resourceType", "state", "percentDone", "retryCount"),
    },
    Kind.COPY: {
        *("copyJobId", "backupSizeInBytes", "creationDate", "iamRoleArn", "resourceArn", "resourceType", "state"),
        *("sourceBackupVaultArn", "destinationBackupVaultArn", "destinationRecoveryPointArn"),
    },
    Kind.RESTORE: {
        *("restoreJobId", "backupVaultArn", "recoveryPointArn", "sourceResourceArn", "backupSizeInBytes"),
        *("creationDate", "iamRoleArn", "percentDone", "resourceType", "status"),
    },
}
SOMETIMES: Final = {
    Kind.BACKUP: {"completionDate", "expectedCompletionDate", "statusMessage", "startBy", "createdBy"},
    Kind.COPY: {"completionDate", "statusMessage", "createdBy"},
    Kind.RESTORE: {"completionDate", "statusMessage", "createdResourceArn"},
}
TEXTS: Final = {"bytesTransferred", "creationDate", "completionDate", "expectedCompletionDate", "startBy"}
A_POINT: Final = {
    *("backupVaultName", "backupVaultArn", "creationDate", "completionDate", "iamRoleArn", "resourceType"),
    *("resourceArn", "status", "isEncrypted", "storageClass", "lifecycle", "calculatedLifeCycle"),
}


@dataclass
class Witness:
    """Reads what the trail tells since it last looked."""

    database: Database
    blocks: int = 0
    seen: list[Event] = field(default_factory=list)

    def new(self) -> list[Event]:
        self.blocks += 1
        with self.database.transaction() as tx:
            tx.execute(text("UPDATE audit_entry SET block = :block WHERE block IS NULL"), {"block": self.blocks})
            events = [event_of(entry, installation="here") for entry in changes_in_block(tx, self.blocks)]
        found = [event for event in events if event is not None]
        self.seen += found
        return found

    def one(self) -> Event:
        (event,) = self.new()
        return event


@dataclass
class Walk:
    """One job on its way, each step seen by a witness."""

    database: Database
    kind: Kind
    witness: Witness
    walked: set[tuple[State, State]] = field(default_factory=set)

    def start(self) -> Job:
        subject = a_subject(name=f"fs-{len(self.witness.seen)}")
        with self.database.transaction() as tx:
            if self.kind is Kind.BACKUP:
                job = service.start_backup_job(tx, BackupRequest(subject), now=NOON)
            elif self.kind is Kind.COPY:
                request = CopyRequest(subject, "p", POINT, "arn:aws:backup:eu-central-1:111122223333:backup-vault:a")
                job = service.start_copy_job(tx, request, now=NOON)
            else:
                job = service.start_restore_job(tx, RestoreRequest(subject, "p", POINT, {}), now=NOON)
        event = self.witness.one()
        members = {f"{self.kind.lower()}JobId", "state", "creationDate"}
        assert set(event.detail) == members
        assert event.state == "CREATED"
        return job

    def claim(self, job: Job) -> Job:
        return self._step(job, lambda tx: service.claim(tx, job.id, None, now=NOON, machine_now=MACHINE, mover="m"))

    def end(self, job: Job, outcome: Any) -> Job:
        return self._step(
            job, lambda tx: service.complete(tx, job.id, job.epoch, outcome, now=NOON, machine_now=MACHINE)
        )

    def stop(self, job: Job) -> Job:
        return self._step(job, lambda tx: service.request_stop(tx, job, now=NOON, machine_now=MACHINE))

    def expire(self, job: Job) -> Job:
        with self.database.transaction() as tx:
            set_columns(tx, job.id, start_by=0)
        return self._step(job, lambda tx: service.expire_unstarted(tx, now=NOON, machine_now=MACHINE))

    def overdue(self, job: Job) -> Job:
        return self._step(job, lambda tx: service.stop_overdue(tx, now=NOON + timedelta(days=40)))

    def _step(self, job: Job, act: Callable[[Any], Any]) -> Job:
        with self.database.transaction() as tx:
            act(tx)
            present = store.find(tx, job.id)
        assert present is not None
        self.walked.add((job.state, present.state))
        event = self.witness.one()
        assert event.state == present.state.value
        assert event.detail_type == f"{self.kind.word} Job State Change"
        members = set(event.detail)
        assert ALWAYS[self.kind] <= members <= ALWAYS[self.kind] | SOMETIMES[self.kind]
        assert ("completionDate" in members) is present.has_ended
        assert ("statusMessage" in members) is (present.message is not None)
        assert all(isinstance(event.detail[name], str) for name in TEXTS & members)
        assert isinstance(event.detail["backupSizeInBytes"], int if self.kind is Kind.COPY else str)
        assert event.resources == (() if present.recovery_point_arn is None else (present.recovery_point_arn,))
        return present


@pytest.mark.parametrize("kind", list(Kind))
def test_each_move_of_a_job_is_one_event_with_its_fields(database: Database, kind: Kind) -> None:
    walk = Walk(database, kind, Witness(database))
    done = Completed(
        result={"recovery_point_arn": POINT, "created_resource": "arn:new"},
        recovery_point_id="p",
        recovery_point_arn=POINT,
    )
    ended = walk.end(walk.claim(walk.start()), done)
    assert ended.state is State.COMPLETED
    if kind is Kind.COPY:
        assert walk.witness.seen[-1].detail["destinationRecoveryPointArn"] == POINT
        assert walk.witness.seen[-2].detail["destinationRecoveryPointArn"] == {}
    walk.end(walk.claim(walk.start()), Partial("one part is missing"))
    walk.end(walk.claim(walk.start()), Failed("no such directory"))
    again = walk.end(walk.claim(walk.start()), Failed("the network was away", retryable=True))
    assert again.waiting_for is Waiting.RETRY
    assert walk.witness.seen[-1].detail["statusMessage"] == '"the network was away"'
    walk.stop(walk.start())
    walk.end(walk.stop(walk.claim(walk.start())), Stopped())
    walk.expire(walk.start())
    walk.end(walk.overdue(walk.claim(walk.start())), Stopped())
    assert walk.walked == {(before, after) for before, those in FOLLOWS.items() for after in those}
    assert len({event.id for event in walk.witness.seen}) == len(walk.witness.seen)


def test_the_scheduler_tells_of_each_job_once_and_later_events_name_the_plan(database: Database) -> None:
    installation = Installation(database)
    installation.document(a_document())
    installation.account("111111111111")
    for name in ("fs-1", "fs-2"):
        installation.resource("111111111111", name, {"dataType": "PII"})
    witness = Witness(database)
    due = NOON.replace(day=1) + timedelta(hours=1)
    tick(database, now=due - timedelta(hours=1))
    tick(database, now=due)
    events = witness.new()
    jobs = installation.jobs()
    assert {event.detail["backupJobId"] for event in events} == {job.id for job in jobs}
    assert [(event.account, event.state, set(event.detail)) for event in events] == [
        ("111111111111", "CREATED", {"backupJobId", "state", "creationDate"})
    ] * 2
    with database.transaction() as tx:
        claim = service.claim(tx, jobs[0].id, None, now=due, machine_now=MACHINE, mover="m")
    assert claim is not None
    plan = organization_plan_id("o-aaaaaaaaaa", "111111111111", "eu-north-1", "daily")
    made_by = dict(witness.one().detail["createdBy"])
    assert made_by.pop("backupPlanVersion")
    assert made_by == {
        "backupPlanId": plan,
        "backupPlanArn": f"arn:aws:backup:eu-north-1:111111111111:backup-plan:{plan}",
        "backupPlanRuleId": organization_rule_id("o-aaaaaaaaaa", "111111111111", "eu-north-1", "daily", "r"),
    }


def test_each_change_of_a_recovery_point_is_one_event(database: Database, tmp_path: Path) -> None:
    custody = a_custody(tmp_path / "storage")
    cellar = Cellar(database, custody, a_vault(database, custody))
    witness = Witness(database)
    witness.new()

    def told(status: str, **more: Any) -> None:
        event = witness.one()
        assert event.resources == (point.arn,)
        assert set(event.detail) - {"statusMessage", "createdBy"} == A_POINT
        assert {name: event.detail[name] for name in ("status", *more)} == {"status": status, **more}

    point = cellar.back_up(lifecycle=Lifecycle(10, 100))
    told("COMPLETED", storageClass="WARM", isEncrypted="true", lifecycle={
        "moveToColdStorageAfterDays": 10, "deleteAfterDays": 100
    })  # fmt: skip
    with database.transaction() as tx:
        points.update_lifecycle(tx, custody, cellar.vault, point.arn, Lifecycle(11, 101), now=point.created_at)
    told("MODIFIED", storageClass="WARM")
    assert cellar.move(point.created_at + 11 * DAY).points == [point.arn]
    told("MODIFIED", storageClass="COLD")
    with database.transaction() as tx:
        points.delete_point(tx, custody, cellar.vault, point.arn, now=point.created_at + 12 * DAY)
    told("DELETED")
    with database.transaction() as tx:
        points.bring_back_point(
            tx, custody, account=ACCOUNT, region=REGION, arn=point.arn, now=point.created_at + 13 * DAY
        )
    told("COMPLETED")
    assert cellar.keep(point.created_at + 102 * DAY).expired == 1
    told("DELETED")

    point = cellar.back_up(text="edited", lifecycle=Lifecycle(None, 100))
    told("COMPLETED")
    with database.transaction() as tx:
        # Somebody shortened its life in the row; its signed record keeps it.
        tx.execute(text("UPDATE recovery_point SET delete_at = 0 WHERE id = :id"), {"id": point.id})
    assert point.arn in cellar.keep(point.created_at + 2 * DAY).kept
    told("EXPIRED")


def test_each_change_of_a_vault_and_of_a_regions_settings_is_one_event(
    sqlite_database: Database, tmp_path: Path
) -> None:
    custody = a_custody(tmp_path / "storage")
    witness = Witness(sqlite_database)
    vault = a_vault(sqlite_database, custody)
    here: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "name": "Daily", "now": NOON}
    retention: dict[str, Any] = {"min_retention_days": 1, "max_retention_days": None, "changeable_for_days": None}
    policy = to_json(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Deny", "Principal": "*", "Action": "backup:DeleteRecoveryPoint", "Resource": "*"}
            ],
        }
    )
    acts: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("MODIFIED", "false", lambda tx: vaults.put_access_policy(tx, custody, policy=policy, **here)),
        ("MODIFIED", "true", lambda tx: vaults.put_lock(tx, custody, **retention, **here)),
        ("MODIFIED", "false", lambda tx: vaults.remove_lock(tx, custody, **here)),
        ("MODIFIED", "false", lambda tx: vaults.put_deletion_delay(tx, custody, delay=9 * DAY, **here)),
        ("DELETED", "false", lambda tx: vaults.delete_vault(tx, custody, **here)),
    ]
    created = witness.one()
    assert (created.state, created.detail["isLocked"]) == ("CREATED", "false")
    for state, is_locked, act in acts:
        with sqlite_database.transaction() as tx:
            act(tx)
        event = witness.one()
        assert event.detail == {"backupVaultName": "Daily", "state": state, "isLocked": is_locked}
        assert event.resources == (vault.arn,)
    with sqlite_database.transaction() as tx:
        update_region_settings(tx, ACCOUNT, REGION, opt_in={"EFS": False}, management={}, now=NOON)
    event = witness.one()
    assert event.detail["ResourceTypeOptInPreference"] == {"EFS": False}
    assert (event.state, event.resources, event.account) == ("MODIFIED", (), ACCOUNT)


def test_what_a_caller_writes_into_a_request_makes_no_event(sqlite_database: Database) -> None:
    witness = Witness(sqlite_database)
    forged = to_json({"detailType": "Backup Job State Change", "state": "FAILED", "resources": []})
    with sqlite_database.transaction() as tx:
        insert_row(
            tx, "audit_entry", kind="call", service="backup", operation="TagResource", decision="ALLOWED",
            account=ACCOUNT, region=REGION, parameters=forged, block=None,
        )  # fmt: skip
    assert witness.new() == []
