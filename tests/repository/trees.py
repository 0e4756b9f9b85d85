"""Trees to back up, and what of a tree has to come back."""

import os
import socket
import stat
from pathlib import Path

AWKWARD_NAMES = (
    b"plain.txt",
    b"with space",
    b"quote\"and'apostrophe",
    b"back\\slash",
    b"new\nline",
    b"tab\tand\x01control\x7f",
    b"<angle>&amp;",
    "früh ☃ 𝄞".encode(),
    b"invalid \xff\xfe utf-8",
    "zero width \u200b and line \u2028 end".encode(),
    b"-rf",
    b"...",
    b"a" * 255,
)


def make_awkward_tree(root: Path) -> None:
    """Fill a directory with what file systems hold besides plain files with plain names."""
    names = root / "names"
    names.mkdir()
    for number, name in enumerate(AWKWARD_NAMES):
        (names / os.fsdecode(name)).write_bytes(b"content of %d" % number)
    (root / "empty").write_bytes(b"")
    (root / "empty directory").mkdir()
    (root / "deep").joinpath(*["down"] * 30).mkdir(parents=True)
    (root / "deep").joinpath(*["down"] * 30, "file").write_text("at the bottom")
    (root / "large").write_bytes(b"".join(b"%09d\n" % number for number in range(500_000)))
    (root / "random").write_bytes(os.urandom(3 << 20))
    with (root / "sparse").open("wb") as sparse:
        sparse.seek(5 << 20)
        sparse.write(b"island")
        sparse.truncate(40 << 20)
    with (root / "all hole").open("wb") as hole:
        hole.truncate(3 << 20)
    (root / "link").symlink_to("plain target")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "odd link").symlink_to(os.fsdecode(b"target with \xff"))
    (root / "first name").write_text("one file, two names")
    (root / "names" / "second name").hardlink_to(root / "first name")
    os.mkfifo(root / "fifo")
    (root / "modes").mkdir()
    for mode in (0o000, 0o400, 0o644, 0o777, 0o4755, 0o2755, 0o1777):
        path = root / "modes" / f"{mode:04o}"
        path.write_text(f"{mode:o}")
        path.chmod(mode)
    (root / "read-only directory").mkdir()
    (root / "read-only directory" / "file").write_text("inside")
    (root / "read-only directory").chmod(0o555)
    (root / "attributes").write_text("has some")
    os.setxattr(root / "attributes", "user.colour", b"green\x00blue")
    os.setxattr(root / "attributes", "user.empty", b"")
    os.utime(root / "empty", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "names", ns=(-1_500_000_000, -1_500_000_001))
    os.utime(root / "link", ns=(5, 7_000_000_000), follow_symlinks=False)
    if os.geteuid() == 0:
        os.chown(root / "attributes", 12345, 54321)
        os.chown(root / "link", 12345, 54321, follow_symlinks=False)


def describe(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return everything of a tree that a restore has to bring back, by path."""
    out: dict[bytes, tuple[object, ...]] = {}
    inodes: dict[tuple[int, int], bytes] = {}
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted(names + files):
            path = Path(directory, name)
            found = path.lstat()
            content: object = None
            if stat.S_ISREG(found.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(found.st_mode):
                content = os.fsencode(path.readlink())
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in _keys(path)}
            relative = os.fsencode(path.relative_to(root))
            first = inodes.setdefault((found.st_dev, found.st_ino), relative)
            out[relative] = (
                stat.filemode(found.st_mode),
                found.st_uid,
                found.st_gid,
                found.st_mtime_ns,
                content,
                attributes,
                None if stat.S_ISDIR(found.st_mode) else first,
            )
    return out


def _keys(path: Path) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def make_socket(path: Path) -> None:
    """Leave a socket's name behind."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
