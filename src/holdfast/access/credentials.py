"""What is done with credentials: access keys made, rotated and used; sessions begun; who stands behind a key.

Secrets lie sealed under the root key, session tokens as a hash only. When a session ends is told by machine time.
Rules: AWS Security Token Service API Reference, "AssumeRole", "GetSessionToken"; AWS Identity and Access Management
User Guide, "Managing access keys", "Passing session tags", "Roles terms and concepts" (role chaining).
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa

from holdfast.access import credential_store, store
from holdfast.access.model.caller import Caller, CallerKind, Person, root_caller
from holdfast.access.model.document import DocumentKind
from holdfast.access.model.identity import (
    ADMINISTRATOR,
    LONGEST_SESSION_POLICY,
    MOST_ACCESS_KEYS,
    AccessKey,
    Credentials,
    IdentityExistsError,
    IdentityNotFoundError,
    Kind,
    Role,
    Session,
    SessionPolicy,
    User,
    check_document,
)
from holdfast.access.second_factor import SEED_PURPOSE
from holdfast.access.service import create_user, get_user
from holdfast.access.tag import check_tags, tags_of
from holdfast.core.errors import InvalidInputError, LimitExceededError
from holdfast.core.ids import access_key_id, secret_access_key
from holdfast.core.seal import RootKey

_KEY_PURPOSE, _SESSION_PURPOSE = "access-key", "session"
_SHORTEST = timedelta(minutes=15)
_LONGEST_CHAINED = timedelta(hours=1)
_LONGEST_TOKEN = timedelta(hours=36)
_LONGEST_ROOT_TOKEN = timedelta(hours=1)
_MOST_SESSION_POLICIES = 10


class SessionRefusedError(InvalidInputError):
    """A session cannot begin as it was asked for."""


class RoleGoneError(IdentityNotFoundError):
    """The role or user that a session would act as does not exist any more."""


@dataclass(frozen=True, slots=True)
class Signer:
    """Who stands behind an access key, and the secret that their requests are signed with."""

    caller: Caller
    secret: str = field(repr=False)
    expires_at: datetime | None
    """Machine time; None for a long-term key."""
    session_policies: tuple[SessionPolicy, ...] | None = None


def create_access_key(
    tx: sa.Connection, root_key: RootKey, account: str, user_name: str | None, *, now: datetime
) -> tuple[AccessKey, Credentials]:
    """Make a long-term credential for a user, or for the account's root; the secret is not shown again.

    Raises:
        IdentityNotFoundError: there is no such user.
        LimitExceededError: they have two already.
    """
    if user_name is not None:
        get_user(tx, account, user_name)
    if len(credential_store.keys_of(tx, account, user_name)) >= MOST_ACCESS_KEYS:
        raise LimitExceededError(f"Cannot exceed quota for AccessKeysPerUser: {MOST_ACCESS_KEYS}")
    return import_access_key(tx, root_key, account, user_name, access_key_id(), secret_access_key(), now=now)


def import_access_key(
    tx: sa.Connection,
    root_key: RootKey,
    account: str,
    user_name: str | None,
    key_id: str,
    secret: str,
    *,
    now: datetime,
) -> tuple[AccessKey, Credentials]:
    """Write down a credential whose id and secret are given, as the first one of an installation is.

    Raises:
        IdentityExistsError: the id is taken.
    """
    if credential_store.find_key(tx, key_id) is not None:
        raise IdentityExistsError(f"Access key {key_id} exists already")
    key = AccessKey(key_id, account, user_name, "Active", now)
    sealed = root_key.seal(_KEY_PURPOSE, secret.encode(), context=f"access key {key_id}")
    credential_store.add_key(tx, key, sealed)
    store.raise_access_version(tx)
    return key, Credentials(key_id, secret, None, None)


def create_root_key(
    tx: sa.Connection, root_key: RootKey, account: str, key_id: str, secret: str, *, now: datetime
) -> Credentials:
    """Let the account's root sign with this key and secret, also when that has been so already.

    Raises:
        IdentityExistsError: the key belongs to somebody else.
    """
    found = credential_store.find_key(tx, key_id)
    if found is None:
        return import_access_key(tx, root_key, account, None, key_id, secret, now=now)[1]
    if found.key.account != account or found.key.user_name is not None:
        raise IdentityExistsError(f"Access key {key_id} belongs to somebody else")
    credential_store.delete_key(tx, key_id)
    return import_access_key(tx, root_key, account, None, key_id, secret, now=now)[1]


def create_first_administrator(
    tx: sa.Connection, root_key: RootKey, account: str, name: str, *, now: datetime
) -> Credentials:
    """Make the user who administers a new installation, and their access key.

    Raises:
        IdentityExistsError: the account has a user of this name.
    """
    create_user(tx, account, name, now=now)
    store.attach(tx, account, Kind.USER, name, f"arn:aws:iam::aws:policy/{ADMINISTRATOR}")
    return create_access_key(tx, root_key, account, name, now=now)[1]


def list_access_keys(tx: sa.Connection, account: str, user_name: str | None) -> list[AccessKey]:
    """Return the access keys of a user, or of the account's root."""
    if user_name is not None:
        get_user(tx, account, user_name)
    return credential_store.keys_of(tx, account, user_name)


def get_access_key(tx: sa.Connection, account: str, user_name: str | None, key_id: str) -> AccessKey:
    """Return an access key of a user, or of the account's root.

    Raises:
        IdentityNotFoundError: it is not theirs.
    """
    for key in list_access_keys(tx, account, user_name):
        if key.id == key_id:
            return key
    raise IdentityNotFoundError(f"The Access Key with id {key_id} cannot be found.")


def owner_of(tx: sa.Connection, account: str, key_id: str) -> str | None:
    """Return the name of the user that an access key of the account belongs to, None for the root's.

    Raises:
        IdentityNotFoundError: the account has no such key.
    """
    found = credential_store.find_key(tx, key_id)
    if found is None or found.key.account != account:
        raise IdentityNotFoundError(f"The Access Key with id {key_id} cannot be found.")
    return found.key.user_name


def owner_account(tx: sa.Connection, key_id: str) -> str:
    """Return the account that an access key, also a session's, belongs to.

    Raises:
        IdentityNotFoundError: there is no such key.
    """
    key = credential_store.find_key(tx, key_id)
    if key is not None:
        return key.key.account
    session = credential_store.find_session(tx, key_id)
    if session is None:
        raise IdentityNotFoundError(f"The Access Key with id {key_id} cannot be found.")
    return session.session.account


def set_key_active(tx: sa.Connection, account: str, user_name: str | None, key_id: str, *, active: bool) -> None:
    """Let requests signed with a key be heard, or not any more; it binds the next request."""
    key = get_access_key(tx, account, user_name, key_id)
    credential_store.set_status(tx, key.id, "Active" if active else "Inactive")
    store.raise_access_version(tx)


def delete_access_key(tx: sa.Connection, account: str, user_name: str | None, key_id: str) -> None:
    """Delete an access key; it binds the next request."""
    key = get_access_key(tx, account, user_name, key_id)
    credential_store.delete_key(tx, key.id)
    store.raise_access_version(tx)


def find_signer(tx: sa.Connection, root_key: RootKey, key_id: str, token: str | None) -> Signer | None:
    """Return who stands behind an access key, None when nobody may act by it any more.

    A long-term key comes without a token, a session's with its own. A session that has expired is still found, so
    that it can be told so: compare `expires_at` with machine time. Whoever does not exist any more, nobody acts as.
    """
    if token is None:
        found = credential_store.find_key(tx, key_id)
        if found is None or not found.key.is_active:
            return None
        caller = _caller_of_key(tx, found.key)
        secret = root_key.unseal(_KEY_PURPOSE, found.sealed_secret, context=f"access key {key_id}")
        return None if caller is None else Signer(caller, secret.decode(), None)
    sealed = credential_store.find_session(tx, key_id)
    if sealed is None or not hmac.compare_digest(sealed.token_hash, _hash(token)):
        return None
    session = sealed.session
    session_caller = _caller_of_session(tx, session)
    if session_caller is None:
        return None
    secret = root_key.unseal(_SESSION_PURPOSE, sealed.sealed_secret, context=f"session {key_id}")
    return Signer(session_caller, secret.decode(), session.expires_at, session.policies)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _caller_of_key(tx: sa.Connection, key: AccessKey) -> Caller | None:
    if key.user_name is None:
        return root_caller(key.account, access_key_id=key.id)
    user = store.find_user(tx, key.account, key.user_name)
    return None if user is None else caller_of_user(tx, user, access_key_id=key.id)


def caller_of_user(tx: sa.Connection, user: User, *, access_key_id: str = "") -> Caller:
    """Return a user as they call with a long-term key, or before they have any."""
    return Caller(
        account=user.account,
        arn=user.arn,
        user_id=user.id,
        principal_arn=user.arn,
        kind=CallerKind.USER,
        access_key_id=access_key_id,
        tags=tuple(tags_of(tx, user.account, "", user.arn).items()),
    )


def _caller_of_session(tx: sa.Connection, session: Session) -> Caller | None:
    """Return who acts in a session, None when the user or role was deleted, also if made again since."""
    if session.principal_arn.endswith(":root"):
        kind, own_tags, linked = CallerKind.ROOT, dict[str, str](), False
    else:
        name = session.principal_arn.rpartition("/")[2]
        unique_id = session.user_id.partition(":")[0]
        role = store.find_role(tx, session.account, name) if ":role/" in session.principal_arn else None
        user = store.find_user(tx, session.account, name) if role is None else None
        principal = role or user
        if principal is None or principal.id != unique_id or principal.arn != session.principal_arn:
            return None
        kind = CallerKind.ROLE if role is not None else CallerKind.USER
        own_tags = tags_of(tx, session.account, "", session.principal_arn)
        linked = role is not None and role.is_service_linked
    return Caller(
        account=session.account,
        arn=session.arn,
        user_id=session.user_id,
        principal_arn=session.principal_arn,
        kind=kind,
        session_name=session.session_name or None,
        person=session.person,
        access_key_id=session.access_key_id,
        tags=(*session.tags, *own_tags.items()),
        is_service_linked=linked,
        mfa_at=session.mfa_at,
        issued_at=session.created_at,
        source_identity=session.source_identity,
        federated_provider=session.provider,
    )


@dataclass(frozen=True, slots=True)
class RoleSession:
    """How a session in a role is asked for."""

    name: str
    duration: timedelta | None = None
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[str, ...] = ()
    source_identity: str | None = None
    provider: str | None = None
    """The identity provider, when a person comes from one."""
    person: Person | None = None
    mfa_at: datetime | None = None
    """When a second factor was given with this very request."""


def assume_role(
    tx: sa.Connection, root_key: RootKey, caller: Caller, role: Role, asked: RoleSession, *, now: datetime
) -> tuple[Session, Credentials]:
    """Begin a session in a role; that the caller may is decided before. `now` is machine time.

    The person behind the caller's own session stays behind the new one, and so do its transitive tags and its source
    identity.

    Raises:
        SessionRefusedError: it would be longer than the role or a chain of roles allows, or contradicts the caller's
            own session.
        MalformedPolicyError: the session's policy is none.
    """
    duration = asked.duration or timedelta(hours=1)
    longest = timedelta(seconds=role.max_session)
    if not _SHORTEST <= duration <= longest:
        raise SessionRefusedError(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            if duration > longest
            else "A session lasts at least 900 seconds."
        )
    is_chained = caller.kind is CallerKind.ROLE
    if is_chained and duration > _LONGEST_CHAINED:
        raise SessionRefusedError(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        )
    inherited = _inherited_tags(tx, caller) if is_chained else {}
    own = check_tags(asked.tags)
    folded = {key.lower() for key in inherited}
    for key in own:
        if key.lower() in folded:
            raise SessionRefusedError(
                f"the tag {key!r} comes from the session before and cannot be given another value"
            )
    unknown = set(asked.transitive) - own.keys()
    if unknown:
        raise SessionRefusedError(f"transitive tag keys that are no session tags: {', '.join(sorted(unknown))}")
    if caller.source_identity and asked.source_identity not in {None, caller.source_identity}:
        raise SessionRefusedError("the source identity of a session cannot be changed by assuming another role")
    partition = role.arn.split(":", 2)[1]
    return _begin(
        tx,
        root_key,
        account=role.account,
        arn=f"arn:{partition}:sts::{role.account}:assumed-role/{role.name}/{asked.name}",
        user_id=f"{role.id}:{asked.name}",
        principal_arn=role.arn,
        session_name=asked.name,
        policies=_session_policies(asked),
        tags=tuple({**own, **inherited}.items()),
        transitive=(*asked.transitive, *inherited),
        person=asked.person or caller.person,
        mfa_at=asked.mfa_at or caller.mfa_at,
        source_identity=asked.source_identity or caller.source_identity,
        provider=asked.provider,
        duration=duration,
        now=now,
    )


def _inherited_tags(tx: sa.Connection, caller: Caller) -> dict[str, str]:
    """Return the tags of the caller's own session that go on into the next one."""
    found = credential_store.find_session(tx, caller.access_key_id)
    if found is None:
        return {}
    tags = dict(found.session.tags)
    return {key: tags[key] for key in found.session.transitive if key in tags}


def _session_policies(asked: RoleSession) -> tuple[SessionPolicy, ...] | None:
    if asked.policy is None and not asked.policy_arns:
        return None
    if len(asked.policy_arns) > _MOST_SESSION_POLICIES:
        raise SessionRefusedError(f"a session takes {_MOST_SESSION_POLICIES} managed policies at most")
    policies = [SessionPolicy(arn=arn) for arn in asked.policy_arns]
    if asked.policy is not None:
        check_document(asked.policy, DocumentKind.IDENTITY, longest=LONGEST_SESSION_POLICY)
        policies.append(SessionPolicy(document=asked.policy))
    return tuple(policies)


def session_token(
    tx: sa.Connection,
    root_key: RootKey,
    caller: Caller,
    *,
    duration: timedelta | None,
    mfa_at: datetime | None = None,
    now: datetime,
) -> tuple[Session, Credentials]:
    """Begin a session of a user, or of an account's root, as themselves; `now` is machine time.

    Raises:
        SessionRefusedError: the caller is in a session already, or it would be too long.
    """
    if caller.issued_at is not None:
        raise SessionRefusedError("Cannot call GetSessionToken with session credentials")
    longest = _LONGEST_ROOT_TOKEN if caller.kind is CallerKind.ROOT else _LONGEST_TOKEN
    wanted = duration or min(timedelta(hours=12), longest)
    if wanted < _SHORTEST:
        raise SessionRefusedError("A session lasts at least 900 seconds.")
    return _begin(
        tx,
        root_key,
        account=caller.account,
        arn=caller.arn,
        user_id=caller.user_id,
        principal_arn=caller.principal_arn,
        session_name="",
        policies=None,
        tags=(),
        transitive=(),
        person=caller.person,
        mfa_at=mfa_at,
        source_identity=None,
        provider=None,
        duration=min(wanted, longest),
        now=now,
    )


def _begin(
    tx: sa.Connection,
    root_key: RootKey,
    *,
    account: str,
    arn: str,
    user_id: str,
    principal_arn: str,
    session_name: str,
    policies: tuple[SessionPolicy, ...] | None,
    tags: tuple[tuple[str, str], ...],
    transitive: tuple[str, ...],
    person: Person | None,
    mfa_at: datetime | None,
    source_identity: str | None,
    provider: str | None,
    duration: timedelta,
    now: datetime,
) -> tuple[Session, Credentials]:
    key_id, secret, token = access_key_id(temporary=True), secret_access_key(), secrets.token_urlsafe(96)
    session = Session(
        access_key_id=key_id,
        account=account,
        arn=arn,
        user_id=user_id,
        principal_arn=principal_arn,
        session_name=session_name,
        policies=policies,
        tags=tags,
        transitive=transitive,
        person=person,
        mfa_at=mfa_at,
        source_identity=source_identity,
        provider=provider,
        created_at=now,
        expires_at=now + duration,
    )
    sealed = root_key.seal(_SESSION_PURPOSE, secret.encode(), context=f"session {key_id}")
    credential_store.add_session(tx, session, sealed, _hash(token))
    return session, Credentials(key_id, secret, token, session.expires_at)


def end_expired_sessions(tx: sa.Connection, *, now: datetime) -> int:
    """Forget the sessions that ended an hour ago or earlier, by machine time; return how many."""
    return credential_store.end_expired_sessions(tx, now=now - timedelta(hours=1))


def change_root_key(tx: sa.Connection, old: RootKey, new: RootKey) -> int:
    """Seal every secret of keys, sessions and second factors under another root key; return how many there were."""
    kinds: Mapping[str, tuple[str, str]] = {
        "access_key": (_KEY_PURPOSE, "access key "),
        "session": (_SESSION_PURPOSE, "session "),
        "mfa_device": (SEED_PURPOSE, ""),
    }
    found: Sequence[tuple[str, str, bytes]] = credential_store.all_secrets(tx)
    for kind, key_id, sealed in found:
        purpose, words = kinds[kind]
        opened = old.unseal(purpose, sealed, context=f"{words}{key_id}")
        credential_store.reseal(tx, kind, key_id, new.seal(purpose, opened, context=f"{words}{key_id}"))
    return len(found)
