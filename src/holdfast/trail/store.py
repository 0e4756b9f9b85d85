"""The SQL of sealing: entries without a block, blocks, and which entries belong to which."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.trail.model import COLUMNS, Block

_ENTRY = ", ".join(COLUMNS)
_BLOCK = "number, previous, root, entries, first_id, last_id, sealed_at, signature, stored"
_UNSEALED = text(f"SELECT {_ENTRY} FROM audit_entry WHERE block IS NULL ORDER BY id LIMIT :limit")
_TAIL = text("SELECT count(*) AS entries, min(at) AS since FROM audit_entry WHERE block IS NULL")
_LAST = text(f"SELECT {_BLOCK} FROM audit_block ORDER BY number DESC LIMIT 1")
_FIND = text(f"SELECT {_BLOCK} FROM audit_block WHERE number = :number")
_ALL = text(f"SELECT {_BLOCK} FROM audit_block ORDER BY number")
_UNSTORED = text(f"SELECT {_BLOCK} FROM audit_block WHERE NOT stored ORDER BY number LIMIT :limit")
_INSERT = text(f"""
    INSERT INTO audit_block ({_BLOCK})
    VALUES (:number, :previous, :root, :entries, :first_id, :last_id, :sealed_at, :signature, :stored)""")
_SEAL = text("UPDATE audit_entry SET block = :number WHERE id = :id AND block IS NULL")
_STORED = text("UPDATE audit_block SET stored = :yes WHERE number = :number")
_OF_BLOCK = text(f"SELECT {_ENTRY} FROM audit_entry WHERE block = :number ORDER BY id")
_STRAY = text("""
    SELECT DISTINCT e.block FROM audit_entry e
     WHERE e.block IS NOT NULL AND NOT EXISTS (SELECT 1 FROM audit_block b WHERE b.number = e.block)
     ORDER BY 1""")


@dataclass(frozen=True, slots=True)
class SignedBlock:
    """A block's row."""

    block: Block
    signature: str
    is_stored: bool


def _signed(row: sa.Row[Any]) -> SignedBlock:
    block = Block(row.number, row.previous, row.root, row.entries, row.first_id, row.last_id, row.sealed_at)
    return SignedBlock(block, row.signature, bool(row.stored))


def unsealed_entries(tx: sa.Connection, *, limit: int) -> list[Mapping[str, Any]]:
    """Return entries that no block covers, in their order."""
    return [dict(row) for row in tx.execute(_UNSEALED, {"limit": limit}).mappings()]


def unsealed_tail(tx: sa.Connection) -> tuple[int, int | None]:
    """Return how many entries no block covers, and the instant of the oldest."""
    row = tx.execute(_TAIL).one()
    return row.entries, row.since


def last_block(tx: sa.Connection) -> SignedBlock | None:
    """Return the newest block."""
    row = tx.execute(_LAST).one_or_none()
    return None if row is None else _signed(row)


def find_block(tx: sa.Connection, number: int) -> SignedBlock | None:
    """Return the block with this number."""
    row = tx.execute(_FIND, {"number": number}).one_or_none()
    return None if row is None else _signed(row)


def all_blocks(tx: sa.Connection) -> Iterator[SignedBlock]:
    """Yield every block in order."""
    for row in tx.execute(_ALL):
        yield _signed(row)


def unstored_blocks(tx: sa.Connection, *, limit: int) -> list[SignedBlock]:
    """Return blocks that are not known to lie in storage."""
    return [_signed(row) for row in tx.execute(_UNSTORED, {"limit": limit})]


def add_block(tx: sa.Connection, block: Block, signature: str, entry_ids: list[int]) -> None:
    """Write a block, and into its entries that they belong to it."""
    tx.execute(
        _INSERT,
        {
            "number": block.number,
            "previous": block.previous,
            "root": block.root,
            "entries": block.entries,
            "first_id": block.first_id,
            "last_id": block.last_id,
            "sealed_at": block.sealed_at,
            "signature": signature,
            "stored": False,
        },
    )
    tx.execute(_SEAL, [{"number": block.number, "id": each} for each in entry_ids])


def mark_stored(tx: sa.Connection, number: int) -> None:
    """Note that a block lies in storage."""
    tx.execute(_STORED, {"number": number, "yes": True})


def entries_of(tx: sa.Connection, number: int) -> list[Mapping[str, Any]]:
    """Return the entries of a block, in their order."""
    return [dict(row) for row in tx.execute(_OF_BLOCK, {"number": number}).mappings()]


def blocks_of_strays(tx: sa.Connection) -> list[int]:
    """Return numbers that entries name as their block and that no block has."""
    return [row.block for row in tx.execute(_STRAY)]
