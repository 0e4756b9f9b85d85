"""The SQL of credentials: access keys and temporary sessions."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model.caller import Person
from holdfast.access.model.identity import AccessKey, Session, SessionPolicy
from holdfast.database.values import from_json, instant, instant_or_none, stamp, to_json

_KEY = "id, account, user_name, status, created_at, last_used_at, last_used_service, last_used_region"
_ADD_KEY = text("""
    INSERT INTO access_key (id, account, user_name, sealed_secret, status, created_at)
    VALUES (:id, :account, :user_name, :sealed, :status, :at)""")
_FIND_KEY = text(f"SELECT {_KEY}, sealed_secret FROM access_key WHERE id = :id")
_KEYS_OF_USER = text(f"""
    SELECT {_KEY} FROM access_key WHERE account = :account AND user_name = :user_name ORDER BY created_at, id""")
_KEYS_OF_ROOT = text(f"""
    SELECT {_KEY} FROM access_key WHERE account = :account AND user_name IS NULL ORDER BY created_at, id""")
_SET_STATUS = text("UPDATE access_key SET status = :status WHERE id = :id")
_DELETE_KEY = text("DELETE FROM access_key WHERE id = :id")
_KEY_USED = text("""
    UPDATE access_key SET last_used_at = :at, last_used_service = :service, last_used_region = :region
     WHERE id = :id""")
_ALL_SECRETS = text("""
    SELECT id, sealed_secret, 'access_key' AS kind FROM access_key
     UNION ALL SELECT access_key_id, sealed_secret, 'session' FROM session
     UNION ALL SELECT serial, sealed_seed, 'mfa_device' FROM iam_mfa_device""")
_RESEAL = {
    "access_key": text("UPDATE access_key SET sealed_secret = :sealed WHERE id = :id"),
    "session": text("UPDATE session SET sealed_secret = :sealed WHERE access_key_id = :id"),
    "mfa_device": text("UPDATE iam_mfa_device SET sealed_seed = :sealed WHERE serial = :id"),
}

_SESSION = (
    "access_key_id, account, arn, user_id, principal_arn, session_name, policies, tags, person, mfa_at, "
    "source_identity, provider, created_at, expires_at"
)
_ADD_SESSION = text(f"""
    INSERT INTO session ({_SESSION}, sealed_secret, token_hash)
    VALUES (:access_key_id, :account, :arn, :user_id, :principal_arn, :session_name, :policies, :tags, :person, :mfa_at,
            :source_identity, :provider, :created_at, :expires_at, :sealed_secret, :token_hash)""")
_FIND_SESSION = text(f"SELECT {_SESSION}, sealed_secret, token_hash FROM session WHERE access_key_id = :id")
_END_SESSIONS = text("DELETE FROM session WHERE expires_at <= :now")
_END_SESSIONS_OF = text("DELETE FROM session WHERE principal_arn = :arn")


@dataclass(frozen=True, slots=True)
class SealedKey:
    """An access key and its secret, as it lies in the database."""

    key: AccessKey
    sealed_secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedSession:
    """A session and its secret, as it lies in the database."""

    session: Session
    sealed_secret: bytes = field(repr=False)
    token_hash: str = field(repr=False)


def _access_key(row: sa.Row[Any]) -> AccessKey:
    return AccessKey(
        id=row.id,
        account=row.account,
        user_name=row.user_name,
        status=row.status,
        created_at=instant(row.created_at),
        last_used_at=instant_or_none(row.last_used_at),
        last_used_service=row.last_used_service,
        last_used_region=row.last_used_region,
    )


def add_key(tx: sa.Connection, key: AccessKey, sealed: bytes) -> None:
    """Write a new access key."""
    tx.execute(
        _ADD_KEY,
        {
            "id": key.id,
            "account": key.account,
            "user_name": key.user_name,
            "sealed": sealed,
            "status": key.status,
            "at": stamp(key.created_at),
        },
    )


def find_key(tx: sa.Connection, key_id: str) -> SealedKey | None:
    """Return the access key with this id."""
    row = tx.execute(_FIND_KEY, {"id": key_id}).one_or_none()
    return None if row is None else SealedKey(_access_key(row), bytes(row.sealed_secret))


def keys_of(tx: sa.Connection, account: str, user_name: str | None) -> list[AccessKey]:
    """Return the access keys of a user, or of the account's root."""
    where = {"account": account}
    rows = (
        tx.execute(_KEYS_OF_ROOT, where)
        if user_name is None
        else tx.execute(_KEYS_OF_USER, {**where, "user_name": user_name})
    )
    return [_access_key(row) for row in rows]


def set_status(tx: sa.Connection, key_id: str, status: str) -> None:
    """Make an access key Active or Inactive."""
    tx.execute(_SET_STATUS, {"id": key_id, "status": status})


def delete_key(tx: sa.Connection, key_id: str) -> None:
    """Remove an access key."""
    tx.execute(_DELETE_KEY, {"id": key_id})


def key_used(tx: sa.Connection, key_id: str, *, at: datetime, service: str, region: str) -> None:
    """Note when and for what an access key was last used."""
    tx.execute(_KEY_USED, {"id": key_id, "at": stamp(at), "service": service, "region": region})


def _policies(column: str | None) -> tuple[SessionPolicy, ...] | None:
    if column is None:
        return None
    return tuple(SessionPolicy(each.get("arn"), each.get("document")) for each in from_json(column))


def _session(row: sa.Row[Any]) -> Session:
    tags = from_json(row.tags)
    person = from_json(row.person) if row.person else None
    return Session(
        access_key_id=row.access_key_id,
        account=row.account,
        arn=row.arn,
        user_id=row.user_id,
        principal_arn=row.principal_arn,
        session_name=row.session_name,
        policies=_policies(row.policies),
        tags=tuple((key, value) for key, value in tags["tags"]),
        transitive=tuple(tags["transitive"]),
        person=None if person is None else Person(person["issuer"], person["subject"]),
        mfa_at=instant_or_none(row.mfa_at),
        source_identity=row.source_identity,
        provider=row.provider,
        created_at=instant(row.created_at),
        expires_at=instant(row.expires_at),
    )


def add_session(tx: sa.Connection, session: Session, sealed: bytes, token_hash: str) -> None:
    """Write a new session."""
    policies = None
    if session.policies is not None:
        policies = to_json([{"arn": each.arn, "document": each.document} for each in session.policies])
    person = session.person
    tx.execute(
        _ADD_SESSION,
        {
            "access_key_id": session.access_key_id,
            "account": session.account,
            "arn": session.arn,
            "user_id": session.user_id,
            "principal_arn": session.principal_arn,
            "session_name": session.session_name,
            "policies": policies,
            "tags": to_json({"tags": session.tags, "transitive": session.transitive}),
            "person": None if person is None else to_json({"issuer": person.issuer, "subject": person.subject}),
            "mfa_at": None if session.mfa_at is None else stamp(session.mfa_at),
            "source_identity": session.source_identity,
            "provider": session.provider,
            "created_at": stamp(session.created_at),
            "expires_at": stamp(session.expires_at),
            "sealed_secret": sealed,
            "token_hash": token_hash,
        },
    )


def find_session(tx: sa.Connection, access_key_id: str) -> SealedSession | None:
    """Return the session that this temporary access key belongs to."""
    row = tx.execute(_FIND_SESSION, {"id": access_key_id}).one_or_none()
    return None if row is None else SealedSession(_session(row), bytes(row.sealed_secret), row.token_hash)


def end_expired_sessions(tx: sa.Connection, *, now: datetime) -> int:
    """Remove the sessions that have expired, by machine time; return how many."""
    return tx.execute(_END_SESSIONS, {"now": stamp(now)}).rowcount


def end_sessions_of(tx: sa.Connection, principal_arn: str) -> int:
    """Remove every session of a user or role; return how many."""
    return tx.execute(_END_SESSIONS_OF, {"arn": principal_arn}).rowcount


def all_secrets(tx: sa.Connection) -> list[tuple[str, str, bytes]]:
    """Return every sealed secret: its kind (`access_key`, `session` or `mfa_device`), the id, and the secret."""
    return [(row.kind, row.id, bytes(row.sealed_secret)) for row in tx.execute(_ALL_SECRETS)]


def reseal(tx: sa.Connection, kind: str, key_id: str, sealed: bytes) -> None:
    """Replace a sealed secret."""
    tx.execute(_RESEAL[kind], {"id": key_id, "sealed": sealed})
