"""Movers and servers killed at random moments of many backups and their copies: the whole product, both databases.

No job is lost and none is done twice; each that COMPLETED restores byte for byte; restic finds no fault in what is
left.
"""

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from tests.journey.restic import Storage, repositories_in
from tests.journey.test_copies import let_in, nightly, vault_arn
from tests.running import VAULT, Member, Running, configured, enter, eventually, found_organization, join, started

from holdfast.core.clock import SystemMachineTime
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage

_HEARTBEAT = 1.0
_BYTES = 600_000
_TAG = "killed"
_MACHINE, _NEVER = SystemMachineTime(), Event()


@dataclass
class Scene:
    """A server that is killed and started again on its data, and what chance decides."""

    data: Path
    chance: random.Random
    stack: ExitStack
    server: Running

    def kill_something(self) -> str:
        """Kill one mover, or the server with its supervisor and all movers, which is then started again."""
        movers = self.server.movers()
        if movers and self.chance.random() < 0.6:
            try:
                os.kill(self.chance.choice(movers), signal.SIGKILL)
            except ProcessLookupError:
                return "nothing"
            return "mover"
        self.server.kill()
        self.server = self.stack.enter_context(started("dev", self.data))
        return "server"

    def jobs(self) -> list[dict[str, Any]]:
        """Return every job of the organization."""
        found: list[dict[str, Any]] = []
        token: dict[str, str] = {}
        while True:
            page = self.server.client("holdfast").search_jobs(MaxResults=100, **token)
            found += page["Jobs"]
            if "NextToken" not in page:
                return found
            token = {"NextToken": page["NextToken"]}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def lay_trees(shop: Member, count: int, chance: random.Random) -> dict[str, Path]:
    """Register directories, each with some content of its own; return them by ARN."""
    trees = {}
    for number in range(count):
        tree = shop.sandbox / f"tree-{number}"
        tree.mkdir()
        for page in range(4):
            (tree / f"page-{page}").write_bytes(chance.randbytes(chance.randrange(_BYTES)))
        trees[shop.register(f"tree-{number}", tree, Tags={"plan": _TAG})] = tree
    return trees


def run_and_kill(scene: Scene, shop: str, *, kills: int) -> Counter[str]:
    """Let the next run become due, kill this and that while its jobs and their copies are under way; let all end."""
    backup = enter(scene.server, shop).client("backup")
    (plan,) = backup.list_backup_plans()["BackupPlansList"]
    (due,) = backup.get_backup_plan(BackupPlanId=plan["BackupPlanId"], MaxScheduledRunsPreview=1)[
        "ScheduledRunsPreview"
    ]
    scene.server.clock(set=due["ExecutionTime"].isoformat())
    killed: Counter[str] = Counter()
    for _ in range(kills):
        _MACHINE.wait(_NEVER, scene.chance.random() * 0.8)
        killed[scene.kill_something()] += 1
        scene.server.clock(advance_seconds=61)
    eventually(lambda: _all_ended(scene), "every job has ended", patience=240)
    return killed


def _all_ended(scene: Scene) -> bool:
    scene.server.settle(61)
    return all(job["State"] not in {"CREATED", "RUNNING", "ABORTING"} for job in scene.jobs())


def assert_nothing_was_lost(scene: Scene, shop: Member, central: Member, trees: dict[str, Path], runs: int) -> None:
    """Every run has one job for each tree, and each of them one copy; each has made one point, which restores."""
    jobs = scene.jobs()
    assert [job for job in jobs if job["State"] != "COMPLETED"] == []
    by_kind = {kind: [job for job in jobs if job["Kind"] == kind] for kind in ("BACKUP", "COPY")}
    for found in by_kind.values():
        assert Counter(job["ResourceArn"] for job in found) == Counter(dict.fromkeys(trees, runs))
    made = {point["RecoveryPointArn"]: point for point in shop.points()}
    assert set(made) == {job["RecoveryPointArn"] for job in by_kind["BACKUP"]}
    copies = central.points()
    assert len(made) == len(copies) == len(trees) * runs
    assert Counter(job["RecoveryPointArn"] for job in by_kind["COPY"]) == Counter(dict.fromkeys(made, 1))

    storage = Storage(scene.data)
    repositories = repositories_in(scene.data)
    assert len(repositories) == 2, "one for the account's own vault, one for its copies"
    snapshots: dict[str, tuple[Path, list[dict[str, Any]]]] = {}
    for path in repositories:
        # Where a mover was killed its lock may still be there: restic goes by our host's name, not by the process.
        assert "no errors were found" in storage.run(path, "check", "--read-data", "--no-lock")
        for snapshot in storage.snapshots(path):
            (point,) = (tag for tag in snapshot["tags"] if tag.startswith("holdfast:recovery-point="))
            snapshots.setdefault(point.partition("=")[2], (path, []))[1].append(snapshot)
    opened = {
        path: Repository.open(LocalStorage(path), storage.password(path), host_id="test") for path in repositories
    }
    for number, point in enumerate([*made.values(), *copies]):
        path, those = snapshots.pop(point["RecoveryPointArn"].rpartition(":")[2])
        for snapshot in those:
            # A run that was killed may have left one that no row names: rubbish, and still no lie.
            target = scene.data.parent / "restored" / f"{number}-{snapshot['short_id']}"
            target.mkdir(parents=True)
            opened[path].restore(snapshot["id"], target)
            assert _content(target) == _content(trees[point["ResourceArn"]])
    assert snapshots == {}


def _content(tree: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tree.iterdir()}


@pytest.mark.parametrize(
    ("database", "trees", "runs", "kills"),
    [
        pytest.param("sqlite", 5, 1, 3, id="some, sqlite"),
        pytest.param("postgres", 3, 1, 2, id="some, postgres", marks=pytest.mark.postgres),
        pytest.param("sqlite", 20, 5, 10, id="200 jobs, sqlite", marks=pytest.mark.deep),
        pytest.param("postgres", 20, 5, 10, id="200 jobs, postgres", marks=[pytest.mark.deep, pytest.mark.postgres]),
    ],
)
def test_no_job_is_lost_or_done_twice_whatever_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path, stack: ExitStack, database: str, trees: int, runs: int, kills: int
) -> None:
    seed = int(os.environ.get("HOLDFAST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"HOLDFAST_SEED={seed}")  # noqa: T201 - so that a failure can be repeated
    chance = random.Random(seed)  # noqa: S311 - no secret
    settings = f"[server]\nheartbeat_seconds = {_HEARTBEAT}\n"
    if database == "postgres":
        url = request.getfixturevalue("postgres_database").engine.url.render_as_string(hide_password=False)
        settings += f"database = {json.dumps(url)}\n"
    data = tmp_path / "data"
    configured(data, settings)
    scene = Scene(data, chance, stack, stack.enter_context(started("dev", data)))
    server = scene.server
    root = found_organization(server)
    server.client("backup").update_global_settings(GlobalSettings={"isCrossAccountBackupEnabled": "true"})
    shop, central = join(server, "shop"), join(server, "central")
    let_in(central, {"AWS": f"arn:aws:iam::{shop.id}:root"})
    laid = lay_trees(shop, trees, chance)
    organizations = server.client("organizations")
    policy = organizations.create_policy(
        Type="BACKUP_POLICY",
        Name="nightly",
        Description="",
        Content=json.dumps(nightly({vault_arn(central, VAULT): {}}, _TAG)),
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=root)

    killed: Counter[str] = Counter()
    for _ in range(runs):
        killed += run_and_kill(scene, shop.id, kills=kills)
    assert killed["mover"] + killed["server"] > 0
    server = scene.server
    assert_nothing_was_lost(scene, enter(server, shop.id), enter(server, central.id), laid, runs)
