"""The SQL of grants on keys."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import from_json, instant, stamp, to_json
from holdfast.key.grant import Grant

_COLUMNS = "id, token, key_id, name, grantee, retiring, operations, constraints, issuing_account, created_at"
_INSERT = text(f"""
    INSERT INTO kms_grant ({_COLUMNS})
    VALUES (:id, :token, :key_id, :name, :grantee, :retiring, :operations, :constraints, :issuing_account, :created_at)
    """)
_OF_KEY = text(f"SELECT {_COLUMNS} FROM kms_grant WHERE key_id = :key_id ORDER BY created_at, id")
_BY_ID = text(f"SELECT {_COLUMNS} FROM kms_grant WHERE id = :id")
_BY_TOKEN = text(f"SELECT {_COLUMNS} FROM kms_grant WHERE token = :token")
_RETIRABLE = text(f"""
    SELECT {_COLUMNS} FROM kms_grant WHERE retiring = :principal AND id > :after ORDER BY id LIMIT :limit""")
_PAGE = text(f"""
    SELECT {_COLUMNS} FROM kms_grant
     WHERE key_id = :key_id AND id > :after AND (:id = '' OR id = :id) AND (:grantee = '' OR grantee = :grantee)
     ORDER BY id LIMIT :limit""")
_DELETE = text("DELETE FROM kms_grant WHERE id = :id")


def _grant(row: sa.Row[Any]) -> Grant:
    constraints = from_json(row.constraints)
    return Grant(
        id=row.id,
        token=row.token,
        key_id=row.key_id,
        name=row.name,
        grantee=row.grantee,
        retiring=row.retiring,
        operations=tuple(from_json(row.operations)),
        subset=constraints["subset"],
        equals=constraints["equals"],
        issuing_account=row.issuing_account,
        created_at=instant(row.created_at),
    )


def insert(tx: sa.Connection, grant: Grant) -> None:
    """Write a new grant."""
    tx.execute(
        _INSERT,
        {
            "id": grant.id,
            "token": grant.token,
            "key_id": grant.key_id,
            "name": grant.name,
            "grantee": grant.grantee,
            "retiring": grant.retiring,
            "operations": to_json(list(grant.operations)),
            "constraints": to_json({"subset": dict(grant.subset), "equals": grant.equals}),
            "issuing_account": grant.issuing_account,
            "created_at": stamp(grant.created_at),
        },
    )


def grants_of(tx: sa.Connection, key_id: str) -> list[Grant]:
    """Return all grants of a key, the oldest first."""
    return [_grant(row) for row in tx.execute(_OF_KEY, {"key_id": key_id})]


def list_grants(
    tx: sa.Connection, key_id: str, *, grant_id: str = "", grantee: str = "", after: str, limit: int
) -> list[Grant]:
    """Return a key's grants in the order of their ids, those after `after`; of one id or grantee if given."""
    where = {"key_id": key_id, "id": grant_id, "grantee": grantee, "after": after, "limit": limit}
    return [_grant(row) for row in tx.execute(_PAGE, where)]


def list_retirable(tx: sa.Connection, principal: str, *, after: str, limit: int) -> list[Grant]:
    """Return the grants that a principal may retire, in the order of their ids."""
    return [_grant(row) for row in tx.execute(_RETIRABLE, {"principal": principal, "after": after, "limit": limit})]


def find(tx: sa.Connection, grant_id: str) -> Grant | None:
    """Return a grant by its id."""
    row = tx.execute(_BY_ID, {"id": grant_id}).one_or_none()
    return None if row is None else _grant(row)


def find_by_token(tx: sa.Connection, token: str) -> Grant | None:
    """Return a grant by its token."""
    row = tx.execute(_BY_TOKEN, {"token": token}).one_or_none()
    return None if row is None else _grant(row)


def delete(tx: sa.Connection, grant_id: str) -> None:
    """Remove a grant."""
    tx.execute(_DELETE, {"id": grant_id})
