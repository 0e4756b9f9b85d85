"""The parent snapshot: what a source has to be compared with, so that unchanged files are not read again."""

from holdfast.core.errors import DamagedError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.entry import Content, Kept, Kind, Metadata
from holdfast.repository.pack import BlobKind
from holdfast.repository.tree import Node, decode_node, decode_raw_tree

_Nodes = dict[bytes, dict[str, object]]


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
        node = self.find_unchanged(path, metadata.size, metadata.mtime_ns, metadata.ctime_ns, metadata.inode)
        return None if node is None or node.content is None else Kept(node.content, metadata.size, otherwise)

    def find_unchanged(
        self, path: tuple[bytes, ...], size: int, mtime_ns: int, ctime_ns: int, inode: int
    ) -> Node | None:
        """Return the node of the file at `path` if all of these are as they were, else None."""
        # Most files are unchanged, or their size has changed: that is told without decoding the node.
        value = self._directory(path[:-1]).get(path[-1]) if path else None
        if value is None or value.get("size", 0) != size or value.get("inode", 0) != inode:
            return None
        try:
            node = decode_node(value)
        except DamagedError:
            return None
        was = node.metadata
        same = node.kind is Kind.FILE and was.mtime_ns == mtime_ns and was.ctime_ns == ctime_ns
        return node if same and node.content is not None else None

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
