"""Servers and movers killed or frozen in the middle of a backup: the whole product, and what its client sees."""

import os
import signal
from pathlib import Path
from threading import Event

import pytest
from tests.journey.restic import Storage, repositories_in
from tests.running import (
    Member,
    Running,
    configured,
    copied,
    enter,
    eventually,
    found_organization,
    is_alive,
    join,
    started,
)

from holdfast.cli.tree import compare_trees, make_tree
from holdfast.core.clock import SystemMachineTime

_BIG = 64 << 20
_HEARTBEAT = 1.0
_MACHINE, _NEVER = SystemMachineTime(), Event()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with an organization and one account that has a registered tree; tests copy it."""
    data = tmp_path_factory.mktemp("template") / "data"
    configured(data, f"[server]\nheartbeat_seconds = {_HEARTBEAT}\n")
    with started("dev", data) as server:
        found_organization(server)
        member = join(server, "shop")
        (data.parent / "account").write_text(member.id)
        assert server.stop() == 0
    return data


@pytest.fixture
def data(template: Path, tmp_path: Path) -> Path:
    (tmp_path / "account").write_text((template.parent / "account").read_text())
    return copied(template, tmp_path / "data")


def shop_of(server: Running) -> Member:
    return enter(server, (server.data_dir.parent / "account").read_text())


def tree_of(member: Member) -> Path:
    tree = member.sandbox / "files"
    make_tree(tree, theme="shop", files=8)
    (tree / "big").write_bytes(os.urandom(_BIG))
    return tree


def caught_in_the_middle(server: Running) -> int:
    """Stop the mover as soon as it has written a pack, long before the end; return its number."""

    def writing() -> bool:
        packs = (path for repository in (server.data_dir / "storage").glob("**/data") for path in repository.rglob("*"))
        return any(path.is_file() for path in packs)

    (mover,) = eventually(server.movers, "a mover is there")
    eventually(writing, "the first pack is written")
    os.kill(mover, signal.SIGSTOP)
    return mover


def assert_one_good_point(member: Member, job: str, tree: Path) -> None:
    """The job completed; what is listed is once, and restores; restic finds no fault in what the crash left."""
    done = member.job(job)
    assert done["State"] == "COMPLETED", done
    (point,) = member.points()
    assert point["RecoveryPointArn"] == done["RecoveryPointArn"]
    restored = member.restore(point, member.sandbox / "restored")
    assert compare_trees(tree, restored)[1] == []
    storage = Storage(member.server.data_dir)
    (repository,) = repositories_in(member.server.data_dir)
    assert [each["tags"] for each in storage.snapshots(repository)] == [storage.snapshot_of(job)["tags"]]
    storage.check(repository)
    # And the next backup of the same resource is none the worse for it.
    again = member.back_up(done["ResourceArn"])
    member.server.settle(60)
    assert member.job(again)["State"] == "COMPLETED"


def epoch_of(data: Path, job: str) -> int:
    tags: list[str] = Storage(data).snapshot_of(job)["tags"]
    (epoch,) = (tag.removeprefix("holdfast:epoch=") for tag in tags if tag.startswith("holdfast:epoch="))
    return int(epoch)


def test_a_mover_killed_in_the_middle_is_followed_by_another(data: Path) -> None:
    with started("dev", data) as server:
        shop = shop_of(server)
        tree = tree_of(shop)
        job = shop.back_up(shop.register("files", tree))
        mover = caught_in_the_middle(server)
        assert shop.job(job)["State"] == "RUNNING"
        assert shop.points() == []
        os.kill(mover, signal.SIGKILL)
        server.settle(3600)
        assert_one_good_point(shop, job, tree)
        assert epoch_of(data, job) == 2


def test_a_server_killed_in_the_middle_goes_on_when_it_is_started_again(data: Path) -> None:
    with started("dev", data) as server:
        shop = shop_of(server)
        tree = tree_of(shop)
        job = shop.back_up(shop.register("files", tree))
        caught_in_the_middle(server)
        server.kill()
    with started("dev", data) as server:
        shop = shop_of(server)
        assert shop.job(job)["State"] in {"CREATED", "RUNNING", "COMPLETED"}
        server.settle(3600)
        assert_one_good_point(shop, job, tree)
        assert epoch_of(data, job) == 2


def test_a_frozen_mover_is_replaced_and_commits_nothing_when_it_wakes(data: Path) -> None:
    with started("dev", data) as server:
        shop = shop_of(server)
        tree = tree_of(shop)
        job = shop.back_up(shop.register("files", tree))
        mover = caught_in_the_middle(server)
        server.settle(3600)
        if is_alive(mover):
            os.kill(mover, signal.SIGCONT)
        eventually(lambda: not is_alive(mover), "the mover that lost its job ends")
        assert_one_good_point(shop, job, tree)
        assert epoch_of(data, job) == 2


def test_a_frozen_server_goes_on_when_it_wakes(data: Path) -> None:
    """Its mover hears nothing for long, and must not write a snapshot on its own account."""
    with started("dev", data) as server:
        shop = shop_of(server)
        tree = tree_of(shop)
        job = shop.back_up(shop.register("files", tree))
        mover = caught_in_the_middle(server)
        server.process.send_signal(signal.SIGSTOP)
        os.kill(mover, signal.SIGCONT)
        try:
            _MACHINE.wait(_NEVER, _HEARTBEAT * 5)
            assert Storage(data).snapshots_of(job) == []
        finally:
            server.process.send_signal(signal.SIGCONT)
        server.settle(3600)
        assert_one_good_point(shop, job, tree)


def test_one_directory_has_one_server(data: Path) -> None:
    with started("dev", data) as server, pytest.raises(AssertionError, match="is served already"), started("dev", data):
        raise RuntimeError(f"two servers at once on {server.data_dir}")
