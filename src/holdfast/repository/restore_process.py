"""Writing small files in other processes: Python runs one thread at a time, and small files are all Python.

A process is started with one end of a socket, and gets the key over it. It then gets batches: the open descriptors of
directories, what is to be made in them, and the sealed blobs; it answers what became of each file. It knows nothing
of the storage, and has no way out of the directories that it is given. Numbers and texts travel as `marshal` writes
them, since both ends are this very module.
"""

import marshal
import os
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

import zstandard

from holdfast.core.errors import UnavailableError
from holdfast.repository.cipher import Box, BoxKey
from holdfast.repository.entry import Metadata
from holdfast.repository.own_process import connected, received, received_with_descriptors
from holdfast.repository.pack import BlobKind, PackedBlob, open_blob
from holdfast.repository.restored_file import Piece, RestoredFile, TargetFailedError, being_written, write_pieces

DIRECTORIES_AT_MOST = 64  # of one batch: all of a restore stay well below the 1024 that a process may have open
_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I")
_KEY_BYTES = 64


class RestoreProcessDiedError(UnavailableError):
    """A process that writes files has ended before its time, killed perhaps for want of memory."""

    def __init__(self) -> None:
        super().__init__(
            "a process that writes files has died, and some may be half-written; restore again into a new directory"
        )


class RestoreProcess:
    """A process that writes batches of files. Safe to share between threads."""

    def __init__(self, key: BoxKey, *, verify: bool, owners: bool) -> None:
        self._waiting: deque[tuple[Sequence[RestoredFile], Future[int]]] = deque()
        self._guard = threading.Lock()
        self._process, self._socket = connected("holdfast.repository.restore_process")
        self._socket.sendall(key.encrypt + key.mac_k + key.mac_r + bytes([verify, owners]))
        self._reader = threading.Thread(target=self._read_answers, name="restore-answers", daemon=True)
        self._reader.start()

    @property
    def waiting(self) -> int:
        """How many batches it has not answered yet."""
        return len(self._waiting)

    def submit(self, files: Sequence[RestoredFile], pieces: Sequence[Piece], data: Sequence[memoryview]) -> Future[int]:
        """Have files written; the result is how many bytes were, and the files know what became of them.

        Raises:
            RestoreProcessDiedError: the process is gone. The result raises it too, and TargetFailedError.
        """
        numbers = {id(file): number for number, file in enumerate(files)}
        directories = list({file.directory: None for file in files})
        places = {descriptor: number for number, descriptor in enumerate(directories)}
        asked = marshal.dumps(
            (
                [
                    (places[f.directory], f.name, f.final, _values(f.metadata), f.content, f.wants_identity, f.broken)
                    for f in files
                ],
                [
                    (blob.id, blob.length, blob.raw_length, start, [(numbers[id(f)], offset) for f, offset in uses])
                    for blob, start, uses in pieces
                ],
            )
        )
        done: Future[int] = Future()
        with self._guard:
            self._waiting.append((files, done))
            try:
                socket.send_fds(self._socket, [_HEAD.pack(len(asked), sum(map(len, data)))], directories)
                self._socket.sendall(asked)
                for part in data:
                    self._socket.sendall(part)
            except OSError as error:
                raise RestoreProcessDiedError from error
        return done

    def end(self) -> None:
        """End the process once it has answered everything."""
        with suppress(OSError):  # it has died
            self._socket.shutdown(socket.SHUT_WR)
        self._reader.join()
        self._process.wait()
        self._socket.close()

    def _read_answers(self) -> None:
        while (head := received(self._socket, _LENGTH.size)) is not None:
            answer = received(self._socket, _LENGTH.unpack(head)[0])
            if answer is None:
                break
            failure, written, outcomes = marshal.loads(answer)  # noqa: S302 - from a process of our own
            files, done = self._waiting[0]
            if failure is not None:
                done.set_exception(TargetFailedError(failure))
            else:
                for file, (is_done, problems, identity) in zip(files, outcomes, strict=True):
                    file.is_done, file.problems, file.identity = is_done, problems, identity
                done.set_result(written)
            self._waiting.popleft()
        with self._guard:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # nobody waits for what will not be taken
            while self._waiting:
                self._waiting.popleft()[1].set_exception(RestoreProcessDiedError())


def _values(meta: Metadata) -> tuple[object, ...]:
    """Return what a file that is written needs of its metadata, in the order in which `_metadata` takes it."""
    return meta.mode, meta.uid, meta.gid, meta.mtime_ns, meta.atime_ns, meta.size, meta.xattrs


def _metadata(values: tuple[int, int, int, int, int, int, tuple[tuple[str, bytes], ...]]) -> Metadata:
    mode, uid, gid, mtime_ns, atime_ns, size, xattrs = values
    return Metadata(mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, atime_ns=atime_ns, size=size, xattrs=xattrs)


def serve(connection: socket.socket) -> None:
    """Write batches until the other side ends."""
    start = received(connection, _KEY_BYTES + 2)
    if start is None:
        return
    box = Box(BoxKey.from_bytes(bytes(start[:_KEY_BYTES])))
    verify, owners = bool(start[-2]), bool(start[-1])
    opened = partial(open_blob, box, zstandard.ZstdDecompressor())
    while (asked := _asked(connection)) is not None:
        files, pieces, data = asked
        failure, written = None, 0
        try:
            with being_written(files, verify=verify, owners=owners):
                written = write_pieces(pieces, data, opened)
        except TargetFailedError as error:
            failure = str(error)
        finally:
            for descriptor in {file.directory for file in files}:
                os.close(descriptor)
        answer = marshal.dumps((failure, written, [(f.is_done, f.problems, f.identity) for f in files]))
        try:
            connection.sendall(_LENGTH.pack(len(answer)) + answer)
        except OSError:
            return  # nobody waits for it any more


def _asked(connection: socket.socket) -> tuple[list[RestoredFile], list[Piece], memoryview] | None:
    head = received_with_descriptors(connection, _HEAD.size, at_most=DIRECTORIES_AT_MOST)
    if head is None:
        return None
    sizes, directories = head
    asked_bytes, data_bytes = _HEAD.unpack(sizes)
    asked, data = received(connection, asked_bytes), received(connection, data_bytes)
    if asked is None or data is None:
        return None
    file_values, piece_values = marshal.loads(asked)  # noqa: S302 - from a process of our own
    files = [
        RestoredFile(
            directories[place], name, final, _metadata(values), content, wants_identity=wants_identity, broken=broken
        )
        for place, name, final, values, content, wants_identity, broken in file_values
    ]
    pieces = [
        Piece(
            PackedBlob(BlobKind.DATA, blob_id, 0, length, raw_length),
            start,
            [(files[number], offset) for number, offset in uses],
        )
        for blob_id, length, raw_length, start, uses in piece_values
    ]
    return files, pieces, memoryview(data)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        serve(parent)
