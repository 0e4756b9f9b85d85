"""A request to create an account, and what came of it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class CreateAccountState(StrEnum):
    """How far a request to create an account has come."""

    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class CreateAccountFailure(StrEnum):
    """Why an account could not be created."""

    EMAIL_ALREADY_EXISTS = "EMAIL_ALREADY_EXISTS"
    INVALID_EMAIL = "INVALID_EMAIL"


@dataclass(frozen=True, slots=True)
class CreateAccountRequest:
    """One request to create an account; the account is made in its transaction, so it is over at once."""

    id: str
    organization_id: str
    account_name: str
    email: str
    state: CreateAccountState
    requested_at: datetime
    completed_at: datetime | None
    account_id: str | None = None
    gov_cloud_account_id: str | None = None
    failure_reason: str | None = None
