"""A real S3 server for tests: SeaweedFS, on loopback, in a directory of its own."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

ADMIN, WRITER, READER = "admin", "writer", "reader"
SECRET = "secret-of-nobody"
_TRIES = 120


@dataclass(frozen=True)
class Weed:
    """A running server, and how to reach it."""

    endpoint: str

    def client(self, user: str = ADMIN) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=user,
            aws_secret_access_key=SECRET,
        )


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _program() -> str:
    # It is installed beside the interpreter, whose directory need not be on the PATH.
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else "weed"


@contextmanager
def running_weed(directory: Path) -> Iterator[Weed]:
    """Start the server, wait until it answers, end it afterwards."""
    users = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
        for name, actions in ((ADMIN, ["Admin"]), (WRITER, ["Read", "Write", "List"]), (READER, ["Read", "List"]))
    ]
    config = directory / "s3.json"
    config.write_text(json.dumps({"identities": users}))
    (directory / "data").mkdir()
    ports = {name: _free_port() for name in ("master", "volume", "filer", "s3")}
    grpc = {name: _free_port() for name in ports}
    arguments = [
        _program(),
        "server",
        f"-dir={directory / 'data'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-filer",
        "-s3",
    ]
    arguments += [f"-{name}.port={port}" for name, port in ports.items()]
    arguments += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
    arguments += [f"-s3.config={config}", "-volume.max=30", "-master.volumeSizeLimitMB=64"]
    arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # which would have fixed ports
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(arguments, stdout=log, stderr=log)
    weed = Weed(f"http://127.0.0.1:{ports['s3']}")
    try:
        for _ in range(_TRIES):
            try:
                weed.client().list_buckets()
                break
            except (BotoCoreError, ClientError):
                assert server.poll() is None, (directory / "log").read_text()
                Event().wait(0.25)
        else:
            raise AssertionError((directory / "log").read_text())
        yield weed
    finally:
        server.kill()  # its data is thrown away, and it takes its time to end by itself
        server.wait(20)
