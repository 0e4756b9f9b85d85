"""The parent snapshot: what a source has to be compared with, so that unchanged files are not read again."""

from typing import NamedTuple

from holdfast.core.errors import DamagedError
from holdfast.repository import go_json
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.entry import Content, Kept, Kind, Metadata
from holdfast.repository.pack import BlobKind
from holdfast.repository.tree import Node, decode_node, decode_raw_tree

_Nodes = dict[bytes, dict[str, object]]


class UnchangedFile(NamedTuple):
    """What the parent knows of a file that has not changed: its blobs, and its extended attributes."""

    content: tuple[bytes, ...]
    xattrs: tuple[tuple[str, bytes], ...]


class ParentTree:
    """The tree of an earlier snapshot, walked along with the source. Only the directories of one path are kept."""

    def __init__(self, reader: BlobReader, tree: bytes) -> None:
        self._reader = reader
        self._path: tuple[bytes, ...] = ()
        self._levels: list[_Nodes] = [self._load(tree)]

    def find(self, path: tuple[bytes, ...]) -> Node | None:
        """Return the node at `path`, or None."""
        if not path:
            return None
        value = self._directory(path[:-1]).get(path[-1])
        try:
            return None if value is None else decode_node(value)
        except DamagedError:
            return None

    def unchanged(self, path: tuple[bytes, ...], metadata: Metadata, otherwise: Content) -> Kept | None:
        """Return the content of the file at `path` if size, mtime, ctime and inode are as they were, else None."""
        known = self.unchanged_file(path, metadata.size, metadata.mtime_ns, metadata.ctime_ns, metadata.inode)
        return None if known is None else Kept(known.content, metadata.size, otherwise)

    def unchanged_file(
        self, path: tuple[bytes, ...], size: int, mtime_ns: int, ctime_ns: int, inode: int
    ) -> UnchangedFile | None:
        """Return what is known of the file at `path` if size, mtime, ctime and inode are as they were, else None."""
        # Millions of files are asked for and nearly all are unchanged: nothing is decoded but what is needed.
        value = self._directory(path[:-1]).get(path[-1]) if path else None
        if value is None or value.get("size", 0) != size or value.get("inode", 0) != inode:
            return None
        if not (_is_time(value.get("mtime"), mtime_ns) and _is_time(value.get("ctime"), ctime_ns)):
            return None
        content, attributes = value.get("content"), value.get("extended_attributes") or ()
        if value.get("type") != Kind.FILE.value or not isinstance(content, list):
            return None
        try:
            xattrs = decode_node(value).metadata.xattrs if attributes else ()
            return UnchangedFile(tuple(map(bytes.fromhex, content)), xattrs)
        except (DamagedError, ValueError, TypeError):
            return None

    def _directory(self, path: tuple[bytes, ...]) -> _Nodes:
        common = 0
        while common < min(len(path), len(self._path)) and path[common] == self._path[common]:
            common += 1
        del self._levels[common + 1 :]
        self._path = self._path[:common]
        for name in path[common:]:
            value = self._levels[-1].get(name)
            subtree = None if value is None else value.get("subtree")
            self._levels.append(self._load(bytes.fromhex(subtree)) if isinstance(subtree, str) else {})
            self._path = (*self._path, name)
        return self._levels[-1]

    def _load(self, tree: bytes) -> _Nodes:
        try:
            return decode_raw_tree(bytes(self._reader.read(BlobKind.TREE, tree)))
        except DamagedError:
            # A damaged parent costs only speed: what it held is read again.
            return {}


def _is_time(text: object, ns: int) -> bool:
    """Whether a time as a tree holds it is this one; ours are compared as they are, others may be of another zone."""
    if not isinstance(text, str):
        return False
    if go_json.time(ns)[1:-1] == text:
        return True
    try:
        return go_json.parse_time(text) == ns
    except go_json.BadJsonError:
        return False
