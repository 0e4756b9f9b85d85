"""Starting servers: `init`, `serve` and `dev`, each a function from the command line's arguments to an exit code."""

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import sqlalchemy as sa
import structlog
import uvicorn
import uvloop

from holdfast.access.credential_store import find_key
from holdfast.access.credentials import create_access_key, import_access_key
from holdfast.access.model.identity import Kind
from holdfast.access.policy_service import attach
from holdfast.access.service import create_user
from holdfast.core.clock import Clock, MovableClock, SystemClock, SystemMachineTime
from holdfast.core.errors import InvalidInputError, UnavailableError
from holdfast.core.ids import account_id as new_account_id
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode
from holdfast.database.connection import Database
from holdfast.database.facts import OPERATOR, remember
from holdfast.database.schema import upgrade
from holdfast.key.service import generate_recovery_pair, print_recovery_key
from holdfast.organization.service.accounts import find_account, register_account
from holdfast.server.app import Holdfast, assemble
from holdfast.server.configuration import Configuration, load_configuration
from holdfast.server.data_directory import DataDirectory, write_private
from holdfast.server.dev import routes as dev_routes
from holdfast.server.standing import refuse_unfit
from holdfast.server.world import DevWorld, civil_offset
from holdfast.wire.listener import BoundedProtocol

log = structlog.get_logger()

_ADMINISTRATOR_ACCESS: Final = "arn:aws:iam::aws:policy/AdministratorAccess"
_BACKLOG: Final = 512
_GRACE_SECONDS: Final = 10


class AddressRefusedError(InvalidInputError):
    """The address to listen on is not allowed without more."""


@dataclass(frozen=True, slots=True)
class DevOptions:
    """What `holdfast dev` was asked for."""

    port: int
    data_dir: Path | None
    grants: tuple[str, ...]
    account_id: str
    access_key: str
    secret_key: str = field(repr=False)
    management_name: str
    management_email: str
    until_stdin_closes: bool = False


def run_init(data_dir: Path, *, account_id: str | None, name: str, email: str, administrator: str) -> int:
    """Make a data directory for `serve`, and print once what is stored nowhere.

    Raises:
        AlreadyExistsError: there is one already.
    """
    _log_to_stderr()
    directory = DataDirectory(data_dir)
    directory.create(Mode.SERVE)
    recovery = generate_recovery_pair()
    write_private(directory.recovery_public_key, recovery.public)
    configuration = load_configuration(directory, Mode.SERVE)
    root_key = directory.load_root_key()
    database = Database.open(configuration.database_url)
    upgrade(database)
    account = account_id or new_account_id()
    now = SystemClock().now()
    with database.transaction() as tx:
        register_account(tx, account, name, email, now=now)
        remember(tx, OPERATOR, account)
        create_user(tx, account, administrator, now=now)
        attach(tx, Kind.USER, account, administrator, _ADMINISTRATOR_ACCESS)
        key, credentials = create_access_key(tx, root_key, account, administrator, now=now)
    database.close()
    kit = _KIT.format(
        directory=directory.path,
        root_key=directory.root_key,
        recovery_key=print_recovery_key(recovery.private),
        key_id=root_key.id,
        account=account,
        administrator=administrator,
        access_key=key.id,
        secret_key=credentials.secret,
    )
    print(kit)
    return 0


_KIT: Final = """\
RECOVERY KIT of the installation in {directory}
Print this, keep it away from this machine, and delete it here. Nothing below is stored anywhere in this form.

  Root key           {root_key} (fingerprint {key_id}); copy that file to a safe place as well
  Recovery key       {recovery_key}
  With storage and either of the two, `holdfast rebuild` brings every backup back. Without both, backups are lost.

  Management account {account}
  Administrator      {administrator}
  Access key id      {access_key}
  Secret access key  {secret_key}

Next: holdfast serve --data-dir {directory}
When the kit is in its place: holdfast acknowledge-kit --data-dir {directory} (it asks for the recovery key)"""


def run_acknowledge(data_dir: Path, private: bytes) -> int:
    """Note that the recovery kit is in safe hands, proven by the recovery key itself; `serve` stops asking for it.

    Raises:
        NotFoundError: there is no data directory.
        RecoveryKeyError: it is the key of another installation.
    """
    directory = DataDirectory(data_dir)
    directory.require(Mode.SERVE)
    directory.acknowledge_kit(private)
    print("the recovery kit is acknowledged")
    return 0


def run_serve(data_dir: Path, *, host: str | None, port: int | None) -> int:
    """Serve a data directory until it is told to end.

    Raises:
        NotFoundError: there is no data directory.
        WrongDirectoryError: a development server made it.
        AddressRefusedError: the address is not loopback, and no certificate is configured.
        DirectoryInUseError: another process serves the directory.
        HoldfastError: the database is not there, half restored, moved away, or of another release.
    """
    _log_to_stderr()
    directory = DataDirectory(data_dir)
    directory.require(Mode.SERVE)
    configuration = load_configuration(directory, Mode.SERVE, host=host, port=port)
    if not _is_loopback(configuration.host) and configuration.certificate is None:
        raise AddressRefusedError(
            f"{configuration.host} can be reached from elsewhere, and requests would cross the network in clear: "
            "set server.certificate and server.private_key in holdfast.toml, or listen on 127.0.0.1"
        )
    recovery = directory.recovery_public_key.read_bytes() if directory.recovery_public_key.exists() else None
    if not directory.kit_is_acknowledged:
        log.warning(
            "recovery_kit.not_acknowledged",
            why="without the recovery kit, losing the root key loses every backup",
            next=f"print the kit, then run: holdfast acknowledge-kit --data-dir {directory.path}",
        )
    with directory.held():
        root_key = directory.load_root_key()
        refuse_unfit(configuration.database_url, root_key.id)
        running = assemble(
            configuration,
            root_key=root_key,
            recovery_key=recovery,
            clock=SystemClock(),
            machine=SystemMachineTime(),
        )
        return _serve(running, configuration, until_stdin_closes=False)


def run_dev(options: DevOptions) -> int:
    """Serve a development server until it is told to end.

    Raises:
        WrongDirectoryError: the directory was not made by `holdfast dev`.
        DirectoryInUseError: another process serves the directory.
    """
    _log_to_stderr()
    path = options.data_dir or Path(tempfile.mkdtemp(prefix="holdfast-dev-"))
    directory = DataDirectory(path)
    try:
        if directory.mode() is None:
            directory.create(Mode.DEV)
        directory.require(Mode.DEV)
        configuration = load_configuration(
            directory, Mode.DEV, host="127.0.0.1", port=options.port, grants=options.grants
        )
        with directory.held():
            return _run_dev(options, directory, configuration)
    finally:
        if options.data_dir is None:
            shutil.rmtree(path, ignore_errors=True)


def _run_dev(options: DevOptions, directory: DataDirectory, configuration: Configuration) -> int:
    machine = SystemMachineTime()
    clock = MovableClock(machine)
    root_key = directory.load_root_key()
    refuse_unfit(configuration.database_url, root_key.id, may_be_new=True)
    running = assemble(configuration, root_key=root_key, recovery_key=None, clock=clock, machine=machine)
    database = running.instance.database

    def begin() -> None:
        with database.transaction() as tx:
            _lay_first_account(tx, root_key, options, clock)

    with database.reading() as tx:
        clock.advance(timedelta(seconds=max(0.0, civil_offset(tx))))
    begin()
    for path, route in dev_routes(clock, DevWorld(running, clock, directory, begin)).items():
        running.application.add_route(path, route)
    return _serve(running, configuration, until_stdin_closes=options.until_stdin_closes)


def _lay_first_account(tx: sa.Connection, root_key: RootKey, options: DevOptions, clock: Clock) -> None:
    if find_account(tx, options.account_id) is None:
        register_account(tx, options.account_id, options.management_name, options.management_email, now=clock.now())
    remember(tx, OPERATOR, options.account_id)
    if find_key(tx, options.access_key) is None:
        import_access_key(
            tx, root_key, options.account_id, None, options.access_key, options.secret_key, now=clock.now()
        )


class _Server(uvicorn.Server):
    """The HTTP server, which says on standard output when it accepts requests."""

    def __init__(self, config: uvicorn.Config, ready: str) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, then say so."""
        await super().startup(sockets)
        print(f"ready {self._ready}", flush=True)


def _serve(running: Holdfast, configuration: Configuration, *, until_stdin_closes: bool) -> int:
    listener = _listen(configuration.host, configuration.port)
    port = listener.getsockname()[1]
    scheme = "http" if configuration.certificate is None else "https"
    host = f"[{configuration.host}]" if ":" in configuration.host else configuration.host
    server = _Server(
        uvicorn.Config(
            running.application,
            http=BoundedProtocol,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ssl_certfile=configuration.certificate,
            ssl_keyfile=configuration.private_key,
        ),
        f"{scheme}://{host}:{port}",
    )

    def end(*_signal: object) -> None:
        server.should_exit = True

    # The HTTP server raises the signal that ended it once more when it is done; without a handler of our own that would
    # kill this process before its movers and its database are let go of.
    signal.signal(signal.SIGTERM, end)
    try:
        running.start()
        if until_stdin_closes:
            _watch_stdin(end)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listener]))
    except KeyboardInterrupt:
        log.info("server.interrupted")
    finally:
        running.stop()
        running.close()
        listener.close()
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off on what is accepted; without it each answer's body
    # waits some 40 ms for the client to acknowledge the head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UnavailableError(
            f"cannot listen on {host}:{port}: {error.strerror}; name another port with --port, or 0 for any free one"
        ) from error
    listener.listen(_BACKLOG)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _watch_stdin(ended: Callable[[], None]) -> None:
    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        ended()

    threading.Thread(target=watch, name="stdin", daemon=True).start()


def _log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
