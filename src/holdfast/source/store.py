"""The SQL of registration: resources with the history of their classes, grants, secrets."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import FOREVER, from_json, instant, stamp, to_json
from holdfast.source.grant import SiteGrant
from holdfast.source.location import Location, location
from holdfast.source.model import Resource, Secret

_RESOURCE = """
    SELECT r.id, r.account, r.region, r.arn, r.type, r.name, r.source_url, r.site, r.secret_name, r.version,
           r.created_at, r.updated_at, r.deleted_at, r.class_id, c.tags
      FROM resource r JOIN resource_class c ON c.id = r.class_id"""
_BY_NAME = text(
    f"{_RESOURCE} WHERE r.account = :account AND r.region = :region AND r.name = :name AND r.deleted_at IS NULL"
)
_BY_ARN = text(f"{_RESOURCE} WHERE r.account = :account AND r.region = :region AND r.arn = :arn")
_LIST = text(f"""{_RESOURCE}
     WHERE r.account = :account AND r.region = :region AND r.deleted_at IS NULL AND r.name > :after
       AND (:type = '' OR r.type = :type)
     ORDER BY r.name LIMIT :limit""")
_AT_PLACE = text(f"""{_RESOURCE}
     WHERE r.account = :account AND r.region = :region AND r.site = :site AND r.location = :location
       AND r.deleted_at IS NULL
     ORDER BY r.id LIMIT 1""")
_LOCK_SITE = text("SELECT pg_advisory_xact_lock(hashtextextended(:site, 0))")
_OVERLAP = text("""
    SELECT account, location FROM resource
     WHERE site = :site AND account <> :account AND deleted_at IS NULL
       AND (location IN :ancestors OR location >= :below AND location < :beyond)
     LIMIT 1""").bindparams(sa.bindparam("ancestors", expanding=True))
_INSERT = text("""
    INSERT INTO resource (account, region, arn, type, name, source_url, location, site, secret_name, class_id, version,
                          created_at, updated_at)
    VALUES (:account, :region, :arn, :type, :name, :source_url, :location, :site, :secret_name, :class_id, 1, :at, :at)
    RETURNING id""")
_UPDATE = text("""
    UPDATE resource SET name = :name, source_url = :source_url, location = :location, site = :site,
                        secret_name = :secret_name, class_id = :class_id, version = version + 1, updated_at = :at,
                        deleted_at = NULL
     WHERE id = :id""")
_DELETE = text("UPDATE resource SET deleted_at = :at, version = version + 1 WHERE id = :id")
_PRESENT_CLASS = text("SELECT class_id FROM resource_interval WHERE resource_id = :id AND ends_at = :forever")
_OPEN_INTERVAL = text(
    "INSERT INTO resource_interval (resource_id, class_id, starts_at, ends_at) VALUES (:id, :class_id, :at, :forever)"
)
_CLOSE_INTERVAL = text("UPDATE resource_interval SET ends_at = :at WHERE resource_id = :id AND ends_at = :forever")
_DROP_EMPTY = text("DELETE FROM resource_interval WHERE resource_id = :id AND ends_at <= starts_at")

_GRANT = "SELECT name, site, url_prefix, accounts, unit_id, allow_read, allow_restore, version, created_at, updated_at"
_FIND_GRANT = text(f"{_GRANT} FROM site_grant WHERE manager = :manager AND name = :name")
_GRANTS = text(f"{_GRANT} FROM site_grant WHERE manager = :manager ORDER BY name")
_PUT_GRANT = text("""
    INSERT INTO site_grant (manager, name, site, url_prefix, accounts, unit_id, allow_read, allow_restore, version,
                            created_at, updated_at)
    VALUES (:manager, :name, :site, :url_prefix, :accounts, :unit_id, :allow_read, :allow_restore, 1, :at, :at)
    ON CONFLICT (manager, name) DO UPDATE
       SET site = excluded.site, url_prefix = excluded.url_prefix, accounts = excluded.accounts,
           unit_id = excluded.unit_id, allow_read = excluded.allow_read, allow_restore = excluded.allow_restore,
           version = site_grant.version + 1, updated_at = excluded.updated_at""")
_DELETE_GRANT = text("DELETE FROM site_grant WHERE manager = :manager AND name = :name")

_LOGIN = "SELECT account, region, name, username, scheme, host, port, site, version, created_at, updated_at, sealed"
_FIND_SECRET = text(f"{_LOGIN} FROM secret WHERE account = :account AND region = :region AND name = :name")
_SECRETS = text(f"""{_LOGIN} FROM secret WHERE account = :account AND region = :region AND name > :after
     ORDER BY name LIMIT :limit""")
_PUT_SECRET = text("""
    INSERT INTO secret (account, region, name, username, sealed, scheme, host, port, site, version, created_at,
                        updated_at)
    VALUES (:account, :region, :name, :username, :sealed, :scheme, :host, :port, :site, :version, :at, :at)
    ON CONFLICT (account, region, name) DO UPDATE
       SET username = excluded.username, sealed = excluded.sealed, scheme = excluded.scheme, host = excluded.host,
           port = excluded.port, site = excluded.site, version = excluded.version, updated_at = excluded.updated_at""")
_EVERY_SECRET = text(f"{_LOGIN} FROM secret")
_RESEAL = text("UPDATE secret SET sealed = :sealed WHERE account = :account AND region = :region AND name = :name")
_DELETE_SECRET = text("DELETE FROM secret WHERE account = :account AND region = :region AND name = :name")
_USES_SECRET = text(
    "SELECT name FROM resource WHERE account = :account AND region = :region AND secret_name = :name"
    " AND deleted_at IS NULL LIMIT 1"
)


def _resource(row: "sa.Row[Any]") -> Resource:
    return Resource(
        id=row.id,
        account=row.account,
        region=row.region,
        arn=row.arn,
        type=row.type,
        name=row.name,
        source_url=row.source_url,
        site=row.site,
        secret_name=row.secret_name,
        tags=from_json(row.tags),
        version=row.version,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
    )


def lock_site(tx: sa.Connection, site: str) -> None:
    """Let nobody else register anything at a site until this transaction ends; there is one writer on SQLite anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(_LOCK_SITE, {"site": f"site {site}"})


def find_by_name(tx: sa.Connection, account: str, region: str, name: str) -> Resource | None:
    """Return the resource with this name."""
    row = tx.execute(_BY_NAME, {"account": account, "region": region, "name": name}).one_or_none()
    return None if row is None else _resource(row)


def find_by_arn(tx: sa.Connection, account: str, region: str, arn: str) -> tuple[Resource, bool] | None:
    """Return the resource with this ARN, and whether it is registered now (not only formerly)."""
    row = tx.execute(_BY_ARN, {"account": account, "region": region, "arn": arn}).one_or_none()
    return None if row is None else (_resource(row), row.deleted_at is None)


def find_by_place(tx: sa.Connection, account: str, region: str, site: str, place: Location) -> Resource | None:
    """Return the resource of an account that is this very place."""
    where = {"account": account, "region": region, "site": site, "location": place.key}
    row = tx.execute(_AT_PLACE, where).one_or_none()
    return None if row is None else _resource(row)


def list_resources(
    tx: sa.Connection, account: str, region: str, *, type_name: str, after: str, limit: int
) -> list[Resource]:
    """Return resources by name, those after `after`; an empty type means all."""
    where = {"account": account, "region": region, "type": type_name, "after": after, "limit": limit}
    return [_resource(row) for row in tx.execute(_LIST, where)]


def foreign_overlap(tx: sa.Connection, account: str, site: str, place: Location) -> str | None:
    """Return a place of another account that is, holds, or lies in this one."""
    where = {
        "account": account,
        "site": site,
        "ancestors": [above.key for above in place.ancestors()],
        "below": place.below,
        "beyond": place.below[:-1] + "0",  # the character after "/"
    }
    row = tx.execute(_OVERLAP, where).first()
    return None if row is None else str(row.location)


def write_resource(
    tx: sa.Connection,
    *,
    known: Resource | None,
    account: str,
    region: str,
    arn: str,
    type_name: str,
    name: str,
    source_url: str,
    place: Location,
    site: str,
    secret_name: str | None,
    class_id: int,
    now: datetime,
) -> None:
    """Insert a resource, or change the known one or bring it back; a new class begins a new interval of its history."""
    values = {
        "account": account,
        "region": region,
        "arn": arn,
        "type": type_name,
        "name": name,
        "source_url": source_url,
        "location": place.key,
        "site": site,
        "secret_name": secret_name,
        "class_id": class_id,
        "at": stamp(now),
    }
    if known is None:
        resource_id = tx.execute(_INSERT, values).scalar_one()
    else:
        resource_id = known.id
        tx.execute(_UPDATE, {**values, "id": resource_id})
    _set_class(tx, resource_id, class_id, now)


def _set_class(tx: sa.Connection, resource_id: int, class_id: int, now: datetime) -> None:
    where = {"id": resource_id, "class_id": class_id, "at": stamp(now), "forever": FOREVER}
    if tx.execute(_PRESENT_CLASS, where).scalar_one_or_none() == class_id:
        return
    tx.execute(_CLOSE_INTERVAL, where)
    tx.execute(_DROP_EMPTY, where)
    tx.execute(_OPEN_INTERVAL, where)


def delete_resource(tx: sa.Connection, resource_id: int, now: datetime) -> None:
    """Take a resource out of the register; what it was stays known."""
    where = {"id": resource_id, "at": stamp(now), "forever": FOREVER}
    tx.execute(_DELETE, where)
    tx.execute(_CLOSE_INTERVAL, where)
    tx.execute(_DROP_EMPTY, where)


def find_grant(tx: sa.Connection, manager: str, name: str) -> tuple[SiteGrant, datetime, datetime] | None:
    """Return a grant, when it was first put, and when last."""
    row = tx.execute(_FIND_GRANT, {"manager": manager, "name": name}).one_or_none()
    return None if row is None else (_grant(row), instant(row.created_at), instant(row.updated_at))


def grants(tx: sa.Connection, manager: str) -> list[tuple[SiteGrant, datetime, datetime]]:
    """Return every grant of a manager by name."""
    rows = tx.execute(_GRANTS, {"manager": manager})
    return [(_grant(row), instant(row.created_at), instant(row.updated_at)) for row in rows]


def put_grant(tx: sa.Connection, manager: str, grant: SiteGrant, now: datetime) -> None:
    """Insert or replace a grant; its version is counted."""
    tx.execute(
        _PUT_GRANT,
        {
            "manager": manager,
            "name": grant.name,
            "site": grant.site,
            "url_prefix": grant.place.key,
            "accounts": to_json(list(grant.accounts)),
            "unit_id": grant.unit_id,
            "allow_read": grant.allow_read,
            "allow_restore": grant.allow_restore,
            "at": stamp(now),
        },
    )


def delete_grant(tx: sa.Connection, manager: str, name: str) -> None:
    """Remove a grant."""
    tx.execute(_DELETE_GRANT, {"manager": manager, "name": name})


def find_secret(tx: sa.Connection, account: str, region: str, name: str) -> Secret | None:
    """Return a secret, still sealed."""
    row = tx.execute(_FIND_SECRET, {"account": account, "region": region, "name": name}).one_or_none()
    return None if row is None else _secret(row)


def list_secrets(tx: sa.Connection, account: str, region: str, *, after: str, limit: int) -> list[Secret]:
    """Return secrets by name, those after `after`, still sealed."""
    where = {"account": account, "region": region, "after": after, "limit": limit}
    return [_secret(row) for row in tx.execute(_SECRETS, where)]


def put_secret(tx: sa.Connection, secret: Secret, now: datetime) -> None:
    """Insert or replace a secret."""
    values: Mapping[str, Any] = {
        "account": secret.account,
        "region": secret.region,
        "name": secret.name,
        "username": secret.username,
        "sealed": secret.sealed,
        "scheme": secret.scheme,
        "host": secret.host,
        "port": secret.port,
        "site": secret.site,
        "version": secret.version,
        "at": stamp(now),
    }
    tx.execute(_PUT_SECRET, values)


def every_secret(tx: sa.Connection) -> list[Secret]:
    """Return the secrets of all accounts, still sealed."""
    return [_secret(row) for row in tx.execute(_EVERY_SECRET)]


def reseal_secrets(tx: sa.Connection, secrets: list[Secret]) -> None:
    """Replace what is sealed of secrets; nothing else of them changes, their versions neither."""
    rows = [{"account": s.account, "region": s.region, "name": s.name, "sealed": s.sealed} for s in secrets]
    if rows:
        tx.execute(_RESEAL, rows)


def delete_secret(tx: sa.Connection, account: str, region: str, name: str) -> None:
    """Remove a secret."""
    tx.execute(_DELETE_SECRET, {"account": account, "region": region, "name": name})


def user_of_secret(tx: sa.Connection, account: str, region: str, name: str) -> str | None:
    """Return the name of a resource that uses the secret, None when none does."""
    found: Sequence[Any] = (
        tx.execute(_USES_SECRET, {"account": account, "region": region, "name": name}).scalars().all()
    )
    return str(found[0]) if found else None


def _grant(row: "sa.Row[Any]") -> SiteGrant:
    return SiteGrant(
        name=row.name,
        site=row.site,
        place=location(row.url_prefix),
        accounts=tuple(from_json(row.accounts)),
        unit_id=row.unit_id,
        allow_read=bool(row.allow_read),
        allow_restore=bool(row.allow_restore),
        version=row.version,
    )


def _secret(row: "sa.Row[Any]") -> Secret:
    return Secret(
        account=row.account,
        region=row.region,
        name=row.name,
        username=row.username,
        scheme=row.scheme,
        host=row.host,
        port=row.port,
        site=row.site,
        version=row.version,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
        sealed=bytes(row.sealed),
    )
