"""One file of a restore while it is written: made, filled, proved, given its metadata and its name."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from holdfast.core.errors import DamagedError, UnavailableError
from holdfast.repository.cipher import Buffer
from holdfast.repository.entry import Metadata
from holdfast.repository.pack import PackedBlob
from holdfast.repository.restore_metadata import apply_to_file

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ZEROS = bytes(8 << 20)


class TargetFailedError(UnavailableError):
    """The target cannot be written: full, read-only, gone."""


class RestoredFile:
    """A file below the open descriptor `directory`, written as `name` and then renamed to `final` if that differs.

    `content` are the ids and lengths of its blobs in order, which a file that is read back is held against.
    """

    __slots__ = (
        "_descriptor",
        "broken",
        "content",
        "directory",
        "final",
        "identity",
        "is_done",
        "metadata",
        "name",
        "problems",
        "wants_identity",
    )

    def __init__(
        self,
        directory: int,
        name: bytes,
        final: bytes,
        metadata: Metadata,
        content: Sequence[tuple[bytes, int]],
        *,
        wants_identity: bool,
        broken: str | None = None,
    ) -> None:
        self.directory = directory
        self.name = name
        self.final = final
        self.metadata = metadata
        self.content = content
        self.wants_identity = wants_identity
        self.broken = broken
        self.problems: list[str] = []
        self.identity: tuple[int, int] | None = None
        self.is_done = False
        self._descriptor: int | None = None

    def open(self) -> None:
        """Make the file, empty.

        Raises:
            TargetFailedError: the target cannot be written.
        """
        try:
            self._descriptor = os.open(self.name, _NEW_FILE, 0o600, dir_fd=self.directory)
        except OSError as error:
            refuse_if_target_failed(error)
            self.fail(f"could not be restored: {error.strerror}")

    def write(self, content: Buffer, offset: int) -> None:
        """Write some of the content.

        Raises:
            TargetFailedError: the target cannot be written.
        """
        if self._descriptor is None:
            return
        view = memoryview(content)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            refuse_if_target_failed(error)
            self.fail(f"could not be written: {error.strerror}")

    def fail(self, what: str) -> None:
        """Say why the file cannot be what was backed up; the first reason stays."""
        self.broken = self.broken or what

    def finish(self, *, verify: bool, owners: bool) -> None:
        """Give the file its metadata and its name. One that is not what was backed up is left to `let_go`.

        Raises:
            TargetFailedError: the target cannot be written.
        """
        descriptor = self._descriptor
        if descriptor is None or self.broken is not None:
            self.problems.append(self.broken or "could not be restored")
            return
        try:
            # Only where it ends in a hole: file systems take a truncation to the present size for real work.
            if os.fstat(descriptor).st_size != self.metadata.size:
                os.ftruncate(descriptor, self.metadata.size)
            if verify and not self._reads_back(descriptor):
                self.problems.append("what was written does not read back")
                return
            self.problems += apply_to_file(descriptor, self.metadata, owners=owners)
            if self.name != self.final:
                os.rename(self.name, self.final, src_dir_fd=self.directory, dst_dir_fd=self.directory)
            if self.wants_identity:
                found = os.fstat(descriptor)
                self.identity = found.st_dev, found.st_ino
        except OSError as error:
            refuse_if_target_failed(error)
            self.problems.append(f"could not be restored: {error.strerror}")
            return
        self.is_done = True
        self.let_go()

    def let_go(self) -> None:
        """Close the file; one that is not finished is removed."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        os.close(descriptor)
        if not self.is_done:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self.directory)

    def remove_rest(self) -> None:
        """Remove what a process that died has left of a file, which then still has another name than its own."""
        if not self.is_done and self.name != self.final:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self.directory)

    def _reads_back(self, descriptor: int) -> bool:
        offset = 0
        for blob_id, length in self.content:
            if hashlib.sha256(os.pread(descriptor, length, offset)).digest() != blob_id:
                return False
            offset += length
        return True


class Piece(NamedTuple):
    """A blob, where its sealed bytes begin in what was fetched, and which files have its content at which offset."""

    blob: PackedBlob
    start: int
    uses: Sequence[tuple[RestoredFile, int]]


def write_pieces(
    pieces: Iterable[Piece], data: memoryview, open_blob: Callable[[PackedBlob, memoryview], Buffer]
) -> int:
    """Open blobs and write them where they belong; return how many bytes were written, holes left out.

    Raises:
        TargetFailedError: the target cannot be written.
    """
    written = 0
    for blob, start, uses in pieces:
        try:
            content = open_blob(blob, data[start : start + blob.length])
        except DamagedError as error:
            for file, _ in uses:
                file.fail(str(error))
            continue
        if _is_zero(content):
            continue
        for file, offset in uses:
            file.write(content, offset)
        written += len(content) * len(uses)
    return written


@contextmanager
def being_written(files: Sequence[RestoredFile], *, verify: bool, owners: bool) -> Iterator[None]:
    """Make files, let the block fill them, and finish them. None stays half-made.

    Raises:
        TargetFailedError: the target cannot be written.
    """
    try:
        for file in files:
            file.open()
        yield
        for file in files:
            file.finish(verify=verify, owners=owners)
    finally:
        for file in files:
            file.let_go()


def refuse_if_target_failed(error: OSError) -> None:
    """Raise what ends a restore if this error of one file is one of the whole target.

    Raises:
        TargetFailedError: it is.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE):
        raise TargetFailedError(f"the target cannot be written: {error.strerror}") from error


def _is_zero(content: Buffer) -> bool:
    if not content or content[0] != 0:
        return False
    if len(content) > len(_ZEROS):
        return not any(content)
    # The comparison ends at the first byte that differs.
    return memoryview(content) == memoryview(_ZEROS)[: len(content)]
