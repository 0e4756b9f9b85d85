"""The life of a job as its owner sees it: what it waits for, how it is stopped, and how its windows close."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.running import VAULT, Member, Running, eventually, found_organization, join, refusal

TREE_BYTES = 96 << 20  # so much that its backup takes long enough to be seen


@pytest.fixture
def shop(dev: Running) -> Member:
    found_organization(dev)
    return join(dev, "shop")


def a_tree(shop: Member, name: str) -> str:
    tree: Path = shop.sandbox / name
    tree.mkdir()
    (tree / "blob").write_bytes(os.urandom(TREE_BYTES))
    return shop.register(name, tree)


@contextmanager
def movers_standing_still(server: Running) -> Iterator[None]:
    """Have every mover that is there stand still meanwhile."""
    movers = server.movers()
    for mover in movers:
        os.kill(mover, signal.SIGSTOP)
    try:
        yield
    finally:
        for mover in movers:
            with suppress(ProcessLookupError):  # a test may have killed it
                os.kill(mover, signal.SIGCONT)


@contextmanager
def held_up(shop: Member, job: str) -> Iterator[dict[str, Any]]:
    """Have a job run, and its mover stand still meanwhile."""
    eventually(lambda: shop.job(job)["State"] == "RUNNING" and shop.server.movers(), "the job runs")
    with movers_standing_still(shop.server):
        yield shop.job(job)


def test_a_second_backup_of_a_resource_waits_and_expires_with_the_first_as_its_cause(shop: Member) -> None:
    arn = a_tree(shop, "files")
    first = shop.back_up(arn)
    with held_up(shop, first):
        second = shop.back_up(arn, StartWindowMinutes=60, CompleteWindowMinutes=120)
        assert shop.job(second)["State"] == "CREATED"
        shop.server.clock(advance_seconds=3601)
        expired = shop.job(second)
    assert (expired["State"], expired["MessageCategory"]) == ("EXPIRED", "CONCURRENT_JOB")
    assert expired["StatusMessage"] == "Backup job failed because there was a running job for the same resource."
    shop.server.settle(60)
    assert shop.job(first)["State"] == "COMPLETED"


def test_a_backup_past_its_completion_window_expires_and_leaves_no_point(shop: Member) -> None:
    job = shop.back_up(a_tree(shop, "files"), StartWindowMinutes=60, CompleteWindowMinutes=120)
    with held_up(shop, job) as running:
        assert (running["ExpectedCompletionDate"] - running["CreationDate"]).total_seconds() == 7200
        shop.server.clock(advance_seconds=7201)
        assert shop.job(job)["State"] in {"ABORTING", "EXPIRED"}
    shop.server.settle(60)
    expired = shop.job(job)
    assert (expired["State"], expired["MessageCategory"]) == ("EXPIRED", "JOB_EXPIRED")
    assert expired["StatusMessage"] == "Backup job expired before completion."
    assert shop.points() == []


def test_a_backup_is_stopped_while_it_waits_and_while_it_runs_and_not_afterwards(shop: Member) -> None:
    arn, stop = a_tree(shop, "files"), shop.client("backup").stop_backup_job
    running = shop.back_up(arn)
    with held_up(shop, running):
        waiting = shop.back_up(arn)
        stop(BackupJobId=waiting)
        assert shop.job(waiting)["State"] == "ABORTED"
        stop(BackupJobId=running)
        assert shop.job(running)["State"] == "ABORTING"
        stop(BackupJobId=running)  # once more changes nothing
    shop.server.settle(60)
    for job in (waiting, running):
        stopped = shop.job(job)
        assert (stopped["State"], stopped["StatusMessage"]) == ("ABORTED", "Backup job was stopped by user.")
        assert refusal(stop, BackupJobId=job)[0] == "InvalidRequestException"
    assert shop.points() == []
    assert refusal(stop, BackupJobId="00000000-0000-0000-0000-000000000000")[0] == "ResourceNotFoundException"
    others = join(shop.server, "other").client("backup")
    assert refusal(others.stop_backup_job, BackupJobId=running)[0] == "ResourceNotFoundException"


def test_a_backup_whose_mover_dies_waits_and_is_tried_again(shop: Member) -> None:
    job = shop.back_up(a_tree(shop, "files"), StartWindowMinutes=60, CompleteWindowMinutes=600)
    with held_up(shop, job):
        for mover in shop.server.movers():
            os.kill(mover, signal.SIGKILL)
    waiting = eventually(lambda: (found := shop.job(job))["State"] == "CREATED" and found, "the job waits again")
    assert "mover" in waiting["StatusMessage"]
    assert waiting["PercentDone"] == "0.0"
    assert shop.points() == []
    shop.server.settle(120)
    done = shop.job(job)
    assert (done["State"], done["MessageCategory"], "StatusMessage" in done) == ("COMPLETED", "SUCCESS", False)
    (point,) = shop.points()
    assert point["RecoveryPointArn"] == done["RecoveryPointArn"]


def test_a_point_that_is_being_copied_is_not_deleted(shop: Member) -> None:
    backup = shop.client("backup")
    shop.back_up(a_tree(shop, "files"))
    shop.server.settle(60)
    (point,) = shop.points()
    backup.create_backup_vault(BackupVaultName="Second")
    delete = {"BackupVaultName": VAULT, "RecoveryPointArn": point["RecoveryPointArn"]}
    with movers_standing_still(shop.server):
        job = backup.start_copy_job(
            RecoveryPointArn=point["RecoveryPointArn"],
            SourceBackupVaultName=VAULT,
            DestinationBackupVaultArn=point["BackupVaultArn"].replace(VAULT, "Second"),
            IamRoleArn=shop.role,
        )["CopyJobId"]
        code, words = refusal(backup.delete_recovery_point, **delete)
    assert (code, job in words) == ("InvalidResourceStateException", True)
    shop.server.settle(60)
    assert backup.describe_copy_job(CopyJobId=job)["CopyJob"]["State"] == "COMPLETED"
    backup.delete_recovery_point(**delete)
    (copy,) = shop.points("Second")
    restored = shop.restore(copy, shop.sandbox / "restored")
    assert (restored / "blob").read_bytes() == (shop.sandbox / "files" / "blob").read_bytes()


def test_a_backup_tells_where_it_goes_and_how_far_it_is(shop: Member) -> None:
    """The ARN of the point is promised at once, and kept; percent and bytes end at everything."""
    arn = a_tree(shop, "files")
    backup = shop.client("backup")
    code, words = refusal(shop.back_up, arn=arn, Lifecycle={"DeleteAfterDays": 0})
    assert (code, "cannot be less than 1" in words) == ("InvalidParameterValueException", True)
    answer = backup.start_backup_job(
        BackupVaultName="Central", IamRoleArn=shop.role, ResourceArn=arn, Lifecycle={"DeleteAfterDays": 30}
    )
    assert answer["IsParent"] is False
    with held_up(shop, answer["BackupJobId"]) as running:
        assert 0 <= float(running["PercentDone"]) < 100
    shop.server.settle(60)
    done = shop.job(answer["BackupJobId"])
    assert done["RecoveryPointArn"] == answer["RecoveryPointArn"]
    assert [point["RecoveryPointArn"] for point in shop.points()] == [answer["RecoveryPointArn"]]
    assert (done["State"], done["PercentDone"], done["MessageCategory"]) == ("COMPLETED", "100.0", "SUCCESS")
    assert done["BytesTransferred"] == done["BackupSizeInBytes"] == TREE_BYTES
    assert done["RecoveryPointLifecycle"] == {"DeleteAfterDays": 30}
    assert (done["VaultType"], done["VaultLockState"], done["IsEncrypted"]) == ("BACKUP_VAULT", "UNLOCKED", True)
    vault = backup.describe_backup_vault(BackupVaultName="Central")
    assert done["EncryptionKeyArn"] == vault["EncryptionKeyArn"]
