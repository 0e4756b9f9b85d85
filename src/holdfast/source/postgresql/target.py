"""Restoring a dump into a PostgreSQL database that does not exist yet, or that exists and is empty.

The new database is made from template0 with the recorded encoding and locale, and carries a comment with the job's id
until it was verified. So one that a crash left half-way can be told from a good one, the same job can begin again, and
giving up drops only what this job made. Everything is restored in one transaction, which the first error ends.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

import psycopg
import structlog
from psycopg import sql

from holdfast.core.errors import NotFoundError
from holdfast.repository.entry import Problem
from holdfast.source.confined import own_places
from holdfast.source.grant import Purpose, refuse_own, refuse_unless_host_allows
from holdfast.source.location import location
from holdfast.source.postgresql import description as described
from holdfast.source.postgresql.child import Child
from holdfast.source.postgresql.description import Description, from_bytes
from holdfast.source.postgresql.facts import tables_of, with_rows
from holdfast.source.postgresql.failure import explained
from holdfast.source.postgresql.server import address, connect
from holdfast.source.postgresql.source import write_all
from holdfast.source.postgresql.tools import choose_tools
from holdfast.source.protocol import (
    Landing,
    OptionRefusedError,
    PointReader,
    SourceAbortedError,
    SourceError,
    SourceMissingError,
    SourceReport,
    SourceSpec,
    SourceUnreachableError,
    SourceUnreadableError,
    TargetFailedError,
    TargetOccupiedError,
    ToolMissingError,
)
from holdfast.source.restore_metadata import database_restore

log = structlog.get_logger()

_MAINTENANCE: Final = ("postgres", "template1")

# Anything that a user may have made; what belongs to an extension is counted with the extension.
_ANYTHING_IN_IT: Final = """
    SELECT EXISTS (SELECT 1 FROM pg_class WHERE oid >= 16384)
        OR EXISTS (SELECT 1 FROM pg_proc WHERE oid >= 16384)
        OR EXISTS (SELECT 1 FROM pg_type WHERE oid >= 16384)
        OR EXISTS (SELECT 1 FROM pg_namespace WHERE oid >= 16384)
        OR EXISTS (SELECT 1 FROM pg_extension WHERE oid >= 16384)
        OR EXISTS (SELECT 1 FROM pg_largeobject_metadata)"""


class PostgresqlTarget:
    """One database that a restore fills."""

    def __init__(self, spec: SourceSpec, metadata: Mapping[str, str]) -> None:
        self._place = location(spec.url)
        self._wanted = database_restore(metadata)
        if self._wanted.place(self._place) != self._place:
            raise OptionRefusedError(f"the target {spec.url} is not the one that the metadata names")
        refuse_own(self._place, own_places(spec.forbidden))
        refuse_unless_host_allows(self._place, Purpose.RESTORE, spec.grants)
        if not spec.job:
            raise OptionRefusedError("a restore needs the id of its job")
        self._address, self._secret = address(spec, self._place)
        self._tools = spec.tools
        self._mark = f"being restored by Holdfast, job {spec.job}; not complete"
        self._guard = threading.Lock()
        self._cleaning = threading.Lock()
        self._aborted = threading.Event()
        self._child: Child | None = None
        self._made = False
        self._roles_made: list[str] = []
        self._exists = False
        self._description: Description | None = None
        self._problems: list[Problem] = []

    def begin(self) -> Landing:
        """Look at the server: what is there already?

        Raises:
            TargetOccupiedError: the database exists and is not empty.
        """
        with self._maintenance() as connection:
            row = connection.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s",
                (self._address.database,),
            ).fetchone()
            if row is not None and row[0] == self._mark:
                self._drop(connection)  # an earlier run of this very job made it, and did not end
                row = None
            self._exists = row is not None
        if self._exists:
            with connect(self._address, self._secret) as connection:
                occupied = connection.execute(_ANYTHING_IN_IT).fetchone()
            if occupied is None or occupied[0]:
                raise TargetOccupiedError(
                    f"{self._place.key} exists and is not empty; a restore never overwrites, "
                    "so name a database that does not exist"
                )
        return self

    def fill(self, point: PointReader) -> None:
        """Make the database and bring the dump in.

        Raises:
            SourceError: the server lacks something that the dump needs, or refuses it.
        """
        dump = self._dump_in(point)
        description = self._describe(point)
        self._description = description
        with self._maintenance() as connection:
            tools = choose_tools(
                self._tools, at_least=max(connection.info.server_version // 10000, description.client_major)
            )
            arguments = self._prepare(connection, description)
        child = self._start(tools.program("pg_restore"), arguments)
        try:
            # One that ends early says why by its exit code, so nothing more is read for it.
            for piece in point.read((described.DIRECTORY, dump)):
                if not write_all(child.stdin, piece):
                    break
            self._refuse_aborted()
            code = child.end()
        finally:
            child.close()
        self._refuse_aborted()
        if code != 0:
            raise explained(child.words(), f"pg_restore into {self._place.key} ended with {code}", TargetFailedError)

    def finish(self) -> SourceReport:
        """Compare what was restored with what the point says, and take the mark off.

        Raises:
            TargetFailedError: they differ.
        """
        description = self._description
        if description is None or self._child is None or self._aborted.is_set():
            raise TargetFailedError("the restore was not begun, or was given up")
        try:
            with connect(self._address, self._secret) as connection:
                counted = self._verify(connection, description)
                if self._made:
                    connection.execute(
                        sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(self._address.database))
                    )
        except psycopg.Error as error:
            raise explained(str(error), self._place.key, SourceUnreachableError) from error
        self._made = False
        self._roles_made.clear()
        return SourceReport(
            facts={
                "restored_to": self._place.key,
                "tables": sum(table.kind in ("r", "p", "m") for table in description.facts.tables),
                "rows": dict(sorted(counted.items())),
                "snapshot_at": description.facts.at,
            },
            problems=tuple(self._problems),
        )

    def abort(self) -> None:
        """Stop pg_restore and drop the database and the roles that this job made."""
        with self._guard:
            self._aborted.set()
            child = self._child
        if child is not None:
            child.stop()
        with self._cleaning:
            try:
                self._clean()
            except SourceError as error:
                log.warning("source.restore_not_removed", target=self._place.key, error=str(error))

    def _clean(self) -> None:
        if not self._made and not self._roles_made:
            return
        with self._maintenance() as connection:
            if self._made:
                self._drop(connection)
                self._made = False
            while self._roles_made:
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(self._roles_made[-1])))
                self._roles_made.pop()

    def _dump_in(self, point: PointReader) -> bytes:
        dumps = [name for name in point.names((described.DIRECTORY,)) if name.endswith(described.SUFFIX)]
        if len(dumps) != 1:
            raise TargetFailedError(f"the recovery point holds {len(dumps)} dumps of databases, not one")
        return dumps[0]

    def _describe(self, point: PointReader) -> Description:
        try:
            return from_bytes(b"".join(point.read((described.NAME,))))
        except NotFoundError as error:
            raise TargetFailedError("the recovery point does not say how its dump was made") from error

    def _prepare(self, connection: psycopg.Connection[Any], description: Description) -> list[str]:
        """Refuse early what would fail late, make the database, and return pg_restore's arguments."""
        server = connection.info.server_version // 10000
        if server < description.client_major:
            raise TargetFailedError(
                f"the dump was made by pg_dump {description.client_version} and needs a server of version "
                f"{description.client_major} or newer; {self._place.key} is {server}"
            )
        available = {row[0] for row in connection.execute("SELECT name FROM pg_available_extensions")}
        lacking = sorted({item["name"] for item in description.facts.extensions} - available)
        if lacking:
            raise ToolMissingError(f"install these extensions on the server first: {', '.join(lacking)}")
        arguments = [
            "--exit-on-error",
            "--single-transaction",
            "--no-password",
            "--no-tablespaces",
            "--no-subscriptions",
            f"--dbname={self._address.conninfo()}",
            *self._role_arguments(connection, description),
        ]
        if not self._exists:
            self._create(connection, description)
        return arguments

    def _role_arguments(self, connection: psycopg.Connection[Any], description: Description) -> list[str]:
        """Say whether owners and rights can be restored as they were, making the roles if that was asked for."""
        existing = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        missing = sorted(set(description.facts.roles) - existing)
        if missing and self._wanted.create_missing_roles:
            for role in missing:
                connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
                self._roles_made.append(role)
            self._problems.append(Problem((), f"made these roles, without login: {', '.join(missing)}"))
            missing = []
        needed = sorted(set(description.facts.policy_roles) & set(missing))
        if needed:
            raise TargetFailedError(
                f"row security policies name roles that the server has not: {', '.join(needed)}; "
                "create them first, or restore with createMissingRoles true"
            )
        found = []
        if missing:
            found.append("--no-privileges")
            self._problems.append(
                Problem((), f"rights were left out, since the server has no roles {', '.join(missing)}")
            )
        if missing or connection.info.parameter_status("is_superuser") != "on":
            found.append("--no-owner")
            self._problems.append(Problem((), f"everything belongs to {self._address.user}, not to its former owners"))
        return found

    def _create(self, connection: psycopg.Connection[Any], description: Description) -> None:
        name = sql.Identifier(self._address.database)
        words = [
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {}").format(
                name, sql.Literal(description.facts.encoding)
            ),
            *_locale_words(description.facts.locale, self._wanted.locale, connection.info.server_version),
        ]
        try:
            connection.execute(sql.SQL(" ").join(words))
        except psycopg.errors.DuplicateDatabase as error:
            raise TargetOccupiedError(f"{self._place.key} was made by somebody else meanwhile") from error
        except psycopg.Error as error:
            wrong = "locale" in str(error) or "collat" in str(error).lower()
            hint = "; give a locale that this server has, as holdfast:locale (say C.UTF-8)" if wrong else ""
            raise TargetFailedError(f"{self._place.key} cannot be made: {str(error).strip()}{hint}") from error
        # Between these two statements a crash leaves an empty database without the mark, which any restore may fill.
        self._made = True
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(self._mark)))

    def _verify(self, connection: psycopg.Connection[Any], description: Description) -> dict[str, int]:
        wanted = {(table.schema, table.name, table.kind) for table in description.facts.tables if not table.extension}
        found = {(table.schema, table.name, table.kind) for table in tables_of(connection)}
        missing = sorted(".".join(name[:2]) for name in wanted - found)
        if missing:
            raise TargetFailedError(f"{len(missing)} tables are missing after the restore: {', '.join(missing[:10])}")
        invalid = connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid").fetchall()
        if invalid:
            raise TargetFailedError(
                f"indexes are invalid after the restore: {', '.join(row[0] for row in invalid[:10])}"
            )
        counted = {}
        for table in description.facts.tables:
            if table.rows is None:
                continue
            rows = with_rows(connection, table).rows
            if rows != table.rows:
                raise TargetFailedError(f"{table.shown} has {rows} rows after the restore and had {table.rows}")
            counted[table.shown] = rows
        return counted

    def _start(self, program: str, arguments: list[str]) -> Child:
        with self._guard:
            self._refuse_aborted()
            self._child = Child([program, *arguments], secret=self._secret, stdin=True, stdout=False)
            return self._child

    def _refuse_aborted(self) -> None:
        if self._aborted.is_set():
            raise SourceAbortedError(f"the restore into {self._place.key} was given up")

    def _drop(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND usename = current_user",
            (self._address.database,),
        )
        force = sql.SQL(" WITH (FORCE)" if connection.info.server_version >= 130000 else "")  # noqa: PLR2004 - new there
        connection.execute(
            sql.SQL("DROP DATABASE IF EXISTS {}{}").format(sql.Identifier(self._address.database), force)
        )

    @contextlib.contextmanager
    def _maintenance(self) -> Iterator[psycopg.Connection[Any]]:
        """Give a connection to a database of the server that is not the target."""
        names = [name for name in _MAINTENANCE if name != self._address.database]
        for name in names[:-1]:
            try:
                connection = connect(self._address, self._secret, name)
                break
            except (SourceMissingError, SourceUnreadableError):
                continue  # there is none, or it is not open to this role
        else:
            connection = connect(self._address, self._secret, names[-1])
        try:
            yield connection
        except psycopg.Error as error:
            raise explained(str(error), self._place.key, TargetFailedError) from error
        finally:
            connection.close()


def _locale_words(recorded: Mapping[str, Any], instead: str | None, server: int) -> list[sql.Composed]:
    if instead is not None:
        return [
            sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(instead), sql.Literal(instead)),
            *([sql.SQL("LOCALE_PROVIDER libc").format()] if server >= 150000 else []),  # noqa: PLR2004 - new there
        ]
    words = [
        sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(
            sql.Literal(recorded["collate"] or "C"), sql.Literal(recorded["ctype"] or "C")
        )
    ]
    match recorded.get("provider"):
        case "i":
            words.append(sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {}").format(sql.Literal(recorded["locale"])))
            if recorded.get("icu_rules"):
                words.append(sql.SQL("ICU_RULES {}").format(sql.Literal(recorded["icu_rules"])))
        case "b":
            words.append(sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(sql.Literal(recorded["locale"])))
        case "c":
            words.append(sql.SQL("LOCALE_PROVIDER libc").format())
    return words
