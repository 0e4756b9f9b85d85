"""Walks of many files, which another process lists one directory ahead: the same walk, whatever happens on the way."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.repository.builders import a_repository
from tests.repository.conftest import NOON
from tests.repository.trees import make_awkward_tree

from holdfast.repository import filetree
from holdfast.repository.entry import Entry, Kind, Problem
from holdfast.repository.filetree import WalkRules, walk_tree
from holdfast.repository.listing_process import ListingProcess, ListingProcessDiedError
from holdfast.repository.repository import Repository

Started = list[ListingProcess]
Walk = Iterator[Entry | Problem]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that walks of this test have started: each does so at its first directory."""
    processes: Started = []

    class Noted(ListingProcess):
        def __init__(self, *, atime: bool) -> None:
            super().__init__(atime=atime)
            processes.append(self)

    monkeypatch.setattr(filetree, "ListingProcess", Noted)
    monkeypatch.setattr(filetree, "_LISTED_BEFORE_PROCESS", 0)
    return processes


@pytest.fixture
def tree(source: Path) -> Path:
    """Nested directories, some empty, some in a row, with files before, between and after them."""
    for name in ("a", "a/b", "a/b/c", "a/e", "d", "d/empty", "d/f", "z"):
        (source / name).mkdir()
    for name in ("1", "a/1", "a/b/1", "a/b/c/1", "a/b/c/2", "a/c", "d/f/1", "y", "z/1"):
        (source / name).write_text(name)
    make_awkward_tree(source / "z")
    return source


def told(walk: Walk) -> list[tuple[object, ...]]:
    """Return what a walk yields, without what reads its files."""
    return [
        (item.path, item.what) if isinstance(item, Problem) else (item.path, item.kind, item.metadata) for item in walk
    ]


def backup(repository: Repository, walk: Callable[[], Walk]) -> bytes:
    return repository.write(walk(), at=NOON).snapshot.tree


def test_the_walk_is_the_same_with_a_process_and_without(
    tree: Path, started: Started, monkeypatch: pytest.MonkeyPatch, descriptor_count: None
) -> None:
    seen = told(walk_tree(tree))
    assert len(started) == 1
    assert started[0]._process.returncode == 0
    monkeypatch.setattr(filetree, "_LISTED_BEFORE_PROCESS", 1 << 60)
    assert seen == told(walk_tree(tree))
    assert len(started) == 1


def test_what_is_unchanged_is_known_to_the_process(tree: Path, started: Started) -> None:
    repository = a_repository()
    first = repository.write(walk_tree(tree), at=NOON)
    (tree / "a/b/c/2").write_text("changed")
    (tree / "a/new").mkdir()
    (tree / "a/new/1").write_text("new")
    with repository.begin() as writer:
        for entry in walk_tree(tree, parent=repository.parent(first.snapshot_id, writer.index)):
            writer.add(entry)
        second = writer.finish_tree()
        writer.abort()
    assert len(started) == 2
    assert second.progress.bytes_read == len("changed") + len("new")
    assert backup(repository, lambda: walk_tree(tree)) == second.id


def test_what_is_left_out_is_left_out_with_everything_below(tree: Path, started: Started) -> None:
    rules = WalkRules(exclude=lambda path: path[-1] in {b"b", b"empty", b"z"})
    paths = [item.path for item in walk_tree(tree, rules=rules)]
    assert started
    assert [b"/".join(path).decode() for path in paths] == ["1", "a", "a/1", "a/c", "a/e", "d", "d/f", "d/f/1", "y"]


def test_a_directory_that_goes_between_its_listing_and_the_walk_is_a_problem_and_the_walk_goes_on(
    tree: Path, started: Started, descriptor_count: None
) -> None:
    walk = walk_tree(tree)
    seen: list[Entry | Problem] = []
    for item in walk:
        seen.append(item)
        if isinstance(item, Entry) and item.path == (b"a", b"b"):  # the next to be listed
            (tree / "a/b/c/1").unlink()
            (tree / "a/b/c/2").unlink()
            (tree / "a/b/c").rmdir()
            (tree / "a/b/c").symlink_to("/etc")
    assert started
    assert not any(item.path[:3] == (b"a", b"b", b"c") and len(item.path) > 3 for item in seen)
    assert (b"z", b"1") in [item.path for item in seen]


def test_a_walk_that_is_given_up_leaves_neither_descriptors_nor_a_process(
    tree: Path, started: Started, descriptor_count: None
) -> None:
    for stop in (1, 4, 9):
        walk = walk_tree(tree)
        for _ in range(stop):
            next(walk)
        walk.close()  # type: ignore[attr-defined] # a generator
    assert [process._process.returncode for process in started] == [0] * 3


def test_a_process_that_dies_fails_the_backup(tree: Path, started: Started, descriptor_count: None) -> None:
    def walk() -> Walk:
        for item in walk_tree(tree):
            started[0]._process.kill()
            started[0]._process.wait()
            yield item

    repository = a_repository()
    with pytest.raises(ListingProcessDiedError, match="run the backup again"):
        repository.write(walk(), at=NOON)
    assert repository.snapshots() == []
    assert repository.locks() == []


def test_where_no_process_can_be_started_the_walk_goes_on_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> ListingProcess:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    expected = told(walk_tree(tree))
    monkeypatch.setattr(filetree, "_LISTED_BEFORE_PROCESS", 0)
    monkeypatch.setattr(filetree, "ListingProcess", refused)
    assert told(walk_tree(tree)) == expected


def test_a_directory_of_very_many_files_comes_over_the_socket(source: Path, started: Started) -> None:
    (source / "d").mkdir()
    for number in range(6000):
        (source / f"d/{number:05}").touch()
    items = list(walk_tree(source))
    assert started
    assert [item.path[-1] for item in items if isinstance(item, Entry) and item.kind is Kind.FILE] == [
        b"%05d" % number for number in range(6000)
    ]
