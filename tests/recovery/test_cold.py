"""Recovery points go to cold storage: copied, read back, switched, forgotten; and a move may stop anywhere."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.recovery.test_crash import DyingCustody, Lifetime
from tests.vault.builders import DAY, NOON, StillMachine, a_custody, a_vault, back_up, opened

from holdfast.database.connection import Database
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import service, store
from holdfast.recovery.cold import ColdMover, Moved
from holdfast.recovery.guard import release_deletion, stop_deletion
from holdfast.recovery.housekeeping import Housekeeper, Kept
from holdfast.recovery.model import RecoveryPoint, StorageClass
from holdfast.recovery.rebuild import rebuild
from holdfast.repository.repository import Repository
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault
from holdfast.vault.repositories import access_for_job

COOL = Lifecycle(10, 100)
TIME = NOON + 10 * DAY


@dataclass
class Cellar:
    """A vault, and who moves its points."""

    database: Database
    custody: Custody
    vault: Vault

    def back_up(self, text: str = "hello", lifecycle: Lifecycle = COOL) -> RecoveryPoint:
        return back_up(self.database, self.custody, self.vault, texts=[text], lifecycle=lifecycle).point

    def move(self, now: datetime = TIME) -> Moved:
        return ColdMover(self.database, self.custody, StillMachine(now)).move_due(now=now)

    def keep(self, now: datetime) -> Kept:
        return Housekeeper(self.database, self.custody, StillMachine(now)).keep(now=now)

    def point(self, point: RecoveryPoint) -> RecoveryPoint:
        with self.database.reading() as tx:
            found = store.find_point_by_id(tx, point.id)
        assert found is not None
        return found

    def repositories(self) -> dict[bool, Repository]:
        """The warm repository under False, and the cold one under True, if there is one."""
        with self.database.reading() as tx:
            rows = [row for row in vaults.repositories_of(tx, self.vault.id) if row.ready]
            found = {row.is_cold: access_for_job(tx, self.custody, row.id) for row in rows}
        return {is_cold: opened(self.custody, access) for is_cold, access in found.items()}

    def snapshots(self) -> tuple[set[str], set[str]]:
        there = self.repositories()
        warm, cold = (
            {each.id for each in there[kind].snapshots()} if kind in there else set() for kind in (False, True)
        )
        return warm, cold

    def text(self, point: RecoveryPoint, out: Path) -> str:
        """Restore a point, whole, and give what was backed up."""
        with self.database.reading() as tx:
            access = access_for_job(tx, self.custody, point.repository_id)
        opened(self.custody, access).restore(point.snapshot_id, out, verify=True)
        return (out / "file0").read_text()


@pytest.fixture
def cellar(database: Database, tmp_path: Path) -> Cellar:
    custody = a_custody(tmp_path / "storage")
    return Cellar(database, custody, a_vault(database, custody))


@pytest.fixture
def small(sqlite_database: Database, tmp_path: Path) -> Cellar:
    """A cellar on SQLite only."""
    custody = a_custody(tmp_path / "storage")
    return Cellar(sqlite_database, custody, a_vault(sqlite_database, custody))


def test_a_point_goes_cold_at_its_time_and_restores_from_there(cellar: Cellar, tmp_path: Path) -> None:
    point = cellar.back_up("as it was")
    stays = cellar.back_up("stays", Lifecycle(None, 100))
    assert cellar.move(TIME - timedelta(seconds=1)) == Moved()
    assert cellar.move().points == [point.arn]
    cold = cellar.point(point)
    assert (cold.storage_class, cold.cold_at, cold.delete_at) == (StorageClass.COLD, TIME, NOON + 100 * DAY)
    assert cold.repository_id != point.repository_id
    assert cellar.snapshots() == ({stays.snapshot_id}, {cold.snapshot_id})
    assert cellar.text(cold, tmp_path / "out") == "as it was"
    assert cellar.move() == Moved()
    assert cellar.keep(TIME + DAY).trouble == {}
    assert cellar.snapshots() == ({stays.snapshot_id}, {cold.snapshot_id})


def test_a_cold_repository_opens_by_the_same_password_and_restic_finds_it_whole(small: Cellar) -> None:
    small.back_up("x" * 100_000)
    small.move()
    with small.database.reading() as tx:
        warm, cold = (
            access_for_job(tx, small.custody, row.id)
            for row in sorted(vaults.repositories_of(tx, small.vault.id), key=lambda row: row.is_cold)
        )
    assert warm.password == cold.password
    for access in (warm, cold):
        place = Path(access.storage_url.removeprefix("file://")) / access.path
        environment = os.environ | {"RESTIC_PASSWORD": access.password, "RESTIC_REPOSITORY": str(place)}
        subprocess.run(
            ["restic", "--no-cache", "check", "--read-data"], env=environment, capture_output=True, check=True
        )


def test_a_cold_point_expires_and_goes_like_any_other(small: Cellar) -> None:
    point = small.back_up()
    small.move()
    assert small.keep(NOON + 100 * DAY).expired == 1
    assert small.keep(NOON + 107 * DAY).purged == 1
    assert small.snapshots() == (set(), set())
    with small.database.reading() as tx:
        assert store.find_point_by_id(tx, point.id) is None


def test_what_was_deleted_or_given_another_lifecycle_stays_warm(small: Cellar) -> None:
    deleted, changed = small.back_up("deleted"), small.back_up("changed")
    with small.database.transaction() as tx:
        service.delete_point(tx, small.custody, small.vault, deleted.arn, now=NOON)
        service.update_lifecycle(tx, small.custody, small.vault, changed.arn, Lifecycle(20, 200), now=NOON)
    assert small.move() == Moved()
    assert small.move(NOON + 20 * DAY).points == [changed.arn]


def test_nothing_moves_while_deletion_is_stopped(small: Cellar) -> None:
    point = small.back_up()
    with small.database.transaction() as tx:
        stop_deletion(tx, "the date jumped")
    assert small.move() == Moved()
    with small.database.transaction() as tx:
        release_deletion(tx)
    assert small.move().points == [point.arn]


def test_a_damaged_point_stays_where_it_is_and_says_why(small: Cellar) -> None:
    point = small.back_up("x" * 5000)
    with small.database.reading() as tx:
        access = access_for_job(tx, small.custody, point.repository_id)
    place = Path(access.storage_url.removeprefix("file://")) / access.path / "data"
    for pack in (each for each in place.rglob("*") if each.is_file()):
        pack.chmod(0o600)
        pack.write_bytes(bytes(pack.stat().st_size))
    assert list(small.move().waiting) == [point.arn]
    now = small.point(point)
    assert (now.storage_class, now.snapshot_id) == (StorageClass.WARM, point.snapshot_id)
    assert now.status_message is not None
    assert now.status_message.startswith("It could not be moved to cold storage yet")


def test_a_copy_on_its_way_is_no_orphan_until_the_point_is_not_to_move_any_more(small: Cellar) -> None:
    point = small.back_up()
    life = Lifetime(1, after=False)
    dying = Cellar(
        small.database,
        DyingCustody(small.custody.settings, small.custody.root_key, small.custody.recovery_key, life),
        small.vault,
    )
    tries = 0
    while not small.snapshots()[1]:
        tries += 1
        life.writes = tries
        dying.move()
    assert small.point(point).storage_class is StorageClass.WARM
    assert small.keep(TIME + 2 * DAY).orphans == 0
    assert len(small.snapshots()[1]) == 1
    with small.database.transaction() as tx:
        service.update_lifecycle(tx, small.custody, small.vault, point.arn, Lifecycle(None, 200), now=TIME)
    assert small.keep(TIME + 3 * DAY).orphans == 1
    assert small.snapshots() == ({point.snapshot_id}, set())


@pytest.mark.parametrize("after", [False, True], ids=["the last write is lost", "its answer is lost"])
def test_a_move_may_stop_at_any_write(
    sqlite_database: Database, empty_sqlite: Path, tmp_path: Path, *, after: bool
) -> None:
    custody = a_custody(tmp_path / "storage")
    cellar = Cellar(sqlite_database, custody, a_vault(sqlite_database, custody))
    points = [cellar.back_up("one")]
    sqlite_database.close()
    writes, finished = 0, False
    while not finished:
        writes += 1
        trial = tmp_path / f"trial-{writes}"
        trial.mkdir()
        shutil.copytree(tmp_path / "storage", trial / "storage")
        shutil.copyfile(tmp_path / "control.db", trial / "control.db")
        database = Database.open(f"sqlite:///{trial / 'control.db'}")
        healthy = a_custody(trial / "storage")
        life = Lifetime(writes, after=after)
        dying = DyingCustody(healthy.settings, healthy.root_key, healthy.recovery_key, life)
        Cellar(database, dying, cellar.vault).move()
        finished = life.writes > 0
        again = Cellar(database, healthy, cellar.vault)
        for point in points:  # whatever happened, each one can be restored as it is listed now
            assert again.text(again.point(point), trial / f"then-{point.id}") == "one"
        again.move(TIME + DAY)
        for point in points:
            moved = again.point(point)
            assert moved.storage_class is StorageClass.COLD
            assert again.text(moved, trial / f"out-{point.id}") == "one"
        assert again.keep(TIME + 3 * DAY).trouble == {}
        assert again.snapshots() == (set(), {again.point(point).snapshot_id for point in points})
        database.close()
        if writes % 5 == 0 or finished:
            rebuilt_path = trial / "anew.db"
            shutil.copyfile(empty_sqlite, rebuilt_path)
            rebuilt = Database.open(f"sqlite:///{rebuilt_path}")
            assert rebuild(rebuilt, healthy, now=TIME, machine=StillMachine(TIME)).is_sound
            anew = Cellar(rebuilt, healthy, cellar.vault)
            for point in points:
                assert anew.point(point).storage_class is StorageClass.COLD
                assert anew.text(anew.point(point), trial / f"anew-{point.id}") == "one"
            rebuilt.close()
        shutil.rmtree(trial)
    assert writes > 10
