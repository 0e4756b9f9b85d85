"""What the table of operations is written in: scenes, checks and rules."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from holdfast.access.model import Caller
from holdfast.access.model.request import Policy
from holdfast.wire.call import Instance

_MOST_REMEMBERED = 20_000
_TAG_MEMBERS: Final = (
    "Tags",
    "BackupVaultTags",
    "BackupPlanTags",
    "RecoveryPointTags",
    "FrameworkTags",
    "ReportPlanTags",
    "TieringConfigurationTags",
)

Parameters = Mapping[str, Any]
Value = str | bool | int | datetime | Iterable[str] | None


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a request happens: what the table needs to name the resources it is about."""

    tx: sa.Connection
    caller: Caller
    region: str
    partition: str
    instance: Instance
    memory: dict[tuple[str, ...], Any] = field(default_factory=dict)
    """What may be remembered until the access version rises."""

    def remember(self, key: tuple[str, ...], value: Any) -> None:
        """Keep a value until the access version rises."""
        if len(self.memory) >= _MOST_REMEMBERED:
            self.memory.clear()
        self.memory[key] = value

    @property
    def account(self) -> str:
        """The caller's account."""
        return self.caller.account

    def arn(self, service: str, resource: str, *, account: str | None = None, region: str | None = None) -> str:
        """Return the ARN of a resource of the caller's account in the request's region, unless told otherwise."""
        where = self.region if region is None else region
        return f"arn:{self.partition}:{service}:{where}:{self.account if account is None else account}:{resource}"

    def global_arn(self, service: str, resource: str, *, account: str | None = None) -> str:
        """Return the ARN of a resource that is in no region."""
        return self.arn(service, resource, account=account, region="")


@dataclass(frozen=True, slots=True)
class Check:
    """One question that must be answered with yes: may the caller do this action on that resource?"""

    action: str
    resource: str = "*"
    owner: str | None = None
    """The account that owns the resource; None means the caller's."""
    values: Mapping[str, Value] = field(default_factory=dict)
    """Condition keys of this action beyond those that every request has."""
    policy: Policy | None = None
    """The resource's own policy."""
    policy_decides: bool = False
    """Whether the resource's own policy must allow, even within its account."""
    foreign_only: frozenset[str] = frozenset()
    """Actions that the resource's policy may give to other accounts; empty means any."""
    is_free: bool = False
    """Whether it needs no leave, though it can be denied."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table: what an operation asks for."""

    checks: Callable[[Scene, Parameters], list[Check]]
    changing: bool = True
    """Whether the operation may write, so that it runs in a writing transaction and is recorded."""


def reading(checks: Callable[[Scene, Parameters], list[Check]]) -> Rule:
    """Return the rule of an operation that only reads."""
    return Rule(checks, changing=False)


def on_everything(action: str, **values: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return checks of an action that names no resource; `values` are condition keys and the members they come from."""

    def checks(_scene: Scene, parameters: Parameters) -> list[Check]:
        given = {key.replace("__", ":"): parameters.get(member) for key, member in values.items()}
        return [Check(action, values=given)]

    return checks


def arn_account(arn: str) -> str | None:
    """Return the account that an ARN names, None when it names none."""
    parts = arn.split(":", 5)
    return parts[4] or None if len(parts) > 4 else None  # noqa: PLR2004 - the fifth part of an ARN


def listed(value: Any) -> list[Any]:
    """Return a list member, which may be absent."""
    return list(value or ())


def request_tags(parameters: Parameters) -> dict[str, str]:
    """Return the tags that a request brings, in whichever of the services' shapes."""
    tags: dict[str, str] = {}
    for member in _TAG_MEMBERS:
        given = parameters.get(member)
        if isinstance(given, Mapping):
            tags |= {str(key): str(value) for key, value in given.items()}
        elif isinstance(given, list):
            for each in given:
                if isinstance(each, Mapping):
                    key = each.get("Key", each.get("TagKey"))
                    if isinstance(key, str):
                        tags[key] = str(each.get("Value", each.get("TagValue", "")))
    return tags


def tagging(rule: Rule, action: str) -> Rule:
    """Return a rule that asks for a tagging action too, on the same resource, when the request brings tags.

    Who may make a thing may not therefore tag it: tags open what policies give by them.
    """

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        found = rule.checks(scene, parameters)
        if request_tags(parameters):
            found.append(replace(found[0], action=action))
        return found

    return replace(rule, checks=checks)
