"""Putting metadata on what was restored: owner, xattrs, mode, times, in the order in which none undoes another."""

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from holdfast.repository.entry import Kind, Metadata
from holdfast.repository.tree import Node


def apply_to_file(descriptor: int, meta: Metadata, *, owners: bool) -> list[str]:
    """Put metadata on an open file or directory; return what could not be put, in words."""
    problems: list[str] = []
    # Changing the owner clears set-id bits and capabilities, so it comes first.
    found = os.fstat(descriptor)
    is_owned = (found.st_uid, found.st_gid) == (meta.uid, meta.gid)
    if owners and not is_owned:
        is_owned = _try(problems, "owner", lambda: os.chown(descriptor, meta.uid, meta.gid))
    mode = meta.mode if is_owned else _without_foreign_set_id(meta.mode, found, meta)
    for key, value in meta.xattrs:
        _try(problems, f"attribute {key}", partial(os.setxattr, descriptor, key, value))
    _try(problems, "mode", lambda: os.chmod(descriptor, mode))
    _try(problems, "times", lambda: os.utime(descriptor, ns=(meta.atime_ns, meta.mtime_ns)))
    return problems


def apply_to_name(directory: int, name: bytes, node: Node, *, owners: bool) -> list[str]:
    """Put metadata on what is not opened: links, fifos, sockets, devices; return what could not be put, in words."""
    problems: list[str] = []
    meta = node.metadata
    if owners:
        _try(problems, "owner", lambda: os.chown(name, meta.uid, meta.gid, dir_fd=directory, follow_symlinks=False))
    path = b"/proc/self/fd/%d/%s" % (directory, name)
    for key, value in meta.xattrs:
        _try(problems, f"attribute {key}", partial(os.setxattr, path, key, value, follow_symlinks=False))
    if node.kind is not Kind.SYMLINK:
        _try(problems, "mode", lambda: _change_mode(directory, name, meta))
    _try(
        problems,
        "times",
        lambda: os.utime(name, ns=(meta.atime_ns, meta.mtime_ns), dir_fd=directory, follow_symlinks=False),
    )
    return problems


def _change_mode(directory: int, name: bytes, meta: Metadata) -> None:
    """Change the mode of what `name` is, and of nothing that somebody may have put there as a link to."""
    held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(held)
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "somebody put a link in its place")
        is_owned = (found.st_uid, found.st_gid) == (meta.uid, meta.gid)
        mode = meta.mode if is_owned else _without_foreign_set_id(meta.mode, found, meta)
        Path(f"/proc/self/fd/{held}").chmod(mode)
    finally:
        os.close(held)


def _without_foreign_set_id(mode: int, found: os.stat_result, meta: Metadata) -> int:
    """Drop set-id bits that would act for whoever restores instead of the owner or group they were made for."""
    if found.st_uid != meta.uid:
        mode &= ~(stat.S_ISUID | stat.S_ISGID)
    if found.st_gid != meta.gid:
        mode &= ~stat.S_ISGID
    return mode


def _try(problems: list[str], what: str, change: Callable[[], None]) -> bool:
    """Make a change; return whether it was made, else put it into words."""
    try:
        change()
    except (OSError, OverflowError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(f"its {what} could not be restored: {text}")
        return False
    return True
