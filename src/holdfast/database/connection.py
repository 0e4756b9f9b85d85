"""The connection to the control database, and its transactions.

SQLite (the default, one server process on the file) and PostgreSQL are used through the same few verbs. On SQLite
there is one writer at a time in this process, queued by a lock, and every writing transaction begins as
`BEGIN IMMEDIATE`, so that it never fails half-way for want of the write lock. Readers see a snapshot and cannot write.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool

from holdfast.core.errors import InvalidInputError


class Database:
    """One control database: hands out transactions."""

    def __init__(self, writer: sa.Engine, reader: sa.Engine) -> None:
        self._writer = writer
        self._reader = reader
        self._queue = threading.Lock()
        self._writing = threading.local()

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect to the database at `url`: `sqlite:///PATH` or `postgresql+psycopg://...`.

        Raises:
            InvalidInputError: the URL names neither of the two.
        """
        parsed = sa.make_url(url)
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            if parsed.database and parsed.database != ":memory:":
                # Sealed or not, what is in it is nobody else's business; its side files take after it.
                os.close(os.open(parsed.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return cls(_sqlite(parsed, writing=True), _sqlite(parsed, writing=False))
        if backend == "postgresql":
            engine = sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_size=10, max_overflow=20)
            reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            return cls(engine, reader)
        raise InvalidInputError(f"{backend} is no database that is supported; give sqlite:///PATH or postgresql://...")

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the one-process kind."""
        return self._writer.dialect.name == "sqlite"

    @property
    def engine(self) -> sa.Engine:
        """The engine that writes, for the job engine's own tables and for migrations."""
        return self._writer

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return self._writer.url.render_as_string(hide_password=True)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Open a writing transaction: committed when the block ends, rolled back when it raises.

        Keep it short: while it is open nobody else writes on SQLite.
        """
        if not self.is_sqlite:
            with self._writer.begin() as tx:
                yield tx
            return
        if getattr(self._writing, "open", False):
            raise RuntimeError("this thread is writing already; hand the open transaction down instead")
        with self._queue:
            self._writing.open = True
            try:
                with self._writer.begin() as tx:
                    yield tx
            finally:
                self._writing.open = False

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Open a reading transaction: one consistent state, and nothing can be written."""
        with self._reader.connect() as tx, tx.begin():
            yield tx

    def close(self) -> None:
        """Close every connection."""
        self._writer.dispose()
        self._reader.dispose()


def _sqlite(url: sa.URL, *, writing: bool) -> sa.Engine:
    engine = sa.create_engine(
        url,
        poolclass=QueuePool,
        pool_size=1 if writing else 16,
        max_overflow=0 if writing else 48,
        pool_timeout=60,
        connect_args={"check_same_thread": False, "timeout": 60, "cached_statements": 512},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say ourselves when a transaction begins
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=60000")
        cursor.execute("PRAGMA temp_store=MEMORY")
        # A transaction that changes more pages than fit is written twice, and one of the scheduler's changes many.
        cursor.execute(f"PRAGMA cache_size={-128000 if writing else -32000}")
        cursor.execute("PRAGMA wal_autocheckpoint=16000")
        if not writing:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine
