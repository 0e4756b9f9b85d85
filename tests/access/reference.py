"""A slow evaluator, written from the rules as sentences, to hold the fast one against.

It works on the JSON of policies each time, knows only what the random policies of the tests use, and shares nothing
with the code under test but the values that go in.
"""

import fnmatch
from dataclasses import dataclass, field
from typing import Any

from holdfast.access.model import Caller, CallerKind

Statements = list[dict[str, Any]]


@dataclass
class Situation:
    """Everything that bears on one request, as plain JSON."""

    caller: Caller
    action: str
    resource: str
    owner: str
    region: str | None
    tag_keys: list[str] | None
    management: str
    identity: list[Statements] = field(default_factory=list)
    boundary: Statements | None = None
    session: Statements | None = None
    scps: list[list[Statements]] = field(default_factory=list)
    rcps: list[list[Statements]] = field(default_factory=list)
    resource_policy: Statements = field(default_factory=list)
    resource_policy_decides: bool = False


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


def _like(patterns: Any, text: str) -> bool:
    return any(fnmatch.fnmatchcase(text, pattern) for pattern in _listed(patterns))


def _applies(s: Situation, statement: dict[str, Any]) -> bool:
    action, resource = s.action.lower(), s.resource
    if "Action" in statement and not _like([a.lower() for a in _listed(statement["Action"])], action):
        return False
    if "NotAction" in statement and _like([a.lower() for a in _listed(statement["NotAction"])], action):
        return False
    if "Resource" in statement and not _like(statement["Resource"], resource):
        return False
    if "NotResource" in statement and _like(statement["NotResource"], resource):
        return False
    for operator, keys in statement.get("Condition", {}).items():
        ((key, wanted),) = keys.items()
        values = _values(s, key)
        fits = [value for value in values if _like(wanted, value)]
        answers = {
            "StringEquals": bool(fits),
            "StringNotEquals": not fits,
            "StringEqualsIfExists": not values or bool(fits),
            "ForAnyValue:StringLike": bool(fits),
            "ForAllValues:StringEquals": len(fits) == len(values),
            "Null": (not values) is (wanted == "true"),
        }
        if not answers[operator]:
            return False
    return True


def _values(s: Situation, key: str) -> list[str]:
    """Return what the request says for a condition key."""
    tags = dict(s.caller.tags)
    return {
        "aws:RequestedRegion": [] if s.region is None else [s.region],
        "aws:PrincipalTag/team": [tags["team"]] if "team" in tags else [],
        "aws:TagKeys": s.tag_keys or [],
    }[key]


def _names(s: Situation, statement: dict[str, Any]) -> set[str]:
    """Return in which ways the statement speaks of the caller: it names them, or does not leave them out."""
    if "NotPrincipal" in statement:
        return set() if _spared(s, statement["NotPrincipal"]) else {"itself"}
    who, ways = statement["Principal"], set[str]()
    if who == "*":
        return {"everybody"}
    if s.caller.kind is CallerKind.SERVICE:
        return {"itself"} if s.caller.arn in _listed(who.get("Service", [])) else set()
    if s.caller.kind is CallerKind.FEDERATED:
        return {"itself"} if s.caller.federated_provider in _listed(who.get("Federated", [])) else set()
    for name in _listed(who.get("AWS", [])):
        if name == s.caller.account:
            ways.add("itself" if s.caller.kind is CallerKind.ROOT else "account")
        elif name == s.caller.arn:
            ways.add("itself")
        elif name == s.caller.principal_arn:
            ways.add("role")
    return ways


def _spared(s: Situation, who: dict[str, Any]) -> bool:
    """Return whether everything that stands for the caller is named: the account, the user or role, and the session."""
    if s.caller.kind is CallerKind.SERVICE:
        return s.caller.arn in _listed(who.get("Service", []))
    if s.caller.kind is CallerKind.FEDERATED:
        return s.caller.federated_provider in _listed(who.get("Federated", []))
    stand_for_them = {s.caller.account}
    if s.caller.kind is not CallerKind.ROOT:
        stand_for_them |= {s.caller.principal_arn, s.caller.arn}
    return stand_for_them <= set(_listed(who.get("AWS", [])))


def allowed(s: Situation) -> bool:
    """Return the answer that the rules give."""
    is_outside = s.caller.kind in {CallerKind.SERVICE, CallerKind.FEDERATED}
    own = [*s.identity, *([s.boundary] if s.boundary else []), *([s.session] if s.session else [])]
    if is_outside:
        own = []  # nobody here has given them anything; only the resource's own policy can
    bound_by_scp = s.caller.account != s.management and not s.caller.is_service_linked and not is_outside
    bound_by_rcp = s.owner != s.management and not s.caller.is_service_linked
    scps = s.scps if bound_by_scp else []
    rcps = s.rcps if bound_by_rcp else []
    # An explicit deny in any policy that bears on the request ends it.
    everything = [*own, *[p for level in scps for p in level], *[p for level in rcps for p in level]]
    if any(st["Effect"] == "Deny" and _applies(s, st) for policy in everything for st in policy):
        return False
    if any(st["Effect"] == "Deny" and _applies(s, st) and _names(s, st) for st in s.resource_policy):
        return False

    def allows(policy: Statements) -> bool:
        return any(st["Effect"] == "Allow" and _applies(s, st) for st in policy)

    # Each level of the organization must let it pass.
    if not all(any(allows(policy) for policy in level) for level in [*scps, *rcps]):
        return False
    ways: set[str] = set()
    for st in s.resource_policy:
        if st["Effect"] == "Allow" and _applies(s, st):
            ways |= _names(s, st)
    if s.caller.kind is CallerKind.FEDERATED:
        return "itself" in ways
    if s.caller.kind is CallerKind.SERVICE:
        return bool(ways)
    identity = s.caller.kind is CallerKind.ROOT or any(allows(policy) for policy in s.identity)
    bounded = (s.boundary is None or allows(s.boundary)) and (s.session is None or allows(s.session))
    if s.caller.account != s.owner:
        return bool(ways) and identity and bounded
    if "itself" in ways:
        return True
    if ways & {"role", "everybody"}:
        return bounded
    if s.resource_policy_decides and "account" not in ways:
        return False
    return identity and bounded
