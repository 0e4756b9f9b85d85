"""A disk that is really full: under the repository, under the target of a restore, under the cache of the index."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD
from tests.repository.small_disk import SmallDisk, small_disk
from tests.repository.test_crash import CONTENT, LIMITS, SCENARIOS, before, refuse_if_broken, tree

from holdfast.repository import blob_writer
from holdfast.repository.check import Depth
from holdfast.repository.repository import Repository
from holdfast.repository.restored_file import TargetFailedError
from holdfast.repository.storage import LocalStorage, MemoryStorage, StorageFullError

_SIZE = 4 << 20
_BLOCK = 4096
_SAMPLES = 4


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", _SIZE) as disk:
        yield disk


@pytest.fixture(autouse=True)
def often_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_writer, "BLOBS_PER_FILE", 10)


def laid_out(state: MemoryStorage, root: Path) -> Repository:
    """Put a repository on a disk."""
    shutil.rmtree(root, ignore_errors=True)
    storage = LocalStorage(root)
    for name, data in state.files.items():
        storage.put(name, data)
    return Repository.open(storage, PASSWORD, host_id="a-host")


def fill_up(name: str, disk: SmallDisk, state: MemoryStorage, room: int, target: Path) -> bool:
    """Run a scenario with so much room; return whether that was too little. Whatever happens, nothing is lost."""
    disk.make_room()
    repository = laid_out(state, disk.path / "repository")
    listed = {snapshot.id for snapshot in repository.snapshots()}
    disk.leave_room(room)
    try:
        SCENARIOS[name](repository)
    except StorageFullError as error:
        assert "No space left on device" in str(error)  # noqa: PT017 - it need not happen
        assert "repository" in str(error)  # noqa: PT017 - it says where
        full = True
    else:
        full = False
    assert list(disk.path.rglob("*-tmp-*")) == []
    assert repository.locks() == [], "whoever failed holds nothing any more"
    # Not a byte is left, not even for a reader's lock: it restores all the same.
    disk.leave_room(0)
    assert {snapshot.id for snapshot in repository.snapshots()} >= listed
    refuse_if_broken(repository, target)
    disk.make_room()
    SCENARIOS[name](repository)
    refuse_if_broken(repository, target)
    return full


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_full_disk_stops_the_work_with_its_reason_and_a_rerun_finishes(
    name: str, disk: SmallDisk, tmp_path: Path
) -> None:
    state = before()
    chance = random.Random(name)  # noqa: S311 - the same amounts in each run
    rooms = [0, _BLOCK, *(chance.randrange(2, 60) * _BLOCK for _ in range(_SAMPLES))]
    full = [fill_up(name, disk, state, room, tmp_path / "restored") for room in rooms]
    assert full[:2] == [True, True]


@pytest.mark.deep
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_disk_that_fills_up_at_any_block_costs_nothing_that_was_stored(
    name: str, disk: SmallDisk, tmp_path: Path
) -> None:
    state = before()
    room = 0
    while fill_up(name, disk, state, room, tmp_path / "restored"):
        room += _BLOCK
    assert room >= 2 * _BLOCK


def test_a_full_target_ends_the_restore_with_its_reason_and_a_rerun_finishes_it(disk: SmallDisk) -> None:
    repository = a_repository()
    written = repository.write(tree(range(40)), at=NOON, limits=LIMITS)
    target = disk.path / "restored"
    disk.leave_room(100_000)
    with pytest.raises(TargetFailedError, match="No space left on device"):
        repository.restore(written.snapshot_id, target)
    for path in (target / "d").iterdir():
        assert path.read_bytes() == CONTENT[int(path.name)], "what is there is whole"
    assert repository.locks() == []
    disk.make_room()
    shutil.rmtree(target)
    assert repository.restore(written.snapshot_id, target).problems == ()
    assert len(list((target / "d").iterdir())) == 40


@pytest.mark.parametrize("room", [0, _BLOCK, 30 * _BLOCK])
def test_no_room_for_the_cache_of_the_index_fails_no_backup(disk: SmallDisk, room: int) -> None:
    storage = MemoryStorage()
    a_repository(storage)
    many = [a_file(b"%04d" % number, content=b"%d" % number) for number in range(2000)]
    Repository.open(storage, PASSWORD, host_id="h").write(many, at=NOON)
    disk.leave_room(room)
    cached = Repository.open(storage, PASSWORD, host_id="h", cache=disk.path / "cache")
    again = cached.write([*many, a_file(b"new")], at=NOON)
    assert again.bytes_new == len(b"content"), "what is stored is known all the same"
    disk.make_room()
    assert cached.write(many, at=NOON).bytes_new == 0
    assert list((disk.path / "cache").glob("*.sqlite")), "there is a cache again as soon as there is room"
    assert cached.check(Depth.BYTES).problems == ()


def test_a_cache_that_goes_bad_while_it_is_open_is_done_without(tmp_path: Path) -> None:
    storage = MemoryStorage()
    a_repository(storage)
    many = [a_file(b"%04d" % number, content=b"%d" % number) for number in range(2000)]
    repository = Repository.open(storage, PASSWORD, host_id="h", cache=tmp_path)
    written = repository.write(many, at=NOON)
    repository.load_index().close()
    (path,) = tmp_path.glob("*.sqlite")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(3 * _BLOCK)
        file.write(bytes(size - 3 * _BLOCK))
    again = repository.write(many, at=NOON)
    assert (again.bytes_new, again.snapshot.tree) == (0, written.snapshot.tree)
    assert not path.exists(), "the next one makes it anew"
