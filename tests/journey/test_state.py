"""The control database is lost, moved, and killed in the middle; what was protected stays protected."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import database_on
from tests.running import HOLDFAST, copied, environment, found_organization, holdfast, join, refusal, started

from holdfast.cli.tree import compare_trees, make_tree


@contextmanager
def interrupted(*arguments: str | Path, at: str) -> Iterator[None]:
    """Run the command line and kill it when it has said something that begins with `at`."""
    command = [*HOLDFAST, *map(str, arguments)]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.decode().startswith(at):
                break
        process.kill()
        assert process.wait() == -signal.SIGKILL
    yield


def test_a_lost_database_comes_back_from_its_last_state_and_from_what_storage_knows_since(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kept: dict[str, Path] = {}
    with started("dev", data) as server:
        root = found_organization(server)
        shop = join(server, "shop")
        tree = shop.sandbox / "files"
        make_tree(tree, theme="shop", files=6)
        arn = shop.register("files", tree)
        shop.back_up(arn)
        server.settle(60)
        kept[shop.points()[0]["RecoveryPointArn"]] = copied(tree, tmp_path / "first")
        busy = holdfast("state", "save", "--data-dir", data)
        assert busy.returncode == 1
        assert "is served already" in busy.stderr
    saved = holdfast("state", "save", "--data-dir", data, "--json")
    assert saved.returncode == 0, saved.stderr
    state = json.loads(saved.stdout)["id"]

    with started("dev", data) as server:
        shop = type(shop)(server, shop.id, shop.credentials)
        (tree / "later").write_text("after the state was saved")
        shop.back_up(arn)
        server.settle(60)
        (newer,) = {each["RecoveryPointArn"] for each in shop.points()} - set(kept)
        kept[newer] = copied(tree, tmp_path / "second")
        shop.client("iam").create_user(UserName="forgotten")
        listed = shop.points()
    for lost in data.glob("control.db*"):
        lost.unlink()

    told = holdfast("state", "restore", "--data-dir", data, "--json")
    assert told.returncode == 0, told.stderr
    restored = json.loads(told.stdout)
    assert restored["state"]["id"] == state
    assert {"account": shop.id, "operation": "iam:CreateUser", "calls": 1} in restored["forgotten"]
    again = holdfast("state", "restore", "--data-dir", data)
    assert again.returncode == 1
    assert "--replace" in again.stderr

    with started("dev", data) as server:
        shop = type(shop)(server, shop.id, shop.credentials)
        assert server.client("organizations").list_roots()["Roots"][0]["Id"] == root
        assert shop.points() == listed
        assert refusal(shop.client("iam").get_user, UserName="forgotten")[0] == "NoSuchEntity"
        for number, point in enumerate(listed):
            back = shop.restore(point, shop.sandbox / f"back-{number}")
            assert compare_trees(kept[point["RecoveryPointArn"]], back)[1] == []
    verified = holdfast("audit", "verify", "--data-dir", data)
    assert verified.returncode == 0, verified.stdout


def test_a_killed_restore_is_finished_by_the_next_and_no_server_starts_between(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert holdfast("init", "--data-dir", data, "--account-id", "111122223333").returncode == 0
    assert holdfast("state", "save", "--data-dir", data).returncode == 0
    with interrupted("state", "restore", "--data-dir", data, "--replace", at="iam_user"):
        refused = holdfast("serve", "--data-dir", data, "--port", "0")
    assert refused.returncode == 1
    assert "was interrupted" in refused.stderr
    again = holdfast("state", "restore", "--data-dir", data, "--replace")
    assert again.returncode == 0, again.stderr
    assert list(data.glob("control.db.replaced-by-*"))
    with started("serve", data) as server:
        assert server.ask("/_holdfast/health")[0] == 200


def test_a_running_server_saves_states_and_a_new_machine_starts_from_one(tmp_path: Path) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    assert holdfast("init", "--data-dir", data, "--account-id", "111122223333").returncode == 0
    with started("serve", data):
        listed = json.loads(holdfast("state", "list", "--data-dir", data, "--json").stdout)
    assert len(listed["states"]) == 1
    shutil.move(data / "storage", tmp_path / "storage")
    key = tmp_path / "root.key"
    shutil.move(data / "root.key", key)
    shutil.rmtree(data)
    empty = holdfast("serve", "--data-dir", other)
    assert "there is no data directory" in empty.stderr
    told = holdfast("state", "restore", "--data-dir", other, "--storage", tmp_path / "storage", "--root-key", key)
    assert told.returncode == 0, told.stderr
    with started("serve", other):
        pass
    (other / "control.db").unlink()
    lost = holdfast("serve", "--data-dir", other)
    assert lost.returncode == 5
    assert "holdfast state restore" in lost.stderr


@pytest.mark.postgres
def test_a_database_that_moved_to_postgresql_means_the_same_there(tmp_path: Path, postgres_url: str) -> None:
    data = tmp_path / "data"
    with started("dev", data) as server:
        root = found_organization(server)
        shop = join(server, "shop")
        tree = shop.sandbox / "files"
        make_tree(tree, theme="shop", files=6)
        shop.back_up(shop.register("files", tree))
        server.settle(60)
        listed, jobs = shop.points(), shop.client("backup").list_backup_jobs()["BackupJobs"]

    with database_on(postgres_url) as made:
        url = made.set(drivername="postgresql").render_as_string(hide_password=False)
        with interrupted("database", "move", "--data-dir", data, "--to", url, at="job"):
            pass
        moved = holdfast("database", "move", "--data-dir", data, "--to", url)
        assert moved.returncode == 0, moved.stderr
        assert "read back and compared" in moved.stdout
        stale = holdfast("dev", "--data-dir", data)
        assert stale.returncode == 1
        assert "was moved to" in stale.stderr
        (data / "holdfast.toml").write_text(f"[server]\ndatabase = {json.dumps(url)}\n")
        with started("dev", data) as server:
            shop = type(shop)(server, shop.id, shop.credentials)
            assert server.client("organizations").list_roots()["Roots"][0]["Id"] == root
            assert shop.points() == listed
            assert shop.client("backup").list_backup_jobs()["BackupJobs"] == jobs
            back = shop.restore(listed[0], shop.sandbox / "back")
            assert compare_trees(tree, back)[1] == []
        checked = holdfast("upgrade", "--check", "--data-dir", data)
        assert (checked.returncode, checked.stdout) == (0, "schema 0001: up to date\n")
