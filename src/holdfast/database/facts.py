"""Facts of one installation: a few named values that are no configuration and belong to no account."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

OPERATOR: Final = "operator account"
"""The account that `holdfast init` or `holdfast dev` laid down: whoever runs the installation acts through it."""

_REMEMBER = text(
    "INSERT INTO instance (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_REPLACE = text("UPDATE instance SET value = :after WHERE name = :name AND value = :before")
_FORGET = text("DELETE FROM instance WHERE name = :name")
_RECALL = text("SELECT value FROM instance WHERE name = :name")


def remember(tx: sa.Connection, name: str, value: str) -> None:
    """Keep a fact of this installation."""
    tx.execute(_REMEMBER, {"name": name, "value": value})


def replace(tx: sa.Connection, name: str, before: str, after: str) -> bool:
    """Keep another value of a fact; return False, and change nothing, if it is not `before` any more."""
    return tx.execute(_REPLACE, {"name": name, "before": before, "after": after}).rowcount == 1


def recalled(tx: sa.Connection, name: str) -> str | None:
    """Return a fact of this installation that was kept, None when it was not."""
    found: Any = tx.execute(_RECALL, {"name": name}).scalar_one_or_none()
    return None if found is None else str(found)


def forget(tx: sa.Connection, name: str) -> None:
    """Keep a fact of this installation no longer."""
    tx.execute(_FORGET, {"name": name})
