"""Transactions on both kinds of database."""

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import InvalidInputError
from holdfast.database.connection import Database
from holdfast.database.schema import UnknownSchemaError, current, head, upgrade
from holdfast.database.values import random_uuid


def test_what_raises_leaves_nothing_behind(database: Database) -> None:
    def write_and_fail() -> None:
        with database.transaction() as tx:
            tx.execute(text("INSERT INTO instance (name, value) VALUES ('a', 'b')"))
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        write_and_fail()
    with database.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM instance WHERE name = 'a'")).scalar_one() == 0


def test_two_writers_wait_for_each_other(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("INSERT INTO instance (name, value) VALUES ('n', '0')"))

    def count() -> None:
        for _ in range(50):
            with database.transaction() as tx:
                n = tx.execute(
                    text(
                        "SELECT value FROM instance WHERE name = 'n' FOR UPDATE"
                        if not database.is_sqlite
                        else "SELECT value FROM instance WHERE name = 'n'"
                    )
                ).scalar_one()
                tx.execute(text("UPDATE instance SET value = :n WHERE name = 'n'"), {"n": str(int(n) + 1)})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        assert tx.execute(text("SELECT value FROM instance WHERE name = 'n'")).scalar_one() == "200"


def test_a_reader_on_sqlite_cannot_write(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'control.db'}")
    upgrade(database)
    with pytest.raises(sa.exc.OperationalError, match="readonly"), database.reading() as tx:
        tx.execute(text("INSERT INTO instance (name, value) VALUES ('a', 'b')"))
    database.close()


def test_a_transaction_inside_a_transaction_is_a_mistake(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'control.db'}")
    with pytest.raises(RuntimeError, match="already"), database.transaction(), database.transaction():
        pass
    database.close()


def test_upgrading_twice_changes_nothing(database: Database) -> None:
    assert current(database) == head()
    upgrade(database)
    assert current(database) == head()


def test_a_database_from_the_future_is_refused(database: Database) -> None:
    with database.transaction() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnknownSchemaError, match="9999"):
        upgrade(database)


def test_only_known_databases_are_opened() -> None:
    with pytest.raises(InvalidInputError, match="mysql"):
        Database.open("mysql://localhost/x")


def test_rows_get_different_uuids(database: Database) -> None:
    with database.transaction() as tx:
        ids = [tx.execute(text(f"SELECT {random_uuid(tx)}")).scalar_one() for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(len(i) == 36 and i[14] == "4" for i in ids)
