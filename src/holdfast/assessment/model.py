"""One pure function that answers the questions: what runs for a resource, by which rule, and what will stop it.

The scheduler, readiness, coverage and what-if all ask this function, on the present, a draft or the past. A blocker
never keeps a job from being made: the job is made and fails with the blocker's words, as in AWS Backup. A type that is
switched off in the region does: no job is made for what a selection takes by tags or as one of all, only for what it
names.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from holdfast.plan.model.plan import Plan, PlanSelection, Rule
from holdfast.plan.model.selection import ResourceClass, Selection, Unmet, Verdict, selects, unmet

_SWITCHED_OFF: Final = (
    "{type} is switched off in {region}; switch it on with UpdateRegionSettings, or name the resource by its ARN"
)
_SWITCHED_OFF_FOR_ALL: Final = (
    "{type} is switched off for the organization's plans in {region}; switch it on with UpdateRegionSettings in the "
    "management account, or name the type in the policy"
)


@dataclass(frozen=True, slots=True)
class Resource:
    """One registered resource."""

    arn: str
    resource_class: ResourceClass


@dataclass(frozen=True, slots=True)
class Judged:
    """Whether a selection takes a resource where it is, and everything that keeps it from doing so."""

    resource: Resource
    verdict: Verdict
    unmet: tuple[Unmet, ...]

    @property
    def is_near(self) -> bool:
        """Whether one thing alone keeps the selection from taking it, of which it has something else."""
        return len(self.unmet) == 1 and not self.unmet[0].is_far


def judge(selection: Selection, resource: Resource, *, switched_off: Container[str], organizational: bool) -> Judged:
    """Judge a resource by a selection and by the types that are switched off for its plan.

    Rule: AWS Backup Developer Guide, "Service opt-in".
    """
    kind, region = resource.resource_class.type, resource.resource_class.region
    verdict = selects(selection, resource.resource_class, resource.arn)
    missing = () if verdict.selected else tuple(unmet(selection, resource.resource_class, resource.arn))
    if verdict.selected and not verdict.regardless and kind in switched_off:
        sentence = (_SWITCHED_OFF_FOR_ALL if organizational else _SWITCHED_OFF).format(type=kind, region=region)
        verdict = Verdict(selected=False, clause=sentence)
        missing = (Unmet(sentence, "off"),)
    return Judged(resource, verdict, missing)


class BlockerCode(StrEnum):
    """Why a backup will not succeed."""

    VAULT_MISSING = "VAULT_MISSING"
    ROLE_UNUSABLE = "ROLE_UNUSABLE"


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
    """Resource types that the account has switched off in the region, for plans of its own."""
    opted_out_by_management: frozenset[str] = frozenset()
    """Those that the management account has switched off there, for the organization's plans."""

    def judge(self, plan: Plan, selection: Selection, resource: Resource) -> Verdict:
        """Return whether a selection of a plan takes a resource here, with the clause or the setting that decided.

        Rule: AWS Backup Developer Guide, "Service opt-in"; for the organization's plans the management account's
        setting counts, whatever the member's is.
        """
        off = self.opted_out_by_management if plan.is_organizational else self.opted_out
        return judge(selection, resource, switched_off=off, organizational=plan.is_organizational).verdict


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
    """Plan, selection, and the clause or setting that decided, of each selection that does not take it."""


def assess(plans: Sequence[Plan], resources: Sequence[Resource], facts: Facts) -> list[ResourceAssessment]:
    """Return, for each resource of one account and region, which rules take it and what stands in their way.

    Of several selections of one plan that take a resource, the first one counts: a plan backs a resource up once per
    run.
    """
    return [_assess_one(plans, resource, facts) for resource in resources]


def _assess_one(plans: Sequence[Plan], resource: Resource, facts: Facts) -> ResourceAssessment:
    applied: list[Applied] = []
    passed_over: list[tuple[str, str, str]] = []
    for plan in plans:
        taken_by: tuple[PlanSelection, str] | None = None
        for selection in plan.selections:
            verdict = facts.judge(plan, selection.selection, resource)
            if not verdict.selected:
                passed_over.append((plan.name, selection.name, verdict.clause))
            elif taken_by is None:
                taken_by = (selection, verdict.clause)
        if taken_by is None:
            continue
        found, clause = taken_by
        applied.extend(Applied(plan, rule, found, clause, _blockers(rule, found, facts)) for rule in plan.rules)
    return ResourceAssessment(resource, tuple(applied), tuple(passed_over))


def _blockers(rule: Rule, selection: PlanSelection, facts: Facts) -> tuple[Blocker, ...]:
    found: list[Blocker] = []
    if rule.vault_name not in facts.vaults:
        sentence = (
            f"account {facts.account} has no backup vault {rule.vault_name} in {facts.region}; "
            "create it there, or name another in the policy"
        )
        found.append(Blocker(BlockerCode.VAULT_MISSING, sentence))
    if selection.role_arn in facts.unusable_roles:
        found.append(Blocker(BlockerCode.ROLE_UNUSABLE, facts.unusable_roles[selection.role_arn]))
    return tuple(found)
