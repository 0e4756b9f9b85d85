"""The law of epochs: whatever runs do to one job, in any order, one of them commits and states move as they may."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import mkdtemp

import sqlalchemy as sa
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.job.builders import MACHINE, NOON, a_subject

from holdfast.database.connection import Database
from holdfast.job import dispatch, service, store
from holdfast.job.dispatch import Lane
from holdfast.job.model import (
    FOLLOWS,
    BackupRequest,
    Claim,
    Completed,
    Failed,
    FencedError,
    Job,
    JobEndedError,
    Outcome,
    Progress,
    State,
    Stopped,
)

LANE = Lane("local", 10)
OUTCOMES: list[Outcome] = [Completed(recovery_point_id="p"), Failed("no"), Failed("later", retryable=True), Stopped()]


class OneJob(RuleBasedStateMachine):
    """One job, any number of runs that claim it, and everything that can happen to it in between."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        self.now = NOON
        self.machine = MACHINE
        self.claims: list[Claim] = []
        self.catalogued: list[int] = []
        with self.database.transaction() as tx:
            self.job = service.start_backup_job(tx, BackupRequest(a_subject(name=str(id(self)))), now=NOON)

    @contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        with self.database.transaction() as tx:
            yield tx

    def present(self) -> Job:
        with self.database.reading() as tx:
            found = store.find(tx, self.job.id)
        assert found is not None
        return found

    @rule(expected=st.none() | st.integers(0, 6))
    def somebody_claims_it(self, expected: int | None) -> None:
        before = self.present()
        with self.transaction() as tx:
            claim = service.claim(
                tx, self.job.id, expected, now=self.now, machine_now=self.machine, mover=f"m{len(self.claims)}"
            )
        if claim is not None:
            assert claim.epoch == before.epoch + 1
            assert expected in (None, before.epoch)
            assert before.state is State.CREATED or expected == before.epoch
            self.claims.append(claim)

    @rule()
    def it_is_taken_over_by_one_who_knows(self) -> None:
        self.somebody_claims_it(self.present().epoch)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES))
    def a_run_ends_it(self, data: st.DataObject, outcome: Outcome) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        before = self.present()

        def catalogue(_tx: sa.Connection, job: Job, _outcome: Completed) -> None:
            self.catalogued.append(job.epoch)

        try:
            with self.transaction() as tx:
                service.complete(
                    tx, self.job.id, claim.epoch, outcome, now=self.now, machine_now=self.machine, catalogue=catalogue
                )
        except FencedError:
            assert (
                before.epoch != claim.epoch
                or before.state not in (State.RUNNING, State.ABORTING)
                or isinstance(outcome, Stopped)
            )
            assert self.present() == before
        else:
            assert before.epoch == claim.epoch

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def a_run_beats(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        before = self.present()
        holds = before.epoch == claim.epoch and before.state in (State.RUNNING, State.ABORTING)
        try:
            with self.transaction() as tx:
                service.beat(tx, self.job.id, claim.epoch, Progress(1, 2), machine_now=self.machine)
        except FencedError:
            assert not holds
        else:
            assert holds

    @precondition(lambda self: self.claims)
    @rule(data=st.data())
    def a_run_asks_to_commit(self, data: st.DataObject) -> None:
        claim = data.draw(st.sampled_from(self.claims))
        before = self.present()
        try:
            with self.transaction() as tx:
                may = service.allow_commit(
                    tx, self.job.id, claim.epoch, {"epoch": claim.epoch}, machine_now=self.machine
                )
        except FencedError:
            assert before.epoch != claim.epoch or before.has_ended or before.state is State.CREATED
        else:
            assert may == (before.state is State.RUNNING)
            assert before.epoch == claim.epoch

    @rule()
    def somebody_stops_it(self) -> None:
        before = self.present()
        try:
            with self.transaction() as tx:
                service.request_stop(tx, before, now=self.now, machine_now=self.machine)
        except JobEndedError:
            assert before.has_ended

    @rule()
    def it_is_dispatched_and_reaped(self) -> None:
        with self.transaction() as tx:
            dispatch.dispatch(tx, LANE, now=self.now, machine_now=self.machine)
            dispatch.reap(tx, machine_now=self.machine, silence=timedelta(seconds=20))

    @rule(minutes=st.sampled_from([1, 10, 300, 60 * 24 * 7]))
    def time_goes_by(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)
        self.machine += timedelta(minutes=minutes)
        with self.transaction() as tx:
            service.expire_unstarted(tx, now=self.now, machine_now=self.machine)
            service.stop_overdue(tx, now=self.now)

    @invariant()
    def at_most_one_run_has_committed(self) -> None:
        present = self.present()
        assert len(self.catalogued) <= 1
        assert bool(self.catalogued) == (present.state is State.COMPLETED)
        if self.catalogued:
            assert self.catalogued == [present.epoch]

    @invariant()
    def states_have_moved_only_as_they_may(self) -> None:
        with self.database.reading() as tx:
            moves = store.transitions(tx, self.job.id)
        before, epoch = State.CREATED, 0
        for state, at_epoch, _ in moves:
            assert state in FOLLOWS[before]
            assert at_epoch >= epoch
            before, epoch = state, at_epoch
        assert before is self.present().state

    def teardown(self) -> None:
        with self.transaction() as tx:
            for table in ("job", "job_transition", "outbox"):
                tx.execute(sa.text(f"DELETE FROM {table}"))


def test_one_epoch_commits_and_states_move_only_as_they_may(empty_sqlite: Path) -> None:
    directory = Path(mkdtemp())
    shutil.copyfile(empty_sqlite, directory / "control.db")
    database = Database.open(f"sqlite:///{directory / 'control.db'}")
    OneJob.database = database
    try:
        run_state_machine_as_test(OneJob, settings=settings(settings.default, stateful_step_count=25))
    finally:
        database.close()
        shutil.rmtree(directory)
