"""A directory tree as a stream of entries: everything is opened relative to its directory, and no link is followed."""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from holdfast.repository.entry import (
    Entry,
    Extent,
    Hole,
    Kept,
    Kind,
    Metadata,
    Noticed,
    Piece,
    Problem,
    UnreadableError,
)
from holdfast.repository.listing import Item, Known, list_directory
from holdfast.repository.listing_process import ListingProcess
from holdfast.repository.parent import ParentTree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening what has become a fifo meanwhile would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LISTED_BEFORE_PROCESS = 2000  # a process is worth its start only if there is much to do
_BLOCK = 512  # what st_blocks counts, whatever the file system's own block is

Excluded = Callable[[tuple[bytes, ...]], bool]


@dataclass(frozen=True, slots=True)
class WalkRules:
    """What of a tree is taken.

    Access times change with every reading, so by default an entry's is its modification time, as restic does it.
    """

    one_filesystem: bool = False
    xattrs: bool = True
    atime: bool = False
    exclude: Excluded | None = None


def walk_tree(
    root: int | Path,
    *,
    parent: ParentTree | None = None,
    rules: WalkRules = WalkRules(),
) -> Iterator[Entry | Problem]:
    """Yield what a directory holds, in the order of a stream; a file must be read before the next entry is taken.

    `root` is a path or an open descriptor of a directory, which stays open. What vanishes, cannot be read or changes
    while it is read is yielded as a problem.

    Raises:
        UnreadableError: the directory itself cannot be opened.
    """
    try:
        descriptor = os.dup(root) if isinstance(root, int) else os.open(root, _DIRECTORY & ~os.O_NOFOLLOW)
    except OSError as error:
        raise UnreadableError(f"{root} cannot be opened: {error.strerror}") from error
    try:
        device = os.fstat(descriptor).st_dev
        yield from _Walk(parent, rules, device).run(descriptor)
    finally:
        os.close(descriptor)


@dataclass(slots=True)
class _Level:
    """A directory that the walk is in: what is still to come, and problems not told yet."""

    path: tuple[bytes, ...]
    descriptor: int
    items: Iterator[Item] = field(default_factory=lambda: iter(()))
    dirs: deque[Item] = field(default_factory=deque)
    problems: list[Problem] = field(default_factory=list)
    content: "_FileContent | None" = None


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A directory that is being listed before the walk has come to it."""

    item: Item
    descriptor: int


class _Walk:
    def __init__(self, parent: ParentTree | None, rules: WalkRules, device: int) -> None:
        self._parent = parent
        self._rules = rules
        self._device = device
        self._listed = 0
        self._process: ListingProcess | None = None
        self._ahead: _Ahead | None = None

    def run(self, root: int) -> Iterator[Entry | Problem]:
        # A stack of our own: trees are deeper than Python's.
        levels = [_Level((), root)]
        try:
            self._list(levels, None if self._parent is None else self._parent.root)
            while levels:
                level = levels[-1]
                while level.problems:
                    yield level.problems.pop()
                item = next(level.items, None)
                if item is None:
                    levels.pop()
                    if levels:
                        os.close(level.descriptor)
                    continue
                path = (*level.path, item.name)
                if level.dirs and level.dirs[0] is item:
                    level.dirs.popleft()
                if self._rules.exclude is not None and self._rules.exclude(path):
                    continue
                entry = self._entry(path, level, item)
                while level.problems:
                    yield level.problems.pop()
                if entry is None:
                    continue
                descriptor = self._open_directory(path, level, item) if entry.kind is Kind.DIR else None
                if entry.kind is Kind.DIR and descriptor is None:
                    continue
                if descriptor is None:
                    yield entry
                    if level.content is not None:
                        level.content.close()
                        level.content = None
                    continue
                # Before the entry is yielded, since whoever takes it may stop there.
                levels.append(_Level(path, descriptor))
                yield entry
                if self._is_ahead(descriptor) or self._is_of_this_walk(descriptor):
                    self._list(levels, item.below)
        finally:
            for level in levels:
                if level.content is not None:
                    level.content.close()
            ahead = {self._ahead.descriptor} if self._ahead is not None else set()
            for descriptor in ahead | {level.descriptor for level in levels[1:]}:
                os.close(descriptor)
            if self._process is not None:
                self._process.end()

    def _is_ahead(self, descriptor: int) -> bool:
        return self._ahead is not None and self._ahead.descriptor == descriptor

    def _is_of_this_walk(self, descriptor: int) -> bool:
        return not self._rules.one_filesystem or os.fstat(descriptor).st_dev == self._device

    def _list(self, levels: list[_Level], tree: bytes | None) -> None:
        """List the directory that the walk has just entered; `tree` is what it was in the parent."""
        level = levels[-1]
        try:
            items = self._items(level.descriptor, tree)
        except OSError as error:
            if len(levels) == 1:
                raise UnreadableError(f"the directory cannot be listed: {error.strerror}") from error
            level.problems.append(Problem(level.path, f"unreadable: {error.strerror}"))
            items = []
        level.items = iter(items)
        level.dirs.extend(item for item in items if item.kind is Kind.DIR)
        self._listed += len(items)
        if self._process is None and self._listed >= _LISTED_BEFORE_PROCESS and (os.cpu_count() or 1) > 1:
            try:
                self._process = ListingProcess(atime=self._rules.atime)
            except OSError:  # there may be no more of them; it is asked again after as many
                self._listed = 0
        if self._process is not None:
            self._ask_ahead(levels, self._process)

    def _items(self, descriptor: int, tree: bytes | None) -> list[Item]:
        if self._process is not None and self._is_ahead(descriptor):
            self._ahead = None
            return self._process.answer()
        return list_directory(descriptor, self._text(tree), atime=self._rules.atime)

    def _text(self, tree: bytes | None) -> bytes:
        return b"" if self._parent is None else self._parent.text(tree)

    def _ask_ahead(self, levels: list[_Level], process: ListingProcess) -> None:
        """Have the next directory that the walk will come to listed meanwhile."""
        if self._ahead is not None:  # the walk could not enter it
            os.close(self._ahead.descriptor)
            self._ahead = None
            with suppress(OSError):
                process.answer()
        for level in reversed(levels):
            while level.dirs:
                item = level.dirs[0]
                if self._rules.exclude is not None and self._rules.exclude((*level.path, item.name)):
                    level.dirs.popleft()
                    continue
                try:
                    descriptor = os.open(item.name, _DIRECTORY, dir_fd=level.descriptor)
                except OSError:
                    return  # the walk comes to it, and says so
                if not self._is_of_this_walk(descriptor):
                    os.close(descriptor)
                    return
                self._ahead = _Ahead(item, descriptor)
                process.ask(descriptor, self._text(item.below))
                return

    def _entry(self, path: tuple[bytes, ...], level: "_Level", item: Item) -> Entry | None:
        kind, metadata = item.kind, item.metadata
        try:
            if item.error:
                raise OSError(item.error, os.strerror(item.error))  # noqa: TRY301 - told as all others
            if kind is None or metadata is None:
                level.problems.append(Problem(path, "of a kind that cannot be stored"))
                return None
            if kind is Kind.FILE:
                return self._file(path, level, item.name, metadata, item.known)
            if kind is Kind.SYMLINK:
                metadata = metadata._replace(link_target=os.readlink(item.name, dir_fd=level.descriptor))
            if self._rules.xattrs:
                xattrs = _xattrs(path, level, _through_proc(level.descriptor, item.name))
                metadata = metadata._replace(xattrs=xattrs) if xattrs else metadata
        except OSError as error:
            level.problems.append(Problem(path, _why(error)))
            return None
        return Entry(path, kind, metadata)

    def _file(
        self, path: tuple[bytes, ...], level: "_Level", name: bytes, metadata: Metadata, known: Known | None
    ) -> Entry:
        content = _FileContent(level.descriptor, name, metadata)
        if known is not None:
            # Whoever changes an attribute changes ctime, so these are as they were, too.
            if known.xattrs and self._rules.xattrs:
                metadata = metadata._replace(xattrs=known.xattrs)
            return Entry(path, Kind.FILE, metadata, Kept(known.content, metadata.size, content, known.encoded))
        level.content = content
        opened = content.open()
        xattrs = _xattrs(path, level, opened) if self._rules.xattrs else ()
        return Entry(path, Kind.FILE, metadata._replace(xattrs=xattrs) if xattrs else metadata, content)

    def _open_directory(self, path: tuple[bytes, ...], level: "_Level", item: Item) -> int | None:
        if self._ahead is not None and self._ahead.item is item:
            return self._ahead.descriptor
        try:
            return os.open(item.name, _DIRECTORY, dir_fd=level.descriptor)
        except OSError as error:
            level.problems.append(Problem(path, _why(error)))
            return None


class _FileContent:
    """One file of a directory that is open. Read once, while that directory's entries are being yielded."""

    def __init__(self, parent: int, name: bytes, listed: Metadata) -> None:
        self._parent = parent
        self._name = name
        self._listed = listed
        self._descriptor: int | None = None

    def open(self) -> int:
        """Open the file ahead of reading it; return the descriptor, which stays this object's."""
        if self._descriptor is None:
            self._descriptor = os.open(self._name, _FILE, dir_fd=self._parent)
        return self._descriptor

    def close(self) -> None:
        """Close the file if nobody has read it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def read(self) -> Iterator[Piece]:
        """Yield the file's runs of data and its holes."""
        try:
            descriptor = self.open()
        except OSError as error:
            raise UnreadableError(_why(error)) from error
        try:
            before = os.fstat(descriptor)
            if not stat.S_ISREG(before.st_mode):
                raise UnreadableError("changed while read: no file any more")
            yield from _runs(descriptor, before)
            after = os.fstat(descriptor)
            listed = self._listed
            if _state(before) != _state(after) or _state(before) != (
                listed.size,
                listed.mtime_ns,
                listed.inode,
                listed.device,
            ):
                yield Noticed("changed while read")
        finally:
            self.close()


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def _runs(descriptor: int, found: os.stat_result) -> Iterator[Piece]:
    size = found.st_size
    if size == 0:
        return
    if found.st_blocks * _BLOCK >= size:
        yield Extent(descriptor, 0, size)
        return
    yield from file_runs(descriptor, size)


def file_runs(descriptor: int, size: int) -> Iterator[Extent | Hole]:
    """Yield the runs of data and the holes of an open file up to `size`, as its file system tells them."""
    at = 0
    while at < size:
        try:
            data = min(os.lseek(descriptor, at, os.SEEK_DATA), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # there is no more data
                yield Hole(size - at)
                return
            if error.errno != errno.EINVAL:
                raise UnreadableError(f"unreadable: {error.strerror}") from error
            yield Extent(descriptor, at, size - at)  # this file system knows nothing of holes
            return
        if data > at:
            yield Hole(data - at)
        if data == size:
            return
        end = min(os.lseek(descriptor, data, os.SEEK_HOLE), size)
        yield Extent(descriptor, data, end - data)
        at = end


def _through_proc(parent: int, name: bytes) -> bytes:
    """Return a path for the calls that know no directory descriptors; through /proc it is still the open one."""
    return b"/proc/self/fd/%d/%s" % (parent, name)


def _xattrs(path: tuple[bytes, ...], level: _Level, where: int | bytes) -> tuple[tuple[str, bytes], ...]:
    follow = isinstance(where, int)  # a descriptor is not followed anywhere, but the call wants it so
    try:
        keys = os.listxattr(where, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            level.problems.append(Problem(path, f"its attributes are unreadable: {error.strerror}"))
        return ()
    found: list[tuple[str, bytes]] = []
    for key in keys:
        try:
            found.append((key, os.getxattr(where, key, follow_symlinks=follow)))
        except OSError as error:
            if error.errno != errno.ENODATA:  # that one was removed just now
                level.problems.append(Problem(path, f"its attribute {key} is unreadable: {error.strerror}"))
    return tuple(found)


def _why(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "vanished before it was read"
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        return "changed while read: no directory any more"
    return f"unreadable: {error.strerror}"
