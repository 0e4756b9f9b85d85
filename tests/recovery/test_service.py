"""What can be done with recovery points, on both databases and real repositories."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from tests.vault.builders import (
    ACCOUNT,
    DAY,
    NOON,
    OTHER,
    REGION,
    TREE,
    a_custody,
    a_repository,
    a_vault,
    back_up,
    made,
)

from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import holds, service, store
from holdfast.recovery.hold import HoldReleasedError, HoldStatus, InvalidHoldError, Selection, UnknownHoldError
from holdfast.recovery.model import PointKeptError, RecoveryPoint, Status, UnknownPointError
from holdfast.recovery.service import UnprotectedResourceError
from holdfast.recovery.store import PointFilter, Position
from holdfast.vault import ledger
from holdfast.vault import store as vaults
from holdfast.vault.custody import Custody
from holdfast.vault.model import Lock, RetentionError, Vault
from holdfast.vault.service import get_vault, put_lock, remove_lock

ANY: Final = PointFilter()
EVERYTHING: Final = Selection()


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return a_custody(tmp_path / "storage")


def lock(database: Database, custody: Custody, **more: Any) -> Lock:
    given: dict[str, Any] = {"min_retention_days": None, "max_retention_days": None, "changeable_for_days": None}
    with database.transaction() as tx:
        return put_lock(tx, custody, account=ACCOUNT, region=REGION, name="Daily", now=NOON, **(given | more))


def vault_now(database: Database) -> Vault:
    with database.reading() as tx:
        return get_vault(tx, ACCOUNT, REGION, "Daily")


def listed(database: Database, vault: Vault) -> list[RecoveryPoint]:
    with database.reading() as tx:
        return service.list_points(tx, vault, ANY, limit=100)


def kinds(custody: Custody, vault: Vault) -> list[str]:
    found, faults = ledger.read(custody.storage_of(vault), vault.id, trusted=frozenset({custody.signer.public}))
    assert faults == ()
    return [written.record.kind for written in found]


def hold(database: Database, custody: Custody, selection: Selection = EVERYTHING, **more: Any) -> str:
    given: dict[str, Any] = {
        "account": ACCOUNT,
        "region": REGION,
        "title": "case 7",
        "description": "asked",
        "now": NOON,
    }
    with database.transaction() as tx:
        return holds.place_hold(tx, custody, selection=selection, **(given | more)).id


def test_a_point_is_recorded_before_it_is_listed_and_listed_once_its_job_has_ended(
    database: Database, custody: Custody
) -> None:
    vault = a_vault(database, custody)
    row, _ = a_repository(database, custody, vault)
    recorded = service.record_point(database, custody, made(vault, row, tags={"team": "web"}), now=NOON)
    assert kinds(custody, vault)[-1] == "point-made"
    assert listed(database, vault) == []
    with database.transaction() as tx:
        service.catalogue_point(tx, recorded)
    (point,) = listed(database, vault)
    assert point == recorded.point
    assert point.delete_at == NOON + 35 * DAY
    assert point.vault_arn == vault.arn
    with database.reading() as tx:
        assert service.get_point(tx, ACCOUNT, REGION, point.arn) == point
        assert vaults.pending(tx, vault.id) == []
        assert store.announced(tx) == []


def test_a_second_run_of_a_job_makes_the_same_point_not_another(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    row, _ = a_repository(database, custody, vault)
    first = made(vault, row, "1" * 64)
    service.record_point(database, custody, first, now=NOON)
    second = service.record_point(database, custody, replace(first, snapshot_id="2" * 64, epoch=2), now=NOON)
    with database.transaction() as tx:
        service.catalogue_point(tx, second)
    assert [point.snapshot_id for point in listed(database, vault)] == ["2" * 64]


def test_a_point_whose_job_ended_otherwise_is_withdrawn_once(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    row, _ = a_repository(database, custody, vault)
    one = made(vault, row)
    service.record_point(database, custody, one, now=NOON)
    with database.transaction() as tx:
        assert service.withdraw_point(tx, custody, one.point_id, vault.id, now=NOON)
        assert not service.withdraw_point(tx, custody, one.point_id, vault.id, now=NOON)
    assert kinds(custody, vault)[-1] == "point-withdrawn"


def test_a_catalogued_point_is_never_withdrawn(sqlite_database: Database, custody: Custody) -> None:
    vault = a_vault(sqlite_database, custody)
    backup = back_up(sqlite_database, custody, vault)
    with sqlite_database.transaction() as tx:
        assert not service.withdraw_point(tx, custody, backup.point.id, vault.id, now=NOON)


@pytest.mark.parametrize("days", [6, 366, None])
def test_a_locked_vault_refuses_what_it_would_keep_too_briefly_or_too_long(
    sqlite_database: Database, custody: Custody, days: int | None
) -> None:
    vault = a_vault(sqlite_database, custody)
    lock(sqlite_database, custody, min_retention_days=7, max_retention_days=365)
    row, _ = a_repository(sqlite_database, custody, vault)
    one = made(vault, row, lifecycle=Lifecycle(delete_after_days=days))
    with pytest.raises(RetentionError):
        service.record_point(sqlite_database, custody, one, now=NOON)
    assert kinds(custody, vault)[-1] == "repository-created"


def test_a_deleted_point_is_hidden_and_can_be_brought_back(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    point = back_up(database, custody, vault).point
    with database.transaction() as tx:
        assert service.delete_point(tx, custody, vault, point.arn, now=NOON).purge_at == NOON + 7 * DAY
    assert listed(database, vault) == []
    with database.transaction() as tx:
        with pytest.raises(UnknownPointError):
            service.get_point(tx, ACCOUNT, REGION, point.arn)
        with pytest.raises(UnknownPointError):
            service.delete_point(tx, custody, vault, point.arn, now=NOON)
        service.bring_back_point(tx, custody, account=ACCOUNT, region=REGION, arn=point.arn, now=NOON)
    assert listed(database, vault) == [point]
    assert kinds(custody, vault)[-2:] == ["point-deleted", "point-brought-back"]


def test_a_point_brought_back_after_its_end_is_kept_until_somebody_decides(
    sqlite_database: Database, custody: Custody
) -> None:
    vault = a_vault(sqlite_database, custody)
    point = back_up(sqlite_database, custody, vault).point
    with sqlite_database.transaction() as tx:
        service.delete_point(tx, custody, vault, point.arn, now=NOON + 34 * DAY)
        back = service.bring_back_point(tx, custody, account=ACCOUNT, region=REGION, arn=point.arn, now=NOON + 36 * DAY)
    assert (back.delete_at, back.lifecycle.delete_after_days, back.status) == (None, None, Status.COMPLETED)


@pytest.mark.parametrize("days", [None, 3], ids=["governance", "compliance, in its grace time too"])
def test_a_lock_keeps_points_and_their_lifecycles_at_once(
    database: Database, custody: Custody, days: int | None
) -> None:
    vault = a_vault(database, custody)
    point = back_up(database, custody, vault).point
    lock(database, custody, changeable_for_days=days)
    locked = vault_now(database)
    with database.transaction() as tx:
        with pytest.raises(PointKeptError):
            service.delete_point(tx, custody, locked, point.arn, now=NOON)
        with pytest.raises(PointKeptError):
            service.update_lifecycle(tx, custody, locked, point.arn, Lifecycle(delete_after_days=1), now=NOON)
    with database.transaction() as tx:
        remove_lock(tx, custody, account=ACCOUNT, region=REGION, name="Daily", now=NOON)
    with database.transaction() as tx:
        service.delete_point(tx, custody, get_vault(tx, ACCOUNT, REGION, "Daily"), point.arn, now=NOON)


def test_a_legal_hold_keeps_a_point_until_it_is_released(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    point = back_up(database, custody, vault).point
    hold_id = hold(database, custody)
    place: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "hold_id": hold_id}
    with database.transaction() as tx:
        with pytest.raises(PointKeptError, match=hold_id):
            service.delete_point(tx, custody, vault, point.arn, now=NOON)
        service.update_lifecycle(tx, custody, vault, point.arn, Lifecycle(delete_after_days=1), now=NOON)
        held = holds.list_points_held(tx, holds.get_hold(tx, **place, now=NOON), after="", limit=10)
        assert [found.arn for found in held] == [point.arn]
    with database.transaction() as tx:
        released = holds.release_hold(tx, custody, **place, description="closed", now=NOON + DAY)
    assert (released.status, released.retain_until) == (HoldStatus.CANCELED, NOON + 181 * DAY)
    with database.transaction() as tx:
        with pytest.raises(HoldReleasedError):
            holds.release_hold(tx, custody, **place, description="again", now=NOON)
        service.delete_point(tx, custody, vault, point.arn, now=NOON)
    assert kinds(custody, vault)[-4:] == ["hold-placed", "lifecycle-put", "hold-released", "point-deleted"]


def test_a_hold_takes_the_points_of_its_selection_that_exist(sqlite_database: Database, custody: Custody) -> None:
    daily, weekly = a_vault(sqlite_database, custody), a_vault(sqlite_database, custody, "Weekly")
    old = back_up(sqlite_database, custody, daily, created_at=NOON - 10 * DAY).point
    new = back_up(sqlite_database, custody, daily).point
    other = back_up(sqlite_database, custody, weekly, resource_arn=TREE + "2").point
    selections = {
        "all": (EVERYTHING, {old.id, new.id, other.id}),
        "a vault": (Selection(vault_names=("Weekly",)), {other.id}),
        "a resource": (Selection(resource_arns=(TREE,)), {old.id, new.id}),
        "a range, its ends included": (Selection(from_at=NOON, to_at=NOON), {new.id, other.id}),
    }
    for name, (selection, expected) in selections.items():
        hold_id = hold(sqlite_database, custody, selection)
        with sqlite_database.reading() as tx:
            held = holds.get_hold(tx, account=ACCOUNT, region=REGION, hold_id=hold_id, now=NOON)
            assert {point.id for point in holds.list_points_held(tx, held, after="", limit=10)} == expected, name


def test_the_same_request_places_one_hold(sqlite_database: Database, custody: Custody) -> None:
    assert hold(sqlite_database, custody, token="t") == hold(sqlite_database, custody, token="t")


@pytest.mark.parametrize(
    ("selection", "more"),
    [
        pytest.param(Selection(vault_names=("Nowhere",)), {}, id="a vault that is not there"),
        pytest.param(Selection(vault_names=("Daily",), resource_arns=(TREE,)), {}, id="vaults and resources"),
        pytest.param(Selection(from_at=NOON, to_at=NOON - DAY), {}, id="a range backwards"),
        pytest.param(EVERYTHING, {"title": " "}, id="no title"),
        pytest.param(EVERYTHING, {"description": "x" * 281}, id="a long description"),
    ],
)
def test_a_hold_that_makes_no_sense_is_refused(
    sqlite_database: Database, custody: Custody, selection: Selection, more: dict[str, Any]
) -> None:
    a_vault(sqlite_database, custody)
    with pytest.raises(InvalidHoldError):
        hold(sqlite_database, custody, selection, **more)


def test_a_hold_of_another_account_is_not_there(sqlite_database: Database, custody: Custody) -> None:
    hold_id = hold(sqlite_database, custody)
    with sqlite_database.reading() as tx, pytest.raises(UnknownHoldError):
        holds.get_hold(tx, account=OTHER, region=REGION, hold_id=hold_id, now=NOON)


def test_points_are_listed_newest_first_by_every_filter_and_page(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    row, _ = a_repository(database, custody, vault)
    points = []
    for number in range(7):
        one = made(
            vault,
            row,
            created_at=NOON + timedelta(hours=number // 2),
            resource_arn=TREE + str(number % 2),
            resource_type="EFS" if number % 3 else "S3",
            arn=f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:{new_uuid()}",
            created_by={"BackupPlanId": "orgs/a_b" if number < 2 else "orgs/axb"},
        )
        recorded = service.record_point(database, custody, one, now=NOON)
        with database.transaction() as tx:
            points.append(service.catalogue_point(tx, recorded))
    newest_first = sorted(points, key=lambda point: (point.created_at, point.id), reverse=True)

    def listed_by(**filters: Any) -> list[RecoveryPoint]:
        with database.reading() as tx:
            return service.list_points(tx, vault, PointFilter(**filters), limit=100)

    hour = timedelta(hours=1)
    assert listed_by() == newest_first
    assert listed_by(resource_arn=TREE + "1") == [p for p in newest_first if p.resource_arn.endswith("1")]
    assert listed_by(resource_type="S3") == [p for p in newest_first if p.resource_type == "S3"]
    assert listed_by(plan_id="orgs/a_b") == [p for p in newest_first if p.created_by["BackupPlanId"] == "orgs/a_b"]
    assert listed_by(created_before=NOON + hour) == [p for p in newest_first if p.created_at == NOON]
    assert listed_by(created_after=NOON + 2 * hour) == [p for p in newest_first if p.created_at > NOON + 2 * hour]
    pages: list[RecoveryPoint] = []
    after: Position | None = None
    while after is None or len(pages) % 2 == 0:
        with database.reading() as tx:
            pages += service.list_points(tx, vault, ANY, after=after, limit=2)
        after = Position(pages[-1].created_at, pages[-1].id)
    assert pages == newest_first
    with database.reading() as tx:
        place: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "limit": 100}
        of_resource = service.list_points_of_resource(tx, resource_arn=TREE + "0", **place)
    assert of_resource == [p for p in newest_first if p.resource_arn.endswith("0")]


def test_a_resource_is_protected_from_its_first_point_on(database: Database, custody: Custody) -> None:
    daily, weekly = a_vault(database, custody), a_vault(database, custody, "Weekly")
    back_up(database, custody, daily)
    latest = back_up(database, custody, weekly, created_at=NOON + DAY).point
    other = back_up(database, custody, daily, resource_arn=TREE + "2").point
    place: dict[str, Any] = {"account": ACCOUNT, "region": REGION}
    with database.reading() as tx:
        assert [one.latest for one in service.list_protected(tx, **place, limit=10)] == [latest, other]
        in_daily = service.list_protected(tx, **place, vault=daily, limit=10)
        assert [one.latest.resource_arn for one in in_daily] == [TREE, TREE + "2"]
        assert [one.latest for one in service.list_protected(tx, **place, after=TREE, limit=10)] == [other]
        described = service.describe_protected(tx, **place, resource_arn=TREE)
        assert (described.latest, described.last_restore) == (latest, None)
        with pytest.raises(UnprotectedResourceError):
            service.describe_protected(tx, account=OTHER, region=REGION, resource_arn=TREE)


def test_the_next_backup_is_compared_with_the_latest_of_its_repository(
    sqlite_database: Database, custody: Custody
) -> None:
    vault = a_vault(sqlite_database, custody)
    back_up(sqlite_database, custody, vault)
    latest = back_up(sqlite_database, custody, vault, created_at=NOON + DAY).point
    with sqlite_database.reading() as tx:
        assert store.latest_snapshot(tx, latest.repository_id, TREE) == latest.snapshot_id
        assert store.latest_snapshot(tx, latest.repository_id, "x") is None


def test_tags_of_points_and_vaults_are_recorded(sqlite_database: Database, custody: Custody) -> None:
    vault = a_vault(sqlite_database, custody)
    point = back_up(sqlite_database, custody, vault).point
    place: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "now": NOON, "tags": {"a": "1"}}
    with sqlite_database.transaction() as tx:
        assert service.put_tags(tx, custody, arn=point.arn, **place)
        assert service.put_tags(tx, custody, arn=vault.arn, **place)
        assert not service.put_tags(tx, custody, arn=TREE, **place)
        assert not service.put_tags(tx, custody, arn=vault.arn, **(place | {"account": OTHER}))
    assert kinds(custody, vault)[-2:] == ["tags-put", "tags-put"]
