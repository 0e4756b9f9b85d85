"""Closed accounts leave their organizations when their time is over, and no policy holds for them any more."""

from datetime import datetime

from holdfast.database.connection import Database
from holdfast.organization.service.accounts import next_departure, remove_long_closed
from holdfast.policy.service import node_removed, recompute_accounts


def let_closed_accounts_go(database: Database, *, now: datetime) -> int:
    """Let every account go whose time after closing is over; return how many went."""
    gone = 0
    while True:
        with database.reading() as tx:
            due = next_departure(tx)
        if due is None or due > now:
            return gone
        with database.transaction() as tx:
            left = remove_long_closed(tx, now=now)
            for account_id, organization_id in left:
                node_removed(tx, organization_id, account_id, now=now)
            recompute_accounts(tx, [account_id for account_id, _ in left], now=now)
        if not left:
            return gone
        gone += len(left)
