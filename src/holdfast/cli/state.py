"""`holdfast state`: copies of the control database in storage: made, listed, and brought back.

A restored state is made ready beside the present database and put into its place last. What happened after it was taken
is not all lost: vaults, recovery points, locks and holds come from their signed records in storage, the audit trail
from its blocks; what remains forgotten is named from the trail.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from holdfast.cli.opening import existing, open_or_make
from holdfast.cli.rebuild import print_rebuilt
from holdfast.core.clock import SystemClock, SystemMachineTime
from holdfast.core.errors import InvalidStateError
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.facts import forget, recalled, remember
from holdfast.database.schema import UnknownSchemaError, current
from holdfast.database.state import NoStateError, State, Unreadable, find_state, list_states, load_state, save_state
from holdfast.recovery.guard import stop_deletion
from holdfast.recovery.rebuild import NothingToRebuildError, Rebuilt, rebuild
from holdfast.repository.storage import Storage
from holdfast.server.app import state_storage, trail_storage
from holdfast.server.configuration import Configuration, load_configuration
from holdfast.server.data_directory import DataDirectory
from holdfast.server.standing import RESTORING, being_restored
from holdfast.trail.catch_up import TakenBack, take_back
from holdfast.trail.model import TrailKey
from holdfast.vault.custody import Custody

NEWEST: Final = "latest"
_WIDE: Final = 1000
_SHOWN_CHANGES: Final = 20
_LOGS: Final = ("-wal", "-shm")


class DatabaseInPlaceError(InvalidStateError):
    """There is a database where the restored one should go."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """What `holdfast state restore` was asked for."""

    data_dir: Path
    state: str = NEWEST
    replace: bool = False
    storage: str | None = None
    root_key: Path | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Restored:
    state: State
    trail: TakenBack
    vaults: Rebuilt


def run_save(data_dir: Path, *, as_json: bool) -> int:
    """Save a state of a stopped server's database, and print its id.

    Raises:
        DirectoryInUseError: the server is running; it saves states itself.
    """
    directory = DataDirectory(data_dir)
    with _configured(directory) as (configuration, root_key):
        database = Database.open(configuration.database_url)
        try:
            state = save_state(
                database,
                state_storage(configuration.settings),
                root_key,
                at=SystemMachineTime().now(),
                progress=_say_table,
            )
        finally:
            database.close()
    print(json.dumps(_as_json(state)) if as_json else f"state {state.id}: {state.rows} rows, {state.size} bytes")
    return 0


def run_list(data_dir: Path, *, as_json: bool) -> int:
    """Print the states in storage, the newest first; the server may run."""
    directory = DataDirectory(data_dir)
    configuration = load_configuration(directory, existing(directory))
    found, unreadable = list_states(state_storage(configuration.settings), directory.load_root_key())
    if as_json:
        shown = {
            "states": [_as_json(state) for state in found],
            "unreadable": [_unreadable(each) for each in unreadable],
        }
        print(json.dumps(shown, indent=2))
        return 0
    table = Table("state", "taken at (UTC)", "release", "schema", "rows", "bytes")
    for state in found:
        taken = f"{state.taken_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(state.id, taken, state.release, state.schema, f"{state.rows:,}", f"{state.size:,}")
    Console(width=_WIDE).print(table)
    for each in unreadable:
        print(each.why, file=sys.stderr)
    return 0


def run_restore(options: RestoreOptions) -> int:
    """Bring a state back, and what storage knows beyond it; return the exit code, 4 when something was not as written.

    Raises:
        NoStateError: there is no such state, or none at all.
        DatabaseInPlaceError: there is a database already, and it was not said to replace it.
        HoldfastError: the state, a key, the configuration or the storage can't be used.
    """
    directory = DataDirectory(options.data_dir)
    mode = open_or_make(directory, storage=options.storage, root_key=options.root_key)
    with directory.held():
        configuration = load_configuration(directory, mode)
        root_key = directory.load_root_key()
        state = _chosen(state_storage(configuration.settings), root_key, options.state)
        _say(f"state {state.id}, taken {state.taken_at:%d %B %Y %H:%M} UTC by release {state.release}")
        if configuration.database_url.startswith("sqlite"):
            restored = _beside(options, directory, configuration, root_key, state)
        else:
            database = Database.open(configuration.database_url)
            try:
                restored = _fill(database, directory, configuration, root_key, state)
            finally:
                database.close()
    _print(restored, directory, as_json=options.as_json)
    return 0 if restored.vaults.is_sound else 4


def _beside(
    options: RestoreOptions, directory: DataDirectory, configuration: Configuration, root_key: RootKey, state: State
) -> _Restored:
    """Make the restored database ready in a file of its own, and put it into its place last."""
    place = Path(configuration.database_url.removeprefix("sqlite:///"))
    if place.exists() and not options.replace and _holds_something(place):
        raise DatabaseInPlaceError(
            f"there is a database at {place}; say --replace to put the restored one into its place (the old one is "
            "kept beside it)"
        )
    ready = being_restored(place)
    for suffix in ("", *_LOGS):
        ready.with_name(ready.name + suffix).unlink(missing_ok=True)
    database = Database.open(f"sqlite:///{ready}")
    try:
        restored = _fill(database, directory, configuration, root_key, state)
    finally:
        database.close()
    _put_into_place(ready, place, place.with_name(f"{place.name}.replaced-by-{state.id}"))
    return restored


def _put_into_place(ready: Path, place: Path, old: Path) -> None:
    """Make `ready` the database at `place`; what was there is kept as `old`."""
    if place.exists():
        old.unlink(missing_ok=True)
        os.link(place, old)
        _say(f"the database that was there is now {old}")
    # A log that was left beside the old database must never be taken for one of the new.
    for suffix in _LOGS:
        log = place.with_name(place.name + suffix)
        if log.exists():
            log.replace(old.with_name(old.name + suffix))
    ready.replace(place)
    descriptor = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fill(
    database: Database, directory: DataDirectory, configuration: Configuration, root_key: RootKey, state: State
) -> _Restored:
    settings = configuration.settings
    with database.reading() as tx:
        begun = recalled(tx, RESTORING) if sa.inspect(tx).has_table("instance") else None
    if begun != state.id:
        with database.transaction() as tx:
            load_state(tx, state_storage(settings), root_key, state, progress=_say_table)
            remember(tx, RESTORING, state.id)
            stop_deletion(tx, f"the state of {state.taken_at:%d %B %Y %H:%M} UTC was restored")
    with database.transaction() as tx:
        trail = take_back(tx, trail_storage(settings), TrailKey.of(root_key).public)
    public = directory.recovery_public_key.read_bytes() if directory.recovery_public_key.exists() else None
    try:
        vaults = rebuild(
            database,
            Custody(settings, root_key, public),
            now=SystemClock().now(),
            machine=SystemMachineTime(),
            progress=_say,
        )
    except NothingToRebuildError:
        vaults = Rebuilt()
    with database.transaction() as tx:
        forget(tx, RESTORING)
    return _Restored(state, trail, vaults)


def _holds_something(place: Path) -> bool:
    database = Database.open(f"sqlite:///{place}")
    try:
        return current(database) is not None
    except UnknownSchemaError:
        return True
    finally:
        database.close()


def _chosen(storage: Storage, root_key: RootKey, state_id: str) -> State:
    if state_id != NEWEST:
        return find_state(storage, root_key, state_id)
    found, unreadable = list_states(storage, root_key)
    for each in unreadable:
        _say(each.why)
    if not found:
        raise NoStateError(
            "there is no state in storage that this root key opens; `holdfast rebuild` brings vaults back without one"
        )
    return found[0]


@contextmanager
def _configured(directory: DataDirectory) -> Iterator[tuple[Configuration, RootKey]]:
    with directory.held():
        yield load_configuration(directory, existing(directory)), directory.load_root_key()


def _print(restored: _Restored, directory: DataDirectory, *, as_json: bool) -> None:
    changes = restored.trail.changes.most_common()
    if as_json:
        shown = {
            "state": _as_json(restored.state),
            "trail": {"blocks": restored.trail.blocks, "entries": restored.trail.entries},
            "forgotten": [{"account": a, "operation": o, "calls": n} for (a, o), n in changes],
            "vaults": len(restored.vaults.vaults),
            "sound": restored.vaults.is_sound,
        }
        print(json.dumps(shown, indent=2))
        return
    print_rebuilt(restored.vaults)
    print(f"state {restored.state.id} is back: {restored.state.rows} rows")
    print(f"the audit trail goes on after it: {restored.trail.entries} entries from storage")
    if changes:
        print("Changes made after the state, which only the trail remembers (what was withdrawn then is valid again):")
        for (account, operation), calls in changes[:_SHOWN_CHANGES]:
            print(f"  {account}  {operation}  {calls} times" if calls > 1 else f"  {account}  {operation}")
        if len(changes) > _SHOWN_CHANGES:
            print(f"  and {len(changes) - _SHOWN_CHANGES} kinds more (all of them with --json)")
    print("Nothing is deleted until an administrator has looked at it and calls ReleaseDeletion.")
    print(f"Next: holdfast serve --data-dir {directory.path}")


def _as_json(state: State) -> dict[str, object]:
    return {
        "id": state.id,
        "taken_at": state.taken_at.isoformat(),
        "release": state.release,
        "schema": state.schema,
        "rows": state.rows,
        "bytes": state.size,
    }


def _unreadable(each: Unreadable) -> dict[str, str]:
    return {"id": each.id, "why": each.why}


def _say_table(name: str, rows: int) -> None:
    if rows:
        _say(f"{name}: {rows} rows")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
