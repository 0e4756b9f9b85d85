"""The SQL of the scheduler: rules of documents in force, and due runs turned into job rows by one statement."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.assessment.store import intern_resource_verdicts
from holdfast.database.values import FOREVER, from_json, instant, json_rows, ordered_uuid, to_json
from holdfast.job.store import MONITORED_BY, note_scheduled
from holdfast.plan.model.selection import ResourceClass, Selection
from holdfast.schedule.overlap import Recurring

BACKUP_POLICY: Final = "BACKUP_POLICY"

# Documents that hold for some account at :at, by the chain it is on or by a fallback of its own.
_DOCUMENTS_IN_FORCE: Final = """
    SELECT cd.document_id, ac.account_id
      FROM account_chain ac
      JOIN chain_document cd ON cd.chain_id = ac.chain_id AND cd.starts_at <= :at AND cd.ends_at > :at
     WHERE ac.type = 'BACKUP_POLICY' AND ac.starts_at <= :at AND ac.ends_at > :at
       AND NOT EXISTS (SELECT 1 FROM account_document own
                        WHERE own.account_id = ac.account_id AND own.type = 'BACKUP_POLICY'
                          AND own.starts_at <= :at AND own.ends_at > :at)
     UNION ALL
    SELECT document_id, account_id
      FROM account_document
     WHERE type = 'BACKUP_POLICY' AND starts_at <= :at AND ends_at > :at"""

# The same, and the versions of plans that accounts make themselves, as long as the account is open.
_IN_FORCE: Final = f"""{_DOCUMENTS_IN_FORCE}
     UNION ALL
    SELECT v.id, plan.account
      FROM backup_plan_version v
      JOIN backup_plan plan ON plan.id = v.plan_id
      JOIN account a ON a.id = plan.account AND a.status = 'ACTIVE'
     WHERE v.starts_at <= :at AND v.ends_at > :at"""

_NOT_INSTALLED = text(
    "SELECT id, content FROM document WHERE type = 'BACKUP_POLICY' AND installed_at IS NULL ORDER BY id LIMIT :batch"
)
_MARK_INSTALLED = text("UPDATE document SET installed_at = :at WHERE id = :id")
_ADD_RULE = text("""
    INSERT INTO document_rule (document_id, plan_id, plan_name, rule_name, region, rule, schedule, timezone,
                               start_window, completion_window, vault_name, next_due_at)
    VALUES (:document_id, :plan_id, :plan_name, :rule_name, :region, :rule, :schedule, :timezone, :start_window,
            :completion_window, :vault_name, :next_due_at)
    ON CONFLICT DO NOTHING""")
_ADD_SELECTION = text("""
    INSERT INTO document_selection (document_id, plan_name, selection_name, selection_hash, role_arn)
    VALUES (:document_id, :plan_name, :selection_name, :selection_hash, :role_arn)
    ON CONFLICT DO NOTHING""")
_RETIRE = text(f"""
    UPDATE document_rule SET next_due_at = NULL
     WHERE next_due_at IS NOT NULL AND next_due_at > :at AND plan_id IS NULL
       AND document_id NOT IN (SELECT document_id FROM ({_DOCUMENTS_IN_FORCE}) held)""")
_UNSCHEDULED = text(f"""
    SELECT DISTINCT schedule, timezone FROM document_rule
     WHERE next_due_at IS NULL AND document_id IN (SELECT document_id FROM ({_DOCUMENTS_IN_FORCE}) held)""")
_SCHEDULE = text(f"""
    UPDATE document_rule SET next_due_at = :next
     WHERE next_due_at IS NULL AND schedule = :schedule AND timezone = :timezone
       AND document_id IN (SELECT document_id FROM ({_DOCUMENTS_IN_FORCE}) held)""")
_RETIRE_VERSIONS = text("""
    UPDATE document_rule SET next_due_at = NULL
     WHERE next_due_at > :at
       AND document_id IN (SELECT id FROM backup_plan_version WHERE plan_id = :plan_id AND ends_at <= :at)""")
_DROP_SELECTIONS = text("DELETE FROM document_selection WHERE document_id = :document_id")
_TAKE_SELECTIONS = text("""
    INSERT INTO document_selection (document_id, plan_name, selection_name, selection_hash, role_arn)
    SELECT CAST(:document_id AS TEXT), CAST(:plan_name AS TEXT), name, selection_hash, role_arn
      FROM backup_selection WHERE plan_id = :plan_id""")
_DUE = text("""
    SELECT document_id, plan_name, rule_name, region, rule, schedule, timezone, start_window, completion_window,
           vault_name, next_due_at, plan_id
      FROM document_rule WHERE next_due_at <= :now
     ORDER BY next_due_at, document_id, plan_name, rule_name, region""")
_SIBLINGS = text("""
    SELECT rule_name, rule, schedule, timezone, start_window FROM document_rule
     WHERE document_id = :document_id AND plan_name = :plan_name AND region = :region AND rule_name <> :rule_name
     ORDER BY rule_name""")
_NEXT = text("SELECT min(next_due_at) FROM document_rule")
# A plan's version that ended before its last run was made has no next one.
_ADVANCE = text("""
    UPDATE document_rule
       SET next_due_at = CASE WHEN EXISTS (SELECT 1 FROM backup_plan_version v
                                            WHERE v.id = document_rule.document_id AND v.ends_at <= :now)
                              THEN NULL ELSE CAST(:next AS BIGINT) END
     WHERE document_id = :document_id AND plan_name = :plan_name AND rule_name = :rule_name AND region = :region
       AND next_due_at = :was""")
_NOTE_RUN = text("UPDATE backup_plan SET last_run_at = :due_at WHERE id = :plan_id")
_SKIP = text("""
    INSERT INTO skipped_run (document_id, plan_name, rule_name, region, due_at, reason)
    VALUES (:document_id, :plan_name, :rule_name, :region, :due_at, :reason)
    ON CONFLICT DO NOTHING""")

_SELECTIONS = text("""
    SELECT DISTINCT s.body FROM document_selection ds JOIN selection s ON s.hash = ds.selection_hash
     WHERE ds.document_id = :document_id AND ds.plan_name = :plan_name""")
# Of the resources that a plan may take at :at, those whose ARN may be meant by a pattern.
_TOUCHED = f"""
    SELECT r.id, r.arn, ri.class_id, c.type, c.region, c.tags
      FROM ({_IN_FORCE}) held
      JOIN resource r ON r.account = held.account_id AND r.region = :region AND r.id > :after
      JOIN resource_interval ri ON ri.resource_id = r.id AND ri.starts_at <= :at AND ri.ends_at > :at
      JOIN resource_class c ON c.id = ri.class_id
     WHERE held.document_id = :document_id AND {{meant}}
     ORDER BY r.id
     LIMIT :batch"""
_NAMED = text(_TOUCHED.format(meant="r.arn IN :arns")).bindparams(sa.bindparam("arns", expanding=True))
_BEGINNING = text(_TOUCHED.format(meant="substr(r.arn, 1, :length) = :beginning"))

# What a due rule takes, by one join that is read once per run. What holds *at the due instant* counts: the document in
# force, the account's place, the resource's tags. Which types are switched on is for the management account to say in
# plans of the organization, and for the account in its own. Of several selections that take a resource, the first by
# name. The order is that of the indexes on jobs: what is made together lies together in each of them.
_TAKEN = text(f"""
    SELECT r.id, min(ds.selection_name) AS selection_name
      FROM ({_IN_FORCE}) held
      LEFT JOIN placement p ON p.account_id = held.account_id AND p.starts_at <= :at AND p.ends_at > :at
      JOIN resource r ON r.account = held.account_id AND r.region = :region
      JOIN resource_interval ri ON ri.resource_id = r.id AND ri.starts_at <= :at AND ri.ends_at > :at
      JOIN document_selection ds ON ds.document_id = held.document_id AND ds.plan_name = :plan_name
      JOIN verdict v ON v.selection_hash = ds.selection_hash AND v.class_id = ri.class_id
      LEFT JOIN resource_verdict rv ON rv.resource_id = r.id AND rv.selection_hash = ds.selection_hash
                                   AND rv.class_id = ri.class_id
     WHERE held.document_id = :document_id AND coalesce(rv.selected, v.selected)
       AND (coalesce(rv.regardless, v.regardless)
            OR NOT EXISTS (SELECT 1 FROM setting s
                            WHERE s.account = CASE WHEN CAST(:plan_id AS TEXT) IS NULL
                                                   THEN (SELECT o.management_account FROM organization o
                                                          WHERE o.id = p.organization_id)
                                                   ELSE r.account END
                              AND s.region = :region AND s.name = 'opt-in ' || r.type AND s.value = 'false'))
     GROUP BY r.account, r.arn, r.id
     ORDER BY r.account, r.arn""")
_ROLES = text(
    "SELECT selection_name, role_arn FROM document_selection"
    " WHERE document_id = :document_id AND plan_name = :plan_name ORDER BY selection_name"
)

# Makes the jobs of some of these resources, so many per transaction as others can wait for. Jobs that an interrupted
# tick made already are left as they are, and returned like new ones.
_MAKE_JOBS = f"""
    INSERT INTO job (id, kind, account, region, state, epoch, priority, site, organization_id, unit_path, resource_arn,
                     resource_type, resource_name, resource_id, vault_name, vault_arn, role_arn, document_id, plan_id,
                     plan_name, plan_version, rule_id, rule_name, selection_name, options, due_at, created_at,
                     start_by, completion_window, attempts, waiting_for, percent, bytes_total, bytes_done,
                     bytes_stored, result, monitored_by)
    SELECT {{uuid}}, 'BACKUP', r.account, r.region, 'CREATED', 0, :priority, r.site, p.organization_id,
           coalesce(p.path, ''), r.arn, r.type, r.name, r.id, CAST(:vault_name AS TEXT),
           replace(:vault_arn, '$account', r.account), replace(:role_arn, '$account', r.account),
           CAST(:document_id AS TEXT), CAST(:plan_id AS TEXT), CAST(:plan_name AS TEXT), CAST(:plan_version AS TEXT),
           CAST(:rule_id AS TEXT), CAST(:rule_name AS TEXT), CAST(:selection_name AS TEXT),
           CAST(:options AS TEXT), CAST(:at AS BIGINT), CAST(:created_at AS BIGINT), CAST(:start_by AS BIGINT),
           CAST(:completion_window AS BIGINT), 0, '', 0, 0, 0, 0, '{{{{}}}}',
           {MONITORED_BY.format(organization="p.organization_id")}
      FROM resource r
      LEFT JOIN placement p ON p.account_id = r.account AND p.starts_at <= :at AND p.ends_at > :at
     WHERE r.id IN (SELECT CAST(given.id AS BIGINT) FROM {{given}})
     ORDER BY r.account, r.arn
    ON CONFLICT (account, region, plan_name, rule_name, resource_arn, due_at, coalesce(plan_id, ''))
    DO UPDATE SET due_at = excluded.due_at
    RETURNING id, account, created_at"""


@dataclass(frozen=True, slots=True)
class DueRule:
    """A rule of a document whose next run has come."""

    document_id: str
    plan_name: str
    rule_name: str
    region: str
    rule: str
    """The rule's options for its jobs, as JSON."""
    schedule: str
    timezone: str
    start_window: int
    completion_window: int
    vault_name: str
    next_due_at: int
    plan_id: str | None = None
    """Of a plan that the account made itself: then the document is its version."""


def documents_not_installed(tx: sa.Connection, batch: int) -> Sequence[tuple[str, str]]:
    """Return id and content of backup documents whose rules the scheduler does not have yet."""
    return [(row.id, row.content) for row in tx.execute(_NOT_INSTALLED, {"batch": batch})]


def install(
    tx: sa.Connection,
    document_id: str,
    rules: Sequence[Mapping[str, Any]],
    selections: Sequence[Mapping[str, Any]],
    at: int,
) -> None:
    """Keep the rules and selections of a document."""
    if rules:
        tx.execute(_ADD_RULE, [dict(rule) for rule in rules])
    if selections:
        tx.execute(_ADD_SELECTION, [dict(selection) for selection in selections])
    tx.execute(_MARK_INSTALLED, {"id": document_id, "at": at})


def take_up(
    tx: sa.Connection, plan_id: str, version_id: str, plan_name: str, rules: Sequence[Mapping[str, Any]], at: int
) -> None:
    """Keep the rules of a plan's latest version, and its present selections; earlier versions have no next runs."""
    plan = {"plan_id": plan_id, "document_id": version_id, "plan_name": plan_name}
    tx.execute(_RETIRE_VERSIONS, {"plan_id": plan_id, "at": at})
    if rules:
        tx.execute(_ADD_RULE, [{**plan, **rule} for rule in rules])
    tx.execute(_DROP_SELECTIONS, plan)
    tx.execute(_TAKE_SELECTIONS, plan)


def retire(tx: sa.Connection, at: int) -> None:
    """Take the next run from rules of documents that hold nowhere any more and whose last run is done."""
    tx.execute(_RETIRE, {"at": at})


def unscheduled(tx: sa.Connection, at: int) -> Sequence[tuple[str, str]]:
    """Return schedule and time zone of rules in force that have no next run yet."""
    return [(row.schedule, row.timezone) for row in tx.execute(_UNSCHEDULED, {"at": at})]


def schedule(tx: sa.Connection, expression: str, timezone: str, following: int, at: int) -> None:
    """Give every rule in force with this schedule and no next run its next run."""
    tx.execute(_SCHEDULE, {"schedule": expression, "timezone": timezone, "next": following, "at": at})


def due_rules(tx: sa.Connection, now: int) -> Sequence[DueRule]:
    """Return the rules whose next run has come, earliest first."""
    return [DueRule(*row) for row in tx.execute(_DUE, {"now": now})]


def recurring(name: str, rule: str, schedule: str, timezone: str, start_window: int) -> Recurring:
    """Return what decides between a rule and others of its plan, from its row."""
    options = from_json(rule)
    return Recurring(name, schedule, timezone, timedelta(microseconds=start_window), options["delete_after_days"])


def siblings(tx: sa.Connection, rule: DueRule) -> list[Recurring]:
    """Return the other rules of a rule's plan."""
    plan = {"document_id": rule.document_id, "plan_name": rule.plan_name, "region": rule.region}
    rows = tx.execute(_SIBLINGS, {**plan, "rule_name": rule.rule_name})
    return [recurring(*row) for row in rows if not from_json(row.rule)["continuous"]]


def next_due(tx: sa.Connection) -> int | None:
    """Return when the next run of any rule is due, None when nothing is scheduled."""
    found = tx.execute(_NEXT).scalar_one()
    return None if found is None or found == FOREVER else int(found)


def note_run(tx: sa.Connection, plan_id: str, due_at: int) -> None:
    """Note when a plan that an account made itself ran last."""
    tx.execute(_NOTE_RUN, {"plan_id": plan_id, "due_at": due_at})


def advance(tx: sa.Connection, rule: DueRule, following: int, *, now: int) -> bool:
    """Move the rule to its next run; return False when somebody else has moved it already."""
    where = {"document_id": rule.document_id, "plan_name": rule.plan_name, "rule_name": rule.rule_name}
    values = {**where, "region": rule.region, "next": following, "was": rule.next_due_at, "now": now}
    return tx.execute(_ADVANCE, values).rowcount == 1


def skip(tx: sa.Connection, rule: DueRule, missed: Sequence[int], reason: str) -> None:
    """Record runs that are not made, with the reason."""
    where = {"document_id": rule.document_id, "plan_name": rule.plan_name, "rule_name": rule.rule_name}
    if missed:
        tx.execute(_SKIP, [{**where, "region": rule.region, "due_at": due_at, "reason": reason} for due_at in missed])


def selections_naming_resources(tx: sa.Connection, rule: DueRule) -> list[Selection]:
    """Return the selections of a rule's plan for which a resource's ARN counts."""
    rows = tx.execute(_SELECTIONS, {"document_id": rule.document_id, "plan_name": rule.plan_name})
    return [found for found in map(Selection.from_json, rows.scalars()) if found.named_resources]


def judge_resources(
    tx: sa.Connection, rule: DueRule, selection: Selection, pattern: Sequence[str] | str, *, after: int, batch: int
) -> int | None:
    """Judge at most `batch` resources that a pattern, or a list of whole ARNs, may mean at the due instant.

    Returns:
        The resource id to go on after; None when there are no more.
    """
    where = {"document_id": rule.document_id, "region": rule.region, "at": rule.next_due_at}
    where |= {"after": after, "batch": batch}
    if isinstance(pattern, str):
        beginning = pattern.partition("*")[0]
        rows = tx.execute(_BEGINNING, {**where, "beginning": beginning, "length": len(beginning)}).all()
    else:
        rows = tx.execute(_NAMED, {**where, "arns": list(pattern)}).all()
    touched = [
        (row.id, row.class_id, ResourceClass(row.type, row.region, from_json(row.tags)), row.arn) for row in rows
    ]
    intern_resource_verdicts(tx, selection, touched)
    return rows[-1].id if len(rows) == batch else None


@dataclass(frozen=True, slots=True)
class Taken:
    """Resources that a rule takes through one selection, by their ids."""

    selection_name: str
    role_arn: str
    """With a literal `$account`."""
    resources: Sequence[int]


def taken(tx: sa.Connection, rule: DueRule, *, due_at: int) -> list[Taken]:
    """Return what a rule takes at `due_at`."""
    plan = {"document_id": rule.document_id, "plan_name": rule.plan_name}
    found: dict[str, array[int]] = {}
    for row in tx.execute(_TAKEN, {**plan, "plan_id": rule.plan_id, "region": rule.region, "at": due_at}):
        found.setdefault(row.selection_name, array("q")).append(row.id)
    return [Taken(name, role, found[name]) for name, role in tx.execute(_ROLES, plan) if name in found]


def make_jobs(
    tx: sa.Connection, rule: DueRule, taken: Taken, *, due_at: int, created_at: int, partition: str, number: int
) -> int:
    """Make the jobs of one due rule for resources that it takes; return how many there are.

    `number` says which batch of the run this is; the ids of its jobs come after those of earlier ones.
    """
    values = {
        "document_id": rule.document_id,
        "plan_id": rule.plan_id,
        "plan_name": rule.plan_name,
        "plan_version": None if rule.plan_id is None else rule.document_id,
        "rule_id": from_json(rule.rule)["rule_id"],
        "selection_name": taken.selection_name,
        "role_arn": taken.role_arn,
        "rule_name": rule.rule_name,
        "region": rule.region,
        "vault_name": rule.vault_name,
        "options": rule.rule,
        "vault_arn": f"arn:{partition}:backup:{rule.region}:$account:backup-vault:{rule.vault_name}",
        "priority": 5,
        "at": due_at,
        "created_at": created_at,
        "start_by": created_at + rule.start_window,
        "completion_window": rule.completion_window,
        "number": number,
        "ids": to_json([(resource_id,) for resource_id in taken.resources]),
    }
    uuid = ordered_uuid(tx, "CAST(:created_at AS BIGINT)", "CAST(:number AS BIGINT)")
    statement = _MAKE_JOBS.format(uuid=uuid, given=json_rows(tx, "ids", "id"))
    made = tx.execute(text(statement), values).all()
    # Of what an interrupted tick made, that tick told already.
    new = [(row.account, row.id) for row in made if row.created_at == created_at]
    note_scheduled(tx, new, region=rule.region, now=instant(created_at))
    return len(made)
