"""The storages by their contract, and what the local one owes to power cuts."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.repository.storage_contract import StorageContract

from holdfast.repository.storage import LocalStorage, MemoryStorage, Storage, StorageFailedError


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()


class TestLocal(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalStorage(tmp_path / "made" / "when needed")


def test_files_are_written_whole_synced_and_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, rename = os.fsync, Path.rename

    def noted_sync(descriptor: int) -> None:
        events.append("sync directory" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "sync file")
        sync(descriptor)

    def noted_rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    storage = LocalStorage(tmp_path)
    (tmp_path / "snapshots").mkdir()
    storage.put("snapshots/1", b"data")
    assert events == ["sync file", "rename", "sync directory"]
    assert (tmp_path / "snapshots" / "1").stat().st_mode & 0o777 == 0o400


def test_a_half_written_file_is_never_listed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("data/aa/1", b"whole")
    (tmp_path / "data" / "aa" / "2-tmp-1234").write_bytes(b"ha")
    assert [stored.name for stored in storage.list("")] == ["data/aa/1"]


def test_a_put_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    storage = LocalStorage(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFailedError, match="No space left"):
        storage.put("f", b"data")
    assert list(tmp_path.iterdir()) == []


def test_what_puts_that_never_ended_left_behind_is_removed_when_it_is_old(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("data/aa/1", b"whole")
    for name in ("old", "young"):
        (tmp_path / "data" / "aa" / f"{name}-tmp-1234").write_bytes(b"half")
    os.utime(tmp_path / "data" / "aa" / "old-tmp-1234", (0, 0))
    os.utime(tmp_path / "data" / "aa" / "1", (0, 0))
    assert storage.remove_leftovers(datetime(2020, 1, 1, tzinfo=UTC)) == 1
    assert sorted(path.name for path in (tmp_path / "data" / "aa").iterdir()) == ["1", "young-tmp-1234"]
