"""The contract of `holdfast dev`, on which programs rely: what it prints, takes, answers and refuses."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.running import (
    HOLDFAST,
    MANAGEMENT,
    PATIENCE,
    REGION,
    VAULT,
    Running,
    environment,
    eventually,
    found_organization,
    holdfast,
    is_alive,
    join,
    refusal,
    started,
)

ORIGIN = {"Origin": "http://127.0.0.1:9999"}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that was given every option."""
    top = tmp_path_factory.mktemp("options")
    (top / "granted").mkdir()
    options = ("--grant", str(top / "granted"), "--account-id", "000000000042", "--access-key", "key", "--secret-key")
    named = ("secret", "--management-name", "boss", "--management-email", "boss@example.org")
    with started("dev", top / "data", *options, *named) as running:
        running.credentials = {"AccessKeyId": "key", "SecretAccessKey": "secret"}
        yield running


def test_it_prints_one_line_and_ends_when_told(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*HOLDFAST, "dev", "--port", "0"],
        env=environment(TMPDIR=str(tmp_path)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", line)
            (made,) = tmp_path.glob("holdfast-dev-*")
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "", "one line, and no other"
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    assert not made.exists(), "without --data-dir nothing stays"


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(dev_server: Running, tmp_path: Path) -> None:
    port = dev_server.url.rpartition(":")[2]
    told = holdfast("dev", "--port", port, "--data-dir", tmp_path / "data")
    assert told.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in told.stderr
    assert "name another port" in told.stderr
    assert "Traceback" not in told.stderr


def test_it_keeps_to_directories_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    told = holdfast("dev", "--port", "0", "--data-dir", tmp_path / "mine")
    assert told.returncode == 1
    assert "is not empty and no data directory of Holdfast" in told.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_it_listens_on_loopback_alone(dev_server: Running) -> None:
    port = int(dev_server.url.rpartition(":")[2])
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    ]
    assert listening == [f"0100007F:{port:04X}"]


def test_every_option_is_taken(other: Running, tmp_path: Path) -> None:
    assert other.client("sts").get_caller_identity()["Account"] == "000000000042"
    found_organization(other)
    (account,) = other.client("organizations").list_accounts()["Accounts"]
    assert (account["Id"], account["Name"], account["Email"]) == ("000000000042", "boss", "boss@example.org")
    granted = other.data_dir.parent / "granted"
    other.client("holdfast").put_resource(Name="granted", ResourceType="EFS", SourceUrl=granted.as_uri())
    _, sentence = refusal(
        other.client("holdfast").put_resource, Name="not", ResourceType="EFS", SourceUrl=tmp_path.as_uri()
    )
    assert "grant" in sentence
    other.reset()
    assert other.client("sts").get_caller_identity()["Account"] == "000000000042"


def test_it_starts_without_an_organization_and_the_given_account_may_create_it(dev: Running) -> None:
    assert dev.client("sts").get_caller_identity()["Arn"] == f"arn:aws:iam::{MANAGEMENT}:root"
    code, _ = refusal(dev.client("organizations").describe_organization)
    assert code == "AWSOrganizationsNotInUseException"
    found_organization(dev)
    described = dev.client("organizations").describe_organization()["Organization"]
    assert described["MasterAccountId"] == MANAGEMENT
    assert described["MasterAccountEmail"] == "master@example.com"


def test_an_account_is_there_at_once(dev: Running) -> None:
    found_organization(dev)
    organizations = dev.client("organizations")
    status = organizations.create_account(Email="a@example.com", AccountName="a")["CreateAccountStatus"]
    assert status["State"] == "SUCCEEDED"
    assert re.fullmatch(r"\d{12}", status["AccountId"])
    assert organizations.describe_account(AccountId=status["AccountId"])["Account"]["Status"] == "ACTIVE"
    again = organizations.describe_create_account_status(CreateAccountRequestId=status["Id"])["CreateAccountStatus"]
    assert again["AccountId"] == status["AccountId"]


def test_all_regions_of_aws_are_known(dev: Running) -> None:
    session = boto3.Session()
    regions = {
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("backup", partition_name=partition)
    }
    assert len(regions) > 25
    for region in regions:
        assert dev.client("backup", region=region).list_backup_vaults()["BackupVaultList"] == []
    for region in ("cn-north-1", "us-gov-west-1", "eu-south-2"):
        dev.client("backup", region=region).create_backup_vault(BackupVaultName="here")
        (vault,) = dev.client("backup", region=region).list_backup_vaults()["BackupVaultList"]
        assert f":backup:{region}:" in vault["BackupVaultArn"]


def test_health_tells_that_it_is_there(dev: Running) -> None:
    status, headers, body = dev.ask("/_holdfast/health")
    assert status == 200
    assert headers["content-type"] == "application/json"
    told = json.loads(body)
    assert (told["status"], told["mode"]) == ("ok", "dev")
    assert datetime.fromisoformat(told["now"]).tzinfo is not None
    assert dev.ask("/_holdfast/health", {}, method="POST")[0] == 405
    assert dev.ask("/_holdfast/nothing")[0] == 404


@pytest.mark.parametrize("path", ["/_holdfast/clock", "/_holdfast/reset"])
def test_pages_in_a_browser_are_refused(dev: Running, path: str) -> None:
    found_organization(dev)
    body = {"advance_seconds": 5} if path.endswith("clock") else {}
    before = json.loads(dev.ask("/_holdfast/health")[2])["now"]
    for headers in (ORIGIN, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-origin"}):
        status, answered, told = dev.ask(path, body, headers=headers)
        assert status == 403, headers
        assert b"browser" in told
        assert "access-control-allow-origin" not in {name.lower() for name in answered}
    assert dev.ask(path, method="GET")[0] == 405
    assert dev.client("organizations").describe_organization()
    after = json.loads(dev.ask("/_holdfast/health")[2])["now"]
    assert datetime.fromisoformat(after) - datetime.fromisoformat(before) < timedelta(seconds=5)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "has to be an object"),
        (b"{}", "either advance_seconds or set"),
        (b'{"advance_seconds": 1, "set": "2030-01-01T00:00:00Z"}', "either advance_seconds or set"),
        (b'{"advance_seconds": -1}', "from 0 to a hundred years"),
        (b'{"advance_seconds": true}', "from 0 to a hundred years"),
        (b'{"advance_seconds": 1e300}', "from 0 to a hundred years"),
        (b'{"set": "tomorrow"}', "set is an instant such as"),
        (b'{"set": "0001-01-01T00:00:00+23:00"}', "set is an instant such as"),
        (b'{"set": "3000-01-01T00:00:00Z"}', "the clock goes from 1971 to 2999"),
        (b'{"set": "1970-01-01T00:00:00Z"}', "the clock goes from 1971 to 2999"),
        (b'{"advance_seconds": 1, "settle": "yes"}', "settle is true or false"),
        (b'{"advance": 1}', "is not known here"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused(dev: Running, body: bytes, words: str) -> None:
    status, _, told = dev.ask("/_holdfast/clock", body, method="POST")
    assert status == 400, told
    assert words in json.loads(told)["error"]


def test_the_clock_goes_forward_and_backward_only_while_the_server_is_empty(dev: Running) -> None:
    assert datetime.fromisoformat(dev.clock(set="2026-01-01T00:00:00Z")["now"]) >= datetime(2026, 1, 1, tzinfo=UTC)
    before = datetime.fromisoformat(dev.clock(set="2025-01-01T00:00:00Z")["now"])
    after = datetime.fromisoformat(dev.clock(advance_seconds=3600)["now"])
    assert timedelta(hours=1) <= after - before < timedelta(hours=1, minutes=1)
    found_organization(dev)
    joined = dev.client("organizations").describe_account(AccountId=MANAGEMENT)["Account"]["JoinedTimestamp"]
    assert joined.year == 2025
    status, _, told = dev.ask("/_holdfast/clock", {"set": "2024-01-01T00:00:00Z"})
    assert status == 400
    assert "goes back only right after a reset" in json.loads(told)["error"]


def hourly(hours: int) -> dict[str, Any]:
    return {
        "plans": {
            "Hourly": {
                "regions": {"@@assign": [REGION]},
                "rules": {
                    "Hour": {
                        "schedule_expression": {"@@assign": f"cron(0 0/{hours} ? * * *)"},
                        "target_backup_vault_name": {"@@assign": VAULT},
                        "lifecycle": {"delete_after_days": {"@@assign": "1"}},
                    }
                },
                "selections": {
                    "tags": {
                        "all": {
                            "iam_role_arn": {"@@assign": "arn:aws:iam::$account:role/Backups"},
                            "tag_key": {"@@assign": "backup"},
                            "tag_value": {"@@assign": ["yes"]},
                        }
                    }
                },
            }
        }
    }


def test_the_clock_goes_from_event_to_event_and_a_reset_ends_it_all(dev: Running) -> None:
    for _ in range(2):  # after the reset everything is as it was in the beginning
        dev.clock(set="2026-03-01T00:30:00Z")
        root = found_organization(dev)
        shop = join(dev, "shop")
        tree = shop.sandbox / "files"
        tree.mkdir(exist_ok=True)
        (tree / "page").write_text("hello")
        shop.register("files", tree, Tags={"backup": "yes"})
        organizations = dev.client("organizations")
        policy = organizations.create_policy(
            Type="BACKUP_POLICY", Name="hourly", Description="", Content=json.dumps(hourly(8))
        )["Policy"]["PolicySummary"]["Id"]
        organizations.attach_policy(PolicyId=policy, TargetId=root)

        moved = dev.clock(advance_seconds=23 * 3600, settle=True)
        assert (moved["runs"], moved["jobs"]) == (2, 2)
        assert datetime.fromisoformat(moved["now"]).isoformat()[:16] == "2026-03-01T23:30"
        jobs = shop.client("backup").list_backup_jobs()["BackupJobs"]
        assert [job["State"] for job in jobs] == ["COMPLETED", "COMPLETED"]
        made = sorted(job["CreationDate"].astimezone(UTC).strftime("%d %H:%M") for job in jobs)
        assert made == ["01 08:00", "01 16:00"], "each run was made at its own instant, none was skipped"
        assert len(shop.points()) == 2

        shop_points = {point["CreationDate"].astimezone(UTC).hour for point in shop.points()}
        assert shop_points == {8, 16}
        organizations.detach_policy(PolicyId=policy, TargetId=root)
        dev.clock(advance_seconds=12 * 3600, settle=True)
        assert [point["CreationDate"].astimezone(UTC).hour for point in shop.points()] == [16], "expired on the way"

        dev.reset()
        assert refusal(organizations.describe_organization)[0] == "AWSOrganizationsNotInUseException"
        assert list((dev.data_dir / "storage").iterdir()) == []
        assert (tree / "page").read_text() == "hello", "directories of the user's are left alone"


def test_without_settle_a_step_ends_when_jobs_run_or_wait_for_something_named(dev: Running) -> None:
    found_organization(dev)
    shop = join(dev, "shop")
    tree = shop.sandbox / "files"
    tree.mkdir(exist_ok=True)
    (tree / "page").write_bytes(b"x" * 1000)
    arn = shop.register("files", tree)
    jobs = [shop.back_up(arn, IdempotencyToken=str(number)) for number in range(3)]
    dev.clock(advance_seconds=1)
    states = [shop.job(job)["State"] for job in jobs]
    assert states[0] in {"RUNNING", "COMPLETED"}
    assert set(states) <= {"CREATED", "RUNNING", "COMPLETED"}, "one resource has one job at a time; the others wait"
    dev.settle()
    assert [shop.job(job)["State"] for job in jobs] == ["COMPLETED"] * 3


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    with started("dev", tmp_path / "data") as first:
        found_organization(first)
        first.clock(advance_seconds=10 * 86400)
        told = json.loads(first.ask("/_holdfast/health")[2])["now"]
        movers = first.movers()
        assert first.stop() == 0
        eventually(lambda: not any(is_alive(each) for each in movers), "movers end with their server")
    with started("dev", tmp_path / "data") as second:
        now = datetime.fromisoformat(json.loads(second.ask("/_holdfast/health")[2])["now"])
        assert now >= datetime.fromisoformat(told)
        assert second.client("organizations").describe_organization()
