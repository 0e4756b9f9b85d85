"""Servers as users run them, each a process of its own, and boto3 as their client.

Nothing here reaches into a server: it is started by its command line, spoken to over HTTP, and ended by signals.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from botocore.config import Config
from botocore.exceptions import ClientError

from holdfast.cli.client import session
from holdfast.core.clock import SystemMachineTime

SOURCES = Path(__file__).resolve().parent.parent / "src"
HOLDFAST = (sys.executable, "-m", "holdfast.cli.main")
REGION = "eu-north-1"
MANAGEMENT = "123456789012"
VAULT = "Central"
ROLE = "Backups"
PATIENCE = 90.0
_CONFIG = Config(retries={"max_attempts": 0}, connect_timeout=10, read_timeout=120)
_SERVICE_ROLE = "arn:aws:iam::aws:policy/service-role/"
TRUSTS_BACKUP = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "backup.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)
_MACHINE = SystemMachineTime()
_NEVER = Event()
T = TypeVar("T")


def environment(**more: str) -> dict[str, str]:
    """The environment of a program under test: this one's, without anything that would speak for a user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HOLDFAST_"))}
    sources = os.pathsep.join(filter(None, (str(SOURCES), kept.get("PYTHONPATH", ""))))
    return {**kept, "PYTHONPATH": sources, "AWS_EC2_METADATA_DISABLED": "true", **more}


def holdfast(
    *arguments: str | Path, timeout: float = PATIENCE, stdin: str = "", **more: str
) -> "subprocess.CompletedProcess[str]":
    """Run the command line to its end."""
    return subprocess.run(
        [*HOLDFAST, *map(str, arguments)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        input=stdin,
    )


def eventually(look: Callable[[], T], what: str = "", *, patience: float = PATIENCE) -> T:
    """Look again and again until there is something to see, and return it."""
    ends = _MACHINE.monotonic() + patience
    while not (seen := look()):
        assert _MACHINE.monotonic() < ends, f"in {patience:.0f} seconds this did not come true: {what or look}"
        _MACHINE.wait(_NEVER, 0.05)
    return seen


def refusal(call: Callable[..., Any], **parameters: Any) -> tuple[str, str]:
    """Make a call that is refused, and return the error's code and its sentence."""
    try:
        answer = call(**parameters)
    except ClientError as error:
        told = error.response["Error"]
        return told["Code"], told["Message"]
    raise AssertionError(f"this was not refused: {answer}")


def copied(tree: Path, target: Path) -> Path:
    """Copy a tree with all that makes it what it is; return the copy."""
    subprocess.run(["cp", "-a", "--sparse=always", tree, target], check=True)
    return target


def children_of(process: int) -> list[int]:
    """The processes that a process has started and that have not ended, by number."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            state, parent = _state_and_parent(int(entry.name))
            if parent == process and state != "Z":
                found.append(int(entry.name))
    return sorted(found)


def family_of(process: int) -> list[int]:
    """A process and all that it started, and they, and so on."""
    return [process, *(each for child in children_of(process) for each in family_of(child))]


def is_alive(process: int) -> bool:
    """Whether a process runs, or could."""
    return _state_and_parent(process)[0] not in {"", "Z", "X"}


def _state_and_parent(process: int) -> tuple[str, int]:
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[1])


@dataclass
class Running:
    """A server that accepts requests, and what is around it."""

    url: str
    process: "subprocess.Popen[bytes]"
    data_dir: Path
    log: Path
    credentials: Mapping[str, str] = field(
        default_factory=lambda: {"AccessKeyId": "testing", "SecretAccessKey": "testing"}
    )
    """The management account's."""
    _sessions: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def sandbox(self) -> Path:
        """Where every account of a development server may read and restore."""
        return self.data_dir / "sandbox"

    def client(self, service: str, who: Mapping[str, str] | None = None, *, region: str = REGION) -> Any:
        """Return a client of a service: of the management account, or of whoever has these credentials."""
        of = self.credentials if who is None else who
        key = of["AccessKeyId"]
        if key not in self._sessions:
            self._sessions[key] = session(
                access_key=key, secret_key=of["SecretAccessKey"], token=of.get("SessionToken"), region=REGION
            )
        return self._sessions[key].client(service, region_name=region, endpoint_url=self.url, config=_CONFIG)

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send a plain request; return the answer's status, headers and body."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - a server of our own
            self.url + path, data, {"Content-Type": "application/json", **(headers or {})}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - the same
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, dict(answer.headers), answer.read()

    def clock(self, **move: Any) -> dict[str, Any]:
        """Move civil time."""
        status, _, body = self.ask("/_holdfast/clock", move)
        assert status == 200, body
        answer: dict[str, Any] = json.loads(body)
        return answer

    def settle(self, seconds: float = 0) -> dict[str, Any]:
        """Let civil time pass, and every job that is due in it end."""
        return self.clock(advance_seconds=seconds, settle=True)

    def reset(self) -> None:
        """Empty the server."""
        status, _, body = self.ask("/_holdfast/reset", {})
        assert status == 200, body

    def movers(self) -> list[int]:
        """The numbers of the server's mover processes."""
        return [each for each in children_of(self.process.pid) if "holdfast.job.mover" in _command(each)]

    def said(self) -> str:
        """What the server has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """End it as a power cut would, with everything that it started."""
        family = family_of(self.process.pid)
        self.process.kill()
        self.process.wait()
        eventually(lambda: not any(is_alive(each) for each in family), "the movers of a killed server are gone")

    def stop(self) -> int:
        """End it as an operator would, and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text(encoding="latin-1").replace("\0", " ")
    except OSError:
        return ""


@contextmanager
def started(
    command: str, data_dir: Path, *options: str, launcher: Sequence[str] = (), **more: str
) -> Iterator[Running]:
    """Start `holdfast dev` or `holdfast serve` on any free port; it is gone when this ends, however it ends."""
    log = data_dir.with_name(data_dir.name + ".log")
    arguments = [*launcher, *HOLDFAST, command, "--port", "0", "--data-dir", str(data_dir), *options]
    with log.open("ab") as messages:
        process = subprocess.Popen(
            arguments, env=environment(**more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages
        )
    assert process.stdout is not None
    try:
        with process.stdout:
            line = process.stdout.readline().decode().rstrip("\n")
            assert line.startswith("ready http"), f"{line!r}: {log.read_text(errors='replace')[-2000:]}"
            running = Running(line.removeprefix("ready "), process, data_dir, log)
            yield running
    finally:
        family = family_of(process.pid)
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for each in family[1:]:
            if is_alive(each):
                os.kill(each, signal.SIGKILL)


def dev(data_dir: Path, *options: str, heartbeat: float | None = None, **more: Any) -> Any:
    """Start a development server; a short heartbeat lets takeovers happen soon."""
    if heartbeat is not None and not data_dir.exists():
        configured(data_dir, f"[server]\nheartbeat_seconds = {heartbeat}\n")
    return started("dev", data_dir, *options, **more)


def configured(data_dir: Path, configuration: str) -> None:
    """Have a development server make its data directory, end it, and put a configuration there."""
    with started("dev", data_dir):
        pass
    (data_dir / "holdfast.toml").write_text(configuration, encoding="utf-8")


@dataclass(frozen=True)
class Member:
    """A member account, as its administrator sees it."""

    server: Running
    id: str
    credentials: Mapping[str, str]
    region: str = REGION

    @property
    def role(self) -> str:
        """The role that its backup jobs act as."""
        return f"arn:aws:iam::{self.id}:role/{ROLE}"

    @property
    def sandbox(self) -> Path:
        """A directory of its own."""
        path = self.server.sandbox / self.id
        path.mkdir(exist_ok=True)
        return path

    def client(self, service: str) -> Any:
        """Return a client of a service in this account."""
        return self.server.client(service, self.credentials, region=self.region)

    def register(self, name: str, source: Path | str, kind: str = "EFS", **more: Any) -> str:
        """Register a directory or database; return its ARN."""
        url = source if isinstance(source, str) else source.as_uri()
        put = self.client("holdfast").put_resource(Name=name, ResourceType=kind, SourceUrl=url, **more)
        arn: str = put["Resource"]["ResourceArn"]
        return arn

    def back_up(self, arn: str, **more: Any) -> str:
        """Start a backup; return the job's id."""
        asked = {"BackupVaultName": VAULT, "IamRoleArn": self.role, **more}
        job: str = self.client("backup").start_backup_job(ResourceArn=arn, **asked)["BackupJobId"]
        return job

    def job(self, job: str) -> dict[str, Any]:
        """Describe a backup job."""
        found: dict[str, Any] = self.client("backup").describe_backup_job(BackupJobId=job)
        return found

    def ended(self, job: str) -> dict[str, Any]:
        """Wait for a backup to end, on a server whose clock nobody moves, and describe it."""
        eventually(lambda: self.job(job)["State"] in {"COMPLETED", "FAILED", "ABORTED", "EXPIRED"}, "the backup ends")
        return self.job(job)

    def points(self, vault: str = VAULT) -> list[dict[str, Any]]:
        """List the recovery points of a vault."""
        pages = self.client("backup").get_paginator("list_recovery_points_by_backup_vault")
        return [point for page in pages.paginate(BackupVaultName=vault) for point in page["RecoveryPoints"]]

    def start_restore(self, point: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
        """Start a restore with the point's own metadata and some more; return the job's id."""
        backup = self.client("backup")
        arn = point["RecoveryPointArn"]
        own = backup.get_recovery_point_restore_metadata(
            BackupVaultName=point.get("BackupVaultName", VAULT), RecoveryPointArn=arn
        )["RestoreMetadata"]
        job: str = backup.start_restore_job(
            RecoveryPointArn=arn,
            Metadata={**own, **metadata},
            IamRoleArn=self.role,
            ResourceType=point["ResourceType"],
        )["RestoreJobId"]
        return job

    def restore(self, point: Mapping[str, Any], target: Path) -> Path:
        """Restore a point of files into a new directory, which is returned when it is all there."""
        job = self.start_restore(point, {"newFileSystem": "true", "holdfast:target-url": target.as_uri()})
        ended = self.restored(job)
        assert ended["Status"] == "COMPLETED", ended
        return target

    def restored(self, job: str) -> dict[str, Any]:
        """Wait for a restore to end, and describe it."""
        backup = self.client("backup")

        def ended() -> dict[str, Any] | None:
            found: dict[str, Any] = backup.describe_restore_job(RestoreJobId=job)
            return found if found["Status"] in {"COMPLETED", "FAILED", "ABORTED"} else None

        return eventually(ended, "the restore ends") or {}


def found_organization(server: Running, *types: str) -> str:
    """Create an organization with these policy types enabled, backups among them; return its root's id."""
    organizations = server.client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    root: str = organizations.list_roots()["Roots"][0]["Id"]
    for policy_type in ("BACKUP_POLICY", *types):
        organizations.enable_policy_type(RootId=root, PolicyType=policy_type)
    organizations.enable_aws_service_access(ServicePrincipal="backup.amazonaws.com")
    return root


def join(server: Running, name: str, *, region: str = REGION) -> Member:
    """Create a member account with a vault, a key and a role for backups."""
    organizations = server.client("organizations")
    status = organizations.create_account(Email=f"{name}@example.com", AccountName=name)["CreateAccountStatus"]
    assert status["State"] == "SUCCEEDED", status
    member = enter(server, status["AccountId"], region=region)
    key = member.client("kms").create_key()["KeyMetadata"]["Arn"]
    member.client("backup").create_backup_vault(BackupVaultName=VAULT, EncryptionKeyArn=key)
    make_role(member, ROLE)
    return member


def enter(server: Running, account: str, *, region: str = REGION) -> Member:
    """Act in a member account from the management account."""
    credentials = server.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole", RoleSessionName="tests"
    )["Credentials"]
    return Member(server, account, credentials, region)


def make_role(
    member: Member, name: str, *, trust: str = TRUSTS_BACKUP, policies: Sequence[str] = ("Backup", "Restores")
) -> str:
    """Make a role with the managed policies that backups and restores need; return its ARN."""
    iam = member.client("iam")
    arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    for policy in policies:
        iam.attach_role_policy(RoleName=name, PolicyArn=f"{_SERVICE_ROLE}AWSBackupServiceRolePolicyFor{policy}")
    return arn
