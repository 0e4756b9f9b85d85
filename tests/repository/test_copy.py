"""Copies between repositories, passwords, repairs of the index, differences."""

import os
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic
from tests.repository.trees import describe, make_awkward_tree

from holdfast.core.errors import DamagedError
from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.check import Depth
from holdfast.repository.diff import Change
from holdfast.repository.filetree import walk_tree
from holdfast.repository.key_file import (
    COST_FOR_RANDOM_PASSWORD,
    KeyFileNotFoundError,
    LastKeyFileError,
    WrongPasswordError,
)
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage, MemoryStorage
from holdfast.repository.writer import Limits


def test_a_copy_restores_as_the_original_and_restic_finds_no_error(
    repository: Repository, source: Path, tmp_path: Path, restic: Restic
) -> None:
    make_awkward_tree(source)
    original = a_repository()
    written = original.write(walk_tree(source), at=NOON, hostname="h", paths=["/p"], tags=["one"])
    copied = repository.copy_from(original, written.snapshot_id, tags=["two"])
    assert copied.snapshot.tree == written.snapshot.tree
    assert copied.snapshot.original == written.snapshot_id
    assert (copied.snapshot.hostname, copied.snapshot.paths, copied.snapshot.tags) == ("h", ("/p",), ("two",))
    assert (copied.files, copied.dirs, copied.others) == (written.files, written.dirs, written.others)
    restic.check()
    assert repository.restore(copied.snapshot_id, tmp_path / "restored").problems == ()
    assert describe(tmp_path / "restored") == describe(source)


def test_a_second_copy_sends_only_what_is_missing() -> None:
    original, target = a_repository(), a_repository()
    first = original.write([a_file(b"a", content=os.urandom(700_000))], at=NOON)
    new = os.urandom(1000)
    entries = [a_directory(b"d"), a_file(b"d", b"new", content=new)]
    second = original.write(entries, at=NOON)
    target.copy_from(original, first.snapshot_id)
    assert target.copy_from(original, first.snapshot_id).bytes_read == 0
    assert target.copy_from(original, second.snapshot_id).bytes_read == len(new)
    assert target.check(Depth.BYTES).problems == ()


def test_no_small_blob_is_left_behind_by_the_threads_that_seal_beside_another_process() -> None:
    """Blobs of a copy come out of threads, and when there have been many, small ones go on to a process."""
    original, target = a_repository(), a_repository()
    files = [a_file(b"%05d" % number, content=os.urandom(1000)) for number in range(1700)]
    written = original.write(files, at=NOON, limits=Limits(write=WriteLimits(processes=0)))
    copied = target.copy_from(original, written.snapshot_id, limits=Limits(write=WriteLimits(processes=1)))
    assert target.read_back(copied.snapshot_id) == 1_700_000


def test_a_damaged_source_is_not_copied() -> None:
    storage = MemoryStorage()
    original, target = a_repository(storage), a_repository()
    written = original.write([a_file(b"a", content=os.urandom(100_000))], at=NOON)
    name = max((name for name in storage.files if name.startswith("data/")), key=lambda name: len(storage.files[name]))
    storage.files[name] = bytes([storage.files[name][0] ^ 1]) + storage.files[name][1:]
    with pytest.raises(DamagedError):
        target.copy_from(original, written.snapshot_id)
    assert target.snapshots() == []


def test_several_passwords_open_one_repository(storage: LocalStorage, repository: Repository, restic: Restic) -> None:
    repository.write([a_file(b"a")], at=NOON)
    second = repository.add_password("another", at=NOON, cost=COST_FOR_RANDOM_PASSWORD)
    assert Repository.open(storage, "another", host_id="h").id == repository.id
    (first,) = [key.id for key in repository.key_files() if key.id != second]
    restic.check()
    repository.remove_key_file(first)
    with pytest.raises(WrongPasswordError):
        Repository.open(storage, PASSWORD, host_id="h")
    with pytest.raises(LastKeyFileError):
        repository.remove_key_file(second)
    with pytest.raises(KeyFileNotFoundError):
        repository.remove_key_file(first)


@pytest.mark.parametrize("harm", ["delete", "damage"])
def test_an_index_is_made_anew_from_the_packs(
    harm: str, storage: LocalStorage, repository: Repository, restic: Restic, tmp_path: Path
) -> None:
    content = os.urandom(2_000_000)
    written = repository.write([a_file(b"a", content=content)], at=NOON)
    for stored in list(storage.list("index/")):
        if harm == "delete":
            storage.delete(stored.name)
        else:
            storage.put(stored.name, storage.get(stored.name)[:-1] + b"?")
    assert not repository.check().is_sound
    repaired = repository.repair_index()
    assert len(repaired.added) == 2
    assert repaired.unreadable == ()
    restic.check()
    assert repository.restore(written.snapshot_id, tmp_path / "restored").problems == ()


def test_a_repair_drops_packs_that_are_gone_and_says_so() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)
    repository.write([a_file(b"a", content=os.urandom(100_000))], at=NOON)
    name = next(name for name in storage.files if name.startswith("data/"))
    storage.delete(name)
    repaired = repository.repair_index()
    assert [pack.hex() for pack in repaired.dropped] == [name.rpartition("/")[2]]
    # The blobs are gone from the index, so the next backup stores them again.
    repository.write([a_file(b"a", content=os.urandom(100_000))], at=NOON)


def test_a_difference_tells_what_was_added_removed_and_changed() -> None:
    repository = a_repository()
    before = repository.write(
        [a_directory(b"d"), a_file(b"d", b"changed"), a_file(b"d", b"gone"), a_directory(b"same"), a_file(b"x")],
        at=NOON,
    )
    after = repository.write(
        [
            a_directory(b"d"),
            a_file(b"d", b"changed", content=b"other"),
            a_directory(b"n"),
            a_file(b"n", b"new"),
            a_directory(b"same"),
            a_file(b"x"),
        ],
        at=NOON,
    )
    found = [(d.path, d.change) for d in repository.diff(before.snapshot_id, after.snapshot_id)]
    assert found == [
        ((b"d", b"changed"), Change.CONTENT),
        ((b"d", b"gone"), Change.REMOVED),
        ((b"n",), Change.ADDED),
        ((b"n", b"new"), Change.ADDED),
    ]
    assert list(repository.diff(after.snapshot_id, after.snapshot_id)) == []
