"""Who signs the audit trail: the key belongs to the root key, so another root key brings another trail key.

When the root key changes, a file beside the blocks says after which block the new key signs, signed by both: whoever
wrote the first key down can follow to the present one, and who has the present one knows which came before.

    audit/key-000000000042.json   {"after": 42, "from": HEX, "to": HEX, "signatures": [by from, by to]}
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from holdfast.repository.storage import Storage
from holdfast.trail.model import TrailKey, canonical

_PREFIX: Final = "key-"


@dataclass(frozen=True, slots=True)
class TrailKeys:
    """The keys that sign a trail, each from a block on."""

    spans: tuple[tuple[int, bytes], ...]
    """First block and public key, in order."""

    def of(self, number: int) -> bytes:
        """Return the public key that signs the block of this number."""
        return [public for first, public in self.spans if first <= number][-1]


def succession_file(old: TrailKey, new: TrailKey, *, after: int) -> tuple[str, bytes]:
    """Return name and content of the file that says that `new` signs the blocks after `after`."""
    told = {"after": after, "from": old.public.hex(), "to": new.public.hex()}
    text = canonical(told).encode()
    signatures = [base64.b64encode(key.private.sign(text)).decode("ascii") for key in (old, new)]
    return f"{_PREFIX}{after:012d}.json", (canonical({**told, "signatures": signatures}) + "\n").encode()


def trail_keys(storage: Storage, public: bytes) -> TrailKeys:
    """Return the keys of a trail, of which `public` is one, as the files beside its blocks tell.

    A file that either key did not sign counts as none; the blocks that it was for then fail their check.
    """
    told = [found for each in storage.list("") if (found := _read(storage, each.name)) is not None]
    first, last = public.hex(), public.hex()
    before: list[tuple[int, str]] = []
    after: list[tuple[int, str]] = []
    for each in sorted(told, key=lambda one: -one["after"]):
        if each["to"] == first:
            before.append((each["after"] + 1, first))
            first = each["from"]
    for each in sorted(told, key=lambda one: one["after"]):
        if each["from"] == last:
            last = each["to"]
            after.append((each["after"] + 1, last))
    spans = [(1, first), *before[::-1], *after]
    return TrailKeys(tuple((number, bytes.fromhex(key)) for number, key in spans))


def _read(storage: Storage, name: str) -> Mapping[str, Any] | None:
    if not name.startswith(_PREFIX):
        return None
    try:
        whole = json.loads(storage.get(name))
        text = canonical({member: whole[member] for member in ("after", "from", "to")}).encode()
        for key, signature in zip((whole["from"], whole["to"]), whole["signatures"], strict=True):
            signed = base64.b64decode(signature, validate=True)
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signed, text)
        return whole if isinstance(whole["after"], int) else None
    except (InvalidSignature, binascii.Error, ValueError, KeyError, TypeError):
        return None
