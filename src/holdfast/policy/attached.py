"""What is attached where, over all types of policies, at any instant."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import FOREVER, instant, stamp

_FEW = 500
"""Up to so many nodes are named in the statement; of more, all attachments are read and picked from."""
_ALL = """
    SELECT policy_id, target_id, type, starts_at
      FROM attachment
     WHERE organization_id = :organization AND starts_at <= :at AND ends_at > :at"""
_ATTACHED = text(f"{_ALL} ORDER BY sequence")
_ATTACHED_TO = text(f"{_ALL} AND target_id IN :nodes ORDER BY sequence").bindparams(
    sa.bindparam("nodes", type_=sa.String(), expanding=True)
)


@dataclass(frozen=True, slots=True)
class Attached:
    """One policy at one node."""

    policy_id: str
    type: str
    attached_at: datetime


def attached_to(
    tx: sa.Connection, organization_id: str, nodes: Collection[str], at: datetime | None = None
) -> dict[str, list[Attached]]:
    """Return what was attached directly to each of these nodes at an instant (now, without one), in order."""
    given = {"organization": organization_id, "at": FOREVER - 1 if at is None else stamp(at)}
    found: dict[str, list[Attached]] = defaultdict(list)
    if len(nodes) <= _FEW:
        rows = tx.execute(_ATTACHED_TO, {**given, "nodes": list(nodes)})
    else:
        rows = tx.execute(_ATTACHED, given)
    wanted = set(nodes)
    for row in rows:
        if row.target_id in wanted:
            found[row.target_id].append(Attached(row.policy_id, row.type, instant(row.starts_at)))
    return dict(found)
