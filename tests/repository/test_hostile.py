"""Trees that an attacker made, and directories that change under a walk or a restore."""

import os
import re
import stat
import threading
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON

from holdfast.repository.entry import BytesContent, Entry, Kind, Metadata, Problem
from holdfast.repository.filetree import walk_tree
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.restore import Existing
from holdfast.repository.snapshot import Snapshot, put_snapshot


def a_snapshot_of(repository: Repository, tree: bytes, *contents: bytes) -> str:
    """Store a tree just as it is given, and a snapshot of it."""
    with repository.begin() as writer:
        for content in contents:
            writer._blobs.save(BlobKind.DATA, content)
        tree_id = writer._blobs.save(BlobKind.TREE, tree)
        writer._blobs.flush()
    return put_snapshot(repository.storage, repository.box, Snapshot(id="", at=NOON, tree=tree_id))


def a_node(name: str, kind: str = "fifo", **more: object) -> str:
    fields = "".join(f',"{key}":{value}' for key, value in more.items())
    times = ",".join(f'"{key}":"2026-01-01T00:00:00Z"' for key in ("mtime", "atime", "ctime"))
    return f'{{"name":"{name}","type":"{kind}","mode":420,{times},"uid":0,"gid":0{fields},"content":null}}'


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../up", "/abs", "a\\\\x00b", "\\\\x2e\\\\x2e"])
def test_a_tree_with_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    repository = a_repository()
    snapshot = a_snapshot_of(repository, f'{{"nodes":[{a_node(name)}]}}\n'.encode())
    restored = repository.restore(snapshot, tmp_path / "in" / "target")
    assert restored.problems
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "target"]


@pytest.mark.parametrize(
    "tree",
    [
        b"null",
        b"[]",
        b"{",
        b'{"nodes":1}',
        b'{"nodes":[1]}',
        b'{"nodes":[{}]}',
        b'{"nodes":[{"name":1,"type":2}]}',
    ],
)
def test_a_tree_that_is_none_is_a_problem_and_no_crash(tree: bytes, tmp_path: Path) -> None:
    repository = a_repository()
    snapshot = a_snapshot_of(repository, tree)
    assert repository.restore(snapshot, tmp_path / "target").problems
    assert not repository.check().is_sound


def test_a_link_in_a_tree_is_not_followed_by_what_comes_after_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    repository = a_repository()
    inner = f'{{"nodes":[{a_node("planted")}]}}\n'.encode()
    with repository.begin() as writer:
        subtree = writer._blobs.save(BlobKind.TREE, inner).hex()
        writer._blobs.flush()
    link = a_node("d", "symlink", linktarget=f'"{outside}"')
    directory = a_node("d", "dir", subtree=f'"{subtree}"')
    snapshot = a_snapshot_of(repository, f'{{"nodes":[{link},{directory}]}}\n'.encode())
    restored = repository.restore(snapshot, tmp_path / "target")
    assert any("second entry" in problem.what for problem in restored.problems)
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("existing", list(Existing))
def test_a_link_in_the_target_is_not_followed(existing: Existing, tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    target.mkdir()
    if existing is not Existing.REFUSE:
        (target / "d").symlink_to(outside)
        (target / "precious").symlink_to(outside / "precious")
    repository = a_repository()
    entries = [a_directory(b"d"), a_file(b"d", b"planted"), a_file(b"precious", content=b"overwritten")]
    written = repository.write(entries, at=NOON)
    repository.restore(written.snapshot_id, target, existing=existing)
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "mine"


def test_a_directory_swapped_for_a_link_during_a_restore_leads_nowhere(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    repository = a_repository()
    files = [a_file(b"d", b"%05d" % number) for number in range(2000)]
    written = repository.write([a_directory(b"d"), *files], at=NOON)
    swapped = threading.Event()

    def swap(_progress: object) -> None:
        if not swapped.is_set() and (target / "d" / "00000").exists():
            (target / "d").rename(target / "moved")
            (target / "d").symlink_to(outside)
            swapped.set()

    repository.restore(written.snapshot_id, target, progress=swap)
    assert swapped.is_set()
    assert list(outside.iterdir()) == []
    assert len(list((target / "moved").iterdir())) == 2000


def test_a_hard_link_is_only_made_to_what_this_restore_made(tmp_path: Path) -> None:
    repository = a_repository()
    meta = Metadata(inode=7, device=1, links=2)
    entries = [
        Entry((b"a",), Kind.FILE, meta, BytesContent(b"one")),
        Entry((b"b",), Kind.FILE, meta, BytesContent(b"one")),
        Entry((b"c",), Kind.FILE, meta, BytesContent(b"other content under the same inode")),
    ]
    written = repository.write(entries, at=NOON)
    assert repository.restore(written.snapshot_id, tmp_path / "t").problems == ()
    assert (tmp_path / "t" / "a").samefile(tmp_path / "t" / "b")
    assert (tmp_path / "t" / "c").read_bytes() == b"other content under the same inode"


def test_a_size_that_is_a_lie_is_a_problem(tmp_path: Path) -> None:
    repository = a_repository()
    node = a_node("f", "file", size=1 << 60).replace('"content":null', '"content":[]')
    snapshot = a_snapshot_of(repository, f'{{"nodes":[{node}]}}\n'.encode())
    assert "blobs have 0" in str(repository.restore(snapshot, tmp_path / "t").problems[0])
    assert list((tmp_path / "t").iterdir()) == []


@pytest.mark.skipif("os.geteuid() != 0", reason="needs root to be somebody else")
def test_set_id_bits_of_others_are_dropped_where_owners_cannot_be_restored(tmp_path: Path) -> None:
    repository = a_repository()
    meta = Metadata(mode=0o6755, uid=12345)
    written = repository.write([Entry((b"tool",), Kind.FILE, meta, BytesContent(b"#!"))], at=NOON)
    repository.restore(written.snapshot_id, tmp_path / "t", owners=False)
    assert stat.S_IMODE((tmp_path / "t" / "tool").stat().st_mode) == 0o755


def test_a_walk_follows_no_link_and_waits_for_no_fifo(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "dir link").symlink_to(tmp_path)
    os.mkfifo(source / "fifo")
    kinds = {entry.path[-1]: entry.kind for entry in walk_tree(source) if isinstance(entry, Entry)}
    assert kinds == {b"link": Kind.SYMLINK, b"dir link": Kind.SYMLINK, b"fifo": Kind.FIFO}


def test_what_vanishes_changes_or_cannot_be_read_is_in_the_outcome(source: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (source / name).write_bytes(name.encode() * 1000)
    (source / "dir").mkdir()
    entries: list[Entry | Problem] = []
    repository = a_repository()
    with repository.begin() as writer:
        for item in walk_tree(source):
            entries.append(item)
            if item.path == (b"a",):  # goes on after it was opened
                with (source / "a").open("ab") as more:
                    more.write(b"more")
                (source / "c").unlink()
                (source / "dir").rmdir()
                (source / "dir").symlink_to("/")
            if item.path == (b"d",):
                os.truncate(source / "d", 10)
            writer.add(item)
        writer.finish_tree()
        written = writer.commit(at=NOON)
    problems = {problem.path[-1]: problem.what for problem in written.problems}
    assert "changed while read" in problems[b"a"]
    assert "vanished" in problems[b"c"]
    assert "changed while read" in problems[b"d"]
    assert not written.is_complete
    kept = {path[-1]: node for path, node in repository.entries(written.snapshot_id)}
    assert b"c" not in kept
    assert kept[b"d"].metadata.size == 10
    assert b"dir" not in kept or kept[b"dir"].kind is Kind.SYMLINK


def test_a_file_swapped_for_a_link_between_look_and_open_is_not_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (source / "f").write_text("public")
    first = a_repository().write(walk_tree(source), at=NOON)
    assert first.problems == ()

    walk = walk_tree(source)
    real = os.open

    def swap_then_open(path: bytes, flags: int, **more: int) -> int:
        if path == b"f":
            (source / "f").unlink()
            (source / "f").symlink_to(tmp_path / "secret")
        return real(path, flags, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "open", swap_then_open)
        items = list(walk)
    assert [type(item) for item in items] == [Problem]


def test_a_deep_tree_is_walked_and_restored(source: Path, tmp_path: Path) -> None:
    depth = 400
    descriptor = os.open(source, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    repository = a_repository()
    written = repository.write(walk_tree(source), at=NOON)
    assert (written.dirs, written.problems) == (depth, ())
    restored = repository.restore(written.snapshot_id, tmp_path / "restored")
    assert (restored.dirs, restored.problems) == (depth, ())


def test_nothing_stays_open(source: Path, tmp_path: Path, descriptor_count: None) -> None:
    for number in range(300):
        (source / f"{number}").write_bytes(b"x" * number)
    repository = a_repository()
    walk = walk_tree(source)
    next(walk)
    walk.close()  # type: ignore[attr-defined] # a generator
    written = repository.write(walk_tree(source), at=NOON)
    repository.restore(written.snapshot_id, tmp_path / "restored", verify=True)


def test_set_id_bits_are_dropped_when_the_owner_cannot_be_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    repository = a_repository()
    meta = Metadata(mode=0o6755, uid=12345, gid=12345)
    entries = [
        Entry((b"pipe",), Kind.FIFO, meta),
        Entry((b"tool",), Kind.FILE, meta, BytesContent(b"#!")),
    ]
    written = repository.write(entries, at=NOON)
    monkeypatch.setattr(os, "chown", refuse)  # as for a root without that capability
    restored = repository.restore(written.snapshot_id, tmp_path / "t", owners=True)
    assert len(restored.problems) == 2
    for name in ("pipe", "tool"):
        assert stat.S_IMODE((tmp_path / "t" / name).stat().st_mode) == 0o755


def test_the_mode_of_what_a_swapped_name_leads_to_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.touch(mode=0o600)
    repository = a_repository()
    written = repository.write([Entry((b"pipe",), Kind.FIFO, Metadata(mode=0o666))], at=NOON)
    real = os.mkfifo

    def made_and_swapped(path: bytes, mode: int, *, dir_fd: int) -> None:
        real(path, mode, dir_fd=dir_fd)
        os.unlink(path, dir_fd=dir_fd)
        os.symlink(victim, path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkfifo", made_and_swapped)
    restored = repository.restore(written.snapshot_id, tmp_path / "t", owners=False)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert "somebody put a link in its place" in str(restored.problems[0])


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param('"name":"b","type":"irregular"', id="unknown kind"),
        pytest.param('"name":".","type":"file"', id="name"),
        pytest.param('"name":"b","type":"file","uid":-1', id="number"),
        pytest.param(r'"name":"b","type":"symlink","linktarget":"x\u0000y"', id="zero byte in a target"),
    ],
)
def test_one_bad_entry_does_not_stand_in_the_way_of_the_others(bad: str, tmp_path: Path) -> None:
    times = '"mtime":"2026-01-01T00:00:00Z","atime":"2026-01-01T00:00:00Z","ctime":"2026-01-01T00:00:00Z"'
    good = ",".join(f'{{"name":"{name}","type":"fifo",{times}}}' for name in "ac")
    repository = a_repository()
    tree = f'{{"nodes":[{{{bad},{times}}},{good}]}}\n'.encode()
    restored = repository.restore(a_snapshot_of(repository, tree), tmp_path / "t")
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["a", "c"]
    assert len(restored.problems) == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(r'"size":7', '"size":6', id="another size"),
        pytest.param(r'"content":\["(..)', r'"content":["\1 ', id="a blank in an id"),
        pytest.param(r'"content":\["(..)', r'"content":["zz', id="no id"),
        pytest.param(r'"\]\}', '"],"error":["x"]}', id="a field of others"),
    ],
)
def test_a_parent_that_is_wrong_costs_only_speed(before: str, after: str, source: Path) -> None:
    (source / "f").write_bytes(b"content")
    repository = a_repository()
    good = repository.write(walk_tree(source), at=NOON).snapshot.tree
    text = re.sub(before, after, bytes(repository.reader().read(BlobKind.TREE, good)).decode(), count=1)
    wrong = a_snapshot_of(repository, text.encode())
    with repository.begin() as writer:
        for entry in walk_tree(source, parent=repository.parent(wrong, writer.index)):
            writer.add(entry)
        assert writer.finish_tree().id == good
        writer.abort()
