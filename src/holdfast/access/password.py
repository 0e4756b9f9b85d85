"""What is done with passwords: given, changed, taken away and compared.

Hashed with argon2id (RFC 9106, the parameters for little memory). All of a user's passwords have one salt, so that a
new one is compared with the former ones by a single hash. Rules: AWS Identity and Access Management API Reference,
"CreateLoginProfile", "ChangePassword"; User Guide, "Set an account password policy for IAM users".
"""

from base64 import b64decode
from datetime import datetime
from functools import cache

import argon2
import sqlalchemy as sa
from argon2.exceptions import InvalidHashError, VerificationError

from holdfast.access import password_store
from holdfast.access.model.identity import IdentityExistsError, IdentityNotFoundError
from holdfast.access.model.password import (
    LONGEST,
    LoginProfile,
    PasswordPolicy,
    WeakPasswordError,
    WrongPasswordError,
    check_password,
)
from holdfast.access.service import get_user

_HASHER = argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
_MOST_FORMER = 24


def create_profile(
    tx: sa.Connection, account: str, user_name: str, password: str, *, reset_required: bool, now: datetime
) -> LoginProfile:
    """Give a user a password.

    Raises:
        IdentityNotFoundError: there is no such user.
        IdentityExistsError: they have one.
        WeakPasswordError: it is not what the account asks for.
    """
    get_user(tx, account, user_name)
    if password_store.find_profile(tx, account, user_name) is not None:
        raise IdentityExistsError(f"Login Profile for user {user_name} already exists.")
    check_password(password, password_store.find_policy(tx, account), user_name=user_name)
    profile = LoginProfile(account, user_name, _HASHER.hash(password), (), reset_required, now, now)
    password_store.put_profile(tx, profile)
    return profile


def get_profile(tx: sa.Connection, account: str, user_name: str) -> LoginProfile:
    """Return a user's password.

    Raises:
        IdentityNotFoundError: they have none.
    """
    profile = password_store.find_profile(tx, account, user_name)
    if profile is None:
        raise IdentityNotFoundError(f"Login Profile for User {user_name} cannot be found.")
    return profile


def change_profile(
    tx: sa.Connection,
    account: str,
    user_name: str,
    *,
    password: str | None,
    reset_required: bool | None,
    now: datetime,
) -> None:
    """Give a user another password, or say whether they have to choose one when they sign in.

    Raises:
        IdentityNotFoundError: they have none.
        WeakPasswordError: it is not what the account asks for, or had been theirs before.
    """
    profile = get_profile(tx, account, user_name)
    policy = password_store.find_policy(tx, account)
    password_hash, former, changed_at = profile.password_hash, profile.former, profile.changed_at
    if password is not None:
        check_password(password, policy, user_name=user_name)
        password_hash, former = _hash_of_new(profile, password, policy)
        changed_at = now
    password_store.put_profile(
        tx,
        LoginProfile(
            account,
            user_name,
            password_hash,
            former,
            profile.reset_required if reset_required is None else reset_required,
            profile.created_at,
            changed_at,
        ),
    )


def _hash_of_new(profile: LoginProfile, password: str, policy: PasswordPolicy | None) -> tuple[str, tuple[str, ...]]:
    before = (profile.password_hash, *profile.former)
    salt = _salt(profile.password_hash)
    made = _HASHER.hash(password, salt=salt)
    forbidden = 0 if policy is None else policy.reuse_prevention or 0
    if made in before[:forbidden]:
        raise WeakPasswordError(
            f"Password does not conform to the account password policy: the last {forbidden} may not come back."
        )
    return made, before[:_MOST_FORMER]


def _salt(encoded: str) -> bytes | None:
    """Return the salt of a hash; None, for a new one, when the hash is not of the present parameters."""
    if _HASHER.check_needs_rehash(encoded):
        return None
    salt = encoded.split("$")[4]
    return b64decode(salt + "=" * (-len(salt) % 4))


def delete_profile(tx: sa.Connection, account: str, user_name: str) -> None:
    """Take a user's password away.

    Raises:
        IdentityNotFoundError: they have none.
    """
    get_profile(tx, account, user_name)
    password_store.delete_profile(tx, account, user_name)


def change_own_password(tx: sa.Connection, account: str, user_name: str, old: str, new: str, *, now: datetime) -> None:
    """Let a user choose another password.

    Raises:
        WrongPasswordError: `old` is not theirs, or they have none.
        WeakPasswordError: `new` is not what the account asks for, or had been theirs before.
    """
    if not is_password(password_store.find_profile(tx, account, user_name), old):
        raise WrongPasswordError("The old password was incorrect.")
    change_profile(tx, account, user_name, password=new, reset_required=False, now=now)


def is_password(profile: LoginProfile | None, password: str) -> bool:
    """Return whether a password is a user's; where there is no user, that takes as long and is False."""
    try:
        _HASHER.verify(_nobodys() if profile is None else profile.password_hash, password[: LONGEST + 1])
    except (VerificationError, InvalidHashError):
        return False
    return profile is not None


@cache
def _nobodys() -> str:
    """Return the hash that the passwords of users who do not exist are compared with."""
    return _HASHER.hash("of nobody")
