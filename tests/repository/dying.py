"""Storage that dies, and time that has passed."""

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta

from holdfast.core.clock import SystemMachineTime
from holdfast.repository.cipher import Buffer
from holdfast.repository.storage import MemoryStorage, Storage, StorageFailedError, Stored


class DyingStorage:
    """Does `writes` puts and deletes, and from then on nothing any more."""

    def __init__(self, inner: Storage, writes: int) -> None:
        self.inner = inner
        self.left = writes
        self.done = 0
        self._guard = threading.Lock()

    def _write(self) -> None:
        with self._guard:
            if self.left <= 0:
                self.left = -1
                raise StorageFailedError("the storage has died")
            self.left -= 1
            self.done += 1

    def _read(self) -> None:
        if self.left < 0:
            raise StorageFailedError("the storage has died")

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        self._write()
        self.inner.put(name, *pieces, new=new)

    def delete(self, name: str) -> None:
        self._write()
        self.inner.delete(name)

    def get(self, name: str) -> bytes:
        self._read()
        return self.inner.get(name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        self._read()
        return self.inner.get_range(name, offset, length)

    def list(self, prefix: str) -> Iterator[Stored]:
        self._read()
        return self.inner.list(prefix)

    def size(self, name: str) -> int:
        self._read()
        return self.inner.size(name)


class AnHourLater(SystemMachineTime):
    """The machine's time when all that has crashed counts as stale."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


def copied(storage: MemoryStorage) -> MemoryStorage:
    """Return storage that holds the same and goes its own way."""
    copy = MemoryStorage()
    copy.files = dict(storage.files)
    return copy
