"""The credential report of an account: its users, what each signs in with, and when that was last used.

Columns: AWS Identity and Access Management User Guide, "Generate credential reports for your AWS account".
"""

import csv
import io
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model.password import PasswordPolicy
from holdfast.access.password_store import find_policy
from holdfast.database.values import instant, instant_or_none

_KEY_COLUMNS: Final = ("active", "last_rotated", "last_used_date", "last_used_region", "last_used_service")
_COLUMNS: Final = (
    "user",
    "arn",
    "user_creation_time",
    "password_enabled",
    "password_last_used",
    "password_last_changed",
    "password_next_rotation",
    "mfa_active",
    *(f"access_key_{number}_{column}" for number in (1, 2) for column in _KEY_COLUMNS),
    "cert_1_active",
    "cert_1_last_rotated",
    "cert_2_active",
    "cert_2_last_rotated",
)
_NOT: Final = "N/A"
_NO_CERTIFICATES: Final = ("false", _NOT, "false", _NOT)

_USERS = text("""
    SELECT u.name, u.arn, u.created_at, p.changed_at AS password_changed_at, p.used_at AS password_used_at,
           EXISTS (SELECT 1 FROM iam_mfa_device d WHERE d.account = u.account AND d.user_name = u.name) AS has_mfa
      FROM iam_user u LEFT JOIN iam_login_profile p ON p.account = u.account AND p.user_name = u.name
     WHERE u.account = :account ORDER BY u.name""")
_KEYS = text("""
    SELECT user_name, status, created_at, last_used_at, last_used_service, last_used_region
      FROM access_key WHERE account = :account ORDER BY user_name, created_at, id""")
_ACCOUNT = text("SELECT created_at FROM account WHERE id = :account")


def credential_report(tx: sa.Connection, account: str, *, partition: str = "aws") -> str:
    """Return the report as CSV, the root first, then the users by name."""
    policy = find_policy(tx, account)
    keys: dict[str | None, list[sa.Row[Any]]] = {}
    for row in tx.execute(_KEYS, {"account": account}):
        keys.setdefault(row.user_name, []).append(row)
    made = io.StringIO()
    lines = csv.writer(made, lineterminator="\n")
    lines.writerow(_COLUMNS)
    created_at = tx.execute(_ACCOUNT, {"account": account}).scalar_one()
    root = ("<root_account>", f"arn:{partition}:iam::{account}:root", _shown(created_at))
    lines.writerow((*root, "false", _NOT, _NOT, _NOT, "false", *_keys(keys.get(None, ())), *_NO_CERTIFICATES))
    for user in tx.execute(_USERS, {"account": account}):
        lines.writerow(
            (
                user.name,
                user.arn,
                _shown(user.created_at),
                *_password(user, policy),
                _yes(user.has_mfa),
                *_keys(keys.get(user.name, ())),
                *_NO_CERTIFICATES,
            )
        )
    return made.getvalue()


def _shown(column: int | None, *, otherwise: str = _NOT) -> str:
    at = instant_or_none(column)
    return otherwise if at is None else at.isoformat(timespec="seconds")


def _yes(value: object) -> str:
    return "true" if value else "false"


def _password(user: sa.Row[Any], policy: PasswordPolicy | None) -> tuple[str, str, str, str]:
    if user.password_changed_at is None:
        return "false", _NOT, _NOT, _NOT
    ends_at = None if policy is None else policy.expires_at(instant(user.password_changed_at))
    used = _shown(user.password_used_at, otherwise="no_information")
    return (
        "true",
        used,
        _shown(user.password_changed_at),
        _NOT if ends_at is None else ends_at.isoformat(timespec="seconds"),
    )


def _keys(found: Any) -> list[str]:
    columns: list[str] = []
    for key in found[:2]:
        columns += [_yes(key.status == "Active"), _shown(key.created_at), _shown(key.last_used_at)]
        columns += [key.last_used_region or _NOT, key.last_used_service or _NOT]
    while len(columns) < 2 * len(_KEY_COLUMNS):
        columns += ["false", _NOT, _NOT, _NOT, _NOT]
    return columns
