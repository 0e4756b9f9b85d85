"""Repositories in a bucket, on a real S3 server."""

from pathlib import Path

import pytest
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD
from tests.repository.storage_contract import BucketContract
from tests.repository.weed import ADMIN, READER, SECRET, Weed

from holdfast.core.ids import new_uuid
from holdfast.repository.check import Depth
from holdfast.repository.object_storage import (
    ObjectStorage,
    S3Access,
    s3_storage,
)
from holdfast.repository.repository import Repository
from holdfast.repository.storage import (
    InvalidStorageUrlError,
    LocalStorage,
    StorageDeniedError,
    StorageFailedError,
    open_storage,
)


def access(weed: Weed, user: str = ADMIN) -> S3Access:
    return S3Access(endpoint=weed.endpoint, access_key=user, secret_key=SECRET)


@pytest.fixture
def bucket(weed: Weed) -> ObjectStorage:
    return s3_storage("vault", new_uuid(), access(weed))


class TestS3(BucketContract):
    @pytest.fixture
    def storage(self, bucket: ObjectStorage) -> ObjectStorage:
        return bucket


def test_a_refusal_of_the_bucket_is_said_to_be_one(weed: Weed, bucket: ObjectStorage) -> None:
    bucket.put("f", b"data")
    prefix = bucket._where.rpartition("/")[2]
    reader = s3_storage("vault", prefix, access(weed, READER))
    assert reader.get("f") == b"data"
    with pytest.raises(StorageDeniedError):
        reader.put("g", b"")
    with pytest.raises(StorageDeniedError):
        reader.delete("f")
    with pytest.raises(StorageDeniedError):
        s3_storage("vault", prefix, access(weed, "nobody")).get("f")


def test_a_credential_that_may_only_read_restores_and_leaves_no_lock(
    weed: Weed, bucket: ObjectStorage, tmp_path: Path
) -> None:
    written = a_repository(bucket).write([a_file(b"f")], at=NOON)
    there = {stored.name for stored in bucket.list("")}
    reader = s3_storage("vault", bucket._where.rpartition("/")[2], access(weed, READER))
    repository = Repository.open(reader, PASSWORD, host_id="another-host")
    assert repository.check(Depth.BYTES).problems == ()
    assert repository.restore(written.snapshot_id, tmp_path / "restored").problems == ()
    assert (tmp_path / "restored" / "f").read_bytes() == b"content"
    with pytest.raises(StorageDeniedError):
        repository.write([a_file(b"g")], at=NOON)
    assert {stored.name for stored in bucket.list("")} == there


def test_a_server_that_does_not_answer_is_a_failure_and_no_refusal() -> None:
    nobody = S3Access(endpoint="http://127.0.0.1:9", access_key=ADMIN, secret_key=SECRET)
    with pytest.raises(StorageFailedError):
        s3_storage("vault", "x", nobody).get("f")


@pytest.mark.parametrize("url", ["s3://", "ftp://host/x", "s3://key@bucket/x", "s3://bucket/x?y=1"])
def test_a_url_that_names_no_storage_is_refused(url: str) -> None:
    with pytest.raises(InvalidStorageUrlError):
        open_storage(url)


def test_a_path_is_local_storage(tmp_path: Path) -> None:
    assert isinstance(open_storage(str(tmp_path)), LocalStorage)
    assert isinstance(open_storage(f"file://{tmp_path}"), LocalStorage)
