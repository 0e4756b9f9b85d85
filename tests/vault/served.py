"""A whole installation on a loopback port, and boto3 as the client of its accounts."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from botocore.config import Config
from tests.vault.builders import ACCOUNT, NOON, OTHER, REGION

from holdfast.access.credentials import create_root_key
from holdfast.core.clock import MovableClock, SystemMachineTime
from holdfast.core.settings import Mode
from holdfast.database.connection import Database
from holdfast.organization.service.accounts import register_account
from holdfast.server.app import Holdfast, assemble
from holdfast.server.configuration import load_configuration
from holdfast.server.data_directory import DataDirectory
from holdfast.vault.custody import Custody
from holdfast.wire.listener import BoundedProtocol

SECRET = "testing"


@dataclass
class Served:
    """A running installation and its clients."""

    url: str
    running: Holdfast
    clock: MovableClock

    @property
    def database(self) -> Database:
        return self.running.instance.database

    @property
    def custody(self) -> Custody:
        return self.running.custody

    def client(self, service: str = "backup", *, account: str = ACCOUNT, region: str = REGION) -> Any:
        session: Any = boto3.Session(aws_access_key_id=f"AKIA{account}", aws_secret_access_key=SECRET)
        config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=30)
        return session.client(service, region_name=region, endpoint_url=self.url, config=config)


@contextmanager
def serving(path: Path, configuration: str = "") -> Iterator[Served]:
    """Start an installation in a new data directory; its loops do not run, its civil clock is at noon."""
    directory = DataDirectory(path)
    directory.create(Mode.DEV)
    if configuration:
        directory.configuration.write_text(configuration, encoding="utf-8")
    machine = SystemMachineTime()
    clock = MovableClock(machine)
    clock.set(NOON)
    running = assemble(
        load_configuration(directory, Mode.DEV),
        root_key=directory.load_root_key(),
        recovery_key=None,
        clock=clock,
        machine=machine,
    )
    with running.instance.database.transaction() as tx:
        for account in (ACCOUNT, OTHER):
            register_account(tx, account, account, f"{account}@example.com", now=NOON)
            create_root_key(tx, running.instance.root_key, account, f"AKIA{account}", SECRET, now=NOON)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        running.application, http=BoundedProtocol, log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", running, clock)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        running.close()
