"""The job engine: started, stopped and started again on our database, and never unpickling anything."""

import base64
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from holdfast.core.clock import SystemMachineTime
from holdfast.database.connection import Database
from holdfast.job.dispatch import Handover, Lane
from holdfast.job.engine import APPLICATION_VERSION, Body, Engine, EngineRunningError, PickleRefusedError, refuse_pickle

MACHINE_TIME = SystemMachineTime()
LANE = Lane("local", 3)


@contextmanager
def running(database: Database, body: Body) -> Iterator[Engine]:
    engine = Engine.start(database, executor="serve", lanes=[LANE], body=body, machine=MACHINE_TIME)
    try:
        yield engine
    finally:
        engine.stop()


def eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    end = MACHINE_TIME.monotonic() + seconds
    never = threading.Event()
    while not true():
        assert MACHINE_TIME.monotonic() < end, "did not come true in time"
        MACHINE_TIME.wait(never, 0.02)


def hand_over(database: Database, engine: Engine, *jobs: str) -> None:
    with database.transaction() as tx:
        engine.hand_over(tx, [Handover(job, 4, LANE.queue) for job in jobs], machine_now=MACHINE_TIME.now())


def table(database: Database, name: str) -> str:
    return name if database.is_sqlite else f"dbos.{name}"


def test_two_engines_after_each_other_run_what_they_are_given_and_leave_no_thread(database: Database) -> None:
    before = threading.active_count()
    for turn in range(2):
        ran: list[tuple[str, int]] = []

        def body(job_id: str, epoch: int, ran: list[tuple[str, int]] = ran) -> None:
            ran.append((job_id, epoch))

        with running(database, body) as engine:
            jobs = [f"job-{turn}-{n}" for n in range(5)]
            hand_over(database, engine, *jobs)
            eventually(lambda ran=ran: len(ran) == 5)  # type: ignore[misc] # the list of this turn
            assert sorted(ran) == [(job, 4) for job in jobs]
        assert threading.active_count() == before


def test_one_process_runs_one_engine(sqlite_database: Database) -> None:
    with running(sqlite_database, lambda _job, _epoch: None), pytest.raises(EngineRunningError):
        Engine.start(sqlite_database, executor="other", lanes=[], body=lambda _job, _epoch: None, machine=MACHINE_TIME)


def test_a_hand_over_that_is_rolled_back_never_happened(database: Database) -> None:
    ran: list[str] = []

    def hand_over_and_fail(engine: Engine) -> None:
        with database.transaction() as tx:
            engine.hand_over(tx, [Handover("gone", 0, LANE.queue)], machine_now=MACHINE_TIME.now())
            raise ValueError("stop")

    with running(database, lambda job, _epoch: ran.append(job)) as engine:
        with pytest.raises(ValueError, match="stop"):
            hand_over_and_fail(engine)
        hand_over(database, engine, "kept")
        eventually(lambda: bool(ran))
        assert engine.under_way() <= {("kept", 4)}
    assert ran == ["kept"]


def test_no_more_jobs_run_at_once_than_the_lane_has_movers(database: Database) -> None:
    going, peak, lock = 0, 0, threading.Lock()
    more, let_go = threading.Semaphore(0), threading.Event()

    def body(_job: str, _epoch: int) -> None:
        nonlocal going, peak
        with lock:
            going += 1
            peak = max(peak, going)
        more.release()
        let_go.wait(20)
        with lock:
            going -= 1

    with running(database, body) as engine:
        hand_over(database, engine, *(f"j{n}" for n in range(6)))
        for _ in range(LANE.concurrency):
            assert more.acquire(timeout=20)
        assert len(engine.under_way()) == 6
        let_go.set()
        eventually(lambda: engine.under_way() == set())
    assert peak == LANE.concurrency


def test_finished_runs_are_purged(database: Database) -> None:
    ran: list[str] = []
    with running(database, lambda job, _epoch: ran.append(job)) as engine:
        hand_over(database, engine, "a", "b")
        eventually(lambda: len(ran) == 2 and engine.under_way() == set())
        assert engine.purge(before=MACHINE_TIME.now() - timedelta(hours=1)) == 0
        assert engine.purge(before=MACHINE_TIME.now() + timedelta(hours=1)) == 2
        with database.reading() as tx:
            left = {
                name: tx.execute(text(f"SELECT count(*) FROM {table(database, name)}")).scalar_one()
                for name in ("workflow_status", "workflow_input", "workflow_output")
            }
    assert left == {"workflow_status": 0, "workflow_input": 0, "workflow_output": 0}


class _Explosive:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (os.mkdir, (str(self.path),))


def _pickled(path: Path) -> str:
    import pickle  # noqa: PLC0415, TID251 - what an attacker would do, and only here

    return base64.b64encode(pickle.dumps(_Explosive(path))).decode()


def test_a_row_that_says_it_was_pickled_is_refused(database: Database, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    ran: list[str] = []
    with running(database, lambda job, _epoch: ran.append(job)) as engine:
        hand_over(database, engine, "honest")
        eventually(lambda: engine.under_way() == set())
        with database.transaction() as tx:
            status, inputs = table(database, "workflow_status"), table(database, "workflow_input")
            tx.execute(
                text(f"""
                    INSERT INTO {status} (workflow_uuid, status, name, queue_name, application_version, priority,
                                          created_at, updated_at, recovery_attempts, serialization, application_name)
                    VALUES ('evil:4:1', 'ENQUEUED', 'job', :queue, :version, 0, 1, 1, 0, 'py_pickle', 'holdfast')
                """),
                {"queue": LANE.queue, "version": APPLICATION_VERSION},
            )
            tx.execute(
                text(f"INSERT INTO {inputs} (workflow_uuid, inputs) VALUES ('evil:4:1', :inputs)"),
                {"inputs": _pickled(harm)},
            )
        hand_over(database, engine, "after")
        eventually(lambda: ran == ["honest", "after"] and engine.under_way() == set())
        with database.reading() as tx:
            ended = tx.execute(text(f"SELECT status FROM {status} WHERE workflow_uuid = 'evil:4:1'")).scalar_one()
    assert ended == "ERROR"
    assert not harm.exists()


def test_nothing_in_the_process_unpickles_for_dbos(tmp_path: Path) -> None:
    from dbos import _serialization  # noqa: PLC0415 - the very functions that the tables' readers call

    refuse_pickle()
    harm = tmp_path / "harm"
    pickled, name, portable = _pickled(harm), "py_pickle", _serialization.DBOSPortableJSON
    for read in (
        _serialization.deserialize_value,
        _serialization.deserialize_args,
        _serialization.deserialize_exception,
    ):
        with pytest.raises(PickleRefusedError, match="not opened"):
            read(pickled, name, portable)
    with pytest.raises(PickleRefusedError):
        _serialization.DefaultSerializer().deserialize(pickled)
    assert not harm.exists()
