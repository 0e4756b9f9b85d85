"""Jobs from end to end, with the real engine, real movers and a real repository."""

import threading
from pathlib import Path

import pytest
from tests.job.world import MACHINE_TIME, World, eventually, restic_check, running

from holdfast.core.settings import HostGrant
from holdfast.database.connection import Database
from holdfast.job import service
from holdfast.job.model import Category, State
from holdfast.job.supervisor import Refusal


@pytest.fixture
def world(sqlite_database: Database, tmp_path: Path) -> World:
    made = World(tmp_path, sqlite_database)
    made.lay_out()
    return made


def test_a_backup_makes_a_recovery_point_that_restores(world: World) -> None:
    tree = world.a_tree("www")
    with running(world) as supervisor:
        done = world.until_ended(world.backup("www"), tick=supervisor)
        assert (done.state, done.message) == (State.COMPLETED, None)
        target = world.root / "restored" / "www"
        restored = world.until_ended(
            world.restore(
                done.recovery_point_id or "",
                **{"newFileSystem": "true", "holdfast:target-url": f"file://{target}"},
            ),
            tick=supervisor,
        )
    assert (restored.state, restored.message) == (State.COMPLETED, None)
    assert {f.name: f.read_bytes() for f in target.iterdir()} == {f.name: f.read_bytes() for f in tree.iterdir()}
    assert done.bytes_done == 20_000
    assert done.percent == 100
    snapshot = world.repository().snapshot(world.points()[0])
    assert set(snapshot.tags) == {
        f"holdfast:recovery-point={done.recovery_point_id}",
        f"holdfast:job={done.id}",
        "holdfast:epoch=1",
        f"holdfast:resource={done.resource_arn}",
    }
    restic_check(world)


def test_a_second_backup_reads_only_what_changed(world: World) -> None:
    tree = world.a_tree("www")
    with running(world) as supervisor:
        first = world.until_ended(world.backup("www"), tick=supervisor)
        (tree / "file-0000").write_bytes(b"changed")
        second = world.until_ended(world.backup("www"), tick=supervisor)
    assert second.result["brought"]["bytes_read"] == len(b"changed")
    assert second.result["brought"]["bytes_total"] == 19_007
    assert world.points() == [first.result["snapshot_id"], second.result["snapshot_id"]]


def test_a_mover_serves_one_job_after_another(world: World) -> None:
    for name in ("a", "b", "c"):
        world.a_tree(name, files=3)
    seen = []
    with running(world) as supervisor:
        for name in ("a", "b", "c"):
            world.until_ended(world.backup(name), tick=supervisor)
            seen.append(supervisor.movers)
    assert len(seen[0]) == 1
    assert seen == [seen[0]] * 3


def test_what_could_not_be_read_is_said_by_the_job_and_its_point(world: World) -> None:
    tree = world.a_tree("www", files=30)
    world.read_bytes_per_second = 10_000
    with running(world) as supervisor:
        job = world.backup("www")
        world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
        (tree / "file-0029").unlink()
        done = world.until_ended(job, tick=supervisor)
    assert done.state is State.COMPLETED
    assert done.category is Category.MISCELLANEOUS
    assert "file-0029: vanished" in (done.message or "")
    assert done.result["brought"]["problems"] == 1


def test_a_source_that_is_missing_fails_the_job_and_says_so(world: World) -> None:
    with running(world) as supervisor:
        failed = world.until_ended(world.backup("nothing"), tick=supervisor)
    assert (failed.state, failed.category) == (State.FAILED, Category.RESOURCE_NOT_FOUND)
    assert "nothing" in (failed.message or "")
    assert world.points() == []


def test_a_source_outside_of_the_hosts_own_list_is_not_read(world: World) -> None:
    world.a_tree("www")
    world.host_grants = (HostGrant(f"file://{world.root}/elsewhere"),)
    with running(world) as supervisor:
        failed = world.until_ended(world.backup("www"), tick=supervisor)
    assert (failed.state, failed.category) == (State.FAILED, Category.ACCESS_DENIED)
    assert world.points() == []


def test_a_job_that_may_not_be_done_ends_with_the_blockers_words(world: World) -> None:
    world.a_tree("www")
    world.refuse = Refusal("the role backup does not trust backup.amazonaws.com", Category.ACCESS_DENIED)
    with running(world) as supervisor:
        failed = world.until_ended(world.backup("www"), tick=supervisor)
    assert (failed.state, failed.message) == (State.FAILED, "the role backup does not trust backup.amazonaws.com")


def test_a_running_job_that_is_stopped_commits_nothing(world: World) -> None:
    world.a_tree("www", files=50, size=10_000)
    world.read_bytes_per_second = 50_000
    with running(world) as supervisor:
        job = world.backup("www")
        started = world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
        with world.database.transaction() as tx:
            service.request_stop(tx, started, now=MACHINE_TIME.now(), machine_now=MACHINE_TIME.now())
        stopped = world.until_ended(job, tick=supervisor)
    assert (stopped.state, stopped.message) == (State.ABORTED, "Backup job was stopped by user.")
    assert world.states(job) == [State.RUNNING, State.ABORTING, State.ABORTED]
    assert world.points() == []
    assert world.repository().snapshots() == []


def test_one_resource_is_read_by_one_job_at_a_time(world: World) -> None:
    world.a_tree("www", files=20, size=10_000)
    world.read_bytes_per_second = 150_000
    with running(world) as supervisor:
        jobs = [world.backup("www") for _ in range(3)]
        going = 0

        def all_ended() -> bool:
            nonlocal going
            supervisor.tick()
            states = [world.job(job).state for job in jobs]
            going = max(going, states.count(State.RUNNING))
            return all(world.job(job).has_ended for job in jobs)

        eventually(all_ended)
    assert [world.job(job).state for job in jobs] == [State.COMPLETED] * 3
    assert going == 1


def test_a_restore_goes_only_where_the_host_lets_it(world: World) -> None:
    world.a_tree("www", files=2)
    with running(world) as supervisor:
        done = world.until_ended(world.backup("www"), tick=supervisor)
        elsewhere = world.root / "elsewhere"
        job = world.restore(
            done.recovery_point_id or "", **{"newFileSystem": "true", "holdfast:target-url": f"file://{elsewhere}"}
        )
        failed = world.until_ended(job, tick=supervisor)
    assert (failed.state, failed.category) == (State.FAILED, Category.ACCESS_DENIED)
    assert not elsewhere.exists()


def test_a_restore_of_nothing_that_the_point_holds_fails_and_of_something_says_what_is_missing(world: World) -> None:
    world.a_tree("www", files=2)
    target = world.root / "restored" / "www"
    with running(world) as supervisor:
        done = world.until_ended(world.backup("www"), tick=supervisor)
        metadata = {"newFileSystem": "true", "holdfast:target-url": f"file://{target}", "ItemsToRestore": '["/gone"]'}
        failed = world.until_ended(world.restore(done.recovery_point_id or "", **metadata), tick=supervisor)
        metadata["ItemsToRestore"] = '["/file-0001", "/gone"]'
        restored = world.until_ended(world.restore(done.recovery_point_id or "", **metadata), tick=supervisor)
    assert (failed.state, failed.category) == (State.FAILED, Category.RESOURCE_NOT_FOUND)
    assert "/gone" in (failed.message or "")
    assert (restored.state, restored.category) == (State.COMPLETED, Category.MISCELLANEOUS)
    assert "/gone" in (restored.message or "")
    assert [found.name for found in target.iterdir()] == ["file-0001"]


def test_the_next_server_goes_on_with_what_the_last_one_left_running(world: World) -> None:
    world.a_tree("www", files=50, size=10_000)
    world.read_bytes_per_second = 50_000
    with running(world) as supervisor:
        job = world.backup("www")
        world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
    assert world.job(job).state is State.RUNNING
    world.read_bytes_per_second = 0
    with running(world) as supervisor:
        done = world.until_ended(job, tick=supervisor)
    assert (done.state, done.epoch) == (State.COMPLETED, 2)
    assert len(world.points()) == 1


def test_a_job_that_outlives_its_completion_window_expires_and_commits_nothing(world: World) -> None:
    world.a_tree("www", files=50, size=10_000)
    world.read_bytes_per_second = 20_000
    with running(world) as supervisor:
        job = world.backup("www")
        world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
        world.pretend(job, complete_by=1)
        expired = world.until_ended(job, tick=supervisor)
    assert (expired.state, expired.message) == (State.EXPIRED, "Backup job expired before completion.")
    assert world.repository().snapshots() == []


def test_slow_work_around_a_backup_is_no_silence(world: World) -> None:
    world.a_tree("www", files=2)
    slow = world.silence + world.heartbeat

    def take_long(*_anything: object) -> None:
        MACHINE_TIME.wait(threading.Event(), slow.total_seconds())

    world.make_ready = world.record = take_long
    with running(world) as supervisor:
        done = world.until_ended(world.backup("www"), tick=supervisor)
    assert (done.state, done.epoch) == (State.COMPLETED, 1)


def test_a_run_that_lost_its_job_during_slow_work_ends_without_a_word(world: World) -> None:
    world.a_tree("www", files=2)
    held, let_go = threading.Event(), threading.Event()

    def hold(*_anything: object) -> None:
        held.set()
        let_go.wait(60)

    world.record = hold
    with running(world) as supervisor:
        job = world.backup("www")
        eventually(lambda: bool(supervisor.tick()) or held.is_set())
        eventually(held.is_set)
        with world.database.transaction() as tx:
            taken = service.claim(
                tx, job.id, 1, now=MACHINE_TIME.now(), machine_now=MACHINE_TIME.now(), mover="another process"
            )
        assert taken is not None
        let_go.set()
    present = world.job(job)
    assert (present.state, present.epoch, present.mover) == (State.RUNNING, 2, "another process")
    assert world.points() == []


def test_a_supervisor_that_was_stopped_can_be_started_again(world: World) -> None:
    world.a_tree("www", files=2)
    supervisor = world.supervisor()
    for _ in range(2):
        supervisor.start()
        try:
            done = world.until_ended(world.backup("www"), tick=supervisor)
            assert done.state is State.COMPLETED
        finally:
            supervisor.stop()
    assert supervisor.movers == []
