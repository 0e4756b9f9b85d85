"""Storage that refuses: the canary that proves it, and object lock on a real S3 server."""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD
from tests.repository.weed import ADMIN, READER, SECRET, WRITER, Weed

from holdfast.core.clock import SystemMachineTime
from holdfast.core.ids import new_uuid
from holdfast.repository.check import Depth
from holdfast.repository.cipher import Buffer
from holdfast.repository.object_lock import ObjectLock
from holdfast.repository.object_storage import ObjectStorage, S3Access, s3_storage
from holdfast.repository.repository import Repository
from holdfast.repository.storage import AlreadyStoredError, MemoryStorage, StorageDeniedError, StorageFailedError


@pytest.fixture(scope="module")
def weed(weed: Weed) -> Weed:
    """The server, with two more buckets."""
    weed.client().create_bucket(Bucket="plain")
    weed.client().create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    return weed


def storage_of(weed: Weed, user: str, bucket: str, prefix: str) -> ObjectStorage:
    return s3_storage(bucket, prefix, S3Access(endpoint=weed.endpoint, access_key=user, secret_key=SECRET))


class WriteOnceStorage(MemoryStorage):
    """Refuses what an append-only credential must not do."""

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        if not name.startswith("locks/") and name in self.files:
            raise AlreadyStoredError(f"{name} is there already")
        super().put(name, *pieces, new=new)

    def delete(self, name: str) -> None:
        if not name.startswith("locks/"):
            raise StorageDeniedError(f"{name} may not be deleted")
        super().delete(name)


def test_the_canary_believes_what_storage_does() -> None:
    storage = MemoryStorage()
    proof = a_repository(storage).prove_append_only()
    assert not proof.is_append_only
    assert (proof.overwritten, proof.deleted) == (("data", "index"), ("data", "index"))
    assert "let it overwrite in data, index and let it delete" in str(proof)


def test_a_repository_lives_on_storage_that_only_appends(tmp_path: Path) -> None:
    storage = WriteOnceStorage()
    repository = a_repository(storage)
    assert repository.prove_append_only().is_append_only
    written = repository.write([a_file(b"f", content=os.urandom(100_000))], at=NOON)
    with pytest.raises(StorageDeniedError):
        repository.forget([written.snapshot_id])
    assert repository.locks() == []
    report = repository.check(Depth.BYTES)
    assert report.problems == ()
    assert repository.restore(written.snapshot_id, tmp_path / "restored").problems == ()


def test_a_bucket_policy_against_deleting_is_seen_to_work(weed: Weed) -> None:
    prefix = new_uuid()
    a_repository(storage_of(weed, ADMIN, "plain", prefix))
    deny = {
        "Effect": "Deny",
        "Principal": {"AWS": ["arn:aws:iam::000000000000:user/writer"]},
        "Action": "s3:DeleteObject",
        "NotResource": f"arn:aws:s3:::plain/{prefix}/locks/*",
    }
    weed.client().put_bucket_policy(Bucket="plain", Policy=json.dumps({"Version": "2012-10-17", "Statement": [deny]}))
    as_writer = Repository.open(storage_of(weed, WRITER, "plain", prefix), PASSWORD, host_id="h")
    proof = as_writer.prove_append_only()
    assert proof.deleted == ()
    assert proof.locks_deletable
    assert proof.overwritten == ("data", "index")  # the policy says nothing of that, and so the canary says so
    written = as_writer.write([a_file(b"f")], at=NOON)
    with pytest.raises(StorageDeniedError):
        as_writer.forget([written.snapshot_id])
    as_admin = Repository.open(storage_of(weed, ADMIN, "plain", prefix), PASSWORD, host_id="h")
    as_admin.carry_out_sweep()
    assert as_admin.check(Depth.BYTES).problems == ()


def test_retention_is_extended_for_old_packs_before_the_snapshot_is_written(weed: Weed) -> None:
    prefix = new_uuid()
    repository = a_repository(storage_of(weed, ADMIN, "locked", prefix))
    lock = ObjectLock(weed.client(), "locked", prefix)
    now = SystemMachineTime().now().replace(microsecond=0)
    content = os.urandom(600_000)

    def back_up(until: datetime) -> str:
        with repository.begin() as writer:
            writer.add(a_file(b"f", content=content))
            tree = writer.finish_tree()
            lock.extend(repository.files_needed(tree.id, writer.index), until)
            written = writer.commit(at=NOON)
        lock.extend([f"snapshots/{written.snapshot_id}"], until)
        return written.snapshot_id

    back_up(now + timedelta(days=1))
    (pack,) = [s.name for s in repository.storage.list("data/") if s.size > 500_000]
    assert lock.retained_until(pack) == now + timedelta(days=1)
    second = back_up(now + timedelta(days=9))
    assert lock.retained_until(pack) == now + timedelta(days=9)
    assert lock.retained_until(f"snapshots/{second}") == now + timedelta(days=9)
    assert lock.extend([pack], now + timedelta(days=2)) == 0, "retention is never shortened"
    versions = weed.client().list_object_versions(Bucket="locked", Prefix=f"{prefix}/{pack}")["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        weed.client().delete_object(Bucket="locked", Key=f"{prefix}/{pack}", VersionId=versions[0]["VersionId"])


def test_what_was_deleted_is_brought_back_while_it_is_retained(weed: Weed, tmp_path: Path) -> None:
    prefix = new_uuid()
    storage = storage_of(weed, ADMIN, "locked", prefix)
    repository = a_repository(storage)
    written = repository.write([a_file(b"f", content=b"precious")], at=NOON)
    lock = ObjectLock(weed.client(), "locked", prefix)
    names = {stored.name for stored in storage.list("")}
    lock.extend(names, SystemMachineTime().now() + timedelta(days=1))
    for name in names:
        storage.delete(name)
    assert list(storage.list("")) == []
    assert set(lock.bring_back(dry_run=True)) == names
    assert list(storage.list("")) == []
    assert set(lock.bring_back()) == names
    again = Repository.open(storage, PASSWORD, host_id="h")
    assert again.restore(written.snapshot_id, tmp_path / "restored").problems == ()
    assert (tmp_path / "restored" / "f").read_bytes() == b"precious"


def test_retention_needs_the_right_to_set_it_and_a_file(weed: Weed) -> None:
    prefix = new_uuid()
    storage_of(weed, ADMIN, "locked", prefix).put("data/1", b"x")
    until = SystemMachineTime().now() + timedelta(days=1)
    with pytest.raises(StorageDeniedError):
        ObjectLock(weed.client(READER), "locked", prefix).extend(["data/1"], until)
    with pytest.raises(StorageFailedError):
        ObjectLock(weed.client(), "locked", prefix).extend(["data/2"], until)
    assert ObjectLock(weed.client(), "locked", prefix).extend(["locks/1"], until) == 0
