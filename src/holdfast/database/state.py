"""States: whole copies of the control database in storage, sealed under the root key, and what becomes of old ones.

    state/ID/part-000000   lines of rows, compressed and sealed; a line {"table": NAME} before the rows of each table
    state/ID/manifest      what the state holds, sealed; written last, so a state is whole or it is none

A state is read in one transaction, so it is consistent, and fits either kind of database. Sealed parts are bound to
their state and place.
"""

import base64
import binascii
import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import orjson
import sqlalchemy as sa
import structlog
import zstandard

from holdfast import __version__
from holdfast.core.clock import MachineTime
from holdfast.core.errors import DamagedError, HoldfastError, InvalidStateError, NotFoundError
from holdfast.core.seal import RootKey, SealBrokenError
from holdfast.database.connection import Database
from holdfast.database.rows import (
    BATCH,
    RowsDifferError,
    Tally,
    read_rows,
    sequences,
    set_sequences,
    tables,
    tally_of,
    without_triggers,
    write_rows,
)
from holdfast.database.schema import current_of, upgrade_connection
from holdfast.repository.storage import NotStoredError, Storage

log = structlog.get_logger()

DIRECTORY: Final = "state"
"""The directory of a storage that states lie in."""

EVERY_STATE_FOR: Final = timedelta(hours=48)
DAILY_FOR: Final = timedelta(days=35)
MONTHLY_FOR: Final = timedelta(days=400)

_FORMAT: Final = 1
_PURPOSE: Final = "state"
_MANIFEST: Final = "manifest"
_PART_BYTES: Final = 8 << 20
"""Of lines, before they are compressed."""
_LEVEL: Final = 3
_NEVER_THINNED: Final = 3
_UNFINISHED_FOR: Final = timedelta(days=1)
_ID_TIME: Final = "%Y%m%dT%H%M%SZ"
_ID_TIME_CHARACTERS: Final = 16

Progress = Callable[[str, int], None]
"""Told the name of a table and how many of its rows have gone by."""


class NoStateError(NotFoundError):
    """There is no such state in storage."""


class StateUnreadableError(DamagedError):
    """A state is not as it was written, or was sealed under another root key."""


class DatabaseNotEmptyError(InvalidStateError):
    """A database that was to be filled holds something already."""


@dataclass(frozen=True, slots=True)
class State:
    """What a state holds."""

    id: str
    taken_at: datetime
    release: str
    schema: str
    tables: Mapping[str, tuple[int, str]] = field(repr=False)
    """Count of rows and digest, by table."""
    sequences: Mapping[str, int] = field(repr=False)
    parts: tuple[tuple[int, str], ...] = field(repr=False)
    """Size and SHA-256 of each part, in order."""

    @property
    def rows(self) -> int:
        """How many rows there are in all."""
        return sum(count for count, _ in self.tables.values())

    @property
    def size(self) -> int:
        """How many bytes it takes in storage, the manifest not counted."""
        return sum(size for size, _ in self.parts)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in the directory of states that is none, and why."""

    id: str
    why: str


def save_state(
    database: Database, storage: Storage, root_key: RootKey, *, at: datetime, progress: Progress | None = None
) -> State:
    """Copy the whole database into `storage`, as it is in one instant; return what was written.

    Raises:
        StorageFailedError: storage did not take it; what was put is no state, and is removed later.
    """
    state_id = f"{at.astimezone(UTC):{_ID_TIME}}-{secrets.token_hex(4)}"
    tallies: dict[str, Tally] = {}
    parts: list[tuple[int, str]] = []
    with database.reading() as tx:
        schema = current_of(tx)
        these = tables(schema)
        for lines in _pieces(_lines(tx, tallies, progress)):
            packed = zstandard.ZstdCompressor(level=_LEVEL).compress(lines)
            sealed = root_key.seal(_PURPOSE, packed, context=_context(state_id, len(parts)))
            storage.put(_part(state_id, len(parts)), sealed, new=True)
            parts.append((len(sealed), hashlib.sha256(sealed).hexdigest()))
        given = sequences(tx, these)
    counted = {name: (tally.rows, tally.digest) for name, tally in tallies.items()}
    state = State(state_id, at, __version__, these.revision, counted, given, tuple(parts))
    storage.put(f"{DIRECTORY}/{state_id}/{_MANIFEST}", _manifest(state, root_key), new=True)
    return state


def list_states(storage: Storage, root_key: RootKey) -> tuple[list[State], list[Unreadable]]:
    """Return the states in storage, the newest first, and what lies among them that cannot be read.

    What has no manifest is none: it was interrupted, or is being written now.
    """
    found: list[State] = []
    unreadable: list[Unreadable] = []
    for state_id, names in _directories(storage).items():
        if _MANIFEST not in names:
            continue
        try:
            found.append(find_state(storage, root_key, state_id))
        except HoldfastError as error:
            unreadable.append(Unreadable(state_id, str(error)))
    return sorted(found, key=lambda state: (state.taken_at, state.id), reverse=True), unreadable


def find_state(storage: Storage, root_key: RootKey, state_id: str) -> State:
    """Return a state by its id.

    Raises:
        NoStateError: there is none of that id.
        StateUnreadableError: it was sealed under another root key, or is not as it was written.
    """
    try:
        content = storage.get(f"{DIRECTORY}/{state_id}/{_MANIFEST}")
    except NotStoredError as error:
        raise NoStateError(
            f"there is no state {state_id} in storage; `holdfast state list` names those there are"
        ) from error
    try:
        shell = orjson.loads(content)
        if shell["key"] != root_key.id:
            raise StateUnreadableError(
                f"state {state_id} was sealed under another root key (fingerprint {shell['key']}, and this one is "
                f"{root_key.id}); give that key with --root-key"
            )
        opened = root_key.unseal(
            _PURPOSE, base64.b64decode(shell["sealed"], validate=True), context=_context(state_id, -1)
        )
        return _state(orjson.loads(opened))
    except (SealBrokenError, binascii.Error, ValueError, KeyError, TypeError) as error:
        raise StateUnreadableError(f"the manifest of state {state_id} is not as it was written: {error}") from error


def load_state(
    tx: sa.Connection, storage: Storage, root_key: RootKey, state: State, *, progress: Progress | None = None
) -> None:
    """Fill an empty database with a state, and bring it to this release's schema, all in the open transaction.

    Raises:
        DatabaseNotEmptyError: there is something in the database.
        UnknownSchemaError: the state is of a later release.
        StateUnreadableError: it is not as it was written.
        RowsDifferError: the database does not hold what was put into it.
    """
    refuse_unless_empty(tx)
    upgrade_connection(tx, state.schema)
    these = tables(state.schema)
    lines = _read_lines(storage, root_key, state)
    seen: set[str] = set()
    with without_triggers(tx):
        for name, batches in _by_table(lines):
            if name not in these.by_name or name in seen:
                raise StateUnreadableError(f"state {state.id} has rows of a table {name} that its schema does not have")
            seen.add(name)
            written = write_rows(tx, these.by_name[name], batches)
            if (written.rows, written.digest) != state.tables.get(name):
                raise StateUnreadableError(
                    f"the rows of table {name} in state {state.id} are not those that were counted"
                )
            if progress is not None:
                progress(name, written.rows)
    if seen != set(state.tables):
        missing = ", ".join(sorted(set(state.tables) - seen))
        raise StateUnreadableError(f"state {state.id} lacks the rows of {missing}")
    set_sequences(tx, state.sequences)
    refuse_difference(tx, state.tables, state.schema)
    upgrade_connection(tx, "head")


def refuse_unless_empty(tx: sa.Connection) -> None:
    """Refuse a database that holds tables already.

    Raises:
        DatabaseNotEmptyError: it does.
    """
    names = sa.inspect(tx).get_table_names()
    if names:
        raise DatabaseNotEmptyError(
            f"the database is not empty: it holds {len(names)} tables, {min(names)} among them; name an empty one"
        )


def refuse_difference(tx: sa.Connection, expected: Mapping[str, tuple[int, str]], schema: str) -> None:
    """Read every table back, and refuse what is not as expected.

    Raises:
        RowsDifferError: a table holds something else; the text names it.
    """
    these = tables(schema)
    for name, (rows, digest) in expected.items():
        present = tally_of(tx, these.by_name[name])
        if (present.rows, present.digest) != (rows, digest):
            raise RowsDifferError(
                f"table {name} holds {present.rows} rows that are not the {rows} that were written; nothing was kept"
            )


def to_keep(taken: Iterable[datetime], *, now: datetime) -> set[datetime]:
    """Return which of the states taken at these instants stay: the newest few, all of two days, one a day, one a month.

    Of a day or a month it is the newest.
    """
    newest_first = sorted(taken, reverse=True)
    keep = set(newest_first[:_NEVER_THINNED])
    days, months = set(), set()
    for at in newest_first:
        age, day, month = now - at, at.date(), (at.year, at.month)
        newest_of_day, newest_of_month = day not in days, month not in months
        if age <= EVERY_STATE_FOR or (age <= DAILY_FOR and newest_of_day) or (age <= MONTHLY_FOR and newest_of_month):
            keep.add(at)
        days.add(day)
        months.add(month)
    return keep


def thin_states(storage: Storage, *, now: datetime) -> int:
    """Remove states that are kept no longer, and what interrupted ones left; return how many states went.

    The manifest goes first, so that what is left of a state is none.
    """
    directories = _directories(storage)
    taken = {state_id: _taken_at(state_id) for state_id in directories}
    whole = {state_id: at for state_id, at in taken.items() if at is not None and _MANIFEST in directories[state_id]}
    keep = to_keep(whole.values(), now=now)
    gone = 0
    for state_id, names in directories.items():
        at = taken[state_id]
        if at is None or (state_id in whole and at in keep) or (state_id not in whole and now - at < _UNFINISHED_FOR):
            continue
        for name in sorted(names, key=lambda name: name != _MANIFEST):
            storage.delete(f"{DIRECTORY}/{state_id}/{name}")
        gone += state_id in whole
    return gone


@dataclass
class StateKeeper:
    """Saves a state whenever the newest is old enough."""

    database: Database
    storage: Storage
    root_key: RootKey
    machine: MachineTime
    every: timedelta
    may_delete: Callable[[sa.Connection], bool] = lambda _tx: True
    """Whether deleting is not stopped."""

    def keep(self) -> State | None:
        """Save a state if it is time, and thin the old ones; return what was saved."""
        now = self.machine.now()
        newest = max((at for at in map(_taken_at, _directories_with_manifest(self.storage)) if at), default=None)
        if newest is not None and timedelta(0) <= now - newest < self.every:
            return None
        state = save_state(self.database, self.storage, self.root_key, at=now)
        log.info("state.saved", state=state.id, rows=state.rows, bytes=state.size)
        with self.database.reading() as tx:
            may_delete = self.may_delete(tx)
        if may_delete:
            thin_states(self.storage, now=now)
        return state


def _lines(tx: sa.Connection, tallies: dict[str, Tally], progress: Progress | None) -> Iterator[bytes]:
    for name, table in tables(current_of(tx)).by_name.items():
        tally = tallies[name] = Tally()
        yield orjson.dumps({"table": name})
        for batch in read_rows(tx, table):
            for line in batch:
                tally.add(line)
                yield line
        if progress is not None:
            progress(name, tally.rows)


def _pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Put lines together into pieces of some size."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line) + 1
        if size >= _PART_BYTES:
            yield b"\n".join(piece) + b"\n"
            piece, size = [], 0
    if piece:
        yield b"\n".join(piece) + b"\n"


def _read_lines(storage: Storage, root_key: RootKey, state: State) -> Iterator[bytes]:
    for number, (_, digest) in enumerate(state.parts):
        name = _part(state.id, number)
        try:
            sealed = storage.get(name)
            if hashlib.sha256(sealed).hexdigest() != digest:
                raise StateUnreadableError(f"{name} is not as it was written")
            packed = root_key.unseal(_PURPOSE, sealed, context=_context(state.id, number))
            lines = zstandard.ZstdDecompressor().decompress(packed)
        except (NotStoredError, SealBrokenError, zstandard.ZstdError) as error:
            raise StateUnreadableError(f"{name} cannot be read: {error}") from error
        yield from lines.splitlines()


def _by_table(lines: Iterator[bytes]) -> Iterator[tuple[str, Iterator[list[bytes]]]]:
    """Yield each table's name with its rows in batches, which have to be taken before the next table."""
    head = next(lines, None)
    following: list[bytes] = [] if head is None else [head]

    def rows() -> Iterator[bytes]:
        for line in lines:
            if line.startswith(b"{"):
                following.append(line)
                return
            yield line

    while following:
        name = str(orjson.loads(following.pop())["table"])
        yield name, _batches(rows())


def _batches(rows: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(rows, BATCH)):
        yield batch


def _manifest(state: State, root_key: RootKey) -> bytes:
    told = {
        "format": _FORMAT,
        "id": state.id,
        "taken_at": state.taken_at.isoformat(),
        "release": state.release,
        "schema": state.schema,
        "tables": {name: list(counted) for name, counted in state.tables.items()},
        "sequences": dict(state.sequences),
        "parts": [list(part) for part in state.parts],
    }
    sealed = root_key.seal(_PURPOSE, orjson.dumps(told), context=_context(state.id, -1))
    return orjson.dumps({"key": root_key.id, "sealed": base64.b64encode(sealed).decode("ascii")})


def _state(told: Mapping[str, Any]) -> State:
    if told["format"] != _FORMAT:
        raise StateUnreadableError(f"state {told['id']} has format {told['format']}, which this release does not know")
    return State(
        id=told["id"],
        taken_at=datetime.fromisoformat(told["taken_at"]),
        release=told["release"],
        schema=told["schema"],
        tables={name: (rows, digest) for name, (rows, digest) in told["tables"].items()},
        sequences=told["sequences"],
        parts=tuple((size, digest) for size, digest in told["parts"]),
    )


def _context(state_id: str, part: int) -> str:
    return f"state {state_id} {_MANIFEST if part < 0 else part}"


def _part(state_id: str, number: int) -> str:
    return f"{DIRECTORY}/{state_id}/part-{number:06d}"


def _directories(storage: Storage) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for file in storage.list(f"{DIRECTORY}/"):
        state_id, _, name = file.name.removeprefix(f"{DIRECTORY}/").partition("/")
        found.setdefault(state_id, set()).add(name)
    return found


def _directories_with_manifest(storage: Storage) -> list[str]:
    return [state_id for state_id, names in _directories(storage).items() if _MANIFEST in names]


def _taken_at(state_id: str) -> datetime | None:
    try:
        return datetime.strptime(state_id[:_ID_TIME_CHARACTERS], _ID_TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
