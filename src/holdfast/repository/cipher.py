"""The one box everything lies in: AES-256-CTR with Poly1305-AES, and the keys for it.

A sealed text is a 16-byte nonce, the ciphertext of the same length as the plaintext, and a 16-byte tag over the
ciphertext. The tag's key is the fixed half `r` and AES of the nonce under `k`. Nonces come from the operating system
for each box, so that forked processes never share one.
"""

import base64
import hashlib
import os
import secrets
import threading
from dataclasses import dataclass, field

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.poly1305 import Poly1305

from holdfast.core.errors import DamagedError

Buffer = bytes | bytearray | memoryview

NONCE_BYTES = 16
TAG_BYTES = 16
OVERHEAD = NONCE_BYTES + TAG_BYTES
_ENCRYPT_BYTES = 32
_MAC_HALF_BYTES = 16


class BoxBrokenError(DamagedError):
    """A sealed text does not open: it was changed, cut short, or sealed under another key."""


@dataclass(frozen=True, slots=True)
class BoxKey:
    """The three secrets of one box: the AES key for the text, and the two halves of the tag's key."""

    encrypt: bytes = field(repr=False)
    mac_k: bytes = field(repr=False)
    mac_r: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if (len(self.encrypt), len(self.mac_k), len(self.mac_r)) != (_ENCRYPT_BYTES, _MAC_HALF_BYTES, _MAC_HALF_BYTES):
            raise ValueError("a key is 32 bytes to encrypt and twice 16 bytes to authenticate")

    @classmethod
    def generate(cls) -> "BoxKey":
        """Return a new random key."""
        return cls(
            secrets.token_bytes(_ENCRYPT_BYTES),
            secrets.token_bytes(_MAC_HALF_BYTES),
            _clamped(secrets.token_bytes(_MAC_HALF_BYTES)),
        )

    @classmethod
    def from_bytes(cls, material: bytes) -> "BoxKey":
        """Return the key that 64 bytes of derived material spell: text key, then `k`, then `r`."""
        return cls(material[:32], material[32:48], _clamped(material[48:64]))

    @classmethod
    def from_json(cls, text: bytes) -> "BoxKey":
        """Return the key that restic's JSON of a master key holds.

        Raises:
            BoxBrokenError: the text is not such a key.
        """
        try:
            value = orjson.loads(text)
            return cls(
                base64.b64decode(value["encrypt"], validate=True),
                base64.b64decode(value["mac"]["k"], validate=True),
                base64.b64decode(value["mac"]["r"], validate=True),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BoxBrokenError("the master key inside a key file is not readable") from error

    def to_json(self) -> bytes:
        """Return restic's JSON of this key."""
        k, r, encrypt = (base64.b64encode(part).decode() for part in (self.mac_k, self.mac_r, self.encrypt))
        return orjson.dumps({"mac": {"k": k, "r": r}, "encrypt": encrypt})

    def derive(self, purpose: str, length: int) -> bytes:
        """Return `length` bytes that belong to `purpose` under this key, by HKDF-SHA-256."""
        info = b"holdfast repository/" + purpose.encode()
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(self.encrypt)


def _clamped(r: bytes) -> bytes:
    """Return `r` with the bits cleared that Poly1305 requires to be clear."""
    out = bytearray(r)
    for at in (3, 7, 11, 15):
        out[at] &= 15
    for at in (4, 8, 12):
        out[at] &= 252
    return bytes(out)


class _Contexts(threading.local):
    """The cipher contexts of one thread; making one costs more than sealing a small blob."""

    text: CipherContext | None = None
    untext: CipherContext | None = None
    nonce: CipherContext | None = None


class Box:
    """Seals and opens texts under one key. Safe to share between threads."""

    def __init__(self, key: BoxKey) -> None:
        self.key = key
        self._text_algorithm = algorithms.AES(key.encrypt)
        self._nonce_algorithm = algorithms.AES(key.mac_k)
        self._contexts = _Contexts()

    def _tag_key(self, nonce: bytes) -> bytes:
        context = self._contexts.nonce
        if context is None:
            # One block under a key used for nothing else: ECB is what Poly1305-AES is defined with.
            context = self._contexts.nonce = Cipher(self._nonce_algorithm, modes.ECB()).encryptor()  # noqa: S305 - see above
        return self.key.mac_r + context.update(nonce)

    def seal(self, plaintext: Buffer) -> bytearray:
        """Return `plaintext` sealed under a fresh nonce."""
        nonce = os.urandom(NONCE_BYTES)
        context = self._contexts.text
        if context is None:
            context = self._contexts.text = Cipher(self._text_algorithm, modes.CTR(nonce)).encryptor()
        else:
            context.reset_nonce(nonce)
        end = NONCE_BYTES + len(plaintext)
        box = bytearray(end + TAG_BYTES)
        box[:NONCE_BYTES] = nonce
        with memoryview(box) as view, view[NONCE_BYTES:end] as ciphertext:
            context.update_into(plaintext, ciphertext)
            box[end:] = Poly1305.generate_tag(self._tag_key(nonce), ciphertext)
        return box

    def open(self, box: Buffer) -> bytearray:
        """Return the plaintext of `box`.

        Raises:
            BoxBrokenError: it was changed, cut short, or sealed under another key.
        """
        size = len(box) - OVERHEAD
        if size < 0:
            raise BoxBrokenError(f"a sealed text of {len(box)} bytes is shorter than its own frame")
        with memoryview(box) as view:
            nonce = bytes(view[:NONCE_BYTES])
            ciphertext = view[NONCE_BYTES : NONCE_BYTES + size]
            try:
                Poly1305.verify_tag(self._tag_key(nonce), ciphertext, bytes(view[NONCE_BYTES + size :]))
            except InvalidSignature as error:
                raise BoxBrokenError("a sealed text was changed, or sealed under another key") from error
            context = self._contexts.untext
            if context is None:
                context = self._contexts.untext = Cipher(self._text_algorithm, modes.CTR(nonce)).decryptor()
            else:
                context.reset_nonce(nonce)
            plaintext = bytearray(size)
            context.update_into(ciphertext, plaintext)
            ciphertext.release()
        return plaintext


def scrypt_key(password: str, *, salt: bytes, n: int, r: int, p: int) -> BoxKey:
    """Return the key that a password gives with these scrypt parameters.

    Raises:
        BoxBrokenError: the parameters are outside of what scrypt can do.
    """
    try:
        # 128*n*r bytes are what scrypt needs; OpenSSL wants the limit said, with some room.
        material = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=132 * n * r + (1 << 20), dklen=64)
    except (ValueError, OverflowError, MemoryError) as error:
        raise BoxBrokenError(f"a key file asks for impossible scrypt parameters (N={n}, r={r}, p={p})") from error
    return BoxKey.from_bytes(material)
