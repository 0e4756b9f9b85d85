"""The schema of the control database: bringing it up to date, and refusing one from the future."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from holdfast.core.errors import InvalidStateError
from holdfast.database.connection import Database

_MIGRATIONS = Path(__file__).parent / "migrations"


class UnknownSchemaError(InvalidStateError):
    """The database was written by a release that this one does not know."""


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def head() -> str:
    """Return the schema version that this release works with."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def current(database: Database) -> str | None:
    """Return the schema version of `database`, None when it is empty."""
    with database.reading() as tx:
        return current_of(tx)


def current_of(tx: sa.Connection) -> str | None:
    """Return the schema version of what `tx` is connected to, None when it is empty."""
    return MigrationContext.configure(tx).get_current_revision()


def upgrade(database: Database) -> None:
    """Bring `database` to this release's schema; does nothing when it is there already.

    Raises:
        UnknownSchemaError: its version is not one that this release knows.
    """
    if not pending(database):
        return
    with database.transaction() as tx:
        upgrade_connection(tx, "head")


def upgrade_connection(tx: sa.Connection, revision: str) -> None:
    """Bring what `tx` is connected to up to a schema version, in the open transaction.

    Raises:
        UnknownSchemaError: this release does not know the version.
    """
    if revision != "head":
        _refuse_unknown(revision)
    command.upgrade(_config(tx), revision)


def pending(database: Database) -> tuple[str, ...]:
    """Return the schema versions that `database` still has to be brought through, the next one first.

    Raises:
        UnknownSchemaError: its version is not one that this release knows.
    """
    version = current(database)
    if version is not None:
        _refuse_unknown(version)
    script = ScriptDirectory.from_config(_config())
    return tuple(each.revision for each in script.iterate_revisions("head", version or "base"))[::-1]


def _refuse_unknown(version: str) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version not in known:
        raise UnknownSchemaError(
            f"the database has schema {version}, which this release does not know: it was written by a newer one. "
            "Run that release again, or restore a state of this one with `holdfast state restore`"
        )
