"""A `holdfast dev` of a test's own, and stock clients for it."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from holdfast.wire.model import MODEL_DIRECTORY

MANAGEMENT = "123456789012"
_PLAIN = Config(retries={"total_max_attempts": 1})


@dataclass(frozen=True)
class DevServer:
    """A running development server."""

    url: str

    def client(
        self,
        service: str,
        credentials: dict[str, str] | None = None,
        *,
        region: str = "us-east-1",
        config: Config = _PLAIN,
    ) -> Any:
        """Return a boto3 client that acts as the management account, or with the credentials of a session."""
        keys = credentials or {"AccessKeyId": "testing", "SecretAccessKey": "testing", "SessionToken": ""}
        return _session().client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id=keys["AccessKeyId"],
            aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"] or None,
            config=config,
        )

    def credentials_in(self, account: str, role: str = "OrganizationAccountAccessRole") -> dict[str, str]:
        """Return credentials of a role that the management account may take on in another account."""
        answer = self.client("sts").assume_role(RoleArn=f"arn:aws:iam::{account}:role/{role}", RoleSessionName="test")
        credentials: dict[str, str] = answer["Credentials"]
        return credentials

    def reset(self) -> None:
        """Empty the server."""
        self._post("reset", {})

    def advance(self, by: timedelta) -> Any:
        """Move the civil clock forward."""
        return self._post("clock", {"advance_seconds": by.total_seconds()})

    def _post(self, hook: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the URL is this server's own
            f"{self.url}/_holdfast/{hook}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - the same
            return json.load(answer)


@cache
def _session() -> Any:
    core = botocore.session.get_session()
    core.set_config_variable("data_path", str(MODEL_DIRECTORY))
    return boto3.Session(botocore_session=core)


@contextmanager
def running_dev_server(directory: Path) -> Iterator[DevServer]:
    """Start a development server on a free port, and end it with the block."""
    command = [sys.executable, "-m", "holdfast.cli.main", "dev", "--port", "0", "--data-dir", str(directory / "data")]
    log = (directory / "server.log").open("wb")
    process = subprocess.Popen(
        [*command, "--until-stdin-closes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().split()
        assert line[:1] == ["ready"], (directory / "server.log").read_text()
        yield DevServer(line[1])
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        log.close()


def refused(call: Callable[..., Any], **parameters: Any) -> tuple[str, str | None]:
    """Return the code and the reason with which a call is refused."""
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    response: Any = caught.value.response
    return response["Error"]["Code"], response.get("Reason")
