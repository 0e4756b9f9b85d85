"""Locks, retention and names of vaults."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.vault.builders import DAY, NOON

from holdfast.vault.model import (
    InvalidVaultError,
    Lock,
    LockMode,
    RetentionError,
    VaultLockedError,
    VaultNotEmptyError,
    new_lock,
    refuse_bad_name,
    refuse_lock_change,
    refuse_retention,
    refuse_vault_deletion,
    stricter_lock,
)

GOVERNANCE = Lock(7, 365)
GRACE = Lock(7, 365, NOON + DAY)
COMPLIANCE = Lock(7, 365, NOON)

locks = st.one_of(
    st.none(),
    st.builds(
        Lock,
        st.none() | st.integers(1, 400),
        st.none() | st.integers(1, 400),
        st.none() | st.integers(-10, 10).map(lambda days: NOON + days * DAY),
    ),
)


def lock(present: Lock | None = None, low: int | None = 7, high: int | None = 365, grace: int | None = None) -> Lock:
    return new_lock(present, min_retention_days=low, max_retention_days=high, changeable_for_days=grace, now=NOON)


@pytest.mark.parametrize("name", ["ab", "A-b_9", "x" * 50])
def test_a_vaults_name_is_letters_digits_hyphens_and_underscores(name: str) -> None:
    refuse_bad_name(name)


@pytest.mark.parametrize("name", ["", "a", "x" * 51, "a.b", "a b", "a/b", "vault\n", "naïve"])
def test_anything_else_is_no_name_of_a_vault(name: str) -> None:
    with pytest.raises(InvalidVaultError, match="2 to 50"):
        refuse_bad_name(name)


def test_a_lock_without_a_grace_time_is_governance_and_has_no_date() -> None:
    assert lock() == GOVERNANCE
    assert GOVERNANCE.mode(now=NOON + 10_000 * DAY) is LockMode.GOVERNANCE


def test_a_lock_with_a_grace_time_becomes_irrevocable_to_the_instant() -> None:
    made = lock(grace=3)
    assert made.lock_at == NOON + 3 * DAY
    assert made.mode(now=NOON + 3 * DAY - timedelta(microseconds=1)) is LockMode.GRACE
    assert made.mode(now=NOON + 3 * DAY) is LockMode.COMPLIANCE


@pytest.mark.parametrize(
    ("low", "high", "grace", "says"),
    [
        pytest.param(0, None, None, "MinRetentionDays", id="minimum of nothing"),
        pytest.param(None, 36_501, None, "MaxRetentionDays", id="maximum too far"),
        pytest.param(8, 7, None, "must not be above", id="minimum above maximum"),
        pytest.param(7, None, 2, "ChangeableForDays", id="grace too short"),
        pytest.param(7, None, 36_501, "ChangeableForDays", id="grace too long"),
    ],
)
def test_a_lock_that_makes_no_sense_is_refused(low: int | None, high: int | None, grace: int | None, says: str) -> None:
    with pytest.raises(InvalidVaultError, match=says):
        lock(low=low, high=high, grace=grace)


@pytest.mark.parametrize("present", [None, GOVERNANCE, GRACE], ids=["none", "governance", "grace"])
def test_a_lock_that_is_not_irrevocable_yet_may_be_replaced_or_removed(present: Lock | None) -> None:
    assert lock(present, low=1, high=None) == Lock(1, None)
    refuse_lock_change(present, now=NOON)


def test_nobody_changes_or_removes_a_compliance_lock_once_its_date_has_passed() -> None:
    with pytest.raises(VaultLockedError, match="01 March 2026"):
        lock(COMPLIANCE, low=30)
    with pytest.raises(VaultLockedError):
        refuse_lock_change(COMPLIANCE, now=NOON)


@pytest.mark.parametrize(
    ("days", "fits"),
    [(6, False), (7, True), (365, True), (366, False), (None, False)],
)
def test_a_locked_vault_takes_only_retentions_within_its_range(days: int | None, fits: bool) -> None:
    if fits:
        refuse_retention("Daily", GOVERNANCE, days)
        return
    with pytest.raises(RetentionError, match="not within the range specified for the target Backup Vault"):
        refuse_retention("Daily", GOVERNANCE, days)


def test_keeping_for_ever_suits_a_vault_that_has_only_a_minimum_or_no_lock() -> None:
    refuse_retention("Daily", Lock(7, None), None)
    refuse_retention("Daily", None, None)


def test_only_an_empty_vault_is_deleted() -> None:
    refuse_vault_deletion(0)
    with pytest.raises(VaultNotEmptyError, match="because it contains recovery points"):
        refuse_vault_deletion(1)


@given(one=locks, other=locks)
def test_of_two_locks_the_stricter_weakens_neither(one: Lock | None, other: Lock | None) -> None:
    both = stricter_lock(one, other, now=NOON)
    assert both == stricter_lock(other, one, now=NOON)
    assert stricter_lock(one, one, now=NOON) == one
    for lock_ in (one, other):
        if lock_ is None:
            continue
        assert both is not None
        if lock_.mode(now=NOON) is LockMode.COMPLIANCE:
            assert both.mode(now=NOON) is LockMode.COMPLIANCE
            assert (both.min_retention_days or 0) >= (lock_.min_retention_days or 0)
            if lock_.max_retention_days is not None:
                assert both.max_retention_days is not None
                assert both.max_retention_days <= lock_.max_retention_days
