"""What snapshots refer to: every tree and every blob below them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import orjson

from holdfast.core.errors import DamagedError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.pack import ID_BYTES, BlobKind
from holdfast.repository.tree import BadTreeError, decode_tree


@dataclass(slots=True)
class References:
    """Ids of blobs, by kind."""

    data: set[bytes] = field(default_factory=set)
    trees: set[bytes] = field(default_factory=set)

    def has(self, kind: BlobKind, blob_id: bytes) -> bool:
        """Whether a blob is among them."""
        return blob_id in (self.trees if kind is BlobKind.TREE else self.data)

    def __len__(self) -> int:
        return len(self.data) + len(self.trees)


def references_of(
    reader: BlobReader,
    trees: Iterable[bytes],
    *,
    damaged: Callable[[bytes, DamagedError], None] | None = None,
    look_around: Callable[[], None] | None = None,
    validate: bool = False,
) -> References:
    """Return everything that these root trees refer to, themselves included.

    `validate` also decodes every field of every node, as a restore does.
    A damaged tree is handed to `damaged` and passed over; without that, it is an error.

    Raises:
        DamagedError: a tree is damaged or missing.
    """
    found = References()
    waiting = list(trees)
    while waiting:
        tree = waiting.pop()
        if tree in found.trees:
            continue
        found.trees.add(tree)
        if look_around is not None:
            look_around()
        try:
            text = bytes(reader.read(BlobKind.TREE, tree))
            data, subtrees = tree_references(text)
            if validate:
                decode_tree(text)
        except DamagedError as error:
            if damaged is None:
                raise
            damaged(tree, error)
            continue
        found.data.update(data)
        waiting += subtrees
    return found


def tree_references(text: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the data blobs and the subtrees that a tree's JSON names.

    Raises:
        BadTreeError: it is no tree.
    """
    data: list[bytes] = []
    subtrees: list[bytes] = []
    try:
        for node in orjson.loads(text)["nodes"] or ():
            content = node.get("content")
            if content:
                data += map(_id, content)
            subtree = node.get("subtree")
            if subtree is not None:
                subtrees.append(_id(subtree))
            elif node["type"] == "dir":
                raise BadTreeError(f"the directory {node['name']!r} has no tree")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTreeError(f"a tree cannot be read: {error}") from error
    return data, subtrees


def _id(text: str) -> bytes:
    out = bytes.fromhex(text)
    if len(text) != 2 * ID_BYTES or len(out) != ID_BYTES:  # blanks between the digits would be taken, too
        raise BadTreeError("a tree names a blob by something that is no id")
    return out
