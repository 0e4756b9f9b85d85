"""Failures with one cause are one incident: opened once, counted, closed by what works again."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.access.builders import insert_row
from tests.docs.test_documents import blocks_of
from tests.job.builders import MACHINE, NOON, a_subject, set_columns
from tests.monitor.receiver import Receiver, receiving
from tests.monitor.test_state_events import Witness
from tests.running import (
    PATIENCE,
    REGION,
    ROLE,
    Running,
    configured,
    environment,
    eventually,
    found_organization,
    holdfast,
    join,
    refusal,
)
from tests.running import started as running

from holdfast.cli.tree import make_tree
from holdfast.database.connection import Database
from holdfast.job import service
from holdfast.job.model import BackupRequest, Category, Completed, Failed, Fault, Kind, Outcome, State
from holdfast.monitor import incidents
from holdfast.monitor.incident import (
    FOLLOWS,
    CauseKind,
    Ended,
    IncidentClosedError,
    IncidentState,
    UnknownIncidentError,
    cause_of,
    proofs_of,
)
from holdfast.monitor.route import Event, ended_jobs
from holdfast.trail.reading import changes_in_block
from holdfast.wire.model import MODEL_DIRECTORY

HOUR = timedelta(hours=1)
GUIDE = "docs/how-to/follow-incidents.md"


def an_ended_job(message: str = "no", category: Category = Category.FATAL_ERROR, **changes: Any) -> Ended:
    subject = a_subject()
    job = Ended(
        id="job",
        kind=Kind.BACKUP,
        account=subject.account,
        region=subject.region,
        state=State.FAILED,
        category=category,
        message=message,
        role_arn=subject.role_arn,
        vault_arn=subject.vault_arn,
        storage="main",
        key_arn=f"arn:aws:kms:{subject.region}:{subject.account}:key/k-1",
        resource_arn=subject.resource_arn,
        source_url="file:///srv/www",
        site="local",
        unit_path="",
        monitored_by=None,
        started_at=NOON,
        completed_at=NOON,
        fault=Fault.NOTHING,
    )
    return replace(job, **changes)


ONE = an_ended_job()
CASES: list[tuple[str, Ended, CauseKind, str]] = [
    ("role missing", an_ended_job(f"The role {ONE.role_arn} does not exist", Category.ACCESS_DENIED),
     CauseKind.BACKUP_ROLE, "arn:aws:iam::$account:role/backup"),
    ("role of a restore", an_ended_job(f"The role {ONE.role_arn} may not", Category.ACCESS_DENIED, kind=Kind.RESTORE),
     CauseKind.RESTORE_ROLE, "arn:aws:iam::$account:role/backup"),
    ("vault missing", an_ended_job(f"backup vault {ONE.vault_arn} does not exist", Category.RESOURCE_NOT_FOUND),
     CauseKind.VAULT, "arn:aws:backup:eu-central-1:$account:backup-vault:main"),
    ("vault's lock", an_ended_job("main keeps for at most 3 days", Category.INVALID_LIFECYCLE),
     CauseKind.VAULT, "arn:aws:backup:eu-central-1:$account:backup-vault:main"),
    ("key disabled", an_ended_job(f"{ONE.key_arn} is disabled", Category.KMS_KEY_ERROR),
     CauseKind.KEY, "arn:aws:kms:eu-central-1:$account:key/k-1"),
    ("another key", an_ended_job("arn:aws:kms:r:999999999999:key/k-2 is not shared", Category.KMS_KEY_ERROR),
     CauseKind.KEY, "arn:aws:kms:r:999999999999:key/k-2"),
    ("not granted", an_ended_job("nothing is granted", Category.ACCESS_DENIED), CauseKind.GRANT, "site local"),
    ("storage full", an_ended_job("disk full", fault=Fault.STORAGE), CauseKind.STORAGE, "main"),
    ("storage denied", an_ended_job("403", Category.ACCESS_DENIED, fault=Fault.STORAGE), CauseKind.STORAGE, "main"),
    ("directory gone", an_ended_job("gone", Category.RESOURCE_NOT_FOUND, fault=Fault.SOURCE),
     CauseKind.SOURCE, ONE.resource_arn),
    ("server away", an_ended_job("refused", fault=Fault.SOURCE, source_url="postgresql://db.example/shop"),
     CauseKind.SOURCE, "db.example from site local"),
    ("not registered", an_ended_job("is not registered", Category.RESOURCE_NOT_FOUND), CauseKind.SOURCE,
     ONE.resource_arn),
    ("never started", an_ended_job("no mover", Category.JOB_EXPIRED, started_at=None),
     CauseKind.START_WINDOW, "site local"),
    ("took too long", an_ended_job("too long", Category.JOB_EXPIRED), CauseKind.COMPLETION_WINDOW, ONE.resource_arn),
    ("busy", an_ended_job("busy", Category.CONCURRENT_JOB), CauseKind.COMPLETION_WINDOW, ONE.resource_arn),
    ("unforeseen", an_ended_job("it met 17 of /srv/a in arn:aws:x:y"), CauseKind.OTHER, "it met * of * in *"),
]  # fmt: skip


@pytest.mark.parametrize(("job", "kind", "thing"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_cause_is_what_is_at_fault_not_the_resource(job: Ended, kind: CauseKind, thing: str) -> None:
    cause = cause_of(job)
    assert (cause.kind, cause.thing) == (kind, thing)
    if kind is not CauseKind.KEY or job.key_arn in job.message:
        assert (cause.kind, cause.proof) in proofs_of(job), "when the same job succeeds, it is over"


def test_what_is_closed_stays_closed() -> None:
    assert FOLLOWS[IncidentState.CLOSED] == frozenset()
    assert set(FOLLOWS) == set(IncidentState)


class Night:
    """Jobs of many accounts that end, and what is told of it."""

    def __init__(self, database: Database) -> None:
        self.database, self.witness = database, Witness(database)
        with database.transaction() as tx:
            insert_row(
                tx, "organization", id="o-1", management_account="000000000001", root_id="r-1", feature_set="ALL"
            )
            for number in range(1, 5):
                insert_row(tx, "account", id=f"{number:012}", email=f"{number}@example.com", organization_id="o-1")
            insert_row(tx, "service_access", organization_id="o-1", principal="backup.amazonaws.com")

    def end(self, account: int, name: str, outcome: Outcome, *, at: int) -> None:
        """A job of an account's resource starts and ends in an hour of the night."""
        owner, now = f"{account:012}", NOON + at * HOUR
        role = f"arn:aws:iam::{owner}:role/Backup"
        request = BackupRequest(a_subject(account=owner, name=name, role_arn=role))
        with self.database.transaction() as tx:
            job = service.start_backup_job(tx, request, now=now)
            set_columns(tx, job.id, monitored_by="o-1")
            claim = service.claim(tx, job.id, None, now=now, machine_now=MACHINE, mover="m")
            assert claim is not None
            service.complete(tx, job.id, claim.epoch, outcome, now=now, machine_now=MACHINE)

    def no_role(self, account: int, name: str, *, at: int) -> None:
        words = f"The role arn:aws:iam::{account:012}:role/Backup does not exist"
        self.end(account, name, Failed(words, Category.ACCESS_DENIED), at=at)

    def told(self, *, at: int) -> list[Event]:
        """Look at what came, and give the incidents' events."""
        self.witness.new()
        with self.database.transaction() as tx:
            entries = changes_in_block(tx, self.witness.blocks)
            incidents.follow(tx, ended_jobs(entries), now=NOON + at * HOUR)
        return [event for event in self.witness.new() if event.detail_type == "Holdfast Incident State Change"]

    def listed(self, caller: int, **wanted: Any) -> list[Any]:
        with self.database.reading() as tx:
            return incidents.list_incidents(tx, f"{caller:012}", limit=10, now=NOON, **wanted)


@pytest.fixture
def night(database: Database) -> Night:
    return Night(database)


def test_a_role_that_is_missing_in_many_accounts_is_one_incident_until_the_last_recovers(night: Night) -> None:
    for account in (2, 3):
        for name in ("fs-1", "fs-2"):
            night.no_role(account, name, at=0)
    (opened,) = night.told(at=0)
    assert (opened.account, opened.state) == ("000000000001", "OPEN")
    assert opened.detail["thing"] == "arn:aws:iam::$account:role/Backup"
    assert (opened.detail["affectedResources"], opened.detail["affectedAccounts"]) == (4, 2)
    night.no_role(4, "fs-9", at=1)
    night.no_role(2, "fs-1", at=1)
    assert night.told(at=1) == [], "announced once, whatever else fails for it"
    (incident,) = night.listed(1)
    assert (incident.resources, incident.accounts, incident.unrecovered) == (5, 3, 5)
    (theirs,) = night.listed(3)
    assert (theirs.id, theirs.resources, theirs.accounts) == (incident.id, 2, 1)
    night.end(2, "fs-7", Completed(), at=2)
    assert night.told(at=2) == []
    assert night.listed(1)[0].unrecovered == 3
    for account in (3, 4):
        night.end(account, "fs-7", Completed(), at=3)
    (closed,) = night.told(at=3)
    assert (closed.state, closed.detail["incidentId"]) == ("CLOSED", incident.id)
    assert night.listed(1, state=IncidentState.OPEN) == []
    night.no_role(2, "fs-1", at=4)
    (again,) = night.told(at=4)
    assert again.detail["incidentId"] != incident.id
    assert [each.state.value for each in night.listed(1)] == ["OPEN", "CLOSED"]


def test_what_began_before_a_failure_does_not_show_that_it_is_over(night: Night) -> None:
    night.no_role(2, "fs-1", at=2)
    night.end(2, "fs-2", Completed(), at=1)
    (opened,) = night.told(at=3)
    assert opened.state == "OPEN"
    night.end(2, "fs-1", Failed("disk full", fault=Fault.STORAGE), at=4)
    (other,) = night.told(at=4)
    assert other.detail["cause"] == "STORAGE"


def test_an_acknowledged_incident_is_silent_until_it_closes(night: Night) -> None:
    night.no_role(2, "fs-1", at=0)
    (opened,) = night.told(at=0)
    found = str(opened.detail["incidentId"])
    for stranger in ("000000000002", "000000000003"):
        with night.database.transaction() as tx, pytest.raises(UnknownIncidentError):
            incidents.acknowledge(tx, stranger, found, who="me", now=NOON)
    with night.database.transaction() as tx:
        first = incidents.acknowledge(tx, "000000000001", found, who="me", now=NOON)
        assert incidents.acknowledge(tx, "000000000001", found, who="you", now=NOON) == first
    assert [event.state for event in night.witness.new()] == ["ACKNOWLEDGED"]
    night.no_role(3, "fs-1", at=1)
    assert night.told(at=1) == []
    for account in (2, 3):
        night.end(account, "fs-1", Completed(), at=2)
    assert [event.state for event in night.told(at=2)] == ["CLOSED"]
    with night.database.transaction() as tx, pytest.raises(IncidentClosedError):
        incidents.acknowledge(tx, "000000000001", found, who="me", now=NOON)


def test_what_can_recover_no_more_keeps_no_incident_open(night: Night) -> None:
    with night.database.transaction() as tx:
        for account, name in ((2, "fs-1"), (3, "fs-1")):
            subject = a_subject(account=f"{account:012}", name=name)
            insert_row(
                tx, "resource", account=subject.account, region=subject.region, arn=subject.resource_arn, name=name
            )
    for account in (2, 3):
        night.no_role(account, "fs-1", at=0)
    (opened,) = night.told(at=0)
    incidents.close_what_is_gone(night.database, now=NOON)
    assert night.listed(1)[0].unrecovered == 2, "both may still recover"
    with night.database.transaction() as tx:
        tx.execute(text("UPDATE resource SET deleted_at = 1 WHERE account = '000000000002'"))
        tx.execute(text("UPDATE account SET organization_id = NULL WHERE id = '000000000003'"))
    night.witness.new()
    incidents.close_what_is_gone(night.database, now=NOON + HOUR)
    (closed,) = night.witness.new()
    assert (closed.state, closed.detail["incidentId"]) == ("CLOSED", opened.detail["incidentId"])


def into_a_vault_that_is_missing() -> str:
    rule = {"schedule_expression": {"@@assign": "cron(0 3 ? * * *)"}, "target_backup_vault_name": {"@@assign": "Later"}}
    role = {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"}
    tagged = {"iam_role_arn": role, "tag_key": {"@@assign": "kept"}, "tag_value": {"@@assign": ["yes"]}}
    plan = {"regions": {"@@assign": [REGION]}, "rules": {"Nightly": rule}, "selections": {"tags": {"kept": tagged}}}
    return json.dumps({"plans": {"Nightly": plan}})


@pytest.fixture
def pager() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def server(tmp_path: Path, pager: Receiver) -> Iterator[Running]:
    configured(tmp_path / "data", f'[outgoing]\nallow = ["{pager.place}"]\n')
    with running("dev", tmp_path / "data") as server:
        yield server


def test_a_vault_that_two_accounts_lack_is_announced_once_and_closed_when_both_have_it(
    server: Running, pager: Receiver
) -> None:
    root = found_organization(server)
    organizations, own = server.client("organizations"), server.client("holdfast")
    members = [join(server, name) for name in ("shop", "blog")]
    for member in members:
        make_tree(member.sandbox / "files", theme="night", files=1)
        member.register("files", member.sandbox / "files", Tags={"kept": "yes"})
    policy = organizations.create_policy(
        Type="BACKUP_POLICY", Name="nightly", Description="", Content=into_a_vault_that_is_missing()
    )
    organizations.attach_policy(PolicyId=policy["Policy"]["PolicySummary"]["Id"], TargetId=root)
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
    told: dict[str, Any] = {**keys, "AWS_ENDPOINT_URL": server.url, "AWS_DATA_PATH": str(MODEL_DIRECTORY)}
    (route,) = blocks_of(GUIDE, "python")
    code = route.replace("https://pager.example.com/backups", pager.url)
    subprocess.run([sys.executable, "-c", code], env=environment(**told), check=True, timeout=PATIENCE)
    server.settle(24 * 3600)
    eventually(lambda: pager.came, "the incident is announced")
    (incident,) = own.list_incidents()["Incidents"]
    assert (incident["Cause"], incident["State"]) == ("VAULT", "OPEN")
    assert (incident["AffectedAccounts"], incident["AffectedResources"]) == (2, 2)
    one = {"IncidentId": incident["IncidentId"]}
    pages = own.get_paginator("describe_incident").paginate(**one, PaginationConfig={"PageSize": 1})
    affected = [each for page in pages for each in page["Affected"]]
    assert {each["AccountId"] for each in affected} == {member.id for member in members}
    assert own.list_incidents(UnitId=root, State="OPEN")["Incidents"] == [incident]
    assert own.list_incidents(AccountId=server.client("sts").get_caller_identity()["Account"])["Incidents"] == []
    theirs = members[0].client("holdfast")
    (seen,) = theirs.list_incidents()["Incidents"]
    assert (seen["IncidentId"], seen["AffectedAccounts"]) == (incident["IncidentId"], 1)
    assert refusal(theirs.list_incidents, AccountId=members[1].id)[0] == "AccessDeniedException"
    assert refusal(theirs.acknowledge_incident, **one)[0] == "ResourceNotFoundException"
    assert refusal(own.describe_incident, IncidentId="none")[0] == "ResourceNotFoundException"
    for line in "".join(blocks_of(GUIDE, "sh")).splitlines():
        program, *words = shlex.split(line.replace("INCIDENT_ID", incident["IncidentId"]))
        assert program == "holdfast"
        assert incident["IncidentId"] in holdfast(*words, **told).stdout
    shown = json.loads(holdfast("incidents", incident["IncidentId"], "--json", **told).stdout)
    assert shown["incidents"][0]["State"] == "ACKNOWLEDGED"
    assert len(shown["affected"]) == 2
    for member in members:
        member.client("backup").create_backup_vault(BackupVaultName="Later")
    server.settle(24 * 3600)
    eventually(lambda: own.list_incidents()["Incidents"][0]["State"] == "CLOSED", "it closes by itself")
    assert refusal(own.acknowledge_incident, **one)[0] == "InvalidRequestException"
    eventually(lambda: len(pager.came) == 3, "opened, acknowledged, closed: and nothing else")
    assert [body["data"]["detail"]["state"] for body in pager.bodies()] == ["OPEN", "ACKNOWLEDGED", "CLOSED"]
    assert pager.bodies()[0]["type"] == "holdfast.HoldfastIncidentStateChange"
