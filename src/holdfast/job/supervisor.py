"""Supervising jobs: each run claims its job, talks with a mover, beats, asks before it commits, and ends the job.

The workflow that the engine runs is `Supervisor.run`. Around it, `tick` does once a second what keeps jobs moving:
windows that closed, jobs that are next, runs that have fallen silent.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
import structlog

from holdfast.core.clock import Clock, MachineTime
from holdfast.core.errors import ConflictError, HoldfastError, UnavailableError
from holdfast.core.settings import Settings
from holdfast.database.connection import Database
from holdfast.job import dispatch, service
from holdfast.job.dispatch import Lane
from holdfast.job.engine import PURGE_BATCH, Engine
from holdfast.job.fault import fault_of
from holdfast.job.model import (
    Category,
    Claim,
    Completed,
    Failed,
    FencedError,
    Job,
    Kind,
    Outcome,
    Progress,
    State,
    Stopped,
)
from holdfast.job.movers import Mover, MoverGoneError, Movers
from holdfast.job.protocol import (
    Brought,
    Commit,
    Continue,
    FromMover,
    GaveUp,
    Hello,
    Host,
    Problems,
    ProgressMade,
    ReadyToCommit,
    Result,
    Stop,
    Ticket,
    Trouble,
    WentWrong,
)
from holdfast.job.repositories import remove_locks_of_the_dead

log = structlog.get_logger()

SILENT_BEATS: Final = 4
"""After so many beats without a word a run may be taken over."""

_KEEP_RUNS: Final = timedelta(minutes=5)
_HAND_OVER_AGAIN: Final = timedelta(minutes=1)
_TICK_SECONDS: Final = 1.0
_HOUSEKEEPING_TICKS: Final = 30
_MOST_BATCHES: Final = 100
_MOST_STORED_TROUBLES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job cannot be done as things are: the blocker's words, which its account reads."""

    reason: str
    category: Category = Category.ACCESS_DENIED
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Preparation:
    """All that a run needs: its ticket, and where the recovery point that it makes will be found."""

    ticket: Ticket
    recovery_point_arn: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """What else the job's result shall tell, as JSON values."""
    remark: str | None = None
    """What the job says if it completes without any trouble."""
    repositories: tuple[str, ...] = ()
    """Ids of the repositories that it opens, whose keys have to stay usable as long as it runs."""


@dataclass(frozen=True, slots=True)
class Duties:
    """What the other stations do for a job; put together in `server/app.py`."""

    prepare: Callable[[sa.Connection, Claim], Preparation | Refusal]
    """Check role, vault, key and grants, and make the ticket; in a writing transaction, so nothing slow."""
    may_go_on: Callable[[sa.Connection, Preparation], Refusal | None] = lambda _tx, _preparation: None
    """Say what came in the way of a running job since it was prepared, if anything; asked at each beat."""
    make_ready: Callable[[Claim, Preparation], None] = lambda _claim, _preparation: None
    """Slow work outside of any transaction before the mover starts: the repository and its key file."""
    record: Callable[[Job, Completed], None] = lambda _job, _outcome: None
    """Put the signed record of the new recovery point into storage, before the row is committed."""
    catalogue: service.Catalogue | None = None
    """Insert the recovery point, in the transaction that ends the job."""


class Supervisor:
    """Everything that runs jobs in this process."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        clock: Clock,
        machine: MachineTime,
        duties: Duties,
        host: Host,
        executor: str = "serve",
    ) -> None:
        """Take what jobs need. `executor` names this process among those on one database, and its successors."""
        self._database = database
        self._clock = clock
        self._machine = machine
        self._duties = duties
        self._executor = executor
        self._beat = settings.heartbeat
        self._silence = settings.heartbeat * SILENT_BEATS
        self._lanes: Sequence[Lane] = [lane for site in settings.sites.values() for lane in dispatch.lanes(site)]
        self._host = host
        self._movers = Movers(host, machine)
        self._engine: Engine | None = None
        self._stopping = threading.Event()
        self._ticks = 0

    # The process

    def start(self) -> None:
        """Start the engine, and take up at once what a former process of this name was working on.

        One that was stopped can be started again.
        """
        if self._stopping.is_set():
            self._movers = Movers(self._host, self._machine)
            self._stopping.clear()
        self._engine = Engine.start(
            self._database, executor=self._executor, lanes=self._lanes, body=self.run, machine=self._machine
        )
        now = self._machine.now()
        with self._database.transaction() as tx:
            self._engine.hand_over(tx, dispatch.reap_own(tx, machine_now=now, mover=self._executor), machine_now=now)
        self._take_back(before=now)

    def stop(self) -> None:
        """End every run and every mover. Jobs that were running stay so, and are taken up by the next process."""
        self._stopping.set()
        self._movers.close()
        if self._engine is not None:
            self._engine.stop()
            self._engine = None

    def keep_going(self, until: threading.Event) -> None:
        """Tick once a second until told to end; a failed tick is logged and the next one goes on."""
        while not until.is_set():
            try:
                self.tick()
            except Exception:
                log.exception("job.tick_failed")
            self._machine.wait(until, _TICK_SECONDS)

    def tick(self) -> int:
        """Close windows, take over silent runs, hand the next jobs to the engine; return how many were handed over."""
        if self._engine is None:
            raise RuntimeError("the supervisor was not started")
        now, machine_now = self._clock.now(), self._machine.now()
        self._close_windows(now, machine_now)
        handed_over = 0
        with self._database.transaction() as tx:
            stale = dispatch.reap(tx, machine_now=machine_now, silence=self._silence)
            self._engine.hand_over(tx, stale, machine_now=machine_now)
        for handover in stale:
            log.warning("job.taken_over", job=handover.job_id, epoch=handover.epoch)
        for lane in self._lanes:
            handed_over += self._dispatch(lane, tell=True)
        self._ticks += 1
        if self._ticks % _HOUSEKEEPING_TICKS == 0:
            self._take_back(before=machine_now - _HAND_OVER_AGAIN)
            for _ in range(_MOST_BATCHES):
                if self._engine.purge(before=machine_now - _KEEP_RUNS) < PURGE_BATCH:
                    break
        return handed_over + len(stale)

    def _dispatch(self, lane: Lane, *, tell: bool = False) -> int:
        engine, machine_now = self._engine, self._machine.now()
        if engine is None or self._stopping.is_set():
            return 0
        with self._database.transaction() as tx:
            chosen = dispatch.dispatch(tx, lane, now=self._clock.now(), machine_now=machine_now)
            engine.hand_over(tx, chosen, machine_now=machine_now)
            if tell:
                dispatch.tell_waiting(tx, lane)
        return len(chosen)

    def _close_windows(self, now: datetime, machine_now: datetime) -> None:
        for _ in range(_MOST_BATCHES):  # each in a transaction of its own, so that others get in between
            with self._database.transaction() as tx:
                expired = service.expire_unstarted(tx, now=now, machine_now=machine_now)
                stopped = service.stop_overdue(tx, now=now)
            if max(expired, stopped) < service.BATCH:
                return

    def _take_back(self, *, before: datetime) -> None:
        if self._engine is None:
            return
        under_way = self._engine.under_way()
        with self._database.transaction() as tx:
            dispatch.take_back_lost(tx, under_way, before=before)

    @property
    def movers(self) -> list[int]:
        """The process numbers of the movers that are there now."""
        return self._movers.processes

    # One job

    def run(self, job_id: str, expected_epoch: int) -> None:
        """Run one job from claim to end. What the engine calls; safe to call again at any point."""
        if self._stopping.is_set():
            return
        with self._database.transaction() as tx:
            claim = service.claim(
                tx,
                job_id,
                expected_epoch,
                now=self._clock.now(),
                machine_now=self._machine.now(),
                mover=self._executor,
            )
        if claim is None:
            return
        words = log.bind(job=job_id, epoch=claim.epoch, kind=claim.job.kind)
        words.info("job.claimed", resource=claim.job.resource_arn, attempt=claim.job.attempts)
        try:
            outcome = self._outcome(claim)
            if outcome is None:
                return
            self._end_or_try_again(claim, outcome)
        except FencedError as error:
            words.warning("job.fenced", reason=str(error))
            return
        # Without waiting for the next tick, so that many small jobs go through quickly.
        queue = dispatch.lane_of(claim.job.site, claim.job.kind)
        for lane in self._lanes:
            if lane.queue == queue:
                self._dispatch(lane)

    def _outcome(self, claim: Claim) -> Outcome | None:
        """Do the work; None if this process is being stopped, so that the job is left to the next one."""
        if claim.job.state is State.ABORTING:
            return Stopped()
        try:
            with self._database.transaction() as tx:
                prepared = self._duties.prepare(tx, claim)
            if isinstance(prepared, Refusal):
                return Failed(prepared.reason, prepared.category, prepared.retryable)
            prepared = replace(prepared, ticket=self._ticket(prepared.ticket, claim))
            with ExitStack() as stack:
                with self._beating(claim):
                    self._duties.make_ready(claim, prepared)
                    mover = stack.enter_context(self._lent(claim, prepared.ticket))
                return _Conversation(self, claim, prepared, mover).hold()
        except FencedError:
            raise
        except MoverGoneError as error:
            if self._stopping.is_set():
                return None
            return Failed(str(error), Category.MISCELLANEOUS, retryable=True)
        except HoldfastError as error:
            retryable = isinstance(error, UnavailableError | ConflictError)
            return Failed(str(error), retryable=retryable, fault=fault_of(error))
        except Exception as error:
            log.exception("job.unforeseen", job=claim.job.id)
            reason = f"something went wrong inside Holdfast ({type(error).__name__}); the server's log says more"
            return Failed(reason, retryable=True)

    def _ticket(self, ticket: Ticket, claim: Claim) -> Ticket:
        """Return the ticket with what is this run's own."""
        left = claim.prepared.get("epoch")
        if isinstance(left, int):
            ticket = replace(
                ticket,
                backup=None if ticket.backup is None else replace(ticket.backup, adopt_epoch=left),
                copy=None if ticket.copy is None else replace(ticket.copy, adopt_epoch=left),
            )
        return replace(ticket, job_id=claim.job.id, epoch=claim.epoch, beat=self._beat, silence=self._silence)

    def _end_or_try_again(self, claim: Claim, outcome: Outcome) -> None:
        try:
            self._end(claim, outcome)
        except FencedError:
            raise
        except Exception as error:
            if not isinstance(outcome, Completed):
                raise
            # The snapshot is there and waits to be adopted by the next run, which tries to end the job again.
            log.exception("job.not_catalogued", job=claim.job.id)
            why = str(error) if isinstance(error, HoldfastError) else "the server's log says why"
            reason = f"the recovery point was written but could not be recorded: {why}"
            self._end(claim, Failed(reason, Category.FATAL_ERROR, retryable=True))

    def _end(self, claim: Claim, outcome: Outcome) -> None:
        if isinstance(outcome, Completed) and claim.job.kind is not Kind.RESTORE:
            self.beat_once(claim, None)
            with self._beating(claim):
                self._duties.record(claim.job, outcome)
        with self._database.transaction() as tx:
            job = service.complete(
                tx,
                claim.job.id,
                claim.epoch,
                outcome,
                now=self._clock.now(),
                machine_now=self._machine.now(),
                catalogue=self._duties.catalogue,
            )
        log.info("job.ended", job=job.id, epoch=job.epoch, state=job.state, message=job.message)

    @contextmanager
    def _lent(self, claim: Claim, ticket: Ticket) -> Iterator[Mover]:
        """Lend a mover for a job. Once it is given back, and gone if it was killed, the locks that it left are removed.

        Else they would keep sweeps away until they are stale. Not while this process is being stopped: the next one
        lets go of them before it uses the repository.
        """
        lent: Mover | None = None
        try:
            with self._movers.one() as lent:
                yield lent
        finally:
            if lent is not None and not lent.is_alive and not self._stopping.is_set():
                gone_at = self._machine.now()
                with self._beating(claim):
                    remove_locks_of_the_dead(ticket, lent.process_id, self._host, self._machine, before=gone_at)

    @contextmanager
    def _beating(self, claim: Claim) -> Iterator[None]:
        """Beat beside something slow that this thread does itself.

        Raises:
            FencedError: at the end, if another run has taken the job over meanwhile.
        """
        done, fenced = threading.Event(), threading.Event()

        def beat() -> None:
            while not self._machine.wait(done, self.beat):
                try:
                    self.beat_once(claim, None)
                except FencedError:
                    fenced.set()
                    return
                except Exception:
                    log.exception("job.beat_failed", job=claim.job.id)

        heart = threading.Thread(target=beat, name=f"beat-{claim.job.id}", daemon=True)
        heart.start()
        try:
            yield
        finally:
            done.set()
            heart.join()
        if fenced.is_set():
            raise FencedError(f"job {claim.job.id} was taken over while epoch {claim.epoch} was at work on it")

    # What a conversation needs

    @property
    def beat(self) -> float:
        """How often a run beats, in seconds."""
        return self._beat.total_seconds()

    @property
    def silence(self) -> float:
        """After how many seconds without a word a mover counts as gone."""
        return self._silence.total_seconds()

    @property
    def is_stopping(self) -> bool:
        """Whether this process is being stopped."""
        return self._stopping.is_set()

    @property
    def machine(self) -> MachineTime:
        """The machine's time."""
        return self._machine

    def beat_once(self, claim: Claim, progress: Progress | None) -> State:
        """Beat; return the job's state.

        Raises:
            FencedError: another run has the job now.
        """
        with self._database.transaction() as tx:
            return service.beat(tx, claim.job.id, claim.epoch, progress, machine_now=self._machine.now())

    def look_again(self, preparation: Preparation) -> Refusal | None:
        """Return what came in the way of a running job, None while it may go on."""
        with self._database.reading() as tx:
            return self._duties.may_go_on(tx, preparation)

    def may_commit(self, claim: Claim, prepared: Mapping[str, Any]) -> bool:
        """Ask the database whether this run may commit what it has prepared.

        Raises:
            FencedError: another run has the job now.
        """
        with self._database.transaction() as tx:
            return service.allow_commit(tx, claim.job.id, claim.epoch, prepared, machine_now=self._machine.now())


class _Conversation:
    """One run's talk with its mover."""

    def __init__(self, supervisor: Supervisor, claim: Claim, preparation: Preparation, mover: Mover) -> None:
        self._supervisor = supervisor
        self._claim = claim
        self._preparation = preparation
        self._mover = mover
        self._progress = Progress(bytes_total=claim.job.bytes_total)
        self._troubles: list[Trouble] = []
        self._told_to_stop = False

    def hold(self) -> Outcome:
        """Give the mover its ticket and talk with it until it has an outcome.

        Raises:
            FencedError: another run has the job now; the mover is killed by whoever lent it.
            MoverGoneError: the mover died or fell silent.
        """
        now, beat = self._supervisor.machine.monotonic, self._supervisor.beat
        self._mover.send(self._preparation.ticket)
        heard_at = beat_at = now()
        while True:
            said = self._mover.receive(max(0.0, min(beat_at + beat - now(), beat)))
            if said is not None:
                heard_at = now()
                outcome = self._answer(said)
                if outcome is not None:
                    return outcome
            if now() - heard_at > self._supervisor.silence:
                raise MoverGoneError(f"the mover has said nothing for {now() - heard_at:.0f} seconds")
            if now() - beat_at >= beat:
                beat_at = now()
                # For a mover that is silent nobody beats: its job may be taken over, as if this process were gone.
                if beat_at - heard_at <= beat * 2:
                    self._take_orders(self._supervisor.beat_once(self._claim, self._progress))
                if (stopped := self._look_again()) is not None:
                    return stopped
                self._mover.send(Continue())

    def _look_again(self) -> Outcome | None:
        """Return how the job ends if it may not go on; its mover, which holds keys, ends with it."""
        refusal = self._supervisor.look_again(self._preparation)
        if refusal is None:
            return None
        self._mover.is_usable = False
        return Failed(refusal.reason, refusal.category, refusal.retryable)

    def _take_orders(self, state: State) -> None:
        if state is State.ABORTING and not self._told_to_stop:
            self._told_to_stop = True
            self._mover.send(Stop())

    def _answer(self, said: FromMover) -> Outcome | None:
        match said:
            case ProgressMade():
                self._progress = Progress(said.bytes_done, said.bytes_total, said.bytes_stored, said.items_done)
            case Problems(troubles):
                self._troubles.extend(troubles[: _MOST_STORED_TROUBLES - len(self._troubles)])
            case ReadyToCommit(brought, adopting):
                if (stopped := self._look_again()) is not None:
                    return stopped
                prepared = self._claim.prepared if adopting else self._prepared(brought)
                if self._supervisor.may_commit(self._claim, prepared):
                    self._mover.send(Commit(self._claim.job.id, self._claim.epoch))
                else:
                    self._take_orders(State.ABORTING)
            case Result():
                return self._completed(said)
            case WentWrong(reason, retryable, category, fault):
                self._mover.is_usable = False
                return Failed(reason, category, retryable, fault)
            case GaveUp(reason):
                self._mover.is_usable = False
                if self._told_to_stop:
                    return Stopped()
                return Failed(f"the mover gave up: {reason}", Category.MISCELLANEOUS, retryable=True)
            case Hello():
                pass
        return None

    def _prepared(self, brought: Brought) -> dict[str, Any]:
        """Return what lies in the job's `result` from before its snapshot is written until it has ended."""
        return {
            **self._preparation.about,
            "brought": asdict(brought),
            "epoch": self._claim.epoch,
            "recovery_point_id": self._preparation.ticket.recovery_point_id,
            "recovery_point_arn": self._preparation.recovery_point_arn,
            "troubles": [[trouble.path, trouble.what] for trouble in self._troubles],
        }

    def _completed(self, said: Result) -> Completed:
        about = dict(self._claim.prepared) if said.adopted else self._prepared(said.brought)
        about |= {"snapshot_id": said.snapshot_id, "created_resource": said.created_resource, "adopted": said.adopted}
        issues = _issues(about)
        brought: Mapping[str, Any] = about["brought"]
        # A copy's row goes on naming the point that was copied; the new one is told by its result.
        is_copy = self._claim.job.kind is Kind.COPY
        return Completed(
            result=about,
            recovery_point_id=None if is_copy else about["recovery_point_id"],
            recovery_point_arn=None if is_copy else about["recovery_point_arn"],
            bytes_read=brought["bytes_total"],
            bytes_stored=brought["bytes_stored"],
            message=issues or self._preparation.remark,
            category=Category.SUCCESS if issues is None else Category.MISCELLANEOUS,
        )


def _issues(about: Mapping[str, Any]) -> str | None:
    """Return what a job that completed has to say about what it left out; None if nothing."""
    count = about["brought"]["problems"]
    if not count:
        return None
    path, what = about["troubles"][0] if about["troubles"] else ("", "")
    others = "" if count == 1 else f" and {count - 1} more"
    return f"Completed with issues: {path}: {what}{others}"
