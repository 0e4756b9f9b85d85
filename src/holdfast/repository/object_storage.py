"""Storage in a bucket: S3 and whatever speaks it, Google Cloud Storage, Azure Blob Storage, through obstore."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore import store as stores

from holdfast.core.errors import HoldfastError
from holdfast.repository.cipher import Buffer
from holdfast.repository.storage import (
    AlreadyStoredError,
    InvalidStorageUrlError,
    NotStoredError,
    StorageDeniedError,
    StorageFailedError,
    Stored,
    refuse_bad_storage_name,
)

_LIST_AT_ONCE = 1000
_METADATA_HOSTS = ("169.254.169.254", "metadata.google.internal")
_ENDPOINT = re.compile(r"https?://[^/\s]+")
_RETRY: Any = {"max_retries": 5, "retry_timeout": timedelta(minutes=3)}
_CLIENT: Any = {"timeout": timedelta(minutes=5), "connect_timeout": timedelta(seconds=20)}


@dataclass(frozen=True, slots=True)
class S3Access:
    """How to reach an S3 endpoint. Empty fields are taken from the AWS environment variables."""

    endpoint: str = ""
    region: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)


class ObjectStorage:
    """Storage in a bucket, below a prefix. A put is one request, so it is whole and durable when it is answered."""

    def __init__(self, store: Any, where: str, credentials: str = "") -> None:
        """Use an obstore store; `where` is how errors call it, and `credentials` where those come from."""
        self._store = store
        self._where = where
        self._denied = "access denied" + (f"; credentials are taken from {credentials}" if credentials else "")

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        """Store the pieces under `name`."""
        refuse_bad_storage_name(name)
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        with self._failures(f"{name} could not be stored"):
            obstore.put(self._store, name, bytes(data), mode="create" if new else "overwrite", use_multipart=False)

    def get(self, name: str) -> bytes:
        """Return all of a file."""
        refuse_bad_storage_name(name)
        with self._failures(f"{name} could not be read"):
            return obstore.get(self._store, name).bytes().to_bytes()

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        """Return a part of a file."""
        refuse_bad_storage_name(name)
        if length == 0:
            return b""
        with self._failures(f"{name} could not be read"):
            try:
                return obstore.get_range(self._store, name, start=offset, length=length).to_bytes()
            except exceptions.GenericError as error:
                if "416" in str(error):  # the range begins where the file has ended already
                    return b""
                raise

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield every file whose name begins with `prefix`."""
        with self._failures(f"{prefix or 'everything'} could not be listed"):
            for found in obstore.list(self._store, prefix or None, chunk_size=_LIST_AT_ONCE):
                for item in found:
                    yield Stored(item["path"], item["size"])

    def size(self, name: str) -> int:
        """Return the length of a file."""
        refuse_bad_storage_name(name)
        with self._failures(f"{name} could not be looked up"):
            return int(obstore.head(self._store, name)["size"])

    def delete(self, name: str) -> None:
        """Remove a file."""
        refuse_bad_storage_name(name)
        with self._failures(f"{name} could not be deleted"), contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, name)

    @contextlib.contextmanager
    def _failures(self, what: str) -> Iterator[None]:
        """Turn what the library says into what storage says."""
        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error) or "ContainerNotFound" in str(error):
                raise self._no_bucket(what) from error
            raise NotStoredError(f"{what} in {self._where}: there is no such file") from error
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
            raise AlreadyStoredError(f"{what} in {self._where}: there is one already") from error
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError) as error:
            raise StorageDeniedError(f"{what} in {self._where}: {self._denied}") from error
        except (exceptions.BaseError, OSError) as error:
            raise self._failure(what, str(error)) from error

    def _failure(self, what: str, said: str) -> HoldfastError:
        """Return what the library means that has no class for it; listings have none at all."""
        if "404 Not Found" in said:
            return self._no_bucket(what)
        # Without credentials the library asks a cloud machine's own metadata service for some.
        if any(sign in said for sign in ("401 Unauthorized", "403 Forbidden", *_METADATA_HOSTS)):
            return StorageDeniedError(f"{what} in {self._where}: {self._denied}")
        asked = _ENDPOINT.search(said)
        if asked is not None and "error sending request" in said:
            return StorageFailedError(f"{what} in {self._where}: {asked[0]} does not answer")
        return StorageFailedError(f"{what} in {self._where}: {_first_line(said)}")

    def _no_bucket(self, what: str) -> StorageFailedError:
        bucket = urlsplit(self._where).netloc
        return StorageFailedError(f"{what} in {self._where}: there is no bucket {bucket}; make it first")


def s3_storage(bucket: str, prefix: str = "", access: S3Access = S3Access()) -> ObjectStorage:
    """Return storage in a bucket at an S3 endpoint."""
    given = {
        "endpoint": access.endpoint or os.environ.get("AWS_ENDPOINT_URL", ""),
        "region": access.region or os.environ.get("AWS_REGION", "") or "us-east-1",
        "access_key_id": access.access_key,
        "secret_access_key": access.secret_key,
        "session_token": access.session_token,
    }
    # One request for each deletion: a refusal then has a status of its own.
    config: Any = {"disable_bulk_delete": True} | {key: value for key, value in given.items() if value}
    client: Any = _CLIENT | {"allow_http": given["endpoint"].startswith("http://")}
    store = stores.S3Store(bucket, prefix=prefix or None, config=config, client_options=client, retry_config=_RETRY)
    from_environment = "" if access.access_key else "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    return ObjectStorage(store, f"s3://{bucket}/{prefix}".rstrip("/"), from_environment)


def object_storage(url: str) -> ObjectStorage:
    """Return the storage at an `s3://`, `gs://` or `az://` URL, with credentials from the environment.

    Raises:
        InvalidStorageUrlError: the URL is of another kind, or names no bucket.
    """
    parts = urlsplit(url)
    if not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise InvalidStorageUrlError(f"{url!r} should be SCHEME://BUCKET/PREFIX; credentials come from the environment")
    prefix = parts.path.strip("/")
    where: Any = {"prefix": prefix or None, "client_options": _CLIENT, "retry_config": _RETRY}
    match parts.scheme:
        case "s3":
            return s3_storage(parts.netloc, prefix)
        case "gs":
            # Another endpoint than Google's own: an emulator, or a private one.
            endpoint = os.environ.get("GOOGLE_BASE_URL", "")
            where["client_options"] = _CLIENT | {"allow_http": endpoint.startswith("http://")}
            return ObjectStorage(stores.GCSStore(parts.netloc, **where), url, "GOOGLE_APPLICATION_CREDENTIALS")
        case "az":
            endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT", "")
            where["client_options"] = _CLIENT | {"allow_http": endpoint.startswith("http://")}
            credentials = "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
            return ObjectStorage(stores.AzureStore(parts.netloc, **where), url, credentials)
        case _:
            raise InvalidStorageUrlError(f"{parts.scheme}:// is no storage; use a path, s3://, gs:// or az://")


def _first_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0] if lines else "it failed without a word"
