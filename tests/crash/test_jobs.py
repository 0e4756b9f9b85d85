"""Movers and servers that are killed or frozen in the middle of a backup. Real processes, real signals."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.job.world import World, eventually, restic_check, running

from holdfast.job.model import State

_SLOW = 60_000
_SIZE = 10_000
_FILES = 40

Server = subprocess.Popen[bytes]


@pytest.fixture(params=["sqlite_database", pytest.param("postgres_database", marks=pytest.mark.deep)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    made = World(tmp_path, request.getfixturevalue(request.param))
    made.lay_out()
    made.a_tree("www", files=_FILES, size=_SIZE)
    return made


@contextmanager
def a_server(world: World, executor: str = "serve", *, rate: int = 0, die_at: str = "-") -> Iterator[Server]:
    """Start a process that runs jobs; it is killed in the end if it is still there."""
    url = world.database.engine.url.render_as_string(hide_password=False)
    arguments = [url, str(world.root), executor, str(rate), str(world.heartbeat.total_seconds()), die_at]
    repository = Path(__file__).parents[2]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.job_server", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=repository,
        env={**os.environ, "PYTHONPATH": f"{repository / 'src'}{os.pathsep}{repository}"},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        while (line := server.stdout.readline()) != b"ready\n":
            assert line, "the server did not start"
        yield server
    finally:
        if server.poll() is None:
            os.kill(server.pid, signal.SIGCONT)
            server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()


def movers_of(server: Server) -> list[int]:
    """Return the processes that a server has started."""
    children = Path(f"/proc/{server.pid}/task").glob("*/children")
    return [int(child) for path in children for child in path.read_text().split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_one_good_point(world: World) -> None:
    """What is listed restores; what is listed is once; and restic finds nothing wrong with what the crash left."""
    (snapshot,) = world.points()
    target = world.root / "restored" / "compared"
    world.repository().restore(snapshot, target)
    wanted = {path.name: path.read_bytes() for path in (world.data / "www").iterdir()}
    assert {path.name: path.read_bytes() for path in target.iterdir()} == wanted
    restic_check(world, locked_by_the_dead=True)


def test_a_killed_mover_costs_a_try_and_nothing_else(world: World) -> None:
    world.read_bytes_per_second = _SLOW
    with running(world) as supervisor:
        job = world.backup("www")
        world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
        (mover,) = supervisor.movers
        os.kill(mover, signal.SIGKILL)
        waiting = world.until(job, lambda found: found.state is State.CREATED, tick=supervisor)
        assert "SIGKILL" in (waiting.message or "")
        assert waiting.retry_at is not None
        world.read_bytes_per_second = 0
        world.pretend(job, retry_at=None)
        done = world.until_ended(job, tick=supervisor)
    assert (done.state, done.attempts) == (State.COMPLETED, 2)
    assert world.states(job) == [State.RUNNING, State.CREATED, State.RUNNING, State.COMPLETED]
    assert_one_good_point(world)


def test_a_killed_mover_leaves_no_lock_and_those_of_others_stay(world: World) -> None:
    """A sweep, and a user's own restic, need not wait until the lock of the dead is stale."""
    world.read_bytes_per_second = _SLOW
    ours, elsewhere = world.repository(), world.repository()
    elsewhere.host_id = "another-host"
    with running(world) as supervisor, ours.locked(exclusive=False), elsewhere.locked(exclusive=False):
        others = {lock.id for lock in ours.locks()}
        job = world.backup("www")
        world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
        (mover,) = supervisor.movers
        assert [lock.pid for lock in ours.locks() if lock.id not in others] == [mover]
        os.kill(mover, signal.SIGKILL)
        world.until(job, lambda found: found.state is State.CREATED, tick=supervisor)
        assert {lock.id for lock in ours.locks()} == others
    restic_check(world)
    ours.carry_out_sweep()


def test_a_killed_server_takes_its_movers_along_and_the_next_one_completes_the_job(world: World) -> None:
    job = world.backup("www")
    with a_server(world, rate=_SLOW) as first:
        world.until(job, lambda found: found.bytes_done > 0)
        movers = movers_of(first)
        assert movers
        first.kill()
        first.wait()
        eventually(lambda: not any(is_alive(mover) for mover in movers))
    assert world.job(job).state is State.RUNNING
    assert world.points() == []
    with a_server(world):
        done = world.until_ended(job)
    assert (done.state, done.epoch) == (State.COMPLETED, 2)
    assert_one_good_point(world)


def test_a_server_that_is_told_to_end_leaves_nothing_running(world: World) -> None:
    job = world.backup("www")
    with a_server(world, rate=_SLOW) as server:
        world.until(job, lambda found: found.bytes_done > 0)
        movers = movers_of(server)
        assert server.stdin is not None
        server.stdin.close()
        assert server.wait(30) == 0
        assert not any(is_alive(mover) for mover in movers)
    assert world.job(job).state is State.RUNNING


def test_a_frozen_mover_is_given_up_and_commits_nothing_when_it_wakes(world: World) -> None:
    world.read_bytes_per_second = _SLOW
    with running(world) as supervisor:
        job = world.backup("www")
        world.until(job, lambda found: found.bytes_done > 0, tick=supervisor)
        (mover,) = supervisor.movers
        os.kill(mover, signal.SIGSTOP)
        world.until(job, lambda found: found.state is State.CREATED, tick=supervisor)
        assert not is_alive(mover)
        world.read_bytes_per_second = 0
        world.pretend(job, retry_at=None)
        done = world.until_ended(job, tick=supervisor)
    assert done.state is State.COMPLETED
    assert_one_good_point(world)


def test_a_frozen_server_is_taken_over_and_commits_nothing_when_it_wakes(world: World) -> None:
    """Server and mover stop dead in mid-job; another process takes the job over; then both wake up and go on."""
    job = world.backup("www")
    with a_server(world, "one", rate=_SLOW) as frozen:
        world.until(job, lambda found: found.bytes_done > 0)
        (mover,) = movers_of(frozen)
        for process in (frozen.pid, mover):
            os.kill(process, signal.SIGSTOP)
        with a_server(world, "two"):
            done = world.until_ended(job)
            assert (done.state, done.epoch, done.mover) == (State.COMPLETED, 2, "two")
        for process in (mover, frozen.pid):
            os.kill(process, signal.SIGCONT)
        eventually(lambda: not is_alive(mover))
        eventually(lambda: world.repository().locks() == [] or world.repository().unlock() != [])
        assert world.job(job) == done
        (snapshot,) = world.repository().snapshots()
        assert "holdfast:epoch=2" in snapshot.tags
    assert_one_good_point(world)


def test_a_snapshot_that_was_written_just_before_the_crash_is_adopted_by_the_next_run(world: World) -> None:
    """The server dies between the snapshot and the row: the next run of the same job takes the snapshot as its own."""
    job = world.backup("www")
    world.catalogue_is_broken = True
    with running(world) as supervisor:
        waiting = world.until(job, lambda found: found.state is State.CREATED and found.attempts == 1, tick=supervisor)
        assert "could not be recorded" in (waiting.message or "")
        assert world.points() == []
        world.catalogue_is_broken = False
        (world.data / "www" / "file-0000").write_bytes(b"changed since")
        world.pretend(job, retry_at=None)
        done = world.until_ended(job, tick=supervisor)
    (snapshot,) = world.repository().snapshots()
    assert world.points() == [snapshot.id]
    assert done.result["adopted"]
    assert done.result["brought"]["files"] == _FILES


@pytest.mark.parametrize(
    ("duty", "adopted"),
    [
        pytest.param("prepare", False, marks=pytest.mark.deep),
        pytest.param("make_ready", False, marks=pytest.mark.deep),
        pytest.param("record", True, marks=pytest.mark.deep),
        ("catalogue", True),
    ],
)
def test_a_server_that_dies_at_any_step_leaves_one_snapshot_and_the_next_one_lists_it(
    world: World, duty: str, adopted: bool
) -> None:
    """Before the mover, after the snapshot, before the record, in the transaction that ends the job."""
    job = world.backup("www")
    with a_server(world, die_at=duty) as dying:
        assert dying.wait(60) == -signal.SIGKILL
    assert world.job(job).state is State.RUNNING
    assert world.points() == []
    assert len(world.repository().snapshots()) == adopted
    with a_server(world):
        done = world.until_ended(job)
    assert (done.state, done.epoch, done.result["adopted"]) == (State.COMPLETED, 2, adopted)
    (snapshot,) = world.repository().snapshots()
    assert world.points() == [snapshot.id]
    assert_one_good_point(world)
