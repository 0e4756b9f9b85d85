"""Finding jobs across accounts and regions on the `holdfast` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.database.values import instant, stamp
from holdfast.job.listing import Position, list_jobs
from holdfast.job.model import Category, Job, JobNotFoundError, Kind, State
from holdfast.monitor.search import Search, counts_for, filter_for, job_in_view, view_for
from holdfast.wire.call import Call, Handler

_PAGE: Final = 100
_PAGING: Final = frozenset({"NextToken", "MaxResults"})
_MEMBERS: Final = {
    "AccountId": "account",
    "UnitId": "unit_id",
    "ResourceType": "resource_type",
    "ResourceArn": "resource_arn",
    "PlanName": "plan_name",
    "PolicyId": "policy_id",
    "VaultName": "vault_name",
    "VaultArn": "vault_arn",
    "RecoveryPointArn": "recovery_point_arn",
    "ParentJobId": "parent_id",
    "MessageContains": "message",
    "CreatedAfter": "created_after",
    "CreatedBefore": "created_before",
    "CompletedAfter": "completed_after",
    "CompletedBefore": "completed_before",
}


def search_jobs(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Find jobs by any combination of filters, newest first, and count them where no row needs to be looked at."""
    asked = {member: value for member, value in shape.items() if member not in _PAGING}
    position = call.page_position(asked, shape.get("NextToken"))
    search = Search(
        kinds=tuple(Kind(each) for each in dict.fromkeys(shape.get("Kinds", ()))),
        regions=tuple(dict.fromkeys(shape.get("Regions", ()))),
        states=tuple(State(each) for each in dict.fromkeys(shape.get("States", ()))),
        category=Category(shape["MessageCategory"]) if "MessageCategory" in shape else None,
        **{name: shape[member] for member, name in _MEMBERS.items() if member in shape},
    )
    view = view_for(call.tx, call.caller.account, search, now=call.now)
    if "JobId" in shape:
        job = job_in_view(call.tx, view, shape["JobId"])
        return {"Jobs": [] if job is None else [job_to_wire(job)]}
    wanted = filter_for(call.tx, view, search)
    if wanted is None:
        return {"Jobs": []}
    page = list_jobs(
        call.tx,
        wanted,
        after=None if position is None else Position(instant(position[0]), position[1]),
        limit=shape.get("MaxResults", _PAGE),
    )
    counts = counts_for(call.tx, view, wanted) if position is None else None
    following = None if page.after is None else [stamp(page.after.at), page.after.job_id]
    return {
        "Jobs": [job_to_wire(job) for job in page.jobs],
        "Counts": None
        if counts is None
        else [{"Kind": row.of["kind"], "State": row.of["state"], "Count": row.count} for row in counts],
        "ScannedTo": None if page.after is None else page.after.at,
        "NextToken": call.page_token(asked, following),
    }


def job_to_wire(job: Job) -> dict[str, Any]:
    """Return a job as the extension shows it, whatever its kind."""
    return {
        "JobId": job.id,
        "Kind": job.kind.value,
        "AccountId": job.account,
        "Region": job.region,
        "State": job.state.value,
        "StatusMessage": job.message,
        "MessageCategory": None if job.category is None else job.category.value,
        "WaitingFor": job.waiting_for.value or None,
        "UnitPath": job.unit_path or None,
        "ResourceArn": job.resource_arn,
        "ResourceType": job.resource_type,
        "ResourceName": job.resource_name,
        "VaultName": job.vault_name,
        "VaultArn": job.vault_arn,
        "RecoveryPointArn": job.recovery_point_arn,
        "RoleArn": job.role_arn,
        "PlanName": job.plan_name,
        "RuleName": job.rule_name,
        "ParentJobId": job.parent_id,
        "DueAt": job.due_at,
        "CreationDate": job.created_at,
        "StartBy": job.start_by,
        "InitiationDate": job.started_at,
        "ExpectedCompletionDate": job.complete_by,
        "CompletionDate": job.completed_at,
        "Attempts": job.attempts,
        "PercentDone": job.percent,
        "BytesTotal": job.bytes_total,
        "BytesDone": job.bytes_done,
        "BytesStored": job.bytes_stored,
    }


def list_job_problems(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List what a job that one sees has left out or could not do as it should."""
    job = job_in_view(call.tx, view_for(call.tx, call.caller.account, Search(), now=call.now), shape["JobId"])
    if job is None:
        raise JobNotFoundError(f"account {call.caller.account} sees no job {shape['JobId']}")
    troubles = job.result.get("troubles", ())
    asked = {"job": job.id}
    start = call.page_position(asked, shape.get("NextToken")) or 0
    end = start + shape.get("MaxResults", _PAGE)
    return {
        "Count": job.result.get("brought", {}).get("problems", 0),
        "Problems": [{"Path": path, "Problem": what} for path, what in troubles[start:end]],
        "NextToken": call.page_token(asked, end if end < len(troubles) else None),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {"ListJobProblems": list_job_problems, "SearchJobs": search_jobs}
