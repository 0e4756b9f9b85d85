"""`holdfast test-selection`: what a selection takes, nearly takes, and why. Data goes to standard output."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from holdfast.cli.client import holdfast_client
from holdfast.cli.table import print_table
from holdfast.core.errors import InvalidInputError

FORMAT: Final = 1
"""The version of what `--json` prints; it rises when a member is removed or means something else."""

_COLUMNS: Final = ("Outcome", "Type", "Resource", "Decided by", "Found instead")
_CLAUSES: Final = ("Resources", "NotResources", "ListOfTags", "Conditions")


class NoSelectionError(InvalidInputError):
    """What was given as a selection is none."""


def selection_in(path: Path) -> dict[str, Any]:
    """Return the selection in a JSON file, as `aws backup create-backup-selection` takes it or without name and role.

    Raises:
        NoSelectionError: it is not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise NoSelectionError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise NoSelectionError(f"{path} holds no JSON object")
    body = content.get("BackupSelection", content)
    return {name: body[name] for name in _CLAUSES if name in body}


def run_test_selection(asked: Mapping[str, Any], *, limit: int, as_json: bool, endpoint_url: str | None) -> int:
    """Print what a selection means for resources, `limit` at most, and return the exit code.

    Raises:
        NoEndpointError: there is no endpoint URL.
        botocore.exceptions.ClientError: what the server refuses.
    """
    found = list(islice(_results(holdfast_client(endpoint_url), asked), limit))
    if as_json:
        print(json.dumps({"version": FORMAT, "results": found}, indent=2))
        return 0
    table = Table(*_COLUMNS, box=None, pad_edge=False, header_style="")
    for each in found:
        missing = each["Unmet"][0].get("Found", "nothing") if each["Unmet"] else ""
        outcome = each["Outcome"].lower().replace("_", " ")
        table.add_row(outcome, each["ResourceType"], each["Name"], each["DecidedBy"], missing)
    print_table(table)
    return 0


def _results(holdfast: Any, asked: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for page in holdfast.get_paginator("test_selection").paginate(**asked):
        yield from page["Results"]
