"""Two members of one organization: what one has, the other neither reads nor changes; on the server as users run it."""

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.running import REGION, VAULT, Member, Running, found_organization, join, refusal


@dataclass(frozen=True)
class Neighbours:
    """Two members of one organization: one has something, the other wants it."""

    server: Running
    own: Member
    other: Member
    job: str
    point: str
    key: str
    boxed: bytes


@pytest.fixture(scope="module")
def neighbours(dev_server: Running) -> Neighbours:
    dev_server.reset()
    found_organization(dev_server, "SERVICE_CONTROL_POLICY")
    own, other = join(dev_server, "own"), join(dev_server, "other")
    (own.sandbox / "file").write_text("mine")
    tree = own.register("www", own.sandbox)
    own.client("holdfast").put_secret(Name="database", Scheme="postgresql", Host="db.example", Value="very secret")
    job = own.back_up(tree)
    assert own.ended(job)["State"] == "COMPLETED"
    (point,) = own.points()
    kms = own.client("kms")
    key = kms.create_key()["KeyMetadata"]["Arn"]
    boxed = kms.encrypt(KeyId=key, Plaintext=b"mine")["CiphertextBlob"]
    return Neighbours(dev_server, own, other, job, point["RecoveryPointArn"], key, boxed)


def test_a_member_reads_nothing_of_another_members(neighbours: Neighbours) -> None:
    mine, theirs = neighbours.own, neighbours.other
    point = {"BackupVaultName": VAULT, "RecoveryPointArn": neighbours.point}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("backup", "describe_backup_job", {"BackupJobId": neighbours.job}),
        ("backup", "list_backup_jobs", {"ByAccountId": mine.id}),
        ("backup", "stop_backup_job", {"BackupJobId": neighbours.job}),
        ("backup", "describe_recovery_point", point),
        ("backup", "describe_recovery_point", {**point, "BackupVaultAccountId": mine.id}),
        ("backup", "get_recovery_point_restore_metadata", point),
        ("backup", "get_recovery_point_restore_metadata", {**point, "BackupVaultAccountId": mine.id}),
        ("backup", "delete_recovery_point", point),
        ("backup", "list_recovery_points_by_backup_vault", {"BackupVaultName": VAULT, "BackupVaultAccountId": mine.id}),
        ("backup", "describe_backup_vault", {"BackupVaultName": VAULT, "BackupVaultAccountId": mine.id}),
        ("backup", "list_tags", {"ResourceArn": neighbours.point}),
        ("backup", "tag_resource", {"ResourceArn": neighbours.point, "Tags": {"a": "b"}}),
        ("kms", "describe_key", {"KeyId": neighbours.key}),
        ("kms", "get_key_policy", {"KeyId": neighbours.key, "PolicyName": "default"}),
        ("kms", "decrypt", {"CiphertextBlob": neighbours.boxed}),
        ("kms", "decrypt", {"CiphertextBlob": neighbours.boxed, "KeyId": neighbours.key}),
        ("kms", "schedule_key_deletion", {"KeyId": neighbours.key}),
        ("kms", "create_alias", {"AliasName": "alias/mine", "TargetKeyId": neighbours.key}),
        ("holdfast", "describe_secret", {"Name": "database"}),
        ("holdfast", "describe_resource", {"Name": "www"}),
        ("iam", "get_role", {"RoleName": "none"}),
    ]
    for service, method, given in asked:
        code, told = refusal(getattr(theirs.client(service), method), **given)
        assert code.startswith(("AccessDenied", "ResourceNotFound", "NotFound", "NoSuchEntity")), (method, code, told)
    lists = [
        theirs.client("backup").list_recovery_points_by_resource(ResourceArn=mine.job(neighbours.job)["ResourceArn"])[
            "RecoveryPoints"
        ],
        theirs.client("backup").list_backup_jobs()["BackupJobs"],
        theirs.client("backup").list_protected_resources()["Results"],
        theirs.client("holdfast").list_secrets()["Secrets"],
        theirs.client("holdfast").list_resources()["Resources"],
    ]
    assert [each for each in lists if each] == []
    events = theirs.client("cloudtrail").lookup_events()["Events"]
    assert {json.loads(event["CloudTrailEvent"])["recipientAccountId"] for event in events} == {theirs.id}
    assert b"very secret" not in neighbours.server.log.read_bytes()
    shown = json.dumps(mine.client("holdfast").describe_secret(Name="database"), default=str)
    assert "very secret" not in shown


def test_a_restore_of_another_members_point_never_begins(neighbours: Neighbours) -> None:
    theirs = neighbours.other
    target = theirs.sandbox / "stolen"
    code, _ = refusal(
        theirs.client("backup").start_restore_job,
        RecoveryPointArn=neighbours.point,
        IamRoleArn=theirs.role,
        ResourceType="EFS",
        Metadata={"newFileSystem": "true", "holdfast:target-url": target.as_uri()},
    )
    assert code in {"ResourceNotFoundException", "AccessDeniedException", "InvalidParameterValueException"}
    assert not target.exists()


def test_a_vault_policy_lets_a_foreigner_do_nothing_but_copy_into_it(neighbours: Neighbours) -> None:
    mine, theirs = neighbours.own, neighbours.other

    def policy(*actions: str) -> str:
        statement = {"Effect": "Allow", "Principal": {"AWS": theirs.id}, "Action": list(actions), "Resource": "*"}
        return json.dumps({"Version": "2012-10-17", "Statement": statement})

    put = mine.client("backup").put_backup_vault_access_policy
    for more in ("backup:DescribeRecoveryPoint", "backup:DeleteRecoveryPoint", "backup:StartRestoreJob"):
        code, told = refusal(put, BackupVaultName=VAULT, Policy=policy("backup:CopyIntoBackupVault", more))
        assert code == "InvalidParameterValueException", told
    put(BackupVaultName=VAULT, Policy=policy("backup:CopyIntoBackupVault"))
    backup = theirs.client("backup")
    account = {"BackupVaultName": VAULT, "BackupVaultAccountId": mine.id}
    for method, given in (
        ("describe_backup_vault", account),
        ("list_recovery_points_by_backup_vault", account),
        ("describe_recovery_point", {**account, "RecoveryPointArn": neighbours.point}),
        ("get_recovery_point_restore_metadata", {**account, "RecoveryPointArn": neighbours.point}),
        ("list_tags", {"ResourceArn": f"arn:aws:backup:{REGION}:{mine.id}:backup-vault:{VAULT}"}),
    ):
        assert refusal(getattr(backup, method), **given)[0].startswith("AccessDenied"), method
    mine.client("backup").delete_backup_vault_access_policy(BackupVaultName=VAULT)


ODD = [
    "arn:aws:backup:eu-north-1:{account}:recovery-point:../../etc/passwd",
    "arn:aws:backup:eu-north-1:{account}:recovery-point:a\x00b",
    "arn:aws:backup:eu-north-1:{account}:recovery-point:'; DROP TABLE vault; --",
    "arn:aws:backup:eu-north-1:{account}:recovery-point:%2e%2e%2f",
    "arn:aws:backup:eu-north-1:{account}:recovery-point:\u202eabc",
    "arn:aws:backup:eu-north-1:{account}:recovery-point:*",
    "arn:aws:backup:eu-north-1:{account}:recovery-point:" + "x" * 3000,
    "arn:aws:backup::{account}:recovery-point:1",
    "arn:aws:backup:eu-north-1::recovery-point:1",
    "arn:aws:backup:eu-north-1:999999999999999:recovery-point:1",
    "arn:aws:backup:eu-north-1:{account}",
    "arn:::::",
    ":",
    "${aws:username}",
    "arn:aws:backup:eu-north-1:{account}:backup-vault:Central:extra",
    "ARN:AWS:BACKUP:EU-NORTH-1:{account}:RECOVERY-POINT:1",
]


@pytest.mark.parametrize("odd", ODD, ids=range(len(ODD)))
def test_an_arn_with_odd_characters_is_nothing_that_exists(neighbours: Neighbours, odd: str) -> None:
    arn = odd.replace("{account}", neighbours.own.id)
    backup, holdfast = neighbours.own.client("backup"), neighbours.own.client("holdfast")
    calls: list[tuple[Any, dict[str, Any]]] = [
        (backup.describe_recovery_point, {"BackupVaultName": VAULT, "RecoveryPointArn": arn}),
        (backup.delete_recovery_point, {"BackupVaultName": VAULT, "RecoveryPointArn": arn}),
        (backup.list_tags, {"ResourceArn": arn}),
        (backup.start_backup_job, {"BackupVaultName": VAULT, "ResourceArn": arn, "IamRoleArn": neighbours.own.role}),
        (backup.start_backup_job, {"BackupVaultName": VAULT, "ResourceArn": neighbours.point, "IamRoleArn": arn}),
        (neighbours.own.client("kms").describe_key, {"KeyId": arn[:2000] or "x"}),
        (holdfast.explain_access, {"PrincipalArn": arn.ljust(20, "x"), "Action": "backup:DeleteRecoveryPoint"}),
    ]
    for call, given in calls:
        with pytest.raises(ClientError) as caught:
            call(**given)
        assert 400 <= caught.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500, (call.__name__, caught.value)
    assert len(neighbours.own.points()) == 1


def test_administrators_of_everything_else_and_of_a_controlled_member_delete_no_point(neighbours: Neighbours) -> None:
    mine, server = neighbours.own, neighbours.server
    iam, organizations = mine.client("iam"), server.client("organizations")
    iam.create_user(UserName="elsewhere")
    everything = {"Effect": "Allow", "NotAction": "backup:*", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [everything, {**everything, "NotAction": "backup:?*"}]}
    iam.put_user_policy(UserName="elsewhere", PolicyName="own", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName="elsewhere")["AccessKey"]
    point = {"BackupVaultName": VAULT, "RecoveryPointArn": neighbours.point}
    for method in ("delete_recovery_point", "update_recovery_point_lifecycle", "describe_recovery_point"):
        given = {**point, "Lifecycle": {"DeleteAfterDays": 1}} if "lifecycle" in method else point
        code, told = refusal(getattr(server.client("backup", key), method), **given)
        assert code == "AccessDeniedException"
        assert "because no identity-based policy allows" in told
    denial = {"Effect": "Deny", "Action": "backup:DeleteRecoveryPoint", "Resource": "*"}
    made = organizations.create_policy(
        Type="SERVICE_CONTROL_POLICY",
        Name="keep",
        Description="",
        Content=json.dumps({"Version": "2012-10-17", "Statement": denial}),
    )
    attachment = {"PolicyId": made["Policy"]["PolicySummary"]["Id"], "TargetId": mine.id}
    organizations.attach_policy(**attachment)
    code, told = refusal(mine.client("backup").delete_recovery_point, **point)
    assert "with an explicit deny in a service control policy" in told
    organizations.detach_policy(**attachment)
    assert [each["RecoveryPointArn"] for each in mine.points()] == [neighbours.point]


def test_what_was_encrypted_comes_back_only_whole(neighbours: Neighbours) -> None:
    kms = neighbours.own.client("kms")
    boxed = neighbours.boxed
    flipped = boxed[:10] + bytes([boxed[10] ^ 1]) + boxed[11:]
    for changed in (boxed[:-1], boxed + b"x", flipped, base64.b64encode(boxed)):
        with pytest.raises(ClientError, match=r"InvalidCiphertext|AccessDenied"):
            kms.decrypt(CiphertextBlob=changed)
    assert kms.decrypt(CiphertextBlob=boxed)["Plaintext"] == b"mine"
