"""Making blobs ready for a pack: compress, seal, and open again before anybody relies on it."""

import threading

import zstandard

from holdfast.core.errors import DamagedError
from holdfast.repository.cipher import Box, Buffer
from holdfast.repository.pack import BlobKind, PackedBlob, open_blob

# Measured on programs, sources and prose: level 1 is up to twice as fast on small blobs, where the loss is smallest.
_SMALL_BYTES = 64 << 10
_LEVEL_SMALL = 1
_LEVEL = 3


class BlobVerifyError(DamagedError):
    """A new blob did not read back as what was to be written: memory or a library fails on this machine."""


class Sealer(threading.local):
    """Seals blobs under one key; each thread has its own compressors."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._small = zstandard.ZstdCompressor(level=_LEVEL_SMALL)
        self._large = zstandard.ZstdCompressor(level=_LEVEL)
        self._decompressor = zstandard.ZstdDecompressor()

    def seal(self, kind: BlobKind, blob_id: bytes, content: Buffer) -> tuple[bytearray, int]:
        """Return the sealed blob and its length before compression, 0 if compression gained nothing.

        Raises:
            BlobVerifyError: it does not read back.
        """
        raw_length = len(content)
        compressed = (self._small if raw_length < _SMALL_BYTES else self._large).compress(content)
        # Trees are always compressed, as restic keeps them.
        if kind is BlobKind.TREE or len(compressed) < raw_length:
            sealed = self._box.seal(compressed)
        else:
            sealed, raw_length = self._box.seal(content), 0
        try:
            open_blob(self._box, self._decompressor, PackedBlob(kind, blob_id, 0, len(sealed), raw_length), sealed)
        except DamagedError as error:
            raise BlobVerifyError(
                "a new blob did not read back as it was written; this machine's memory may be failing"
            ) from error
        return sealed, raw_length
