"""Verdicts kept for the scheduler: which selection takes which class of resources.

The rules are in `plan.model.selection.selects` alone; here its answers are kept per (selection, class), so that SQL can
join them. A selection or a class is judged against all of the other kind when it is first seen. Resources that a
selection names by their ARNs are judged one by one, before it is carried out; only those get a verdict of their own
that their class does not have.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import from_json, to_json
from holdfast.plan.model.selection import ResourceClass, Selection, selects

_CLASSES = text("SELECT id, type, region, tags FROM resource_class")
_ONE_CLASS = text("SELECT id, type, region, tags FROM resource_class WHERE id = :id")
_FIND_CLASS = text("SELECT id FROM resource_class WHERE type = :type AND region = :region AND tags_hash = :tags_hash")
_ADD_CLASS = text(
    "INSERT INTO resource_class (type, region, tags_hash, tags) VALUES (:type, :region, :tags_hash, :tags)"
    " ON CONFLICT DO NOTHING"
)
_SELECTIONS = text("SELECT hash, body FROM selection")
_ADD_SELECTION = text("INSERT INTO selection (hash, body) VALUES (:hash, :body) ON CONFLICT DO NOTHING")
_ADD_VERDICT = text(
    "INSERT INTO verdict (selection_hash, class_id, selected, regardless, clause)"
    " VALUES (:hash, :class_id, :selected, :regardless, :clause) ON CONFLICT DO NOTHING"
)
_ADD_RESOURCE_VERDICT = text(
    "INSERT INTO resource_verdict (resource_id, class_id, selection_hash, selected, regardless, clause)"
    " VALUES (:resource_id, :class_id, :hash, :selected, :regardless, :clause) ON CONFLICT DO NOTHING"
)


def intern_selection(tx: sa.Connection, selection: Selection) -> str:
    """Keep `selection`, judged against every class there is; return its hash. Does nothing when it is kept already."""
    added = tx.execute(_ADD_SELECTION, {"hash": selection.hash, "body": selection.to_json()}).rowcount
    if added:
        _keep(tx, [_judged(selection, row) for row in tx.execute(_CLASSES)])
    return selection.hash


def intern_class(tx: sa.Connection, type_name: str, region: str, tags: Mapping[str, str]) -> int:
    """Return the id of the class with this type, region and tags; a new one is judged by every selection there is."""
    tags_text = to_json(dict(tags))
    named = {"type": type_name, "region": region, "tags_hash": hashlib.sha256(tags_text.encode()).hexdigest()}
    found = tx.execute(_FIND_CLASS, named).scalar_one_or_none()
    if found is not None:
        return int(found)
    tx.execute(_ADD_CLASS, {**named, "tags": tags_text})
    class_id = int(tx.execute(_FIND_CLASS, named).scalar_one())
    intern_verdicts(tx, class_id)
    return class_id


def intern_verdicts(tx: sa.Connection, class_id: int) -> None:
    """Judge the class by every selection that has not judged it yet."""
    row = tx.execute(_ONE_CLASS, {"id": class_id}).one()
    _keep(tx, [_judged(Selection.from_json(found.body), row) for found in tx.execute(_SELECTIONS)])


def intern_resource_verdicts(
    tx: sa.Connection, selection: Selection, resources: Iterable[tuple[int, int, ResourceClass, str]]
) -> None:
    """Judge resources by their ARNs: id, id of the class, class and ARN of each.

    Only verdicts that differ from the one on the class are kept.
    """
    rows = []
    for resource_id, class_id, resource, arn in resources:
        verdict, on_class = selects(selection, resource, arn), selects(selection, resource)
        if (verdict.selected, verdict.regardless) != (on_class.selected, on_class.regardless):
            rows.append({"resource_id": resource_id, "class_id": class_id, "hash": selection.hash, **asdict(verdict)})
    if rows:
        tx.execute(_ADD_RESOURCE_VERDICT, rows)


def _judged(selection: Selection, row: "sa.Row[Any]") -> dict[str, Any]:
    verdict = selects(selection, ResourceClass(row.type, row.region, from_json(row.tags)))
    return {"hash": selection.hash, "class_id": row.id, **asdict(verdict)}


def _keep(tx: sa.Connection, verdicts: list[dict[str, Any]]) -> None:
    if verdicts:
        tx.execute(_ADD_VERDICT, verdicts)
