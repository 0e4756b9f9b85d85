"""What time makes due, on both databases and real repositories: nothing goes that anything still keeps."""

import os
import subprocess
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.vault.builders import (
    ACCOUNT,
    DAY,
    NOON,
    REGION,
    StillMachine,
    a_custody,
    a_repository,
    a_vault,
    back_up,
    entries,
    made,
    opened,
)

from holdfast.core.settings import Mode
from holdfast.database.connection import Database
from holdfast.key.service import create_key, set_enabled
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import holds, service, store
from holdfast.recovery.guard import LONGEST_JUMP, Reading, jump, release_deletion, stop_deletion, why_stopped
from holdfast.recovery.hold import Selection
from holdfast.recovery.housekeeping import Housekeeper, Kept
from holdfast.recovery.model import RecoveryPoint, Status
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault
from holdfast.vault.records import record_name
from holdfast.vault.repositories import access_for_job
from holdfast.vault.service import delete_vault, put_lock

PLACE: dict[str, Any] = {"account": ACCOUNT, "region": REGION}
HOUR = timedelta(hours=1)


@dataclass
class House:
    """A vault with its housekeeper."""

    database: Database
    custody: Custody
    machine: StillMachine
    keeper: Housekeeper
    vault: Vault

    def keep(self, now: datetime) -> Kept:
        """Do a round at `now`, with machine time as far on as civil time."""
        self.machine.advance(now - self.machine.now())
        return self.keeper.keep(now=now)

    def points(self) -> dict[str, RecoveryPoint]:
        with self.database.reading() as tx:
            return {point.id: point for point in store.points_of_vault(tx, self.vault.id)}

    def snapshots(self) -> set[str]:
        with self.database.reading() as tx:
            (row,) = vaults.repositories_of(tx, self.vault.id)
            access = access_for_job(tx, self.custody, row.id)
        return {snapshot.id for snapshot in opened(self.custody, access).snapshots()}

    def back_up(self, **more: Any) -> RecoveryPoint:
        return back_up(self.database, self.custody, self.vault, **more).point

    def record(self, number: int) -> Path:
        root = self.custody.settings.storages["local"].url.removeprefix("file://")
        return Path(root) / "vaults" / self.vault.id / record_name(number)


def a_house(database: Database, custody: Custody) -> House:
    machine = StillMachine(NOON)
    return House(database, custody, machine, Housekeeper(database, custody, machine), a_vault(database, custody))


@pytest.fixture
def house(database: Database, tmp_path: Path) -> House:
    return a_house(database, a_custody(tmp_path / "storage"))


@pytest.fixture
def cottage(sqlite_database: Database, tmp_path: Path) -> House:
    """A house on SQLite only."""
    return a_house(sqlite_database, a_custody(tmp_path / "storage"))


def test_a_point_is_hidden_at_its_end_and_gone_after_the_deletion_delay(house: House) -> None:
    short = house.back_up(lifecycle=Lifecycle(delete_after_days=10))
    long = house.back_up(texts=["other"], lifecycle=Lifecycle(delete_after_days=100))
    assert house.keep(NOON + 10 * DAY - HOUR).expired == 0
    assert house.keep(NOON + 10 * DAY).expired == 1
    assert house.points()[short.id].status is Status.DELETING
    assert house.keep(NOON + 17 * DAY - HOUR).purged == 0
    assert house.snapshots() == {short.snapshot_id, long.snapshot_id}
    assert house.keep(NOON + 17 * DAY).purged == 1
    assert list(house.points()) == [long.id]
    assert house.snapshots() == {long.snapshot_id}
    assert house.keep(NOON + 18 * DAY) == Kept()


def test_the_room_of_what_is_gone_comes_back_and_restic_finds_the_rest_whole(cottage: House) -> None:
    gone = cottage.back_up(texts=["x" * 100_000], lifecycle=Lifecycle(delete_after_days=1))
    kept = cottage.back_up(texts=["y" * 100_000])
    cottage.keep(NOON + DAY)
    cottage.keep(NOON + 8 * DAY)
    assert gone.id not in cottage.points()
    rounds = [cottage.keep(NOON + 8 * DAY + 7 * number * HOUR) for number in range(1, 5)]
    assert [done.trouble for done in rounds] == [{}] * 4
    assert sum(done.packs for done in rounds) > 0
    assert rounds[-1].packs == 0
    with cottage.database.reading() as tx:
        access = access_for_job(tx, cottage.custody, kept.repository_id)
    place = Path(access.storage_url.removeprefix("file://")) / access.path
    environment = os.environ | {"RESTIC_PASSWORD": access.password, "RESTIC_REPOSITORY": str(place)}
    subprocess.run(["restic", "--no-cache", "check", "--read-data"], env=environment, capture_output=True, check=True)
    assert list(opened(cottage.custody, access).entries(kept.snapshot_id))


def test_a_held_point_outlives_its_end_and_goes_when_it_is_released(house: House) -> None:
    point = house.back_up(lifecycle=Lifecycle(delete_after_days=1))
    with house.database.transaction() as tx:
        hold = holds.place_hold(
            tx, house.custody, **PLACE, title="case", description="asked", selection=Selection(), now=NOON
        )
    done = house.keep(NOON + 400 * DAY)
    assert (done.expired, done.kept) == (0, {point.arn: f"kept by legal hold {hold.id}"})
    assert house.points()[point.id].status is Status.COMPLETED
    with house.database.transaction() as tx:
        holds.release_hold(tx, house.custody, **PLACE, hold_id=hold.id, description="closed", now=NOON + 400 * DAY)
    assert house.keep(NOON + 401 * DAY).expired == 1


def test_a_hold_that_somebody_took_out_of_the_database_still_binds(cottage: House) -> None:
    point = cottage.back_up(lifecycle=Lifecycle(delete_after_days=1))
    with cottage.database.transaction() as tx:
        holds.place_hold(
            tx, cottage.custody, **PLACE, title="case", description="asked", selection=Selection(), now=NOON
        )
    edit(cottage, "DELETE FROM legal_hold_point")
    edit(cottage, "DELETE FROM legal_hold")
    assert cottage.keep(NOON + 400 * DAY).expired == 0
    assert point.id in cottage.points()


def edit(house: House, statement: str, **values: Any) -> None:
    """Change a row behind everybody's back."""
    with house.database.transaction() as tx:
        tx.execute(sa.text(statement), values)


def test_an_end_that_somebody_drew_near_in_the_database_does_not_count(cottage: House) -> None:
    point = cottage.back_up(lifecycle=Lifecycle(delete_after_days=400))
    edit(cottage, "UPDATE recovery_point SET delete_at = 1")
    done = cottage.keep(NOON + DAY)
    assert done.expired == 0
    assert "whatever the database says" in done.kept[point.arn]
    assert cottage.points()[point.id].status is Status.EXPIRED
    assert cottage.keep(NOON + 400 * DAY).expired == 1


def test_a_deletion_that_somebody_wrote_into_the_database_does_not_count(cottage: House) -> None:
    point = cottage.back_up()
    edit(cottage, "UPDATE recovery_point SET deleted_at = 1, purge_at = 1")
    done = cottage.keep(NOON + DAY)
    assert done.purged == 0
    assert point.arn in done.kept
    assert cottage.snapshots() == {point.snapshot_id}


def test_a_row_that_somebody_deleted_does_not_take_the_data_with_it(cottage: House) -> None:
    point = cottage.back_up(lifecycle=Lifecycle(delete_after_days=400))
    edit(cottage, "DELETE FROM recovery_point")
    done = cottage.keep(NOON + 30 * DAY)
    assert done.orphans == 0
    assert cottage.snapshots() == {point.snapshot_id}


def test_a_vaults_lock_does_not_stretch_a_lifecycle(cottage: House) -> None:
    cottage.back_up(lifecycle=Lifecycle(delete_after_days=10))
    with cottage.database.transaction() as tx:
        put_lock(
            tx,
            cottage.custody,
            **PLACE,
            name="Daily",
            min_retention_days=None,
            max_retention_days=None,
            changeable_for_days=3,
            now=NOON,
        )
    assert cottage.keep(NOON + 10 * DAY).expired == 1


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_vault_whose_records_are_not_as_they_were_written_loses_nothing(cottage: House, damage: str) -> None:
    cottage.back_up(lifecycle=Lifecycle(delete_after_days=1))
    path = cottage.record(2)
    if damage == "gone":
        path.unlink()
    else:
        content = path.read_bytes().replace(b"repository-created", b"repository-forgotten")
        path.chmod(0o600)
        path.write_bytes(content)
    done = cottage.keep(NOON + 10 * DAY)
    assert done.expired == 0
    assert "record 2" in done.trouble[cottage.vault.arn]


def test_a_jump_of_the_date_stops_all_deletion_until_it_is_released(cottage: House) -> None:
    cottage.back_up(lifecycle=Lifecycle(delete_after_days=1))
    cottage.keep(NOON)
    cottage.machine.advance(timedelta(minutes=1))
    done = cottage.keeper.keep(now=NOON + 5000 * DAY)
    assert (done.expired, done.stopped is not None) == (0, True)
    assert cottage.keep(NOON + 5001 * DAY).expired == 0
    with cottage.database.transaction() as tx:
        release_deletion(tx)
    assert cottage.keep(NOON + 5002 * DAY).expired == 1


def test_in_development_the_date_may_jump(sqlite_database: Database, tmp_path: Path) -> None:
    custody = a_custody(tmp_path / "storage")
    custody = replace(custody, settings=replace(custody.settings, mode=Mode.DEV))
    house = a_house(sqlite_database, custody)
    house.back_up(lifecycle=Lifecycle(delete_after_days=1))
    house.keeper.keep(now=NOON)
    assert house.keeper.keep(now=NOON + 5000 * DAY).expired == 1


@pytest.mark.parametrize(
    ("civil", "machine", "is_jump"),
    [
        pytest.param(HOUR, HOUR, False, id="both alike"),
        pytest.param(LONGEST_JUMP, timedelta(), False, id="an hour, as when summer time was set by hand"),
        pytest.param(LONGEST_JUMP + timedelta(seconds=1), timedelta(), True, id="more than an hour"),
        pytest.param(timedelta(), LONGEST_JUMP + timedelta(seconds=1), True, id="back by more than an hour"),
    ],
)
def test_a_jump_is_more_than_an_hour_against_machine_time(civil: timedelta, machine: timedelta, is_jump: bool) -> None:
    found = jump(Reading(NOON, 7.0), Reading(NOON + civil, 7.0 + machine.total_seconds()))
    assert (found is not None) == is_jump


def test_the_first_reason_to_stop_deletion_stays(database: Database) -> None:
    with database.transaction() as tx:
        assert why_stopped(tx) is None
        stop_deletion(tx, "one")
        stop_deletion(tx, "two")
        assert why_stopped(tx) == "one"


def test_an_orphan_is_forgotten_after_a_day_and_a_strangers_snapshot_never(house: House) -> None:
    point = house.back_up()
    _, repository = a_repository(house.database, house.custody, house.vault)
    orphan = repository.write(entries(["x"]), at=NOON, tags=["holdfast:recovery-point=p", "holdfast:job=j"])
    foreign = repository.write(entries(["y"]), at=NOON, tags=["mine"])
    done = house.keep(NOON + DAY - HOUR)
    assert (done.orphans, done.foreign) == (0, [foreign.snapshot_id])
    assert house.keep(NOON + DAY).orphans == 0  # looked into a while ago
    assert house.keep(NOON + DAY + 6 * HOUR).orphans == 1
    assert house.snapshots() == {point.snapshot_id, foreign.snapshot_id}
    assert orphan.snapshot_id not in house.snapshots()


def test_a_snapshot_that_is_gone_is_named(cottage: House) -> None:
    point = cottage.back_up()
    _, repository = a_repository(cottage.database, cottage.custody, cottage.vault)
    repository.forget([point.snapshot_id])
    assert cottage.keep(NOON + DAY).missing == [point.snapshot_id]


def test_what_a_job_announced_and_did_not_make_is_withdrawn_and_then_an_orphan(house: House) -> None:
    row, repository = a_repository(house.database, house.custody, house.vault)
    written = repository.write(entries(), at=NOON, tags=["holdfast:recovery-point=p", "holdfast:job=j"])
    one = made(house.vault, row, written.snapshot_id, point_id="p", job_id="j")
    service.record_point(house.database, house.custody, one, now=NOON)
    done = house.keep(NOON + 2 * DAY)
    assert (done.withdrawn, done.orphans) == (1, 1)
    assert house.snapshots() == set()


def test_a_purge_that_was_interrupted_after_its_record_goes_on(cottage: House, monkeypatch: pytest.MonkeyPatch) -> None:
    point = cottage.back_up(lifecycle=Lifecycle(delete_after_days=1))
    cottage.keep(NOON + DAY)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("holdfast.repository.repository.Repository.forget", dies)
        with pytest.raises(KeyboardInterrupt):
            cottage.keep(NOON + 8 * DAY)
    assert point.id in cottage.points()
    assert cottage.snapshots() == {point.snapshot_id}
    assert cottage.keep(NOON + 8 * DAY + HOUR).purged == 1
    assert cottage.snapshots() == set()


def test_a_vault_whose_key_is_disabled_is_left_alone(sqlite_database: Database, tmp_path: Path) -> None:
    custody = a_custody(tmp_path / "storage")
    with sqlite_database.transaction() as tx:
        key = create_key(tx, custody.root_key, ACCOUNT, REGION, now=NOON)
    machine = StillMachine(NOON)
    vault = a_vault(sqlite_database, custody, key_arn=key.arn)
    house = House(sqlite_database, custody, machine, Housekeeper(sqlite_database, custody, machine), vault)
    point = house.back_up(lifecycle=Lifecycle(delete_after_days=1))
    house.keep(NOON + DAY)
    with sqlite_database.transaction() as tx:
        set_enabled(tx, key, enabled=False)
    done = house.keep(NOON + 8 * DAY)
    assert (done.purged, "disabled" in done.trouble[vault.arn]) == (0, True)
    assert point.id in house.points()


def test_a_deleted_vaults_row_goes_when_its_last_hidden_point_is_gone(cottage: House) -> None:
    point = cottage.back_up()
    with cottage.database.transaction() as tx:
        service.delete_point(tx, cottage.custody, cottage.vault, point.arn, now=NOON)
        delete_vault(tx, cottage.custody, **PLACE, name="Daily", now=NOON)
    cottage.keep(NOON + 6 * DAY)
    with cottage.database.reading() as tx:
        assert vaults.find_vault_by_id(tx, cottage.vault.id) is not None
    assert cottage.keep(NOON + 7 * DAY).purged == 1
    with cottage.database.reading() as tx:
        assert vaults.find_vault_by_id(tx, cottage.vault.id) is None
