"""`holdfast database move` and `holdfast upgrade`: what is done to the control database with the server stopped."""

import json
import sys
from pathlib import Path
from typing import Final

from holdfast.cli.opening import existing
from holdfast.core.clock import SystemClock, SystemMachineTime
from holdfast.database.connection import Database
from holdfast.database.move import move_database, refuse_if_moved
from holdfast.database.schema import current, head, pending, upgrade
from holdfast.database.state import save_state
from holdfast.server.app import state_storage
from holdfast.server.configuration import load_configuration
from holdfast.server.data_directory import DataDirectory

EXIT_UPGRADE_NEEDED: Final = 4


def run_move(data_dir: Path, to: str, *, as_json: bool) -> int:
    """Move the control database to the empty one at `to`, check it, and say what to write into the configuration.

    Raises:
        HoldfastError: the database cannot be moved; it stays as it is.
    """
    directory = DataDirectory(data_dir)
    mode = existing(directory)
    with directory.held():
        configuration = load_configuration(directory, mode)
        source, target = Database.open(configuration.database_url), Database.open(to)
        try:
            moved = move_database(source, target, now=SystemClock().now(), progress=_say_table)
        finally:
            source.close()
            target.close()
    if as_json:
        print(json.dumps({"tables": moved.tables, "rows": moved.rows, "to": moved.to}))
        return 0
    print(f"{moved.rows} rows of {moved.tables} tables are in {moved.to}, read back and compared")
    print(f"Next: write into {directory.configuration}, then start the server:")
    print("  [server]")
    print(f"  database = {json.dumps(to)}")
    print("The old database stays as it is; no server starts on it any more.")
    return 0


def run_upgrade(data_dir: Path, *, apply: bool, as_json: bool) -> int:
    """Tell whether the database has to be upgraded (exit code 4 then), or do it, after saving a state.

    Raises:
        UnknownSchemaError: a later release wrote the database.
        HoldfastError: the state cannot be saved, so nothing is changed.
    """
    directory = DataDirectory(data_dir)
    mode = existing(directory)
    configuration = load_configuration(directory, mode)
    database = Database.open(configuration.database_url)
    try:
        if not apply:
            waiting, before = pending(database), current(database)
        else:
            with directory.held():
                refuse_if_moved(database)
                waiting, before = pending(database), current(database)
                if waiting:
                    storage, root_key = state_storage(configuration.settings), directory.load_root_key()
                    state = save_state(database, storage, root_key, at=SystemMachineTime().now())
                    print(f"state {state.id} is saved, to go back to", file=sys.stderr)
                    upgrade(database)
                    waiting = ()
    finally:
        database.close()
    if as_json:
        print(json.dumps({"schema": before, "release": head(), "pending": list(waiting)}))
    elif waiting:
        print(f"schema {before}; this release needs {head()}: run `holdfast upgrade --apply` with the server stopped")
    elif before != head():
        print(f"upgraded from schema {before} to {head()}")
    else:
        print(f"schema {before}: up to date")
    return EXIT_UPGRADE_NEEDED if waiting else 0


def _say_table(name: str, rows: int) -> None:
    if rows:
        print(f"{name}: {rows} rows", file=sys.stderr, flush=True)
