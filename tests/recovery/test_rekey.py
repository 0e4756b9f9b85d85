"""Another root key: the old one opens nothing any more, the new one everything, and a crash loses neither."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.vault.builders import ACCOUNT, NOON, RECOVERY, ROOT_KEY, StillMachine, a_custody, a_vault, back_up, opened

from holdfast.core.errors import HoldfastError
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.key.service import get_key_by_arn, set_enabled
from holdfast.recovery.rebuild import rebuild
from holdfast.recovery.rekey import OtherRootKeyError, change_root_key, finish, is_unfinished, refuse_other_root_key
from holdfast.repository.cipher import Buffer
from holdfast.repository.storage import MemoryStorage, StorageFailedError
from holdfast.trail.model import TrailKey
from holdfast.trail.sealing import Sealer, check_trail
from holdfast.trail.service import Decision, Entry, record
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault
from holdfast.vault.repositories import access_for_job

NEW = RootKey(bytes(range(32, 64)))


@pytest.fixture
def custody(tmp_path: Path, sqlite_database: Database) -> Custody:
    return a_custody(tmp_path / "storage")


@pytest.fixture
def vault(sqlite_database: Database, custody: Custody) -> Vault:
    found = a_vault(sqlite_database, custody)
    back_up(sqlite_database, custody, found)
    return found


def under_new_key(custody: Custody) -> Custody:
    return Custody(custody.settings, NEW, custody.recovery_key)


def rekey(database: Database, custody: Custody, trail: MemoryStorage) -> Custody:
    after = under_new_key(custody)
    change_root_key(database, custody, after, now=NOON, account=ACCOUNT)
    finish(database, after, trail)
    return after


def points_back(database: Database, custody: Custody, private: bytes | None = None) -> int:
    """Rebuild an empty database from storage; return how many points can be opened, all of it being sound."""
    done = rebuild(database, custody, now=NOON, machine=StillMachine(NOON), recovery_private=private)
    assert done.is_sound, [each.faults for each in done.vaults]
    return sum(each.points - each.lost for each in done.vaults)


def test_the_new_key_opens_what_the_old_one_opened(sqlite_database: Database, custody: Custody, vault: Vault) -> None:
    after = rekey(sqlite_database, custody, MemoryStorage())
    back_up(sqlite_database, after, vault)
    with sqlite_database.reading() as tx:
        access = access_for_job(tx, after, _repository(sqlite_database))
    assert len(opened(after, access).snapshots()) == 2
    with sqlite_database.reading() as tx, pytest.raises(HoldfastError):
        access_for_job(tx, custody, _repository(sqlite_database))


def _repository(database: Database) -> str:
    with database.reading() as tx:
        return str(tx.exec_driver_sql("SELECT id FROM repository").scalar_one())


@pytest.mark.parametrize("by_recovery_key", [False, True], ids=["root key", "recovery key"])
def test_storage_and_the_new_key_alone_bring_everything_back(
    sqlite_database: Database, empty_database: Database, custody: Custody, vault: Vault, *, by_recovery_key: bool
) -> None:
    after = rekey(sqlite_database, custody, MemoryStorage())
    back_up(sqlite_database, after, vault)
    if by_recovery_key:
        lost = Custody(custody.settings, RootKey(b"x" * 32), custody.recovery_key)
        assert points_back(empty_database, lost, RECOVERY.private) == 2
    else:
        assert points_back(empty_database, after) == 2


def test_the_old_key_opens_nothing_in_storage(
    sqlite_database: Database, empty_database: Database, custody: Custody, vault: Vault
) -> None:
    rekey(sqlite_database, custody, MemoryStorage())
    done = rebuild(empty_database, custody, now=NOON, machine=StillMachine(NOON))
    (found,) = done.vaults
    assert any("does not open, and with it 1 recovery points" in fault for fault in found.faults), found.faults


def test_a_disabled_key_is_laid_under_the_new_root_key_as_well(
    sqlite_database: Database, empty_database: Database, custody: Custody, vault: Vault
) -> None:
    with sqlite_database.transaction() as tx:
        tx.exec_driver_sql("UPDATE kms_key SET manager = 'CUSTOMER'")
        set_enabled(tx, get_key_by_arn(tx, vault.key_arn), enabled=False)
    after = rekey(sqlite_database, custody, MemoryStorage())
    assert points_back(empty_database, after) == 1


def test_a_database_tells_which_root_key_it_belongs_to(
    sqlite_database: Database, custody: Custody, vault: Vault
) -> None:
    with sqlite_database.reading() as tx:
        refuse_other_root_key(tx, ROOT_KEY.id)
    rekey(sqlite_database, custody, MemoryStorage())
    with sqlite_database.reading() as tx:
        refuse_other_root_key(tx, NEW.id)
        with pytest.raises(OtherRootKeyError, match=NEW.id):
            refuse_other_root_key(tx, ROOT_KEY.id)


class Dying(MemoryStorage):
    """Storage that takes so many files and no more."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.takes = takes

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        """Take a file, or fail."""
        if self.takes <= 0:
            raise StorageFailedError("the storage is gone")
        self.takes -= 1
        super().put(name, *pieces, new=new)


def test_what_broke_off_after_the_commit_is_finished_later(
    sqlite_database: Database, empty_database: Database, custody: Custody, vault: Vault, tmp_path: Path
) -> None:
    after = under_new_key(custody)
    change_root_key(sqlite_database, custody, after, now=NOON, account=ACCOUNT)
    moved = (tmp_path / "storage").rename(tmp_path / "away")
    (tmp_path / "storage").write_text("in its way")
    with pytest.raises(HoldfastError):
        finish(sqlite_database, after, Dying(0))
    with sqlite_database.reading() as tx:
        assert is_unfinished(tx)
    (tmp_path / "storage").unlink()
    moved.rename(tmp_path / "storage")
    with pytest.raises(StorageFailedError):
        finish(sqlite_database, after, Dying(0))
    assert finish(sqlite_database, after, MemoryStorage()).repositories == 1
    with sqlite_database.reading() as tx:
        assert not is_unfinished(tx)
    assert finish(sqlite_database, after, MemoryStorage()).repositories == 0
    assert points_back(empty_database, after) == 1


def test_the_trail_goes_on_under_the_new_key_and_is_whole_by_either(
    sqlite_database: Database, custody: Custody, vault: Vault
) -> None:
    trail = MemoryStorage()
    later = NOON + timedelta(minutes=5)

    def write(key: RootKey, operation: str) -> None:
        with sqlite_database.transaction() as tx:
            record(tx, Entry(NOON, ACCOUNT, "eu-north-1", "iam", operation, "arn:x", Decision.ALLOWED, "policy"))
        Sealer(sqlite_database, trail, TrailKey.of(key), StillMachine(later)).run()

    write(ROOT_KEY, "First")
    after = rekey(sqlite_database, custody, trail)
    write(NEW, "Second")
    third = RootKey(b"3" * 32)
    change_root_key(sqlite_database, after, Custody(custody.settings, third, None), now=NOON, account=ACCOUNT)
    finish(sqlite_database, Custody(custody.settings, third, None), trail)
    write(third, "Third")
    for key in (ROOT_KEY, NEW, third):
        with sqlite_database.reading() as tx:
            assert check_trail(tx, trail, TrailKey.of(key).public).findings == ()
    with sqlite_database.reading() as tx:
        assert check_trail(tx, trail, TrailKey.of(RootKey(b"4" * 32)).public).findings
    name = next(each for each in trail.files if each.startswith("key-"))
    del trail.files[name]
    with sqlite_database.reading() as tx:
        assert check_trail(tx, trail, TrailKey.of(third).public).findings
