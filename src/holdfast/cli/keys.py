"""Keys that a person hands over in a file or on standard input."""

import base64
import binascii
import sys
from pathlib import Path
from typing import Final

from holdfast.core.errors import InvalidInputError
from holdfast.core.seal import RootKey
from holdfast.server.data_directory import parse_root_key

_RECOVERY_KEY_BYTES: Final = 32


class KeyNotReadError(InvalidInputError):
    """What was given is no key, or cannot be read."""


def root_key_in(path: Path) -> RootKey:
    """Return the root key in a file, or on standard input for `-`.

    Raises:
        KeyNotReadError: the file cannot be read.
        RootKeyError: it is not 32 bytes of base64.
    """
    return parse_root_key(_text(path))


def recovery_key_in(path: Path) -> bytes:
    """Return the private recovery key in a file, or on standard input for `-`.

    Raises:
        KeyNotReadError: the file cannot be read, or what it holds is not 32 bytes of base64.
    """
    try:
        key = base64.b64decode(_text(path).strip(), validate=True)
    except (ValueError, binascii.Error) as error:
        raise KeyNotReadError(f"{path} holds no recovery key: it is {_RECOVERY_KEY_BYTES} bytes in base64") from error
    if len(key) != _RECOVERY_KEY_BYTES:
        raise KeyNotReadError(f"{path} holds {len(key)} bytes, and a recovery key has {_RECOVERY_KEY_BYTES}")
    return key


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="ascii")
    except OSError as error:
        raise KeyNotReadError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KeyNotReadError(f"{path} holds no key: a key is written in base64") from error
