"""A repository as it was first released: whatever changes, it opens and restores."""

import base64
import io
import json
from pathlib import Path

from tests.repository.conftest import NOON

from holdfast.repository.check import Depth
from holdfast.repository.entry import Kind, Metadata
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.storage import MemoryStorage
from holdfast.repository.tree import decode_tree, encode_node, encode_tree

NAME = "café".encode() + b" \xff\n"
FIRST = Path(__file__).parents[1] / "golden" / "repository-1.json"
TREE = "9a817ad27265134718e0b29d7c45fb135f8d5c430ad5af5d30effd7525a72065"


def first_release() -> Repository:
    storage = MemoryStorage()
    storage.files = {name: base64.b64decode(data) for name, data in json.loads(FIRST.read_text()).items()}
    return Repository.open(storage, "golden", host_id="h")


def test_a_repository_of_the_first_release_is_sound() -> None:
    report = first_release().check(Depth.BYTES)
    assert report.problems == report.hints == ()


def test_a_repository_of_the_first_release_restores() -> None:
    repository = first_release()
    (snapshot,) = repository.snapshots()
    assert (snapshot.at, snapshot.hostname, snapshot.paths, snapshot.tags) == (NOON, "golden", ("/golden",), ("first",))
    assert snapshot.tree.hex() == TREE
    nodes = dict(repository.entries(snapshot.id))
    assert [(path, node.kind) for path, node in nodes.items()] == [
        ((b"dir",), Kind.DIR),
        ((b"dir", NAME), Kind.FILE),
        ((b"dir", b"empty"), Kind.FILE),
        ((b"dir", b"link"), Kind.SYMLINK),
        ((b"fifo",), Kind.FIFO),
        ((b"sparse",), Kind.FILE),
    ]
    assert nodes[b"dir", NAME].metadata == Metadata(
        mode=0o4640,
        uid=1000,
        gid=100,
        user="ada",
        group="users",
        mtime_ns=1234567890123456789,
        atime_ns=1,
        ctime_ns=-1,
        size=800,
        inode=7,
        device=3,
        links=1,
        xattrs=(("user.note", b"\x00\xff"),),
    )
    assert nodes[b"dir", b"link"].metadata.link_target == b"../\xfe<&>"
    for path, expected in (
        ((b"dir", NAME), b"content\n" * 100),
        ((b"dir", b"empty"), b""),
        ((b"sparse",), b"begin" + bytes(20 << 20) + b"end"),
    ):
        out = io.BytesIO()
        repository.dump(snapshot.id, path, out)
        assert out.getvalue() == expected


def test_the_same_nodes_have_the_same_bytes_today() -> None:
    repository = first_release()
    reader = repository.reader()
    (snapshot,) = repository.snapshots()
    ((_, directory), *_) = repository.entries(snapshot.id)
    assert directory.subtree is not None
    for tree in (snapshot.tree, directory.subtree):
        stored = bytes(reader.read(BlobKind.TREE, tree))
        again = [
            encode_node(
                node.name,
                node.kind,
                node.metadata,
                size=node.metadata.size,
                content=node.content,
                subtree=node.subtree,
            )
            for node in decode_tree(stored)
        ]
        assert encode_tree(again) == stored
