"""One audit trail over all accounts of an organization, for those who see what all accounts do.

The trail is looked through entry by entry, newest first, so many at a time: a page may have few entries and yet go on.
An account's entries belong to the organization, and to a unit, for as long as it stood there.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, text

from holdfast.core.paging import Page
from holdfast.database.values import stamp
from holdfast.monitor.search import Search, paths_below, view_for
from holdfast.trail.reading import Recorded, recorded_as

SCANNED: Final = 20_000
"""Of so many entries a page tells which fit, at most."""
_NO_BOUND: Final = 2**62

_LOOK = """
    FROM (SELECT * FROM audit_entry
           WHERE id < :before AND at >= :since AND at <= :until AND (:account = '' OR account = :account)
           ORDER BY id DESC LIMIT :scan) AS e"""
_LOWEST = text(f"SELECT min(e.id) AS lowest, count(*) AS looked_at {_LOOK}")
_FIND = text(f"""
    SELECT e.* {_LOOK}
     WHERE (:operation = '' OR e.operation = :operation) AND (:service = '' OR e.service = :service)
       AND (:region = '' OR e.region = :region)
       AND (:principal = '' OR e.principal_arn = :principal OR e.principal_arn LIKE :suffix ESCAPE '!')
       AND (:resource = '' OR e.parameters LIKE :within ESCAPE '!')
       AND (:organization = ''
            OR EXISTS (SELECT 1 FROM placement p
                        WHERE p.account_id = e.account AND p.organization_id = :organization AND p.starts_at <= e.at
                          AND p.ends_at > e.at AND (:all_units OR p.path IN :paths)))
     ORDER BY e.id DESC LIMIT :limit""").bindparams(bindparam("paths", expanding=True))


@dataclass(frozen=True, slots=True)
class Asked:
    """Which entries are asked for; what is None or empty does not matter."""

    account: str | None = None
    unit_id: str | None = None
    region: str = ""
    operation: str = ""
    service: str = ""
    principal: str = ""
    """An ARN, or the last part of one."""
    resource: str = ""
    """Something that the parameters name."""
    since: datetime | None = None
    until: datetime | None = None


def search_trail(
    tx: sa.Connection, caller: str, asked: Asked, *, before: int | None, limit: int, now: datetime, scan: int = SCANNED
) -> Page[Recorded]:
    """Return one page of entries, the newest first. What is written meanwhile shifts nothing on later pages.

    The management account and delegated administrators look at the organization's accounts, others at their own.

    Raises:
        NoSuchViewError: it names another account or a unit and may not see what others do.
        UnitNotFoundError: there is no such unit.
    """
    view = view_for(tx, caller, Search(account=asked.account, unit_id=asked.unit_id), now=now)
    paths = () if asked.unit_id is None else paths_below(tx, view, asked.unit_id)
    since = max((each for each in (asked.since, view.visible_since) if each is not None), default=None)
    values: dict[str, Any] = {
        "account": view.account or "",
        "organization": view.monitored_by or "",
        "all_units": asked.unit_id is None,
        "paths": paths or ("",),
        "before": _NO_BOUND if before is None else before,
        "since": -_NO_BOUND if since is None else stamp(since),
        "until": _NO_BOUND if asked.until is None else stamp(asked.until),
        "operation": asked.operation,
        "service": asked.service,
        "region": asked.region,
        "principal": asked.principal,
        "suffix": f"%/{_escaped(asked.principal)}",
        "resource": asked.resource,
        "within": f"%{_escaped(asked.resource)}%",
        "scan": scan,
        "limit": limit + 1,
    }
    found = [recorded_as(row) for row in tx.execute(_FIND, values)]
    if view.monitored_by is None:
        found = [replace(entry, reason=entry.reason_for_members) for entry in found]
    if len(found) > limit:
        return Page(tuple(found[:limit]), found[limit - 1].id)
    looked = tx.execute(_LOWEST, {name: values[name] for name in ("before", "since", "until", "account", "scan")}).one()
    return Page(tuple(found), looked.lowest if looked.looked_at == scan else None)


def _escaped(part: str) -> str:
    return part.replace("!", "!!").replace("%", "!%").replace("_", "!_")
