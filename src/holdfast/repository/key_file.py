"""Key files: the master key, wrapped by what scrypt makes of a password. Any of several opens the repository."""

import base64
import hashlib
import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import orjson

from holdfast.core.errors import DamagedError, DeniedError, InvalidStateError, NotFoundError
from holdfast.repository import go_json
from holdfast.repository.cipher import Box, BoxBrokenError, BoxKey, scrypt_key
from holdfast.repository.storage import NotStoredError, Storage

_SALT_BYTES = 64


class WrongPasswordError(DeniedError):
    """No key file opens with this password."""


class KeyFileBrokenError(DamagedError):
    """A key file's bytes are not what its name says."""


class KeyFileNotFoundError(NotFoundError):
    """The repository has no such key file."""


class LastKeyFileError(InvalidStateError):
    """Without this key file nobody could open the repository any more."""


class NoRepositoryError(NotFoundError):
    """There is no repository where one was looked for."""


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """How much work a password costs."""

    n: int
    r: int
    p: int


# A random password of full entropy needs no cost; one that a person chose needs what is the least.
COST_FOR_RANDOM_PASSWORD = ScryptCost(1024, 8, 1)
# (OWASP Password Storage Cheat Sheet, "scrypt").
COST_FOR_HUMAN_PASSWORD = ScryptCost(1 << 15, 8, 3)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a key file says in clear about itself. Without an instant (RFC 3339) it is damaged, and says nothing."""

    id: str
    username: str = ""
    hostname: str = ""
    created: str | None = None


def new_password() -> str:
    """Return a random password with the entropy of the master key itself."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


def put_key_file(
    storage: Storage,
    master: BoxKey,
    password: str,
    *,
    cost: ScryptCost,
    username: str,
    hostname: str,
    at: datetime,
) -> str:
    """Store the master key wrapped by a password; return the key file's id."""
    salt = secrets.token_bytes(_SALT_BYTES)
    wrapping = scrypt_key(password, salt=salt, n=cost.n, r=cost.r, p=cost.p)
    wrapped = Box(wrapping).seal(master.to_json())
    text = orjson.dumps(
        {
            "created": go_json.rfc3339(at),
            "username": username,
            "hostname": hostname,
            "kdf": "scrypt",
            "N": cost.n,
            "r": cost.r,
            "p": cost.p,
            "salt": base64.b64encode(salt).decode(),
            "data": base64.b64encode(wrapped).decode(),
        }
    )
    name = hashlib.sha256(text).hexdigest()
    storage.put(f"keys/{name}", text)
    return name


def open_master_key(storage: Storage, password: str) -> tuple[BoxKey, str]:
    """Return the master key that a password opens, and the id of the key file.

    Raises:
        NoRepositoryError: there is no key file at all.
        WrongPasswordError: none opens.
        KeyFileBrokenError: none opens, and one is damaged.
    """
    names = sorted(stored.name for stored in storage.list("keys/"))
    if not names:
        raise NoRepositoryError("there is no repository here: it has no key file")
    damaged: str | None = None
    for name in names:
        try:
            text = storage.get(name)
        except NotStoredError:
            continue
        key_id = name.removeprefix("keys/")
        if hashlib.sha256(text).hexdigest() != key_id:
            damaged = name
            continue
        with suppress(BoxBrokenError):
            return _open(text, password), key_id
    if damaged is not None:
        raise KeyFileBrokenError(
            f"the key file {damaged} is damaged, and the password opens no other; another key file's password may"
        )
    raise WrongPasswordError("the password opens none of the repository's key files")


def list_key_files(storage: Storage) -> list[KeyFile]:
    """Return what the key files say of themselves."""
    out = []
    for stored in sorted(storage.list("keys/")):
        name = stored.name.removeprefix("keys/")
        try:
            value = orjson.loads(storage.get(stored.name))
            out.append(KeyFile(name, value.get("username", ""), value.get("hostname", ""), value["created"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            out.append(KeyFile(name))
    return out


def delete_key_file(storage: Storage, key_id: str) -> None:
    """Remove a key file.

    Raises:
        KeyFileNotFoundError: there is none of that id.
        LastKeyFileError: no other would be left.
    """
    names = [stored.name for stored in storage.list("keys/")]
    if f"keys/{key_id}" not in names:
        raise KeyFileNotFoundError(f"the repository has no key file {key_id}")
    if len(names) == 1:
        raise LastKeyFileError("this is the only key file; add another password before you remove it")
    storage.delete(f"keys/{key_id}")


def _open(text: bytes, password: str) -> BoxKey:
    try:
        value = orjson.loads(text)
        if value["kdf"] != "scrypt":
            raise BoxBrokenError(f"a key file uses {value['kdf']!r}, which is not known")
        salt, wrapped = base64.b64decode(value["salt"]), base64.b64decode(value["data"])
        n, r, p = int(value["N"]), int(value["r"]), int(value["p"])
    except (ValueError, KeyError, TypeError) as error:
        raise BoxBrokenError("a key file is not readable") from error
    wrapping = scrypt_key(password, salt=salt, n=n, r=r, p=p)
    return BoxKey.from_json(bytes(Box(wrapping).open(wrapped)))
