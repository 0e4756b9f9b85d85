"""Repositories in Google Cloud Storage, on a server of its protocol."""

from collections.abc import Iterator

import pytest
from tests.repository.builders import a_repository
from tests.repository.gcs import BUCKET, running_gcs
from tests.repository.storage_contract import BucketContract

from holdfast.core.ids import new_uuid
from holdfast.repository.object_storage import ObjectStorage, object_storage
from holdfast.repository.storage import StorageFailedError


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


class TestGoogle(BucketContract):
    @pytest.fixture
    def storage(self, bucket: ObjectStorage) -> ObjectStorage:
        return bucket


def test_a_bucket_that_is_not_there_is_named(account: None) -> None:
    with pytest.raises(StorageFailedError, match="gs://nowhere/x"):
        a_repository(object_storage("gs://nowhere/x"))
