"""With the storage and a key, everything comes back: vaults, keys, points, locks and holds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from tests.vault.builders import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER,
    RECOVERY,
    REGION,
    TREE,
    StillMachine,
    a_custody,
    a_repository,
    a_vault,
    back_up,
    entries,
    made,
    opened,
)

from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.key.model import KeyNotFoundError
from holdfast.key.service import create_key, get_key_by_arn
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import holds, service, store
from holdfast.recovery.hold import Selection
from holdfast.recovery.model import PointKeptError, RecoveryPoint
from holdfast.recovery.rebuild import NothingToRebuildError, Rebuilt, rebuild
from holdfast.repository.repository import Repository
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.keys import delete_for_good
from holdfast.vault.model import Vault
from holdfast.vault.records import record_name
from holdfast.vault.repositories import KEY_FILE, access_for_job
from holdfast.vault.service import delete_vault, put_access_policy, put_lock

POLICY = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"444455556666"},'
    '"Action":"backup:CopyIntoBackupVault","Resource":"*"}]}'
)


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return a_custody(tmp_path / "storage")


def a_full_life(database: Database, custody: Custody) -> dict[str, Any]:
    """Vaults with something of everything that records tell."""
    with database.transaction() as tx:
        key = create_key(tx, custody.root_key, ACCOUNT, REGION, description="ours", now=NOON)
    daily = a_vault(database, custody, tags={"team": "web"})
    copies = a_vault(database, custody, "Copies", key_arn=key.arn)
    a_vault(database, custody, "Gone")
    points = {
        "kept": back_up(database, custody, daily, texts=["one", "two"], tags={"n": "1"}).point,
        "held": back_up(database, custody, daily, texts=["held"], resource_arn=TREE + "held").point,
        "hidden": back_up(database, custody, daily, texts=["hidden"]).point,
        "longer": back_up(database, custody, daily, texts=["longer"]).point,
        "theirs": back_up(database, custody, copies, texts=["copy"], resource_account=OTHER).point,
    }
    place: dict[str, Any] = {"account": ACCOUNT, "region": REGION}
    with database.transaction() as tx:
        selection = Selection(resource_arns=(points["held"].resource_arn,), from_at=NOON, to_at=NOON)
        held = holds.place_hold(tx, custody, **place, title="case", description="asked", selection=selection, now=NOON)
        released = holds.place_hold(
            tx, custody, **place, title="closed case", description="asked", selection=Selection(), now=NOON
        )
        holds.release_hold(tx, custody, **place, hold_id=released.id, description="closed", now=NOON + DAY)
        service.delete_point(tx, custody, daily, points["hidden"].arn, now=NOON)
        service.put_tags(tx, custody, **place, arn=points["kept"].arn, tags={"n": "2"}, now=NOON)
        service.update_lifecycle(tx, custody, daily, points["longer"].arn, Lifecycle(delete_after_days=400), now=NOON)
        put_access_policy(tx, custody, **place, name="Copies", policy=POLICY, now=NOON)
        put_lock(
            tx,
            custody,
            **place,
            name="Copies",
            min_retention_days=7,
            max_retention_days=None,
            changeable_for_days=3,
            now=NOON,
        )
        delete_vault(tx, custody, **place, name="Gone", now=NOON)
    return {"points": points, "held": held, "daily": daily, "copies": copies}


TABLES = {
    "vault": "record_sequence, record_hash, notifications",
    "repository": "wrapped_password",
    "recovery_point": "last_restored_at",
    "legal_hold": "token",
    "legal_hold_point": "",
    "tag": "",
    "kms_key": "",
    "kms_alias": "",
}


def catalogue(database: Database, *, without: str = "") -> dict[str, list[dict[str, Any]]]:
    """Every row that storage tells of, without what is allowed to differ."""
    found = {}
    with database.reading() as tx:
        for table, left_out in TABLES.items():
            names = {*left_out.split(", "), *without.split(", ")}
            rows = [
                {name: value for name, value in row._mapping.items() if name not in names}
                for row in tx.execute(sa.text(f"SELECT * FROM {table}"))
            ]
            found[table] = sorted(rows, key=repr)
    return found


def rebuilt(database: Database, custody: Custody, **more: Any) -> Rebuilt:
    return rebuild(database, custody, now=NOON + DAY, machine=StillMachine(NOON), **more)


def contents(database: Database, custody: Custody, point: RecoveryPoint) -> list[tuple[bytes, ...]]:
    with database.reading() as tx:
        access = access_for_job(tx, custody, point.repository_id)
    return [path for path, _ in opened(custody, access).entries(point.snapshot_id)]


def test_a_rebuild_equals_the_catalogue_that_was_deleted(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    life = a_full_life(sqlite_database, custody)
    said: list[str] = []
    found = rebuilt(empty_database, custody, progress=said.append)
    assert [vault.faults for vault in found.vaults] == [[], [], []]
    assert found.is_sound
    assert catalogue(empty_database) == catalogue(sqlite_database)
    assert sorted(found.accounts) == [ACCOUNT, OTHER]
    assert (sum(vault.points for vault in found.vaults), sum(vault.hidden for vault in found.vaults)) == (4, 1)
    assert any("Daily" in line and "3 recovery points" in line for line in said)
    for point in life["points"].values():
        assert contents(empty_database, custody, point) == contents(sqlite_database, custody, point)


def test_a_rebuild_on_postgres_equals_one_on_sqlite(database: Database, custody: Custody, tmp_path: Path) -> None:
    a_full_life(database, custody)
    before = catalogue(database)
    with database.transaction() as tx:
        for table in (*TABLES, "kms_material"):
            tx.execute(sa.text(f"DELETE FROM {table}"))
    assert rebuilt(database, custody).is_sound
    assert catalogue(database) == before


def test_locks_and_holds_still_bind_after_a_rebuild(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    life = a_full_life(sqlite_database, custody)
    rebuilt(empty_database, custody)
    with empty_database.transaction() as tx:
        copies = vaults.find_vault_by_id(tx, life["copies"].id)
        daily = vaults.find_vault_by_id(tx, life["daily"].id)
        assert copies is not None
        assert daily is not None
        assert copies.lock is not None
        assert copies.lock.lock_at == NOON + 3 * DAY
        for vault, name in ((copies, "theirs"), (daily, "held")):
            with pytest.raises(PointKeptError):
                service.delete_point(tx, custody, vault, life["points"][name].arn, now=NOON)


def test_a_key_that_was_deleted_for_good_does_not_come_back(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    with sqlite_database.transaction() as tx:
        key = create_key(tx, custody.root_key, ACCOUNT, REGION, description="shred", now=NOON)
    shredded = a_vault(sqlite_database, custody, "Shredded", key_arn=key.arn)
    point = back_up(sqlite_database, custody, shredded, texts=["secret"]).point
    other = back_up(sqlite_database, custody, a_vault(sqlite_database, custody), texts=["kept"]).point
    with sqlite_database.transaction() as tx:
        delete_for_good(tx, custody, key, now=NOON)
    for database in (sqlite_database, empty_database):  # in place, and from storage alone
        rebuilt(database, custody)
        with database.reading() as tx, pytest.raises(KeyNotFoundError):
            get_key_by_arn(tx, key.arn)
        with pytest.raises(KeyNotFoundError):
            contents(database, custody, point)
        assert contents(database, custody, other) == [(b"file0",)]


def test_a_rebuild_can_be_repeated_and_changes_nothing(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    a_full_life(sqlite_database, custody)
    rebuilt(empty_database, custody)
    before = catalogue(empty_database)
    again = rebuilt(empty_database, custody)
    assert again.is_sound
    assert again.accounts == []
    assert [vault.behind for vault in again.vaults] == [0, 0, 0]
    assert catalogue(empty_database) == before


def test_work_goes_on_after_a_rebuild(sqlite_database: Database, custody: Custody, empty_database: Database) -> None:
    life = a_full_life(sqlite_database, custody)
    rebuilt(empty_database, custody)
    with empty_database.reading() as tx:
        daily = vaults.find_vault_by_id(tx, life["daily"].id)
    assert daily is not None
    point = back_up(empty_database, custody, daily, texts=["after"]).point
    assert point.repository_id == life["points"]["kept"].repository_id
    assert rebuilt(empty_database, custody).is_sound


def test_the_recovery_key_alone_brings_everything_back_under_a_new_root_key(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    life = a_full_life(sqlite_database, custody)
    fresh = replace(custody, root_key=RootKey(bytes(32)))
    found = rebuilt(empty_database, fresh, recovery_private=RECOVERY.private)
    assert [vault.faults for vault in found.vaults] == [[], [], []]
    assert catalogue(empty_database) == catalogue(sqlite_database)
    for point in life["points"].values():
        assert contents(empty_database, fresh, point)
    # From now on the new root key suffices, and the old one opens nothing.
    assert rebuilt(empty_database, fresh).is_sound
    assert not rebuilt(empty_database, custody).is_sound


def test_another_root_key_brings_nothing_back_and_says_why(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    a_full_life(sqlite_database, custody)
    found = rebuilt(empty_database, replace(custody, root_key=RootKey(bytes(32))))
    assert not found.is_sound
    assert catalogue(empty_database)["recovery_point"] == []
    assert any("signed by a key that is not trusted" in fault for vault in found.vaults for fault in vault.faults)


def test_an_empty_storage_is_said_to_be_empty(empty_database: Database, custody: Custody) -> None:
    with pytest.raises(NothingToRebuildError, match="no vaults in file://"):
        rebuilt(empty_database, custody)


def storage_of(custody: Custody, vault: Vault) -> Path:
    return Path(custody.settings.storages["local"].url.removeprefix("file://")) / "vaults" / vault.id


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(content))


Damage = Callable[[Path, Path, RecoveryPoint], None]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "a record changed": (lambda vault, _repo, _point: change_a_byte(vault / record_name(3)), "record 3"),
    "a record gone": (lambda vault, _repo, _point: (vault / record_name(3)).unlink(), "record 3 is missing"),
    "two records exchanged": (
        lambda vault, _repo, _point: exchange(vault / record_name(2), vault / record_name(3)),
        "misplaced",
    ),
    "a file put among the records": (
        lambda vault, _repo, _point: write(vault / "holdfast/records/notes.txt"),
        "is no record",
    ),
    "the key file changed": (lambda _vault, repo, _point: change_a_byte(repo / KEY_FILE), KEY_FILE),
    "a snapshot gone": (lambda _vault, repo, point: (repo / "snapshots" / point.snapshot_id).unlink(), "missing"),
}


def exchange(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    for path, content in ((one, other.read_bytes()), (other, kept)):
        path.chmod(0o600)
        path.write_bytes(content)


def write(path: Path) -> None:
    path.write_text("hello", encoding="utf-8")


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_whatever_is_not_as_it_was_written_is_named(
    sqlite_database: Database, custody: Custody, empty_database: Database, damage: Damage, says: str
) -> None:
    vault = a_vault(sqlite_database, custody)
    first = back_up(sqlite_database, custody, vault).point
    back_up(sqlite_database, custody, vault)
    place = storage_of(custody, vault)
    damage(place, place / ACCOUNT / "1", first)
    (found,) = rebuilt(empty_database, custody).vaults
    assert not found.is_sound
    if says == "missing":
        assert found.missing == [first.arn]
    else:
        assert any(says in fault for fault in found.faults)


def test_a_snapshot_without_a_record_is_named_and_one_of_somebody_elses_is_not(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    vault = a_vault(sqlite_database, custody)
    _, repository = a_repository(sqlite_database, custody, vault)
    ours = repository.write(entries(), at=NOON, tags=["holdfast:recovery-point=unknown"])
    repository.write(entries(["theirs"]), at=NOON, tags=["mine"])
    (found,) = rebuilt(empty_database, custody).vaults
    assert [line.rpartition(" ")[2] for line in found.unrecorded] == [ours.snapshot_id]


def test_the_last_record_cut_off_is_named_where_the_database_still_knows_of_it(
    sqlite_database: Database, custody: Custody
) -> None:
    vault = a_vault(sqlite_database, custody)
    back_up(sqlite_database, custody, vault)
    (storage_of(custody, vault) / record_name(3)).unlink()
    (found,) = rebuilt(sqlite_database, custody).vaults
    assert "record 3 is missing" in found.faults
    assert found.brought_in.unnamed != []
    with sqlite_database.reading() as tx:
        assert len(store.points_of_vault(tx, vault.id)) == 1


def test_a_point_that_was_recorded_before_a_crash_comes_back_with_its_snapshot(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    vault = a_vault(sqlite_database, custody)
    row, repository = a_repository(sqlite_database, custody, vault)
    one = made(vault, row, point_id="p")
    written = repository.write(entries(), at=NOON, tags=["holdfast:recovery-point=p"])
    service.record_point(sqlite_database, custody, replace(one, snapshot_id=written.snapshot_id), now=NOON)
    assert rebuilt(empty_database, custody).is_sound
    with empty_database.reading() as tx:
        assert [point.snapshot_id for point in store.points_of_vault(tx, vault.id)] == [written.snapshot_id]


def test_an_older_copy_of_the_database_catches_up(sqlite_database: Database, custody: Custody, tmp_path: Path) -> None:
    vault = a_vault(sqlite_database, custody)
    back_up(sqlite_database, custody, vault)
    copy = tmp_path / "older.db"
    with sqlite_database.engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql(f"VACUUM INTO '{copy}'")
        connection.exec_driver_sql("BEGIN")
    back_up(sqlite_database, custody, vault)
    with sqlite_database.transaction() as tx:
        put_access_policy(tx, custody, account=ACCOUNT, region=REGION, name="Daily", policy=POLICY, now=NOON)
    older = Database.open(f"sqlite:///{copy}")
    (found,) = rebuilt(older, custody).vaults
    assert (found.behind, found.is_sound, found.brought_in.points) == (2, True, 1)
    assert catalogue(older) == catalogue(sqlite_database)
    older.close()


def test_every_repository_stays_as_restic_wants_it(
    sqlite_database: Database, custody: Custody, empty_database: Database
) -> None:
    life = a_full_life(sqlite_database, custody)
    rebuilt(empty_database, custody)
    point = life["points"]["kept"]
    with empty_database.reading() as tx:
        access = access_for_job(tx, custody, point.repository_id)
    repository: Repository = opened(custody, access)
    assert len(repository.snapshots()) == 4
    assert repository.locks() == []
