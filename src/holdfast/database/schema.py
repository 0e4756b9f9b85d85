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
        return MigrationContext.configure(tx).get_current_revision()


def upgrade(database: Database) -> None:
    """Bring `database` to this release's schema; does nothing when it is there already.

    Raises:
        UnknownSchemaError: its version is not one that this release knows.
    """
    version = current(database)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version is not None and version not in known:
        raise UnknownSchemaError(
            f"the database has schema {version}, which this release does not know: it was written by a newer one. "
            "Run that release again, or restore a state of this one with `holdfast state restore`"
        )
    if version == head():
        return
    with database.transaction() as tx:
        command.upgrade(_config(tx), "head")
