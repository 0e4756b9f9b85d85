"""A server with an organization: the real application, dispatcher and authorizer over HTTP, and boto3 before it."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest
import sqlalchemy as sa
import uvicorn
from botocore.config import Config
from sqlalchemy import text

from holdfast.access.credentials import import_access_key
from holdfast.access.service import create_access_role
from holdfast.core.clock import ManualClock, ManualMachineTime, SystemMachineTime
from holdfast.core.outgoing import Reach
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings, SiteSettings, StorageSettings
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER
from holdfast.server import explain, simulate
from holdfast.server.authorize import Authorizer
from holdfast.server.dispatch import Dispatcher
from holdfast.server.handlers import HANDLERS
from holdfast.server.sign_in import sign_in
from holdfast.wire import cloudtrail, iam, kms, sts
from holdfast.wire.application import Application
from holdfast.wire.call import Call, Handler, Instance
from holdfast.wire.listener import BoundedProtocol
from holdfast.wire.model import MODEL_DIRECTORY
from holdfast.wire.paging import PageTokens

MANAGEMENT, MEMBER, OTHER, STRANGER = "999900001111", "111122223333", "444455556666", "777788889999"
REGION = "eu-north-1"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ROOT_KEY = RootKey(bytes(range(32)))

_ACCOUNT = text("""
    INSERT INTO account (id, name, email, status, organization_id, created_at)
    VALUES (:id, :id, :id, 'ACTIVE', :organization, 0)""")
_PLACEMENT = text("""
    INSERT INTO placement (account_id, organization_id, unit_id, path, starts_at, ends_at)
    VALUES (:id, 'o-1', :unit, :path, 0, :forever)""")
_POLICY = text("""
    INSERT INTO policy (id, organization_id, type, name, description, content, version, aws_managed, created_at,
                        updated_at)
    VALUES (:id, 'o-1', 'SERVICE_CONTROL_POLICY', :id, '', :content, 1, :managed, 0, 0)""")
_ATTACHMENT = text("""
    INSERT INTO attachment (organization_id, policy_id, target_id, type, sequence, starts_at, ends_at)
    VALUES ('o-1', :id, :target, 'SERVICE_CONTROL_POLICY', 0, 0, :forever)""")
_FULL = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}'


SESSION: Any = boto3.Session()
SESSION._loader.search_paths.append(str(MODEL_DIRECTORY))


class Wall(ManualMachineTime):
    """Machine time that starts at the real one, since clients sign with that, and can be moved."""

    def __init__(self) -> None:
        super().__init__(SystemMachineTime().now())


@dataclass
class World:
    """The server and what is around it."""

    url: str
    instance: Instance
    machine: Wall
    clock: ManualClock
    authorizer: Authorizer
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        """The database that the server works on."""
        return self.instance.database

    def client(self, service: str, who: str | Mapping[str, str] = MANAGEMENT, *, region: str = REGION) -> Any:
        """Return a client of a service: of an account's root, by its id, or of whoever has these credentials."""
        if isinstance(who, str):
            key_id, secret, token = *self.keys[who], None
        else:
            key_id, secret, token = who["AccessKeyId"], who["SecretAccessKey"], who.get("SessionToken")
        return SESSION.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            config=Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=20),
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token,
        )

    def assume(self, role_arn: str, who: str | Mapping[str, str] = MANAGEMENT, **more: Any) -> dict[str, str]:
        """Return the credentials of a session in a role."""
        asked = {"RoleArn": role_arn, "RoleSessionName": "session", **more}
        credentials: dict[str, str] = self.client("sts", who).assume_role(**asked)["Credentials"]
        return credentials

    def control(self, target: str, content: str, name: str = "p-control") -> None:
        """Attach a service control policy to a root, unit or account."""
        with self.database.transaction() as tx:
            tx.execute(_POLICY, {"id": name, "content": content, "managed": False})
            tx.execute(_ATTACHMENT, {"id": name, "target": target, "forever": FOREVER})
            tx.execute(text("UPDATE access_version SET version = version + 1"))

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """Post JSON, or bytes as they are, to a plain address; return the status and the answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, dict(headers or {}))  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the same
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                told = error.read()
            return error.code, json.loads(told) if told.startswith(b"{") else told

    def trail(self) -> list[sa.Row[Any]]:
        """Return the entries of the audit trail, the newest first."""
        with self.database.reading() as tx:
            return list(tx.execute(text("SELECT * FROM audit_entry ORDER BY id DESC")))


def _describe_vault(_call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    return {"BackupVaultName": shape["BackupVaultName"]}


def _nothing(_call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    return {}


BACKUP: Mapping[str, Handler] = {
    "DescribeBackupVault": _describe_vault,
    "DeleteRecoveryPoint": _nothing,
    "ListBackupJobs": _nothing,
    "CreateBackupSelection": _nothing,
    "StartBackupJob": _nothing,
}
"""Stand in for the handlers of backups: what is tested here is only whether a call comes as far as them."""


def _lay_organization(tx: sa.Connection) -> None:
    tx.execute(
        text("""
            INSERT INTO organization (id, management_account, root_id, feature_set, created_at)
            VALUES ('o-1', :management, 'r-1', 'ALL', 0)"""),
        {"management": MANAGEMENT},
    )
    tx.execute(
        text("""
            INSERT INTO policy_type (organization_id, type, status, enabled_at)
            VALUES ('o-1', 'SERVICE_CONTROL_POLICY', 'ENABLED', 0)""")
    )
    tx.execute(_POLICY, {"id": "p-FullAWSAccess", "content": _FULL, "managed": True})
    for target in ("r-1", "ou-1-prod", MANAGEMENT, MEMBER, OTHER):
        tx.execute(_ATTACHMENT, {"id": "p-FullAWSAccess", "target": target, "forever": FOREVER})
    for account, unit in ((MANAGEMENT, "r-1"), (MEMBER, "ou-1-prod"), (OTHER, "r-1"), (STRANGER, None)):
        tx.execute(_ACCOUNT, {"id": account, "organization": None if unit is None else "o-1"})
        if unit is not None:
            path = "o-1/r-1/" if unit == "r-1" else f"o-1/r-1/{unit}/"
            tx.execute(_PLACEMENT, {"id": account, "unit": unit, "path": path, "forever": FOREVER})


@pytest.fixture
def outgoing() -> tuple[Reach, Path | None]:
    """Where the server may send requests, and by which authorities it trusts others: nothing but the usual."""
    return Reach(), None


PLAIN: Mapping[str, Mapping[str, Handler]] = {
    "backup": BACKUP,
    "cloudtrail": cloudtrail.OPERATIONS,
    "holdfast": explain.OPERATIONS,
    "iam": {**iam.OPERATIONS, **simulate.OPERATIONS},
    "kms": kms.OPERATIONS,
    "sts": sts.OPERATIONS,
}


@contextmanager
def serving(
    database: Database,
    directory: Path,
    handlers: Mapping[str, Mapping[str, Handler]],
    outgoing: tuple[Reach, Path | None] = (Reach(), None),
) -> Iterator[World]:
    """Serve an organization that has a management account and two members, and a stranger outside."""
    settings = Settings(
        data_dir=directory,
        mode=Mode.DEV,
        regions={REGION: "local", "eu-west-1": "local"},
        storages={"local": StorageSettings("local", (directory / "storage").as_uri(), "here")},
        sites={"local": SiteSettings("local")},
        outgoing=outgoing[0],
        authorities=outgoing[1],
    )
    machine, clock = Wall(), ManualClock(NOW)
    instance = Instance(
        settings=settings,
        root_key=ROOT_KEY,
        clock=clock,
        machine=machine,
        database=database,
        tokens=PageTokens(b"key"),
    )
    keys = {}
    with database.transaction() as tx:
        _lay_organization(tx)
        for number, account in enumerate((MANAGEMENT, MEMBER, OTHER, STRANGER)):
            keys[account] = (f"AKIAROOT{number}00000000000", f"secret of {account}")
            import_access_key(tx, ROOT_KEY, account, None, *keys[account], now=NOW)
        create_access_role(tx, MEMBER, MANAGEMENT, now=NOW)
    authorizer = Authorizer(instance)
    application = Application(Dispatcher(instance, authorizer, handlers), machine_time=machine)
    application.add_route("/_holdfast/signin", partial(sign_in, instance), own_pages=True)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    server = uvicorn.Server(
        uvicorn.Config(application, http=BoundedProtocol, log_level="warning", access_log=False, lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield World(f"http://127.0.0.1:{listener.getsockname()[1]}", instance, machine, clock, authorizer, keys)
    server.should_exit = True
    thread.join()
    listener.close()
    application.close()


@pytest.fixture
def world(sqlite_database: Database, tmp_path: Path, outgoing: tuple[Reach, Path | None]) -> Iterator[World]:
    """A server on which calls about backups come as far as they may, and then do nothing."""
    with serving(sqlite_database, tmp_path, PLAIN, outgoing) as served:
        yield served


@pytest.fixture
def whole_world(sqlite_database: Database, tmp_path: Path) -> Iterator[World]:
    """A server on which every call does what it does."""
    with serving(sqlite_database, tmp_path, HANDLERS) as served:
        yield served
