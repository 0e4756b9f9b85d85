"""The sweep: room comes back, and nothing that is needed goes."""

import os
import signal
import subprocess
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD, Restic
from tests.repository.dying import AnHourLater, DyingStorage, copied

from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.check import Depth
from holdfast.repository.entry import Entry
from holdfast.repository.lock import LockFile, LockLostError, RepositoryLockedError
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage, MemoryStorage, StorageFailedError
from holdfast.repository.sweep import SweepRefusedError, SweepRules, Swept
from holdfast.repository.writer import Limits

SMALL_PACKS = Limits(write=WriteLimits(pack_bytes=256 << 10))
THRIFTY = SweepRules(max_unused=0.0)


def files(number: int, *, size: int = 50_000) -> list[Entry]:
    return [a_file(b"%04d" % n, content=os.urandom(size)) for n in range(number)]


def sweep(repository: Repository, rules: SweepRules = THRIFTY) -> Swept:
    repository.mark_sweep(repository.plan_sweep(rules), at=NOON, limits=SMALL_PACKS.write)
    return repository.carry_out_sweep(rules)


def packs(storage: MemoryStorage) -> set[str]:
    return {name for name in storage.files if name.startswith("data/")}


def test_a_plan_changes_nothing() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)
    written = repository.write(files(10), at=NOON, limits=SMALL_PACKS)
    repository.forget([written.snapshot_id])
    before = dict(storage.files)
    plan = repository.plan_sweep(THRIFTY)
    assert plan.has_work
    assert plan.bytes_freed > 500_000
    assert storage.files == before


def test_what_no_snapshot_needs_goes_and_the_rest_restores(
    storage: LocalStorage, repository: Repository, restic: Restic, tmp_path: Path
) -> None:
    kept = files(20)
    first = repository.write([*kept[:10], *files(30)[10:]], at=NOON, limits=SMALL_PACKS)
    second = repository.write(kept, at=NOON, limits=SMALL_PACKS)
    repository.forget([first.snapshot_id])
    before = sum(stored.size for stored in storage.list("data/"))
    swept = sweep(repository)
    assert swept.deleted
    assert swept.spared == ()
    assert sum(stored.size for stored in storage.list("data/")) < before - 900_000
    restic.check()
    report = repository.check(Depth.BYTES)
    assert report.problems == report.hints == ()
    assert repository.restore(second.snapshot_id, tmp_path / "restored").problems == ()
    assert not repository.plan_sweep(THRIFTY).has_work


def test_what_is_no_pack_is_left_alone(storage: LocalStorage, repository: Repository) -> None:
    repository.write([a_file(b"f")], at=NOON)
    (storage.root / "data" / "README").write_text("put here by somebody")
    assert repository.plan_sweep().stray == ()
    assert repository.repair_index().packs == 2
    assert (storage.root / "data" / "README").exists()


def test_small_packs_are_joined(storage: LocalStorage, repository: Repository, restic: Restic) -> None:
    for number in range(6):
        repository.write([a_file(b"f%d" % number, content=os.urandom(1000))], at=NOON)
    rules = SweepRules(small_packs=4)
    sweep(repository, rules)
    assert len(list(storage.list("data/"))) == 2
    restic.check()


def test_a_doomed_pack_is_not_relied_on_by_a_new_writer() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)
    entries = files(10)
    gone = repository.write(entries, at=NOON, limits=SMALL_PACKS)
    repository.forget([gone.snapshot_id])
    repository.mark_sweep(repository.plan_sweep(THRIFTY), at=NOON)
    again = repository.write(entries, at=NOON, limits=SMALL_PACKS)
    assert again.bytes_new == 500_000
    swept = repository.carry_out_sweep(THRIFTY)
    assert swept.spared == ()
    assert repository.check(Depth.BYTES).problems == ()


def test_a_doomed_pack_that_restic_came_to_need_is_spared(
    repository: Repository, restic: Restic, source: Path, tmp_path: Path
) -> None:
    (source / "file").write_bytes(os.urandom(100_000))
    restic.run("backup", ".", cwd=source)
    repository.forget([repository.snapshots()[0].id])
    repository.mark_sweep(repository.plan_sweep(THRIFTY), at=NOON)
    restic.run("backup", ".", cwd=source)  # restic knows nothing of the record and refers to the old blobs
    swept = repository.carry_out_sweep(THRIFTY)
    assert swept.deleted == ()
    assert swept.spared
    restic.check()
    assert repository.restore(repository.snapshots()[0].id, tmp_path / "restored").problems == ()


def test_a_sweep_waits_for_running_writers() -> None:
    repository = a_repository()
    with repository.begin() as writer:
        writer.add(a_file(b"a"))
        repository.mark_sweep(repository.plan_sweep(), at=NOON)
        with pytest.raises(RepositoryLockedError):
            repository.carry_out_sweep()
        writer.finish_tree()
        written = writer.commit(at=NOON)
    repository.carry_out_sweep()
    assert repository.check(Depth.BYTES).is_sound
    assert [snapshot.id for snapshot in repository.snapshots()] == [written.snapshot_id]


def test_a_writer_that_slept_past_its_lock_reports_nothing_and_leaves_nothing_broken() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)
    old = repository.write(files(5), at=NOON, limits=SMALL_PACKS)
    with repository.begin(limits=SMALL_PACKS) as writer:
        for entry in files(5):
            writer.add(entry)
        # It sleeps; somebody takes its lock for stale, and everything is swept.
        for lock in repository.locks():
            storage.delete(f"locks/{lock.id}")
        repository.forget([old.snapshot_id])
        sweep(repository)
        with pytest.raises(LockLostError):
            writer.finish_tree()
    assert repository.snapshots() == []
    assert repository.check(Depth.BYTES).problems == ()


def test_a_damaged_repository_is_not_swept() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)
    first = repository.write([a_directory(b"d"), a_file(b"d", b"f")], at=NOON)
    repository.write([a_file(b"other")], at=NOON)
    index = repository.load_index()
    tree = index.find(BlobKind.TREE, first.snapshot.tree)
    assert tree is not None
    name = f"data/{tree.pack.hex()[:2]}/{tree.pack.hex()}"
    storage.files[name] = bytes(len(storage.files[name]))
    before = packs(storage)
    with pytest.raises(SweepRefusedError):
        sweep(repository)
    assert packs(storage) == before


def test_packs_that_a_crash_left_behind_are_removed() -> None:
    storage = MemoryStorage()
    repository = a_repository(storage)
    kept = repository.write(files(3), at=NOON)
    before = packs(storage)
    with repository.begin(limits=SMALL_PACKS) as writer:
        for entry in files(30):
            writer.add(entry)
    assert packs(storage) > before
    plan = repository.plan_sweep()
    assert len(plan.stray) == len(packs(storage) - before)
    repository.carry_out_sweep()
    assert packs(storage) == before
    assert [snapshot.id for snapshot in repository.snapshots()] == [kept.snapshot_id]


def test_a_sweep_that_died_at_any_write_is_finished_by_the_next_without_a_trace() -> None:
    whole = MemoryStorage()
    repository = a_repository(whole)
    entries = files(8, size=3000)
    fine = Limits(write=WriteLimits(pack_bytes=1000, processes=0))
    gone = repository.write(entries, at=NOON, limits=fine)
    repository.write(entries[::2], at=NOON, limits=fine)
    repository.forget([gone.snapshot_id])
    repository.mark_sweep(repository.plan_sweep(THRIFTY), at=NOON)
    writes, died = 0, True
    while died:
        writes += 1
        storage = copied(whole)
        dying = DyingStorage(storage, writes)
        with suppress(StorageFailedError):
            Repository.open(dying, PASSWORD, host_id="a-host").carry_out_sweep(THRIFTY)
        after = Repository.open(storage, PASSWORD, host_id="another-host", machine=AnHourLater())
        after.unlock()
        assert after.check(Depth.BYTES).problems == ()
        after.carry_out_sweep(THRIFTY)
        report = after.check(Depth.BYTES)
        assert report.problems == report.hints == ()
        died = dying.left <= 0
    assert writes > 6, "an index put, the old ones and packs deleted, the record and the lock"


def test_restic_prune_waits_for_our_writers_and_our_sweeps(repository: Repository, restic: Restic) -> None:
    repository.write(files(3), at=NOON)
    for ours in (repository.begin(), repository.locked(exclusive=True)):
        with ours:
            refused = restic.run("prune", check=False)
            assert refused.returncode != 0
            assert "locked" in refused.stderr
    restic.run("prune")
    restic.check()


def test_our_sweep_waits_for_a_restic_that_is_writing(repository: Repository, restic: Restic) -> None:
    written = repository.write(files(3), at=NOON)
    repository.forget([written.snapshot_id])
    repository.mark_sweep(repository.plan_sweep(THRIFTY), at=NOON)
    with restic.start("backup", "--stdin", stdin=subprocess.PIPE) as writing:
        assert [lock.exclusive for lock in locks_of(writing.pid, repository)] == [False]
        with pytest.raises(RepositoryLockedError, match=str(writing.pid)):
            repository.carry_out_sweep(THRIFTY)
        with repository.begin() as writer:  # and our writers go beside it
            writer.add(a_file(b"a"))
            writer.finish_tree()
            writer.commit(at=NOON + timedelta(days=1))
        assert writing.stdin is not None
        writing.stdin.write(b"from a pipe")
        writing.stdin.close()
        assert writing.wait() == 0
    assert repository.carry_out_sweep(THRIFTY).deleted
    restic.check()
    assert len(repository.snapshots()) == 2


def test_our_writers_and_our_sweep_wait_for_a_restic_that_prunes(repository: Repository, restic: Restic) -> None:
    repository.write(files(3), at=NOON)
    with caught_in_the_middle(restic, repository) as pruning:
        try:
            for attempt in (repository.begin, repository.plan_sweep, repository.carry_out_sweep):
                with pytest.raises(RepositoryLockedError, match="exclusively"):
                    attempt()
        finally:
            pruning.send_signal(signal.SIGCONT)
        assert pruning.wait() == 0
    assert repository.locks() == []
    repository.carry_out_sweep(THRIFTY)
    restic.check()


def caught_in_the_middle(restic: Restic, repository: Repository) -> subprocess.Popen[bytes]:
    """Start restic's prune and stop it while it holds its exclusive lock; on a busy machine that takes some tries."""
    while True:
        pruning = restic.start("prune")
        while pruning.poll() is None:
            if any(lock.exclusive for lock in repository.locks()):
                pruning.send_signal(signal.SIGSTOP)
                if repository.locks():
                    return pruning
                pruning.send_signal(signal.SIGCONT)
                break
        assert pruning.wait() == 0


def locks_of(process: int, repository: Repository) -> list[LockFile]:
    """Return the locks of a process as soon as it has one."""
    while not (found := [lock for lock in repository.locks() if lock.pid == process]):
        threading.Event().wait(0.001)
    return found


def test_restic_prunes_what_we_wrote(repository: Repository, restic: Restic, tmp_path: Path) -> None:
    first = repository.write(files(20), at=NOON, limits=SMALL_PACKS)
    second = repository.write(files(5), at=NOON, limits=SMALL_PACKS)
    restic.run("forget", first.snapshot_id, "--prune")
    restic.check()
    assert repository.restore(second.snapshot_id, tmp_path / "restored").problems == ()
    assert repository.check(Depth.BYTES).problems == ()
