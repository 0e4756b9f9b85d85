"""Locks in restic's own protocol, so that a user's restic and this engine see each other.

A lock is a file in `locks/`. Writers and readers hold shared ones; whoever removes packs holds an exclusive one. To
take one: look for a conflict, write the file, look again. Each side writes before it looks a second time, so of two
that conflict at least one sees the other. Storage that shows a new file in a listing only later needs a pause before
the second look (`settle`). A lock is refreshed every five minutes by writing a new file; one older than thirty minutes
counts as stale, so a holder that could not refresh for twenty-two stops of its own accord.
"""

import os
import threading
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from holdfast.core.clock import MachineTime
from holdfast.core.errors import ConflictError, DamagedError, HoldfastError, NotFoundError, UnavailableError
from holdfast.repository import go_json
from holdfast.repository.cipher import Box
from holdfast.repository.storage import Storage
from holdfast.repository.unpacked import FileBrokenError, get_json, put_document

REFRESH_EVERY = timedelta(minutes=5)
GIVEN_UP_AFTER = timedelta(minutes=22)
STALE_AFTER = timedelta(minutes=30)
_TRIES = 4
_TRY_AGAIN_SECONDS = 0.05
_ASK_AGAIN_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 5.0


class RepositoryLockedError(ConflictError):
    """Another process holds a lock that does not go with the one wanted."""


class LockLostError(UnavailableError):
    """Our lock was not refreshed in time or was removed, so others may have deleted what we rely on."""


@dataclass(frozen=True, slots=True)
class LockFile:
    """What a lock file says."""

    id: str
    at: datetime
    exclusive: bool
    hostname: str
    username: str
    pid: int

    def is_stale(self, *, now: datetime, host_id: str) -> bool:
        """Whether its holder is gone: too old, or a process of this host that lives no more."""
        if now - self.at > STALE_AFTER:
            return True
        return self.hostname == host_id and not _is_alive(self.pid)


class Lock:
    """A lock that is held. Refreshes itself in the background until it is released."""

    def __init__(self, storage: Storage, box: Box, *, exclusive: bool, host_id: str, machine: MachineTime) -> None:
        self._storage = storage
        self._box = box
        self._host_id = host_id
        self._machine = machine
        self._exclusive = exclusive
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._refreshed_at = machine.now()
        self._refreshed_monotonic = machine.monotonic()
        self._id: str | None = self._write()
        self._lost: str | None = None
        self._thread: threading.Thread | None = None

    @property
    def id(self) -> str | None:
        """The name of the present lock file; None once released."""
        return self._id

    def keep(self) -> None:
        """Refresh the lock in the background from now on."""
        self._thread = threading.Thread(target=self._keep, name="repository-lock", daemon=True)
        self._thread.start()

    def refresh(self) -> None:
        """Write a new lock file with the present time and remove the old one, unless the lock is lost already."""
        with self._guard:
            if self._id is None or self._lost is not None:
                return
            now, monotonic = self._machine.now(), self._machine.monotonic()
            if self._age() > GIVEN_UP_AFTER:
                self._lost = f"it could not be refreshed for {self._age()}"
                return
            old, self._id = self._id, self._write()
            # Only if the old file was there after the new one was, there has been a lock all the time.
            if not self._is_there(old):
                self._lost = "somebody removed it"
                return
            self._refreshed_at, self._refreshed_monotonic = now, monotonic
            self._storage.delete(f"locks/{old}")

    def refuse_if_lost(self) -> None:
        """Refuse to go on when others may count this lock as stale, or somebody has removed it.

        Raises:
            LockLostError: so it is, so others may have deleted what we rely on.
        """
        with self._guard:
            if self._id is None:
                raise LockLostError("the repository's lock was released already")
            if self._lost is None and self._age() > GIVEN_UP_AFTER:
                self._lost = f"it could not be refreshed for {self._age()}"
            if self._lost is None and not self._is_there(self._id):
                self._lost = "somebody removed it"
            if self._lost is not None:
                raise LockLostError(f"the repository's lock was lost: {self._lost}; the work has to be run again")

    def _age(self) -> timedelta:
        # Both clocks: the monotonic one may stand still while a machine sleeps, the wall clock may be set back.
        return max(
            self._machine.now() - self._refreshed_at,
            timedelta(seconds=self._machine.monotonic() - self._refreshed_monotonic),
        )

    def _is_there(self, lock_id: str) -> bool:
        try:
            self._storage.size(f"locks/{lock_id}")
        except NotFoundError:
            return False
        return True

    def release(self) -> None:
        """Remove the lock file. Doing it twice is harmless."""
        self._ended.set()
        with self._guard:
            held, self._id = self._id, None
            if held is not None:
                self._storage.delete(f"locks/{held}")

    def _write(self) -> str:
        document = {
            "time": go_json.rfc3339(self._machine.now()),
            "exclusive": self._exclusive,
            "hostname": self._host_id,
            "username": "holdfast",
            "pid": os.getpid(),
            "uid": os.getuid(),
            "gid": os.getgid(),
        }
        return put_document(self._storage, self._box, "locks", orjson.dumps(document))

    def _keep(self) -> None:
        due = self._refreshed_monotonic + REFRESH_EVERY.total_seconds()
        # Looked at often and refreshed seldom: a clock that a test holds still must not make this thread run hot.
        while not self._ended.wait(_LOOK_EVERY_SECONDS):
            now = self._machine.monotonic()
            if now < due:
                continue
            try:
                self.refresh()
            except HoldfastError:
                # Not fatal yet: it is tried again soon, and the age says when it has become so.
                due = now + REFRESH_EVERY.total_seconds() / 10
            else:
                due = now + REFRESH_EVERY.total_seconds()


def take_lock(
    storage: Storage,
    box: Box,
    *,
    exclusive: bool,
    host_id: str,
    machine: MachineTime,
    settle: timedelta = timedelta(),
    wait: timedelta = timedelta(),
) -> Lock:
    """Take a lock, waiting for others at most `wait`.

    Raises:
        RepositoryLockedError: a lock that conflicts is still there.
    """
    begun = machine.monotonic()
    never = threading.Event()
    while True:
        try:
            return _take(storage, box, exclusive=exclusive, host_id=host_id, machine=machine, settle=settle)
        except RepositoryLockedError:
            if machine.monotonic() - begun >= wait.total_seconds():
                raise
        machine.wait(never, _ASK_AGAIN_SECONDS)


def _take(
    storage: Storage, box: Box, *, exclusive: bool, host_id: str, machine: MachineTime, settle: timedelta
) -> Lock:
    _refuse_conflict(storage, box, exclusive=exclusive, own=None, machine=machine)
    lock = Lock(storage, box, exclusive=exclusive, host_id=host_id, machine=machine)
    try:
        if settle:
            machine.wait(threading.Event(), settle.total_seconds())
        _refuse_conflict(storage, box, exclusive=exclusive, own=lock.id, machine=machine)
    except BaseException:
        lock.release()
        raise
    lock.keep()
    return lock


def list_locks(storage: Storage, box: Box, machine: MachineTime) -> list[LockFile]:
    """Return the locks that are there now.

    Raises:
        FileBrokenError: one cannot be read, even after several tries.
    """
    names = [stored.name.removeprefix("locks/") for stored in storage.list("locks/")]
    return [lock for name in names if (lock := _read(storage, box, name, machine)) is not None]


def remove_stale_locks(storage: Storage, box: Box, *, host_id: str, machine: MachineTime) -> list[LockFile]:
    """Remove the locks whose holders are gone; return them."""
    stale = [lock for lock in list_locks(storage, box, machine) if lock.is_stale(now=machine.now(), host_id=host_id)]
    for lock in stale:
        storage.delete(f"locks/{lock.id}")
    return stale


def remove_locks_of(
    storage: Storage, box: Box, process: int, *, host_id: str, before: datetime, machine: MachineTime
) -> list[LockFile]:
    """Remove the locks that one process of one host took before an instant when it was gone; return them.

    Only those: another process may have its number since, and others are for `remove_stale_locks` to judge.
    """
    left = [
        lock
        for lock in list_locks(storage, box, machine)
        if (lock.hostname, lock.pid) == (host_id, process) and lock.at <= before
    ]
    for lock in left:
        storage.delete(f"locks/{lock.id}")
    return left


def remove_all_locks(storage: Storage) -> list[str]:
    """Remove every lock file, also one that cannot be read any more; return their ids.

    Writers of ours that are at work notice and report nothing as made.
    """
    names = [stored.name for stored in storage.list("locks/")]
    for name in names:
        storage.delete(name)
    return [name.removeprefix("locks/") for name in names]


def _refuse_conflict(storage: Storage, box: Box, *, exclusive: bool, own: str | None, machine: MachineTime) -> None:
    for lock in list_locks(storage, box, machine):
        if lock.id != own and (exclusive or lock.exclusive):
            kind = "exclusively" if lock.exclusive else "for reading or writing"
            raise RepositoryLockedError(
                f"the repository is locked {kind} by process {lock.pid} on {lock.hostname} since {lock.at:%F %T} UTC; "
                "wait until it ends, or unlock the repository if that process is gone"
            )


def _read(storage: Storage, box: Box, name: str, machine: MachineTime) -> LockFile | None:
    never = threading.Event()
    for last in (*[False] * (_TRIES - 1), True):
        try:
            value = get_json(storage, box, "locks", name)
            return LockFile(
                id=name,
                at=go_json.parse_rfc3339(value["time"]),  # type: ignore[index] # another shape ends below
                exclusive=bool(value["exclusive"]),  # type: ignore[index] # the same
                hostname=str(value.get("hostname", "")),  # type: ignore[attr-defined] # the same
                username=str(value.get("username", "")),  # type: ignore[attr-defined] # the same
                pid=int(value.get("pid", 0)),  # type: ignore[attr-defined] # the same
            )
        except NotFoundError:
            return None
        except (DamagedError, KeyError, TypeError, ValueError, AttributeError) as error:
            if last:
                raise FileBrokenError(
                    f"the lock file {name} cannot be read: {error}; when nobody is at work, `unlock --remove-all` "
                    "removes it"
                ) from error
            machine.wait(never, _TRY_AGAIN_SECONDS)
    return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
