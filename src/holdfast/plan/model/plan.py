"""Plans and their rules, as every later station sees them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from holdfast.core.ids import name_uuid
from holdfast.plan.model.selection import Selection

DEFAULT_SCHEDULE: Final = "cron(0 5 ? * * *)"
DEFAULT_TIMEZONE: Final = "Etc/UTC"
DEFAULT_START_WINDOW: Final = timedelta(minutes=480)
DEFAULT_COMPLETION_WINDOW: Final = timedelta(minutes=10_080)
LONGEST_WINDOW_MINUTES: Final = 52_560_000
"""A hundred years."""
ORGANIZATION_PREFIX: Final = "orgs/"
"""What the ids of plans begin with that come from an organization's policies."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """When a recovery point goes to cold storage and when it expires, in days from its creation; None is never."""

    cold_after_days: int | None = None
    delete_after_days: int | None = None
    archive: bool | None = None


@dataclass(frozen=True, slots=True)
class CopyAction:
    """A copy to make of each recovery point."""

    vault_arn: str
    lifecycle: Lifecycle = field(default_factory=Lifecycle)


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a plan: when, how long, and into which vault."""

    id: str
    name: str
    vault_name: str
    schedule: str = DEFAULT_SCHEDULE
    timezone: str = DEFAULT_TIMEZONE
    start_window: timedelta = DEFAULT_START_WINDOW
    completion_window: timedelta = DEFAULT_COMPLETION_WINDOW
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    recovery_point_tags: Mapping[str, str] = field(default_factory=dict)
    copies: tuple[CopyAction, ...] = ()
    continuous: bool = False
    index_types: tuple[str, ...] = ()
    air_gapped_vault_arn: str | None = None


@dataclass(frozen=True, slots=True)
class PlanSelection:
    """Which resources a plan takes, and the role that its jobs act as."""

    id: str
    name: str
    role_arn: str
    selection: Selection
    created_at: datetime | None = None
    """Of an account's own selection; one of a policy is as old as its plan."""
    creator_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of one account in one region."""

    id: str
    arn: str
    name: str
    version_id: str
    rules: tuple[Rule, ...]
    selections: tuple[PlanSelection, ...]
    """In the order in which they count where several take a resource."""
    advanced_settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_organizational(self) -> bool:
        """Whether it comes from the organization's policies, and so cannot be changed in the account."""
        return self.id.startswith(ORGANIZATION_PREFIX)


def plan_arn(partition: str, region: str, account: str, plan_id: str) -> str:
    """Return the ARN of a plan."""
    return f"arn:{partition}:backup:{region}:{account}:backup-plan:{plan_id}"


def version_id(uuid_text: str) -> str:
    """Return the id of a plan's version that belongs to a UUID: the base64 of its text, as AWS Backup's look."""
    return base64.b64encode(uuid_text.encode()).decode()


def organization_plan_id(organization_id: str, account: str, region: str, plan_name: str) -> str:
    """Return the id of a plan that policies make: the same for the same organization, account, region and plan name."""
    return ORGANIZATION_PREFIX + name_uuid("plan", organization_id, account, region, plan_name.lower())


def organization_rule_id(organization_id: str, account: str, region: str, plan_name: str, rule_name: str) -> str:
    """Return the id of a rule of such a plan."""
    return name_uuid("rule", organization_id, account, region, plan_name.lower(), rule_name.lower())


def organization_selection_id(
    organization_id: str, account: str, region: str, plan_name: str, kind: str, selection_name: str
) -> str:
    """Return the id of a selection of such a plan; `kind` is `tags` or `resources`."""
    return name_uuid("selection", organization_id, account, region, plan_name.lower(), kind, selection_name.lower())
