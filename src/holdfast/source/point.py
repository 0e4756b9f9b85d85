"""A snapshot of a repository as a target reads it."""

from dataclasses import dataclass
from typing import BinaryIO, cast

from holdfast.repository.repository import Repository
from holdfast.source.protocol import Output


@dataclass(frozen=True, slots=True)
class SnapshotPoint:
    """The entries of one snapshot."""

    repository: Repository
    snapshot_id: str

    def names(self, directory: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the names in one directory."""
        depth = len(directory)
        found = self.repository.entries(self.snapshot_id)
        return tuple(path[-1] for path, _ in found if len(path) == depth + 1 and path[:depth] == directory)

    def dump(self, path: tuple[bytes, ...], out: Output) -> int:
        """Write the content of one file into `out`."""
        return self.repository.dump(self.snapshot_id, path, cast("BinaryIO", out))
