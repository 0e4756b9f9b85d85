"""Writing blobs: hash, look up, compress, seal, verify, pack, store; then the index that names what is stored."""

import hashlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import zstandard

from holdfast.core.clock import MachineTime
from holdfast.core.errors import DamagedError, HoldfastError
from holdfast.repository.cipher import Box, Buffer
from holdfast.repository.index import BLOBS_PER_FILE, Index, put_index
from holdfast.repository.pack import BlobKind, FinishedPack, OpenPack, PackedBlob, open_blob, pack_name
from holdfast.repository.storage import Storage

_LEVEL = 3
_CHECKPOINT_EVERY = timedelta(minutes=10)
# Blobs of one file are spread over several packs at random, so that pack sizes tell less about cut points.
_OPEN_DATA_PACKS = 2


class BlobVerifyError(DamagedError):
    """A new blob did not read back as what was to be written: memory or a library fails on this machine."""


class WriterEndedError(HoldfastError):
    """The writer has been ended, or has failed before."""


@dataclass(frozen=True, slots=True)
class WriteLimits:
    """How much a writer may take: threads, bytes in flight, and the size at which a pack is stored."""

    threads: int = 2
    memory: int = 96 << 20
    pack_bytes: int = 16 << 20
    uploads: int = 2


@dataclass(slots=True)
class WriteCounts:
    """What a writer has added: blobs, the content of data blobs, and the room that everything took on storage."""

    blobs: int = 0
    raw_bytes: int = 0
    stored_bytes: int = 0
    packs: int = 0


class _Codec(threading.local):
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self.decompressor = zstandard.ZstdDecompressor()


class _Budget:
    """Bytes that may be in flight at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._used = 0
        self._changed = threading.Condition()

    def take(self, size: int) -> None:
        with self._changed:
            # One piece larger than everything may go alone.
            while self._used and self._used + size > self._limit:
                self._changed.wait()
            self._used += size

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
        self._codec = _Codec()
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
        if not self._claim(kind, blob_id):
            return blob_id
        self._add(kind, blob_id, len(content), *self._seal(kind, blob_id, content))
        return blob_id

    def add_sealed(self, blob: PackedBlob, sealed: Buffer) -> None:
        """Store a blob that is sealed under this repository's key already, unless it is stored already."""
        self._refuse_if_failed()
        if self._claim(blob.kind, blob.id):
            self._add(blob.kind, blob.id, blob.plain_length, sealed, blob.raw_length)

    def submit(self, content: memoryview, done: Callable[[bytes], None]) -> None:
        """Store a data blob in the background, then call `done` with its id. Waits while too much is in flight."""
        self._refuse_if_failed()
        size = len(content)
        self._budget.take(size)
        with self._idle:
            self._working += 1

        def work() -> None:
            try:
                if self._failure is None:
                    done(self.save(BlobKind.DATA, content))
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                self._fail(error)
            finally:
                content.release()
                self._budget.give(size)
                self._finished_one()

        self._sealers.submit(work)

    def wait(self) -> None:
        """Wait until everything submitted is done.

        Raises:
            HoldfastError: something could not be stored.
        """
        with self._idle:
            while self._working:
                self._idle.wait()
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
        self._checkpoint()

    def end(self) -> None:
        """End all threads; what was not flushed is dropped."""
        if self._ended:
            return
        self._ended = True
        self._fail(WriterEndedError("the writer has been ended"))
        self._sealers.shutdown(cancel_futures=False)
        self._uploaders.shutdown(cancel_futures=False)

    def adopt(self, pack_id: bytes, blobs: list[PackedBlob]) -> None:
        """Take a pack that is durable already, such as one an interrupted writer left, into the next index file."""
        with self._guard:
            self.index.add(pack_id, blobs)
            self._unindexed.append((pack_id, blobs))
            self._unindexed_blobs += len(blobs)

    def _claim(self, kind: BlobKind, blob_id: bytes) -> bool:
        pending = self._pending[kind]
        with self._guard:
            if blob_id in pending or self.index.has(kind, blob_id):
                return False
            pending.add(blob_id)
            return True

    def _seal(self, kind: BlobKind, blob_id: bytes, content: Buffer) -> tuple[bytearray, int]:
        """Return the sealed blob and its length before compression, 0 if compression gained nothing."""
        codec = self._codec
        raw_length = len(content)
        compressed = codec.compressor.compress(content)
        # Trees are always compressed, as restic keeps them.
        if kind is BlobKind.TREE or len(compressed) < raw_length:
            sealed = self._box.seal(compressed)
        else:
            sealed, raw_length = self._box.seal(content), 0
        try:
            open_blob(self._box, codec.decompressor, PackedBlob(kind, blob_id, 0, len(sealed), raw_length), sealed)
        except DamagedError as error:
            raise BlobVerifyError(
                "a new blob did not read back as it was written; this machine's memory may be failing"
            ) from error
        return sealed, raw_length

    def _add(self, kind: BlobKind, blob_id: bytes, raw: int, sealed: Buffer, raw_length: int) -> None:
        full = None
        with self._guard:
            packs = self._open[kind]
            at = self._random.randrange(len(packs)) if len(packs) > 1 else 0
            pack = packs[at]
            pack.add(kind, blob_id, sealed, raw_length)
            self.counts.blobs += 1
            if kind is BlobKind.DATA:
                self.counts.raw_bytes += raw
            self.counts.stored_bytes += len(sealed)
            if pack.size >= self._limits.pack_bytes:
                full, packs[at] = pack, OpenPack()
        if full is not None:
            self._upload(full)

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
                self._finished_one()

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

    def _finished_one(self) -> None:
        with self._idle:
            self._working -= 1
            self._idle.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._idle:
            if self._failure is None:
                self._failure = error

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
