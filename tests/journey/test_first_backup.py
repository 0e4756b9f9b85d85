"""One backup, end to end: the nine steps of docs/ARCHITECTURE.md, seen by a client, then a restore that is compared."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.running import MANAGEMENT, REGION, ROLE, VAULT, Running, eventually, found_organization, join, refusal

from holdfast.cli.tree import compare_trees, make_tree


def nightly() -> dict[str, Any]:
    return {
        "plans": {
            "Nightly": {
                "regions": {"@@assign": [REGION]},
                "rules": {
                    "Night": {
                        "schedule_expression": {"@@assign": "cron(0 3 ? * * *)"},
                        "target_backup_vault_name": {"@@assign": VAULT},
                        "lifecycle": {"delete_after_days": {"@@assign": "35"}},
                        "recovery_point_tags": {
                            "made-by": {"tag_key": {"@@assign": "made-by"}, "tag_value": {"@@assign": "policy"}}
                        },
                    }
                },
                "selections": {
                    "tags": {
                        "gold": {
                            "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                            "tag_key": {"@@assign": "backup"},
                            "tag_value": {"@@assign": ["gold"]},
                        }
                    }
                },
            }
        }
    }


def snapshots_in(storage: Path) -> list[Path]:
    return [path for path in storage.glob("**/snapshots/*") if path.is_file()]


def test_one_backup_end_to_end(dev: Running) -> None:
    root = found_organization(dev)
    organizations = dev.client("organizations")
    unit = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    shop, lab = join(dev, "shop"), join(dev, "lab")
    organizations.move_account(AccountId=shop.id, SourceParentId=root, DestinationParentId=unit)
    tree = shop.sandbox / "files"
    make_tree(tree, theme="shop", files=12)
    (lab.sandbox / "files").mkdir()
    lab.register("other", lab.sandbox / "files", Tags={"backup": "gold"})
    backup, central = shop.client("backup"), dev.client("backup")

    # 1. An administrator attaches a policy to a unit.
    policy = organizations.create_policy(
        Type="BACKUP_POLICY", Name="nightly", Description="", Content=json.dumps(nightly())
    )["Policy"]["PolicySummary"]["Id"]
    assert backup.list_backup_plans()["BackupPlansList"] == []
    organizations.attach_policy(PolicyId=policy, TargetId=unit)

    # 2. The accounts below have the plans at once, and nobody there changes them.
    (listed,) = backup.list_backup_plans()["BackupPlansList"]
    assert listed["BackupPlanId"].startswith("orgs/")
    plan = backup.get_backup_plan(BackupPlanId=listed["BackupPlanId"], MaxScheduledRunsPreview=2)
    present = {"BackupPlanId": listed["BackupPlanId"], "VersionId": listed["VersionId"]}
    assert backup.get_backup_plan(**present)["BackupPlan"] == plan["BackupPlan"]
    assert refusal(backup.get_backup_plan, **{**present, "VersionId": "another"})[0] == "ResourceNotFoundException"
    (rule,) = plan["BackupPlan"]["Rules"]
    assert (rule["RuleName"], rule["TargetBackupVaultName"]) == ("night", VAULT)
    assert rule["Lifecycle"] == {"DeleteAfterDays": 35}
    assert lab.client("backup").list_backup_plans()["BackupPlansList"] == []

    # 3. Its selection takes resources by their tags: registered plain, this one is taken once it is tagged.
    arn = shop.register("www", tree)
    shop.register("scratch", shop.sandbox / "scratch", Tags={"backup": "none"})
    failed = shop.client("resourcegroupstaggingapi").tag_resources(ResourceARNList=[arn], Tags={"backup": "gold"})
    assert failed["FailedResourcesMap"] == {}

    # 4. A run that is due becomes a row for each resource, and for no other.
    first, second = (run["ExecutionTime"] for run in plan["ScheduledRunsPreview"])
    assert second - first == timedelta(days=1)
    early = dev.clock(set=(first - timedelta(seconds=1)).isoformat(), settle=True)
    assert early.get("jobs", 0) == 0
    assert backup.list_backup_jobs()["BackupJobs"] == []
    assert snapshots_in(dev.data_dir / "storage") == []
    dev.clock(set=first.isoformat())
    (job,) = backup.list_backup_jobs()["BackupJobs"]
    assert job["ResourceArn"] == arn
    assert job["CreationDate"] >= first
    assert job["CreatedBy"]["BackupPlanId"] == listed["BackupPlanId"]
    assert job["CreatedBy"]["BackupRuleName"] == "night"

    # 5. A mover has the job: a process of its own, which the server started.
    assert job["State"] in {"RUNNING", "COMPLETED"}
    assert len(eventually(dev.movers, "a mover is there")) == 1

    # 6. It reads the source to its end.
    dev.settle()
    done = backup.describe_backup_job(BackupJobId=job["BackupJobId"])
    assert (done["State"], done["PercentDone"]) == ("COMPLETED", "100.0"), done
    assert done["BackupSizeInBytes"] >= sum(path.lstat().st_size for path in tree.rglob("*.dat"))

    # 7. What it read lies encrypted in the vault's repository.
    (snapshot,) = snapshots_in(dev.data_dir / "storage")
    assert b"shop" not in snapshot.read_bytes()
    assert not any(
        b"#!/bin/sh" in path.read_bytes() for path in (dev.data_dir / "storage").rglob("*") if path.is_file()
    )

    # 8. The recovery point is recorded and catalogued, with its lifecycle and its tags.
    (point,) = shop.points()
    assert point["RecoveryPointArn"] == done["RecoveryPointArn"]
    assert point["Status"] == "COMPLETED"
    described = backup.describe_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=point["RecoveryPointArn"])
    assert described["CreatedBy"]["BackupPlanId"] == listed["BackupPlanId"]
    assert described["CalculatedLifecycle"]["DeleteAt"] - described["CreationDate"] >= timedelta(days=35)
    tags = backup.list_tags(ResourceArn=point["RecoveryPointArn"])["Tags"]
    assert tags == {"backup": "gold", "made-by": "policy"}
    assert backup.describe_backup_vault(BackupVaultName=VAULT)["NumberOfRecoveryPoints"] == 1

    # 9. The management account sees it among the jobs of all accounts; another member does not.
    seen = central.list_backup_jobs(ByAccountId="*")["BackupJobs"]
    assert [(each["AccountId"], each["BackupJobId"]) for each in seen] == [(shop.id, job["BackupJobId"])]
    assert central.list_backup_jobs()["BackupJobs"] == []
    assert lab.client("backup").list_backup_jobs()["BackupJobs"] == []
    assert MANAGEMENT not in {shop.id, lab.id}

    # And a backup that was not restored and compared has not been tested.
    restored = shop.restore(point, shop.sandbox / "restored")
    files, differences = compare_trees(tree, restored)
    assert differences == []
    assert files == 12 + 11 + 4  # the data, the awkward names, a hard link, a hole, a script, an empty file
