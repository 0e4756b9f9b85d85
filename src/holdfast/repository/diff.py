"""What is different between two snapshots."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.entry import Kind
from holdfast.repository.tree import Node


class Change(enum.Enum):
    """How an entry differs."""

    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "content"  # a file's content, a link's target, or the kind of the thing
    METADATA = "metadata"  # mode, owner, mtime or attributes, and nothing else


@dataclass(frozen=True, slots=True)
class Difference:
    """One entry that differs, as it was before and as it is after."""

    path: tuple[bytes, ...]
    change: Change
    before: Node | None
    after: Node | None


def diff_trees(reader: BlobReader, before: bytes, after: bytes) -> Iterator[Difference]:
    """Yield what differs between two trees, in the order of a stream; equal directories are not even read.

    Raises:
        DamagedError: a tree is damaged or missing.
    """
    waiting: list[Iterator[Difference | tuple[tuple[bytes, ...], bytes | None, bytes | None]]]
    waiting = [_level(reader, (), before, after)]
    while waiting:
        item = next(waiting[-1], None)
        if item is None:
            waiting.pop()
        elif isinstance(item, Difference):
            yield item
        else:
            waiting.append(_level(reader, *item))


def _level(
    reader: BlobReader, path: tuple[bytes, ...], before: bytes | None, after: bytes | None
) -> Iterator[Difference | tuple[tuple[bytes, ...], bytes | None, bytes | None]]:
    """Yield the differences of one directory, and each pair of subtrees to go on with."""
    if before == after:
        return
    old = {node.name: node for node in reader.tree(before)} if before is not None else {}
    new = {node.name: node for node in reader.tree(after)} if after is not None else {}
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        below = (*path, name)
        change = _change(was, now)
        if change is not None:
            yield Difference(below, change, was, now)
        was_tree = was.subtree if was is not None else None
        now_tree = now.subtree if now is not None else None
        if was_tree is not None or now_tree is not None:
            yield below, was_tree, now_tree


def _change(was: Node | None, now: Node | None) -> Change | None:
    if was is None:
        return Change.ADDED
    if now is None:
        return Change.REMOVED
    one, other = was.metadata, now.metadata
    if was.kind is not now.kind or one.link_target != other.link_target or one.rdev != other.rdev:
        return Change.CONTENT
    if was.kind is Kind.FILE and (one.size != other.size or was.content != now.content):
        # Two ways of cutting the same bytes count as a change: telling would mean reading both.
        return Change.CONTENT
    same = (one.mode, one.uid, one.gid, one.mtime_ns, one.xattrs) == (
        other.mode,
        other.uid,
        other.gid,
        other.mtime_ns,
        other.xattrs,
    )
    return None if same else Change.METADATA
