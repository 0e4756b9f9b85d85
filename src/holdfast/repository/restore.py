"""Restoring a tree below one directory, and nowhere else.

Every name is created relative to the open descriptor of its directory and no link is ever followed, so neither a
hostile tree nor somebody who swaps directories meanwhile leads a restore out of its target.
"""

import enum
import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.core.errors import AlreadyExistsError, DamagedError, HoldfastError
from holdfast.repository.blob_reader import BlobReader, neighbours
from holdfast.repository.entry import Kind, Metadata, Problem
from holdfast.repository.index import Location
from holdfast.repository.pack import BlobKind
from holdfast.repository.pattern import Choice
from holdfast.repository.restore_metadata import apply_to_file, apply_to_name
from holdfast.repository.restore_process import DIRECTORIES_AT_MOST, RestoreProcess
from holdfast.repository.restored_file import (
    Piece,
    RestoredFile,
    TargetFailedError,
    being_written,
    refuse_if_target_failed,
    write_pieces,
)
from holdfast.repository.tree import Node
from holdfast.repository.writer import CancelledError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL_BYTES = 1 << 20  # larger files are restored by all threads together
_BATCH_BYTES = 4 << 20
_BATCH_FILES = 128
_BATCHES_BEFORE_PROCESSES = 4  # a process is worth its start only if there is much to do
_FETCH_BYTES = 48 << 20
_TEMPORARY = b".holdfast-restore-"


class TargetNotEmptyError(AlreadyExistsError):
    """The target holds something already, and nothing was said about what may happen to it."""


class Existing(enum.Enum):
    """What happens to what the target holds already."""

    REFUSE = "refuse"  # the target must be new or empty
    KEEP = "keep"  # what is there stays; only what is missing is restored
    REPLACE = "replace"  # files and links that are there are replaced; nothing else is removed
    REPLACE_CHANGED = "replace changed"  # the same, but a file of the same size and mtime stays


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """How far a restore is."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    files_left: int = 0
    bytes_written: int = 0
    problems: int = 0
    current: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `files_left` are those that stayed as they were; `bytes_written` is without holes."""

    files: int
    dirs: int
    others: int
    files_left: int
    bytes_written: int
    verified: bool
    problems: tuple[Problem, ...]

    @property
    def is_complete(self) -> bool:
        """Whether everything chosen was restored exactly."""
        return not self.problems


class _Directory:
    """An open directory of the target. It is finished and closed once the walk and its last file have left it."""

    def __init__(self, descriptor: int, finish: Callable[[int], None] | None = None, *, is_new: bool = False) -> None:
        self.descriptor = descriptor
        self.is_new = is_new
        self._finish = finish
        self._users = 1
        self._guard = threading.Lock()

    def enter(self) -> None:
        """Count one more user."""
        with self._guard:
            self._users += 1

    def leave(self) -> None:
        """Count one user less; after the last the directory gets its metadata, since what happens inside changes it."""
        with self._guard:
            self._users -= 1
            if self._users:
                return
        try:
            if self._finish is not None:
                self._finish(self.descriptor)
        finally:
            os.close(self.descriptor)


@dataclass(slots=True)
class _Level:
    """A directory that the walk is in."""

    path: tuple[bytes, ...]
    directory: _Directory
    nodes: Iterator[Node]


@dataclass(frozen=True, slots=True)
class _File:
    """A file being restored, where it belongs, and what it is in the snapshot."""

    path: tuple[bytes, ...]
    directory: _Directory
    node: Node
    written: RestoredFile


_Wanted = dict[bytes, tuple[Location, list[tuple[RestoredFile, int]]]]
_Run = list[tuple[Location, list[tuple[RestoredFile, int]]]]


@dataclass(slots=True)
class _Batch:
    """Small files that are restored together: a blob that occurs often is fetched once."""

    wanted: _Wanted = field(default_factory=dict)
    files: list[_File] = field(default_factory=list)
    directories: set[int] = field(default_factory=set)
    size: int = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to restore it."""
        return (
            self.size >= _BATCH_BYTES or len(self.files) >= _BATCH_FILES or len(self.directories) >= DIRECTORIES_AT_MOST
        )


class Restore:
    """One restore into one directory, whose open descriptor it borrows."""

    def __init__(
        self,
        reader: BlobReader,
        target: int,
        *,
        choice: Choice,
        existing: Existing,
        verify: bool,
        owners: bool,
        threads: int,
        progress: Callable[[RestoreProgress], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self._reader = reader
        self._target = target
        self._choice = choice
        self._existing = existing
        self._verify = verify
        self._owners = owners
        self._report = progress
        self._cancelled = cancelled
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="restore")
        self._threads = threads
        self._processes: list[RestoreProcess] = []
        self._batch = _Batch()
        self._batches = self._made = 0
        self._mark = os.urandom(6).hex().encode()
        self._running: deque[tuple[_Batch, Future[Future[int]]]] = deque()
        self._running_at_most = threads * 3
        self._problems: list[Problem] = []
        self._files = self._dirs = self._others = self._left = 0
        self._bytes = 0
        self._links: dict[tuple[object, ...], tuple[tuple[bytes, ...], int, int]] = {}
        self._linked: set[tuple[object, ...]] = set()

    def run(self, tree: bytes) -> Restored:
        """Restore everything chosen below the root tree `tree`.

        Raises:
            TargetFailedError: the target cannot be written.
            CancelledError: the restore was cancelled.
            HoldfastError: storage failed.
        """
        root = _Directory(os.dup(self._target))
        try:
            self._walk(tree, root)
            self._drain()
        finally:
            self._pool.shutdown()  # each batch cleans up after itself, whatever happens
            for process in self._processes:
                process.end()
            for batch in (*(batch for batch, _ in self._running), self._batch):
                for file in batch.files:
                    file.written.remove_rest()
                    file.directory.leave()
        return Restored(
            files=self._files,
            dirs=self._dirs,
            others=self._others,
            files_left=self._left,
            bytes_written=self._bytes,
            verified=self._verify,
            problems=tuple(self._problems),
        )

    def _walk(self, tree: bytes, root: _Directory) -> None:
        # A stack of our own: trees are deeper than Python's.
        levels = [_Level((), root, self._nodes((), tree))]
        try:
            while levels:
                level = levels[-1]
                node = next(level.nodes, None)
                if node is None:
                    levels.pop()
                    level.directory.leave()
                    self._dirs += len(level.path) > 0
                    continue
                path = (*level.path, node.name)
                self._look_around(path)
                if not self._choice.takes(path) and not (node.kind is Kind.DIR and self._choice.may_take_below(path)):
                    continue
                try:
                    if node.kind is not Kind.DIR:
                        self._leaf(path, node, level.directory)
                    elif (below := self._enter(path, node, level.directory)) is not None:
                        levels.append(below)
                except OSError as error:
                    refuse_if_target_failed(error)
                    self._problem(path, f"could not be restored: {error.strerror or error}")
        finally:
            for level in levels:
                level.directory.leave()

    def _nodes(self, path: tuple[bytes, ...], tree: bytes | None) -> Iterator[Node]:
        if tree is None:
            self._problem(path, "the snapshot does not say what this directory holds")
            return
        try:
            nodes = self._reader.each_node(tree)
        except DamagedError as error:
            self._problem(path, str(error))
            return
        seen: set[bytes] = set()
        for node in nodes:
            if isinstance(node, DamagedError):
                self._problem(path, f"an entry was left out: {node}")
                continue
            if node.name in seen:
                self._problem((*path, node.name), "a second entry of the same name was left out")
                continue
            seen.add(node.name)
            yield node

    def _enter(self, path: tuple[bytes, ...], node: Node, parent: _Directory) -> "_Level | None":
        """Make a directory, or take the one that is there; return it open, or None if it has no place."""
        name = node.name
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=parent.descriptor)
        except FileExistsError:
            made = False
            found = os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                if self._existing not in (Existing.REPLACE, Existing.REPLACE_CHANGED):
                    self._problem(path, "something that is no directory is in its place, and was kept")
                    return None
                os.unlink(name, dir_fd=parent.descriptor)
                os.mkdir(name, 0o700, dir_fd=parent.descriptor)
                made = True
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent.descriptor)
        describe = made or self._existing is not Existing.KEEP

        def finish(opened: int) -> None:
            if describe:
                self._note(path, apply_to_file(opened, node.metadata, owners=self._owners))

        return _Level(path, _Directory(descriptor, finish, is_new=made), self._nodes(path, node.subtree))

    def _leaf(self, path: tuple[bytes, ...], node: Node, directory: _Directory) -> None:
        name = node.name
        # In a directory that was made just now nothing is expected; what comes in between is not overwritten.
        there = None if directory.is_new else self._find(name, directory)
        if there is not None:
            if stat.S_ISDIR(there.st_mode):
                self._problem(path, "a directory is in its place, and was kept")
                return
            if self._existing is Existing.REFUSE:
                self._problem(path, "something else came into its place meanwhile, and was kept")
                return
            if self._existing is Existing.KEEP or (
                self._existing is Existing.REPLACE_CHANGED and _is_same(node, there)
            ):
                self._left += 1
                return
        # A file has its name only when it is whole, so that a restore that was killed leaves nothing that looks so.
        working = name if there is None and node.kind is not Kind.FILE else self._temporary()
        if self._link(node, directory, working):
            self._into_place(directory, working, name)
            return
        if node.kind is Kind.FILE:
            self._file(path, node, directory, working)
            return
        try:
            _make_special(node, directory.descriptor, working)
        except ValueError as error:
            self._problem(path, f"could not be restored: {error}")
            return
        self._note(path, apply_to_name(directory.descriptor, working, node, owners=self._owners))
        found = os.stat(working, dir_fd=directory.descriptor, follow_symlinks=False)
        self._into_place(directory, working, name)
        self._remember(path, node, (found.st_dev, found.st_ino))
        self._others += 1

    def _temporary(self) -> bytes:
        self._made += 1
        return b"%s%s-%x" % (_TEMPORARY, self._mark, self._made)

    def _file(self, path: tuple[bytes, ...], node: Node, directory: _Directory, name: bytes) -> None:
        try:
            places = [self._reader.locate(BlobKind.DATA, blob) for blob in node.content or ()]
        except DamagedError as error:
            self._problem(path, str(error))
            return
        size = sum(place.blob.plain_length for place in places)
        if size != node.metadata.size:
            self._problem(path, f"the snapshot says {node.metadata.size} bytes, but its blobs have {size}")
            return
        written = RestoredFile(
            directory.descriptor,
            name,
            node.name,
            node.metadata,
            [(place.blob.id, place.blob.plain_length) for place in places] if self._verify else (),
            wants_identity=_link_key(node) is not None,
        )
        file = _File(path, directory, node, written)
        directory.enter()
        if size > _SMALL_BYTES:
            self._large_file(file, places)
            return
        batch = self._batch
        batch.files.append(file)
        batch.directories.add(directory.descriptor)
        batch.size += size
        _want(batch.wanted, written, places)
        if batch.is_full:
            self._submit_batch()

    def _large_file(self, file: _File, places: list[Location]) -> None:
        """Restore one file, its blobs by several threads."""
        running: deque[Future[int]] = deque()
        try:
            with being_written([file.written], verify=self._verify, owners=self._owners):
                try:
                    for run in _windows(file.written, places):
                        running.append(self._pool.submit(self._write_run, run))
                        if len(running) >= self._running_at_most:
                            self._bytes += running.popleft().result()
                            self._look_around(file.path)
                    while running:
                        self._bytes += running.popleft().result()
                finally:
                    wait(running)  # nobody writes to what is closed
            self._settle(file)
        finally:
            file.directory.leave()

    def _submit_batch(self) -> None:
        """Have the collected files restored beside this thread."""
        if not self._batch.files:
            return
        self._batches += 1
        if self._batches == _BATCHES_BEFORE_PROCESSES:
            self._start_processes()
        batch, self._batch = self._batch, _Batch()
        self._running.append((batch, self._pool.submit(self._restore_batch, batch)))
        while len(self._running) >= self._running_at_most:
            self._settle_batch()

    def _start_processes(self) -> None:
        """Start processes that write small files; where there may be no more of them, threads go on alone."""
        with suppress(OSError):
            for _ in range(self._threads):
                self._processes.append(RestoreProcess(self._reader.box.key, verify=self._verify, owners=self._owners))

    def _drain(self) -> None:
        """Wait until every file so far is restored."""
        self._submit_batch()
        while self._running:
            self._settle_batch()

    def _settle_batch(self) -> None:
        """Wait for the batch that has waited longest, and put on record what became of it."""
        batch, task = self._running[0]
        self._bytes += task.result().result()
        self._running.popleft()
        for file in batch.files:
            self._settle(file)
            file.directory.leave()

    def _settle(self, file: _File) -> None:
        written = file.written
        self._note(file.path, written.problems)
        if written.is_done:
            self._files += 1
            self._remember(file.path, file.node, written.identity)

    def _restore_batch(self, batch: _Batch) -> Future[int]:
        """Fetch what a batch of small files needs, and write them, here or in another process."""
        pieces: list[Piece] = []
        fetched: list[memoryview] = []
        start = 0
        for run in _runs(batch.wanted):
            data = self._fetched(run)
            pieces += _pieces(run, start) if data else ()
            fetched.append(data)
            start += len(data)
        files = [file.written for file in batch.files]
        if self._processes:
            return min(self._processes, key=lambda process: process.waiting).submit(files, pieces, fetched)
        done: Future[int] = Future()
        whole = memoryview(b"".join(fetched))
        with being_written(files, verify=self._verify, owners=self._owners):
            written = self._write(pieces, whole)
        done.set_result(written)
        return done

    def _write_run(self, run: _Run) -> int:
        data = self._fetched(run)
        return self._write(_pieces(run, 0), data) if data else 0

    def _write(self, pieces: list[Piece], data: memoryview) -> int:
        self._look_around((), report=False)
        return write_pieces(pieces, data, self._reader.open)

    def _fetched(self, run: _Run) -> memoryview:
        """Return the bytes of a pack from the first blob of a run to the last; nothing if they are not to be had."""
        first, last = run[0][0], run[-1][0]
        start = first.blob.offset
        try:
            return memoryview(self._reader.range(first.pack, start, last.blob.offset + last.blob.length - start))
        except DamagedError as error:
            for _, uses in run:
                for file, _ in uses:
                    file.fail(str(error))
            return memoryview(b"")

    def _into_place(self, directory: _Directory, working: bytes, name: bytes) -> None:
        if working != name:
            os.rename(working, name, src_dir_fd=directory.descriptor, dst_dir_fd=directory.descriptor)

    def _link(self, node: Node, directory: _Directory, name: bytes) -> bool:
        """Make a hard link if this node is another name of one that was restored; return whether it was."""
        key = _link_key(node)
        if key is None:
            return False
        if key not in self._linked:
            self._linked.add(key)
            return False
        self._drain()  # the first name may not be there yet
        first = self._links.get(key)
        if first is None:
            return False
        first_path, device, inode = first
        try:
            parent = self._open_path(first_path[:-1])
        except OSError:
            return False
        try:
            found = os.stat(first_path[-1], dir_fd=parent, follow_symlinks=False)
            if (found.st_dev, found.st_ino) != (device, inode):
                return False
            os.link(first_path[-1], name, src_dir_fd=parent, dst_dir_fd=directory.descriptor, follow_symlinks=False)
        except OSError:
            return False  # this file system has no hard links, or not as many: it becomes a file of its own
        finally:
            os.close(parent)
        if node.kind is Kind.FILE:
            self._files += 1
        else:
            self._others += 1
        return True

    def _remember(self, path: tuple[bytes, ...], node: Node, identity: tuple[int, int] | None) -> None:
        key = _link_key(node)
        if key is not None and identity is not None:
            self._links[key] = (path, *identity)

    def _open_path(self, path: tuple[bytes, ...]) -> int:
        descriptor = os.dup(self._target)
        for name in path:
            try:
                below = os.open(name, _DIRECTORY, dir_fd=descriptor)
            finally:
                os.close(descriptor)
            descriptor = below
        return descriptor

    @staticmethod
    def _find(name: bytes, directory: _Directory) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=directory.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _note(self, path: tuple[bytes, ...], what: list[str]) -> None:
        for text in what:
            self._problem(path, text)

    def _problem(self, path: tuple[bytes, ...], what: str) -> None:
        self._problems.append(Problem(path, what))

    def _look_around(self, current: tuple[bytes, ...], *, report: bool = True) -> None:
        if self._cancelled is not None and self._cancelled():
            raise CancelledError("the restore was cancelled")
        if report and self._report is not None:
            self._report(
                RestoreProgress(
                    files=self._files,
                    dirs=self._dirs,
                    others=self._others,
                    files_left=self._left,
                    bytes_written=self._bytes,
                    problems=len(self._problems),
                    current=current,
                )
            )


def open_target(target: Path | int, existing: Existing) -> int:
    """Return an open descriptor of the directory to restore into; it is made if it is missing.

    Raises:
        TargetNotEmptyError: it holds something, and `existing` is to refuse that.
        TargetFailedError: it cannot be made or opened.
    """
    try:
        if isinstance(target, int):
            descriptor = os.dup(target)
        else:
            target.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TargetFailedError(f"{target} cannot be used as a target: {error.strerror}") from error
    if existing is Existing.REFUSE and _holds_something(descriptor):
        os.close(descriptor)
        raise TargetNotEmptyError(
            f"{target} is not empty; restore into a new directory, or say what may happen to what is there"
        )
    return descriptor


def _holds_something(directory: int) -> bool:
    with os.scandir(directory) as found:
        return next(found, None) is not None


def _want(wanted: _Wanted, file: RestoredFile, places: Iterable[Location]) -> None:
    offset = 0
    for place in places:
        wanted.setdefault(place.blob.id, (place, []))[1].append((file, offset))
        offset += place.blob.plain_length


def _runs(wanted: _Wanted) -> Iterator[_Run]:
    """Yield what lies close together in a pack, to be read at once."""
    in_order = sorted(wanted.values(), key=lambda item: (item[0].pack, item[0].blob.offset))
    return neighbours(in_order, lambda item: item[0])


def _windows(file: RestoredFile, places: list[Location]) -> Iterator[_Run]:
    """Yield the runs of a large file, window by window, so that it is written about from its start to its end."""
    wanted: _Wanted = {}
    offset = size = 0
    for place in places:
        wanted.setdefault(place.blob.id, (place, []))[1].append((file, offset))
        offset += place.blob.plain_length
        size += place.blob.length
        if size >= _FETCH_BYTES:
            yield from _runs(wanted)
            wanted, size = {}, 0
    yield from _runs(wanted)


def _pieces(run: _Run, start: int) -> list[Piece]:
    """Return the blobs of a run whose bytes begin at `start` of what was fetched."""
    first = run[0][0].blob.offset
    return [Piece(place.blob, start + place.blob.offset - first, uses) for place, uses in run]


def _is_same(node: Node, found: os.stat_result) -> bool:
    return (
        node.kind is Kind.FILE
        and stat.S_ISREG(found.st_mode)
        and found.st_size == node.metadata.size
        and found.st_mtime_ns == node.metadata.mtime_ns
    )


def _link_key(node: Node) -> tuple[object, ...] | None:
    meta: Metadata = node.metadata
    if meta.links < 2 or not meta.inode:  # noqa: PLR2004 - a thing with two names
        return None
    # The content is part of it, so that a tree cannot pass one file off as another.
    return meta.device, meta.inode, node.kind, node.content, meta.link_target, meta.rdev


def _make_special(node: Node, directory: int, name: bytes) -> None:
    meta = node.metadata
    match node.kind:
        case Kind.SYMLINK:
            os.symlink(meta.link_target, name, dir_fd=directory)
        case Kind.FIFO:
            os.mkfifo(name, 0o600, dir_fd=directory)
        case Kind.SOCKET:
            os.mknod(name, stat.S_IFSOCK | 0o600, dir_fd=directory)
        case Kind.DEV:
            os.mknod(name, stat.S_IFBLK | 0o600, meta.rdev, dir_fd=directory)
        case Kind.CHARDEV:
            os.mknod(name, stat.S_IFCHR | 0o600, meta.rdev, dir_fd=directory)
        case _:
            raise HoldfastError(f"{node.kind.value} is made elsewhere")
