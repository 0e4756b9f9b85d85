"""The parent snapshot: what a source has to be compared with, so that unchanged files are not read again."""

from holdfast.core.errors import DamagedError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.entry import Content, Kept, Kind, Metadata
from holdfast.repository.tree import Node


class ParentTree:
    """The tree of an earlier snapshot, walked along with the source. Only the directories of one path are kept."""

    def __init__(self, reader: BlobReader, tree: bytes) -> None:
        self._reader = reader
        self._path: tuple[bytes, ...] = ()
        self._levels: list[dict[bytes, Node]] = [self._load(tree)]

    def find(self, path: tuple[bytes, ...]) -> Node | None:
        """Return the node at `path`, or None."""
        if not path:
            return None
        directory = self._directory(path[:-1])
        return None if directory is None else directory.get(path[-1])

    def unchanged(self, path: tuple[bytes, ...], metadata: Metadata, otherwise: Content) -> Kept | None:
        """Return the content of the file at `path` if size, mtime, ctime and inode are as they were, else None."""
        node = self.find_unchanged(path, metadata.size, metadata.mtime_ns, metadata.ctime_ns, metadata.inode)
        return None if node is None or node.content is None else Kept(node.content, metadata.size, otherwise)

    def find_unchanged(
        self, path: tuple[bytes, ...], size: int, mtime_ns: int, ctime_ns: int, inode: int
    ) -> Node | None:
        """Return the node of the file at `path` if all of these are as they were, else None."""
        node = self.find(path)
        if node is None or node.kind is not Kind.FILE or node.content is None:
            return None
        was = node.metadata
        same = was.mtime_ns == mtime_ns and was.size == size and was.ctime_ns == ctime_ns and was.inode == inode
        return node if same else None

    def _directory(self, path: tuple[bytes, ...]) -> dict[bytes, Node] | None:
        common = 0
        while common < min(len(path), len(self._path)) and path[common] == self._path[common]:
            common += 1
        del self._levels[common + 1 :]
        self._path = self._path[:common]
        for name in path[common:]:
            node = self._levels[-1].get(name)
            self._levels.append({} if node is None or node.subtree is None else self._load(node.subtree))
            self._path = (*self._path, name)
        return self._levels[-1]

    def _load(self, tree: bytes) -> dict[bytes, Node]:
        try:
            return {node.name: node for node in self._reader.tree(tree)}
        except DamagedError:
            # A damaged parent costs only speed: what it held is read again.
            return {}
