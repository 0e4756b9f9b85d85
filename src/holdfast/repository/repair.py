"""Making the index anew: what index files say, and what packs themselves say where those are damaged or missing."""

from dataclasses import dataclass

from holdfast.core.errors import DamagedError, NotFoundError
from holdfast.repository.cipher import Box
from holdfast.repository.doomed import remove_broken_marks
from holdfast.repository.index import index_files, put_index, read_index
from holdfast.repository.lock import Lock
from holdfast.repository.pack import PackedBlob, header_bytes, read_header, stored_packs
from holdfast.repository.storage import Storage


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did to the index: packs taken in, packs dropped because they are gone, and what stays broken."""

    packs: int
    added: tuple[bytes, ...]
    dropped: tuple[bytes, ...]
    index_files_removed: tuple[str, ...]
    unreadable: tuple[str, ...]


def repair_index(storage: Storage, box: Box, lock: Lock) -> Repaired:
    """Write an index of exactly the packs that are on storage, under an exclusive lock; packs are not changed.

    A pack whose index entry does not fit its size, or that has none, is described by its own header; one whose header
    is damaged stays as it is and is in no index. A sweep's record that is damaged is removed.
    """
    stored = stored_packs(storage)
    known: dict[bytes, list[PackedBlob]] = {}
    old = index_files(storage)
    for name in old:
        try:
            known |= dict(read_index(storage, box, name))
        except (DamagedError, NotFoundError):
            continue
    packs: dict[bytes, list[PackedBlob]] = {}
    added: list[bytes] = []
    unreadable: list[str] = []
    for pack_id, size in sorted(stored.items()):
        blobs = known.get(pack_id)
        if blobs is None or sum(blob.length for blob in blobs) + header_bytes(blobs) != size:
            try:
                blobs = read_header(storage, box, pack_id, size)
            except (DamagedError, NotFoundError) as error:
                unreadable.append(str(error))
                continue
            added.append(pack_id)
        packs[pack_id] = blobs
    lock.refuse_if_lost()
    written = put_index(storage, box, list(packs.items()))
    removed = [name for name in old if name not in written]
    for name in removed:
        storage.delete(f"index/{name}")
    remove_broken_marks(storage, box)
    return Repaired(
        packs=len(packs),
        added=tuple(added),
        dropped=tuple(sorted(pack for pack in known if pack not in stored)),
        index_files_removed=tuple(removed),
        unreadable=tuple(unreadable),
    )
