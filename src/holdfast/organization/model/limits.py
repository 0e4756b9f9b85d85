"""How much of everything an organization may have, and how long things wait.

The numbers are those of the AWS Organizations User Guide, "Quotas and service limits for AWS Organizations"; where
that page gives a number that customers may have raised, the raised one stands here.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that one organization keeps."""

    accounts: int = 50_000
    units: int = 2_000
    depth: int = 5
    """Levels of units below the root."""
    tags: int = 50
    """Tags on one root, unit, account or policy."""
    age_to_leave: timedelta = timedelta(days=4)
    """How old an account created in the organization must be before it may leave."""
    invitation_life: timedelta = timedelta(days=15)
    features_life: timedelta = timedelta(days=90)
    """How long the members have to approve all features."""
    handshakes_shown: timedelta = timedelta(days=30)
    """How long an answered or expired handshake can still be seen."""
    least_invitations_a_day: int = 20
    closing_span: timedelta = timedelta(days=30)
    closings_at_least: int = 250
    closings_at_most: int = 1_000
    closed_account_stays: timedelta = timedelta(days=90)

    def closings(self, accounts: int) -> int:
        """Return how many of so many accounts may be closed within the closing span: 20 %, but within the bounds."""
        return max(self.closings_at_least, min(accounts // 5, self.closings_at_most))

    @property
    def invitations_a_day(self) -> int:
        """How many invitations that were not accepted may have been sent within a day."""
        return max(self.least_invitations_a_day, self.accounts)


LIMITS: Final = Limits()
