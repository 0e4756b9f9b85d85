"""The plans of an account: those that it makes itself are kept; those of the organization's policies are derived."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa

from holdfast.access.backup_role import missing_rights
from holdfast.access.tag import check_tags, clear_tags, put_tags
from holdfast.core.arn import partition_of
from holdfast.core.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidStateError,
    LimitExceededError,
    NotFoundError,
)
from holdfast.core.ids import new_uuid
from holdfast.core.paging import Page, page_of
from holdfast.database.values import from_json
from holdfast.plan import store
from holdfast.plan.event import PlanState, note_change
from holdfast.plan.model.assignment import MOST_SELECTIONS, InvalidSelectionError, refuse_bad_selection
from holdfast.plan.model.body import InvalidPlanError, PlanBody, refuse_bad_body, with_rule_ids
from holdfast.plan.model.derive import derive_plans
from holdfast.plan.model.plan import ORGANIZATION_PREFIX, Plan, PlanSelection, plan_arn, version_id
from holdfast.plan.model.selection import Selection
from holdfast.plan.store import OwnPlan

MOST_PLANS: Final = 300
"""In one account and region (AWS Backup Developer Guide, "AWS Backup quotas")."""
MOST_VERSIONS: Final = 2_000
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.\-]{1,50}")


class PlanNotFoundError(NotFoundError):
    """There is no such plan in this account and region."""


class SelectionNotFoundError(NotFoundError):
    """The plan has no such selection."""


class OrganizationPlanError(InvalidInputError):
    """A plan that comes from the organization's policies cannot be changed in the account."""


class PresentError(AlreadyExistsError):
    """What should be made is there already, made by this request or by another."""

    def __init__(self, message: str, *, arn: str, creator_request_id: str) -> None:
        super().__init__(message)
        self.arn = arn
        self.creator_request_id = creator_request_id


class PlanExistsError(PresentError):
    """The account has the same plan in this region."""


class SelectionExistsError(PresentError):
    """The plan has a selection of this name."""


class PlanLimitError(LimitExceededError):
    """The account has as many plans, or a plan as many selections, as it may."""


class PlanInUseError(InvalidStateError):
    """A plan has selections still."""


class UnusableRoleError(InvalidInputError):
    """The backup service cannot act as a role, or may not look for resources as it."""


class NoSuchSelectionError(InvalidInputError):
    """A selection that is to be deleted is not there."""


@dataclass(frozen=True, slots=True)
class DatedPlan:
    """One version of a plan, and when it held."""

    plan: Plan
    created_at: datetime
    """Since when there is the plan."""
    since: datetime
    """Since when it is as this version says."""
    until: datetime | None = None
    """Until when it was so; None: it still is."""
    deleted_at: datetime | None = None
    """Since when there is no such plan any more."""
    creator_request_id: str | None = None
    last_run_at: datetime | None = None


def create_plan(
    tx: sa.Connection,
    account: str,
    region: str,
    body: PlanBody,
    *,
    tags: Mapping[str, str] | None = None,
    creator_request_id: str | None = None,
    now: datetime,
) -> DatedPlan:
    """Make a plan; a request that made it already gets it once more.

    Raises:
        InvalidPlanError: it cannot be as it was given.
        InvalidTagError, LimitExceededError: the tags can't be.
        PlanExistsError: there is one that says the same, or the same request made another.
        PlanLimitError: the account has 300 plans in the region.
    """
    refuse_bad_body(body)
    _refuse_bad_request_id(creator_request_id)
    checked = check_tags((tags or {}).items())
    request = creator_request_id or new_uuid()
    present = store.find_own_plan_of_request(tx, account, region, request)
    if present is not None and present.body.hash == body.hash:
        return _dated(present)
    present = present or store.find_same_plan(tx, account, region, body)
    if present is not None:
        raise _exists(present)
    if store.number_of_own_plans(tx, account, region) >= MOST_PLANS:
        raise PlanLimitError(f"account {account} has {MOST_PLANS} backup plans in {region} already, the most allowed")
    plan_id = new_uuid()
    if not store.add_own_plan(tx, plan_id, account, region, creator_request_id=request, now=now):
        # The same request came twice at once, and the other one was first.
        return create_plan(tx, account, region, body, tags=tags, creator_request_id=request, now=now)
    version = version_id(new_uuid())
    store.add_own_version(tx, plan_id, version_id=version, number=1, body=with_rule_ids(body), now=now)
    put_tags(tx, account, region, plan_arn(partition_of(region), region, account, plan_id), checked)
    made = get_plan(tx, account, region, plan_id, now=now)
    note_change(tx, PlanState.CREATED, made.plan, account=account, region=region, at=now)
    return made


def update_plan(
    tx: sa.Connection, account: str, region: str, plan_id: str, body: PlanBody, *, now: datetime
) -> DatedPlan:
    """Let a plan say something else from now on; return its new version. Earlier versions can still be read.

    Raises:
        OrganizationPlanError: the organization made it.
        PlanNotFoundError: there is none, or it is deleted.
        InvalidPlanError: it cannot be as it was given, or has 2,000 versions.
    """
    found = changeable(tx, account, region, plan_id, "Backup plan cannot be updated")
    refuse_bad_body(body)
    if found.number >= MOST_VERSIONS:
        raise InvalidPlanError(f"Backup plan {plan_id} has {MOST_VERSIONS} versions already, the most allowed")
    store.add_own_version(
        tx,
        plan_id,
        version_id=version_id(new_uuid()),
        number=found.number + 1,
        body=with_rule_ids(body, found.body),
        now=now,
    )
    changed = get_plan(tx, account, region, plan_id, now=now)
    note_change(tx, PlanState.MODIFIED, changed.plan, account=account, region=region, at=now)
    return changed


def delete_plan(tx: sa.Connection, account: str, region: str, plan_id: str, *, now: datetime) -> DatedPlan:
    """Delete a plan; its versions can still be read, its recovery points stay.

    Raises:
        OrganizationPlanError: the organization made it.
        PlanNotFoundError: there is none, or it is deleted.
        PlanInUseError: it has selections.
    """
    found = changeable(tx, account, region, plan_id, "Backup plan cannot be deleted")
    if store.list_own_selections(tx, plan_id):
        raise PlanInUseError("Related backup plan selections must be deleted prior to backup plan deletion")
    store.delete_own_plan(tx, plan_id, now=now)
    dated = _dated(replace(found, deleted_at=now, ends_at=now))
    clear_tags(tx, account, region, dated.plan.arn)
    note_change(tx, PlanState.DELETED, dated.plan, account=account, region=region, at=now)
    return dated


def changeable(tx: sa.Connection, account: str, region: str, plan_id: str, sentence: str) -> OwnPlan:
    """Return a plan that the account may change, and that nobody else changes meanwhile.

    The sentences of the refusals are AWS Backup's own.

    Raises:
        OrganizationPlanError: the organization made it.
        PlanNotFoundError: there is none, or it is deleted.
    """
    if plan_id.startswith(ORGANIZATION_PREFIX):
        raise OrganizationPlanError(f"{sentence} for backup plan {plan_id} created by organizations")
    store.lock_own_plan(tx, account, region, plan_id)
    found = store.find_own_plan(tx, account, region, plan_id)
    if found is None or found.deleted_at is not None:
        raise PlanNotFoundError(f"Cannot find Backup plan with ID {plan_id}")
    return found


def list_plans(
    tx: sa.Connection,
    account: str,
    region: str,
    *,
    deleted: bool = False,
    after: str = "",
    limit: int,
    now: datetime,
) -> Page[DatedPlan]:
    """Return plans of an account in a region by id, on request also deleted ones as they were last."""
    own = store.list_own_plans(tx, account, region, deleted=deleted, after=after, limit=limit + 1)
    found = [_dated(plan) for plan in own]
    if len(found) <= limit:
        derived = _last_versions(_organizations_versions(tx, account, region, now))
        found += [
            dated
            for plan_id, dated in sorted(derived.items())
            if plan_id > after and (deleted or dated.deleted_at is None)
        ]
    return page_of(found, limit, lambda dated: dated.plan.id)


def list_versions(
    tx: sa.Connection, account: str, region: str, plan_id: str, *, before: int | None = None, limit: int, now: datetime
) -> Page[DatedPlan]:
    """Return the versions of a plan, deleted or not, the latest first, from below the one of a number on.

    Raises:
        PlanNotFoundError: there is no such plan.
    """
    numbered: list[tuple[int, DatedPlan]]
    if plan_id.startswith(ORGANIZATION_PREFIX):
        versions = [each for each in _organizations_versions(tx, account, region, now) if each.plan.id == plan_id]
        numbered = list(enumerate(versions, start=1))[: None if before is None else before - 1][::-1]
    else:
        top = MOST_VERSIONS + 1 if before is None else before
        own = store.list_own_versions(tx, account, region, plan_id, before=top, limit=limit + 1)
        numbered = [(version.number, _dated(version)) for version in own]
    if not numbered and before is None:
        raise PlanNotFoundError(f"Cannot find Backup plan with ID {plan_id}")
    page = page_of(numbered, limit, lambda each: each[0])
    return Page(tuple(dated for _, dated in page.items), page.position)


def get_plan(
    tx: sa.Connection, account: str, region: str, plan_id: str, *, version_id: str | None = None, now: datetime
) -> DatedPlan:
    """Return a version of a plan, deleted or not, the latest without one; of a plan of its own with today's selections.

    Raises:
        PlanNotFoundError: this account has no such plan in this region, or the plan never had this version.
    """
    if plan_id.startswith(ORGANIZATION_PREFIX):
        versions = [each for each in _organizations_versions(tx, account, region, now) if each.plan.id == plan_id]
        found = next((each for each in versions[::-1] if version_id in {None, each.plan.version_id}), None)
    else:
        own = store.find_own_plan(tx, account, region, plan_id, version_id=version_id)
        found = None if own is None else _dated(own, tuple(store.list_own_selections(tx, own.id)))
    if found is None:
        version = "" if version_id is None else f" and version {version_id}"
        raise PlanNotFoundError(f"Cannot find Backup plan with ID {plan_id}{version}")
    return found


def get_selection(plan: Plan, selection_id: str) -> PlanSelection:
    """Return one selection of a plan.

    Raises:
        SelectionNotFoundError: the plan has none with this id.
    """
    for found in plan.selections:
        if found.id == selection_id:
            return found
    raise SelectionNotFoundError(f"Backup plan {plan.id} has no selection {selection_id}")


def create_selection(
    tx: sa.Connection,
    account: str,
    region: str,
    plan_id: str,
    *,
    name: str,
    role_arn: str,
    selection: Selection,
    creator_request_id: str | None = None,
    now: datetime,
) -> PlanSelection:
    """Let a plan take resources, what `selection` says being kept already; the same request makes it only once.

    Raises:
        OrganizationPlanError: the organization made the plan.
        InvalidSelectionError: there is no such plan, or the selection cannot be as it was given.
        UnusableRoleError: jobs could not act as the role.
        SelectionExistsError: the plan has another selection of this name.
        PlanLimitError: the plan has 100 selections.
    """
    try:
        plan = changeable(tx, account, region, plan_id, "Cannot create selection")
    except PlanNotFoundError as error:
        raise InvalidSelectionError(str(error)) from error
    refuse_bad_selection(selection)
    _refuse_bad_request_id(creator_request_id)
    wanted = PlanSelection(
        id=new_uuid(),
        name=name,
        role_arn=role_arn,
        selection=selection,
        created_at=now,
        creator_request_id=creator_request_id or new_uuid(),
    )
    present = store.list_own_selections(tx, plan.id)
    for found in present:
        if replace(found, id=wanted.id, created_at=now) == wanted:
            return found
        if found.name == name or found.creator_request_id == wanted.creator_request_id:
            raise _selection_exists(plan, found)
    if len(present) >= MOST_SELECTIONS:
        raise PlanLimitError(f"backup plan {plan_id} has {MOST_SELECTIONS} selections already, the most allowed")
    _refuse_unusable_role(tx, account, role_arn)
    if not store.add_own_selection(tx, plan.id, wanted, now=now):
        raise _selection_exists(plan, wanted)  # another request was faster
    return wanted


def delete_selection(tx: sa.Connection, account: str, region: str, plan_id: str, selection_id: str) -> None:
    """Take a selection from a plan.

    Raises:
        OrganizationPlanError: the organization made the plan.
        PlanNotFoundError: there is no such plan.
        NoSuchSelectionError: the plan has none with this id.
    """
    plan = changeable(tx, account, region, plan_id, "Cannot delete selection")
    if not store.delete_own_selection(tx, plan.id, selection_id):
        raise NoSuchSelectionError(f"Cannot find backup selection with ID {selection_id} in backup plan {plan_id}")


def list_selections(plan: Plan, *, after: str, limit: int) -> Page[PlanSelection]:
    """Return selections of a plan by id."""
    found = sorted((each for each in plan.selections if each.id > after), key=lambda each: each.id)
    return page_of(found[: limit + 1], limit, lambda each: each.id)


def _refuse_unusable_role(tx: sa.Connection, account: str, role_arn: str) -> None:
    # Clients look for these words of AWS Backup, and try again when a role is very new.
    for why in missing_rights(tx, role_arn, (), account):
        raise UnusableRoleError(f"IAM Role {role_arn} cannot be assumed by AWS Backup. {why}")
    for why in missing_rights(tx, role_arn, [("tag:GetResources", "*")], account):
        raise UnusableRoleError(f"IAM Role {role_arn} is not authorized to call tag:GetResources. {why}")


def _refuse_bad_request_id(request_id: str | None) -> None:
    if request_id is not None and not _REQUEST_ID.fullmatch(request_id):
        raise InvalidPlanError("CreatorRequestId must be 1 to 50 letters, digits, '-', '_' and '.'")


def _selection_exists(plan: OwnPlan, present: PlanSelection) -> SelectionExistsError:
    return SelectionExistsError(
        f"Backup selection {present.name} already exists in backup plan {plan.id}: {present.id}",
        arn=_arn(plan),
        creator_request_id=present.creator_request_id or "",
    )


def own_plan_at(tx: sa.Connection, account: str, region: str, arn: str) -> OwnPlan | None:
    """Return the plan with this ARN that the account made and did not delete, None when there is none."""
    plan_id = arn.partition(":backup-plan:")[2]
    found = store.find_own_plan(tx, account, region, plan_id) if plan_id else None
    return found if found is not None and found.deleted_at is None and _arn(found) == arn else None


def organization_plan_at(tx: sa.Connection, account: str, region: str, arn: str, *, now: datetime) -> Plan | None:
    """Return the plan with this ARN that the organization's policies make for an account, None when there is none."""
    plan_id = arn.partition(":backup-plan:")[2]
    if not plan_id.startswith(ORGANIZATION_PREFIX):
        return None
    present = _last_versions(_organizations_versions(tx, account, region, now)).get(plan_id)
    return present.plan if present is not None and present.deleted_at is None and present.plan.arn == arn else None


def _arn(own: OwnPlan) -> str:
    return plan_arn(partition_of(own.region), own.region, own.account, own.id)


def _dated(own: OwnPlan, selections: tuple[PlanSelection, ...] = ()) -> DatedPlan:
    plan = Plan(
        id=own.id,
        arn=_arn(own),
        name=own.body.name,
        version_id=own.version_id,
        rules=own.body.rules,
        selections=selections,
        advanced_settings=own.body.advanced_settings,
    )
    return DatedPlan(
        plan,
        created_at=own.created_at,
        since=own.starts_at,
        until=own.ends_at,
        deleted_at=own.deleted_at,
        creator_request_id=own.creator_request_id,
        last_run_at=own.last_run_at,
    )


def _exists(present: OwnPlan) -> PlanExistsError:
    return PlanExistsError(
        f"Backup plan with the same plan document already exists: {present.id}",
        arn=_arn(present),
        creator_request_id=present.creator_request_id,
    )


def _organizations_versions(tx: sa.Connection, account: str, region: str, now: datetime) -> list[DatedPlan]:
    """Return every version of every plan that policies made for an account in a region, the oldest first.

    A plan that went away and came again is one plan, created when it was first there.
    """
    versions: list[DatedPlan] = []
    present: dict[str, int] = {}  # by plan, where its open version stands in `versions`
    created: dict[str, datetime] = {}
    for held in store.document_history(tx, account, now=now):
        plans: tuple[Plan, ...] = ()
        if held.content is not None and held.organization_id is not None:
            plans = _derived(held.content, held.organization_id, account, region)
        for plan_id in present.keys() - {plan.id for plan in plans}:
            place = present.pop(plan_id)
            versions[place] = replace(versions[place], until=held.since, deleted_at=held.since)
        for plan in plans:
            place = present.get(plan.id, -1)
            if place >= 0 and versions[place].plan.version_id == plan.version_id:
                continue
            if place >= 0:
                versions[place] = replace(versions[place], until=held.since)
            present[plan.id] = len(versions)
            versions.append(DatedPlan(plan, created.setdefault(plan.id, held.since), held.since))
    return versions


def _last_versions(versions: list[DatedPlan]) -> dict[str, DatedPlan]:
    return {dated.plan.id: dated for dated in versions}


@lru_cache(maxsize=4096)
def _derived(content: str, organization_id: str, account: str, region: str) -> tuple[Plan, ...]:
    document: dict[str, Any] = from_json(content)
    return tuple(derive_plans(document, organization_id=organization_id, account=account, region=region))
