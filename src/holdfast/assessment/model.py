"""One pure function that answers the questions: what runs for a resource, by which rule, and what will stop it.

The scheduler, readiness, coverage and what-if all ask this function, on the present, a draft or the past. A blocker
never keeps a job from being made: the job is made and fails with the blocker's words, as in AWS Backup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from holdfast.plan.model.plan import Plan, PlanSelection, Rule
from holdfast.plan.model.selection import ResourceClass, selects


@dataclass(frozen=True, slots=True)
class Resource:
    """One registered resource."""

    arn: str
    resource_class: ResourceClass


class BlockerCode(StrEnum):
    """Why a backup will not succeed, or will not run."""

    VAULT_MISSING = "VAULT_MISSING"
    ROLE_UNUSABLE = "ROLE_UNUSABLE"
    OPTED_OUT = "OPTED_OUT"


@dataclass(frozen=True, slots=True)
class Blocker:
    """A missing link, in words that tell what to do."""

    code: BlockerCode
    sentence: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is in one account and region besides its plans and resources."""

    account: str
    region: str
    vaults: frozenset[str]
    """Names of the vaults there."""
    unusable_roles: Mapping[str, str] = field(default_factory=dict)
    """Roles that plans name but that backup jobs cannot act as, and why."""
    opted_out: frozenset[str] = frozenset()
    """Resource types that are switched off for the organization's plans."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One rule that takes a resource, through one selection."""

    plan: Plan
    rule: Rule
    selection: PlanSelection
    clause: str
    """The clause of the selection that decided."""
    blockers: tuple[Blocker, ...]


@dataclass(frozen=True, slots=True)
class ResourceAssessment:
    """Everything that holds for one resource."""

    resource: Resource
    applied: tuple[Applied, ...]
    passed_over: tuple[tuple[str, str, str], ...]
    """Plan, selection and clause of each selection that does not take it."""


def assess(plans: Sequence[Plan], resources: Sequence[Resource], facts: Facts) -> list[ResourceAssessment]:
    """Return, for each resource of one account and region, which rules take it and what stands in their way.

    Of several selections of one plan that take a resource, the first by name counts: a plan backs a resource up once
    per run.
    """
    return [_assess_one(plans, resource, facts) for resource in resources]


def _assess_one(plans: Sequence[Plan], resource: Resource, facts: Facts) -> ResourceAssessment:
    applied: list[Applied] = []
    passed_over: list[tuple[str, str, str]] = []
    for plan in plans:
        taken_by: tuple[PlanSelection, str] | None = None
        for selection in sorted(plan.selections, key=lambda selection: selection.name):
            verdict = selects(selection.selection, resource.resource_class, resource.arn)
            if not verdict.selected:
                passed_over.append((plan.name, selection.name, verdict.clause))
            elif taken_by is None:
                taken_by = (selection, verdict.clause)
        if taken_by is None:
            continue
        found, clause = taken_by
        applied.extend(
            Applied(plan, rule, found, clause, _blockers(rule, found, resource, facts)) for rule in plan.rules
        )
    return ResourceAssessment(resource, tuple(applied), tuple(passed_over))


def _blockers(rule: Rule, selection: PlanSelection, resource: Resource, facts: Facts) -> tuple[Blocker, ...]:
    found: list[Blocker] = []
    if resource.resource_class.type in facts.opted_out:
        sentence = (
            f"{resource.resource_class.type} is switched off for the organization's plans in {facts.region}; "
            "switch it on with UpdateRegionSettings in the management account"
        )
        found.append(Blocker(BlockerCode.OPTED_OUT, sentence))
    if rule.vault_name not in facts.vaults:
        sentence = (
            f"account {facts.account} has no backup vault {rule.vault_name} in {facts.region}; "
            "create it there, or name another in the policy"
        )
        found.append(Blocker(BlockerCode.VAULT_MISSING, sentence))
    if selection.role_arn in facts.unusable_roles:
        found.append(Blocker(BlockerCode.ROLE_UNUSABLE, facts.unusable_roles[selection.role_arn]))
    return tuple(found)
