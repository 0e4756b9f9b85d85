"""What every storage has to do; each implementation runs all of it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic

from holdfast.core.errors import InvalidInputError
from holdfast.repository.check import Depth
from holdfast.repository.repository import Repository
from holdfast.repository.storage import AlreadyStoredError, LocalStorage, NotStoredError, Storage
from holdfast.repository.sweep import SweepRules


class StorageContract:
    """Inherit, and give a fixture `storage` that is empty."""

    def test_what_was_put_is_there(self, storage: Storage) -> None:
        data = os.urandom(300_000)
        storage.put("data/ab/abcd", data[:1], bytearray(data[1:1000]), memoryview(data)[1000:])
        assert storage.get("data/ab/abcd") == data
        assert storage.size("data/ab/abcd") == len(data)

    def test_an_empty_file_is_a_file(self, storage: Storage) -> None:
        storage.put("empty")
        assert storage.get("empty") == b""
        assert storage.size("empty") == 0

    def test_a_range_ends_where_the_file_does(self, storage: Storage) -> None:
        storage.put("f", b"0123456789")
        assert storage.get_range("f", 3, 4) == b"3456"
        assert storage.get_range("f", 8, 100) == b"89"
        assert storage.get_range("f", 100, 3) == b""
        assert storage.get_range("f", 2, 0) == b""

    def test_what_is_not_there_is_said_so(self, storage: Storage) -> None:
        for ask in (storage.get, storage.size, lambda name: storage.get_range(name, 0, 1)):
            with pytest.raises(NotStoredError):
                ask("data/none")
        storage.delete("data/none")

    def test_listing_gives_names_and_sizes_below_a_prefix(self, storage: Storage) -> None:
        for name, size in (("data/aa/1", 10), ("data/ab/2", 20), ("database", 3), ("index/3", 30)):
            storage.put(name, bytes(size))
        assert sorted(storage.list("data/")) == [("data/aa/1", 10), ("data/ab/2", 20)]
        assert len(list(storage.list(""))) == 4
        assert list(storage.list("nothing/")) == []

    def test_a_put_replaces_unless_it_is_to_be_new(self, storage: Storage) -> None:
        storage.put("f", b"one", new=True)
        storage.put("f", b"two")
        assert storage.get("f") == b"two"
        with pytest.raises(AlreadyStoredError):
            storage.put("f", b"three", new=True)
        assert storage.get("f") == b"two"

    def test_what_was_deleted_is_gone(self, storage: Storage) -> None:
        storage.put("locks/1", b"x")
        storage.delete("locks/1")
        assert list(storage.list("")) == []

    @pytest.mark.parametrize("name", ["", "/abs", "../up", "a//b", "a/./b", "a/../b", "a/", "a\0b"])
    def test_a_name_that_leads_elsewhere_is_refused(self, storage: Storage, name: str) -> None:
        with pytest.raises(InvalidInputError):
            storage.put(name, b"x")
        with pytest.raises(InvalidInputError):
            storage.get(name)
        with pytest.raises(InvalidInputError):
            storage.delete(name)

    def test_several_threads_may_use_it(self, storage: Storage) -> None:
        def one(number: int) -> bytes:
            storage.put(f"data/{number % 3:02x}/{number}", bytes([number]) * 1000)
            return storage.get(f"data/{number % 3:02x}/{number}")

        with ThreadPoolExecutor(8) as pool:
            for number, data in enumerate(pool.map(one, range(64))):
                assert data == bytes([number]) * 1000
        assert len(list(storage.list("data/"))) == 64


class BucketContract(StorageContract):
    """And what a bucket has to hold besides: a repository's whole life, with restic as the witness."""

    def test_a_repository_there_is_written_swept_and_read(
        self, storage: Storage, tmp_path: Path, restic: Restic
    ) -> None:
        repository = a_repository(storage)
        content = os.urandom(3 << 20)
        gone = repository.write([a_file(b"gone", content=os.urandom(1 << 20))], at=NOON)
        kept = repository.write([a_directory(b"d"), a_file(b"d", b"f", content=content)], at=NOON)
        repository.forget([gone.snapshot_id])
        repository = Repository.open(storage, PASSWORD, host_id="another-host")
        repository.mark_sweep(repository.plan_sweep(SweepRules(max_unused=0)), at=NOON)
        assert repository.carry_out_sweep().deleted
        report = repository.check(Depth.BYTES)
        assert report.problems == report.hints == ()
        assert repository.restore(kept.snapshot_id, tmp_path / "restored").problems == ()
        assert (tmp_path / "restored" / "d" / "f").read_bytes() == content
        # Not every restic can be told to look elsewhere than at the provider's own host, so it gets files.
        here = LocalStorage(restic.repository)
        for stored in storage.list(""):
            here.put(stored.name, storage.get(stored.name))
        restic.check()
