"""Sources as users meet them: boto3 against a development server that backs up and restores for real."""

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.source.conftest import PASSWORD, Server

from holdfast.cli.client import client, session
from holdfast.cli.process import start_dev

pytestmark = pytest.mark.postgres

REGION = "eu-north-1"
ROLE, VAULT = "HoldfastBackup", "Daily"
_TRUST = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Service": "backup.amazonaws.com"},
        "Action": "sts:AssumeRole",
    },
}


@dataclass
class World:
    """A development server with an organization of two members, `shop` and `bank`."""

    url: str
    files: Path
    data_dir: Path
    sessions: dict[str, Any] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)

    def of(self, name: str, service: str = "holdfast") -> Any:
        """Return a client in an account; the empty name is the management account."""
        return client(self.sessions[name], service, self.url)

    def settle(self) -> None:
        """Let everything that is due happen, and wait for the jobs to end."""
        body = json.dumps({"advance_seconds": 1, "settle": True}).encode()
        request = urllib.request.Request(  # noqa: S310 - the server that was just started, on loopback
            f"{self.url}/_holdfast/clock", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310 - the same
            answer.read()

    def role(self, name: str) -> str:
        return f"arn:aws:iam::{self.accounts[name]}:role/{ROLE}"

    def back_up(self, arn: str) -> dict[str, Any]:
        """Back a resource of `shop` up now; return how the job ended."""
        backup = self.of("shop", "backup")
        job = backup.start_backup_job(BackupVaultName=VAULT, ResourceArn=arn, IamRoleArn=self.role("shop"))
        self.settle()
        ended: dict[str, Any] = backup.describe_backup_job(BackupJobId=job["BackupJobId"])
        return ended

    def restore(self, point: str, type_name: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Restore a recovery point of `shop`; return how the job ended."""
        backup = self.of("shop", "backup")
        job = backup.start_restore_job(
            RecoveryPointArn=point, Metadata=metadata, IamRoleArn=self.role("shop"), ResourceType=type_name
        )
        self.settle()
        ended: dict[str, Any] = backup.describe_restore_job(RestoreJobId=job["RestoreJobId"])
        return ended


@pytest.fixture(scope="module")
def world(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    files, data_dir = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("server") / "data"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", server.tools, prepend=":")
        started = start_dev(
            data_dir,
            *("--grant", str(files)),
            *("--grant", f"postgresql://localhost:{server.port}"),
            log=data_dir.parent / "log",
        )
    try:
        world = World(started.url, files, data_dir)
        world.sessions[""] = session(access_key="testing", secret_key="testing", region=REGION)
        organizations = world.of("", "organizations")
        organizations.create_organization(FeatureSet="ALL")
        for name in ("shop", "bank"):
            _lay_account(world, name)
        yield world
    finally:
        started.stop()
        for pipe in (started.process.stdin, started.process.stdout):
            if pipe is not None:
                pipe.close()


def _lay_account(world: World, name: str) -> None:
    status = world.of("", "organizations").create_account(Email=f"{name}@example.com", AccountName=name)
    world.accounts[name] = status["CreateAccountStatus"]["AccountId"]
    credentials = world.of("", "sts").assume_role(
        RoleArn=f"arn:aws:iam::{world.accounts[name]}:role/OrganizationAccountAccessRole", RoleSessionName="test"
    )["Credentials"]
    world.sessions[name] = session(
        access_key=credentials["AccessKeyId"],
        secret_key=credentials["SecretAccessKey"],
        token=credentials["SessionToken"],
        region=REGION,
    )
    world.of(name, "backup").create_backup_vault(BackupVaultName=VAULT)
    iam = world.of(name, "iam")
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(_TRUST))
    for policy in ("AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForRestores"):
        iam.attach_role_policy(RoleName=ROLE, PolicyArn=f"arn:aws:iam::aws:policy/service-role/{policy}")


def put_files(world: World, name: str, account: str = "shop", **more: Any) -> dict[str, Any]:
    tree = world.files / name
    tree.mkdir(exist_ok=True)
    (tree / "file").write_text(name)
    put: dict[str, Any] = world.of(account).put_resource(
        Name=name, ResourceType="EFS", SourceUrl=tree.as_uri(), **more
    )["Resource"]
    return put


def test_a_database_is_backed_up_and_restored(world: World, server: Server) -> None:
    server.run("postgres", "CREATE DATABASE shop_live")
    server.run("shop_live", "CREATE TABLE item AS SELECT i, md5(i::text) AS note FROM generate_series(1, 5000) i")
    holdfast = world.of("shop")
    holdfast.put_secret(
        Name="live", Username="postgres", Value=PASSWORD, Scheme="postgresql", Host="localhost", Port=server.port
    )
    arn = holdfast.put_resource(
        Name="shop-live",
        ResourceType="RDS",
        SourceUrl=f"{server.url('shop_live')}?row-counts=exact",
        SecretName="live",
    )["Resource"]["ResourceArn"]
    assert arn == f"arn:aws:rds:{REGION}:{world.accounts['shop']}:db:shop-live"
    ended = world.back_up(arn)
    assert ended["State"] == "COMPLETED", ended.get("StatusMessage")
    server.run("shop_live", "DELETE FROM item")
    restored = world.restore(ended["RecoveryPointArn"], "RDS", {"DBInstanceIdentifier": "shop_back"})
    assert restored["Status"] == "COMPLETED", restored.get("StatusMessage")
    assert server.ask("shop_back", "SELECT count(*) FROM item") == 5000
    made = restored["CreatedResourceArn"]
    assert made == f"arn:aws:rds:{REGION}:{world.accounts['shop']}:db:shop_back"
    registered = holdfast.describe_resource(Name="shop_back")["Resource"]
    assert (registered["ResourceArn"], registered["SecretName"], registered["Tags"]) == (made, "live", {})
    server.run("shop_back", "DELETE FROM item WHERE i > 10")
    protected = world.back_up(made)
    assert protected["State"] == "COMPLETED", protected.get("StatusMessage")
    metadata = {"holdfast:target-url": server.url("shop_third")}
    third = world.restore(protected["RecoveryPointArn"], "RDS", metadata)
    assert third["Status"] == "COMPLETED", third.get("StatusMessage")
    assert server.ask("shop_third", "SELECT count(*) FROM item") == 10
    for lacking, code, words in (
        ({}, "MissingParameterValueException", "DBInstanceIdentifier"),
        ({"DBClusterIdentifier": "c"}, "InvalidParameterValueException", "'DBClusterIdentifier' is no key"),
        ({"DBInstanceIdentifier": "b", "Engine": "mysql"}, "InvalidParameterValueException", "Engine is postgres"),
    ):
        with pytest.raises(ClientError) as raised:
            world.restore(ended["RecoveryPointArn"], "RDS", lacking)
        told = raised.value.response["Error"]
        assert (told["Code"], words in told["Message"]) == (code, True), told
    again = world.restore(ended["RecoveryPointArn"], "RDS", {"DBInstanceIdentifier": "shop_live"})
    assert again["Status"] == "FAILED"
    assert "exists and is not empty" in again["StatusMessage"]


def test_a_source_that_is_missing_ends_the_job_with_the_reason(world: World, server: Server) -> None:
    holdfast = world.of("shop")
    holdfast.put_secret(
        Name="gone", Username="postgres", Value=PASSWORD, Scheme="postgresql", Host="localhost", Port=server.port
    )
    arn = holdfast.put_resource(Name="gone", ResourceType="RDS", SourceUrl=server.url("nowhere"), SecretName="gone")[
        "Resource"
    ]["ResourceArn"]
    ended = world.back_up(arn)
    assert ended["State"] == "FAILED"
    assert 'database "nowhere" does not exist' in ended["StatusMessage"]
    assert PASSWORD not in ended["StatusMessage"]
    assert ended["MessageCategory"] == "RESOURCE_NOT_FOUND"
    with pytest.raises(ClientError) as raised:
        world.of("shop", "backup").stop_backup_job(BackupJobId=ended["BackupJobId"])
    told = raised.value.response["Error"]
    assert (told["Code"], told["Message"]) == (
        "InvalidRequestException",
        "backup jobs of resource type RDS cannot be stopped",
    )


def test_a_tree_comes_back_where_it_was_told_and_nowhere_else(world: World, tmp_path: Path) -> None:
    arn = put_files(world, "back")["ResourceArn"]
    ended = world.back_up(arn)
    assert ended["State"] == "COMPLETED", ended.get("StatusMessage")
    target = world.files / "back-again"
    metadata = {"newFileSystem": "true", "holdfast:target-url": target.as_uri()}
    assert world.restore(ended["RecoveryPointArn"], "EFS", metadata)["Status"] == "COMPLETED"
    assert (target / "file").read_text() == "back"
    outside = {"newFileSystem": "true", "holdfast:target-url": (tmp_path / "outside").as_uri()}
    refused = world.restore(ended["RecoveryPointArn"], "EFS", outside)
    assert refused["Status"] == "FAILED"
    assert "has no grant to restore" in refused["StatusMessage"]
    assert not (tmp_path / "outside").exists()
    existing = {"newFileSystem": "false", "file-system-id": arn.rpartition("/")[2]}
    assert world.restore(ended["RecoveryPointArn"], "EFS", existing)["Status"] == "COMPLETED"
    (landed,) = (world.files / "back").glob("aws-backup-restore_*/file")
    assert landed.read_text() == "back"


def refusal(world: World, url: str, code: str = "AccessDeniedException") -> str:
    """Register something that must be refused; return the sentence."""
    with pytest.raises(ClientError) as raised:
        world.of("shop").put_resource(Name="refused", ResourceType="EFS", SourceUrl=url)
    assert raised.value.response["Error"]["Code"] == code
    assert not [found for found in world.of("shop").list_resources()["Resources"] if found["Name"] == "refused"]
    return str(raised.value.response["Error"]["Message"])


def test_a_member_registers_nothing_that_is_not_its_own(world: World, tmp_path: Path) -> None:
    put_files(world, "vault-room", account="bank")
    (world.files / "link").symlink_to(world.files / "vault-room")
    assert "file:///" in refusal(world, "file:///")
    assert "has no grant to read" in refusal(world, world.data_dir.as_uri())
    assert "has no grant to read" in refusal(world, (world.data_dir / "storage").as_uri())
    assert "has no grant to read" in refusal(world, tmp_path.as_uri())
    assert "belongs to another account" in refusal(world, (world.files / "vault-room").as_uri(), "ConflictException")
    assert "belongs to another account" in refusal(world, world.files.as_uri(), "ConflictException")
    assert "is a symbolic link" in refusal(world, (world.files / "link").as_uri())
    assert "goes through . or .." in refusal(world, f"{world.files.as_uri()}/x/../../etc", "ValidationException")


def test_a_link_that_is_made_after_the_registration_is_not_followed(world: World) -> None:
    put_files(world, "safe", account="bank")
    arn = put_files(world, "swapped")["ResourceArn"]
    (world.files / "swapped/file").unlink()
    (world.files / "swapped").rmdir()
    (world.files / "swapped").symlink_to(world.files / "safe")
    ended = world.back_up(arn)
    assert ended["State"] == "FAILED"
    assert "is a symbolic link" in ended["StatusMessage"]


def test_only_the_management_account_grants_places(world: World) -> None:
    grant = {"Name": "srv", "Site": "local", "UrlPrefix": "file:///srv", "AllowRead": True}
    with pytest.raises(ClientError) as raised:
        world.of("shop").put_site_grant(**grant, Accounts=[world.accounts["shop"]])
    assert raised.value.response["Error"]["Code"] == "AccessDeniedException"
    put = world.of("").put_site_grant(**grant, Accounts=[world.accounts["shop"]], Tags={"why": "test"})["SiteGrant"]
    assert put["Version"] == "1"
    assert put["Tags"] == {"why": "test"}
    assert world.of("").describe_site_grant(Name="srv")["SiteGrant"] == put
    assert [found["Name"] for found in world.of("").list_site_grants(Site="local")["SiteGrants"]] == ["srv"]
    assert "this host does not allow to read file:///srv" in refusal(world, "file:///srv/www")
    world.of("").delete_site_grant(Name="srv", ExpectedVersion="1")
    with pytest.raises(ClientError) as raised:
        world.of("").describe_site_grant(Name="srv")
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_secrets_value_is_never_shown(world: World) -> None:
    holdfast = world.of("bank")
    put = holdfast.put_secret(
        Name="s", Username="u", Value="the-value", Scheme="postgresql", Host="DB.internal", Tags={"a": "b"}
    )["Secret"]
    shown = [put, holdfast.describe_secret(Name="s"), holdfast.list_secrets()]
    assert "the-value" not in str(shown)
    assert (put["Host"], put["Port"], put["Tags"]) == ("db.internal", 5432, {"a": "b"})
    assert not (world.data_dir.parent / "log").read_bytes().count(b"the-value")
    for path in world.data_dir.glob("control.db*"):
        assert b"the-value" not in path.read_bytes()
    with pytest.raises(ClientError) as raised:
        holdfast.put_secret(Name="s", Username="u", Scheme="postgresql", Host="evil.internal")
    assert "needs its Value again" in str(raised.value)
    holdfast.delete_secret(Name="s")
    assert holdfast.list_secrets()["Secrets"] == []


def test_a_change_on_condition_is_refused_when_somebody_was_faster(world: World) -> None:
    put = put_files(world, "conditional")
    assert put["Version"] == "1"
    assert put_files(world, "conditional", Tags={"a": "b"}, ExpectedVersion="1")["Version"] == "2"
    with pytest.raises(ClientError) as raised:
        put_files(world, "conditional", ExpectedVersion="1", Tags={})
    assert raised.value.response["Error"]["Code"] == "ConflictException"
    assert world.of("shop").describe_resource(Name="conditional")["Resource"]["Version"] == "2"
    world.of("shop").delete_resource(Name="conditional", ExpectedVersion="2")


def test_resources_are_found_and_changed_by_their_tags(world: World) -> None:
    arns = {
        name: put_files(world, name, account="bank", Tags={"team": name[0], "n": name[-1]})["ResourceArn"]
        for name in ("a1", "a2", "b1")
    }
    tagging = world.of("bank", "resourcegroupstaggingapi")

    def found(**asked: Any) -> set[str]:
        pages = tagging.get_paginator("get_resources").paginate(**asked, PaginationConfig={"PageSize": 1})
        return {item["ResourceARN"] for page in pages for item in page["ResourceTagMappingList"]}

    assert found(TagFilters=[{"Key": "team", "Values": ["a"]}]) == {arns["a1"], arns["a2"]}
    assert found(TagFilters=[{"Key": "team", "Values": ["a", "b"]}, {"Key": "n", "Values": ["1"]}]) == {
        arns["a1"],
        arns["b1"],
    }
    assert found(ResourceTypeFilters=["rds"]) == set()
    assert arns["a1"] in found(ResourceTypeFilters=["elasticfilesystem:file-system"])
    gone = f"arn:aws:elasticfilesystem:{REGION}:{world.accounts['bank']}:file-system/fs-gone"
    failed = tagging.tag_resources(ResourceARNList=[arns["a1"], gone], Tags={"new": "x"})["FailedResourcesMap"]
    assert list(failed) == [gone]
    assert tagging.untag_resources(ResourceARNList=[arns["a1"]], TagKeys=["n"])["FailedResourcesMap"] == {}
    assert world.of("bank").describe_resource(Name="a1")["Resource"]["Tags"] == {"team": "a", "new": "x"}
    assert {"team", "n", "new"} <= set(tagging.get_tag_keys()["TagKeys"])
    assert {"a", "b"} <= set(tagging.get_tag_values(Key="team")["TagValues"])


def test_the_management_account_sees_its_members_resources_and_they_not_each_others(world: World) -> None:
    put_files(world, "seen")
    shop = world.accounts["shop"]
    listed = world.of("").list_resources(AccountId=shop)["Resources"]
    assert "seen" in {resource["Name"] for resource in listed}
    assert {resource["AccountId"] for resource in listed} == {shop}
    with pytest.raises(ClientError):
        world.of("bank").list_resources(AccountId=shop)
    with pytest.raises(ClientError) as raised:
        world.of("").list_resources(AccountId="000000000000")
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_the_host_of_a_secret_is_no_host_and_port(world: World) -> None:
    with pytest.raises(ClientError, match="give that as Port"):
        world.of("shop").put_secret(Name="pager", Scheme="http", Host="127.0.0.1:8462", Value="s")


def test_a_backup_asked_for_is_refused_with_a_role_or_tags_that_cannot_be(world: World) -> None:
    (world.files / "asked").mkdir()
    made = world.of("shop").put_resource(Name="asked", ResourceType="EFS", SourceUrl=(world.files / "asked").as_uri())
    backup = world.of("shop", "backup")
    asked = {"BackupVaultName": VAULT, "ResourceArn": made["Resource"]["ResourceArn"]}
    with pytest.raises(backup.exceptions.InvalidParameterValueException, match="cannot be assumed by AWS Backup"):
        backup.start_backup_job(**asked, IamRoleArn="x")
    with pytest.raises(backup.exceptions.InvalidParameterValueException, match="reserved"):
        backup.start_backup_job(**asked, IamRoleArn=world.role("shop"), RecoveryPointTags={"aws:x": "y"})
