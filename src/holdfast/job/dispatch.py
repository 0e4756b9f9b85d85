"""Who is next: which waiting jobs are handed to the job engine, and which abandoned ones are taken up again.

Waiting is plain SQL on `job`. The engine is never given more than twice what a site can do at once, so that order,
windows, stops and limits keep being decided here until the last moment.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.settings import SiteSettings
from holdfast.database.values import FOREVER, instant, stamp
from holdfast.job.model import Kind, Waiting

VAULT_CONCURRENCY: Final = 16
"""How many jobs write into one vault at once."""

_AHEAD: Final = 2
"""How many times a lane's movers may be handed out, so that a mover that gets free finds its next job."""

_LOOKED_AT: Final = 200
"""How many waiting jobs are read at a time."""

_TOLD: Final = 1_000
"""How many of the next jobs of a lane are told that every mover is busy."""

_PASSED_OVER: Final = 5_000
"""How many waiting jobs of one lane are looked at in one pass, at most."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The movers of one site that do one sort of work. Restores have their own, so that no backup keeps them out."""

    site: str
    concurrency: int
    restores: bool = False

    @property
    def queue(self) -> str:
        """The name of its queue in the job engine."""
        return f"{self.site}/{'restore' if self.restores else 'backup'}"


@dataclass(frozen=True, slots=True)
class Handover:
    """One job that the engine shall run now. The epoch is the one that the run has to find."""

    job_id: str
    epoch: int
    queue: str


def lanes(site: SiteSettings) -> tuple[Lane, Lane]:
    """Return the two lanes of a site."""
    return Lane(site.name, site.concurrency), Lane(site.name, site.restore_concurrency, restores=True)


def lane_of(site: str, kind: Kind) -> str:
    """Return the name of the queue for jobs of a kind at a site."""
    return Lane(site, 0, restores=kind is Kind.RESTORE).queue


_UNDER_WAY = text("""
    SELECT account, region, resource_arn, vault_arn, site, kind FROM job
     WHERE state IN ('RUNNING', 'ABORTING')
    UNION ALL
    SELECT account, region, resource_arn, vault_arn, site, kind FROM job
     WHERE state = 'CREATED' AND dispatched_at IS NOT NULL AND dispatched_at > 0
""")

_WAITING = """
    SELECT id, epoch, account, region, resource_arn, vault_arn, kind, waiting_for, priority, start_by, retry_at,
           dispatched_at
      FROM job
     WHERE state = 'CREATED' AND {kind} AND site = :site
       AND (priority, start_by, id) > (:priority, :start_by, :id)
     ORDER BY priority, start_by, id
     LIMIT :limit
"""

_HAND_OVER = text("""
    UPDATE job SET dispatched_at = :machine_now, waiting_for = ''
     WHERE id = :id AND state = 'CREATED' AND dispatched_at IS NULL
 RETURNING id
""")
_WAITS = text("UPDATE job SET waiting_for = :waiting_for WHERE id = :id AND state = 'CREATED'")

_WAIT_FOR_SITE = """
    UPDATE job SET waiting_for = 'site'
     WHERE id IN (SELECT id FROM job WHERE state = 'CREATED' AND {kind} AND site = :site
                   ORDER BY priority, start_by, id LIMIT :limit)
       AND state = 'CREATED' AND waiting_for = '' AND dispatched_at IS NULL
"""


def dispatch(tx: sa.Connection, lane: Lane, *, now: datetime, machine_now: datetime) -> list[Handover]:
    """Choose the waiting jobs of a lane that may start now, by priority and start_by, and mark them as handed over.

    At most one job per resource and so many per vault; what is passed over is told what it waits for. Call it in the
    same transaction that puts the jobs into the engine's queue.
    """
    sort = _sort(lane)
    busy, writing, taken = _under_way(tx, lane)
    free = lane.concurrency * _AHEAD - taken
    chosen: list[Handover] = []
    waits: dict[str, Waiting] = {}
    for row in _waiting(tx, lane.site, sort):
        if row.dispatched_at is not None or (row.retry_at is not None and row.retry_at > stamp(now)):
            continue
        if row.start_by <= stamp(now):
            continue  # the sweep of windows ends it
        resource = (row.account, row.region, row.resource_arn)
        if not lane.restores and resource in busy:
            waits[row.id] = Waiting.RESOURCE
        elif len(chosen) >= free:
            break
        elif not lane.restores and writing[row.vault_arn] >= VAULT_CONCURRENCY:
            waits[row.id] = Waiting.VAULT
        else:
            chosen.append(Handover(row.id, row.epoch, lane.queue))
            busy.add(resource)
            writing[row.vault_arn] += 1
            continue
        if waits[row.id] == row.waiting_for:
            del waits[row.id]
    handed_over = [
        job
        for job in chosen
        if tx.execute(_HAND_OVER, {"id": job.job_id, "machine_now": stamp(machine_now)}).scalar_one_or_none()
    ]
    if waits:
        tx.execute(_WAITS, [{"id": job_id, "waiting_for": waiting} for job_id, waiting in waits.items()])
    return handed_over


def tell_waiting(tx: sa.Connection, lane: Lane) -> None:
    """Tell the next jobs of a lane, if they wait for nothing else, that every mover is busy."""
    tx.execute(text(_WAIT_FOR_SITE.format(kind=_sort(lane))), {"site": lane.site, "limit": _TOLD})


def _sort(lane: Lane) -> str:
    return "kind = 'RESTORE'" if lane.restores else "kind <> 'RESTORE'"


def _under_way(tx: sa.Connection, lane: Lane) -> tuple[set[tuple[str, str, str]], Counter[str], int]:
    """Return the resources that are worked on, how many jobs each vault has, and how many the lane has."""
    busy: set[tuple[str, str, str]] = set()
    writing: Counter[str] = Counter()
    taken = 0
    for row in tx.execute(_UNDER_WAY):
        taken += lane_of(row.site, Kind(row.kind)) == lane.queue
        if row.kind != Kind.RESTORE:
            busy.add((row.account, row.region, row.resource_arn))
            writing[row.vault_arn] += 1
    return busy, writing, taken


def _waiting(tx: sa.Connection, site: str, sort: str) -> Iterator[sa.Row[Any]]:
    at: dict[str, Any] = {"priority": -1, "start_by": 0, "id": ""}
    statement = text(_WAITING.format(kind=sort))
    for _ in range(0, _PASSED_OVER, _LOOKED_AT):
        rows: Sequence[sa.Row[Any]] = tx.execute(statement, {**at, "site": site, "limit": _LOOKED_AT}).all()
        yield from rows
        if len(rows) < _LOOKED_AT:
            return
        at = {"priority": rows[-1].priority, "start_by": rows[-1].start_by, "id": rows[-1].id}


_STALE = text("""
    UPDATE job SET dispatched_at = :machine_now
     WHERE state IN ('RUNNING', 'ABORTING') AND seen_at < :silent_since
       AND (dispatched_at IS NULL OR dispatched_at < :silent_since)
 RETURNING id, epoch, site, kind
""")

_MINE = text("""
    UPDATE job SET dispatched_at = :machine_now
     WHERE state IN ('RUNNING', 'ABORTING') AND mover = :mover
 RETURNING id, epoch, site, kind
""")

_LOST = text("SELECT id, epoch FROM job WHERE state = 'CREATED' AND dispatched_at < :handed_over_before")
_TAKE_BACK = text("UPDATE job SET dispatched_at = NULL WHERE id = :id AND state = 'CREATED'")


def reap(tx: sa.Connection, *, machine_now: datetime, silence: timedelta) -> list[Handover]:
    """Take up jobs whose run has not been heard of for `silence`; of two who do, one gets each job.

    Being wrong about it costs work, never data: the run that is taken over from is fenced by its epoch.
    """
    rows = tx.execute(_STALE, {"machine_now": stamp(machine_now), "silent_since": stamp(machine_now - silence)})
    return [Handover(row.id, row.epoch, lane_of(row.site, Kind(row.kind))) for row in rows]


def reap_own(tx: sa.Connection, *, machine_now: datetime, mover: str) -> list[Handover]:
    """Take up at once everything that a former process of the same name was working on: it is gone, we are it."""
    rows = tx.execute(_MINE, {"machine_now": stamp(machine_now), "mover": mover})
    return [Handover(row.id, row.epoch, lane_of(row.site, Kind(row.kind))) for row in rows]


def take_back_lost(tx: sa.Connection, in_engine: set[tuple[str, int]], *, before: datetime) -> int:
    """Let jobs be handed over again that were handed over before an instant and that the engine does not know."""
    rows = tx.execute(_LOST, {"handed_over_before": stamp(before)}).all()
    lost = [{"id": row.id} for row in rows if (row.id, row.epoch) not in in_engine]
    if lost:
        tx.execute(_TAKE_BACK, lost)
    return len(lost)


_NEXT = text("""
    SELECT min(at) FROM (
        SELECT min(start_by) AS at FROM job WHERE state = 'CREATED'
        UNION ALL
        SELECT min(retry_at) FROM job WHERE state = 'CREATED' AND retry_at IS NOT NULL AND retry_at > :now
        UNION ALL
        SELECT min(complete_by) FROM job WHERE state = 'RUNNING'
    ) AS instants
""")


def next_instant(tx: sa.Connection, *, now: datetime) -> datetime | None:
    """Return the next civil instant at which a window of a job closes or its next try is due; None if there is none."""
    at = tx.execute(_NEXT, {"now": stamp(now)}).scalar_one()
    return None if at is None or at == FOREVER else instant(at)
