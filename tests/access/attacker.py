"""An attacker's own tools: signatures made by hand, requests as bytes on a socket."""

import hashlib
import hmac
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from holdfast.core.clock import SystemMachineTime


@dataclass
class Forged:
    """A request that was signed right, to be changed afterwards."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes = b""
    more: list[tuple[str, str]] = field(default_factory=list)
    """Headers that nobody signed."""

    def raw(self) -> bytes:
        """The bytes that are sent."""
        target = self.path + (f"?{self.query}" if self.query else "")
        lines = [f"{self.method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (*self.headers.items(), *self.more)]
        lines += [f"content-length: {len(self.body)}", "connection: close", "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


def signed(
    url: str,
    service: str,
    method: str = "GET",
    path: str = "/",
    query: str = "",
    *,
    body: bytes = b"",
    key: str = "testing",
    secret: str = "testing",  # noqa: S107 - the key of every development server
    region: str = "eu-north-1",
    at: datetime | None = None,
    headers: Mapping[str, str] | None = None,
    scope_service: str | None = None,
) -> Forged:
    """Return a request with a right signature, as the guide to Signature Version 4 describes it."""
    now = at or SystemMachineTime().now()
    stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    sent = {
        "host": urlsplit(url).netloc,
        "x-amz-date": stamp,
        "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
        **(headers or {}),
    }
    names = ";".join(sorted(sent))
    listed = "".join(f"{name}:{sent[name].strip()}\n" for name in sorted(sent))
    canonical = "\n".join([method, path, query, listed, names, sent["x-amz-content-sha256"]])
    scope = f"{day}/{region}/{scope_service or service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    derived = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        derived = hmac.digest(derived, part.encode(), "sha256")
    signature = hmac.new(derived, to_sign.encode(), "sha256").hexdigest()
    sent["authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return Forged(method, path, query, sent, body)


def answer(url: str, raw: bytes) -> tuple[int, bytes]:
    """Send bytes as they are; return the status and the body of what comes back."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        connection.sendall(raw)
        received = bytearray()
        while piece := connection.recv(65_536):
            received += piece
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body
