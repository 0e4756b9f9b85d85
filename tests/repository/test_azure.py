"""Repositories in Azure Blob Storage, on Azure's own emulator."""

import base64
from collections.abc import Iterator

import pytest
from tests.repository.azurite import ACCOUNT, CONTAINER, KEY, running_azurite
from tests.repository.storage_contract import BucketContract

from holdfast.core.ids import new_uuid
from holdfast.repository.object_storage import ObjectStorage, object_storage
from holdfast.repository.storage import StorageDeniedError


@pytest.fixture(scope="module")
def azurite() -> Iterator[str]:
    with running_azurite() as endpoint:
        yield endpoint


@pytest.fixture
def account(azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has in the environment."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{azurite}/{ACCOUNT}")


@pytest.fixture
def container(account: None) -> ObjectStorage:
    return object_storage(f"az://{CONTAINER}/{new_uuid()}")


class TestAzure(BucketContract):
    @pytest.fixture
    def storage(self, container: ObjectStorage) -> ObjectStorage:
        return container


def test_a_wrong_key_is_said_to_be_one(account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(bytes(64)).decode())
    stranger = object_storage(f"az://{CONTAINER}/x")
    with pytest.raises(StorageDeniedError):
        stranger.put("f", b"data")
