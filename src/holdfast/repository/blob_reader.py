"""Reading blobs: from the index to the pack to bytes that are proved to be what was asked for."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import zstandard

from holdfast.core.errors import DamagedError
from holdfast.repository.cipher import Box, Buffer
from holdfast.repository.index import Index, Location
from holdfast.repository.pack import BlobKind, PackedBlob, open_blob, pack_name
from holdfast.repository.storage import NotStoredError, Storage
from holdfast.repository.tree import Node, decode_each_node, decode_tree

_TREES_KEPT_BYTES = 8 << 20
# Packs of trees are read in runs: who asks for one tree asks for its neighbours next.
_READ_AHEAD_BYTES = 256 << 10


class BlobMissingError(DamagedError):
    """Something refers to a blob that no pack holds."""


_RUN_BYTES = 8 << 20
_GAP_BYTES = 64 << 10
_Item = TypeVar("_Item")


class _Codec(threading.local):
    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


class BlobReader:
    """Reads blobs of one repository. Safe to share between threads."""

    def __init__(self, storage: Storage, box: Box, index: Index) -> None:
        self.storage = storage
        self.box = box
        self.index = index
        self._codec = _Codec()
        self._guard = threading.Lock()
        self._runs: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    def locate(self, kind: BlobKind, blob_id: bytes) -> Location:
        """Return where a blob lies.

        Raises:
            BlobMissingError: no index file names it.
        """
        found = self.index.find(kind, blob_id)
        if found is None:
            raise BlobMissingError(f"{kind.value} blob {blob_id.hex()} is in no pack of the repository")
        return found

    def read(self, kind: BlobKind, blob_id: bytes) -> Buffer:
        """Return a blob's content.

        Raises:
            BlobMissingError: there is no such blob, or its pack is gone.
            BlobBrokenError: it is damaged.
        """
        location = self.locate(kind, blob_id)
        sealed = self._sealed(location)
        return self.open(location.blob, sealed)

    def open(self, blob: PackedBlob, sealed: Buffer) -> Buffer:
        """Return the content of a blob whose sealed bytes are given.

        Raises:
            BlobBrokenError: it is damaged.
        """
        return open_blob(self.box, self._codec.decompressor, blob, sealed)

    def read_many(self, kind: BlobKind, blob_ids: Iterable[bytes]) -> Iterator[tuple[bytes, Buffer]]:
        """Yield the content of many blobs, in the order in which they lie in packs, neighbours read at once.

        Raises:
            DamagedError: one is damaged or missing.
        """
        places = sorted((self.locate(kind, blob_id) for blob_id in set(blob_ids)), key=_by_place)
        for run in neighbours(places, lambda place: place):
            first, last = run[0], run[-1]
            start = first.blob.offset
            data = memoryview(self.range(first.pack, start, last.blob.offset + last.blob.length - start))
            for place in run:
                at = place.blob.offset - start
                yield place.blob.id, self.open(place.blob, data[at : at + place.blob.length])

    def tree(self, tree_id: bytes) -> list[Node]:
        """Return the nodes of a tree.

        Raises:
            BlobMissingError: there is no such tree.
            DamagedError: it is damaged or no tree.
        """
        return decode_tree(bytes(self.read(BlobKind.TREE, tree_id)))

    def each_node(self, tree_id: bytes) -> list[Node | DamagedError]:
        """Return the nodes of a tree; one that cannot be read does not stand in the way of the others.

        Raises:
            BlobMissingError: there is no such tree.
            DamagedError: it is damaged or no tree.
        """
        return decode_each_node(bytes(self.read(BlobKind.TREE, tree_id)))

    def range(self, pack_id: bytes, offset: int, length: int) -> bytes:
        """Return a run of a pack's bytes.

        Raises:
            BlobMissingError: there is no such pack, or it ends before.
        """
        try:
            data = self.storage.get_range(pack_name(pack_id), offset, length)
        except NotStoredError as error:
            raise BlobMissingError(f"pack {pack_id.hex()} is gone from storage") from error
        if len(data) != length:
            raise BlobMissingError(f"pack {pack_id.hex()} is cut short: it ends before byte {offset + length}")
        return data

    def _sealed(self, location: Location) -> Buffer:
        pack, blob = location
        if blob.kind is BlobKind.DATA or blob.length >= _READ_AHEAD_BYTES:
            return self.range(pack, blob.offset, blob.length)
        number, first = divmod(blob.offset, _READ_AHEAD_BYTES)
        run = self._run(pack, number)
        sealed = run[first : first + blob.length]
        if len(sealed) < blob.length:
            sealed += self._run(pack, number + 1)[: blob.length - len(sealed)]
        if len(sealed) < blob.length:
            raise BlobMissingError(f"pack {pack.hex()} is cut short: it ends inside of a tree")
        return sealed

    def _run(self, pack: bytes, number: int) -> bytes:
        with self._guard:
            run = self._runs.get((pack, number))
            if run is not None:
                self._runs.move_to_end((pack, number))
                return run
        try:
            run = self.storage.get_range(pack_name(pack), number * _READ_AHEAD_BYTES, _READ_AHEAD_BYTES)
        except NotStoredError as error:
            raise BlobMissingError(f"pack {pack.hex()} is gone from storage") from error
        with self._guard:
            self._runs[pack, number] = run
            while len(self._runs) * _READ_AHEAD_BYTES > _TREES_KEPT_BYTES:
                self._runs.popitem(last=False)
        return run


def _by_place(place: Location) -> tuple[bytes, int]:
    return place.pack, place.blob.offset


def neighbours(items: Iterable[_Item], place_of: Callable[[_Item], Location]) -> Iterator[list[_Item]]:
    """Yield runs of items, which come in the order of their places, that lie close together in one pack."""
    run: list[_Item] = []
    size = 0
    for item in items:
        place = place_of(item)
        if run:
            last = place_of(run[-1])
            gap = place.blob.offset - last.blob.offset - last.blob.length
            if place.pack != last.pack or gap > _GAP_BYTES or size + place.blob.length > _RUN_BYTES:
                yield run
                run, size = [], 0
        run.append(item)
        size += place.blob.length
    if run:
        yield run
