"""Storages by configuration, and parts of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.repository.storage_contract import StorageContract
from tests.repository.weed import ADMIN, SECRET, Weed, running_weed
from tests.vault.builders import DAY, NOON, StillMachine, a_custody, a_vault, back_up

from holdfast.core.ids import new_uuid
from holdfast.core.settings import StorageSettings
from holdfast.database.connection import Database
from holdfast.recovery.housekeeping import Housekeeper
from holdfast.recovery.rebuild import rebuild
from holdfast.recovery.service import delete_point
from holdfast.recovery.store import points_of_vault
from holdfast.repository.storage import LocalStorage, MemoryStorage, Storage
from holdfast.vault.storage import Below, UnknownStorageError, open_storage


class TestPartOfADirectory(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        whole = LocalStorage(tmp_path)
        whole.put("beside", b"not listed in the part")
        return Below(whole, "vaults/v/")


class TestPartOfMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return Below(Below(MemoryStorage(), "a"), "b")


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        pytest.param("/srv/vaults", {}, "no scheme", id="a path without a scheme"),
        pytest.param("file://host/srv", {}, "file:///ABSOLUTE/PATH", id="a file on another host"),
        pytest.param("file:///srv", {"endpoint": "x"}, "no option of file", id="an option that a disk has not"),
        pytest.param("s3:///prefix", {}, "s3://BUCKET/PREFIX", id="no bucket"),
        pytest.param("s3://key:secret@bucket", {}, "s3://BUCKET/PREFIX", id="credentials in the URL"),
        pytest.param("s3://bucket", {"password": "x"}, "known there: endpoint", id="an unknown option"),
        pytest.param("ftp://host/x", {}, "no kind of storage", id="another kind"),
    ],
)
def test_a_storage_that_cannot_be_opened_says_what_to_write(url: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(UnknownStorageError, match=says):
        open_storage(StorageSettings("s", url, "here", options))


def test_a_path_in_a_url_may_hold_anything(tmp_path: Path) -> None:
    directory = tmp_path / "with space and %41"
    open_storage(StorageSettings("s", directory.as_uri(), "here")).put("a", b"1")
    assert (directory / "a").read_bytes() == b"1"


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    with running_weed(tmp_path_factory.mktemp("weed")) as running:
        running.client().create_bucket(Bucket="vaults")
        yield running


def test_a_vault_lives_its_whole_life_in_a_bucket_and_is_rebuilt_from_it(
    weed: Weed, sqlite_database: Database, empty_database: Database, tmp_path: Path
) -> None:
    custody = a_custody(tmp_path / "unused")
    options = {"endpoint": weed.endpoint, "access_key": ADMIN, "secret_key": SECRET}
    bucket = StorageSettings("local", f"s3://vaults/{new_uuid()}", "there", options)
    custody = replace(custody, settings=replace(custody.settings, storages={"local": bucket}))
    vault = a_vault(sqlite_database, custody)
    gone = back_up(sqlite_database, custody, vault).point
    kept = back_up(sqlite_database, custody, vault, texts=["other"]).point
    with sqlite_database.transaction() as tx:
        delete_point(tx, custody, vault, gone.arn, now=NOON)
    done = Housekeeper(sqlite_database, custody, StillMachine(NOON)).keep(now=NOON + 7 * DAY)
    assert (done.purged, done.trouble) == (1, {})
    assert rebuild(empty_database, custody, now=NOON, machine=StillMachine(NOON)).is_sound
    with empty_database.reading() as tx:
        assert points_of_vault(tx, vault.id) == [kept]
