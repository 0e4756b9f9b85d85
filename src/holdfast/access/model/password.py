"""Passwords of users: what an account asks of them.

Rules: AWS Identity and Access Management User Guide, "Set an account password policy for IAM users".
"""

import string
from dataclasses import dataclass
from datetime import datetime, timedelta

from holdfast.core.errors import DeniedError, InvalidInputError, InvalidStateError

LONGEST = 128
_SYMBOLS = frozenset("!@#$%^&*()_+-=[]{}|'")
_KINDS_WITHOUT_POLICY = 3


class WeakPasswordError(InvalidInputError):
    """A password is not what the account's policy asks for."""


class WrongPasswordError(DeniedError):
    """A password is not the user's."""


class NoUserError(InvalidStateError):
    """Only a user has a password of their own."""


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """What an account asks of its users' passwords."""

    minimum_length: int = 6
    symbols: bool = False
    numbers: bool = False
    upper_case: bool = False
    lower_case: bool = False
    users_may_change: bool = False
    max_age_days: int | None = None
    reuse_prevention: int | None = None
    """How many former passwords may not come back."""
    hard_expiry: bool = False
    """Whether whose password has expired cannot choose a new one themselves."""

    def expires_at(self, changed_at: datetime) -> datetime | None:
        """Return when a password that was chosen at an instant expires, None for never."""
        return None if self.max_age_days is None else changed_at + timedelta(days=self.max_age_days)


@dataclass(frozen=True, slots=True)
class LoginProfile:
    """A user's password, as a hash."""

    account: str
    user_name: str
    password_hash: str
    former: tuple[str, ...]
    """Hashes of the passwords before, the newest first."""
    reset_required: bool
    created_at: datetime
    changed_at: datetime


def _kinds(password: str) -> dict[str, bool]:
    characters = set(password)
    return {
        "an upper-case letter": bool(characters & set(string.ascii_uppercase)),
        "a lower-case letter": bool(characters & set(string.ascii_lowercase)),
        "a number": bool(characters & set(string.digits)),
        f"one of {''.join(sorted(_SYMBOLS))}": bool(characters & _SYMBOLS),
    }


def check_password(password: str, policy: PasswordPolicy | None, *, user_name: str) -> None:
    """Refuse a password that an account's policy, or without one the common rule, does not let pass.

    Raises:
        WeakPasswordError: what it lacks.
    """
    kinds = _kinds(password)
    minimum = 8 if policy is None else policy.minimum_length
    lacking = [f"at least {minimum} characters"] if len(password) < minimum else []
    if policy is None:
        if sum(kinds.values()) < _KINDS_WITHOUT_POLICY:
            lacking.append(f"three of: {', '.join(kinds)}")
        if password.lower() == user_name.lower():
            lacking.append("something else than the user's name")
    else:
        wanted = (policy.upper_case, policy.lower_case, policy.numbers, policy.symbols)
        lacking += [kind for (kind, has), want in zip(kinds.items(), wanted, strict=True) if want and not has]
    if lacking:
        needs = "; ".join(lacking)
        raise WeakPasswordError(f"Password does not conform to the account password policy: it needs {needs}.")
