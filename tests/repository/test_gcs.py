"""Repositories in Google Cloud Storage, on a server of its protocol."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic
from tests.repository.gcs import BUCKET, running_gcs
from tests.repository.storage_contract import StorageContract

from holdfast.core.ids import new_uuid
from holdfast.repository.check import Depth
from holdfast.repository.object_storage import ObjectStorage, object_storage
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage, StorageFailedError
from holdfast.repository.sweep import SweepRules


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with running_gcs(tmp_path_factory.mktemp("gcs")) as environment:
        yield environment


@pytest.fixture
def account(gcs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has in the environment."""
    for name, value in gcs.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(account: None) -> ObjectStorage:
    return object_storage(f"gs://{BUCKET}/{new_uuid()}")


class TestGoogle(StorageContract):
    @pytest.fixture
    def storage(self, bucket: ObjectStorage) -> ObjectStorage:
        return bucket


def test_a_repository_in_google_cloud_storage_is_written_swept_and_read(
    bucket: ObjectStorage, tmp_path: Path, restic: Restic
) -> None:
    repository = a_repository(bucket)
    content = os.urandom(3 << 20)
    gone = repository.write([a_file(b"gone", content=os.urandom(1 << 20))], at=NOON)
    kept = repository.write([a_file(b"f", content=content)], at=NOON)
    repository.forget([gone.snapshot_id])
    repository = Repository.open(bucket, PASSWORD, host_id="another-host")
    repository.mark_sweep(repository.plan_sweep(SweepRules(max_unused=0)), at=NOON)
    assert repository.carry_out_sweep().deleted
    assert repository.check(Depth.BYTES).problems == ()
    assert repository.restore(kept.snapshot_id, tmp_path / "restored").problems == ()
    assert (tmp_path / "restored" / "f").read_bytes() == content
    # This restic goes to Google's own host whatever it is told, so it gets what lies in the bucket as files.
    here = LocalStorage(restic.repository)
    for stored in bucket.list(""):
        here.put(stored.name, bucket.get(stored.name))
    restic.check()


def test_a_bucket_that_is_not_there_is_named(account: None) -> None:
    with pytest.raises(StorageFailedError, match="gs://nowhere/x"):
        a_repository(object_storage("gs://nowhere/x"))
