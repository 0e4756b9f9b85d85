"""Snapshots: the small documents that name a tree, and say of what and when it is."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import orjson

from holdfast.core.errors import ConflictError, NotFoundError
from holdfast.repository import go_json
from holdfast.repository.cipher import Box
from holdfast.repository.storage import Storage
from holdfast.repository.unpacked import FileBrokenError, get_json, put_document

_PREFIX_AT_LEAST = 4


class SnapshotNotFoundError(NotFoundError):
    """The repository has no such snapshot."""


class AmbiguousSnapshotError(ConflictError):
    """Several snapshots begin with the given digits."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot, as its file says. `tree` is the id of the root's tree."""

    id: str
    at: datetime
    tree: bytes
    paths: tuple[str, ...] = ()
    hostname: str = ""
    username: str = ""
    tags: tuple[str, ...] = ()
    parent: str | None = None
    original: str | None = None


def put_snapshot(storage: Storage, box: Box, snapshot: Snapshot) -> str:
    """Store a snapshot, whose `id` is not looked at; return the id it got."""
    value: dict[str, object] = {"time": go_json.rfc3339(snapshot.at)}
    if snapshot.parent is not None:
        value["parent"] = snapshot.parent
    value |= {"tree": snapshot.tree.hex(), "paths": list(snapshot.paths), "hostname": snapshot.hostname}
    value["username"] = snapshot.username
    if snapshot.tags:
        value["tags"] = list(snapshot.tags)
    if snapshot.original is not None:
        value["original"] = snapshot.original
    return put_document(storage, box, "snapshots", orjson.dumps(value))


def get_snapshot(storage: Storage, box: Box, snapshot_id: str) -> Snapshot:
    """Return a snapshot by its full id.

    Raises:
        SnapshotNotFoundError: there is none.
        FileBrokenError: its file is damaged.
    """
    try:
        value = get_json(storage, box, "snapshots", snapshot_id)
    except NotFoundError as error:
        raise SnapshotNotFoundError(f"the repository has no snapshot {snapshot_id}") from error
    if not isinstance(value, dict):
        raise FileBrokenError(f"the snapshot file {snapshot_id} is not a snapshot")
    try:
        return Snapshot(
            id=snapshot_id,
            at=go_json.parse_rfc3339(value["time"]),
            tree=bytes.fromhex(value["tree"]),
            paths=tuple(value.get("paths") or ()),
            hostname=value.get("hostname", ""),
            username=value.get("username", ""),
            tags=tuple(value.get("tags") or ()),
            parent=value.get("parent"),
            original=value.get("original"),
        )
    except (KeyError, TypeError, ValueError, go_json.BadJsonError) as error:
        raise FileBrokenError(f"the snapshot file {snapshot_id} is not a snapshot: {error}") from error


def snapshot_ids(storage: Storage) -> list[str]:
    """Return the ids of all snapshots on storage, in order."""
    return sorted(stored.name.removeprefix("snapshots/") for stored in storage.list("snapshots/"))


def list_snapshots(
    storage: Storage, box: Box, *, damaged: Callable[[FileBrokenError], None] | None = None
) -> list[Snapshot]:
    """Return all snapshots, the oldest first. One that is forgotten meanwhile is left out.

    A damaged one is handed to `damaged` and passed over; without that, it is an error.

    Raises:
        FileBrokenError: a snapshot's file is damaged.
    """
    found = []
    for name in snapshot_ids(storage):
        try:
            found.append(get_snapshot(storage, box, name))
        except SnapshotNotFoundError:
            continue
        except FileBrokenError as error:
            if damaged is None:
                raise
            damaged(error)
    return sorted(found, key=lambda snapshot: (snapshot.at, snapshot.id))


def resolve_snapshot_id(storage: Storage, prefix: str) -> str:
    """Return the full id of the one snapshot whose id begins with `prefix`.

    Raises:
        SnapshotNotFoundError: none does, or the prefix is shorter than four digits.
        AmbiguousSnapshotError: several do.
    """
    found = (
        [name for name in snapshot_ids(storage) if name.startswith(prefix)] if len(prefix) >= _PREFIX_AT_LEAST else []
    )
    if not found:
        raise SnapshotNotFoundError(f"the repository has no snapshot {prefix!r}")
    if len(found) > 1:
        raise AmbiguousSnapshotError(f"{len(found)} snapshots begin with {prefix!r}; give more digits")
    return found[0]
