"""Selections of an account's own plans, as boto3 sees them: made once, listed, deleted, refused with the reason."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.plan.test_body import a_body
from tests.plan.test_own_plans import a_plan
from tests.running import MANAGEMENT, TRUSTS_BACKUP, Member, Running, make_role, refusal

from holdfast.assessment.store import intern_selection
from holdfast.database.connection import Database
from holdfast.plan import service
from holdfast.plan.model.assignment import InvalidSelectionError, refuse_bad_selection
from holdfast.plan.model.selection import Condition, Operator, Selection, TagTerm

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROLE_ARN = f"arn:aws:iam::{MANAGEMENT}:role/Backups"
VOLUME = f"arn:aws:ec2:eu-north-1:{MANAGEMENT}:volume/vol-1"
FULL: dict[str, Any] = {
    "SelectionName": "full",
    "IamRoleArn": ROLE_ARN,
    "Resources": [VOLUME, "arn:aws:rds:*:*:db:*"],
    "NotResources": ["arn:aws:ec2:*:*:volume/vol-2"],
    "ListOfTags": [{"ConditionType": "STRINGEQUALS", "ConditionKey": "backup", "ConditionValue": "gold"}],
    "Conditions": {
        "StringEquals": [{"ConditionKey": "aws:ResourceTag/stage", "ConditionValue": "prod"}],
        "StringNotLike": [{"ConditionKey": "aws:ResourceTag/team", "ConditionValue": "lab*"}],
    },
}


@pytest.fixture(scope="module")
def server(dev_server: Running) -> Running:
    dev_server.reset()
    account = Member(dev_server, MANAGEMENT, dev_server.credentials)
    make_role(account, "Backups")
    make_role(account, "Nothing", policies=())
    make_role(account, "Strange", trust=TRUSTS_BACKUP.replace("backup.amazonaws.com", "ec2.amazonaws.com"))
    return dev_server


def test_a_selection_is_read_back_as_it_was_made_until_it_is_deleted(server: Running) -> None:
    backup = server.client("backup", region="eu-west-1")
    plan = backup.create_backup_plan(BackupPlan=a_plan())["BackupPlanId"]
    made = backup.create_backup_selection(BackupPlanId=plan, BackupSelection=FULL, CreatorRequestId="once")
    selection = made["SelectionId"]
    found = backup.get_backup_selection(BackupPlanId=plan, SelectionId=selection)
    assert found["BackupSelection"] == FULL
    assert (found["CreatorRequestId"], found["CreationDate"]) == ("once", made["CreationDate"])
    again = backup.create_backup_selection(BackupPlanId=plan, BackupSelection=FULL, CreatorRequestId="once")
    assert again["SelectionId"] == selection
    with pytest.raises(backup.exceptions.AlreadyExistsException) as refused:
        backup.create_backup_selection(BackupPlanId=plan, BackupSelection=FULL)
    assert refused.value.response["CreatorRequestId"] == "once"

    others = []
    for name in ("a", "b"):
        other = backup.create_backup_selection(BackupPlanId=plan, BackupSelection={**FULL, "SelectionName": name})
        others.append(other["SelectionId"])
    pages = backup.get_paginator("list_backup_selections").paginate(BackupPlanId=plan, PaginationConfig={"PageSize": 2})
    listed = [[each["SelectionId"] for each in page["BackupSelectionsList"]] for page in pages]
    assert [len(page) for page in listed] == [2, 1]
    assert sorted(each for page in listed for each in page) == sorted([selection, *others])

    assert refusal(backup.delete_backup_plan, BackupPlanId=plan) == (
        "InvalidRequestException",
        "Related backup plan selections must be deleted prior to backup plan deletion",
    )
    backup.update_backup_plan(BackupPlanId=plan, BackupPlan=a_plan("renamed"))
    for each in (selection, *others):
        backup.delete_backup_selection(BackupPlanId=plan, SelectionId=each)
    gone = {"BackupPlanId": plan, "SelectionId": selection}
    assert refusal(backup.get_backup_selection, **gone)[0] == "ResourceNotFoundException"
    assert refusal(backup.delete_backup_selection, **gone)[0] == "InvalidParameterValueException"
    assert backup.list_backup_selections(BackupPlanId=plan)["BackupSelectionsList"] == []
    backup.delete_backup_plan(BackupPlanId=plan)
    assert refusal(backup.delete_backup_selection, **gone)[0] == "ResourceNotFoundException"
    told = refusal(backup.create_backup_selection, BackupPlanId=plan, BackupSelection=FULL)
    assert told == ("InvalidParameterValueException", f"Cannot find Backup plan with ID {plan}")


def test_a_selection_that_cannot_be_is_refused_with_the_reason(server: Running) -> None:
    backup = server.client("backup", region="eu-west-2")
    plan = backup.create_backup_plan(BackupPlan=a_plan())["BackupPlanId"]
    role = f"arn:aws:iam::{MANAGEMENT}:role/"
    for changed, says in (
        ({"IamRoleArn": role + "Nobody"}, f"IAM Role {role}Nobody cannot be assumed by AWS Backup"),
        ({"IamRoleArn": role + "Strange"}, f"IAM Role {role}Strange cannot be assumed by AWS Backup"),
        ({"IamRoleArn": role + "Nothing"}, f"IAM Role {role}Nothing is not authorized to call tag:GetResources"),
        ({"SelectionName": "a b"}, "SelectionName"),
        ({"Conditions": {"StringEquals": [{"ConditionKey": "aws:ResourceTag/x"}]}}, "ConditionValue"),
        ({"Conditions": {"StringEquals": [{"ConditionKey": "x", "ConditionValue": "y"}]}}, "aws:ResourceTag/KEY"),
    ):
        told = refusal(backup.create_backup_selection, BackupPlanId=plan, BackupSelection={**FULL, **changed})
        assert (told[0], says in told[1]) == ("InvalidParameterValueException", True), told
    elsewhere = refusal(
        backup.create_backup_selection,
        BackupPlanId=plan,
        BackupSelection={**FULL, "IamRoleArn": "arn:aws:iam::210987654321:role/Backups"},
    )
    assert elsewhere[0] == "AccessDeniedException"
    iam = server.client("iam")
    iam.create_user(UserName="planner")
    iam.put_user_policy(
        UserName="planner",
        PolicyName="p",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "backup:*", "Resource": "*"}}
        ),
    )
    key = iam.create_access_key(UserName="planner")["AccessKey"]
    planner = server.client("backup", key, region="eu-west-2")
    denied = refusal(planner.create_backup_selection, BackupPlanId=plan, BackupSelection=FULL)
    assert (denied[0], "iam:PassRole" in denied[1]) == ("AccessDeniedException", True)
    assert backup.list_backup_selections(BackupPlanId=plan)["BackupSelectionsList"] == []


GOLD = TagTerm("backup", "gold")


@pytest.mark.parametrize(
    ("selection", "says"),
    [
        (Selection(resources=("volume",)), "Invalid ARN: 'volume'"),
        (Selection(resources=("*", "")), "Invalid ARN: ''"),
        (Selection(resources=tuple(f"{VOLUME}{number}" for number in range(501))), "500 ARNs without"),
        (Selection(("*",), tuple(f"{VOLUME}{number}" for number in range(501))), "500 ARNs without"),
        (Selection(resources=tuple(f"{VOLUME}{number}*" for number in range(31))), "30 ARNs with"),
        (Selection(tags=tuple(TagTerm("k", str(number)) for number in range(31))), "30 tags"),
        (Selection(tags=(TagTerm("", "v"),)), "a key has 1 to 128 characters"),
        (Selection(tags=(TagTerm("k", "v" * 257),)), "a value at most 256"),
        (
            Selection(conditions=tuple(Condition(Operator.LIKE, f"aws:ResourceTag/{n}", "") for n in range(31))),
            "30 Conditions",
        ),
        (Selection(("*",), (), (GOLD,), (Condition(Operator.EQUALS, "aws:ResourceTag/", ""),)), "a key has"),
    ],
)
def test_what_a_selection_may_say_is_limited(selection: Selection, says: str) -> None:
    with pytest.raises(InvalidSelectionError) as refused:
        refuse_bad_selection(selection)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "selection",
    [
        Selection(("*",)),
        Selection(("arn:aws:ec2:*",)),
        Selection(("arn:*:ec2:*:*:volume/*", "arn:aws:s3:::bucket", "arn:aws:rds:*:*:db:*"), (VOLUME,)),
        Selection(resources=tuple(f"{VOLUME}{number}" for number in range(500))),
        Selection(conditions=(Condition(Operator.LIKE, "aws:ResourceTag/k", "*"),)),
        Selection(tags=(GOLD,)),
    ],
)
def test_whatever_takes_something_within_the_limits_may_be_said(selection: Selection) -> None:
    refuse_bad_selection(selection)


def test_a_plan_has_100_selections(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_SELECTIONS", 2)
    monkeypatch.setattr(service, "missing_rights", lambda *_: ())
    everything = Selection(("*",))
    with database.transaction() as tx:
        intern_selection(tx, everything)
        plan = service.create_plan(tx, "111122223333", "eu-north-1", a_body(), now=NOON).plan.id

        def add(name: str) -> None:
            service.create_selection(
                tx,
                "111122223333",
                "eu-north-1",
                plan,
                name=name,
                role_arn="arn:aws:iam::111122223333:role/r",
                selection=everything,
                now=NOON,
            )

        add("a")
        add("b")
        with pytest.raises(service.PlanLimitError, match="2 selections"):
            add("c")
        found = service.get_plan(tx, "111122223333", "eu-north-1", plan, now=NOON).plan.selections
        assert [each.name for each in found] == ["a", "b"]
