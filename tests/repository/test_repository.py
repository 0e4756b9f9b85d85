"""Backing up, restoring, and restic's opinion of it."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic
from tests.repository.trees import describe, make_awkward_tree

from holdfast.repository.check import Depth
from holdfast.repository.entry import BytesContent, Entry, InvalidEntryError, Problem
from holdfast.repository.filetree import walk_tree
from holdfast.repository.key_file import NoRepositoryError, WrongPasswordError
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import NotAFileError, PathNotFoundError, Repository, RepositoryExistsError
from holdfast.repository.restore import Existing, TargetNotEmptyError
from holdfast.repository.storage import LocalStorage
from holdfast.repository.tree import encode_node, encode_tree


def test_what_was_backed_up_is_restored_exactly_and_restic_finds_no_error(
    repository: Repository, source: Path, tmp_path: Path, restic: Restic
) -> None:
    make_awkward_tree(source)
    written = repository.write(walk_tree(source), at=NOON, hostname="a-host", paths=["/source"], tags=["one"])
    assert written.problems == ()
    restic.check()
    restored = repository.restore(written.snapshot_id, tmp_path / "restored", verify=True)
    assert restored.problems == ()
    assert describe(tmp_path / "restored") == describe(source)
    assert restored.files == written.files


def test_restic_restores_what_we_wrote(repository: Repository, source: Path, tmp_path: Path, restic: Restic) -> None:
    make_awkward_tree(source)
    (source / "odd link").unlink()  # this release of restic cannot keep a link's target that is not UTF-8
    written = repository.write(walk_tree(source), at=NOON)
    restic.run("restore", written.snapshot_id, "--target", str(tmp_path / "restored"))
    assert describe(tmp_path / "restored") == describe(source)


def test_we_restore_what_restic_wrote(repository: Repository, source: Path, tmp_path: Path, restic: Restic) -> None:
    make_awkward_tree(source)
    (source / "odd link").unlink()
    restic.run("backup", ".", cwd=source)
    (snapshot,) = repository.snapshots()
    assert repository.restore(snapshot.id, tmp_path / "restored").problems == ()
    assert describe(tmp_path / "restored") == describe(source)


def test_our_trees_have_the_ids_that_restic_gives_them(repository: Repository, source: Path, restic: Restic) -> None:
    make_awkward_tree(source)
    for large in ("large", "random", "sparse", "all hole", "odd link"):  # cut elsewhere, or beyond this restic
        (source / large).unlink()
    written = repository.write(walk_tree(source), at=NOON)
    restic.run("backup", ".", cwd=source)
    assert {snapshot.tree for snapshot in repository.snapshots()} == {written.snapshot.tree}


def test_every_tree_that_restic_wrote_is_encoded_to_the_same_bytes_again(
    repository: Repository, source: Path, restic: Restic
) -> None:
    make_awkward_tree(source)
    (source / "odd link").unlink()  # this restic loses its target
    restic.run("backup", ".", cwd=source)
    (snapshot,) = repository.snapshots()
    reader = repository.reader()
    waiting, seen = [snapshot.tree], 0
    while waiting:
        tree = waiting.pop()
        nodes = reader.tree(tree)
        waiting += [node.subtree for node in nodes if node.subtree is not None]
        encoded = [
            encode_node(
                node.name,
                node.kind,
                node.metadata,
                size=node.metadata.size,
                content=node.content,
                subtree=node.subtree,
            )
            for node in nodes
        ]
        assert encode_tree(encoded) == bytes(reader.read(BlobKind.TREE, tree))
        seen += 1
    assert seen > 30


def test_an_unchanged_file_is_not_read_again(repository: Repository, source: Path) -> None:
    make_awkward_tree(source)
    first = repository.write(walk_tree(source), at=NOON)
    (source / "large").write_bytes(b"new content")
    with repository.begin() as writer:
        for entry in walk_tree(source, parent=repository.parent(first.snapshot_id, writer.index)):
            writer.add(entry)
        writer.finish_tree()
        second = writer.commit(at=NOON + timedelta(hours=1), parent=first.snapshot_id)
    assert second.bytes_read == len(b"new content")
    assert second.files_kept == second.files - 1
    assert second.snapshot.parent == first.snapshot_id
    assert repository.write(walk_tree(source), at=NOON).snapshot.tree == second.snapshot.tree


def test_a_file_of_which_only_the_metadata_changed_is_told_as_it_is_now(repository: Repository, source: Path) -> None:
    for name in ("same", "mode", "attribute", "link"):
        (source / name).write_bytes(name.encode())
    os.setxattr(source / "same", "user.note", b"kept")
    first = repository.write(walk_tree(source), at=NOON)
    (source / "mode").chmod(0o640)
    os.setxattr(source / "attribute", "user.note", b"new")
    (source / "second link").hardlink_to(source / "link")
    with repository.begin() as writer:
        for entry in walk_tree(source, parent=repository.parent(first.snapshot_id, writer.index)):
            writer.add(entry)
        tree = writer.finish_tree()
        writer.abort()
    assert tree.progress.files_kept == 1
    assert repository.write(walk_tree(source), at=NOON).snapshot.tree == tree.id


def test_the_same_content_is_stored_once() -> None:
    repository = a_repository()
    content = os.urandom(5 << 20)
    first = repository.write([a_file(b"a", content=content)], at=NOON)
    second = repository.write([a_file(b"b", content=content)], at=NOON)
    assert first.bytes_new == len(content)
    assert second.bytes_new == 0


def test_nothing_is_listed_before_the_caller_says_that_the_source_ended_well(restic: Restic) -> None:
    repository = a_repository()
    writer = repository.begin()
    writer.add(a_file(b"dump"))
    writer.finish_tree()
    assert repository.snapshots() == []
    writer.abort()
    assert repository.snapshots() == []
    assert repository.locks() == []


def test_a_fence_that_refuses_leaves_no_snapshot() -> None:
    class SupersededError(Exception):
        pass

    def fence() -> None:
        raise SupersededError

    repository = a_repository()
    with pytest.raises(SupersededError):
        repository.write([a_file(b"dump")], at=NOON, before_snapshot=fence)
    assert repository.snapshots() == []
    assert repository.locks() == []


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([a_file(b"b"), a_file(b"a")], id="against the byte order"),
        pytest.param([a_file(b"a"), a_file(b"a")], id="twice"),
        pytest.param([a_file(b"a", b"b")], id="without its directory"),
        pytest.param([a_directory(b"a"), a_file(b"b"), a_file(b"a", b"c")], id="back into a directory"),
        pytest.param([a_file(b"..")], id="dot dot"),
        pytest.param([a_file(b"a/b")], id="slash"),
        pytest.param([a_file(b"")], id="empty"),
        pytest.param([a_directory()], id="the root"),
    ],
)
def test_a_stream_out_of_order_is_refused(entries: list[Entry]) -> None:
    repository = a_repository()
    with pytest.raises(InvalidEntryError):
        repository.write(entries, at=NOON)
    assert repository.snapshots() == []
    assert repository.locks() == []


def test_problems_of_the_source_are_in_the_outcome() -> None:
    problem = Problem((b"gone",), "vanished before it was read")
    written = a_repository().write([a_file(b"a"), problem], at=NOON)
    assert written.problems == (problem,)
    assert not written.is_complete


def test_a_target_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    repository = a_repository()
    written = repository.write([a_file(b"a")], at=NOON)
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(TargetNotEmptyError):
        repository.restore(written.snapshot_id, tmp_path)
    repository.restore(written.snapshot_id, tmp_path, existing=Existing.KEEP)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "precious"]


def test_patterns_choose_what_is_restored(tmp_path: Path) -> None:
    repository = a_repository()
    entries = [
        a_directory(b"etc"),
        a_file(b"etc", b"hosts"),
        a_directory(b"etc", b"ssh"),
        a_file(b"etc", b"ssh", b"key.pub"),
        a_directory(b"srv"),
        a_file(b"srv", b"key.pub"),
        a_file(b"top"),
    ]
    written = repository.write(entries, at=NOON)

    def restored(name: str, *patterns: str) -> set[str]:
        repository.restore(written.snapshot_id, tmp_path / name, include=patterns)
        return {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()}

    assert restored("a", "*.pub") == {"etc/ssh/key.pub", "srv/key.pub"}
    assert restored("b", "/etc/*.pub") == set()
    assert restored("c", "/etc/**/*.pub", "top") == {"etc/ssh/key.pub", "top"}
    assert restored("d", "/etc") == {"etc/hosts", "etc/ssh/key.pub"}


def test_one_file_is_dumped_to_a_stream() -> None:
    repository = a_repository()
    content = os.urandom(3 << 20)
    written = repository.write([a_directory(b"d"), a_file(b"d", b"f", content=content)], at=NOON)
    out = io.BytesIO()
    assert repository.dump(written.snapshot_id, (b"d", b"f"), out) == len(content)
    assert out.getvalue() == content
    with pytest.raises(PathNotFoundError):
        repository.dump(written.snapshot_id, (b"d", b"g"), out)
    with pytest.raises(NotAFileError):
        repository.dump(written.snapshot_id, (b"d",), out)


def test_a_repository_opens_with_its_password_only(storage: LocalStorage) -> None:
    with pytest.raises(NoRepositoryError):
        Repository.open(storage, PASSWORD, host_id="a-host")
    made = Repository.create(storage, PASSWORD, host_id="a-host", at=NOON)
    assert Repository.open(storage, PASSWORD, host_id="a-host").id == made.id
    with pytest.raises(WrongPasswordError):
        Repository.open(storage, "wrong", host_id="a-host")
    with pytest.raises(RepositoryExistsError):
        Repository.create(storage, PASSWORD, host_id="a-host", at=NOON)


def test_a_forgotten_snapshot_is_gone_and_the_others_restore(
    repository: Repository, restic: Restic, tmp_path: Path
) -> None:
    first = repository.write([a_file(b"a", content=b"one")], at=NOON)
    second = repository.write([a_file(b"a", content=b"two")], at=NOON)
    repository.forget([first.snapshot_id])
    assert [snapshot.id for snapshot in repository.snapshots()] == [second.snapshot_id]
    restic.check()
    repository.restore(second.snapshot_id, tmp_path / "restored")
    assert (tmp_path / "restored" / "a").read_bytes() == b"two"


def test_two_of_our_writers_and_one_restic_write_at_once(
    storage: LocalStorage, repository: Repository, source: Path, restic: Restic, tmp_path: Path
) -> None:
    shared = [a_file(b"%03d" % number, content=os.urandom(200_000)) for number in range(30)]
    for entry in shared[:5]:
        assert isinstance(entry.content, BytesContent)
        (source / os.fsdecode(entry.path[0])).write_bytes(entry.content.data)

    def write(host: str) -> str:
        mine = Repository.open(storage, PASSWORD, host_id=host)
        return mine.write(shared, at=NOON, hostname=host).snapshot_id

    with ThreadPoolExecutor(3) as pool:
        ours = [pool.submit(write, host) for host in ("one", "two")]
        theirs = pool.submit(restic.run, "backup", ".", cwd=source)
        ids = [task.result() for task in ours]
        theirs.result()
    restic.check()
    assert len(repository.snapshots()) == 3
    assert repository.check(Depth.BYTES).problems == ()
    for number, snapshot in enumerate(ids):
        assert repository.restore(snapshot, tmp_path / str(number), verify=True).problems == ()


def test_an_unchanged_tree_has_the_same_id_whether_it_was_read_or_kept(repository: Repository, source: Path) -> None:
    make_awkward_tree(source)
    first = repository.write(walk_tree(source), at=NOON)
    with repository.begin() as writer:
        for entry in walk_tree(source, parent=repository.parent(first.snapshot_id, writer.index)):
            writer.add(entry)
        tree = writer.finish_tree()
        second = writer.commit(at=NOON)
    assert tree.id == first.snapshot.tree
    assert (second.files_kept, second.bytes_read) == (first.files, 0)
