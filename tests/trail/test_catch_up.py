"""After an older database was put back, the trail goes on after what storage has of it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast.core.clock import ManualMachineTime
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.rows import read_rows, tables, write_rows
from holdfast.repository.storage import MemoryStorage
from holdfast.trail.catch_up import TrailDiffersError, take_back
from holdfast.trail.model import TrailKey
from holdfast.trail.sealing import Sealer, check_trail
from holdfast.trail.service import Decision, Entry, record

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = TrailKey.of(RootKey(bytes(range(32))))


def write(database: Database, *operations: str) -> None:
    with database.transaction() as tx:
        for operation in operations:
            record(tx, Entry(NOW, "111122223333", "eu-north-1", "iam", operation, "arn:x", Decision.ALLOWED, "policy"))


def sealer(database: Database, storage: MemoryStorage) -> Sealer:
    return Sealer(database, storage, KEY, ManualMachineTime(NOW))


def copy(source: Database, target: Database) -> None:
    with source.reading() as old, target.transaction() as new:
        for table in tables():
            write_rows(new, table, read_rows(old, table))


def findings(database: Database, storage: MemoryStorage) -> tuple[str, ...]:
    with database.reading() as tx:
        return check_trail(tx, storage, KEY.public).findings


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.mark.parametrize("sealed_before", [0, 1, 2])
def test_what_only_storage_remembers_comes_back(
    database: Database, empty_database: Database, storage: MemoryStorage, sealed_before: int
) -> None:
    write(database, "One", "Two")
    if sealed_before:
        sealer(database, storage).run()
    write(database, "Three")
    if sealed_before > 1:
        sealer(database, storage).run()
    copy(database, empty_database)
    write(database, "Four", "Five", "Five")
    sealer(database, storage).run()

    with empty_database.transaction() as tx:
        back = take_back(tx, storage, KEY.public)
    assert back.changes[("111122223333", "iam:Five")] == 2
    assert back.entries == 6 - (0, 2, 3)[sealed_before]
    assert findings(empty_database, storage) == ()
    write(empty_database, "Six")
    sealer(empty_database, storage).run()
    assert findings(empty_database, storage) == ()
    with empty_database.reading() as tx:
        told = tx.execute(text("SELECT operation FROM audit_entry ORDER BY id")).scalars().all()
    assert told == ["One", "Two", "Three", "Four", "Five", "Five", "Six"]


def test_a_block_that_never_reached_storage_gives_way(
    database: Database, empty_database: Database, storage: MemoryStorage
) -> None:
    write(database, "One")
    elsewhere = MemoryStorage()
    sealer(database, elsewhere).run()
    with database.transaction() as tx:
        tx.execute(text("UPDATE audit_block SET stored = false"))
    copy(database, empty_database)
    write(database, "Two")
    with database.transaction() as tx:  # its first block was lost with the machine, and another was sealed
        tx.execute(text("UPDATE audit_entry SET block = NULL"))
        tx.execute(text("DELETE FROM audit_block"))
    sealer(database, storage).run()
    with empty_database.transaction() as tx:
        take_back(tx, storage, KEY.public)
    assert findings(empty_database, storage) == ()


def test_nothing_is_taken_from_a_trail_that_was_touched(
    sqlite_database: Database, empty_database: Database, storage: MemoryStorage
) -> None:
    write(sqlite_database, "One")
    sealer(sqlite_database, storage).run()
    copy(sqlite_database, empty_database)
    write(sqlite_database, "Two")
    sealer(sqlite_database, storage).run()
    name = max(storage.files)
    storage.files[name] = storage.files[name].replace(b"iam", b"kms")
    with pytest.raises(TrailDiffersError, match="block 2"), empty_database.transaction() as tx:
        take_back(tx, storage, KEY.public)


def test_the_trail_of_another_installation_is_refused(
    sqlite_database: Database, empty_database: Database, storage: MemoryStorage, tmp_path: Path
) -> None:
    write(sqlite_database, "One")
    sealer(sqlite_database, storage).run()
    write(empty_database, "Other")
    sealer(empty_database, MemoryStorage()).run()
    with pytest.raises(TrailDiffersError, match="not of one installation"), empty_database.transaction() as tx:
        take_back(tx, storage, KEY.public)
