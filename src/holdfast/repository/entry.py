"""What goes into a snapshot and what comes out of one: entries of a tree, in an order everybody keeps.

A stream of entries is in pre-order: a directory comes before what it holds, siblings come in the byte order of their
names, and a directory's entries follow it at once. A path is a tuple of names, relative to the root, which has no
entry of its own.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from holdfast.core.errors import HoldfastError, InvalidInputError
from holdfast.repository.cipher import Buffer

MAX_NAME_BYTES = 255


class Kind(enum.Enum):
    """What an entry is; the value is restic's word for it."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    DEV = "dev"
    CHARDEV = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"

    __hash__ = object.__hash__  # there is one of each, and Enum's own is slow: this is a key for every file


class Metadata(NamedTuple):
    """What is known of an entry besides its content. Times are nanoseconds since 1970; modes are permission bits.

    A tuple, as are the others that there are for every file: making one takes a fifth of what a dataclass takes.
    """

    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    size: int = 0
    inode: int = 0
    device: int = 0
    links: int = 0
    link_target: bytes = b""
    rdev: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Hole:
    """A run of zero bytes that the source need not be read for, and that a restore need not write."""

    length: int


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes of an open file, which the writer reads itself, straight into its own buffers."""

    descriptor: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something about the content that the outcome has to say, such as `changed while read`."""

    what: str


Piece = Buffer | Extent | Hole | Noticed


class Content(Protocol):
    """The content of one file, read once from the start to the end."""

    def read(self) -> Iterator[Piece]:
        """Yield the content in order: bytes, runs of an open file, and holes.

        A piece is only used until the next one is asked for. A run of a file that has become shorter meanwhile ends
        there, and is put on record. A `Noticed` puts a problem on record and keeps the
        file.

        Raises:
            UnreadableError: the content cannot be had; the file is left out and the problem recorded.
        """
        ...


class UnreadableError(HoldfastError):
    """A file's content could not be read, or not to its end; the text says how (`vanished`, `unreadable: ...`)."""


class Kept(NamedTuple):
    """Content that the parent snapshot holds already: its blobs, in order, and where to read it if they are gone.

    `encoded` is the whole node, metadata and all, if the parent holds it just as it would be written now.
    """

    blobs: tuple[bytes, ...]
    size: int
    otherwise: Content
    encoded: str | None = None


class Entry(NamedTuple):
    """One thing in a tree. Only files have content."""

    path: tuple[bytes, ...]
    kind: Kind
    metadata: Metadata = Metadata()
    content: Content | Kept | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not in a snapshot as it should be, and why. An empty path is the whole source."""

    path: tuple[bytes, ...]
    what: str

    def __str__(self) -> str:
        return f"{path_text(self.path)}: {self.what}"


class InvalidEntryError(InvalidInputError):
    """A stream of entries breaks the order, or an entry has a name that no tree can hold."""


@dataclass(frozen=True, slots=True)
class BytesContent:
    """Content that is in memory."""

    data: bytes = field(repr=False)

    def read(self) -> Iterator[Piece]:
        """Yield the bytes as one piece."""
        if self.data:
            yield self.data


def path_text(path: tuple[bytes, ...]) -> str:
    """Return a path as a person reads it; bytes that are not UTF-8 are shown as escapes."""
    return "/" + b"/".join(path).decode("utf-8", "backslashreplace")


def refuse_bad_name(name: bytes) -> None:
    """Refuse a name that is empty, `.` or `..`, or holds a slash or a zero byte.

    Raises:
        InvalidEntryError: it is one of those.
    """
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidEntryError(f"{name!r} cannot be the name of an entry")
