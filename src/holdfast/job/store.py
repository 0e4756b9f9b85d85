"""The rows of jobs: how they are read, claimed, beaten, ended, all as single guarded statements.

Nothing here decides. Every statement that moves a job names the state and the epoch that it moves it from, so that of
two who try only one succeeds.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import FOREVER, from_json, instant, instant_or_none, stamp, stamp_or_none, to_json
from holdfast.job.event import DETAIL_TYPES, created, detail_of, resources_of
from holdfast.job.model import Category, Job, Kind, Progress, State, Waiting
from holdfast.job.origin import created_by
from holdfast.trail.event import state_change
from holdfast.trail.service import Entry, record, record_alike

_MICROSECOND = timedelta(microseconds=1)

COLUMNS = (
    "id, kind, account, region, state, epoch, priority, site, organization_id, unit_path, resource_arn, resource_type, "
    "resource_name, resource_id, vault_name, vault_arn, recovery_point_id, recovery_point_arn, role_arn, document_id, "
    "plan_id, plan_name, plan_version, rule_id, rule_name, selection_name, options, due_at, created_at, start_by, "
    "complete_by, completion_window, started_at, completed_at, dispatched_at, seen_at, mover, attempts, retry_at, "
    "message, message_category, waiting_for, percent, bytes_total, bytes_done, bytes_stored, result, parent_id, "
    "monitored_by"
)

RESOURCE_IS_FREE = """
    NOT EXISTS (SELECT 1 FROM job AS other
                 WHERE other.account = job.account AND other.region = job.region
                   AND other.resource_arn = job.resource_arn AND other.id <> job.id
                   AND other.state IN ('RUNNING', 'ABORTING') AND other.kind IN ('BACKUP', 'COPY'))
"""
"""True of a job whose resource no other backup or copy works on."""

MONITORED_BY = """(SELECT trusting.organization_id FROM service_access AS trusting
                    WHERE trusting.organization_id = {organization} AND trusting.principal = 'backup.amazonaws.com')"""
"""The organization that sees a job that is inserted: the account's own, if it trusts AWS Backup at that moment."""

_INSERT = text(f"""
    INSERT INTO job ({COLUMNS})
    VALUES (:id, :kind, :account, :region, 'CREATED', 0, :priority, :site, :organization_id, :unit_path, :resource_arn,
            :resource_type, :resource_name, :resource_id, :vault_name, :vault_arn, :recovery_point_id,
            :recovery_point_arn, :role_arn, NULL, NULL, NULL, NULL, NULL, NULL, NULL, :options, NULL, :now, :start_by,
            :complete_by, :completion_window, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, '', 0, :bytes_total,
            0, 0, '{{}}', NULL, {MONITORED_BY.format(organization=":organization_id")})
""")  # fmt: skip

_INSERT_COPY = text(f"""
    INSERT INTO job ({COLUMNS})
    SELECT :id, 'COPY', account, region, 'CREATED', 0, priority - 1, :site, organization_id, unit_path, resource_arn,
           resource_type, resource_name, resource_id, :vault_name, :vault_arn, :recovery_point_id,
           :recovery_point_arn, role_arn, document_id, plan_id, plan_name, plan_version, rule_id, rule_name,
           selection_name, :options, NULL, :now, :start_by, NULL, :completion_window, NULL, NULL, NULL, NULL, NULL, 0,
           NULL, NULL, NULL, '', 0, :bytes_total, 0, 0, '{{}}', NULL,
           {MONITORED_BY.format(organization="job.organization_id")}
      FROM job WHERE id = :backup
    ON CONFLICT (id) DO NOTHING
 RETURNING {COLUMNS}
""").bindparams(
    *(sa.bindparam(name, type_=sa.BigInteger) for name in ("now", "start_by", "completion_window", "bytes_total")),
    *(
        sa.bindparam(name, type_=sa.Text)
        for name in ("id", "site", "vault_name", "vault_arn", "recovery_point_id", "recovery_point_arn", "options")
    ),
)

_SELECT = text(f"SELECT {COLUMNS} FROM job WHERE id = :id")

_CLAIM = text(f"""
    UPDATE job
       SET state = CASE state WHEN 'CREATED' THEN 'RUNNING' ELSE state END,
           epoch = epoch + 1, attempts = attempts + 1, seen_at = :machine_now, mover = :mover, dispatched_at = NULL,
           retry_at = NULL, waiting_for = '',
           message = CASE state WHEN 'CREATED' THEN NULL ELSE message END,
           message_category = CASE state WHEN 'CREATED' THEN NULL ELSE message_category END,
           started_at = COALESCE(started_at, :now),
           complete_by = COALESCE(complete_by, :now + completion_window)
     WHERE id = :id
       AND (state = 'CREATED' AND start_by > :now AND (:expected IS NULL OR epoch = :expected)
                AND (kind = 'RESTORE' OR {RESOURCE_IS_FREE})
            OR state IN ('RUNNING', 'ABORTING') AND epoch = :expected)
 RETURNING {COLUMNS}
""").bindparams(sa.bindparam("expected", type_=sa.Integer))

_ALIVE = text("""
    UPDATE job SET seen_at = :machine_now
     WHERE id = :id AND epoch = :epoch AND state IN ('RUNNING', 'ABORTING')
 RETURNING state
""")

_BEAT = text("""
    UPDATE job
       SET seen_at = :machine_now, percent = :percent, bytes_done = :bytes_done, bytes_stored = :bytes_stored,
           bytes_total = CASE WHEN :bytes_total > 0 THEN :bytes_total ELSE bytes_total END
     WHERE id = :id AND epoch = :epoch AND state IN ('RUNNING', 'ABORTING')
 RETURNING state
""")

_ALLOW = text("""
    UPDATE job SET result = :prepared, seen_at = :machine_now
     WHERE id = :id AND epoch = :epoch AND state = 'RUNNING'
 RETURNING id
""")

_END = text(f"""
    UPDATE job
       SET state = :state, message = :message, message_category = :category, completed_at = :now, result = :result,
           recovery_point_id = COALESCE(:recovery_point_id, recovery_point_id),
           recovery_point_arn = COALESCE(:recovery_point_arn, recovery_point_arn),
           percent = CASE WHEN :state = 'COMPLETED' THEN 100 ELSE percent END,
           bytes_done = CASE WHEN :state = 'COMPLETED' THEN :bytes_read ELSE bytes_done END,
           bytes_stored = CASE WHEN :state = 'COMPLETED' THEN :bytes_stored ELSE bytes_stored END
     WHERE id = :id AND epoch = :epoch AND state = :from_state
 RETURNING {COLUMNS}
""").bindparams(
    sa.bindparam("recovery_point_id", type_=sa.Text),
    sa.bindparam("recovery_point_arn", type_=sa.Text),
    sa.bindparam("state", type_=sa.Text),
)

_VALIDATED = text("UPDATE job SET result = :result WHERE id = :id AND result = :before")

_TRY_AGAIN = text(f"""
    UPDATE job
       SET state = 'CREATED', retry_at = :retry_at, waiting_for = 'retry', message = :message,
           message_category = :category, started_at = NULL, percent = 0, bytes_done = 0, bytes_stored = 0,
           complete_by = CASE WHEN due_at IS NULL THEN complete_by ELSE NULL END
     WHERE id = :id AND epoch = :epoch AND state = 'RUNNING'
 RETURNING {COLUMNS}
""")

_ABORT = text(f"""
    UPDATE job SET state = 'ABORTING', message = :message, message_category = :category
     WHERE id = :id AND state = 'RUNNING'
 RETURNING {COLUMNS}
""")

_DROP = text(f"""
    UPDATE job SET state = :state, message = :message, message_category = :category, completed_at = :now
     WHERE id = :id AND state = 'CREATED'
 RETURNING {COLUMNS}
""")

_DROP_LOCKED = text("""
    UPDATE job SET state = :state, message = :message, message_category = :category, completed_at = :now
     WHERE id = :id AND state = 'CREATED'
""")

_LET_GO = text("""
    UPDATE job SET dispatched_at = NULL, waiting_for = :waiting_for
     WHERE id = :id AND state = 'CREATED'
""")

_EACH_ID = "$job"
"""Stands for the id of each of very many jobs."""
_TRANSITION = text("""
    INSERT INTO job_transition (job_id, at, state, epoch, message) VALUES (:job_id, :at, :state, :epoch, :message)
""")


def from_row(row: sa.Row[Any]) -> Job:
    """Return the job that a row with `COLUMNS` holds."""
    return Job(
        id=row.id,
        kind=Kind(row.kind),
        account=row.account,
        region=row.region,
        state=State(row.state),
        epoch=row.epoch,
        priority=row.priority,
        site=row.site,
        organization_id=row.organization_id,
        unit_path=row.unit_path,
        resource_arn=row.resource_arn,
        resource_type=row.resource_type,
        resource_name=row.resource_name,
        resource_id=row.resource_id,
        vault_name=row.vault_name,
        vault_arn=row.vault_arn,
        recovery_point_id=row.recovery_point_id,
        recovery_point_arn=row.recovery_point_arn,
        role_arn=row.role_arn,
        document_id=row.document_id,
        plan_id=row.plan_id,
        plan_name=row.plan_name,
        plan_version=row.plan_version,
        rule_id=row.rule_id,
        rule_name=row.rule_name,
        selection_name=row.selection_name,
        options=from_json(row.options),
        due_at=instant_or_none(row.due_at),
        created_at=instant(row.created_at),
        start_by=instant_or_none(row.start_by),
        complete_by=instant_or_none(row.complete_by),
        completion_window=row.completion_window * _MICROSECOND,
        started_at=instant_or_none(row.started_at),
        completed_at=instant_or_none(row.completed_at),
        dispatched_at=instant_or_none(row.dispatched_at),
        seen_at=instant_or_none(row.seen_at),
        mover=row.mover,
        attempts=row.attempts,
        retry_at=instant_or_none(row.retry_at),
        message=row.message,
        category=None if row.message_category is None else Category(row.message_category),
        waiting_for=Waiting(row.waiting_for),
        percent=float(row.percent),
        bytes_total=row.bytes_total,
        bytes_done=row.bytes_done,
        bytes_stored=row.bytes_stored,
        result=from_json(row.result),
        parent_id=row.parent_id,
        monitored_by=row.monitored_by,
    )


def insert(
    tx: sa.Connection,
    values: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    completion_window: timedelta,
    start_by: datetime | None,
    complete_by: datetime | None,
    now: datetime,
) -> None:
    """Insert one waiting job that no plan made."""
    tx.execute(
        _INSERT,
        {
            **values,
            "options": to_json(dict(options)),
            "completion_window": completion_window // _MICROSECOND,
            "start_by": FOREVER if start_by is None else stamp(start_by),
            "complete_by": stamp_or_none(complete_by),
            "now": stamp(now),
        },
    )


def insert_copies(
    tx: sa.Connection,
    backup_id: str,
    copies: Sequence[Mapping[str, Any]],
    *,
    completion_window: timedelta,
    now: datetime,
) -> None:
    """Insert waiting copy jobs beside the backup that they follow, under its plan and rule; those there are stay.

    They go before further backups: without a start window they would otherwise come last at a site that is never idle.
    """
    made = []
    for copy in copies:
        row = tx.execute(
            _INSERT_COPY,
            {
                **copy,
                "options": to_json(dict(copy["options"])),
                "backup": backup_id,
                "start_by": FOREVER,
                "completion_window": completion_window // _MICROSECOND,
                "now": stamp(now),
            },
        ).one_or_none()
        if row is not None:
            made.append(from_row(row))
    note_created(tx, made, now=now)


def find(tx: sa.Connection, job_id: str) -> Job | None:
    """Return one job, None if there is none."""
    row = tx.execute(_SELECT, {"id": job_id}).one_or_none()
    return None if row is None else from_row(row)


def claim(
    tx: sa.Connection, job_id: str, expected_epoch: int | None, *, now: datetime, machine_now: datetime, mover: str
) -> Job | None:
    """Raise the epoch of a job that waits in its window with a free resource, or that has the expected epoch."""
    row = tx.execute(
        _CLAIM,
        {
            "id": job_id,
            "expected": expected_epoch,
            "now": stamp(now),
            "machine_now": stamp(machine_now),
            "mover": mover,
        },
    ).one_or_none()
    return None if row is None else from_row(row)


def beat(
    tx: sa.Connection, job_id: str, epoch: int, progress: Progress | None, *, machine_now: datetime
) -> State | None:
    """Note that a run was heard of; return its job's state, None if the epoch is no longer the job's."""
    whose = {"id": job_id, "epoch": epoch, "machine_now": stamp(machine_now)}
    if progress is None:
        state = tx.execute(_ALIVE, whose).scalar_one_or_none()
    else:
        state = tx.execute(
            _BEAT,
            {
                **whose,
                "percent": progress.percent,
                "bytes_done": progress.bytes_done,
                "bytes_total": progress.bytes_total,
                "bytes_stored": progress.bytes_stored,
            },
        ).scalar_one_or_none()
    return None if state is None else State(state)


def allow(tx: sa.Connection, job_id: str, epoch: int, prepared: Mapping[str, Any], *, machine_now: datetime) -> bool:
    """Note what a run is about to commit; false if it may not."""
    row = tx.execute(
        _ALLOW,
        {"id": job_id, "epoch": epoch, "prepared": to_json(dict(prepared)), "machine_now": stamp(machine_now)},
    ).one_or_none()
    return row is not None


def put_result(tx: sa.Connection, job: Job, result: Mapping[str, Any]) -> bool:
    """Replace what a job has made known of itself; return False if somebody else changed it since it was read."""
    values = {"id": job.id, "before": to_json(job.result), "result": to_json(result)}
    return tx.execute(_VALIDATED, values).rowcount == 1


def end(
    tx: sa.Connection,
    job_id: str,
    epoch: int,
    *,
    from_state: State,
    state: State,
    message: str | None,
    category: Category,
    result: Mapping[str, Any],
    now: datetime,
    recovery_point_id: str | None = None,
    recovery_point_arn: str | None = None,
    bytes_read: int = 0,
    bytes_stored: int = 0,
) -> Job | None:
    """End a job that is in `from_state` under `epoch`; None if it is not."""
    row = tx.execute(
        _END,
        {
            "id": job_id,
            "epoch": epoch,
            "from_state": from_state,
            "state": state,
            "message": message,
            "category": category,
            "result": to_json(dict(result)),
            "now": stamp(now),
            "recovery_point_id": recovery_point_id,
            "recovery_point_arn": recovery_point_arn,
            "bytes_read": bytes_read,
            "bytes_stored": bytes_stored,
        },
    ).one_or_none()
    return None if row is None else from_row(row)


def try_again(
    tx: sa.Connection, job_id: str, epoch: int, *, at: datetime, message: str, category: Category
) -> Job | None:
    """Send a running job back to waiting; None if it does not run under `epoch`."""
    row = tx.execute(
        _TRY_AGAIN, {"id": job_id, "epoch": epoch, "retry_at": stamp(at), "message": message, "category": category}
    ).one_or_none()
    return None if row is None else from_row(row)


def abort(tx: sa.Connection, job_id: str, *, message: str, category: Category) -> Job | None:
    """Tell a running job to stop; None if it does not run."""
    row = tx.execute(_ABORT, {"id": job_id, "message": message, "category": category}).one_or_none()
    return None if row is None else from_row(row)


def drop(
    tx: sa.Connection, job_id: str, *, state: State, message: str, category: Category, now: datetime
) -> Job | None:
    """End a job that has not started; None if it is not waiting."""
    row = tx.execute(
        _DROP, {"id": job_id, "state": state, "message": message, "category": category, "now": stamp(now)}
    ).one_or_none()
    return None if row is None else from_row(row)


def drop_locked(tx: sa.Connection, jobs: Sequence[Job], *, now: datetime) -> None:
    """End jobs that `overdue_to_start` has just given, each as the state, message and category in `jobs` say."""
    if jobs:
        tx.execute(
            _DROP_LOCKED,
            [
                {"id": job.id, "state": job.state, "message": job.message, "category": job.category, "now": stamp(now)}
                for job in jobs
            ],
        )


def let_go(tx: sa.Connection, job_id: str, waiting_for: Waiting) -> None:
    """Take a waiting job back from the job engine."""
    tx.execute(_LET_GO, {"id": job_id, "waiting_for": waiting_for})


def overdue_to_start(tx: sa.Connection, *, now: datetime, limit: int) -> list[tuple[Job, bool]]:
    """Return waiting jobs whose start window has closed, and whether another job holds their resource."""
    rows = tx.execute(
        text(f"""
            SELECT {COLUMNS}, CASE WHEN kind <> 'RESTORE' AND NOT {RESOURCE_IS_FREE} THEN 1 ELSE 0 END AS busy
              FROM job WHERE state = 'CREATED' AND start_by <= :now
             ORDER BY start_by LIMIT :limit {locking(tx)}
        """),
        {"now": stamp(now), "limit": limit},
    )
    return [(from_row(row), bool(row.busy)) for row in rows]


def overdue_to_complete(tx: sa.Connection, *, now: datetime, limit: int) -> list[Job]:
    """Return running jobs whose completion window has closed."""
    rows = tx.execute(
        text(f"""
            SELECT {COLUMNS} FROM job WHERE state = 'RUNNING' AND complete_by <= :now
             ORDER BY complete_by LIMIT :limit {locking(tx)}
        """),
        {"now": stamp(now), "limit": limit},
    )
    return [from_row(row) for row in rows]


def note_transitions(tx: sa.Connection, jobs: Iterable[Job], *, now: datetime) -> None:
    """Write down the states that jobs have just come into."""
    jobs = list(jobs)
    rows: Sequence[Mapping[str, Any]] = [
        {"job_id": job.id, "at": stamp(now), "state": job.state, "epoch": job.epoch, "message": job.message or ""}
        for job in jobs
    ]
    if rows:
        tx.execute(_TRANSITION, rows)
        record(tx, *(_entry(tx, job, now) for job in jobs))


def note_scheduled(tx: sa.Connection, jobs: Sequence[tuple[str, str]], *, region: str, now: datetime) -> None:
    """Write into the trail that the scheduler made backup jobs, each given as its account and id."""
    kind = Kind.BACKUP
    about = state_change(
        f"{kind.word}JobCreated",
        DETAIL_TYPES[kind],
        {"jobId": _EACH_ID, **created(_EACH_ID, kind, now)},
        account="",
        region=region,
        reason="its run was due",
        at=now,
    )
    record_alike(tx, about, _EACH_ID, jobs)


def note_created(tx: sa.Connection, jobs: Iterable[Job], *, now: datetime) -> None:
    """Write into the trail that jobs were made."""
    record(tx, *(_entry(tx, job, now) for job in jobs))


def _entry(tx: sa.Connection, job: Job, now: datetime) -> Entry:
    """Return what the trail says of the state that a job has just come into.

    Names of the events: AWS Backup Developer Guide, "Logging AWS Backup API calls with CloudTrail".
    """
    if job.state is State.RUNNING:
        what = "RestoreStarted" if job.kind is Kind.RESTORE else f"{job.kind.word}JobStarted"
    elif job.has_ended:
        what = "RestoreCompleted" if job.kind is Kind.RESTORE else f"{job.kind.word}JobCompleted"
    elif job.state is State.CREATED and not job.attempts:
        what = f"{job.kind.word}JobCreated"
    else:
        what = f"{job.kind.word}JobStateChanged"
    return state_change(
        what,
        DETAIL_TYPES[job.kind],
        {"jobId": job.id, "epoch": job.epoch, **detail_of(job, created_by(tx, job))},
        account=job.account,
        region=job.region,
        resources=resources_of(job),
        reason=job.message or f"the job is {job.state.value}",
        at=now,
    )


def transitions(tx: sa.Connection, job_id: str) -> list[tuple[State, int, str]]:
    """Return the states a job came into, in order, each with the epoch and the message of that moment."""
    rows = tx.execute(
        text("SELECT state, epoch, message FROM job_transition WHERE job_id = :id ORDER BY id"), {"id": job_id}
    )
    return [(State(row.state), row.epoch, row.message) for row in rows]


def locking(tx: sa.Connection) -> str:
    """Return what a SELECT ends with whose rows are to be changed: nothing on SQLite, where one writes at a time."""
    return "" if tx.dialect.name == "sqlite" else "FOR UPDATE SKIP LOCKED"
