"""Opening a data directory for a command that works on it by itself, or making one for what lies in storage."""

import base64
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from holdfast.cli.keys import root_key_in
from holdfast.core.errors import InvalidInputError, NotFoundError
from holdfast.core.settings import Mode
from holdfast.server.data_directory import DataDirectory, write_private


class StorageGivenError(InvalidInputError):
    """A storage was named for a data directory that has its own configuration."""


def open_or_make(
    directory: DataDirectory, *, storage: str | None, root_key: Path | None, recovery_private: bytes | None = None
) -> Mode:
    """Return the mode of a data directory; a new one is made for the named storage and key.

    Raises:
        StorageGivenError: it has a configuration of its own.
        WrongDirectoryError: something else lies there.
        KeyNotReadError: the root key cannot be read.
    """
    mode = directory.mode()
    if mode is not None:
        if storage is not None or root_key is not None:
            raise StorageGivenError(
                f"{directory.path} has a configuration and a root key of its own; leave --storage and --root-key out, "
                "or name a new data directory"
            )
        return mode
    key = None if root_key is None else root_key_in(root_key)
    directory.create(Mode.SERVE)
    if key is not None:
        directory.root_key.unlink(missing_ok=True)
        write_private(directory.root_key, base64.b64encode(key.material) + b"\n")
    if recovery_private is not None:
        public = X25519PrivateKey.from_private_bytes(recovery_private).public_key().public_bytes_raw()
        write_private(directory.recovery_public_key, public)
    if storage is not None:
        url = storage if "://" in storage else Path(storage).resolve().as_uri()
        write_private(directory.configuration, f"[storage.local]\nurl = {json.dumps(url)}\n".encode())
    return Mode.SERVE


def existing(directory: DataDirectory) -> Mode:
    """Return the mode of a data directory that is there.

    Raises:
        NotFoundError: there is none.
    """
    mode = directory.mode()
    if mode is None:
        raise NotFoundError(f"there is no data directory at {directory.path}; name the one that the server runs on")
    return mode
