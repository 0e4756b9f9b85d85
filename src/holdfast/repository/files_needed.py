"""Which files of a repository one snapshot needs: what has to be retained with it."""

from collections.abc import Iterator

from holdfast.repository.blob_reader import BlobReader
from holdfast.repository.pack import BlobKind, pack_name
from holdfast.repository.references import references_of
from holdfast.repository.storage import Storage


def files_needed(storage: Storage, reader: BlobReader, tree: bytes) -> Iterator[str]:
    """Yield every file that a snapshot of this tree needs to be restored, its own excepted.

    Raises:
        DamagedError: a tree is damaged or missing.
    """
    yield "config"
    for folder in ("keys/", "index/", "holdfast/"):
        yield from (stored.name for stored in storage.list(folder))
    used = references_of(reader, [tree])
    packs = {reader.locate(BlobKind.TREE, blob).pack for blob in used.trees}
    packs |= {reader.locate(BlobKind.DATA, blob).pack for blob in used.data}
    yield from (pack_name(pack) for pack in sorted(packs))
