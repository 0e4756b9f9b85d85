"""Searching jobs across accounts and regions, by boto3 and by the command line."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.running import MANAGEMENT, REGION, ROLE, VAULT, Member, Running, found_organization, holdfast, join, refusal

MONDAY = datetime(2026, 3, 2, 6, tzinfo=UTC)
POLICY = {
    "plans": {
        "Nightly": {
            "regions": {"@@assign": [REGION]},
            "rules": {
                "Night": {
                    "schedule_expression": {"@@assign": "cron(0 22 ? * * *)"},
                    "target_backup_vault_name": {"@@assign": VAULT},
                }
            },
            "selections": {
                "tags": {
                    "tagged": {
                        "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                        "tag_key": {"@@assign": "tier"},
                        "tag_value": {"@@assign": ["gold"]},
                    }
                }
            },
        }
    }
}


class Company:
    """A shop in Prod/Web, a lab in Test; a backup by hand in each, one that failed, one that a plan made."""

    def __init__(self, server: Running) -> None:
        self.server = server
        server.clock(set=MONDAY.isoformat())
        root = found_organization(server)
        organizations = server.client("organizations")
        self.shop, self.lab = join(server, "shop"), join(server, "lab")
        self.prod = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
        self.web = organizations.create_organizational_unit(ParentId=self.prod, Name="Web")["OrganizationalUnit"]["Id"]
        self.test = organizations.create_organizational_unit(ParentId=root, Name="Test")["OrganizationalUnit"]["Id"]
        organizations.move_account(AccountId=self.shop.id, SourceParentId=root, DestinationParentId=self.web)
        organizations.move_account(AccountId=self.lab.id, SourceParentId=root, DestinationParentId=self.test)
        self.policy = organizations.create_policy(
            Type="BACKUP_POLICY", Name="nightly", Description="", Content=json.dumps(POLICY)
        )["Policy"]["PolicySummary"]["Id"]
        organizations.attach_policy(PolicyId=self.policy, TargetId=self.prod)
        self.arns = {}
        for member in (self.shop, self.lab):
            tree = member.sandbox / "tree"
            tree.mkdir()
            (tree / "page").write_text("hello")
            self.arns[member.id] = member.register("tree", tree, Tags={"tier": "gold"})
        self.by_hand = {member.id: member.back_up(self.arns[member.id]) for member in (self.shop, self.lab)}
        gone = self.lab.sandbox / "gone"
        gone.mkdir()
        missing = self.lab.register("gone", gone)
        gone.rmdir()
        self.failed = self.lab.back_up(missing)
        server.settle(24 * 3600)
        self.holdfast = server.client("holdfast")
        (night,) = self.found(PlanName="Nightly")
        self.night = night

    def found(self, **asked: Any) -> set[str]:
        """What a search finds, by all its pages."""
        pages = self.holdfast.get_paginator("search_jobs").paginate(**asked)
        return {job["JobId"] for page in pages for job in page["Jobs"]}


@pytest.fixture(scope="module")
def company(dev_server: Running) -> Company:
    dev_server.reset()
    return Company(dev_server)


def test_every_filter_alone_and_combined(company: Company) -> None:
    shop, lab = company.shop.id, company.lab.id
    hand_shop, hand_lab, failed, night = company.by_hand[shop], company.by_hand[lab], company.failed, company.night
    everything = {hand_shop, hand_lab, failed, night}
    (point,) = [each for each in company.shop.points() if each["CreationDate"] < MONDAY + timedelta(hours=3)]
    expected: list[tuple[dict[str, Any], set[str]]] = [
        ({}, everything),
        ({"Kinds": ["BACKUP"]}, everything),
        ({"Kinds": ["COPY", "RESTORE"]}, set()),
        ({"AccountId": lab}, {hand_lab, failed}),
        ({"UnitId": company.prod}, {hand_shop, night}),
        ({"UnitId": company.web}, {hand_shop, night}),
        ({"UnitId": company.test}, {hand_lab, failed}),
        ({"UnitId": company.test, "AccountId": shop}, set()),
        ({"Regions": [REGION]}, everything),
        ({"Regions": ["us-east-1"]}, set()),
        ({"States": ["FAILED", "EXPIRED"]}, {failed}),
        ({"States": ["COMPLETED"]}, everything - {failed}),
        ({"ResourceType": "EFS"}, everything),
        ({"ResourceArn": company.arns[shop]}, {hand_shop, night}),
        ({"PlanName": "nightly"}, {night}),
        ({"PolicyId": company.policy}, {night}),
        ({"PolicyId": company.policy, "PlanName": "hourly"}, set()),
        ({"VaultName": VAULT}, everything),
        ({"RecoveryPointArn": point["RecoveryPointArn"]}, {hand_shop}),
        ({"MessageCategory": "SUCCESS"}, everything - {failed}),
        ({"MessageContains": "NO SUCH"}, set()),
        ({"CreatedAfter": MONDAY + timedelta(hours=12)}, {night}),
        ({"CreatedBefore": MONDAY + timedelta(hours=12)}, everything - {night}),
        ({"CompletedAfter": MONDAY + timedelta(hours=12)}, {night}),
        ({"CompletedBefore": MONDAY}, set()),
        ({"ParentJobId": "none"}, set()),
        ({"JobId": night.upper()}, {night}),
        ({"JobId": "none"}, set()),
        ({"UnitId": company.prod, "States": ["COMPLETED"], "PlanName": "Nightly", "ResourceType": "EFS"}, {night}),
    ]
    for asked, found in expected:
        assert company.found(**asked) == found, asked
        assert company.found(**asked, MaxResults=1) == found, asked
    message = company.holdfast.search_jobs(JobId=failed)["Jobs"][0]["StatusMessage"]
    assert company.found(MessageContains=message[3:20].upper()) == {failed}


def test_the_first_page_counts_where_no_job_has_to_be_looked_at(company: Company) -> None:
    def counts(**asked: Any) -> dict[tuple[str, str], int] | None:
        answer: Mapping[str, Any] = company.holdfast.search_jobs(MaxResults=1, **asked)
        if "Counts" not in answer:
            return None
        return {(each["Kind"], each["State"]): each["Count"] for each in answer["Counts"]}

    assert counts() == {("BACKUP", "COMPLETED"): 3, ("BACKUP", "FAILED"): 1}
    assert counts(UnitId=company.prod) == {("BACKUP", "COMPLETED"): 2}
    assert counts(AccountId=company.lab.id, States=["FAILED"]) == {("BACKUP", "FAILED"): 1}
    midnight = MONDAY.replace(hour=0)
    assert counts(CreatedAfter=midnight, CreatedBefore=midnight + timedelta(days=1)) == counts()
    assert counts(CreatedBefore=midnight) == {}
    assert counts(CreatedAfter=MONDAY) is None
    assert counts(MessageContains="a") is None
    assert counts(PlanName="nightly") is None


def test_who_may_search_whose(company: Company) -> None:
    own = company.lab.client("holdfast")
    assert {job["AccountId"] for job in own.search_jobs()["Jobs"]} == {company.lab.id}
    assert own.search_jobs(JobId=company.night)["Jobs"] == []
    for asked in ({"AccountId": company.shop.id}, {"UnitId": company.test}, {"PolicyId": company.policy}):
        assert refusal(own.search_jobs, **asked)[0] == "AccessDeniedException"
    for asked in ({"UnitId": "ou-none-nonenone"}, {"PolicyId": "p-nonenone"}):
        assert refusal(company.holdfast.search_jobs, **asked)[0] == "ResourceNotFoundException"
    assert refusal(company.holdfast.search_jobs, States=["LOST"])[0] == "ValidationException"


def test_from_the_management_account_filters_down_to_one_job_on_the_command_line(company: Company) -> None:
    def typed(*options: str, who: Member | None = None) -> Any:
        keys = company.server.credentials if who is None else who.credentials
        told: dict[str, Any] = {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        }
        if "SessionToken" in keys:
            told["AWS_SESSION_TOKEN"] = keys["SessionToken"]
        return holdfast("jobs", *options, AWS_ENDPOINT_URL=company.server.url, AWS_DEFAULT_REGION=REGION, **told)

    found = typed("--unit", company.test, "--state", "failed", "--kind", "backup", "--type", "EFS", "--json")
    document = json.loads(found.stdout)
    assert [job["JobId"] for job in document["jobs"]] == [company.failed]
    assert document["version"] == 1
    table = typed("--since", "2026-03-02T00:00:00Z", "--limit", "3")
    assert table.stdout.count("backup") == 3
    assert "3 backup COMPLETED, 1 backup FAILED" in table.stderr
    lines = typed(company.failed, "--jsonl").stdout.splitlines()
    assert [json.loads(line)["JobId"] for line in lines] == [company.failed]
    assert typed("none").returncode == 5
    refused = typed("--account", company.shop.id, who=company.lab)
    assert (refused.returncode, refused.stdout) == (7, "")
    assert "delegated administrators" in refused.stderr
    assert typed("--state", "lost").returncode == 2
    assert "--endpoint-url" in holdfast("jobs").stderr
    assert MANAGEMENT not in {company.shop.id, company.lab.id}


def test_one_audit_trail_over_all_accounts_is_for_those_who_see_them_all(company: Company) -> None:
    def found(who: Any, **asked: Any) -> list[dict[str, Any]]:
        pages = who.get_paginator("search_audit_trail").paginate(**asked, PaginationConfig={"PageSize": 2})
        return [entry for page in pages for entry in page["Entries"]]

    started = found(company.holdfast, EventName="StartBackupJob", EventSource="backup.amazonaws.com")
    assert {entry["AccountId"] for entry in started} == {company.shop.id, company.lab.id}
    assert [entry["EventId"] for entry in started] == sorted((entry["EventId"] for entry in started), reverse=True)
    assert {
        entry["AccountId"] for entry in found(company.holdfast, UnitId=company.prod, EventName="StartBackupJob")
    } == {company.shop.id}
    (one,) = found(company.holdfast, EventName="StartBackupJob", ResourceName=company.arns[company.lab.id])
    assert one["AccountId"] == company.lab.id
    assert one in found(company.holdfast, AccountId=company.lab.id, Principal=one["PrincipalArn"].rpartition("/")[2])
    assert found(company.holdfast, EventName="StartBackupJob", EndTime=one["EventTime"] - timedelta(days=300)) == []
    theirs = company.lab.client("holdfast")
    assert {entry["AccountId"] for entry in found(theirs)} == {company.lab.id}
    for refused in ({"AccountId": company.shop.id}, {"UnitId": company.prod}):
        assert refusal(theirs.search_audit_trail, **refused)[0] == "AccessDeniedException"
    keys = company.server.credentials
    told: dict[str, Any] = {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
    told |= {"AWS_ENDPOINT_URL": company.server.url, "AWS_DEFAULT_REGION": REGION}
    shown = holdfast("audit", "search", "--event", "StartBackupJob", "--unit", company.test, "--json", **told)
    assert {entry["AccountId"] for entry in json.loads(shown.stdout)["entries"]} == {company.lab.id}
    assert "StartBackupJob" in holdfast("audit", "search", "--event", "StartBackupJob", "--limit", "1", **told).stdout
