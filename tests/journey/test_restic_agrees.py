"""The independent witness: restic checks every repository that was made, and restores what we restore."""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.journey.restic import Storage, repositories_in, restic
from tests.running import HOLDFAST, PATIENCE, Member, Running, copied, environment, found_organization, holdfast, join
from tests.running import dev as start_dev
from tests.source.conftest import PASSWORD, Server

from holdfast.cli.tree import compare_trees, make_tree
from holdfast.key.service import print_recovery_key

ROWS = 2000


@dataclass(frozen=True)
class Backups:
    """A server with backups of trees and of a database in two accounts."""

    server: Running
    shop: Member
    ledger: Member
    trees: dict[str, Path]
    """What each EFS point has, by its ARN, as it was when it was backed up."""
    points: dict[str, list[dict[str, Any]]]
    jobs: dict[str, str]
    """The job that made a point, by the point's ARN."""
    postgres: Server
    storage: Storage


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Backups]:
    top = tmp_path_factory.mktemp("restic")
    tools = os.pathsep.join((server.tools, os.environ["PATH"]))
    grant = f"postgresql://localhost:{server.port}/"
    with start_dev(top / "data", "--grant", grant, PATH=tools) as running:
        found_organization(running)
        shop, ledger = join(running, "shop"), join(running, "ledger")
        trees: dict[str, Path] = {}
        points: dict[str, list[dict[str, Any]]] = {}
        jobs: dict[str, str] = {}
        for member, theme in ((shop, "shop"), (ledger, "ledger")):
            tree = member.sandbox / "files"
            make_tree(tree, theme=theme, files=10)
            arn = member.register("files", tree)
            for turn in range(2):
                if turn:
                    (tree / "data" / "00" / f"{theme}-0000.dat").write_bytes(b"changed" * 40_000)
                    (tree / "empty.txt").unlink()
                    (tree / "new").mkdir()
                job = member.back_up(arn)
                running.settle(60)
                (made,) = (point for point in member.points() if point["RecoveryPointArn"] not in trees)
                trees[made["RecoveryPointArn"]] = copied(tree, top / f"{theme}-{turn}")
                jobs[made["RecoveryPointArn"]] = job
                points.setdefault(theme, []).append(made)
        with server.connect() as connection:
            connection.execute("CREATE DATABASE orders")
        try:
            server.run(
                "orders",
                "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL)",
                f"INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, {ROWS}) AS n",
            )
            host = {"Scheme": "postgresql", "Host": "localhost", "Port": server.port}
            ledger.client("holdfast").put_secret(Name="orders", Username="postgres", Value=PASSWORD, **host)
            arn = ledger.register("orders", f"{grant}orders", "RDS", SecretName="orders")
            job = ledger.back_up(arn)
            running.settle(60)
            assert ledger.job(job)["State"] == "COMPLETED", ledger.job(job)
            points["orders"] = [point for point in ledger.points() if point["ResourceType"] == "RDS"]
            jobs[points["orders"][0]["RecoveryPointArn"]] = job
            yield Backups(running, shop, ledger, trees, points, jobs, server, Storage(running.data_dir))
        finally:
            server.run("postgres", "DROP DATABASE orders WITH (FORCE)")


def test_restic_finds_no_fault_in_any_repository(backups: Backups) -> None:
    repositories = repositories_in(backups.server.data_dir)
    assert {path.parent.name for path in repositories} == {backups.shop.id, backups.ledger.id}
    for repository in repositories:
        backups.storage.check(repository)


@pytest.mark.parametrize("theme", ["shop", "ledger"])
def test_restic_restores_the_same_tree_as_we_do(backups: Backups, tmp_path: Path, theme: str) -> None:
    member = getattr(backups, theme)
    for turn, point in enumerate(backups.points[theme]):
        kept = backups.trees[point["RecoveryPointArn"]]
        ours = member.restore(point, member.sandbox / f"restored-{turn}")
        theirs = backups.storage.restore(backups.jobs[point["RecoveryPointArn"]], tmp_path / str(turn))
        assert compare_trees(kept, ours)[1] == []
        # restic makes no entry for the root of what it restores, so its mode and time are our restore's alone to bring.
        theirs.chmod(kept.stat().st_mode & 0o7777)
        os.utime(theirs, ns=(kept.stat().st_atime_ns, kept.stat().st_mtime_ns))
        files, differences = compare_trees(ours, theirs)
        # restic 0.14 fills holes unless it is told otherwise, which it only can be since 0.15.
        assert [each for each in differences if each.what != "a hole was filled"] == []
        assert files > 20


def test_a_database_restored_by_us_has_what_restic_restores_as_a_dump(
    backups: Backups, tmp_path: Path, make_database: Callable[..., str]
) -> None:
    (point,) = backups.points["orders"]
    server = backups.postgres
    (dump,) = backups.storage.restore(backups.jobs[point["RecoveryPointArn"]], tmp_path).glob("**/*.pgc")
    theirs = make_database()
    subprocess.run(
        [
            f"{server.tools}/pg_restore",
            *("--exit-on-error", "--single-transaction", "--no-password"),
            *("--host", "127.0.0.1", "--port", str(server.port), "--username", "postgres", "--dbname", theirs),
            dump,
        ],
        env=environment(PGPASSWORD=PASSWORD),
        check=True,
        timeout=PATIENCE,
    )
    try:
        job = backups.ledger.start_restore(point, {"DBInstanceIdentifier": "orders_restored"})
        ended = backups.ledger.restored(job)
        assert ended["Status"] == "COMPLETED", ended
        everything = "SELECT string_agg(item::text, ';' ORDER BY id) FROM item"
        assert server.ask("orders_restored", everything) == server.ask(theirs, everything)
        assert server.ask("orders_restored", "SELECT count(*) FROM item") == ROWS
    finally:
        server.run("postgres", "DROP DATABASE IF EXISTS orders_restored WITH (FORCE)")


def test_the_password_needs_the_right_key_and_is_announced(backups: Backups, tmp_path: Path) -> None:
    repository = repositories_in(backups.server.data_dir)[0]
    command = [*HOLDFAST, "vault", "password", str(repository), "--root-key", str(backups.storage.root_key)]
    assert "snapshot" in restic(repository, "snapshots", RESTIC_PASSWORD_COMMAND=shlex.join(command))
    told = holdfast(*command[len(HOLDFAST) :])
    assert len(told.stdout.strip()) == 44
    assert "warning: the password of vault Central" in told.stderr
    assert told.stdout.strip() not in told.stderr
    other = tmp_path / "other.key"
    other.write_text("A" * 43 + "=\n")
    kit = tmp_path / "recovery.key"
    kit.write_text(print_recovery_key(bytes(range(32))) + "\n")
    refused = {
        "does not open with this root key": (repository, "--root-key", other),
        "is no repository of a vault": (tmp_path, "--root-key", backups.storage.root_key),
        "give --root-key or --recovery-key": (repository,),
        "cannot be read": (repository, "--root-key", tmp_path / "none"),
        "was never sealed to a recovery key": (repository, "--recovery-key", kit),
    }
    for sentence, arguments in refused.items():
        answer = holdfast("vault", "password", *arguments)
        assert answer.returncode != 0
        assert answer.stdout == ""
        assert sentence in answer.stderr
        assert "Traceback" not in answer.stderr
