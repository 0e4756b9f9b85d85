"""Reading one PostgreSQL database: a dump in pg_dump's own format, the server's globals, and a description.

Everything is seen in one exported snapshot. The dump is never plain SQL, whose end cannot be told from a cut, and it
runs through pg_restore while it is read: a recovery point exists only if every program ended with 0 and pg_restore
could read each table's rows to their end.

Options, in the URL or the ticket: `sslmode`; `role-passwords=include` puts the roles' password hashes into the globals;
`large-objects=omit` leaves large objects out, as a problem on record; `row-counts=exact` counts every table's rows in
the same snapshot, for the restore to compare; `lock-wait` is how many seconds to wait for a table's lock (60).
"""

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, Final

import psycopg
import structlog
from psycopg.conninfo import make_conninfo

from holdfast.repository.chunk import ChunkClass
from holdfast.repository.entry import Entry, Kind, Metadata, Piece, Problem
from holdfast.repository.parent import ParentTree
from holdfast.source.confined import own_places
from holdfast.source.grant import Purpose, refuse_own, refuse_unless_host_allows
from holdfast.source.location import Location, location
from holdfast.source.postgresql import description as described
from holdfast.source.postgresql.child import Child
from holdfast.source.postgresql.description import Description, dump_name, to_bytes
from holdfast.source.postgresql.facts import DatabaseFacts, database_facts, with_rows
from holdfast.source.postgresql.failure import explained
from holdfast.source.postgresql.server import address, connect, end_backends
from holdfast.source.postgresql.tools import choose_tools, has_option
from holdfast.source.protocol import (
    Consistency,
    OptionRefusedError,
    SourceAbortedError,
    SourceError,
    SourceIncompleteError,
    SourceReport,
    SourceSpec,
    SourceUnreachableError,
    SourceUnreadableError,
)

log = structlog.get_logger()

_CHOICES: Final = {
    "role-passwords": ("omit", "include"),
    "large-objects": ("include", "omit"),
    "row-counts": ("estimate", "exact"),
}
_LOCK_WAIT_SECONDS: Final = 60
_LONGEST_LOCK_WAIT_SECONDS: Final = 24 * 3600
_MAGIC: Final = b"PGDMP"
_GLOBALS_END: Final = b"-- PostgreSQL database cluster dump complete"
_SETTINGS: Final = (
    "SET statement_timeout = 0",
    "SET lock_timeout = '5s'",
    "SET idle_in_transaction_session_timeout = 0",
    "SET row_security = off",
    "SET search_path = pg_catalog",
    "SET DateStyle = ISO",
)


@dataclass(frozen=True, slots=True)
class _Options:
    role_passwords: str
    large_objects: str
    row_counts: str
    lock_wait: int


class PostgresqlSource:
    """One database that is being read."""

    def __init__(self, spec: SourceSpec) -> None:
        self._place = location(spec.url)
        refuse_own(self._place, own_places(spec.forbidden))
        refuse_unless_host_allows(self._place, Purpose.READ, spec.grants)
        self._options = _options(spec, self._place)
        self._address, self._secret = address(spec, self._place)
        self._guard = threading.Lock()
        self._using = threading.Lock()
        self._aborted = threading.Event()
        self._children: list[Child] = []
        self._exit_codes: dict[str, int] = {}
        self._problems: list[Problem] = []
        self._dumped = 0
        self._described = False
        self._begun = False
        self._dump_path = (described.DIRECTORY, dump_name(self._address.database))
        self._connection = connect(self._address, self._secret)
        try:
            self._facts, self._snapshot = _begin(self._connection)
            self._tools = choose_tools(spec.tools, at_least=self._facts.major)
        except psycopg.Error as error:
            self._connection.close()
            raise explained(str(error), self._place.key, SourceUnreadableError) from error
        except BaseException:
            self._connection.close()
            raise

    @property
    def consistency(self) -> Consistency:
        """All of one snapshot, which is one instant for the database."""
        return Consistency.APPLICATION

    @property
    def chunk_class(self) -> ChunkClass:
        """Rows are cut small, since changes to them are scattered."""
        return ChunkClass.ROWS

    def entries(self, parent: ParentTree | None = None) -> Iterator[Entry | Problem]:  # noqa: ARG002 - always read whole
        """Yield the dump, the globals and the description.

        Raises:
            SourceAbortedError: `abort` was called.
        """
        if self._begun or self._aborted.is_set():
            raise SourceAbortedError("the source was let go of, or is being read already")
        self._begun = True
        yield from self._left_out()
        yield Entry((described.DIRECTORY,), Kind.DIR, self._metadata(0o700))
        self._refuse_aborted()
        yield self._file(self._dump_path, self._read_dump)
        self._refuse_aborted()
        yield self._file((described.GLOBALS,), self._read_globals)
        self._refuse_aborted()
        yield self._file((described.NAME,), self._read_description)
        self._refuse_aborted()

    def finish(self) -> SourceReport:
        """Prove that every program ended with 0 and that everything was read, and let go of the server.

        Raises:
            SourceIncompleteError: not all of that is so.
        """
        if self._aborted.is_set() or not self._described:
            raise SourceIncompleteError(f"the dump of {self._place.key} was not read to its end")
        bad = {name: code for name, code in self._exit_codes.items() if code != 0}
        if bad or set(self._exit_codes) != {"pg_dump", "pg_restore", "pg_dumpall"}:
            raise SourceIncompleteError(f"the dump of {self._place.key} did not end well: {bad or self._exit_codes}")
        self._connection.close()
        facts = self._facts
        return SourceReport(
            facts={
                "url": self._place.key,
                "server_version": facts.server_version,
                "client_version": self._tools.version,
                "standby": facts.in_recovery,
                "lsn": facts.lsn,
                "snapshot_at": facts.at,
                "encoding": facts.encoding,
                "tables": sum(table.kind in ("r", "p", "m") for table in facts.tables),
                "dump_bytes": self._dumped,
                "role_passwords": self._options.role_passwords,
                "large_objects": self._options.large_objects,
                "exit_codes": dict(self._exit_codes),
            },
            problems=tuple(self._problems),
            restore_metadata={
                "Engine": "postgres",
                "EngineVersion": facts.server_version,
                "DBInstanceIdentifier": self._address.database,
            },
        )

    def abort(self) -> None:
        """Stop the programs, then whatever of this job still runs at the server, then let go of the connection."""
        with self._guard:
            first = not self._aborted.is_set()
            self._aborted.set()
            children = list(self._children)
        for child in children:
            child.stop()
        if self._using.locked() and not self._connection.closed:
            self._connection.cancel_safe(timeout=5)
        with self._using:
            self._connection.close()
        if first and children:
            try:
                end_backends(self._address, self._secret)
            except (SourceError, psycopg.Error) as error:
                log.warning("source.backends_not_ended", source=self._place.key, error=str(error))

    def _read_dump(self) -> Iterator[Piece]:
        """Yield pg_dump's output, once pg_restore has it too."""
        dump = self._start(
            "pg_dump",
            "--format=custom",
            "--compress=0",
            f"--lock-wait-timeout={self._options.lock_wait * 1000}",
            f"--snapshot={self._snapshot}",
            *(["--no-large-objects" if self._tools.major >= 16 else "--no-blobs"] if self._omits_large_objects else []),  # noqa: PLR2004 - renamed there
            *(["--no-unlogged-table-data"] if self._facts.in_recovery else []),
            f"--dbname={self._address.conninfo()}",
        )
        reader = self._start("pg_restore", "--file=/dev/null", stdin=True)
        try:
            for piece in dump.read():
                if self._dumped == 0 and not piece.startswith(_MAGIC):
                    raise SourceIncompleteError(f"{dump.name} wrote something else than a dump of its custom format")
                self._dumped += len(piece)
                if not write_all(reader.stdin, piece):
                    self._refuse_aborted()
                    reader.end()
                    raise SourceIncompleteError(f"pg_restore cannot read the dump: {reader.words()}")
                yield piece
            self._refuse_aborted()
            self._expect_success(dump, SourceIncompleteError)
            self._expect_success(reader, SourceIncompleteError)
        finally:
            self._stop(dump, reader)
        if "subscriptions not dumped" in dump.words():
            self._problems.append(Problem(self._dump_path, "subscriptions are left out: only superusers may read them"))

    def _read_globals(self) -> Iterator[Piece]:
        """Yield the roles and tablespaces of the whole server, which no database's dump holds."""
        program = self._tools.program("pg_dumpall")
        arguments = ["--globals-only", f"--dbname={self._address.conninfo()}"]
        # The option takes a whole connection string, so the name has to be quoted as in one: it may hold a `=`.
        arguments.append(f"--database={make_conninfo('', dbname=self._address.database)}")
        if self._options.role_passwords == "omit":
            arguments.append("--no-role-passwords")
        if has_option(program, "--restrict-key"):
            # Else it is random, and no two dumps are the same.
            arguments.append(f"--restrict-key={hashlib.sha256(self._place.key.encode()).hexdigest()[:32]}")
        child = self._start("pg_dumpall", *arguments)
        tail = b""
        try:
            for piece in child.read():
                tail = (tail + piece)[-1024:]
                yield piece
            self._refuse_aborted()
            self._expect_success(child, SourceIncompleteError)
        finally:
            self._stop(child)
        if _GLOBALS_END not in tail:
            raise SourceIncompleteError(f"the globals of {self._place.key} do not end as they should")

    def _read_description(self) -> Iterator[Piece]:
        """Yield what a restore needs to know, now that everything else is known."""
        facts = self._facts
        if self._options.row_counts == "exact":
            with self._query():
                facts = replace(facts, tables=tuple(with_rows(self._connection, table) for table in facts.tables))
        self._refuse_aborted()
        options = {name.replace("_", "-"): str(getattr(self._options, name)) for name in _Options.__slots__}
        yield to_bytes(Description(self._address.database, self._tools.version, facts, options, dict(self._exit_codes)))
        self._described = True

    def _left_out(self) -> Iterator[Problem]:
        """Tell what pg_dump leaves out without a word."""
        for table in self._facts.tables:
            if table.kind == "f":
                yield Problem(self._dump_path, f"{table.shown}: a foreign table, its rows lie on another server")
            elif table.persistence == "u" and self._facts.in_recovery and table.kind == "r":
                yield Problem(self._dump_path, f"{table.shown}: unlogged, so its rows are not on this standby")
            elif table.kind == "r" and table.extension and not table.configures and table.estimated_rows:
                yield Problem(
                    self._dump_path,
                    f"{table.shown}: belongs to the extension {table.extension}, which does not have its rows dumped",
                )
        if self._omits_large_objects and self._facts.large_objects:
            yield Problem(self._dump_path, f"{self._facts.large_objects} large objects were left out as asked for")

    @property
    def _omits_large_objects(self) -> bool:
        return self._options.large_objects == "omit"

    def _start(self, program: str, *arguments: str, stdin: bool = False) -> Child:
        path = self._tools.program(program)
        with self._guard:
            self._refuse_aborted()
            child = Child(
                [path, *arguments] if stdin else [path, "--no-password", *arguments],
                secret=None if stdin else self._secret,
                stdin=stdin,
                stdout=not stdin,
            )
            self._children.append(child)
        return child

    def _stop(self, *children: Child) -> None:
        for child in children:
            child.close()
        with self._guard:
            self._children = [child for child in self._children if child not in children]

    def _expect_success(self, child: Child, otherwise: type[SourceError]) -> None:
        code = child.end()
        self._exit_codes[child.name] = code
        if code == 0:
            return
        self._refuse_aborted()
        words = child.words()
        if not words and code < 0:
            words = f"{child.name} was ended by signal {-code}"
        elif not self._is_connected():
            otherwise = SourceUnreachableError
        raise explained(words, f"{child.name} of {self._place.key} ended with {code}", otherwise)

    def _is_connected(self) -> bool:
        try:
            with self._query():
                self._connection.execute("SELECT 1")
        except SourceError:
            return False
        return True

    @contextlib.contextmanager
    def _query(self) -> Iterator[None]:
        with self._using:
            self._refuse_aborted()
            try:
                yield
            except psycopg.Error as error:
                self._refuse_aborted()
                raise explained(str(error), self._place.key, SourceUnreachableError) from error

    def _refuse_aborted(self) -> None:
        if self._aborted.is_set():
            raise SourceAbortedError(f"reading {self._place.key} was given up")

    def _file(self, path: tuple[bytes, ...], read: Callable[[], Iterator[Piece]]) -> Entry:
        return Entry(path, Kind.FILE, self._metadata(0o600), _Stream(read))

    def _metadata(self, mode: int) -> Metadata:
        at = self._facts.at_ns
        return Metadata(mode=mode, mtime_ns=at, atime_ns=at, ctime_ns=at)


@dataclass(frozen=True, slots=True)
class _Stream:
    """Content that is made while it is read."""

    read: Callable[[], Iterator[Piece]]


def write_all(pipe: IO[bytes], data: bytes) -> bool:
    """Write all of `data` into a pipe; return False if nobody reads it any more."""
    view = memoryview(data)
    try:
        while view:
            view = view[pipe.write(view) :]
    except (BrokenPipeError, ValueError):  # closed by the reader, or by whoever aborts
        return False
    return True


def _begin(connection: psycopg.Connection[Any]) -> tuple[DatabaseFacts, str]:
    """Open the transaction whose snapshot everything is read in; return what it sees, and the snapshot's name."""
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
        # Such a database holds bytes of any encoding; this one gives every byte a character.
        connection.execute("SET client_encoding = 'LATIN1'")
    for setting in _SETTINGS:
        connection.execute(setting)
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    row = connection.execute("SELECT pg_export_snapshot()").fetchone()
    if row is None:
        raise SourceUnreadableError("the server exported no snapshot")
    return database_facts(connection), str(row[0])


def _options(spec: SourceSpec, place: Location) -> _Options:
    given = {**place.options, **spec.own_options}
    unknown = sorted(set(given) - set(_CHOICES) - {"sslmode", "lock-wait"})
    if unknown:
        known = ", ".join(sorted({*_CHOICES, "sslmode", "lock-wait"}))
        raise OptionRefusedError(f"{unknown[0]!r} is no option of a PostgreSQL source; known options: {known}")
    chosen = {}
    for name, values in _CHOICES.items():
        chosen[name] = given.get(name, values[0])
        if chosen[name] not in values:
            raise OptionRefusedError(f"{name} is {' or '.join(values)}, not {chosen[name]!r}")
    wait = given.get("lock-wait", str(_LOCK_WAIT_SECONDS))
    if not (wait.isascii() and wait.isdigit() and 0 < int(wait) <= _LONGEST_LOCK_WAIT_SECONDS):
        raise OptionRefusedError(f"lock-wait is a number of seconds up to {_LONGEST_LOCK_WAIT_SECONDS}, not {wait!r}")
    return _Options(chosen["role-passwords"], chosen["large-objects"], chosen["row-counts"], int(wait))
