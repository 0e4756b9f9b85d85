"""Lists of recovery points, protected resources, restores, vaults and holds, against a slow reference.

One account's points lie in two vaults: made by hand, by a policy's plan, as a copy, and one that was deleted. Each list
is asked with filters drawn at random, in pages of a random size, and compared with what one line of Python takes of
all that there is.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.running import REGION, VAULT, Member, Running, found_organization, join, refusal

MONDAY = datetime(2026, 3, 2, 6, tzinfo=UTC)
PLAN = {
    "plans": {
        "nightly": {
            "regions": {"@@assign": [REGION]},
            "rules": {
                "night": {
                    "schedule_expression": {"@@assign": "cron(0 3 * * ? *)"},
                    "target_backup_vault_name": {"@@assign": "Second"},
                    "lifecycle": {"delete_after_days": {"@@assign": "35"}},
                }
            },
            "selections": {
                "tags": {
                    "nightly": {
                        "iam_role_arn": {"@@assign": "arn:aws:iam::$account:role/Backups"},
                        "tag_key": {"@@assign": "plan"},
                        "tag_value": {"@@assign": ["nightly"]},
                    }
                }
            },
        }
    }
}


@dataclass
class Shelf:
    """What there is: every point that is not deleted, the restores, and the resources by name."""

    member: Member
    points: list[dict[str, Any]] = field(default_factory=list)
    restores: list[dict[str, Any]] = field(default_factory=list)
    arns: dict[str, str] = field(default_factory=dict)
    deleted: str = ""

    @property
    def backup(self) -> Any:
        return self.member.client("backup")

    def latest(self, resource: str, vault: str | None = None) -> dict[str, Any]:
        """The latest point of a resource, anywhere or in a vault."""
        of = [p for p in self.points if p["ResourceArn"] == resource and vault in {None, p["BackupVaultName"]}]
        return max(of, key=lambda point: point["CreationDate"])


def pages(call: Any, name: str, size: int, **asked: Any) -> list[dict[str, Any]]:
    """All that a list gives in pages of a size; every page but the last is full."""
    found: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        page = call(**asked, **token, MaxResults=size)
        found += page[name]
        if not page.get("NextToken"):
            return found
        assert len(page[name]) == size
        token = {"NextToken": page["NextToken"]}


@pytest.fixture(scope="module")
def shelf(dev_server: Running) -> Shelf:
    dev_server.reset()
    dev_server.clock(set=MONDAY.isoformat())
    root = found_organization(dev_server)
    member = join(dev_server, "shop")
    made = Shelf(member)
    backup = made.backup
    backup.create_backup_vault(BackupVaultName="Second")
    backup.create_backup_vault(BackupVaultName="Empty")
    for name in ("a", "b", "c"):
        tree = member.sandbox / name
        tree.mkdir()
        (tree / "page").write_text(name)
        made.arns[name] = member.register(name, tree, Tags={"plan": "nightly"} if name == "a" else {})
    for names in ("a", "bc", "ab"):
        for name in names:
            member.back_up(made.arns[name])
        dev_server.settle(1800)
    organizations = dev_server.client("organizations")
    policy = organizations.create_policy(
        Type="BACKUP_POLICY", Name="nightly", Description="", Content=json.dumps(PLAN)
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=root)
    dev_server.settle(2 * 86_400)
    organizations.detach_policy(PolicyId=policy, TargetId=root)
    (*_, first) = member.points()
    second = backup.describe_backup_vault(BackupVaultName="Second")["BackupVaultArn"]
    backup.start_copy_job(
        SourceBackupVaultName=VAULT,
        RecoveryPointArn=first["RecoveryPointArn"],
        DestinationBackupVaultArn=second,
        IamRoleArn=member.role,
    )
    dev_server.settle(60)
    made.points = [
        backup.describe_recovery_point(BackupVaultName=vault, RecoveryPointArn=point["RecoveryPointArn"])
        for vault in (VAULT, "Second")
        for point in member.points(vault)
    ]
    (gone,) = (point for point in made.points if point["ResourceArn"] == made.arns["c"])
    made.deleted = gone["RecoveryPointArn"]
    made.points.remove(gone)
    backup.delete_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=made.deleted)
    for number, metadata in enumerate(
        ({"holdfast:target-url": (member.sandbox / "back").as_uri()}, {"file-system-id": "fs-nothing"})
    ):
        for point in (made.latest(made.arns["a"]), made.latest(made.arns["b"])):
            target = dict(metadata)
            if number == 0:
                target = {"holdfast:target-url": f"{metadata['holdfast:target-url']}-{point['ResourceName']}"}
            job = backup.start_restore_job(
                RecoveryPointArn=point["RecoveryPointArn"], Metadata=target, IamRoleArn=member.role
            )["RestoreJobId"]
            dev_server.settle(60)
            made.restores.append({**member.restored(job), "made_at": point["CreationDate"]})
    assert len(made.points) >= 7
    return made


MOMENTS = st.builds(
    lambda hours, off: MONDAY + timedelta(hours=hours, microseconds=off),
    st.integers(-1, 60).map(lambda halves: halves / 2),
    st.sampled_from((-1, 0, 1)),
)


@settings(max_examples=40)
@given(data=st.data(), size=st.integers(1, 4))
def test_points_of_a_vault_by_any_filters_and_page(shelf: Shelf, data: st.DataObject, size: int) -> None:
    vault = data.draw(st.sampled_from((VAULT, "Second", "Empty")))
    plans = {point["CreatedBy"]["BackupPlanId"] for point in shelf.points if "CreatedBy" in point}
    exact = st.sampled_from([point["CreationDate"] for point in shelf.points])
    choices: dict[str, st.SearchStrategy[Any]] = {
        "ByResourceArn": st.sampled_from((*shelf.arns.values(), "arn:aws:s3:::nothing")),
        "ByResourceType": st.sampled_from(("EFS", "RDS")),
        "ByBackupPlanId": st.sampled_from((*plans, "orgs/none")),
        "ByCreatedBefore": exact | MOMENTS,
        "ByCreatedAfter": exact | MOMENTS,
        "BackupVaultAccountId": st.just(shelf.member.id),
    }
    asked = {name: data.draw(choices[name]) for name in data.draw(st.sets(st.sampled_from(sorted(choices))))}
    holds: dict[str, Any] = {
        "ByResourceArn": lambda point, arn: point["ResourceArn"] == arn,
        "ByResourceType": lambda point, kind: point["ResourceType"] == kind,
        "ByBackupPlanId": lambda point, plan: point.get("CreatedBy", {}).get("BackupPlanId") == plan,
        "ByCreatedBefore": lambda point, at: point["CreationDate"] < at,
        "ByCreatedAfter": lambda point, at: point["CreationDate"] > at,
        "BackupVaultAccountId": lambda point, account: f":{account}:" in point["BackupVaultArn"],
    }
    expected = {
        point["RecoveryPointArn"]
        for point in shelf.points
        if point["BackupVaultName"] == vault and all(holds[name](point, value) for name, value in asked.items())
    }
    listing = shelf.backup.list_recovery_points_by_backup_vault
    found = pages(listing, "RecoveryPoints", size, BackupVaultName=vault, **asked)
    assert {point["RecoveryPointArn"] for point in found} == expected
    assert len(found) == len(expected)
    assert found == sorted(found, key=lambda point: point["CreationDate"], reverse=True)


def test_what_a_list_of_points_leaves_out_and_refuses(shelf: Shelf) -> None:
    listing = shelf.backup.list_recovery_points_by_backup_vault
    parent = shelf.points[0]["RecoveryPointArn"]
    assert listing(BackupVaultName=VAULT, ByParentRecoveryPointArn=parent)["RecoveryPoints"] == []
    assert refusal(listing, BackupVaultName=VAULT, BackupVaultAccountId="000000000000")[0] == "AccessDeniedException"
    assert refusal(listing, BackupVaultName="Nowhere")[0] == "AccessDeniedException"
    page = listing(BackupVaultName=VAULT, MaxResults=1)
    code, _ = refusal(listing, BackupVaultName=VAULT, ByResourceType="EFS", NextToken=page["NextToken"])
    assert code == "InvalidParameterValueException"


@pytest.mark.parametrize("size", [1, 3])
def test_resources_and_their_points_and_restores_are_listed_whole(shelf: Shelf, size: int) -> None:
    backup, arns = shelf.backup, shelf.arns
    listing = backup.list_protected_resources_by_backup_vault
    for vault in (None, VAULT, "Second", "Empty"):
        of = [point for point in shelf.points if vault in {None, point["BackupVaultName"]}]
        latest = [shelf.latest(arn, vault) for arn in sorted({point["ResourceArn"] for point in of})]
        if vault is None:
            found = pages(backup.list_protected_resources, "Results", size)
        else:
            found = pages(listing, "Results", size, BackupVaultName=vault, BackupVaultAccountId=shelf.member.id)
        told = [(each["ResourceArn"], each["LastRecoveryPointArn"], each["LastBackupVaultArn"]) for each in found]
        assert told == [(p["ResourceArn"], p["RecoveryPointArn"], p["BackupVaultArn"]) for p in latest], vault
        assert [each["LastBackupTime"] for each in found] == [point["CreationDate"] for point in latest]
    assert refusal(listing, BackupVaultName=VAULT, BackupVaultAccountId="000000000000")[0] == "AccessDeniedException"
    for name, arn in arns.items():
        for owned in ({}, {"ManagedByAWSBackupOnly": True}, {"ManagedByAWSBackupOnly": False}):
            found = pages(backup.list_recovery_points_by_resource, "RecoveryPoints", size, ResourceArn=arn, **owned)
            expected = {p["RecoveryPointArn"]: p for p in shelf.points if p["ResourceArn"] == arn}
            assert {point["RecoveryPointArn"] for point in found} == set(expected), name
            for point in found:
                known = expected[point["RecoveryPointArn"]]
                assert point["BackupSizeBytes"] == known["BackupSizeInBytes"]
                assert (point["BackupVaultName"], point["Status"]) == (known["BackupVaultName"], "COMPLETED")
        if name == "c":
            assert refusal(backup.describe_protected_resource, ResourceArn=arn)[0] == "ResourceNotFoundException"
            continue
        told = backup.describe_protected_resource(ResourceArn=arn)
        good = next(job for job in shelf.restores if job["SourceResourceArn"] == arn and job["Status"] == "COMPLETED")
        assert told["LastRecoveryPointArn"] == shelf.latest(arn)["RecoveryPointArn"]
        assert told["LatestRestoreJobCreationDate"] == good["CreationDate"]
        assert told["LatestRestoreRecoveryPointCreationDate"] == good["made_at"] == good["RecoveryPointCreationDate"]
        assert told["LatestRestoreExecutionTimeMinutes"] == 0
    assert backup.list_recovery_points_by_resource(ResourceArn="arn:aws:s3:::nothing")["RecoveryPoints"] == []


@settings(max_examples=25)
@given(data=st.data(), size=st.integers(1, 3))
def test_restores_of_a_resource_by_any_filters_and_page(shelf: Shelf, data: st.DataObject, size: int) -> None:
    arn = data.draw(st.sampled_from(sorted(shelf.arns.values())))
    moments = st.sampled_from([job["made_at"] + timedelta(seconds=off) for job in shelf.restores for off in (-1, 0, 1)])
    status = data.draw(st.none() | st.sampled_from(("COMPLETED", "FAILED", "RUNNING", "PENDING", "ABORTED")))
    after, before = data.draw(st.none() | moments), data.draw(st.none() | moments)
    asked = {
        "ByStatus": status,
        "ByRecoveryPointCreationDateAfter": after,
        "ByRecoveryPointCreationDateBefore": before,
    }
    expected = [
        job["RestoreJobId"]
        for job in reversed(shelf.restores)
        if job["SourceResourceArn"] == arn
        and status in {None, job["Status"]}
        and (after is None or job["made_at"] >= after)
        and (before is None or job["made_at"] < before)
    ]
    given_filters = {name: value for name, value in asked.items() if value is not None}
    listing = shelf.backup.list_restore_jobs_by_protected_resource
    found = pages(listing, "RestoreJobs", size, ResourceArn=arn, **given_filters)
    assert [job["RestoreJobId"] for job in found] == expected
    made_at = {job["RestoreJobId"]: job["made_at"] for job in shelf.restores}
    assert all(job["RecoveryPointCreationDate"] == made_at[job["RestoreJobId"]] for job in found)


def test_vaults_by_type_and_sharing_page_by_page(shelf: Shelf) -> None:
    listing = shelf.backup.list_backup_vaults
    for size in (1, 2, 3, 4):
        for asked in ({}, {"ByVaultType": "BACKUP_VAULT"}, {"ByShared": False}):
            found = pages(listing, "BackupVaultList", size, **asked)
            assert [vault["BackupVaultName"] for vault in found] == [VAULT, "Empty", "Second"], asked
            for vault in found:
                of = [point for point in shelf.points if point["BackupVaultName"] == vault["BackupVaultName"]]
                assert vault["NumberOfRecoveryPoints"] == len(of)
    for asked in (
        {"ByShared": True},
        {"ByVaultType": "LOGICALLY_AIR_GAPPED_BACKUP_VAULT"},
        {"ByVaultType": "RESTORE_ACCESS_BACKUP_VAULT"},
    ):
        assert listing(**asked)["BackupVaultList"] == [], asked
    assert refusal(listing, ByVaultType="CUPBOARD")[0] == "InvalidParameterValueException"


def test_a_legal_hold_takes_what_its_selection_says_and_its_record_goes_in_time(shelf: Shelf) -> None:
    backup, server = shelf.backup, shelf.member.server
    instants = sorted(point["CreationDate"] for point in shelf.points)
    early, late, middle = instants[0], instants[-1], instants[len(instants) // 2]
    moment = timedelta(milliseconds=1)
    a, b = shelf.arns["a"], shelf.arns["b"]
    selections: list[tuple[dict[str, Any], Any]] = [
        ({}, lambda _: True),
        ({"VaultNames": ["Second"]}, lambda p: p["BackupVaultName"] == "Second"),
        ({"VaultNames": ["Second", VAULT]}, lambda _: True),
        ({"VaultNames": ["Empty"]}, lambda _: False),
        ({"ResourceIdentifiers": [b]}, lambda p: p["ResourceArn"] == b),
        (
            {"ResourceIdentifiers": [a], "DateRange": {"FromDate": middle, "ToDate": late}},
            lambda p: p["ResourceArn"] == a and p["CreationDate"] >= middle,
        ),
        ({"DateRange": {"FromDate": early, "ToDate": early + moment}}, lambda p: p["CreationDate"] <= early + moment),
        (
            {"VaultNames": [VAULT], "DateRange": {"FromDate": late + moment, "ToDate": late + timedelta(days=1)}},
            lambda _: False,
        ),
    ]
    made = []
    for number, (selection, takes) in enumerate(selections):
        asked = {"Title": f"case {number}", "Description": "d", "RecoveryPointSelection": selection}
        hold = backup.create_legal_hold(**asked, IdempotencyToken=f"t{number}")
        again = backup.create_legal_hold(**asked, IdempotencyToken=f"t{number}")
        assert again["LegalHoldId"] == hold["LegalHoldId"]
        assert hold["RecoveryPointSelection"] == selection
        made.append(hold["LegalHoldId"])
        expected = {point["RecoveryPointArn"] for point in shelf.points if takes(point)}
        for name in (hold["LegalHoldId"], hold["LegalHoldArn"]):
            found = pages(backup.list_recovery_points_by_legal_hold, "RecoveryPoints", 2, LegalHoldId=name)
            assert {point["RecoveryPointArn"] for point in found} == expected, selection
            assert len(found) == len(expected)
    code, _ = refusal(backup.create_legal_hold, Title="other", Description="d", IdempotencyToken="t0")
    assert code == "InvalidParameterValueException"
    listed = pages(backup.list_legal_holds, "LegalHolds", 3)
    assert [hold["LegalHoldId"] for hold in listed] == made
    assert {hold["Status"] for hold in listed} == {"ACTIVE"}

    for number, days in enumerate((None, 1, 0, 400)):
        more = {} if days is None else {"RetainRecordInDays": days}
        backup.cancel_legal_hold(LegalHoldId=made[number], CancelDescription="closed", **more)
    told = backup.get_legal_hold(LegalHoldId=made[0])
    assert (told["Status"], told["CancelDescription"]) == ("CANCELED", "closed")
    assert told["RetainRecordUntil"] - told["CancellationDate"] == timedelta(days=180)
    assert [hold["LegalHoldId"] for hold in backup.list_legal_holds()["LegalHolds"]] == [*made[:2], *made[3:]]
    for days in (-1, 3601):
        code, _ = refusal(backup.cancel_legal_hold, LegalHoldId=made[4], CancelDescription="x", RetainRecordInDays=days)
        assert code == "InvalidParameterValueException", days
    for number in range(4, len(made)):
        backup.cancel_legal_hold(LegalHoldId=made[number], CancelDescription="closed", RetainRecordInDays=2)

    # A point that was deleted since is in no list, and of a record whose days are over nobody hears any more.
    of_b = [point for point in shelf.points if point["ResourceArn"] == b]
    gone = min(of_b, key=lambda point: point["CreationDate"])
    backup.delete_recovery_point(BackupVaultName=gone["BackupVaultName"], RecoveryPointArn=gone["RecoveryPointArn"])
    shelf.points.remove(gone)
    held = pages(backup.list_recovery_points_by_legal_hold, "RecoveryPoints", 10, LegalHoldId=made[0])
    assert {point["RecoveryPointArn"] for point in held} == {point["RecoveryPointArn"] for point in shelf.points}
    server.clock(advance_seconds=86_401)
    assert [hold["LegalHoldId"] for hold in backup.list_legal_holds()["LegalHolds"]] == [made[0], *made[3:]]
    for call, code in (
        (backup.get_legal_hold, "ResourceNotFoundException"),
        (backup.list_recovery_points_by_legal_hold, "InvalidParameterValueException"),
    ):
        for hold_id in (made[1], made[2], "never"):
            assert refusal(call, LegalHoldId=hold_id)[0] == code, hold_id
    code, _ = refusal(backup.cancel_legal_hold, LegalHoldId=made[1], CancelDescription="x")
    assert code == "ResourceNotFoundException"
