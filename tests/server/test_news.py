"""What comes of news, and what the reconciler finds by itself."""

import json
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.clock import ManualClock
from holdfast.core.ids import account_id
from holdfast.database.connection import Database
from holdfast.database.outbox import handle_news
from holdfast.database.values import FOREVER
from holdfast.organization.service import accounts, tree
from holdfast.policy import service as policies
from holdfast.server import news

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANAGEMENT = "123456789012"
POLICY = {
    "plans": {
        "core": {
            "regions": {"@@assign": ["eu-north-1"]},
            "rules": {"daily": {"target_backup_vault_name": {"@@assign": "V"}}},
            "selections": {
                "tags": {
                    "all": {
                        "iam_role_arn": {"@@assign": "arn:aws:iam::$account:role/B"},
                        "tag_key": {"@@assign": "backup"},
                        "tag_value": {"@@assign": ["yes"]},
                    }
                }
            },
        }
    }
}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOON)


@pytest.fixture
def organization(database: Database) -> str:
    """An organization with a policy at its root and an account that nobody has told its policies of."""
    with database.transaction() as tx:
        accounts.register_account(tx, MANAGEMENT, "management", "m@example.com", now=NOON)
        made = tree.create_organization(tx, MANAGEMENT, now=NOON)
        policies.organization_created(tx, made.id, now=NOON)
        policies.enable_policy_type(tx, made.id, "BACKUP_POLICY", now=NOON)
        policy = policies.create_policy(
            tx, made.id, "BACKUP_POLICY", "p", "", json.dumps(POLICY), regions={"eu-north-1"}, now=NOON
        )
        policies.attach_policy(tx, made.id, policy.id, made.root_id, now=NOON)
        accounts.import_account(tx, made, account_id(), "late", "late@example.com", now=NOON)
    return made.id


def _with_plans(tx: sa.Connection) -> int:
    held = "SELECT count(*) FROM account_chain WHERE type = 'BACKUP_POLICY' AND ends_at = :forever"
    return int(tx.execute(text(held), {"forever": FOREVER}).scalar_one())


def test_an_account_that_joined_gets_its_policies_when_the_news_is_handled(
    database: Database, organization: str, clock: ManualClock
) -> None:
    with database.reading() as tx:
        assert _with_plans(tx) == 1
    while handle_news(database, news.handlers(database, clock), now=NOON):
        pass  # what is done about news may be news itself, but not for ever
    with database.reading() as tx:
        assert _with_plans(tx) == 2
        assert tx.execute(text("SELECT count(*) FROM document_rule")).scalar_one() == 1
        assert tx.execute(text("SELECT count(*) FROM outbox")).scalar_one() == 0


def test_the_reconciler_makes_up_for_news_that_was_lost(
    database: Database, organization: str, clock: ManualClock
) -> None:
    with database.transaction() as tx:
        tx.execute(text("DELETE FROM outbox"))
    news.reconcile(database, clock)
    with database.reading() as tx:
        assert _with_plans(tx) == 2


def test_handling_news_twice_changes_nothing(database: Database, organization: str, clock: ManualClock) -> None:
    again = "kind, body, created_at, available_at, attempts"
    with database.transaction() as tx:
        tx.execute(text(f"INSERT INTO outbox ({again}) SELECT {again} FROM outbox"))
    while handle_news(database, news.handlers(database, clock), now=NOON):
        pass
    with database.reading() as tx:
        before = tx.execute(text("SELECT * FROM account_chain ORDER BY account_id, starts_at")).all()
    news.reconcile(database, clock)
    with database.reading() as tx:
        assert tx.execute(text("SELECT * FROM account_chain ORDER BY account_id, starts_at")).all() == before
