"""The parent snapshot: what a source has to be compared with, so that unchanged files are not read again."""

from holdfast.core.errors import DamagedError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.pack import BlobKind
from holdfast.repository.tree import Node, decode_node, split_tree


class ParentTree:
    """The tree of an earlier snapshot. A damaged one costs only speed: what it held is read again."""

    def __init__(self, reader: BlobReader, tree: bytes) -> None:
        self._reader = reader
        self.root = tree

    def text(self, tree: bytes | None) -> bytes:
        """Return the text of one of its trees, nothing if there is none or it is damaged."""
        if tree is None:
            return b""
        try:
            return bytes(self._reader.read(BlobKind.TREE, tree))
        except DamagedError:
            return b""

    def find(self, path: tuple[bytes, ...]) -> Node | None:
        """Return the node at `path`, or None."""
        node: Node | None = None
        tree: bytes | None = self.root
        for name in path:
            try:
                text = split_tree(self.text(tree)).get(name)
                node = None if text is None else decode_node(text)
            except DamagedError:
                return None
            if node is None:
                return None
            tree = node.subtree
        return node
