"""Signed records: what a vault's storage says about the vault, whatever becomes of the database.

Every change that matters after a loss (the vault, its lock, a recovery point, a hold, an expiry, a deletion) is one
file, written once and never changed: `holdfast/records/<sequence>.json` below the vault's directory. A record is the
canonical JSON of its members; it is signed with Ed25519 by a key derived from the root key, and it names the SHA-256 of
the file before it. So a changed byte, a missing record and a changed order are noticed; and the last record that our
own key signed vouches for all before it, also for those that another root key's signer wrote.

A record cut off at the very end is noticed only where somebody still knows how many there were: the database, or the
recovery point whose snapshot lies there without a record.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from holdfast.core.errors import DamagedError
from holdfast.core.seal import RootKey

FORMAT: Final = 1
DIRECTORY: Final = "holdfast/records/"
START: Final = "0" * 64
"""What the first record names as the hash of the one before it."""
_PURPOSE: Final = "records"
_NAMED_AT_MOST: Final = 100
_MEMBERS: Final = {"at", "body", "format", "key", "kind", "previous", "sequence", "vault"}


class RecordDamagedError(DamagedError):
    """A record is not what was written: a changed byte, a wrong signature, another form."""


class Kind(StrEnum):
    """What a record says happened."""

    VAULT_CREATED = "vault-created"
    VAULT_DELETED = "vault-deleted"
    VAULT_BROUGHT_BACK = "vault-brought-back"
    POLICY_PUT = "policy-put"
    TAGS_PUT = "tags-put"
    DELETION_DELAY_PUT = "deletion-delay-put"
    LOCK_PUT = "lock-put"
    LOCK_REMOVED = "lock-removed"
    REPOSITORY_CREATED = "repository-created"
    POINT_MADE = "point-made"
    LIFECYCLE_PUT = "lifecycle-put"
    HOLD_PLACED = "hold-placed"
    HOLD_RELEASED = "hold-released"
    POINT_MOVED = "point-moved"
    """Its data was copied to cold storage; what lies in the warm repository may go."""
    POINT_DELETED = "point-deleted"
    """Hidden: it can still be brought back."""
    POINT_BROUGHT_BACK = "point-brought-back"
    POINT_PURGED = "point-purged"
    """Its snapshot is about to be forgotten."""
    TAKEN_OVER = "taken-over"
    """The vault came under another root key, whose signer vouches for the records before."""
    KEY_DELETED = "key-deleted"
    """What lies under the key is lost for good: a rebuild brings neither the key back nor what it encrypted."""
    POINT_WITHDRAWN = "point-withdrawn"
    """It never came to be: its job ended otherwise after the record was written."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened to a vault."""

    vault: str
    sequence: int
    previous: str
    at: datetime
    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """A record as it lies in storage."""

    record: Record
    key: bytes
    """The public key that signed it."""
    digest: str
    """The SHA-256 of the file, which the next record names."""
    content: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain of records ends: how many there are, and the hash of the last."""

    sequence: int = 0
    digest: str = START


@dataclass(frozen=True, slots=True)
class Fault:
    """Something about a chain of records that is not as it was written."""

    sequence: int
    what: str


class Signer:
    """Signs records, with a key that only whoever holds the root key has."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes_raw()

    @classmethod
    def of(cls, root_key: RootKey) -> Self:
        """Return the signer that belongs to a root key."""
        return cls(Ed25519PrivateKey.from_private_bytes(root_key.derive(_PURPOSE)))

    def sign(self, data: bytes) -> bytes:
        """Return the signature of `data`."""
        return self._private.sign(data)


def record_name(sequence: int) -> str:
    """Return the name of a record below its vault's directory."""
    return f"{DIRECTORY}{sequence:012}.json"


def canonical(value: Any) -> bytes:
    """Return the one JSON text of a value: keys sorted, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def signed(document: Mapping[str, Any], signer: Signer) -> bytes:
    """Return a document with its signature, as a file holds it; the document says which key signs."""
    body = dict(document) | {"key": base64.b64encode(signer.public).decode()}
    signature = base64.b64encode(signer.sign(canonical(body))).decode()
    return canonical({"document": body, "signature": signature})


def opened(content: bytes, *, name: str) -> tuple[dict[str, Any], bytes]:
    """Return a signed file's document and the public key that signed it; whether to trust the key is the caller's.

    Raises:
        RecordDamagedError: it is not exactly what was signed.
    """
    try:
        whole = orjson.loads(content)
        document, signature = whole["document"], base64.b64decode(whole["signature"], validate=True)
        key = base64.b64decode(document["key"], validate=True)
        if canonical(whole) != content or set(whole) != {"document", "signature"}:
            raise RecordDamagedError(f"{name} is not written as it was signed")
        Ed25519PublicKey.from_public_bytes(key).verify(signature, canonical(document))
    except InvalidSignature as error:
        raise RecordDamagedError(f"{name} has a wrong signature: it was changed, or somebody else wrote it") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RecordDamagedError(f"{name} is damaged: {error}") from error
    return document, key


def encode(record: Record, signer: Signer) -> Written:
    """Return a record as its file holds it."""
    document = {
        "format": FORMAT,
        "vault": record.vault,
        "sequence": record.sequence,
        "previous": record.previous,
        "at": record.at.isoformat(),
        "kind": str(record.kind),
        "body": dict(record.body),
    }
    content = signed(document, signer)
    return Written(record, signer.public, _digest(content), content)


def decode(content: bytes, *, name: str) -> Written:
    """Return the record that a file holds, its own signature checked.

    Raises:
        RecordDamagedError: it is not what was written.
    """
    document, key = opened(content, name=name)
    try:
        if set(document) != _MEMBERS or document["format"] != FORMAT:
            raise RecordDamagedError(f"{name} is no record that this release knows")
        record = Record(
            vault=document["vault"],
            sequence=int(document["sequence"]),
            previous=document["previous"],
            at=datetime.fromisoformat(document["at"]),
            kind=document["kind"],
            body=document["body"],
        )
    except (ValueError, TypeError) as error:
        raise RecordDamagedError(f"{name} is no record: {error}") from error
    return Written(record, key, _digest(content), content)


def next_record(vault_id: str, head: Head, kind: str, body: Mapping[str, Any], *, at: datetime) -> Record:
    """Return the record that follows `head`."""
    return Record(vault_id, head.sequence + 1, head.digest, at, kind, body)


def verify(
    vault_id: str,
    files: Iterable[tuple[int, bytes]],
    *,
    trusted: frozenset[bytes],
    start: Head | None = None,
    end: Head | None = None,
) -> tuple[tuple[Written, ...], tuple[Fault, ...]]:
    """Return the records of a vault that can be trusted, in order, and all that is not as it was written.

    Args:
        vault_id: whose records these are said to be.
        files: the number in each file's name, and what it holds, in the order of the numbers.
        trusted: the public keys whose signature counts.
        start: what is known to lie before the first of the files; None: they are all there are.
        end: where the chain must at least have come, as the database or a recovery kit remembers it.
    """
    faults: list[Fault] = []
    good: list[Written] = []
    head = start or Head()
    for sequence, content in files:
        faults.extend(_missing(head.sequence + 1, sequence - 1))
        try:
            written = decode(content, name=f"record {sequence}")
        except RecordDamagedError as error:
            faults.append(Fault(sequence, str(error)))
            head = Head(sequence, _digest(content))
            continue
        record = written.record
        if record.vault != vault_id or record.sequence != sequence:
            faults.append(
                Fault(sequence, f"record {sequence} is number {record.sequence} of vault {record.vault}, misplaced")
            )
        elif sequence <= head.sequence:
            faults.append(Fault(sequence, f"record {sequence} is out of order"))
        elif sequence == head.sequence + 1 and record.previous != head.digest:
            faults.append(Fault(sequence, f"record {sequence} does not follow the record before it"))
        good.append(written)
        head = Head(sequence, written.digest)
        if end is not None and end.sequence == sequence and end.digest != written.digest:
            faults.append(Fault(sequence, f"record {sequence} is not the one that is remembered"))
    if end is not None and end.sequence > head.sequence:
        faults.extend(_missing(head.sequence + 1, end.sequence))
    vouched = _vouched(good, trusted)
    faults.extend(
        Fault(written.record.sequence, f"record {written.record.sequence} was signed by a key that is not trusted")
        for written, is_vouched in zip(good, vouched, strict=True)
        if not is_vouched
    )
    return tuple(written for written, is_vouched in zip(good, vouched, strict=True) if is_vouched), tuple(faults)


def _vouched(chain: list[Written], trusted: frozenset[bytes]) -> list[bool]:
    """Return for each record whether a trusted key signed it, or one that names it, through others or not."""
    found: list[bool] = []
    named = ""
    for written in reversed(chain):
        is_vouched = written.key in trusted or written.digest == named
        named = written.record.previous if is_vouched else ""
        found.append(is_vouched)
    return found[::-1]


def _missing(first: int, last: int) -> list[Fault]:
    if last - first >= _NAMED_AT_MOST:
        return [Fault(first, f"records {first} to {last} are missing")]
    return [Fault(number, f"record {number} is missing") for number in range(first, last + 1)]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
