"""Disabling a vault's key takes hold at once: of what begins, and of what is running."""

import os
import signal
from pathlib import Path

from tests.running import dev, eventually, found_organization, is_alive, join, refusal

from holdfast.cli.tree import make_tree


def test_a_running_backup_ends_at_its_next_beat_when_the_key_is_disabled(tmp_path: Path) -> None:
    with dev(tmp_path / "data", heartbeat=1.0) as server:
        found_organization(server)
        shop = join(server, "shop")
        tree = shop.sandbox / "files"
        make_tree(tree, theme="shop", files=6)
        arn = shop.register("files", tree)
        shop.back_up(arn)
        server.settle(60)
        (mover,) = server.movers()
        os.kill(mover, signal.SIGSTOP)  # it will get the next job, and come no further with it
        job = shop.back_up(arn)
        eventually(lambda: shop.job(job)["State"] == "RUNNING", "the backup runs")
        kms = shop.client("kms")
        (key,) = kms.list_keys()["Keys"]
        kms.disable_key(KeyId=key["KeyId"])
        ended = shop.ended(job)
        assert (ended["State"], ended["MessageCategory"]) == ("FAILED", "KMS_KEY_ERROR")
        assert f"{key['KeyArn']} was disabled while the job ran" in ended["StatusMessage"]
        eventually(lambda: not is_alive(mover), "the mover, which holds the repository's key, is gone")
        assert len(shop.points()) == 1
        by_key = shop.client("holdfast").list_recovery_points_by_key(KeyId=key["KeyId"])
        assert by_key["Count"] == 1
        assert [(each["RecoveryPointArn"], each["Kept"]) for each in by_key["RecoveryPoints"]] == [
            (shop.points()[0]["RecoveryPointArn"], False)
        ]
        refused = shop.ended(shop.back_up(arn))
        assert (refused["State"], refused["MessageCategory"]) == ("FAILED", "KMS_KEY_ERROR")
        kms.enable_key(KeyId=key["KeyId"])
        assert shop.ended(shop.back_up(arn))["State"] == "COMPLETED"
        pages = shop.client("holdfast").get_paginator("list_recovery_points_by_key")
        paged = list(pages.paginate(KeyId=key["KeyArn"], PaginationConfig={"PageSize": 1}))
        assert [len(page["RecoveryPoints"]) for page in paged] == [1, 1]
        shop.client("backup").create_legal_hold(
            Title="kept", Description="for the court", RecoveryPointSelection={"VaultNames": ["Central"]}
        )
        held = shop.client("holdfast").list_recovery_points_by_key(KeyId=key["KeyId"])["RecoveryPoints"]
        assert [each["Kept"] for each in held] == [True, True]
        assert refusal(kms.schedule_key_deletion, KeyId=key["KeyId"])[0] == "KMSInvalidStateException"
        events = shop.client("cloudtrail").lookup_events(
            LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "BackupJobCompleted"}]
        )["Events"]
        assert [job in event["CloudTrailEvent"] for event in events] == [False, False, True, False]
        assert '"state":"FAILED"' in events[2]["CloudTrailEvent"]
