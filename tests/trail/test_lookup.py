"""LookupEvents answers from the audit trail."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from sqlalchemy import text
from tests.access.conftest import MANAGEMENT, MEMBER, OTHER, REGION, World

from holdfast.database.connection import Database

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": MEMBER}},
    }
)


def lookup(world: World, who: str = MEMBER, **attribute: str) -> list[dict[str, Any]]:
    asked: list[dict[str, str]] = [{"AttributeKey": key, "AttributeValue": value} for key, value in attribute.items()]
    pages = (
        world.client("cloudtrail", who)
        .get_paginator("lookup_events")
        .paginate(LookupAttributes=asked, PaginationConfig={"PageSize": 2})
    )
    return [event for page in pages for event in page["Events"]]


@pytest.fixture
def busy(world: World) -> World:
    kms = world.client("kms", MEMBER)
    key = kms.create_key(Description="first")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    kms.enable_key(KeyId=key)
    session = world.assume(f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole")
    world.client("kms", session).create_alias(AliasName="alias/mine", TargetKeyId=key)
    kms.describe_key(KeyId=key)
    return world


def test_what_was_done_is_listed_the_newest_first_and_looking_is_not_recorded(busy: World) -> None:
    names = [event["EventName"] for event in lookup(busy)]
    assert names == ["CreateAlias", "EnableKey", "DisableKey", "CreateKey"]


def test_events_are_found_by_name_source_user_and_id(busy: World) -> None:
    assert [event["EventName"] for event in lookup(busy, EventName="EnableKey")] == ["EnableKey"]
    assert len(lookup(busy, EventSource="kms.amazonaws.com")) == 4
    assert lookup(busy, EventSource="iam.amazonaws.com") == []
    assert [event["EventName"] for event in lookup(busy, Username="session")] == ["CreateAlias"]
    assert lookup(busy, Username="sess_on") == []
    (event,) = lookup(busy, EventName="CreateKey")
    assert lookup(busy, EventId=event["EventId"]) == [event]
    assert lookup(busy, EventId="something else") == []
    assert [event["EventName"] for event in lookup(busy, ResourceName="alias/mine")] == ["CreateAlias"]
    record = json.loads(event["CloudTrailEvent"])
    assert (record["awsRegion"], record["requestParameters"]) == (REGION, {"Description": "first"})


def test_no_account_sees_what_another_did(busy: World) -> None:
    assert lookup(busy, OTHER) == []
    assert [event["EventName"] for event in lookup(busy, MANAGEMENT)] == ["AssumeRole"]


def test_a_member_is_told_that_a_control_policy_refused_but_not_which(world: World) -> None:
    denied = {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}
    world.control("ou-1-prod", json.dumps({"Version": "2012-10-17", "Statement": denied}), name="p-internal")
    with pytest.raises(ClientError, match="service control policy"):
        world.client("kms", MEMBER).create_key()
    (event,) = lookup(world)
    record = json.loads(event["CloudTrailEvent"])
    assert record["errorCode"] == "AccessDenied"
    assert record["errorMessage"] == "kms:CreateKey on *: denied by a service control policy"


def test_a_change_that_cannot_be_recorded_is_not_made(whole_world: World, sqlite_database: Database) -> None:
    full = "CREATE TRIGGER full BEFORE INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
    with sqlite_database.transaction() as tx:
        tx.execute(text(full))
    kms = whole_world.client("kms", MEMBER)
    with pytest.raises(ClientError) as failed:
        kms.create_key()
    assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    with sqlite_database.transaction() as tx:
        tx.execute(text("DROP TRIGGER full"))
    assert kms.list_keys()["Keys"] == []
    kms.create_key()
    assert len(kms.list_keys()["Keys"]) == 1


def test_two_attributes_at_once_are_refused(world: World) -> None:
    with pytest.raises(ClientError, match="one attribute at a time"):
        lookup(world, EventName="CreateKey", Username="maria")
