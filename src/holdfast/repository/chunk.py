"""Cutting content into blobs: by content where data shifts, in fixed blocks where it does not.

FastCDC's parameters and the seed decide where cuts fall; changing one loses deduplication against what is stored
(never data), so they are fixed here and pinned by a test.
"""

import enum
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pyfastcdc import FastCDC

from holdfast.repository.cipher import BoxKey, Buffer
from holdfast.repository.entry import Extent

_KIB = 1024
_MIB = 1024 * _KIB
_SEED_LIMIT = 1 << 63  # pyfastcdc takes no larger one
_BUFFER_BYTES = 16 * _MIB
_BUFFERS_KEPT = 4
# restic makes a restored file sparse only if it holds at least one blob of this many zero bytes.
SPARSE_MARK_BYTES = 512 * _KIB


class ChunkClass(enum.Enum):
    """How a source's content is cut."""

    FILE = "file"
    ROWS = "rows"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Cut:
    """Sizes in bytes. `average` is what FastCDC calls so; `hole` is the size of a blob of zeros for holes."""

    minimum: int
    average: int
    maximum: int
    hole: int


CUTS = {
    ChunkClass.FILE: Cut(512 * _KIB, _MIB, 8 * _MIB, 8 * _MIB),
    ChunkClass.ROWS: Cut(16 * _KIB, 64 * _KIB, 256 * _KIB, 8 * _MIB),
    ChunkClass.IMAGE: Cut(4 * _MIB, 4 * _MIB, 4 * _MIB, 4 * _MIB),
}


def seed_of(key: BoxKey) -> int:
    """Return the chunker's seed for a repository: each has its own, so that cuts tell nothing about known files."""
    return int.from_bytes(key.derive("chunker seed", 8), "big") % _SEED_LIMIT


class Chunker:
    """Cuts one run of data at a time. Not for several threads."""

    def __init__(self, chunk_class: ChunkClass, seed: int) -> None:
        self.cut = CUTS[chunk_class]
        self.chunk_class = chunk_class
        self._retired: list[bytearray] = []
        self._fastcdc = (
            None
            if chunk_class is ChunkClass.IMAGE
            else FastCDC(
                self.cut.average,
                min_size=self.cut.minimum,
                max_size=self.cut.maximum,
                normalized_chunking=1,
                seed=seed,
            )
        )

    def buffer(self) -> bytearray:
        """Return a buffer of the largest size: one that nobody uses any more, or a new one.

        Fresh memory costs more than all that is done with it but compression, so buffers are used again.
        """
        for at, retired in enumerate(self._retired):
            try:
                # A bytearray cannot change its size while there are views of it: so it says whether it is in use.
                retired.append(0)
            except BufferError:
                continue
            retired.pop()
            return self._retired.pop(at)
        return bytearray(_BUFFER_BYTES)

    def retire(self, buffer: bytearray) -> None:
        """Take back a buffer, of which there may still be views."""
        if len(buffer) == _BUFFER_BYTES and len(self._retired) < _BUFFERS_KEPT:
            self._retired.append(buffer)

    def cuts(self, run: memoryview, *, last: bool) -> Iterator[int]:
        """Yield the ends of the chunks of `run`; unless it is the `last`, what follows the last end is not a chunk."""
        total = len(run)
        if self._fastcdc is None:
            yield from range(self.cut.maximum, total + 1, self.cut.maximum)
            if last and total % self.cut.maximum:
                yield total
            return
        for chunk in self._fastcdc.cut_buf(run):
            end = chunk.offset + chunk.length
            # A chunk that ends where the data does was cut by the end, unless there is no more to come.
            if end == total and not last:
                return
            yield end


class RunCutter:
    """Collects the data of one run in its own buffers and hands out chunks of it without copying them again.

    `take` gets each chunk as a view. A buffer is not written again as long as there is a view of
    it, so whoever keeps a chunk only has to keep its view.
    """

    def __init__(self, chunker: Chunker, take: Callable[[memoryview], None]) -> None:
        self._chunker = chunker
        self._take = take
        self._buffer = bytearray()
        self._filled = 0

    @property
    def holds_data(self) -> bool:
        """Whether there is data that was not handed out yet."""
        return self._filled > 0

    def feed(self, data: Buffer) -> None:
        """Add bytes to the run."""
        view = memoryview(data)
        while view:
            room = self._room(len(view))
            n = min(len(room), len(view))
            room[:n] = view[:n]
            self._filled += n
            view = view[n:]

    def read(self, extent: Extent) -> int:
        """Read an extent into the run; return how many bytes there were, fewer if the file has become shorter.

        Raises:
            OSError: the file could not be read.
        """
        done = 0
        while done < extent.length:
            room = self._room(extent.length - done)
            n = os.preadv(extent.descriptor, [room[: extent.length - done]], extent.offset + done)
            if n == 0:
                break
            self._filled += n
            done += n
        return done

    def end(self) -> None:
        """Cut the rest: the run is complete."""
        if self._filled:
            run = memoryview(self._buffer)[: self._filled]
            short = self._filled <= self._chunker.cut.minimum
            at = 0
            for end in (self._filled,) if short else self._chunker.cuts(run, last=True):
                self._take(run[at:end])
                at = end
        self._chunker.retire(self._buffer)
        self._buffer, self._filled = bytearray(), 0

    def _room(self, wanted: int) -> memoryview:
        if self._filled == len(self._buffer):
            self._cut(wanted)
        return memoryview(self._buffer)[self._filled :]

    def _cut(self, wanted: int) -> None:
        """Hand out the chunks of the full buffer and begin another with what was left."""
        full = memoryview(self._buffer)[: self._filled]
        at = 0
        if self._filled >= self._chunker.cut.maximum:
            for end in self._chunker.cuts(full, last=False):
                self._take(full[at:end])
                at = end
        rest = len(full) - at
        # What is left is shorter than the largest chunk, so the largest buffer always has room for more.
        size = min(_BUFFER_BYTES, max(rest + wanted, 2 * len(full), 64 * _KIB))
        fresh = self._chunker.buffer() if size == _BUFFER_BYTES else bytearray(size)
        fresh[:rest] = full[at:]
        self._chunker.retire(self._buffer)
        self._buffer, self._filled = fresh, rest
