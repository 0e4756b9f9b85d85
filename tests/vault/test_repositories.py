"""A vault's repositories: made once, their key beside them before anything else, opened without a database."""

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from tests.vault.builders import (
    ACCOUNT,
    NOON,
    OTHER,
    RECOVERY,
    REGION,
    StillMachine,
    a_custody,
    a_repository,
    a_vault,
    entries,
)

from holdfast.core.errors import InvalidInputError
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.key.model import InvalidCiphertextError, KeyDisabledError
from holdfast.key.service import create_key, get_key_by_arn, rotate, set_enabled
from holdfast.repository.key_file import NoRepositoryError
from holdfast.repository.repository import Repository
from holdfast.repository.storage import StorageFailedError
from holdfast.vault import repositories, store
from holdfast.vault.custody import Custody
from holdfast.vault.repositories import KEY_FILE, KeyFileDamagedError, RepositoryAccess
from holdfast.vault.storage import Below

MACHINE = StillMachine(NOON)


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return a_custody(tmp_path / "storage")


def restic(access: RepositoryAccess, *arguments: str) -> str:
    place = Path(access.storage_url.removeprefix("file://")) / access.path
    environment = os.environ | {"RESTIC_PASSWORD": access.password, "RESTIC_REPOSITORY": str(place)}
    done = subprocess.run(
        ["restic", "--no-cache", *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def access_to(database: Database, custody: Custody, repository_id: str) -> RepositoryAccess:
    with database.reading() as tx:
        return repositories.access_for_job(tx, custody, repository_id)


def test_there_is_one_repository_for_each_vault_and_source_account(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    with database.transaction() as tx:
        own = repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON)
        assert repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON) == own
        theirs = repositories.repository_for(tx, custody, vault, OTHER, now=NOON)
        again = repositories.new_generation(tx, custody, vault, ACCOUNT, now=NOON)
        assert repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON) == again
    assert own.path == f"vaults/{vault.id}/{ACCOUNT}/1"
    assert theirs.path == f"vaults/{vault.id}/{OTHER}/1"
    assert again.path == f"vaults/{vault.id}/{ACCOUNT}/2"
    access = [access_to(database, custody, row.id) for row in (own, theirs, again)]
    assert len({one.password for one in access}) == 3
    assert access[0].password not in repr(access[0])


def test_a_prepared_repository_is_one_that_restic_reads(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    row, repository = a_repository(database, custody, vault)
    assert row.ready
    repository.write(entries(["one", "two"]), at=NOON)
    access = access_to(database, custody, row.id)
    assert len(json.loads(restic(access, "snapshots", "--json"))) == 1
    restic(access, "check", "--read-data")


def test_the_key_lies_beside_a_repository_before_the_repository_is_there(
    sqlite_database: Database, custody: Custody, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.transaction() as tx:
        row = repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON)
    storage = Below(custody.storage("local"), row.path)
    password = access_to(sqlite_database, custody, row.id).password

    def fails(*_: object, **__: object) -> None:
        raise StorageFailedError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Repository, "create", fails)
        with pytest.raises(StorageFailedError):
            prepare(sqlite_database, custody, row.id)
    assert repositories.read_key_file(storage).password(custody.root_key) == password
    with pytest.raises(NoRepositoryError):
        Repository.open(storage, password, host_id="test")
    prepare(sqlite_database, custody, row.id)
    assert Repository.open(storage, password, host_id="test").snapshots() == []


def prepare(database: Database, custody: Custody, repository_id: str) -> store.RepositoryRow:
    return repositories.prepare_repository(database, custody, repository_id, host_id="test", machine=MACHINE, now=NOON)


def test_keys_that_a_crash_left_without_a_config_are_cleared_away(sqlite_database: Database, custody: Custody) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.transaction() as tx:
        row = repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON)
    storage = Below(custody.storage("local"), row.path)
    Repository.create(storage, access_to(sqlite_database, custody, row.id).password, host_id="test", at=NOON)
    storage.delete("config")
    prepare(sqlite_database, custody, row.id)
    assert len(list(storage.list("keys/"))) == 1


def test_the_root_key_opens_a_repository_without_any_database(sqlite_database: Database, custody: Custody) -> None:
    row, _ = a_repository(sqlite_database, custody, a_vault(sqlite_database, custody))
    beside = repositories.read_key_file(Below(custody.storage("local"), row.path))
    assert beside.password(custody.root_key) == access_to(sqlite_database, custody, row.id).password
    assert (beside.repository_id, beside.source_account, beside.generation) == (row.id, ACCOUNT, 1)
    assert beside.vault["name"] == "Daily"
    with pytest.raises(InvalidCiphertextError, match="does not open with this root key"):
        beside.password(RootKey(bytes(32)))


def test_the_recovery_key_opens_it_too_and_says_whose_records_to_trust(
    sqlite_database: Database, custody: Custody
) -> None:
    row, _ = a_repository(sqlite_database, custody, a_vault(sqlite_database, custody))
    beside = repositories.read_key_file(Below(custody.storage("local"), row.path))
    password = access_to(sqlite_database, custody, row.id).password
    assert beside.password_by_recovery(RECOVERY.private) == (password, custody.signer.public)
    with pytest.raises(InvalidCiphertextError):
        beside.password_by_recovery(bytes(range(32)))


def test_without_a_recovery_key_it_says_so(sqlite_database: Database, tmp_path: Path) -> None:
    custody = a_custody(tmp_path / "storage", recovery_key=None)
    row, _ = a_repository(sqlite_database, custody, a_vault(sqlite_database, custody))
    beside = repositories.read_key_file(Below(custody.storage("local"), row.path))
    with pytest.raises(KeyFileDamagedError, match="never sealed"):
        beside.password_by_recovery(RECOVERY.private)


def test_a_key_that_was_rotated_since_still_opens_what_it_wrapped(sqlite_database: Database, custody: Custody) -> None:
    with sqlite_database.transaction() as tx:
        key = create_key(tx, custody.root_key, ACCOUNT, REGION, now=NOON)
    vault = a_vault(sqlite_database, custody, key_arn=key.arn)
    row, _ = a_repository(sqlite_database, custody, vault)
    before = access_to(sqlite_database, custody, row.id)
    with sqlite_database.transaction() as tx:
        rotate(tx, custody.root_key, get_key_by_arn(tx, key.arn), now=NOON)
    assert access_to(sqlite_database, custody, row.id) == before


def test_a_disabled_key_opens_nothing_any_more(sqlite_database: Database, custody: Custody) -> None:
    with sqlite_database.transaction() as tx:
        key = create_key(tx, custody.root_key, ACCOUNT, REGION, now=NOON)
    row, _ = a_repository(sqlite_database, custody, a_vault(sqlite_database, custody, key_arn=key.arn))
    with sqlite_database.transaction() as tx:
        set_enabled(tx, key, enabled=False)
    with pytest.raises(KeyDisabledError):
        access_to(sqlite_database, custody, row.id)


def test_another_repositorys_key_file_is_never_overwritten(sqlite_database: Database, custody: Custody) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.transaction() as tx:
        row = repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON)
        other = repositories.repository_for(tx, custody, vault, OTHER, now=NOON)
    prepare(sqlite_database, custody, other.id)
    whole = custody.storage("local")
    theirs = whole.get(f"{other.path}/{KEY_FILE}")
    whole.put(f"{row.path}/{KEY_FILE}", theirs)
    with pytest.raises(KeyFileDamagedError, match="key of another repository"):
        prepare(sqlite_database, custody, row.id)
    assert whole.get(f"{row.path}/{KEY_FILE}") == theirs


def test_several_jobs_that_prepare_one_repository_at_once_make_one(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    with database.transaction() as tx:
        row = repositories.repository_for(tx, custody, vault, ACCOUNT, now=NOON)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            prepare(database, custody, row.id)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(list(Below(custody.storage("local"), row.path).list("keys/"))) == 1


def test_a_part_of_a_storage_leads_nowhere_else(custody: Custody) -> None:
    whole = custody.storage("local")
    whole.put("secret", b"x")
    part = Below(whole, "vaults/v")
    part.put("a/b", b"12")
    assert [found.name for found in part.list("")] == ["a/b"]
    assert [found.name for found in whole.list("vaults/")] == ["vaults/v/a/b"]
    assert part.get("a/b") == b"12"
    assert part.get_range("a/b", 1, 5) == b"2"
    assert part.size("a/b") == 2
    with pytest.raises(InvalidInputError, match="not a name"):
        part.get("../../secret")
    part.delete("a/b")
    assert list(part.list("")) == []
