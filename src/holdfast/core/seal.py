"""Sealing small secrets under the root key: one key per purpose, each sealing bound to where it belongs.

The root key is 32 random bytes. Keys for single purposes are derived from it by HKDF-SHA-256, so that no two purposes
share one; what is sealed is AES-256-GCM with a random nonce and the context as associated data, so that a sealed
value cannot be moved to another row.
"""

import os
import secrets
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.core.errors import DamagedError

KEY_BYTES = 32
_NONCE_BYTES = 12
_FORMAT = b"\x01"


class SealBrokenError(DamagedError):
    """A sealed value does not open: another root key, a changed byte, or a value moved from where it belongs."""


@dataclass(frozen=True, slots=True)
class RootKey:
    """The one key above all others. Whoever holds it and the storage can rebuild everything."""

    material: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.material) != KEY_BYTES:
            raise ValueError(f"a root key is {KEY_BYTES} bytes, not {len(self.material)}")

    @classmethod
    def generate(cls) -> "RootKey":
        """Return a new random root key."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def id(self) -> str:
        """A short fingerprint that names this key without revealing it (16 hex digits)."""
        return self.derive("fingerprint")[:8].hex()

    def derive(self, purpose: str, length: int = KEY_BYTES) -> bytes:
        """Return `length` bytes of key that belong to `purpose` alone."""
        info = b"holdfast/" + purpose.encode()
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(self.material)

    def seal(self, purpose: str, plaintext: bytes, *, context: str) -> bytes:
        """Return `plaintext` encrypted for `purpose`, bound to `context` (say, the row it is stored in)."""
        return seal(self.derive(purpose), plaintext, context=context)

    def unseal(self, purpose: str, sealed: bytes, *, context: str) -> bytes:
        """Return what was sealed for the same purpose and context.

        Raises:
            SealBrokenError: it was not sealed by this key for this purpose and context, or it was changed.
        """
        return unseal(self.derive(purpose), sealed, context=context)


def seal(key: bytes, plaintext: bytes, *, context: str) -> bytes:
    """Return `plaintext` encrypted under the 32-byte `key`, bound to `context`."""
    nonce = os.urandom(_NONCE_BYTES)
    return _FORMAT + nonce + AESGCM(key).encrypt(nonce, plaintext, context.encode())


def unseal(key: bytes, sealed: bytes, *, context: str) -> bytes:
    """Return what `seal` encrypted under the same key and context.

    Raises:
        SealBrokenError: key or context is another, or a byte was changed.
    """
    nonce, box = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    broken = f"the value sealed for {context} does not open with this key"
    if sealed[:1] != _FORMAT:
        raise SealBrokenError(broken)
    try:
        return AESGCM(key).decrypt(nonce, box, context.encode())
    except (InvalidTag, ValueError) as error:
        raise SealBrokenError(broken) from error
