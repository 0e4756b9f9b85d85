"""Every call that could shorten the life of a recovery point, against everything that keeps it: what each comes to.

Over the wire where a client can do it, else as whoever has the host or the database would.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError
from tests.vault.builders import ACCOUNT, DAY, NOON, REGION, StillMachine, back_up, opened
from tests.vault.served import SECRET, Served, serving

from holdfast.cli.client import session
from holdfast.core.ids import new_uuid
from holdfast.core.settings import Mode
from holdfast.database.connection import Database
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import service, store
from holdfast.recovery.catch_up import recorded
from holdfast.recovery.guard import release_deletion
from holdfast.recovery.housekeeping import Housekeeper
from holdfast.recovery.model import PointKeptError, RecoveryPoint
from holdfast.vault.custody import Custody
from holdfast.vault.repositories import access_for_job
from holdfast.vault.service import get_vault

GUARDS: Final = ("none", "governance", "grace", "compliance", "hold")
LOCKED: Final = frozenset({"governance", "grace", "compliance"})
BEGIN: Final = NOON + 4 * DAY
"""When the calls come: a compliance lock that could be changed for three days is irrevocable then."""
END: Final = NOON + 30 * DAY
"""When it is looked whether the point is still there; its own lifecycle ends after 35 days."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served") / "data") as running:
        yield running


@dataclass
class Case:
    """A vault with one point, and what keeps it."""

    served: Served
    guard: str
    vault: str
    key: str
    point: RecoveryPoint
    hold: str | None
    old: Path
    """The database as it was before there was a lock or a hold."""

    @property
    def place(self) -> dict[str, str]:
        return {"BackupVaultName": self.vault, "RecoveryPointArn": self.point.arn}

    def client(self, name: str = "backup") -> Any:
        own = session(access_key=f"AKIA{ACCOUNT}", secret_key=SECRET, token=None, region=REGION)
        return own.client(name, endpoint_url=self.served.url)

    def tries(self, call: str, *, service_name: str = "backup", **given: Any) -> str:
        """Make a call; return the code of its refusal, or nothing."""
        try:
            getattr(self.client(service_name), call)(**given)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""

    def delete(self) -> str:
        return self.tries("delete_recovery_point", **self.place)

    def sql(self, statement: str, **values: Any) -> None:
        with self.served.database.transaction() as tx:
            tx.execute(sa.text(statement), values)

    def keep_house(self, now: datetime, *, machine: datetime | None = None) -> Housekeeper:
        keeper = Housekeeper(self.served.database, self.served.custody, StillMachine(machine or now))
        keeper.keep(now=now)
        return keeper

    def leave(self) -> None:
        """Take everything out of the database again, so that the next case does not keep house for this one."""
        for table, column in (("recovery_point", "vault_name"), ("vault", "name")):
            self.sql(f"DELETE FROM {table} WHERE {column} = :name", name=self.vault)
        self.sql("DELETE FROM repository WHERE vault_id NOT IN (SELECT id FROM vault)")

    def survives(self) -> bool:
        """Let the deletion delay and more pass; say whether the point can be listed and read as it was."""
        self.keep_house(BEGIN + DAY)
        self.keep_house(END)
        with self.served.database.reading() as tx:
            found = store.find_point_by_id(tx, self.point.id)
            if found is None or found.deleted_at is not None:
                return False
            access = access_for_job(tx, self.served.custody, found.repository_id)
        return bool(list(opened(self.served.custody, access).entries(found.snapshot_id)))


def a_case(served: Served, guard: str, old: Path) -> Case:
    served.clock.set(NOON)
    backup, name = served.client(), f"vault-{new_uuid()[:8]}"
    key = served.client("kms").create_key()["KeyMetadata"]["Arn"]
    backup.create_backup_vault(BackupVaultName=name, EncryptionKeyArn=key)
    with served.database.reading() as tx:
        vault = get_vault(tx, ACCOUNT, REGION, name)
    point = back_up(served.database, served.custody, vault, lifecycle=Lifecycle(delete_after_days=35)).point
    hold = None
    with (
        closing(sqlite3.connect(served.database.engine.url.database or "")) as now,
        closing(sqlite3.connect(old)) as then,
    ):
        now.backup(then)
    match guard:
        case "governance":
            backup.put_backup_vault_lock_configuration(BackupVaultName=name, MinRetentionDays=1)
        case "grace":
            backup.put_backup_vault_lock_configuration(BackupVaultName=name, MinRetentionDays=1, ChangeableForDays=100)
        case "compliance":
            backup.put_backup_vault_lock_configuration(BackupVaultName=name, MinRetentionDays=1, ChangeableForDays=3)
        case "hold":
            selection = {
                "VaultNames": [name],
                "DateRange": {"FromDate": NOON - DAY, "ToDate": NOON + DAY},
            }
            hold = backup.create_legal_hold(Title="case", Description="d", RecoveryPointSelection=selection)[
                "LegalHoldId"
            ]
    served.clock.set(BEGIN)
    return Case(served, guard, name, key, point, hold, old)


REFUSED, DONE = "InvalidRequestException", ""


def delete(case: Case) -> None:
    assert case.delete() == (DONE if case.guard == "none" else REFUSED)


def shorten(case: Case) -> None:
    code = case.tries("update_recovery_point_lifecycle", **case.place, Lifecycle={"DeleteAfterDays": 5})
    assert code == (REFUSED if case.guard in LOCKED else DONE)


def take_the_lock_off(case: Case) -> None:
    code = case.tries("delete_backup_vault_lock_configuration", BackupVaultName=case.vault)
    assert code == (REFUSED if case.guard == "compliance" else DONE)
    assert case.delete() == (REFUSED if case.guard in {"compliance", "hold"} else DONE)


def change_the_lock(case: Case) -> None:
    code = case.tries("put_backup_vault_lock_configuration", BackupVaultName=case.vault, MaxRetentionDays=1)
    assert code == (REFUSED if case.guard == "compliance" else DONE)
    assert case.delete() == REFUSED


def delete_the_vault(case: Case) -> None:
    assert case.tries("delete_backup_vault", BackupVaultName=case.vault) == REFUSED


def lower_the_delay(case: Case) -> None:
    code = case.tries("set_vault_deletion_delay", service_name="holdfast", BackupVaultName=case.vault, Days=1)
    assert code == (REFUSED if case.guard in LOCKED else DONE)
    assert case.delete() == (DONE if case.guard == "none" else REFUSED)


def disable_the_key(case: Case) -> None:
    assert case.tries("disable_key", service_name="kms", KeyId=case.key) == DONE
    case.keep_house(BEGIN + 20 * DAY)
    case.client("kms").enable_key(KeyId=case.key)


def cancel_the_hold(case: Case) -> None:
    if case.hold is not None:
        case.client().cancel_legal_hold(LegalHoldId=case.hold, CancelDescription="over")
    assert case.delete() == (REFUSED if case.guard in LOCKED else DONE)


def give_a_role_everything(case: Case) -> None:
    """Whoever may not delete gets to by way of a role that trusts them, and the vault's policy is taken away."""
    iam, name = case.client("iam"), f"role-{new_uuid()[:8]}"
    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}))
    deny = {"Effect": "Deny", "Principal": "*", "Action": "backup:DeleteRecoveryPoint", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    case.client().put_backup_vault_access_policy(BackupVaultName=case.vault, Policy=policy)
    assert case.delete() == "AccessDeniedException"
    case.client().delete_backup_vault_access_policy(BackupVaultName=case.vault)
    iam.attach_role_policy(RoleName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    assert case.delete() == (DONE if case.guard == "none" else REFUSED)


def jump_with_the_clock(case: Case) -> None:
    """Put the machine's date far on, where nobody moves civil time on purpose."""
    served = case.served
    settings = served.custody.settings
    strict = Custody(replace(settings, mode=Mode.SERVE), served.custody.root_key)
    machine = StillMachine(BEGIN)
    keeper = Housekeeper(served.database, strict, machine)
    keeper.keep(now=BEGIN)
    machine.advance(timedelta(minutes=1))
    assert keeper.keep(now=BEGIN + 400 * DAY).stopped is not None
    with served.database.transaction() as tx:
        release_deletion(tx)


def restore_an_old_database(case: Case) -> None:
    """Put back a database from before there was a lock or a hold, and delete by it."""
    served, old = case.served, Database.open(f"sqlite:///{case.old}")
    with old.transaction() as tx:

        def by_the_old() -> object:
            vault = get_vault(tx, ACCOUNT, REGION, case.vault)
            return service.delete_point(tx, served.custody, vault, case.point.arn, now=BEGIN)

        with nullcontext() if case.guard == "none" else pytest.raises(PointKeptError):
            recorded(tx, served.custody, by_the_old)
    old.close()


def edit_the_rows(case: Case) -> None:
    """Take lock, hold and lifecycle out of the rows, and delete."""
    case.sql("UPDATE vault SET locked = false, lock_at = NULL WHERE name = :name", name=case.vault)
    case.sql("DELETE FROM legal_hold_point WHERE point_id = :id", id=case.point.id)
    case.sql("UPDATE recovery_point SET delete_at = 1 WHERE id = :id", id=case.point.id)
    assert case.delete() == DONE


def hide_by_rows(case: Case) -> None:
    """Say in the row that the point was deleted long ago."""
    case.sql("UPDATE recovery_point SET deleted_at = 1, purge_at = 2, delete_at = 1 WHERE id = :id", id=case.point.id)


NOBODY: Final = frozenset[str]()
TABLE: Final[dict[Callable[[Case], None], frozenset[str]]] = {
    delete: frozenset({"none"}),
    shorten: frozenset({"none"}),
    take_the_lock_off: frozenset({"none", "governance", "grace"}),
    change_the_lock: NOBODY,
    delete_the_vault: NOBODY,
    lower_the_delay: frozenset({"none"}),
    disable_the_key: NOBODY,
    cancel_the_hold: frozenset({"none", "hold"}),
    give_a_role_everything: frozenset({"none"}),
    jump_with_the_clock: NOBODY,
    restore_an_old_database: frozenset({"none"}),
    edit_the_rows: frozenset({"none"}),
    hide_by_rows: NOBODY,
}
"""What is tried, and against which guards it ends the point's life before its time."""


SAMPLED: Final = [
    # A lock that can still be changed refuses as an irrevocable one does, but for being taken off.
    pytest.param(guard, marks=pytest.mark.deep) if guard in {"governance", "grace"} else guard
    for guard in GUARDS
]


@pytest.mark.parametrize("guard", SAMPLED)
@pytest.mark.parametrize("act", TABLE, ids=[act.__name__ for act in TABLE])
def test_what_shortens_the_life_of_a_point(
    served: Served, tmp_path: Path, act: Callable[[Case], None], guard: str
) -> None:
    case = a_case(served, guard, tmp_path / "old.db")
    try:
        act(case)
        assert case.survives() == (guard not in TABLE[act])
    finally:
        case.leave()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_key_that_a_kept_point_needs_is_not_deleted(served: Served, tmp_path: Path, guard: str) -> None:
    case = a_case(served, guard, tmp_path / "old.db")
    try:
        code = case.tries("schedule_key_deletion", service_name="kms", KeyId=case.key, PendingWindowInDays=7)
        assert code == (DONE if guard == "none" else "KMSInvalidStateException")
    finally:
        case.leave()
