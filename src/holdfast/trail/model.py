"""Sealed blocks of the audit trail, as values: what is hashed, chained and signed, and what a check finds.

A block is a JSON file that anybody can check with SHA-256 and Ed25519 alone; `docs/audit-trail.md` describes it.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from holdfast.core.errors import DamagedError
from holdfast.core.seal import RootKey

COLUMNS: Final = (
    "id",
    "at",
    "kind",
    "account",
    "region",
    "service",
    "operation",
    "principal_arn",
    "person",
    "source_ip",
    "user_agent",
    "request_id",
    "decision",
    "reason",
    "parameters",
)
"""What an entry says; which block it is in is not a part of it."""

NOTHING_BEFORE: Final = "0" * 64
_LEAF, _NODE = b"\x00", b"\x01"


class BlockUnreadableError(DamagedError):
    """A block's file is not what a sealer writes."""


def canonical(value: Mapping[str, Any]) -> str:
    """Return a value as the one text that is hashed: JSON, keys sorted, no spaces, ASCII only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def entry_text(row: Mapping[str, Any]) -> str:
    """Return the text of an entry that its hash is made of."""
    return canonical({column: row[column] for column in COLUMNS})


def merkle_root(texts: Iterable[str]) -> str:
    """Return the root of the tree of hashes over entries in their order; an odd one goes up alone."""
    level = [hashlib.sha256(_LEAF + text.encode()).digest() for text in texts]
    if not level:
        return NOTHING_BEFORE
    while len(level) > 1:
        paired = [hashlib.sha256(_NODE + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = [*paired, level[-1]] if len(level) % 2 else paired
    return level[0].hex()


@dataclass(frozen=True, slots=True)
class Block:
    """What is signed of entries that were sealed together."""

    number: int
    previous: str
    """The hash of the block before."""
    root: str
    entries: int
    first_id: int
    last_id: int
    sealed_at: int
    """Microseconds since 1970, by machine time."""

    @property
    def text(self) -> str:
        """The text that is hashed and signed."""
        return canonical(
            {
                "number": self.number,
                "previous": self.previous,
                "root": self.root,
                "entries": self.entries,
                "first_id": self.first_id,
                "last_id": self.last_id,
                "sealed_at": self.sealed_at,
            }
        )

    @property
    def hash(self) -> str:
        """What the next block names as the one before it."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def file_name(self) -> str:
        """Where it lies in storage."""
        return f"{self.number:012d}.json"


@dataclass(frozen=True, slots=True)
class TrailKey:
    """The key that blocks are signed with, derived from the root key."""

    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def of(cls, root_key: RootKey) -> "TrailKey":
        """Return the trail's key of an installation."""
        return cls(Ed25519PrivateKey.from_private_bytes(root_key.derive("audit trail")))

    @property
    def public(self) -> bytes:
        """What an auditor checks signatures with."""
        raw = serialization.Encoding.Raw
        return self.private.public_key().public_bytes(raw, serialization.PublicFormat.Raw)

    def sign(self, block: Block) -> str:
        """Return the signature of a block."""
        return base64.b64encode(self.private.sign(block.text.encode())).decode("ascii")


def is_signed(block: Block, signature: str, public: bytes) -> bool:
    """Return whether the key with this public half signed the block."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature), block.text.encode())
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def block_file(block: Block, signature: str, texts: Sequence[str]) -> bytes:
    """Return a block as it lies in storage: what is signed, the signature, and the entries themselves."""
    shape = {"format": 1, "block": json.loads(block.text), "signature": signature, "entries": list(texts)}
    return (json.dumps(shape, indent=0, ensure_ascii=True) + "\n").encode()


def read_block_file(content: bytes) -> tuple[Block, str, tuple[str, ...]]:
    """Return the block, its signature and the texts of its entries.

    Raises:
        BlockUnreadableError: a sealer did not write this.
    """
    try:
        shape = json.loads(content)
        block = Block(**shape["block"])
        return block, str(shape["signature"]), tuple(str(text) for text in shape["entries"])
    except (ValueError, KeyError, TypeError) as error:
        raise BlockUnreadableError(f"the file cannot be read as a sealed block: {error}") from error


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check of the trail found."""

    blocks: int
    entries: int
    findings: tuple[str, ...]
    unsealed: int
    """Entries that no block covers yet, and that nothing protects."""
    unsealed_since: int | None

    @property
    def is_whole(self) -> bool:
        """Whether nothing was changed, dropped, reordered or cut off."""
        return not self.findings


def compare_entries(number: int, sealed: Sequence[str], present: Sequence[str]) -> list[str]:
    """Return how the database's entries of a block differ from those that were sealed, each named by its id."""
    if list(sealed) == list(present):
        return []
    was = {_id_of(text): text for text in sealed}
    now = {_id_of(text): text for text in present}
    where = f"of block {number}"
    found = [f"entry {each} {where} was dropped: it is not in the database" for each in was if each not in now]
    found += [f"entry {each} {where} was added: it was not sealed" for each in now if each not in was]
    for each, text in now.items():
        if each in was and was[each] != text:
            found.append(f"entry {each} {where} was changed: {_difference(was[each], text)}")
    return found or [f"entries {where} were reordered"]


def _fields(text: str) -> Mapping[str, Any]:
    try:
        fields = json.loads(text)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _id_of(text: str) -> object:
    return _fields(text).get("id", text[:80])


def _difference(was: str, now: str) -> str:
    before, after = _fields(was), _fields(now)
    changed = [column for column in COLUMNS if before.get(column) != after.get(column)]
    return ", ".join(f"{column} was {before.get(column)!r} and is {after.get(column)!r}"[:300] for column in changed)
