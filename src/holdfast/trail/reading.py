"""Reading the audit trail: the newest entries first, by what they are about."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import from_json, instant, stamp
from holdfast.trail.service import Decision, Kind

_FIND = text("""
    SELECT id, at, kind, account, region, service, operation, principal_arn, person, source_ip, user_agent, request_id,
           decision, reason, parameters
      FROM audit_entry
     WHERE account = :account AND region = :region AND id < :before AND at >= :since AND at <= :until
       AND (:reads = '' OR (kind = 'read') = (:reads = 'true'))
       AND (:id = 0 OR id = :id) AND (:operation = '' OR operation = :operation)
       AND (:service = '' OR service = :service)
       AND (:resource = '' OR parameters LIKE :within ESCAPE '!')
       AND (:name = '' OR principal_arn = :name OR principal_arn LIKE :suffix ESCAPE '!')
     ORDER BY id DESC LIMIT :limit""")
_NEWEST_BLOCK = text("SELECT max(number) FROM audit_block")
_OF_BLOCK = text("""
    SELECT id, at, kind, account, region, service, operation, principal_arn, person, source_ip, user_agent, request_id,
           decision, reason, parameters
      FROM audit_entry
     WHERE block = :number AND service = 'backup' AND kind <> 'read' AND decision <> 'REFUSED' ORDER BY id""")
_NO_BOUND = 2**62
_CONTROL_POLICY: Final = re.compile(r"(explicitly denied|no) .*?(service|resource) control policy", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries are asked for; what is empty does not matter."""

    account: str
    region: str
    since: datetime | None = None
    until: datetime | None = None
    id: int = 0
    operation: str = ""
    service: str = ""
    name: str = ""
    """A principal's ARN, or the last part of it."""
    resource: str = ""
    """Something that the parameters name."""
    reads: str = ""
    """`true`: only calls that only read; `false`: all but those."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it was written."""

    id: int
    at: datetime
    account: str
    region: str
    service: str
    operation: str
    principal_arn: str
    person: str | None
    source_ip: str
    user_agent: str
    request_id: str
    decision: Decision
    reason: str
    parameters: Mapping[str, Any]
    reads: bool

    @property
    def reason_for_members(self) -> str:
        """The reason without which control policy of the organization refused: that is not its members' to read."""
        found = _CONTROL_POLICY.search(self.reason)
        return self.reason if found is None else f"{self.reason[: found.start()]}denied by a {found[2]} control policy"


def _escaped(part: str) -> str:
    return part.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def find_entries(tx: sa.Connection, wanted: Wanted, *, before: int | None, limit: int) -> list[Recorded]:
    """Return entries, the newest first, that were written before the one with the id `before`."""
    rows = tx.execute(
        _FIND,
        {
            "account": wanted.account,
            "region": wanted.region,
            "before": _NO_BOUND if before is None else before,
            "since": -_NO_BOUND if wanted.since is None else stamp(wanted.since),
            "until": _NO_BOUND if wanted.until is None else stamp(wanted.until),
            "id": wanted.id,
            "operation": wanted.operation,
            "service": wanted.service,
            "reads": wanted.reads,
            "name": wanted.name,
            "suffix": f"%/{_escaped(wanted.name)}",
            "resource": wanted.resource,
            "within": f"%{_escaped(wanted.resource)}%",
            "limit": limit,
        },
    )
    return [recorded_as(row) for row in rows]


def sealed_up_to(tx: sa.Connection) -> int:
    """Return the number of the newest block; 0 where there is none."""
    return int(tx.execute(_NEWEST_BLOCK).scalar_one() or 0)


def changes_in_block(tx: sa.Connection, number: int) -> list[Recorded]:
    """Return what happened to backups by the entries of a block, in their order: neither reads nor refusals."""
    return [recorded_as(row) for row in tx.execute(_OF_BLOCK, {"number": number})]


def recorded_as(row: sa.Row[Any]) -> Recorded:
    """Return the entry that a row with every column holds."""
    return Recorded(
        id=row.id,
        at=instant(row.at),
        account=row.account,
        region=row.region,
        service=row.service,
        operation=row.operation,
        principal_arn=row.principal_arn,
        person=row.person,
        source_ip=row.source_ip,
        user_agent=row.user_agent,
        request_id=row.request_id,
        decision=Decision(row.decision),
        reason=row.reason,
        parameters=from_json(row.parameters),
        reads=row.kind == Kind.READ,
    )
