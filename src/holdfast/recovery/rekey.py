"""Another root key: everything that lies sealed or signed under the old one goes under the new one.

First, in one transaction, all that the database holds: key material, credentials, second factors, secrets of sources;
for each vault a record by the new signer, which vouches for all those before it; and which root key the database
belongs to from then on. Then, in storage, the key files beside repositories, the records, and the file that says who
signs the audit trail. A crash before the commit leaves everything under the old key; after it, the rest is done by the
next attempt, and no server starts before.
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson
import sqlalchemy as sa

from holdfast.access import credentials
from holdfast.core.errors import InvalidStateError
from holdfast.database.connection import Database
from holdfast.database.facts import forget, recalled, remember
from holdfast.key import service as kms
from holdfast.repository.storage import AlreadyStoredError, Storage
from holdfast.source import service as sources
from holdfast.trail.model import TrailKey
from holdfast.trail.service import Decision, Entry, record
from holdfast.trail.store import last_block
from holdfast.trail.succession import succession_file
from holdfast.vault import keys, ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.records import Kind
from holdfast.vault.repositories import lay_key_file_anew, password_whatever_state

ROOT_KEY: Final = "root key"
"""The fact that names the root key which a database is sealed under, once it has been changed."""
_UNFINISHED: Final = "root key change"


class OtherRootKeyError(InvalidStateError):
    """A database is sealed under another root key than the one that was given."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What was put under another root key."""

    secrets: int
    """Values in the database that were sealed anew, in this attempt or the one before."""
    vaults: int
    repositories: int


def change_root_key(database: Database, old: Custody, new: Custody, *, now: datetime, account: str) -> int:
    """Seal the database under the new root key, in one transaction; return how many values were. `finish` comes next.

    The trail has to be sealed and stored to its end by the old key.
    """
    with database.transaction() as tx:
        refuse_other_root_key(tx, old.root_key.id)
        sealed = kms.change_root_key(tx, old.root_key, new.root_key)
        sealed += credentials.change_root_key(tx, old.root_key, new.root_key)
        sealed += sources.change_root_key(tx, old.root_key, new.root_key)
        for vault in vaults.every_vault(tx):
            if vault.key_arn:
                body = {"key": keys.key_to_body(tx, new.root_key, vault.key_arn)}
                ledger.append(tx, new, vault, Kind.TAKEN_OVER, body, at=now)
        last = last_block(tx)
        name, content = succession_file(
            TrailKey.of(old.root_key), TrailKey.of(new.root_key), after=0 if last is None else last.block.number
        )
        file = {"name": name, "content": base64.b64encode(content).decode("ascii"), "secrets": sealed}
        remember(tx, _UNFINISHED, orjson.dumps(file).decode())
        remember(tx, ROOT_KEY, new.root_key.id)
        record(tx, _entry(old.root_key.id, new.root_key.id, account, now))
    return sealed


def finish(database: Database, new: Custody, trail: Storage) -> Rekeyed:
    """Put into storage what the new root key means there; does nothing when that was done. Safe to repeat."""
    with database.reading() as tx:
        refuse_other_root_key(tx, new.root_key.id)
        waiting = recalled(tx, _UNFINISHED)
        every = vaults.every_vault(tx)
    if waiting is None:
        return Rekeyed(0, 0, 0)
    file = orjson.loads(waiting)
    repositories = 0
    for vault in every:
        with database.transaction() as tx:
            ledger.flush(tx, new, vault)
            for row in vaults.repositories_of(tx, vault.id):
                if row.ready:
                    lay_key_file_anew(tx, new, vault, row, password_whatever_state(tx, new, row))
                    repositories += 1
    content = base64.b64decode(file["content"])
    try:
        trail.put(file["name"], content, new=True)
    except AlreadyStoredError:
        if trail.get(file["name"]) != content:
            raise
    with database.transaction() as tx:
        forget(tx, _UNFINISHED)
    return Rekeyed(file["secrets"], len(every), repositories)


def refuse_other_root_key(tx: sa.Connection, root_key_id: str) -> None:
    """Refuse a root key that the database is not sealed under.

    Raises:
        OtherRootKeyError: it is sealed under another.
    """
    known = recalled(tx, ROOT_KEY)
    if known not in {None, root_key_id}:
        raise OtherRootKeyError(
            f"the database is sealed under the root key with the fingerprint {known}, and the one given is "
            f"{root_key_id}; put that key back, or run `holdfast rekey` again if a change of keys was interrupted"
        )


def is_unfinished(tx: sa.Connection) -> bool:
    """Return whether a change of the root key was begun and not finished."""
    return recalled(tx, _UNFINISHED) is not None


def _entry(old: str, new: str, account: str, now: datetime) -> Entry:
    return Entry(
        at=now,
        account=account,
        region="us-east-1",
        service="holdfast",
        operation="ChangeRootKey",
        principal_arn="host",
        decision=Decision.EVENT,
        reason=f"the root key with the fingerprint {old} was replaced by {new} on the host",
    )
