"""Directory trees and single files as sources."""

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.source.contract import SourceContract, read_all, read_content

from holdfast.core.settings import HostGrant
from holdfast.repository.chunk import ChunkClass
from holdfast.repository.entry import Entry, Kept, Kind, Noticed, Problem, UnreadableError
from holdfast.repository.repository import Repository
from holdfast.repository.storage import MemoryStorage
from holdfast.source.location import file_location
from holdfast.source.protocol import (
    Consistency,
    NotGrantedError,
    OptionRefusedError,
    Source,
    SourceIncompleteError,
    SourceMissingError,
    SourceSpec,
)
from holdfast.source.registry import open_source


def a_spec(path: Path | bytes, granted: Path | None = None, **more: object) -> SourceSpec:
    prefix = granted or Path(os.fsdecode(path))
    spec = SourceSpec(file_location(os.fsencode(path)).key, "EFS", grants=(HostGrant(str(prefix)),))
    return replace(spec, **more)  # type: ignore[arg-type]  # fields by name


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "www"
    (root / "static").mkdir(parents=True)
    (root / "static/page").write_bytes(b"hello")
    (root / "index").write_bytes(b"x" * 100_000)
    return root


class TestFileTree(SourceContract):
    consistency = Consistency.NONE

    @pytest.fixture
    def spec(self, tree: Path) -> SourceSpec:
        return a_spec(tree)

    @pytest.fixture
    def missing(self, tmp_path: Path) -> SourceSpec:
        return a_spec(tmp_path / "nowhere")


def paths(source: Source) -> list[bytes]:
    found, problems = read_all(source)
    assert not problems
    source.finish()
    return [b"/".join(path) for path in found]


def test_files_are_cut_as_files(tree: Path) -> None:
    source = open_source(a_spec(tree))
    assert source.chunk_class is ChunkClass.FILE
    source.abort()


def test_awkward_names_come_through_as_they_are(tmp_path: Path) -> None:
    names = [b"two\nlines", b"'quote\"", b"\xff\xfe", b" lead", b"-rf", b"$(id)", b"%2e%2e", b"a" * 255]
    for name in names:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(name)
    source = open_source(a_spec(tmp_path))
    found, problems = read_all(source)
    source.finish()
    assert not problems
    assert {path[0]: data for path, (_, data) in found.items()} == {name: name for name in names}


def test_links_pipes_and_sockets_are_entries_and_are_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("not granted")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(".")
    (root / "dangling").symlink_to("nowhere")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    found, _ = read_all(source := open_source(a_spec(root)))
    source.finish()
    assert {path[0]: (entry.kind, entry.metadata.link_target) for path, (entry, _) in found.items()} == {
        b"out": (Kind.SYMLINK, os.fsencode(tmp_path / "secret")),
        b"loop": (Kind.SYMLINK, b"."),
        b"dangling": (Kind.SYMLINK, b"nowhere"),
        b"pipe": (Kind.FIFO, b""),
        b"socket": (Kind.SOCKET, b""),
    }


def test_hard_links_share_their_inode(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    found, _ = read_all(source := open_source(a_spec(tmp_path)))
    source.finish()
    one, two = (found[(name,)][0].metadata for name in (b"one", b"two"))
    assert one.inode == two.inode
    assert one.links == two.links == 2


def test_holes_are_told_as_holes(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(64 << 20)
        file.write(b"end")
    source = open_source(a_spec(tmp_path))
    for entry in source.entries():
        assert isinstance(entry, Entry)
        assert entry.metadata.size == (64 << 20) + 3
        assert read_content(entry.content)[-3:] == b"end"
    source.finish()


def test_extended_attributes_come_along(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.setxattr(tmp_path / "file", "user.note", b"\x00\xff")
    found, _ = read_all(source := open_source(a_spec(tmp_path)))
    source.finish()
    assert ("user.note", b"\x00\xff") in found[(b"file",)][0].metadata.xattrs


def test_a_file_that_vanishes_is_a_problem_and_no_end(tree: Path) -> None:
    source = open_source(a_spec(tree))
    stream = source.entries()
    first = next(stream)
    (tree / "static/page").unlink()
    rest = list(stream)
    assert first.path == (b"index",)
    assert [item.path for item in rest if isinstance(item, Entry)] == [(b"static",)]
    source.finish()


def test_a_directory_swapped_for_a_link_is_not_followed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/stolen").write_text("x")
    source = open_source(a_spec(tree))
    stream = source.entries()
    seen = [next(stream)]
    (tree / "static").rename(tree / "moved")
    (tree / "static").symlink_to(tmp_path / "other")
    seen += list(stream)
    assert not [item for item in seen if b"stolen" in item.path]
    source.finish()


def test_a_file_that_grows_while_it_is_read_is_put_on_record(tree: Path) -> None:
    source = open_source(a_spec(tree))
    noticed = []
    for item in source.entries():
        assert isinstance(item, Entry)
        if item.path == (b"index",):
            assert item.content is not None
            for piece in item.content.read():  # type: ignore[union-attr]  # nothing is kept without a parent
                with (tree / "index").open("ab") as file:
                    file.write(b"more")
                if isinstance(piece, Noticed):
                    noticed.append(piece.what)
    source.finish()
    assert noticed == ["changed while read"]


def test_a_tree_that_was_replaced_while_it_was_read_is_not_proven(tree: Path) -> None:
    source = open_source(a_spec(tree))
    read_all(source)
    tree.rename(tree.with_name("old"))
    tree.mkdir()
    with pytest.raises(SourceIncompleteError, match="was replaced"):
        source.finish()
    source.abort()


def test_a_tree_that_went_away_while_it_was_read_is_not_proven(tree: Path) -> None:
    source = open_source(a_spec(tree))
    read_all(source)
    tree.rename(tree.with_name("old"))
    with pytest.raises(SourceIncompleteError, match="went away"):
        source.finish()
    source.abort()


def test_holdfasts_own_directory_in_the_tree_is_refused(tree: Path) -> None:
    for own in (tree, tree / "static", tree.parent):
        with pytest.raises(NotGrantedError, match="belongs to Holdfast itself"):
            open_source(a_spec(tree, forbidden=(str(own),)))


def test_holdfasts_own_directory_shown_by_a_mount_is_left_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A mount needs rights that a test has not: the own directory has no forbidden name here, only its inode.
    monkeypatch.setattr("holdfast.source.confined.own_places", lambda _forbidden: ())
    monkeypatch.setattr("holdfast.source.confined.own_identities", lambda _forbidden: frozenset())
    source = open_source(a_spec(tree, forbidden=(str(tree / "static"),)))
    found, problems = read_all(source)
    source.finish()
    assert list(found) == [(b"index",)]
    assert problems == [Problem((b"static",), "left out: a directory of Holdfast itself")]


def test_a_single_file_is_a_tree_of_one_entry(tree: Path) -> None:
    source = open_source(a_spec(tree / "index", granted=tree / "index"))
    found, problems = read_all(source)
    assert list(found) == [(b"index",)]
    assert found[(b"index",)][1] == b"x" * 100_000
    assert not problems
    assert source.finish().facts["single_file"]


def test_a_single_file_beside_holdfasts_own_directory_may_be_read(tree: Path) -> None:
    source = open_source(a_spec(tree / "index", forbidden=(str(tree / "static"),)))
    assert paths(source) == [b"index"]


def change_to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def change_to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [Path.unlink, change_to_link, change_to_directory])
def test_a_single_file_that_is_lost_is_not_proven(tree: Path, change: object) -> None:
    assert callable(change)
    source = open_source(a_spec(tree / "index"))
    change(tree / "index")
    found, _ = read_all(source)
    assert not found
    with pytest.raises(SourceIncompleteError, match="vanished, or is no file any more"):
        source.finish()
    source.abort()


def test_a_single_file_that_cannot_be_read_is_not_proven(tree: Path) -> None:
    repository = Repository.create(MemoryStorage(), "password", host_id="test", at=datetime(2026, 3, 1, tzinfo=UTC))
    first = open_source(a_spec(tree / "index"))
    written = repository.write(first.entries(), at=datetime(2026, 3, 1, tzinfo=UTC))
    first.finish()
    source = open_source(a_spec(tree / "index"))
    for entry in source.entries(repository.parent(written.snapshot_id)):
        assert isinstance(entry, Entry)
        assert isinstance(entry.content, Kept)
        # The blobs of the parent are gone, say, so the file itself has to be read, and cannot be.
        (tree / "index").unlink()
        with pytest.raises(UnreadableError, match="vanished"):
            list(entry.content.otherwise.read())
    with pytest.raises(SourceIncompleteError, match="could not be read: vanished"):
        source.finish()
    source.abort()


def test_an_empty_tree_is_a_tree(tmp_path: Path) -> None:
    assert paths(open_source(a_spec(tmp_path))) == []


def test_a_link_as_source_is_refused(tree: Path) -> None:
    link = tree.parent / "link"
    link.symlink_to(tree)
    with pytest.raises(NotGrantedError, match="is a symbolic link"):
        open_source(a_spec(link))


@pytest.mark.parametrize("value", ["yes", "TRUE", ""])
def test_one_filesystem_is_true_or_false(tree: Path, value: str) -> None:
    with pytest.raises(OptionRefusedError, match="true or false"):
        open_source(a_spec(tree, options={"one-filesystem": value}))
    source = open_source(a_spec(tree, options={"one-filesystem": "true"}))
    assert paths(source) == [b"index", b"static", b"static/page"]


def test_the_roots_own_mode_is_kept_for_a_restore(tree: Path) -> None:
    tree.chmod(0o751)
    source = open_source(a_spec(tree))
    read_all(source)
    metadata = source.finish().restore_metadata
    assert metadata["holdfast:root-mode"] == "0751"
    assert metadata["holdfast:root-owner"] == f"{os.getuid()}:{os.getgid()}"
    assert metadata["newFileSystem"] == "true"


def test_a_device_is_no_source() -> None:
    with pytest.raises(NotGrantedError, match="shown by the kernel"):
        open_source(a_spec(Path("/dev/null"), granted=Path("/")))


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceMissingError, match="neither a directory nor a file"):
        open_source(a_spec(tmp_path / "pipe"))
