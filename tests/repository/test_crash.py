"""Crashes: the storage dies after n writes, for every n; then everything listed restores, and a rerun finishes."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic
from tests.repository.dying import AnHourLater, DyingStorage, copied

from holdfast.core.errors import HoldfastError
from holdfast.repository import blob_writer
from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.check import Depth
from holdfast.repository.entry import Entry
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage, MemoryStorage, Storage
from holdfast.repository.sweep import SweepRules
from holdfast.repository.writer import Limits

LIMITS = Limits(write=WriteLimits(pack_bytes=30_000, processes=0))
FINE = Limits(write=WriteLimits(pack_bytes=5_000, processes=0))
THRIFTY = SweepRules(max_unused=0.0, batch_packs=3)
SAMPLES = 10
CONTENT = {number: random.Random(number).randbytes(9_000) for number in range(40)}  # noqa: S311 - only bytes

Scenario = Callable[[Repository], None]


def tree(numbers: range) -> list[Entry]:
    return [
        a_directory(b"d"),
        *(a_file(b"d", b"%04d" % number, content=CONTENT[number]) for number in numbers),
        a_file(b"e", content=b"last"),
    ]


def before() -> MemoryStorage:
    """A repository with two snapshots and the remains of a third."""
    storage = MemoryStorage()
    repository = a_repository(storage)
    repository.write(tree(range(10)), at=NOON, limits=LIMITS)
    gone = repository.write(tree(range(5, 25)), at=NOON, limits=LIMITS)
    repository.write(tree(range(0, 25, 4)), at=NOON, limits=LIMITS)
    repository.forget([gone.snapshot_id])
    return storage


def backup(repository: Repository) -> None:
    repository.write(tree(range(40)), at=NOON, limits=LIMITS)


def copy(repository: Repository) -> None:
    other = a_repository()
    written = other.write(tree(range(8, 30)), at=NOON, limits=LIMITS)
    repository.copy_from(other, written.snapshot_id, limits=LIMITS)


def sweep(repository: Repository) -> None:
    repository.mark_sweep(repository.plan_sweep(THRIFTY), at=NOON, limits=LIMITS.write)
    repository.carry_out_sweep(THRIFTY)


def repair(repository: Repository) -> None:
    repository.repair_index()


SCENARIOS = {scenario.__name__: scenario for scenario in (backup, copy, sweep, repair)}


@pytest.fixture(autouse=True)
def often_checkpointed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index files come every ten blobs instead of every 50,000, so that a small backup has several."""
    monkeypatch.setattr(blob_writer, "BLOBS_PER_FILE", 10)


def opened(storage: Storage) -> Repository:
    return Repository.open(storage, PASSWORD, host_id="another-host", machine=AnHourLater())


def writes_of(scenario: Scenario) -> int:
    storage = DyingStorage(before(), 10_000)
    scenario(Repository.open(storage, PASSWORD, host_id="a-host"))
    return storage.done


def refuse_if_broken(repository: Repository, target: Path) -> None:
    """Everything that is listed restores completely, as it was."""
    assert repository.check(Depth.BYTES).problems == ()
    for snapshot in repository.snapshots():
        shutil.rmtree(target, ignore_errors=True)
        restored = repository.restore(snapshot.id, target)
        assert restored.problems == ()
        for path in (target / "d").iterdir():
            assert path.read_bytes() == CONTENT[int(path.name)]


def crash_after(writes: int, scenario: Scenario, target: Path) -> MemoryStorage:
    storage = before()
    listed = {snapshot.id for snapshot in opened(storage).snapshots()}
    # The last write takes the lock away: when only that fails, the work is done and says so.
    with suppress(HoldfastError):
        scenario(Repository.open(DyingStorage(storage, writes), PASSWORD, host_id="a-host"))
    after_crash = copied(storage)
    repository = opened(storage)
    repository.unlock()
    refuse_if_broken(repository, target)
    assert listed <= {snapshot.id for snapshot in repository.snapshots()}, "an acknowledged snapshot is missing"
    scenario(repository)
    refuse_if_broken(repository, target)
    sweep(repository)
    refuse_if_broken(repository, target)
    assert repository.check().hints == ()
    return after_crash


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_storage_that_dies_leaves_rubbish_and_never_a_lie(name: str, tmp_path: Path, restic: Restic) -> None:
    scenario = SCENARIOS[name]
    total = writes_of(scenario)
    chosen = sorted({1, 2, total - 2, total - 1, *range(3, total, max(1, total // SAMPLES))} & set(range(total)))
    for writes in chosen:
        state = crash_after(writes, scenario, tmp_path / "restored")
        if writes == chosen[len(chosen) // 2]:
            lay_out(state, restic)
            restic.check()


@pytest.mark.deep
@pytest.mark.parametrize("limits", [LIMITS, FINE], ids=["packs of some blobs", "packs of one blob"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_restic_finds_no_error_in_any_state_that_a_crash_leaves(
    name: str, limits: Limits, tmp_path: Path, restic: Restic, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = SCENARIOS[name]
    monkeypatch.setitem(globals(), "LIMITS", limits)
    seen: set[frozenset[str]] = set()
    for writes in range(1, writes_of(scenario)):
        state = crash_after(writes, scenario, tmp_path / "restored")
        names = frozenset(name for name in state.files if not name.startswith("locks/"))
        if names not in seen:
            seen.add(names)
            lay_out(state, restic)
            restic.check()


def lay_out(state: MemoryStorage, restic: Restic) -> None:
    shutil.rmtree(restic.repository, ignore_errors=True)
    here = LocalStorage(restic.repository)
    for name, data in state.files.items():
        if not name.startswith("locks/"):
            here.put(name, data)
    for folder in ("locks", "index", "snapshots", "keys", "data"):
        (restic.repository / folder).mkdir(exist_ok=True)


SLOW_BACKUP = """
import sys, os
from datetime import datetime, UTC
from pathlib import Path
from holdfast.repository import blob_writer
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage
from holdfast.repository.writer import Limits
from holdfast.repository.blob_writer import WriteLimits
from tests.repository.builders import a_file
blob_writer.BLOBS_PER_FILE = 10
repository = Repository.open(LocalStorage(Path(sys.argv[1])), sys.argv[2], host_id="a-host")
with repository.begin(limits=Limits(write=WriteLimits(pack_bytes=100_000))) as writer:
    for number in range(10**6):
        writer.add(a_file(b"%08d" % number, content=os.urandom(10_000)))
        if number % 10 == 0:
            print(number, flush=True)
"""


def test_a_killed_backup_is_gone_on_with(
    storage: LocalStorage, repository: Repository, tmp_path: Path, restic: Restic
) -> None:
    first = repository.write(tree(range(5)), at=NOON)
    arguments = [sys.executable, "-c", SLOW_BACKUP, str(storage.root), PASSWORD]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path, str(Path.cwd())]))}
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        while int(running.stdout.readline()) < 200:
            pass
        running.send_signal(signal.SIGKILL)
    assert [snapshot.id for snapshot in repository.snapshots()] == [first.snapshot_id]
    assert len(repository.locks()) == 1
    assert len(list(storage.list("index/"))) > 2
    # Same host, and the process is gone: its lock need not grow old.
    assert len(repository.unlock()) == 1
    refuse_if_broken(repository, tmp_path / "restored")
    sweep(repository)
    restic.check()
    assert len(list(storage.list("data/"))) == 2


def test_what_an_interrupted_backup_stored_is_not_stored_again() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)

    def interrupted() -> Iterator[Entry]:
        yield from tree(range(40))[:-1]
        raise InterruptedError

    with pytest.raises(InterruptedError):
        repository.write(interrupted(), at=NOON, limits=LIMITS)
    written = repository.write(tree(range(40)), at=NOON, limits=LIMITS)
    assert written.bytes_new < written.bytes_total / 2
