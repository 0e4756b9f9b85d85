"""Principals and resources by their ARNs, with every policy that bears on them: for questions about access.

What a request's own authorization remembers between requests is gathered anew here, so that answers are about now.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access import store
from holdfast.access.backup_role import find_role_by_arn, session_of
from holdfast.access.credentials import caller_of_user
from holdfast.access.gathering import trust_policy
from holdfast.access.model import (
    AccessRequest,
    Caller,
    Decision,
    DocumentKind,
    Level,
    Policy,
    PolicySet,
    caller_values,
    evaluate,
    parse_document,
    root_caller,
    values_of,
)
from holdfast.access.model.identity import IdentityNotFoundError
from holdfast.access.tag import tags_of
from holdfast.core.arn import Arn, InvalidArnError
from holdfast.database.values import FOREVER
from holdfast.key.store import find_alias, find_key, find_key_by_arn
from holdfast.server.authorize import Standing, control_levels, standing_of

_ACCOUNT = text("""
    SELECT a.id, a.status, o.id AS organization_id, o.management_account, p.path
      FROM account a
      LEFT JOIN organization o ON o.id = a.organization_id AND o.deleted_at IS NULL
      LEFT JOIN placement p ON p.account_id = a.id AND p.organization_id = o.id AND p.ends_at = :forever
     WHERE a.id = :account""")
_NEIGHBOURS = text("""
    SELECT n.id FROM account a JOIN account n ON n.organization_id = a.organization_id AND n.status = 'ACTIVE'
     WHERE a.id = :account ORDER BY n.id""")
_VAULT = text("""
    SELECT name, policy FROM vault
     WHERE account = :account AND region = :region AND name = :name AND deleted_at = :forever""")
_POINT = text("""
    SELECT v.name, v.policy FROM recovery_point p JOIN vault v ON v.id = p.vault_id
     WHERE p.account = :account AND p.arn = :arn""")
_SCP: Final = "SERVICE_CONTROL_POLICY"
_RCP: Final = "RESOURCE_CONTROL_POLICY"
_COPY: Final = "backup:copyintobackupvault"
_ON_ALIASES: Final = frozenset({"kms:createalias", "kms:deletealias", "kms:updatealias"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who may ask, with what speaks for them."""

    caller: Caller
    standing: Standing

    @property
    def arn(self) -> str:
        """The ARN of the user, the role or the account's root."""
        return self.caller.principal_arn


@dataclass(frozen=True, slots=True)
class Target:
    """Something that may be acted on, with what guards it."""

    arn: str
    owner: str
    policy: Policy | None
    policy_decides: bool
    copies_only: bool
    """Whether other accounts are let in for copies and nothing else, as vaults do."""
    rcps: tuple[Level, ...]
    management_accounts: frozenset[str]
    tags: Mapping[str, str]
    organization_id: str | None
    organization_path: str | None
    alias: str | None = None
    """The ARN of a key's alias, where what is done to the alias must be allowed on both."""


class Households:
    """What accounts are part of, each looked up once."""

    def __init__(self, tx: sa.Connection) -> None:
        self._tx = tx
        self._rows: dict[str, sa.Row[tuple[str, str, str | None, str | None, str | None]] | None] = {}
        self._levels: dict[tuple[str, str], tuple[Level, ...]] = {}

    def row(self, account: str) -> sa.Row[tuple[str, str, str | None, str | None, str | None]] | None:
        """Return an account with its organization and path."""
        if account not in self._rows:
            self._rows[account] = self._tx.execute(_ACCOUNT, {"account": account, "forever": FOREVER}).first()
        return self._rows[account]

    def levels(self, account: str, policy_type: str) -> tuple[Level, ...]:
        """Return the control policies of a type above an account."""
        key = (account, policy_type)
        if key not in self._levels:
            row = self.row(account)
            inside = row is not None and row.organization_id is not None and row.path is not None
            self._levels[key] = (
                control_levels(self._tx, row.organization_id, row.path, account, policy_type)
                if row is not None and inside
                else ()
            )
        return self._levels[key]

    def management(self, account: str) -> frozenset[str]:
        """Return the management account above an account."""
        row = self.row(account)
        return frozenset() if row is None or row.management_account is None else frozenset({row.management_account})


def _with_standing(tx: sa.Connection, households: Households, caller: Caller) -> Principal:
    row = households.row(caller.account)
    if row is not None and row.organization_id is not None:
        caller = replace(caller, organization_id=row.organization_id, organization_path=row.path)
    scps = households.levels(caller.account, _SCP)
    return Principal(caller, standing_of(tx, caller, scps, households.management(caller.account)))


def get_principal(tx: sa.Connection, households: Households, arn: str) -> Principal:
    """Return the user, role, session or account root with this ARN.

    Raises:
        IdentityNotFoundError: there is none.
    """
    missing = f"The principal {arn} does not exist"
    try:
        parsed = Arn.parse(arn)
    except InvalidArnError as error:
        raise IdentityNotFoundError(f"{missing}: {error}") from error
    kind, _, rest = parsed.resource.partition("/")
    caller: Caller | None = None
    if parsed.service == "iam" and parsed.resource == "root" and households.row(parsed.account) is not None:
        caller = root_caller(parsed.account, partition=parsed.partition)
    elif parsed.service == "iam" and kind == "user":
        user = store.find_user(tx, parsed.account, rest.rpartition("/")[2])
        caller = caller_of_user(tx, user) if user is not None and user.arn == arn else None
    elif parsed.service == "iam" and kind == "role":
        role = find_role_by_arn(tx, arn)
        caller = None if role is None else session_of(role, tags=tags_of(tx, role.account, "", role.arn))
    elif parsed.service == "sts" and kind == "assumed-role":
        role_name, _, session = rest.partition("/")
        role = store.find_role(tx, parsed.account, role_name)
        if role is not None:
            caller = session_of(role, name=session, tags=tags_of(tx, role.account, "", role.arn))
    if caller is None:
        raise IdentityNotFoundError(missing)
    return _with_standing(tx, households, caller)


def neighbours(tx: sa.Connection, account: str) -> list[str]:
    """Return the accounts of an account's organization, itself alone when it is in none."""
    return [row.id for row in tx.execute(_NEIGHBOURS, {"account": account})] or [account]


def list_principals(tx: sa.Connection, households: Households, accounts: Iterable[str]) -> list[Principal]:
    """Return the root, every user and every role of these accounts."""
    found = []
    for account in accounts:
        found.append(_with_standing(tx, households, root_caller(account)))
        found += [_with_standing(tx, households, caller_of_user(tx, user)) for user in store.list_users(tx, account)]
        for role in store.list_roles(tx, account):
            caller = session_of(role, tags=tags_of(tx, account, "", role.arn))
            found.append(_with_standing(tx, households, caller))
    return found


def get_target(
    tx: sa.Connection, households: Households, arn: str, action: str, *, owner: str | None, default_owner: str
) -> Target:
    """Return what guards a resource from an action; one that does not exist is guarded by nothing of its own.

    `owner` says whose it is where the ARN does not, `default_owner` where neither does.
    """
    policy: Policy | None = None
    alias: str | None = None
    decides = copies_only = False
    region = ""
    named: str | None = None
    if arn != "*":
        parsed = Arn.parse(arn)
        region, named = parsed.region, parsed.account or None
        account = owner or named or default_owner
        if parsed.service == "kms":
            decides = True
            key = find_key_by_arn(tx, arn)
            if parsed.resource.startswith("alias/") and action.lower() in _ON_ALIASES:
                alias = arn
            if key is None and parsed.resource.startswith("alias/"):
                key_id = find_alias(tx, account, region, parsed.resource)
                key = None if key_id is None else find_key(tx, account, region, key_id)
            if key is not None:
                arn = key.arn
                policy = Policy(f"key policy of {key.id}", parse_document(key.policy, DocumentKind.RESOURCE))
        elif parsed.service == "iam" and parsed.resource.startswith("role/") and action.lower().startswith("sts:"):
            decides = True
            role = find_role_by_arn(tx, arn)
            policy = None if role is None else trust_policy(role)
        else:
            kind, _, name = parsed.resource.partition(":")
            vault = None
            if parsed.service == "backup" and kind == "backup-vault":
                vault = tx.execute(
                    _VAULT, {"account": account, "region": region, "name": name, "forever": FOREVER}
                ).first()
                copies_only = True
            else:
                vault = tx.execute(_POINT, {"arn": arn, "account": account}).first()
                copies_only = vault is not None
            if vault is not None and vault.policy is not None:
                document = parse_document(vault.policy, DocumentKind.RESOURCE)
                policy = Policy(f"access policy of vault {vault.name}", document)
    account = owner or named or default_owner
    row = households.row(account)
    return Target(
        arn=arn,
        owner=account,
        policy=policy,
        policy_decides=decides,
        copies_only=copies_only,
        rcps=households.levels(account, _RCP),
        management_accounts=households.management(account),
        tags={**tags_of(tx, account, "", arn), **(tags_of(tx, account, region, arn) if region else {})},
        organization_id=None if row is None else row.organization_id,
        organization_path=None if row is None or row.organization_id is None else row.path or "",
        alias=alias,
    )


def judge(principal: Principal, action: str, target: Target, context: Mapping[str, Iterable[str]]) -> Decision:
    """Return whether a principal may do an action to a target, when the request says of itself what `context` does."""
    if target.alias is not None:
        # An alias has neither policy nor tags of its own, but what is done to it must be allowed on it as on its key.
        plain = replace(target, arn=target.alias, policy=None, policy_decides=False, tags={}, alias=None)
        on_alias = judge(principal, action, plain, context)
        if not on_alias.allowed:
            return on_alias
    caller, standing = principal.caller, principal.standing
    policy = target.policy
    if target.copies_only and caller.account != target.owner and action.lower() != _COPY:
        policy = None
    service = action.partition(":")[0]
    tags = {f"{prefix}:ResourceTag/{key}": value for key, value in target.tags.items() for prefix in ("aws", service)}
    values = {
        **caller_values(caller),
        **values_of({"aws:ResourceAccount": target.owner, "aws:ResourceOrgID": target.organization_id, **tags}),
        **values_of({"aws:ResourceOrgPaths": target.organization_path, "aws:ViaAWSService": False}),
        **values_of({"kms:CallerAccount": caller.account} if service == "kms" else {}),
        **values_of({key: tuple(value) for key, value in context.items()}),
    }
    policies = PolicySet(
        identity=standing.identity,
        boundary=standing.boundary,
        session=standing.session,
        scps=standing.scps,
        rcps=target.rcps,
        resource=() if policy is None else (policy,),
        resource_policy_decides=target.policy_decides,
        management_accounts=standing.management_accounts | target.management_accounts,
    )
    return evaluate(AccessRequest(caller, action, target.arn, target.owner, values), policies)
