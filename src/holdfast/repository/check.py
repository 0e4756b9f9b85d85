"""Checking a repository, in three depths: its structure, every pack's header, every byte."""

import enum
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import zstandard

from holdfast.core.errors import DamagedError, NotFoundError
from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.cipher import Box
from holdfast.repository.config import get_config
from holdfast.repository.doomed import list_marks
from holdfast.repository.index import Index, index_files, read_index
from holdfast.repository.pack import (
    BlobKind,
    PackedBlob,
    header_bytes,
    open_blob,
    pack_name,
    read_header,
)
from holdfast.repository.references import references_of
from holdfast.repository.snapshot import get_snapshot, snapshot_ids
from holdfast.repository.storage import Storage
from holdfast.repository.writer import CancelledError


class Depth(enum.IntEnum):
    """How deep a check looks."""

    STRUCTURE = 1  # snapshots, trees, index; each pack is there and as long as the index says
    HEADERS = 2  # and each pack's header says what the index says
    BYTES = 3  # and every file has the hash in its name, every blob its own


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found. A hint is untidy but harmless; a problem is damage."""

    depth: Depth
    snapshots: int
    packs: int
    blobs: int
    bytes_read: int
    problems: tuple[str, ...]
    hints: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether everything that snapshots refer to is there, as far as the check looked."""
        return not self.problems


@dataclass(slots=True)
class _Found:
    problems: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    bytes_read: int = 0


def check(
    storage: Storage,
    box: Box,
    *,
    depth: Depth,
    only_packs: Callable[[bytes], bool] | None = None,
    threads: int = 2,
    cancelled: Callable[[], bool] | None = None,
) -> CheckReport:
    """Check a repository; the caller holds a lock. `only_packs` chooses which packs are read, for a check in parts.

    Raises:
        CancelledError: `cancelled` said so.
    """

    def look_around() -> None:
        if cancelled is not None and cancelled():
            raise CancelledError("the check was cancelled")

    found = _Found()
    _check_small_files(storage, box, found, depth)
    # Snapshots before the index, as every reader: what a snapshot names was in the index when it was written.
    roots: dict[bytes, str] = {}
    names = snapshot_ids(storage)
    for name in names:
        try:
            roots.setdefault(get_snapshot(storage, box, name).tree, name)
        except NotFoundError:
            continue
        except DamagedError as error:
            found.problems.append(str(error))
    index, packs = _read_index(storage, box, found)
    _check_references(BlobReader(storage, box, index), index, roots, found, look_around)
    stored = {stored.name.rpartition("/")[2]: stored.size for stored in storage.list("data/")}
    _check_sizes(packs, stored, found)
    if depth > Depth.STRUCTURE:
        chosen = [
            (pack_id, stored[pack_id.hex()])
            for pack_id in sorted(packs)
            if pack_id.hex() in stored and (only_packs is None or only_packs(pack_id))
        ]

        def one(item: tuple[bytes, int]) -> tuple[list[str], int]:
            look_around()
            pack_id, size = item
            return _check_pack(storage, box, pack_id, size, packs[pack_id], depth)

        with ThreadPoolExecutor(threads, thread_name_prefix="check") as pool:
            for problems, size in pool.map(one, chosen):
                found.problems += problems
                found.bytes_read += size
    return CheckReport(
        depth=depth,
        snapshots=len(names),
        packs=len(packs),
        blobs=len(index),
        bytes_read=found.bytes_read,
        problems=tuple(found.problems),
        hints=tuple(found.hints),
    )


def _check_small_files(storage: Storage, box: Box, found: _Found, depth: Depth) -> None:
    try:
        get_config(storage, box)
    except (DamagedError, NotFoundError) as error:
        found.problems.append(str(error))
    try:
        list_marks(storage, box)
    except DamagedError as error:
        found.problems.append(f"{error}; `repair` removes it")
    if depth < Depth.BYTES:
        return
    for stored in storage.list("keys/"):
        try:
            data = storage.get(stored.name)
        except NotFoundError:
            continue
        if hashlib.sha256(data).hexdigest() != stored.name.removeprefix("keys/"):
            found.problems.append(f"the key file {stored.name} is damaged: its bytes have another hash")


def _read_index(storage: Storage, box: Box, found: _Found) -> tuple[Index, dict[bytes, list[PackedBlob]]]:
    index = Index()
    packs: dict[bytes, list[PackedBlob]] = {}
    for name in index_files(storage):
        try:
            for pack_id, blobs in read_index(storage, box, name):
                if pack_id not in packs:
                    packs[pack_id] = blobs
                    index.add(pack_id, blobs)
                elif sorted(packs[pack_id], key=_place) != sorted(blobs, key=_place):
                    found.problems.append(f"two index files disagree about what pack {pack_id.hex()} holds")
                else:
                    found.hints.append(f"pack {pack_id.hex()} is in two index files")
        except DamagedError as error:
            found.problems.append(f"{error}; `repair` makes a new index from the packs")
    return index, packs


def _place(blob: PackedBlob) -> tuple[int, bytes]:
    return blob.offset, blob.id


def _check_references(
    reader: BlobReader, index: Index, roots: dict[bytes, str], found: _Found, look_around: Callable[[], None]
) -> None:
    def damaged(tree: bytes, error: DamagedError) -> None:
        whose = f"snapshot {roots[tree]}: " if tree in roots else ""
        found.problems.append(f"{whose}{error}")

    used = references_of(reader, roots, damaged=damaged, look_around=look_around, validate=True)
    found.problems += [
        f"data blob {blob.hex()} is needed by a snapshot, and is in no pack of the index"
        for blob in sorted(used.data)
        if not index.has(BlobKind.DATA, blob)
    ]
    unused = len(index) - sum(1 for blob in used.data if index.has(BlobKind.DATA, blob)) - len(used.trees)
    if unused > 0:
        found.hints.append(f"{unused} blobs are needed by no snapshot; a sweep removes them")


def _check_sizes(packs: dict[bytes, list[PackedBlob]], stored: dict[str, int], found: _Found) -> None:
    for pack_id, blobs in sorted(packs.items()):
        expected = sum(blob.length for blob in blobs) + header_bytes(blobs)
        size = stored.get(pack_id.hex())
        if size is None:
            found.problems.append(f"pack {pack_id.hex()} is in the index, and is not on storage")
        elif size != expected:
            found.problems.append(f"pack {pack_id.hex()} has {size} bytes instead of {expected}")
    known = {pack_id.hex() for pack_id in packs}
    found.hints += [
        f"pack {name} is in no index file; a sweep removes it, `repair` takes it into the index"
        for name in sorted(stored)
        if name not in known
    ]


def _check_pack(
    storage: Storage, box: Box, pack_id: bytes, size: int, blobs: Iterable[PackedBlob], depth: Depth
) -> tuple[list[str], int]:
    try:
        header = read_header(storage, box, pack_id, size)
    except (DamagedError, NotFoundError) as error:
        return [str(error)], 0
    if sorted(header, key=_place) != sorted(blobs, key=_place):
        return [f"the header of pack {pack_id.hex()} says something else than the index"], 0
    if depth < Depth.BYTES:
        return [], 0
    try:
        data = storage.get(pack_name(pack_id))
    except NotFoundError as error:
        return [str(error)], 0
    problems = []
    if hashlib.sha256(data).digest() != pack_id:
        problems.append(f"pack {pack_id.hex()} is damaged: its bytes have another hash")
    view = memoryview(data)
    decompressor = zstandard.ZstdDecompressor()
    for blob in header:
        try:
            open_blob(box, decompressor, blob, view[blob.offset : blob.offset + blob.length])
        except DamagedError as error:
            problems.append(f"pack {pack_id.hex()}: {error}")
    return problems, len(data)
