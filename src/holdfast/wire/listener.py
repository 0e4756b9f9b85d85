"""How connections are read: no client may take for ever over its request's head, or send a boundless one."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 20.0
"""How long a client may take from connecting, or from the first byte of its next request, to the end of the head."""
LARGEST_HEAD = 64 * 1024
"""The most bytes that come in before the head of a request has ended."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on the head of a request; give it to uvicorn as `http`."""

    head_seconds = HEAD_SECONDS
    largest_head = LARGEST_HEAD

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_ends: asyncio.TimerHandle | None = None
        self._head_size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_has_ended()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came in, unless a head grows beyond its bound."""
        self._head_size += len(data)  # a body may be among it, so it counts only while the head has not ended
        super().data_received(data)
        if self._waits_for_head() and self._head_size > self.largest_head:
            self._refuse(431, "Request Header Fields Too Large", "The head of the request is too large")

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of the next request's head."""
        super().on_message_begin()
        if not self._waits_for_head():
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head; what comes after the body, in a trailer, is none."""
        if self._waits_for_head():
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head has ended in time."""
        self._head_has_ended()
        super().on_headers_complete()

    def _waits_for_head(self) -> bool:
        return self._head_ends is not None

    def _await_head(self) -> None:
        self._head_size = 0
        self._head_ends = self.loop.call_later(self.head_seconds, self._give_up)

    def _head_has_ended(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _give_up(self) -> None:
        self._refuse(408, "Request Timeout", "The head of the request did not arrive in time")

    def _refuse(self, status: int, phrase: str, sentence: str) -> None:
        self._head_has_ended()
        if self.transport.is_closing():
            return
        # Nothing may be written into the middle of another answer; before the first request there is no cycle at all.
        if getattr(self.cycle, "response_complete", True):
            head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: {len(sentence)}\r\n\r\n{sentence}".encode())
        self.transport.close()
