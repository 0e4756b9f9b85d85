"""The `organizations` API over HTTP, and boto3 as its client: every account signs with a key of its own."""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from botocore.config import Config
from tests.policy.test_vectors import REGIONS

from holdfast.access.model.caller import root_caller
from holdfast.core.clock import MovableClock, SystemMachineTime
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings
from holdfast.database.connection import Database
from holdfast.organization.service.accounts import register_account
from holdfast.server.dispatch import Dispatcher
from holdfast.wire import application, organizations
from holdfast.wire.application import Application, Credential
from holdfast.wire.call import Call, Handler, Instance
from holdfast.wire.listener import BoundedProtocol
from holdfast.wire.model import MODEL_DIRECTORY
from holdfast.wire.paging import PageTokens

MANAGEMENT = "123456789012"
SECRET = "testing"


class AccountKeys:
    """Knows the key `AKIA` and account id of every account, as its root user, and lets everybody in."""

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        del session_token
        account = access_key_id.removeprefix("AKIA")
        return Credential(SECRET, root_caller(account, access_key_id=access_key_id))

    def is_changing(self, service: str, operation: str) -> bool:
        del service
        return not operation.startswith(("Describe", "List", "Explain", "Preview", "Lint"))

    def authorize(self, call: Call, parameters: Mapping[str, Any]) -> str:
        del call, parameters
        return "the account's own key"


@dataclass
class Served:
    """A running server and its clients."""

    url: str
    database: Database
    clock: MovableClock

    def client(self, account: str = MANAGEMENT, service: str = "organizations") -> Any:
        session: Any = boto3.Session(aws_access_key_id=f"AKIA{account}", aws_secret_access_key=SECRET)
        session._loader.search_paths.append(str(MODEL_DIRECTORY))
        config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20)
        return session.client(service, region_name="us-east-1", endpoint_url=self.url, config=config)


@contextmanager
def serving(database: Database, directory: Path, handlers: Mapping[str, Mapping[str, Handler]]) -> Iterator[Served]:
    machine = SystemMachineTime()
    clock = MovableClock(machine)
    with database.transaction() as tx:
        register_account(tx, MANAGEMENT, "master", "master@example.com", now=clock.now())
    regions = dict.fromkeys(REGIONS, "local")
    settings = Settings(data_dir=directory, mode=Mode.DEV, regions=regions, storages={}, sites={})
    instance = Instance(settings, RootKey.generate(), clock, machine, database, PageTokens(b"k" * 32))
    served = Application(
        Dispatcher(instance, AccountKeys(), {"organizations": organizations.OPERATIONS, **handlers}),
        machine_time=machine,
        settings=application.Settings(is_region=regions.__contains__),
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(served, http=BoundedProtocol, log_level="warning", access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", database, clock)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        served.close()
