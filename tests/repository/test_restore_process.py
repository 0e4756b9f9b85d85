"""Restores of many files, which other processes write: exactly, completely, or with the reason said."""

import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON
from tests.repository.trees import describe, make_awkward_tree

from holdfast.repository import restore
from holdfast.repository.filetree import walk_tree
from holdfast.repository.pack import BlobKind, pack_name
from holdfast.repository.repository import Repository
from holdfast.repository.restore import RestoreProgress
from holdfast.repository.restore_process import RestoreProcess, RestoreProcessDiedError
from holdfast.repository.restored_file import TargetFailedError
from holdfast.repository.storage import LocalStorage
from holdfast.repository.writer import CancelledError

MANY = 1500  # more than are written before processes are started
Started = list[RestoreProcess]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that restores of this test have started."""
    processes: Started = []

    class Noted(RestoreProcess):
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[arg-type] # handed through
            processes.append(self)

    monkeypatch.setattr(restore, "RestoreProcess", Noted)
    return processes


def many_files() -> list[bytes]:
    """Return the contents of files 0 to `MANY`."""
    return [b"%d " % number * (number % 90) for number in range(MANY)]


def a_large_repository() -> tuple[Repository, str]:
    repository = a_repository()
    files = [a_file(b"%05d" % number, content=data) for number, data in enumerate(many_files())]
    return repository, repository.write(files, at=NOON).snapshot_id


@pytest.mark.parametrize("verify", [False, True])
def test_processes_restore_every_kind_of_thing_exactly(
    verify: bool, source: Path, repository: Repository, tmp_path: Path, started: Started, descriptor_count: None
) -> None:
    (source / "a").mkdir()
    for number, data in enumerate(many_files()):
        (source / f"a/{number:05}").write_bytes(data)
    (source / "b").mkdir()
    make_awkward_tree(source / "b")
    (source / "b/other name").hardlink_to(source / "a/00077")
    written = repository.write(walk_tree(source), at=NOON)
    restored = repository.restore(written.snapshot_id, tmp_path / "restored", verify=verify)
    assert len(started) == 2
    assert restored.problems == ()
    assert restored.files == written.files
    assert describe(tmp_path / "restored") == describe(source)
    assert [process._process.returncode for process in started] == [0, 0]


def test_a_damaged_blob_costs_the_one_file_that_has_it(
    repository: Repository, storage: LocalStorage, tmp_path: Path, started: Started
) -> None:
    files = [a_file(b"%05d" % number, content=b"%d" % number * 20) for number in range(MANY)]
    written = repository.write(files, at=NOON)
    reader = repository.reader()
    node = reader.tree(written.snapshot.tree)[MANY - 9]
    assert node.content is not None
    place = reader.locate(BlobKind.DATA, node.content[0])
    pack = storage.root / pack_name(place.pack)
    data = bytearray(pack.read_bytes())
    data[place.blob.offset + 20] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    restored = repository.restore(written.snapshot_id, tmp_path / "restored")
    assert started
    (problem,) = restored.problems
    assert problem.path == (node.name,)
    assert "is damaged" in problem.what
    assert sorted(path.name for path in (tmp_path / "restored").iterdir()) == [
        f"{number:05}" for number in range(MANY) if number != MANY - 9
    ]


def test_a_process_that_dies_ends_the_restore_with_the_reason(tmp_path: Path, started: Started) -> None:
    def kill(progress: RestoreProgress) -> None:
        for process in started:
            process._process.kill()

    repository, snapshot = a_large_repository()
    with pytest.raises(RestoreProcessDiedError, match="into a new directory"):
        repository.restore(snapshot, tmp_path / "restored", progress=kill)
    assert repository.locks() == []
    contents = many_files()
    for path in (tmp_path / "restored").iterdir():
        assert path.read_bytes() == contents[int(path.name)]


def test_where_no_process_can_be_started_threads_go_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> RestoreProcess:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(restore, "RestoreProcess", refused)
    repository, snapshot = a_large_repository()
    restored = repository.restore(snapshot, tmp_path / "restored")
    assert restored.problems == ()
    assert restored.files == MANY


def test_a_target_that_fails_under_a_process_ends_the_restore_and_leaves_nothing_half_made(
    tmp_path: Path, started: Started, descriptor_count: None
) -> None:
    def narrow(progress: RestoreProgress) -> None:
        for process in started:
            resource.prlimit(process._process.pid, resource.RLIMIT_NOFILE, (60, 60))

    repository, snapshot = a_large_repository()
    with pytest.raises(TargetFailedError, match="Too many open files"):
        repository.restore(snapshot, tmp_path / "restored", progress=narrow)
    contents = many_files()
    for path in (tmp_path / "restored").iterdir():
        assert path.read_bytes() == contents[int(path.name)]


@pytest.mark.parametrize("stop", [bool, lambda started: True], ids=["late", "at once"])
def test_a_cancelled_restore_leaves_whole_files_and_no_process(
    stop: Callable[[Started], bool], tmp_path: Path, started: Started, descriptor_count: None
) -> None:
    repository, snapshot = a_large_repository()
    with pytest.raises(CancelledError):
        repository.restore(snapshot, tmp_path / "restored", cancelled=lambda: stop(started))
    assert all(process._process.returncode == 0 for process in started)
    contents = many_files()
    for path in (tmp_path / "restored").iterdir():
        assert path.read_bytes() == contents[int(path.name)]


def test_files_of_very_many_directories_go_in_batches_that_a_message_can_carry(
    tmp_path: Path, started: Started
) -> None:
    repository = a_repository()
    entries = [
        entry
        for number in range(MANY)
        for entry in (a_directory(b"%05d" % number), a_file(b"%05d" % number, b"f", content=b"%d" % number))
    ]
    snapshot = repository.write(entries, at=NOON).snapshot_id
    restored = repository.restore(snapshot, tmp_path / "restored")
    assert started
    assert restored.problems == ()
    assert all((tmp_path / f"restored/{number:05}/f").read_bytes() == b"%d" % number for number in range(MANY))
