"""Restoring a file tree: into a new directory, or into a new directory below an existing file system.

What arrives first lies in a directory `.holdfast-restore-JOB` within the target, and is moved up by `finish`. So a
restore that died half-way can be told from one that ended, the same job can begin again, and `abort` removes nothing
but that directory and what it made itself.
"""

import errno
import os
import re
import shutil
import stat
import threading
from collections.abc import Mapping
from datetime import datetime

import structlog

from holdfast.repository.entry import Problem, path_text
from holdfast.source.confined import make_granted
from holdfast.source.location import Location, location
from holdfast.source.protocol import (
    DirectoryLanding,
    OptionRefusedError,
    SourceError,
    SourceReport,
    SourceSpec,
    TargetFailedError,
    TargetOccupiedError,
)
from holdfast.source.restore_metadata import FileRestore, directory_name, file_restore

log = structlog.get_logger()

_STAGING = b".holdfast-restore-"
_NAMED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileTarget:
    """One directory that a restore fills.

    `spec.url` is the new directory's URL, or that of the existing file system that the metadata names.
    """

    def __init__(self, spec: SourceSpec, metadata: Mapping[str, str], *, at: datetime) -> None:
        self._spec = spec
        self._wanted: FileRestore = file_restore(metadata)
        base = location(spec.url)
        if self._wanted.target is None:
            self._place = Location(base.scheme, base.host, base.port, (*base.path, directory_name(at)))
        else:
            self._place = self._wanted.target
            if base != self._place:
                raise OptionRefusedError(f"the target {spec.url} is not the one that the metadata names")
        if not re.fullmatch(r"[A-Za-z0-9-]+", spec.job):
            raise OptionRefusedError("a restore needs the id of its job")
        self._staging = _STAGING + spec.job.encode()
        self._aborted = threading.Event()
        self._filled_by: int | None = None
        self._target: int | None = None
        self._landing: int | None = None
        self._made = False
        self._moved = 0

    def begin(self) -> DirectoryLanding:
        """Make the directory, and in it the one where everything arrives.

        Raises:
            NotGrantedError: the host grants no restore there.
            TargetOccupiedError: it exists and holds something.
        """
        self._filled_by = threading.get_ident()
        self._target, self._made = make_granted(
            self._place, grants=self._spec.grants, forbidden=self._spec.forbidden, may_hold=self._staging
        )
        # What an earlier run of this very job left there is nobody else's.
        self._remove_staging(self._target)
        os.mkdir(self._staging, 0o700, dir_fd=self._target)
        self._landing = os.open(
            self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._target
        )
        return DirectoryLanding(self._landing, self._wanted.items)

    def finish(self) -> SourceReport:
        """Move everything up to where it belongs.

        Raises:
            TargetFailedError: something is in the way that was not there before, or the disk refuses.
        """
        if self._target is None or self._landing is None or self._aborted.is_set():
            raise TargetFailedError("the restore was not begun, or was given up")
        missing = [item for item in self._wanted.items if not _holds(self._landing, item)]
        if missing and len(missing) == len(self._wanted.items):
            raise TargetFailedError(
                f"the recovery point holds none of ItemsToRestore; not even {path_text(missing[0])}"
            )
        try:
            for name in _names(self._landing):
                _move(name, self._landing, self._target)
                self._moved += 1
            os.rmdir(self._staging, dir_fd=self._target)
            if self._made:
                self._dress(self._target)
            os.fsync(self._target)
        except FileExistsError as error:
            raise TargetFailedError(f"something appeared in {self._place.key} during the restore: {error}") from error
        except OSError as error:
            raise TargetFailedError(f"the restore into {self._place.key} could not be ended: {error}") from error
        self._let_go()
        return SourceReport(
            facts={"restored_to": self._place.key, "names": self._moved},
            problems=tuple(Problem(item, "not in the recovery point, so not restored") for item in missing),
        )

    def abort(self) -> None:
        """Remove what was restored so far, and the directory if it was made for this and nothing else is in it.

        From another thread than the one that fills the directory it only forbids to finish: that one still writes, and
        has to stop and call this itself.
        """
        self._aborted.set()
        if self._filled_by not in (None, threading.get_ident()):
            return
        target = self._target
        if target is None:
            return
        # Once the first name is moved up, the target holds what cannot be told from other people's files.
        if self._moved == 0:
            try:
                self._remove_staging(target)
                if self._made:
                    self._remove_target(target)
            except SourceError as error:
                log.warning("source.restore_not_removed", target=self._place.key, error=str(error))
        self._let_go()

    def _dress(self, target: int) -> None:
        """Give the new directory the mode and owner of the tree's root, else those of the directory it lies in."""
        above = os.stat("..", dir_fd=target)
        mode, owner = self._wanted.root_mode, self._wanted.root_owner
        if self._wanted.target is None:
            mode, owner = stat.S_IMODE(above.st_mode), (above.st_uid, above.st_gid)
        if owner is not None and os.geteuid() == 0:
            os.fchown(target, *owner)
        if mode is not None:
            os.fchmod(target, mode)
        changed_at = self._wanted.root_mtime_ns
        if changed_at is not None:  # last, since moving things into the directory changes it
            os.utime(target, ns=(changed_at, changed_at))

    def _remove_staging(self, target: int) -> None:
        try:
            _open_up(self._staging, target)
            shutil.rmtree(self._staging, dir_fd=target)
        except FileNotFoundError:
            return
        except OSError as error:
            raise TargetOccupiedError(
                f"an earlier run of this restore left {os.fsdecode(self._staging)} in {self._place.key}, "
                f"which cannot be removed: {error.strerror}"
            ) from error

    def _remove_target(self, target: int) -> None:
        here = os.fstat(target)
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=target)
        try:
            name = self._place.path[-1]
            there = os.stat(name, dir_fd=above, follow_symlinks=False)
            if os.path.samestat(here, there):
                os.rmdir(name, dir_fd=above)
        except OSError:
            return  # somebody moved it or put something there; it is theirs now
        finally:
            os.close(above)

    def _let_go(self) -> None:
        descriptors = [fd for fd in (self._target, self._landing) if fd is not None]
        self._target = self._landing = None
        for descriptor in descriptors:
            os.close(descriptor)


def _holds(landing: int, item: tuple[bytes, ...]) -> bool:
    """Return whether a restored tree holds a path; no link is followed on the way."""
    descriptor = os.dup(landing)
    try:
        for part in item[:-1]:
            below = os.open(part, _NAMED, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.stat(item[-1], dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _names(directory: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(directory))


def _move(name: bytes, source: int, target: int) -> None:
    """Move one name up, never onto another."""
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        _move_directory(name, status, source, target)
        return
    try:
        # A link, unlike a rename, never replaces what is there.
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP):
            raise
        _refuse_taken(name, target)  # a file system without hard links
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
    else:
        os.unlink(name, dir_fd=source)


def _move_directory(name: bytes, status: os.stat_result, source: int, target: int) -> None:
    _refuse_taken(name, target)
    descriptor = os.open(name, _NAMED, dir_fd=source)
    itself = f"/proc/self/fd/{descriptor}"
    try:
        # The kernel writes the directory's own `..`, for which everybody but root needs the right to write in it.
        os.chmod(itself, stat.S_IMODE(status.st_mode) | stat.S_IWUSR)  # noqa: PTH101 - through the descriptor
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        os.chmod(itself, stat.S_IMODE(status.st_mode))  # noqa: PTH101 - through the descriptor
        os.utime(itself, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(descriptor)


def _refuse_taken(name: bytes, target: int) -> None:
    try:
        os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise FileExistsError(f"{os.fsdecode(name)!r} is there already")


def _open_up(name: bytes, parent: int) -> None:
    """Let the owner write in a directory and all below it, so that it can be removed."""
    descriptor = os.open(name, _NAMED, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{descriptor}", 0o700)  # noqa: PTH101 - through the descriptor, never a link
        readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    try:
        for below in _names(readable):
            if stat.S_ISDIR(os.stat(below, dir_fd=readable, follow_symlinks=False).st_mode):
                _open_up(below, readable)
    finally:
        os.close(readable)
