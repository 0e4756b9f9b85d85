"""Listing directories in another process, one ahead of the walk: Python runs one thread at a time.

The process gets an open directory and the text of its tree in the parent, and answers what `list_directory` says. It
is asked for one directory at a time, so that neither side ever waits for the other to take what it sends.
"""

import marshal
import os
import socket
import struct
import sys

from holdfast.core.errors import UnavailableError
from holdfast.repository.entry import Kind, Metadata
from holdfast.repository.listing import Item, Known, list_directory
from holdfast.repository.own_process import connected, received, received_with_descriptors

_ASKED = struct.Struct("<?I")
_LENGTH = struct.Struct("<I")
_KINDS = {kind.value: kind for kind in Kind}


class ListingProcessDiedError(UnavailableError):
    """The process that lists directories has ended before its time, killed perhaps for want of memory."""

    def __init__(self) -> None:
        super().__init__("the process that lists directories has died; run the backup again")


class ListingProcess:
    """A process that lists directories. Used from one thread."""

    def __init__(self, *, atime: bool) -> None:
        self._atime = atime
        self._process, self._socket = connected("holdfast.repository.listing_process")

    def ask(self, descriptor: int, parent: bytes) -> None:
        """Have an open directory listed; the answer has to be taken before the next is asked for.

        Raises:
            ListingProcessDiedError: the process is gone.
        """
        try:
            socket.send_fds(self._socket, [_ASKED.pack(self._atime, len(parent))], [descriptor])
            self._socket.sendall(parent)
        except OSError as error:
            raise ListingProcessDiedError from error

    def answer(self) -> list[Item]:
        """Return what the directory holds that was asked for.

        Raises:
            OSError: it cannot be listed.
            ListingProcessDiedError: the process is gone.
        """
        head = received(self._socket, _LENGTH.size)
        answer = None if head is None else received(self._socket, _LENGTH.unpack(head)[0])
        if answer is None:
            raise ListingProcessDiedError
        error, items = marshal.loads(answer)  # noqa: S302 - from a process of our own
        if error is not None:
            raise OSError(*error)
        return [
            Item(
                name,
                _KINDS.get(kind),
                None if metadata is None else Metadata._make(metadata),
                failed,
                None if known is None else Known._make(known),
                below,
            )
            for name, kind, metadata, failed, known, below in items
        ]

    def end(self) -> None:
        """End the process; an answer that nobody took is dropped."""
        self._socket.close()
        self._process.wait()


def serve(connection: socket.socket) -> None:
    """List directories until the other side ends."""
    while (asked := _asked(connection)) is not None:
        descriptor, parent, atime = asked
        error, items = None, []
        try:
            items = [_values(item) for item in list_directory(descriptor, parent, atime=atime)]
        except OSError as failed:
            error = (failed.errno, failed.strerror)
        finally:
            os.close(descriptor)
        answer = marshal.dumps((error, items))
        try:
            connection.sendall(_LENGTH.pack(len(answer)) + answer)
        except OSError:
            return  # nobody waits for it any more


def _values(item: Item) -> tuple[object, ...]:
    """Return an item as `marshal` takes it."""
    name, kind, metadata, error, known, below = item
    return (
        name,
        None if kind is None else kind.value,
        None if metadata is None else tuple(metadata),
        error,
        None if known is None else tuple(known),
        below,
    )


def _asked(connection: socket.socket) -> tuple[int, bytes, bool] | None:
    head = received_with_descriptors(connection, _ASKED.size, at_most=1)
    if head is None:
        return None
    asked, (descriptor,) = head
    atime, length = _ASKED.unpack(asked)
    parent = received(connection, length)
    return None if parent is None else (descriptor, bytes(parent), atime)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as main:
        serve(main)
