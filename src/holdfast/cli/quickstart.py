"""The tour: an organization, two policies that merge, real backups in every account, and a restore that is compared.

Every step is boto3 against the endpoint, as a user's own script would be.
"""

import json
import shutil
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from holdfast.cli.client import client, session
from holdfast.cli.process import Server, start_dev
from holdfast.cli.tree import compare_trees, make_tree
from holdfast.core.clock import SystemMachineTime
from holdfast.core.errors import HoldfastError

REGION: Final = "eu-north-1"
VAULT: Final = "Central"
ROLE: Final = "HoldfastBackup"
ACCESS_ROLE: Final = "OrganizationAccountAccessRole"
_SERVICE_ROLE: Final = "arn:aws:iam::aws:policy/service-role/"
_MANAGEMENT: Final = "123456789012"
_PIPED_WIDTH: Final = 120


class TourError(HoldfastError):
    """A step of the tour did not end as it should."""


@dataclass(frozen=True, slots=True)
class Member:
    """One account of the tour: what it is called, where it stands, and what it has."""

    name: str
    unit: str
    tags: Mapping[str, str]
    files: int


MEMBERS: Final = (
    Member("shop", "Prod", {"backup": "gold"}, 60),
    Member("ledger", "Finance", {"backup": "gold", "dataType": "PII"}, 40),
    Member("archive", "Finance", {"backup": "gold"}, 25),
    Member("lab", "Sandbox", {"backup": "none"}, 10),
)


def baseline_policy() -> dict[str, Any]:
    """Return the policy for the whole organization: every night, kept for 35 days."""
    return {
        "plans": {
            "Nightly": {
                "regions": {"@@assign": [REGION]},
                "rules": {
                    "Night": {
                        "schedule_expression": {"@@assign": "cron(0 3 ? * * *)"},
                        "start_backup_window_minutes": {"@@assign": "120"},
                        "target_backup_vault_name": {"@@assign": VAULT},
                        "lifecycle": {"delete_after_days": {"@@assign": "35"}},
                    }
                },
                "selections": {
                    "tags": {
                        "gold": {
                            "iam_role_arn": {"@@assign": f"arn:aws:iam::$account:role/{ROLE}"},
                            "tag_key": {"@@assign": "backup"},
                            "tag_value": {"@@assign": ["gold"]},
                        }
                    }
                },
            }
        }
    }


def finance_policy() -> dict[str, Any]:
    """Return the policy for one unit: the same plan, kept for seven years."""
    return {"plans": {"nightly": {"rules": {"night": {"lifecycle": {"delete_after_days": {"@@assign": "2555"}}}}}}}


def no_deletion() -> dict[str, Any]:
    """Return the service control policy under which nobody deletes a recovery point."""
    denied = ["backup:DeleteRecoveryPoint", "backup:DeleteBackupVault", "backup:UpdateRecoveryPointLifecycle"]
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": denied, "Resource": "*"}]}


def role_trust() -> dict[str, Any]:
    """Return the trust policy of the role that backup jobs act as."""
    principal = {"Service": "backup.amazonaws.com"}
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}],
    }


@dataclass
class Tour:
    """One walk through the product, with what it has made so far."""

    server: Server
    data_dir: Path
    console: Console
    accounts: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    resources: dict[str, str] = field(default_factory=dict)
    sessions: dict[str, Any] = field(default_factory=dict)
    step_number: int = 0

    def walk(self) -> None:
        """Take every step.

        Raises:
            TourError: something did not end as it should.
            ClientError: the server refused what it should have done.
        """
        self.sessions[""] = session(access_key="testing", secret_key="testing", region=REGION)  # noqa: S106 - dev's own
        self._organization()
        self._members()
        self._resources()
        self._policies()
        self._effective()
        self._run()
        self._refusal()
        self._restore()

    def of(self, account: str, service: str) -> Any:
        """Return a client of `service` in an account by name; the empty name is the management account."""
        return client(self.sessions[account], service, self.server.url)

    def _step(self, title: str) -> None:
        self.step_number += 1
        self.console.print(f"\n[bold]{self.step_number}. {title}[/bold]", soft_wrap=True)

    def _say(self, text: str) -> None:
        self.console.print(f"   {text}", highlight=False, soft_wrap=True)

    def _organization(self) -> None:
        self._step("An organization")
        organizations = self.of("", "organizations")
        organization = organizations.create_organization(FeatureSet="ALL")["Organization"]
        root = organizations.list_roots()["Roots"][0]["Id"]
        self.units["Root"] = root
        for name, parent in (("Prod", "Root"), ("Finance", "Prod"), ("Sandbox", "Root")):
            created = organizations.create_organizational_unit(ParentId=self.units[parent], Name=name)
            self.units[name] = created["OrganizationalUnit"]["Id"]
        for policy_type in ("BACKUP_POLICY", "SERVICE_CONTROL_POLICY"):
            organizations.enable_policy_type(RootId=root, PolicyType=policy_type)
        organizations.enable_aws_service_access(ServicePrincipal="backup.amazonaws.com")
        for member in MEMBERS:
            email = f"{member.name}@example.com"
            status = organizations.create_account(Email=email, AccountName=member.name)["CreateAccountStatus"]
            if status["State"] != "SUCCEEDED":
                raise TourError(f"the account {member.name} was not created: {status}")
            account = status["AccountId"]
            self.accounts[member.name] = account
            organizations.move_account(
                AccountId=account, SourceParentId=root, DestinationParentId=self.units[member.unit]
            )
        self._say(f"{organization['Id']}, managed by account {organization['MasterAccountId']}")
        self._say("Root")
        self._say("├── Prod        shop")
        self._say("│   └── Finance ledger, archive")
        self._say("└── Sandbox     lab")

    def _members(self) -> None:
        self._step("In each account: a vault, its key, and the role that backups act as")
        sts = self.of("", "sts")
        for name, account in self.accounts.items():
            role = f"arn:aws:iam::{account}:role/{ACCESS_ROLE}"
            credentials = sts.assume_role(RoleArn=role, RoleSessionName="quickstart")["Credentials"]
            self.sessions[name] = session(
                access_key=credentials["AccessKeyId"],
                secret_key=credentials["SecretAccessKey"],
                token=credentials["SessionToken"],
                region=REGION,
            )
            key = self.of(name, "kms").create_key(Description="Backups of this account")["KeyMetadata"]["Arn"]
            self.of(name, "backup").create_backup_vault(BackupVaultName=VAULT, EncryptionKeyArn=key)
            iam = self.of(name, "iam")
            iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(role_trust()))
            for policy in ("AWSBackupServiceRolePolicyForBackup", "AWSBackupServiceRolePolicyForRestores"):
                iam.attach_role_policy(RoleName=ROLE, PolicyArn=_SERVICE_ROLE + policy)
            self._say(f"{account}  {name:<8} vault {VAULT}, key {key.rpartition('/')[2]}, role {ROLE}")

    def _resources(self) -> None:
        self._step("Something to protect: real directories, with names, links and holes that are easy to get wrong")
        sandbox = self.data_dir / "sandbox"
        for member in MEMBERS:
            tree = sandbox / member.name / "files"
            if not tree.exists():
                make_tree(tree, theme=member.name, files=member.files)
            put = self.of(member.name, "holdfast").put_resource(
                Name=f"{member.name}-files",
                ResourceType="EFS",
                SourceUrl=tree.resolve().as_uri(),
                Tags=dict(member.tags),
            )
            self.resources[member.name] = put["Resource"]["ResourceArn"]
            tags = ", ".join(f"{key}={value}" for key, value in member.tags.items())
            self._say(f"{member.name:<8} {self.resources[member.name]}  ({tags})")

    def _policies(self) -> None:
        self._step("Two backup policies: one for everybody, one for Finance that overrides its retention")
        organizations = self.of("", "organizations")
        for name, content, target in (
            ("nightly", baseline_policy(), "Root"),
            ("finance-keeps-seven-years", finance_policy(), "Finance"),
        ):
            created = organizations.create_policy(
                Type="BACKUP_POLICY", Name=name, Description=f"For {target}", Content=json.dumps(content)
            )
            policy_id = created["Policy"]["PolicySummary"]["Id"]
            organizations.attach_policy(PolicyId=policy_id, TargetId=self.units[target])
            self._say(f"{name} ({policy_id}) attached to {target}")

    def _effective(self) -> None:
        self._step("What two accounts end up with, and why")
        organizations, holdfast = self.of("", "organizations"), self.of("", "holdfast")
        policies = {
            policy["Id"]: policy["Name"] for policy in organizations.list_policies(Filter="BACKUP_POLICY")["Policies"]
        }
        table = Table("setting", "shop", "ledger", "decided for ledger by", box=SIMPLE_HEAD)
        explained = {}
        for name in ("shop", "ledger"):
            answer = organizations.describe_effective_policy(PolicyType="BACKUP_POLICY", TargetId=self.accounts[name])
            content = json.loads(answer["EffectivePolicy"]["PolicyContent"])
            if "nightly" not in content.get("plans", {}):
                raise TourError(f"{name} has no plan `nightly`: {content}")
            leaves = holdfast.explain_effective_policy(TargetId=self.accounts[name], PolicyType="BACKUP_POLICY")[
                "Leaves"
            ]
            explained[name] = {leaf["Path"]: leaf for leaf in leaves}
        for path, leaf in explained["ledger"].items():
            if "/rules/" not in path:
                continue
            other = explained["shop"].get(path, {}).get("Value", "")
            style = "bold yellow" if other != leaf["Value"] else ""
            origin = policies.get(leaf["PolicyId"], leaf["PolicyId"])
            table.add_row(path.rpartition("/")[2], other, leaf["Value"], origin, style=style)
        self.console.print(table)
        for name in ("shop", "ledger"):
            for plan in self.of(name, "backup").list_backup_plans()["BackupPlansList"]:
                self._say(f"in {name}: plan {plan['BackupPlanName']}, {plan['BackupPlanId']} (cannot be changed there)")

    def _run(self) -> None:
        self._step("The next due run, at once: the clock of a development server can be moved")
        backup = self.of("shop", "backup")
        plan = backup.list_backup_plans()["BackupPlansList"][0]["BackupPlanId"]
        preview = backup.get_backup_plan(BackupPlanId=plan, MaxScheduledRunsPreview=1)["ScheduledRunsPreview"]
        due = preview[0]["ExecutionTime"]
        self._say(f"next run: {due:%Y-%m-%d %H:%M} UTC")
        moved = self._post("/_holdfast/clock", {"set": due.isoformat(), "settle": True})
        now = moved["now"][:16].replace("T", " ")
        self._say(f"the clock says {now} UTC; {moved.get('jobs', 0)} jobs were made and have ended")
        self._say("what the management account sees: every job of every account")
        jobs = self.of("", "backup").list_backup_jobs(ByAccountId="*")["BackupJobs"]
        names = {account: name for name, account in self.accounts.items()}
        table = Table("account", "resource", "state", "bytes", "recovery point", box=SIMPLE_HEAD)
        for job in sorted(jobs, key=lambda job: job["AccountId"]):
            point = job.get("RecoveryPointArn", "").rpartition(":")[2] or job.get("StatusMessage", "")
            resource = job.get("ResourceName") or job["ResourceArn"]
            size = f"{job.get('BackupSizeInBytes', 0):,}"
            table.add_row(names.get(job["AccountId"], job["AccountId"]), resource, job["State"], size, point)
        self.console.print(table)
        done = {job["AccountId"] for job in jobs if job["State"] == "COMPLETED"}
        wanted = {self.accounts[member.name] for member in MEMBERS if member.tags["backup"] == "gold"}
        if done != wanted:
            raise TourError("not exactly the accounts with gold resources have completed backups")

    def _refusal(self) -> None:
        self._step("An administrator of a member account may not delete a recovery point")
        organizations = self.of("", "organizations")
        created = organizations.create_policy(
            Type="SERVICE_CONTROL_POLICY",
            Name="keep-recovery-points",
            Description="Nobody deletes recovery points",
            Content=json.dumps(no_deletion()),
        )
        organizations.attach_policy(PolicyId=created["Policy"]["PolicySummary"]["Id"], TargetId=self.units["Prod"])
        backup = self.of("ledger", "backup")
        point = backup.list_recovery_points_by_backup_vault(BackupVaultName=VAULT)["RecoveryPoints"][0]
        try:
            backup.delete_recovery_point(BackupVaultName=VAULT, RecoveryPointArn=point["RecoveryPointArn"])
        except ClientError as refusal:
            if refusal.response["Error"]["Code"] != "AccessDeniedException":
                raise
            self._say(f"refused: {refusal.response['Error']['Message']}")
        else:
            raise TourError("a recovery point was deleted under a policy that denies it")

    def _restore(self) -> None:
        self._step("A restore, compared byte for byte")
        backup = self.of("ledger", "backup")
        point = backup.list_recovery_points_by_backup_vault(BackupVaultName=VAULT)["RecoveryPoints"][0]
        target = Path(tempfile.mkdtemp(prefix="restored-", dir=self.data_dir / "sandbox" / "ledger")) / "files"
        metadata = dict(
            backup.get_recovery_point_restore_metadata(
                BackupVaultName=VAULT, RecoveryPointArn=point["RecoveryPointArn"]
            )["RestoreMetadata"]
        )
        metadata |= {"newFileSystem": "true", "holdfast:target-url": target.resolve().as_uri()}
        job = backup.start_restore_job(
            RecoveryPointArn=point["RecoveryPointArn"],
            Metadata=metadata,
            IamRoleArn=f"arn:aws:iam::{self.accounts['ledger']}:role/{ROLE}",
            ResourceType="EFS",
        )["RestoreJobId"]
        self._post("/_holdfast/clock", {"advance_seconds": 1, "settle": True})
        ended = backup.describe_restore_job(RestoreJobId=job)
        if ended["Status"] != "COMPLETED":
            raise TourError(f"the restore ended {ended['Status']}: {ended.get('StatusMessage')}")
        files, differences = compare_trees(self.data_dir / "sandbox" / "ledger" / "files", target)
        if differences:
            for difference in differences[:20]:
                self._say(f"[red]{difference.path}: {difference.what}[/red]")
            raise TourError(f"{len(differences)} differences between what was backed up and what was restored")
        self._say(f"from {point['RecoveryPointArn']}")
        self._say(f"to   {target}")
        self._say(f"[green]restored {files} files, identical[/green]")

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the server that was just started, on loopback
            self.server.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310 - the same
            result: dict[str, Any] = json.load(answer)
        return result


def run_tour(*, data_dir: Path | None, keep: bool, port: int) -> int:
    """Walk the tour; return the exit code.

    Args:
        data_dir: where to keep everything; a new temporary directory when not given.
        keep: whether the server goes on running afterwards.
        port: the server's port; 0 is any free one.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    machine = SystemMachineTime()
    began = machine.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="holdfast-")) if data_dir is None else data_dir
    directory.mkdir(parents=True, exist_ok=True)
    console.print("[bold]Holdfast[/bold]: backups of a whole organization, on this machine, in a minute.")
    console.print(f"data directory: {directory}", highlight=False, soft_wrap=True)
    data = directory / "data"
    with _server(data, keep=keep, port=port, log=directory / "server.log") as server:
        console.print(f"server: {server.url}", highlight=False)
        Tour(server, data, console).walk()
        console.print(f"\ndone in {machine.monotonic() - began:.1f} s", highlight=False)
        if keep:
            console.print(f"the server goes on at {server.url} (process {server.process.pid}); end it with:")
            console.print(f"  kill {server.process.pid}", highlight=False)
            console.print("point any AWS client at it:")
            console.print(
                f"  AWS_ACCESS_KEY_ID=testing AWS_SECRET_ACCESS_KEY=testing AWS_DEFAULT_REGION={REGION} "
                f"aws --endpoint-url {server.url} backup list-backup-jobs --by-account-id '*'",
                highlight=False,
                soft_wrap=True,
            )
            return 0
    console.print("go on with what was made:")
    console.print(f"  {_program()} dev --data-dir {data}", highlight=False, soft_wrap=True)
    return 0


@contextmanager
def _server(data: Path, *, keep: bool, port: int, log: Path) -> Iterator[Server]:
    server = start_dev(data, "--account-id", _MANAGEMENT, port=port, log=log, leave=keep)
    try:
        yield server
    except BaseException:
        server.stop()
        raise
    if not keep:
        server.stop()


def _program() -> str:
    found = shutil.which("holdfast")
    beside = Path(sys.executable).parent / "holdfast"
    return found or str(beside)
