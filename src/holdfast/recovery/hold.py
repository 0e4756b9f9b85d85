"""Legal holds: which recovery points one takes, and what it keeps them from.

Rules: AWS Backup Developer Guide, "Legal holds and AWS Backup"; AWS Backup API Reference, CreateLegalHold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from holdfast.core.errors import InvalidInputError, InvalidStateError, LimitExceededError, NotFoundError
from holdfast.recovery.model import RecoveryPoint, Status, instant_from_body

MOST_HOLDS: Final = 50
RECORD_KEPT_DAYS: Final = 180
_LONGEST_DESCRIPTION: Final = 280


class UnknownHoldError(NotFoundError):
    """There is no such legal hold."""


class InvalidHoldError(InvalidInputError):
    """A legal hold makes no sense."""


class HoldLimitError(LimitExceededError):
    """There are as many legal holds in force as there may be."""


class HoldReleasedError(InvalidStateError):
    """The legal hold was canceled before."""


class HoldStatus(StrEnum):
    """Whether a legal hold is in force."""

    ACTIVE = "ACTIVE"
    CANCELED = "CANCELED"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which recovery points a hold takes: of these vaults or resources (empty: all), created in this range."""

    vault_names: tuple[str, ...] = ()
    resource_arns: tuple[str, ...] = ()
    from_at: datetime | None = None
    to_at: datetime | None = None

    def takes(self, point: RecoveryPoint) -> bool:
        """Return whether a point falls under it; both ends of the range count."""
        if point.status in {Status.EXPIRED, Status.DELETING} or point.deleted_at is not None:
            return False
        if self.vault_names and point.vault_name not in self.vault_names:
            return False
        if self.resource_arns and point.resource_arn not in self.resource_arns:
            return False
        if self.from_at is not None and point.created_at < self.from_at:
            return False
        return self.to_at is None or point.created_at <= self.to_at

    def to_body(self) -> dict[str, Any]:
        """Return it as rows and records hold it."""
        return {
            "vault_names": list(self.vault_names),
            "resource_arns": list(self.resource_arns),
            "from_at": None if self.from_at is None else self.from_at.isoformat(),
            "to_at": None if self.to_at is None else self.to_at.isoformat(),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Return the selection that a row or record holds."""
        return cls(
            tuple(body["vault_names"]),
            tuple(body["resource_arns"]),
            instant_from_body(body["from_at"]),
            instant_from_body(body["to_at"]),
        )


@dataclass(frozen=True, slots=True)
class Hold:
    """What keeps recovery points until somebody releases them."""

    id: str
    account: str
    region: str
    arn: str
    title: str
    description: str
    selection: Selection
    created_at: datetime
    status: HoldStatus = HoldStatus.ACTIVE
    token: str | None = None
    canceled_at: datetime | None = None
    cancel_description: str | None = None
    retain_until: datetime | None = None

    def to_body(self) -> dict[str, Any]:
        """Return it as records hold it."""
        return {
            "id": self.id,
            "account": self.account,
            "region": self.region,
            "arn": self.arn,
            "title": self.title,
            "description": self.description,
            "selection": self.selection.to_body(),
            "created_at": self.created_at.isoformat(),
        }

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Return the hold that a record holds, in force."""
        return cls(
            id=body["id"],
            account=body["account"],
            region=body["region"],
            arn=body["arn"],
            title=body["title"],
            description=body["description"],
            selection=Selection.from_body(body["selection"]),
            created_at=datetime.fromisoformat(body["created_at"]),
        )


def refuse_bad_hold(title: str, description: str, selection: Selection) -> None:
    """Refuse a legal hold that makes no sense.

    Raises:
        InvalidHoldError: a text is empty or too long, or the range ends before it begins.
    """
    if not title.strip() or not description.strip():
        raise InvalidHoldError("a legal hold needs a title and a description")
    if len(description) > _LONGEST_DESCRIPTION:
        raise InvalidHoldError(f"a legal hold's description has at most {_LONGEST_DESCRIPTION} characters")
    if selection.vault_names and selection.resource_arns:
        raise InvalidHoldError("select recovery points by VaultNames or by ResourceIdentifiers, not by both")
    if selection.from_at is not None and selection.to_at is not None and selection.to_at < selection.from_at:
        raise InvalidHoldError("the DateRange ends before it begins")
