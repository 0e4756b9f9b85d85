"""The sweep: giving back the room of blobs that no snapshot needs, in two phases, without ever trusting a plan.

`plan_sweep` looks and deletes nothing. `mark` copies what is still needed out of packs that are mostly waste, and
puts the packs on record as doomed. `carry_out` deletes them, under the exclusive lock and after computing all
references again from what is on storage then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from holdfast.core.clock import MachineTime
from holdfast.core.errors import DamagedError, InvalidStateError, NotFoundError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.blob_writer import BlobWriter, WriteLimits
from holdfast.repository.cipher import Box
from holdfast.repository.doomed import FOLDER, doomed_packs, list_marks, put_mark
from holdfast.repository.index import index_files, load_index, put_index, read_index
from holdfast.repository.lock import Lock
from holdfast.repository.pack import BlobKind, PackedBlob, pack_name, stored_packs
from holdfast.repository.references import References, references_of
from holdfast.repository.snapshot import get_snapshot, snapshot_ids
from holdfast.repository.storage import Storage

_RANGE_BYTES = 16 << 20


class SweepRefusedError(InvalidStateError):
    """The repository is damaged, so nobody can say what of it is needed; nothing is deleted."""


@dataclass(frozen=True, slots=True)
class SweepRules:
    """When a pack is worth rewriting.

    `max_unused` is the share of waste that may stay, of all needed bytes; packs smaller than `small_bytes` are joined
    once there are `small_packs` of a kind; `batch_packs` is how many packs are deleted under one lock.
    """

    max_unused: float = 0.05
    small_bytes: int = 4 << 20
    small_packs: int = 24
    batch_packs: int = 10_000


@dataclass(frozen=True, slots=True)
class PackUse:
    """One pack: how many bytes of its blobs are needed, and how many are not."""

    pack: bytes
    kind: BlobKind
    needed: int
    unused: int


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What a sweep would do: delete `remove`, copy what is needed of `repack` and delete these too.

    `doomed` are packs that earlier sweeps put on record and that are still there, `stray` are in no index file.
    """

    snapshots: int
    needed_blobs: int
    keep: tuple[PackUse, ...]
    remove: tuple[PackUse, ...]
    repack: tuple[PackUse, ...]
    stray: tuple[bytes, ...]
    doomed: frozenset[bytes]

    @property
    def bytes_freed(self) -> int:
        """How much room it gives back, without strays."""
        return sum(use.unused for use in (*self.remove, *self.repack))

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.remove or self.repack or self.stray or self.doomed)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep deleted. `spared` were doomed, and are needed after all."""

    deleted: tuple[bytes, ...]
    spared: tuple[bytes, ...]


def plan_sweep(storage: Storage, box: Box, *, rules: SweepRules) -> SweepPlan:
    """Return what a sweep would do now; the caller holds a shared lock.

    Raises:
        SweepRefusedError: a snapshot, a tree or a pack that is needed is damaged or missing.
    """
    doomed = doomed_packs(storage, box)
    used, snapshots = _needed(storage, box)
    stored = stored_packs(storage)
    seen: set[bytes] = set()
    counted = References()
    uses: list[PackUse] = []
    # A copy in a pack that stays is better than one in a pack that goes.
    for pack_id, blobs in sorted(_packs(storage, box), key=lambda item: item[0] in doomed):
        if pack_id in seen:
            continue
        seen.add(pack_id)
        if pack_id in doomed:
            continue
        use = _use(pack_id, blobs, used, counted)
        if pack_id not in stored and use.needed:
            raise SweepRefusedError(f"pack {pack_id.hex()} is needed and is not on storage; check the repository first")
        uses.append(use)
    remove = [use for use in uses if not use.needed]
    repack = _worth_rewriting([use for use in uses if use.needed], rules)
    gone = {use.pack for use in (*remove, *repack)}
    stray = sorted(stored.keys() - seen - doomed)
    return SweepPlan(
        snapshots=snapshots,
        needed_blobs=len(used),
        keep=tuple(use for use in uses if use.pack not in gone),
        remove=tuple(remove),
        repack=tuple(repack),
        stray=tuple(stray),
        doomed=doomed,
    )


def mark(
    storage: Storage,
    box: Box,
    plan: SweepPlan,
    lock: Lock,
    *,
    at: datetime,
    machine: MachineTime,
    limits: WriteLimits,
) -> None:
    """Copy what is needed of packs to be rewritten, then put the packs on record; `lock` is a shared one.

    Raises:
        SweepRefusedError: something needed is damaged or missing.
    """
    packs = [use.pack for use in (*plan.remove, *plan.repack)]
    if not packs:
        return
    if plan.repack:
        used, _ = _needed(storage, box)
        leaving = frozenset(packs) | plan.doomed
        # As a writer sees it that must not rely on what is leaving.
        index = load_index(storage, box, without=leaving)
        writer = BlobWriter(storage, box, index, limits=limits, machine=machine, fence=lock.refuse_if_lost)
        try:
            chosen = {use.pack for use in plan.repack}
            for pack_id, blobs in _packs(storage, box):
                if pack_id in chosen:
                    chosen.discard(pack_id)
                    needed = [blob for blob in blobs if used.has(blob.kind, blob.id)]
                    _copy(BlobReader(storage, box, writer.index), writer, pack_id, needed)
            writer.flush()
        except DamagedError as error:
            raise SweepRefusedError(f"a pack to be rewritten is damaged, and nothing was deleted: {error}") from error
        finally:
            writer.end()
    put_mark(storage, box, packs, at=at)


def carry_out(
    storage: Storage,
    box: Box,
    lock: Callable[[], Lock],
    *,
    rules: SweepRules,
    before_delete: Callable[[Sequence[bytes]], None] | None = None,
) -> Swept:
    """Delete the packs on record, batch by batch, each under the exclusive lock that `lock` takes.

    `before_delete` is told which packs go, right before they do.

    Raises:
        SweepRefusedError: the repository is damaged; nothing more is deleted.
        RepositoryLockedError: others are at work; what is on record stays for the next time.
    """
    deleted: list[bytes] = []
    spared: list[bytes] = []
    seen: set[bytes] = set()
    while True:
        held = lock()
        try:
            marks = list_marks(storage, box)
            doomed = sorted(frozenset().union(*(m.packs for m in marks)) - seen)
            batch = frozenset(doomed[: rules.batch_packs])
            seen |= batch
            removed, kept = _delete(storage, box, batch, held, before_delete)
            deleted += removed
            spared += kept
            if len(batch) == len(doomed):
                # The records go last: until then every new writer knows.
                for old in marks:
                    storage.delete(f"{FOLDER}/{old.id}")
                return Swept(tuple(deleted), tuple(spared))
        finally:
            held.release()


def _delete(
    storage: Storage,
    box: Box,
    doomed: frozenset[bytes],
    lock: Lock,
    before_delete: Callable[[Sequence[bytes]], None] | None,
) -> tuple[list[bytes], list[bytes]]:
    """Delete doomed packs and strays, those excepted that something needs; return both."""
    used, _ = _needed(storage, box)
    stored = {stored.name.rpartition("/")[2] for stored in storage.list("data/")}
    elsewhere, only_here = References(), {}
    files: dict[str, list[tuple[bytes, list[PackedBlob]]]] = {}
    named: set[bytes] = set()
    for name in index_files(storage):
        files[name] = _read(storage, box, name)
        for pack_id, blobs in files[name]:
            named.add(pack_id)
            if pack_id in doomed:
                only_here[pack_id] = [(blob.kind, blob.id) for blob in blobs if used.has(blob.kind, blob.id)]
            elif pack_id.hex() in stored:
                for blob in blobs:
                    (elsewhere.trees if blob.kind is BlobKind.TREE else elsewhere.data).add(blob.id)
    spared = sorted(
        pack for pack, needed in only_here.items() if any(not elsewhere.has(kind, blob) for kind, blob in needed)
    )
    gone = doomed - frozenset(spared)
    stray = {bytes.fromhex(name) for name in stored} - named
    going = sorted(pack for pack in gone | stray if pack.hex() in stored)
    if before_delete is not None and going:
        before_delete(going)
    lock.refuse_if_lost()
    # New index files before the old ones go, and those before the packs: at no moment does a name lack its thing.
    outdated = {name for name, packs in files.items() if any(pack in gone for pack, _ in packs)}
    staying = {pack: blobs for name in outdated for pack, blobs in files[name] if pack not in gone}
    # A sweep that died here has written them already: once is enough.
    for name in files.keys() - outdated:
        for pack, blobs in files[name]:
            if staying.get(pack) == blobs:
                del staying[pack]
    written = put_index(storage, box, list(staying.items()))
    for name in outdated:
        if name not in written:
            storage.delete(f"index/{name}")
    for pack in going:
        lock.refuse_if_lost()
        storage.delete(pack_name(pack))
    return going, spared


def _needed(storage: Storage, box: Box) -> tuple[References, int]:
    """Return what all snapshots on storage need, and how many there are. Any doubt is a refusal."""
    try:
        roots = []
        for name in snapshot_ids(storage):
            try:
                roots.append(get_snapshot(storage, box, name).tree)
            except NotFoundError:
                continue  # forgotten since it was listed
        reader = BlobReader(storage, box, load_index(storage, box))
        used = references_of(reader, roots)
    except DamagedError as error:
        raise SweepRefusedError(
            f"nobody can say what is needed, so nothing is deleted: {error}; check the repository first"
        ) from error
    for blob in used.data:
        if not reader.index.has(BlobKind.DATA, blob):
            raise SweepRefusedError(
                f"data blob {blob.hex()} is needed and is in no pack of the index; check the repository first"
            )
    return used, len(roots)


def _packs(storage: Storage, box: Box) -> Iterator[tuple[bytes, list[PackedBlob]]]:
    for name in index_files(storage):
        yield from _read(storage, box, name)


def _read(storage: Storage, box: Box, name: str) -> list[tuple[bytes, list[PackedBlob]]]:
    try:
        return list(read_index(storage, box, name))
    except NotFoundError:
        return []
    except DamagedError as error:
        raise SweepRefusedError(f"{error}; repair the repository first") from error


def _use(pack_id: bytes, blobs: Iterable[PackedBlob], used: References, counted: References) -> PackUse:
    """Return how much of a pack is needed; a second copy of a blob is not."""
    needed = unused = 0
    kind = BlobKind.DATA
    for blob in blobs:
        kind = blob.kind
        ids = counted.trees if blob.kind is BlobKind.TREE else counted.data
        if used.has(blob.kind, blob.id) and blob.id not in ids:
            ids.add(blob.id)
            needed += blob.length
        else:
            unused += blob.length
    return PackUse(pack_id, kind, needed, unused)


def _worth_rewriting(uses: list[PackUse], rules: SweepRules) -> list[PackUse]:
    chosen: dict[bytes, PackUse] = {}
    allowed = rules.max_unused * sum(use.needed for use in uses)
    waste = sum(use.unused for use in uses)
    for use in sorted(uses, key=lambda use: use.unused / (use.needed + use.unused), reverse=True):
        if waste <= allowed or not use.unused:
            break
        chosen[use.pack] = use
        waste -= use.unused
    for kind in BlobKind:
        small = [use for use in uses if use.kind is kind and use.needed + use.unused < rules.small_bytes]
        if len(small) >= rules.small_packs:
            chosen |= {use.pack: use for use in small}
    return [use for use in uses if use.pack in chosen]


def _copy(reader: BlobReader, writer: BlobWriter, pack_id: bytes, blobs: list[PackedBlob]) -> None:
    """Copy sealed blobs of one pack into the writer's packs, each proved right on the way."""
    for run in _runs(sorted(blobs, key=lambda blob: blob.offset)):
        start = run[0].offset
        data = memoryview(reader.range(pack_id, start, run[-1].offset + run[-1].length - start))
        for blob in run:
            sealed = data[blob.offset - start : blob.offset - start + blob.length]
            reader.open(blob, sealed)
            writer.add_sealed(blob, bytes(sealed))


def _runs(blobs: list[PackedBlob]) -> Iterator[list[PackedBlob]]:
    run: list[PackedBlob] = []
    for blob in blobs:
        if run and blob.offset + blob.length - run[0].offset > _RANGE_BYTES:
            yield run
            run = []
        run.append(blob)
    if run:
        yield run
