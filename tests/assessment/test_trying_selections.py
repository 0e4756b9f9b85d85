"""Trying selections: what is taken, what nearly is, and by which clause; over HTTP, and as laws of the judge."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plan.test_selection import SELECTIONS, TAGS
from tests.running import REGION, ROLE, Member, Running, found_organization, holdfast, join, refusal
from tests.source.register import SHOP, Register, settings_in

from holdfast.assessment import service
from holdfast.assessment.model import Resource, judge
from holdfast.assessment.service import Outcome
from holdfast.cli.selection import NoSelectionError, selection_in
from holdfast.database.connection import Database
from holdfast.plan.model.selection import ResourceClass, Selection, TagTerm, selects, unmet

PII = {"ConditionType": "STRINGEQUALS", "ConditionKey": "dataType", "ConditionValue": "PII"}
NOT_TEST = {"StringNotEquals": [{"ConditionKey": "aws:ResourceTag/stage", "ConditionValue": "test"}]}
POLICY = {
    "plans": {
        "Nightly": {
            "regions": {"@@assign": [REGION]},
            "rules": {"Night": {"target_backup_vault_name": {"@@assign": "Central"}}},
            "selections": {
                "tags": {
                    "personal": {
                        "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                        "tag_key": {"@@assign": "dataType"},
                        "tag_value": {"@@assign": ["PII", "RED"]},
                    }
                },
                "resources": {
                    "trees": {
                        "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                        "resource_types": {"@@assign": ["arn:aws:elasticfilesystem:*:*:file-system/*"]},
                    }
                },
            },
        }
    }
}


class Shop:
    """A member of an organization with three directories, tagged in different ways."""

    def __init__(self, server: Running) -> None:
        self.root = found_organization(server)
        self.member: Member = join(server, "shop")
        self.holdfast = self.member.client("holdfast")
        self.arns = {}
        tags = {"letters": {"dataType": "PII"}, "drafts": {"dataType": "PII", "stage": "test"}, "notes": {"stage": "x"}}
        for name, mine in tags.items():
            (self.member.sandbox / name).mkdir()
            self.arns[name] = self.member.register(name, self.member.sandbox / name, Tags=mine)

    def outcomes(self, **asked: Any) -> dict[str, tuple[str, str]]:
        pages = self.holdfast.get_paginator("test_selection").paginate(**asked)
        return {each["Name"]: (each["Outcome"], each["DecidedBy"]) for page in pages for each in page["Results"]}


@pytest.fixture
def shop(dev: Running) -> Shop:
    return Shop(dev)


def test_a_selection_is_tried_before_it_is_made(shop: Shop) -> None:
    asked = {"ListOfTags": [PII], "Conditions": NOT_TEST}
    assert shop.outcomes(Selection=asked, PaginationConfig={"PageSize": 1}) == {
        "letters": ("MATCHED", "ListOfTags dataType = PII"),
        "drafts": ("NEARLY_MATCHED", "StringNotEquals aws:ResourceTag/stage = test"),
    }
    (far,) = shop.holdfast.test_selection(Selection=asked, ResourceArn=shop.arns["notes"])["Results"]
    assert (far["Outcome"], far["Unmet"]) == (
        "NOT_MATCHED",
        [{"Clause": "neither Resources nor ListOfTags takes it"}],
    )
    (near,) = shop.holdfast.test_selection(Selection=asked, Outcomes=["NEARLY_MATCHED"])["Results"]
    assert near["Unmet"] == [{"Clause": near["DecidedBy"], "Found": "stage = test"}]
    named = {"Resources": [shop.arns["notes"]], "NotResources": ["arn:aws:rds:*"]}
    assert shop.outcomes(Selection=named) == {"notes": ("MATCHED", f"Resources {shop.arns['notes']}")}


def test_a_type_that_is_switched_off_is_the_one_thing_that_keeps_a_resource_out(dev: Running, shop: Shop) -> None:
    own = {"ListOfTags": [PII]}
    backup = shop.member.client("backup")
    backup.update_region_settings(ResourceTypeOptInPreference={"EFS": False})
    outcome, why = shop.outcomes(Selection=own)["letters"]
    assert outcome == "NEARLY_MATCHED"
    assert "EFS is switched off in" in why
    assert shop.outcomes(Selection=own, ForOrganization=True)["letters"][0] == "MATCHED"
    plan = {"BackupPlanName": "mine", "Rules": [{"RuleName": "daily", "TargetBackupVaultName": "Central"}]}
    kept = backup.create_backup_plan(BackupPlan=plan)["BackupPlanId"]
    selection = {"SelectionName": "pii", "IamRoleArn": shop.member.role, **own}
    chosen = backup.create_backup_selection(BackupPlanId=kept, BackupSelection=selection)["SelectionId"]
    assert shop.outcomes(BackupPlanId=kept, SelectionId=chosen)["letters"] == (outcome, why)
    named = {"Resources": ["arn:aws:elasticfilesystem:*:*:file-system/*"]}
    (found,) = shop.holdfast.test_selection(Selection=named, ResourceArn=shop.arns["notes"])["Results"]
    assert (found["Outcome"], found["IgnoresOptIn"]) == ("MATCHED", True)
    dev.client("backup").update_region_settings(ResourceTypeOptInPreference={"EFS": False})
    outcome, why = shop.outcomes(Selection=own, ForOrganization=True)["letters"]
    assert outcome == "NEARLY_MATCHED"
    assert "in the management account" in why


def test_the_management_account_tries_selections_of_the_organizations_plans(dev: Running, shop: Shop) -> None:
    organizations, stranger = dev.client("organizations"), join(dev, "lab")
    policy = organizations.create_policy(
        Type="BACKUP_POLICY", Name="nightly", Description="", Content=json.dumps(POLICY)
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=shop.root)
    backup = shop.member.client("backup")
    (plan,) = backup.list_backup_plans()["BackupPlansList"]
    listed = backup.list_backup_selections(BackupPlanId=plan["BackupPlanId"])["BackupSelectionsList"]
    ids = {each["SelectionName"]: each["SelectionId"] for each in listed}
    keys = dev.credentials
    told: Any = {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"]}
    told |= {"AWS_ENDPOINT_URL": dev.url, "AWS_DEFAULT_REGION": REGION}
    where = ("--plan", plan["BackupPlanId"], "--account", shop.member.id)
    printed = holdfast("test-selection", *where, "--selection", ids["personal"], "--all", "--json", **told)
    document = json.loads(printed.stdout)
    assert {each["Name"]: each["Outcome"] for each in document["results"]} == {
        "letters": "MATCHED",
        "drafts": "MATCHED",
        "notes": "NOT_MATCHED",
    }
    asked = {"AccountId": shop.member.id, "BackupPlanId": plan["BackupPlanId"]}
    by_type = dev.client("holdfast").test_selection(**asked, SelectionId=ids["trees"])["Results"]
    assert {each["DecidedBy"] for each in by_type} == {"Resources arn:aws:elasticfilesystem:*:*:file-system/*"}
    unknown = refusal(dev.client("holdfast").test_selection, **asked, SelectionId="none")
    assert unknown[0] == "ResourceNotFoundException"
    written = shop.member.sandbox / "selection.json"
    written.write_text(json.dumps({"BackupSelection": {"SelectionName": "s", "IamRoleArn": "r", "ListOfTags": [PII]}}))
    tried = holdfast("test-selection", written, "--account", shop.member.id, "--limit", "1", **told)
    assert re.fullmatch(r"matched +EFS +drafts +ListOfTags dataType = PII *", tried.stdout.splitlines()[1])
    assert len(tried.stdout.splitlines()) == 2
    assert refusal(stranger.client("holdfast").test_selection, **asked)[0] == "AccessDeniedException"
    bad = {"Resources": ["bucket"]}
    assert refusal(shop.holdfast.test_selection, Selection=bad)[0] == "ValidationException"
    assert refusal(shop.holdfast.test_selection, BackupPlanId=plan["BackupPlanId"])[0] == "ValidationException"
    assert refusal(shop.holdfast.test_selection, Selection={}, ResourceArn="arn:aws:s3:::none")[0] == (
        "ResourceNotFoundException"
    )


def test_a_file_that_holds_no_selection_is_refused(tmp_path: Path) -> None:
    written = tmp_path / "selection.json"
    for content, told in (("[]", "holds no JSON object"), ("{", "is not JSON")):
        written.write_text(content)
        with pytest.raises(NoSelectionError, match=told):
            selection_in(written)


def test_a_page_ends_after_so_many_resources_whatever_it_found(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SCANNED_AT_MOST", 2)
    register = Register(sqlite_database, settings_in(tmp_path))
    for name in "abcde":
        register.put(name, f"file:///srv/{name}", tags={"last": "yes"} if name == "e" else {})
    trial = service.Trial(Selection(tags=(TagTerm("last", "yes"),)), SHOP, REGION, organizational=False)
    pages: list[list[str]] = []
    after: str | None = ""
    with sqlite_database.reading() as tx:
        while after is not None:
            found, after = service.try_on_all(tx, trial, frozenset({Outcome.MATCHED}), after=after, limit=1)
            pages.append([tried.name for tried in found])
        everything, rest = service.try_on_all(tx, trial, frozenset(Outcome), after="c", limit=2)
    assert pages == [[], [], ["e"]]
    assert ([tried.name for tried in everything], rest) == (["d", "e"], None)


@given(selection=SELECTIONS, tags=TAGS, kind=st.sampled_from(["EFS", "RDS", "S3"]), off=st.booleans())
def test_what_keeps_a_resource_out_is_told_exactly_when_it_is_kept_out(
    selection: Any, tags: dict[str, str], kind: str, *, off: bool
) -> None:
    arn = "arn:aws:s3:::bucket" if kind == "S3" else f"arn:aws:x:eu-north-1:111122223333:{kind}/x"
    resource = ResourceClass(kind, "eu-north-1", tags)
    verdict, missing = selects(selection, resource, arn), list(unmet(selection, resource, arn))
    assert verdict.selected is not bool(missing)
    judged = judge(
        selection, Resource(arn, resource), switched_off={kind} if off else frozenset(), organizational=False
    )
    assert judged.verdict.selected is (verdict.selected and (verdict.regardless or not off))
    assert judged.verdict.selected is not bool(judged.unmet)
    if judged.unmet:
        assert judged.verdict.clause == judged.unmet[0].clause
