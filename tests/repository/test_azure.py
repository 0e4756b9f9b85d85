"""Repositories in Azure Blob Storage, on Azure's own emulator."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.repository.azurite import ACCOUNT, CONTAINER, KEY, running_azurite
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic
from tests.repository.storage_contract import StorageContract

from holdfast.core.ids import new_uuid
from holdfast.repository.check import Depth
from holdfast.repository.object_storage import ObjectStorage, object_storage
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage, StorageDeniedError
from holdfast.repository.sweep import SweepRules


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


class TestAzure(StorageContract):
    @pytest.fixture
    def storage(self, container: ObjectStorage) -> ObjectStorage:
        return container


def test_a_repository_in_azure_is_written_swept_and_read(
    container: ObjectStorage, tmp_path: Path, restic: Restic
) -> None:
    repository = a_repository(container)
    content = os.urandom(3 << 20)
    gone = repository.write([a_file(b"gone", content=os.urandom(1 << 20))], at=NOON)
    kept = repository.write([a_file(b"f", content=content)], at=NOON)
    repository.forget([gone.snapshot_id])
    repository = Repository.open(container, PASSWORD, host_id="another-host")
    repository.mark_sweep(repository.plan_sweep(SweepRules(max_unused=0)), at=NOON)
    assert repository.carry_out_sweep().deleted
    assert repository.check(Depth.BYTES).problems == ()
    assert repository.restore(kept.snapshot_id, tmp_path / "restored").problems == ()
    assert (tmp_path / "restored" / "f").read_bytes() == content
    here = LocalStorage(restic.repository)
    for stored in container.list(""):
        here.put(stored.name, container.get(stored.name))
    restic.check()


def test_a_wrong_key_is_said_to_be_one(account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", base64.b64encode(bytes(64)).decode())
    stranger = object_storage(f"az://{CONTAINER}/x")
    with pytest.raises(StorageDeniedError):
        stranger.put("f", b"data")
