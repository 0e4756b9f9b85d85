"""A storage that dies after n writes, for every n; then everything is opened again, and the next run recovers."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recovery.test_rebuild import catalogue
from tests.vault.builders import ACCOUNT, DAY, NOON, REGION, TREE, StillMachine, a_custody, a_vault, back_up, opened

from holdfast.core.errors import HoldfastError
from holdfast.core.ids import name_uuid
from holdfast.database.connection import Database
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import holds, service, store
from holdfast.recovery.catch_up import recorded
from holdfast.recovery.hold import Selection
from holdfast.recovery.housekeeping import Housekeeper
from holdfast.recovery.model import RecoveryPoint
from holdfast.recovery.rebuild import rebuild
from holdfast.repository.cipher import Buffer
from holdfast.repository.storage import Storage, StorageFailedError, Stored
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault, VaultExistsError
from holdfast.vault.repositories import access_for_job
from holdfast.vault.service import create_vault, get_vault, put_lock, remove_lock

PLACE: dict[str, Any] = {"account": ACCOUNT, "region": REGION}


@dataclass
class Lifetime:
    """How many more writes a storage takes before it dies."""

    writes: int
    after: bool
    """Whether the last write arrives, and only its answer does not."""


@dataclass(frozen=True)
class DyingStorage:
    """A storage that stops taking writes."""

    whole: Storage
    life: Lifetime

    def put(self, name: str, *pieces: Buffer, new: bool = False) -> None:
        self._write(lambda: self.whole.put(name, *pieces, new=new))

    def delete(self, name: str) -> None:
        self._write(lambda: self.whole.delete(name))

    def get(self, name: str) -> bytes:
        return self.whole.get(name)

    def get_range(self, name: str, offset: int, length: int) -> bytes:
        return self.whole.get_range(name, offset, length)

    def list(self, prefix: str) -> Iterator[Stored]:
        return self.whole.list(prefix)

    def size(self, name: str) -> int:
        return self.whole.size(name)

    def _write(self, do: Any) -> None:
        self.life.writes -= 1
        if self.life.writes < 0 or (self.life.writes == 0 and not self.life.after):
            raise StorageFailedError("the storage has died")
        do()
        if self.life.writes == 0:
            raise StorageFailedError("the storage has died")


@dataclass(frozen=True)
class DyingCustody(Custody):
    """A custody over storages that die together."""

    life: Lifetime = field(default_factory=lambda: Lifetime(10**9, after=False))

    def storage(self, name: str) -> Storage:
        return DyingStorage(super().storage(name), self.life)


def a_life(database: Database, custody: Custody) -> Vault:
    """Everything that writes, each step repeatable: what was done before is found done."""
    with database.transaction() as tx:
        try:
            vault = create_vault(
                tx, custody, partition="aws", **PLACE, name="Daily", creator_request_id="once", now=NOON
            )
        except VaultExistsError:
            vault = get_vault(tx, ACCOUNT, REGION, "Daily")
    for number in range(2):
        point_id = name_uuid("point", str(number))
        with database.reading() as tx:
            known = store.find_point_by_id(tx, point_id)
        if known is None:
            back_up(database, custody, vault, texts=[str(number)], point_id=point_id, job_id=point_id)
    with database.transaction() as tx:
        first = store.find_point_by_id(tx, name_uuid("point", "0"))
        if first is not None and first.deleted_at is None:
            recorded(tx, custody, lambda: service.delete_point(tx, custody, vault, first.arn, now=NOON))
    for number in (1, 2):
        # Locks that the dead left are stale by then; the second round gives back the room that the first found.
        Housekeeper(database, custody, StillMachine(NOON + number * DAY)).keep(now=NOON + (6 + number) * DAY)
    return vault


def readable(database: Database, custody: Custody, point: RecoveryPoint) -> bool:
    with database.reading() as tx:
        access = access_for_job(tx, custody, point.repository_id)
    return bool(list(opened(custody, access).entries(point.snapshot_id)))


def refuse_lies(database: Database, custody: Custody) -> None:
    """Check what must hold after any crash: what is listed can be read, in this database and in a rebuilt one."""
    with database.reading() as tx:
        points = [point for vault in vaults.every_vault(tx) for point in store.points_of_vault(tx, vault.id)]
        gone = {point.id for point in points if point.deleted_at is not None}
    for point in points:
        assert point.id in gone or readable(database, custody, point)


WRITES = 37
SAMPLE = {1, 2, 5, 9, 12, 18, 23, 27, 31, 35}


@pytest.mark.parametrize("after", [False, True], ids=["the write is lost", "only its answer is lost"])
@pytest.mark.parametrize(
    "writes",
    [n if n in SAMPLE else pytest.param(n, marks=pytest.mark.deep) for n in range(1, WRITES + 1)],
)
def test_a_storage_that_dies_leaves_rubbish_and_never_a_lie(
    sqlite_database: Database, empty_database: Database, tmp_path: Path, writes: int, after: bool
) -> None:
    sound = a_custody(tmp_path / "storage")
    dying = DyingCustody(sound.settings, sound.root_key, sound.recovery_key, Lifetime(writes, after))
    with pytest.raises(StorageFailedError):
        a_life_that_ends(sqlite_database, dying)
    bury(sound)
    refuse_lies(sqlite_database, sound)
    vault = a_life(sqlite_database, sound)
    refuse_lies(sqlite_database, sound)
    with sqlite_database.reading() as tx:
        assert [point.deleted_at for point in store.points_of_vault(tx, vault.id)] == [None]
    found = rebuild(empty_database, sound, now=NOON + 7 * DAY, machine=StillMachine(NOON))
    assert [one.points for one in found.vaults if not one.unfinished] == [1]
    (one,) = (one for one in found.vaults if one.id == vault.id)
    assert (one.points, one.missing, one.faults) == (1, [], [])


def bury(custody: Custody) -> None:
    """Take away the locks of the process that died, which this one can't tell from its own: it plays both."""
    storage = custody.storage("local")
    for found in list(storage.list("vaults/")):
        if "/locks/" in found.name:
            storage.delete(found.name)


def a_life_that_ends(database: Database, custody: DyingCustody) -> None:
    a_life(database, custody)
    # Housekeeping leaves alone what fails and tries again later, so its end shows here.
    if custody.life.writes <= 0:
        raise StorageFailedError("the storage has died")


def test_a_whole_life_takes_no_more_writes_than_are_tried(sqlite_database: Database, tmp_path: Path) -> None:
    sound = a_custody(tmp_path / "storage")
    life = Lifetime(10**6, after=False)
    a_life(sqlite_database, DyingCustody(sound.settings, sound.root_key, sound.recovery_key, life))
    assert 10**6 - life.writes == WRITES


steps = st.lists(
    st.one_of(
        st.tuples(st.just("back up"), st.integers(1, 40) | st.none()),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("bring back"), st.integers(0, 5)),
        st.tuples(st.just("lifecycle"), st.integers(0, 5), st.integers(1, 400) | st.none()),
        st.tuples(st.just("hold"), st.integers(0, 2)),
        st.tuples(st.just("release"), st.integers(0, 3)),
        st.tuples(st.just("lock"), st.integers(3, 10) | st.none()),
        st.tuples(st.just("unlock")),
        st.tuples(st.just("tag"), st.integers(0, 5)),
        st.tuples(st.just("keep"), st.integers(0, 12)),
    ),
    max_size=14,
)


class Player:
    """Does steps, whichever of them are possible."""

    def __init__(self, database: Database, custody: Custody) -> None:
        self.database, self.custody, self.now = database, custody, NOON
        self.machine = StillMachine(NOON)
        self.keeper = Housekeeper(database, custody, self.machine)
        self.vault = a_vault(database, custody)
        self.arns: list[str] = []
        self.holds: list[str] = []
        self.holds_with_points: set[str] = set()

    def play(self, step: tuple[Any, ...]) -> None:
        self.now += timedelta(minutes=1)
        match step:
            case ("back up", days):
                made = back_up(
                    self.database,
                    self.custody,
                    self.vault,
                    texts=[str(len(self.arns))],
                    created_at=self.now,
                    completed_at=self.now,
                    resource_arn=TREE + str(len(self.arns) % 2),
                    lifecycle=Lifecycle(delete_after_days=days),
                )
                self.arns.append(made.point.arn)
            case ("keep", days):
                self.machine.advance(timedelta(days=days))
                self.now += timedelta(days=days)
                self.keeper.keep(now=self.now)
            case _:
                with self.database.transaction() as tx:
                    self._change(tx, step)

    def _change(self, tx: Any, step: tuple[Any, ...]) -> None:
        vault = get_vault(tx, ACCOUNT, REGION, "Daily")
        arn = self.arns[step[1] % len(self.arns)] if self.arns and len(step) > 1 and step[1] is not None else None
        given: dict[str, Any] = {"now": self.now}
        match step:
            case ("delete", _) if arn is not None:
                service.delete_point(tx, self.custody, vault, arn, **given)
            case ("bring back", _) if arn is not None:
                service.bring_back_point(tx, self.custody, **PLACE, arn=arn, **given)
            case ("lifecycle", _, days) if arn is not None:
                wanted = Lifecycle(delete_after_days=days)
                service.update_lifecycle(tx, self.custody, vault, arn, wanted, **given)
            case ("tag", number) if arn is not None:
                service.put_tags(tx, self.custody, **PLACE, arn=arn, tags={"n": str(number)}, **given)
            case ("hold", number):
                selection = Selection(resource_arns=() if number == 2 else (TREE + str(number),))
                made = holds.place_hold(
                    tx, self.custody, **PLACE, title="t", description="d", selection=selection, **given
                )
                self.holds.append(made.id)
                if holds.list_points_held(tx, made, after="", limit=1):
                    self.holds_with_points.add(made.id)
            case ("release", number) if self.holds:
                hold_id = self.holds[number % len(self.holds)]
                holds.release_hold(tx, self.custody, **PLACE, hold_id=hold_id, description="d", **given)
            case ("lock", grace):
                days = {"min_retention_days": None, "max_retention_days": None, "changeable_for_days": grace}
                put_lock(tx, self.custody, **PLACE, name="Daily", **days, **given)
            case ("unlock",):
                remove_lock(tx, self.custody, **PLACE, name="Daily", **given)
            case _:
                return


@settings(max_examples=15)
@given(played=steps)
def test_whatever_happened_a_rebuild_equals_the_catalogue(
    played: list[tuple[Any, ...]], empty_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("life")
    databases = []
    for name in ("lived", "rebuilt"):
        shutil.copyfile(empty_sqlite, directory / name)
        databases.append(Database.open(f"sqlite:///{directory / name}"))
    lived, again = databases
    custody = a_custody(directory / "storage")
    player = Player(lived, custody)
    for step in played:
        try:
            player.play(step)
        except HoldfastError:
            continue  # a lock, a hold or the point's state forbids it
    found = rebuild(again, custody, now=player.now, machine=StillMachine(NOON))
    assert found.is_sound, found
    before, after = catalogue(lived), catalogue(again)
    # A hold that never took anything is in no vault's records: there was nothing to keep.
    before["legal_hold"] = [row for row in before["legal_hold"] if row["id"] in player.holds_with_points]
    assert after == before
    for database in databases:
        database.close()
