"""Writing blobs: hash, look up, compress, seal, verify, pack, store; then the index that names what is stored."""

import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from holdfast.core.clock import MachineTime
from holdfast.core.errors import HoldfastError
from holdfast.repository.cipher import Box, Buffer
from holdfast.repository.index import BLOBS_PER_FILE, Index, put_index
from holdfast.repository.pack import BlobKind, FinishedPack, OpenPack, PackedBlob, pack_name
from holdfast.repository.seal_process import SealProcess, Unsealed
from holdfast.repository.sealing import Sealer
from holdfast.repository.storage import Storage

_CHECKPOINT_EVERY = timedelta(minutes=10)
# Blobs of one file are spread over several packs at random, so that pack sizes tell less about cut points.
_OPEN_DATA_PACKS = 2
# Small blobs go to processes in batches, once there have been so many that starting those pays.
_SMALL_BYTES = 64 << 10
_SMALL_BEFORE_PROCESSES = 1500
_BATCH_BLOBS = 128
_BATCH_BYTES = 1 << 20


class BlobLeftBehindError(HoldfastError):
    """Blobs that were saved did not come to storage: this program is wrong, and what it wrote must not be relied on."""


class WriterEndedError(HoldfastError):
    """The writer has been ended, or has failed before."""


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """How much a writer may take.

    Threads for large blobs, processes for small ones (0: none), bytes in flight, the size at which a pack is stored,
    and how many are being stored at once. Packs being filled or stored come on top of the bytes in flight: a backup of
    2 GiB of mixed files with packs of 16 MiB was measured at 219 MiB, its process for small blobs included.
    """

    threads: int = 2
    processes: int = field(default_factory=lambda: min(4, max(1, (os.cpu_count() or 1) - 1)))
    memory: int = 24 << 20
    pack_bytes: int = 16 << 20
    uploads: int = 2


@dataclass(slots=True)
class WriteCounts:
    """What a writer has added: blobs, the content of data blobs, and the room that everything took on storage."""

    blobs: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    packs: int = 0


class _Budget:
    """Bytes that may be in flight at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._is_open = False
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            # One piece larger than everything may go alone.
            while self._used and self._used + size > self._limit and not self._is_open:
                self._changed.wait()
            self._used += size

    def open(self) -> None:
        """Let everybody through: nothing will be given back any more."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def give(self, size: int) -> None:
        with self._changed:
            self._used -= size
            self._changed.notify_all()


class BlobWriter:
    """Adds blobs to one repository. `save` and `submit` may be called from several threads."""

    def __init__(
        self,
        storage: Storage,
        box: Box,
        index: Index,
        *,
        limits: WriteLimits,
        machine: MachineTime,
        fence: Callable[[], None],
    ) -> None:
        """Add blobs that `index` does not have; `fence` raises if the lock that this relies on is lost."""
        self.index = index
        self._fence = fence
        self.counts = WriteCounts()
        self._storage = storage
        self._box = box
        self._limits = limits
        self._machine = machine
        self._sealer = Sealer(box)
        self._processes: list[SealProcess] = []
        self._batch: list[Unsealed] = []
        self._batch_bytes = 0
        self._small_seen = 0
        self._small_guard = threading.Lock()
        self._guard = threading.Lock()
        self._pending: dict[BlobKind, set[bytes]] = {BlobKind.DATA: set(), BlobKind.TREE: set()}
        self._open: dict[BlobKind, list[OpenPack]] = {
            BlobKind.DATA: [OpenPack() for _ in range(_OPEN_DATA_PACKS)],
            BlobKind.TREE: [OpenPack()],
        }
        self._random = random.Random()  # noqa: S311 - spreads blobs over packs; nothing secret hangs on it
        self._budget = _Budget(limits.memory)
        self._sealers = ThreadPoolExecutor(limits.threads, thread_name_prefix="seal")
        self._uploaders = ThreadPoolExecutor(limits.uploads, thread_name_prefix="store")
        self._upload_slots = threading.Semaphore(limits.uploads + 1)
        self._idle = threading.Condition()
        self._working = 0
        self._failure: BaseException | None = None
        self._unindexed: list[tuple[bytes, list[PackedBlob]]] = []
        self._unindexed_blobs = 0
        self._checkpoint_at = machine.monotonic() + _CHECKPOINT_EVERY.total_seconds()
        self._ended = False

    def save(self, kind: BlobKind, content: Buffer) -> bytes:
        """Store a blob unless it is stored already; return its id. It is durable only after `flush`.

        Raises:
            BlobVerifyError: it did not read back.
            HoldfastError: an earlier blob could not be stored.
        """
        self._refuse_if_failed()
        blob_id = hashlib.sha256(content).digest()
        if self._claim(kind, blob_id):
            if len(content) <= _SMALL_BYTES and self._limits.processes and self._hand_over(kind, blob_id, content):
                return blob_id
            self._add(kind, blob_id, len(content), *self._sealer.seal(kind, blob_id, content))
        return blob_id

    def add_sealed(self, blob: PackedBlob, sealed: Buffer) -> None:
        """Store a blob that is sealed under this repository's key already, unless it is stored already."""
        self._refuse_if_failed()
        if self._claim(blob.kind, blob.id):
            self._add(blob.kind, blob.id, blob.plain_length, sealed, blob.raw_length)

    def submit(self, content: memoryview, done: Callable[[bytes], None]) -> None:
        """Store a data blob in the background, then call `done` with its id. Waits while too much is in flight."""
        self._refuse_if_failed()

        def work() -> None:
            try:
                done(self.save(BlobKind.DATA, content))
            finally:
                content.release()

        self._in_background(len(content), work)

    def save_tree(self, text: bytes) -> bytes:
        """Store a tree unless it is stored already; return its id at once. It is sealed in the background.

        Raises:
            HoldfastError: an earlier blob could not be stored.
        """
        if len(text) <= _SMALL_BYTES:
            return self.save(BlobKind.TREE, text)
        self._refuse_if_failed()
        blob_id = hashlib.sha256(text).digest()

        def work() -> None:
            self._add(BlobKind.TREE, blob_id, len(text), *self._sealer.seal(BlobKind.TREE, blob_id, text))

        if self._claim(BlobKind.TREE, blob_id):
            self._in_background(len(text), work)
        return blob_id

    def _in_background(self, size: int, work: Callable[[], None]) -> None:
        """Do work on `size` bytes in a thread. Waits while too much is in flight."""
        self._budget.take(size)
        with self._idle:
            self._working += 1

        def guarded() -> None:
            try:
                if self._failure is None:
                    work()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                self._fail(error)
            finally:
                self._budget.give(size)
                self._finished()

        self._sealers.submit(guarded)

    def _hand_over(self, kind: BlobKind, blob_id: bytes, content: Buffer) -> bool:
        """Give a small blob to a process, if there have been enough of them for that to pay."""
        with self._small_guard:
            self._small_seen += 1
            if self._small_seen <= _SMALL_BEFORE_PROCESSES:
                return False
            if not self._processes and not self._start_processes():
                self._small_seen = 0  # it is asked again after as many
                return False
            # Bytes that nobody changes any more: a view would be of a buffer that is soon used again.
            self._batch.append(Unsealed(kind, blob_id, bytes(content)))
            self._batch_bytes += len(content)
            if len(self._batch) >= _BATCH_BLOBS or self._batch_bytes >= _BATCH_BYTES:
                self._send_batch()
        return True

    def _start_processes(self) -> bool:
        """Start processes for small blobs; return whether there are any, since the machine may allow no more."""
        with suppress(OSError):
            for _ in range(self._limits.processes):
                self._processes.append(SealProcess(self._box.key, take=self._take_sealed, failed=self._fail))
        return bool(self._processes)

    def _send_batch(self) -> None:
        batch, size, self._batch, self._batch_bytes = self._batch, self._batch_bytes, [], 0
        if not batch:
            return
        self._budget.take(size)
        with self._idle:
            self._working += len(batch)
        min(self._processes, key=lambda process: process.waiting).submit(batch)

    def _take_sealed(self, batch: Sequence[Unsealed], sealed: Sequence[tuple[memoryview, int]]) -> None:
        # All in one go: the thread that reads files waits for whatever is done here.
        self._add_all(
            (blob.kind, blob.id, len(blob.content), text, raw_length)
            for blob, (text, raw_length) in zip(batch, sealed, strict=True)
        )
        self._budget.give(sum(len(blob.content) for blob in batch))
        self._finished(len(batch))

    def wait(self) -> None:
        """Wait until everything submitted is done.

        Raises:
            HoldfastError: something could not be stored.
        """
        while True:
            with self._small_guard:
                if self._failure is None:
                    self._send_batch()
            with self._idle:
                while self._working and not (self._failure is not None and self._processes):
                    self._idle.wait()
            # What was at work meanwhile may have left small blobs behind, which nobody else would send.
            if self._failure is not None or not self._batch:
                break
        self._refuse_if_failed()

    def flush(self) -> None:
        """Store everything saved so far and the index that names it; all of it is durable when this returns.

        Raises:
            HoldfastError: something could not be stored.
        """
        self.wait()
        with self._guard:
            # Full packs have gone already; what is left of one kind goes as one pack.
            rest = [pack for packs in self._open.values() for pack in packs if pack.blobs]
            self._open = {
                BlobKind.DATA: [OpenPack() for _ in range(_OPEN_DATA_PACKS)],
                BlobKind.TREE: [OpenPack()],
            }
        for pack in _joined(rest, self._limits.pack_bytes):
            self._upload(pack)
        self.wait()
        # A snapshot that names a blob which is in no pack is the worst that could be, so this is not assumed.
        if left := sum(map(len, self._pending.values())):
            raise BlobLeftBehindError(f"{left} blobs were saved and are in no pack; nothing may name them")
        self._checkpoint()

    def end(self) -> None:
        """End all threads; what was not flushed is dropped."""
        if self._ended:
            return
        self._ended = True
        self._fail(WriterEndedError("the writer has been ended"))
        for process in self._processes:
            process.end()
        self._sealers.shutdown(cancel_futures=False)
        self._uploaders.shutdown(cancel_futures=False)

    def _claim(self, kind: BlobKind, blob_id: bytes) -> bool:
        pending = self._pending[kind]
        with self._guard:
            if blob_id in pending or self.index.has(kind, blob_id):
                return False
            pending.add(blob_id)
            return True

    def _add(self, kind: BlobKind, blob_id: bytes, raw: int, sealed: Buffer, raw_length: int) -> None:
        self._add_all([(kind, blob_id, raw, sealed, raw_length)])

    def _add_all(self, blobs: Iterable[tuple[BlobKind, bytes, int, Buffer, int]]) -> None:
        """Put sealed blobs into packs: of each its kind, id, length, sealed bytes, and length before compression."""
        full: list[OpenPack] = []
        with self._guard:
            for kind, blob_id, raw, sealed, raw_length in blobs:
                packs = self._open[kind]
                at = self._random.randrange(len(packs)) if len(packs) > 1 else 0
                pack = packs[at]
                pack.add(kind, blob_id, sealed, raw_length)
                self.counts.blobs += 1
                if kind is BlobKind.DATA:
                    self.counts.raw_bytes += raw
                self.counts.stored_bytes += len(sealed)
                if pack.size >= self._limits.pack_bytes:
                    full.append(pack)
                    packs[at] = OpenPack()
        for pack in full:
            self._upload(pack)

    def _upload(self, pack: OpenPack) -> None:
        with self._idle:
            self._working += 1
        self._upload_slots.acquire()

        def work() -> None:
            try:
                if self._failure is None:
                    self._store(pack.finish(self._box))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                self._fail(error)
            finally:
                self._upload_slots.release()
                self._finished()

        self._uploaders.submit(work)

    def _store(self, pack: FinishedPack) -> None:
        self._storage.put(pack_name(pack.id), *pack.pieces)
        blobs = list(pack.blobs)
        with self._guard:
            self.index.add(pack.id, blobs)
            for blob in blobs:
                self._pending[blob.kind].discard(blob.id)
            self.counts.packs += 1
            self.counts.stored_bytes += pack.size - sum(blob.length for blob in blobs)
            self._unindexed.append((pack.id, blobs))
            self._unindexed_blobs += len(blobs)
            due = self._unindexed_blobs >= BLOBS_PER_FILE or self._machine.monotonic() >= self._checkpoint_at
        if due:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Store an index of the packs that are durable: an interrupted writer's successor finds them there."""
        with self._guard:
            packs, self._unindexed, self._unindexed_blobs = self._unindexed, [], 0
            self._checkpoint_at = self._machine.monotonic() + _CHECKPOINT_EVERY.total_seconds()
        if not packs:
            return
        self._fence()
        names = put_index(self._storage, self._box, packs)
        try:
            self._fence()
        except HoldfastError:
            # Whoever slept past its lock may be naming packs that a sweep has deleted meanwhile.
            for name in names:
                self._storage.delete(f"index/{name}")
            raise

    def _finished(self, count: int = 1) -> None:
        with self._idle:
            self._working -= count
            self._idle.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._idle:
            if self._failure is None:
                self._failure = error
            self._idle.notify_all()
        self._budget.open()

    def _refuse_if_failed(self) -> None:
        if self._failure is not None:
            raise self._failure


def _joined(packs: list[OpenPack], limit: int) -> list[OpenPack]:
    """Return the same blobs in fewer packs: small remains of data packs go together."""
    out: list[OpenPack] = []
    for pack in packs:
        fits = [
            other for other in out if other.blobs[0].kind is pack.blobs[0].kind and other.size + pack.size <= 2 * limit
        ]
        if fits:
            fits[0].append(pack)
        else:
            out.append(pack)
    return out
