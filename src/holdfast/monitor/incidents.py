"""Opening, following, acknowledging and closing incidents; see `incident` for what one is.

Jobs that ended are taken block by block from the trail, as events are, and written by a few statements per block: one
for the causes, one for what they affect, one for what works again, one for what is over. An incident is announced by an
entry of the trail when it opens and when it closes, and by nothing in between.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, text

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER, from_json, instant, instant_or_none, stamp
from holdfast.job.model import Category, Fault, Kind, State
from holdfast.monitor.incident import (
    FAILURES,
    INCIDENT_CHANGE,
    Affected,
    CauseKind,
    Ended,
    Incident,
    IncidentClosedError,
    IncidentState,
    UnknownIncidentError,
    cause_of,
    detail_of,
    proofs_of,
)
from holdfast.monitor.search import paths_below
from holdfast.monitor.service import View, view_of, watched_by
from holdfast.trail.event import state_change, told_instant
from holdfast.trail.service import record

_CHUNK: Final = 500
BEFORE_ALL: Final = (2**62, "")
"""The position before the newest incident."""

_ENDED = text(f"""
    SELECT j.id, j.kind, j.account, j.region, j.state, j.message_category, j.message, j.role_arn, j.vault_arn,
           j.resource_arn, j.site, j.unit_path, j.monitored_by, j.started_at, j.completed_at, j.result,
           v.storage, v.key_arn, r.source_url
      FROM job j
      LEFT JOIN vault v ON v.arn = j.vault_arn AND v.deleted_at = {FOREVER}
      LEFT JOIN resource r ON r.account = j.account AND r.region = j.region AND r.arn = j.resource_arn
     WHERE j.id IN :ids AND j.completed_at IS NOT NULL""").bindparams(bindparam("ids", expanding=True, type_=sa.Text))
_COLUMNS: Final = (
    "id, scope, account, region, cause, thing, state, message, opened_at, closed_at, acknowledged_at, acknowledged_by"
)
_CAUSES = text("SELECT DISTINCT cause FROM incident WHERE state <> 'CLOSED'")
_OPEN = text("""
    INSERT INTO incident (id, scope, account, region, cause, thing, state, message, opened_at)
    VALUES (:id, :scope, COALESCE((SELECT management_account FROM organization WHERE id = :scope), :account), :region,
            :cause, :thing, 'OPEN', :message, :at)
    ON CONFLICT (scope, cause, thing) WHERE state <> 'CLOSED' DO NOTHING""")
_NOT_CLOSED = text("SELECT id, scope, cause, thing FROM incident WHERE state <> 'CLOSED' AND scope IN :scopes")
_NOT_CLOSED = _NOT_CLOSED.bindparams(bindparam("scopes", expanding=True, type_=sa.Text))
_AFFECT = text("""
    INSERT INTO incident_affected (incident_id, account, resource_arn, thing, region, unit_path, job_id, failed_at)
    VALUES (:incident_id, :account, :resource_arn, :thing, :region, :unit_path, :job_id, :failed_at)
    ON CONFLICT (incident_id, account, resource_arn, thing) DO UPDATE
       SET job_id = excluded.job_id, failed_at = excluded.failed_at, unit_path = excluded.unit_path,
           recovered_at = NULL
     WHERE excluded.failed_at >= incident_affected.failed_at""")
# What began before the last failure shows nothing: the thing may have gone wrong while it was under way.
_RECOVER = text("""
    UPDATE incident_affected SET recovered_at = :at
     WHERE thing = :thing AND recovered_at IS NULL AND failed_at < :started_at
       AND incident_id IN (SELECT id FROM incident WHERE cause = :cause AND state <> 'CLOSED')""")
# A backup of what is registered no more never comes again, nor does anything of an account that has left.
_GONE = text("""
    UPDATE incident_affected SET recovered_at = :at
     WHERE recovered_at IS NULL
       AND (EXISTS (SELECT 1 FROM incident i
                     WHERE i.id = incident_affected.incident_id AND i.scope <> incident_affected.account
                       AND NOT EXISTS (SELECT 1 FROM account a
                                        WHERE a.id = incident_affected.account AND a.organization_id = i.scope))
            OR EXISTS (SELECT 1 FROM job j WHERE j.id = incident_affected.job_id AND j.kind = 'BACKUP')
               AND NOT EXISTS (SELECT 1 FROM resource r
                                WHERE r.account = incident_affected.account AND r.region = incident_affected.region
                                  AND r.arn = incident_affected.resource_arn AND r.deleted_at IS NULL))""")
_CLOSE = text(f"""
    UPDATE incident SET state = 'CLOSED', closed_at = :at
     WHERE state <> 'CLOSED'
       AND NOT EXISTS (SELECT 1 FROM incident_affected a WHERE a.incident_id = incident.id AND a.recovered_at IS NULL)
 RETURNING {_COLUMNS}""")
_BY_ID = text(f"SELECT {_COLUMNS} FROM incident WHERE id IN :ids").bindparams(
    bindparam("ids", expanding=True, type_=sa.Text)
)
_SEEN: Final = """(:account = '' OR account = :account) AND (:all_units OR unit_path IN :paths)"""
_COUNTS = text(f"""
    SELECT incident_id, count(DISTINCT account || resource_arn) AS resources, count(DISTINCT account) AS accounts,
           count(DISTINCT CASE WHEN recovered_at IS NULL THEN account || resource_arn END) AS unrecovered,
           max(failed_at) AS last_failed_at
      FROM incident_affected WHERE incident_id IN :ids AND {_SEEN} GROUP BY incident_id""")
_COUNTS = _COUNTS.bindparams(bindparam("ids", expanding=True, type_=sa.Text), bindparam("paths", expanding=True))
_LIST = text(f"""
    SELECT {_COLUMNS} FROM incident
     WHERE (:scope = '' OR scope = :scope) AND (:state = '' OR state = :state)
       AND (opened_at < :at OR opened_at = :at AND id < :id)
       AND (NOT :narrow
            OR id IN (SELECT incident_id FROM incident_affected WHERE {_SEEN}))
     ORDER BY opened_at DESC, id DESC LIMIT :limit""").bindparams(bindparam("paths", expanding=True))
_AFFECTED = text(f"""
    SELECT account, region, resource_arn, thing, job_id, failed_at, recovered_at FROM incident_affected
     WHERE incident_id = :incident_id AND {_SEEN}
       AND (account > :after_account OR account = :after_account AND (resource_arn > :after_arn
            OR resource_arn = :after_arn AND thing > :after_thing))
     ORDER BY account, resource_arn, thing LIMIT :limit""").bindparams(bindparam("paths", expanding=True))
_ACKNOWLEDGE = text(f"""
    UPDATE incident SET state = 'ACKNOWLEDGED', acknowledged_at = :at, acknowledged_by = :who
     WHERE id = :id AND state = 'OPEN' RETURNING {_COLUMNS}""")

_EVERYTHING: Final = {"account": "", "all_units": True, "paths": ("",)}


def follow(tx: sa.Connection, ended: Iterable[tuple[str, bool]], *, now: datetime) -> None:
    """Take what jobs that ended say into incidents, in the transaction that notes that they were looked at.

    Args:
        tx: the open transaction.
        ended: ids of jobs, each with whether it failed.
        now: civil time.
    """
    ended = list(ended)
    failures = _jobs(tx, [job_id for job_id, failed in ended if failed])
    opened = _open(tx, failures)
    causes = {CauseKind(cause) for cause in tx.execute(_CAUSES).scalars()}
    closed: list[Incident] = []
    if causes:
        _recover(tx, _jobs(tx, [job_id for job_id, failed in ended if not failed]), causes, now)
        closed = [_incident(row) for row in tx.execute(_CLOSE, {"at": stamp(now)})]
    _announce(tx, [*opened, *(incident.id for incident in closed)], opened, now)


def close_what_is_gone(database: Database, *, now: datetime) -> None:
    """Count as recovered what can recover no more, and close the incidents that are over by that."""
    with database.reading() as tx:
        if not tx.execute(_CAUSES).first():
            return
    with database.transaction() as tx:
        tx.execute(_GONE, {"at": stamp(now)})
        closed = [_incident(row).id for row in tx.execute(_CLOSE, {"at": stamp(now)})]
        _announce(tx, closed, [], now)


def _jobs(tx: sa.Connection, ids: Sequence[str]) -> list[Ended]:
    found = []
    for first in range(0, len(ids), _CHUNK):
        found += [_ended(row) for row in tx.execute(_ENDED, {"ids": list(ids[first : first + _CHUNK])})]
    return found


def _open(tx: sa.Connection, failures: Sequence[Ended]) -> list[str]:
    """Write failures down under their causes; return the ids of incidents that they opened."""
    if not failures:
        return []
    causes = [(job, cause_of(job)) for job in failures if job.state in FAILURES]
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    for job, cause in causes:
        key = (_scope(job), cause.kind.value, cause.thing)
        about = {"account": job.account, "region": job.region, "message": job.message, "at": stamp(job.completed_at)}
        first.setdefault(
            key, {"id": new_uuid(), "scope": key[0], "cause": cause.kind.value, "thing": cause.thing, **about}
        )
    if not first:
        return []
    tx.execute(_OPEN, list(first.values()))
    rows = tx.execute(_NOT_CLOSED, {"scopes": sorted({key[0] for key in first})})
    ids = {(row.scope, row.cause, row.thing): row.id for row in rows}
    tx.execute(
        _AFFECT,
        [
            {
                "incident_id": ids[_scope(job), cause.kind.value, cause.thing],
                "account": job.account,
                "resource_arn": job.resource_arn,
                "thing": cause.proof,
                "region": job.region,
                "unit_path": job.unit_path,
                "job_id": job.id,
                "failed_at": stamp(job.completed_at),
            }
            for job, cause in causes
        ],
    )
    return [row["id"] for key, row in first.items() if ids[key] == row["id"]]


def _recover(tx: sa.Connection, successes: Sequence[Ended], causes: set[CauseKind], now: datetime) -> None:
    latest: dict[tuple[CauseKind, str], int] = {}
    for job in successes:
        if job.state is not State.COMPLETED or job.started_at is None:
            continue
        for kind, proof in proofs_of(job):
            if kind in causes:
                latest[kind, proof] = max(latest.get((kind, proof), 0), stamp(job.started_at))
    if latest:
        tx.execute(
            _RECOVER,
            [
                {"cause": kind.value, "thing": proof, "started_at": started_at, "at": stamp(now)}
                for (kind, proof), started_at in latest.items()
            ],
        )


def _announce(tx: sa.Connection, ids: Sequence[str], opened: Sequence[str], now: datetime) -> None:
    """Write into the trail what incidents came into; one that opened and closed in one go is told of twice."""
    for incident in _counted(tx, [_incident(row) for row in tx.execute(_BY_ID, {"ids": list(ids)})], _EVERYTHING):
        if incident.id in opened:
            _tell(tx, replace(incident, state=IncidentState.OPEN), now)
        if incident.state is IncidentState.CLOSED:
            _tell(tx, incident, now)


def _tell(tx: sa.Connection, incident: Incident, now: datetime) -> None:
    entry = state_change(
        "IncidentStateChanged",
        INCIDENT_CHANGE,
        {**detail_of(incident), "openedAt": told_instant(incident.opened_at)},
        account=incident.account,
        region=incident.region,
        reason=incident.message,
        at=now,
    )
    record(tx, entry)


def list_incidents(
    tx: sa.Connection,
    caller: str,
    *,
    account: str | None = None,
    unit_id: str | None = None,
    state: IncidentState | None = None,
    after: tuple[int, str] = BEFORE_ALL,
    limit: int,
    now: datetime,
) -> list[Incident]:
    """Return incidents, the newest first, counted by what the caller sees of them.

    The management account and delegated administrators see those of the organization, other accounts those that affect
    them.

    Raises:
        NoSuchViewError: it names another account or a unit and may not see what others do.
        UnitNotFoundError: there is no such unit.
    """
    view, seen = _seen(tx, caller, account, unit_id, now)
    rows = tx.execute(
        _LIST,
        {
            **seen,
            "narrow": seen["account"] != "" or not seen["all_units"],
            "scope": view.monitored_by or "",
            "state": "" if state is None else state.value,
            "at": after[0],
            "id": after[1],
            "limit": limit,
        },
    )
    return _counted(tx, [_incident(row) for row in rows], seen)


def describe_incident(
    tx: sa.Connection,
    caller: str,
    incident_id: str,
    *,
    after: tuple[str, str, str] = ("", "", ""),
    limit: int,
    now: datetime,
) -> tuple[Incident, list[Affected]]:
    """Return an incident, and up to `limit` of the resources that it affects and the caller sees.

    Raises:
        UnknownIncidentError: the caller sees no such incident.
    """
    view, seen = _seen(tx, caller, None, None, now)
    row = tx.execute(_BY_ID, {"ids": [incident_id]}).one_or_none()
    incidents = [] if row is None else _counted(tx, [_incident(row)], seen)
    if not incidents or not incidents[0].resources or view.monitored_by not in {None, incidents[0].scope}:
        raise UnknownIncidentError(f"account {caller} sees no incident {incident_id}")
    rows = tx.execute(
        _AFFECTED,
        {
            **seen,
            "incident_id": incident_id,
            "after_account": after[0],
            "after_arn": after[1],
            "after_thing": after[2],
            "limit": limit,
        },
    )
    return incidents[0], [
        Affected(
            row.account,
            row.region,
            row.resource_arn,
            row.thing,
            row.job_id,
            instant(row.failed_at),
            instant_or_none(row.recovered_at),
        )
        for row in rows
    ]


def acknowledge(tx: sa.Connection, caller: str, incident_id: str, *, who: str, now: datetime) -> Incident:
    """Take note of an incident: it is announced no more until it closes. A second time changes nothing.

    Only whose it is does so: the organization's management and delegated administrators, or the account of one that is
    in no organization's view.

    Raises:
        UnknownIncidentError: there is none that is the caller's.
        IncidentClosedError: it is closed.
    """
    incident, _ = describe_incident(tx, caller, incident_id, limit=1, now=now)
    organization = watched_by(tx, caller)
    if incident.scope not in {caller, None if organization is None else organization.id}:
        raise UnknownIncidentError(f"incident {incident_id} is the organization's; its management acknowledges it")
    row = tx.execute(_ACKNOWLEDGE, {"id": incident_id, "at": stamp(now), "who": who}).one_or_none()
    if row is None:
        if incident.state is IncidentState.CLOSED:
            raise IncidentClosedError(f"incident {incident_id} is closed")
        return incident
    (noted,) = _counted(tx, [_incident(row)], _EVERYTHING)
    _tell(tx, noted, now)
    return noted


def _seen(
    tx: sa.Connection, caller: str, account: str | None, unit_id: str | None, now: datetime
) -> tuple[View, dict[str, Any]]:
    """Return whose incidents are looked at, and what of them."""
    wanted = "*" if unit_id is not None or (account is None and watched_by(tx, caller) is not None) else account
    view = view_of(tx, caller, wanted, now=now)
    paths = () if unit_id is None else paths_below(tx, view, unit_id)
    return view, {"account": account or view.account or "", "all_units": unit_id is None, "paths": paths or ("",)}


def _counted(tx: sa.Connection, incidents: Sequence[Incident], seen: dict[str, Any]) -> list[Incident]:
    if not incidents:
        return []
    rows = tx.execute(_COUNTS, {**seen, "ids": [incident.id for incident in incidents]})
    counts = {row.incident_id: row for row in rows}
    return [
        incident
        if incident.id not in counts
        else replace(
            incident,
            resources=counts[incident.id].resources,
            accounts=counts[incident.id].accounts,
            unrecovered=counts[incident.id].unrecovered,
            last_failed_at=instant_or_none(counts[incident.id].last_failed_at),
        )
        for incident in incidents
    ]


def _scope(job: Ended) -> str:
    return job.monitored_by or job.account


def _ended(row: sa.Row[Any]) -> Ended:
    return Ended(
        id=row.id,
        kind=Kind(row.kind),
        account=row.account,
        region=row.region,
        state=State(row.state),
        category=None if row.message_category is None else Category(row.message_category),
        message=row.message or "",
        role_arn=row.role_arn,
        vault_arn=row.vault_arn or "",
        storage=row.storage or "",
        key_arn=row.key_arn or "",
        resource_arn=row.resource_arn,
        source_url=row.source_url or "",
        site=row.site,
        unit_path=row.unit_path,
        monitored_by=row.monitored_by,
        started_at=instant_or_none(row.started_at),
        completed_at=instant(row.completed_at),
        fault=Fault(from_json(row.result).get("fault", "")),
    )


def _incident(row: sa.Row[Any]) -> Incident:
    return Incident(
        id=row.id,
        scope=row.scope,
        account=row.account,
        region=row.region,
        cause=CauseKind(row.cause),
        thing=row.thing,
        state=IncidentState(row.state),
        message=row.message,
        opened_at=instant(row.opened_at),
        closed_at=instant_or_none(row.closed_at),
        acknowledged_at=instant_or_none(row.acknowledged_at),
        acknowledged_by=row.acknowledged_by,
    )
