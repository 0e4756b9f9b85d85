"""Whether a role can be used for a backup or restore, and what it lacks, in words that tell what to do.

Rule: AWS Backup Developer Guide, "IAM service roles": jobs act as the role of the selection, which must trust
`backup.amazonaws.com` and have what the managed policy for backups, or for restores, gives.
"""

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from holdfast.access import store
from holdfast.access.gathering import boundary_policy, identity_policies, trust_policy
from holdfast.access.managed import BACKUP_ACTIONS, RESTORE_ACTIONS
from holdfast.access.model.caller import Caller, CallerKind, service_caller
from holdfast.access.model.evaluation import Verdict, evaluate
from holdfast.access.model.identity import Kind, Role
from holdfast.access.model.request import AccessRequest, Level, PolicySet, caller_values, values_of
from holdfast.access.tag import tags_of
from holdfast.core.arn import Arn, InvalidArnError

BACKUP_SERVICE = "backup.amazonaws.com"
_SESSION = "AWSBackup"
_COLONS = 4


def find_role_by_arn(tx: sa.Connection, role_arn: str) -> Role | None:
    """Return the role with this ARN, None also for what is no role's ARN."""
    try:
        arn = Arn.parse(role_arn)
    except InvalidArnError:
        return None
    if arn.service != "iam" or not arn.resource.startswith("role/"):
        return None
    role = store.find_role(tx, arn.account, arn.resource.rpartition("/")[2])
    return role if role is not None and role.arn == role_arn else None


def session_of(role: Role, *, name: str = _SESSION, tags: Mapping[str, str] | None = None) -> Caller:
    """Return who acts when somebody, a service by default, acts in the role."""
    partition = role.arn.split(":", 2)[1]
    return Caller(
        account=role.account,
        arn=f"arn:{partition}:sts::{role.account}:assumed-role/{role.name}/{name}",
        user_id=f"{role.id}:{name}",
        principal_arn=role.arn,
        kind=CallerKind.ROLE,
        session_name=name,
        tags=tuple((tags or {}).items()),
        is_service_linked=role.is_service_linked,
    )


def may_backup(
    tx: sa.Connection,
    role_arn: str,
    resource_type: str,
    resource_arn: str,
    *,
    account: str,
    scps: tuple[Level, ...] = (),
    management_accounts: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Return what a role lacks to make backups of a resource of `account`, each in words; nothing when it may.

    `scps` are those on the way to the account; without them they are not looked at.
    """
    actions = BACKUP_ACTIONS.get(resource_type, ())
    needed = [(action, resource_arn) for action in actions]
    return missing_rights(tx, role_arn, needed, account, scps, management_accounts)


def may_restore(
    tx: sa.Connection,
    role_arn: str,
    resource_type: str,
    resource_arn: str,
    *,
    account: str,
    scps: tuple[Level, ...] = (),
    management_accounts: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Return what a role lacks to restore what was backed up of a resource into `account`, each in words.

    Asked for on the ARN of that resource, so that a role may be limited to single ones.
    """
    actions = RESTORE_ACTIONS.get(resource_type, ())
    needed = [(action, resource_arn) for action in actions]
    return missing_rights(tx, role_arn, needed, account, scps, management_accounts)


def why_role_cannot(tx: sa.Connection, role_arn: str, actions: Iterable[str], *, resource: str = "*") -> str | None:
    """Return what keeps the backup service from doing `actions` as a role of its own account, None if nothing does."""
    role = find_role_by_arn(tx, role_arn)
    account = role.account if role is not None else role_arn.split(":")[4] if role_arn.count(":") > _COLONS else ""
    lacking = missing_rights(tx, role_arn, [(action, resource) for action in actions], account)
    return "; ".join(lacking) or None


def missing_rights(
    tx: sa.Connection,
    role_arn: str,
    needed: Iterable[tuple[str, str]],
    account: str,
    scps: tuple[Level, ...] = (),
    management_accounts: frozenset[str] = frozenset(),
) -> tuple[str, ...]:
    """Return what stands between a role, used by the backup service, and these actions on these resources."""
    role = find_role_by_arn(tx, role_arn)
    if role is None:
        return (f"The role {role_arn} does not exist; create it in account {account}",)
    if role.account != account:
        return (f"The role {role_arn} belongs to account {role.account}; backups of {account} need a role of its own",)
    service = service_caller(BACKUP_SERVICE, account=account)
    values = {**caller_values(service), **values_of({"aws:SourceAccount": account})}
    trust = evaluate(
        AccessRequest(service, "sts:AssumeRole", role.arn, role.account, values),
        PolicySet(resource=(trust_policy(role),)),
    )
    if not trust.allowed:
        how = "denies it to" if trust.reason.verdict is Verdict.EXPLICIT_DENY else "does not trust"
        refusal = f"The role {role_arn} cannot be assumed by AWS Backup: its trust policy {how} {BACKUP_SERVICE}"
        return (f"{refusal}. Let that service do sts:AssumeRole there",)
    caller = session_of(role, tags=tags_of(tx, role.account, "", role.arn))
    policies = PolicySet(
        identity=identity_policies(tx, role.account, Kind.ROLE, role.name),
        boundary=boundary_policy(tx, role.boundary),
        scps=scps,
        management_accounts=management_accounts,
    )
    own = caller_values(caller)
    lacking = []
    for action, resource in needed:
        decision = evaluate(AccessRequest(caller, action, resource, account, own), policies)
        if not decision.allowed:
            lacking.append(f"The role {role_arn} may not do {action} on {resource}: {decision.reason}")
    return tuple(lacking)
