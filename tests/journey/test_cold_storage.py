"""A recovery point's whole life by the development clock: warm, cold, restored from there, validated, gone."""

from typing import Any

from tests.running import VAULT, Running, found_organization, join, refusal

DAY = 24 * 3600


def test_a_point_lives_warm_then_cold_and_goes_at_its_end(dev: Running) -> None:
    found_organization(dev)
    shop = join(dev, "shop")
    tree = shop.sandbox / "files"
    tree.mkdir()
    (tree / "letter").write_text("as it was")
    backup = shop.client("backup")
    shop.back_up(shop.register("files", tree), Lifecycle={"MoveToColdStorageAfterDays": 2, "DeleteAfterDays": 92})
    dev.settle()
    (point,) = shop.points()
    place = {"BackupVaultName": VAULT, "RecoveryPointArn": point["RecoveryPointArn"]}

    def described() -> dict[str, Any]:
        found: dict[str, Any] = backup.describe_recovery_point(**place)
        return found

    warm = described()
    made, ends = warm["CreationDate"], warm["CalculatedLifecycle"]
    assert warm["StorageClass"] == "WARM"
    assert ((ends["MoveToColdStorageAt"] - made).days, (ends["DeleteAt"] - made).days) == (2, 92)
    early = {"MoveToColdStorageAfterDays": 2, "DeleteAfterDays": 91}
    code, words = refusal(backup.update_recovery_point_lifecycle, **place, Lifecycle=early)
    assert (code, "90 days apart" in words) == ("InvalidParameterValueException", True)
    dev.clock(advance_seconds=2 * DAY - 60)
    assert described()["StorageClass"] == "WARM"
    dev.clock(advance_seconds=60)
    assert described()["StorageClass"] == "COLD"
    later = {"MoveToColdStorageAfterDays": 5, "DeleteAfterDays": 200}
    code, words = refusal(backup.update_recovery_point_lifecycle, **place, Lifecycle=later)
    assert (code, "in cold storage already" in words) == ("InvalidRequestException", True)
    longer = backup.update_recovery_point_lifecycle(
        **place, Lifecycle={"MoveToColdStorageAfterDays": 2, "DeleteAfterDays": 100}
    )
    assert (longer["CalculatedLifecycle"]["DeleteAt"] - made).days == 100
    target = shop.sandbox / "back"
    job = shop.start_restore(point, {"newFileSystem": "true", "holdfast:target-url": target.as_uri()})
    found = {"ValidationStatus": "SUCCESSFUL", "ValidationStatusMessage": "the letter is there"}
    dev.settle()
    assert shop.restored(job)["Status"] == "COMPLETED"
    assert [path.read_text() for path in target.rglob("letter")] == ["as it was"]
    metadata = backup.get_restore_job_metadata(RestoreJobId=job)["Metadata"]
    assert metadata["holdfast:target-url"] == target.as_uri()
    backup.put_restore_validation_result(RestoreJobId=job, ValidationStatus="VALIDATING")
    backup.put_restore_validation_result(RestoreJobId=job, **found)
    told = backup.describe_restore_job(RestoreJobId=job)
    assert {name: told[name] for name in found} == found
    code, words = refusal(backup.put_restore_validation_result, RestoreJobId=job, ValidationStatus="FAILED")
    assert (code, "not changed" in words) == ("InvalidRequestException", True)
    dev.clock(advance_seconds=98 * DAY)
    assert shop.points() == []
    (hidden,) = shop.client("holdfast").list_deleted_recovery_points()["RecoveryPoints"]
    assert hidden["RecoveryPointArn"] == point["RecoveryPointArn"]
    dev.clock(advance_seconds=8 * DAY)
    assert shop.client("holdfast").list_deleted_recovery_points()["RecoveryPoints"] == []
