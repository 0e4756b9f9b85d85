"""One repository: create, open, write a snapshot, list, restore, forget.

The order in which things reach storage is what keeps it whole: packs, then the index files that name them, then the
snapshot that names their trees. A reader goes the other way: snapshots first, then the index.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Self

from holdfast.core.clock import MachineTime, SystemMachineTime
from holdfast.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from holdfast.repository import key_file
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.canary import AppendOnlyProof, prove_append_only
from holdfast.repository.check import CheckReport, Depth, check
from holdfast.repository.chunk import ChunkClass, seed_of
from holdfast.repository.cipher import Box, BoxKey
from holdfast.repository.config import Config, get_config, put_config
from holdfast.repository.diff import Difference, diff_trees
from holdfast.repository.doomed import doomed_packs
from holdfast.repository.entry import Entry, Kind, Problem, path_text
from holdfast.repository.files_needed import files_needed
from holdfast.repository.index import Index, load_index
from holdfast.repository.index_cache import open_cached_index
from holdfast.repository.key_file import (
    COST_FOR_HUMAN_PASSWORD,
    COST_FOR_RANDOM_PASSWORD,
    KeyFile,
    ScryptCost,
)
from holdfast.repository.lock import (
    Lock,
    LockFile,
    list_locks,
    remove_all_locks,
    remove_locks_of,
    remove_stale_locks,
    take_lock,
)
from holdfast.repository.pack import BlobKind
from holdfast.repository.parent import ParentTree
from holdfast.repository.pattern import Choice
from holdfast.repository.references import references_of
from holdfast.repository.repair import Repaired, repair_index
from holdfast.repository.restore import Existing, Restore, Restored, RestoreProgress, open_target
from holdfast.repository.snapshot import Snapshot, get_snapshot, list_snapshots, resolve_snapshot_id
from holdfast.repository.storage import (
    AlreadyStoredError,
    NotStoredError,
    Storage,
    StorageDeniedError,
    StorageFullError,
)
from holdfast.repository.sweep import SweepPlan, SweepRules, Swept, carry_out, mark, plan_sweep
from holdfast.repository.tree import Node
from holdfast.repository.unpacked import FileBrokenError
from holdfast.repository.writer import Limits, Progress, SnapshotWriter, Written

DEFAULT_LIMITS = Limits()
DEFAULT_RULES = SweepRules()


class RepositoryExistsError(AlreadyExistsError):
    """There is a repository already where a new one was to be made."""


class PathNotFoundError(NotFoundError):
    """The snapshot holds nothing at that path."""


class NotAFileError(InvalidInputError):
    """A file was asked for, and something else is there."""


class Repository:
    """An open repository. Each call that reads or writes takes its own lock and its own view of the index."""

    def __init__(
        self,
        storage: Storage,
        key: BoxKey,
        config: Config,
        *,
        host_id: str,
        machine: MachineTime | None = None,
        settle: timedelta = timedelta(),
        lock_wait: timedelta = timedelta(),
        cache: Path | None = None,
    ) -> None:
        """Take an open master key; `create` and `open` are the usual ways in.

        `host_id` stands in locks for where this process runs; processes that cannot see each other's process numbers
        need different ones. `settle` is how long storage may take to list a new file, `lock_wait` how long to wait
        for others' locks. `cache` is a directory for index caches, which make opening a large repository quick.
        """
        self.storage = storage
        self.config = config
        self.box = Box(key)
        self.host_id = host_id
        self.machine = SystemMachineTime() if machine is None else machine
        self._settle = settle
        self._lock_wait = lock_wait
        self._cache = cache
        self._seed = seed_of(key)

    @classmethod
    def create(
        cls,
        storage: Storage,
        password: str,
        *,
        host_id: str,
        at: datetime,
        cost: ScryptCost = COST_FOR_RANDOM_PASSWORD,
        username: str = "holdfast",
        machine: MachineTime | None = None,
    ) -> Self:
        """Make a new repository and return it open. The default cost is for a random password only.

        Raises:
            RepositoryExistsError: there is one already.
        """
        if next(iter(storage.list("keys/")), None) is not None or _exists(storage, "config"):
            raise RepositoryExistsError("there is a repository here already")
        key, config = BoxKey.generate(), Config.generate()
        key_file.put_key_file(storage, key, password, cost=cost, username=username, hostname=host_id, at=at)
        try:
            # The config comes last: a repository without one is none, whatever a crash left.
            put_config(storage, Box(key), config)
        except AlreadyStoredError as error:
            raise RepositoryExistsError("there is a repository here already") from error
        return cls(storage, key, config, host_id=host_id, machine=machine)

    @classmethod
    def open(
        cls,
        storage: Storage,
        password: str,
        *,
        host_id: str,
        machine: MachineTime | None = None,
        settle: timedelta = timedelta(),
        lock_wait: timedelta = timedelta(),
        cache: Path | None = None,
    ) -> Self:
        """Open a repository by its password.

        Raises:
            NoRepositoryError: there is none.
            WrongPasswordError: the password opens no key file.
            DamagedError: the config is damaged.
        """
        key, _ = key_file.open_master_key(storage, password)
        try:
            config = get_config(storage, Box(key))
        except NotStoredError as error:
            raise key_file.NoRepositoryError("there is no repository here: it has keys but no config") from error
        return cls(
            storage,
            key,
            config,
            host_id=host_id,
            machine=machine,
            settle=settle,
            lock_wait=lock_wait,
            cache=cache,
        )

    @property
    def id(self) -> str:
        """The repository's own id."""
        return self.config.id

    # Writing

    def begin(
        self,
        *,
        hostname: str = "",
        chunk_class: ChunkClass = ChunkClass.FILE,
        limits: Limits = DEFAULT_LIMITS,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> SnapshotWriter:
        """Begin a snapshot: take a lock and load the index. The writer is a context manager that aborts.

        Raises:
            RepositoryLockedError: somebody holds the repository exclusively.
        """
        lock = self._lock(exclusive=False)
        try:
            return SnapshotWriter(
                storage=self.storage,
                box=self.box,
                lock=lock,
                # What a sweep is about to delete is not there for a new writer.
                index=self.load_index(without=doomed_packs(self.storage, self.box)),
                seed=self._seed,
                chunk_class=chunk_class,
                hostname=hostname,
                machine=self.machine,
                limits=limits,
                progress=progress,
                cancelled=cancelled,
            )
        except BaseException:
            lock.release()
            raise

    def write(
        self,
        entries: Iterable[Entry | Problem],
        *,
        at: datetime,
        tags: Sequence[str] = (),
        hostname: str = "",
        paths: Sequence[str] = (),
        parent: str | None = None,
        chunk_class: ChunkClass = ChunkClass.FILE,
        limits: Limits = DEFAULT_LIMITS,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        before_snapshot: Callable[[], None] | None = None,
    ) -> Written:
        """Write a snapshot of a stream that is complete when it ends. For others, use `begin` and `commit`.

        Raises:
            RepositoryLockedError: somebody holds the repository exclusively.
            CancelledError: `cancelled` said so.
            HoldfastError: something could not be stored; no snapshot was written.
        """
        with self.begin(
            hostname=hostname, chunk_class=chunk_class, limits=limits, progress=progress, cancelled=cancelled
        ) as writer:
            for entry in entries:
                writer.add(entry)
            writer.finish_tree()
            return writer.commit(at=at, tags=tags, paths=paths, parent=parent, before_snapshot=before_snapshot)

    def parent(self, snapshot_id: str, index: Index | None = None) -> ParentTree:
        """Return the tree of a snapshot to compare a source with; a writer's `index` saves loading another.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
        """
        snapshot = self.snapshot(snapshot_id)
        return ParentTree(self.reader(index), snapshot.tree)

    # Reading

    def snapshots(self, *, damaged: Callable[[FileBrokenError], None] | None = None) -> list[Snapshot]:
        """Return all snapshots, the oldest first; damaged ones go to `damaged` if it is given.

        Raises:
            FileBrokenError: a snapshot's file is damaged, and `damaged` is not given.
        """
        return list_snapshots(self.storage, self.box, damaged=damaged)

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """Return one snapshot by its full id.

        Raises:
            SnapshotNotFoundError: there is none.
            FileBrokenError: its file is damaged.
        """
        return get_snapshot(self.storage, self.box, snapshot_id)

    def resolve(self, prefix: str) -> str:
        """Return the full id of the one snapshot whose id begins with `prefix`; see `resolve_snapshot_id`."""
        return resolve_snapshot_id(self.storage, prefix)

    def entries(self, snapshot_id: str, *, include: Sequence[str] = ()) -> Iterator[tuple[tuple[bytes, ...], Node]]:
        """Yield path and node of everything in a snapshot that the patterns choose, in the order of a stream.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            DamagedError: a tree is damaged or missing.
        """
        choice = Choice.parse(*include)
        snapshot = self.snapshot(snapshot_id)
        with self.reading() as reader:
            waiting: list[Iterator[tuple[tuple[bytes, ...], Node]]] = [_level((), reader.tree(snapshot.tree))]
            while waiting:
                item = next(waiting[-1], None)
                if item is None:
                    waiting.pop()
                    continue
                path, node = item
                if choice.takes(path):
                    yield path, node
                if node.subtree is not None and choice.may_take_below(path):
                    waiting.append(_level(path, reader.tree(node.subtree)))

    def restore(
        self,
        snapshot_id: str,
        target: Path | int,
        *,
        include: Sequence[str] = (),
        existing: Existing = Existing.REFUSE,
        verify: bool = False,
        owners: bool | None = None,
        threads: int = 2,
        progress: Callable[[RestoreProgress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Restored:
        """Restore a snapshot, or what the patterns choose of it, below a directory given by path or descriptor.

        Owners are restored by default only if this process may change owners (root).

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            TargetNotEmptyError: the target holds something, and `existing` is to refuse that.
            TargetFailedError: the target cannot be written.
            CancelledError: `cancelled` said so.
        """
        choice = Choice.parse(*include)
        snapshot = self.snapshot(snapshot_id)
        with self.reading() as reader:
            descriptor = open_target(target, existing)
            try:
                return Restore(
                    reader,
                    descriptor,
                    choice=choice,
                    existing=existing,
                    verify=verify,
                    owners=os.geteuid() == 0 if owners is None else owners,
                    threads=threads,
                    progress=progress,
                    cancelled=cancelled,
                ).run(snapshot.tree)
            finally:
                os.close(descriptor)

    def dump(self, snapshot_id: str, path: tuple[bytes, ...], out: BinaryIO) -> int:
        """Write the content of one file of a snapshot to a stream; return how many bytes it has.

        Raises:
            PathNotFoundError: nothing is at `path`.
            NotAFileError: it is no file.
            DamagedError: a blob is damaged or missing; what was written until then is right.
        """
        snapshot = self.snapshot(snapshot_id)
        with self.reading() as reader:
            node = ParentTree(reader, snapshot.tree).find(path)
            if node is None:
                raise PathNotFoundError(f"the snapshot holds nothing at {path_text(path)}")
            if node.kind is not Kind.FILE:
                raise NotAFileError(f"{path_text(path)} is of the kind {node.kind.value}, not a file")
            size = 0
            for blob in node.content or ():
                content = reader.read(BlobKind.DATA, blob)
                out.write(content)
                size += len(content)
            return size

    def reader(self, index: Index | None = None) -> BlobReader:
        """Return a reader of blobs over the given index, or over the present one."""
        return BlobReader(self.storage, self.box, self.load_index() if index is None else index)

    def load_index(self, *, without: Collection[bytes] = ()) -> Index:
        """Return the present index, leaving out some packs.

        Raises:
            FileBrokenError: an index file is damaged.
        """
        if self._cache is None:
            return load_index(self.storage, self.box, without=without)
        return open_cached_index(
            self.storage, self.box, repository_id=self.config.id, directory=self._cache, without=without
        )

    def diff(self, before: str, after: str) -> Iterator[Difference]:
        """Yield what differs between two snapshots.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            DamagedError: a tree is damaged or missing.
        """
        old, new = self.snapshot(before), self.snapshot(after)
        with self.reading() as reader:
            yield from diff_trees(reader, old.tree, new.tree)

    def copy_from(
        self,
        source: "Repository",
        snapshot_id: str,
        *,
        tags: Sequence[str] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        before_snapshot: Callable[[], None] | None = None,
    ) -> Written:
        """Copy a snapshot of another repository into this one, sending only what is missing here.

        The copy keeps time, host and paths, and names the snapshot it was first. Without `tags` it keeps those, too.

        Raises:
            SnapshotNotFoundError: the source has no such snapshot.
            DamagedError: something of the source is damaged or missing; no snapshot was written.
            HoldfastError: something could not be stored.
        """
        snapshot = source.snapshot(snapshot_id)
        with (
            source.reading() as reader,
            self.begin(hostname=snapshot.hostname, limits=limits, progress=progress, cancelled=cancelled) as writer,
        ):
            writer.copy_tree(reader, snapshot.tree)
            return writer.commit(
                at=snapshot.at,
                tags=snapshot.tags if tags is None else tags,
                paths=snapshot.paths,
                username=snapshot.username,
                original=snapshot.original or snapshot.id,
                before_snapshot=before_snapshot,
            )

    def read_back(self, snapshot_id: str) -> int:
        """Read and verify everything that a snapshot needs; return how many bytes of data it is.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            DamagedError: something is damaged or missing.
        """
        snapshot = self.snapshot(snapshot_id)
        with self.reading() as reader:
            needed = references_of(reader, [snapshot.tree], validate=True)
            return sum(len(content) for _, content in reader.read_many(BlobKind.DATA, needed.data))

    # Passwords

    def add_password(
        self, password: str, *, at: datetime, cost: ScryptCost = COST_FOR_HUMAN_PASSWORD, username: str = "holdfast"
    ) -> str:
        """Let another password open the repository, too; return its key file's id."""
        return key_file.put_key_file(
            self.storage, self.box.key, password, cost=cost, username=username, hostname=self.host_id, at=at
        )

    def key_files(self) -> list[KeyFile]:
        """Return what the key files say of themselves."""
        return key_file.list_key_files(self.storage)

    def remove_key_file(self, key_id: str) -> None:
        """Take a password away. Whoever had it may have kept the master key: only a new repository shuts them out.

        Raises:
            KeyFileNotFoundError: there is no such key file.
            LastKeyFileError: no other would be left.
        """
        key_file.delete_key_file(self.storage, key_id)

    # Keeping

    def forget(self, snapshot_ids: Iterable[str]) -> None:
        """Remove snapshots. Their blobs stay until a sweep; forgetting one twice is harmless."""
        # A shared lock: what a running reader or writer uses stays where it is.
        with self.locked(exclusive=False):
            for snapshot_id in snapshot_ids:
                self.storage.delete(f"snapshots/{snapshot_id}")

    def check(
        self,
        depth: Depth = Depth.STRUCTURE,
        *,
        only_packs: Callable[[bytes], bool] | None = None,
        threads: int = 2,
        cancelled: Callable[[], bool] | None = None,
    ) -> CheckReport:
        """Check the repository; what is wrong is in the report. See `check.check`."""
        with self.locked_for_reading():
            return check(
                self.storage, self.box, depth=depth, only_packs=only_packs, threads=threads, cancelled=cancelled
            )

    def plan_sweep(self, rules: SweepRules = DEFAULT_RULES) -> SweepPlan:
        """Return what a sweep would do now; nothing is changed.

        Raises:
            SweepRefusedError: the repository is damaged.
        """
        with self.locked_for_reading():
            return plan_sweep(self.storage, self.box, rules=rules)

    def mark_sweep(self, plan: SweepPlan, *, at: datetime, limits: WriteLimits = DEFAULT_LIMITS.write) -> None:
        """Begin a planned sweep beside running writers: rewrite what is worth it, put on record what will go.

        Raises:
            SweepRefusedError: the repository is damaged; nothing was deleted.
        """
        with self.locked(exclusive=False) as lock:
            mark(self.storage, self.box, plan, lock, at=at, machine=self.machine, limits=limits)

    def carry_out_sweep(
        self,
        rules: SweepRules = DEFAULT_RULES,
        *,
        before_delete: Callable[[Sequence[bytes]], None] | None = None,
    ) -> Swept:
        """Delete what is on record and still needed by nothing, once all writers that began before have ended.

        Raises:
            RepositoryLockedError: others are at work, longer than `lock_wait`; try again later.
            SweepRefusedError: the repository is damaged.
        """
        return carry_out(
            self.storage, self.box, lambda: self._lock(exclusive=True), rules=rules, before_delete=before_delete
        )

    def repair_index(self) -> Repaired:
        """Make the index anew from what index files and packs say; see `repair.repair_index`.

        Raises:
            RepositoryLockedError: others are at work.
        """
        with self.locked(exclusive=True) as lock:
            return repair_index(self.storage, self.box, lock)

    def prove_append_only(self, storage: Storage | None = None) -> AppendOnlyProof:
        """Try what the credential of `storage` (or of this repository) may do; see `canary.prove_append_only`."""
        return prove_append_only(self.storage if storage is None else storage, self.box)

    def files_needed(self, tree: bytes, index: Index | None = None) -> list[str]:
        """Return every file that a snapshot of this tree needs, to be retained before the snapshot is committed.

        Raises:
            DamagedError: a tree is damaged or missing.
        """
        return list(files_needed(self.storage, self.reader(index), tree))

    def locks(self) -> list[LockFile]:
        """Return the locks that are held now."""
        return list_locks(self.storage, self.box, self.machine)

    def unlock(self) -> list[LockFile]:
        """Remove locks whose holders are gone; return them."""
        return remove_stale_locks(self.storage, self.box, host_id=self.host_id, machine=self.machine)

    def remove_locks_of(self, process: int, *, before: datetime) -> list[LockFile]:
        """Remove the locks that a process of this host, known to be gone, took before then; return them."""
        return remove_locks_of(
            self.storage, self.box, process, host_id=self.host_id, before=before, machine=self.machine
        )

    def remove_all_locks(self) -> list[str]:
        """Remove every lock file, damaged ones too, whoever holds it; return their ids. Whoever is at work fails."""
        return remove_all_locks(self.storage)

    def _lock(self, *, exclusive: bool) -> Lock:
        return take_lock(
            self.storage,
            self.box,
            exclusive=exclusive,
            host_id=self.host_id,
            machine=self.machine,
            settle=self._settle,
            wait=self._lock_wait,
        )

    @contextmanager
    def reading(self) -> Iterator[BlobReader]:
        """Give a reader of blobs over the present index, under the lock of a reader."""
        with self.locked_for_reading():
            reader = self.reader()
            try:
                yield reader
            finally:
                reader.index.close()

    @contextmanager
    def locked_for_reading(self) -> Iterator[None]:
        """Hold a shared lock, or none if storage is full or only to be read: what lies there can be had all the same.

        Without one a sweep may take away what is still to be read; that is then named as missing.

        Raises:
            RepositoryLockedError: somebody holds the repository exclusively.
        """
        lock: Lock | None = None
        with suppress(StorageFullError, StorageDeniedError):
            lock = self._lock(exclusive=False)
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    @contextmanager
    def locked(self, *, exclusive: bool) -> Iterator[Lock]:
        """Hold a lock; a shared one keeps what is being read from being swept away."""
        lock = self._lock(exclusive=exclusive)
        try:
            yield lock
        finally:
            lock.release()


def _level(path: tuple[bytes, ...], nodes: list[Node]) -> Iterator[tuple[tuple[bytes, ...], Node]]:
    return (((*path, node.name), node) for node in nodes)


def _exists(storage: Storage, name: str) -> bool:
    try:
        storage.size(name)
    except NotStoredError:
        return False
    return True
