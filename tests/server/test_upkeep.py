"""What time makes due for sessions and keys, and that it is written down."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast.access.credentials import import_access_key, session_token
from holdfast.access.model import root_caller
from holdfast.core.clock import ManualClock, ManualMachineTime
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings
from holdfast.database.connection import Database
from holdfast.key import service as keys
from holdfast.key.model import KeyNotFoundError
from holdfast.server.upkeep import keep_keys
from holdfast.wire.call import Instance
from holdfast.wire.paging import PageTokens

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROOT = RootKey(bytes(range(32)))
HERE = "111122223333"


@pytest.fixture
def instance(sqlite_database: Database, tmp_path: Path) -> Instance:
    settings = Settings(data_dir=tmp_path, mode=Mode.DEV, regions={}, storages={}, sites={})
    clock, machine = ManualClock(NOW), ManualMachineTime(NOW)
    return Instance(settings, ROOT, clock, machine, sqlite_database, PageTokens(b"key"))


def test_a_session_is_forgotten_an_hour_after_it_ended(instance: Instance) -> None:
    with instance.database.transaction() as tx:
        import_access_key(tx, ROOT, HERE, None, "AKIAROOT", "secret", now=NOW)
        session_token(tx, ROOT, root_caller(HERE), duration=timedelta(minutes=15), now=NOW)
    count = text("SELECT count(*) FROM session")
    machine = instance.machine
    assert isinstance(machine, ManualMachineTime)
    for passed, left in ((timedelta(minutes=74), 1), (timedelta(minutes=1), 0)):
        machine.advance(passed)
        keep_keys(instance, now=NOW)
        with instance.database.reading() as tx:
            assert tx.execute(count).scalar_one() == left


def test_what_happens_to_keys_by_itself_is_in_the_trail(instance: Instance) -> None:
    with instance.database.transaction() as tx:
        rotating, going = (keys.create_key(tx, ROOT, HERE, "eu-north-1", now=NOW) for _ in range(2))
        keys.set_rotation(tx, rotating, enabled=True, days=90)
        keys.schedule_deletion(tx, going, days=7, now=NOW)
    keep_keys(instance, now=NOW + timedelta(days=91))
    with instance.database.reading() as tx:
        assert keys.newest_version(tx, rotating.arn) == 2
        with pytest.raises(KeyNotFoundError):
            keys.get_key_by_arn(tx, going.arn)
        entries = tx.execute(text("SELECT operation, decision, parameters FROM audit_entry ORDER BY id")).all()
    assert [(entry.operation, entry.decision) for entry in entries] == [("RotateKey", "EVENT"), ("DeleteKey", "EVENT")]
    assert rotating.arn in entries[0].parameters
