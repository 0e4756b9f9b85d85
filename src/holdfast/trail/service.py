"""Entries of the audit trail, written in the transaction of the change that they describe.

A change that cannot be recorded is not made: entry and change are committed together or not at all. A refusal is
recorded in a transaction of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import json_rows, stamp, to_json

_LONGEST_VALUE: Final = 2000
_SECRET_MEMBERS: Final = frozenset(
    {
        "Value",
        "SecretAccessKey",
        "SessionToken",
        "Password",
        "NewPassword",
        "OldPassword",
        "Plaintext",
        "TokenCode",
        "AuthenticationCode1",
        "AuthenticationCode2",
        "WebIdentityToken",
        "Token",
    }
)
_INSERT = text("""
    INSERT INTO audit_entry (at, kind, account, region, service, operation, principal_arn, person, source_ip,
                             user_agent, request_id, decision, reason, parameters)
    VALUES (:at, :kind, :account, :region, :service, :operation, :principal_arn, :person, :source_ip, :user_agent,
            :request_id, :decision, :reason, :parameters)""")

_INSERT_ALIKE = """
    INSERT INTO audit_entry (at, kind, account, region, service, operation, principal_arn, person, source_ip,
                             user_agent, request_id, decision, reason, parameters)
    SELECT CAST(:at AS BIGINT), :kind, given.account, :region, :service, :operation, :principal_arn, :person,
           :source_ip, :user_agent, :request_id, :decision, :reason, replace(:parameters, :name, given.said)
      FROM {given}"""


class Decision(StrEnum):
    """What became of what was asked."""

    ALLOWED = "ALLOWED"
    REFUSED = "REFUSED"
    """The caller may not do it."""
    EVENT = "EVENT"
    """Nobody asked: the system did it by itself."""


class Kind(StrEnum):
    """What an entry is about."""

    CALL = "call"
    """A call that changes something, or one that was refused."""
    READ = "read"
    """A call that only reads."""
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the trail."""

    at: datetime
    account: str
    region: str
    service: str
    operation: str
    principal_arn: str
    decision: Decision
    reason: str
    request_id: str = ""
    source_ip: str = ""
    user_agent: str = ""
    person: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reads: bool = False
    """Whether it is a call that only reads, and was allowed."""

    @property
    def kind(self) -> Kind:
        """What it is about."""
        if self.decision is Decision.EVENT:
            return Kind.EVENT
        return Kind.READ if self.reads else Kind.CALL


def record(tx: sa.Connection, *entries: Entry) -> None:
    """Write entries in the open transaction; secrets among their parameters are left out."""
    if entries:
        tx.execute(_INSERT, [_row(entry) for entry in entries])


def record_alike(tx: sa.Connection, entry: Entry, name: str, each: Sequence[tuple[str, str]]) -> None:
    """Write an entry for each account and text that are given, by one statement however many there are.

    All of them are as `entry` is, but for the account, and the text stands in its parameters wherever `name` does.
    """
    if each:
        statement = _INSERT_ALIKE.format(given=json_rows(tx, "each", "account", "said"))
        tx.execute(text(statement), {**_row(entry), "name": name, "each": to_json(each)})


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "at": stamp(entry.at),
        "kind": entry.kind.value,
        "account": entry.account,
        "region": entry.region,
        "service": entry.service,
        "operation": entry.operation,
        "principal_arn": entry.principal_arn,
        "person": entry.person,
        "source_ip": entry.source_ip,
        "user_agent": entry.user_agent[:256],
        "request_id": entry.request_id,
        "decision": entry.decision.value,
        "reason": entry.reason,
        "parameters": to_json(without_secrets(entry.parameters)),
    }


def without_secrets(value: Any) -> Any:
    """Return `value` as plain JSON values with secrets and bytes replaced, and very long texts cut."""
    match value:
        case Mapping():
            return {
                str(name): "(not recorded)" if name in _SECRET_MEMBERS else without_secrets(inner)
                for name, inner in value.items()
            }
        case list() | tuple():
            return [without_secrets(inner) for inner in value]
        case bytes() | bytearray() | memoryview():
            return f"({len(value)} bytes)"
        case str() if len(value) > _LONGEST_VALUE:
            return f"{value[:_LONGEST_VALUE]}... ({len(value)} characters)"
        case datetime():
            return value.isoformat()
        case str() | int() | float() | bool() | None:
            return value
        case _:
            return str(value)
