"""Finding jobs of every kind across accounts and regions: what was asked for, as a list and as counts.

A search becomes one `JobFilter`: a unit becomes the paths at and below it (units never move, so the paths that job rows
copied stay true), a policy the documents it has had a part in and the plans it names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import NotFoundError
from holdfast.database.values import from_json, stamp
from holdfast.job.listing import JobFilter
from holdfast.job.model import Category, Job, Kind, State
from holdfast.job.store import find
from holdfast.monitor.counting import DAY, Count, CountFilter, count_jobs
from holdfast.monitor.service import EVERY_ACCOUNT, NoSuchViewError, View, view_of, watched_by

_BELOW = text("""
    SELECT below.path FROM unit AS top
      JOIN unit AS below ON below.organization_id = top.organization_id
                        AND substr(below.path, 1, length(top.path)) = top.path
     WHERE top.organization_id = :organization AND top.id = :unit
     ORDER BY below.path""")
_VERSIONS = text("SELECT content FROM policy_version WHERE organization_id = :organization AND policy_id = :policy")
_DOCUMENTS = text("""
    SELECT DISTINCT evaluation.document_id FROM chain
      JOIN chain_evaluation AS evaluation ON evaluation.chain_id = chain.id
     WHERE chain.organization_id = :organization AND evaluation.policy_versions LIKE :needle
       AND evaluation.document_id IS NOT NULL""")
_REGIONS = """
    SELECT region FROM job_count WHERE level = :level AND {whose}
     UNION
    SELECT region FROM job_count_delta WHERE {whose}"""
_PLACED = text("""
    SELECT DISTINCT account_id FROM placement WHERE organization_id = :organization AND path IN :paths LIMIT :limit""")
_PLACED = _PLACED.bindparams(sa.bindparam("paths", expanding=True))
_FEW: Final = 60
"""The jobs of so many accounts are put together from the accounts' own lists; of more, the whole list has enough."""

_FAR: Final = 2**40
"""A day that nothing is made after."""


class UnitNotFoundError(NotFoundError):
    """The organization has no such unit, and never had one."""


class PolicyNotFoundError(NotFoundError):
    """The organization has no such policy, and never had one."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is asked for; what is None or empty does not matter."""

    account: str | None = None
    unit_id: str | None = None
    kinds: tuple[Kind, ...] = ()
    regions: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    resource_type: str | None = None
    resource_arn: str | None = None
    plan_name: str | None = None
    policy_id: str | None = None
    vault_name: str | None = None
    vault_arn: str | None = None
    recovery_point_arn: str | None = None
    parent_id: str | None = None
    category: Category | None = None
    message: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    completed_after: datetime | None = None
    completed_before: datetime | None = None


def view_for(tx: sa.Connection, caller: str, search: Search, *, now: datetime) -> View:
    """Return whose jobs are searched: everybody's, where the caller may see them and names nobody.

    Raises:
        NoSuchViewError: it names an account, a unit or a policy and may not see what others do.
    """
    if search.unit_id is not None or search.policy_id is not None:
        return replace(view_of(tx, caller, EVERY_ACCOUNT, now=now), account=search.account)
    if search.account is None and watched_by(tx, caller) is not None:
        try:
            return view_of(tx, caller, EVERY_ACCOUNT, now=now)
        except NoSuchViewError:
            return View(caller, None)  # nothing has ever been in the organization's view
    return view_of(tx, caller, search.account, now=now)


def job_in_view(tx: sa.Connection, view: View, job_id: str) -> Job | None:
    """Return the job with an id, in any case; None if the view has none."""
    job = find(tx, job_id) or find(tx, job_id.lower())
    return job if job is not None and view.shows(job) else None


def filter_for(tx: sa.Connection, view: View, search: Search) -> JobFilter | None:
    """Return the filter that a search in a view becomes; None if nothing can be found.

    Raises:
        UnitNotFoundError: there is no such unit.
        PolicyNotFoundError: there is no such policy.
    """
    regions = search.regions or _regions(tx, view)
    plan_names = () if search.plan_name is None else (search.plan_name, search.plan_name.lower())
    wanted = JobFilter(
        kinds=search.kinds or tuple(Kind),
        regions=regions,
        accounts=view.accounts,
        monitored_by=view.monitored_by,
        open_or_completed_after=view.visible_since,
        resource_arn=search.resource_arn,
        resource_type=search.resource_type,
        states=search.states,
        vault_name=search.vault_name,
        vault_arn=search.vault_arn,
        category=search.category,
        recovery_point_arn=search.recovery_point_arn,
        parent_id=search.parent_id,
        plan_names=tuple(dict.fromkeys(plan_names)),
        message=search.message,
        created_after=search.created_after,
        created_before=search.created_before,
        completed_after=search.completed_after,
        completed_before=search.completed_before,
    )
    if search.unit_id is not None:
        paths = paths_below(tx, view, search.unit_id)
        wanted = replace(wanted, unit_paths=paths)
        if not wanted.accounts:
            accounts = _accounts_in(tx, view, paths)
            wanted = replace(wanted, accounts=accounts if len(accounts) <= _FEW else ())
    if search.policy_id is not None:
        documents, plans = _made_with(tx, view, search.policy_id)
        plans = tuple(name for name in plans if not wanted.plan_names or name in wanted.plan_names)
        if not documents or not plans:
            return None
        wanted = replace(wanted, document_ids=documents, plan_names=plans)
    return wanted if regions else None


def counts_for(tx: sa.Connection, view: View, wanted: JobFilter) -> tuple[Count, ...] | None:
    """Return how many jobs of each kind and state fit, without looking at them; None where only a list can tell."""
    days = (wanted.created_after, wanted.created_before)
    listed_only = (
        *(wanted.resource_arn, wanted.vault_name, wanted.vault_arn, wanted.recovery_point_arn, wanted.parent_id),
        *(wanted.message, wanted.completed_after, wanted.completed_before, wanted.open_or_completed_after),
    )
    if any(each is not None for each in listed_only) or wanted.plan_names or wanted.document_ids:
        return None
    if any(at is not None and stamp(at) % DAY for at in days):
        return None
    found: list[Count] = []
    for kind in wanted.kinds:
        counted = CountFilter(
            kinds=(kind.value,),
            first_day=0 if wanted.created_after is None else stamp(wanted.created_after) // DAY,
            last_day=_FAR if wanted.created_before is None else stamp(wanted.created_before - timedelta(days=1)) // DAY,
            account=view.account,
            monitored_by=view.monitored_by,
            regions=wanted.regions,
            states=tuple(state.value for state in wanted.states),
            resource_type=wanted.resource_type,
            category=None if wanted.category is None else wanted.category.value,
            unit_paths=wanted.unit_paths,
        )
        rows = count_jobs(tx, counted, ("state",)).items
        found += [Count(row.count, {"kind": kind.value, **row.of}) for row in rows]
    return tuple(found)


def _regions(tx: sa.Connection, view: View) -> tuple[str, ...]:
    """Return the regions in which the view has jobs."""
    if view.account is not None:
        whose, given = "account = :account", {"account": view.account, "level": "account"}
    else:
        whose, given = "monitored_by = :organization", {"organization": str(view.monitored_by), "level": "organization"}
    return tuple(sorted(tx.execute(text(_REGIONS.format(whose=whose)), given).scalars()))


def paths_below(tx: sa.Connection, view: View, unit_id: str) -> tuple[str, ...]:
    """Return the paths of a unit of the organization that is looked at, and of all below it.

    Raises:
        UnitNotFoundError: there is no such unit.
    """
    paths = tuple(tx.execute(_BELOW, {"organization": view.monitored_by, "unit": unit_id}).scalars())
    if not paths:
        raise UnitNotFoundError(f"the organization has no unit {unit_id}")
    return paths


def _accounts_in(tx: sa.Connection, view: View, paths: tuple[str, ...]) -> tuple[str, ...]:
    """Return accounts that have stood at one of these paths, up to one more than few."""
    found = tx.execute(_PLACED, {"organization": view.monitored_by, "paths": list(paths), "limit": _FEW + 1}).scalars()
    return tuple(sorted(found))


def _made_with(tx: sa.Connection, view: View, policy_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the documents that a policy has had a part in, and the plans that any version of it names."""
    contents = list(tx.execute(_VERSIONS, {"organization": view.monitored_by, "policy": policy_id}).scalars())
    if not contents:
        raise PolicyNotFoundError(f"the organization has no policy {policy_id}")
    needle = {"organization": view.monitored_by, "needle": f'%"{policy_id}"%'}
    documents = tuple(sorted(tx.execute(_DOCUMENTS, needle).scalars()))
    return documents, tuple(sorted({name.lower() for content in contents for name in _plans(content)}))


def _plans(content: str) -> Iterable[str]:
    plans = from_json(content).get("plans", {})
    return [name for name in plans if not name.startswith("@@")]
