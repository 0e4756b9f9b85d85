"""S3 object lock: retention for each file of a repository, extended for old packs that a new snapshot leans on.

The bucket needs object lock (hence versions) and should have no default retention: lock files would be kept for it.
Deleting then only adds delete markers, so sweeps work as ever, and what they delete stays as old versions until its
retention has ended.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from holdfast.repository.storage import StorageDeniedError, StorageFailedError

Mode = Literal["COMPLIANCE", "GOVERNANCE"]
_DENIED = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_NONE_YET = ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError")
_NEVER_KEPT = "locks/"


@dataclass(slots=True)
class ObjectLock:
    """The retention of files below one prefix of a bucket; `client` is boto3's for S3.

    Dates that were seen or set are remembered, so that packs which many snapshots share are asked for once; forget the
    object now and then, since others may extend, too. `slack` is how much longer than needed a retention is set, so
    that the next snapshots find it long enough.
    """

    client: Any
    bucket: str
    prefix: str
    mode: Mode = "COMPLIANCE"
    slack: timedelta = timedelta()
    threads: int = 8
    _known: dict[str, datetime] = field(default_factory=dict)

    def extend(self, names: Iterable[str], until: datetime) -> int:
        """Keep each of these files at least until `until`; return how many had to be told.

        Retention is never shortened. Lock files are passed over.

        Raises:
            StorageDeniedError: the credential may not do that, or the bucket has no object lock.
            StorageFailedError: the bucket did not answer, or a file is missing.
        """
        wanted = [name for name in set(names) if not name.startswith(_NEVER_KEPT) and not self._is_known(name, until)]
        with ThreadPoolExecutor(self.threads, thread_name_prefix="retain") as pool:
            return sum(pool.map(lambda name: self._extend_one(name, until), wanted))

    def retained_until(self, name: str) -> datetime | None:
        """Return until when a file is kept, or None.

        Raises:
            StorageFailedError: the bucket did not answer, or there is no such file.
        """
        with _failures(name):
            try:
                answer = self.client.get_object_retention(Bucket=self.bucket, Key=self._key(name))
            except ClientError as error:
                if _code(error) in _NONE_YET:
                    return None
                raise
            until: datetime = answer["Retention"]["RetainUntilDate"]
            return until

    def bring_back(self, *, dry_run: bool = False) -> list[str]:
        """Remove the delete markers of everything that was deleted and is still kept; return the names.

        For the day after somebody with the right to delete has deleted what nobody meant to lose. What a sweep has
        deleted comes back as well, and goes with the next sweep.

        Raises:
            StorageDeniedError: the credential may not list or delete versions.
            StorageFailedError: the bucket did not answer.
        """
        found: list[tuple[str, str]] = []
        with _failures(self.prefix or self.bucket):
            pages = self.client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._key("")):
                found += [
                    (marker["Key"], marker["VersionId"])
                    for marker in page.get("DeleteMarkers", ())
                    if marker["IsLatest"] and not marker["Key"].startswith(self._key(_NEVER_KEPT))
                ]
            if not dry_run:
                for key, version in found:
                    self.client.delete_object(Bucket=self.bucket, Key=key, VersionId=version)
        return sorted(key.removeprefix(self._key("")) for key, _ in found)

    def _is_known(self, name: str, until: datetime) -> bool:
        known = self._known.get(name)
        return known is not None and known >= until

    def _extend_one(self, name: str, until: datetime) -> int:
        present = self.retained_until(name)
        if present is not None and present >= until:
            self._known[name] = present
            return 0
        target = until + self.slack
        with _failures(name):
            self.client.put_object_retention(
                Bucket=self.bucket, Key=self._key(name), Retention={"Mode": self.mode, "RetainUntilDate": target}
            )
        self._known[name] = target
        return 1

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """Turn what the client says into what storage says."""
    try:
        yield
    except ClientError as error:
        text = error.response.get("Error", {}).get("Message", "")
        if _code(error) in _DENIED:
            raise StorageDeniedError(f"the retention of {what} was refused: {text}") from error
        raise StorageFailedError(f"the retention of {what} failed: {_code(error)} {text}") from error
    except BotoCoreError as error:
        raise StorageFailedError(f"the retention of {what} failed: {error}") from error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
