"""Lifecycles, and what keeps a recovery point: the rules, by table and by law."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vault.builders import ACCOUNT, DAY, NOON, REGION, TREE, a_point

from holdfast.plan.model.lifecycle import InvalidLifecycleError, refuse_bad_lifecycle
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery.model import (
    BlockerKind,
    Candidate,
    FoundSnapshot,
    LifecycleFixedError,
    PointBusyError,
    PointKeptError,
    RecoveryPoint,
    Standing,
    Status,
    StorageClass,
    calculated,
    deletion_blockers,
    fitting,
    may_purge,
    plan_expiry,
    plan_orphans,
    point_arn,
    point_from_body,
    point_to_body,
    refuse_deletion,
    stricter,
    with_lifecycle,
)
from holdfast.vault.model import Lock

LOCK = Lock(7, 365)
days = st.none() | st.integers(1, 36_500)
instants = st.none() | st.integers(-400, 400).map(lambda hours: NOON + timedelta(hours=hours))
hold_sets = st.frozensets(st.sampled_from(["h1", "h2", "h3"]))
standings = st.builds(Standing, instants, instants, hold_sets)
points = st.builds(
    lambda lifecycle, age, status, hidden: a_point(
        lifecycle=lifecycle, created_at=NOON - timedelta(hours=age), status=status, deleted_at=NOON if hidden else None
    ),
    st.builds(Lifecycle, st.none(), days),
    st.integers(0, 24 * 400),
    st.sampled_from(list(Status)),
    st.booleans(),
)


@given(hours=st.integers(-300_000, 300_000), odd=st.integers(0, 10**6), cold=days, delete=days)
def test_a_lifecycle_ends_so_many_days_after_creation_to_the_microsecond(
    hours: int, odd: int, cold: int | None, delete: int | None
) -> None:
    at = NOON + timedelta(hours=hours, microseconds=odd)
    ends = calculated(Lifecycle(cold, delete), at)
    assert ends.cold_at == (None if cold is None else at + timedelta(days=cold))
    assert ends.delete_at == (None if delete is None else at + timedelta(days=delete))


def test_minus_one_is_never() -> None:
    assert calculated(Lifecycle(-1, -1), NOON) == calculated(Lifecycle(), NOON)
    assert fitting(Lifecycle(-1, 35), "EFS") == Lifecycle(None, 35, False)
    refuse_bad_lifecycle(Lifecycle(-1, -1))


@pytest.mark.parametrize(
    ("cold", "delete", "continuous", "says"),
    [
        pytest.param(30, 119, False, "less than 90 days apart", id="cold for 89 days"),
        pytest.param(None, 0, False, "less than 1 or more than 36500", id="deleted at once"),
        pytest.param(None, 36_501, False, "less than 1 or more than 36500", id="kept too long"),
        pytest.param(0, None, False, "MoveToColdStorageAfterDays cannot", id="cold at once"),
        pytest.param(None, -2, False, "less than 1", id="a negative number that is not -1"),
        pytest.param(30, None, True, "unavailable", id="a continuous one goes cold"),
        pytest.param(None, 36, True, "more than 35", id="a continuous one kept too long"),
    ],
)
def test_a_lifecycle_that_makes_no_sense_is_refused_in_the_words_that_clients_know(
    cold: int | None, delete: int | None, continuous: bool, says: str
) -> None:
    with pytest.raises(InvalidLifecycleError, match=says):
        refuse_bad_lifecycle(Lifecycle(cold, delete), continuous=continuous)


@given(cold=st.integers(1, 36_000), more=st.integers(-90, 200))
def test_what_goes_cold_stays_there_for_ninety_days(cold: int, more: int) -> None:
    lifecycle = Lifecycle(cold, max(1, cold + more))
    if more >= 90:
        refuse_bad_lifecycle(lifecycle)
    else:
        with pytest.raises(InvalidLifecycleError):
            refuse_bad_lifecycle(lifecycle)


@pytest.mark.parametrize(
    ("kind", "archive", "goes_cold"),
    [("EFS", False, True), ("DynamoDB", False, True), ("EBS", False, False), ("EBS", True, True), ("RDS", True, False)],
)
def test_the_move_to_cold_storage_is_ignored_where_a_type_has_none(kind: str, archive: bool, goes_cold: bool) -> None:
    found = fitting(Lifecycle(30, 365, archive), kind)
    assert (found.cold_after_days, found.delete_after_days) == (30 if goes_cold else None, 365)


def test_a_new_lifecycle_replaces_the_old_one_whole() -> None:
    point = a_point(lifecycle=Lifecycle(30, 365), created_at=NOON - 5 * DAY)
    changed = with_lifecycle(point, Lifecycle(delete_after_days=10), lock=None, now=NOON)
    assert (changed.lifecycle.cold_after_days, changed.cold_at) == (None, None)
    assert changed.delete_at == NOON + 5 * DAY
    assert with_lifecycle(point, Lifecycle(), lock=None, now=NOON).delete_at is None


def test_a_point_goes_cold_on_its_next_day_at_the_earliest() -> None:
    point = a_point(lifecycle=Lifecycle(delete_after_days=365), created_at=NOON - 5 * DAY)
    assert with_lifecycle(point, Lifecycle(6, 365), lock=None, now=NOON).cold_at == NOON + DAY
    with pytest.raises(LifecycleFixedError, match="at least 6"):
        with_lifecycle(point, Lifecycle(5, 365), lock=None, now=NOON)


def test_a_cold_point_stays_cold() -> None:
    point = a_point(lifecycle=Lifecycle(10, 365), created_at=NOON - 20 * DAY, storage_class=StorageClass.COLD)
    assert with_lifecycle(point, Lifecycle(10, 500), lock=None, now=NOON).delete_at == NOON + 480 * DAY
    with pytest.raises(LifecycleFixedError, match="in cold storage already"):
        with_lifecycle(point, Lifecycle(None, 500), lock=None, now=NOON)


@given(point=points, wanted=st.builds(Lifecycle, days, days))
def test_no_lifecycle_in_a_locked_vault_changes(point: RecoveryPoint, wanted: Lifecycle) -> None:
    with pytest.raises(PointKeptError, match="locked"):
        with_lifecycle(point, wanted, lock=LOCK, now=NOON)


@given(
    point=points,
    lock=st.sampled_from([None, Lock(), LOCK, Lock(1, None, NOON)]),
    holds=hold_sets,
    jobs=st.lists(st.sampled_from(["j1", "j2"]), unique=True),
)
def test_no_held_and_no_locked_point_is_ever_deletable(
    point: RecoveryPoint, lock: Lock | None, holds: frozenset[str], jobs: Sequence[str]
) -> None:
    blockers = deletion_blockers(point, lock=lock, holds=holds, in_use_by=jobs)
    kinds = {blocker.kind for blocker in blockers}
    assert (BlockerKind.LOCK in kinds) == (lock is not None)
    assert (BlockerKind.HOLD in kinds) == bool(holds)
    assert (BlockerKind.USE in kinds) == bool(jobs)
    if lock is not None or holds:
        with pytest.raises(PointKeptError):
            refuse_deletion(blockers)
    elif blockers:
        with pytest.raises(PointBusyError):
            refuse_deletion(blockers)
    else:
        refuse_deletion(blockers)
        assert point.status not in {Status.CREATING, Status.DELETING}


def test_what_keeps_a_point_is_said_in_words() -> None:
    with pytest.raises(PointKeptError, match=r"because it has active legal hold\(s\): h1") as caught:
        refuse_deletion(deletion_blockers(a_point(), lock=None, holds=["h1"], in_use_by=["j"]))
    assert [blocker.kind for blocker in caught.value.blockers] == [BlockerKind.HOLD, BlockerKind.USE]


def not_before(one: datetime | None, other: datetime | None) -> bool:
    return one is None or (other is not None and one >= other)


@given(one=standings, other=standings, third=standings)
def test_of_two_witnesses_neither_is_weakened(one: Standing, other: Standing, third: Standing) -> None:
    both = stricter(one, other)
    assert both == stricter(other, one)
    assert stricter(one, one) == one
    assert stricter(both, third) == stricter(one, stricter(other, third))
    for witness in (one, other):
        assert not_before(both.delete_at, witness.delete_at)
        assert not_before(both.purge_at, witness.purge_at)
        assert both.holds >= witness.holds


@given(one=standings, other=standings, hours=st.integers(-500, 500))
def test_data_goes_only_where_both_witnesses_let_it_go(one: Standing, other: Standing, hours: int) -> None:
    now = NOON + timedelta(hours=hours)
    assert may_purge(stricter(one, other), now=now) == (may_purge(one, now=now) and may_purge(other, now=now))


@given(found=st.lists(st.tuples(points, standings), max_size=8))
def test_an_expiry_takes_no_held_point_and_none_before_both_witnesses_say_so(
    found: list[tuple[RecoveryPoint, Standing]],
) -> None:
    candidates = [
        Candidate(replace(point, id=str(number)), stricter(Standing(point.delete_at, NOON), told))
        for number, (point, told) in enumerate(found)
    ]
    plan = plan_expiry(candidates, now=NOON)
    hidden, kept = {point.id for point in plan.hide}, {point.id for point, _ in plan.kept}
    for candidate in candidates:
        point, standing = candidate.point, candidate.standing
        due = point.deleted_at is None and point.delete_at is not None and point.delete_at <= NOON
        lets_go = not standing.holds and standing.delete_at is not None and standing.delete_at <= NOON
        assert (point.id in hidden) == (due and lets_go)
        assert (point.id in kept) == (due and not lets_go)


def test_a_row_that_was_shortened_behind_our_back_does_not_let_a_point_go() -> None:
    point = a_point(created_at=NOON - 40 * DAY)
    told = Standing(NOON + 400 * DAY, None)
    plan = plan_expiry([Candidate(point, stricter(Standing(point.delete_at, None), told))], now=NOON)
    assert plan.hide == ()
    assert "whatever the database says" in plan.kept[0][1]


snapshots = st.builds(
    lambda number, hours, ours, job: FoundSnapshot(
        f"s{number}",
        NOON - timedelta(hours=hours),
        (f"holdfast:recovery-point=p{number}", f"holdfast:job={job}") if ours else ("mine",),
    ),
    st.integers(0, 9),
    st.integers(0, 72),
    st.booleans(),
    st.sampled_from(["running", "ended"]),
)


@given(
    found=st.lists(snapshots, max_size=8, unique_by=lambda snapshot: snapshot.id),
    named=st.frozensets(st.integers(0, 12).map(lambda number: f"s{number}")),
)
def test_only_an_old_snapshot_of_our_own_that_nothing_names_is_forgotten(
    found: list[FoundSnapshot], named: frozenset[str]
) -> None:
    plan = plan_orphans(found, named=named, unfinished_jobs={"running"}, now=NOON)
    for snapshot in found:
        assert (snapshot.id in plan.forget) == (
            snapshot.id not in named
            and snapshot.point_id is not None
            and snapshot.job_id != "running"
            and snapshot.at <= NOON - DAY
        )
        assert sum(snapshot.id in group for group in (plan.forget, plan.waiting, plan.foreign, named)) == 1
    assert set(plan.missing) == named - {snapshot.id for snapshot in found}


@given(point=points)
def test_a_point_reads_back_from_its_record(point: RecoveryPoint) -> None:
    # Whether it is hidden, and when it was restored from, is told by other records or none.
    plain = replace(point, deleted_at=None, lifecycle=replace(point.lifecycle, archive=False))
    assert point_from_body(point.vault_id, point_to_body(plain)) == plain


def arn_of(kind: str, resource: str) -> str:
    return point_arn(
        partition="aws",
        region=REGION,
        account=ACCOUNT,
        resource_type=kind,
        resource_arn=resource,
        point_id="0000abcd-0000-4000-8000-00000000000f",
        job_id="D48D8717",
        created_at=NOON,
    )


@pytest.mark.parametrize(
    ("kind", "arn"),
    [
        ("EFS", f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:0000abcd-0000-4000-8000-00000000000f"),
        ("DynamoDB", f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:0000abcd-0000-4000-8000-00000000000f"),
        ("RDS", f"arn:aws:rds:{REGION}:{ACCOUNT}:snapshot:awsbackup:job-d48d8717"),
        ("EBS", f"arn:aws:ec2:{REGION}::snapshot/snap-0000abcd000040008"),
        ("Storage Gateway", f"arn:aws:ec2:{REGION}::snapshot/snap-0000abcd000040008"),
    ],
)
def test_a_recovery_point_is_named_as_aws_names_those_of_its_type(kind: str, arn: str) -> None:
    assert arn_of(kind, TREE) == arn


def test_a_buckets_point_is_named_for_bucket_and_time() -> None:
    name = arn_of("S3", "arn:aws:s3:::photos").removeprefix(f"arn:aws:backup:{REGION}:{ACCOUNT}:recovery-point:")
    bucket, at, digits = name.split("-")
    assert (bucket, at, len(digits)) == ("photos", "20260301120000", 8)
