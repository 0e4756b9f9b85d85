"""Copying a tree to another repository, blob by blob, sending only what is missing there.

Cuts stay where they are, so blobs keep their ids; they are sealed anew under the other repository's key. A tree that
is there already is walked all the same: only the index says that a blob is there, never what refers to it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.blob_writer import BlobWriter
from holdfast.repository.pack import BlobKind
from holdfast.repository.references import tree_references

_BATCH_BYTES = 32 << 20


@dataclass(slots=True)
class TreeCounts:
    """What a tree holds, each directory that occurs twice counted once."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    bytes_total: int = 0
    bytes_read: int = 0


def copy_tree(
    reader: BlobReader, root: bytes, writer: BlobWriter, look_around: Callable[[TreeCounts], None]
) -> TreeCounts:
    """Copy everything below a root tree that the writer's repository lacks; the caller flushes.

    Raises:
        DamagedError: something in the source is damaged or missing.
        HoldfastError: something could not be stored.
    """
    counts = TreeCounts()
    seen: set[bytes] = set()
    sent: set[bytes] = set()
    batch: list[bytes] = []
    size = 0
    waiting = [root]
    while waiting:
        tree = waiting.pop()
        if tree in seen:
            continue
        seen.add(tree)
        text = bytes(reader.read(BlobKind.TREE, tree))
        _count(text, counts)
        data, subtrees = tree_references(text)
        waiting += reversed(subtrees)
        for blob in data:
            if blob not in sent and not writer.index.has(BlobKind.DATA, blob):
                sent.add(blob)
                batch.append(blob)
                size += reader.locate(BlobKind.DATA, blob).blob.plain_length
                if size >= _BATCH_BYTES:
                    _send(reader, batch, writer, counts, look_around)
                    batch, size = [], 0
        writer.save(BlobKind.TREE, text)
        look_around(counts)
    _send(reader, batch, writer, counts, look_around)
    return counts


def _send(
    reader: BlobReader,
    batch: list[bytes],
    writer: BlobWriter,
    counts: TreeCounts,
    look_around: Callable[[TreeCounts], None],
) -> None:
    for _, content in reader.read_many(BlobKind.DATA, batch):
        counts.bytes_read += len(content)
        writer.submit(memoryview(content), _ignore)
        look_around(counts)


def _ignore(_blob_id: bytes) -> None:
    """Nobody waits for the id of a blob that is known by it."""


def _count(text: bytes, counts: TreeCounts) -> None:
    for node in orjson.loads(text)["nodes"] or ():
        match node.get("type"):
            case "file":
                counts.files += 1
                counts.bytes_total += node.get("size", 0)
            case "dir":
                counts.dirs += 1
            case _:
                counts.others += 1
