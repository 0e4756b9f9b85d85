"""Keys that a person hands over in a file or on standard input."""

import sys
from pathlib import Path

from holdfast.core.errors import InvalidInputError
from holdfast.core.seal import RootKey
from holdfast.key.service import read_recovery_key
from holdfast.server.data_directory import parse_root_key


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
    """Return the private recovery key in a file, or on standard input for `-`, as the recovery kit prints it.

    Raises:
        KeyNotReadError: the file cannot be read, or what it holds was mistyped.
    """
    try:
        return read_recovery_key(_text(path))
    except InvalidInputError as error:
        raise KeyNotReadError(f"{path} holds no recovery key: {error}") from error


def _text(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="ascii")
    except OSError as error:
        raise KeyNotReadError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise KeyNotReadError(f"{path} holds no key: a key is written in letters and digits") from error
