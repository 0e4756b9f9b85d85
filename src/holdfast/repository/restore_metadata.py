"""Putting metadata on what was restored: owner, xattrs, mode, times, in the order in which none undoes another."""

import os
import stat
from collections.abc import Callable
from functools import partial

from holdfast.repository.entry import Kind, Metadata
from holdfast.repository.tree import Node

_SET_ID = stat.S_ISUID | stat.S_ISGID


def apply_to_file(descriptor: int, meta: Metadata, *, owners: bool) -> list[str]:
    """Put metadata on an open file or directory; return what could not be put, in words."""
    problems: list[str] = []
    mode = meta.mode
    if owners:
        # Changing the owner clears set-id bits and capabilities, so it comes first.
        found = os.fstat(descriptor)
        if (found.st_uid, found.st_gid) != (meta.uid, meta.gid):
            _try(problems, "owner", lambda: os.chown(descriptor, meta.uid, meta.gid))
    else:
        mode = _without_foreign_set_id(mode, meta)
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
        mode = meta.mode if owners else _without_foreign_set_id(meta.mode, meta)
        # Linux has no chmod that does not follow links; this name was made by us a moment ago and is none.
        _try(problems, "mode", lambda: os.chmod(name, mode, dir_fd=directory))
    _try(
        problems,
        "times",
        lambda: os.utime(name, ns=(meta.atime_ns, meta.mtime_ns), dir_fd=directory, follow_symlinks=False),
    )
    return problems


def _without_foreign_set_id(mode: int, meta: Metadata) -> int:
    """Drop set-id bits that would act for whoever restores instead of the owner they were made for."""
    if meta.uid != os.geteuid():
        mode &= ~_SET_ID
    return mode


def _try(problems: list[str], what: str, change: Callable[[], None]) -> None:
    try:
        change()
    except (OSError, OverflowError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        problems.append(f"its {what} could not be restored: {text}")
