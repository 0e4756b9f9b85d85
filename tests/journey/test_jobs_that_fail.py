"""Jobs that cannot be done: each ends FAILED with words that say what to do, and nothing that was there is lost."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.running import REGION, ROLE, VAULT, Member, found_organization, join, make_role, refusal, started

# Root reads everything, so the server runs without the two capabilities by which it does.
_DROP = """\
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
_LIKE_A_USER = (sys.executable, "-c", _DROP)
_NOBODY_TRUSTED = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with started("dev", tmp_path_factory.mktemp("failing") / "data", launcher=_LIKE_A_USER) as server:
        root = found_organization(server)
        member = join(server, "shop")
        organizations = server.client("organizations")
        policy = organizations.create_policy(
            Type="BACKUP_POLICY", Name="no-vault", Description="", Content=json.dumps(into_a_vault_that_is_missing())
        )["Policy"]["PolicySummary"]["Id"]
        organizations.attach_policy(PolicyId=policy, TargetId=root)
        tree = member.sandbox / "good"
        tree.mkdir()
        (tree / "page").write_text("hello")
        member.back_up(member.register("good", tree))
        server.settle(60)
        (point,) = member.points()
        yield member
        assert member.points() == [point], "what was there before the failures is all there is"
        assert (member.restore(point, member.sandbox / "back") / "page").read_text() == "hello"
        assert "Traceback" not in server.said()


def into_a_vault_that_is_missing() -> dict[str, Any]:
    return {
        "plans": {
            "Lost": {
                "regions": {"@@assign": [REGION]},
                "rules": {
                    "Daily": {
                        "schedule_expression": {"@@assign": "cron(0 3 ? * * *)"},
                        "target_backup_vault_name": {"@@assign": "Nowhere"},
                    }
                },
                "selections": {
                    "tags": {
                        "lost": {
                            "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                            "tag_key": {"@@assign": "lost"},
                            "tag_value": {"@@assign": ["yes"]},
                        }
                    }
                },
            }
        }
    }


def failed(shop: Member, job: str) -> str:
    """Let the job end, and return the words with which it failed."""
    shop.server.settle(6 * 3600)
    ended = shop.job(job)
    assert ended["State"] == "FAILED", ended
    assert "RecoveryPointArn" not in ended or ended["RecoveryPointArn"] not in {
        point["RecoveryPointArn"] for point in shop.points()
    }
    message: str = ended["StatusMessage"]
    return message


def test_a_source_that_is_gone(shop: Member) -> None:
    tree = shop.sandbox / "gone"
    tree.mkdir()
    arn = shop.register("gone", tree)
    tree.rmdir()
    assert f"there is no {tree.as_uri()} on this host" in failed(shop, shop.back_up(arn))


def test_a_source_that_may_not_be_read(shop: Member) -> None:
    tree = shop.sandbox / "closed"
    tree.mkdir(mode=0o000)
    try:
        words = failed(shop, shop.back_up(shop.register("closed", tree)))
    finally:
        tree.chmod(0o700)
    assert "closed" in words
    assert "ermission denied" in words or "may not" in words


def test_a_source_that_became_something_else(shop: Member) -> None:
    tree = shop.sandbox / "other"
    tree.mkdir()
    arn = shop.register("other", tree)
    tree.rmdir()
    os.mkfifo(tree)
    assert "other" in failed(shop, shop.back_up(arn))


def test_one_file_that_may_not_be_read_is_named_and_the_rest_is_there(shop: Member) -> None:
    tree = shop.sandbox / "partly"
    tree.mkdir()
    (tree / "open").write_text("read me")
    (tree / "closed").write_text("not me")
    (tree / "closed").chmod(0o000)
    job = shop.back_up(shop.register("partly", tree))
    shop.server.settle(60)
    ended = shop.job(job)
    assert ended["State"] == "COMPLETED", ended
    assert "closed" in ended["StatusMessage"]
    listed = shop.client("holdfast").list_job_problems(JobId=job.upper())
    assert listed["Count"] == 1
    (problem,) = listed["Problems"]
    assert "closed" in problem["Path"]
    assert ended["StatusMessage"].endswith(problem["Problem"])
    assert refusal(join(shop.server, "other").client("holdfast").list_job_problems, JobId=job)[0] == (
        "ResourceNotFoundException"
    )
    backup = shop.client("backup")
    point = backup.describe_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=ended["RecoveryPointArn"])
    back = shop.restore(point, shop.sandbox / "partly-back")
    assert sorted(path.name for path in back.iterdir()) == ["open"]
    backup.delete_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=ended["RecoveryPointArn"])


def test_a_vault_that_is_missing_when_the_run_is_due(shop: Member) -> None:
    tree = shop.sandbox / "lost"
    tree.mkdir()
    shop.register("lost", tree, Tags={"lost": "yes"})
    shop.server.settle(24 * 3600)
    backup = shop.client("backup")
    jobs = backup.list_backup_jobs(ByBackupVaultName="Nowhere")["BackupJobs"]
    assert jobs != []
    for job in jobs:
        assert "backup-vault:Nowhere does not exist; create it" in failed(shop, job["BackupJobId"])


@pytest.mark.parametrize(
    ("role", "trust", "words"),
    [("Missing", None, "does not exist"), ("Untrusting", _NOBODY_TRUSTED, "backup.amazonaws.com")],
)
def test_a_role_that_no_job_could_act_as_is_refused_at_once(
    shop: Member, role: str, trust: str | None, words: str
) -> None:
    if trust is not None:
        make_role(shop, role, policies=("Backup",), trust=trust)
    (shop.sandbox / role).mkdir()
    code, told = refusal(
        shop.client("backup").start_backup_job,
        BackupVaultName=VAULT,
        ResourceArn=shop.register(role, shop.sandbox / role),
        IamRoleArn=f"arn:aws:iam::{shop.id}:role/{role}",
    )
    assert code == "InvalidParameterValueException"
    assert words in told
    assert role in told


def test_a_role_that_may_not_do_what_the_job_needs(shop: Member) -> None:
    make_role(shop, "Lacking", policies=())
    tree = shop.sandbox / "Lacking"
    tree.mkdir()
    arn = f"arn:aws:iam::{shop.id}:role/Lacking"
    told = failed(shop, shop.back_up(shop.register("Lacking", tree), IamRoleArn=arn))
    assert "elasticfilesystem:Backup" in told
    assert "Lacking" in told
    assert Path(tree).is_dir()
