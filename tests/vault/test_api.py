"""Vaults, recovery points, holds and tags through boto3, against a whole installation."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.vault.builders import ACCOUNT, NOON, OTHER, REGION, TREE, back_up
from tests.vault.served import Served, serving

from holdfast.core.ids import new_uuid
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery.model import RecoveryPoint
from holdfast.vault.model import Vault
from holdfast.vault.service import get_vault


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served") / "data") as running:
        yield running


@pytest.fixture
def backup(served: Served) -> Any:
    return served.client()


@pytest.fixture
def name(backup: Any) -> str:
    """A vault that exists, of a name that no other test has."""
    made = f"vault-{new_uuid()[:8]}"
    backup.create_backup_vault(BackupVaultName=made)
    return made


def vault_of(served: Served, name: str) -> Vault:
    with served.database.reading() as tx:
        return get_vault(tx, ACCOUNT, REGION, name)


def a_backup(served: Served, name: str, **more: Any) -> RecoveryPoint:
    return back_up(served.database, served.custody, vault_of(served, name), **more).point


def refusal(call: Any, /, **parameters: Any) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Message"]


def test_a_vault_is_created_described_listed_and_deleted(served: Served, backup: Any) -> None:
    name = f"vault-{new_uuid()[:8]}"
    made = backup.create_backup_vault(BackupVaultName=name, BackupVaultTags={"team": "web"}, CreatorRequestId="r1")
    assert made["BackupVaultArn"] == f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:{name}"
    assert abs(made["CreationDate"] - served.clock.now()) < timedelta(hours=1)
    found = backup.describe_backup_vault(BackupVaultName=name)
    assert (found["VaultType"], found["VaultState"]) == ("BACKUP_VAULT", "AVAILABLE")
    assert (found["NumberOfRecoveryPoints"], found["Locked"], found["CreatorRequestId"]) == (0, False, "r1")
    assert found["EncryptionKeyType"] == "AWS_OWNED_KMS_KEY"
    assert "LockDate" not in found
    assert name in [vault["BackupVaultName"] for vault in backup.list_backup_vaults()["BackupVaultList"]]
    assert backup.list_tags(ResourceArn=made["BackupVaultArn"])["Tags"] == {"team": "web"}
    backup.delete_backup_vault(BackupVaultName=name)
    assert name not in [vault["BackupVaultName"] for vault in backup.list_backup_vaults()["BackupVaultList"]]


def test_a_missing_vault_looks_like_a_forbidden_one(backup: Any) -> None:
    for call in (backup.describe_backup_vault, backup.list_recovery_points_by_backup_vault):
        code, status, words = refusal(call, BackupVaultName="nowhere")
        assert (code, status) == ("AccessDeniedException", 403)
        assert words == "Insufficient privileges to perform this action."


def test_another_accounts_vault_cannot_be_seen(served: Served, backup: Any, name: str) -> None:
    stranger = served.client(account=OTHER)
    assert refusal(stranger.describe_backup_vault, BackupVaultName=name)[0] == "AccessDeniedException"
    asked = {"BackupVaultName": name, "BackupVaultAccountId": ACCOUNT}
    assert refusal(stranger.describe_backup_vault, **asked)[0] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"BackupVaultName": "a"}, "BackupVaultName"),
        ({"BackupVaultName": "with.dot"}, "BackupVaultName"),
        ({"BackupVaultName": "ok", "CreatorRequestId": "with space"}, "CreatorRequestId"),
        ({"BackupVaultName": "ok", "BackupVaultTags": {"aws:x": "y"}}, "aws:"),
        (
            {"BackupVaultName": "ok", "EncryptionKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/mine"},
            "not of an alias",
        ),
    ],
)
def test_a_vault_that_cannot_be_is_refused_with_what_is_wrong(
    backup: Any, parameters: dict[str, Any], says: str
) -> None:
    code, status, words = refusal(backup.create_backup_vault, **parameters)
    assert (code, status) == ("InvalidParameterValueException", 400)
    assert says.lower() in words.lower()


def test_a_name_that_is_taken_is_refused_and_the_same_request_is_not(backup: Any, name: str) -> None:
    with pytest.raises(backup.exceptions.AlreadyExistsException) as caught:
        backup.create_backup_vault(BackupVaultName=name)
    assert caught.value.response["Arn"].endswith(f":backup-vault:{name}")
    other = f"vault-{new_uuid()[:8]}"
    first = backup.create_backup_vault(BackupVaultName=other, CreatorRequestId="same")
    assert (
        backup.create_backup_vault(BackupVaultName=other, CreatorRequestId="same")["CreationDate"]
        == (first["CreationDate"])
    )


def test_a_customers_key_is_kept_for_good(served: Served, backup: Any) -> None:
    key = served.client("kms").create_key()["KeyMetadata"]["Arn"]
    name = f"vault-{new_uuid()[:8]}"
    backup.create_backup_vault(BackupVaultName=name, EncryptionKeyArn=key)
    found = backup.describe_backup_vault(BackupVaultName=name)
    assert (found["EncryptionKeyArn"], found["EncryptionKeyType"]) == (key, "CUSTOMER_MANAGED_KMS_KEY")


def test_a_vault_with_points_is_not_deleted(served: Served, backup: Any, name: str) -> None:
    a_backup(served, name)
    code, status, words = refusal(backup.delete_backup_vault, BackupVaultName=name)
    assert (code, status) == ("InvalidRequestException", 400)
    assert words == "Backup vault cannot be deleted because it contains recovery points."


def test_an_access_policy_is_put_got_and_deleted(backup: Any, name: str) -> None:
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{OTHER}:root"},
                    "Action": "backup:CopyIntoBackupVault",
                    "Resource": "*",
                }
            ],
        }
    )
    assert refusal(backup.get_backup_vault_access_policy, BackupVaultName=name)[0] == "ResourceNotFoundException"
    backup.put_backup_vault_access_policy(BackupVaultName=name, Policy=policy)
    assert backup.get_backup_vault_access_policy(BackupVaultName=name)["Policy"] == policy
    wider = policy.replace("CopyIntoBackupVault", "StartRestoreJob")
    code, _, words = refusal(backup.put_backup_vault_access_policy, BackupVaultName=name, Policy=wider)
    assert code == "InvalidParameterValueException"
    assert "cross-account sharing restrictions" in words
    backup.delete_backup_vault_access_policy(BackupVaultName=name)
    assert refusal(backup.get_backup_vault_access_policy, BackupVaultName=name)[0] == "ResourceNotFoundException"


def test_a_lock_is_shown_and_binds_at_once(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    backup.put_backup_vault_lock_configuration(BackupVaultName=name, MinRetentionDays=7, MaxRetentionDays=365)
    found = backup.describe_backup_vault(BackupVaultName=name)
    assert (found["Locked"], found["MinRetentionDays"], found["MaxRetentionDays"]) == (True, 7, 365)
    assert "LockDate" not in found
    named = {"BackupVaultName": name, "RecoveryPointArn": point.arn}
    assert refusal(backup.delete_recovery_point, **named)[0] == "InvalidRequestException"
    shorter = {"Lifecycle": {"DeleteAfterDays": 1}}
    assert refusal(backup.update_recovery_point_lifecycle, **named, **shorter)[0] == "InvalidRequestException"
    backup.delete_backup_vault_lock_configuration(BackupVaultName=name)
    backup.delete_recovery_point(**named)
    code, _, words = refusal(backup.put_backup_vault_lock_configuration, BackupVaultName=name, ChangeableForDays=2)
    assert (code, "ChangeableForDays" in words) == ("InvalidParameterValueException", True)


def test_a_compliance_lock_is_removable_until_its_date_and_never_after(served: Served, backup: Any, name: str) -> None:
    backup.put_backup_vault_lock_configuration(BackupVaultName=name, MinRetentionDays=1, ChangeableForDays=3)
    assert backup.describe_backup_vault(BackupVaultName=name)["LockDate"] > served.clock.now()
    backup.delete_backup_vault_lock_configuration(BackupVaultName=name)
    backup.put_backup_vault_lock_configuration(BackupVaultName=name, MinRetentionDays=1, ChangeableForDays=3)
    served.clock.advance(timedelta(days=4))
    calls: list[Any] = [
        backup.delete_backup_vault_lock_configuration,
        backup.put_backup_vault_lock_configuration,
    ]
    for call in calls:
        code, _, words = refusal(call, BackupVaultName=name)
        assert (code, "compliance mode" in words) == ("InvalidRequestException", True)
    backup.delete_backup_vault(BackupVaultName=name)


def test_a_point_is_described_as_it_was_made(served: Served, backup: Any, name: str) -> None:
    created = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
    point = a_backup(
        served,
        name,
        created_at=created,
        completed_at=created + timedelta(minutes=2),
        lifecycle=Lifecycle(30, 365),
        created_by={"BackupPlanId": "orgs/x", "BackupRuleId": "y"},
        restore_metadata={"file-system-id": "fs-1"},
        tags={"owner": "web"},
    )
    named = {"BackupVaultName": name, "RecoveryPointArn": point.arn}
    found = backup.describe_recovery_point(**named)
    assert (found["Status"], found["StorageClass"], found["IsEncrypted"]) == ("COMPLETED", "WARM", True)
    assert found["CreationDate"] == created
    assert found["CalculatedLifecycle"] == {
        "MoveToColdStorageAt": created + timedelta(days=30),
        "DeleteAt": created + timedelta(days=365),
    }
    assert found["Lifecycle"] == {"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 365}
    assert found["CreatedBy"] == {"BackupPlanId": "orgs/x", "BackupRuleId": "y"}
    assert (found["ResourceArn"], found["ResourceType"], found["BackupSizeInBytes"]) == (TREE, "EFS", 5)
    metadata = backup.get_recovery_point_restore_metadata(**named)
    assert metadata["RestoreMetadata"] == {"file-system-id": "fs-1"}
    assert backup.list_tags(ResourceArn=point.arn)["Tags"] == {"owner": "web"}
    changed = backup.update_recovery_point_lifecycle(**named, Lifecycle={"DeleteAfterDays": 400})
    assert changed["Lifecycle"] == {"DeleteAfterDays": 400}
    assert changed["CalculatedLifecycle"] == {"DeleteAt": created + timedelta(days=400)}
    assert "Lifecycle" not in backup.update_recovery_point_lifecycle(**named)
    code, _, words = refusal(
        backup.update_recovery_point_lifecycle,
        **named,
        Lifecycle={"MoveToColdStorageAfterDays": 100, "DeleteAfterDays": 189},
    )
    assert code == "InvalidParameterValueException"
    assert words.startswith("Invalid lifecycle. DeleteAfterDays cannot be less than 90 days apart")


def test_points_are_paged_without_loss_and_a_foreign_token_is_refused(served: Served, backup: Any, name: str) -> None:
    made = {a_backup(served, name, texts=[str(n)], created_at=NOON + timedelta(hours=n)).arn for n in range(5)}
    pages = list(
        backup.get_paginator("list_recovery_points_by_backup_vault").paginate(
            BackupVaultName=name, PaginationConfig={"PageSize": 2}
        )
    )
    shown = [point["RecoveryPointArn"] for page in pages for point in page["RecoveryPoints"]]
    assert (len(pages), len(shown), set(shown)) == (3, 5, made)
    others = backup.list_recovery_points_by_resource
    code, _, _ = refusal(others, ResourceArn=TREE, NextToken=pages[0]["NextToken"])
    assert code == "InvalidParameterValueException"
    newer = backup.list_recovery_points_by_backup_vault(
        BackupVaultName=name, ByCreatedAfter=NOON + timedelta(hours=2), ByResourceType="EFS"
    )
    assert len(newer["RecoveryPoints"]) == 2
    assert backup.list_recovery_points_by_backup_vault(BackupVaultName=name, ByResourceArn="x")["RecoveryPoints"] == []
    assert refusal(backup.list_recovery_points_by_backup_vault, BackupVaultName=name, MaxResults=5000)[0] == (
        "InvalidParameterValueException"
    )


def test_a_deleted_point_is_not_there_any_more(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    named = {"BackupVaultName": name, "RecoveryPointArn": point.arn}
    backup.delete_recovery_point(**named)
    for call in (backup.describe_recovery_point, backup.delete_recovery_point):
        assert refusal(call, **named)[:2] == ("ResourceNotFoundException", 400)
    assert backup.list_recovery_points_by_backup_vault(BackupVaultName=name)["RecoveryPoints"] == []
    assert backup.describe_backup_vault(BackupVaultName=name)["NumberOfRecoveryPoints"] == 0


def test_protected_resources_name_their_latest_point(served: Served, backup: Any, name: str) -> None:
    resource = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/fs-{new_uuid()[:8]}"
    a_backup(served, name, resource_arn=resource)
    latest = a_backup(served, name, resource_arn=resource, created_at=NOON + timedelta(days=1))
    found = backup.describe_protected_resource(ResourceArn=resource)
    assert found["LastRecoveryPointArn"] == latest.arn
    assert found["LastBackupVaultArn"].endswith(name)
    (in_vault,) = backup.list_protected_resources_by_backup_vault(BackupVaultName=name)["Results"]
    assert (in_vault["ResourceArn"], in_vault["LastBackupTime"]) == (resource, NOON + timedelta(days=1))
    pages = backup.get_paginator("list_protected_resources").paginate(PaginationConfig={"PageSize": 1})
    listed = [one["ResourceArn"] for page in pages for one in page["Results"]]
    assert resource in listed
    assert listed == sorted(set(listed))
    assert refusal(backup.describe_protected_resource, ResourceArn="arn:aws:s3:::none")[0] == (
        "ResourceNotFoundException"
    )
    points = backup.list_recovery_points_by_resource(ResourceArn=resource)["RecoveryPoints"]
    assert [point["BackupSizeBytes"] for point in points] == [5, 5]


def test_a_legal_hold_keeps_points_until_it_is_canceled(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    dates = {"FromDate": NOON - timedelta(days=1), "ToDate": NOON + timedelta(days=1)}
    held = backup.create_legal_hold(
        Title="case 7",
        Description="the regulator asks",
        RecoveryPointSelection={"VaultNames": [name], "DateRange": dates},
        Tags={"case": "7"},
    )
    assert (held["Status"], held["RecoveryPointSelection"]["DateRange"]) == ("ACTIVE", dates)
    hold_id = held["LegalHoldId"]
    assert backup.list_tags(ResourceArn=held["LegalHoldArn"])["Tags"] == {"case": "7"}
    named = {"BackupVaultName": name, "RecoveryPointArn": point.arn}
    code, _, words = refusal(backup.delete_recovery_point, **named)
    assert code == "InvalidRequestException"
    assert words.startswith("The recovery point cannot be deleted because it has active legal hold(s)")
    (kept,) = backup.list_recovery_points_by_legal_hold(LegalHoldId=hold_id)["RecoveryPoints"]
    assert kept["RecoveryPointArn"] == point.arn
    assert hold_id in [hold["LegalHoldId"] for hold in backup.list_legal_holds()["LegalHolds"]]
    done = backup.cancel_legal_hold(LegalHoldId=hold_id, CancelDescription="closed", RetainRecordInDays=1)
    assert done["ResponseMetadata"]["HTTPStatusCode"] == 201
    found = backup.get_legal_hold(LegalHoldId=hold_id)
    assert (found["Status"], found["CancelDescription"]) == ("CANCELED", "closed")
    again = refusal(backup.cancel_legal_hold, LegalHoldId=hold_id, CancelDescription="again")
    assert again[0] == "InvalidResourceStateException"
    backup.delete_recovery_point(**named)
    assert refusal(backup.get_legal_hold, LegalHoldId="none")[0] == "ResourceNotFoundException"


def test_tags_are_added_and_taken_away(served: Served, backup: Any, name: str) -> None:
    arn = a_backup(served, name, tags={"a": "1"}).arn
    backup.tag_resource(ResourceArn=arn, Tags={"b": "2", "a": "3"})
    assert backup.list_tags(ResourceArn=arn)["Tags"] == {"a": "3", "b": "2"}
    backup.untag_resource(ResourceArn=arn, TagKeyList=["a", "none"])
    assert backup.list_tags(ResourceArn=arn)["Tags"] == {"b": "2"}
    missing = f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:nowhere"
    for call, more in ((backup.tag_resource, {"Tags": {"a": "b"}}), (backup.list_tags, {})):
        assert refusal(call, ResourceArn=missing, **more)[0] == "ResourceNotFoundException"
    assert refusal(backup.tag_resource, ResourceArn=arn, Tags={"aws:a": "b"})[0] == "InvalidParameterValueException"


def test_notifications_are_put_got_and_deleted(backup: Any, name: str) -> None:
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:backups"
    wanted = {"BackupVaultName": name, "SNSTopicArn": topic, "BackupVaultEvents": ["BACKUP_JOB_COMPLETED"]}
    backup.put_backup_vault_notifications(**wanted)
    found = backup.get_backup_vault_notifications(BackupVaultName=name)
    assert (found["SNSTopicArn"], found["BackupVaultEvents"]) == (topic, ["BACKUP_JOB_COMPLETED"])
    bad = wanted | {"SNSTopicArn": topic + ".fifo"}
    assert refusal(backup.put_backup_vault_notifications, **bad)[0] == "InvalidParameterValueException"
    backup.delete_backup_vault_notifications(BackupVaultName=name)
    assert refusal(backup.get_backup_vault_notifications, BackupVaultName=name)[0] == "ResourceNotFoundException"


def test_only_continuous_points_are_disassociated(served: Served, backup: Any, name: str) -> None:
    point = a_backup(served, name)
    for call in (backup.disassociate_recovery_point, backup.disassociate_recovery_point_from_parent):
        code, _, _ = refusal(call, BackupVaultName=name, RecoveryPointArn=point.arn)
        assert code == "InvalidRequestException"


def test_vaults_are_listed_by_name_page_by_page(served: Served) -> None:
    backup = served.client(region="us-east-1")
    names = [f"v-{number}" for number in range(5)]
    for name in reversed(names):
        backup.create_backup_vault(BackupVaultName=name)
    pages = backup.get_paginator("list_backup_vaults").paginate(PaginationConfig={"PageSize": 2})
    assert [vault["BackupVaultName"] for page in pages for vault in page["BackupVaultList"]] == names
    assert backup.list_backup_vaults(ByVaultType="LOGICALLY_AIR_GAPPED_BACKUP_VAULT")["BackupVaultList"] == []
