"""The plans of an account: those that the organization's policies make are derived when they are read."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import sqlalchemy as sa

from holdfast.core.errors import InvalidInputError, NotFoundError
from holdfast.database.values import from_json
from holdfast.plan.model.derive import derive_plans
from holdfast.plan.model.plan import ORGANIZATION_PREFIX, Plan, PlanSelection
from holdfast.plan.store import document_in_force


class PlanNotFoundError(NotFoundError):
    """There is no such plan in this account and region."""


class SelectionNotFoundError(NotFoundError):
    """The plan has no such selection."""


class OrganizationPlanError(InvalidInputError):
    """A plan that comes from the organization's policies cannot be changed in the account."""


@dataclass(frozen=True, slots=True)
class DatedPlan:
    """A plan, and since when it is as it is."""

    plan: Plan
    since: datetime
    document_id: str


def list_plans(tx: sa.Connection, account: str, region: str, *, now: datetime) -> list[DatedPlan]:
    """Return the plans of an account in a region, in the order of the effective policy."""
    found = document_in_force(tx, account, at=now)
    if found is None:
        return []
    plans = _derived(found.content, found.organization_id, account, region)
    return [DatedPlan(plan, found.since, found.id) for plan in plans]


def get_plan(
    tx: sa.Connection, account: str, region: str, plan_id: str, *, version_id: str | None = None, now: datetime
) -> DatedPlan:
    """Return one plan, as it is now.

    Raises:
        PlanNotFoundError: this account has none with this id in this region, or it has another version by now.
    """
    for found in list_plans(tx, account, region, now=now):
        if found.plan.id == plan_id and version_id in {None, found.plan.version_id}:
            return found
        if found.plan.id == plan_id:
            raise PlanNotFoundError(
                f"Backup plan {plan_id} has no version {version_id}; the present one is {found.plan.version_id}, and "
                "only that can be read"
            )
    raise PlanNotFoundError(f"Backup plan {plan_id} does not exist in account {account}, Region {region}")


def get_selection(plan: Plan, selection_id: str) -> PlanSelection:
    """Return one selection of a plan.

    Raises:
        SelectionNotFoundError: the plan has none with this id.
    """
    for found in plan.selections:
        if found.id == selection_id:
            return found
    raise SelectionNotFoundError(f"Backup plan {plan.id} has no selection {selection_id}")


def refuse_change(plan_id: str, sentence: str) -> NoReturn:
    """Refuse to change a plan; the sentences are AWS Backup's own.

    Raises:
        OrganizationPlanError: `plan_id` is that of a plan which comes from the organization.
        PlanNotFoundError: it is any other; accounts have no plans of their own.
    """
    if plan_id.startswith(ORGANIZATION_PREFIX):
        raise OrganizationPlanError(f"{sentence} for backup plan {plan_id} created by organizations")
    raise PlanNotFoundError(f"Cannot find Backup plan with ID {plan_id}")


@lru_cache(maxsize=4096)
def _derived(content: str, organization_id: str, account: str, region: str) -> tuple[Plan, ...]:
    document: dict[str, Any] = from_json(content)
    return tuple(derive_plans(document, organization_id=organization_id, account=account, region=region))
