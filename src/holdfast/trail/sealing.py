"""Sealing the audit trail: entries into signed blocks, blocks into storage; and checking that nothing was touched.

Each second the sealer takes the entries that no block covers, in the order of their ids, into the next block. The
block is committed first and stored after: a crash in between leaves a block that the next run stores. A file in storage
is written once and never again.
"""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError

from holdfast.core.clock import MachineTime
from holdfast.core.errors import DamagedError
from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.repository.storage import AlreadyStoredError, Storage
from holdfast.trail import store
from holdfast.trail.model import (
    NOTHING_BEFORE,
    Block,
    BlockUnreadableError,
    Checked,
    TrailKey,
    block_file,
    compare_entries,
    entry_text,
    is_signed,
    merkle_root,
    read_block_file,
)
from holdfast.trail.succession import TrailKeys, trail_keys

log = structlog.get_logger()

DIRECTORY = "audit"
"""The directory of a storage that blocks lie in."""

_MOST_ENTRIES = 5000
_MOST_BLOCKS = 50
_NAMED = 12


class TrailTouchedError(DamagedError):
    """What should be stored is not what was sealed."""


@dataclass
class Sealer:
    """Seals the trail of one installation."""

    database: Database
    storage: Storage
    """Where blocks lie; nothing else is there."""
    key: TrailKey
    machine: MachineTime

    def run(self) -> int:
        """Seal what is not sealed and store what is not stored; return how many entries were sealed."""
        sealed = 0
        while True:
            try:
                with self.database.transaction() as tx:
                    entries = seal_entries(tx, self.key, now=self.machine.now())
            except IntegrityError:
                break  # another process sealed them
            sealed += entries
            if entries < _MOST_ENTRIES:
                break
        self._store()
        return sealed

    def _store(self) -> None:
        with self.database.reading() as tx:
            waiting = [
                (each, tuple(entry_text(row) for row in store.entries_of(tx, each.block.number)))
                for each in store.unstored_blocks(tx, limit=_MOST_BLOCKS)
            ]
        for each, texts in waiting:
            block = each.block
            if merkle_root(texts) != block.root or not is_signed(block, each.signature, self.key.public):
                raise TrailTouchedError(
                    f"block {block.number} of the audit trail was touched between sealing and storing; "
                    "`holdfast audit verify` tells what"
                )
            content = block_file(block, each.signature, texts)
            try:
                self.storage.put(block.file_name, content, new=True)
            except AlreadyStoredError as error:
                if self.storage.get(block.file_name) != content:
                    raise TrailTouchedError(
                        f"storage has another block {block.number} of the audit trail than the database: the database "
                        "is older than its storage, or one of the two was touched"
                    ) from error
            with self.database.transaction() as tx:
                store.mark_stored(tx, block.number)


def seal_entries(tx: sa.Connection, key: TrailKey, *, now: datetime) -> int:
    """Take the next entries into a block; return how many there were."""
    rows = store.unsealed_entries(tx, limit=_MOST_ENTRIES)
    if not rows:
        return 0
    last = store.last_block(tx)
    block = Block(
        number=1 if last is None else last.block.number + 1,
        previous=NOTHING_BEFORE if last is None else last.block.hash,
        root=merkle_root(entry_text(row) for row in rows),
        entries=len(rows),
        first_id=rows[0]["id"],
        last_id=rows[-1]["id"],
        sealed_at=stamp(now),
    )
    store.add_block(tx, block, key.sign(block), [row["id"] for row in rows])
    return len(rows)


def check_trail(tx: sa.Connection, storage: Storage, public: bytes) -> Checked:
    """Hold the database's entries against the sealed blocks in storage, and the blocks against each other."""
    findings: list[str] = []
    numbers = sorted(int(found.name[:_NAMED]) for found in storage.list("") if found.name[:_NAMED].isdigit())
    newest = numbers[-1] if numbers else 0
    previous, entries, present = NOTHING_BEFORE, 0, set(numbers)
    keys = trail_keys(storage, public)
    for number in range(1, newest + 1):
        if number not in present:
            findings.append(f"block {number} was dropped from storage")
            previous = ""
            continue
        try:
            block, signature, texts = read_block_file(storage.get(f"{number:012d}.json"))
        except BlockUnreadableError as error:
            findings.append(f"block {number} in storage was changed: {error}")
            previous = ""
            continue
        findings += _check_block(number, block, signature, texts, previous, keys.of(number))
        row = store.find_block(tx, number)
        if row is None:
            findings.append(f"block {number} was cut off: storage has it, the database has not")
        elif (row.block, row.signature) != (block, signature):
            findings.append(f"block {number} in the database was changed: storage has it otherwise")
        here = [entry_text(entry) for entry in store.entries_of(tx, number)]
        if row is not None or here:
            findings += compare_entries(number, texts, here)
        previous = block.hash
        entries += len(texts)
    findings += _check_beyond(tx, newest, previous, keys)
    unsealed, since = store.unsealed_tail(tx)
    return Checked(newest, entries, tuple(findings), unsealed, since)


def _check_block(
    number: int, block: Block, signature: str, texts: tuple[str, ...], previous: str, public: bytes
) -> list[str]:
    """Return what is wrong with a block's file by itself; `previous` is empty when the one before is not known."""
    where = f"block {number} in storage"
    if block.number != number:
        return [f"{where} was swapped: it says that it is block {block.number}"]
    if not is_signed(block, signature, public):
        return [f"{where} was changed: its signature is not of this installation's trail key"]
    found = []
    if previous and block.previous != previous:
        found.append(f"{where} does not follow the block before it")
    if len(texts) != block.entries or merkle_root(texts) != block.root:
        found.append(f"{where} was changed: its entries are not those that were sealed")
    return found


def _check_beyond(tx: sa.Connection, newest: int, previous: str, keys: TrailKeys) -> list[str]:
    """Return what is wrong with blocks that the database has and storage has not (yet)."""
    found = []
    for row in store.all_blocks(tx):
        number = row.block.number
        if number <= newest:
            continue
        if row.is_stored:
            found.append(f"block {number} was dropped from storage: the database says that it lay there")
        elif not is_signed(row.block, row.signature, keys.of(number)) or (previous and row.block.previous != previous):
            found.append(f"block {number} in the database is not what was sealed")
        elif merkle_root(entry_text(each) for each in store.entries_of(tx, number)) != row.block.root:
            found.append(f"entries of block {number}, which is not stored yet, were changed, dropped or added")
        previous = row.block.hash
    found += [
        f"entries name block {number}, which does not exist" for number in store.blocks_of_strays(tx) if number > newest
    ]
    return found
