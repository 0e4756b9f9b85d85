"""What one directory holds: its names in order, what the file system says of each, and which files are as they were.

Nothing is opened and nobody is asked but the file system, so that it can be done in this process or in another.
"""

import functools
import grp
import os
import pwd
import re
import stat
from operator import itemgetter
from typing import NamedTuple

from holdfast.core.errors import DamagedError
from holdfast.repository.entry import Kind, Metadata
from holdfast.repository.tree import Node, decode_node, encode_head, split_tree

# What follows the metadata in the node of a file, and nothing else.
_CONTENT = re.compile(r',"content":\["([0-9a-f]{64}(?:","[0-9a-f]{64})*)"\]\}')
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


class Known(NamedTuple):
    """What the parent knows of a file that has not changed: its blobs, and its extended attributes.

    `encoded` is the file's node if nothing at all would be said differently now.
    """

    content: tuple[bytes, ...]
    xattrs: tuple[tuple[str, bytes], ...] = ()
    encoded: str | None = None


class Item(NamedTuple):
    """Something in a directory. The metadata lack a link's target and extended attributes.

    Without metadata `error` says why it could not be looked at (an errno), or it is of a kind that cannot be stored.
    """

    name: bytes
    kind: Kind | None = None
    metadata: Metadata | None = None
    error: int = 0
    known: Known | None = None
    below: bytes | None = None  # a directory's tree in the parent


def list_directory(descriptor: int, parent: bytes, *, atime: bool) -> list[Item]:
    """Return what an open directory holds, in the byte order of the names.

    A file is known if size, mtime, ctime and inode are as in `parent`, the text of the directory's tree in an earlier
    snapshot; without one, or if that is damaged, no file is.

    Raises:
        OSError: the directory cannot be listed.
    """
    with os.scandir(descriptor) as found:
        listed = sorted(((os.fsencode(item.name), item) for item in found), key=itemgetter(0))
    nodes = _nodes(parent)
    return [_item(name, item, nodes.get(name), atime=atime) for name, item in listed]


def _nodes(parent: bytes) -> dict[bytes, str]:
    if not parent:
        return {}
    try:
        return split_tree(parent)
    except DamagedError:
        return {}  # this costs only speed: what it held is read again


def _item(name: bytes, listed: "os.DirEntry[str]", before: str | None, *, atime: bool) -> Item:
    try:
        found = listed.stat(follow_symlinks=False)  # below the open descriptor, as everything is
    except OSError as error:
        return Item(name, error=error.errno or 0)
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return Item(name)
    metadata = metadata_of(kind, found, atime=atime)
    if before is None or (kind is not Kind.FILE and kind is not Kind.DIR):
        return Item(name, kind, metadata)
    if kind is Kind.FILE:
        return Item(name, kind, metadata, 0, _known(name, metadata, before))
    node = _decoded(before)
    return Item(name, kind, metadata, below=None if node is None else node.subtree)


def metadata_of(kind: Kind, found: os.stat_result, *, atime: bool) -> Metadata:
    """Return what the file system says of an entry; without `atime` the access time is the modification time."""
    return Metadata(
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        user=_user(found.st_uid),
        group=_group(found.st_gid),
        mtime_ns=found.st_mtime_ns,
        atime_ns=found.st_atime_ns if atime else found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        size=found.st_size if kind is Kind.FILE else 0,
        inode=found.st_ino,
        device=found.st_dev,
        links=found.st_nlink if kind in _LINKED else 0,
        rdev=found.st_rdev if kind in (Kind.DEV, Kind.CHARDEV) else 0,
    )


def _known(name: bytes, metadata: Metadata, before: str) -> Known | None:
    # Millions of files are compared and nearly all are unchanged: those say the same, and are not decoded.
    head = encode_head(name, Kind.FILE, metadata, metadata.size)
    if before.startswith(head) and (content := _CONTENT.fullmatch(before, len(head))) is not None:
        return Known(tuple(map(bytes.fromhex, content[1].split('","'))), (), before)
    node = _decoded(before)
    if node is None or node.kind is not Kind.FILE or node.content is None or not _is_same(node.metadata, metadata):
        return None
    return Known(node.content, node.metadata.xattrs)


def _decoded(text: str) -> Node | None:
    try:
        return decode_node(text)
    except DamagedError:
        return None


def _is_same(one: Metadata, other: Metadata) -> bool:
    return (one.size, one.mtime_ns, one.ctime_ns, one.inode) == (
        other.size,
        other.mtime_ns,
        other.ctime_ns,
        other.inode,
    )


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
