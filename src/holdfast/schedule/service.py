"""Due rules become job rows.

`tick` is called every second or so, and by the development clock at each instant something is due. It takes the rules
out of new documents, gives rules in force their next run, and makes the jobs of every rule whose run has come. After
downtime only the latest missed run of a rule is made; the others are recorded as skipped, with the reason. So are runs
that stand back behind those of another rule of their plan.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog

from holdfast.assessment.store import intern_selection
from holdfast.calendar.cron import parse
from holdfast.core.arn import partition_of
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER, from_json, instant, stamp, to_json
from holdfast.plan.model.derive import rules_of, selections_of
from holdfast.plan.model.lifecycle import normal
from holdfast.plan.model.plan import Rule
from holdfast.plan.store import find_own_plan
from holdfast.schedule import store
from holdfast.schedule.overlap import taken_over
from holdfast.schedule.store import DueRule

log = structlog.get_logger()

BATCH: Final = 5000
"""How many job rows one transaction makes at most."""
_DOCUMENTS: Final = 200
_MISSED_AT_MOST: Final = 10_000
_SKIPPED: Final = "the server was not running when this run was due; the latest missed run was made instead"


@dataclass(frozen=True, slots=True)
class Ticked:
    """What one tick did."""

    runs: int
    jobs: int
    skipped: int


def tick(database: Database, *, now: datetime) -> Ticked:
    """Make the jobs of every run that is due at `now` (civil time)."""
    with database.transaction() as tx:
        install_documents(tx, now=now)
        _give_next_runs(tx, now)
    runs = jobs = skipped = 0
    with database.reading() as tx:
        due = store.due_rules(tx, stamp(now))
    for rule in due:
        made, missed = _run(database, rule, now)
        runs, jobs, skipped = runs + 1, jobs + made, skipped + missed
        log.info("schedule.run", plan=rule.plan_name, rule=rule.rule_name, region=rule.region, jobs=made)
    if due:
        with database.transaction() as tx:
            _give_next_runs(tx, now)
    return Ticked(runs, jobs, skipped)


def next_due_at(tx: sa.Connection) -> datetime | None:
    """Return when the next run of any rule is due, None when nothing is scheduled."""
    found = store.next_due(tx)
    return None if found is None else instant(found)


def install_documents(tx: sa.Connection, *, now: datetime) -> int:
    """Take the rules and selections out of documents that are new; return of how many."""
    new = store.documents_not_installed(tx, _DOCUMENTS)
    for document_id, content in new:
        _install(tx, document_id, from_json(content), now)
    return len(new)


def _install(tx: sa.Connection, document_id: str, document: Mapping[str, Any], now: datetime) -> None:
    rules: list[dict[str, Any]] = []
    selections: list[dict[str, Any]] = []
    for plan_name, plan in document.get("plans", {}).items():
        for rule_name, rule in rules_of(document, plan_name):
            common = {"document_id": document_id, "plan_id": None, "plan_name": plan_name, "next_due_at": None}
            rules += [
                {**common, **_row(replace(rule, id="", name=rule_name)), "region": region}
                for region in dict.fromkeys(plan.get("regions", ()))  # a policy may name a region twice
            ]
        selections += [
            {
                "document_id": document_id,
                "plan_name": plan_name,
                "selection_name": f"{found.kind}/{found.name}",
                "selection_hash": intern_selection(tx, found.selection),
                "role_arn": found.role_arn,
            }
            for found in selections_of(plan)
        ]
    store.install(tx, document_id, rules, selections, stamp(now))


def take_up_plan(tx: sa.Connection, account: str, region: str, plan_id: str, *, now: datetime) -> None:
    """Let a plan that the account made itself run as it and its selections say now; after each change of them."""
    plan = find_own_plan(tx, account, region, plan_id)
    if plan is None:
        return
    rules: list[dict[str, Any]] = []
    if plan.deleted_at is None:
        for rule in plan.body.rules:
            following = parse(rule.schedule).next_after(now, ZoneInfo(rule.timezone))
            next_due = FOREVER if following is None else stamp(following)
            rules.append({**_row(rule), "region": region, "next_due_at": next_due})
    store.take_up(tx, plan.id, plan.version_id, plan.body.name, rules, stamp(now))


def _row(rule: Rule) -> dict[str, Any]:
    return {
        "rule_name": rule.name,
        "rule": to_json({**job_options(rule), "rule_id": rule.id or None}),
        "schedule": rule.schedule,
        "timezone": rule.timezone,
        "start_window": int(rule.start_window.total_seconds()) * 1_000_000,
        "completion_window": int(rule.completion_window.total_seconds()) * 1_000_000,
        "vault_name": rule.vault_name,
    }


def job_options(rule: Rule) -> dict[str, Any]:
    """Return what a job must know of its rule, under the names that jobs started by hand use as well."""
    kept = normal(rule.lifecycle)
    return {
        "cold_after_days": kept.cold_after_days,
        "delete_after_days": kept.delete_after_days,
        "point_tags": dict(rule.recovery_point_tags),
        "backup_options": {},
        "copies": [asdict(copy) for copy in rule.copies],
        "continuous": rule.continuous,
        "schedule": rule.schedule,
        "timezone": rule.timezone,
    }


def _give_next_runs(tx: sa.Connection, now: datetime) -> None:
    at = stamp(now)
    store.retire(tx, at)
    for expression, timezone in store.unscheduled(tx, at):
        following = parse(expression).next_after(now, ZoneInfo(timezone))
        store.schedule(tx, expression, timezone, FOREVER if following is None else stamp(following), at)


def _run(database: Database, rule: DueRule, now: datetime) -> tuple[int, int]:
    cron, zone = parse(rule.schedule), ZoneInfo(rule.timezone)
    missed: list[int] = []
    latest = rule.next_due_at
    following = cron.next_after(instant(latest), zone)
    while following is not None and following <= now and len(missed) < _MISSED_AT_MOST:
        missed.append(latest)
        latest = stamp(following)
        following = cron.next_after(following, zone)
    reason = _stood_back(database, rule, instant(latest))
    made = 0
    if reason is None:
        _judge_resources(database, replace(rule, next_due_at=latest))
        made = _make_jobs(database, rule, latest, now)
    with database.transaction() as tx:
        if store.advance(tx, rule, FOREVER if following is None else stamp(following), now=stamp(now)):
            if rule.plan_id is not None:
                store.note_run(tx, rule.plan_id, latest)
            store.skip(tx, rule, missed, _SKIPPED)
            if reason is not None:
                store.skip(tx, rule, [latest], reason)
    return made, len(missed) + (reason is not None)


def _make_jobs(database: Database, rule: DueRule, due_at: int, now: datetime) -> int:
    with database.reading() as tx:
        found = store.taken(tx, rule, due_at=due_at)
    batches = [
        replace(taken, resources=taken.resources[first : first + BATCH])
        for taken in found
        for first in range(0, len(taken.resources), BATCH)
    ]
    made = 0
    for number, batch in enumerate(batches):
        with database.transaction() as tx:
            made += store.make_jobs(
                tx,
                rule,
                batch,
                due_at=due_at,
                created_at=stamp(now),
                partition=partition_of(rule.region),
                number=number,
            )
    return made


def _judge_resources(database: Database, rule: DueRule) -> None:
    with database.reading() as tx:
        selections = store.selections_naming_resources(tx, rule)
    for selection in selections:
        for named in selection.named_resources:
            after: int | None = 0
            while after is not None:
                with database.transaction() as tx:
                    after = store.judge_resources(tx, rule, selection, named, after=after, batch=BATCH)


def _stood_back(database: Database, rule: DueRule, due_at: datetime) -> str | None:
    """Return why this run makes no backup: that of another rule of its plan takes its place. None if it makes one."""
    with database.reading() as tx:
        others = store.siblings(tx, rule)
    own = store.recurring(rule.rule_name, rule.rule, rule.schedule, rule.timezone, rule.start_window)
    found = taken_over(own, due_at, others)
    if found is None:
        return None
    other, run = found
    return (
        f"rule {other.name} of the same plan, due on {run:%d %B %Y %H:%M} UTC, keeps its backup longer, and their "
        "start windows overlap"
    )
