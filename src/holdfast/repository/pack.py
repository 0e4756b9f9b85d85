"""Packs: files that hold many sealed blobs, with a sealed header at the end that says what is where."""

import enum
import hashlib
import re
import struct
from collections.abc import Sequence
from typing import NamedTuple

import zstandard

from holdfast.core.errors import DamagedError
from holdfast.repository.cipher import OVERHEAD, Box, Buffer
from holdfast.repository.storage import Storage

ID_BYTES = 32
_PACK_NAME = re.compile("[0-9a-f]{64}")
_LENGTH = struct.Struct("<I")
_PLAIN = struct.Struct("<BI32s")
_COMPRESSED = struct.Struct("<BII32s")
_TAIL_BYTES = _LENGTH.size
_HEADER_GUESS_BYTES = 64 * 1024
_HEADER_LIMIT_BYTES = 16 * 1024 * 1024


class BlobKind(enum.Enum):
    """What a blob is for; the value is restic's word. A data blob and a tree of one content are two blobs."""

    DATA = "data"
    TREE = "tree"

    __hash__ = object.__hash__  # there is one of each, and Enum's own is slow: this is a key for every blob


_PLAIN_TYPE = {BlobKind.DATA: 0, BlobKind.TREE: 1}
_COMPRESSED_TYPE = {BlobKind.DATA: 2, BlobKind.TREE: 3}
_KIND = {0: BlobKind.DATA, 1: BlobKind.TREE, 2: BlobKind.DATA, 3: BlobKind.TREE}


class PackedBlob(NamedTuple):
    """Where a blob lies in its pack. `raw_length` is its length before compression, 0 if it is not compressed."""

    kind: BlobKind
    id: bytes
    offset: int
    length: int
    raw_length: int

    @property
    def plain_length(self) -> int:
        """The length of the blob's content."""
        return self.raw_length or self.length - OVERHEAD


class PackBrokenError(DamagedError):
    """A pack is not what its name or its header says."""


class BlobBrokenError(DamagedError):
    """A blob's content is not what its id says."""


class FinishedPack(NamedTuple):
    """A pack ready to be stored: its id, its bytes in pieces, and what it holds."""

    id: bytes
    pieces: Sequence[Buffer]
    blobs: Sequence[PackedBlob]
    size: int


class OpenPack:
    """A pack being filled. Not for several threads."""

    def __init__(self) -> None:
        self.size = 0
        self.blobs: list[PackedBlob] = []
        self._pieces: list[Buffer] = []

    def add(self, kind: BlobKind, blob_id: bytes, sealed: Buffer, raw_length: int) -> None:
        """Append a sealed blob."""
        self.blobs.append(PackedBlob(kind, blob_id, self.size, len(sealed), raw_length))
        self._pieces.append(sealed)
        self.size += len(sealed)

    @property
    def pieces(self) -> list[Buffer]:
        """The sealed blobs, in order."""
        return self._pieces

    def append(self, other: "OpenPack") -> None:
        """Append all blobs of another pack."""
        self.blobs += [blob._replace(offset=self.size + blob.offset) for blob in other.blobs]
        self._pieces += other.pieces
        self.size += other.size

    def finish(self, box: Box) -> FinishedPack:
        """Return the pack with its header."""
        header = box.seal(encode_header(self.blobs))
        pieces = [*self._pieces, header, _LENGTH.pack(len(header))]
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
        return FinishedPack(digest.digest(), pieces, self.blobs, self.size + len(header) + _TAIL_BYTES)


def pack_name(pack_id: bytes) -> str:
    """Return where on storage a pack lies."""
    text = pack_id.hex()
    return f"data/{text[:2]}/{text}"


def stored_packs(storage: Storage) -> dict[bytes, int]:
    """Return the size of each pack on storage; what else lies in its folder is none of ours."""
    names = ((stored.name.rpartition("/")[2], stored.size) for stored in storage.list("data/"))
    return {bytes.fromhex(name): size for name, size in names if _PACK_NAME.fullmatch(name)}


def header_bytes(blobs: Sequence[PackedBlob]) -> int:
    """Return how many bytes the header of a pack with these blobs takes, its length field included."""
    entries = sum(_COMPRESSED.size if blob.raw_length else _PLAIN.size for blob in blobs)
    return entries + OVERHEAD + _TAIL_BYTES


def encode_header(blobs: Sequence[PackedBlob]) -> bytes:
    """Return the plaintext of a pack's header."""
    return b"".join(
        _COMPRESSED.pack(_COMPRESSED_TYPE[blob.kind], blob.length, blob.raw_length, blob.id)
        if blob.raw_length
        else _PLAIN.pack(_PLAIN_TYPE[blob.kind], blob.length, blob.id)
        for blob in blobs
    )


def decode_header(header: Buffer) -> list[PackedBlob]:
    """Return the blobs that a header's plaintext names.

    Raises:
        PackBrokenError: it is not a header.
    """
    blobs: list[PackedBlob] = []
    at = offset = 0
    try:
        while at < len(header):
            kind = _KIND[header[at]]
            if header[at] in (0, 1):
                _, length, blob_id = _PLAIN.unpack_from(header, at)
                raw_length, step = 0, _PLAIN.size
            else:
                _, length, raw_length, blob_id = _COMPRESSED.unpack_from(header, at)
                step = _COMPRESSED.size
            blobs.append(PackedBlob(kind, blob_id, offset, length, raw_length))
            at += step
            offset += length
    except (KeyError, struct.error) as error:
        raise PackBrokenError("a pack's header cannot be read") from error
    return blobs


def read_header(storage: Storage, box: Box, pack_id: bytes, size: int) -> list[PackedBlob]:
    """Return the blobs that the header of a stored pack of `size` bytes names.

    Raises:
        PackBrokenError: the header does not open or does not fit the size.
        NotStoredError: there is no such pack.
    """
    name = pack_name(pack_id)
    guess = min(size, _HEADER_GUESS_BYTES)
    tail = storage.get_range(name, size - guess, guess)
    length = _LENGTH.unpack(tail[-_TAIL_BYTES:])[0] if len(tail) == guess and guess >= _TAIL_BYTES else 0
    whole = length + _TAIL_BYTES
    if not OVERHEAD <= length <= min(_HEADER_LIMIT_BYTES, size - _TAIL_BYTES):
        raise PackBrokenError(f"pack {pack_id.hex()} says that its header has {length} bytes, of {size} in all")
    if whole > len(tail):
        tail = storage.get_range(name, size - whole, whole)
    try:
        blobs = decode_header(box.open(tail[len(tail) - whole : len(tail) - _TAIL_BYTES]))
    except DamagedError as error:
        raise PackBrokenError(f"the header of pack {pack_id.hex()} is damaged: {error}") from error
    if sum(blob.length for blob in blobs) + whole != size:
        raise PackBrokenError(f"the header of pack {pack_id.hex()} does not account for its {size} bytes")
    return blobs


def open_blob(box: Box, decompressor: zstandard.ZstdDecompressor, blob: PackedBlob, sealed: Buffer) -> Buffer:
    """Return the content of a sealed blob, proved to be what its id says.

    Raises:
        BlobBrokenError: it is not.
    """
    try:
        content: Buffer = box.open(sealed)
        if blob.raw_length:
            content = decompressor.decompress(content, max_output_size=blob.raw_length)
    except (DamagedError, zstandard.ZstdError) as error:
        raise BlobBrokenError(f"{blob.kind.value} blob {blob.id.hex()} is damaged: {error}") from error
    if hashlib.sha256(content).digest() != blob.id:
        raise BlobBrokenError(f"{blob.kind.value} blob {blob.id.hex()} is damaged: its content has another hash")
    return content
