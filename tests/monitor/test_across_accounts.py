"""Who sees whose jobs, and how many: boto3 in the management account, a delegated administrator's, and members'."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.running import (
    REGION,
    VAULT,
    Member,
    Running,
    found_organization,
    join,
    refusal,
)

BACKUP = "backup.amazonaws.com"
MONDAY = datetime(2026, 3, 2, 6, tzinfo=UTC)


class Company:
    """Two members with a backup each that completed and one that failed, and a copy, made on Monday; it is Tuesday."""

    def __init__(self, server: Running) -> None:
        self.server = server
        server.clock(set=MONDAY.isoformat())
        found_organization(server)
        self.organizations = server.client("organizations")
        self.organizations.disable_policy_type(
            RootId=self.organizations.list_roots()["Roots"][0]["Id"], PolicyType="BACKUP_POLICY"
        )
        self.shop, self.lab = join(server, "shop"), join(server, "lab")
        self.good, self.bad = {}, {}
        for member in (self.shop, self.lab):
            tree = member.sandbox / "tree"
            tree.mkdir()
            (tree / "page").write_text("hello")
            self.good[member.id] = member.back_up(member.register("tree", tree))
            gone = member.sandbox / "gone"
            gone.mkdir()
            arn = member.register("gone", gone)
            gone.rmdir()
            self.bad[member.id] = member.back_up(arn)
        server.settle(3600)
        own = self.shop.client("backup")
        own.create_backup_vault(BackupVaultName="Second")
        self.second = own.describe_backup_vault(BackupVaultName="Second")["BackupVaultArn"]
        (self.point,) = self.shop.points()
        self.copy = own.start_copy_job(
            SourceBackupVaultName=VAULT,
            RecoveryPointArn=self.point["RecoveryPointArn"],
            DestinationBackupVaultArn=self.second,
            IamRoleArn=self.shop.role,
        )["CopyJobId"]
        server.settle(23 * 3600)

    def central(self, who: Member | None = None) -> Any:
        """AWS Backup as the management account sees it, or as another account does."""
        return self.server.client("backup") if who is None else who.client("backup")


@pytest.fixture(scope="module")
def company(dev_server: Running) -> Company:
    dev_server.reset()
    return Company(dev_server)


def ids(answer: dict[str, Any]) -> set[str]:
    return {job["BackupJobId"] for job in answer["BackupJobs"]}


def test_the_management_account_sees_every_job_by_any_filter(company: Company) -> None:
    good, bad = set(company.good.values()), set(company.bad.values())
    backup = company.central()
    shop, job = company.shop.id, company.shop.job(company.good[company.shop.id])
    expected: list[tuple[dict[str, Any], set[str]]] = [
        ({}, good | bad),
        ({"ByState": "COMPLETED"}, good),
        ({"ByState": "FAILED"}, bad),
        ({"ByState": "PENDING"}, set()),
        ({"ByState": "EXPIRED"}, set()),
        ({"ByMessageCategory": "SUCCESS"}, good),
        ({"ByMessageCategory": "Success"}, good),
        ({"ByMessageCategory": "AGGREGATE_ALL"}, good | bad),
        ({"ByMessageCategory": "*"}, good | bad),
        ({"ByMessageCategory": "ANY"}, good | bad),
        ({"ByMessageCategory": "VSS_ERROR"}, set()),
        ({"ByResourceArn": job["ResourceArn"]}, {job["BackupJobId"]}),
        ({"ByResourceType": "EFS"}, good | bad),
        ({"ByResourceType": "RDS"}, set()),
        ({"ByBackupVaultName": VAULT}, good | bad),
        ({"ByBackupVaultName": "Elsewhere"}, set()),
        ({"ByCreatedBefore": MONDAY}, set()),
        ({"ByCreatedAfter": MONDAY}, good | bad),
        ({"ByCompleteAfter": MONDAY, "ByState": "COMPLETED"}, good),
        ({"ByCompleteBefore": MONDAY}, set()),
        ({"ByParentJobId": "none"}, set()),
        ({"ByState": "COMPLETED", "ByBackupVaultName": VAULT, "ByResourceType": "EFS"}, good),
    ]
    for filters, found in expected:
        assert ids(backup.list_backup_jobs(ByAccountId="*", **filters)) == found, filters
        alone = {each for each in found if each in {company.good[shop], company.bad[shop]}}
        assert ids(backup.list_backup_jobs(ByAccountId=shop, **filters)) == alone, filters
    assert ids(backup.list_backup_jobs()) == set(), "the management account's own"
    code, _ = refusal(backup.list_backup_jobs, ByAccountId="*", ByMessageCategory="Nonsense")
    assert code == "InvalidParameterValueException"
    code, _ = refusal(backup.list_backup_jobs, ByAccountId="*", ByState="ANY")
    assert code == "InvalidParameterValueException"
    pages = backup.get_paginator("list_backup_jobs").paginate(ByAccountId="*", PaginationConfig={"PageSize": 1})
    jobs = [job for page in pages for job in page["BackupJobs"]]
    assert [job["CreationDate"] for job in jobs] == sorted((job["CreationDate"] for job in jobs), reverse=True)
    assert {job["BackupJobId"] for job in jobs} == good | bad


def test_a_page_token_is_nobody_elses_and_for_no_other_list(company: Company) -> None:
    token = company.central().list_backup_jobs(ByAccountId="*", MaxResults=1)["NextToken"]
    asked: list[tuple[Any, dict[str, Any]]] = [
        (company.central(), {"ByAccountId": "*", "ByState": "FAILED", "NextToken": token}),
        (company.central(), {"ByAccountId": "*", "NextToken": token[:-4] + "AAAA"}),
        (company.central(company.shop), {"NextToken": token}),
    ]
    for client, parameters in asked:
        assert refusal(client.list_backup_jobs, **parameters)[0] == "InvalidParameterValueException"


def test_one_of_anothers_jobs_can_be_described_from_above_and_from_nowhere_else(company: Company) -> None:
    job = company.good[company.shop.id]
    assert company.central().describe_backup_job(BackupJobId=job)["AccountId"] == company.shop.id
    assert company.central().describe_backup_job(BackupJobId=job.upper())["State"] == "COMPLETED"
    code, sentence = refusal(company.central(company.lab).describe_backup_job, BackupJobId=job)
    assert code == "ResourceNotFoundException"
    assert company.shop.id not in sentence
    elsewhere = company.server.client("backup", region="us-east-1")
    assert refusal(elsewhere.describe_backup_job, BackupJobId=job)[0] == "ResourceNotFoundException"


def test_members_see_their_own_and_a_delegated_administrator_sees_all(company: Company) -> None:
    lab = company.central(company.lab)
    mine = {company.good[company.lab.id], company.bad[company.lab.id]}
    assert ids(lab.list_backup_jobs()) == mine
    assert ids(lab.list_backup_jobs(ByAccountId=company.lab.id)) == mine
    for other in ("*", company.shop.id):
        for listing in (lab.list_backup_jobs, lab.list_restore_jobs):
            code, sentence = refusal(listing, ByAccountId=other)
            assert code == "AccessDeniedException"
            assert "delegated administrators" in sentence
    company.organizations.register_delegated_administrator(AccountId=company.lab.id, ServicePrincipal=BACKUP)
    try:
        assert ids(lab.list_backup_jobs(ByAccountId="*")) == {*company.good.values(), *company.bad.values()}
        assert lab.describe_backup_job(BackupJobId=company.good[company.shop.id])["AccountId"] == company.shop.id
        counts = lab.list_backup_job_summaries(AccountId="ANY", State="COMPLETED")["BackupJobSummaries"]
        assert {(row["AccountId"], row["Count"]) for row in counts} == {(company.shop.id, 1), (company.lab.id, 1)}
    finally:
        company.organizations.deregister_delegated_administrator(AccountId=company.lab.id, ServicePrincipal=BACKUP)
    assert refusal(lab.list_backup_jobs, ByAccountId="*")[0] == "AccessDeniedException"


def test_summaries_break_out_sum_up_or_filter_each_dimension(company: Company) -> None:
    backup = company.central()

    def rows(**asked: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = backup.list_backup_job_summaries(**asked)["BackupJobSummaries"]
        return found

    (everything,) = rows(AccountId="AGGREGATE_ALL")
    assert everything == {
        "Region": REGION,
        "AccountId": "AGGREGATE_ALL",
        "State": "AGGREGATE_ALL",
        "ResourceType": "AGGREGATE_ALL",
        "MessageCategory": "AGGREGATE_ALL",
        "Count": 4,
        "StartTime": everything["StartTime"],
        "EndTime": everything["EndTime"],
    }
    assert everything["EndTime"] - everything["StartTime"] == timedelta(days=14)
    assert everything["EndTime"] == MONDAY.replace(hour=0) + timedelta(days=1)
    each = {(row["AccountId"], row["State"]): row["Count"] for row in rows(AccountId="ANY", State="ANY")}
    accounts = (company.shop.id, company.lab.id)
    assert each == {(account, state): 1 for account in accounts for state in ("COMPLETED", "FAILED")}
    assert [row["Count"] for row in rows(AccountId=company.shop.id, State="FAILED")] == [1]
    assert [row["Count"] for row in rows(AccountId="ANY", ResourceType="RDS")] == []
    (well,) = rows(AccountId="AGGREGATE_ALL", MessageCategory="SUCCESS", ResourceType="EFS")
    assert (well["Count"], well["MessageCategory"], well["ResourceType"]) == (2, "SUCCESS", "EFS")
    (monday,) = rows(AccountId="AGGREGATE_ALL", AggregationPeriod="ONE_DAY")
    assert (monday["StartTime"], monday["EndTime"]) == (
        MONDAY.replace(hour=0),
        MONDAY.replace(hour=0) + timedelta(days=1),
    )
    assert backup.list_backup_job_summaries()["BackupJobSummaries"] == [], "the management account's own"
    for asked in ({}, {"AccountId": "ANY"}, {"AccountId": company.lab.id}):
        own = company.central(company.shop).list_backup_job_summaries(State="COMPLETED", **asked)
        assert [(row["AccountId"], row["Count"]) for row in own["BackupJobSummaries"]] == [(company.shop.id, 1)]
    for summaries, name in (
        (backup.list_copy_job_summaries, "CopyJobSummaries"),
        (backup.list_restore_job_summaries, "RestoreJobSummaries"),
    ):
        answer = summaries(AccountId="ANY", State="RUNNING", AggregationPeriod="SEVEN_DAYS")
        assert (answer[name], answer["AggregationPeriod"]) == ([], "SEVEN_DAYS")
    pages: dict[str, Any] = {"AccountId": "ANY", "State": "ANY", "MaxResults": 1}
    seen = []
    while True:
        page = backup.list_backup_job_summaries(**pages)
        seen += page["BackupJobSummaries"]
        if "NextToken" not in page:
            break
        pages["NextToken"] = page["NextToken"]
    assert [row["Count"] for row in seen] == [1, 1, 1, 1]


def test_restores_are_seen_across_accounts_too_and_of_one_resource_by_its_account(company: Company) -> None:
    shop, backup = company.shop, company.central()
    point = company.point
    shop.restore(point, shop.sandbox / "restored")
    (job,) = backup.list_restore_jobs(ByAccountId="*", ByStatus="COMPLETED")["RestoreJobs"]
    assert job["AccountId"] == shop.id
    assert backup.list_restore_jobs(ByAccountId="*", ByStatus="PENDING")["RestoreJobs"] == []
    assert backup.list_restore_jobs(ByAccountId=company.lab.id)["RestoreJobs"] == []
    testing = f"arn:aws:backup:{REGION}:{shop.id}:restore-testing-plan:none"
    assert backup.list_restore_jobs(ByAccountId="*", ByRestoreTestingPlanArn=testing)["RestoreJobs"] == []
    assert backup.describe_restore_job(RestoreJobId=job["RestoreJobId"])["Status"] == "COMPLETED"
    listing = shop.client("backup").list_restore_jobs_by_protected_resource
    made = point["CreationDate"]
    for filters, found in (
        ({}, 1),
        ({"ByStatus": "FAILED"}, 0),
        ({"ByRecoveryPointCreationDateAfter": made}, 1),
        ({"ByRecoveryPointCreationDateBefore": made}, 0),
    ):
        assert len(listing(ResourceArn=point["ResourceArn"], **filters)["RestoreJobs"]) == found, filters
    assert listing(ResourceArn=point["ResourceArn"] + "x")["RestoreJobs"] == []


def test_copies_are_seen_across_accounts_by_any_filter_and_counted(company: Company) -> None:
    shop, backup, own = company.shop, company.central(), company.central(company.shop)
    point, target, made = company.point, company.second, company.copy
    (job,) = backup.list_copy_jobs(ByAccountId="*")["CopyJobs"]
    assert (job["CopyJobId"], job["AccountId"], job["State"]) == (made, shop.id, "COMPLETED")
    filters: list[tuple[dict[str, Any], int]] = [
        ({"ByState": "COMPLETED"}, 1),
        ({"ByState": "FAILED"}, 0),
        ({"ByMessageCategory": "SUCCESS"}, 1),
        ({"ByResourceArn": point["ResourceArn"]}, 1),
        ({"ByResourceType": "EFS"}, 1),
        ({"ByDestinationVaultArn": target}, 1),
        ({"ByDestinationVaultArn": target + "x"}, 0),
        ({"BySourceRecoveryPointArn": point["RecoveryPointArn"]}, 1),
        ({"BySourceRecoveryPointArn": point["RecoveryPointArn"] + "x"}, 0),
        ({"ByCreatedAfter": MONDAY}, 1),
        ({"ByCreatedBefore": MONDAY}, 0),
        ({"ByCompleteAfter": MONDAY}, 1),
        ({"ByCompleteBefore": MONDAY}, 0),
        ({"ByParentJobId": made}, 0),
    ]
    for given, found in filters:
        assert len(backup.list_copy_jobs(ByAccountId="*", **given)["CopyJobs"]) == found, given
        assert len(own.list_copy_jobs(**given)["CopyJobs"]) == found, given
    assert company.central(company.lab).list_copy_jobs()["CopyJobs"] == []
    assert refusal(company.central(company.lab).list_copy_jobs, ByAccountId="*")[0] == "AccessDeniedException"
    assert backup.describe_copy_job(CopyJobId=made)["CopyJob"]["AccountId"] == shop.id
    (row,) = backup.list_copy_job_summaries(AccountId="ANY", State="ANY")["CopyJobSummaries"]
    assert (row["AccountId"], row["State"], row["Count"]) == (shop.id, "COMPLETED", 1)


def test_global_settings_are_the_management_accounts_to_change_and_every_members_to_read(company: Company) -> None:
    central, shop = company.central(), company.central(company.shop)
    names = ("isCrossAccountBackupEnabled", "isMpaEnabled", "isDelegatedAdministratorEnabled")
    assert shop.describe_global_settings()["GlobalSettings"] == dict.fromkeys(names, "false")
    central.update_global_settings(GlobalSettings={"isCrossAccountBackupEnabled": "true"})
    try:
        told = shop.describe_global_settings()
        assert told["GlobalSettings"] == {**dict.fromkeys(names, "false"), "isCrossAccountBackupEnabled": "true"}
        changed_at = told["LastUpdateTime"]
        central.update_global_settings(GlobalSettings={"isDelegatedAdministratorEnabled": "true"})
        assert shop.describe_global_settings()["LastUpdateTime"] == changed_at, "only the switch for copies moves it"
        for client, settings, code in (
            (shop, {"isCrossAccountBackupEnabled": "false"}, "InvalidRequestException"),
            (central, {"isNonsense": "true"}, "InvalidParameterValueException"),
            (central, {"isMpaEnabled": "yes"}, "InvalidParameterValueException"),
        ):
            assert refusal(client.update_global_settings, GlobalSettings=settings)[0] == code
    finally:
        central.update_global_settings(GlobalSettings=dict.fromkeys(names[::2], "false"))
