"""Which registered resources a selection takes now, which it nearly takes, and the clause that decides on each."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import sqlalchemy as sa

from holdfast.assessment.model import Judged, Resource, judge
from holdfast.assessment.settings import switched_off
from holdfast.plan.model.selection import ResourceClass, Selection
from holdfast.source.model import Resource as Registered
from holdfast.source.service import get_resource, list_resources

SCANNED_AT_MOST: Final = 5_000
"""How many resources one page looks at; what is left comes on the next one."""


class Outcome(StrEnum):
    """What a selection means for a resource."""

    MATCHED = "MATCHED"
    NEARLY_MATCHED = "NEARLY_MATCHED"
    NOT_MATCHED = "NOT_MATCHED"


@dataclass(frozen=True, slots=True)
class Tried:
    """A resource by the name it is registered under, and what a selection means for it."""

    name: str
    judged: Judged

    @property
    def outcome(self) -> Outcome:
        """Whether it is taken, or would be but for one clause."""
        if self.judged.verdict.selected:
            return Outcome.MATCHED
        return Outcome.NEARLY_MATCHED if self.judged.is_near else Outcome.NOT_MATCHED


@dataclass(frozen=True, slots=True)
class Trial:
    """A selection tried in one account and region, for a plan of the organization or one of the account's own."""

    selection: Selection
    account: str
    region: str
    organizational: bool


def try_on_resource(tx: sa.Connection, trial: Trial, arn: str) -> Tried:
    """Try a selection on one resource.

    Raises:
        UnknownResourceError: it is not registered in this account and region.
    """
    return _tried(trial, get_resource(tx, trial.account, trial.region, arn), _off(tx, trial))


def try_on_all(
    tx: sa.Connection, trial: Trial, wanted: frozenset[Outcome], *, after: str, limit: int
) -> tuple[list[Tried], str | None]:
    """Try a selection on the resources after a name, until `limit` of them have a wanted outcome.

    Returns:
        Those, by name, and the name to go on after; None when there are no more. After 5,000 resources it ends with
        what it has.
    """
    off = _off(tx, trial)
    looked_at = list_resources(tx, trial.account, trial.region, after=after, limit=SCANNED_AT_MOST + 1)
    found: list[Tried] = []
    for resource in looked_at[:SCANNED_AT_MOST]:
        tried = _tried(trial, resource, off)
        if tried.outcome in wanted:
            found.append(tried)
        if len(found) == limit:
            return found, None if resource is looked_at[-1] else resource.name
    return found, looked_at[-2].name if len(looked_at) > SCANNED_AT_MOST else None


def _off(tx: sa.Connection, trial: Trial) -> frozenset[str]:
    return switched_off(tx, trial.account, trial.region, organizational=trial.organizational)


def _tried(trial: Trial, found: Registered, off: frozenset[str]) -> Tried:
    resource = Resource(found.arn, ResourceClass(found.type, found.region, found.tags))
    judged = judge(trial.selection, resource, switched_off=off, organizational=trial.organizational)
    return Tried(found.name, judged)
