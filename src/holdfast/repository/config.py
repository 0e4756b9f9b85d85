"""A repository's config: its version, its id, and the polynomial that restic's own chunker needs."""

import secrets
from dataclasses import dataclass

import orjson

from holdfast.core.errors import DamagedError, InvalidStateError
from holdfast.repository.cipher import Box
from holdfast.repository.storage import Storage

VERSION = 2
_DEGREE = 53


class ConfigBrokenError(DamagedError):
    """The config does not open or is not a config."""


class UnknownVersionError(InvalidStateError):
    """The repository is of a format version that this engine does not write."""


@dataclass(frozen=True, slots=True)
class Config:
    """What `config` on storage holds."""

    version: int
    id: str
    chunker_polynomial: str

    @classmethod
    def generate(cls) -> "Config":
        """Return the config of a new repository."""
        return cls(VERSION, secrets.token_hex(32), f"{irreducible_polynomial():x}")


def put_config(storage: Storage, box: Box, config: Config) -> None:
    """Store a new repository's config.

    Raises:
        AlreadyStoredError: there is a repository already.
    """
    text = orjson.dumps({"version": config.version, "id": config.id, "chunker_polynomial": config.chunker_polynomial})
    storage.put("config", box.seal(text), new=True)


def get_config(storage: Storage, box: Box) -> Config:
    """Return the repository's config.

    Raises:
        ConfigBrokenError: it is damaged.
        UnknownVersionError: it is of another version than 2.
        NotStoredError: there is none.
    """
    try:
        value = orjson.loads(bytes(box.open(storage.get("config"))))
        config = Config(int(value["version"]), str(value["id"]), str(value["chunker_polynomial"]))
    except (DamagedError, ValueError, KeyError, TypeError) as error:
        raise ConfigBrokenError(f"the repository's config is damaged: {error}") from error
    if config.version != VERSION:
        raise UnknownVersionError(
            f"the repository has format version {config.version}, and only version {VERSION} can be used; "
            "`restic migrate upgrade_repo_v2` changes an older one"
        )
    return config


def irreducible_polynomial() -> int:
    """Return a random irreducible polynomial of degree 53 over GF(2), as bits."""
    while True:
        # The highest term makes the degree, and one without a constant term could be divided by x.
        candidate = secrets.randbits(_DEGREE) | 1 << _DEGREE | 1
        if is_irreducible(candidate):
            return candidate


def is_irreducible(polynomial: int) -> bool:
    """Whether a polynomial over GF(2) of prime degree n has no divisor, by Rabin's test.

    For a prime n: x^(2^n) must be x modulo the polynomial, and x^2 - x must share no factor with it.
    """
    degree = polynomial.bit_length() - 1
    x, x_squared_less_x = 0b10, 0b110
    power = x
    for _ in range(degree):
        power = _modulo(_square(power), polynomial)
    return power == x and _common_divisor(polynomial, x_squared_less_x) == 1


def _square(a: int) -> int:
    return int(f"{a:b}", 4)  # squaring over GF(2) puts a zero between the bits


def _modulo(a: int, b: int) -> int:
    size = b.bit_length()
    while a.bit_length() >= size:
        a ^= b << (a.bit_length() - size)
    return a


def _common_divisor(a: int, b: int) -> int:
    while b:
        a, b = b, _modulo(a, b)
    return a
