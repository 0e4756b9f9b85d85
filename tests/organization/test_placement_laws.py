"""Laws of placements, held against random histories of random trees."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.organization.builders import MANAGEMENT, NOON

from holdfast.database.connection import Database
from holdfast.database.schema import upgrade
from holdfast.organization.model.tree import JoinedMethod, Organization, Unit
from holdfast.organization.service import accounts, tree
from holdfast.organization.store.tree import placements

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["unit", "account", "move", "move", "leave", "return", "delete unit"]),
        st.integers(0, 10**6),
        st.integers(0, 10**6),
        st.integers(-3, 60),
    ),
    max_size=40,
)


@dataclass
class History:
    """What was done to a tree, kept beside the database in the plainest way."""

    organization: Organization
    parents: dict[str, str] = field(default_factory=dict)
    """Of every unit that there ever was."""
    units: list[Unit] = field(default_factory=list)
    where: dict[str, str | None] = field(default_factory=dict)
    """The unit of every account now."""
    departures: dict[str, int] = field(default_factory=dict)
    """How often each account left."""


def _do(tx: sa.Connection, history: History, kind: str, a: int, b: int, now: datetime) -> None:
    organization = history.organization
    unit = history.units[a % len(history.units)]
    members = sorted(account for account, place in history.where.items() if place is not None)
    gone = sorted(account for account, place in history.where.items() if place is None)
    if kind == "unit" and unit.depth < 5:
        made = tree.create_unit(tx, organization, unit.id, f"unit {len(history.parents)}", now=now)
        history.units.append(made)
        history.parents[made.id] = unit.id
    elif kind == "account":
        name = f"account-{len(history.where)}"
        request = accounts.create_account(tx, organization, name, f"{name}@example.com", now=now)
        assert request.account_id is not None
        history.where[request.account_id] = organization.root_id
    elif kind == "move" and members:
        account = members[b % len(members)]
        source = history.where[account]
        if source is not None and source != unit.id:
            accounts.move_account(tx, organization, account, source, unit.id, now=now)
            history.where[account] = unit.id
    elif kind == "leave" and members:
        account = members[b % len(members)]
        accounts.let_go(tx, organization, account, now=now)
        history.where[account] = None
        history.departures[account] = history.departures.get(account, 0) + 1
    elif kind == "return" and gone:
        alone = accounts.find_account(tx, gone[b % len(gone)])
        assert alone is not None
        accounts.take_in(tx, organization, alone, unit, JoinedMethod.INVITED, None, now=now)
        history.where[alone.id] = unit.id
    elif kind == "delete unit" and unit.parent_id is not None:
        is_parent = any(other.parent_id == unit.id for other in history.units)
        if not is_parent and unit.id not in history.where.values():
            tree.delete_unit(tx, organization, unit.id, now=now)
            history.units.remove(unit)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Database:
    path: Path = tmp_path_factory.mktemp("laws") / "control.db"
    database = Database.open(f"sqlite:///{path}")
    upgrade(database)
    return database


@given(steps=STEPS)
def test_placements_tile_time_and_paths_follow_the_parents(
    empty: Database, steps: list[tuple[str, int, int, int]]
) -> None:
    with empty.engine.connect() as tx, tx.begin() as transaction:
        accounts.register_account(tx, MANAGEMENT, "master", "master@example.com", now=NOON)
        organization = tree.create_organization(tx, MANAGEMENT, now=NOON)
        history = History(organization, units=[tree.get_root(tx, organization)])
        now = NOON
        for kind, a, b, minutes in steps:
            now += timedelta(minutes=minutes)
            _do(tx, history, kind, a, b, now)
        _check(tx, history)
        transaction.rollback()


def _check(tx: sa.Connection, history: History) -> None:
    for account, place in history.where.items():
        rows = placements(tx, account)
        gaps = 0
        for before, after in pairwise(rows):
            assert before.ends_at is not None
            assert before.starts_at < before.ends_at <= after.starts_at
            gaps += before.ends_at < after.starts_at
        assert gaps <= history.departures.get(account, 0)
        assert [row for row in rows if row.ends_at is None] == rows[-1:] if place else not rows or rows[-1].ends_at
        for row in rows:
            walked = [row.unit_id]
            while walked[-1] in history.parents:
                walked.append(history.parents[walked[-1]])
            expected = "/".join([history.organization.id, *reversed(walked)]) + "/"
            assert row.path == expected
    root = history.organization.root_id
    members = sorted(account for account, place in history.where.items() if place)
    assert tree.accounts_below(tx, history.organization, root) == sorted([MANAGEMENT, *members])


@given(moves=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), max_size=20))
def test_an_instant_gives_the_same_answer_later(empty: Database, moves: list[tuple[int, int]]) -> None:
    with empty.engine.connect() as tx, tx.begin() as transaction:
        accounts.register_account(tx, MANAGEMENT, "master", "master@example.com", now=NOON)
        organization = tree.create_organization(tx, MANAGEMENT, now=NOON)
        root = organization.root_id
        targets = [root, *(tree.create_unit(tx, organization, root, f"u{n}", now=NOON).id for n in range(3))]
        made = accounts.create_account(tx, organization, "a", "a@example.com", now=NOON)
        assert made.account_id is not None
        now, place = NOON, root
        seen = {now: [node.id for node in tree.path_of(tx, made.account_id)]}
        for target, hours in moves:
            now += timedelta(hours=hours)
            if targets[target] != place:
                accounts.move_account(tx, organization, made.account_id, place, targets[target], now=now)
                place = targets[target]
            seen[now] = [node.id for node in tree.path_of(tx, made.account_id)]
        for at, path in seen.items():
            assert [node.id for node in tree.path_of(tx, made.account_id, at)] == path
        transaction.rollback()
