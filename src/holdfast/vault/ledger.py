"""Writing a vault's records to storage, in order and never twice, and reading them back.

A record is numbered and signed in a transaction, kept in `vault_record` until it is known to be in storage, and put
there under its number before what it says is committed. Pending ones always go first, so a crash between the two leaves
no gap. Where storage has another record under the number, the database is older than storage: somebody restored an old
copy, or a transaction was lost after its record was put. Then nothing is written until `recovery.catch_up` has taken
over what storage says.
"""

import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from holdfast.core.errors import ConflictError
from holdfast.database.connection import Database
from holdfast.repository.storage import AlreadyStoredError, NotStoredError, Storage
from holdfast.vault import store
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault
from holdfast.vault.records import (
    DIRECTORY,
    Fault,
    Head,
    Written,
    encode,
    next_record,
    record_name,
    verify,
)

_SUFFIX: Final = ".json"


class CatalogueBehindError(ConflictError):
    """Storage records more than the database knows: it is an older copy, or lost its last moments."""

    def __init__(self, message: str, vault_id: str) -> None:
        super().__init__(message)
        self.vault_id = vault_id


def append(
    tx: sa.Connection, custody: Custody, vault: Vault, kind: str, body: Mapping[str, Any], *, at: datetime
) -> Written:
    """Number and sign a record in `tx`; it is in storage only after `flush` or `put_pending`."""
    head = store.take_sequence(tx, vault.id)
    written = encode(next_record(vault.id, head, kind, body, at=at), custody.signer)
    store.add_pending(tx, vault.id, written.record.sequence, written.digest, written.content)
    return written


def flush(tx: sa.Connection, custody: Custody, vault: Vault) -> None:
    """Put every pending record of a vault into storage, in order, and forget that it was pending.

    Raises:
        CatalogueBehindError: storage has others under their numbers.
    """
    waiting = store.pending(tx, vault.id)
    _put(custody.storage_of(vault), vault, waiting)
    if waiting:
        store.settle(tx, vault.id, through=waiting[-1][0])


def write(
    tx: sa.Connection, custody: Custody, vault: Vault, kind: str, body: Mapping[str, Any], *, at: datetime
) -> Written:
    """Append a record and put it into storage, before `tx` commits the change that it speaks of."""
    written = append(tx, custody, vault, kind, body, at=at)
    flush(tx, custody, vault)
    return written


def put_pending(database: Database, custody: Custody, vault: Vault) -> int:
    """Put the pending records into storage with no transaction open; return the last one's number, 0 for none.

    The caller settles them in its next transaction; until then putting them again is harmless.

    Raises:
        CatalogueBehindError: storage has others under their numbers.
    """
    with database.reading() as tx:
        waiting = store.pending(tx, vault.id)
    _put(custody.storage_of(vault), vault, waiting)
    return waiting[-1][0] if waiting else 0


def read(
    storage: Storage,
    vault_id: str,
    *,
    trusted: frozenset[bytes],
    start: Head | None = None,
    end: Head | None = None,
) -> tuple[tuple[Written, ...], tuple[Fault, ...]]:
    """Return a vault's records after `start`, in order, and whatever is wrong with them; see `records.verify`.

    From the beginning, storage is listed, so that nothing among the records is overlooked. After a `start`, numbers are
    tried one after the other, so that it costs no more than there is new.
    """
    if start is not None:
        return verify(vault_id, _following(storage, start.sequence), trusted=trusted, start=start, end=end)
    faults: list[Fault] = []
    numbers: list[int] = []
    for found in storage.list(DIRECTORY):
        number = _number(found.name)
        if number is None:
            faults.append(Fault(0, f"{found.name} is no record; somebody else put it there"))
        else:
            numbers.append(number)
    files: list[tuple[int, bytes]] = []
    for number in sorted(numbers):
        try:
            files.append((number, storage.get(record_name(number))))
        except NotStoredError:
            continue  # gone between listing and reading: verify says that it is missing
    good, more = verify(vault_id, files, trusted=trusted, end=end)
    return good, (*faults, *more)


def last_number(storage: Storage) -> int:
    """Return the highest number of a record in storage, 0 when there is none."""
    return max((_number(found.name) or 0 for found in storage.list(DIRECTORY)), default=0)


def _following(storage: Storage, after: int) -> Iterator[tuple[int, bytes]]:
    for number in itertools.count(after + 1):
        try:
            yield number, storage.get(record_name(number))
        except NotStoredError:
            return


def _put(storage: Storage, vault: Vault, waiting: list[tuple[int, bytes]]) -> None:
    for sequence, content in waiting:
        name = record_name(sequence)
        try:
            storage.put(name, content, new=True)
        except AlreadyStoredError as error:
            if storage.get(name) != content:
                raise CatalogueBehindError(
                    f"storage records more about vault {vault.name} of account {vault.account} than the database "
                    f"knows (record {sequence} is another one there); the database is an older copy. Nothing is "
                    "changed or deleted until it has caught up: run `holdfast rebuild`",
                    vault.id,
                ) from error


def _number(name: str) -> int | None:
    digits = name.removeprefix(DIRECTORY).removesuffix(_SUFFIX)
    return int(digits) if digits.isascii() and digits.isdigit() and record_name(int(digits)) == name else None
