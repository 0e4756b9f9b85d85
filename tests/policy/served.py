"""A development server of its own for a module's tests, and boto3 as its client: as management, or as a member."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
from botocore.config import Config

from holdfast.wire.model import MODEL_DIRECTORY

MANAGEMENT = "123456789012"
_START = "from holdfast.cli.main import run; run()"


@dataclass
class Served:
    """A running server and its clients, which never call again by themselves."""

    url: str

    def client(self, account: str = MANAGEMENT, service: str = "organizations", *, checks: bool = True) -> Any:
        """Return a client of an account; without `checks` it sends also what its own model would not."""
        key, secret, token = ("testing", "testing", None) if account == MANAGEMENT else self._session_in(account)
        session: Any = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)
        session._loader.search_paths.append(str(MODEL_DIRECTORY))
        config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=60, parameter_validation=checks)
        return session.client(service, region_name="us-east-1", endpoint_url=self.url, config=config)

    def advance(self, seconds: int) -> None:
        """Move the server's civil clock forward."""
        self._post("clock", {"advance_seconds": seconds})

    def reset(self) -> None:
        """Empty the server."""
        self._post("reset", {})

    def _post(self, path: str, body: dict[str, Any]) -> None:
        url, headers = f"{self.url}/_holdfast/{path}", {"Content-Type": "application/json"}
        request = Request(url, data=json.dumps(body).encode(), headers=headers, method="POST")  # noqa: S310 - our own
        with urlopen(request) as answer:  # noqa: S310 - the server that the tests started
            assert answer.status == 200

    def _session_in(self, account: str) -> tuple[str, str, str]:
        role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
        assumed = self.client(service="sts").assume_role(RoleArn=role, RoleSessionName="tests")["Credentials"]
        return assumed["AccessKeyId"], assumed["SecretAccessKey"], assumed["SessionToken"]


@contextmanager
def serving(directory: Path) -> Iterator[Served]:
    """Run `holdfast dev` in a directory of its own on any free port."""
    command = [sys.executable, "-c", _START, "dev", "--port", "0", "--data-dir", str(directory / "data")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    log = directory / "server.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True) as server,
    ):
        try:
            assert server.stdout is not None
            ready = server.stdout.readline().split()
            assert ready[:1] == ["ready"], log.read_text()
            yield Served(ready[1])
        finally:
            server.terminate()
