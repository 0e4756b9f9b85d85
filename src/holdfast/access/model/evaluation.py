"""The decision: may this caller do this to that resource, and which statement says so.

Order and rules: AWS Identity and Access Management User Guide, "Policy evaluation logic", "How AWS enforcement code
logic evaluates requests", "Cross-account policy evaluation logic" and "Permissions boundaries"; AWS Organizations User
Guide, "SCP evaluation" and "RCP evaluation".

    an explicit deny anywhere            -> no
    control policies of organizations    -> each level must allow
    resource-based policy                -> may be enough by itself, within the account
    identity-based policy                -> otherwise must allow
    permissions boundary, session policy -> must allow what they bound
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from holdfast.access.model.caller import CallerKind
from holdfast.access.model.document import DocumentKind, Statement
from holdfast.access.model.principal import Grade
from holdfast.access.model.request import AccessRequest, Level, Policy, PolicySet, PolicyType

_OUTSIDE = frozenset({CallerKind.SERVICE, CallerKind.FEDERATED})
"""Who has no policies of their own: what the resource's owner lets them do is all they may."""
_ARTICLE = {
    PolicyType.SCP: "a",
    PolicyType.RCP: "a",
    PolicyType.RESOURCE: "a",
    PolicyType.TRUST: "the",
    PolicyType.IDENTITY: "an",
    PolicyType.BOUNDARY: "a",
    PolicyType.SESSION: "a",
}


class Verdict(Enum):
    """How one policy, or all of them together, answer."""

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitly denied"
    IMPLICIT_DENY = "not allowed"


@dataclass(frozen=True, slots=True)
class Reason:
    """Which statement of which policy at which level decided."""

    verdict: Verdict
    policy_type: PolicyType
    policy: str | None = None
    """The policy's ARN or name; None when it is the absence of any that decided."""
    node: str | None = None
    """The root, unit or account that a control policy is attached to."""
    statement: int | None = None
    sid: str | None = None

    def __str__(self) -> str:
        where = f" at {self.node}" if self.node else ""
        if self.policy is None:
            if self.verdict is Verdict.ALLOWED:
                return "allowed because the caller is the account's root user"
            return f"no {self.policy_type}{where} allows it"
        sid = f" ({self.sid})" if self.sid else ""
        return f"{self.verdict.value} by statement {self.statement}{sid} of the {self.policy_type} {self.policy}{where}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the reason that settled it and every step on the way."""

    allowed: bool
    reason: Reason
    steps: tuple[Reason, ...]
    """What each level said, in order; the last one is the reason."""
    caller_arn: str
    action: str
    resource: str

    @property
    def sentence(self) -> str:
        """The refusal as clients of AWS know it; it names kinds of policy, and no policy."""
        subject = f"User: {self.caller_arn} is"
        if self.allowed:
            return f"{subject} authorized to perform: {self.action} on resource: {self.resource}"
        policy_type = self.reason.policy_type
        refusal = f"{subject} not authorized to perform: {self.action} on resource: {self.resource}"
        if self.reason.verdict is Verdict.EXPLICIT_DENY:
            return f"{refusal} with an explicit deny in {_ARTICLE[policy_type]} {policy_type}"
        return f"{refusal} because no {policy_type} allows the {self.action} action"


@dataclass(frozen=True, slots=True)
class _Found:
    policy: Policy
    statement: Statement
    grade: Grade = Grade.ITSELF


_Source = tuple[PolicyType, str | None, Policy]


def evaluate(request: AccessRequest, policies: PolicySet) -> Decision:
    """Return whether the request is allowed under these policies, and why."""
    steps: list[Reason] = []
    caller = request.caller

    def decided(reason: Reason, *, allowed: bool = False) -> Decision:
        return Decision(allowed, reason, (*steps, reason), caller.arn, request.action, request.resource)

    action = request.action.lower()
    denied = _explicit_deny(request, action, policies)
    if denied is not None:
        return decided(denied)
    for policy_type, levels in ((PolicyType.RCP, _rcps(request, policies)), (PolicyType.SCP, _scps(request, policies))):
        for level in levels:
            step = _allow_step(policy_type, request, action, level.policies, level.node)
            if step.verdict is not Verdict.ALLOWED:
                return decided(step)
            steps.append(step)

    resource_type = _resource_type(policies.resource)
    granted = _best_grant(request, action, policies.resource)
    same_account = caller.account == request.resource_account
    if caller.kind is CallerKind.SERVICE:
        # A service has no policies of its own; what the resource's owner lets it do is all it may.
        step = _grant_reason(resource_type, granted)
        return decided(step, allowed=granted is not None)
    if caller.kind is CallerKind.FEDERATED:
        # Somebody from outside: a trust policy lets them in by naming their provider, and by nothing else.
        trusted = granted if granted is not None and granted.grade is Grade.ITSELF else None
        return decided(_grant_reason(resource_type, trusted), allowed=trusted is not None)
    needs_grant = policies.resource_policy_decides or not same_account
    if granted is None and needs_grant:
        return decided(Reason(Verdict.IMPLICIT_DENY, resource_type))
    if granted is not None:
        steps.append(_grant_reason(resource_type, granted))
    alone_is_enough = same_account and granted is not None
    if alone_is_enough and granted is not None and granted.grade is Grade.ITSELF:
        return decided(steps.pop(), allowed=True)

    # Granted to the role or to everybody, the boundary and the session policy still bound it; otherwise the caller's
    # own policies must allow as well.
    granted_to_principal = alone_is_enough and granted is not None and granted.grade is not Grade.ACCOUNT
    if not granted_to_principal:
        step = _identity_step(request, action, policies)
        if step.verdict is not Verdict.ALLOWED:
            return decided(step)
        steps.append(step)
    if policies.boundary is not None:
        step = _allow_step(PolicyType.BOUNDARY, request, action, (policies.boundary,))
        if step.verdict is not Verdict.ALLOWED:
            return decided(step)
        steps.append(step)
    if policies.session is not None:
        step = _allow_step(PolicyType.SESSION, request, action, policies.session)
        if step.verdict is not Verdict.ALLOWED:
            return decided(step)
        steps.append(step)
    return decided(steps.pop(), allowed=True)


def _scps(request: AccessRequest, policies: PolicySet) -> tuple[Level, ...]:
    """Return the service control policies that bind the caller.

    None bind the management account, services, or those whom an account lets in from outside: they are not its
    principals before they act in a role.
    """
    caller = request.caller
    if caller.kind in _OUTSIDE or caller.is_service_linked:
        return ()
    return () if caller.account in policies.management_accounts else policies.scps


def _rcps(request: AccessRequest, policies: PolicySet) -> tuple[Level, ...]:
    """Return the resource control policies that guard the resource."""
    if request.caller.is_service_linked or request.resource_account in policies.management_accounts:
        return ()
    return policies.rcps


def _sources(request: AccessRequest, policies: PolicySet) -> Iterator[_Source]:
    """Yield every policy that can deny, in the order in which a refusal names them."""
    for level in _scps(request, policies):
        for policy in level.policies:
            yield PolicyType.SCP, level.node, policy
    for level in _rcps(request, policies):
        for policy in level.policies:
            yield PolicyType.RCP, level.node, policy
    for policy in policies.resource:
        yield _resource_type(policies.resource), None, policy
    if request.caller.kind in _OUTSIDE:
        return
    for policy in policies.identity:
        yield PolicyType.IDENTITY, None, policy
    if policies.boundary is not None:
        yield PolicyType.BOUNDARY, None, policies.boundary
    for policy in policies.session or ():
        yield PolicyType.SESSION, None, policy


def _explicit_deny(request: AccessRequest, action: str, policies: PolicySet) -> Reason | None:
    for policy_type, node, policy in _sources(request, policies):
        for statement in policy.document.about(action)[0]:
            if _grade(statement, request) is not Grade.NOT and statement.speaks_of(request.resource, request.values):
                return _reason(Verdict.EXPLICIT_DENY, policy_type, policy, statement, node)
    return None


def _grade(statement: Statement, request: AccessRequest) -> Grade:
    """Return how closely the statement names the caller; one without principals speaks of whoever has it."""
    if statement.principals is None:
        return Grade.ITSELF
    if statement.is_not_principal:
        return Grade.NOT if statement.principals.spares(request.caller) else Grade.ITSELF
    return statement.principals.grade(request.caller)


def _allowing(request: AccessRequest, action: str, policies: Iterable[Policy]) -> Iterator[_Found]:
    for policy in policies:
        for statement in policy.document.about(action)[1]:
            grade = _grade(statement, request)
            if grade is not Grade.NOT and statement.speaks_of(request.resource, request.values):
                yield _Found(policy, statement, grade)


def _allow_step(
    policy_type: PolicyType, request: AccessRequest, action: str, policies: Iterable[Policy], node: str | None = None
) -> Reason:
    found = next(_allowing(request, action, policies), None)
    if found is None:
        return Reason(Verdict.IMPLICIT_DENY, policy_type, node=node)
    return _reason(Verdict.ALLOWED, policy_type, found.policy, found.statement, node)


def _identity_step(request: AccessRequest, action: str, policies: PolicySet) -> Reason:
    if request.caller.kind is CallerKind.ROOT:
        return Reason(Verdict.ALLOWED, PolicyType.IDENTITY)
    return _allow_step(PolicyType.IDENTITY, request, action, policies.identity)


def _best_grant(request: AccessRequest, action: str, policies: Iterable[Policy]) -> _Found | None:
    """Return the allowing statement that names the caller most closely."""
    best: _Found | None = None
    for found in _allowing(request, action, policies):
        if found.grade is Grade.ITSELF:
            return found
        if best is None or found.grade > best.grade:
            best = found
    return best


def _grant_reason(policy_type: PolicyType, granted: _Found | None) -> Reason:
    if granted is None:
        return Reason(Verdict.IMPLICIT_DENY, policy_type)
    return _reason(Verdict.ALLOWED, policy_type, granted.policy, granted.statement, None)


def _reason(
    verdict: Verdict, policy_type: PolicyType, policy: Policy, statement: Statement, node: str | None
) -> Reason:
    return Reason(verdict, policy_type, policy.name, node, statement.number, statement.sid or None)


def _resource_type(policies: tuple[Policy, ...]) -> PolicyType:
    is_trust = bool(policies) and policies[0].document.kind is DocumentKind.TRUST
    return PolicyType.TRUST if is_trust else PolicyType.RESOURCE
