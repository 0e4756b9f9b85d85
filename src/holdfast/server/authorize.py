"""Who stands behind a request, and whether they may do what it asks: every policy gathered, one evaluation each.

What a decision is made of is read from the database once and remembered until the access version rises, which every
change of users, keys, sessions, policies, control policies, placement, vault or key policies does. A request reads that
one row; so a revocation binds the next request in every process. Whoever is not found is nobody, and nobody may
anything.
"""

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import bindparam, text

from holdfast.access import credential_store
from holdfast.access.credentials import Signer, find_signer
from holdfast.access.gathering import NOTHING, boundary_policy, identity_policies, session_policies
from holdfast.access.model import (
    AccessRequest,
    Caller,
    CallerKind,
    Decision,
    DocumentKind,
    Level,
    MalformedPolicyError,
    Policy,
    PolicySet,
    Verdict,
    caller_values,
    evaluate,
    parse_document,
    values_of,
)
from holdfast.access.model.caller import federated_caller
from holdfast.access.model.identity import Kind
from holdfast.access.model.web_identity import InvalidIdentityTokenError
from holdfast.access.oidc_store import find_provider_of
from holdfast.access.store import access_version, find_role, find_user
from holdfast.access.web_identity import MOST_BYTES, Issuers, issuer_of
from holdfast.core.errors import DeniedError
from holdfast.core.outgoing import Outgoing
from holdfast.database.values import FOREVER
from holdfast.server.operations import RULES, Check, Scene
from holdfast.server.operations.scene import Value, arn_account, request_tags
from holdfast.wire.application import Credential
from holdfast.wire.call import Call, Instance
from holdfast.wire.errors import ExpiredSessionError

log = structlog.get_logger()

_K = TypeVar("_K")
_V = TypeVar("_V")

_MOST_REMEMBERED: Final = 20_000
_SCP: Final = "SERVICE_CONTROL_POLICY"
_RCP: Final = "RESOURCE_CONTROL_POLICY"
_OPEN_STATUS: Final = frozenset({"ACTIVE", "PENDING_CLOSURE"})

_ACCOUNT = text("""
    SELECT a.status, o.id AS organization_id, o.management_account, p.path
      FROM account a
      LEFT JOIN organization o ON o.id = a.organization_id AND o.deleted_at IS NULL
      LEFT JOIN placement p ON p.account_id = a.id AND p.organization_id = o.id AND p.ends_at = :forever
     WHERE a.id = :account""")
_ENABLED = text("""
    SELECT 1 FROM policy_type WHERE organization_id = :organization AND type = :type AND status = 'ENABLED'""")
_ATTACHED = text("""
    SELECT a.target_id, p.id, p.name, p.content, p.aws_managed
      FROM attachment a JOIN policy p ON p.organization_id = a.organization_id AND p.id = a.policy_id
     WHERE a.organization_id = :organization AND a.type = :type AND a.ends_at = :forever AND a.target_id IN :nodes
     ORDER BY a.sequence""").bindparams(bindparam("nodes", expanding=True))
_TAGS = text("SELECT key, value FROM tag WHERE account = :account AND region IN (:region, '') AND arn = :arn")

_TAG_KEY_MEMBERS: Final = ("TagKeys", "TagKeyList")


class AccessRefusedError(DeniedError):
    """The caller may not do what was asked; `decision` knows which statement of which policy said so."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.sentence)
        self.decision = decision

    @property
    def explanation(self) -> str:
        """The whole truth, for the audit trail: clients are told kinds of policies, not their names."""
        return f"{self.decision.action} on {self.decision.resource}: {self.decision.reason}"


@dataclass(frozen=True, slots=True)
class Household:
    """What an account is part of."""

    status: str
    organization_id: str | None
    management_account: str | None
    path: str | None
    """`o-1/r-1/ou-1/`."""

    @property
    def management_accounts(self) -> frozenset[str]:
        """The accounts above it that no control policy binds."""
        return frozenset() if self.management_account is None else frozenset({self.management_account})


@dataclass(frozen=True, slots=True)
class Standing:
    """Every policy that speaks for one caller, whatever they ask."""

    identity: tuple[Policy, ...]
    boundary: Policy | None
    session: tuple[Policy, ...] | None
    scps: tuple[Level, ...]
    management_accounts: frozenset[str]

    @property
    def asks_for_tags(self) -> bool:
        """Whether one of the policies looks at the tags of resources."""
        levels = (policy for level in self.scps for policy in level.policies)
        own = (*self.identity, *(self.session or ()), *((self.boundary,) if self.boundary else ()))
        return any(_asks_for_tags(policy) for policy in (*levels, *own))


def _asks_for_tags(policy: Policy) -> bool:
    return "resourcetag" in policy.document.text.lower()


@dataclass(slots=True)
class _Era:
    """What was read while the access version was this."""

    version: tuple[int, str]
    signers: dict[tuple[str, str], Signer] = field(default_factory=dict)
    households: dict[str, Household | None] = field(default_factory=dict)
    levels: dict[tuple[str, str], tuple[Level, ...]] = field(default_factory=dict)
    standings: dict[str, "_Known"] = field(default_factory=dict)
    memory: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """What the table of operations remembers."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of a caller while the access version stays."""

    standing: Standing
    asks_for_tags: bool
    values: Mapping[str, tuple[str, ...]]


class Authorizer:
    """Decides for one installation."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        outgoing = Outgoing(instance.machine, instance.settings.outgoing, instance.settings.authorities)
        self._issuers = Issuers(instance.machine, partial(outgoing.fetch, most_bytes=MOST_BYTES))
        self._era = _Era((-1, ""))
        self._used: dict[str, tuple[datetime, str, str]] = {}
        self._guard = threading.Lock()

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        """Return the secret and the caller behind an access key, None when nobody may act by it.

        Raises:
            ExpiredSessionError: the session is over.
        """
        with self._instance.database.reading() as tx:
            era = self._present_era(tx)
            token = (
                "" if session_token is None else hashlib.sha256(session_token.encode("utf-8", "replace")).hexdigest()
            )
            signer = era.signers.get((access_key_id, token))
            if signer is None:
                signer = find_signer(tx, self._instance.root_key, access_key_id, session_token)
                if signer is None:
                    return None
                household = self._household(tx, era, signer.caller.account)
                if household is None or household.status not in _OPEN_STATUS:
                    return None
                caller = replace(
                    signer.caller,
                    organization_id=household.organization_id,
                    organization_path=household.path,
                )
                signer = replace(signer, caller=caller)
                _remember(era.signers, (access_key_id, token), signer)
        if signer.expires_at is not None and signer.expires_at <= self._instance.machine.now():
            raise ExpiredSessionError("The security token included in the request is expired")
        return Credential(signer.secret, signer.caller)

    def stranger(self, operation: str, parameters: Mapping[str, Any]) -> Caller:
        """Return somebody whom an identity provider vouches for, by the token that comes with their call.

        The provider is asked outside of any transaction. What does not count is answered alike whether there is such an
        account or not.

        Raises:
            DeniedError: the operation takes no token.
            InvalidIdentityTokenError: the account does not know the token's issuer, or it did not make it.
            ExpiredIdentityTokenError: the token is too old.
            IssuerUnreachableError: the issuer does not tell its keys now.
        """
        token = parameters.get("WebIdentityToken")
        if operation != "AssumeRoleWithWebIdentity" or token is None:
            raise DeniedError(f"{operation} is open to nobody without a signature")
        issuer, account = issuer_of(token), arn_account(parameters["RoleArn"]) or ""
        with self._instance.database.reading() as tx:
            household = self._household(tx, self._present_era(tx), account)
            provider = find_provider_of(tx, account, issuer)
        if provider is None or household is None or household.status not in _OPEN_STATUS:
            raise InvalidIdentityTokenError(f"No OpenIDConnect provider found in your account for {issuer[:255]}")
        return federated_caller(account, self._issuers.identify(token, provider))

    def is_changing(self, service: str, operation: str) -> bool:
        """Return whether the operation may write; one that is not in the table is taken to."""
        rule = RULES.get(service, {}).get(operation)
        return rule is None or rule.changing

    def authorize(self, call: Call, parameters: Mapping[str, Any]) -> str:
        """Return why the call is allowed: the statements that decided.

        Raises:
            AccessRefusedError: a policy denies it, or none allows it.
            DeniedError: the operation is not in the table.
        """
        rule = RULES.get(call.service, {}).get(call.operation)
        if rule is None:
            raise DeniedError(f"{call.service}:{call.operation} is not open to anybody: it has no rule of access")
        era = self._present_era(call.tx)
        scene = Scene(call.tx, call.caller, call.region, call.partition, call.instance, era.memory)
        reasons = []
        common: Mapping[str, tuple[str, ...]] | None = None
        for check in rule.checks(scene, parameters):
            if common is None:
                common = values_of(_common_values(call, parameters))
            decision = self._decide(call, era, check, common)
            if not decision.allowed and not (check.is_free and decision.reason.verdict is Verdict.IMPLICIT_DENY):
                raise AccessRefusedError(decision)
            reasons.append(f"{check.action}: {decision.reason}")
        if call.caller.issued_at is None and call.access_key_id:
            with self._guard:
                self._used[call.access_key_id] = (call.now, call.service, call.region)
        return "; ".join(dict.fromkeys(reasons)) or "open to every caller who is somebody"

    def note_usage(self) -> int:
        """Write down when, and for what, access keys were last used; return how many."""
        with self._guard:
            used, self._used = self._used, {}
        if used:
            with self._instance.database.transaction() as tx:
                for key_id, (at, service, region) in used.items():
                    credential_store.key_used(tx, key_id, at=at, service=service, region=region)
        return len(used)

    def _decide(self, call: Call, era: _Era, check: Check, common: Mapping[str, tuple[str, ...]]) -> Decision:
        """Return the decision on one check of a call."""
        known = self._known(call.tx, era, call.caller)
        standing = known.standing
        owner = check.owner or call.caller.account
        household = self._household(call.tx, era, owner)
        policy = check.policy
        if owner != call.caller.account and check.foreign_only and check.action.lower() not in check.foreign_only:
            policy = None
        values = {**known.values, **common, "aws:resourceaccount": (owner,)}
        if check.values:
            values |= values_of(check.values)
        if household is not None and household.organization_id is not None:
            values["aws:resourceorgid"] = (household.organization_id,)
            values["aws:resourceorgpaths"] = (household.path or "",)
        rcps = self._levels(call.tx, era, owner, household, _RCP)
        if check.resource != "*" and (known.asks_for_tags or rcps or (policy is not None and _asks_for_tags(policy))):
            values |= values_of(_resource_tags(call, check, owner))
        request = AccessRequest(call.caller, check.action, check.resource, owner, values)
        management = standing.management_accounts
        if household is not None and owner != call.caller.account:
            management |= household.management_accounts
        policies = PolicySet(
            identity=standing.identity,
            boundary=standing.boundary,
            session=standing.session,
            scps=standing.scps,
            rcps=rcps,
            resource=() if policy is None else (policy,),
            resource_policy_decides=check.policy_decides,
            management_accounts=management,
        )
        return evaluate(request, policies)

    def _present_era(self, tx: sa.Connection) -> _Era:
        version = access_version(tx)
        era = self._era
        if era.version != version:
            era = _Era(version)
            self._era = era
        return era

    def _household(self, tx: sa.Connection, era: _Era, account: str) -> Household | None:
        if account not in era.households:
            row = tx.execute(_ACCOUNT, {"account": account, "forever": FOREVER}).first()
            found = (
                None if row is None else Household(row.status, row.organization_id, row.management_account, row.path)
            )
            _remember(era.households, account, found)
            return found
        return era.households[account]

    def _levels(
        self, tx: sa.Connection, era: _Era, account: str, household: Household | None, policy_type: str
    ) -> tuple[Level, ...]:
        if household is None or household.organization_id is None or household.path is None:
            return ()
        found = era.levels.get((account, policy_type))
        if found is None:
            found = control_levels(tx, household.organization_id, household.path, account, policy_type)
            _remember(era.levels, (account, policy_type), found)
        return found

    def _known(self, tx: sa.Connection, era: _Era, caller: Caller) -> _Known:
        key = caller.access_key_id
        known = era.standings.get(key) if key else None
        if known is None:
            household = self._household(tx, era, caller.account)
            scps = self._levels(tx, era, caller.account, household, _SCP)
            management = frozenset[str]() if household is None else household.management_accounts
            standing = standing_of(tx, caller, scps, management)
            known = _Known(standing, standing.asks_for_tags, caller_values(caller))
            if key:
                _remember(era.standings, key, known)
        return known


def standing_of(
    tx: sa.Connection, caller: Caller, scps: tuple[Level, ...], management_accounts: frozenset[str]
) -> Standing:
    """Return every policy that speaks for a caller."""
    identity: tuple[Policy, ...] = ()
    boundary: Policy | None = None
    name = caller.principal_arn.rpartition("/")[2]
    if caller.kind is CallerKind.USER:
        user = find_user(tx, caller.account, name)
        identity = identity_policies(tx, caller.account, Kind.USER, name)
        boundary = boundary_policy(tx, None if user is None else user.boundary)
    elif caller.kind is CallerKind.ROLE:
        role = find_role(tx, caller.account, name)
        identity = identity_policies(tx, caller.account, Kind.ROLE, name)
        boundary = boundary_policy(tx, None if role is None else role.boundary)
    session = None
    if caller.issued_at is not None:
        found = credential_store.find_session(tx, caller.access_key_id)
        session = session_policies(tx, None if found is None else found.session.policies)
    return Standing(identity, boundary, session, scps, management_accounts)


def control_levels(
    tx: sa.Connection, organization_id: str, path: str, account: str, policy_type: str
) -> tuple[Level, ...]:
    """Return the control policies of a type on the way from the root to an account; nothing where the type is off."""
    if tx.execute(_ENABLED, {"organization": organization_id, "type": policy_type}).first() is None:
        return ()
    nodes = [node for node in path.split("/") if node and not node.startswith("o-")]
    nodes.append(account)
    rows = tx.execute(
        _ATTACHED, {"organization": organization_id, "type": policy_type, "forever": FOREVER, "nodes": nodes}
    )
    attached: dict[str, list[Policy]] = {}
    kind = DocumentKind.SCP if policy_type == _SCP else DocumentKind.RCP
    for row in rows:
        try:
            document = parse_document(row.content, kind, managed=bool(row.aws_managed))
        except MalformedPolicyError as error:
            # It was let in by a release that read it otherwise. What is not understood allows nothing; the management
            # account, which no control policy binds, can still mend it.
            log.warning("access.policy_not_understood", policy=row.id, organization=organization_id, error=str(error))
            document = parse_document(NOTHING, DocumentKind.IDENTITY)
        attached.setdefault(row.target_id, []).append(Policy(f"{row.id} ({row.name})", document))
    return tuple(Level(_node_words(node), tuple(attached.get(node, ()))) for node in nodes)


@dataclass(frozen=True, slots=True)
class Controls:
    """The service control policies that bind an account's principals, its backup roles included."""

    scps: tuple[Level, ...]
    management_accounts: frozenset[str]


def controls_of(tx: sa.Connection, account: str) -> Controls:
    """Return the service control policies on the way from the root to an account."""
    row = tx.execute(_ACCOUNT, {"account": account, "forever": FOREVER}).first()
    if row is None or row.organization_id is None or row.path is None:
        return Controls((), frozenset())
    scps = control_levels(tx, row.organization_id, row.path, account, _SCP)
    return Controls(scps, frozenset({row.management_account}))


def _node_words(node: str) -> str:
    kind = "root" if node.startswith("r-") else "unit" if node.startswith("ou-") else "account"
    return f"{kind} {node}"


def _fingerprint(session_token: str | None) -> str:
    """Return what stands for a session token in memory."""
    return "" if session_token is None else hashlib.sha256(session_token.encode("utf-8", "replace")).hexdigest()


def _remember(memory: dict[_K, _V], key: _K, value: _V) -> None:
    if len(memory) >= _MOST_REMEMBERED:
        memory.clear()
    memory[key] = value


def _common_values(call: Call, parameters: Mapping[str, Any]) -> dict[str, Value]:
    tags = request_tags(parameters)
    values: dict[str, Value] = {
        "aws:CurrentTime": call.now,
        "aws:EpochTime": int(call.now.timestamp()),
        "aws:RequestedRegion": call.region,
        "aws:SecureTransport": call.is_encrypted,
        "aws:SourceIp": call.source_ip,
        "aws:UserAgent": call.user_agent,
        "aws:ViaAWSService": False,
        "aws:MultiFactorAuthAge": _age_of_factor(call),
        **{f"aws:RequestTag/{key}": value for key, value in tags.items()},
    }
    keys = [*tags, *(key for member in _TAG_KEY_MEMBERS for key in parameters.get(member) or ())]
    if keys:
        values["aws:TagKeys"] = tuple(keys)
    return values


def _age_of_factor(call: Call) -> int | None:
    """Return how many seconds ago a second factor was given for the caller's session, None when none was."""
    given_at = call.caller.mfa_at
    return None if given_at is None else int((call.instance.machine.now() - given_at).total_seconds())


def _resource_tags(call: Call, check: Check, owner: str) -> dict[str, str]:
    rows = call.tx.execute(_TAGS, {"account": owner, "region": call.region, "arn": check.resource}).all()
    service = check.action.partition(":")[0]
    return {f"{prefix}:ResourceTag/{row.key}": row.value for row in rows for prefix in ("aws", service)}
