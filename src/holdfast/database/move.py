"""Moving a control database, from SQLite to PostgreSQL or back, with nothing changed in what it says.

Everything is copied in one transaction of the new database, read back and compared there, and only then committed. The
old one stays as it is, marked as moved, so that no server starts on it by mistake.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from holdfast.core.errors import InvalidInputError, InvalidStateError
from holdfast.database.connection import Database
from holdfast.database.facts import recalled, remember
from holdfast.database.rows import read_rows, sequences, set_sequences, tables, without_triggers, write_rows
from holdfast.database.schema import current_of, head, upgrade_connection
from holdfast.database.state import Progress, refuse_difference, refuse_unless_empty

_MOVED_TO: Final = "moved to"


class SameDatabaseError(InvalidInputError):
    """A database was to be moved to where it is."""


class DatabaseMovedError(InvalidStateError):
    """A database was moved elsewhere, and what is in it is old."""


class SchemaBehindError(InvalidStateError):
    """A database has to be upgraded first."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved."""

    tables: int
    rows: int
    to: str
    """Where it is now, without a password."""


def move_database(source: Database, target: Database, *, now: datetime, progress: Progress | None = None) -> Moved:
    """Copy everything from `source` to the empty `target`, check it, and mark `source` as moved.

    Raises:
        SameDatabaseError: both are one.
        DatabaseMovedError: the source was moved before.
        DatabaseNotEmptyError: there is something in the target.
        SchemaBehindError: the source has an older schema than this release's.
        UnfitRowError: the target cannot keep a row; nothing was kept.
        RowsDifferError: what was read back is not what was written; nothing was kept.
    """
    if source.url == target.url:
        raise SameDatabaseError(f"the database is at {source.url} already; name another place")
    refuse_if_moved(source)
    counted: dict[str, tuple[int, str]] = {}
    with source.reading() as old, target.transaction() as new:
        schema = current_of(old)
        if schema != head():
            raise SchemaBehindError(
                "the database has to be upgraded before it is moved: run `holdfast upgrade --apply`"
            )
        these = tables(schema)
        refuse_unless_empty(new)
        upgrade_connection(new, schema)
        with without_triggers(new):
            for name, table in these.by_name.items():
                written = write_rows(new, table, read_rows(old, table))
                counted[name] = (written.rows, written.digest)
                if progress is not None:
                    progress(name, written.rows)
        set_sequences(new, sequences(old, these))
        refuse_difference(new, counted, schema)
    with source.transaction() as tx:
        remember(tx, _MOVED_TO, f"{target.url} on {now:%d %B %Y %H:%M} UTC")
    return Moved(len(counted), sum(rows for rows, _ in counted.values()), target.url)


def refuse_if_moved(database: Database) -> None:
    """Refuse to work on a database that was moved elsewhere.

    Raises:
        DatabaseMovedError: it was; the text says where to.
    """
    with database.reading() as tx:
        moved = recalled(tx, _MOVED_TO)
    if moved is not None:
        raise DatabaseMovedError(
            f"the database at {database.url} was moved to {moved}; set server.database in holdfast.toml to that place"
        )
