"""The verbs of registration on one database, with an organization around them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.assessment.store import intern_class
from holdfast.core.seal import RootKey
from holdfast.core.settings import HostGrant, Mode, Settings, SiteSettings
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER
from holdfast.source import service
from holdfast.source.grant import SiteGrant
from holdfast.source.location import location
from holdfast.source.model import (
    Resource,
    Secret,
)
from holdfast.source.protocol import SourceSecret
from holdfast.source.service import Registration

MANAGEMENT, SHOP, BANK, STRANGER = "999900001111", "111122223333", "444455556666", "777788889999"
REGION = "eu-north-1"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOT_KEY = RootKey(bytes(range(32)))
UNIT = "ou-root-prod0000"


def settings_in(tmp_path: Path) -> Settings:
    """Return settings with two sites that serve the region, and one that does not."""
    return Settings(
        data_dir=tmp_path / "own",
        mode=Mode.SERVE,
        regions={REGION: "local"},
        storages={},
        sites={
            "local": SiteSettings("local"),
            "dc-2": SiteSettings("dc-2"),
            "far": SiteSettings("far", regions=("x",)),
        },
        host_grants=(HostGrant("file:///srv"), HostGrant(str(tmp_path)), HostGrant("postgresql://db.internal/")),
        own=(str(tmp_path / "own"),),
    )


EMPTIED = (
    "instance",
    "organization",
    "unit",
    "account",
    "placement",
    "resource",
    "resource_interval",
    "resource_class",
    "site_grant",
    "secret",
    "outbox",
)
"""The tables that these tests write."""


class Register:
    """The verbs on one database, with an organization and everything granted to its members."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.database = database
        self.settings = settings
        with database.transaction() as tx:
            self._lay_organization(tx)
            for name, prefix in (("all-files", "file:///"), ("all-databases", "postgresql://db.internal/")):
                for site in ("local", "dc-2"):
                    self.grant_in(tx, f"{name}-{site}", prefix, site=site, accounts=(SHOP, BANK))

    def _lay_organization(self, tx: sa.Connection) -> None:
        tx.execute(
            text(
                "INSERT INTO organization (id, management_account, root_id, feature_set, created_at)"
                f" VALUES ('o-1', '{MANAGEMENT}', 'r-root', 'ALL', 0)"
            )
        )
        for unit, parent, path in (("r-root", None, "o-1/r-root/"), (UNIT, "r-root", f"o-1/r-root/{UNIT}/")):
            tx.execute(
                text(
                    "INSERT INTO unit (id, organization_id, parent_id, name, depth, path, created_at, deleted_at)"
                    " VALUES (:id, 'o-1', :parent, :id, 0, :path, 0, :forever)"
                ),
                {"id": unit, "parent": parent, "path": path, "forever": FOREVER},
            )
        places: tuple[tuple[str, str | None], ...] = (
            (MANAGEMENT, "r-root"),
            (SHOP, UNIT),
            (BANK, "r-root"),
            (STRANGER, None),
        )
        for account, standing in places:
            self._account(tx, account, standing)

    def _account(self, tx: sa.Connection, account: str, unit: str | None) -> None:
        tx.execute(
            text(
                "INSERT INTO account (id, name, email, status, organization_id, created_at)"
                " VALUES (:id, :id, :id, 'ACTIVE', :organization, 0)"
            ),
            {"id": account, "organization": unit and "o-1"},
        )
        if unit:
            path = "o-1/r-root/" if unit == "r-root" else f"o-1/r-root/{unit}/"
            tx.execute(
                text(
                    "INSERT INTO placement (account_id, organization_id, unit_id, path, starts_at, ends_at)"
                    " VALUES (:id, 'o-1', :unit, :path, 0, :forever)"
                ),
                {"id": account, "unit": unit, "path": path, "forever": FOREVER},
            )

    def put(
        self,
        name: str = "www",
        url: str = "file:///srv/www",
        *,
        account: str = SHOP,
        expected: int | None = None,
        at: datetime = NOW,
        **more: Any,
    ) -> Resource:
        wanted = Registration(name=name, **{"type": "EFS", "source_url": url, "site": "local", **more})
        with self.database.transaction() as tx:
            return service.put_resource(
                tx,
                self.settings,
                account,
                REGION,
                wanted,
                class_of=partial(intern_class, tx),
                expected_version=expected,
                now=at,
            )

    def delete(self, name: str = "www", *, expected: int | None = None, at: datetime = NOW) -> None:
        with self.database.transaction() as tx:
            service.delete_resource(tx, SHOP, REGION, name, expected_version=expected, now=at)

    def tag(self, arn: str, tags: Mapping[str, str], *, at: datetime = NOW) -> None:
        with self.database.transaction() as tx:
            resource = service.get_resource(tx, SHOP, REGION, arn)
            service.set_resource_tags(tx, resource, tags, class_of=partial(intern_class, tx), now=at)

    def grant_in(self, tx: sa.Connection, name: str, prefix: str, **more: Any) -> service.Dated:
        account = more.pop("by", MANAGEMENT)
        expected = more.pop("expected", None)
        given = {"site": "local", "accounts": (SHOP,), "unit_id": None, "allow_read": True, "allow_restore": False}
        grant = SiteGrant(name=name, place=location(prefix), **{**given, **more})
        return service.put_grant(tx, self.settings, account, grant, expected_version=expected, now=NOW)

    def grant(self, name: str, prefix: str, **more: Any) -> service.Dated:
        with self.database.transaction() as tx:
            return self.grant_in(tx, name, prefix, **more)

    def revoke_all(self) -> None:
        with self.database.transaction() as tx:
            for dated in service.list_grants(tx, MANAGEMENT):
                service.delete_grant(tx, MANAGEMENT, dated.grant.name, expected_version=None)

    def secret(
        self, name: str = "db", value: str | None = "pa:ss", *, expected: int | None = None, **more: Any
    ) -> Secret:
        given = {"username": "backup", "scheme": "postgresql", "host": "db.internal", "port": None, "site": "local"}
        secret = Secret(SHOP, REGION, name, version=0, created_at=NOW, updated_at=NOW, sealed=b"", **{**given, **more})
        with self.database.transaction() as tx:
            return service.put_secret(tx, ROOT_KEY, SHOP, REGION, secret, value, expected_version=expected)

    def opened(self, resource: Resource) -> SourceSecret | None:
        with self.database.reading() as tx:
            return service.open_secret(tx, ROOT_KEY, resource)

    def restore_place(self, metadata: Mapping[str, str], arn: str, type_name: str = "EFS") -> service.RestorePlace:
        with self.database.reading() as tx:
            return service.restore_place(
                tx, ROOT_KEY, SHOP, REGION, type_name=type_name, resource_arn=arn, metadata=metadata
            )

    def restored(self, url: str, *, tags: Mapping[str, str] | None = None, job_id: str = "job-1") -> str | None:
        """Register what a restore of `shop` has made; return its ARN, None where it is another account's."""
        with self.database.transaction() as tx:
            return service.register_restored(
                tx,
                SHOP,
                REGION,
                type_name="EFS",
                url=url,
                site="local",
                secret_name=None,
                tags=tags or {},
                job_id=job_id,
                class_of=partial(intern_class, tx),
                now=NOW,
            )

    def intervals(self, resource: Resource) -> list[tuple[int, int]]:
        with self.database.reading() as tx:
            rows = tx.execute(
                text("SELECT starts_at, ends_at FROM resource_interval WHERE resource_id = :id ORDER BY starts_at"),
                {"id": resource.id},
            )
            return [(row.starts_at, row.ends_at) for row in rows]

    def news(self) -> list[dict[str, Any]]:
        with self.database.reading() as tx:
            rows = tx.execute(text("SELECT body FROM outbox WHERE kind = 'ResourceChanged' ORDER BY id"))
            return [json.loads(row.body) for row in rows]


def put_database(register: Register, url: str = "postgresql://db.internal/shop", **more: Any) -> Resource:
    """Register a database that is read with the secret `db`."""
    return register.put("shop", url, **{"type": "RDS", "secret_name": "db", **more})
