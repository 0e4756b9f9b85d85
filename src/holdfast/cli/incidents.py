"""`holdfast incidents`: what is wrong, each cause once. Data goes to standard output."""

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

from rich.table import Table

from holdfast.cli.client import holdfast_client
from holdfast.cli.table import print_table

FORMAT: Final = 1
"""The version of what `--json` prints; it rises when a member is removed or means something else."""

_COLUMNS: Final = ("Opened", "State", "Cause", "Thing", "Accounts", "Resources", "Left", "Incident", "Message")


def run_incidents(
    incident_id: str | None,
    asked: Mapping[str, str],
    *,
    acknowledge: bool,
    limit: int,
    as_json: bool,
    endpoint_url: str | None,
) -> int:
    """Print the incidents that fit, or one and what it affects, and return the exit code.

    Raises:
        NoEndpointError: there is no endpoint URL.
        botocore.exceptions.ClientError: what the server refuses.
    """
    holdfast = holdfast_client(endpoint_url)
    if incident_id is None:
        found = list(islice(_every(holdfast, "list_incidents", "Incidents", asked), limit))
        document: dict[str, Any] = {"incidents": found}
    else:
        if acknowledge:
            holdfast.acknowledge_incident(IncidentId=incident_id)
        one = {"IncidentId": incident_id}
        found = [holdfast.describe_incident(**one, MaxResults=1)["Incident"]]
        affected = list(islice(_every(holdfast, "describe_incident", "Affected", one), limit))
        document = {"incidents": found, "affected": affected}
    if as_json:
        print(json.dumps({"version": FORMAT, **document}, default=datetime.isoformat, indent=2))
        return 0
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="")
    for each in found:
        table.add_row(
            f"{each['OpenedAt']:%Y-%m-%d %H:%M}",
            each["State"],
            each["Cause"],
            each["Thing"],
            str(each["AffectedAccounts"]),
            str(each["AffectedResources"]),
            str(each["UnrecoveredResources"]),
            each["IncidentId"],
            each["Message"],
        )
    print_table(table)
    for each in document.get("affected", ()):
        since = f"recovered {each['RecoveredAt']:%Y-%m-%d %H:%M}" if "RecoveredAt" in each else "not recovered"
        print(f"{each['AccountId']} {each['ResourceArn']} job {each['JobId']}: {since}")
    return 0


def _every(holdfast: Any, operation: str, members: str, asked: Mapping[str, str]) -> Any:
    for page in holdfast.get_paginator(operation).paginate(**asked):
        yield from page[members]
