"""Requests that are sent twice act once: the answer that a token got is kept for a day.

The rule: the same request with one idempotency token within a day acts once per account and operation; with other
parameters it is refused.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import InvalidStateError
from holdfast.database.values import stamp

KEPT: Final = timedelta(days=1)

_FIND = text(
    "SELECT parameters_hash, answer FROM idempotency WHERE account = :account AND region = :region"
    " AND operation = :operation AND token = :token AND created_at > :since"
)
_FORGET = text("DELETE FROM idempotency WHERE created_at <= :since")
_KEEP = text(
    "INSERT INTO idempotency (account, region, operation, token, parameters_hash, answer, created_at)"
    " VALUES (:account, :region, :operation, :token, :hash, :answer, :at)"
    " ON CONFLICT (account, region, operation, token)"
    " DO UPDATE SET parameters_hash = excluded.parameters_hash, answer = excluded.answer,"
    " created_at = excluded.created_at"
)


class TokenReusedError(InvalidStateError):
    """An idempotency token came again with other parameters."""


@dataclass(frozen=True, slots=True)
class Token:
    """One use of an idempotency token."""

    account: str
    region: str
    operation: str
    token: str
    parameters_hash: str


def token_of(*, account: str, region: str, operation: str, member: str, parameters: Mapping[str, Any]) -> Token | None:
    """Return the token among a request's parameters, None when the client sent none."""
    token = parameters.get(member)
    if not token:
        return None
    rest = {name: value for name, value in parameters.items() if name != member}
    text_of_rest = orjson.dumps(rest, default=str, option=orjson.OPT_SORT_KEYS)
    return Token(account, region, operation, str(token), hashlib.sha256(text_of_rest).hexdigest())


def earlier_answer(tx: sa.Connection, token: Token, *, now: datetime) -> Mapping[str, Any] | None:
    """Return the answer that this token got within the last day, None when it was not seen.

    Raises:
        TokenReusedError: it was seen with other parameters.
    """
    row = tx.execute(_FIND, {**_where(token), "since": stamp(now - KEPT)}).one_or_none()
    if row is None:
        return None
    if row.parameters_hash != token.parameters_hash:
        raise TokenReusedError(
            f"the idempotency token {token.token!r} was used for another {token.operation} request within the last "
            "day; send a new token, or the same parameters"
        )
    answer: Mapping[str, Any] = _read(orjson.loads(row.answer))
    return answer


def keep_answer(tx: sa.Connection, token: Token, answer: Mapping[str, Any], *, now: datetime) -> None:
    """Keep the answer for a day; answers older than that are dropped."""
    tx.execute(_FORGET, {"since": stamp(now - KEPT)})
    written = orjson.dumps(_written(answer)).decode()
    tx.execute(_KEEP, {**_where(token), "hash": token.parameters_hash, "answer": written, "at": stamp(now)})


def _where(token: Token) -> dict[str, str]:
    return {
        "account": token.account,
        "region": token.region,
        "operation": token.operation,
        "token": token.token,
    }


_INSTANT = "$instant"


def _written(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _written(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_written(inner) for inner in value]
        case datetime():
            return {_INSTANT: value.astimezone(UTC).isoformat()}
        case _:
            return value


def _read(value: Any) -> Any:
    match value:
        case {"$instant": str(at), **rest} if not rest:
            return datetime.fromisoformat(at)
        case dict():
            return {name: _read(inner) for name, inner in value.items()}
        case list():
            return [_read(inner) for inner in value]
        case _:
            return value
