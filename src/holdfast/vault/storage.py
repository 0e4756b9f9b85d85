"""From configured storages to places that keep files, and parts of such a place by path."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from holdfast.core.errors import InvalidInputError
from holdfast.core.settings import StorageSettings
from holdfast.repository import object_storage
from holdfast.repository.cipher import Buffer
from holdfast.repository.object_storage import S3Access
from holdfast.repository.storage import LocalStorage, Storage, Stored, refuse_bad_storage_name

VAULTS = "vaults/"
"""The directory of a storage that everything of every vault lies in."""
_S3_OPTIONS: Final = ("endpoint", "region", "access_key", "secret_key", "session_token")


class UnknownStorageError(InvalidInputError):
    """A storage's URL is of no kind that can be used."""


class Below:
    """The part of a storage whose names begin with a prefix."""

    def __init__(self, storage: Storage, prefix: str) -> None:
        refuse_bad_storage_name(prefix.rstrip("/"))
        self._storage = storage
        self._prefix = prefix.rstrip("/") + "/"

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        """Store the pieces under `name`."""
        self._storage.put(self._name(name), *pieces, new=new)

    def get(self, name: str) -> bytes:
        """Return all of a file."""
        return self._storage.get(self._name(name))

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a file."""
        return self._storage.get_range(self._name(name), offset, length)

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every file whose name begins with `prefix`."""
        for found in self._storage.list(self._prefix + prefix):
            yield Stored(found.name.removeprefix(self._prefix), found.size)

    def size(self, name: str) -> int:
        """Return the length of a file."""
        return self._storage.size(self._name(name))

    def delete(self, name: str) -> None:
        """Remove a file."""
        self._storage.delete(self._name(name))

    def _name(self, name: str) -> str:
        refuse_bad_storage_name(name)  # before the prefix is there, which `..` would take away
        return self._prefix + name


def open_storage(settings: StorageSettings) -> Storage:
    """Return the storage that the settings describe; nothing is read or written yet.

    Raises:
        UnknownStorageError: the URL is of no kind that can be used, or an option is not known there.
    """
    url = urlsplit(settings.url)
    match url.scheme:
        case "file":
            if url.netloc not in {"", "localhost"} or not url.path.startswith("/"):
                raise UnknownStorageError(f"storage {settings.name}: write file:///ABSOLUTE/PATH, not {settings.url}")
            _only_known(settings, ())
            return LocalStorage(Path(unquote(url.path)))
        case "s3":
            if not url.netloc or "@" in url.netloc or url.query or url.fragment:
                raise UnknownStorageError(f"storage {settings.name}: write s3://BUCKET/PREFIX, not {settings.url}")
            _only_known(settings, _S3_OPTIONS)
            return _s3_storage(url.netloc, url.path.strip("/"), S3Access(**settings.options))
        case "gs" | "az":
            _only_known(settings, ())  # their credentials come from the environment
            return object_storage.object_storage(settings.url)
        case _:
            raise UnknownStorageError(
                f"storage {settings.name}: {url.scheme or 'no scheme'} is no kind of storage that can be used; give "
                "file:///ABSOLUTE/PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
            )


@lru_cache(maxsize=32)
def _s3_storage(bucket: str, prefix: str, access: S3Access) -> Storage:
    # Kept, because each one has connections of its own.
    return object_storage.s3_storage(bucket, prefix, access)


def _only_known(settings: StorageSettings, known: tuple[str, ...]) -> None:
    unknown = sorted(set(settings.options) - set(known))
    if unknown:
        raise UnknownStorageError(
            f"storage {settings.name}: {unknown[0]} is no option of {settings.url.partition(':')[0]} storages; "
            f"known there: {', '.join(known) or 'none'}"
        )
