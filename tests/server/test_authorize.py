"""Authorization as several processes do it: what one changes binds the next request in every other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.access.builders import HERE, allow, deny, document, insert_row
from tests.server.test_upkeep import NOW, ROOT

from holdfast.access import policy_service, service
from holdfast.access.credentials import create_access_key, set_key_active
from holdfast.access.model.identity import Kind
from holdfast.core.clock import ManualClock, ManualMachineTime
from holdfast.core.errors import DeniedError
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings
from holdfast.database.connection import Database
from holdfast.server.authorize import AccessRefusedError, Authorizer
from holdfast.wire.call import Call, Instance
from holdfast.wire.paging import PageTokens

REGION = "eu-north-1"


@pytest.fixture
def instance(database: Database, tmp_path: Path) -> Instance:
    settings = Settings(data_dir=tmp_path, mode=Mode.DEV, regions={}, storages={}, sites={})
    with database.transaction() as tx:
        insert_row(tx, "account", id=HERE, name="a", email="a", status="ACTIVE")
    return Instance(settings, ROOT, ManualClock(NOW), ManualMachineTime(NOW), database, PageTokens(b"key"))


def ask(authorizer: Authorizer, instance: Instance, key_id: str, operation: str, **parameters: Any) -> str:
    """Return why a call is allowed, as the dispatcher asks."""
    credential = authorizer.credential(key_id, None)
    if credential is None:
        raise DeniedError("nobody")
    with instance.database.reading() as tx:
        return authorizer.authorize(a_call(tx, instance, key_id, operation, credential.principal), parameters)


def a_call(tx: sa.Connection, instance: Instance, key_id: str, operation: str, caller: Any) -> Call:
    return Call(
        service="backup",
        operation=operation,
        region=REGION,
        partition="aws",
        request_id="r",
        source_ip="203.0.113.9",
        user_agent="",
        access_key_id=key_id,
        caller=caller,
        now=NOW,
        tx=tx,
        instance=instance,
    )


def test_a_change_binds_the_next_request_in_every_process(instance: Instance) -> None:
    here, there = Authorizer(instance), Authorizer(instance)
    database = instance.database
    with database.transaction() as tx:
        service.create_user(tx, HERE, "maria", now=NOW)
        policy_service.put_inline(tx, Kind.USER, HERE, "maria", "own", document(allow("backup:*")))
        key = create_access_key(tx, ROOT, HERE, "maria", now=NOW)[0].id

    def put(*statements: dict[str, Any]) -> None:
        with database.transaction() as tx:
            policy_service.put_inline(tx, Kind.USER, HERE, "maria", "own", document(*statements))

    def suspend() -> None:
        with database.transaction() as tx:
            set_key_active(tx, HERE, "maria", key, active=False)

    for authorizer in (here, there):
        assert "statement 1" in ask(authorizer, instance, key, "ListBackupJobs")
    changes: list[tuple[Callable[[], None], bool]] = [
        (lambda: put(allow("s3:*")), False),
        (lambda: put(allow("backup:*")), True),
        (lambda: put(allow("*"), deny("backup:List*")), False),
        (lambda: put(allow("*")), True),
        (suspend, False),
    ]
    for change, passes in changes:
        change()
        for authorizer in (here, there):
            if passes:
                ask(authorizer, instance, key, "ListBackupJobs")
            else:
                with pytest.raises(DeniedError):
                    ask(authorizer, instance, key, "ListBackupJobs")


def test_what_was_decided_in_a_transaction_that_was_rolled_back_is_not_remembered(instance: Instance) -> None:
    database, authorizer = instance.database, Authorizer(instance)
    with database.transaction() as tx:
        service.create_user(tx, HERE, "maria", now=NOW)
        policy_service.put_inline(tx, Kind.USER, HERE, "maria", "own", document(allow("s3:*")))
        key = create_access_key(tx, ROOT, HERE, "maria", now=NOW)[0].id
    credential = authorizer.credential(key, None)
    assert credential is not None
    with database.transaction() as tx:
        savepoint = tx.begin_nested()
        policy_service.put_inline(tx, Kind.USER, HERE, "maria", "own", document(allow("backup:*")))
        authorizer.authorize(a_call(tx, instance, key, "ListBackupJobs", credential.principal), {})
        savepoint.rollback()
    # Somebody else's change now raises the number to where that one had raised it.
    with database.transaction() as tx:
        policy_service.put_inline(tx, Kind.USER, HERE, "maria", "other", document(allow("ec2:*")))
    with pytest.raises(AccessRefusedError):
        ask(authorizer, instance, key, "ListBackupJobs")


def test_what_has_no_rule_is_open_to_nobody(instance: Instance) -> None:
    with instance.database.transaction() as tx:
        service.create_user(tx, HERE, "admin", now=NOW)
        policy_service.put_inline(tx, Kind.USER, HERE, "admin", "own", document(allow("*")))
        key = create_access_key(tx, ROOT, HERE, "admin", now=NOW)[0].id
    authorizer = Authorizer(instance)
    with pytest.raises(DeniedError, match="no rule of access"):
        ask(authorizer, instance, key, "MakeEverythingDisappear")
    assert authorizer.is_changing("backup", "MakeEverythingDisappear")


def test_a_vaults_policy_counts_until_the_vault_is_gone(instance: Instance) -> None:
    database = instance.database
    with database.transaction() as tx:
        service.create_user(tx, HERE, "admin", now=NOW)
        policy_service.put_inline(tx, Kind.USER, HERE, "admin", "own", document(allow("*")))
        key = create_access_key(tx, ROOT, HERE, "admin", now=NOW)[0].id
        keeping = document({**deny("backup:DescribeBackupVault"), "Principal": "*"})
        insert_row(tx, "vault", id="v", account=HERE, region=REGION, name="Daily", policy=keeping, deleted_at=2**63 - 1)
    authorizer = Authorizer(instance)
    with pytest.raises(AccessRefusedError, match="explicit deny in a resource-based policy"):
        ask(authorizer, instance, key, "DescribeBackupVault", BackupVaultName="Daily")
    with database.transaction() as tx:
        tx.execute(text("UPDATE vault SET deleted_at = 1"))
        tx.execute(text("UPDATE access_version SET version = version + 1"))
    ask(authorizer, instance, key, "DescribeBackupVault", BackupVaultName="Daily")


def test_a_key_opened_by_another_root_key_signs_nothing(instance: Instance) -> None:
    with instance.database.transaction() as tx:
        service.create_user(tx, HERE, "maria", now=NOW)
        key = create_access_key(tx, RootKey.generate(), HERE, "maria", now=NOW)[0].id
    with pytest.raises(Exception, match="does not open with this key"):
        Authorizer(instance).credential(key, None)
