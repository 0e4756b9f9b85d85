"""An old copy of the control database is put back, from before there were locks and holds: by it nothing goes early."""

import shutil
from pathlib import Path

import pytest
from tests.running import Member, found_organization, join, refusal, started

from holdfast.cli.tree import compare_trees, make_tree

DAY = 86_400
GUARDS = ("governance", "compliance", "hold", "longer")


def laid_out(shop: Member) -> dict[str, str]:
    """Make a vault for each guard and one without any, with a point each that is kept for 35 days."""
    backup = shop.client("backup")
    tree = shop.sandbox / "files"
    make_tree(tree, theme="old", files=5)
    points = {}
    for guard in ("none", *GUARDS):
        key = shop.client("kms").create_key()["KeyMetadata"]["Arn"]
        backup.create_backup_vault(BackupVaultName=guard, EncryptionKeyArn=key)
        arn = shop.register("files", tree)
        job = shop.back_up(arn, BackupVaultName=guard, Lifecycle={"DeleteAfterDays": 35})
        shop.server.settle(60)
        points[guard] = shop.job(job)["RecoveryPointArn"]
    return points


@pytest.mark.deep
def test_an_old_database_shortens_the_life_of_no_point(tmp_path: Path) -> None:
    data, old = tmp_path / "data", tmp_path / "old.db"
    with started("dev", data) as server:
        found_organization(server)
        shop = join(server, "shop")
        points = laid_out(shop)
    shutil.copyfile(data / "control.db", old)

    with started("dev", data) as server:
        shop = Member(server, shop.id, shop.credentials)
        backup = shop.client("backup")
        backup.put_backup_vault_lock_configuration(BackupVaultName="governance", MinRetentionDays=1)
        backup.put_backup_vault_lock_configuration(
            BackupVaultName="compliance", MinRetentionDays=1, ChangeableForDays=3
        )
        backup.create_legal_hold(Title="case", Description="d", RecoveryPointSelection={"VaultNames": ["hold"]})
        backup.update_recovery_point_lifecycle(
            BackupVaultName="longer", RecoveryPointArn=points["longer"], Lifecycle={"DeleteAfterDays": 400}
        )
        server.clock(advance_seconds=4 * DAY)
    for left in data.glob("control.db*"):
        left.unlink()
    shutil.copyfile(old, data / "control.db")

    with started("dev", data) as server:
        shop = Member(server, shop.id, shop.credentials)
        backup = shop.client("backup")
        server.clock(advance_seconds=4 * DAY)
        for guard in ("governance", "compliance", "hold"):
            place = {"BackupVaultName": guard, "RecoveryPointArn": points[guard]}
            assert refusal(backup.delete_recovery_point, **place)[0] == "InvalidRequestException", guard
        for guard in ("governance", "compliance"):
            place = {"BackupVaultName": guard, "RecoveryPointArn": points[guard]}
            change = backup.update_recovery_point_lifecycle
            assert refusal(change, **place, Lifecycle={"DeleteAfterDays": 5})[0] == "InvalidRequestException", guard
        unlock = backup.delete_backup_vault_lock_configuration
        assert refusal(unlock, BackupVaultName="compliance")[0] == "InvalidRequestException"
        backup.delete_recovery_point(BackupVaultName="none", RecoveryPointArn=points["none"])
        server.settle(26 * DAY)
        for guard in GUARDS:  # whole, 30 days after the backup
            (point,) = shop.points(guard)
            back = shop.restore(point, shop.sandbox / f"back-{guard}")
            assert compare_trees(shop.sandbox / "files", back)[1] == [], guard
        server.settle(40 * DAY)
        # A lock does not stretch a lifecycle; a hold and the longer lifecycle that storage knows of do.
        assert {guard: len(shop.points(guard)) for guard in ("none", *GUARDS)} == {
            "none": 0,
            "governance": 0,
            "compliance": 0,
            "hold": 1,
            "longer": 1,
        }
