"""The parent snapshot: what a source has to be compared with, so that unchanged files are not read again."""

from typing import NamedTuple

from holdfast.core.errors import DamagedError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.entry import Content, Kept, Kind, Metadata
from holdfast.repository.pack import BlobKind
from holdfast.repository.tree import Node, decode_node, encode_head, split_tree

_CONTENT = ',"content":["'


class UnchangedFile(NamedTuple):
    """What the parent knows of a file that has not changed: its blobs, and its extended attributes.

    `encoded` is the file's node if nothing at all would be said differently now.
    """

    content: tuple[bytes, ...]
    xattrs: tuple[tuple[str, bytes], ...]
    encoded: str | None = None


class ParentTree:
    """The tree of an earlier snapshot, walked along with the source. Only the directories of one path are kept."""

    def __init__(self, reader: BlobReader, tree: bytes) -> None:
        self._reader = reader
        self._path: tuple[bytes, ...] = ()
        self._levels: list[dict[bytes, str]] = [self._load(tree)]

    def find(self, path: tuple[bytes, ...]) -> Node | None:
        """Return the node at `path`, or None."""
        if not path:
            return None
        text = self._directory(path[:-1]).get(path[-1])
        return None if text is None else _decoded(text)

    def unchanged(self, path: tuple[bytes, ...], metadata: Metadata, otherwise: Content) -> Kept | None:
        """Return the content of the file at `path` if size, mtime, ctime and inode are as they were, else None."""
        known = self.unchanged_file(path, metadata)
        return None if known is None else Kept(known.content, metadata.size, otherwise)

    def unchanged_file(self, path: tuple[bytes, ...], metadata: Metadata) -> UnchangedFile | None:
        """Return what is known of the file at `path` if size, mtime, ctime and inode are as they were, else None.

        `metadata` is the file's now, without extended attributes.
        """
        text = self._directory(path[:-1]).get(path[-1]) if path else None
        if text is None:
            return None
        # Millions of files are asked for and nearly all are unchanged: those say the same, and are not decoded.
        head = encode_head(path[-1], Kind.FILE, metadata, metadata.size)
        if text.startswith(head) and text.startswith(_CONTENT, len(head)) and text.endswith('"]}'):
            blobs = text[len(head) + len(_CONTENT) : -3].split('","')
            return UnchangedFile(tuple(map(bytes.fromhex, blobs)), (), text)
        node = _decoded(text)
        if node is None or node.kind is not Kind.FILE or node.content is None or not _is_same(node.metadata, metadata):
            return None
        return UnchangedFile(node.content, node.metadata.xattrs)

    def _directory(self, path: tuple[bytes, ...]) -> dict[bytes, str]:
        if path == self._path:
            return self._levels[-1]
        common = 0
        while common < min(len(path), len(self._path)) and path[common] == self._path[common]:
            common += 1
        del self._levels[common + 1 :]
        self._path = self._path[:common]
        for name in path[common:]:
            text = self._levels[-1].get(name)
            node = None if text is None else _decoded(text)
            self._levels.append({} if node is None or node.subtree is None else self._load(node.subtree))
            self._path = (*self._path, name)
        return self._levels[-1]

    def _load(self, tree: bytes) -> dict[bytes, str]:
        try:
            return split_tree(bytes(self._reader.read(BlobKind.TREE, tree)))
        except DamagedError:
            # A damaged parent costs only speed: what it held is read again.
            return {}


def _decoded(text: str) -> Node | None:
    try:
        return decode_node(text)
    except DamagedError:
        return None


def _is_same(one: Metadata, other: Metadata) -> bool:
    return (one.size, one.mtime_ns, one.ctime_ns, one.inode) == (
        other.size,
        other.mtime_ns,
        other.ctime_ns,
        other.inode,
    )
