"""Restores as the owner of an account sees them: what is asked for, what is refused at once, what was made."""

import filecmp
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.running import Member, Running, found_organization, join, make_role, refusal


@pytest.fixture
def shop(dev: Running) -> Member:
    found_organization(dev)
    return join(dev, "shop")


def a_point(shop: Member, name: str = "www", **tags: str) -> dict[str, Any]:
    """Back a small tree up; return its recovery point."""
    tree: Path = shop.sandbox / name
    (tree / "docs").mkdir(parents=True)
    (tree / "docs" / "a").write_text("a")
    (tree / "logo").write_bytes(bytes(range(256)))
    shop.back_up(shop.register(name, tree, Tags=tags))
    shop.server.settle(60)
    (point,) = (each for each in shop.points() if each["ResourceName"] == name)
    return point


def resources(shop: Member) -> dict[str, dict[str, Any]]:
    """The account's register, by ARN."""
    return {each["ResourceArn"]: each for each in shop.client("holdfast").list_resources()["Resources"]}


def test_what_a_restore_makes_is_registered_with_the_points_tags_and_can_be_protected_itself(shop: Member) -> None:
    point = a_point(shop, team="web")
    target = shop.sandbox / "www back"
    start = shop.client("backup").start_restore_job
    asked = {"RecoveryPointArn": point["RecoveryPointArn"], "IamRoleArn": shop.role}
    new = {"newFileSystem": "true", "holdfast:target-url": target.as_uri()}
    job = start(**asked, Metadata=new, CopySourceTagsToRestoredResource=True)["RestoreJobId"]
    shop.server.settle(60)
    ended = shop.restored(job)
    assert ended["Status"] == "COMPLETED", ended
    made = resources(shop)[ended["CreatedResourceArn"]]
    assert (made["Name"], made["ResourceType"], made["Tags"]) == ("www-back", "EFS", {"team": "web"})
    assert made["SourceUrl"] == target.as_uri()
    backup = shop.ended(shop.back_up(made["ResourceArn"]))
    assert backup["State"] == "COMPLETED", backup
    again = shop.restore(
        {"RecoveryPointArn": backup["RecoveryPointArn"], "ResourceType": "EFS"}, shop.sandbox / "again"
    )
    compared = filecmp.dircmp(shop.sandbox / "www", again)
    assert not (compared.left_only + compared.right_only + compared.diff_files)
    assert filecmp.cmp(shop.sandbox / "www/docs/a", again / "docs/a", shallow=False)

    # Without being asked for, tags stay away; a name that is taken gets the job's id; a registered place is itself.
    (shop.sandbox / "deeper").mkdir()
    same = start(**asked, Metadata={"holdfast:target-url": (shop.sandbox / "deeper/www").as_uri()})["RestoreJobId"]
    shutil.rmtree(target)
    back = start(**asked, Metadata=new)["RestoreJobId"]
    below = start(**asked, Metadata={"file-system-id": point["ResourceArn"].rpartition("/")[2]})["RestoreJobId"]
    shop.server.settle(60)
    second = resources(shop)[shop.restored(same)["CreatedResourceArn"]]
    assert (second["Name"], second["Tags"]) == (f"www-{same}", {})
    assert shop.restored(back)["CreatedResourceArn"] == made["ResourceArn"]
    assert shop.restored(below)["CreatedResourceArn"] == point["ResourceArn"]
    assert [each["SourceUrl"] for each in resources(shop).values()].count(target.as_uri()) == 1


BAD = "InvalidParameterValueException"
REFUSED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("MissingParameterValueException", "file-system-id", {}),
    ("MissingParameterValueException", "holdfast:target-url", {"newFileSystem": "true"}),
    ("MissingParameterValueException", "file-system-id", {"newFileSystem": "false", "Encrypted": "false"}),
    (BAD, "'colour'", {"file-system-id": "fs-1", "colour": "red"}),
    (BAD, "'DestinationBucketName'", {"file-system-id": "fs-1", "DestinationBucketName": "b"}),
    (BAD, "'NEWFILESYSTEM'", {"file-system-id": "fs-1", "NEWFILESYSTEM": "false"}),
    (BAD, "newFileSystem is true or false", {"file-system-id": "fs-1", "newFileSystem": "perhaps"}),
    (BAD, "Encrypted is true or false", {"file-system-id": "fs-1", "Encrypted": "yes"}),
    (BAD, "singleAzFilesystem is true or false", {"file-system-id": "fs-1", "singleAzFilesystem": "1"}),
    (BAD, "PerformanceMode is generalPurpose or maxIO", {"file-system-id": "fs-1", "PerformanceMode": "fast"}),
    (BAD, "ItemsToRestore", {"file-system-id": "fs-1", "ItemsToRestore": "/a"}),
    (BAD, "ItemsToRestore", {"file-system-id": "fs-1", "ItemsToRestore": '{"/a": 1}'}),
    (BAD, "ItemsToRestore", {"file-system-id": "fs-1", "ItemsToRestore": '["/"]'}),
    (BAD, "ItemsToRestore", {"file-system-id": "fs-1", "ItemsToRestore": '["/a/../b"]'}),
    (BAD, "at most 5 paths", {"file-system-id": "fs-1", "ItemsToRestore": json.dumps([f"/{n}" for n in range(6)])}),
    (BAD, "at most 200000", {"file-system-id": "fs-1", "CreationToken": "x" * 200_000}),
    (BAD, "holdfast:target-url", {"newFileSystem": "true", "holdfast:target-url": "postgresql://db/shop"}),
    (BAD, "goes through . or ..", {"newFileSystem": "true", "holdfast:target-url": "file:///srv/../etc"}),
    (BAD, "newFileSystem", {"newFileSystem": "false", "holdfast:target-url": "file:///srv/new"}),
    (BAD, "holdfast:root-mode", {"holdfast:target-url": "file:///srv/new", "holdfast:root-mode": "rwx"}),
    (BAD, "holdfast:root-owner", {"holdfast:target-url": "file:///srv/new", "holdfast:root-owner": "www"}),
)


def test_what_no_change_in_the_world_could_mend_is_refused_at_once_and_makes_no_job(shop: Member) -> None:
    point = a_point(shop)
    backup = shop.client("backup")
    asked = {"RecoveryPointArn": point["RecoveryPointArn"], "IamRoleArn": shop.role}
    for code, words, metadata in REFUSED:
        told = refusal(backup.start_restore_job, **asked, Metadata=metadata)
        assert (told[0], words in told[1]) == (code, True), (metadata, told)
    good = {"file-system-id": point["ResourceArn"].rpartition("/")[2]}
    for kind, code, words in (
        ("S3", "InvalidRequestException", "type S3 are not restored by this release; those of EFS and RDS are"),
        ("EBS", "InvalidRequestException", "type EBS are not restored"),
        ("DynamoDB", "InvalidRequestException", "type DynamoDB are not restored"),
        ("RDS", "MissingParameterValueException", "DBInstanceIdentifier"),
    ):
        told = refusal(backup.start_restore_job, **asked, Metadata={}, ResourceType=kind)
        assert (told[0], words in told[1]) == (code, True), told
    told = refusal(backup.start_restore_job, **asked, Metadata={"DBInstanceIdentifier": "x"}, ResourceType="RDS")
    assert told == (BAD, f"ResourceType RDS is not that of {point['RecoveryPointArn']}, which is EFS")
    stranger = make_role(shop, "Stranger", trust=trusting("lambda.amazonaws.com"))
    for role in (stranger, f"arn:aws:iam::{shop.id}:role/nobody"):
        told = refusal(backup.start_restore_job, **{**asked, "IamRoleArn": role}, Metadata=good)
        assert told[0] == BAD
        assert told[1].startswith(f"IAM Role {role} cannot be assumed by AWS Backup. ")
    nothing = f"{asked['RecoveryPointArn']}0"
    told = refusal(backup.start_restore_job, RecoveryPointArn=nothing, IamRoleArn=shop.role, Metadata=good)
    assert told[0] == "ResourceNotFoundException"
    assert backup.list_restore_jobs()["RestoreJobs"] == []

    # Every key that AWS's clients send is taken, and one item comes alone, with its folder, beside the live data.
    everything = {
        **good,
        "Encrypted": "True",
        "KmsKeyId": "alias/none",
        "PerformanceMode": "maxIO",
        "CreationToken": "t",
        "newFileSystem": "false",
        "singleAzFilesystem": "false",
        "availabilityZoneName": "eu-north-1a",
        "aws:backup:request-id": "r",
        "ItemsToRestore": '["/docs/a", "/gone"]',
    }
    ended = shop.restored(start(shop, asked, everything))
    assert ended["Status"] == "COMPLETED", ended
    assert "/gone: not in the recovery point" in ended["StatusMessage"]
    (landed,) = (shop.sandbox / "www").glob("aws-backup-restore_*")
    assert sorted(str(each.relative_to(landed)) for each in landed.rglob("*")) == ["docs", "docs/a"]
    weak = make_role(shop, "Weak", policies=("Backup",))
    ended = shop.restored(start(shop, {**asked, "IamRoleArn": weak}, good))
    assert ended["Status"] == "FAILED"
    assert "elasticfilesystem:Restore" in ended["StatusMessage"]


def start(shop: Member, asked: dict[str, str], metadata: dict[str, str]) -> str:
    job: str = shop.client("backup").start_restore_job(**asked, Metadata=metadata)["RestoreJobId"]
    shop.server.settle(60)
    return job


def trusting(service: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})
