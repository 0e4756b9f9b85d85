"""Lists of jobs and their counts on the `backup` API, across accounts.

Filters and summaries: AWS Backup API Reference, "ListBackupJobs", "ListCopyJobs", "ListRestoreJobs" and the three
"List...JobSummaries". Whose jobs: `monitor.service`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdfast.core.errors import InvalidInputError
from holdfast.database.values import instant, stamp
from holdfast.job.listing import JobFilter, Position, list_jobs
from holdfast.job.model import Category, Job, Kind
from holdfast.monitor.counting import DAY, DIMENSIONS, Count, CountFilter, count_jobs
from holdfast.monitor.service import view_of, watched_by
from holdfast.wire.backup_copies import copy_job_to_wire
from holdfast.wire.backup_jobs import (
    STATE_NAMES,
    backup_job_to_wire,
    restore_job_to_wire,
    states_named,
)
from holdfast.wire.call import Call, Handler

_PAGE: Final = 1000
_PAGING: Final = frozenset({"NextToken", "MaxResults"})
_ALL: Final = "AGGREGATE_ALL"
_ANY: Final = "ANY"
_ANY_CATEGORY: Final = frozenset({"*", _ANY, _ALL})
_CATEGORIES: Final = {category.value.replace("_", ""): category for category in Category}
_FILTERS: Final = {
    "ByResourceArn": "resource_arn",
    "ByResourceType": "resource_type",
    "ByBackupVaultName": "vault_name",
    "ByDestinationVaultArn": "vault_arn",
    "BySourceRecoveryPointArn": "recovery_point_arn",
    "ByParentJobId": "parent_id",
    "ByCreatedBefore": "created_before",
    "ByCreatedAfter": "created_after",
    "ByCompleteBefore": "completed_before",
    "ByCompleteAfter": "completed_after",
}
"""Members of the requests whose value is taken as it is, and the filter's name for each."""

_DAYS: Final = {"ONE_DAY": 14, "SEVEN_DAYS": 7, "FOURTEEN_DAYS": 14}
_DIMENSION_MEMBERS: Final = {
    "account": "AccountId",
    "state": "State",
    "resource_type": "ResourceType",
    "category": "MessageCategory",
}


def list_backup_jobs(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List backup jobs, newest first: the caller's own, another account's, or the whole organization's."""
    return _listed(
        call, shape, Kind.BACKUP, "BackupJobs", lambda job: backup_job_to_wire(call, job), shape.get("ByState")
    )


def list_copy_jobs(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List copy jobs, newest first; each belongs to the account and region that it copies from."""
    return _listed(call, shape, Kind.COPY, "CopyJobs", lambda job: copy_job_to_wire(call, job), shape.get("ByState"))


def list_restore_jobs(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List restore jobs, newest first."""
    if "ByRestoreTestingPlanArn" in shape:
        return {"RestoreJobs": []}  # no restore here is a test's
    return _listed(call, shape, Kind.RESTORE, "RestoreJobs", restore_job_to_wire, shape.get("ByStatus"))


def list_restore_jobs_by_protected_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the caller's restores of one resource's recovery points, newest first."""
    return _listed(
        call,
        {**shape, "ByResourceArn": shape["ResourceArn"]},
        Kind.RESTORE,
        "RestoreJobs",
        restore_job_to_wire,
        shape.get("ByStatus"),
        point_created_after=shape.get("ByRecoveryPointCreationDateAfter"),
        point_created_before=shape.get("ByRecoveryPointCreationDateBefore"),
    )


def _listed(
    call: Call,
    shape: Mapping[str, Any],
    kind: Kind,
    name: str,
    to_wire: Callable[[Job], dict[str, Any]],
    state: str | None,
    **more: Any,
) -> dict[str, Any]:
    view = view_of(call.tx, call.caller.account, shape.get("ByAccountId"), now=call.now)
    states = () if state is None else states_named(kind, state)
    category = _category(shape.get("ByMessageCategory"))
    asked = {member: value for member, value in shape.items() if member not in _PAGING}
    position = call.page_position(asked, shape.get("NextToken"))
    if state is not None and not states:
        return {name: []}  # a state of AWS's that no job here is ever in
    filters = {column: shape[member] for member, column in _FILTERS.items() if member in shape}
    listed_for = call.instance.settings.jobs_listed_for
    if listed_for is not None:
        since = call.now - listed_for
        filters["created_after"] = max(filters.get("created_after", since), since)
    page = list_jobs(
        call.tx,
        JobFilter(
            kinds=(kind,),
            regions=(call.region,),
            accounts=view.accounts,
            monitored_by=view.monitored_by,
            open_or_completed_after=view.visible_since,
            states=states,
            category=category,
            **filters,
            **more,
        ),
        after=None if position is None else Position(instant(position[0]), position[1]),
        limit=shape.get("MaxResults", _PAGE),
    )
    following = None if page.after is None else [stamp(page.after.at), page.after.job_id]
    return {name: [to_wire(job) for job in page.jobs], "NextToken": call.page_token(asked, following)}


def _category(text: str | None) -> Category | None:
    """Return the category that a text spells, in any case and with or without underscores; None for any of them.

    Raises:
        InvalidInputError: there is no such category.
    """
    if text is None or text.upper() in _ANY_CATEGORY:
        return None
    found = _CATEGORIES.get(text.replace("_", "").upper())
    if found is None:
        raise InvalidInputError(
            f"{text} is no message category; there are {', '.join(category.value for category in Category)}"
        )
    return found


def list_backup_job_summaries(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Count backup jobs by day or period, account, state, type and message category."""
    return _summaries(call, shape, Kind.BACKUP, "BackupJobSummaries")


def list_copy_job_summaries(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Count copy jobs by day or period, account, state, type and message category."""
    return _summaries(call, shape, Kind.COPY, "CopyJobSummaries")


def list_restore_job_summaries(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Count restore jobs by day or period, account, state and type."""
    return _summaries(call, shape, Kind.RESTORE, "RestoreJobSummaries")


def _summaries(call: Call, shape: Mapping[str, Any], kind: Kind, name: str) -> dict[str, Any]:
    """Count the jobs made on the last whole days, up to today's 00:00 UTC.

    A dimension that is ANY is broken out, one that is AGGREGATE_ALL or not given is summed over, else it is a filter.
    """
    period = shape.get("AggregationPeriod", "FOURTEEN_DAYS")
    today = stamp(call.now) // DAY
    account, organization = _whose(call, shape.get("AccountId"))
    asked = {dimension: shape.get(member, _ALL) for dimension, member in _DIMENSION_MEMBERS.items()}
    if kind is Kind.RESTORE:
        asked["category"] = _ALL
    state = asked["state"]
    states = () if state in {_ANY, _ALL} else states_named(kind, state)
    category = None if asked["category"] in _ANY_CATEGORY else _category(asked["category"])
    by_account = asked["account"] == _ANY
    by = [
        dimension
        for dimension in DIMENSIONS
        if dimension == "region"
        or (dimension == "day" and period == "ONE_DAY")
        or (dimension == "account" and by_account)
        or (dimension not in {"day", "account"} and asked.get(dimension) == _ANY)
    ]
    filters = {member: value for member, value in shape.items() if member not in _PAGING} | {"today": today}
    position = call.page_position(filters, shape.get("NextToken"))
    if states or state in {_ANY, _ALL}:
        page = count_jobs(
            call.tx,
            CountFilter(
                kinds=(kind.value,),
                first_day=today - _DAYS[period],
                last_day=today - 1,
                account=account,
                monitored_by=organization,
                states=tuple(each.value for each in states),
                resource_type=None if asked["resource_type"] in {_ANY, _ALL} else asked["resource_type"],
                category=None if category is None else category.value,
            ),
            by,
            state_names={each.value: name for each, name in STATE_NAMES[kind].items()},
            after=position,
            limit=shape.get("MaxResults", _PAGE),
        )
        rows, following = page.items, page.position
    else:
        rows, following = (), None
    given = {
        "account": account if account is not None else _ALL,
        "state": state,
        "resource_type": asked["resource_type"],
        "category": None if kind is Kind.RESTORE else _ALL if category is None else category.value,
    }

    def to_wire(row: Count) -> dict[str, Any]:
        first, last = (row.of["day"],) * 2 if "day" in row.of else (today - _DAYS[period], today - 1)
        told = {
            _DIMENSION_MEMBERS[dimension]: row.of.get(dimension, value)
            for dimension, value in given.items()
            if value is not None
        }
        return {
            "Region": row.of["region"],
            **told,
            "Count": row.count,
            "StartTime": _midnight(first),
            "EndTime": _midnight(last + 1),
        }

    return {
        name: [to_wire(row) for row in rows],
        "AggregationPeriod": period,
        "NextToken": call.page_token(filters, following),
    }


def _whose(call: Call, wanted: str | None) -> tuple[str | None, str | None]:
    """Return whose jobs are counted: an account's, or those of an organization.

    A member gets its own counts whatever it asks for; so does whoever leaves the account out or names itself.
    """
    caller = call.caller.account
    if wanted is None or wanted == caller:
        return caller, None
    organization = watched_by(call.tx, caller)
    if organization is None:
        return caller, None
    return (None if wanted in {_ANY, _ALL} else wanted), organization.id


def _midnight(day: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)


OPERATIONS: Final[Mapping[str, Handler]] = {
    "ListBackupJobs": list_backup_jobs,
    "ListCopyJobs": list_copy_jobs,
    "ListRestoreJobs": list_restore_jobs,
    "ListRestoreJobsByProtectedResource": list_restore_jobs_by_protected_resource,
    "ListBackupJobSummaries": list_backup_job_summaries,
    "ListCopyJobSummaries": list_copy_job_summaries,
    "ListRestoreJobSummaries": list_restore_job_summaries,
}
