"""Rows of tags on the things of an organization. They lie under the management account, with the partition `aws`."""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy import text

_TAGS = text("SELECT key, value FROM tag WHERE account = :account AND region = '' AND arn = :arn ORDER BY key")
_PUT = text("""
    INSERT INTO tag (account, region, arn, key, value) VALUES (:account, '', :arn, :key, :value)
    ON CONFLICT (account, region, arn, key) DO UPDATE SET value = excluded.value""")
_REMOVE = text("DELETE FROM tag WHERE account = :account AND region = '' AND arn = :arn AND key IN :keys").bindparams(
    sa.bindparam("keys", type_=sa.String(), expanding=True)
)
_DROP = text("DELETE FROM tag WHERE account = :account AND region = '' AND arn = :arn")
_DROP_ALL = text("DELETE FROM tag WHERE account = :account AND region = '' AND arn LIKE :prefix")
_POLICY_TYPE = text("""
    SELECT type FROM policy WHERE organization_id = :organization AND id = :id AND NOT aws_managed""")
_RESOURCE_POLICY = text("SELECT id FROM resource_policy WHERE organization_id = :organization AND id = :id")


def tags_on(tx: sa.Connection, account: str, arn: str) -> dict[str, str]:
    """Return the tags on an ARN, in the order of their keys."""
    return {row.key: row.value for row in tx.execute(_TAGS, {"account": account, "arn": arn})}


def put_tags(tx: sa.Connection, account: str, arn: str, tags: Mapping[str, str]) -> None:
    """Write tags; those with the same key are replaced."""
    if tags:
        tx.execute(_PUT, [{"account": account, "arn": arn, "key": k, "value": v} for k, v in tags.items()])


def remove_tags(tx: sa.Connection, account: str, arn: str, keys: Iterable[str]) -> None:
    """Remove the tags with these keys, where they are."""
    tx.execute(_REMOVE, {"account": account, "arn": arn, "keys": list(keys)})


def drop_tags(tx: sa.Connection, account: str, arn: str) -> None:
    """Remove every tag on an ARN."""
    tx.execute(_DROP, {"account": account, "arn": arn})


def drop_all_tags(tx: sa.Connection, account: str) -> None:
    """Remove every tag on the things of the organization that this account manages."""
    tx.execute(_DROP_ALL, {"account": account, "prefix": "arn:aws:organizations:%"})


def policy_type_of(tx: sa.Connection, organization_id: str, policy_id: str) -> str | None:
    """Return the type of one of the organization's own policies; None if there is none with this id."""
    return tx.execute(_POLICY_TYPE, {"organization": organization_id, "id": policy_id}).scalar_one_or_none()


def has_resource_policy(tx: sa.Connection, organization_id: str, policy_id: str) -> bool:
    """Return whether this is the id of the organization's resource policy."""
    return tx.execute(_RESOURCE_POLICY, {"organization": organization_id, "id": policy_id}).first() is not None
