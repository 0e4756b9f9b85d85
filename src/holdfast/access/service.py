"""What is done with identities: users, groups and roles made, changed and deleted, and roles for services and access.

Rules: AWS Identity and Access Management User Guide, "IAM identifiers", "IAM and AWS STS quotas", "Deleting an IAM
user", "Service-linked roles". Every change that may change a decision raises the access version.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from holdfast.access import credential_store, password_store, second_factor_store, store
from holdfast.access.backup_role import may_backup, may_restore, why_role_cannot
from holdfast.access.managed import find_managed
from holdfast.access.model.document import DocumentKind
from holdfast.access.model.identity import (
    ACCESS_ROLE,
    ADMINISTRATOR,
    LONGEST_TRUST,
    MOST_GROUPS,
    Group,
    IdentityExistsError,
    IdentityInUseError,
    IdentityNotFoundError,
    InvalidNameError,
    Kind,
    ProtectedIdentityError,
    Role,
    User,
    check_document,
    check_name,
    check_path,
)
from holdfast.access.tag import check_tags, clear_tags, put_tags
from holdfast.core.errors import InvalidInputError, LimitExceededError
from holdfast.core.ids import iam_id

__all__ = ["may_backup", "may_restore", "why_role_cannot"]

_SHORTEST_SESSION, _LONGEST_SESSION = 3600, 43_200
_LONGEST_DESCRIPTION = 1000
_SERVICE = re.compile(r"(?P<name>[a-z0-9-]+(\.[a-z0-9-]+)*)\.amazonaws\.com\Z")
_LINKED_ROLES = {
    "backup.amazonaws.com": ("AWSServiceRoleForBackup", "AWSBackupServiceLinkedRolePolicyForBackup"),
    "organizations.amazonaws.com": ("AWSServiceRoleForOrganizations", "AWSOrganizationsServiceTrustPolicy"),
    "restore-testing.backup.amazonaws.com": (
        "AWSServiceRoleForBackupRestoreTesting",
        "AWSBackupServiceLinkedRolePolicyForBackup",
    ),
    "reports.backup.amazonaws.com": (
        "AWSServiceRoleForBackupReports",
        "AWSBackupServiceLinkedRolePolicyForBackup",
    ),
}


def create_user(
    tx: sa.Connection,
    account: str,
    name: str,
    *,
    path: str = "/",
    boundary: str | None = None,
    tags: Iterable[tuple[str, str]] = (),
    partition: str = "aws",
    now: datetime,
) -> User:
    """Make a user without any rights.

    Raises:
        IdentityExistsError: the name is taken, perhaps in other letter case.
        IdentityNotFoundError: the boundary is no managed policy.
    """
    check_name(name, "user")
    check_path(path)
    _refuse_taken(tx, Kind.USER, account, name)
    _require_boundary(tx, account, boundary)
    arn = f"arn:{partition}:iam::{account}:user{path}{name}"
    user = User(account, name, iam_id("AIDA"), path, arn, boundary, now)
    store.add_user(tx, user)
    put_tags(tx, account, "", arn, check_tags(tags))
    store.raise_access_version(tx)
    return user


def get_user(tx: sa.Connection, account: str, name: str) -> User:
    """Return a user.

    Raises:
        IdentityNotFoundError: there is none with this name.
    """
    user = store.find_user(tx, account, name)
    if user is None:
        raise IdentityNotFoundError(f"The user with name {name} cannot be found.")
    return user


def delete_user(tx: sa.Connection, account: str, name: str) -> None:
    """Delete a user that nothing belongs to any more; sessions begun by them end.

    Raises:
        IdentityInUseError: access keys, policies, groups, a password or a second factor are still there.
    """
    user = get_user(tx, account, name)
    if password_store.find_profile(tx, account, name) is not None:
        raise IdentityInUseError("Cannot delete entity, must delete login profile first.")
    if credential_store.keys_of(tx, account, name):
        raise IdentityInUseError("Cannot delete entity, must delete access keys first.")
    if second_factor_store.devices_of(tx, account, name):
        raise IdentityInUseError("Cannot delete entity, must deactivate MFA devices first.")
    if store.groups_of(tx, account, name):
        raise IdentityInUseError("Cannot delete entity, must remove users from group first.")
    _refuse_with_policies(tx, Kind.USER, account, name)
    store.delete_identity(tx, Kind.USER, account, name)
    credential_store.end_sessions_of(tx, user.arn)
    clear_tags(tx, account, "", user.arn)
    store.raise_access_version(tx)


def create_group(
    tx: sa.Connection, account: str, name: str, *, path: str = "/", partition: str = "aws", now: datetime
) -> Group:
    """Make a group without members and rights.

    Raises:
        IdentityExistsError: the name is taken.
    """
    check_name(name, "group", longest=128)
    check_path(path)
    _refuse_taken(tx, Kind.GROUP, account, name)
    group = Group(account, name, iam_id("AGPA"), path, f"arn:{partition}:iam::{account}:group{path}{name}", now)
    store.add_group(tx, group)
    return group


def get_group(tx: sa.Connection, account: str, name: str) -> Group:
    """Return a group.

    Raises:
        IdentityNotFoundError: there is none with this name.
    """
    group = store.find_group(tx, account, name)
    if group is None:
        raise IdentityNotFoundError(f"The group with name {name} cannot be found.")
    return group


def delete_group(tx: sa.Connection, account: str, name: str) -> None:
    """Delete a group that has neither members nor policies.

    Raises:
        IdentityInUseError: it has.
    """
    get_group(tx, account, name)
    if store.members(tx, account, name):
        raise IdentityInUseError("Cannot delete entity, must remove users from group first.")
    _refuse_with_policies(tx, Kind.GROUP, account, name)
    store.delete_identity(tx, Kind.GROUP, account, name)
    store.raise_access_version(tx)


def add_to_group(tx: sa.Connection, account: str, group: str, user: str) -> None:
    """Make a user a member of a group; they have its policies from their next request on."""
    get_group(tx, account, group)
    get_user(tx, account, user)
    already = {each.name for each in store.groups_of(tx, account, user)}
    if group not in already and len(already) >= MOST_GROUPS:
        raise LimitExceededError(f"{user} is in {MOST_GROUPS} groups already, which is the most")
    store.join_group(tx, account, group, user)
    store.raise_access_version(tx)


def remove_from_group(tx: sa.Connection, account: str, group: str, user: str) -> None:
    """Take a user out of a group.

    Raises:
        IdentityNotFoundError: they were not in it.
    """
    get_group(tx, account, group)
    get_user(tx, account, user)
    if not store.leave_group(tx, account, group, user):
        raise IdentityNotFoundError(f"{user} is not in the group {group}.")
    store.raise_access_version(tx)


def create_role(
    tx: sa.Connection,
    account: str,
    name: str,
    trust: str,
    *,
    path: str = "/",
    description: str = "",
    max_session: int = _SHORTEST_SESSION,
    boundary: str | None = None,
    tags: Iterable[tuple[str, str]] = (),
    partition: str = "aws",
    now: datetime,
) -> Role:
    """Make a role that those named in its trust policy may act in.

    Raises:
        IdentityExistsError: the name is taken.
        MalformedPolicyError: the trust policy is none.
    """
    if path.startswith("/aws-service-role/"):
        raise InvalidNameError("the path /aws-service-role/ is for CreateServiceLinkedRole")
    checked = check_tags(tags)
    role = _make_role(
        tx,
        account,
        name,
        trust,
        path=path,
        description=description,
        max_session=max_session,
        boundary=boundary,
        partition=partition,
        now=now,
    )
    put_tags(tx, account, "", role.arn, checked)
    return role


def _make_role(
    tx: sa.Connection,
    account: str,
    name: str,
    trust: str,
    *,
    path: str,
    description: str,
    max_session: int,
    boundary: str | None,
    partition: str,
    now: datetime,
) -> Role:
    check_name(name, "role")
    check_path(path)
    _check_role(description, max_session)
    check_document(trust, DocumentKind.TRUST, longest=LONGEST_TRUST)
    _refuse_taken(tx, Kind.ROLE, account, name)
    _require_boundary(tx, account, boundary)
    role = Role(
        account=account,
        name=name,
        id=iam_id("AROA"),
        path=path,
        arn=f"arn:{partition}:iam::{account}:role{path}{name}",
        description=description,
        trust=trust,
        max_session=max_session,
        boundary=boundary,
        created_at=now,
    )
    store.add_role(tx, role)
    store.raise_access_version(tx)
    return role


def _check_role(description: str, max_session: int) -> None:
    if len(description) > _LONGEST_DESCRIPTION:
        raise InvalidInputError(f"a description has {_LONGEST_DESCRIPTION} characters at most")
    if not _SHORTEST_SESSION <= max_session <= _LONGEST_SESSION:
        raise InvalidInputError(f"MaxSessionDuration is {_SHORTEST_SESSION} to {_LONGEST_SESSION} seconds")


def get_role(tx: sa.Connection, account: str, name: str) -> Role:
    """Return a role.

    Raises:
        IdentityNotFoundError: there is none with this name.
    """
    role = store.find_role(tx, account, name)
    if role is None:
        raise IdentityNotFoundError(f"The role with name {name} cannot be found.")
    return role


def _changeable_role(tx: sa.Connection, account: str, name: str) -> Role:
    role = get_role(tx, account, name)
    refuse_service_linked(role)
    return role


def refuse_service_linked(role: Role) -> None:
    """Refuse to change a role that belongs to a service.

    Raises:
        ProtectedIdentityError: it does.
    """
    if role.is_service_linked:
        raise ProtectedIdentityError(f"{role.name} is a service-linked role; only its service changes it")


def update_role(
    tx: sa.Connection, account: str, name: str, *, description: str | None = None, max_session: int | None = None
) -> Role:
    """Change a role's description or longest session."""
    role = _changeable_role(tx, account, name)
    changed = replace(
        role,
        description=role.description if description is None else description,
        max_session=role.max_session if max_session is None else max_session,
    )
    _check_role(changed.description, changed.max_session)
    store.update_role(tx, changed)
    return changed


def update_trust(tx: sa.Connection, account: str, name: str, trust: str) -> None:
    """Replace a role's trust policy.

    Raises:
        MalformedPolicyError: it is none.
    """
    role = _changeable_role(tx, account, name)
    check_document(trust, DocumentKind.TRUST, longest=LONGEST_TRUST)
    store.update_role(tx, replace(role, trust=trust))
    store.raise_access_version(tx)


def delete_role(tx: sa.Connection, account: str, name: str) -> None:
    """Delete a role that has no policies any more; sessions in it end.

    Raises:
        IdentityInUseError: it has policies.
    """
    role = _changeable_role(tx, account, name)
    _refuse_with_policies(tx, Kind.ROLE, account, name)
    _remove_role(tx, role)


def _remove_role(tx: sa.Connection, role: Role) -> None:
    store.delete_identity(tx, Kind.ROLE, role.account, role.name)
    credential_store.end_sessions_of(tx, role.arn)
    clear_tags(tx, role.account, "", role.arn)
    store.raise_access_version(tx)


def set_boundary(tx: sa.Connection, kind: Kind, account: str, name: str, boundary: str | None) -> None:
    """Bound a user or role by a managed policy, or not any more.

    Raises:
        IdentityNotFoundError: there is no such policy, user or role.
    """
    _require_boundary(tx, account, boundary)
    if kind is Kind.USER:
        store.update_user(tx, replace(get_user(tx, account, name), boundary=boundary))
    else:
        store.update_role(tx, replace(_changeable_role(tx, account, name), boundary=boundary))
    store.raise_access_version(tx)


def create_service_linked_role(
    tx: sa.Connection, account: str, service: str, *, description: str = "", partition: str = "aws", now: datetime
) -> Role:
    """Make the role by which a service acts in an account by itself.

    Raises:
        IdentityExistsError: the account has it.
        InvalidInputError: the service has no such role.
    """
    found = _SERVICE.match(service)
    if found is None or service not in _LINKED_ROLES:
        raise InvalidInputError(f"{service} has no service-linked role; those are {', '.join(sorted(_LINKED_ROLES))}")
    name, policy = _LINKED_ROLES[service]
    role = _make_role(
        tx,
        account,
        name,
        _trusting({"Service": service}),
        path=f"/aws-service-role/{service}/",
        description=description,
        max_session=_SHORTEST_SESSION,
        boundary=None,
        partition=partition,
        now=now,
    )
    store.attach(tx, account, Kind.ROLE, name, f"arn:{partition}:iam::aws:policy/aws-service-role/{policy}")
    return role


def delete_service_linked_role(tx: sa.Connection, account: str, name: str) -> None:
    """Delete a service-linked role with its policies.

    Raises:
        InvalidInputError: it is no service-linked role.
    """
    role = get_role(tx, account, name)
    if not role.is_service_linked:
        raise InvalidInputError(f"{name} is no service-linked role; use DeleteRole")
    for arn in store.attached(tx, account, Kind.ROLE, name):
        store.detach(tx, account, Kind.ROLE, name, arn)
    _remove_role(tx, role)


def create_access_role(
    tx: sa.Connection,
    account: str,
    trusted_account: str,
    name: str = ACCESS_ROLE,
    *,
    partition: str = "aws",
    now: datetime,
) -> Role:
    """Make the role by which the management account administers an account that it created.

    Where the account has a role of this name already, that one is left as it is.
    """
    existing = store.find_role(tx, account, name)
    if existing is not None:
        return existing
    role = create_role(
        tx,
        account,
        name,
        _trusting({"AWS": f"arn:{partition}:iam::{trusted_account}:root"}),
        partition=partition,
        now=now,
    )
    store.attach(tx, account, Kind.ROLE, name, f"arn:{partition}:iam::aws:policy/{ADMINISTRATOR}")
    store.raise_access_version(tx)
    return role


def _trusting(principal: Mapping[str, str]) -> str:
    statement = {"Effect": "Allow", "Principal": dict(principal), "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _refuse_taken(tx: sa.Connection, kind: Kind, account: str, name: str) -> None:
    if store.name_taken(tx, kind, account, name):
        raise IdentityExistsError(f"{kind.value.capitalize()} with name {name} already exists.")


def _refuse_with_policies(tx: sa.Connection, kind: Kind, account: str, name: str) -> None:
    if store.attached(tx, account, kind, name):
        raise IdentityInUseError("Cannot delete entity, must detach all policies first.")
    if store.inline_policies(tx, account, kind, name):
        raise IdentityInUseError("Cannot delete entity, must delete policies first.")


def _require_boundary(tx: sa.Connection, account: str, boundary: str | None) -> None:
    if boundary is None or find_managed(boundary) is not None:
        return
    policy = store.find_policy(tx, boundary)
    if policy is None or policy.account != account:
        raise IdentityNotFoundError(f"Policy {boundary} does not exist or is not attachable.")
