"""Copies of recovery points: into other vaults, accounts and regions, by hand and by rules, and when they fail."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.journey.restic import Storage, repositories_in
from tests.journey.test_job_states import movers_standing_still
from tests.running import REGION, ROLE, VAULT, Member, Running, configured, found_organization, join, refusal, started

from holdfast.cli.tree import compare_trees, make_tree

OTHER_REGION = "eu-west-1"


def vault_arn(member: Member, name: str = VAULT, region: str = REGION) -> str:
    return f"arn:aws:backup:{region}:{member.id}:backup-vault:{name}"


def let_in(target: Member, who: dict[str, Any], name: str = VAULT, **more: Any) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": who,
        "Action": "backup:CopyIntoBackupVault",
        "Resource": "*",
        **more,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    target.client("backup").put_backup_vault_access_policy(BackupVaultName=name, Policy=policy)


def copy(source: Member, point: str, target: str, **more: Any) -> str:
    asked = {"SourceBackupVaultName": VAULT, "IamRoleArn": source.role, **more}
    answer = source.client("backup").start_copy_job(RecoveryPointArn=point, DestinationBackupVaultArn=target, **asked)
    job: str = answer["CopyJobId"]
    return job


def copied(source: Member, job: str) -> dict[str, Any]:
    """Let a copy job end, and describe it."""
    source.server.settle(60)
    found: dict[str, Any] = source.client("backup").describe_copy_job(CopyJobId=job)["CopyJob"]
    assert found["State"] in {"COMPLETED", "FAILED"}, found
    return found


def nightly(targets: dict[str, dict[str, Any]], tag: str) -> dict[str, Any]:
    """A backup policy whose one rule makes a point each night and copies it into each of these vaults."""
    return {
        "plans": {
            tag: {
                "regions": {"@@assign": [REGION]},
                "rules": {
                    "Night": {
                        "schedule_expression": {"@@assign": "cron(0 3 ? * * *)"},
                        "target_backup_vault_name": {"@@assign": VAULT},
                        "lifecycle": {"delete_after_days": {"@@assign": "35"}},
                        "copy_actions": {
                            arn: {"target_backup_vault_arn": {"@@assign": arn}, **more} for arn, more in targets.items()
                        },
                    }
                },
                "selections": {
                    "tags": {
                        tag: {
                            "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                            "tag_key": {"@@assign": "plan"},
                            "tag_value": {"@@assign": [tag]},
                        }
                    }
                },
            }
        }
    }


@dataclass(frozen=True)
class Company:
    """An organization whose member `shop` has a backup, and a member `central` whose vault takes copies."""

    server: Running
    shop: Member
    central: Member
    tree: Path
    point: dict[str, Any]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    top = tmp_path_factory.mktemp("copies")
    storage = top / "data" / "storage"
    configured(
        top / "data",
        f"""
        [storage.cellar]
        url = "{(storage / "cellar").as_uri()}"
        [storage.attic]
        url = "{(storage / "attic").as_uri()}"
        [regions.{OTHER_REGION}]
        storage = "attic"
        """,
    )
    with started("dev", top / "data", "--grant", "postgresql://db.internal") as server:
        found_organization(server, "SERVICE_CONTROL_POLICY")
        server.client("backup").update_global_settings(GlobalSettings={"isCrossAccountBackupEnabled": "true"})
        shop, central = join(server, "shop"), join(server, "central")
        let_in(central, {"AWS": f"arn:aws:iam::{shop.id}:root"})
        tree = shop.sandbox / "files"
        make_tree(tree, theme="shop", files=12)
        arn = shop.register("files", tree, Tags={"team": "web"})
        shop.back_up(arn, Lifecycle={"DeleteAfterDays": 35}, RecoveryPointTags={"made-by": "hand"})
        server.settle(60)
        (point,) = shop.points()
        yield Company(server, shop, central, tree, point)


def test_a_copy_in_another_account_is_a_recovery_point_in_its_own_right(company: Company) -> None:
    shop, central, point = company.shop, company.central, company.point
    done = copied(shop, copy(shop, point["RecoveryPointArn"], vault_arn(central)))
    assert done["State"] == "COMPLETED", done
    assert done["AccountId"] == shop.id
    assert done["SourceBackupVaultArn"] == vault_arn(shop)
    assert done["SourceRecoveryPointArn"] == point["RecoveryPointArn"]
    assert done["DestinationBackupVaultArn"] == vault_arn(central)
    assert done["DestinationRecoveryPointLifecycle"] == {"DeleteAfterDays": 35}
    assert (done["DestinationVaultType"], done["DestinationVaultLockState"]) == ("BACKUP_VAULT", "UNLOCKED")
    assert (done["ResourceArn"], done["ResourceType"], done["ResourceName"]) == (point["ResourceArn"], "EFS", "files")
    assert (done["MessageCategory"], done["IsParent"]) == ("SUCCESS", False)
    assert "Copied within fault domain" in done["StatusMessage"]
    assert done["BackupSizeInBytes"] == point["BackupSizeInBytes"]

    (made,) = (each for each in central.points() if each["RecoveryPointArn"] == done["DestinationRecoveryPointArn"])
    assert made["RecoveryPointArn"] != point["RecoveryPointArn"]
    assert f":{central.id}:" in made["RecoveryPointArn"]
    assert made["SourceBackupVaultArn"] == vault_arn(shop)
    assert made["CreationDate"] == point["CreationDate"]
    assert made["CalculatedLifecycle"] == point["CalculatedLifecycle"]
    assert made["EncryptionKeyArn"] == done["DestinationEncryptionKeyArn"] != point["EncryptionKeyArn"]
    tags = central.client("backup").list_tags(ResourceArn=made["RecoveryPointArn"])["Tags"]
    assert tags == {"team": "web", "made-by": "hand"}
    assert point in shop.points(), "the source is as it was"

    # Restored where it lies, byte for byte, though the source and its vault's key were gone.
    shop.client("kms").disable_key(KeyId=point["EncryptionKeyArn"])
    restored = central.restore(made, central.sandbox / "restored")
    shop.client("kms").enable_key(KeyId=point["EncryptionKeyArn"])
    files, differences = compare_trees(company.tree, restored)
    assert (files, differences) == (12 + 11 + 4, [])


def stored(server: Running) -> int:
    """How many bytes lie in all repositories."""
    packs = (path for each in repositories_in(server.data_dir) for path in (each / "data").rglob("*"))
    return sum(path.stat().st_size for path in packs if path.is_file())


def test_only_missing_chunks_travel_into_one_repository_per_source_account(company: Company) -> None:
    """The second copy of a tree that has hardly changed is small; restic restores it, and finds no fault."""
    shop, central, server = company.shop, company.central, company.server
    tree = shop.sandbox / "big"
    tree.mkdir()
    (tree / "blob").write_bytes(os.urandom(3 << 20))
    arn = shop.register("big", tree)

    def back_up_and_copy(page: str) -> tuple[str, int]:
        (tree / page).write_text(page)
        job = shop.back_up(arn)
        server.settle(60)
        before = stored(server)
        done = copied(shop, copy(shop, shop.job(job)["RecoveryPointArn"], vault_arn(central)))
        assert done["State"] == "COMPLETED", done
        return done["CopyJobId"], stored(server) - before

    assert back_up_and_copy("one")[1] > 3 << 20
    job, travelled = back_up_and_copy("two")
    assert travelled < 100_000
    storage = Storage(server.data_dir)
    repository: Path = storage.snapshot_of(job)["repository"]
    assert repository.parent.name == shop.id, "one repository per account that the data came from"
    storage.check(repository)
    restored = storage.restore(job, central.sandbox / "by-restic")
    assert (restored / "blob").read_bytes() == (tree / "blob").read_bytes()


def test_copies_in_one_account_need_no_policy_and_no_key_of_ones_own(company: Company) -> None:
    """Into a vault of the same region with the service's own key, and into one of another region on other storage."""
    shop = company.shop
    shop.client("backup").create_backup_vault(BackupVaultName="Second")
    there = company.server.client("backup", shop.credentials, region=OTHER_REGION)
    there.create_backup_vault(BackupVaultName="Far")
    for target, words in (
        (vault_arn(shop, "Second"), "Copied within fault domain cellar: "),
        (vault_arn(shop, "Far", OTHER_REGION), "Copied from fault domain cellar to fault domain attic."),
    ):
        done = copied(shop, copy(shop, company.point["RecoveryPointArn"], target))
        assert done["State"] == "COMPLETED", done
        assert done["StatusMessage"].startswith(words)
    told = asked_before(company, target)
    assert (told["FaultDomain"], told["DestinationFaultDomain"]) == ("cellar", "attic")
    (second,) = shop.points("Second")
    (far,) = there.list_recovery_points_by_backup_vault(BackupVaultName="Far")["RecoveryPoints"]
    assert f":{OTHER_REGION}:" in far["RecoveryPointArn"]
    assert len({point["RecoveryPointArn"] for point in (second, far, company.point)}) == 3


def test_a_copy_may_have_a_lifecycle_of_its_own_and_minus_one_is_the_sources(company: Company) -> None:
    shop = company.shop
    shop.client("backup").create_backup_vault(BackupVaultName="Lives")
    ends = []
    for days in (90, -1):
        job = copy(
            shop, company.point["RecoveryPointArn"], vault_arn(shop, "Lives"), Lifecycle={"DeleteAfterDays": days}
        )
        done = copied(shop, job)
        ends.append(done["DestinationRecoveryPointLifecycle"]["DeleteAfterDays"])
    assert ends == [90, 35]
    for point in shop.points("Lives"):
        kept = point["CalculatedLifecycle"]["DeleteAt"] - company.point["CreationDate"]
        assert kept.days == point["Lifecycle"]["DeleteAfterDays"]


def test_a_retry_of_one_request_makes_one_copy(company: Company) -> None:
    shop = company.shop
    shop.client("backup").create_backup_vault(BackupVaultName="Once")
    jobs = {
        copy(shop, company.point["RecoveryPointArn"], vault_arn(shop, "Once"), IdempotencyToken="same") for _ in "12"
    }
    company.server.settle(60)
    assert len(jobs) == 1
    assert len(shop.points("Once")) == 1


def test_what_can_never_be_copied_is_refused_at_once(company: Company) -> None:
    shop, backup = company.shop, company.shop.client("backup")
    good = {
        "RecoveryPointArn": company.point["RecoveryPointArn"],
        "SourceBackupVaultName": VAULT,
        "DestinationBackupVaultArn": vault_arn(company.central),
        "IamRoleArn": shop.role,
    }
    for wrong, code, words in (
        ({"DestinationBackupVaultArn": "Central"}, "InvalidParameterValueException", "ARN of a backup vault"),
        ({"DestinationBackupVaultArn": shop.role}, "InvalidParameterValueException", "ARN of a backup vault"),
        ({"DestinationBackupVaultArn": vault_arn(shop)}, "InvalidParameterValueException", "lies in"),
        ({"RecoveryPointArn": good["RecoveryPointArn"] + "x"}, "ResourceNotFoundException", "no recovery point"),
        ({"SourceBackupVaultName": "Missing"}, "ResourceNotFoundException", "Missing does not exist"),
        ({"Lifecycle": {"DeleteAfterDays": 0}}, "InvalidParameterValueException", "cannot be less than 1"),
        (
            {"Lifecycle": {"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 60}},
            "InvalidParameterValueException",
            "90 days apart",
        ),
    ):
        told = refusal(backup.start_copy_job, **{**good, **wrong})
        assert told[0] == code, told
        assert words in told[1]
    code, _ = refusal(backup.describe_copy_job, CopyJobId="00000000-0000-0000-0000-000000000000")
    assert code == "ResourceNotFoundException"


def asked_before(company: Company, target: str, **more: Any) -> dict[str, Any]:
    """Ask whether the point could be copied."""
    days = more.get("Lifecycle", {}).get("DeleteAfterDays")
    answer: dict[str, Any] = company.shop.client("holdfast").preflight_copy(
        RecoveryPointArn=company.point["RecoveryPointArn"],
        DestinationBackupVaultArn=target,
        IamRoleArn=more.get("IamRoleArn", company.shop.role),
        **({} if days is None else {"DeleteAfterDays": days}),
    )
    return answer


def failed(company: Company, target: str, **more: Any) -> dict[str, Any]:
    """Copy what cannot be copied: the job fails with what the question beforehand has said."""
    shop = company.shop
    answer = asked_before(company, target, **more)
    done = copied(shop, copy(shop, company.point["RecoveryPointArn"], target, **more))
    assert done["State"] == "FAILED", done
    assert "DestinationRecoveryPointArn" not in done
    assert not answer["Allowed"]
    first = next(each for each in answer["Conditions"] if not each["Met"])
    assert done["StatusMessage"] == f"{first['Message']} {first['Remedy']}"
    assert done["MessageCategory"] == first["MessageCategory"]
    return {**done, "Condition": first}


def test_condition_1_both_accounts_are_in_one_organization(company: Company) -> None:
    gone = join(company.server, "leaver")
    let_in(gone, {"AWS": f"arn:aws:iam::{company.shop.id}:root"})
    company.server.clock(advance_seconds=5 * 86_400)
    company.server.client("organizations").remove_account_from_organization(AccountId=gone.id)
    done = failed(company, vault_arn(gone))
    # And outside of the organization nobody learns whether there is such a vault.
    assert failed(company, vault_arn(gone, "Nowhere"))["StatusMessage"] == done["StatusMessage"]
    assert "DestinationFaultDomain" not in asked_before(company, vault_arn(gone))
    assert (done["MessageCategory"], done["Condition"]["Number"]) == ("ACCESS_DENIED", 1)
    assert done["StatusMessage"].startswith(
        "Copy job failed. Both source and destination account must be a member of the same organization. "
    )


def test_condition_2_the_organization_has_switched_copies_on(company: Company) -> None:
    central = company.server.client("backup")
    central.update_global_settings(GlobalSettings={"isCrossAccountBackupEnabled": "false"})
    done = failed(company, vault_arn(company.central))
    central.update_global_settings(GlobalSettings={"isCrossAccountBackupEnabled": "true"})
    assert done["MessageCategory"] == "FEATURE_NOT_ENABLED"
    assert done["StatusMessage"].startswith(
        "Copy job failed. Cross-account copy feature is not enabled for the current organization. "
    )
    assert "UpdateGlobalSettings" in done["StatusMessage"]


def test_condition_3_the_target_vault_lets_the_source_in(company: Company) -> None:
    """No policy is a no; the organization's id and the path to a unit of it are as good as the account's root."""
    shop, central = company.shop, company.central
    backup = central.client("backup")
    key = central.client("kms").create_key()["KeyMetadata"]["Arn"]
    backup.create_backup_vault(BackupVaultName="Closed", EncryptionKeyArn=key)
    target = vault_arn(central, "Closed")
    done = failed(company, target)
    assert done["MessageCategory"] == "ACCESS_DENIED"
    assert done["StatusMessage"].startswith("Access Denied trying to call AWS Backup service. ")
    assert f"Let account {shop.id} do it in the access policy of the vault." in done["StatusMessage"]
    # The statement that would mend it does.
    missing = done["Condition"]
    assert (missing["Number"], missing["StatementOf"]) == (3, target)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [json.loads(missing["Statement"])]})
    backup.put_backup_vault_access_policy(BackupVaultName="Closed", Policy=policy)
    assert asked_before(company, target)["Allowed"]
    assert copied(shop, copy(shop, company.point["RecoveryPointArn"], target))["State"] == "COMPLETED"

    organization = company.server.client("organizations").describe_organization()["Organization"]["Id"]
    root = company.server.client("organizations").list_roots()["Roots"][0]["Id"]
    for condition in (
        {"StringEquals": {"aws:PrincipalOrgID": organization}},
        {"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": f"{organization}/{root}/*"}},
    ):
        let_in(central, {"AWS": "*"}, "Closed", Condition=condition)
        assert copied(shop, copy(shop, company.point["RecoveryPointArn"], target))["State"] == "COMPLETED"
    let_in(central, {"AWS": "*"}, "Closed", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-another123"}})
    assert failed(company, target)["MessageCategory"] == "ACCESS_DENIED"


def test_condition_4_nothing_denies_to_copy_out_of_the_source(company: Company) -> None:
    """A control policy keeps copies within one unit: whoever may not copy there may not even start it."""
    shop, central = company.shop, company.central
    organizations = company.server.client("organizations")
    deny: dict[str, Any] = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "NotThere",
                "Effect": "Deny",
                "Action": "backup:CopyFromBackupVault",
                "Resource": "*",
                "Condition": {"ForAnyValue:StringEquals": {"backup:CopyTargets": vault_arn(central)}},
            }
        ],
    }
    policy = organizations.create_policy(
        Type="SERVICE_CONTROL_POLICY", Name="inside", Description="", Content=json.dumps(deny)
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=shop.id)
    path = f"{organizations.describe_organization()['Organization']['Id']}/*"
    for condition in (
        deny["Statement"][0]["Condition"],
        {"ForAnyValue:StringLike": {"backup:CopyTargetOrgPaths": path}},
    ):
        statement = {**deny["Statement"][0], "Condition": condition}
        organizations.update_policy(PolicyId=policy, Content=json.dumps({**deny, "Statement": [statement]}))
        code, words = refusal(copy, source=shop, point=company.point["RecoveryPointArn"], target=vault_arn(central))
        assert (code, "service control policy" in words) == ("AccessDeniedException", True)
    organizations.detach_policy(PolicyId=policy, TargetId=shop.id)
    # The vault's own policy may deny it to the role alone; then the job fails.
    denying = {**deny, "Statement": [{**deny["Statement"][0], "Principal": {"AWS": shop.role}}]}
    shop.client("backup").put_backup_vault_access_policy(BackupVaultName=VAULT, Policy=json.dumps(denying))
    done = failed(company, vault_arn(central))
    shop.client("backup").delete_backup_vault_access_policy(BackupVaultName=VAULT)
    assert done["MessageCategory"] == "ACCESS_DENIED"
    assert "backup:CopyFromBackupVault" in done["StatusMessage"]
    assert "NotThere" in done["StatusMessage"]
    assert done["Condition"]["Number"] == 4
    organizations.delete_policy(PolicyId=policy)


def test_condition_5_the_target_vault_has_a_key_of_its_own(company: Company) -> None:
    central = company.central
    central.client("backup").create_backup_vault(BackupVaultName="Default")
    let_in(central, {"AWS": f"arn:aws:iam::{company.shop.id}:root"}, "Default")
    done = failed(company, vault_arn(central, "Default"))
    assert done["MessageCategory"] == "ACCESS_DENIED"
    assert done["StatusMessage"].startswith(
        "Copy job failed because the destination Backup vault is encrypted with the default Backup service managed "
        "key. "
    )


def test_condition_6_what_is_not_fully_managed_lies_under_a_key_that_is_shared(company: Company) -> None:
    """A database has no backup yet: its next one is asked about, and the statement that would mend it does."""
    shop, central = company.shop, company.central
    shop.client("holdfast").put_secret(
        Name="db", Username="u", Value="p", Scheme="postgresql", Host="db.internal", Port=5432
    )
    arn = shop.register("db", "postgresql://db.internal/shop", "RDS", SecretName="db")
    shop.client("backup").create_backup_vault(BackupVaultName="Managed")

    def broken(vault: str) -> dict[str, Any] | None:
        conditions = shop.client("holdfast").preflight_copy(
            ResourceArn=arn,
            SourceBackupVaultName=vault,
            DestinationBackupVaultArn=vault_arn(central),
            IamRoleArn=shop.role,
        )["Conditions"]
        assert [each.get("Number") for each in conditions if "Number" in each] == list(range(1, 9))
        return next((each for each in conditions if not each["Met"]), None)

    managed, own = broken("Managed"), broken(VAULT)
    assert managed is not None
    assert own is not None
    assert managed["Message"] == (
        "Snapshots encrypted with the AWS managed key can't be shared. Specify another snapshot."
    )
    assert managed["Number"] == own["Number"] == 6
    assert managed["MessageCategory"] == own["MessageCategory"] == "KMS_KEY_ERROR"
    kms = shop.client("kms")
    policy = json.loads(kms.get_key_policy(KeyId=own["StatementOf"], PolicyName="default")["Policy"])
    policy["Statement"].append(json.loads(own["Statement"]))
    kms.put_key_policy(KeyId=own["StatementOf"], PolicyName="default", Policy=json.dumps(policy))
    assert broken(VAULT) is None


def test_a_question_about_a_copy_says_what_would_be_copied(company: Company) -> None:
    ask = company.shop.client("holdfast").preflight_copy
    good = {"DestinationBackupVaultArn": vault_arn(company.central), "IamRoleArn": company.shop.role}
    point, resource = company.point["RecoveryPointArn"], company.point["ResourceArn"]
    assert ask(ResourceArn=resource, **good)["Allowed"], "the latest point of the resource is meant"
    told = ask(RecoveryPointArn=point, **good)
    assert told["FaultDomain"] == told["DestinationFaultDomain"]
    for wrong in ({}, {"RecoveryPointArn": point, "ResourceArn": resource}):
        assert refusal(ask, **good, **wrong)[0] == "ValidationException"
    assert refusal(ask, RecoveryPointArn=point + "x", **good)[0] == "ResourceNotFoundException"


def test_condition_7_the_point_is_warm(company: Company) -> None:
    """In cold storage it is not copied, and while a copy of it is on its way it does not go there."""
    shop, server = company.shop, company.server
    tree = shop.sandbox / "old"
    tree.mkdir()
    (tree / "page").write_text("old")
    arn = shop.register("old", tree)
    job = shop.back_up(arn, Lifecycle={"MoveToColdStorageAfterDays": 1, "DeleteAfterDays": 100})
    server.settle(60)
    point = shop.job(job)["RecoveryPointArn"]
    shop.client("backup").create_backup_vault(BackupVaultName="Cellar")
    targets, ask = (vault_arn(company.central), vault_arn(shop, "Cellar")), shop.client("holdfast").preflight_copy
    for target in targets:
        assert ask(RecoveryPointArn=point, DestinationBackupVaultArn=target, IamRoleArn=shop.role)["Allowed"]
    with movers_standing_still(server):
        on_its_way = copy(shop, point, targets[0])
        server.clock(advance_seconds=86_400)
        described = shop.client("backup").describe_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=point)
        assert described["StorageClass"] == "WARM"
    assert copied(shop, on_its_way)["State"] == "COMPLETED"
    server.clock(advance_seconds=120)
    described = shop.client("backup").describe_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=point)
    assert described["StorageClass"] == "COLD"
    for target in targets:
        asked = {"DestinationBackupVaultArn": target, "IamRoleArn": shop.role}
        for named in ({"RecoveryPointArn": point}, {"ResourceArn": arn}):
            answer = ask(**named, **asked)
            broken = [(each["Number"], each["MessageCategory"]) for each in answer["Conditions"] if not each["Met"]]
            assert (answer["Allowed"], broken) == (False, [(7, "INVALID_STATE")])
        start = shop.client("backup").start_copy_job
        code, words = refusal(start, RecoveryPointArn=point, SourceBackupVaultName=VAULT, **asked)
        assert (code, "in cold storage" in words) == ("InvalidRequestException", True)


def test_condition_8_the_target_vaults_lock_takes_the_retention(company: Company) -> None:
    """Between accounts and within one; the copy counts as kept as long as its own lifecycle says."""
    shop, central = company.shop, company.central
    key = central.client("kms").create_key()["KeyMetadata"]["Arn"]
    central.client("backup").create_backup_vault(BackupVaultName="Locked", EncryptionKeyArn=key)
    let_in(central, {"AWS": f"arn:aws:iam::{shop.id}:root"}, "Locked")
    central.client("backup").put_backup_vault_lock_configuration(
        BackupVaultName="Locked", MinRetentionDays=60, MaxRetentionDays=100
    )
    target = vault_arn(central, "Locked")
    for more in ({}, {"Lifecycle": {"DeleteAfterDays": 101}}, {"Lifecycle": {"DeleteAfterDays": 59}}):
        done = failed(company, target, **more)
        assert done["MessageCategory"] == "INVALID_LIFECYCLE"
        assert done["StatusMessage"].startswith(
            "Copy job failed. The retention specified in the job is not within the range specified for the target "
            "Backup Vault. "
        )
    done = copied(shop, copy(shop, company.point["RecoveryPointArn"], target, Lifecycle={"DeleteAfterDays": 60}))
    assert (done["State"], done["DestinationVaultLockState"]) == ("COMPLETED", "LOCKED")


def test_a_copy_into_a_vault_that_is_missing_fails_and_says_where_to_create_it(company: Company) -> None:
    done = failed(company, vault_arn(company.central, "Nowhere"))
    assert done["MessageCategory"] == "RESOURCE_NOT_FOUND"
    assert f"Create it in account {company.central.id}" in done["StatusMessage"]


def test_a_copy_needs_a_role_that_the_backup_service_may_act_as(company: Company) -> None:
    role = f"arn:aws:iam::{company.shop.id}:role/Missing"
    assert "does not exist" in failed(company, vault_arn(company.central), IamRoleArn=role)["StatusMessage"]


def test_a_rule_copies_what_its_backup_has_made(company: Company) -> None:
    """Each copy action is a job of its own beside the backup's: the one that cannot be done fails and says why."""
    shop, central, server = company.shop, company.central, company.server
    shop.client("backup").create_backup_vault(BackupVaultName="Beside")
    own = f"arn:aws:backup:{REGION}:$account:backup-vault:Beside"
    missing = vault_arn(central, "NeverMade")
    document = nightly(
        {own: {"lifecycle": {"delete_after_days": {"@@assign": "7"}}}, vault_arn(central): {}, missing: {}}, "copied"
    )
    tree = shop.sandbox / "nightly"
    tree.mkdir()
    (tree / "page").write_text("night")
    shop.register("nightly", tree, Tags={"plan": "copied"})
    organizations = server.client("organizations")
    policy = organizations.create_policy(
        Type="BACKUP_POLICY", Name="copied", Description="", Content=json.dumps(document)
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=shop.id)
    server.settle(86_400)
    organizations.detach_policy(PolicyId=policy, TargetId=shop.id)

    backup = shop.client("backup")
    (made,) = backup.list_backup_jobs(ByResourceArn=f"{shop.register('nightly', tree, Tags={'plan': 'none'})}")[
        "BackupJobs"
    ]
    (beside,) = shop.points("Beside")
    (far,) = (each for each in central.points() if each["ResourceName"] == "nightly")
    assert beside["SourceBackupVaultArn"] == far["SourceBackupVaultArn"] == vault_arn(shop)
    assert beside["CreationDate"] == far["CreationDate"]
    assert (beside["Lifecycle"], far["Lifecycle"]) == ({"DeleteAfterDays": 7}, {"DeleteAfterDays": 35})
    assert beside["CreatedBy"]["BackupPlanId"] == made["CreatedBy"]["BackupPlanId"]
    listed = backup.list_copy_jobs(ByResourceArn=made["ResourceArn"])["CopyJobs"]
    states = {job["DestinationBackupVaultArn"]: job["State"] for job in listed}
    assert states == {vault_arn(shop, "Beside"): "COMPLETED", vault_arn(central): "COMPLETED", missing: "FAILED"}
    assert {job["CreatedByBackupJobId"] for job in listed} == {made["BackupJobId"]}
    assert {job["CreatedBy"]["BackupRuleName"] for job in listed} == {"night"}
    assert {job["SourceRecoveryPointArn"] for job in listed} == {made["RecoveryPointArn"]}
    restored = central.restore(far, central.sandbox / "nightly-back")
    assert (restored / "page").read_text() == "night"
