"""Rows of policies, their versions and attachments, the types that are switched on, and the nodes they hang on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import FOREVER, instant, stamp


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy as it is stored."""

    id: str
    organization_id: str
    type: str
    name: str
    description: str
    content: str = field(repr=False)
    version: int = 1
    aws_managed: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A node that a policy is attached to, or may be: the root, a unit or an account."""

    id: str
    kind: str
    """`ROOT`, `ORGANIZATIONAL_UNIT` or `ACCOUNT`."""
    name: str
    path: tuple[str, ...]
    """The ids from the root down to and with the node."""
    attached_at: int = 0
    """When the policy was attached, for nodes that are listed because one is."""


_LOCK = text("UPDATE organization SET root_id = root_id WHERE id = :organization AND deleted_at IS NULL")
_FEATURES = text("SELECT feature_set FROM organization WHERE id = :organization AND deleted_at IS NULL")

_POLICY = """
    SELECT id, organization_id, type, name, description, content, version, aws_managed, created_at, updated_at
      FROM policy WHERE organization_id = :organization"""
_BY_ID = text(f"{_POLICY} AND id = :id")
_BY_IDS = text(f"{_POLICY} AND id IN :ids").bindparams(sa.bindparam("ids", expanding=True))
_BY_NAME = text(f"{_POLICY} AND type = :type AND name = :name")
_PAGE = text(
    f"{_POLICY} AND type = :type AND (created_at, id) > (:after_at, :after_id) ORDER BY created_at, id LIMIT :limit"
)
_COUNT = text("SELECT count(*) FROM policy WHERE organization_id = :organization AND type = :type")
_INSERT = text("""
    INSERT INTO policy (id, organization_id, type, name, description, content, version, aws_managed, created_at,
                        updated_at)
    VALUES (:id, :organization, :type, :name, :description, :content, 1, :aws_managed, :now, :now)
    ON CONFLICT DO NOTHING""")
_UPDATE = text("""
    UPDATE policy SET name = :name, description = :description, content = :content, version = :version,
                      updated_at = :now
     WHERE organization_id = :organization AND id = :id""")
_DELETE = text("DELETE FROM policy WHERE organization_id = :organization AND id = :id")
_INSERT_VERSION = text("""
    INSERT INTO policy_version (organization_id, policy_id, version, name, content, starts_at, ends_at)
    VALUES (:organization, :id, :version, :name, :content, :now, :forever) ON CONFLICT DO NOTHING""")
_END_VERSION = text("""
    UPDATE policy_version SET ends_at = CASE WHEN starts_at > :now THEN starts_at ELSE :now END
     WHERE organization_id = :organization AND policy_id = :id AND ends_at = :forever""")
_CONTENT_OF_VERSIONS = text("""
    SELECT policy_id, version, content FROM policy_version
     WHERE organization_id = :organization AND policy_id IN :ids""").bindparams(sa.bindparam("ids", expanding=True))

_TYPES = text("SELECT type FROM policy_type WHERE organization_id = :organization ORDER BY enabled_at, type")
_IS_ENABLED = text("SELECT count(*) FROM policy_type WHERE organization_id = :organization AND type = :type")
_ENABLE = text("""
    INSERT INTO policy_type (organization_id, type, status, enabled_at)
    VALUES (:organization, :type, 'ENABLED', :now)""")
_DISABLE = text("DELETE FROM policy_type WHERE organization_id = :organization AND type = :type")

_ATTACHED = """
    SELECT policy_id, target_id, sequence, starts_at FROM attachment
     WHERE organization_id = :organization AND ends_at = :forever"""
_ATTACHED_OF_TYPE = text(f"{_ATTACHED} AND type = :type ORDER BY sequence")
_ATTACHED_TO = text(f"{_ATTACHED} AND type = :type AND target_id IN :targets ORDER BY sequence").bindparams(
    sa.bindparam("targets", expanding=True)
)
_ATTACHED_AT = text("""
    SELECT a.target_id, a.policy_id, v.content FROM attachment a
      JOIN policy_version v ON v.organization_id = a.organization_id AND v.policy_id = a.policy_id
       AND v.starts_at <= :at AND v.ends_at > :at
     WHERE a.organization_id = :organization AND a.type = :type AND a.target_id IN :targets
       AND a.starts_at <= :at AND a.ends_at > :at
     ORDER BY a.sequence""").bindparams(sa.bindparam("targets", expanding=True))
_FIND_ATTACHED = text(f"{_ATTACHED} AND policy_id = :id AND target_id = :target")
_COUNT_ATTACHED = text("""
    SELECT count(*) FROM attachment
     WHERE organization_id = :organization AND ends_at = :forever AND policy_id = :id""")
_ATTACH = text("""
    INSERT INTO attachment (organization_id, policy_id, target_id, type, sequence, starts_at, ends_at)
    SELECT :organization, :id, CAST(:target AS TEXT), :type,
           COALESCE((SELECT max(sequence) FROM attachment WHERE organization_id = :organization), 0) + 1,
           :now, :forever""")
_ATTACH_TO_ALL = text("""
    INSERT INTO attachment (organization_id, policy_id, target_id, type, sequence, starts_at, ends_at)
    SELECT :organization, :id, node.id, :type, 0, :now, :forever
      FROM (SELECT id FROM unit WHERE organization_id = :organization AND deleted_at = :forever
             UNION ALL
            SELECT account_id FROM placement WHERE organization_id = :organization AND ends_at = :forever) node""")
_ATTACH_FIRST = text("""
    INSERT INTO attachment (organization_id, policy_id, target_id, type, sequence, starts_at, ends_at)
    SELECT :organization, :id, CAST(:target AS TEXT), :type, 0, :now, :forever
     WHERE NOT EXISTS (SELECT 1 FROM attachment
                        WHERE organization_id = :organization AND policy_id = :id AND target_id = :target
                          AND ends_at = :forever)""")
# An attachment that ends at the instant at which it began never held; it is dropped.
_DROP_ATTACHMENTS = """
    DELETE FROM attachment WHERE organization_id = :organization AND ends_at = :forever AND starts_at >= :now"""
_END_ATTACHMENTS = """
    UPDATE attachment SET ends_at = :now WHERE organization_id = :organization AND ends_at = :forever"""
_OF_ONE = "policy_id = :id AND target_id = :target"
_OF_TYPE = "type = :type"
_OF_TARGET = "target_id = :target"

_POLICIES_FOR_TARGET = text("""
    SELECT p.id, p.organization_id, p.type, p.name, p.description, p.content, p.version, p.aws_managed, p.created_at,
           p.updated_at, a.sequence
      FROM attachment a
      JOIN policy p ON p.organization_id = a.organization_id AND p.id = a.policy_id
     WHERE a.organization_id = :organization AND a.target_id = :target AND a.type = :type AND a.ends_at = :forever
       AND (a.sequence, a.policy_id) > (:after_sequence, :after_id)
     ORDER BY a.sequence, a.policy_id LIMIT :limit""")
_TARGETS_FOR_POLICY = text("""
    SELECT a.target_id, a.starts_at, u.name AS unit_name, u.parent_id, u.path AS unit_path, acc.name AS account_name,
           pl.path AS placed
      FROM attachment a
      LEFT JOIN unit u ON u.id = a.target_id
      LEFT JOIN account acc ON acc.id = a.target_id
      LEFT JOIN placement pl ON pl.account_id = a.target_id AND pl.ends_at = :forever
     WHERE a.organization_id = :organization AND a.policy_id = :id AND a.ends_at = :forever
       AND a.target_id > :after ORDER BY a.target_id LIMIT :limit""")
_UNIT = text("""
    SELECT id, parent_id, name, path FROM unit
     WHERE organization_id = :organization AND id = :id AND deleted_at = :forever""")
_ACCOUNT = text("""
    SELECT a.id, a.name, p.path FROM placement p JOIN account a ON a.id = p.account_id
     WHERE p.organization_id = :organization AND p.account_id = :id AND p.ends_at = :forever""")

_RESOURCE_POLICY = text("SELECT id, content FROM resource_policy WHERE organization_id = :organization")
_PUT_RESOURCE_POLICY = text("""
    INSERT INTO resource_policy (organization_id, id, content, updated_at)
    VALUES (:organization, :id, :content, :now)
    ON CONFLICT (organization_id) DO UPDATE SET content = excluded.content, updated_at = excluded.updated_at""")
_DELETE_RESOURCE_POLICY = text("DELETE FROM resource_policy WHERE organization_id = :organization")


def lock_organization(tx: sa.Connection, organization_id: str) -> None:
    """Make other transactions that change this organization wait for this one."""
    tx.execute(_LOCK, {"organization": organization_id})


def feature_set(tx: sa.Connection, organization_id: str) -> str | None:
    """Return what the organization is used for; None if there is none of this id."""
    return tx.execute(_FEATURES, {"organization": organization_id}).scalar_one_or_none()


def _policy(row: Any) -> Policy:
    return Policy(
        id=row.id,
        organization_id=row.organization_id,
        type=row.type,
        name=row.name,
        description=row.description,
        content=row.content,
        version=row.version,
        aws_managed=bool(row.aws_managed),
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
    )


def find_policy(tx: sa.Connection, organization_id: str, policy_id: str) -> Policy | None:
    """Return the policy with this id."""
    row = tx.execute(_BY_ID, {"organization": organization_id, "id": policy_id}).one_or_none()
    return None if row is None else _policy(row)


def find_policy_by_name(tx: sa.Connection, organization_id: str, policy_type: str, name: str) -> Policy | None:
    """Return the policy of this type and name."""
    row = tx.execute(_BY_NAME, {"organization": organization_id, "type": policy_type, "name": name}).one_or_none()
    return None if row is None else _policy(row)


def policies_by_id(tx: sa.Connection, organization_id: str, ids: Sequence[str]) -> dict[str, Policy]:
    """Return those of these policies that exist, by id."""
    if not ids:
        return {}
    return {row.id: _policy(row) for row in tx.execute(_BY_IDS, {"organization": organization_id, "ids": list(ids)})}


def list_policies(
    tx: sa.Connection, organization_id: str, policy_type: str, *, after: tuple[int, str], limit: int
) -> list[Policy]:
    """Return up to `limit` policies of a type, oldest first, behind (created_at, id)."""
    page = {"after_at": after[0], "after_id": after[1], "limit": limit}
    return [_policy(row) for row in tx.execute(_PAGE, {"organization": organization_id, "type": policy_type, **page})]


def count_policies(tx: sa.Connection, organization_id: str, policy_type: str) -> int:
    """Return how many policies of a type there are."""
    return int(tx.execute(_COUNT, {"organization": organization_id, "type": policy_type}).scalar_one())


def insert_policy(tx: sa.Connection, policy: Policy, *, now: datetime) -> None:
    """Write a new policy with its first version; one that is there already is left as it is."""
    row = {
        "id": policy.id,
        "organization": policy.organization_id,
        "type": policy.type,
        "name": policy.name,
        "description": policy.description,
        "content": policy.content,
        "aws_managed": policy.aws_managed,
        "now": stamp(now),
    }
    tx.execute(_INSERT, row)
    tx.execute(_INSERT_VERSION, {**row, "version": 1, "forever": FOREVER})


def update_policy(tx: sa.Connection, policy: Policy, *, new_version: bool, now: datetime) -> None:
    """Write a changed policy; `new_version` if its name or content changed."""
    row = {
        "id": policy.id,
        "organization": policy.organization_id,
        "name": policy.name,
        "description": policy.description,
        "content": policy.content,
        "version": policy.version,
        "now": stamp(now),
        "forever": FOREVER,
    }
    tx.execute(_UPDATE, row)
    if new_version:
        tx.execute(_END_VERSION, row)
        tx.execute(_INSERT_VERSION, row)


def delete_policy(tx: sa.Connection, organization_id: str, policy_id: str, *, now: datetime) -> None:
    """Delete a policy; its versions stay as history."""
    row = {"organization": organization_id, "id": policy_id, "now": stamp(now), "forever": FOREVER}
    tx.execute(_END_VERSION, row)
    tx.execute(_DELETE, row)


def contents_of_versions(tx: sa.Connection, organization_id: str, versions: Mapping[str, int]) -> dict[str, str]:
    """Return what these versions of policies said, by policy id."""
    if not versions:
        return {}
    rows = tx.execute(_CONTENT_OF_VERSIONS, {"organization": organization_id, "ids": list(versions)})
    return {row.policy_id: row.content for row in rows if row.version == versions[row.policy_id]}


def enabled_types(tx: sa.Connection, organization_id: str) -> list[str]:
    """Return the types that are switched on at the root."""
    return list(tx.execute(_TYPES, {"organization": organization_id}).scalars())


def is_enabled(tx: sa.Connection, organization_id: str, policy_type: str) -> bool:
    """Return whether a type is switched on at the root."""
    return bool(tx.execute(_IS_ENABLED, {"organization": organization_id, "type": policy_type}).scalar_one())


def enable_type(tx: sa.Connection, organization_id: str, policy_type: str, *, now: datetime) -> None:
    """Switch a type on."""
    tx.execute(_ENABLE, {"organization": organization_id, "type": policy_type, "now": stamp(now)})


def disable_type(tx: sa.Connection, organization_id: str, policy_type: str) -> None:
    """Switch a type off; its attachments are another matter."""
    tx.execute(_DISABLE, {"organization": organization_id, "type": policy_type})


def attachments(
    tx: sa.Connection, organization_id: str, policy_type: str, nodes: Sequence[str] | None = None
) -> dict[str, list[str]]:
    """Return the policies attached to nodes (to all, if none are named), in the order of attachment, by node."""
    found: dict[str, list[str]] = defaultdict(list)
    where: dict[str, Any] = {"organization": organization_id, "type": policy_type, "forever": FOREVER}
    if nodes is None:
        rows = tx.execute(_ATTACHED_OF_TYPE, where)
    elif nodes:
        rows = tx.execute(_ATTACHED_TO, {**where, "targets": list(nodes)})
    else:
        return {}
    for row in rows:
        found[row.target_id].append(row.policy_id)
    return dict(found)


def contents_attached_at(
    tx: sa.Connection, organization_id: str, policy_type: str, nodes: Sequence[str], *, at: datetime
) -> dict[str, list[tuple[str, str]]]:
    """Return id and content of the policies that were attached to nodes at an instant, in order, by node."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    where = {"organization": organization_id, "type": policy_type, "targets": list(nodes), "at": stamp(at)}
    for row in tx.execute(_ATTACHED_AT, where):
        found[row.target_id].append((row.policy_id, row.content))
    return dict(found)


def is_attached(tx: sa.Connection, organization_id: str, policy_id: str, target_id: str) -> bool:
    """Return whether a policy is attached to a node now."""
    where = {"organization": organization_id, "id": policy_id, "target": target_id, "forever": FOREVER}
    return tx.execute(_FIND_ATTACHED, where).one_or_none() is not None


def count_targets(tx: sa.Connection, organization_id: str, policy_id: str) -> int:
    """Return to how many nodes a policy is attached now."""
    where = {"organization": organization_id, "id": policy_id, "forever": FOREVER}
    return int(tx.execute(_COUNT_ATTACHED, where).scalar_one())


def attach(
    tx: sa.Connection, organization_id: str, policy_type: str, policy_id: str, target_id: str, *, now: datetime
) -> None:
    """Attach a policy to a node, behind everything that is attached."""
    row = {"organization": organization_id, "type": policy_type, "id": policy_id, "target": target_id}
    tx.execute(_ATTACH, {**row, "now": stamp(now), "forever": FOREVER})


def attach_everywhere(
    tx: sa.Connection, organization_id: str, policy_type: str, policy_id: str, *, now: datetime
) -> None:
    """Attach a policy to the root, every unit and every account; it is attached nowhere yet."""
    row = {"organization": organization_id, "type": policy_type, "id": policy_id}
    tx.execute(_ATTACH_TO_ALL, {**row, "now": stamp(now), "forever": FOREVER})


def attach_first(
    tx: sa.Connection, organization_id: str, policy_type: str, policy_id: str, nodes: Sequence[str], *, now: datetime
) -> None:
    """Attach a policy to these nodes, where it is not yet, before everything else that is attached there."""
    row = {"organization": organization_id, "type": policy_type, "id": policy_id, "now": stamp(now), "forever": FOREVER}
    if nodes:
        tx.execute(_ATTACH_FIRST, [{**row, "target": node} for node in nodes])


def detach(tx: sa.Connection, organization_id: str, policy_id: str, target_id: str, *, now: datetime) -> None:
    """End the attachment of a policy to a node."""
    _end(tx, _OF_ONE, {"organization": organization_id, "id": policy_id, "target": target_id}, now)


def detach_type(tx: sa.Connection, organization_id: str, policy_type: str, *, now: datetime) -> None:
    """End every attachment of a type."""
    _end(tx, _OF_TYPE, {"organization": organization_id, "type": policy_type}, now)


def detach_all_from(tx: sa.Connection, organization_id: str, target_id: str, *, now: datetime) -> None:
    """End every attachment to a node."""
    _end(tx, _OF_TARGET, {"organization": organization_id, "target": target_id}, now)


def _end(tx: sa.Connection, which: str, where: dict[str, str], now: datetime) -> None:
    row = {**where, "now": stamp(now), "forever": FOREVER}
    tx.execute(text(f"{_DROP_ATTACHMENTS} AND {which}"), row)
    tx.execute(text(f"{_END_ATTACHMENTS} AND {which}"), row)


def policies_for_target(
    tx: sa.Connection, organization_id: str, target_id: str, policy_type: str, *, after: tuple[int, str], limit: int
) -> list[tuple[int, Policy]]:
    """Return up to `limit` policies attached directly to a node, each with its sequence, behind (sequence, id)."""
    where = {"organization": organization_id, "target": target_id, "type": policy_type, "forever": FOREVER}
    page = {"after_sequence": after[0], "after_id": after[1], "limit": limit}
    return [(row.sequence, _policy(row)) for row in tx.execute(_POLICIES_FOR_TARGET, {**where, **page})]


def targets_for_policy(
    tx: sa.Connection, organization_id: str, policy_id: str, *, after: str, limit: int
) -> list[Target]:
    """Return up to `limit` nodes that a policy is attached to, behind the id `after`."""
    where = {"organization": organization_id, "id": policy_id, "forever": FOREVER, "after": after, "limit": limit}
    found = []
    for row in tx.execute(_TARGETS_FOR_POLICY, where):
        if row.unit_path is not None:
            kind = "ROOT" if row.parent_id is None else "ORGANIZATIONAL_UNIT"
            found.append(Target(row.target_id, kind, row.unit_name, _ids(row.unit_path), row.starts_at))
        else:
            path = (*_ids(row.placed or ""), row.target_id)
            found.append(Target(row.target_id, "ACCOUNT", row.account_name or "", path, row.starts_at))
    return found


def find_target(tx: sa.Connection, organization_id: str, node_id: str) -> Target | None:
    """Return the root, unit or account with this id, if it belongs to the organization now."""
    where = {"organization": organization_id, "id": node_id, "forever": FOREVER}
    unit = tx.execute(_UNIT, where).one_or_none()
    if unit is not None:
        return Target(unit.id, "ROOT" if unit.parent_id is None else "ORGANIZATIONAL_UNIT", unit.name, _ids(unit.path))
    account = tx.execute(_ACCOUNT, where).one_or_none()
    return None if account is None else Target(account.id, "ACCOUNT", account.name, (*_ids(account.path), account.id))


def _ids(path: str) -> tuple[str, ...]:
    """Return the ids on a path `o-1/r-1/ou-1/`, without the organization's."""
    return tuple(path.rstrip("/").split("/")[1:])


def find_resource_policy(tx: sa.Connection, organization_id: str) -> tuple[str, str] | None:
    """Return id and content of the organization's resource policy."""
    row = tx.execute(_RESOURCE_POLICY, {"organization": organization_id}).one_or_none()
    return None if row is None else (row.id, row.content)


def put_resource_policy(
    tx: sa.Connection, organization_id: str, policy_id: str, content: str, *, now: datetime
) -> None:
    """Write the organization's resource policy; `policy_id` is taken if there was none."""
    row = {"organization": organization_id, "id": policy_id, "content": content, "now": stamp(now)}
    tx.execute(_PUT_RESOURCE_POLICY, row)


def delete_resource_policy(tx: sa.Connection, organization_id: str) -> bool:
    """Delete the organization's resource policy; return whether there was one."""
    return tx.execute(_DELETE_RESOURCE_POLICY, {"organization": organization_id}).rowcount == 1
