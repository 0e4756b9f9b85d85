"""Lines over a pair of pipes: read with patience, written whole."""

import os
import select
import threading
from typing import Final

from holdfast.core.clock import MachineTime
from holdfast.job.protocol import LONGEST_LINE, ProtocolError

_READ_BYTES: Final = 1 << 16


class ChannelClosedError(Exception):
    """The other side is gone."""


class Channel:
    """One end of a conversation. One thread reads; any may write."""

    def __init__(self, reading: int, writing: int, machine: MachineTime) -> None:
        """Take two open descriptors, which `close` closes."""
        self._reading = reading
        self._writing = writing
        self._machine = machine
        self._received = bytearray()
        self._looked_at = 0
        self._sending = threading.Lock()
        self._closed = False
        os.set_blocking(writing, False)

    def send(self, line: bytes, *, patience: float | None = None) -> None:
        """Write one line, all of it.

        Raises:
            ChannelClosedError: the other side is gone, or has read nothing for `patience` seconds.
        """
        with self._sending:
            rest = memoryview(line)
            give_up = None if patience is None else self._machine.monotonic() + patience
            while rest:
                try:
                    rest = rest[os.write(self._writing, rest) :]
                except BlockingIOError:
                    left = None if give_up is None else max(0.0, give_up - self._machine.monotonic())
                    if not _is_ready(self._writing, select.POLLOUT, left):
                        raise ChannelClosedError("the other side does not read") from None
                except OSError as error:
                    raise ChannelClosedError("the other side is gone") from error

    def receive(self, seconds: float | None) -> bytes | None:
        """Return the next line, None if there was none for so many seconds (None: wait for ever).

        Raises:
            ChannelClosedError: the other side is gone.
            ProtocolError: a line is longer than lines may be.
        """
        give_up = None if seconds is None else self._machine.monotonic() + seconds
        while True:
            end = self._received.find(b"\n", self._looked_at)
            if end >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 1]
                self._looked_at = 0
                return line
            self._looked_at = len(self._received)
            if self._looked_at > LONGEST_LINE:
                raise ProtocolError("a line does not end")
            left = None if give_up is None else max(0.0, give_up - self._machine.monotonic())
            if not _is_ready(self._reading, select.POLLIN, left):
                return None
            try:
                more = os.read(self._reading, _READ_BYTES)
            except OSError as error:
                raise ChannelClosedError("the other side is gone") from error
            if not more:
                raise ChannelClosedError("the other side is gone")
            self._received += more

    def close(self) -> None:
        """Close both descriptors; doing it twice is harmless."""
        with self._sending:
            if not self._closed:
                self._closed = True
                os.close(self._reading)
                os.close(self._writing)


def _is_ready(descriptor: int, event: int, seconds: float | None) -> bool:
    poll = select.poll()  # unlike select, not limited to small descriptors
    poll.register(descriptor, event)
    return bool(poll.poll(None if seconds is None else seconds * 1000))
