"""What is done with policies of identities: inline ones, managed ones with versions, attachments.

Rules: AWS Identity and Access Management User Guide, "Versioning IAM policies", "IAM and AWS STS quotas".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from holdfast.access import store
from holdfast.access.managed import find_managed, managed_policies
from holdfast.access.model.document import DocumentKind
from holdfast.access.model.identity import (
    LONGEST_INLINE,
    LONGEST_MANAGED_POLICY,
    MOST_ATTACHED,
    MOST_VERSIONS,
    IdentityExistsError,
    IdentityInUseError,
    IdentityNotFoundError,
    Kind,
    ManagedPolicy,
    PolicyVersion,
    ProtectedIdentityError,
    check_document,
    check_name,
    check_path,
    policy_length,
)
from holdfast.access.service import get_group, get_role, get_user, refuse_service_linked
from holdfast.access.tag import check_tags, clear_tags, put_tags
from holdfast.core.errors import LimitExceededError
from holdfast.core.ids import iam_id


@dataclass(frozen=True, slots=True)
class AttachedPolicy:
    """A managed policy attached to something, by the name that people know."""

    name: str
    arn: str
    path: str


def require_identity(tx: sa.Connection, kind: Kind, account: str, name: str, *, changing: bool = False) -> None:
    """Refuse what names no user, group or role; when changing, also a service-linked role.

    Raises:
        IdentityNotFoundError: there is none.
        ProtectedIdentityError: it belongs to a service.
    """
    if kind is Kind.USER:
        get_user(tx, account, name)
    elif kind is Kind.GROUP:
        get_group(tx, account, name)
    else:
        role = get_role(tx, account, name)
        if changing:
            refuse_service_linked(role)


def put_inline(tx: sa.Connection, kind: Kind, account: str, name: str, policy_name: str, document: str) -> None:
    """Give an identity a policy of its own, over one of the same name.

    Raises:
        MalformedPolicyError: the document is none.
        LimitExceededError: all its inline policies together would be too long.
    """
    require_identity(tx, kind, account, name, changing=True)
    check_name(policy_name, "policy", longest=128)
    longest = LONGEST_INLINE[kind]
    check_document(document, DocumentKind.IDENTITY, longest=longest)
    others = {**store.inline_policies(tx, account, kind, name), policy_name: document}
    if sum(policy_length(text) for text in others.values()) > longest:
        raise LimitExceededError(f"Maximum policy size of {longest} bytes exceeded for {kind.value} {name}")
    store.put_inline(tx, account, kind, name, policy_name, document)
    store.raise_access_version(tx)


def get_inline(tx: sa.Connection, kind: Kind, account: str, name: str, policy_name: str) -> str:
    """Return the document of an inline policy.

    Raises:
        IdentityNotFoundError: there is none.
    """
    require_identity(tx, kind, account, name)
    document = store.inline_policies(tx, account, kind, name).get(policy_name)
    if document is None:
        raise IdentityNotFoundError(f"The {kind.value} policy with name {policy_name} cannot be found.")
    return document


def list_inline(tx: sa.Connection, kind: Kind, account: str, name: str) -> list[str]:
    """Return the names of an identity's inline policies."""
    require_identity(tx, kind, account, name)
    return list(store.inline_policies(tx, account, kind, name))


def delete_inline(tx: sa.Connection, kind: Kind, account: str, name: str, policy_name: str) -> None:
    """Take an inline policy away.

    Raises:
        IdentityNotFoundError: there is none.
    """
    require_identity(tx, kind, account, name, changing=True)
    if not store.delete_inline(tx, account, kind, name, policy_name):
        raise IdentityNotFoundError(f"The {kind.value} policy with name {policy_name} cannot be found.")
    store.raise_access_version(tx)


def create_policy(
    tx: sa.Connection,
    account: str,
    name: str,
    document: str,
    *,
    path: str = "/",
    description: str = "",
    tags: Iterable[tuple[str, str]] = (),
    partition: str = "aws",
    now: datetime,
) -> ManagedPolicy:
    """Make a managed policy with its first version.

    Raises:
        IdentityExistsError: the name is taken.
        MalformedPolicyError: the document is none.
    """
    check_name(name, "policy", longest=128)
    check_path(path)
    check_document(document, DocumentKind.IDENTITY, longest=LONGEST_MANAGED_POLICY)
    if any(each.name.lower() == name.lower() for each in store.list_policies(tx, account)):
        raise IdentityExistsError(f"A policy called {name} already exists. Duplicate names are not allowed.")
    arn = f"arn:{partition}:iam::{account}:policy{path}{name}"
    policy = ManagedPolicy(arn, account, name, iam_id("ANPA"), path, description, "v1", 1, now, now)
    store.add_policy(tx, policy, document)
    put_tags(tx, account, "", arn, check_tags(tags))
    return policy


def get_policy(tx: sa.Connection, account: str, arn: str) -> ManagedPolicy:
    """Return a managed policy of the account, or one that comes with Holdfast.

    Raises:
        IdentityNotFoundError: there is none.
    """
    managed = find_managed(arn)
    if managed is not None:
        return managed[0]
    policy = store.find_policy(tx, arn)
    if policy is None or policy.account != account:
        raise IdentityNotFoundError(f"Policy {arn} was not found.")
    return policy


def _own_policy(tx: sa.Connection, account: str, arn: str) -> ManagedPolicy:
    policy = get_policy(tx, account, arn)
    if policy.is_aws_managed:
        raise ProtectedIdentityError(
            f"{policy.name} comes with Holdfast and cannot be changed; make a copy of your own"
        )
    return policy


def list_policies(tx: sa.Connection, account: str, *, scope: str = "All", path: str = "/") -> list[ManagedPolicy]:
    """Return managed policies by name: all, those that come with Holdfast (AWS), or the account's own (Local)."""
    found = [] if scope == "AWS" else store.list_policies(tx, account, path=path)
    if scope != "Local":
        found += [each for each in managed_policies() if each.path.startswith(path)]
    return sorted(found, key=lambda policy: (policy.name, policy.arn))


def delete_policy(tx: sa.Connection, account: str, arn: str) -> None:
    """Delete a managed policy that is attached nowhere and has no other version than the one in force.

    Raises:
        IdentityInUseError: it is, or has.
    """
    policy = _own_policy(tx, account, arn)
    if store.attached_to(tx, account, arn) or store.bounded_by(tx, account, arn):
        raise IdentityInUseError("Cannot delete a policy attached to entities.")
    if len(store.versions(tx, arn)) > 1:
        raise IdentityInUseError("This policy has more than one version. Delete the others first.")
    store.delete_policy(tx, policy.arn)
    clear_tags(tx, account, "", arn)
    store.raise_access_version(tx)


def versions_of(tx: sa.Connection, account: str, arn: str) -> list[PolicyVersion]:
    """Return the versions of a managed policy, the newest first."""
    managed = find_managed(arn)
    if managed is not None:
        return [managed[1]]
    get_policy(tx, account, arn)
    return sorted(store.versions(tx, arn), key=lambda each: int(each.version[1:]), reverse=True)


def get_version(tx: sa.Connection, account: str, arn: str, version: str) -> PolicyVersion:
    """Return one version of a managed policy.

    Raises:
        IdentityNotFoundError: there is none.
    """
    for each in versions_of(tx, account, arn):
        if each.version == version:
            return each
    raise IdentityNotFoundError(f"Policy {arn} version {version} does not exist or is not attachable.")


def create_version(
    tx: sa.Connection, account: str, arn: str, document: str, *, set_default: bool, now: datetime
) -> PolicyVersion:
    """Add a version to a managed policy, in force at once if `set_default`.

    Raises:
        LimitExceededError: it has five already.
        MalformedPolicyError: the document is none.
    """
    policy = _own_policy(tx, account, arn)
    check_document(document, DocumentKind.IDENTITY, longest=LONGEST_MANAGED_POLICY)
    if len(store.versions(tx, arn)) >= MOST_VERSIONS:
        raise LimitExceededError(
            f"A managed policy can have up to {MOST_VERSIONS} versions. Before you create a new version, you must "
            "delete an existing version."
        )
    number = policy.last_version + 1
    made = PolicyVersion(f"v{number}", document, now)
    store.add_version(tx, arn, made.version, document, at=now)
    store.set_last_version(tx, arn, number, at=now)
    if set_default:
        set_default_version(tx, account, arn, made.version, now=now)
    return made


def set_default_version(tx: sa.Connection, account: str, arn: str, version: str, *, now: datetime) -> None:
    """Let another version of a managed policy be the one in force.

    Raises:
        IdentityNotFoundError: there is no such version.
    """
    _own_policy(tx, account, arn)
    get_version(tx, account, arn, version)
    store.set_default_version(tx, arn, version, at=now)
    store.raise_access_version(tx)


def delete_version(tx: sa.Connection, account: str, arn: str, version: str) -> None:
    """Delete a version that is not in force.

    Raises:
        IdentityInUseError: it is in force.
    """
    policy = _own_policy(tx, account, arn)
    get_version(tx, account, arn, version)
    if policy.default_version == version:
        raise IdentityInUseError("Cannot delete the default version of a policy.")
    store.delete_version(tx, arn, version)


def attach(tx: sa.Connection, kind: Kind, account: str, name: str, arn: str) -> None:
    """Attach a managed policy to an identity; attaching it again changes nothing.

    Raises:
        IdentityNotFoundError: there is no such policy or identity.
        LimitExceededError: twenty are attached already.
    """
    require_identity(tx, kind, account, name, changing=True)
    try:
        policy = get_policy(tx, account, arn)
    except IdentityNotFoundError as error:
        raise IdentityNotFoundError(f"Policy {arn} does not exist or is not attachable.") from error
    if policy.path.startswith("/aws-service-role/"):
        raise ProtectedIdentityError(f"{policy.name} is for service-linked roles only")
    already = store.attached(tx, account, kind, name)
    if arn not in already and len(already) >= MOST_ATTACHED:
        raise LimitExceededError(f"Cannot exceed quota for PoliciesPer{kind.value.capitalize()}: {MOST_ATTACHED}")
    store.attach(tx, account, kind, name, arn)
    store.raise_access_version(tx)


def detach(tx: sa.Connection, kind: Kind, account: str, name: str, arn: str) -> None:
    """Detach a managed policy from an identity.

    Raises:
        IdentityNotFoundError: it is not attached.
    """
    require_identity(tx, kind, account, name, changing=True)
    if not store.detach(tx, account, kind, name, arn):
        raise IdentityNotFoundError(f"Policy {arn} was not found.")
    store.raise_access_version(tx)


def attached(tx: sa.Connection, kind: Kind, account: str, name: str) -> list[AttachedPolicy]:
    """Return the managed policies attached to an identity."""
    require_identity(tx, kind, account, name)
    found = []
    for arn in store.attached(tx, account, kind, name):
        _, _, rest = arn.partition(":policy")
        path, _, policy_name = rest.rpartition("/")
        found.append(AttachedPolicy(policy_name, arn, path + "/"))
    return sorted(found, key=lambda each: each.name)
