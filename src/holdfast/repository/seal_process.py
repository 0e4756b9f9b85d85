"""Sealing small blobs in other processes: Python runs one thread at a time, and small blobs are all Python.

A process is started with the key on its standard input. It gets batches of blobs and answers with the same blobs
sealed, in order. Both directions are plain frames: how many, then for each blob its numbers, then all bytes.
"""

import fcntl
import itertools
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

from holdfast.core.errors import UnavailableError
from holdfast.repository.cipher import Box, BoxKey, Buffer
from holdfast.repository.own_process import started
from holdfast.repository.pack import BlobKind
from holdfast.repository.sealing import Sealer

_COUNT = struct.Struct("<I")
_ASKED = struct.Struct("<?32sI")
_ANSWERED = struct.Struct("<II")
_KEY_BYTES = 64
_PIPE_BYTES = 1 << 20
_KINDS = {False: BlobKind.DATA, True: BlobKind.TREE}


class SealProcessDiedError(UnavailableError):
    """A process that seals blobs has ended before its time, killed perhaps for want of memory."""


class Unsealed(NamedTuple):
    """A blob to be sealed."""

    kind: BlobKind
    id: bytes
    content: Buffer


Take = Callable[[Sequence[Unsealed], Sequence[tuple[memoryview, int]]], None]


class SealProcess:
    """A process that seals batches. `take` gets each with its sealed bytes, in a thread of this object's own."""

    def __init__(self, key: BoxKey, *, take: Take, failed: Callable[[BaseException], None]) -> None:
        self._take = take
        self._failed = failed
        self._waiting: deque[Sequence[Unsealed]] = deque()
        self._process = started("holdfast.repository.seal_process", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for pipe in (self._process.stdin, self._process.stdout):
            # One that takes a whole batch, so that neither side waits for the other to read while both could work.
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type] # opened as a pipe
        self._send(key.encrypt + key.mac_k + key.mac_r)
        self._reader = threading.Thread(target=self._read_answers, name="seal-answers", daemon=True)
        self._reader.start()

    @property
    def waiting(self) -> int:
        """How many batches it has not answered yet."""
        return len(self._waiting)

    def submit(self, batch: Sequence[Unsealed]) -> None:
        """Hand over a batch. Called from one thread at a time.

        Raises:
            SealProcessDiedError: the process is gone.
        """
        self._waiting.append(batch)
        head = _COUNT.pack(len(batch)) + b"".join(
            _ASKED.pack(blob.kind is BlobKind.TREE, blob.id, len(blob.content)) for blob in batch
        )
        self._send(b"".join((head, *(blob.content for blob in batch))))

    def end(self) -> None:
        """End the process once it has answered everything."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            self._process.kill()
        self._reader.join()
        self._process.wait()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None  # noqa: S101 - the same
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            raise SealProcessDiedError("a process that seals blobs has died; run the backup again") from error

    def _read_answers(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None  # noqa: S101 - the same
        try:
            with pipe:
                while (count := _read_count(pipe)) is not None:
                    batch = self._waiting[0]
                    heads = [_ANSWERED.unpack(_read(pipe, _ANSWERED.size)) for _ in range(count)]
                    sealed = memoryview(_read(pipe, sum(length for length, _ in heads)))
                    ends = list(itertools.accumulate(length for length, _ in heads))
                    texts = [sealed[end - length : end] for end, (length, _) in zip(ends, heads, strict=True)]
                    self._take(batch, [(text, raw) for text, (_, raw) in zip(texts, heads, strict=True)])
                    self._waiting.popleft()
            if self._waiting:
                raise SealProcessDiedError("a process that seals blobs has died; run the backup again")  # noqa: TRY301
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            self._failed(error)


def _read_count(pipe: IO[bytes]) -> int | None:
    head = pipe.read(_COUNT.size)
    return _COUNT.unpack(head)[0] if len(head) == _COUNT.size else None


def _read(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise SealProcessDiedError("a process that seals blobs has died in the middle of an answer")
    return data


def serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Seal batches from one pipe to another until the first ends."""
    sealer = Sealer(Box(BoxKey.from_bytes(_read(asked, _KEY_BYTES))))
    with suppress(SealProcessDiedError, BrokenPipeError):  # whoever asked has gone in the middle of a sentence
        _serve(asked, answers, sealer)


def _serve(asked: IO[bytes], answers: IO[bytes], sealer: Sealer) -> None:
    while (count := _read_count(asked)) is not None:
        heads = [_ASKED.unpack(_read(asked, _ASKED.size)) for _ in range(count)]
        contents = memoryview(_read(asked, sum(length for _, _, length in heads)))
        out = [_COUNT.pack(count)]
        sealed_blobs: list[Buffer] = []
        at = 0
        for is_tree, blob_id, length in heads:
            sealed, raw_length = sealer.seal(_KINDS[is_tree], blob_id, contents[at : at + length])
            out.append(_ANSWERED.pack(len(sealed), raw_length))
            sealed_blobs.append(sealed)
            at += length
        answers.write(b"".join((*out, *sealed_blobs)))
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
