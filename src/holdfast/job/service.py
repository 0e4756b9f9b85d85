"""What can be done with jobs: start, claim, beat, stop, expire, end. Verbs over an open transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from holdfast.core.errors import InvalidInputError
from holdfast.core.ids import name_uuid, new_uuid
from holdfast.database.outbox import publish
from holdfast.job import store
from holdfast.job.model import (
    DEFAULT_COMPLETION_WINDOW,
    DEFAULT_PRIORITY,
    ON_DEMAND_PRIORITY,
    SHORTEST_START_WINDOW,
    BackupRequest,
    Category,
    Claim,
    Completed,
    CopyRequest,
    Failed,
    FencedError,
    Job,
    JobNotFoundError,
    Kind,
    Outcome,
    Partial,
    Progress,
    RestoreRequest,
    State,
    Stopped,
    Subject,
    TryAgain,
    ValidationFixedError,
    Waiting,
    after_failure,
    expired_before_completion,
    expired_before_start,
    refuse_stop,
    stopped_by_user,
)

BATCH: Final = 200
"""How many jobs a sweep of windows ends at once, at most."""

Catalogue = Callable[[sa.Connection, Job, Completed], None]
"""Makes what a completed job has made visible, in the transaction that ends the job: inserts the recovery point,
registers what was restored. It may add to the job's result."""


def start_backup_job(tx: sa.Connection, request: BackupRequest, *, now: datetime) -> Job:
    """Create a backup job by hand; it starts as soon as a mover is free. Its completion window counts from now.

    Raises:
        InvalidInputError: a window is shorter than AWS Backup allows, or the job would have to end before it starts.
    """
    if request.start_window < SHORTEST_START_WINDOW:
        raise InvalidInputError(f"a start window has at least {SHORTEST_START_WINDOW.total_seconds() / 60:.0f} minutes")
    if request.completion_window <= request.start_window:
        raise InvalidInputError("the completion window has to be longer than the start window")
    job_id = new_uuid()
    store.insert(
        tx,
        _row(job_id, Kind.BACKUP, request.subject, priority=ON_DEMAND_PRIORITY),
        options=request.options(),
        completion_window=request.completion_window,
        start_by=now + request.start_window,
        complete_by=now + request.completion_window,
        now=now,
    )
    return _made(tx, job_id, now)


def start_restore_job(tx: sa.Connection, request: RestoreRequest, *, now: datetime) -> Job:
    """Create a restore job; it has no start window."""
    return _start_from_point(tx, Kind.RESTORE, request, priority=DEFAULT_PRIORITY, now=now)


def start_copy_job(tx: sa.Connection, request: CopyRequest, *, now: datetime) -> Job:
    """Create a copy job by hand; it has no start window."""
    return _start_from_point(tx, Kind.COPY, request, priority=ON_DEMAND_PRIORITY, now=now)


def _start_from_point(
    tx: sa.Connection, kind: Kind, request: RestoreRequest | CopyRequest, *, priority: int, now: datetime
) -> Job:
    job_id = new_uuid()
    store.insert(
        tx,
        {
            **_row(job_id, kind, request.subject, priority=priority),
            "recovery_point_id": request.recovery_point_id,
            "recovery_point_arn": request.recovery_point_arn,
            "bytes_total": request.bytes_total,
        },
        options=request.options(),
        completion_window=DEFAULT_COMPLETION_WINDOW,
        start_by=None,
        complete_by=None,
        now=now,
    )
    return _made(tx, job_id, now)


def start_copies_of(tx: sa.Connection, backup: Job, requests: Sequence[CopyRequest], *, now: datetime) -> None:
    """Create the copy jobs that a rule wants of what a backup of it has made, in the transaction that ends the backup.

    However often that is tried, each copy has one job. It stands under the same plan and rule, in the same account.
    """
    store.insert_copies(
        tx,
        backup.id,
        [
            {
                "id": name_uuid("copy", backup.id, str(number)),
                "site": request.subject.site,
                "vault_name": request.subject.vault_name,
                "vault_arn": request.subject.vault_arn,
                "recovery_point_id": request.recovery_point_id,
                "recovery_point_arn": request.recovery_point_arn,
                "bytes_total": request.bytes_total,
                "options": {**request.options(), **_made_by(backup)},
            }
            for number, request in enumerate(requests)
        ],
        completion_window=DEFAULT_COMPLETION_WINDOW,
        now=now,
    )


def _made_by(backup: Job) -> dict[str, Any]:
    """Return what a copy job tells of the backup job that it followed."""
    told = {name: backup.options[name] for name in ("schedule", "timezone") if name in backup.options}
    return {"created_by_job": backup.id, **told}


def _row(job_id: str, kind: Kind, subject: Subject, *, priority: int) -> dict[str, Any]:
    return {
        "id": job_id,
        "kind": kind,
        "account": subject.account,
        "region": subject.region,
        "priority": priority,
        "site": subject.site,
        "organization_id": subject.organization_id,
        "unit_path": subject.unit_path,
        "resource_arn": subject.resource_arn,
        "resource_type": subject.resource_type,
        "resource_name": subject.resource_name,
        "resource_id": subject.resource_id,
        "vault_name": subject.vault_name,
        "vault_arn": subject.vault_arn,
        "recovery_point_id": None,
        "recovery_point_arn": None,
        "role_arn": subject.role_arn,
        "bytes_total": 0,
    }


def describe_job(tx: sa.Connection, job_id: str, *, kind: Kind, account: str, region: str | None = None) -> Job:
    """Return one job of an account; ids are compared without regard to case.

    Raises:
        JobNotFoundError: the account has no such job there.
    """
    job = store.find(tx, job_id) or store.find(tx, job_id.lower())
    if job is None or job.kind is not kind or job.account != account or (region is not None and job.region != region):
        raise JobNotFoundError(f"there is no {kind.word.lower()} job {job_id} in account {account}")
    return job


def _made(tx: sa.Connection, job_id: str, now: datetime) -> Job:
    job = _get(tx, job_id)
    store.note_created(tx, [job], now=now)
    return job


def _get(tx: sa.Connection, job_id: str) -> Job:
    job = store.find(tx, job_id)
    if job is None:
        raise JobNotFoundError(f"there is no job {job_id}")
    return job


def claim(
    tx: sa.Connection, job_id: str, expected_epoch: int | None, *, now: datetime, machine_now: datetime, mover: str
) -> Claim | None:
    """Take a job to work on it, and so take it from whoever works on it under an older epoch.

    A waiting job is claimed while its start window lasts and nobody else works on its resource; one that is under way
    only by who knows its present epoch. None if there is nothing to claim.
    """
    before = store.find(tx, job_id)
    if before is None:
        return None
    try:
        with tx.begin_nested():
            job = store.claim(tx, job_id, expected_epoch, now=now, machine_now=machine_now, mover=mover)
    except sa.exc.IntegrityError:  # another job took the resource at this very moment
        job = None
    if job is None:
        in_window = before.start_by is None or now < before.start_by
        if before.state is State.CREATED and in_window and expected_epoch in (None, before.epoch):
            store.let_go(tx, job_id, Waiting.RESOURCE)
        return None
    if job.state is not before.state:
        store.note_transitions(tx, [job], now=now)
    return Claim(job, before.result)


def beat(tx: sa.Connection, job_id: str, epoch: int, progress: Progress | None, *, machine_now: datetime) -> State:
    """Note that a run is alive, and how far it has come; return the state, which may say that it has to stop.

    Raises:
        FencedError: the job has another epoch now, or has ended.
    """
    state = store.beat(tx, job_id, epoch, progress, machine_now=machine_now)
    if state is None:
        raise FencedError(f"job {job_id} is no longer in epoch {epoch}: another run has taken it over, or it has ended")
    return state


def allow_commit(
    tx: sa.Connection, job_id: str, epoch: int, prepared: Mapping[str, Any], *, machine_now: datetime
) -> bool:
    """Say whether a run whose source has ended well may write its snapshot now, and keep what it said about it.

    False if the job has been told to stop.

    Raises:
        FencedError: the job has another epoch now, or has ended.
    """
    if store.allow(tx, job_id, epoch, prepared, machine_now=machine_now):
        return True
    beat(tx, job_id, epoch, None, machine_now=machine_now)
    return False


def complete(
    tx: sa.Connection,
    job_id: str,
    epoch: int,
    outcome: Outcome,
    *,
    now: datetime,
    machine_now: datetime,
    catalogue: Catalogue | None = None,
) -> Job:
    """End a run: one update of job, epoch and state; for a completed backup `catalogue` makes its recovery point.

    A failure that may pass sends the job back to waiting, while its window lasts. A job that was told to stop ends as
    stopped, whatever its run brought home.

    Raises:
        FencedError: the job has another epoch now, or has ended; nothing was changed.
    """
    job = _end_running(tx, job_id, epoch, outcome, now=now)
    if job is None:
        job = _end_aborting(tx, job_id, epoch, now=now)
    if job is None:
        raise FencedError(f"job {job_id} is no longer in epoch {epoch}: what this run brought home does not count")
    if job.state is State.COMPLETED and isinstance(outcome, Completed) and catalogue is not None:
        catalogue(tx, job, outcome)
        job = _get(tx, job_id)
    _note(tx, [job], now=now, machine_now=machine_now)
    return job


def _end_running(tx: sa.Connection, job_id: str, epoch: int, outcome: Outcome, *, now: datetime) -> Job | None:
    running = State.RUNNING
    match outcome:
        case Completed():
            return store.end(
                tx,
                job_id,
                epoch,
                from_state=running,
                state=State.COMPLETED,
                message=outcome.message,
                category=outcome.category,
                result=outcome.result,
                now=now,
                recovery_point_id=outcome.recovery_point_id,
                recovery_point_arn=outcome.recovery_point_arn,
                bytes_read=outcome.bytes_read,
                bytes_stored=outcome.bytes_stored,
            )
        case Partial(message, category, result):
            return store.end(
                tx,
                job_id,
                epoch,
                from_state=running,
                state=State.PARTIAL,
                message=message,
                category=category,
                result=result,
                now=now,
            )
        case Failed():
            job = _get(tx, job_id)
            decision = after_failure(job, outcome, now=now)
            if isinstance(decision, TryAgain):
                return store.try_again(
                    tx, job_id, epoch, at=decision.at, message=outcome.reason, category=outcome.category
                )
            return store.end(
                tx,
                job_id,
                epoch,
                from_state=running,
                state=State.FAILED,
                message=outcome.reason,
                category=outcome.category,
                result={"fault": outcome.fault.value} if outcome.fault else {},
                now=now,
            )
        case Stopped():
            return None


def _end_aborting(tx: sa.Connection, job_id: str, epoch: int, *, now: datetime) -> Job | None:
    job = _get(tx, job_id)
    window_closed = job.category is Category.JOB_EXPIRED
    return store.end(
        tx,
        job_id,
        epoch,
        from_state=State.ABORTING,
        state=State.EXPIRED if window_closed else State.ABORTED,
        message=job.message,
        category=job.category or Category.MISCELLANEOUS,
        result={},
        now=now,
    )


def request_stop(tx: sa.Connection, job: Job, *, now: datetime, machine_now: datetime) -> Job:
    """Stop a job: at once if it waits, else by telling its run to. Stopping one that is stopping changes nothing.

    Raises:
        JobEndedError: it has ended.
        UnstoppableError: its resource is of a type whose backups are not stopped.
    """
    refuse_stop(job)
    words = stopped_by_user(job.kind)
    stopped = store.drop(
        tx, job.id, state=State.ABORTED, message=words, category=Category.MISCELLANEOUS, now=now
    ) or store.abort(tx, job.id, message=words, category=Category.MISCELLANEOUS)
    if stopped is None:
        present = _get(tx, job.id)
        refuse_stop(present)
        return present
    _note(tx, [stopped], now=now, machine_now=machine_now)
    return stopped


def put_validation(tx: sa.Connection, job: Job, status: str, message: str | None) -> None:
    """Note what somebody found when they looked at what a restore had brought back; a final finding stays.

    Raises:
        ValidationFixedError: the restore has not completed, or was validated before.
    """
    if job.state is not State.COMPLETED:
        raise ValidationFixedError(f"restore job {job.id} is {job.state}; only one that completed is validated")
    before = job.result.get("validation", {}).get("status")
    found = {"status": status, "message": message}
    if before not in {None, "VALIDATING"} or not store.put_result(tx, job, {**job.result, "validation": found}):
        raise ValidationFixedError(f"restore job {job.id} was validated before ({before}), and that is not changed")


def expire_unstarted(tx: sa.Connection, *, now: datetime, machine_now: datetime, limit: int = BATCH) -> int:
    """End waiting jobs whose start window has closed, each saying what it was waiting for; return how many."""
    expired = []
    for job, resource_busy in store.overdue_to_start(tx, now=now, limit=limit):
        cause = Waiting.RESOURCE if resource_busy else job.waiting_for
        message, category = expired_before_start(job.kind, cause, job.message)
        expired.append(replace(job, state=State.EXPIRED, message=message, category=category, completed_at=now))
    store.drop_locked(tx, expired, now=now)
    _note(tx, expired, now=now, machine_now=machine_now)
    return len(expired)


def stop_overdue(tx: sa.Connection, *, now: datetime, limit: int = BATCH) -> int:
    """Tell running jobs whose completion window has closed to stop; return how many."""
    overdue = store.overdue_to_complete(tx, now=now, limit=limit)
    aborting = [
        store.abort(tx, job.id, message=expired_before_completion(job.kind), category=Category.JOB_EXPIRED)
        for job in overdue
    ]
    store.note_transitions(tx, [job for job in aborting if job is not None], now=now)
    return len(overdue)


def _note(tx: sa.Connection, jobs: Sequence[Job], *, now: datetime, machine_now: datetime) -> None:
    store.note_transitions(tx, jobs, now=now)
    for job in jobs:
        if job.has_ended:
            news = {
                "job_id": job.id,
                "kind": job.kind,
                "state": job.state,
                "account": job.account,
                "region": job.region,
                "resource_arn": job.resource_arn,
                "recovery_point_id": job.recovery_point_id,
            }
            publish(tx, "JobEnded", news, at=machine_now)
