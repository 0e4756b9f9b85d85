"""Plans that an account makes itself, as boto3 sees them: versions, lists, templates, tags, limits and refusals."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from tests.plan.test_body import a_body, a_rule
from tests.running import MANAGEMENT, Running, found_organization, refusal

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.database.values import from_json
from holdfast.plan import service
from holdfast.plan.model.body import InvalidPlanError
from holdfast.plan.service import PlanLimitError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
COPY = "arn:aws:backup:eu-west-1:210987654321:backup-vault:Second"
RULE: dict[str, Any] = {"RuleName": "Daily", "TargetBackupVaultName": "Central"}
FULL: dict[str, Any] = {
    "BackupPlanName": "Everything",
    "Rules": [
        {
            "RuleName": "Weekly",
            "TargetBackupVaultName": "Central",
            "ScheduleExpression": "cron(30 4 ? * SUN *)",
            "ScheduleExpressionTimezone": "Europe/Helsinki",
            "StartWindowMinutes": 60,
            "CompletionWindowMinutes": 600,
            "Lifecycle": {"MoveToColdStorageAfterDays": 10, "DeleteAfterDays": 100},
            "RecoveryPointTags": {"made-by": "plan"},
            "CopyActions": [{"DestinationBackupVaultArn": COPY, "Lifecycle": {"DeleteAfterDays": 30}}],
            "EnableContinuousBackup": False,
            "IndexActions": [{"ResourceTypes": ["S3"]}],
        }
    ],
    "AdvancedBackupSettings": [{"ResourceType": "EC2", "BackupOptions": {"WindowsVSS": "enabled"}}],
}


def a_plan(name: str = "plan", **rule: Any) -> dict[str, Any]:
    return {"BackupPlanName": name, "Rules": [{**RULE, **rule}]}


@pytest.fixture(scope="module")
def server(dev_server: Running) -> Running:
    dev_server.reset()
    return dev_server


def test_a_plan_is_read_back_as_it_was_made_with_its_defaults(server: Running) -> None:
    backup = server.client("backup", region="eu-west-1")
    made = backup.create_backup_plan(BackupPlan=a_plan(), BackupPlanTags={"team": "red"}, CreatorRequestId="first")
    arn = f"arn:aws:backup:eu-west-1:{MANAGEMENT}:backup-plan:{made['BackupPlanId']}"
    assert made["BackupPlanArn"] == arn
    found = backup.get_backup_plan(BackupPlanId=made["BackupPlanId"])
    (rule,) = found["BackupPlan"]["Rules"]
    assert (rule.pop("RuleId"), rule["RuleName"]) != (None, None)
    assert {**RULE, **rule} == {
        **RULE,
        "ScheduleExpression": "cron(0 5 ? * * *)",
        "ScheduleExpressionTimezone": "Etc/UTC",
        "StartWindowMinutes": 480,
        "CompletionWindowMinutes": 10_080,
        "RecoveryPointTags": {},
        "CopyActions": [],
        "EnableContinuousBackup": False,
    }
    assert (found["VersionId"], found["CreatorRequestId"]) == (made["VersionId"], "first")
    assert backup.list_tags(ResourceArn=arn)["Tags"] == {"team": "red"}
    backup.tag_resource(ResourceArn=arn, Tags={"stage": "prod"})
    backup.untag_resource(ResourceArn=arn, TagKeyList=["team"])
    assert backup.list_tags(ResourceArn=arn)["Tags"] == {"stage": "prod"}
    elsewhere = server.client("backup")
    assert refusal(elsewhere.get_backup_plan, BackupPlanId=made["BackupPlanId"])[0] == "ResourceNotFoundException"
    assert refusal(elsewhere.list_tags, ResourceArn=arn)[0] == "ResourceNotFoundException"

    # A request that comes again makes nothing new, and another that says the same is told what there is.
    again = backup.create_backup_plan(BackupPlan=a_plan(), BackupPlanTags={"team": "red"}, CreatorRequestId="first")
    assert again["BackupPlanId"] == made["BackupPlanId"]
    with pytest.raises(backup.exceptions.AlreadyExistsException) as refused:
        backup.create_backup_plan(BackupPlan=a_plan())
    assert (refused.value.response["Arn"], refused.value.response["CreatorRequestId"]) == (arn, "first")
    backup.create_backup_plan(BackupPlan=a_plan(StartWindowMinutes=60))
    assert len(backup.list_backup_plans()["BackupPlansList"]) == 2


def test_everything_that_a_plan_can_say_comes_back(server: Running) -> None:
    backup = server.client("backup", region="eu-west-2")
    made = backup.create_backup_plan(BackupPlan=FULL)
    assert made["AdvancedBackupSettings"] == FULL["AdvancedBackupSettings"]
    found = backup.get_backup_plan(BackupPlanId=made["BackupPlanId"], MaxScheduledRunsPreview=3)
    (rule,) = found["BackupPlan"]["Rules"]
    runs = found["ScheduledRunsPreview"]
    assert {run["RuleId"] for run in runs} == {rule.pop("RuleId")}
    assert [run["ExecutionTime"].weekday() for run in runs] == [6, 6, 6]
    assert found["BackupPlan"] == FULL
    exported = backup.export_backup_plan_template(BackupPlanId=made["BackupPlanId"])["BackupPlanTemplateJson"]
    assert json.loads(exported) == FULL
    assert backup.get_backup_plan_from_json(BackupPlanTemplateJson=exported)["BackupPlan"] == FULL


def test_earlier_versions_stay_and_a_deleted_plan_can_still_be_read(server: Running) -> None:
    backup = server.client("backup", region="eu-west-3")
    plan_id = backup.create_backup_plan(BackupPlan=a_plan("v0"))["BackupPlanId"]
    rule_id = backup.get_backup_plan(BackupPlanId=plan_id)["BackupPlan"]["Rules"][0]["RuleId"]
    updated = [backup.update_backup_plan(BackupPlanId=plan_id, BackupPlan=a_plan(f"v{n}")) for n in (1, 2, 3)]
    pages = backup.get_paginator("list_backup_plan_versions").paginate(
        BackupPlanId=plan_id, PaginationConfig={"PageSize": 2}
    )
    listed = [[version["BackupPlanName"] for version in page["BackupPlanVersionsList"]] for page in pages]
    assert listed == [["v3", "v2"], ["v1", "v0"]]
    for number, version in enumerate(updated, start=1):
        was = backup.get_backup_plan(BackupPlanId=plan_id, VersionId=version["VersionId"])["BackupPlan"]
        assert (was["BackupPlanName"], was["Rules"][0]["RuleId"]) == (f"v{number}", rule_id)
    assert refusal(backup.get_backup_plan, BackupPlanId=plan_id, VersionId="none")[0] == "ResourceNotFoundException"

    gone = backup.delete_backup_plan(BackupPlanId=plan_id)
    assert gone["VersionId"] == updated[-1]["VersionId"]
    assert backup.list_backup_plans()["BackupPlansList"] == []
    (left,) = backup.list_backup_plans(IncludeDeleted=True)["BackupPlansList"]
    assert (left["BackupPlanId"], left["DeletionDate"]) == (plan_id, gone["DeletionDate"])
    assert backup.get_backup_plan(BackupPlanId=plan_id)["DeletionDate"] == gone["DeletionDate"]
    assert len(backup.list_backup_plan_versions(BackupPlanId=plan_id)["BackupPlanVersionsList"]) == 4
    for call, more in (
        (backup.delete_backup_plan, {}),
        (backup.update_backup_plan, {"BackupPlan": a_plan()}),
    ):
        assert refusal(call, BackupPlanId=plan_id, **more) == (
            "ResourceNotFoundException",
            f"Cannot find Backup plan with ID {plan_id}",
        )
    assert backup.create_backup_plan(BackupPlan=a_plan("v3"))["BackupPlanId"] != plan_id


def test_plans_are_listed_page_by_page_while_others_come_and_go(server: Running) -> None:
    backup = server.client("backup", region="eu-south-1")
    made = [backup.create_backup_plan(BackupPlan=a_plan(f"p{n}"))["BackupPlanId"] for n in range(5)]
    first = backup.list_backup_plans(MaxResults=2)
    backup.delete_backup_plan(BackupPlanId=first["BackupPlansList"][-1]["BackupPlanId"])
    rest = backup.list_backup_plans(NextToken=first["NextToken"])["BackupPlansList"]
    assert sorted(plan["BackupPlanId"] for plan in [*first["BackupPlansList"], *rest]) == sorted(made)
    other = refusal(backup.list_backup_plans, NextToken=first["NextToken"], IncludeDeleted=True)
    assert other[0] == "InvalidParameterValueException"


def test_templates_are_plans_that_can_be_made(server: Running) -> None:
    backup = server.client("backup", region="eu-central-1")
    pages = backup.get_paginator("list_backup_plan_templates").paginate(PaginationConfig={"PageSize": 3})
    listed = [template for page in pages for template in page["BackupPlanTemplatesList"]]
    assert len(listed) == 4
    for template in listed:
        plan = backup.get_backup_plan_from_template(BackupPlanTemplateId=template["BackupPlanTemplateId"])
        document = plan["BackupPlanDocument"]
        assert document["BackupPlanName"] == template["BackupPlanTemplateName"]
        backup.create_backup_plan(BackupPlan=document)
    assert refusal(backup.get_backup_plan_from_template, BackupPlanTemplateId="x")[0] == "ResourceNotFoundException"


def test_a_plan_or_a_text_that_cannot_be_a_plan_is_refused(server: Running) -> None:
    backup = server.client("backup", region="ca-central-1")
    for plan, says in (
        (a_plan(ScheduleExpression="rate(1 hour)"), "Error in rule Daily : "),
        (a_plan(StartWindowMinutes=2**62), "Error in rule Daily : StartWindowMinutes"),
        (a_plan(RuleName="no spaces"), "RuleName"),
        (a_plan(TargetBackupVaultName="x"), "TargetBackupVaultName"),
        (a_plan(IndexActions=[{}, {}]), "IndexActions"),
        (a_plan(ScanActions=[{"MalwareScanner": "GUARDDUTY", "ScanMode": "FULL_SCAN"}]), "scans"),
        (a_plan(Lifecycle={"DeleteAfterEvent": "DELETE_AFTER_COPY"}), "DeleteAfterEvent"),
        ({**a_plan(), "AdvancedBackupSettings": [{"ResourceType": "EC2"}] * 2}, "twice"),
    ):
        told = refusal(backup.create_backup_plan, BackupPlan=plan)
        assert (told[0], says in told[1]) == ("InvalidParameterValueException", True), told
        told = refusal(backup.get_backup_plan_from_json, BackupPlanTemplateJson=json.dumps(plan))
        assert (told[0], says in told[1]) == ("InvalidParameterValueException", True), told
    for template, code in (
        ("{", "InvalidParameterValueException"),
        ("[]", "InvalidParameterValueException"),
        ('{"BackupPlanName": 5, "Rules": []}', "InvalidParameterValueException"),
        ("{}", "MissingParameterValueException"),
    ):
        assert refusal(backup.get_backup_plan_from_json, BackupPlanTemplateJson=template)[0] == code
    bad_id = refusal(backup.create_backup_plan, BackupPlan=a_plan(), CreatorRequestId="x" * 51)
    assert bad_id[0] == "InvalidParameterValueException"
    assert backup.list_backup_plans()["BackupPlansList"] == []


def test_the_organizations_plans_stand_in_the_same_lists_and_keep_their_versions(dev: Running) -> None:
    root = found_organization(dev)
    backup, organizations = dev.client("backup"), dev.client("organizations")
    own = backup.create_backup_plan(BackupPlan=a_plan())["BackupPlanId"]

    def policy(start: int) -> str:
        rule = {
            "target_backup_vault_name": {"@@assign": "Central"},
            "start_backup_window_minutes": {"@@assign": str(start)},
        }
        role = "arn:aws:iam::$account:role/Backups"
        gold = {
            "iam_role_arn": {"@@assign": role},
            "tag_key": {"@@assign": "backup"},
            "tag_value": {"@@assign": ["gold"]},
        }
        plan = {
            "regions": {"@@assign": ["eu-north-1"]},
            "rules": {"r": rule},
            "selections": {"tags": {"gold": gold}},
            "backup_plan_tags": {"team": {"tag_key": {"@@assign": "team"}, "tag_value": {"@@assign": "red"}}},
        }
        return json.dumps({"plans": {"nightly": plan}})

    made = organizations.create_policy(Type="BACKUP_POLICY", Name="n", Description="", Content=policy(60))
    policy_id = made["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy_id, TargetId=root)
    listed = [plan["BackupPlanId"] for plan in backup.list_backup_plans()["BackupPlansList"]]
    assert listed == [own, next(each for each in listed if each.startswith("orgs/"))]
    plan_id = listed[1]
    for start in (120, 180):
        dev.clock(advance_seconds=60)
        organizations.update_policy(PolicyId=policy_id, Content=policy(start))
    pages = backup.get_paginator("list_backup_plan_versions").paginate(
        BackupPlanId=plan_id, PaginationConfig={"PageSize": 2}
    )
    versions = [version for page in pages for version in page["BackupPlanVersionsList"]]
    windows = [
        backup.get_backup_plan(BackupPlanId=plan_id, VersionId=version["VersionId"])["BackupPlan"]["Rules"][0][
            "StartWindowMinutes"
        ]
        for version in versions
    ]
    assert windows == [180, 120, 60]
    assert [version["CreationDate"] for version in versions] == sorted(
        (version["CreationDate"] for version in versions), reverse=True
    )
    exported = backup.export_backup_plan_template(BackupPlanId=plan_id)["BackupPlanTemplateJson"]
    assert (
        backup.get_backup_plan_from_json(BackupPlanTemplateJson=exported)["BackupPlan"]["BackupPlanName"] == "nightly"
    )
    arn = backup.get_backup_plan(BackupPlanId=plan_id)["BackupPlanArn"]
    assert backup.list_tags(ResourceArn=arn)["Tags"] == {"team": "red"}
    assert refusal(backup.tag_resource, ResourceArn=arn, Tags={"a": "b"})[0] == "InvalidParameterValueException"
    for call, more, says in (
        (backup.delete_backup_plan, {}, "Backup plan cannot be deleted"),
        (backup.update_backup_plan, {"BackupPlan": a_plan()}, "Backup plan cannot be updated"),
    ):
        assert refusal(call, BackupPlanId=plan_id, **more) == (
            "InvalidParameterValueException",
            f"{says} for backup plan {plan_id} created by organizations",
        )

    dev.clock(advance_seconds=60)
    organizations.detach_policy(PolicyId=policy_id, TargetId=root)
    assert [plan["BackupPlanId"] for plan in backup.list_backup_plans()["BackupPlansList"]] == [own]
    gone = backup.list_backup_plans(IncludeDeleted=True)["BackupPlansList"][-1]
    assert gone["BackupPlanId"] == plan_id
    assert backup.get_backup_plan(BackupPlanId=plan_id)["DeletionDate"] == gone["DeletionDate"]


def test_an_account_has_300_plans_in_a_region_and_a_plan_2000_versions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_PLANS", 3)
    monkeypatch.setattr(service, "MOST_VERSIONS", 2)
    with database.transaction() as tx:
        plans = [
            service.create_plan(tx, "111122223333", "eu-north-1", a_body(name=f"p{number}"), now=NOON).plan
            for number in range(3)
        ]
        with pytest.raises(PlanLimitError, match="has 3 backup plans"):
            service.create_plan(tx, "111122223333", "eu-north-1", a_body(), now=NOON)
        service.create_plan(tx, "111122223333", "eu-west-1", a_body(), now=NOON)
        service.delete_plan(tx, "111122223333", "eu-north-1", plans[0].id, now=NOON)
        service.create_plan(tx, "111122223333", "eu-north-1", a_body(), creator_request_id=new_uuid(), now=NOON)
        changed = a_body(a_rule(name="other"))
        service.update_plan(tx, "111122223333", "eu-north-1", plans[1].id, changed, now=NOON)
        with pytest.raises(InvalidPlanError, match="has 2 versions"):
            service.update_plan(tx, "111122223333", "eu-north-1", plans[1].id, changed, now=NOON)


def test_what_happens_to_a_plan_is_an_event(database: Database) -> None:
    account, region = "111122223333", "eu-north-1"
    with database.transaction() as tx:
        plan = service.create_plan(tx, account, region, a_body(), now=NOON).plan
        changed = service.update_plan(tx, account, region, plan.id, a_body(name="new"), now=NOON).plan
        service.delete_plan(tx, account, region, plan.id, now=NOON)
        told = [
            from_json(row.parameters)
            for row in tx.execute(
                text("SELECT parameters FROM audit_entry WHERE operation = 'BackupPlanStateChanged' ORDER BY id")
            )
        ]
    at = "2026-03-01T12:00:00Z"
    common = {"detailType": "Backup Plan State Change", "resources": [plan.arn], "backupPlanId": plan.id}
    assert told == [
        {**common, "versionId": plan.version_id, "state": "CREATED", "creationDate": at},
        {**common, "versionId": changed.version_id, "state": "MODIFIED", "modifiedAt": at},
        {**common, "versionId": changed.version_id, "state": "DELETED", "deletionDate": at},
    ]


@pytest.mark.postgres
def test_two_changes_of_a_plan_at_once_are_two_versions(postgres_database: Database) -> None:
    account, region = "111122223333", "eu-north-1"
    with postgres_database.transaction() as tx:
        plan = service.create_plan(tx, account, region, a_body(), now=NOON).plan.id

    def change(name: str) -> None:
        with postgres_database.transaction() as tx:
            service.update_plan(tx, account, region, plan, a_body(name=name), now=NOON)

    with ThreadPoolExecutor() as both:
        with postgres_database.transaction() as tx:
            service.update_plan(tx, account, region, plan, a_body(name="first"), now=NOON)
            second = both.submit(change, "second")
        second.result()
    with postgres_database.reading() as tx:
        versions = service.list_versions(tx, account, region, plan, limit=9, now=NOON).items
    assert [version.plan.name for version in versions] == ["second", "first", "plan"]
