"""The conditions of a copy: each alone, all together, in order; and what would mend them."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.access.model import Decision, PolicyType, Reason, Verdict
from holdfast.job.copying import (
    Condition,
    CopyFacts,
    KeySharing,
    conditions_looked_at,
    copy_lifecycle,
    role_refused,
    unmet,
    where_copy_lies,
)
from holdfast.job.model import Category
from holdfast.plan.model.plan import Lifecycle
from holdfast.vault.model import Lock, Vault

SHOP, CENTRAL = "111122223333", "444455556666"
ROLE = f"arn:aws:iam::{SHOP}:role/Backup"
KEY = f"arn:aws:kms:eu-north-1:{SHOP}:key/1"


def a_decision(
    verdict: Verdict = Verdict.ALLOWED, of: PolicyType = PolicyType.IDENTITY, *, named: str | None = None
) -> Decision:
    reason = Reason(verdict, of, named, statement=1 if named else None)
    return Decision(verdict is Verdict.ALLOWED, reason, (reason,), ROLE, "backup:CopyIntoBackupVault", "*")


def a_vault(lock: Lock | None = None) -> Vault:
    return Vault(
        id="vault",
        account=CENTRAL,
        region="eu-north-1",
        name="Central",
        arn=f"arn:aws:backup:eu-north-1:{CENTRAL}:backup-vault:Central",
        storage="local",
        key_arn="key",
        creator_request_id="1",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        lock=lock,
    )


def facts(**changes: Any) -> CopyFacts:
    """A copy into another account for which everything holds."""
    values: dict[str, Any] = {
        "source_account": SHOP,
        "source_organization": "o-1",
        "target_organization": "o-1",
        "management_account": "123456789012",
        "is_enabled": True,
        "role_arn": ROLE,
        "source_vault_arn": f"arn:aws:backup:eu-north-1:{SHOP}:backup-vault:Own",
        "target_account": CENTRAL,
        "target_arn": a_vault().arn,
        "target": a_vault(),
        "into": a_decision(),
        "out_of": a_decision(),
        "target_key_is_managed": False,
        "source_key": KeySharing(KEY, is_managed=False, use=a_decision()),
        "is_cold": False,
        "delete_after_days": 35,
    }
    return CopyFacts(**{**values, **changes})


NOT_GRANTED = a_decision(Verdict.IMPLICIT_DENY, PolicyType.RESOURCE)
BREAKING: dict[Condition, dict[str, Any]] = {
    Condition.SAME_ORGANIZATION: {"target_organization": None},
    Condition.FEATURE_ENABLED: {"is_enabled": False},
    Condition.TARGET_EXISTS: {"target": None},
    Condition.TARGET_ALLOWS: {"into": NOT_GRANTED},
    Condition.SOURCE_ALLOWS: {"out_of": a_decision(Verdict.EXPLICIT_DENY, PolicyType.SCP, named="inside")},
    Condition.TARGET_KEY: {"target_key_is_managed": True},
    Condition.SOURCE_KEY: {"source_key": KeySharing(KEY, is_managed=True, use=a_decision())},
    Condition.WARM: {"is_cold": True},
    Condition.RETENTION: {"delete_after_days": None},
}
CATEGORIES = {
    Condition.SAME_ORGANIZATION: Category.ACCESS_DENIED,
    Condition.FEATURE_ENABLED: Category.FEATURE_NOT_ENABLED,
    Condition.TARGET_EXISTS: Category.RESOURCE_NOT_FOUND,
    Condition.TARGET_ALLOWS: Category.ACCESS_DENIED,
    Condition.SOURCE_ALLOWS: Category.ACCESS_DENIED,
    Condition.TARGET_KEY: Category.ACCESS_DENIED,
    Condition.SOURCE_KEY: Category.KMS_KEY_ERROR,
    Condition.WARM: Category.INVALID_STATE,
    Condition.RETENTION: Category.INVALID_LIFECYCLE,
}
ONLY_BETWEEN_ACCOUNTS = {
    Condition.SAME_ORGANIZATION,
    Condition.FEATURE_ENABLED,
    Condition.TARGET_KEY,
    Condition.SOURCE_KEY,
}


def breaking(*conditions: Condition, **more: Any) -> CopyFacts:
    changes = {"target": a_vault(Lock(max_retention_days=100)), **more}
    for condition in conditions:
        changes |= BREAKING[condition]
    return facts(**changes)


def test_a_copy_for_which_everything_holds_is_made() -> None:
    assert unmet(facts()) == unmet(breaking()) == ()


@pytest.mark.parametrize("condition", BREAKING)
def test_each_condition_by_itself(condition: Condition) -> None:
    (found,) = unmet(breaking(condition))
    assert (found.condition, found.category) == (condition, CATEGORIES[condition])
    assert found.remedy.words.endswith(".")


@given(st.sets(st.sampled_from(list(BREAKING))), st.booleans())
def test_what_does_not_hold_is_said_in_order_and_only_as_far_as_one_may_know(
    broken: set[Condition],
    within: bool,
) -> None:
    """Within one account only some count. Nothing is said after the first that ends the questions."""
    owner = {"target_account": SHOP} if within else {}
    expected = []
    for condition in Condition:
        if condition in broken and not (within and condition in ONLY_BETWEEN_ACCOUNTS):
            expected.append(condition)
            if condition in {Condition.SAME_ORGANIZATION, Condition.TARGET_EXISTS}:
                break
    found = unmet(breaking(*broken, **owner))
    assert [each.condition for each in found] == expected
    looked_at = conditions_looked_at(found)
    assert list(looked_at) == list(Condition)[: len(looked_at)]
    assert set(expected) <= set(looked_at)


def test_the_eight_are_numbered_as_in_the_guide() -> None:
    assert [each.number for each in Condition if each.number is not None] == list(range(1, 9))
    assert Condition.SAME_ORGANIZATION.number == 1
    assert Condition.RETENTION.number == 8


@pytest.mark.parametrize(
    ("decision", "holds"),
    [
        (a_decision(), True),
        (a_decision(Verdict.IMPLICIT_DENY, PolicyType.IDENTITY), True),
        (a_decision(Verdict.IMPLICIT_DENY, PolicyType.SCP), False),
        (a_decision(Verdict.EXPLICIT_DENY, PolicyType.IDENTITY, named="own"), False),
        (a_decision(Verdict.EXPLICIT_DENY, PolicyType.RESOURCE, named="vault"), False),
    ],
)
def test_copying_out_needs_no_leave_but_may_be_denied(decision: Decision, holds: bool) -> None:
    assert (unmet(facts(out_of=decision)) == ()) is holds


@pytest.mark.parametrize(
    ("decision", "place", "words"),
    [
        (NOT_GRANTED, a_vault().arn, "access policy of the vault"),
        (a_decision(Verdict.IMPLICIT_DENY, PolicyType.IDENTITY), ROLE, "Let the role do it"),
        (a_decision(Verdict.IMPLICIT_DENY, PolicyType.SCP), None, "service control policy"),
        (a_decision(Verdict.EXPLICIT_DENY, PolicyType.SCP, named="p-1"), None, "Change statement 1"),
    ],
)
def test_the_remedy_says_which_statement_belongs_where(decision: Decision, place: str | None, words: str) -> None:
    (found,) = unmet(facts(into=decision))
    assert found.remedy.place == place
    assert words in found.remedy.words
    assert (found.remedy.statement is None) == (decision.reason.verdict is Verdict.EXPLICIT_DENY)
    if found.remedy.statement is not None:
        assert found.remedy.statement["Action"] == "backup:CopyIntoBackupVault"


@pytest.mark.parametrize(("days", "holds"), [(6, False), (7, True), (100, True), (101, False), (None, False)])
def test_the_locks_limits_are_within_its_range(days: int | None, holds: bool) -> None:
    locked = a_vault(Lock(min_retention_days=7, max_retention_days=100))
    found = unmet(facts(target=locked, delete_after_days=days))
    assert (found == ()) is holds
    if found:
        assert "at least 7 days and at most 100" in found[0].remedy.words


def test_a_role_that_cannot_be_used_ends_all_questions() -> None:
    assert role_refused(()) is None
    refused = role_refused(("the role is gone", "and was never there"))
    assert refused is not None
    assert refused.sentence == "the role is gone; and was never there."
    assert conditions_looked_at([refused]) == (Condition.ROLE_USABLE,)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Lifecycle(), Lifecycle(30, 365)),
        (Lifecycle(None, -1), Lifecycle(30, 365)),
        (Lifecycle(60, -1), Lifecycle(60, 365)),
        (Lifecycle(-1, None), Lifecycle(-1, 365)),
        (Lifecycle(None, 90), Lifecycle(None, 90)),
        (Lifecycle(5, 100), Lifecycle(5, 100)),
    ],
)
def test_a_copy_that_says_no_end_ends_as_its_source(wanted: Lifecycle, expected: Lifecycle) -> None:
    found = copy_lifecycle(wanted, Lifecycle(30, 365))
    assert replace(found, archive=None) == expected


def test_fault_domains_are_named_wherever_a_copy_lies() -> None:
    assert "within fault domain cellar" in where_copy_lies("cellar", "cellar")
    assert where_copy_lies("cellar", "attic") == "Copied from fault domain cellar to fault domain attic."
