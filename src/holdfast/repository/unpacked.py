"""Files that are not packs: each a sealed JSON document, compressed, and named by the hash of its bytes."""

import hashlib

import orjson
import zstandard

from holdfast.core.errors import DamagedError
from holdfast.repository.cipher import Box
from holdfast.repository.storage import Storage

_COMPRESSED = 2
_LIMIT_BYTES = 1 << 30


class FileBrokenError(DamagedError):
    """A file of the repository is not what its name says, or not what a file of its kind holds."""


def put_document(storage: Storage, box: Box, folder: str, plaintext: bytes) -> str:
    """Seal a JSON document and store it in a folder; return its id."""
    text = bytes([_COMPRESSED]) + zstandard.ZstdCompressor(level=3).compress(plaintext)
    sealed = box.seal(text)
    # What cannot be opened again must not be relied on, and memory does fail.
    if _plaintext(box, sealed) != plaintext:
        raise FileBrokenError(f"a new file for {folder} does not read back as it was written; is the memory failing?")
    name = hashlib.sha256(sealed).hexdigest()
    storage.put(f"{folder}/{name}", sealed)
    return name


def get_document(storage: Storage, box: Box, folder: str, name: str) -> bytes:
    """Return the plaintext of a stored JSON document.

    Raises:
        FileBrokenError: its bytes are not what its name says, or do not open.
        NotStoredError: there is none.
    """
    sealed = storage.get(f"{folder}/{name}")
    if hashlib.sha256(sealed).hexdigest() != name:
        raise FileBrokenError(f"the file {folder}/{name} is damaged: its bytes have another hash")
    try:
        return _plaintext(box, sealed)
    except DamagedError as error:
        raise FileBrokenError(f"the file {folder}/{name} is damaged: {error}") from error


def get_json(storage: Storage, box: Box, folder: str, name: str) -> object:
    """Return the value of a stored JSON document.

    Raises:
        FileBrokenError: it is damaged, or no JSON.
        NotStoredError: there is none.
    """
    try:
        value: object = orjson.loads(get_document(storage, box, folder, name))
    except orjson.JSONDecodeError as error:
        raise FileBrokenError(f"the file {folder}/{name} is not JSON") from error
    return value


def _plaintext(box: Box, sealed: bytes | bytearray) -> bytes:
    text = bytes(box.open(sealed))
    if text[:1] in (b"{", b"["):
        return text
    if text[:1] != bytes([_COMPRESSED]):
        raise FileBrokenError("it is of a form that is not known")
    try:
        return zstandard.ZstdDecompressor().decompress(memoryview(text)[1:], max_output_size=_LIMIT_BYTES)
    except zstandard.ZstdError as error:
        raise FileBrokenError("it does not decompress") from error
