"""Where a repository's files lie: one small protocol, the local disk, and memory.

Names are relative paths with `/` between their parts. Every file but `config` is named by the hash of what it holds
and never changes, so putting one again is harmless.
"""

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from holdfast.core.errors import AlreadyExistsError, DeniedError, InvalidInputError, NotFoundError, UnavailableError
from holdfast.repository.cipher import Buffer

_TEMPORARY = "-tmp-"
_TAKES_NOTHING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PIECES_PER_WRITE = 512  # below IOV_MAX (1024) of Linux


class Stored(NamedTuple):
    """One file on storage."""

    name: str
    size: int


class NotStoredError(NotFoundError):
    """Storage has no file of that name."""


class AlreadyStoredError(AlreadyExistsError):
    """Storage has a file of that name, and it was to be a new one."""


class StorageFailedError(UnavailableError):
    """Storage did not do what it was asked: full, unreachable, broken."""


class StorageFullError(StorageFailedError):
    """Storage takes nothing more: it is full, or mounted to be read only."""


class StorageDeniedError(DeniedError):
    """Storage refused: this credential may not do that."""


class InvalidStorageUrlError(InvalidInputError):
    """A URL does not say where storage is."""


class Storage(Protocol):
    """A place that keeps files. Safe to use from several threads."""

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        """Store the pieces, one after the other, under `name`: whole or not at all, and durable when this returns.

        Raises:
            AlreadyStoredError: `new` was asked for and there is such a file.
            StorageFailedError: it could not be stored; StorageFullError where there is no room for it.
            StorageDeniedError: storage refused.
        """
        ...

    def get(self, name: str) -> bytes:
        """Return all of a file.

        Raises:
            NotStoredError: there is none.
        """
        ...

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return `length` bytes of a file from `offset`, fewer only where the file ends.

        Raises:
            NotStoredError: there is none.
        """
        ...

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every file whose name begins with `prefix`, which ends in `/` or is empty, in any order."""
        ...

    def size(self, name: str) -> int:
        """Return the length of a file.

        Raises:
            NotStoredError: there is none.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a file; it is no error if there is none.

        Raises:
            StorageDeniedError: storage refused.
        """
        ...


def refuse_bad_storage_name(name: str) -> None:
    """Refuse a name that would lead outside of the storage.

    Raises:
        InvalidInputError: it is empty, absolute, or has a part that is empty, `.` or `..`.
    """
    if "\0" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidInputError(f"{name!r} is not a name on storage")


class MemoryStorage:
    """Storage in memory, for tests and for what need not last."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        """Store the pieces under `name`."""
        refuse_bad_storage_name(name)
        data = b"".join(pieces)
        with self._lock:
            if new and name in self.files:
                raise AlreadyStoredError(f"there is a file {name} already")
            self.files[name] = data

    def get(self, name: str) -> bytes:
        """Return all of a file."""
        refuse_bad_storage_name(name)
        try:
            return self.files[name]
        except KeyError as error:
            raise NotStoredError(f"storage has no file {name}") from error

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a file."""
        return self.get(name)[offset : offset + length]

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every file whose name begins with `prefix`."""
        with self._lock:
            found = [Stored(name, len(data)) for name, data in self.files.items() if name.startswith(prefix)]
        yield from found

    def size(self, name: str) -> int:
        """Return the length of a file."""
        return len(self.get(name))

    def delete(self, name: str) -> None:
        """Remove a file."""
        refuse_bad_storage_name(name)
        with self._lock:
            self.files.pop(name, None)


class LocalStorage:
    """Storage in a directory of a local disk.

    A file is written under a temporary name, synced, renamed, and its directory synced, so that a power cut leaves
    either all of it or a temporary name that nothing lists.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known_directories: set[Path] = set()

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        """Store the pieces under `name`, durably."""
        refuse_bad_storage_name(name)
        path = self.root / name
        temporary = path.with_name(f"{path.name}{_TEMPORARY}{secrets.token_hex(8)}")
        with _failures(f"{name} could not be stored in {self.root}"):
            self._make_directory(path.parent)
            try:
                _write_durably(temporary, pieces)
                if new:
                    os.link(temporary, path)
                    temporary.unlink()
                else:
                    temporary.rename(path)
            except FileExistsError as error:
                temporary.unlink(missing_ok=True)
                raise AlreadyStoredError(f"there is a file {name} already") from error
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)
                raise
            _sync_directory(path.parent)

    def get(self, name: str) -> bytes:
        """Return all of a file."""
        refuse_bad_storage_name(name)
        with _failures(f"{name} could not be read from {self.root}"):
            return (self.root / name).read_bytes()

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a file."""
        refuse_bad_storage_name(name)
        with _failures(f"{name} could not be read from {self.root}"):
            descriptor = os.open(self.root / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read_range(descriptor, offset, length)
            finally:
                os.close(descriptor)

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every file below the directory `prefix`; temporary ones are left out."""
        top = self.root / prefix
        waiting = [top]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(directory) as found:
                    for item in found:
                        if item.is_dir(follow_symlinks=False):
                            waiting.append(Path(item.path))
                        elif _TEMPORARY not in item.name:
                            with contextlib.suppress(FileNotFoundError):
                                size = item.stat(follow_symlinks=False).st_size
                                yield Stored(os.path.relpath(item.path, self.root), size)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StorageFailedError(f"{directory} could not be listed: {error.strerror}") from error

    def size(self, name: str) -> int:
        """Return the length of a file."""
        refuse_bad_storage_name(name)
        with _failures(f"{name} could not be looked up in {self.root}"):
            found = (self.root / name).stat()
            if not stat.S_ISREG(found.st_mode):
                raise NotStoredError(f"storage has no file {name}")
            return found.st_size

    def delete(self, name: str) -> None:
        """Remove a file; durable when this returns."""
        refuse_bad_storage_name(name)
        path = self.root / name
        with _failures(f"{name} could not be deleted from {self.root}"):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync_directory(path.parent)

    def remove_leftovers(self, before: datetime) -> int:
        """Remove the temporary files that puts which never ended left before `before`; return how many there were.

        Raises:
            StorageFailedError: one could not be removed.
        """
        removed = 0
        with _failures(f"leftovers could not be removed from {self.root}"):
            for path in self.root.rglob(f"*{_TEMPORARY}*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.lstat().st_mtime < before.timestamp():
                        path.unlink()
                        removed += 1
        return removed

    def _make_directory(self, path: Path) -> None:
        if path in self._known_directories and path.is_dir():
            return
        missing: list[Path] = []
        at = path
        while not at.is_dir():
            missing.append(at)
            at = at.parent
        for directory in reversed(missing):
            directory.mkdir(mode=0o700, exist_ok=True)
            _sync_directory(directory.parent)
        self._known_directories.add(path)


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn what the operating system says into what storage says."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotStoredError(f"{what}: there is no such file") from error
    except PermissionError as error:
        raise StorageDeniedError(f"{what}: permission denied") from error
    except OSError as error:
        failure = StorageFullError if error.errno in _TAKES_NOTHING else StorageFailedError
        raise failure(f"{what}: {error.strerror or error}") from error


def _write_durably(path: Path, pieces: tuple[Buffer, ...]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o400)
    try:
        views = [memoryview(piece) for piece in pieces if len(piece)]
        while views:
            written = os.writev(descriptor, views[:_PIECES_PER_WRITE])
            if written == 0:
                raise OSError(errno.EIO, "nothing was written")
            done = 0
            while done < len(views) and written >= len(views[done]):
                written -= len(views[done])
                done += 1
            del views[:done]
            if written:
                views[0] = views[0][written:]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_range(descriptor: int, offset: int, length: int) -> bytes:
    data = os.pread(descriptor, length, offset)
    if len(data) == length or not data:
        return data
    out = bytearray(data)
    while len(out) < length:
        data = os.pread(descriptor, length - len(out), offset + len(out))
        if not data:
            break
        out += data
    return bytes(out)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_storage(url: str) -> Storage:
    """Return the storage at a path, or at an `s3://`, `gs://` or `az://` URL with credentials from the environment.

    Raises:
        InvalidStorageUrlError: the URL is of another kind, or names no bucket.
    """
    if "://" not in url:
        return LocalStorage(Path(url).absolute())
    if url.startswith("file:///"):
        return LocalStorage(Path(url.removeprefix("file://")))
    from holdfast.repository.object_storage import object_storage  # noqa: PLC0415 - a local repository need not load it

    return object_storage(url)
