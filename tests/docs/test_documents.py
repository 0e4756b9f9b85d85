"""What the documents tell a reader to type is typed here, and does what they say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.running import (
    HOLDFAST,
    MANAGEMENT,
    PATIENCE,
    REGION,
    VAULT,
    Member,
    Running,
    environment,
    found_organization,
    join,
    make_role,
    started,
)

from holdfast.cli.main import app

TOP = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")
DOCUMENTS = sorted([*TOP.glob("*.md"), *TOP.glob("docs/**/*.md")])
RUN_BY_THEIR_STATIONS = {
    "docs/how-to/back-up-a-directory.md": "tests/source/test_how_to.py",
    "docs/how-to/back-up-postgresql.md": "tests/source/test_how_to.py",
    "docs/how-to/follow-incidents.md": "tests/monitor/test_incidents.py",
}


def blocks_of(document: str, language: str) -> list[str]:
    return [code for found, code in _BLOCK.findall((TOP / document).read_text()) if found == language]


def the_block(document: str, language: str, holding: str) -> str:
    """Return the one block that holds these words; the document and its test go together."""
    (found,) = (code for code in blocks_of(document, language) if holding in code)
    return found


@dataclass(frozen=True)
class Desk:
    """Where a reader sits: a server with an organization, and the programs on the path."""

    server: Running
    shop: Member
    top: Path

    def typed(self, code: str, *, interpreter: Sequence[str] = ("bash", "-euo", "pipefail", "-c"), **ours: str) -> str:
        """Type a block, with what stands for the reader's own things put in; return what it prints."""
        mine = {
            "http://127.0.0.1:8420": self.server.url,
            ".venv/bin/holdfast": "holdfast",
            "/var/lib/holdfast": str(self.top / "production"),
            "/srv": str(self.top / "srv"),
            "--target-id ACCOUNT": f"--target-id {self.shop.id}",
        }
        for written, meant in (*ours.items(), *mine.items()):
            code = code.replace(written, meant)
        done = subprocess.run(
            [*interpreter, code],
            env=self.environment,
            cwd=self.top,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        paths = (str(self.top / "bin"), str(Path(sys.executable).parent), environment()["PATH"])
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": REGION}
        return environment(PATH=":".join(paths), HOME=str(self.top), AWS_ENDPOINT_URL=self.server.url, **keys)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    top = tmp_path_factory.mktemp("desk")
    (top / "srv" / "www").mkdir(parents=True)
    (top / "srv" / "testdata").mkdir(parents=True)
    (top / "bin").mkdir()
    program = top / "bin" / "holdfast"
    program.write_text(f'#!/bin/sh\nexec {" ".join(HOLDFAST)} "$@"\n')
    program.chmod(0o755)
    with started("dev", top / "data", "--grant", str(top / "srv")) as server:
        root = found_organization(server)
        shop = join(server, "shop")
        policy = '{"plans": {}}'
        organizations = server.client("organizations")
        made = organizations.create_policy(Type="BACKUP_POLICY", Name="none", Description="", Content=policy)
        organizations.attach_policy(PolicyId=made["Policy"]["PolicySummary"]["Id"], TargetId=root)
        yield Desk(server, shop, top)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_is_named_is_there(document: str) -> None:
    named = {word for code in blocks_of(document, "sh") for word in re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)}
    assert named
    for target in named:
        subprocess.run(["make", "--dry-run", target], cwd=TOP, check=True, capture_output=True)


def test_the_readme_on_the_aws_cli(desk: Desk) -> None:
    told = desk.typed(the_block("README.md", "sh", "aws backup list-backup-jobs"))
    assert '"BackupJobs": []' in told
    assert f'"TargetId": "{desk.shop.id}"' in told


def test_the_readme_on_boto3(desk: Desk) -> None:
    desk.typed(the_block("README.md", "python", "list_backup_jobs"), interpreter=(sys.executable, "-W", "error", "-c"))


def test_the_readme_on_the_extension(desk: Desk) -> None:
    told = desk.typed(the_block("README.md", "sh", "aws holdfast put-resource"))
    assert f"arn:aws:elasticfilesystem:{REGION}:{MANAGEMENT}:file-system/fs-" in told
    assert '"Leaves"' in told


def test_the_readme_on_running_it(desk: Desk) -> None:
    code = the_block("README.md", "sh", "holdfast serve")
    init, serve = code.splitlines()
    assert "RECOVERY KIT" in desk.typed(init)
    assert serve.startswith(".venv/bin/holdfast serve --data-dir /var/lib/holdfast ")
    with started("serve", desk.top / "production") as production:
        assert production.stop() == 0


def test_the_guide_to_testing_against_it(desk: Desk) -> None:
    guide = "docs/how-to/test-against-holdfast.md"
    (starting,) = (code for code in blocks_of(guide, "sh") if code.startswith("holdfast dev"))
    options = starting.split()[2:]
    assert options == ["--port", "8420", "--grant", "/srv/testdata"]
    with started("dev", desk.top / "guide", "--grant", str(desk.top / "srv" / "testdata")) as server:
        other = Desk(server, desk.shop, desk.top)
        moves = other.typed(the_block(guide, "sh", "_holdfast/clock"))
        assert moves.count('"now"') == 2
        assert '"now":"2030-01-01T03:00' in moves
        again = other.typed(the_block(guide, "sh", "_holdfast/reset"))
        assert '"status":"ok"' in again


def test_the_guide_to_foreseeing_a_change(desk: Desk) -> None:
    guide = "docs/how-to/foresee-a-policy-change.md"
    organizations = desk.server.client("organizations")
    made = organizations.create_policy(Type="BACKUP_POLICY", Name="new", Description="", Content='{"plans": {}}')
    ours = {
        "p-examplepolicy": made["Policy"]["PolicySummary"]["Id"],
        "r-exam": organizations.list_roots()["Roots"][0]["Id"],
        "aws holdfast": "AWS_DATA_PATH=$(holdfast models) aws holdfast",
    }
    (desk.top / "draft.json").write_text('{"plans": {}}')
    told = [desk.typed(code, **ours) for code in blocks_of(guide, "sh")]
    assert [next(iter(json.loads(each))) for each in told] == ["Remarks", "Effects", "Accounts"]


def test_the_guide_to_who_can_delete(desk: Desk) -> None:
    guide = "docs/how-to/see-who-can-delete.md"
    trust = {"Effect": "Allow", "Principal": {"AWS": MANAGEMENT}, "Action": "sts:AssumeRole"}
    desk.server.client("iam").create_role(
        RoleName="Operators", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": trust})
    )
    ours = {"111122223333": MANAGEMENT, "aws holdfast": "AWS_DATA_PATH=$(holdfast models) aws holdfast"}
    who, why = (desk.typed(code, **ours) for code in blocks_of(guide, "sh"))
    assert f"arn:aws:iam::{MANAGEMENT}:root" in who
    assert json.loads(why)


def test_the_guide_to_keeping_what_nobody_may_delete(desk: Desk) -> None:
    guide = "docs/how-to/keep-what-nobody-may-delete.md"
    locking, holding, releasing, undeleting, delaying, guarding = blocks_of(guide, "sh")
    with started("dev", desk.top / "kept") as server:
        backup = server.client("backup")
        backup.create_backup_vault(BackupVaultName="Vault")
        us = Member(server, MANAGEMENT, server.credentials)
        resource = us.register("kept", us.sandbox)
        us.ended(us.back_up(resource, BackupVaultName="Vault", IamRoleArn=make_role(us, "Backups")))
        (point,) = us.points("Vault")
        arn = point["RecoveryPointArn"]
        ours = {"aws holdfast": "AWS_DATA_PATH=$(holdfast models) aws holdfast", "POINT_ARN": arn}
        typing = Desk(server, desk.shop, desk.top).typed
        assert '"Locked": true' in typing(locking)
        dates = {"2026-01-01": "2000-01-01", "2027-01-01": "2100-01-01"}
        hold = json.loads(typing(holding, **dates))["LegalHoldId"]
        typing(releasing, HOLD_ID=hold)
        backup.delete_backup_vault_lock_configuration(BackupVaultName="Vault")
        backup.delete_recovery_point(BackupVaultName="Vault", RecoveryPointArn=arn)
        assert '"KeptUntil"' in typing(undeleting, **ours)
        assert [each["RecoveryPointArn"] for each in us.points("Vault")] == [arn]
        assert '"Days": 30' in typing(delaying, **ours)
        assert '"Stopped": false' in typing(guarding, **ours)


def test_the_guide_to_signing_in(desk: Desk) -> None:
    making, signing_in = blocks_of("docs/how-to/sign-in.md", "sh")
    desk.typed(making)
    session = json.loads(desk.typed(signing_in))
    assert session["Arn"] == f"arn:aws:iam::{MANAGEMENT}:user/maria"
    assert desk.server.client("sts", session).get_caller_identity()["Arn"] == session["Arn"]


def test_the_guide_to_an_accounts_own_plan(desk: Desk) -> None:
    guide = "docs/how-to/plan-in-an-account.md"
    role = make_role(Member(desk.server, MANAGEMENT, desk.server.credentials), "Planners")
    (making,) = blocks_of(guide, "sh")
    assert '"SelectionId"' in desk.typed(making, **{"arn:aws:iam::111122223333:role/Backups": role})
    (showing,) = blocks_of(guide, "python")
    told = desk.typed(showing, interpreter=(sys.executable, "-W", "error", "-c"))
    assert [line.split()[-1] for line in told.splitlines()] == ["SNAPSHOTS"] * 5


def test_the_guide_to_choosing_resources(desk: Desk) -> None:
    guide = "docs/how-to/choose-resources.md"
    us = Member(desk.server, MANAGEMENT, desk.server.credentials)
    for name, tags in (
        ("drafts", {"dataType": "PII", "stage": "test"}),
        ("ledger", {"datatype": "PII"}),
        ("letters", {"dataType": "PII"}),
    ):
        (place := desk.top / "srv" / name).mkdir()
        us.register(name, place, Tags=tags)
    trying, by_ids = blocks_of(guide, "sh")
    (printed,) = blocks_of(guide, "text")
    assert [line.rstrip() for line in desk.typed(trying).splitlines()] == printed.splitlines()
    backup = us.client("backup")
    rule = {"RuleName": "daily", "TargetBackupVaultName": VAULT}
    plan = backup.create_backup_plan(BackupPlan={"BackupPlanName": "chosen", "Rules": [rule]})["BackupPlanId"]
    selection = {"SelectionName": "all", "IamRoleArn": make_role(us, "Choosers"), "Resources": ["*"]}
    chosen = backup.create_backup_selection(BackupPlanId=plan, BackupSelection=selection)["SelectionId"]
    written = re.findall(r"(?:orgs/)?[0-9a-f]{8}-\S+|[0-9]{12}$", by_ids, re.MULTILINE)
    told = desk.typed(by_ids, **dict(zip(written, (plan, chosen, MANAGEMENT), strict=True)))
    assert re.search(r"^matched +EFS +ledger +Resources \*", told, re.MULTILINE)


def test_the_guide_to_copies(desk: Desk, dev: Running) -> None:
    found_organization(dev)
    shop = join(dev, "shop")
    desk = Desk(dev, shop, desk.top)  # the others' server has no jobs
    (tree := shop.sandbox / "copied").mkdir()
    shop.back_up(shop.register("copied", tree))
    dev.settle(60)
    (point,) = shop.points()
    ours = f"POINT={point['RecoveryPointArn']} ROLE={shop.role} VAULT={VAULT}\n"
    keys = {
        "AWS_ACCESS_KEY_ID": shop.credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": shop.credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": shop.credentials["SessionToken"],
    }
    enter = "".join(f"export {name}='{value}'\n" for name, value in keys.items())
    allow, vault, ask, copy = blocks_of("docs/how-to/copy-to-another-account.md", "sh")
    told = desk.typed(allow + vault + ours + enter + ask + copy)
    assert '"Allowed": true' in told
    assert "COMPLETED\nCopied within fault domain" in told


def test_the_guide_to_the_jobs_of_all_accounts(desk: Desk) -> None:
    guide = "docs/how-to/see-jobs-across-accounts.md"
    told = [
        desk.typed(
            code,
            **{
                "--account-id ACCOUNT": f"--account-id {desk.shop.id}",
                "--account ACCOUNT": f"--account {desk.shop.id}",
            },
        )
        for code in blocks_of(guide, "sh")
    ]
    assert told[0].count('"BackupJobs": []') == 2
    assert "Message" in told[2], "the head of a table"
    assert '"AggregationPeriod": "SEVEN_DAYS"' in told[-1]
    (administrator,) = desk.server.client("organizations").list_delegated_administrators()["DelegatedAdministrators"]
    assert administrator["Id"] == desk.shop.id


def test_the_guide_to_rebuilding(desk: Desk) -> None:
    guide = "docs/how-to/rebuild-from-storage.md"
    with started("dev", desk.top / "lost") as server:
        server.client("backup").create_backup_vault(BackupVaultName="kept")
        assert server.stop() == 0
    again, anew, by_recovery_key = blocks_of(guide, "sh")
    assert "1 vaults" in desk.typed(again, **{"/var/lib/holdfast": str(desk.top / "lost")})
    ours = {"/srv/vaults": str(desk.top / "lost" / "storage"), "root.key": str(desk.top / "lost" / "root.key")}
    assert "Secret access key" in desk.typed(anew, **ours)
    # The third is the same command with the other key, which the vaults' own tests run to its end.
    assert by_recovery_key.split() == [*anew.split()[:6], "--recovery-key", "recovery.key"]


def test_the_guide_to_keeping_holdfast_itself(desk: Desk) -> None:
    guide = "docs/how-to/keep-holdfast-itself.md"
    data = desk.top / "itself"
    assert "RECOVERY KIT" in desk.typed(f"holdfast init --data-dir {data}")
    desk.typed(f"holdfast state save --data-dir {data}")
    listing, replacing, anew, moving, upgrading = blocks_of(guide, "sh")
    ours = {"/var/lib/holdfast-new": str(desk.top / "anew"), "/var/lib/holdfast": str(data)}
    assert "0001" in desk.typed(listing, **ours)
    assert "is back" in desk.typed(replacing, **ours)
    elsewhere = {"/srv/vaults": str(data / "storage"), "root.key": str(data / "root.key")}
    assert "is back" in desk.typed(anew, **ours, **elsewhere)
    assert desk.typed(upgrading, **ours).count("up to date") == 2
    target = {"postgresql://holdfast@127.0.0.1/holdfast": f"sqlite:///{desk.top / 'moved.db'}"}
    assert "read back and compared" in desk.typed(moving, **ours, **target)


def test_the_guide_to_changing_the_root_key(desk: Desk) -> None:
    (code,) = blocks_of("docs/how-to/change-the-root-key.md", "sh")
    data = desk.top / "rekeyed"
    desk.typed(f"holdfast init --data-dir {data}")
    assert "in place of" in desk.typed(code, **{"/var/lib/holdfast": str(data)})
    with started("serve", data) as server:
        assert server.stop() == 0


def test_the_guide_to_testing_names_every_option_of_the_command() -> None:
    guide = (TOP / "docs/how-to/test-against-holdfast.md").read_text()
    (command,) = (each for each in app.registered_commands if each.callback and each.callback.__name__ == "dev")
    assert command.callback is not None
    names = [name for name in command.callback.__annotations__ if name not in {"return", "until_stdin_closes"}]
    assert len(names) == 8
    for name in names:
        assert f"`--{name.replace('_', '-')}" in guide


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [target for target in _LINK.findall(document.read_text()) if not (document.parent / target).exists()]
    assert missing == []


def test_every_guide_is_run() -> None:
    here = Path(__file__).read_text()
    for guide in TOP.glob("docs/how-to/*.md"):
        name = str(guide.relative_to(TOP))
        if not blocks_of(name, "sh"):
            continue
        elsewhere = RUN_BY_THEIR_STATIONS.get(name)
        runs = here if elsewhere is None else (TOP / elsewhere).read_text()
        assert guide.name in runs, f"{name} is run by no test"
        assert elsewhere is None or here.count(name) == 1
