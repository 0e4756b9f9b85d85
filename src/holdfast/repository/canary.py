"""Proving that a credential can only append: trying, with that very credential, to overwrite and to delete.

What a configuration promises is not asked. The files that are tried on are real ones of the kinds that matter, a pack
and an index file, but hold nothing that anybody needs: if storage refuses to delete them, a later sweep does.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass

import orjson

from holdfast.repository.cipher import Box
from holdfast.repository.index import encode_index
from holdfast.repository.pack import BlobKind, OpenPack, pack_name
from holdfast.repository.sealing import Sealer
from holdfast.repository.storage import AlreadyStoredError, NotStoredError, Storage, StorageDeniedError
from holdfast.repository.unpacked import put_document


@dataclass(frozen=True, slots=True)
class AppendOnlyProof:
    """What storage let the credential do. Names of folders, in which it could overwrite or delete."""

    overwritten: tuple[str, ...]
    deleted: tuple[str, ...]
    locks_deletable: bool

    @property
    def is_append_only(self) -> bool:
        """Whether storage refused everything that it has to refuse."""
        return not self.overwritten and not self.deleted

    def __str__(self) -> str:
        if self.is_append_only:
            return "append-only: storage refused to overwrite and to delete"
        said = [f"let it {verb} in {', '.join(where)}" for verb, where in self._allowed() if where]
        return "not append-only: storage " + " and ".join(said)

    def _allowed(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return ("overwrite", self.overwritten), ("delete", self.deleted)


def prove_append_only(storage: Storage, box: Box) -> AppendOnlyProof:
    """Try to overwrite and to delete in each folder that must not change, and to delete in `locks/`, which may.

    Raises:
        StorageDeniedError: the credential cannot even add files.
        StorageFailedError: storage failed, so nothing is proved.
    """
    canaries = {"data": _pack(storage, box), "index": _index(storage, box)}
    overwritten = tuple(folder for folder, name in canaries.items() if _can_overwrite(storage, name))
    deleted = tuple(folder for folder, name in canaries.items() if _can_delete(storage, name))
    lock = _lock(storage, box)
    return AppendOnlyProof(overwritten, deleted, locks_deletable=_can_delete(storage, lock))


def _pack(storage: Storage, box: Box) -> str:
    content = os.urandom(32)
    blob_id = hashlib.sha256(content).digest()
    pack = OpenPack()
    pack.add(BlobKind.DATA, blob_id, *Sealer(box).seal(BlobKind.DATA, blob_id, content))
    finished = pack.finish(box)
    storage.put(pack_name(finished.id), *finished.pieces)
    return pack_name(finished.id)


def _lock(storage: Storage, box: Box) -> str:
    # One that nobody minds: shared, and stale since long.
    text = orjson.dumps({"time": "2000-01-01T00:00:00Z", "exclusive": False, "hostname": "canary", "pid": 1})
    return "locks/" + put_document(storage, box, "locks", text)


def _index(storage: Storage, box: Box) -> str:
    # Sealed under a nonce of its own, so each has a name of its own.
    return "index/" + put_document(storage, box, "index", encode_index([]))


def _can_overwrite(storage: Storage, name: str) -> bool:
    data = storage.get(name)
    try:
        # The same bytes: if storage lets them through, nothing has come to harm.
        storage.put(name, data)
    except (StorageDeniedError, AlreadyStoredError):
        return False
    return True


def _can_delete(storage: Storage, name: str) -> bool:
    with contextlib.suppress(StorageDeniedError):
        storage.delete(name)
    try:
        storage.size(name)
    except NotStoredError:
        return True
    return False
