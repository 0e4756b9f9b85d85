"""Packs that a sweep is going to delete, on record on storage, so that new writers do not rely on them."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import orjson

from holdfast.core.errors import NotFoundError
from holdfast.repository import go_json
from holdfast.repository.cipher import Box
from holdfast.repository.storage import Storage
from holdfast.repository.unpacked import FileBrokenError, get_json, put_document

FOLDER = "holdfast/doomed"


@dataclass(frozen=True, slots=True)
class Mark:
    """One sweep's record: since when which packs are doomed."""

    id: str
    at: datetime
    packs: frozenset[bytes]


def put_mark(storage: Storage, box: Box, packs: Iterable[bytes], *, at: datetime) -> str:
    """Put packs on record as doomed; return the record's id."""
    value = {"time": go_json.rfc3339(at), "packs": sorted(pack.hex() for pack in packs)}
    return put_document(storage, box, FOLDER, orjson.dumps(value))


def list_marks(storage: Storage, box: Box) -> list[Mark]:
    """Return all records, the oldest first.

    Raises:
        FileBrokenError: one is damaged.
    """
    marks = []
    for name in _names(storage):
        with suppress(NotFoundError):
            marks.append(_read(storage, box, name))
    return sorted(marks, key=lambda mark: (mark.at, mark.id))


def remove_broken_marks(storage: Storage, box: Box) -> list[str]:
    """Remove the records that cannot be read; return their ids. What they named stays, and the next sweep looks anew.

    The caller holds the exclusive lock.
    """
    broken = []
    for name in _names(storage):
        try:
            _read(storage, box, name)
        except FileBrokenError:
            storage.delete(f"{FOLDER}/{name}")
            broken.append(name)
    return broken


def _names(storage: Storage) -> list[str]:
    return [stored.name.removeprefix(FOLDER + "/") for stored in storage.list(FOLDER + "/")]


def _read(storage: Storage, box: Box, name: str) -> Mark:
    value = get_json(storage, box, FOLDER, name)
    try:
        packs = frozenset(bytes.fromhex(pack) for pack in value["packs"])  # type: ignore[index] # ends below
        at = go_json.parse_rfc3339(value["time"])  # type: ignore[index] # the same
    except (KeyError, TypeError, ValueError, go_json.BadJsonError) as error:
        raise FileBrokenError(f"the file {FOLDER}/{name} is not a record of doomed packs") from error
    return Mark(name, at, packs)


def doomed_packs(storage: Storage, box: Box) -> frozenset[bytes]:
    """Return every pack that is on record as doomed."""
    return frozenset().union(*(mark.packs for mark in list_marks(storage, box)))
