"""What is done with grants: made, found, taken back."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from holdfast.access.store import raise_access_version
from holdfast.key import grant_store
from holdfast.key.grant import (
    MOST,
    NAME,
    OPERATIONS,
    PRINCIPAL,
    Grant,
    GrantNotFoundError,
    InvalidGrantError,
    TooManyGrantsError,
)
from holdfast.key.model import Key


def create_grant(
    tx: sa.Connection,
    key: Key,
    *,
    grantee: str,
    operations: Sequence[str],
    retiring: str | None = None,
    name: str = "",
    subset: Mapping[str, str] | None = None,
    equals: Mapping[str, str] | None = None,
    issuing_account: str,
    now: datetime,
) -> Grant:
    """Let a principal use a key; one with a name that says the same as another of that name is that other one.

    Raises:
        KeyDisabledError, KeyStateError: the key cannot be used.
        InvalidGrantError: a principal, an operation or the name is none that a grant can have.
        TooManyGrantsError: the key has too many.
    """
    key.require_usable()
    for principal in filter(None, (grantee, retiring)):
        if PRINCIPAL.match(principal) is None:
            raise InvalidGrantError(f"{principal!r} is not the ARN of an account, user, role or role session")
    unknown = sorted(set(operations) - set(OPERATIONS))
    if unknown or not operations:
        raise InvalidGrantError(
            f"{', '.join(unknown) or 'nothing'} cannot be granted here; {', '.join(OPERATIONS)} can"
        )
    if name and NAME.match(name) is None:
        raise InvalidGrantError("a grant's name has up to 256 letters, digits, : / _ -")
    grant = Grant(
        id=secrets.token_hex(32),
        token=secrets.token_urlsafe(48),
        key_id=key.id,
        name=name,
        grantee=grantee,
        retiring=retiring,
        operations=tuple(each for each in OPERATIONS if each in operations),
        subset=dict(subset or {}),
        equals=None if equals is None else dict(equals),
        issuing_account=issuing_account,
        created_at=now,
    )
    present = grant_store.grants_of(tx, key.id)
    for each in present:
        if name and each.says_the_same_as(grant):
            return each
    if len(present) >= MOST:
        raise TooManyGrantsError(f"{key.arn} has {MOST} grants, which is the most; revoke some")
    grant_store.insert(tx, grant)
    raise_access_version(tx)
    return grant


def get_grant(tx: sa.Connection, key: Key, grant_id: str) -> Grant:
    """Return a key's grant by its id.

    Raises:
        GrantNotFoundError: the key has none of that id.
    """
    grant = grant_store.find(tx, grant_id)
    if grant is None or grant.key_id != key.id:
        raise GrantNotFoundError(f"{key.arn} has no grant {grant_id}")
    return grant


def end_grant(tx: sa.Connection, grant: Grant) -> None:
    """Take a grant back; it binds the next request."""
    grant_store.delete(tx, grant.id)
    raise_access_version(tx)
