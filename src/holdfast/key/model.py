"""Encryption keys as values: their states, what a ciphertext says of itself, and key chains that need no database."""

import base64
import binascii
import hashlib
import json
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.core.errors import InvalidInputError, InvalidStateError, NotFoundError
from holdfast.core.seal import KEY_BYTES, RootKey, SealBrokenError, seal, unseal

PURPOSE: Final = "kms"
"""What key material is sealed for under the root key."""
BACKUP_ALIAS: Final = "alias/aws/backup"
SHORTEST_WAIT, LONGEST_WAIT = 7, 30
"""Days that a scheduled deletion waits at least and at most."""

_MAGIC = b"HFK1"
_HEADER = struct.Struct(">4s16sI")
_RECOVERY_MAGIC = b"HFR1"
_X25519_BYTES = 32
_CHECK_BYTES = 3
_GROUP = 8


class KeyNotFoundError(NotFoundError):
    """There is no such key or alias."""


class KeyDisabledError(InvalidStateError):
    """The key is disabled."""


class KeyStateError(InvalidStateError):
    """The key's state does not allow what was asked, for it waits for deletion."""


class KeyNeededError(InvalidStateError):
    """Recovery points that nobody may delete can be opened with this key only."""


class InvalidCiphertextError(InvalidInputError):
    """A ciphertext was not made by this key with this encryption context, or was changed."""


class IncorrectKeyError(InvalidInputError):
    """A ciphertext was made by another key than the one named."""


class KeyState(StrEnum):
    """What may be done with a key."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"


class Manager(StrEnum):
    """Who looks after a key."""

    AWS = "AWS"
    """Holdfast itself, for one of its services: policy and life are not the account's to change."""
    CUSTOMER = "CUSTOMER"


@dataclass(frozen=True, slots=True)
class Key:
    """One encryption key; its material is elsewhere."""

    id: str
    account: str
    region: str
    arn: str
    description: str
    manager: Manager
    state: KeyState
    policy: str
    rotation_enabled: bool
    rotation_days: int
    created_at: datetime
    deletion_at: datetime | None

    def require_usable(self) -> None:
        """Refuse to open or make ciphertexts with a key that is not enabled.

        Raises:
            KeyDisabledError: it is disabled.
            KeyStateError: it waits for deletion.
        """
        if self.state is KeyState.DISABLED:
            raise KeyDisabledError(f"{self.arn} is disabled; enable it to use it")
        if self.state is KeyState.PENDING_DELETION:
            raise KeyStateError(f"{self.arn} is pending deletion; cancel that to use it")

    def require_changeable(self) -> None:
        """Refuse to change a key that Holdfast looks after, or one that waits for deletion.

        Raises:
            KeyStateError: it is one of those.
        """
        if self.manager is Manager.AWS:
            raise KeyStateError(f"{self.arn} is managed by AWS Backup; only customer managed keys are yours to change")
        if self.state is KeyState.PENDING_DELETION:
            raise KeyStateError(f"{self.arn} is pending deletion")


def default_policy(account: str, partition: str) -> str:
    """Return the policy of a key made without one: the account decides by its own policies."""
    statement = {
        "Sid": "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:{partition}:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})


def managed_policy(account: str, partition: str, service: str) -> str:
    """Return the policy of a key that Holdfast manages: used through `service` by the account, seen by it."""
    root = {"AWS": f"arn:{partition}:iam::{account}:root"}
    use = {
        "Sid": f"Allow use through {service} by principals of the account",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:CallerAccount": account, "kms:ViaService": service}},
    }
    see = {
        "Sid": "Allow the account to see the key",
        "Effect": "Allow",
        "Principal": root,
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*"],
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "auto-backup-1", "Statement": [use, see]})


def sealing_context(key_arn: str, version: int) -> str:
    """Return what a version of key material is bound to when it is sealed under the root key."""
    return f"kms-key {key_arn} version {version}"


def _bound(key_id: str, context: Mapping[str, str]) -> str:
    pairs = json.dumps(dict(context), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"kms-ciphertext {key_id} {pairs}"


@dataclass(frozen=True, slots=True)
class Material:
    """One version of a key, open."""

    version: int
    key: bytes = field(repr=False)


def encrypt(key_id: str, material: Material, plaintext: bytes, context: Mapping[str, str]) -> bytes:
    """Return a ciphertext that names its key and version, bound to the encryption context."""
    header = _HEADER.pack(_MAGIC, uuid.UUID(key_id).bytes, material.version)
    return header + seal(material.key, plaintext, context=_bound(key_id, context))


def read_header(ciphertext: bytes) -> tuple[str, int]:
    """Return the id of the key, and its version, that a ciphertext names.

    Raises:
        InvalidCiphertextError: it is no ciphertext of ours.
    """
    if len(ciphertext) <= _HEADER.size or not ciphertext.startswith(_MAGIC):
        raise InvalidCiphertextError("this is not a ciphertext that a key here made")
    _, key_id, version = _HEADER.unpack_from(ciphertext)
    return str(uuid.UUID(bytes=key_id)), version


def decrypt(key_id: str, material: Material, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
    """Return what `encrypt` was given, with the same key version and context.

    Raises:
        InvalidCiphertextError: key or context is another, or a byte was changed.
    """
    try:
        return unseal(material.key, ciphertext[_HEADER.size :], context=_bound(key_id, context))
    except SealBrokenError as error:
        raise InvalidCiphertextError(
            "the ciphertext does not open: it was changed, or made with another encryption context"
        ) from error


def make_chain(root_key: RootKey, key_id: str, key_arn: str, sealed: Mapping[int, bytes]) -> bytes:
    """Return a key's sealed versions as one file, to lie beside what the key protects."""
    versions = [
        {"version": number, "sealed": base64.b64encode(box).decode("ascii")} for number, box in sorted(sealed.items())
    ]
    chain = {"format": 1, "root_key": root_key.id, "key_id": key_id, "key_arn": key_arn, "versions": versions}
    return json.dumps(chain, indent=1).encode()


def open_chain(root_key: RootKey, chain: bytes, wrapped: bytes, context: Mapping[str, str]) -> bytes:
    """Return what was wrapped by a key, given its chain and the root key, and no database.

    Raises:
        InvalidCiphertextError: chain, root key, wrapped value and context do not belong together.
    """
    try:
        shape = json.loads(chain)
        key_id, key_arn = str(shape["key_id"]), str(shape["key_arn"])
        sealed = {int(each["version"]): base64.b64decode(each["sealed"], validate=True) for each in shape["versions"]}
        sealed_under = str(shape["root_key"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise InvalidCiphertextError("the key chain beside the repository cannot be read") from error
    named, version = read_header(wrapped)
    if named != key_id or version not in sealed:
        raise InvalidCiphertextError(f"the value was wrapped by version {version} of key {named}, which is not here")
    try:
        key = root_key.unseal(PURPOSE, sealed[version], context=sealing_context(key_arn, version))
    except SealBrokenError as error:
        hint = "" if sealed_under == root_key.id else f": it was sealed under {sealed_under}, this is {root_key.id}"
        raise InvalidCiphertextError(f"the key chain does not open with this root key{hint}") from error
    return decrypt(key_id, Material(version, key), wrapped, context)


@dataclass(frozen=True, slots=True)
class RecoveryPair:
    """The recovery key: the private half is shown once and never stored."""

    private: bytes = field(repr=False)
    public: bytes

    def __iter__(self) -> Iterator[bytes]:
        return iter((self.private, self.public))


def generate_recovery_pair() -> RecoveryPair:
    """Return a new recovery key."""
    private = X25519PrivateKey.generate()
    raw = serialization.Encoding.Raw
    return RecoveryPair(
        public=private.public_key().public_bytes(raw, serialization.PublicFormat.Raw),
        private=private.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()),
    )


def print_recovery_key(private: bytes) -> str:
    """Return the private half as people print and type it: groups of letters and digits, the last ones a checksum."""
    text = base64.b32encode(private + hashlib.sha256(private).digest()[:_CHECK_BYTES]).decode("ascii").rstrip("=")
    return "-".join(text[at : at + _GROUP] for at in range(0, len(text), _GROUP))


def read_recovery_key(text: str) -> bytes:
    """Return the private half that was printed as `text`; letter case, hyphens and spaces do not matter.

    Raises:
        InvalidInputError: it was mistyped.
    """
    letters = "".join(text.split()).replace("-", "").upper()
    try:
        raw = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except binascii.Error as error:
        raise InvalidInputError("this is not a recovery key: it has letters and the digits 2 to 7") from error
    private, check = raw[:_X25519_BYTES], raw[_X25519_BYTES:]
    if check != hashlib.sha256(private).digest()[:_CHECK_BYTES]:
        raise InvalidInputError("this is not a recovery key: it was mistyped, for its checksum is wrong")
    return private


def _recovery_key(shared: bytes, ephemeral: bytes, public: bytes) -> bytes:
    derive = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=ephemeral + public, info=b"holdfast/recovery")
    return derive.derive(shared)


def seal_to_recovery(public: bytes, plaintext: bytes) -> bytes:
    """Return `plaintext` sealed so that only the private half of the recovery key opens it.

    Raises:
        InvalidInputError: `public` is not a recovery key's public half.
    """
    try:
        recipient = X25519PublicKey.from_public_bytes(public)
        ephemeral = X25519PrivateKey.generate()
        shared = ephemeral.exchange(recipient)
    except ValueError as error:
        raise InvalidInputError("this is not the public half of a recovery key (32 bytes)") from error
    ours = ephemeral.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return _RECOVERY_MAGIC + ours + seal(_recovery_key(shared, ours, public), plaintext, context="recovery")


def open_with_recovery(private: bytes, sealed: bytes) -> bytes:
    """Return what was sealed to the recovery key.

    Raises:
        InvalidCiphertextError: it was sealed to another one, or was changed.
    """
    start = len(_RECOVERY_MAGIC)
    ephemeral = sealed[start : start + _X25519_BYTES]
    other = "this does not open with this recovery key"
    if not sealed.startswith(_RECOVERY_MAGIC):
        raise InvalidCiphertextError(other)
    try:
        own = X25519PrivateKey.from_private_bytes(private)
        shared = own.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        public = own.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        key = _recovery_key(shared, ephemeral, public)
        return unseal(key, sealed[start + _X25519_BYTES :], context="recovery")
    except (ValueError, InvalidTag, SealBrokenError) as error:
        raise InvalidCiphertextError(other) from error
