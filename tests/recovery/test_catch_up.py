"""A crash between a record and its commit, at every place: the next change takes over what storage says."""

from pathlib import Path
from typing import Any

import pytest
from tests.vault.builders import ACCOUNT, DAY, NOON, REGION, a_custody, a_repository, a_vault, back_up, made

from holdfast.database.connection import Database
from holdfast.recovery import service, store
from holdfast.recovery.catch_up import FEW, RecordsFaultyError, catch_up, recorded
from holdfast.recovery.model import UnknownPointError
from holdfast.repository.storage import StorageFailedError
from holdfast.vault import ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.ledger import CatalogueBehindError
from holdfast.vault.model import Lock, Vault
from holdfast.vault.records import Kind, Written, record_name
from holdfast.vault.service import get_vault, put_access_policy, put_lock, remove_lock

PLACE: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "name": "Daily"}
NO_DAYS: dict[str, Any] = {"min_retention_days": 7, "max_retention_days": None, "changeable_for_days": None}


class PowerCutError(Exception):
    """The process dies here."""


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return a_custody(tmp_path / "storage")


def interrupted_lock(database: Database, custody: Custody) -> None:
    with database.transaction() as tx:
        put_lock(tx, custody, **PLACE, **NO_DAYS, now=NOON)
        raise PowerCutError


def vault_now(database: Database) -> Vault:
    with database.reading() as tx:
        return get_vault(tx, ACCOUNT, REGION, "Daily")


def records(database: Database, custody: Custody, vault: Vault) -> list[Written]:
    with database.reading() as tx:
        end = vaults.head_of(tx, vault.id)
    trusted = frozenset({custody.signer.public})
    found, faults = ledger.read(custody.storage_of(vault), vault.id, trusted=trusted, end=end)
    assert faults == ()
    assert end.sequence == len(found)
    return list(found)


def test_a_lock_whose_commit_was_lost_binds_when_the_next_change_is_made(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    with pytest.raises(PowerCutError):
        interrupted_lock(database, custody)
    assert vault_now(database).lock is None
    with database.transaction() as tx:
        recorded(tx, custody, lambda: put_access_policy(tx, custody, **PLACE, policy=None, now=NOON))
    assert vault_now(database).lock == Lock(7, None)
    kinds = [written.record.kind for written in records(database, custody, vault)]
    assert kinds == ["vault-created", "lock-put", "policy-put"]


def test_what_was_to_be_done_is_judged_again_after_catching_up(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    point = back_up(database, custody, vault).point

    def interrupted() -> None:
        with database.transaction() as tx:
            service.delete_point(tx, custody, vault, point.arn, now=NOON)
            raise PowerCutError

    with pytest.raises(PowerCutError):
        interrupted()
    with database.transaction() as tx, pytest.raises(UnknownPointError):
        recorded(tx, custody, lambda: service.delete_point(tx, custody, vault, point.arn, now=NOON + DAY))
    with database.transaction() as tx:
        service.bring_back_point(tx, custody, account=ACCOUNT, region=REGION, arn=point.arn, now=NOON)
    assert len(records(database, custody, vault)) == 5


def test_a_jobs_record_follows_after_one_whose_commit_was_lost(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    row, _ = a_repository(database, custody, vault)
    with pytest.raises(PowerCutError):
        interrupted_lock(database, custody)
    one = service.record_point(database, custody, made(vault, row), now=NOON)
    with database.transaction() as tx:
        service.catalogue_point(tx, one)
        assert vaults.pending(tx, vault.id) == []
    assert vault_now(database).lock == Lock(7, None)
    kinds = [written.record.kind for written in records(database, custody, vault)]
    assert kinds == ["vault-created", "repository-created", "lock-put", "point-made"]


def test_records_that_wait_are_put_by_whoever_writes_next(
    sqlite_database: Database, custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = a_vault(sqlite_database, custody)
    row, _ = a_repository(sqlite_database, custody, vault)

    def fails(*_: object) -> int:
        raise StorageFailedError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(ledger, "put_pending", fails)
        with pytest.raises(StorageFailedError):
            service.record_point(sqlite_database, custody, made(vault, row), now=NOON)
    assert ledger.last_number(custody.storage_of(vault)) == 2
    with sqlite_database.transaction() as tx:
        put_lock(tx, custody, **PLACE, **NO_DAYS, now=NOON)
    assert [written.record.kind for written in records(sqlite_database, custody, vault)][2:] == [
        "point-made",
        "lock-put",
    ]


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_waiting_records_of_which_some_are_there_keep_their_order(
    sqlite_database: Database, custody: Custody, writes: int
) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.transaction() as tx:
        for number in range(3):
            ledger.append(tx, custody, vault, Kind.TAGS_PUT, {"arn": vault.arn, "tags": {"n": str(number)}}, at=NOON)
        waiting = vaults.pending(tx, vault.id)
    for sequence, content in waiting[:writes]:
        custody.storage_of(vault).put(record_name(sequence), content)
    with sqlite_database.transaction() as tx:
        assert catch_up(tx, custody, vault.id) == 0
        ledger.flush(tx, custody, vault)
    told = [written.record.body.get("tags") for written in records(sqlite_database, custody, vault)[1:]]
    assert told == [{"n": "0"}, {"n": "1"}, {"n": "2"}]


def test_a_catalogue_that_is_too_far_behind_for_a_crash_is_not_trusted_with_changes(
    sqlite_database: Database, custody: Custody
) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.reading() as tx:
        before = vaults.head_of(tx, vault.id)
    with sqlite_database.transaction() as tx:
        for _ in range(FEW + 1):
            ledger.append(tx, custody, vault, Kind.POLICY_PUT, {"policy": None}, at=NOON)
        ledger.flush(tx, custody, vault)
    with sqlite_database.transaction() as tx:
        vaults.set_head(tx, vault.id, before)  # as an older copy would have it

    def remove() -> None:
        remove_lock(tx, custody, **PLACE, now=NOON)

    def lock() -> Lock:
        return put_lock(tx, custody, **PLACE, **NO_DAYS, now=NOON)

    with sqlite_database.transaction() as tx, pytest.raises(CatalogueBehindError, match="65 changes"):
        recorded(tx, custody, lock)
    with sqlite_database.transaction() as tx:
        assert catch_up(tx, custody, vault.id, most=None) == FEW + 1
        lock()
        remove()
    assert len(records(sqlite_database, custody, vault)) == FEW + 4


def test_nothing_is_taken_over_from_records_that_somebody_else_wrote(
    sqlite_database: Database, custody: Custody
) -> None:
    vault = a_vault(sqlite_database, custody)
    custody.storage_of(vault).put(record_name(2), b"{}")
    with sqlite_database.transaction() as tx, pytest.raises(RecordsFaultyError, match="record 2"):
        recorded(tx, custody, lambda: put_lock(tx, custody, **PLACE, **NO_DAYS, now=NOON))
    assert vault_now(sqlite_database).lock is None
    with sqlite_database.reading() as tx:
        assert store.announced(tx) == []
