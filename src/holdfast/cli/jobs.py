"""`holdfast jobs`: jobs of all accounts that one may see, filtered by the server. Data goes to standard output."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Final

from rich.table import Table

from holdfast.cli.client import holdfast_client
from holdfast.cli.table import print_table
from holdfast.core.errors import NotFoundError

FORMAT: Final = 1
"""The version of what `--json` prints; it rises when a member is removed or means something else."""

_COLUMNS: Final = ("Created", "Account", "Kind", "State", "Type", "Resource", "Vault", "Message")
_PAGE: Final = 1000


class JobNotFoundError(NotFoundError):
    """No job with this id is in view."""


class Output(Enum):
    """How jobs are printed."""

    TABLE = "table"
    JSON = "json"
    LINES = "lines"


def run_jobs(asked: Mapping[str, Any], *, limit: int, output: Output, endpoint_url: str | None) -> int:
    """Print the jobs that fit, `limit` at most, and return the exit code.

    Raises:
        NoEndpointError: there is no endpoint URL.
        JobNotFoundError: a job's id was given, and none is in view.
        botocore.exceptions.ClientError: what the server refuses.
    """
    counts: list[Mapping[str, Any]] = []
    holdfast = holdfast_client(endpoint_url)
    found = _found(holdfast, asked, limit, counts)
    if output is Output.LINES:
        for job in found:
            print(json.dumps(job, default=_instant))
        return 0
    jobs = list(found)
    if not jobs and "JobId" in asked:
        raise JobNotFoundError(f"no job {asked['JobId']} is in view")
    if output is Output.JSON:
        print(json.dumps({"version": FORMAT, "jobs": jobs, "counts": counts}, default=_instant, indent=2))
    else:
        _print_table(jobs)
        if "JobId" in asked:
            for page in holdfast.get_paginator("list_job_problems").paginate(JobId=asked["JobId"]):
                for problem in page["Problems"]:
                    print(f"{problem['Path']}: {problem['Problem']}")
        if counts:
            print(
                ", ".join(f"{each['Count']} {each['Kind'].lower()} {each['State']}" for each in counts), file=sys.stderr
            )
    return 0


def _found(
    holdfast: Any, asked: Mapping[str, Any], limit: int, counts: list[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Give jobs page by page; the first page's counts are put into `counts`."""
    left = limit
    asked = dict(asked)
    while left > 0:
        answer = holdfast.search_jobs(**asked, MaxResults=min(left, _PAGE))
        counts += answer.get("Counts", ())
        yield from answer["Jobs"]
        left -= len(answer["Jobs"])
        if "NextToken" not in answer:
            return
        asked["NextToken"] = answer["NextToken"]
        if not answer["Jobs"]:
            print(f"looked back to {answer['ScannedTo']:%Y-%m-%d %H:%M}, nothing yet ...", file=sys.stderr)


def _print_table(jobs: Sequence[Mapping[str, Any]]) -> None:
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="")
    for job in jobs:
        table.add_row(
            f"{job['CreationDate']:%Y-%m-%d %H:%M}",
            job["AccountId"],
            job["Kind"].lower(),
            job["State"],
            job.get("ResourceType", ""),
            job.get("ResourceName", ""),
            job.get("VaultName", ""),
            job.get("StatusMessage", ""),
        )
    print_table(table)


def _instant(value: datetime) -> str:
    return value.isoformat()
