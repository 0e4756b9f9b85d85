"""The SQL of passwords and of what accounts ask of them."""

from dataclasses import asdict
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model.password import LoginProfile, PasswordPolicy
from holdfast.database.values import from_json, instant, stamp, to_json

_PUT = text("""
    INSERT INTO iam_login_profile
        (account, user_name, password_hash, former, reset_required, created_at, changed_at)
    VALUES (:account, :name, :hash, :former, :reset, :created, :changed)
        ON CONFLICT (account, user_name) DO UPDATE
       SET password_hash = excluded.password_hash, former = excluded.former, reset_required = excluded.reset_required,
           changed_at = excluded.changed_at""")
_FIND = text("""
    SELECT account, user_name, password_hash, former, reset_required, created_at, changed_at
      FROM iam_login_profile WHERE account = :account AND user_name = :name""")
_DELETE = text("DELETE FROM iam_login_profile WHERE account = :account AND user_name = :name")
_USED = text("UPDATE iam_login_profile SET used_at = :at WHERE account = :account AND user_name = :name")
_PUT_POLICY = text("""
    INSERT INTO iam_password_policy (account, policy) VALUES (:account, :policy)
        ON CONFLICT (account) DO UPDATE SET policy = excluded.policy""")
_FIND_POLICY = text("SELECT policy FROM iam_password_policy WHERE account = :account")
_DELETE_POLICY = text("DELETE FROM iam_password_policy WHERE account = :account")
_ACCOUNT = text("SELECT id FROM account WHERE (id = :name OR alias = :name) AND status = 'ACTIVE'")


def find_account(tx: sa.Connection, name: str) -> str | None:
    """Return the id of the open account with this id or alias."""
    return tx.execute(_ACCOUNT, {"name": name}).scalar_one_or_none()


def put_profile(tx: sa.Connection, profile: LoginProfile) -> None:
    """Write a user's password."""
    tx.execute(
        _PUT,
        {
            "account": profile.account,
            "name": profile.user_name,
            "hash": profile.password_hash,
            "former": to_json(profile.former),
            "reset": profile.reset_required,
            "created": stamp(profile.created_at),
            "changed": stamp(profile.changed_at),
        },
    )


def find_profile(tx: sa.Connection, account: str, user_name: str) -> LoginProfile | None:
    """Return a user's password."""
    row = tx.execute(_FIND, {"account": account, "name": user_name}).one_or_none()
    if row is None:
        return None
    return LoginProfile(
        account=row.account,
        user_name=row.user_name,
        password_hash=row.password_hash,
        former=tuple(from_json(row.former)),
        reset_required=bool(row.reset_required),
        created_at=instant(row.created_at),
        changed_at=instant(row.changed_at),
    )


def delete_profile(tx: sa.Connection, account: str, user_name: str) -> None:
    """Remove a user's password."""
    tx.execute(_DELETE, {"account": account, "name": user_name})


def profile_used(tx: sa.Connection, account: str, user_name: str, *, at: datetime) -> None:
    """Note when a user last signed in by password."""
    tx.execute(_USED, {"account": account, "name": user_name, "at": stamp(at)})


def put_policy(tx: sa.Connection, account: str, policy: PasswordPolicy) -> None:
    """Write what an account asks of passwords."""
    tx.execute(_PUT_POLICY, {"account": account, "policy": to_json(asdict(policy))})


def find_policy(tx: sa.Connection, account: str) -> PasswordPolicy | None:
    """Return what an account asks of passwords, None when it says nothing of its own."""
    found = tx.execute(_FIND_POLICY, {"account": account}).scalar_one_or_none()
    return None if found is None else PasswordPolicy(**from_json(found))


def delete_policy(tx: sa.Connection, account: str) -> bool:
    """Remove what an account asks of passwords; return whether it had said something."""
    return tx.execute(_DELETE_POLICY, {"account": account}).rowcount == 1
