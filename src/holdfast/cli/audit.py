"""`holdfast audit search`: who did what in all accounts that one may see. Data goes to standard output."""

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

_COLUMNS: Final = ("Time", "Account", "Event", "Decision", "Principal", "Reason")


def run_search(asked: Mapping[str, Any], *, limit: int, as_json: bool, endpoint_url: str | None) -> int:
    """Print the entries that fit, `limit` at most, and return the exit code.

    Raises:
        NoEndpointError: there is no endpoint URL.
        botocore.exceptions.ClientError: what the server refuses.
    """
    pages = holdfast_client(endpoint_url).get_paginator("search_audit_trail").paginate(**asked)
    found = list(islice((entry for page in pages for entry in page["Entries"]), limit))
    if as_json:
        print(json.dumps({"version": FORMAT, "entries": found}, default=datetime.isoformat, indent=2))
        return 0
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="")
    for entry in found:
        table.add_row(
            f"{entry['EventTime']:%Y-%m-%d %H:%M:%S}",
            entry["AccountId"],
            entry["EventName"],
            entry["Decision"],
            entry["PrincipalArn"],
            entry["Reason"],
        )
    print_table(table)
    return 0
