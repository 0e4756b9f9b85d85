"""Lifecycles that make sense. Rules: AWS Backup API Reference, "Lifecycle"; -1 says never."""

from dataclasses import replace
from typing import Final

from holdfast.core.errors import InvalidInputError
from holdfast.plan.model.plan import Lifecycle

LONGEST_RETENTION_DAYS: Final = 36_500
LONGEST_CONTINUOUS_DAYS: Final = 35
COLD_AT_LEAST_DAYS: Final = 90
NEVER: Final = -1
"""What stands for `never` in a lifecycle that was given."""


class InvalidLifecycleError(InvalidInputError):
    """A lifecycle makes no sense."""


def normal(lifecycle: Lifecycle) -> Lifecycle:
    """Return the lifecycle with None wherever -1 was given, and archiving said outright."""
    return replace(
        lifecycle,
        archive=bool(lifecycle.archive),
        cold_after_days=None if lifecycle.cold_after_days == NEVER else lifecycle.cold_after_days,
        delete_after_days=None if lifecycle.delete_after_days == NEVER else lifecycle.delete_after_days,
    )


def refuse_bad_lifecycle(lifecycle: Lifecycle, *, continuous: bool = False) -> None:
    """Refuse a lifecycle that makes no sense.

    Raises:
        InvalidLifecycleError: with the sentence that clients know.
    """
    given = normal(lifecycle)
    longest = LONGEST_CONTINUOUS_DAYS if continuous else LONGEST_RETENTION_DAYS
    if continuous and given.cold_after_days is not None:
        raise InvalidLifecycleError("Invalid lifecycle. MoveToColdStorageAfterDays is unavailable")
    if given.delete_after_days is not None and not 1 <= given.delete_after_days <= longest:
        raise InvalidLifecycleError(
            f"Invalid lifecycle. DeleteAfterDays cannot be less than 1 or more than {longest} days"
        )
    if given.cold_after_days is None:
        return
    if not 1 <= given.cold_after_days <= LONGEST_RETENTION_DAYS:
        raise InvalidLifecycleError(
            f"Invalid lifecycle. MoveToColdStorageAfterDays cannot be less than 1 or more than "
            f"{LONGEST_RETENTION_DAYS} days"
        )
    if given.delete_after_days is not None and given.delete_after_days < given.cold_after_days + COLD_AT_LEAST_DAYS:
        raise InvalidLifecycleError(
            "Invalid lifecycle. DeleteAfterDays cannot be less than 90 days apart from MoveToColdStorageAfterDays"
        )
