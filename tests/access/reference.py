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
        (wanted,) = keys.values()
        equal = s.region in _listed(wanted)
        answers = {
            "StringEquals": equal,
            "StringNotEquals": not equal,
            "StringEqualsIfExists": s.region is None or equal,
        }
        if not answers[operator]:
            return False
    return True


def _names(s: Situation, statement: dict[str, Any]) -> set[str]:
    """Return in which ways the statement's Principal names the caller."""
    who, ways = statement["Principal"], set()
    if who == "*":
        return {"everybody"}
    for name in _listed(who["AWS"]):
        if name == s.caller.account:
            ways.add("itself" if s.caller.kind is CallerKind.ROOT else "account")
        elif name == s.caller.arn:
            ways.add("itself")
        elif name == s.caller.principal_arn:
            ways.add("role")
    return ways


def allowed(s: Situation) -> bool:
    """Return the answer that the rules give."""
    own = [*s.identity, *([s.boundary] if s.boundary else []), *([s.session] if s.session else [])]
    bound_by_scp = s.caller.account != s.management and not s.caller.is_service_linked
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
