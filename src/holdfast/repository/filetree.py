"""A directory tree as a stream of entries: everything is opened relative to its directory, and no link is followed."""

import errno
import functools
import grp
import os
import pwd
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
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
from holdfast.repository.parent import ParentTree

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK, opening what has become a fifo meanwhile would wait for ever.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_BLOCK = 512  # what st_blocks counts, whatever the file system's own block is
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFBLK: Kind.DEV,
    stat.S_IFCHR: Kind.CHARDEV,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
_LINKED = frozenset({Kind.FILE, Kind.SYMLINK, Kind.DEV, Kind.CHARDEV})

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
    """A directory that the walk is in: the names still to come, and problems not told yet."""

    path: tuple[bytes, ...]
    descriptor: int
    names: "Iterator[tuple[bytes, os.DirEntry[str]]]"
    problems: list[Problem] = field(default_factory=list)
    content: "_FileContent | None" = None


class _Walk:
    def __init__(self, parent: ParentTree | None, rules: WalkRules, device: int) -> None:
        self._parent = parent
        self._rules = rules
        self._device = device

    def run(self, root: int) -> Iterator[Entry | Problem]:
        # A stack of our own: trees are deeper than Python's.
        levels = [_Level((), root, self._names((), root))]
        try:
            while levels:
                level = levels[-1]
                while level.problems:
                    yield level.problems.pop()
                item = next(level.names, None)
                if item is None:
                    levels.pop()
                    if levels:
                        os.close(level.descriptor)
                    continue
                name, listed = item
                path = (*level.path, name)
                if self._rules.exclude is not None and self._rules.exclude(path):
                    continue
                entry = self._entry(path, level, name, listed)
                while level.problems:
                    yield level.problems.pop()
                if entry is None:
                    continue
                descriptor = self._open_directory(path, level, name) if entry.kind is Kind.DIR else None
                if entry.kind is Kind.DIR and descriptor is None:
                    continue
                if descriptor is None:
                    yield entry
                    if level.content is not None:
                        level.content.close()
                        level.content = None
                    continue
                # Before the entry is yielded, since whoever takes it may stop there.
                below = _Level(path, descriptor, iter(()))
                levels.append(below)
                yield entry
                if not self._rules.one_filesystem or os.fstat(descriptor).st_dev == self._device:
                    below.names = self._names(path, descriptor, below.problems)
        finally:
            for level in levels:
                if level.content is not None:
                    level.content.close()
            for level in levels[1:]:
                os.close(level.descriptor)

    @staticmethod
    def _names(
        path: tuple[bytes, ...], descriptor: int, problems: list[Problem] | None = None
    ) -> "Iterator[tuple[bytes, os.DirEntry[str]]]":
        """Yield what a directory holds, in the byte order of the names."""
        try:
            with os.scandir(descriptor) as found:
                return iter(sorted(((os.fsencode(item.name), item) for item in found), key=itemgetter(0)))
        except OSError as error:
            if problems is None:
                raise UnreadableError(f"the directory cannot be listed: {error.strerror}") from error
            problems.append(Problem(path, f"unreadable: {error.strerror}"))
            return iter(())

    def _entry(self, path: tuple[bytes, ...], level: "_Level", name: bytes, listed: "os.DirEntry[str]") -> Entry | None:
        parent = level.descriptor
        try:
            found = listed.stat(follow_symlinks=False)  # below the open descriptor, as everything is
            kind = _KINDS.get(stat.S_IFMT(found.st_mode))
            if kind is None:
                level.problems.append(Problem(path, "of a kind that cannot be stored"))
                return None
            if kind is Kind.FILE:
                return self._file(path, level, name, found)
            target = os.readlink(name, dir_fd=parent) if kind is Kind.SYMLINK else b""
            xattrs = _xattrs(path, level, _through_proc(parent, name)) if self._rules.xattrs else ()
        except OSError as error:
            level.problems.append(Problem(path, _why(error)))
            return None
        return Entry(path, kind, self._metadata(kind, found, target, xattrs))

    def _file(self, path: tuple[bytes, ...], level: "_Level", name: bytes, found: os.stat_result) -> Entry:
        if self._parent is not None:
            metadata = self._metadata(Kind.FILE, found, b"", ())
            known = self._parent.unchanged_file(path, metadata)
            if known is not None:
                # Whoever changes an attribute changes ctime, so these are as they were, too.
                if known.xattrs and self._rules.xattrs:
                    metadata = metadata._replace(xattrs=known.xattrs)
                otherwise = _FileContent(level.descriptor, name, found)
                return Entry(path, Kind.FILE, metadata, Kept(known.content, found.st_size, otherwise, known.encoded))
        content = _FileContent(level.descriptor, name, found)
        level.content = content
        opened = content.open()
        xattrs = _xattrs(path, level, opened) if self._rules.xattrs else ()
        return Entry(path, Kind.FILE, self._metadata(Kind.FILE, found, b"", xattrs), content)

    @staticmethod
    def _open_directory(path: tuple[bytes, ...], level: "_Level", name: bytes) -> int | None:
        try:
            return os.open(name, _DIRECTORY, dir_fd=level.descriptor)
        except OSError as error:
            level.problems.append(Problem(path, _why(error)))
            return None

    def _metadata(
        self, kind: Kind, found: os.stat_result, target: bytes, xattrs: tuple[tuple[str, bytes], ...]
    ) -> Metadata:
        return Metadata(
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            user=_user(found.st_uid),
            group=_group(found.st_gid),
            mtime_ns=found.st_mtime_ns,
            atime_ns=found.st_atime_ns if self._rules.atime else found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
            size=found.st_size if kind is Kind.FILE else 0,
            inode=found.st_ino,
            device=found.st_dev,
            links=found.st_nlink if kind in _LINKED else 0,
            link_target=target,
            rdev=found.st_rdev if kind in (Kind.DEV, Kind.CHARDEV) else 0,
            xattrs=xattrs,
        )


class _FileContent:
    """One file of a directory that is open. Read once, while that directory's entries are being yielded."""

    def __init__(self, parent: int, name: bytes, found: os.stat_result) -> None:
        self._parent = parent
        self._name = name
        self._found = found
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
            if _differs(self._found, before) or _differs(before, after):
                yield Noticed("changed while read")
        finally:
            self.close()


def _differs(one: os.stat_result, other: os.stat_result) -> bool:
    return (
        one.st_size != other.st_size
        or one.st_mtime_ns != other.st_mtime_ns
        or one.st_ino != other.st_ino
        or one.st_dev != other.st_dev
    )


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


@functools.lru_cache(maxsize=1024)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@functools.lru_cache(maxsize=1024)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""
