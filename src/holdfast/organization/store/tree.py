"""Rows of organizations, roots and units, and where accounts stand among them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, Position, page_of
from holdfast.database.values import FOREVER, instant, instant_or_none, stamp
from holdfast.organization.model.tree import FeatureSet, Organization, Placement, Unit

_ORGANIZATION = """
    SELECT o.id, o.management_account, m.email, m.name, o.root_id, o.feature_set, o.created_at
      FROM organization o
      JOIN account m ON m.id = o.management_account"""
_BY_ACCOUNT = text(f"{_ORGANIZATION} JOIN account a ON a.organization_id = o.id WHERE a.id = :account")
_BY_ID = text(f"{_ORGANIZATION} WHERE o.id = :id AND o.deleted_at IS NULL")
_INSERT_ORGANIZATION = text("""
    INSERT INTO organization (id, management_account, root_id, feature_set, created_at)
    VALUES (:id, :management_account, :root_id, :feature_set, :now)""")
_LOCK = text("UPDATE organization SET root_id = root_id WHERE id = :id AND deleted_at IS NULL")
_DELETE_ORGANIZATION = text("UPDATE organization SET deleted_at = :now WHERE id = :id")
_DELETE_UNITS = text("UPDATE unit SET deleted_at = :now WHERE organization_id = :id AND deleted_at = :forever")
_SET_FEATURES = text("UPDATE organization SET feature_set = :feature_set WHERE id = :id")
_POLICY_TYPES = text("SELECT type, status FROM policy_type WHERE organization_id = :id ORDER BY enabled_at, type")

_UNIT = """
    SELECT id, organization_id, parent_id, name, depth, path, created_at
      FROM unit
     WHERE organization_id = :organization AND deleted_at = :forever"""
_UNIT_BY_ID = text(f"{_UNIT} AND id = :id")
_UNITS_UNDER = text(f"""{_UNIT} AND parent_id = :parent AND (created_at, id) > (:after_at, :after_id)
     ORDER BY created_at, id LIMIT :limit""")
_PATH = text("SELECT path FROM unit WHERE organization_id = :organization AND id = :id")
_PATH_AT = text("""
    SELECT path FROM unit
     WHERE organization_id = :organization AND id = :id AND created_at <= :at AND deleted_at > :at""")
_COUNT_UNITS = text("""
    SELECT count(*) FROM unit
     WHERE organization_id = :organization AND deleted_at = :forever AND parent_id IS NOT NULL""")
_INSERT_UNIT = text("""
    INSERT INTO unit (id, organization_id, parent_id, name, depth, path, created_at, deleted_at)
    VALUES (:id, :organization, :parent, :name, :depth, :path, :now, :forever)""")
_SIBLING = text("""
    SELECT id FROM unit
     WHERE organization_id = :organization AND parent_id = :parent AND name = :name AND deleted_at = :forever""")
_RENAME_UNIT = text("UPDATE unit SET name = :name WHERE id = :id")
_DELETE_UNIT = text("UPDATE unit SET deleted_at = :now WHERE id = :id")
_IS_EMPTY = text("""
    SELECT NOT EXISTS (SELECT 1 FROM unit WHERE parent_id = :id AND deleted_at = :forever)
       AND NOT EXISTS (SELECT 1 FROM placement WHERE unit_id = :id AND ends_at = :forever)""")

_PLACEMENT = "SELECT account_id, organization_id, unit_id, path, starts_at, ends_at FROM placement"
_PLACED_AT = text(f"{_PLACEMENT} WHERE account_id = :account AND starts_at <= :at AND ends_at > :at")
_PLACED_NOW = text(f"{_PLACEMENT} WHERE account_id = :account AND ends_at = :forever")
_PLACEMENTS = text(f"{_PLACEMENT} WHERE account_id = :account ORDER BY starts_at")
_BEGIN_PLACEMENT = text("""
    INSERT INTO placement (account_id, organization_id, unit_id, path, starts_at, ends_at)
    VALUES (:account, :organization, :unit, :path, :at, :forever)""")
_END_PLACEMENT = text("UPDATE placement SET ends_at = :at WHERE account_id = :account AND ends_at = :forever")
_DROP_EMPTY_PLACEMENT = text("DELETE FROM placement WHERE account_id = :account AND starts_at = :at AND ends_at = :at")
_ACCOUNTS_BELOW = text("""
    SELECT p.account_id
      FROM unit u
      JOIN placement p ON p.unit_id = u.id AND p.starts_at <= :at AND p.ends_at > :at
     WHERE u.organization_id = :organization AND u.path LIKE :prefix
     ORDER BY p.account_id""")
_NAMES = text("SELECT id, name FROM unit WHERE id IN :ids").bindparams(
    sa.bindparam("ids", type_=sa.String(), expanding=True)
)


def _organization(row: Any) -> Organization:
    return Organization(
        id=row.id,
        management_account=row.management_account,
        management_email=row.email,
        management_name=row.name,
        root_id=row.root_id,
        feature_set=FeatureSet(row.feature_set),
        created_at=instant(row.created_at),
    )


def unit_of(row: Any) -> Unit:
    """Return the unit that a row of all its columns holds."""
    return Unit(
        id=row.id,
        organization_id=row.organization_id,
        parent_id=row.parent_id,
        name=row.name,
        depth=row.depth,
        path=row.path,
        created_at=instant(row.created_at),
    )


def _placement(row: Any) -> Placement:
    return Placement(
        account_id=row.account_id,
        organization_id=row.organization_id,
        unit_id=row.unit_id,
        path=row.path,
        starts_at=instant(row.starts_at),
        ends_at=instant_or_none(row.ends_at),
    )


def find_organization_of(tx: sa.Connection, account_id: str) -> Organization | None:
    """Return the organization an account belongs to now, None if to none."""
    row = tx.execute(_BY_ACCOUNT, {"account": account_id}).one_or_none()
    return None if row is None else _organization(row)


def find_organization(tx: sa.Connection, organization_id: str) -> Organization | None:
    """Return an organization that still exists."""
    row = tx.execute(_BY_ID, {"id": organization_id}).one_or_none()
    return None if row is None else _organization(row)


def insert_organization(
    tx: sa.Connection, *, organization_id: str, management: str, root_id: str, features: FeatureSet, now: datetime
) -> None:
    """Write a new organization's row."""
    tx.execute(
        _INSERT_ORGANIZATION,
        {
            "id": organization_id,
            "management_account": management,
            "root_id": root_id,
            "feature_set": features.value,
            "now": stamp(now),
        },
    )


def lock_organization(tx: sa.Connection, organization_id: str) -> bool:
    """Make other transactions that change this organization wait for this one; return whether it still exists."""
    return tx.execute(_LOCK, {"id": organization_id}).rowcount == 1


def mark_organization_deleted(tx: sa.Connection, organization_id: str, *, now: datetime) -> None:
    """Write that the organization and all its units exist no more."""
    at = {"id": organization_id, "now": stamp(now)}
    tx.execute(_DELETE_ORGANIZATION, at)
    tx.execute(_DELETE_UNITS, {**at, "forever": FOREVER})


def set_feature_set(tx: sa.Connection, organization_id: str, features: FeatureSet) -> None:
    """Write what the organization is used for."""
    tx.execute(_SET_FEATURES, {"id": organization_id, "feature_set": features.value})


def policy_types(tx: sa.Connection, organization_id: str) -> list[tuple[str, str]]:
    """Return the policy types that are switched on at the root, with their status."""
    return [(row.type, row.status) for row in tx.execute(_POLICY_TYPES, {"id": organization_id})]


def find_unit(tx: sa.Connection, organization_id: str, unit_id: str) -> Unit | None:
    """Return the root or a unit of an organization."""
    found = {"organization": organization_id, "id": unit_id, "forever": FOREVER}
    row = tx.execute(_UNIT_BY_ID, found).one_or_none()
    return None if row is None else unit_of(row)


def find_path(tx: sa.Connection, organization_id: str, unit_id: str, at: datetime | None = None) -> str | None:
    """Return the path of a root or unit that there was at an instant; without one, of any that there ever was."""
    where = {"organization": organization_id, "id": unit_id}
    if at is None:
        return tx.execute(_PATH, where).scalar_one_or_none()
    return tx.execute(_PATH_AT, {**where, "at": stamp(at)}).scalar_one_or_none()


def units_under(tx: sa.Connection, organization_id: str, parent_id: str, *, after: Position, limit: int) -> Page[Unit]:
    """Return a page of the units directly under a node, oldest first."""
    after_at, after_id = after or (-1, "")
    found = tx.execute(
        _UNITS_UNDER,
        {
            "organization": organization_id,
            "parent": parent_id,
            "after_at": after_at,
            "after_id": after_id,
            "limit": limit + 1,
            "forever": FOREVER,
        },
    )
    return page_of([unit_of(row) for row in found], limit, lambda unit: [stamp(unit.created_at), unit.id])


def count_units(tx: sa.Connection, organization_id: str) -> int:
    """Return how many units there are, without the root."""
    return int(tx.execute(_COUNT_UNITS, {"organization": organization_id, "forever": FOREVER}).scalar_one())


def find_sibling(tx: sa.Connection, organization_id: str, parent_id: str | None, name: str) -> str | None:
    """Return the id of the unit of this name under a parent."""
    return tx.execute(
        _SIBLING, {"organization": organization_id, "parent": parent_id, "name": name, "forever": FOREVER}
    ).scalar_one_or_none()


def insert_unit(tx: sa.Connection, unit: Unit) -> None:
    """Write a new root or unit."""
    tx.execute(
        _INSERT_UNIT,
        {
            "id": unit.id,
            "organization": unit.organization_id,
            "parent": unit.parent_id,
            "name": unit.name,
            "depth": unit.depth,
            "path": unit.path,
            "now": stamp(unit.created_at),
            "forever": FOREVER,
        },
    )


def set_unit_name(tx: sa.Connection, unit_id: str, name: str) -> None:
    """Rename a unit."""
    tx.execute(_RENAME_UNIT, {"id": unit_id, "name": name})


def mark_unit_deleted(tx: sa.Connection, unit_id: str, *, now: datetime) -> None:
    """Write that a unit exists no more."""
    tx.execute(_DELETE_UNIT, {"id": unit_id, "now": stamp(now)})


def unit_is_empty(tx: sa.Connection, unit_id: str) -> bool:
    """Return whether neither units nor accounts stand under a unit."""
    return bool(tx.execute(_IS_EMPTY, {"id": unit_id, "forever": FOREVER}).scalar_one())


def unit_names(tx: sa.Connection, unit_ids: Sequence[str]) -> dict[str, str]:
    """Return the names of roots and units by id, of deleted ones too."""
    return {row.id: row.name for row in tx.execute(_NAMES, {"ids": list(unit_ids)})}


def find_placement(tx: sa.Connection, account_id: str, at: datetime | None) -> Placement | None:
    """Return where an account stood at an instant, or (without one) where it stands now."""
    if at is None:
        row = tx.execute(_PLACED_NOW, {"account": account_id, "forever": FOREVER}).one_or_none()
    else:
        row = tx.execute(_PLACED_AT, {"account": account_id, "at": stamp(at)}).one_or_none()
    return None if row is None else _placement(row)


def placements(tx: sa.Connection, account_id: str) -> list[Placement]:
    """Return everywhere an account ever stood, oldest first."""
    return [_placement(row) for row in tx.execute(_PLACEMENTS, {"account": account_id})]


def place(tx: sa.Connection, account_id: str, unit: Unit, *, now: datetime) -> None:
    """Let an account stand under `unit` from now on; where it stood before ends."""
    at = end_placement(tx, account_id, now=now)
    tx.execute(
        _BEGIN_PLACEMENT,
        {
            "account": account_id,
            "organization": unit.organization_id,
            "unit": unit.id,
            "path": unit.path,
            "at": at,
            "forever": FOREVER,
        },
    )


def end_placement(tx: sa.Connection, account_id: str, *, now: datetime) -> int:
    """End where an account stands, if it stands anywhere; return the column value of the instant that this takes.

    Never before it began, should the clock have been set back; what would be empty is dropped, so that an account has
    at most one place at each instant, and placements that follow each other touch.
    """
    at = stamp(now)
    present = tx.execute(_PLACED_NOW, {"account": account_id, "forever": FOREVER}).one_or_none()
    if present is not None:
        at = max(at, present.starts_at)
        tx.execute(_END_PLACEMENT, {"account": account_id, "at": at, "forever": FOREVER})
        tx.execute(_DROP_EMPTY_PLACEMENT, {"account": account_id, "at": at})
    return at


def accounts_below(tx: sa.Connection, organization_id: str, path: str, *, at: datetime | None) -> list[str]:
    """Return the ids of all accounts that stood somewhere below the unit with this path, by id."""
    when = FOREVER - 1 if at is None else stamp(at)
    found = tx.execute(_ACCOUNTS_BELOW, {"organization": organization_id, "prefix": f"{path}%", "at": when})
    return [row.account_id for row in found]
