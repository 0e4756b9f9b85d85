"""Copies of the whole control database in storage: what comes back, what does not, and which are kept."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.database.filled import fill

from holdfast.core.clock import SystemMachineTime
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.facts import remember
from holdfast.database.rows import sequences, tables, tally_of
from holdfast.database.schema import current, head
from holdfast.database.state import (
    DIRECTORY,
    EVERY_STATE_FOR,
    DatabaseNotEmptyError,
    NoStateError,
    State,
    StateKeeper,
    StateUnreadableError,
    find_state,
    list_states,
    load_state,
    save_state,
    thin_states,
    to_keep,
)
from holdfast.repository.cipher import Buffer
from holdfast.repository.storage import MemoryStorage, StorageFailedError

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ROOT_KEY = RootKey(b"k" * 32)


def contents(database: Database) -> dict[str, tuple[int, str]]:
    with database.reading() as tx:
        tallies = {table.name: tally_of(tx, table) for table in tables()}
    return {name: (tally.rows, tally.digest) for name, tally in tallies.items()}


def restored(target: Database, storage: MemoryStorage, state: State) -> dict[str, tuple[int, str]]:
    with target.transaction() as tx:
        load_state(tx, storage, ROOT_KEY, state)
    return contents(target)


@pytest.fixture
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A database without a single table."""
    return Database.open(f"sqlite:///{tmp_path_factory.mktemp('nothing') / 'control.db'}")


def test_a_state_of_either_database_comes_back_whole(database: Database, nothing: Database) -> None:
    fill(database)
    storage = MemoryStorage()
    state = save_state(database, storage, ROOT_KEY, at=NOON)
    assert restored(nothing, storage, state) == contents(database)
    assert current(nothing) == head()
    assert state.rows > 30 * 50


@pytest.mark.postgres
def test_a_state_of_sqlite_comes_back_in_postgresql(sqlite_database: Database, bare_postgres: Database) -> None:
    fill(sqlite_database)
    storage = MemoryStorage()
    state = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    assert restored(bare_postgres, storage, state) == contents(sqlite_database)


def test_numbers_that_were_given_out_are_never_given_out_again(database: Database, nothing: Database) -> None:
    add = text("INSERT INTO outbox (kind, body, created_at, available_at, attempts) VALUES ('k', '{}', 0, 0, 0)")
    with database.transaction() as tx:
        for _ in range(5):
            tx.execute(add)
        tx.execute(text("DELETE FROM outbox"))
    storage = MemoryStorage()
    restored(nothing, storage, save_state(database, storage, ROOT_KEY, at=NOON))
    with nothing.transaction() as tx:
        tx.execute(add)
        assert tx.execute(text("SELECT id FROM outbox")).scalar_one() == 6
        assert sequences(tx, tables())["outbox"] == 6


def test_many_rows_travel_in_several_parts(sqlite_database: Database, nothing: Database) -> None:
    filler = random.Random(3).randbytes(30_000).hex()  # noqa: S311 - it only must not compress
    with sqlite_database.transaction() as tx:
        for number in range(400):
            remember(tx, f"fact {number}", f"{number} {filler}")
    storage = MemoryStorage()
    state = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    assert len(state.parts) == 3
    assert restored(nothing, storage, state) == contents(sqlite_database)


def test_the_newest_state_is_listed_first(sqlite_database: Database) -> None:
    storage = MemoryStorage()
    made = [save_state(sqlite_database, storage, ROOT_KEY, at=NOON + timedelta(hours=n)) for n in range(3)]
    found, unreadable = list_states(storage, ROOT_KEY)
    assert (found, unreadable) == (made[::-1], [])
    assert find_state(storage, ROOT_KEY, made[1].id) == made[1]


def test_a_state_that_was_interrupted_is_none(sqlite_database: Database) -> None:
    class Full(MemoryStorage):
        def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
            if name.endswith("manifest"):
                raise StorageFailedError("the disk is full")
            super().put(name, *pieces, new=new)

    storage = Full()
    with pytest.raises(StorageFailedError):
        save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    assert list_states(storage, ROOT_KEY) == ([], [])
    assert storage.files
    thin_states(storage, now=NOON + timedelta(hours=1))
    assert storage.files, "it may be under way"
    thin_states(storage, now=NOON + timedelta(days=2))
    assert not storage.files


def test_a_database_that_holds_something_is_not_filled(sqlite_database: Database) -> None:
    storage = MemoryStorage()
    state = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    before = contents(sqlite_database)
    with pytest.raises(DatabaseNotEmptyError, match="name an empty one"), sqlite_database.transaction() as tx:
        load_state(tx, storage, ROOT_KEY, state)
    assert contents(sqlite_database) == before


@pytest.mark.parametrize("place", range(12))
def test_a_changed_byte_is_found_and_nothing_is_kept(sqlite_database: Database, nothing: Database, place: int) -> None:
    fill(sqlite_database, rows=3)
    storage = MemoryStorage()
    state = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    name = sorted(storage.files)[place % 2]
    content = bytearray(storage.files[name])
    content[len(content) * (place + 1) // 13] ^= 1 << (place % 8)
    storage.files[name] = bytes(content)
    with pytest.raises((StateUnreadableError, NoStateError)), nothing.transaction() as tx:
        load_state(tx, storage, ROOT_KEY, find_state(storage, ROOT_KEY, state.id))
    assert current(nothing) is None


def test_parts_of_two_states_cannot_be_mixed(sqlite_database: Database, nothing: Database) -> None:
    storage = MemoryStorage()
    first = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    with sqlite_database.transaction() as tx:
        remember(tx, "newer", "yes")
    second = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    part = f"{DIRECTORY}/{{}}/part-000000"
    storage.files[part.format(second.id)] = storage.files[part.format(first.id)]
    with pytest.raises(StateUnreadableError, match="not as it was written"):
        restored(nothing, storage, second)


def test_another_root_key_opens_nothing_and_is_named(sqlite_database: Database) -> None:
    storage = MemoryStorage()
    state = save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    other = RootKey(b"o" * 32)
    found, unreadable = list_states(storage, other)
    assert found == []
    assert [each.id for each in unreadable] == [state.id]
    assert ROOT_KEY.id in unreadable[0].why
    assert "--root-key" in unreadable[0].why


def test_nothing_of_the_database_can_be_read_in_storage(sqlite_database: Database) -> None:
    with sqlite_database.transaction() as tx:
        remember(tx, "a name that stands out", "a value that stands out")
    storage = MemoryStorage()
    save_state(sqlite_database, storage, ROOT_KEY, at=NOON)
    assert not any(b"stands out" in content for content in storage.files.values())


def test_a_state_is_saved_when_the_newest_is_old_enough(sqlite_database: Database) -> None:
    storage = MemoryStorage()
    keeper = StateKeeper(sqlite_database, storage, ROOT_KEY, SystemMachineTime(), every=timedelta(hours=1))
    assert keeper.keep() is not None
    assert keeper.keep() is None
    keeper.every = timedelta(0)
    assert keeper.keep() is not None
    assert len(list_states(storage, ROOT_KEY)[0]) == 2


def test_nothing_is_thinned_while_deleting_is_stopped(sqlite_database: Database) -> None:
    storage = MemoryStorage()
    for month in range(1, 7):
        save_state(sqlite_database, storage, ROOT_KEY, at=datetime(2020, month, 1, tzinfo=UTC))
    keeper = StateKeeper(sqlite_database, storage, ROOT_KEY, SystemMachineTime(), timedelta(hours=1), lambda _: False)
    keeper.keep()
    assert len(list_states(storage, ROOT_KEY)[0]) == 7
    keeper.every, keeper.may_delete = timedelta(0), lambda _: True
    keeper.keep()
    assert len(list_states(storage, ROOT_KEY)[0]) == 3


def test_of_a_year_of_hourly_states_few_stay(sqlite_database: Database) -> None:
    hours = [NOON - timedelta(hours=n) for n in range(24 * 365)]
    kept = sorted(to_keep(hours, now=NOON), reverse=True)
    assert kept[:49] == hours[:49]
    assert len(kept) == 49 + 33 + 10
    assert kept[-1] == datetime(2025, 5, 31, 23, 0, tzinfo=UTC)


@given(st.lists(st.integers(0, 24 * 500), unique=True, max_size=80), st.integers(1, 24 * 60))
def test_what_goes_today_would_have_gone_tomorrow(ages: list[int], later: int) -> None:
    taken = [NOON - timedelta(hours=age) for age in ages]
    now, then = to_keep(taken, now=NOON), to_keep(taken, now=NOON + timedelta(hours=later))
    assert then <= now
    assert to_keep(now, now=NOON) == now
    assert all(at in now for at in taken if NOON - at <= EVERY_STATE_FOR)
