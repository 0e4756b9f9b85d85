"""A plan of an account's own, from boto3 to recovery points and copies, beside the organization's."""

from datetime import timedelta
from typing import Any

from tests.running import VAULT, Running, found_organization, join

from holdfast.cli.tree import make_tree


def test_an_accounts_own_plan_makes_points_and_copies_as_it_says(dev: Running) -> None:
    found_organization(dev)
    shop = join(dev, "shop")
    backup = shop.client("backup")
    second = backup.create_backup_vault(BackupVaultName="Second")["BackupVaultArn"]
    make_tree(shop.sandbox / "files", theme="shop", files=4)
    arn = shop.register("www", shop.sandbox / "files", Tags={"backup": "gold"})
    rule: dict[str, Any] = {
        "RuleName": "Night",
        "TargetBackupVaultName": VAULT,
        "ScheduleExpression": "cron(0 3 ? * * *)",
        "ScheduleExpressionTimezone": "Europe/Helsinki",
        "Lifecycle": {"DeleteAfterDays": 35},
        "RecoveryPointTags": {"made-by": "plan"},
        "CopyActions": [{"DestinationBackupVaultArn": second, "Lifecycle": {"DeleteAfterDays": 7}}],
    }
    made = backup.create_backup_plan(BackupPlan={"BackupPlanName": "Nightly", "Rules": [rule]})
    plan = made["BackupPlanId"]
    gold = {"ConditionType": "STRINGEQUALS", "ConditionKey": "backup", "ConditionValue": "gold"}
    backup.create_backup_selection(
        BackupPlanId=plan,
        BackupSelection={"SelectionName": "gold", "IamRoleArn": shop.role, "ListOfTags": [gold]},
    )
    found = backup.get_backup_plan(BackupPlanId=plan, MaxScheduledRunsPreview=2)
    first, following = (run["ExecutionTime"] for run in found["ScheduledRunsPreview"])
    assert following - first == timedelta(days=1)
    dev.clock(set=first.isoformat(), settle=True)
    dev.settle()

    (job,) = backup.list_backup_jobs()["BackupJobs"]
    assert (job["State"], job["ResourceArn"], job["IamRoleArn"]) == ("COMPLETED", arn, shop.role), job
    by = job["CreatedBy"]
    assert by == {
        "BackupPlanId": plan,
        "BackupPlanArn": made["BackupPlanArn"],
        "BackupPlanName": "Nightly",
        "BackupPlanVersion": made["VersionId"],
        "BackupRuleId": found["BackupPlan"]["Rules"][0]["RuleId"],
        "BackupRuleName": "Night",
        "BackupRuleCron": rule["ScheduleExpression"],
        "BackupRuleTimezone": rule["ScheduleExpressionTimezone"],
    }
    (seen,) = dev.client("backup").list_backup_jobs(ByAccountId="*")["BackupJobs"]
    assert (seen["BackupJobId"], seen["CreatedBy"]) == (job["BackupJobId"], by)
    (point,) = shop.points()
    described = backup.describe_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=point["RecoveryPointArn"])
    assert described["Lifecycle"]["DeleteAfterDays"] == 35
    assert described["CreatedBy"]["BackupPlanId"] == plan
    assert backup.list_tags(ResourceArn=point["RecoveryPointArn"])["Tags"]["made-by"] == "plan"
    (copied,) = shop.points("Second")
    assert copied["Lifecycle"]["DeleteAfterDays"] == 7
    (copy,) = backup.list_copy_jobs()["CopyJobs"]
    assert (copy["State"], copy["CreatedBy"]["BackupPlanId"]) == ("COMPLETED", plan)
    assert backup.get_backup_plan(BackupPlanId=plan)["LastExecutionDate"] == first
