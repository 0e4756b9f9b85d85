"""The SQL of identities: users, groups, roles, their policies, and what a request needs of all that at once."""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model.identity import Group, Kind, ManagedPolicy, PolicyVersion, Role, User
from holdfast.database.values import instant, instant_or_none, stamp

_RAISE_VERSION = text("UPDATE access_version SET version = version + 1, mark = :mark WHERE id = 1")
_VERSION = "SELECT version, mark FROM access_version WHERE id = 1"

_USER = "account, name, id, path, arn, boundary, created_at"
_GROUP = "account, name, id, path, arn, created_at"
_ROLE = (
    "account, name, id, path, arn, description, trust, max_session, boundary, created_at, last_used_at, "
    "last_used_region"
)
_POLICY = "arn, account, name, id, path, description, default_version, last_version, created_at, updated_at"


def _insert(table: str, columns: str) -> sa.TextClause:
    values = ", ".join(f":{name.strip()}" for name in columns.split(","))
    return text(f"INSERT INTO {table} ({columns}) VALUES ({values})")


_ADD_USER, _ADD_GROUP = _insert("iam_user", _USER), _insert("iam_group", _GROUP)
_ADD_ROLE, _ADD_POLICY = _insert("iam_role", _ROLE), _insert("iam_policy", _POLICY)
_FIND_USER = text(f"SELECT {_USER} FROM iam_user WHERE account = :account AND name = :name")
_FIND_GROUP = text(f"SELECT {_GROUP} FROM iam_group WHERE account = :account AND name = :name")
_FIND_ROLE = text(f"SELECT {_ROLE} FROM iam_role WHERE account = :account AND name = :name")
_FIND_POLICY = text(f"SELECT {_POLICY} FROM iam_policy WHERE arn = :arn")


def _list_in(table: str, columns: str) -> sa.TextClause:
    return text(f"""
        SELECT {columns} FROM {table}
         WHERE account = :account AND substr(path, 1, length(:path)) = :path AND name > :after
         ORDER BY name LIMIT :limit""")


_USERS, _GROUPS = _list_in("iam_user", _USER), _list_in("iam_group", _GROUP)
_ROLES, _POLICIES = _list_in("iam_role", _ROLE), _list_in("iam_policy", _POLICY)
_TAKEN = {
    kind: text(f"SELECT name FROM iam_{kind.value} WHERE account = :account AND lower(name) = lower(:name)")
    for kind in Kind
}
_DELETE = {kind: text(f"DELETE FROM iam_{kind.value} WHERE account = :account AND name = :name") for kind in Kind}

_UPDATE_USER = text("UPDATE iam_user SET boundary = :boundary WHERE account = :account AND name = :name")
_UPDATE_ROLE = text("""
    UPDATE iam_role SET description = :description, trust = :trust, max_session = :max_session, boundary = :boundary
     WHERE account = :account AND name = :name""")
_ROLE_USED = text("""
    UPDATE iam_role SET last_used_at = :at, last_used_region = :region WHERE account = :account AND name = :name""")

_JOIN_GROUP = text("""
    INSERT INTO iam_group_member (account, group_name, user_name) VALUES (:account, :group, :user)
        ON CONFLICT DO NOTHING""")
_LEAVE_GROUP = text(
    "DELETE FROM iam_group_member WHERE account = :account AND group_name = :group AND user_name = :user"
)
_MEMBERS = text("""
    SELECT u.account, u.name, u.id, u.path, u.arn, u.boundary, u.created_at
      FROM iam_group_member m JOIN iam_user u ON u.account = m.account AND u.name = m.user_name
     WHERE m.account = :account AND m.group_name = :name ORDER BY u.name""")
_GROUPS_OF = text("""
    SELECT g.account, g.name, g.id, g.path, g.arn, g.created_at
      FROM iam_group_member m JOIN iam_group g ON g.account = m.account AND g.name = m.group_name
     WHERE m.account = :account AND m.user_name = :name ORDER BY g.name""")

_DELETE_POLICY = text("DELETE FROM iam_policy WHERE arn = :arn")
_SET_DEFAULT = text("UPDATE iam_policy SET default_version = :version, updated_at = :at WHERE arn = :arn")
_SET_LAST = text("UPDATE iam_policy SET last_version = :number, updated_at = :at WHERE arn = :arn")
_ADD_VERSION = text("""
    INSERT INTO iam_policy_version (arn, version, document, created_at) VALUES (:arn, :version, :document, :at)""")
_VERSIONS = text("SELECT version, document, created_at FROM iam_policy_version WHERE arn = :arn ORDER BY created_at")
_FIND_VERSION = text(
    "SELECT version, document, created_at FROM iam_policy_version WHERE arn = :arn AND version = :version"
)
_DELETE_VERSION = text("DELETE FROM iam_policy_version WHERE arn = :arn AND version = :version")
_DELETE_VERSIONS = text("DELETE FROM iam_policy_version WHERE arn = :arn")

_ATTACH = text("""
    INSERT INTO iam_attachment (account, kind, name, policy_arn) VALUES (:account, :kind, :name, :arn)
        ON CONFLICT DO NOTHING""")
_DETACH = text("""
    DELETE FROM iam_attachment WHERE account = :account AND kind = :kind AND name = :name AND policy_arn = :arn""")
_ATTACHED = text("""
    SELECT policy_arn FROM iam_attachment WHERE account = :account AND kind = :kind AND name = :name
     ORDER BY policy_arn""")
_ATTACHED_TO = text("""
    SELECT kind, name FROM iam_attachment WHERE policy_arn = :arn AND account = :account ORDER BY kind, name""")
_BOUNDED_BY = text("""
    SELECT 'user' AS kind, name FROM iam_user WHERE boundary = :arn AND account = :account
     UNION ALL SELECT 'role', name FROM iam_role WHERE boundary = :arn AND account = :account ORDER BY 1, 2""")
_COUNTS = text("""
    SELECT (SELECT count(*) FROM iam_user WHERE account = :account) AS "Users",
           (SELECT count(*) FROM iam_group WHERE account = :account) AS "Groups",
           (SELECT count(*) FROM iam_role WHERE account = :account) AS "Roles",
           (SELECT count(*) FROM iam_policy WHERE account = :account) AS "Policies",
           (SELECT count(*) FROM iam_oidc_provider WHERE account = :account) AS "Providers"
    """)
_ATTACHMENT_COUNTS = text("""
    SELECT policy_arn, count(*) AS n FROM iam_attachment WHERE account = :account GROUP BY policy_arn""")

_PUT_INLINE = text("""
    INSERT INTO iam_inline_policy (account, kind, name, policy_name, document)
    VALUES (:account, :kind, :name, :policy_name, :document)
        ON CONFLICT (account, kind, name, policy_name) DO UPDATE SET document = excluded.document""")
_INLINE = text("""
    SELECT policy_name, document FROM iam_inline_policy WHERE account = :account AND kind = :kind AND name = :name
     ORDER BY policy_name""")
_DELETE_INLINE = text("""
    DELETE FROM iam_inline_policy
     WHERE account = :account AND kind = :kind AND name = :name AND policy_name = :policy_name""")

# Everything that speaks for one identity, groups included, in one go.
_DOCUMENTS = text("""
    WITH identity (kind, name) AS (
        SELECT CAST(:kind AS TEXT), CAST(:name AS TEXT)
         UNION ALL
        SELECT 'group', group_name FROM iam_group_member
         WHERE account = :account AND user_name = :name AND :kind = 'user'
    )
    SELECT i.kind, i.name, p.policy_name AS policy, p.document AS document
      FROM identity i JOIN iam_inline_policy p ON p.account = :account AND p.kind = i.kind AND p.name = i.name
     UNION ALL
    SELECT i.kind, i.name, a.policy_arn, v.document
      FROM identity i JOIN iam_attachment a ON a.account = :account AND a.kind = i.kind AND a.name = i.name
      LEFT JOIN iam_policy m ON m.arn = a.policy_arn
      LEFT JOIN iam_policy_version v ON v.arn = m.arn AND v.version = m.default_version
     ORDER BY 1, 2, 3""")


@dataclass(frozen=True, slots=True)
class HeldDocument:
    """A policy that speaks for an identity, through itself or a group."""

    kind: Kind
    holder: str
    policy: str
    """The name of an inline policy, the ARN of a managed one."""
    document: str | None
    """None for the managed policies that come with Holdfast."""


def raise_access_version(tx: sa.Connection) -> None:
    """Say that decisions may come out differently from now on; call it with every change that may do that."""
    tx.execute(_RAISE_VERSION, {"mark": secrets.token_hex(8)})


def access_version(tx: sa.Connection) -> tuple[int, str]:
    """Return the number that `raise_access_version` raises, and a mark of that raise alone.

    What was remembered for the two holds as long as they stay: a transaction that raises the number and is rolled back
    leaves it to be raised again by another, but never the mark.
    """
    version, mark = tx.exec_driver_sql(_VERSION).one()  # every request asks this, so by the shortest way
    return int(version), str(mark)


def _user(row: sa.Row[Any]) -> User:
    return User(row.account, row.name, row.id, row.path, row.arn, row.boundary, instant(row.created_at))


def _group(row: sa.Row[Any]) -> Group:
    return Group(row.account, row.name, row.id, row.path, row.arn, instant(row.created_at))


def _role(row: sa.Row[Any]) -> Role:
    return Role(
        account=row.account,
        name=row.name,
        id=row.id,
        path=row.path,
        arn=row.arn,
        description=row.description,
        trust=row.trust,
        max_session=row.max_session,
        boundary=row.boundary,
        created_at=instant(row.created_at),
        last_used_at=instant_or_none(row.last_used_at),
        last_used_region=row.last_used_region,
    )


def _policy(row: sa.Row[Any]) -> ManagedPolicy:
    return ManagedPolicy(
        arn=row.arn,
        account=row.account,
        name=row.name,
        id=row.id,
        path=row.path,
        description=row.description,
        default_version=row.default_version,
        last_version=row.last_version,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
    )


def counts(tx: sa.Connection, account: str) -> dict[str, int]:
    """Return how many users, groups, roles, policies and identity providers an account has, by those words."""
    return dict(tx.execute(_COUNTS, {"account": account}).mappings().one())


def name_taken(tx: sa.Connection, kind: Kind, account: str, name: str) -> bool:
    """Return whether an identity of this kind has the name already, in whatever letter case."""
    return tx.execute(_TAKEN[kind], {"account": account, "name": name}).first() is not None


def add_user(tx: sa.Connection, user: User) -> None:
    """Write a new user."""
    tx.execute(
        _ADD_USER,
        {
            "account": user.account,
            "name": user.name,
            "id": user.id,
            "path": user.path,
            "arn": user.arn,
            "boundary": user.boundary,
            "created_at": stamp(user.created_at),
        },
    )


def add_group(tx: sa.Connection, group: Group) -> None:
    """Write a new group."""
    tx.execute(
        _ADD_GROUP,
        {
            "account": group.account,
            "name": group.name,
            "id": group.id,
            "path": group.path,
            "arn": group.arn,
            "created_at": stamp(group.created_at),
        },
    )


def add_role(tx: sa.Connection, role: Role) -> None:
    """Write a new role."""
    tx.execute(
        _ADD_ROLE,
        {
            "account": role.account,
            "name": role.name,
            "id": role.id,
            "path": role.path,
            "arn": role.arn,
            "description": role.description,
            "trust": role.trust,
            "max_session": role.max_session,
            "boundary": role.boundary,
            "created_at": stamp(role.created_at),
            "last_used_at": None,
            "last_used_region": None,
        },
    )


def find_user(tx: sa.Connection, account: str, name: str) -> User | None:
    """Return the user with this name."""
    row = tx.execute(_FIND_USER, {"account": account, "name": name}).one_or_none()
    return None if row is None else _user(row)


def find_group(tx: sa.Connection, account: str, name: str) -> Group | None:
    """Return the group with this name."""
    row = tx.execute(_FIND_GROUP, {"account": account, "name": name}).one_or_none()
    return None if row is None else _group(row)


def find_role(tx: sa.Connection, account: str, name: str) -> Role | None:
    """Return the role with this name."""
    row = tx.execute(_FIND_ROLE, {"account": account, "name": name}).one_or_none()
    return None if row is None else _role(row)


def _page(account: str, path: str, after: str, limit: int) -> dict[str, Any]:
    return {"account": account, "path": path, "after": after, "limit": limit}


def list_users(tx: sa.Connection, account: str, *, path: str = "/", after: str = "", limit: int = -1) -> list[User]:
    """Return the users below a path, by name, that come after `after`."""
    return [_user(row) for row in tx.execute(_USERS, _page(account, path, after, _limit(limit)))]


def list_groups(tx: sa.Connection, account: str, *, path: str = "/", after: str = "", limit: int = -1) -> list[Group]:
    """Return the groups below a path, by name, that come after `after`."""
    return [_group(row) for row in tx.execute(_GROUPS, _page(account, path, after, _limit(limit)))]


def list_roles(tx: sa.Connection, account: str, *, path: str = "/", after: str = "", limit: int = -1) -> list[Role]:
    """Return the roles below a path, by name, that come after `after`."""
    return [_role(row) for row in tx.execute(_ROLES, _page(account, path, after, _limit(limit)))]


def list_policies(
    tx: sa.Connection, account: str, *, path: str = "/", after: str = "", limit: int = -1
) -> list[ManagedPolicy]:
    """Return the account's own managed policies below a path, by name, that come after `after`."""
    return [_policy(row) for row in tx.execute(_POLICIES, _page(account, path, after, _limit(limit)))]


def _limit(limit: int) -> int:
    return limit if limit >= 0 else 2**31 - 1


def update_user(tx: sa.Connection, user: User) -> None:
    """Write a user's boundary."""
    tx.execute(_UPDATE_USER, {"account": user.account, "name": user.name, "boundary": user.boundary})


def update_role(tx: sa.Connection, role: Role) -> None:
    """Write what may change of a role."""
    tx.execute(
        _UPDATE_ROLE,
        {
            "account": role.account,
            "name": role.name,
            "description": role.description,
            "trust": role.trust,
            "max_session": role.max_session,
            "boundary": role.boundary,
        },
    )


def role_used(tx: sa.Connection, role: Role, *, at: datetime, region: str) -> None:
    """Note when and where a role was last used."""
    tx.execute(_ROLE_USED, {"account": role.account, "name": role.name, "at": stamp(at), "region": region})


def delete_identity(tx: sa.Connection, kind: Kind, account: str, name: str) -> None:
    """Remove a user, group or role that nothing belongs to any more."""
    tx.execute(_DELETE[kind], {"account": account, "name": name})


def join_group(tx: sa.Connection, account: str, group: str, user: str) -> None:
    """Make a user a member of a group."""
    tx.execute(_JOIN_GROUP, {"account": account, "group": group, "user": user})


def leave_group(tx: sa.Connection, account: str, group: str, user: str) -> bool:
    """Take a user out of a group; return whether they were in it."""
    return bool(tx.execute(_LEAVE_GROUP, {"account": account, "group": group, "user": user}).rowcount)


def members(tx: sa.Connection, account: str, group: str) -> list[User]:
    """Return the members of a group."""
    return [_user(row) for row in tx.execute(_MEMBERS, {"account": account, "name": group})]


def groups_of(tx: sa.Connection, account: str, user: str) -> list[Group]:
    """Return the groups that a user is in."""
    return [_group(row) for row in tx.execute(_GROUPS_OF, {"account": account, "name": user})]


def add_policy(tx: sa.Connection, policy: ManagedPolicy, document: str) -> None:
    """Write a new managed policy with its first version."""
    tx.execute(
        _ADD_POLICY,
        {
            "arn": policy.arn,
            "account": policy.account,
            "name": policy.name,
            "id": policy.id,
            "path": policy.path,
            "description": policy.description,
            "default_version": policy.default_version,
            "last_version": policy.last_version,
            "created_at": stamp(policy.created_at),
            "updated_at": stamp(policy.updated_at),
        },
    )
    add_version(tx, policy.arn, policy.default_version, document, at=policy.created_at)


def find_policy(tx: sa.Connection, arn: str) -> ManagedPolicy | None:
    """Return an account's own managed policy."""
    row = tx.execute(_FIND_POLICY, {"arn": arn}).one_or_none()
    return None if row is None else _policy(row)


def delete_policy(tx: sa.Connection, arn: str) -> None:
    """Remove a managed policy with its versions."""
    tx.execute(_DELETE_VERSIONS, {"arn": arn})
    tx.execute(_DELETE_POLICY, {"arn": arn})


def add_version(tx: sa.Connection, arn: str, version: str, document: str, *, at: datetime) -> None:
    """Write a new version of a managed policy."""
    tx.execute(_ADD_VERSION, {"arn": arn, "version": version, "document": document, "at": stamp(at)})


def set_last_version(tx: sa.Connection, arn: str, number: int, *, at: datetime) -> None:
    """Note the highest number that a version of the policy ever had."""
    tx.execute(_SET_LAST, {"arn": arn, "number": number, "at": stamp(at)})


def set_default_version(tx: sa.Connection, arn: str, version: str, *, at: datetime) -> None:
    """Let another version be the one in force."""
    tx.execute(_SET_DEFAULT, {"arn": arn, "version": version, "at": stamp(at)})


def _version(row: sa.Row[Any]) -> PolicyVersion:
    return PolicyVersion(row.version, row.document, instant(row.created_at))


def versions(tx: sa.Connection, arn: str) -> list[PolicyVersion]:
    """Return the versions of a managed policy, the oldest first."""
    return [_version(row) for row in tx.execute(_VERSIONS, {"arn": arn})]


def find_version(tx: sa.Connection, arn: str, version: str) -> PolicyVersion | None:
    """Return one version of a managed policy."""
    row = tx.execute(_FIND_VERSION, {"arn": arn, "version": version}).one_or_none()
    return None if row is None else _version(row)


def delete_version(tx: sa.Connection, arn: str, version: str) -> None:
    """Remove a version of a managed policy."""
    tx.execute(_DELETE_VERSION, {"arn": arn, "version": version})


def attach(tx: sa.Connection, account: str, kind: Kind, name: str, arn: str) -> None:
    """Attach a managed policy to an identity."""
    tx.execute(_ATTACH, {"account": account, "kind": kind.value, "name": name, "arn": arn})


def detach(tx: sa.Connection, account: str, kind: Kind, name: str, arn: str) -> bool:
    """Detach a managed policy; return whether it was attached."""
    return bool(tx.execute(_DETACH, {"account": account, "kind": kind.value, "name": name, "arn": arn}).rowcount)


def attached(tx: sa.Connection, account: str, kind: Kind, name: str) -> list[str]:
    """Return the ARNs of the managed policies attached to an identity."""
    return [row.policy_arn for row in tx.execute(_ATTACHED, {"account": account, "kind": kind.value, "name": name})]


def attached_to(tx: sa.Connection, account: str, arn: str) -> list[tuple[Kind, str]]:
    """Return the identities of an account that a managed policy is attached to."""
    return [(Kind(row.kind), row.name) for row in tx.execute(_ATTACHED_TO, {"account": account, "arn": arn})]


def bounded_by(tx: sa.Connection, account: str, arn: str) -> list[tuple[Kind, str]]:
    """Return the users and roles of an account that a managed policy is the boundary of."""
    return [(Kind(row.kind), row.name) for row in tx.execute(_BOUNDED_BY, {"account": account, "arn": arn})]


def attachment_counts(tx: sa.Connection, account: str) -> dict[str, int]:
    """Return how many identities of an account each managed policy is attached to."""
    return {row.policy_arn: row.n for row in tx.execute(_ATTACHMENT_COUNTS, {"account": account})}


def put_inline(tx: sa.Connection, account: str, kind: Kind, name: str, policy_name: str, document: str) -> None:
    """Write an inline policy, over one of the same name."""
    where = {"account": account, "kind": kind.value, "name": name}
    tx.execute(_PUT_INLINE, {**where, "policy_name": policy_name, "document": document})


def inline_policies(tx: sa.Connection, account: str, kind: Kind, name: str) -> dict[str, str]:
    """Return the inline policies of an identity by name."""
    rows = tx.execute(_INLINE, {"account": account, "kind": kind.value, "name": name})
    return {row.policy_name: row.document for row in rows}


def delete_inline(tx: sa.Connection, account: str, kind: Kind, name: str, policy_name: str) -> bool:
    """Remove an inline policy; return whether there was one."""
    where = {"account": account, "kind": kind.value, "name": name}
    return bool(tx.execute(_DELETE_INLINE, {**where, "policy_name": policy_name}).rowcount)


def held_documents(tx: sa.Connection, account: str, kind: Kind, name: str) -> list[HeldDocument]:
    """Return every policy that speaks for a user (groups included), group or role."""
    rows = tx.execute(_DOCUMENTS, {"account": account, "kind": kind.value, "name": name})
    return [HeldDocument(Kind(row.kind), row.name, row.policy, row.document) for row in rows]


def default_documents(tx: sa.Connection, arns: Iterable[str]) -> dict[str, str]:
    """Return the documents in force of accounts' own managed policies, by ARN; ARNs of none are left out."""
    found = {}
    for arn in arns:
        policy = find_policy(tx, arn)
        version = None if policy is None else find_version(tx, arn, policy.default_version)
        if version is not None:
            found[arn] = version.document
    return found
