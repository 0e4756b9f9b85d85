"""Movers as processes: what they know, when they end, and that they never commit unasked."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.job.builders import NOON
from tests.job.world import MACHINE_TIME, PASSWORD, eventually

from holdfast.core.settings import HostGrant
from holdfast.job import movers as movers_module
from holdfast.job.model import Category, Kind
from holdfast.job.movers import Mover, MoverGoneError, Movers
from holdfast.job.protocol import (
    BackupWork,
    Commit,
    Continue,
    FromMover,
    GaveUp,
    Host,
    Place,
    ProgressMade,
    ReadyToCommit,
    RepositoryAccess,
    RestoreWork,
    Result,
    Stop,
    Ticket,
    WentWrong,
)
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage

COMMIT = Commit("job-1", 3)
BEAT = timedelta(seconds=0.2)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    path = tmp_path / "storage" / "vault"
    Repository.create(LocalStorage(path), PASSWORD, host_id="here", at=datetime(2026, 1, 1, tzinfo=UTC))
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "www"
    path.mkdir()
    for number in range(30):
        (path / f"file-{number:02}").write_bytes(os.urandom(5_000))
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Movers]:
    host = Host("here", grants=(HostGrant(f"file://{tmp_path / 'www'}"),))
    made = Movers(host, MACHINE_TIME, environment={**os.environ, "HOLDFAST_ROOT_KEY": "very secret"})
    yield made
    made.close()


def a_ticket(storage: Path, tree: Path, *, rate: int = 0, silence: float = 30) -> Ticket:
    return Ticket(
        job_id="job-1",
        epoch=3,
        kind=Kind.BACKUP,
        account="111122223333",
        resource_arn="arn:www",
        repository=RepositoryAccess(f"file://{storage.parent}", storage.name, PASSWORD),
        at=datetime(2026, 5, 1, tzinfo=UTC),
        beat=BEAT,
        silence=timedelta(seconds=silence),
        backup=BackupWork(
            Place(f"file://{tree}", "EFS", grants=(HostGrant(f"file://{tree}"),)), read_bytes_per_second=rate
        ),
        recovery_point_id="point-1",
    )


def hear(mover: Mover, *kinds: type[FromMover], seconds: float = 30) -> FromMover:
    """Return the next word of one of these kinds, answering nothing."""
    end = MACHINE_TIME.monotonic() + seconds
    while MACHINE_TIME.monotonic() < end:
        said = mover.receive(1)
        if isinstance(said, kinds):
            return said
    raise AssertionError(f"none of {kinds} came")


def snapshots(storage: Path) -> list[str]:
    return [one.id for one in Repository.open(LocalStorage(storage), PASSWORD, host_id="here").snapshots()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_mover_writes_its_snapshot_only_after_the_answer(pool: Movers, storage: Path, tree: Path) -> None:
    with pool.one() as mover:
        mover.send(a_ticket(storage, tree))
        ready = hear(mover, ReadyToCommit)
        assert isinstance(ready, ReadyToCommit)
        assert (ready.brought.files, ready.brought.bytes_read) == (30, 150_000)
        mover.send(Continue())
        assert mover.receive(1) is None or snapshots(storage) == []
        assert snapshots(storage) == []
        mover.send(COMMIT)
        done = hear(mover, Result)
        assert isinstance(done, Result)
    assert snapshots(storage) == [done.snapshot_id]


def test_a_mover_that_is_told_to_stop_gives_up(pool: Movers, storage: Path, tree: Path) -> None:
    with pool.one() as mover:
        mover.send(a_ticket(storage, tree, rate=10_000))
        hear(mover, ProgressMade)
        mover.send(Stop())
        gave_up = hear(mover, GaveUp)
        assert isinstance(gave_up, GaveUp)
        assert "told to stop" in gave_up.reason
        mover.send(replace(a_ticket(storage, tree), epoch=4))
        hear(mover, ReadyToCommit)
        mover.send(Stop())
        hear(mover, GaveUp)
    assert snapshots(storage) == []


def test_a_mover_whose_supervisor_says_nothing_stops_by_itself(pool: Movers, storage: Path, tree: Path) -> None:
    with pool.one() as mover:
        mover.send(a_ticket(storage, tree, rate=10_000, silence=1))
        gave_up = hear(mover, GaveUp)
        assert isinstance(gave_up, GaveUp)
        assert "said nothing" in gave_up.reason
        mover.send(a_ticket(storage, tree, silence=1))
        hear(mover, ReadyToCommit)
        hear(mover, GaveUp)
        mover.send(COMMIT)
        mover.send(replace(a_ticket(storage, tree, silence=1), epoch=4))
        hear(mover, ReadyToCommit)
        mover.send(COMMIT)
        gave_up = hear(mover, GaveUp)
        assert isinstance(gave_up, GaveUp)
        assert "nobody answered" in gave_up.reason or "said nothing" in gave_up.reason
    assert snapshots(storage) == [], "an answer to an earlier question is no answer to a later one"


def test_a_mover_that_was_frozen_between_question_and_answer_does_not_commit(
    pool: Movers, storage: Path, tree: Path
) -> None:
    with pool.one() as mover:
        mover.send(a_ticket(storage, tree, silence=1))
        hear(mover, ReadyToCommit)
        os.kill(mover.process_id, signal.SIGSTOP)
        mover.send(COMMIT)
        MACHINE_TIME.wait(threading.Event(), 1.5)
        os.kill(mover.process_id, signal.SIGCONT)
        hear(mover, GaveUp)
    assert snapshots(storage) == []


def test_a_restore_that_may_have_lost_its_job_removes_nothing(
    pool: Movers, storage: Path, tree: Path, tmp_path: Path
) -> None:
    with pool.one() as mover:
        mover.send(a_ticket(storage, tree))
        hear(mover, ReadyToCommit)
        mover.send(COMMIT)
        hear(mover, Result)
    target = tmp_path / "www" / "restored"
    grants = (HostGrant(f"file://{tree}"),)
    metadata = {"newFileSystem": "true", "holdfast:target-url": f"file://{target}"}
    work = RestoreWork(snapshots(storage)[0], Place(f"file://{target}", "EFS", grants=grants), metadata, NOON)
    ticket = replace(a_ticket(storage, tree, silence=1), kind=Kind.RESTORE, backup=None, restore=work)
    with pool.one() as mover:
        mover.send(ticket)
        hear(mover, ReadyToCommit)
        os.kill(mover.process_id, signal.SIGSTOP)
        mover.send(Continue())
        MACHINE_TIME.wait(threading.Event(), 1.5)
        (staging,) = target.iterdir()
        (staging / "of the run that has the job now").touch()
        mover.send(Stop())
        os.kill(mover.process_id, signal.SIGCONT)
        with pytest.raises(MoverGoneError, match="SIGKILL"):
            hear(mover, GaveUp)
    assert (staging / "of the run that has the job now").exists()
    with pool.one() as mover:
        mover.send(replace(ticket, epoch=4))
        hear(mover, ReadyToCommit)
        mover.send(Stop())
        hear(mover, GaveUp)
    assert list(target.iterdir()) == [], "one that has its job removes what it made, and what its predecessors left"


def test_a_mover_knows_no_key_but_that_of_its_ticket(pool: Movers) -> None:
    with pool.one() as mover:
        process = Path(f"/proc/{mover.process_id}")
        assert b"very secret" not in (process / "environ").read_bytes()
        assert b"HOLDFAST" not in (process / "environ").read_bytes()
        assert (process / "cmdline").read_bytes().split(b"\0")[1:4] == [
            b"-m",
            b"holdfast.job.mover",
            str(os.getpid()).encode(),
        ]
        opened = [str(link.readlink()) for link in (process / "fd").iterdir()]
        assert not [name for name in opened if name.endswith((".db", ".db-wal")) or name.startswith("socket:")]


def test_a_ticket_cannot_widen_what_the_host_allows(pool: Movers, storage: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    with pool.one() as mover:
        mover.send(a_ticket(storage, secret))
        wrong = hear(mover, WentWrong)
    assert isinstance(wrong, WentWrong)
    assert wrong.category is Category.ACCESS_DENIED
    assert not wrong.retryable


def test_a_mover_goes_when_it_is_dismissed_closed_or_killed(pool: Movers, storage: Path, tree: Path) -> None:
    with pool.one() as first, pool.one() as second:
        processes = [first.process_id, second.process_id]
        second.send(a_ticket(storage, tree, rate=1_000))
        hear(second, ProgressMade)
        first.dismiss()
        assert not is_alive(first.process_id)
        pool.close()
        with pytest.raises(MoverGoneError, match="SIGKILL"):
            hear(second, Result)
    eventually(lambda: not any(is_alive(process) for process in processes))
    with pytest.raises(MoverGoneError, match="being stopped"), pool.one():
        pass


def test_a_mover_is_replaced_after_some_jobs_and_after_any_trouble(
    pool: Movers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use() -> int:
        with pool.one() as mover:
            return mover.process_id

    def use_and_break() -> None:
        with pool.one():
            raise ValueError("trouble")

    monkeypatch.setattr(movers_module, "_JOBS_EACH", 3)
    first = use()
    assert [use(), use()] == [first, first]
    second = use()
    assert second != first
    assert not is_alive(first)
    with pytest.raises(ValueError, match="trouble"):
        use_and_break()
    assert use() != second
    assert not is_alive(second)
