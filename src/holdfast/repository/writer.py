"""Writing one snapshot: entries in, trees out, and the snapshot file last.

The end has two steps. `finish_tree` makes everything durable that the snapshot will name. Then the caller proves that
the source ended well, and only then calls `commit`, which puts the snapshot file; or it calls `abort`, and what was
written is rubbish that nothing names.
"""

import contextlib
import enum
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from holdfast.core.clock import MachineTime
from holdfast.core.errors import HoldfastError, InvalidStateError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.blob_writer import BlobWriter, WriteLimits
from holdfast.repository.chunk import SPARSE_MARK_BYTES, ChunkClass, Chunker, RunCutter
from holdfast.repository.cipher import Box
from holdfast.repository.copy_tree import TreeCounts, copy_tree
from holdfast.repository.entry import (
    Content,
    Entry,
    Extent,
    Hole,
    InvalidEntryError,
    Kept,
    Kind,
    Metadata,
    Noticed,
    Problem,
    UnreadableError,
    path_text,
    refuse_bad_name,
)
from holdfast.repository.index import Index
from holdfast.repository.lock import Lock, LockLostError
from holdfast.repository.pace import Pace
from holdfast.repository.pack import BlobKind
from holdfast.repository.snapshot import Snapshot, put_snapshot
from holdfast.repository.storage import Storage
from holdfast.repository.tree import encode_node, encode_tree

_REPORT_EVERY_SECONDS = 0.25
# A file up to this size is sealed in the caller's thread: handing it over would cost more than the work.
_INLINE_BYTES = 64 << 10
_SHORTER = "changed while read: it became shorter"


class CancelledError(HoldfastError):
    """The work was cancelled from outside."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a writer is. `bytes_read` is content read from the source, `bytes_new` what was not stored before."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    files_kept: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_new: int = 0
    bytes_stored: int = 0
    problems: int = 0
    current: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a snapshot may take: bytes a second read from the source (0: no limit), and the blob writer's limits."""

    read_bytes_per_second: int = 0
    write: WriteLimits = field(default_factory=WriteLimits)


@dataclass(frozen=True, slots=True)
class WrittenTree:
    """A complete tree, durable with everything below it, that no snapshot names yet."""

    id: bytes
    progress: Progress
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A snapshot that was written, and what it took.

    `bytes_total` is the size of all files, `bytes_read` what was read of them, `bytes_new` what of that was not stored
    before, and `bytes_stored` the room it took, compressed.
    """

    snapshot: Snapshot
    files: int
    dirs: int
    others: int
    files_kept: int
    bytes_total: int
    bytes_read: int
    bytes_new: int
    bytes_stored: int
    problems: tuple[Problem, ...]

    @property
    def snapshot_id(self) -> str:
        """The snapshot's id."""
        return self.snapshot.id

    @property
    def is_complete(self) -> bool:
        """Whether everything of the source is in the snapshot as it was."""
        return not self.problems


class _State(enum.Enum):
    OPEN = "open"
    TREE_FINISHED = "tree finished"
    COMMITTED = "committed"
    ABORTED = "aborted"


class _FileParts:
    """The blobs of one file, some of them still being sealed."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.size = 0
        self.is_sparse = False
        self._outstanding = 0
        self._guard = threading.Lock()

    def reserve(self) -> Callable[[bytes], None]:
        """Make room for the next blob; return the function that fills it in."""
        at = len(self.blobs)
        self.blobs.append(b"")
        with self._guard:
            self._outstanding += 1

        def done(blob_id: bytes) -> None:
            with self._guard:
                self.blobs[at] = blob_id
                self._outstanding -= 1

        return done

    @property
    def is_ready(self) -> bool:
        return self._outstanding == 0


@dataclass(slots=True)
class _WaitingFile:
    """A file whose blobs are not all known yet."""

    name: bytes
    metadata: Metadata
    parts: _FileParts

    @property
    def is_ready(self) -> bool:
        return self.parts.is_ready

    def encoded(self) -> str:
        return encode_node(self.name, Kind.FILE, self.metadata, size=self.parts.size, content=self.parts.blobs)


@dataclass(slots=True)
class _Directory:
    """A directory being written: closed once the stream has left it, `encoded` once its tree is stored."""

    name: bytes
    metadata: Metadata
    items: list["str | _WaitingFile | _Directory"] = field(default_factory=list)
    waiting: list["_WaitingFile | _Directory"] = field(default_factory=list)
    last: bytes = b""
    tree: bytes | None = None

    @property
    def is_ready(self) -> bool:
        return self.tree is not None

    def append(self, item: "_WaitingFile | _Directory") -> None:
        """Take an item; it is encoded at once if it is ready, else when the tree is stored."""
        if item.is_ready:
            self.items.append(item.encoded())
        else:
            self.items.append(item)
            self.waiting.append(item)

    def is_resolvable(self) -> bool:
        """Whether all items are ready."""
        while self.waiting and self.waiting[-1].is_ready:
            self.waiting.pop()
        return not self.waiting

    def encoded(self) -> str:
        return encode_node(self.name, Kind.DIR, self.metadata, subtree=self.tree)


class SnapshotWriter:
    """Takes a stream of entries and makes a snapshot of it. Used from one thread; a context manager that aborts."""

    def __init__(
        self,
        *,
        storage: Storage,
        box: Box,
        lock: Lock,
        index: Index,
        seed: int,
        chunk_class: ChunkClass,
        hostname: str,
        machine: MachineTime,
        limits: Limits,
        progress: Callable[[Progress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.index = index
        self._storage = storage
        self._box = box
        self._lock = lock
        self._hostname = hostname
        self._machine = machine
        self._report = progress
        self._cancelled = cancelled
        self._pace = Pace(limits.read_bytes_per_second, machine)
        self._blobs = BlobWriter(storage, box, index, limits=limits.write, machine=machine, fence=lock.refuse_if_lost)
        self._chunker = Chunker(chunk_class, seed)
        # Blocks of an image keep to its offsets, so none is ever taken whole.
        self._whole_bytes = 0 if chunk_class is ChunkClass.IMAGE else min(_INLINE_BYTES, self._chunker.cut.minimum)
        self._root = _Directory(b"", Metadata())
        self._stack = [self._root]
        self._path: tuple[bytes, ...] = ()
        self._closing: deque[_Directory] = deque()
        self._problems: list[Problem] = []
        self._files = self._dirs = self._others = self._kept = 0
        self._bytes_read = self._bytes_total = 0
        self._reported_at = machine.monotonic()
        self._current: tuple[bytes, ...] = ()
        self._state = _State.OPEN
        self._written_tree: WrittenTree | None = None
        self._zero_blobs: dict[int, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._state not in (_State.COMMITTED, _State.ABORTED):
            self.abort()

    @property
    def progress(self) -> Progress:
        """How far the writer is now."""
        counts = self._blobs.counts
        return Progress(
            files=self._files,
            dirs=self._dirs,
            others=self._others,
            files_kept=self._kept,
            bytes_total=self._bytes_total,
            bytes_read=self._bytes_read,
            bytes_new=counts.raw_bytes,
            bytes_stored=counts.stored_bytes,
            problems=len(self._problems),
            current=self._current,
        )

    def add(self, item: Entry | Problem) -> None:
        """Take the next entry of the stream, or put a problem of the source on record.

        Raises:
            InvalidEntryError: it breaks the order, or has no possible name.
            CancelledError: the work was cancelled.
            HoldfastError: something could not be stored.
        """
        self._refuse_unless(_State.OPEN)
        if isinstance(item, Problem):
            self._problems.append(item)
            return
        self._look_around(item.path)
        directory = self._enter(item.path)
        name = item.path[-1]
        match item.kind:
            case Kind.DIR:
                self._dirs += 1
                self._stack.append(_Directory(name, item.metadata))
                self._path = item.path
            case Kind.FILE:
                self._add_file(directory, item)
            case _:
                self._others += 1
                directory.items.append(encode_node(name, item.kind, item.metadata))

    def copy_tree(self, reader: BlobReader, tree: bytes) -> WrittenTree:
        """Take a complete tree of another repository instead of a stream; then `commit`, as after `finish_tree`.

        Raises:
            InvalidStateError: entries have been added already.
            DamagedError: something of the other repository is damaged or missing.
            CancelledError: the work was cancelled.
            HoldfastError: something could not be stored.
        """
        self._refuse_unless(_State.OPEN)
        if self._files or self._dirs or self._others or self._path:
            raise InvalidStateError("a writer takes either a stream of entries or a tree of another repository")

        def look_around(counts: TreeCounts) -> None:
            self._files, self._dirs, self._others = counts.files, counts.dirs, counts.others
            self._bytes_total = counts.bytes_total
            self._pace.take(counts.bytes_read - self._bytes_read)
            self._bytes_read = counts.bytes_read
            self._look_around(())

        look_around(copy_tree(reader, tree, self._blobs, look_around))
        self._blobs.flush()
        self._state = _State.TREE_FINISHED
        self._written_tree = WrittenTree(tree, self.progress, ())
        return self._written_tree

    def finish_tree(self) -> WrittenTree:
        """End the stream: store what is left, and everything is durable; still no snapshot names it.

        Raises:
            CancelledError: the work was cancelled.
            HoldfastError: something could not be stored.
        """
        self._refuse_unless(_State.OPEN)
        while self._stack:
            self._close_directory()
        self._blobs.wait()
        while self._closing:
            self._store_tree(self._closing.popleft())
        root = self._root.tree
        if root is None:
            raise InvalidStateError("the root's tree was not stored")
        self._blobs.flush()
        self._look_around((), force=True)
        self._state = _State.TREE_FINISHED
        self._written_tree = WrittenTree(root, self.progress, tuple(self._problems))
        return self._written_tree

    def commit(
        self,
        *,
        at: datetime,
        tags: Sequence[str] = (),
        paths: Sequence[str] = (),
        hostname: str | None = None,
        username: str = "",
        parent: str | None = None,
        original: str | None = None,
        before_snapshot: Callable[[], None] | None = None,
    ) -> Written:
        """Put the snapshot file and release the lock: from now on the snapshot exists.

        `before_snapshot` is called last before that; if it raises, nothing is written and the writer is aborted.

        Raises:
            InvalidStateError: the tree is not finished, or the writer has ended.
            LockLostError: the lock was not held all the time.
        """
        self._refuse_unless(_State.TREE_FINISHED)
        tree = self._written_tree
        if tree is None:
            raise InvalidStateError("finish_tree comes before commit")
        snapshot = Snapshot(
            id="",
            at=at,
            tree=tree.id,
            paths=tuple(paths),
            hostname=self._hostname if hostname is None else hostname,
            username=username,
            tags=tuple(tags),
            parent=parent,
            original=original,
        )
        try:
            if before_snapshot is not None:
                before_snapshot()
            self._lock.refuse_if_lost()
            snapshot = replace(snapshot, id=put_snapshot(self._storage, self._box, snapshot))
            self._take_back_if_lock_lost(snapshot.id)
        except BaseException:
            self.abort()
            raise
        self._state = _State.COMMITTED
        self._end()
        done = tree.progress
        return Written(
            snapshot=snapshot,
            files=done.files,
            dirs=done.dirs,
            others=done.others,
            files_kept=done.files_kept,
            bytes_total=done.bytes_total,
            bytes_read=done.bytes_read,
            bytes_new=done.bytes_new,
            bytes_stored=done.bytes_stored,
            problems=tree.problems,
        )

    def _take_back_if_lock_lost(self, snapshot_id: str) -> None:
        """Remove the snapshot just put if the lock was not held until then: its blobs may have been swept away."""
        try:
            self._lock.refuse_if_lost()
        except LockLostError:
            self._storage.delete(f"snapshots/{snapshot_id}")
            raise

    def abort(self) -> None:
        """End without a snapshot: what was written stays as rubbish until a sweep. Doing it twice is harmless."""
        if self._state in (_State.COMMITTED, _State.ABORTED):
            return
        self._state = _State.ABORTED
        self._end()

    def _end(self) -> None:
        self._blobs.end()
        self.index.close()
        # A storage that is down would keep the lock too; it then goes stale by itself.
        with contextlib.suppress(HoldfastError):
            self._lock.release()

    def _refuse_unless(self, state: _State) -> None:
        if self._state is not state:
            raise InvalidStateError(f"the snapshot writer is {self._state.value}, not {state.value}")

    def _look_around(self, current: tuple[bytes, ...], *, force: bool = False) -> None:
        """Report progress now and then, and stop when told to."""
        self._current = current
        if self._cancelled is not None and self._cancelled():
            raise CancelledError("the backup was cancelled")
        if self._report is not None:
            now = self._machine.monotonic()
            if force or now - self._reported_at >= _REPORT_EVERY_SECONDS:
                self._reported_at = now
                self._report(self.progress)

    def _enter(self, path: tuple[bytes, ...]) -> _Directory:
        """Leave the directories that do not hold `path`; return the one that does."""
        if not path:
            raise InvalidEntryError("the root has no entry of its own")
        parent = path[:-1]
        while self._path != parent:
            if len(self._path) <= len(parent):
                raise InvalidEntryError(f"{path_text(path)} comes without its directory before it")
            self._close_directory()
        directory = self._stack[-1]
        name = path[-1]
        refuse_bad_name(name)
        if name <= directory.last:
            raise InvalidEntryError(
                f"{path_text(path)} comes after {path_text((*parent, directory.last))}, against the byte order of names"
            )
        directory.last = name
        return directory

    def _close_directory(self) -> None:
        closed = self._stack.pop()
        self._path = self._path[:-1]
        if closed.is_resolvable():
            self._store_tree(closed)
        else:
            self._closing.append(closed)
        if self._stack:
            self._stack[-1].append(closed)
        # Children were closed before their parents, so each finds what it needs.
        while self._closing and self._closing[0].is_resolvable():
            self._store_tree(self._closing.popleft())

    def _store_tree(self, directory: _Directory) -> None:
        nodes = [item if isinstance(item, str) else item.encoded() for item in directory.items]
        directory.items = []
        directory.tree = self._blobs.save_tree(encode_tree(nodes))

    def _add_file(self, directory: _Directory, entry: Entry) -> None:
        name, content = entry.path[-1], entry.content
        if isinstance(content, Kept):
            # A parent that is wrong about what a file holds costs only speed.
            if sum(map(self._length, content.blobs)) == content.size:
                self._files += 1
                self._kept += 1
                self._bytes_total += content.size
                directory.items.append(
                    content.encoded
                    or encode_node(name, Kind.FILE, entry.metadata, size=content.size, content=content.blobs)
                )
                return
            content = content.otherwise
        parts = _FileParts()
        if content is not None:
            try:
                self._read(entry.path, content, parts)
            except UnreadableError as error:
                self._problems.append(Problem(entry.path, str(error)))
                return
        self._files += 1
        self._bytes_total += parts.size
        directory.append(_WaitingFile(name, entry.metadata, parts))

    def _length(self, blob: bytes) -> int:
        """Return how many bytes a stored blob has; where there is none, so many that no file has them."""
        length = self.index.plain_length(blob)
        return 1 << 63 if length is None else length

    def _read(self, path: tuple[bytes, ...], content: Content, parts: _FileParts) -> None:
        """Read content to its end, cutting it into blobs that go into `parts`."""
        cutter = RunCutter(self._chunker, lambda chunk: self._store(chunk, parts))
        for piece in content.read():
            if type(piece) is Extent and piece.length <= self._whole_bytes and not cutter.holds_data:
                # The usual small file, whole: one read, one blob, nothing to cut. What follows starts another run.
                self._read_small(path, piece, parts)
                continue
            match piece:
                case Noticed(what):
                    self._problems.append(Problem(path, what))
                case Extent(_, _, length):
                    try:
                        got = cutter.read(piece)
                    except OSError as error:
                        raise UnreadableError(f"unreadable: {error.strerror}") from error
                    self._account(got, parts)
                    if got < length:
                        self._problems.append(Problem(path, _SHORTER))
                case Hole(length):
                    self._store_hole(length, cutter, parts)
                case _:
                    self._account(len(piece), parts)
                    cutter.feed(piece)
            self._look_around(path)
        cutter.end()

    def _read_small(self, path: tuple[bytes, ...], extent: Extent, parts: _FileParts) -> None:
        try:
            data = os.pread(extent.descriptor, extent.length, extent.offset)
        except OSError as error:
            raise UnreadableError(f"unreadable: {error.strerror}") from error
        self._account(len(data), parts)
        if data:
            parts.blobs.append(self._blobs.save(BlobKind.DATA, data))
        if len(data) < extent.length:
            self._problems.append(Problem(path, _SHORTER))

    def _account(self, size: int, parts: _FileParts) -> None:
        parts.size += size
        self._bytes_read += size
        self._pace.take(size)

    def _store(self, chunk: memoryview, parts: _FileParts) -> None:
        if len(chunk) <= _INLINE_BYTES:
            parts.blobs.append(self._blobs.save(BlobKind.DATA, chunk))
        else:
            self._blobs.submit(chunk, parts.reserve())

    def _store_hole(self, length: int, cutter: RunCutter, parts: _FileParts) -> None:
        """Put a run of zeros into a file without reading or making it: the same few blobs again and again."""
        block = self._chunker.cut.hole
        if length < SPARSE_MARK_BYTES:
            parts.size += length
            cutter.feed(bytes(length))
            return
        if self._chunker.chunk_class is ChunkClass.IMAGE and parts.size % block:
            # Blocks of an image keep to its offsets, so that one changed hole moves nothing.
            fill = min(length, block - parts.size % block)
            parts.size += fill
            length -= fill
            cutter.feed(bytes(fill))
        if length >= block or self._chunker.chunk_class is not ChunkClass.IMAGE:
            cutter.end()
        while length:
            if self._chunker.chunk_class is ChunkClass.IMAGE:
                if length < block:
                    parts.size += length
                    cutter.feed(bytes(length))
                    return
                sizes = [block] if parts.is_sparse else [SPARSE_MARK_BYTES] * (block // SPARSE_MARK_BYTES)
            else:
                sizes = [min(length, block if parts.is_sparse else SPARSE_MARK_BYTES)]
            parts.is_sparse = True
            for size in sizes:
                parts.blobs.append(self._zeros(size))
                parts.size += size
                length -= size

    def _zeros(self, size: int) -> bytes:
        """Return the id of the blob of `size` zero bytes, stored once."""
        blob_id = self._zero_blobs.get(size)
        if blob_id is None:
            blob_id = self._zero_blobs[size] = self._blobs.save(BlobKind.DATA, bytes(size))
        return blob_id
