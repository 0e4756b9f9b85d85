"""Locks: who may work beside whom, and when a lock counts as lost."""

import os
import threading
from datetime import timedelta

import pytest
from tests.repository.builders import a_repository
from tests.repository.conftest import NOON, Restic

from holdfast.core.clock import ManualMachineTime, SystemMachineTime
from holdfast.repository import lock as lock_module
from holdfast.repository.cipher import Box, BoxKey
from holdfast.repository.lock import (
    GIVEN_UP_AFTER,
    STALE_AFTER,
    Lock,
    LockFile,
    LockLostError,
    RepositoryLockedError,
    list_locks,
    remove_locks_of,
    remove_stale_locks,
    take_lock,
)
from holdfast.repository.repository import Repository
from holdfast.repository.storage import MemoryStorage
from holdfast.repository.unpacked import FileBrokenError

BOX = Box(BoxKey.generate())


def a_lock(storage: MemoryStorage, machine: ManualMachineTime, *, exclusive: bool = False) -> Lock:
    return Lock(storage, BOX, exclusive=exclusive, host_id="a-host", machine=machine)


@pytest.mark.parametrize(
    ("held", "wanted", "goes"),
    [(False, False, True), (False, True, False), (True, False, False), (True, True, False)],
    ids=["both shared", "exclusive beside shared", "shared beside exclusive", "both exclusive"],
)
def test_only_shared_locks_go_together(held: bool, wanted: bool, goes: bool) -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    first = a_lock(storage, machine, exclusive=held)
    if goes:
        take_lock(storage, BOX, exclusive=wanted, host_id="h", machine=SystemMachineTime()).release()
    else:
        with pytest.raises(RepositoryLockedError, match="a-host"):
            take_lock(storage, BOX, exclusive=wanted, host_id="h", machine=machine)
    assert [lock.id for lock in list_locks(storage, BOX, machine)] == [first.id]


def test_waiting_for_a_lock_ends_when_it_is_released() -> None:
    storage = MemoryStorage()
    held = a_lock(storage, ManualMachineTime(NOON), exclusive=True)

    class Releasing(SystemMachineTime):
        def wait(self, event: object, seconds: float) -> bool:
            held.release()
            return False

    taken = take_lock(storage, BOX, exclusive=True, host_id="h", machine=Releasing(), wait=timedelta(minutes=1))
    taken.release()
    assert storage.files == {}


def test_a_refreshed_lock_has_a_new_file_and_no_old_one() -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    lock = a_lock(storage, machine)
    before = lock.id
    for _ in range(12):
        machine.advance(timedelta(minutes=5))
        lock.refresh()
    (found,) = list_locks(storage, BOX, machine)
    assert found.id == lock.id != before
    assert found.at == NOON + timedelta(hours=1)
    lock.refuse_if_lost()


def test_a_lock_that_could_not_be_refreshed_is_lost_before_others_call_it_stale() -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    lock = a_lock(storage, machine)
    machine.advance(GIVEN_UP_AFTER)
    lock.refuse_if_lost()
    machine.advance(timedelta(seconds=1))
    with pytest.raises(LockLostError, match="could not be refreshed"):
        lock.refuse_if_lost()
    lock.refresh()
    with pytest.raises(LockLostError):
        lock.refuse_if_lost()
    assert GIVEN_UP_AFTER < STALE_AFTER


def test_a_lock_that_was_removed_stays_lost_whatever_a_refresh_does() -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    lock = a_lock(storage, machine)
    storage.delete(f"locks/{lock.id}")
    lock.refresh()
    with pytest.raises(LockLostError, match="removed"):
        lock.refuse_if_lost()


def test_only_locks_whose_holders_are_gone_are_removed() -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    old = a_lock(storage, machine)
    machine.advance(STALE_AFTER + timedelta(seconds=1))
    fresh = a_lock(storage, machine)
    removed = remove_stale_locks(storage, BOX, host_id="a-host", machine=machine)
    assert [lock.id for lock in removed] == [old.id]
    assert [lock.id for lock in list_locks(storage, BOX, machine)] == [fresh.id]


def test_the_locks_of_one_process_are_removed_and_not_those_of_its_namesakes() -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    of_the_dead = [a_lock(storage, machine), a_lock(storage, machine, exclusive=True)]
    elsewhere = Lock(storage, BOX, exclusive=False, host_id="elsewhere", machine=machine)
    machine.advance(timedelta(seconds=1))
    of_a_later_one = a_lock(storage, machine)

    def removed(process: int) -> set[str | None]:
        gone = remove_locks_of(storage, BOX, process, host_id="a-host", before=NOON, machine=machine)
        return {lock.id for lock in gone}

    assert removed(os.getpid() + 1) == set()
    assert removed(os.getpid()) == {lock.id for lock in of_the_dead}
    assert {lock.id for lock in list_locks(storage, BOX, machine)} == {elsewhere.id, of_a_later_one.id}


def test_a_dead_process_of_our_own_host_holds_nothing() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    lock = LockFile("id", NOON, exclusive=True, hostname="here", username="u", pid=pid)
    assert lock.is_stale(now=NOON, host_id="here")
    assert not lock.is_stale(now=NOON, host_id="elsewhere")
    alive = LockFile("id", NOON, exclusive=True, hostname="here", username="u", pid=os.getpid())
    assert not alive.is_stale(now=NOON, host_id="here")


def test_a_lock_that_cannot_be_read_is_not_passed_over() -> None:
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    storage.put("locks/" + "0" * 64, b"what is this?")
    with pytest.raises(FileBrokenError):
        take_lock(storage, BOX, exclusive=False, host_id="h", machine=machine)


def test_restic_shows_and_heeds_our_lock(repository: Repository, restic: Restic) -> None:
    with repository.locked(exclusive=True):
        (name,) = restic.run("list", "locks", "--no-lock").stdout.split()
        assert '"hostname": "a-host"' in restic.run("cat", "lock", name, "--no-lock").stdout
        refused = restic.run("snapshots", check=False)
        assert refused.returncode != 0
    restic.run("snapshots")


def test_a_lock_is_given_back_when_the_work_fails() -> None:
    repository = a_repository()
    with pytest.raises(ZeroDivisionError), repository.locked(exclusive=True):
        raise ZeroDivisionError
    assert repository.locks() == []


def test_a_lock_is_refreshed_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_LOOK_EVERY_SECONDS", 0.01)
    storage, machine = MemoryStorage(), ManualMachineTime(NOON)
    lock = take_lock(storage, BOX, exclusive=False, host_id="h", machine=machine)
    before, never = lock.id, threading.Event()
    never.wait(0.1)
    assert lock.id == before, "it is not due yet"
    machine.advance(timedelta(minutes=5, seconds=1))
    for _ in range(500):
        if lock.id != before and len(storage.files) == 1:
            break
        never.wait(0.01)
    (found,) = list_locks(storage, BOX, machine)
    assert found.id == lock.id != before
    lock.release()
    assert storage.files == {}
