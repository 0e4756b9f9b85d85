"""An organization to attach policies in, and the transaction it lies in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.policy.organization import Tree, a_tree
from tests.policy.served import Served, serving

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.database.schema import upgrade


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def shared_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """One migrated database for a module, whose tests roll back what they do: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        path: Path = tmp_path_factory.mktemp("policy") / "control.db"
        database = Database.open(f"sqlite:///{path}")
    else:
        server = sa.make_url(request.getfixturevalue("postgres_url")).set(drivername="postgresql+psycopg")
        name = "test_" + new_uuid().replace("-", "")
        admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        admin.dispose()
        database = Database.open(server.set(database=name).render_as_string(hide_password=False))
    upgrade(database)
    yield database
    database.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A development server for all tests of this station."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def served(server: Served) -> Served:
    """The server, emptied, with a new organization."""
    server.reset()
    server.client().create_organization(FeatureSet="ALL")
    return server


@pytest.fixture
def tree(shared_database: Database) -> Iterator[Tree]:
    """An organization in an open transaction; rolled back after the test."""
    with shared_database.engine.connect() as tx, tx.begin() as transaction:
        yield a_tree(tx)
        transaction.rollback()
