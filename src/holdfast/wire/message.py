"""One HTTP request as it came in, byte for byte, and one reply to it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True)
class HttpRequest:
    """One request; path and query are raw, as the client encoded and signed them."""

    method: str
    path: str
    """The raw path, percent-encoded as it was sent."""
    query: str
    """The raw query string, without the question mark."""
    headers: dict[str, str]
    """By lower-case name; a header sent twice has its values joined by commas."""
    body: bytes = field(default=b"", repr=False)
    source_ip: str = ""
    is_encrypted: bool = False
    """Whether it came over TLS."""

    @classmethod
    def of(
        cls,
        method: str,
        path: str,
        query: str,
        headers: Iterable[tuple[str, str]],
        body: bytes = b"",
        source_ip: str = "",
        *,
        is_encrypted: bool = False,
    ) -> "HttpRequest":
        """Return the request with these parts; header names are put into lower case and repeated ones joined."""
        joined: dict[str, str] = {}
        for name, value in headers:
            key = name.lower()
            joined[key] = f"{joined[key]},{value}" if key in joined else value
        return cls(method, path, query, joined, body, source_ip, is_encrypted)

    @cached_property
    def query_pairs(self) -> list[tuple[str, str]]:
        """The decoded query parameters, in order.

        Raises:
            ValueError: an escape does not decode to UTF-8.
        """
        return decoded_pairs(self.query, plus_is_space=False)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One reply: the status, headers, and the whole body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def decoded(text: str) -> str:
    """Return `text` with its percent escapes decoded.

    Raises:
        ValueError: they do not decode to UTF-8.
    """
    return unquote_to_bytes(text).decode() if "%" in text else text


def decoded_pairs(text: str, *, plus_is_space: bool) -> list[tuple[str, str]]:
    """Return the names and values of a query string or form, decoded, in order.

    Raises:
        ValueError: an escape does not decode to UTF-8.
    """
    if not text:
        return []
    if plus_is_space:
        text = text.replace("+", " ")
    pairs = []
    for part in text.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((decoded(name), decoded(value)))
    return pairs
