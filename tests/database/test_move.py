"""Moving the control database between the two kinds: all of it, or nothing."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.database.filled import fill
from tests.database.test_state import contents

from holdfast.database.connection import Database
from holdfast.database.move import DatabaseMovedError, SameDatabaseError, move_database, refuse_if_moved
from holdfast.database.rows import UnfitRowError, sequences, tables
from holdfast.database.schema import current, head
from holdfast.database.state import DatabaseNotEmptyError

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.postgres
def test_everything_moves_from_sqlite_to_postgresql_and_back(
    sqlite_database: Database, bare_postgres: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    fill(sqlite_database)
    before = contents(sqlite_database)
    moved = move_database(sqlite_database, bare_postgres, now=NOON)
    assert contents(bare_postgres) == before
    assert current(bare_postgres) == head()
    assert moved.rows == sum(rows for rows, _ in before.values())
    with sqlite_database.reading() as old, bare_postgres.reading() as new:
        assert sequences(new, tables()) == sequences(old, tables())
    back = Database.open(f"sqlite:///{tmp_path_factory.mktemp('back') / 'control.db'}")
    move_database(bare_postgres, back, now=NOON)
    assert contents(back) == before
    back.close()


@pytest.mark.postgres
def test_a_moved_database_says_where_it_went(sqlite_database: Database, bare_postgres: Database) -> None:
    refuse_if_moved(sqlite_database)
    move_database(sqlite_database, bare_postgres, now=NOON)
    refuse_if_moved(bare_postgres)
    with pytest.raises(DatabaseMovedError, match=r"postgresql.*04 May 2026.*server\.database"):
        refuse_if_moved(sqlite_database)
    with pytest.raises(DatabaseMovedError):
        move_database(sqlite_database, bare_postgres, now=NOON)


def test_what_lies_in_the_target_is_never_written_over(sqlite_database: Database, empty_database: Database) -> None:
    fill(empty_database)
    before = contents(empty_database)
    with pytest.raises(DatabaseNotEmptyError):
        move_database(sqlite_database, empty_database, now=NOON)
    assert contents(empty_database) == before
    refuse_if_moved(sqlite_database)


def test_a_database_does_not_move_to_where_it_is(sqlite_database: Database) -> None:
    with pytest.raises(SameDatabaseError):
        move_database(sqlite_database, sqlite_database, now=NOON)


@pytest.mark.postgres
@pytest.mark.parametrize("after", range(0, 55, 9))
def test_a_move_that_breaks_off_leaves_the_target_empty_and_the_source_in_charge(
    sqlite_database: Database, bare_postgres: Database, after: int
) -> None:
    fill(sqlite_database, rows=5)
    seen: list[str] = []

    def break_off(table: str, _rows: int) -> None:
        seen.append(table)
        if len(seen) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        move_database(sqlite_database, bare_postgres, now=NOON, progress=break_off)
    with bare_postgres.reading() as tx:
        assert sa.inspect(tx).get_table_names() == []
    refuse_if_moved(sqlite_database)


@pytest.mark.postgres
def test_a_row_that_the_other_kind_cannot_keep_is_named(sqlite_database: Database, bare_postgres: Database) -> None:
    with sqlite_database.transaction() as tx:
        tx.execute(text("INSERT INTO instance (name, value) VALUES ('odd', 'a' || char(0) || 'b')"))
    with pytest.raises(UnfitRowError, match="table instance"):
        move_database(sqlite_database, bare_postgres, now=NOON)
    refuse_if_moved(sqlite_database)
