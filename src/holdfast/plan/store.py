"""The rows behind an account's plans: its backup documents over time, and the plans it makes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam, text

from holdfast.database.values import FOREVER, instant, instant_or_none, stamp
from holdfast.plan.model.body import PlanBody
from holdfast.plan.model.plan import PlanSelection
from holdfast.plan.model.selection import Selection

_CONTENT = text("SELECT content FROM document WHERE id = :id")


def document_content(tx: sa.Connection, document_id: str) -> str:
    """Return the text of a document that a job refers to; documents are kept as long as one does."""
    return str(tx.execute(_CONTENT, {"id": document_id}).scalar_one())


@dataclass(frozen=True, slots=True)
class Held:
    """Which backup document an account had from an instant on: None where it had none."""

    since: datetime
    organization_id: str | None
    content: str | None
    document_id: str | None


# Instants at which the account's document may have become another one, each with the one that held from then on.
_HISTORY = text("""
    SELECT moment.at,
           (SELECT p.organization_id FROM placement p
             WHERE p.account_id = :account AND p.starts_at <= moment.at AND p.ends_at > moment.at) AS organization_id,
           coalesce(
               (SELECT d.document_id FROM account_document d
                 WHERE d.account_id = :account AND d.type = 'BACKUP_POLICY'
                   AND d.starts_at <= moment.at AND d.ends_at > moment.at),
               (SELECT cd.document_id FROM account_chain ac JOIN chain_document cd ON cd.chain_id = ac.chain_id
                 WHERE ac.account_id = :account AND ac.type = 'BACKUP_POLICY'
                   AND ac.starts_at <= moment.at AND ac.ends_at > moment.at
                   AND cd.starts_at <= moment.at AND cd.ends_at > moment.at)) AS document_id
      FROM (SELECT starts_at AS at FROM account_chain WHERE account_id = :account AND type = 'BACKUP_POLICY'
             UNION
            SELECT ends_at FROM account_chain WHERE account_id = :account AND type = 'BACKUP_POLICY'
             UNION
            SELECT starts_at FROM account_document WHERE account_id = :account AND type = 'BACKUP_POLICY'
             UNION
            SELECT ends_at FROM account_document WHERE account_id = :account AND type = 'BACKUP_POLICY'
             UNION
            SELECT cd.starts_at FROM account_chain ac JOIN chain_document cd ON cd.chain_id = ac.chain_id
             WHERE ac.account_id = :account AND ac.type = 'BACKUP_POLICY'
             UNION
            SELECT cd.ends_at FROM account_chain ac JOIN chain_document cd ON cd.chain_id = ac.chain_id
             WHERE ac.account_id = :account AND ac.type = 'BACKUP_POLICY'
             UNION
            SELECT ends_at FROM placement WHERE account_id = :account) moment
     WHERE moment.at <= :now
     ORDER BY moment.at""")
_CONTENTS = text("SELECT id, content FROM document WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))


def document_history(tx: sa.Connection, account: str, *, now: datetime) -> list[Held]:
    """Return which backup documents an account has had up to now, the oldest first."""
    rows = tx.execute(_HISTORY, {"account": account, "now": stamp(now)}).all()
    ids = sorted({row.document_id for row in rows if row.document_id is not None})
    contents = {row.id: row.content for row in tx.execute(_CONTENTS, {"ids": ids})} if ids else {}
    return [Held(instant(row.at), row.organization_id, contents.get(row.document_id), row.document_id) for row in rows]


_VERSION = """
    SELECT p.id, p.account, p.region, p.creator_request_id, p.created_at, p.deleted_at, p.last_run_at,
           v.id AS version, v.number, v.content, v.starts_at, v.ends_at
      FROM backup_plan p JOIN backup_plan_version v ON v.plan_id = p.id"""
_LATEST = "v.number = (SELECT max(number) FROM backup_plan_version WHERE plan_id = p.id)"
_WHERE = "p.account = :account AND p.region = :region"
_FIND = text(f"{_VERSION} WHERE p.id = :id AND {_WHERE} AND {_LATEST}")
_FIND_VERSION = text(f"{_VERSION} WHERE p.id = :id AND {_WHERE} AND v.id = :version")
_FIND_REQUEST = text(
    f"{_VERSION} WHERE {_WHERE} AND p.creator_request_id = :request AND p.deleted_at IS NULL AND {_LATEST}"
)
_FIND_CONTENT = text(f"{_VERSION} WHERE {_WHERE} AND p.deleted_at IS NULL AND {_LATEST} AND v.content_hash = :hash")
_LIST = text(f"""{_VERSION} WHERE {_WHERE} AND p.id > :after AND {_LATEST} AND (p.deleted_at IS NULL OR :deleted)
     ORDER BY p.id LIMIT :limit""")
_LIST_VERSIONS = text(f"""{_VERSION} WHERE p.id = :id AND {_WHERE} AND v.number < :before
     ORDER BY v.number DESC LIMIT :limit""")
_COUNT = text(
    "SELECT count(*) FROM backup_plan p WHERE p.account = :account AND p.region = :region AND p.deleted_at IS NULL"
)
_ADD = text("""
    INSERT INTO backup_plan (id, account, region, creator_request_id, created_at)
    VALUES (:id, :account, :region, :request, :at) ON CONFLICT DO NOTHING""")
_END = text("UPDATE backup_plan_version SET ends_at = :at WHERE plan_id = :id AND ends_at = :forever")
_ADD_VERSION = text("""
    INSERT INTO backup_plan_version (id, plan_id, number, name, content, content_hash, starts_at, ends_at)
    VALUES (:version, :id, :number, :name, :content, :hash, :at, :forever)""")
_LOCK = text(
    "UPDATE backup_plan SET created_at = created_at WHERE id = :id AND account = :account AND region = :region"
)
_DELETE = text("UPDATE backup_plan SET deleted_at = :at WHERE id = :id")


@dataclass(frozen=True, slots=True)
class OwnPlan:
    """One version of a plan that an account made itself."""

    id: str
    account: str
    region: str
    creator_request_id: str
    created_at: datetime
    deleted_at: datetime | None
    last_run_at: datetime | None
    version_id: str
    number: int
    body: PlanBody
    starts_at: datetime
    ends_at: datetime | None


def find_own_plan(
    tx: sa.Connection, account: str, region: str, plan_id: str, *, version_id: str | None = None
) -> OwnPlan | None:
    """Return a version of a plan, deleted or not, without one the latest; None when there is none."""
    values = {"account": account, "region": region, "id": plan_id, "version": version_id}
    row = tx.execute(_FIND if version_id is None else _FIND_VERSION, values).one_or_none()
    return None if row is None else _own_plan(row)


def lock_own_plan(tx: sa.Connection, account: str, region: str, plan_id: str) -> None:
    """Let nobody else change a plan or its selections before this transaction ends."""
    tx.execute(_LOCK, {"id": plan_id, "account": account, "region": region})


def find_own_plan_of_request(tx: sa.Connection, account: str, region: str, request: str) -> OwnPlan | None:
    """Return the plan that a request with this id made, unless it is deleted."""
    row = tx.execute(_FIND_REQUEST, {"account": account, "region": region, "request": request}).one_or_none()
    return None if row is None else _own_plan(row)


def find_same_plan(tx: sa.Connection, account: str, region: str, body: PlanBody) -> OwnPlan | None:
    """Return a plan that says the same now, unless it is deleted."""
    row = tx.execute(_FIND_CONTENT, {"account": account, "region": region, "hash": body.hash}).first()
    return None if row is None else _own_plan(row)


def list_own_plans(
    tx: sa.Connection, account: str, region: str, *, deleted: bool, after: str, limit: int
) -> list[OwnPlan]:
    """Return plans as they are now, or were when they were deleted, by id."""
    values = {"account": account, "region": region, "deleted": deleted, "after": after, "limit": limit}
    return [_own_plan(row) for row in tx.execute(_LIST, values)]


def list_own_versions(
    tx: sa.Connection, account: str, region: str, plan_id: str, *, before: int, limit: int
) -> list[OwnPlan]:
    """Return the versions of a plan with smaller numbers than `before`, the latest first."""
    values = {"account": account, "region": region, "id": plan_id, "before": before, "limit": limit}
    return [_own_plan(row) for row in tx.execute(_LIST_VERSIONS, values)]


def number_of_own_plans(tx: sa.Connection, account: str, region: str) -> int:
    """Return how many plans an account has made in a region and not deleted."""
    return int(tx.execute(_COUNT, {"account": account, "region": region}).scalar_one())


def add_own_plan(
    tx: sa.Connection, plan_id: str, account: str, region: str, *, creator_request_id: str, now: datetime
) -> bool:
    """Keep a new plan, still without a version; return False when the same request made one meanwhile."""
    values = {"id": plan_id, "account": account, "region": region, "request": creator_request_id, "at": stamp(now)}
    return tx.execute(_ADD, values).rowcount == 1


def add_own_version(
    tx: sa.Connection, plan_id: str, *, version_id: str, number: int, body: PlanBody, now: datetime
) -> None:
    """Let a plan say this from now on."""
    where = {"id": plan_id, "at": stamp(now), "forever": FOREVER}
    tx.execute(_END, where)
    content = {"name": body.name, "content": body.to_json().decode(), "hash": body.hash}
    tx.execute(_ADD_VERSION, {**where, **content, "version": version_id, "number": number})


def delete_own_plan(tx: sa.Connection, plan_id: str, *, now: datetime) -> None:
    """Let a plan say nothing any more, and be listed as deleted."""
    where = {"id": plan_id, "at": stamp(now)}
    tx.execute(_END, {**where, "forever": FOREVER})
    tx.execute(_DELETE, where)


def _own_plan(row: "sa.Row[Any]") -> OwnPlan:
    return OwnPlan(
        id=row.id,
        account=row.account,
        region=row.region,
        creator_request_id=row.creator_request_id,
        created_at=instant(row.created_at),
        deleted_at=instant_or_none(row.deleted_at),
        last_run_at=instant_or_none(row.last_run_at),
        version_id=row.version,
        number=row.number,
        body=PlanBody.from_json(row.content),
        starts_at=instant(row.starts_at),
        ends_at=instant_or_none(row.ends_at),
    )


_LIST_SELECTIONS = text("""
    SELECT b.id, b.name, b.role_arn, b.creator_request_id, b.created_at, s.body
      FROM backup_selection b JOIN selection s ON s.hash = b.selection_hash
     WHERE b.plan_id = :plan""")
_ADD_SELECTION = text("""
    INSERT INTO backup_selection (id, plan_id, name, role_arn, selection_hash, creator_request_id, created_at)
    VALUES (:id, :plan, :name, :role, :hash, :request, :at) ON CONFLICT DO NOTHING""")
_DELETE_SELECTION = text("DELETE FROM backup_selection WHERE plan_id = :plan AND id = :id")


def list_own_selections(tx: sa.Connection, plan_id: str) -> list[PlanSelection]:
    """Return the selections of an account's own plan by name, in which order they count."""
    found = [
        PlanSelection(
            id=row.id,
            name=row.name,
            role_arn=row.role_arn,
            selection=Selection.from_json(row.body),
            created_at=instant(row.created_at),
            creator_request_id=row.creator_request_id,
        )
        for row in tx.execute(_LIST_SELECTIONS, {"plan": plan_id})
    ]
    # As the scheduler compares names, whatever order a database gives to letters.
    return sorted(found, key=lambda selection: selection.name)


def add_own_selection(tx: sa.Connection, plan_id: str, selection: PlanSelection, *, now: datetime) -> bool:
    """Keep a selection of a plan; what it says must be kept already. Return False when its name is taken."""
    values = {
        "id": selection.id,
        "plan": plan_id,
        "name": selection.name,
        "role": selection.role_arn,
        "hash": selection.selection.hash,
        "request": selection.creator_request_id,
        "at": stamp(now),
    }
    return tx.execute(_ADD_SELECTION, values).rowcount == 1


def delete_own_selection(tx: sa.Connection, plan_id: str, selection_id: str) -> bool:
    """Take a selection from a plan; return False when it has none with this id."""
    return tx.execute(_DELETE_SELECTION, {"plan": plan_id, "id": selection_id}).rowcount == 1
