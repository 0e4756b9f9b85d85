"""A small backend, and the real application over HTTP around it."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import boto3
import pytest
import uvicorn
from botocore.config import Config

from holdfast.core.clock import SystemMachineTime
from holdfast.wire.application import Application, Credential, Settings
from holdfast.wire.call import Received
from holdfast.wire.errors import UnsupportedOperationError
from holdfast.wire.listener import BoundedProtocol
from holdfast.wire.message import HttpReply
from holdfast.wire.model import MODEL_DIRECTORY

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a session's token"

Answer = Callable[[Received, dict[str, Any]], Mapping[str, Any] | None]


@dataclass
class TestBackend:
    """Answers what a test tells it to, and keeps the calls it got."""

    __test__ = False

    answers: dict[str, Answer] = field(default_factory=dict)
    calls: list[Received] = field(default_factory=list)

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        if access_key_id == KEY and session_token in {None, TOKEN}:
            return Credential(SECRET, {"key": access_key_id})
        return None

    def invoke(self, call: Received, principal: Any, parameters: dict[str, Any]) -> Mapping[str, Any] | None:
        self.calls.append(call)
        answer = self.answers.get(call.operation)
        if answer is None:
            raise UnsupportedOperationError(call.service, call.operation)
        return answer(call, parameters)


@dataclass
class Server:
    """The application on a loopback port."""

    url: str
    port: int
    backend: TestBackend
    application: Application

    def client(
        self,
        service: str,
        *,
        key: str = KEY,
        secret: str = SECRET,
        token: str | None = None,
        region: str = "eu-north-1",
    ) -> Any:
        """Return a boto3 client of a service at this server; it never calls again by itself."""
        session: Any = boto3.Session(aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token)
        session._loader.search_paths.append(str(MODEL_DIRECTORY))
        config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10)
        return session.client(service, region_name=region, endpoint_url=self.url, config=config)


class ImpatientProtocol(BoundedProtocol):
    head_seconds = 0.5


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    backend = TestBackend()
    application = Application(
        backend,
        machine_time=SystemMachineTime(),
        settings=Settings(is_region=lambda name: name != "atlantis-1", largest_body=200_000, body_seconds=0.5),
        routes={"/_holdfast/health": lambda _request: HttpReply(200, (("Content-Type", "text/plain"),), b"well\n")},
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        application, http=ImpatientProtocol, log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=3
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield Server(f"http://127.0.0.1:{port}", port, backend, application)
    server.should_exit = True
    thread.join()
    listener.close()
    application.close()


@pytest.fixture
def server(running: Server) -> Server:
    running.backend.answers.clear()
    running.backend.calls.clear()
    return running
