"""The view across accounts: whose jobs a caller may see.

Rules: AWS Backup Developer Guide, "Managing AWS Backup resources across multiple AWS accounts": the management account
and delegated administrators see the jobs of all accounts once the organization trusts `backup.amazonaws.com`; a
member sees its own. The view holds the jobs that were made while the organization trusted the service; when it no
longer does, those stay visible until 30 days after they ended.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.errors import DeniedError
from holdfast.job.model import Job, JobNotFoundError, Kind
from holdfast.job.store import find
from holdfast.organization.model.tree import Organization
from holdfast.organization.service import delegation
from holdfast.organization.service.membership import find_membership

BACKUP_SERVICE: Final = "backup.amazonaws.com"
EVERY_ACCOUNT: Final = "*"
STAYS_VISIBLE: Final = timedelta(days=30)
"""How long an ended job stays in the view of an organization that trusts AWS Backup no longer."""

_WAS_MONITORED = text("""
    SELECT 1 FROM job_count
     WHERE level = 'organization' AND kind IN ('BACKUP', 'COPY', 'RESTORE') AND monitored_by = :organization
     UNION ALL
    SELECT 1 FROM job_count_delta WHERE monitored_by = :organization
     LIMIT 1""")


class NoSuchViewError(DeniedError):
    """The caller may not see the jobs of other accounts."""


@dataclass(frozen=True, slots=True)
class View:
    """Whose jobs are looked at: one account's, or those of a whole organization."""

    account: str | None
    monitored_by: str | None
    """The organization whose view it is; None where an account looks at its own."""
    visible_since: datetime | None = None
    """Of jobs that ended before this instant nothing is shown; None where all are."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The one account that is looked at; empty where all are."""
        return () if self.account is None else (self.account,)

    def shows(self, job: Job) -> bool:
        """Return whether a job is in the view."""
        return (
            (self.account is None or job.account == self.account)
            and (self.monitored_by is None or job.monitored_by == self.monitored_by)
            and (self.visible_since is None or job.completed_at is None or job.completed_at >= self.visible_since)
        )


def view_of(tx: sa.Connection, caller: str, wanted: str | None, *, now: datetime) -> View:
    """Return the view that account `caller` gets when it asks for the jobs of `wanted`.

    Args:
        tx: the open transaction.
        caller: the account that asks.
        wanted: an account id, `*` for every account of the organization, or None for the caller's own.
        now: civil time.

    Raises:
        NoSuchViewError: only the management account or a delegated administrator sees others' jobs, and only if
            the organization trusts AWS Backup or did so.
    """
    if wanted is None or wanted == caller:
        return View(caller, None)
    organization = watched_by(tx, caller)
    if organization is None:
        membership = find_membership(tx, caller)
        if membership is None:
            raise NoSuchViewError(f"account {caller} is in no organization, so it sees its own jobs only")
        raise NoSuchViewError(
            f"account {caller} sees its own jobs only; the management account "
            f"{membership.organization.management_account} and delegated administrators for {BACKUP_SERVICE} see those "
            "of all accounts"
        )
    visible_since = None
    if not delegation.is_trusted(tx, organization, BACKUP_SERVICE):
        visible_since = now - STAYS_VISIBLE
        if tx.execute(_WAS_MONITORED, {"organization": organization.id}).first() is None:
            raise NoSuchViewError(
                f"the organization does not trust {BACKUP_SERVICE}; call EnableAWSServiceAccess in the management "
                "account, and jobs made from then on are seen here"
            )
    return View(None if wanted == EVERY_ACCOUNT else wanted, organization.id, visible_since)


def watched_by(tx: sa.Connection, caller: str) -> Organization | None:
    """Return the organization whose jobs an account may see as its management or a delegated administrator."""
    membership = find_membership(tx, caller)
    if membership is None:
        return None
    if membership.is_management or delegation.is_administrator(tx, membership.organization, caller, BACKUP_SERVICE):
        return membership.organization
    return None


def describe_job(tx: sa.Connection, caller: str, job_id: str, *, kind: Kind, region: str, now: datetime) -> Job:
    """Return one job that an account sees: its own, or one in its view of the organization; ids in any case.

    Raises:
        JobNotFoundError: it sees no such job in the region.
    """
    job = find(tx, job_id) or find(tx, job_id.lower())
    if job is not None and job.kind is kind and job.region == region:
        if job.account == caller:
            return job
        try:
            if view_of(tx, caller, job.account, now=now).shows(job):
                return job
        except NoSuchViewError:
            pass  # what others have is not told, not even that it is there
    raise JobNotFoundError(f"account {caller} sees no {kind.word.lower()} job {job_id} in {region}")
