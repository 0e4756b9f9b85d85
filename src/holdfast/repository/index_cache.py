"""The index in a local cache, so that opening a repository costs what is new in it, whatever its size.

A SQLite file per repository holds what the index files on storage say, by the names of those files. Since such a file
never changes, only new ones have to be read and vanished ones taken out. The cache is never the truth: it is thrown
away and made anew when it cannot be read or is of another version, and may be deleted at any time. Where there is no
room for it the index is loaded into memory, as if there were no cache.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from holdfast.repository.cipher import Box
from holdfast.repository.index import Index, Location, index_files, load_index, read_index
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.repository.storage import NotStoredError, Storage

_VERSION = 1
_SCHEMA = """
    CREATE TABLE index_file (name TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE pack (number INTEGER PRIMARY KEY, id BLOB NOT NULL, index_file TEXT NOT NULL);
    CREATE TABLE blob (
        id BLOB NOT NULL, tree INTEGER NOT NULL, pack INTEGER NOT NULL,
        "offset" INTEGER NOT NULL, length INTEGER NOT NULL, raw_length INTEGER NOT NULL,
        PRIMARY KEY (id, tree, pack)
    ) WITHOUT ROWID;
"""
_FIND = """
    SELECT pack.id, blob."offset", blob.length, blob.raw_length
      FROM blob JOIN pack ON pack.number = blob.pack
     WHERE blob.id = ? AND blob.tree = ?
"""
_CACHE_KIB = 64 * 1024
_WAIT_SECONDS = 60.0
_NO_FAULT_OF_ITS = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}


class CachedIndex(Index):
    """What the cache says, and in memory what was added since. Safe to share between threads."""

    def __init__(
        self, connection: sqlite3.Connection, without: Collection[bytes], instead: Callable[[], Index]
    ) -> None:
        """Take the open cache, packs to leave out, and what gives the index if the cache turns out to be damaged."""
        super().__init__()
        self._connection = connection
        self._without = without
        self._instead = instead
        self._loaded: Index | None = None
        self._guard = threading.Lock()

    def __len__(self) -> int:
        with self._guard:
            (count,) = self._connection.execute("SELECT COUNT(*) FROM (SELECT DISTINCT id, tree FROM blob)").fetchone()
        return int(count) + super().__len__()

    def has(self, kind: BlobKind, blob_id: bytes) -> bool:
        """Whether a blob is stored."""
        return super().has(kind, blob_id) or self._find_cached(kind, blob_id) is not None

    def find(self, kind: BlobKind, blob_id: bytes) -> Location | None:
        """Return where a blob lies, or None."""
        return super().find(kind, blob_id) or self._find_cached(kind, blob_id)

    def close(self) -> None:
        """Let go of the cache's file."""
        with self._guard:
            self._connection.close()

    def _find_cached(self, kind: BlobKind, blob_id: bytes) -> Location | None:
        with self._guard:
            if self._loaded is not None:
                return self._loaded.find(kind, blob_id)
            try:
                rows = self._connection.execute(_FIND, (blob_id, kind is BlobKind.TREE)).fetchall()
            except sqlite3.ProgrammingError:
                raise  # it was closed
            except sqlite3.DatabaseError:
                self._loaded = self._instead()
                return self._loaded.find(kind, blob_id)
        for pack, offset, length, raw_length in rows:
            if pack not in self._without:
                return Location(pack, PackedBlob(kind, blob_id, offset, length, raw_length))
        return None


def open_cached_index(
    storage: Storage, box: Box, *, repository_id: str, directory: Path, without: Collection[bytes] = ()
) -> Index:
    """Return the index of a repository through its cache in `directory`, brought up to date first.

    While another process fills the cache for longer than a minute, or if there is no room for it, this one does
    without.

    Raises:
        FileBrokenError: an index file on storage is damaged.
    """
    path = directory / f"{repository_id}.sqlite"

    def loaded() -> Index:
        return load_index(storage, box, without=without)

    def loaded_for_good() -> Index:
        _throw_away(path)
        return loaded()

    for _ in range(2):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return CachedIndex(_up_to_date(path, storage, box), without, loaded_for_good)
        except OSError:
            break
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in _NO_FAULT_OF_ITS:
                break
            # Damaged, or not a cache at all: whatever it is, it holds nothing that storage does not.
            _throw_away(path)
    return loaded()


def _throw_away(path: Path) -> None:
    for leftover in (path, *path.parent.glob(f"{path.name}-*")):
        with contextlib.suppress(OSError):
            leftover.unlink(missing_ok=True)


def _up_to_date(path: Path, storage: Storage, box: Box) -> sqlite3.Connection:
    path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        with _transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != _VERSION:
                _make_anew(connection)
            _follow(connection, storage, box)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_anew(connection: sqlite3.Connection) -> None:
    for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
        connection.execute(f'DROP TABLE "{table}"')
    for statement in filter(str.strip, _SCHEMA.split(";")):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _follow(connection: sqlite3.Connection, storage: Storage, box: Box) -> None:
    """Take in what is new on storage, and out what is gone."""
    present = set(index_files(storage))
    cached = {name for (name,) in connection.execute("SELECT name FROM index_file")}
    gone = cached - present
    if gone:
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS gone (name TEXT PRIMARY KEY)")
        connection.execute("DELETE FROM gone")
        connection.executemany("INSERT INTO gone VALUES (?)", ((name,) for name in gone))
        connection.execute(
            "DELETE FROM blob WHERE pack IN (SELECT number FROM pack WHERE index_file IN (SELECT name FROM gone))"
        )
        connection.execute("DELETE FROM pack WHERE index_file IN (SELECT name FROM gone)")
        connection.execute("DELETE FROM index_file WHERE name IN (SELECT name FROM gone)")
    for name in sorted(present - cached):
        try:
            packs = list(read_index(storage, box, name))
        except NotStoredError:
            continue
        connection.execute("INSERT INTO index_file VALUES (?)", (name,))
        rows: list[tuple[bytes, bool, int | None, int, int, int]] = []
        for pack_id, blobs in packs:
            number = connection.execute("INSERT INTO pack (id, index_file) VALUES (?, ?)", (pack_id, name)).lastrowid
            rows += _rows(number, blobs)
        # In the order of the key: neighbours fall on the same pages.
        rows.sort()
        connection.executemany("INSERT OR IGNORE INTO blob VALUES (?, ?, ?, ?, ?, ?)", rows)


def _rows(number: int | None, blobs: Iterable[PackedBlob]) -> list[tuple[bytes, bool, int | None, int, int, int]]:
    return [(blob.id, blob.kind is BlobKind.TREE, number, blob.offset, blob.length, blob.raw_length) for blob in blobs]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
