"""The rows of every table, out of one database and into another, whichever of the two kinds each is.

A row travels as a JSON array of its columns. What arrived is held against what left by a count and a digest per table
that do not depend on the order of rows, since the two kinds sort text differently.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import orjson
import psycopg
import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import DamagedError, InvalidInputError
from holdfast.database.schema import head, upgrade_connection

BATCH: Final = 2_000
"""Rows that are in memory at once."""

_DIGEST_BYTES: Final = 16
_MODULUS: Final = 1 << (8 * _DIGEST_BYTES)
_REVISION: Final = "alembic_version"

Row = Sequence[Any]


class RowsDifferError(DamagedError):
    """A table does not hold what was written into it."""


class UnfitRowError(InvalidInputError):
    """A row cannot be kept by the other kind of database."""


@dataclass(slots=True)
class Tally:
    """How many rows went by, and a digest of them that does not depend on their order."""

    rows: int = 0
    total: int = 0

    def add(self, line: bytes) -> None:
        """Take one row's JSON in."""
        self.rows += 1
        digest = hashlib.blake2b(line, digest_size=_DIGEST_BYTES).digest()
        self.total = (self.total + int.from_bytes(digest, "big")) % _MODULUS

    @property
    def digest(self) -> str:
        """The digest in hexadecimal."""
        return self.total.to_bytes(_DIGEST_BYTES, "big").hex()


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one schema version, by name."""

    revision: str
    by_name: Mapping[str, sa.Table] = field(repr=False)
    numbered: tuple[str, ...]
    """Those whose rows the database numbers."""

    def __iter__(self) -> Iterator[sa.Table]:
        return iter(self.by_name.values())


@cache
def tables(revision: str | None = None) -> Tables:
    """Return our tables at a schema version, without it this release's; the job engine's own are not among them.

    Raises:
        UnknownSchemaError: this release does not know the version.
    """
    revision = revision or head()
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    with engine.begin() as scratch:
        upgrade_connection(scratch, revision)
        numbered = scratch.execute(
            text("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' ORDER BY name")
        )
        names = tuple(numbered.scalars())
        inspector = sa.inspect(scratch)
        found = {
            str(name): sa.Table(
                name,
                sa.MetaData(),
                *(
                    sa.Column(each["name"], each["type"], nullable=each["nullable"])
                    for each in inspector.get_columns(name)
                ),
            )
            for name in sorted(inspector.get_table_names())
            if name != _REVISION
        }
    engine.dispose()
    return Tables(revision, found, names)


def read_rows(tx: sa.Connection, table: sa.Table) -> Iterator[list[bytes]]:
    """Yield the rows of a table as JSON, in batches, in no particular order."""
    encode = _encoder(table)
    with tx.execute(sa.select(table), execution_options={"yield_per": BATCH}) as result:
        for batch in result.partitions():
            yield [encode(row) for row in batch]


def write_rows(tx: sa.Connection, table: sa.Table, batches: Iterable[list[bytes]]) -> Tally:
    """Put rows into a table that is emptied first (a migration may have laid some down); return what was written.

    Raises:
        UnfitRowError: the database cannot keep one of them.
    """
    tally = Tally()
    decode = _decoder(table)
    tx.execute(sa.delete(table))
    try:
        for batch in batches:
            for line in batch:
                tally.add(line)
            _insert(tx, table, [decode(line) for line in batch])
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        why = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        raise UnfitRowError(f"table {table.name} cannot be written: {why}") from error
    return tally


@contextmanager
def without_triggers(tx: sa.Connection) -> Iterator[None]:
    """Let rows be written as they are: what triggers would make of them was read together with them."""
    if tx.dialect.name == "sqlite":
        triggers = tx.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")).all()
        off = [f'DROP TRIGGER "{trigger.name}"' for trigger in triggers]
        on = [trigger.sql for trigger in triggers]
    else:
        having = text("SELECT DISTINCT CAST(CAST(tgrelid AS regclass) AS text) FROM pg_trigger WHERE NOT tgisinternal")
        tables_with = tx.execute(having).scalars().all()
        off = [f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in tables_with]
        on = [f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in tables_with]
    for statement in off:
        tx.exec_driver_sql(statement)
    yield
    for statement in on:
        tx.exec_driver_sql(statement)


def tally_of(tx: sa.Connection, table: sa.Table) -> Tally:
    """Return count and digest of what a table holds."""
    tally = Tally()
    for batch in read_rows(tx, table):
        for line in batch:
            tally.add(line)
    return tally


def sequences(tx: sa.Connection, these: Tables) -> dict[str, int]:
    """Return the last number that each table with numbered rows has given out; numbers are never given out again."""
    if tx.dialect.name == "sqlite":
        given = {str(name): int(last) for name, last in tx.execute(text("SELECT name, seq FROM sqlite_sequence"))}
        return {name: last for name, last in sorted(given.items()) if name in these.numbered}
    return {
        name: int(tx.execute(text(f"SELECT last_value FROM {_sequence(tx, name)}")).scalar_one())
        for name in these.numbered
        if tx.execute(text(f"SELECT is_called FROM {_sequence(tx, name)}")).scalar_one()
    }


def set_sequences(tx: sa.Connection, given: Mapping[str, int]) -> None:
    """Go on numbering after the last numbers that were given out."""
    for name, last in given.items():
        if tx.dialect.name == "sqlite":
            tx.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": name})
            tx.execute(
                text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :last)"), {"name": name, "last": last}
            )
        else:
            tx.execute(
                text("SELECT setval(CAST(:sequence AS regclass), :last)"),
                {"sequence": _sequence(tx, name), "last": last},
            )


def _sequence(tx: sa.Connection, table: str) -> str:
    return str(tx.execute(text("SELECT pg_get_serial_sequence(:table, 'id')"), {"table": table}).scalar_one())


def _encoder(table: sa.Table) -> Any:
    sealed = [index for index, column in enumerate(table.columns) if isinstance(column.type, sa.LargeBinary)]
    real = [index for index, column in enumerate(table.columns) if isinstance(column.type, sa.Float)]
    if not sealed and not real:
        return lambda row: orjson.dumps(list(row))

    def encode(row: Row) -> bytes:
        values = list(row)
        for index in sealed:
            if values[index] is not None:
                values[index] = base64.b64encode(bytes(values[index])).decode("ascii")
        for index in real:
            # A whole number comes back as one from SQLite and not from PostgreSQL.
            values[index] = None if values[index] is None else float(values[index])
        return orjson.dumps(values)

    return encode


def _decoder(table: sa.Table) -> Any:
    names = [column.name for column in table.columns]
    sealed = [column.name for column in table.columns if isinstance(column.type, sa.LargeBinary)]

    def decode(line: bytes) -> dict[str, Any]:
        row = dict(zip(names, orjson.loads(line), strict=True))
        for name in sealed:
            if row[name] is not None:
                row[name] = base64.b64decode(row[name], validate=True)
        return row

    return decode


def _insert(tx: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    if tx.dialect.name == "sqlite":
        tx.execute(sa.insert(table), rows)
        return
    # Several times as fast as inserting, which counts where there are millions of jobs.
    columns = ", ".join(column.name for column in table.columns)
    driver: Any = tx.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(tuple(row.values()))
