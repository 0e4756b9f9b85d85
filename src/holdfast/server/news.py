"""What stations do when they hear of something, and the reconciler that makes up for news that was lost.

What a client must see at once is done in the transaction that makes the news (`wire/organizations_effects.py`). What is
here comes after it, may come twice, and only makes sure: handlers are idempotent, and `reconcile` finds by itself what
they would have been told.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import text

from holdfast.core.clock import Clock
from holdfast.database.connection import Database
from holdfast.database.outbox import Handler, News
from holdfast.organization.service.news import ACCOUNT_JOINED, ACCOUNT_LEFT, ACCOUNT_MOVED
from holdfast.policy import service as policies
from holdfast.schedule.service import install_documents

_ORGANIZATIONS = text("SELECT id FROM organization WHERE deleted_at IS NULL ORDER BY id")

RECONCILE_SECONDS: Final = 900.0
"""How often the reconciler looks, in machine time."""


def handlers(database: Database, clock: Clock) -> Mapping[str, Handler]:
    """Return what is done for each kind of news.

    An account that joined, moved or left gets the policies of its present place; a changed policy's documents are
    taken up by the scheduler before its next tick.
    """

    def place(news: News) -> None:
        with database.transaction() as tx:
            policies.recompute_accounts(tx, [news.body["account_id"]], now=clock.now())

    def take_up(_news: News) -> None:
        with database.transaction() as tx:
            install_documents(tx, now=clock.now())

    return {ACCOUNT_JOINED: place, ACCOUNT_MOVED: place, ACCOUNT_LEFT: place, policies.CHANGED: take_up}


def reconcile(database: Database, clock: Clock) -> None:
    """Make every organization's effective policies follow from what stands in it now; usually changes nothing.

    Each organization has a transaction of its own, so that writers get their turn in between.
    """
    with database.reading() as tx:
        organizations = list(tx.execute(_ORGANIZATIONS).scalars())
    for organization in organizations:
        with database.transaction() as tx:
            policies.recompute_organization(tx, organization, now=clock.now())
