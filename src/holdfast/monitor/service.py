"""The view across accounts: whose jobs a caller may see.

Rules: AWS Backup Developer Guide, "Managing AWS Backup resources across multiple AWS accounts": the management account
and delegated administrators see the jobs of all accounts once the organization trusts `backup.amazonaws.com`; a
member sees its own.
"""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from holdfast.core.errors import DeniedError
from holdfast.organization.service import delegation
from holdfast.organization.service.membership import find_membership

BACKUP_SERVICE: Final = "backup.amazonaws.com"
EVERY_ACCOUNT: Final = "*"


class NoSuchViewError(DeniedError):
    """The caller may not see the jobs of other accounts."""


@dataclass(frozen=True, slots=True)
class View:
    """Whose jobs are looked at: one account's, or those of a whole organization."""

    account: str | None
    organization_id: str | None


def view_of(tx: sa.Connection, caller: str, wanted: str | None) -> View:
    """Return the view that account `caller` gets when it asks for the jobs of `wanted`.

    Args:
        tx: the open transaction.
        caller: the account that asks.
        wanted: an account id, `*` for every account of the organization, or None for the caller's own.

    Raises:
        NoSuchViewError: only the management account or a delegated administrator sees others' jobs, and only while
            the organization trusts AWS Backup.
    """
    if wanted is None or wanted == caller:
        return View(caller, None)
    membership = find_membership(tx, caller)
    if membership is None:
        raise NoSuchViewError(f"account {caller} is in no organization, so it sees its own jobs only")
    organization = membership.organization
    delegated = delegation.is_administrator(tx, organization, caller, BACKUP_SERVICE)
    if not membership.is_management and not delegated:
        raise NoSuchViewError(
            f"account {caller} sees its own jobs only; the management account {organization.management_account} "
            f"and delegated administrators for {BACKUP_SERVICE} see those of all accounts"
        )
    if not delegation.is_trusted(tx, organization, BACKUP_SERVICE):
        raise NoSuchViewError(
            f"the organization does not trust {BACKUP_SERVICE}; call EnableAWSServiceAccess in the management account"
        )
    return View(None if wanted == EVERY_ACCOUNT else wanted, organization.id)
