"""Deleted recovery points come back, through boto3 against a whole installation; and so does deletion itself."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from tests.running import refusal
from tests.vault.builders import ACCOUNT, DAY, NOON, OTHER, REGION, back_up, opened
from tests.vault.served import Served, serving

from holdfast.cli.client import session
from holdfast.core.ids import new_uuid
from holdfast.database.facts import OPERATOR, remember
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery.guard import stop_deletion
from holdfast.recovery.model import RecoveryPoint
from holdfast.vault.repositories import access_for_job
from holdfast.vault.service import get_vault


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served") / "data") as running:
        yield running


@pytest.fixture
def backup(served: Served) -> Any:
    served.clock.set(NOON)
    return served.client()


@pytest.fixture
def name(backup: Any) -> str:
    made = f"vault-{new_uuid()[:8]}"
    backup.create_backup_vault(BackupVaultName=made)
    return made


def holdfast(served: Served, account: str = ACCOUNT) -> Any:
    own = session(access_key=f"AKIA{account}", secret_key="testing", token=None, region=REGION)
    return own.client("holdfast", endpoint_url=served.url)


def a_backup(served: Served, name: str, **more: Any) -> RecoveryPoint:
    with served.database.reading() as tx:
        vault = get_vault(tx, ACCOUNT, REGION, name)
    return back_up(served.database, served.custody, vault, **more).point


def delete(backup: Any, point: RecoveryPoint) -> None:
    backup.delete_recovery_point(BackupVaultName=point.vault_name, RecoveryPointArn=point.arn)


def listed(backup: Any, name: str) -> list[str]:
    found = backup.list_recovery_points_by_backup_vault(BackupVaultName=name)["RecoveryPoints"]
    return [point["RecoveryPointArn"] for point in found]


def test_a_deleted_point_is_listed_until_it_is_brought_back_and_restores(
    served: Served, backup: Any, name: str
) -> None:
    point = a_backup(served, name, texts=["still here"])
    delete(backup, point)
    assert listed(backup, name) == []
    (hidden,) = holdfast(served).list_deleted_recovery_points(BackupVaultName=name)["RecoveryPoints"]
    assert hidden["RecoveryPointArn"] == point.arn
    assert hidden["KeptUntil"] - hidden["DeletedAt"] == 7 * DAY
    back = holdfast(served).undelete_recovery_point(RecoveryPointArn=point.arn)
    assert (back["Status"], back["BackupVaultName"], back["DeleteAt"]) == ("COMPLETED", name, point.delete_at)
    assert listed(backup, name) == [point.arn]
    assert holdfast(served).list_deleted_recovery_points(BackupVaultName=name)["RecoveryPoints"] == []
    with served.database.reading() as tx:
        access = access_for_job(tx, served.custody, point.repository_id)
    (repository_entry,) = opened(served.custody, access).entries(point.snapshot_id)
    assert repository_entry[0] == (b"file0",)


def test_a_point_comes_back_with_the_vault_that_was_deleted_after_it(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    delete(backup, point)
    backup.delete_backup_vault(BackupVaultName=name)
    assert refusal(backup.describe_backup_vault, BackupVaultName=name)[0] == "AccessDeniedException"
    holdfast(served).undelete_recovery_point(RecoveryPointArn=point.arn)
    assert backup.describe_backup_vault(BackupVaultName=name)["NumberOfRecoveryPoints"] == 1
    assert listed(backup, name) == [point.arn]


def test_a_deleted_vault_does_not_come_back_under_a_name_that_is_taken(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    delete(backup, point)
    backup.delete_backup_vault(BackupVaultName=name)
    backup.create_backup_vault(BackupVaultName=name)
    code, words = refusal(holdfast(served).undelete_recovery_point, RecoveryPointArn=point.arn)
    assert (code, "another one has its name now" in words) == ("ConflictException", True)
    backup.delete_backup_vault(BackupVaultName=name)
    holdfast(served).undelete_recovery_point(RecoveryPointArn=point.arn)
    assert listed(backup, name) == [point.arn]


def test_what_has_begun_to_go_does_not_come_back(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    delete(backup, point)
    with served.database.transaction() as tx:
        tx.execute(sa.text("UPDATE recovery_point SET storage_class = 'DELETED' WHERE id = :id"), {"id": point.id})
    assert holdfast(served).list_deleted_recovery_points(BackupVaultName=name)["RecoveryPoints"] == []
    code, words = refusal(holdfast(served).undelete_recovery_point, RecoveryPointArn=point.arn)
    assert code == "ResourceNotFoundException"
    assert "the time to bring" in words


def test_what_is_not_deleted_or_not_theirs_is_not_brought_back(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    asked = {"RecoveryPointArn": point.arn}
    assert refusal(holdfast(served).undelete_recovery_point, **asked)[0] == "InvalidResourceStateException"
    delete(backup, point)
    # Whose point it is stands in its ARN, so a stranger is not let in at all.
    assert refusal(holdfast(served, OTHER).undelete_recovery_point, **asked)[0] == "AccessDeniedException"
    assert holdfast(served, OTHER).list_deleted_recovery_points()["RecoveryPoints"] == []


def test_deleted_points_are_paged_without_a_gap(served: Served, backup: Any, name: str) -> None:
    points = [a_backup(served, name, texts=[str(n)], created_at=NOON - timedelta(hours=n)) for n in range(5)]
    for point in points:
        delete(backup, point)
    pages = holdfast(served).get_paginator("list_deleted_recovery_points")
    found = [
        each["RecoveryPointArn"]
        for page in pages.paginate(BackupVaultName=name, PaginationConfig={"PageSize": 2})
        for each in page["RecoveryPoints"]
    ]
    assert found == [point.arn for point in points]


def test_the_delay_is_raised_at_once_and_lowered_only_after_itself(served: Served, backup: Any, name: str) -> None:
    ours = holdfast(served)
    place = {"BackupVaultName": name}
    assert ours.describe_vault_deletion_delay(**place)["Days"] == 7
    assert ours.set_vault_deletion_delay(**place, Days=10)["Days"] == 10
    asked = ours.set_vault_deletion_delay(**place, Days=2)
    assert (asked["Days"], asked["LoweredToDays"]) == (10, 2)
    served.clock.set(asked["LoweredAt"] - timedelta(seconds=30))
    point = a_backup(served, name)
    delete(backup, point)
    (hidden,) = ours.list_deleted_recovery_points(**place)["RecoveryPoints"]
    assert hidden["KeptUntil"] - hidden["DeletedAt"] == 10 * DAY
    served.clock.set(asked["LoweredAt"])
    now = ours.describe_vault_deletion_delay(**place)
    assert (now["Days"], "LoweredAt" in now) == (2, False)
    backup.put_backup_vault_lock_configuration(**place)
    code, words = refusal(ours.set_vault_deletion_delay, **place, Days=1)
    assert (code, "only made longer" in words) == ("InvalidRequestException", True)
    # Only a server knows the most that may be asked for: botocore looks at minima alone.
    assert refusal(ours.set_vault_deletion_delay, **place, Days=36_501)[0] == "ValidationException"
    assert refusal(ours.set_vault_deletion_delay, BackupVaultName="nowhere", Days=9)[0] == "ResourceNotFoundException"


def test_deletion_that_was_stopped_is_released_by_the_operators_account_alone(
    served: Served, backup: Any, name: str
) -> None:
    with served.database.transaction() as tx:
        remember(tx, OPERATOR, ACCOUNT)
        stop_deletion(tx, "the machine's date jumped")
    point = a_backup(served, name, lifecycle=Lifecycle(delete_after_days=1))
    served.clock.set(NOON + 2 * DAY)
    served.running.keep_house()
    assert listed(backup, name) == [point.arn]
    told = holdfast(served, OTHER).describe_deletion_guard()
    assert (told["Stopped"], told["Reason"]) == (True, "the machine's date jumped")
    assert refusal(holdfast(served, OTHER).release_deletion)[0] == "AccessDeniedException"
    assert holdfast(served).release_deletion()["Stopped"] is False
    assert holdfast(served).describe_deletion_guard()["Stopped"] is False
    served.running.keep_house()
    assert listed(backup, name) == []
