"""A real server of the Azure Blob Storage protocol for tests: Microsoft's Azurite, on loopback, in memory."""

import base64
import hashlib
import hmac
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

from tests.javascript.npm import installed

# Azurite's own account, as its documentation gives it ("Azurite emulator", "Well-known storage account and key").
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CONTAINER = "vault"
_PACKAGE = Path(__file__).parent / "azurite_package"
_LISTENS = re.compile(rb"successfully listens on (http://\S+)")


@contextmanager
def running_azurite() -> Iterator[str]:
    """Start the server with one container; give the URL of its endpoint; end it afterwards."""
    program = installed(_PACKAGE) / "node_modules" / ".bin" / "azurite-blob"
    arguments = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--disableTelemetry"]
    with subprocess.Popen(
        [program, *arguments, "--skipApiVersionCheck", "--silent"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as server:
        try:
            assert server.stdout is not None
            said = b""
            while (listens := _LISTENS.search(said)) is None:
                line = server.stdout.readline()
                assert line, said.decode()
                said += line
            endpoint = listens[1].decode()
            _make_container(endpoint)
            yield endpoint
        finally:
            server.kill()


def _make_container(endpoint: str) -> None:
    # Azure's "Authorize with Shared Key": the verb, eleven empty headers, the x-ms headers, and the resource.
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    signed = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in headers.items())
    signed += f"/{ACCOUNT}/{ACCOUNT}/{CONTAINER}\nrestype:container"
    signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)).decode()
    request = urllib.request.Request(  # noqa: S310 - our own server on loopback
        f"{endpoint}/{ACCOUNT}/{CONTAINER}?restype=container",
        method="PUT",
        headers=headers | {"Authorization": f"SharedKey {ACCOUNT}:{signature}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the same
        assert answer.status == 201
