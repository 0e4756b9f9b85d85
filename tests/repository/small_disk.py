"""A small filesystem of its own, that really fills up."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MOUNT = 'mount -t tmpfs -o "size=$2" tmpfs "$1" && echo mounted && exec cat'
_BLOCK = 4096


class SmallDisk:
    """A mounted filesystem; a ballast file takes the room that a test does not want."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def leave_room(self, size: int) -> None:
        """Fill the disk until only `size` bytes, rounded down to blocks, are free."""
        self.make_room()
        free = os.statvfs(self.path)
        taken = free.f_bavail * free.f_bsize - size // _BLOCK * _BLOCK
        assert taken >= 0, "the disk is fuller than that"
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if taken:
                os.posix_fallocate(descriptor, 0, taken)
        finally:
            os.close(descriptor)

    def make_room(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(at: Path, size: int) -> Iterator[SmallDisk]:
    """Mount a filesystem of `size` bytes in a process's own view of the machine; it is gone with the process."""
    at.mkdir()
    own_user = [] if os.geteuid() == 0 else ["--map-root-user"]
    holder = subprocess.Popen(
        ["unshare", "--mount", *own_user, "sh", "-c", _MOUNT, "sh", str(at), str(size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"mounted\n", "mounting a tmpfs needs root, or user namespaces"
        yield SmallDisk(Path(f"/proc/{holder.pid}/root{at}"))
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()
