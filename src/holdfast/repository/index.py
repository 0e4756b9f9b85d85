"""The index: which pack holds which blob, in memory and as files."""

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from holdfast.repository.cipher import Box
from holdfast.repository.pack import ID_BYTES, BlobKind, PackedBlob
from holdfast.repository.storage import NotStoredError, Storage
from holdfast.repository.unpacked import FileBrokenError, get_json, put_document

_PLACE = struct.Struct("<IIII")
BLOBS_PER_FILE = 50_000


class Location(NamedTuple):
    """Where to read a blob."""

    pack: bytes
    blob: PackedBlob


_KINDS = {kind.value: kind for kind in BlobKind}


class Index:
    """The blobs of a repository. One place per blob: the first that was added."""

    def __init__(self) -> None:
        self._packs: list[bytes] = []
        self._places: dict[BlobKind, dict[bytes, bytes]] = {BlobKind.DATA: {}, BlobKind.TREE: {}}

    def __len__(self) -> int:
        return sum(len(places) for places in self._places.values())

    def close(self) -> None:
        """Let go of what the index holds open; this one, all in memory, holds nothing."""

    def has(self, kind: BlobKind, blob_id: bytes) -> bool:
        """Whether a blob is stored."""
        return blob_id in self._places[kind]

    def find(self, kind: BlobKind, blob_id: bytes) -> Location | None:
        """Return where a blob lies, or None."""
        place = self._places[kind].get(blob_id)
        if place is None:
            return None
        pack, offset, length, raw_length = _PLACE.unpack(place)
        return Location(self._packs[pack], PackedBlob(kind, blob_id, offset, length, raw_length))

    def plain_length(self, blob_id: bytes) -> int | None:
        """Return how many bytes of content a data blob has, or None if there is no such blob."""
        found = self.find(BlobKind.DATA, blob_id)
        return None if found is None else found.blob.plain_length

    def add(self, pack_id: bytes, blobs: Iterable[PackedBlob]) -> None:
        """Take over what a pack holds."""
        number = len(self._packs)
        self._packs.append(pack_id)
        for kind, blob_id, offset, length, raw_length in blobs:
            self._places[kind].setdefault(blob_id, _PLACE.pack(number, offset, length, raw_length))

    def add_encoded(self, pack_id: bytes, blobs: Iterable[dict[str, Any]]) -> None:
        """Take over what a pack holds, as an index file names it.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, struct.error: an index file names nothing so.
        """
        number = len(self._packs)
        self._packs.append(pack_id)
        for blob in blobs:
            place = _PLACE.pack(number, blob["offset"], blob["length"], blob.get("uncompressed_length", 0))
            self._places[_KINDS[blob["type"]]].setdefault(_id(blob["id"]), place)


def encode_index(packs: Iterable[tuple[bytes, Sequence[PackedBlob]]]) -> bytes:
    """Return the JSON of an index file."""
    return orjson.dumps(
        {
            "packs": [
                {
                    "id": pack_id.hex(),
                    "blobs": [
                        {
                            "id": blob.id.hex(),
                            "type": blob.kind.value,
                            "offset": blob.offset,
                            "length": blob.length,
                            **({"uncompressed_length": blob.raw_length} if blob.raw_length else {}),
                        }
                        for blob in blobs
                    ],
                }
                for pack_id, blobs in packs
            ]
        }
    )


def put_index(storage: Storage, box: Box, packs: Sequence[tuple[bytes, Sequence[PackedBlob]]]) -> list[str]:
    """Store index files that name these packs, which must be durable already; return the files' ids."""
    names: list[str] = []
    batch: list[tuple[bytes, Sequence[PackedBlob]]] = []
    count = 0
    for pack in packs:
        batch.append(pack)
        count += len(pack[1])
        if count >= BLOBS_PER_FILE:
            names.append(put_document(storage, box, "index", encode_index(batch)))
            batch, count = [], 0
    if batch:
        names.append(put_document(storage, box, "index", encode_index(batch)))
    return names


def read_index(storage: Storage, box: Box, name: str) -> Iterator[tuple[bytes, list[PackedBlob]]]:
    """Yield the packs that one index file names, with what they hold.

    Raises:
        FileBrokenError: the file is damaged, or not an index.
        NotStoredError: there is none.
    """
    with _broken_unless_index(name):
        for pack_id, encoded in _encoded_packs(storage, box, name):
            blobs = [
                PackedBlob(
                    _KINDS[blob["type"]],
                    _id(blob["id"]),
                    blob["offset"],
                    blob["length"],
                    blob.get("uncompressed_length", 0),
                )
                for blob in encoded
            ]
            for _, _, offset, length, raw_length in blobs:
                _PLACE.pack(0, offset, length, raw_length)
            yield pack_id, blobs


def _encoded_packs(storage: Storage, box: Box, name: str) -> Iterator[tuple[bytes, list[dict[str, Any]]]]:
    value: Any = get_json(storage, box, "index", name)
    for pack in value["packs"] or ():
        yield _id(pack["id"]), pack["blobs"] or []


@contextmanager
def _broken_unless_index(name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, struct.error) as error:
        raise FileBrokenError(f"the index file {name} is not an index: {error}") from error


def load_index(storage: Storage, box: Box, *, without: Collection[bytes] = ()) -> Index:
    """Return the index that all index files on storage give together, leaving out some packs.

    Raises:
        FileBrokenError: an index file is damaged.
    """
    index = Index()
    for name in index_files(storage):
        try:
            with _broken_unless_index(name):
                for pack_id, blobs in _encoded_packs(storage, box, name):
                    if pack_id not in without:
                        index.add_encoded(pack_id, blobs)
        except NotStoredError:
            continue  # replaced by another since it was listed, which the caller's lock rules out for what matters
    return index


def index_files(storage: Storage) -> list[str]:
    """Return the ids of the index files on storage, in order."""
    return sorted(stored.name.removeprefix("index/") for stored in storage.list("index/"))


def _id(text: str) -> bytes:
    out = bytes.fromhex(text)
    if len(out) != ID_BYTES:
        raise ValueError(f"{text!r} is not an id")
    return out
