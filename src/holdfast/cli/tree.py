"""A directory tree with everything that backups stumble over, and a comparison of two trees to the byte.

Used by the quickstart: what is restored is compared with what was there, without any help of the backup's own code.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HOLE: Final = 8 << 20
_BLOCK: Final = 1 << 20

AWKWARD_NAMES: Final = (
    b"plain.txt",
    b"with space.txt",
    b"quotes \"double\" and 'single'.txt",
    b"new\nline.txt",
    b"back\\slash.txt",
    "grüße-日本.txt".encode(),
    b"not-utf8-\xff\xfe.txt",
    b"<angle>&ampersand.html",
    b"-leading-dash",
    b"~tilde",
    b"trailing space ",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which two trees differ."""

    path: str
    what: str


def make_tree(root: Path, *, theme: str, files: int) -> None:
    """Lay a tree below `root`: `files` ordinary files, awkward names, links, a hole, odd modes and times."""
    top = os.fsencode(root)
    os.makedirs(top)
    for n in range(files):
        folder = os.path.join(top, b"data", b"%02d" % (n % 7))
        os.makedirs(folder, exist_ok=True)
        seed = hashlib.sha256(f"{theme}/{n}".encode()).digest()
        _write(os.path.join(folder, b"%s-%04d.dat" % (theme.encode(), n)), seed * (1 + (n * 37) % 2000))
    names = os.path.join(top, b"names")
    os.makedirs(names)
    for name in AWKWARD_NAMES:
        _write(os.path.join(names, name), b"named " + name)
    os.makedirs(os.path.join(top, b"empty directory"))
    links = os.path.join(top, b"links")
    os.makedirs(links)
    os.symlink(b"../names/plain.txt", os.path.join(links, b"relative"))
    os.symlink(b"/nonexistent/target", os.path.join(links, b"dangling"))
    os.link(os.path.join(names, b"plain.txt"), os.path.join(links, b"hard"))
    with open(os.path.join(top, b"hole.img"), "wb") as image:
        image.write(b"begins")
        image.seek(_HOLE)
        image.write(b"ends")
    script = os.path.join(top, b"run.sh")
    _write(script, b"#!/bin/sh\necho restored\n")
    os.chmod(script, 0o740)
    _write(os.path.join(top, b"empty.txt"), b"")
    for n, path in enumerate(sorted(_walk(top))):
        if not os.path.islink(path):
            os.utime(path, ns=(1_700_000_000_000_000_000 + n, 1_600_000_000_123_456_789 + n * 1_000_000_007))


def compare_trees(expected: Path, found: Path) -> tuple[int, list[Difference]]:
    """Return how many files are in `expected`, and everything in which `found` differs from it.

    Compared are names, kinds, modes, owners, times of change to the nanosecond, link targets, which names are one
    file, contents, and whether holes are still holes.
    """
    left, right = os.fsencode(expected), os.fsencode(found)
    ours = {os.path.relpath(path, left): os.lstat(path) for path in _walk(left)}
    theirs = {os.path.relpath(path, right): os.lstat(path) for path in _walk(right)}
    differences = [Difference(os.fsdecode(name), "missing") for name in sorted(ours.keys() - theirs.keys())]
    differences += [Difference(os.fsdecode(name), "not there before") for name in sorted(theirs.keys() - ours.keys())]
    for name in sorted(ours.keys() & theirs.keys()):
        differences += _compare(os.fsdecode(name), os.path.join(left, name), os.path.join(right, name))
    if _same_files(ours) != _same_files(theirs):
        differences.append(Difference(".", "hard links differ"))
    return sum(stat.S_ISREG(info.st_mode) for info in ours.values()), differences


def _compare(name: str, left: bytes, right: bytes) -> Iterator[Difference]:
    ours, theirs = os.lstat(left), os.lstat(right)
    if ours.st_mode != theirs.st_mode:
        yield Difference(name, f"mode {stat.filemode(theirs.st_mode)}, was {stat.filemode(ours.st_mode)}")
        return
    if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid):
        yield Difference(name, "owner differs")
    if ours.st_mtime_ns != theirs.st_mtime_ns:
        yield Difference(name, f"changed at {theirs.st_mtime_ns} ns, was {ours.st_mtime_ns}")
    if stat.S_ISLNK(ours.st_mode) and os.readlink(left) != os.readlink(right):
        yield Difference(name, "points elsewhere")
    if stat.S_ISREG(ours.st_mode):
        if ours.st_size != theirs.st_size or _hash(left) != _hash(right):
            yield Difference(name, "content differs")
        elif ours.st_blocks * 512 < ours.st_size // 2 and theirs.st_blocks * 512 > theirs.st_size // 2:
            yield Difference(name, "a hole was filled")


def _walk(top: bytes) -> Iterator[bytes]:
    yield top
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            yield os.path.join(folder, name)


def _same_files(infos: dict[bytes, os.stat_result]) -> set[frozenset[bytes]]:
    groups: dict[tuple[int, int], set[bytes]] = {}
    for name, info in infos.items():
        if stat.S_ISREG(info.st_mode) and info.st_nlink > 1:
            groups.setdefault((info.st_dev, info.st_ino), set()).add(name)
    return {frozenset(names) for names in groups.values() if len(names) > 1}


def _write(path: bytes, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _hash(path: bytes) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.digest()
