"""What a check sees: one flipped bit anywhere is found and named, and never given out as data."""

import random
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD

from holdfast.core.clock import ManualMachineTime
from holdfast.core.errors import DamagedError, HoldfastError
from holdfast.repository import lock
from holdfast.repository.check import Depth
from holdfast.repository.doomed import put_mark
from holdfast.repository.lock import Lock
from holdfast.repository.repository import Repository
from holdfast.repository.restore import Restored
from holdfast.repository.storage import MemoryStorage

CONTENT = {(b"d", b"f%d" % number): bytes([number]) * (number * 7000) for number in range(1, 9)}


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file that cannot be read is tried again at once."""
    monkeypatch.setattr(lock, "_TRY_AGAIN_SECONDS", 0.0)


def a_filled_repository() -> tuple[Repository, MemoryStorage]:
    storage = MemoryStorage()
    repository = a_repository(storage)
    entries = [a_directory(b"d"), *(a_file(*path, content=content) for path, content in CONTENT.items())]
    repository.write(entries, at=NOON)
    # What comes and goes: a reader's lock, and the record of a sweep that has not been carried out yet.
    put_mark(storage, repository.box, [bytes(32)], at=NOON)
    Lock(storage, repository.box, exclusive=False, host_id="a-host", machine=ManualMachineTime(NOON))
    return repository, storage


def flip(storage: MemoryStorage, name: str, bit: int) -> None:
    data = bytearray(storage.files[name])
    data[bit // 8] ^= 1 << bit % 8
    storage.files[name] = bytes(data)


@pytest.mark.parametrize("depth", list(Depth))
def test_a_sound_repository_has_nothing_to_report(depth: Depth) -> None:
    repository, _ = a_filled_repository()
    report = repository.check(depth)
    assert report.problems == report.hints == ()
    assert report.snapshots == 1
    assert (report.bytes_read > 0) == (depth is Depth.BYTES)


FOLDERS = ["config", "keys/", "data/", "index/", "snapshots/", "locks/", "holdfast/doomed/"]


def test_every_kind_of_file_is_among_those_that_are_damaged() -> None:
    _, storage = a_filled_repository()
    assert {folder for folder in FOLDERS if any(name.startswith(folder) for name in storage.files)} == set(FOLDERS)
    assert all(name.startswith(tuple(FOLDERS)) for name in storage.files)


@pytest.mark.parametrize("folder", FOLDERS)
def test_one_flipped_bit_anywhere_is_found_and_never_restored(folder: str, tmp_path: Path) -> None:
    chance = random.Random(folder)  # noqa: S311 - the same places in each run
    for attempt in range(24):
        _, storage = a_filled_repository()
        name = chance.choice(sorted(name for name in storage.files if name.startswith(folder)))
        # The ends and the beginnings are where formats are weak.
        size = len(storage.files[name]) * 8
        bit = (
            [0, size - 1, chance.randrange(128), size - 1 - chance.randrange(128)][attempt]
            if attempt < 4
            else (chance.randrange(size))
        )
        flip(storage, name, bit)
        target = tmp_path / str(attempt)
        try:
            repository = Repository.open(storage, PASSWORD, host_id="a-host")
            problems = repository.check(Depth.BYTES).problems
        except DamagedError as error:
            problems = (str(error),)
        named = name.split("/")[-1]
        assert any(named in problem or folder in problem for problem in problems), (name, bit, problems)
        restored = restore_all(storage, target)
        for path in target.rglob("f*") if target.exists() else ():
            assert path.read_bytes() == CONTENT[(b"d", path.name.encode())], "damaged bytes were given out"
        if isinstance(restored, Restored) and folder == "data/":
            missing = {path for path in CONTENT if not (target / "d" / path[1].decode()).exists()}
            assert all(any(path[: len(p.path)] == p.path for p in restored.problems) for path in missing)


def test_a_damaged_lock_stops_everybody_until_it_is_removed() -> None:
    repository, storage = a_filled_repository()
    (name,) = (name for name in storage.files if name.startswith("locks/"))
    flip(storage, name, 300)
    for attempt in (repository.begin, repository.check, repository.plan_sweep, repository.unlock):
        with pytest.raises(DamagedError, match=f"{name.rpartition('/')[2]}.*unlock --remove-all"):
            attempt()
    assert repository.remove_all_locks() == [name.removeprefix("locks/")]
    repository.write([a_file(b"f")], at=NOON)


def test_a_damaged_record_of_a_sweep_stops_writers_and_sweeps_until_it_is_repaired() -> None:
    repository, storage = a_filled_repository()
    repository.remove_all_locks()
    (mark,) = (name for name in storage.files if name.startswith("holdfast/doomed/"))
    flip(storage, mark, 300)
    packs = {name for name in storage.files if name.startswith("data/")}
    for attempt in (repository.begin, repository.plan_sweep, repository.carry_out_sweep):
        with pytest.raises(DamagedError, match=mark):
            attempt()
    assert repository.locks() == []
    repository.repair_index()
    assert mark not in storage.files
    assert {name for name in storage.files if name.startswith("data/")} == packs
    repository.write([a_file(b"f")], at=NOON)


def restore_all(storage: MemoryStorage, target: Path) -> Restored | HoldfastError | None:
    try:
        repository = Repository.open(storage, PASSWORD, host_id="a-host")
        snapshots = repository.snapshots()
        return repository.restore(snapshots[-1].id, target) if snapshots else None
    except HoldfastError as error:
        return error


def test_a_missing_pack_is_named() -> None:
    repository, storage = a_filled_repository()
    name = next(name for name in storage.files if name.startswith("data/"))
    storage.delete(name)
    assert any(name.rpartition("/")[2] in problem for problem in repository.check().problems)


def test_a_pack_cut_short_is_named() -> None:
    repository, storage = a_filled_repository()
    name = next(name for name in storage.files if name.startswith("data/"))
    storage.files[name] = storage.files[name][:-1]
    assert any(name.rpartition("/")[2] in problem for problem in repository.check().problems)


def test_a_missing_index_file_shows_as_missing_blobs() -> None:
    repository, storage = a_filled_repository()
    for name in [name for name in storage.files if name.startswith("index/")]:
        storage.delete(name)
    report = repository.check()
    assert not report.is_sound
    assert len(report.hints) == sum(name.startswith("data/") for name in storage.files)


def test_a_damaged_snapshot_does_not_hide_the_others() -> None:
    repository, storage = a_filled_repository()
    second = repository.write([a_file(b"other")], at=NOON)
    first = next(s for s in repository.snapshots() if s.id != second.snapshot_id)
    flip(storage, f"snapshots/{first.id}", 200)
    seen: list[DamagedError] = []
    assert [snapshot.id for snapshot in repository.snapshots(damaged=seen.append)] == [second.snapshot_id]
    assert first.id in str(seen[0])
