"""Tags of things that have an ARN: read, put, removed, within published limits.

Limits: AWS Identity and Access Management User Guide, "Tagging IAM resources"; AWS Key Management Service API
Reference, "TagResource".
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import InvalidInputError, LimitExceededError

MOST_TAGS: Final = 50
_LONGEST_KEY, _LONGEST_VALUE = 128, 256
_ALLOWED = re.compile(r"[\w\s.:/=+\-@]*\Z")

_LIST = text("SELECT key, value FROM tag WHERE account = :account AND region = :region AND arn = :arn ORDER BY key")
_PUT = text("""
    INSERT INTO tag (account, region, arn, key, value) VALUES (:account, :region, :arn, :key, :value)
        ON CONFLICT (account, region, arn, key) DO UPDATE SET value = excluded.value""")
_REMOVE = text("DELETE FROM tag WHERE account = :account AND region = :region AND arn = :arn AND key = :key")
_CLEAR = text("DELETE FROM tag WHERE account = :account AND region = :region AND arn = :arn")


class InvalidTagError(InvalidInputError):
    """A tag has a key or value that tags cannot have."""


def check_tags(tags: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the tags by key.

    Raises:
        InvalidTagError: a key occurs twice, is empty, too long or reserved, or a value is too long.
    """
    checked: dict[str, str] = {}
    for key, value in tags:
        if not key or len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            raise InvalidTagError(
                f"the tag {key[:40]!r}: a key has 1 to {_LONGEST_KEY} characters, a value at most {_LONGEST_VALUE}"
            )
        if key.lower().startswith("aws:"):
            raise InvalidTagError(f"the tag key {key!r} begins with aws:, which is reserved")
        if not _ALLOWED.match(key) or not _ALLOWED.match(value):
            raise InvalidTagError(f"the tag {key!r} may hold letters, digits, spaces and _ . : / = + - @")
        if key in checked:
            raise InvalidTagError(f"the tag key {key!r} is given twice")
        checked[key] = value
    return checked


def tags_of(tx: sa.Connection, account: str, region: str, arn: str) -> dict[str, str]:
    """Return the tags of `arn`, sorted by key; region is '' for what has none."""
    rows = tx.execute(_LIST, {"account": account, "region": region, "arn": arn})
    return {row.key: row.value for row in rows}


def put_tags(tx: sa.Connection, account: str, region: str, arn: str, tags: Mapping[str, str]) -> None:
    """Add tags to `arn`, replacing the values of keys that are there.

    Raises:
        LimitExceededError: it would have more than fifty.
    """
    if not tags:
        return
    if len(tags_of(tx, account, region, arn).keys() | tags.keys()) > MOST_TAGS:
        raise LimitExceededError(f"{arn} would have more than {MOST_TAGS} tags")
    where = {"account": account, "region": region, "arn": arn}
    tx.execute(_PUT, [{**where, "key": key, "value": value} for key, value in tags.items()])


def remove_tags(tx: sa.Connection, account: str, region: str, arn: str, keys: Iterable[str]) -> None:
    """Take the tags with these keys away; keys that are not there do not matter."""
    rows = [{"account": account, "region": region, "arn": arn, "key": key} for key in keys]
    if rows:
        tx.execute(_REMOVE, rows)


def clear_tags(tx: sa.Connection, account: str, region: str, arn: str) -> None:
    """Take every tag away, because the thing itself goes."""
    tx.execute(_CLEAR, {"account": account, "region": region, "arn": arn})
