"""What a database says of itself: its tables, its locale, and whatever a restore has to know beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import sql

from holdfast.source.protocol import SourceUnreadableError


@dataclass(frozen=True, slots=True)
class Table:
    """One table, or what is stored like one."""

    schema: str
    name: str
    kind: str
    """As in pg_class: r table, p partitioned, m materialized view, f foreign, S sequence."""
    estimated_rows: int
    size: int
    persistence: str
    """As in pg_class: p permanent, u unlogged."""
    extension: str | None
    """The extension it belongs to."""
    configures: bool
    """Whether its extension says that its rows are the user's, and so are dumped."""
    rows: int | None = None
    """As counted in the snapshot, where that was asked for."""

    @property
    def has_rows(self) -> bool:
        """Whether rows of its own are in a dump."""
        return self.kind == "r" and (self.extension is None or self.configures)

    @property
    def shown(self) -> str:
        """Its name for a person."""
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What a database says of itself in one snapshot."""

    server_version: str
    server_version_num: int
    in_recovery: bool
    lsn: str | None
    at: str
    at_ns: int
    size: int
    encoding: str
    locale: Mapping[str, Any]
    extensions: tuple[Mapping[str, str], ...]
    tablespaces: tuple[str, ...]
    roles: tuple[str, ...]
    policy_roles: tuple[str, ...]
    tables: tuple[Table, ...]
    large_objects: int
    subscriptions: int

    @property
    def major(self) -> int:
        """The server's major version."""
        return self.server_version_num // 10000


def database_facts(connection: psycopg.Connection[Any]) -> DatabaseFacts:
    """Return the facts of the connection's database, as its open transaction sees them."""
    version = connection.info.server_version
    at, at_ns, recovering, size, encoding = _one(connection, _BASICS)
    lsn = _one(
        connection, "SELECT pg_last_wal_replay_lsn()::text" if recovering else "SELECT pg_current_wal_lsn()::text"
    )
    return DatabaseFacts(
        server_version=str(connection.info.parameter_status("server_version")),
        server_version_num=version,
        in_recovery=recovering,
        lsn=lsn[0],
        at=at,
        at_ns=at_ns,
        size=size,
        encoding=encoding,
        locale=_locale(connection, version),
        extensions=tuple(
            {"name": name, "version": number, "schema": schema}
            for name, number, schema in _all(connection, _EXTENSIONS)
        ),
        tablespaces=tuple(name for (name,) in _all(connection, _TABLESPACES)),
        roles=tuple(name for (name,) in _all(connection, _ROLES)),
        policy_roles=tuple(name for (name,) in _all(connection, _POLICY_ROLES)),
        tables=tables_of(connection),
        large_objects=_one(connection, "SELECT count(*) FROM pg_largeobject_metadata")[0],
        subscriptions=_one(connection, _SUBSCRIPTIONS)[0],
    )


def tables_of(connection: psycopg.Connection[Any]) -> tuple[Table, ...]:
    """Return the tables of the connection's database."""
    return tuple(Table(*row) for row in connection.execute(_TABLES))


def with_rows(connection: psycopg.Connection[Any], table: Table) -> Table:
    """Return the table with its rows counted, if it has rows of its own."""
    if not table.has_rows:
        return table
    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.schema, table.name))
    return replace(table, rows=int(_one(connection, query)[0]))


_BASICS = """
    SELECT to_char(transaction_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           CAST(extract(epoch FROM transaction_timestamp()) * 1000000 AS bigint) * 1000,
           pg_is_in_recovery(), pg_database_size(current_database()), pg_encoding_to_char(encoding)
      FROM pg_database WHERE datname = current_database()"""

# Sizes are those of the last vacuum: asking for the present one would wait for whoever holds the table's lock.
_TABLES = """
    SELECT n.nspname, c.relname, c.relkind::text, greatest(c.reltuples, 0)::bigint,
           c.relpages::bigint * current_setting('block_size')::bigint,
           c.relpersistence::text, e.extname, coalesce(c.oid = ANY(e.extconfig), false)
      FROM pg_class c
      JOIN pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
                           AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      LEFT JOIN pg_extension e ON e.oid = d.refobjid
     WHERE c.relkind IN ('r', 'p', 'm', 'f', 'S') AND c.relpersistence <> 't'
       AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
     ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" """

_EXTENSIONS = """
    SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE e.extname <> 'plpgsql' ORDER BY 1"""

_TABLESPACES = """
    SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
     WHERE t.spcname !~ '^pg_' ORDER BY 1"""

_ROLES = """
    SELECT DISTINCT r.rolname FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
     WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype IN ('o', 'a', 'r')
       AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1"""

_POLICY_ROLES = _ROLES.replace("IN ('o', 'a', 'r')", "= 'r'")

# Whoever may not see subscriptions may still count them through the columns that everybody may read.
_SUBSCRIPTIONS = """
    SELECT count(oid) FROM pg_subscription
     WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())"""


def _locale(connection: psycopg.Connection[Any], version: int) -> dict[str, Any]:
    columns = {"collate": "datcollate", "ctype": "datctype"}
    if version >= 150000:  # noqa: PLR2004 - the version that brought them
        columns |= {"provider": "datlocprovider::text", "collation_version": "datcollversion"}
        columns["locale"] = "datlocale" if version >= 170000 else "daticulocale"  # noqa: PLR2004 - renamed there
    if version >= 160000:  # noqa: PLR2004 - the version that brought it
        columns["icu_rules"] = "daticurules"
    query = f"SELECT {', '.join(columns.values())} FROM pg_database WHERE datname = current_database()"
    return dict(zip(columns, _one(connection, query), strict=True))


def _one(connection: psycopg.Connection[Any], query: "str | sql.Composed") -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    if row is None:
        raise SourceUnreadableError("the server answered nothing where it always has an answer")
    return tuple(row)


def _all(connection: psycopg.Connection[Any], query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in connection.execute(query).fetchall()]
