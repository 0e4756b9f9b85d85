"""Taking back from storage what the trail of an older database lacks: after a state was restored.

Sealed blocks carry their entries, so the trail goes on where it was, and what was done after the state was taken can be
named, though the database has forgotten it.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import DamagedError
from holdfast.database.rows import set_sequences
from holdfast.repository.storage import NotStoredError, Storage
from holdfast.trail import store
from holdfast.trail.model import (
    COLUMNS,
    NOTHING_BEFORE,
    Block,
    BlockUnreadableError,
    is_signed,
    merkle_root,
    read_block_file,
)
from holdfast.trail.service import Decision
from holdfast.trail.succession import trail_keys

_NAMED: Final = 12
_COLUMNS: Final = ", ".join(COLUMNS)
_PLACES: Final = ", ".join(f":{column}" for column in COLUMNS)
_FREE = text("UPDATE audit_entry SET block = NULL WHERE block >= :number")
_DROP_BLOCKS = text("DELETE FROM audit_block WHERE number >= :number")
_DROP_ENTRY = text("DELETE FROM audit_entry WHERE id = :id")
_INSERT = text(f"INSERT INTO audit_entry ({_COLUMNS}) VALUES ({_PLACES})")
_LAST_ID = text("SELECT COALESCE(MAX(id), 0) FROM audit_entry")


class TrailDiffersError(DamagedError):
    """The trail in storage is not the one that the database's goes on."""


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What the trail in storage had beyond the database."""

    blocks: int = 0
    entries: int = 0
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many changing calls were made, by account and `service:Operation`."""


def take_back(tx: sa.Connection, storage: Storage, public: bytes) -> TakenBack:
    """Bring blocks and entries that only storage has into the database, each verified.

    Entries of the database that later blocks cover come from the blocks.

    Raises:
        TrailDiffersError: a block does not follow, was changed, or was signed by another key.
    """
    numbers = sorted(int(found.name[:_NAMED]) for found in storage.list("") if found.name[:_NAMED].isdigit())
    newest = numbers[-1] if numbers else 0
    common = _common(tx, storage, newest)
    if common is None:
        number, previous = 1, NOTHING_BEFORE
    else:
        number, previous = common.number + 1, common.hash
    if number > newest:
        return TakenBack()
    keys = trail_keys(storage, public)
    tx.execute(_FREE, {"number": number})
    tx.execute(_DROP_BLOCKS, {"number": number})
    entries, changes = 0, Counter[tuple[str, str]]()
    for each in range(number, newest + 1):
        block, signature, texts = _read(storage, each, previous, keys.of(each))
        rows = [json.loads(line) for line in texts]
        tx.execute(_DROP_ENTRY, [{"id": row["id"]} for row in rows])
        tx.execute(_INSERT, rows)
        store.add_block(tx, block, signature, [row["id"] for row in rows])
        store.mark_stored(tx, each)
        entries += len(rows)
        changes.update(_changes(rows))
        previous = block.hash
    set_sequences(tx, {"audit_entry": tx.execute(_LAST_ID).scalar_one()})
    return TakenBack(newest - number + 1, entries, changes)


def _common(tx: sa.Connection, storage: Storage, newest: int) -> Block | None:
    """Return the last block that database and storage agree on."""
    for row in reversed(list(store.all_blocks(tx))):
        if row.block.number > newest:
            continue
        try:
            block, _, _ = read_block_file(storage.get(row.block.file_name))
        except (BlockUnreadableError, NotStoredError) as error:
            raise TrailDiffersError(f"block {row.block.number} of the audit trail cannot be read: {error}") from error
        if block == row.block:
            return block
        if row.is_stored:
            raise TrailDiffersError(
                f"storage has another block {row.block.number} of the audit trail than the database says lies there: "
                "they are not of one installation, or one was touched"
            )
    return None


def _read(storage: Storage, number: int, previous: str, public: bytes) -> tuple[Block, str, tuple[str, ...]]:
    where = f"block {number} of the audit trail in storage"
    try:
        block, signature, texts = read_block_file(storage.get(f"{number:012d}.json"))
    except (BlockUnreadableError, NotStoredError) as error:
        raise TrailDiffersError(f"{where} cannot be read: {error}") from error
    if block.number != number or not is_signed(block, signature, public):
        raise TrailDiffersError(f"{where} was not sealed by this installation")
    if block.previous != previous or len(texts) != block.entries or merkle_root(texts) != block.root:
        raise TrailDiffersError(f"{where} is not what was sealed, or does not follow the one before it")
    return block, signature, texts


def _changes(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [
        (row["account"], f"{row['service']}:{row['operation']}") for row in rows if row["decision"] == Decision.ALLOWED
    ]
