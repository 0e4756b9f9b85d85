"""What can be done with vaults, on both databases and real storage."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.vault.builders import ACCOUNT, DAY, NOON, OTHER, REGION, a_custody, a_vault, back_up

from holdfast.access.tag import InvalidTagError
from holdfast.core.errors import HoldfastError, LimitExceededError
from holdfast.core.ids import new_uuid
from holdfast.database.connection import Database
from holdfast.key.model import KeyDisabledError
from holdfast.key.service import create_key, set_enabled
from holdfast.recovery import service as recovery
from holdfast.recovery import store as points
from holdfast.recovery.history import History
from holdfast.vault import ledger, service, store
from holdfast.vault.custody import Custody
from holdfast.vault.keys import InvalidKeyError
from holdfast.vault.ledger import CatalogueBehindError
from holdfast.vault.model import (
    HiddenVaultError,
    InvalidVaultError,
    Lock,
    UnknownVaultError,
    Vault,
    VaultExistsError,
    VaultLockedError,
    VaultNotEmptyError,
)
from holdfast.vault.records import Head, Kind, Written

PLACE: dict[str, Any] = {"account": ACCOUNT, "region": REGION, "name": "Daily"}


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    return a_custody(tmp_path / "storage")


def vault_of(database: Database) -> Vault:
    with database.reading() as tx:
        return service.get_vault(tx, **PLACE)


def records_of(database: Database, custody: Custody, vault: Vault) -> tuple[Written, ...]:
    with database.reading() as tx:
        end = store.head_of(tx, vault.id)
    trusted = frozenset({custody.signer.public})
    found, faults = ledger.read(custody.storage_of(vault), vault.id, trusted=trusted, end=end)
    assert faults == ()
    return found


def test_a_new_vault_lies_on_its_regions_storage_under_the_accounts_own_key(
    database: Database, custody: Custody
) -> None:
    made = a_vault(database, custody, tags={"team": "web"})
    found = vault_of(database)
    assert found == made
    assert found.arn == f"arn:aws:backup:{REGION}:{ACCOUNT}:backup-vault:Daily"
    assert found.storage == "local"
    assert found.key_arn == a_vault(database, custody, "Second").key_arn
    assert a_vault(database, custody, "Third", account=OTHER).key_arn != found.key_arn
    (first,) = records_of(database, custody, made)
    assert first.record.kind == Kind.VAULT_CREATED
    assert first.record.body["tags"] == {"team": "web"}
    with database.reading() as tx:
        assert store.pending(tx, made.id) == []


def test_the_same_request_creates_one_vault_and_another_one_is_refused(database: Database, custody: Custody) -> None:
    made = a_vault(database, custody, creator_request_id="once")
    assert a_vault(database, custody, creator_request_id="once") == made
    with pytest.raises(VaultExistsError, match="same name already exists") as caught:
        a_vault(database, custody, creator_request_id="again")
    assert (caught.value.arn, caught.value.creator_request_id) == (made.arn, "once")


def test_names_are_told_apart_by_case_account_and_region(database: Database, custody: Custody) -> None:
    made = [
        a_vault(database, custody),
        a_vault(database, custody, "daily"),
        a_vault(database, custody, account=OTHER),
        a_vault(database, custody, region="us-east-1"),
    ]
    assert len({vault.arn for vault in made}) == 4


def test_a_vault_takes_the_customers_key_but_no_alias_and_no_key_that_cannot_be_used(
    sqlite_database: Database, custody: Custody
) -> None:
    with sqlite_database.transaction() as tx:
        key = create_key(tx, custody.root_key, ACCOUNT, REGION, now=NOON)
        off = create_key(tx, custody.root_key, ACCOUNT, REGION, now=NOON)
        set_enabled(tx, off, enabled=False)
    assert a_vault(sqlite_database, custody, key_arn=key.arn).key_arn == key.arn
    refused: list[tuple[str, type[HoldfastError]]] = [
        (f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/mine", InvalidKeyError),
        (key.arn.replace(REGION, "us-east-1"), InvalidKeyError),
        (key.id, InvalidKeyError),
        (f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{new_uuid()}", InvalidKeyError),
        (off.arn, KeyDisabledError),
    ]
    for key_arn, error in refused:
        with pytest.raises(error):
            a_vault(sqlite_database, custody, "Other", key_arn=key_arn)


def test_a_region_that_is_not_configured_has_no_vaults(sqlite_database: Database, custody: Custody) -> None:
    with pytest.raises(InvalidVaultError, match="mars-1 is not configured"):
        a_vault(sqlite_database, custody, region="mars-1")


def test_a_vault_that_is_not_there_looks_like_one_that_is_forbidden(
    sqlite_database: Database, custody: Custody
) -> None:
    with sqlite_database.reading() as tx:
        with pytest.raises(HiddenVaultError, match=r"^Insufficient privileges to perform this action\.$"):
            service.describe_vault(tx, **PLACE)
        with pytest.raises(UnknownVaultError):
            service.get_vault(tx, **PLACE)


def test_a_vault_says_how_many_recovery_points_it_shows(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    a_vault(database, custody, "Empty")
    back_up(database, custody, vault)
    back_up(database, custody, vault)
    with database.reading() as tx:
        assert service.describe_vault(tx, **PLACE).points == 2
        views = service.list_vaults(tx, account=ACCOUNT, region=REGION, limit=10)
        assert [(view.vault.name, view.points) for view in views] == [("Daily", 2), ("Empty", 0)]
        (last,) = service.list_vaults(tx, account=ACCOUNT, region=REGION, after="Daily", limit=1)
        assert last.vault.name == "Empty"


def test_only_an_empty_vault_is_deleted_and_its_name_is_free_again(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    back_up(database, custody, vault)
    with database.transaction() as tx, pytest.raises(VaultNotEmptyError):
        service.delete_vault(tx, custody, **PLACE, now=NOON)
    empty = a_vault(database, custody, "Empty")
    with database.transaction() as tx:
        service.delete_vault(tx, custody, account=ACCOUNT, region=REGION, name="Empty", now=NOON)
    assert records_of(database, custody, empty)[-1].record.kind == Kind.VAULT_DELETED
    assert a_vault(database, custody, "Empty").id != empty.id


LOCKS: list[tuple[str, dict[str, Any], timedelta, bool]] = [
    ("governance", {"changeable_for_days": None}, 1000 * DAY, True),
    ("compliance in its grace time", {"changeable_for_days": 3}, 3 * DAY - timedelta(seconds=1), True),
    ("compliance", {"changeable_for_days": 3}, 3 * DAY, False),
]


@pytest.mark.parametrize(("grace", "later", "removable"), [case[1:] for case in LOCKS], ids=[case[0] for case in LOCKS])
def test_a_lock_can_be_changed_and_removed_until_it_is_irrevocable(
    database: Database, custody: Custody, grace: dict[str, Any], later: timedelta, removable: bool
) -> None:
    vault = a_vault(database, custody)

    def put(days: int) -> None:
        with database.transaction() as tx:
            service.put_lock(
                tx, custody, **PLACE, min_retention_days=days, max_retention_days=None, **grace, now=NOON + later
            )

    with database.transaction() as tx:
        lock = service.put_lock(tx, custody, **PLACE, min_retention_days=7, max_retention_days=None, **grace, now=NOON)
    assert vault_of(database).lock == lock
    if removable:
        put(1)
        with database.transaction() as tx:
            service.remove_lock(tx, custody, **PLACE, now=NOON + later)
        assert vault_of(database).lock is None
        assert records_of(database, custody, vault)[-1].record.kind == Kind.LOCK_REMOVED
        return
    with pytest.raises(VaultLockedError):
        put(1)
    with database.transaction() as tx, pytest.raises(VaultLockedError):
        service.remove_lock(tx, custody, **PLACE, now=NOON + later)
    assert vault_of(database).lock == Lock(7, None, NOON + 3 * DAY)
    assert [found.record.kind for found in records_of(database, custody, vault)] == ["vault-created", "lock-put"]


def test_a_locked_vault_may_be_deleted_while_it_is_empty(sqlite_database: Database, custody: Custody) -> None:
    a_vault(sqlite_database, custody)
    days: dict[str, Any] = {"min_retention_days": 1, "max_retention_days": None, "changeable_for_days": 3}
    with sqlite_database.transaction() as tx:
        service.put_lock(tx, custody, **PLACE, **days, now=NOON)
        service.delete_vault(tx, custody, **PLACE, now=NOON + 100 * DAY)


def statement(**more: Any) -> str:
    given = {"Effect": "Allow", "Principal": "*", "Action": "backup:CopyIntoBackupVault", "Resource": "*"} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [given]})


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(statement(), id="everybody may copy into it"),
        pytest.param(
            statement(Principal={"AWS": f"arn:aws:iam::{OTHER}:root"}, Condition={"Bool": {"aws:x": "true"}}),
            id="another account may copy into it",
        ),
        pytest.param(
            statement(Effect="Deny", Action="backup:*", Principal={"AWS": OTHER}), id="others may do nothing at all"
        ),
        pytest.param(
            statement(Action="backup:DeleteRecoveryPoint", Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:role/R"}),
            id="its own role may delete",
        ),
        pytest.param(
            statement(
                Action="backup:DeleteRecoveryPoint",
                Condition={"StringEquals": {"aws:PrincipalAccount": ACCOUNT}},
            ),
            id="everybody of its own account",
        ),
    ],
)
def test_an_access_policy_is_kept_and_given_back_as_it_was_put(
    sqlite_database: Database, custody: Custody, policy: str
) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.transaction() as tx:
        service.put_access_policy(tx, custody, **PLACE, policy=policy, now=NOON)
        assert service.get_access_policy(tx, **PLACE) == (vault_of_tx(tx), policy)
    assert records_of(sqlite_database, custody, vault)[-1].record.body == {"policy": policy}
    with sqlite_database.transaction() as tx:
        service.put_access_policy(tx, custody, **PLACE, policy=None, now=NOON)
        with pytest.raises(service.NoPolicyError):
            service.get_access_policy(tx, **PLACE)


def vault_of_tx(tx: Any) -> Vault:
    return service.get_vault(tx, **PLACE)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        pytest.param("{", "malformed", id="no JSON"),
        pytest.param("{}", "malformed", id="no statement"),
        pytest.param(statement(Action="backup:*"), "wildcard", id="an action with a wildcard"),
        pytest.param(
            statement(Action=["backup:CopyIntoBackupVault", "backup:DeleteRecoveryPoint"], Principal={"AWS": OTHER}),
            "cross-account sharing restrictions",
            id="another account may delete",
        ),
        pytest.param(
            statement(Action="backup:StartRestoreJob"), "cross-account sharing restrictions", id="everybody may restore"
        ),
        pytest.param(
            statement(
                Action="backup:StartRestoreJob",
                Condition={"StringEqualsIfExists": {"aws:PrincipalAccount": ACCOUNT}},
            ),
            "cross-account",
            id="a condition that says nothing when the key is missing",
        ),
    ],
)
def test_an_access_policy_that_cannot_hold_is_refused(
    sqlite_database: Database, custody: Custody, policy: str, says: str
) -> None:
    a_vault(sqlite_database, custody)
    with (
        sqlite_database.transaction() as tx,
        pytest.raises(service.InvalidAccessPolicyError, match=says),
    ):
        service.put_access_policy(tx, custody, **PLACE, policy=policy, now=NOON)


def test_a_change_of_an_access_policy_binds_the_next_request(sqlite_database: Database, custody: Custody) -> None:
    a_vault(sqlite_database, custody)

    def version() -> int:
        with sqlite_database.reading() as tx:
            return int(tx.exec_driver_sql("SELECT version FROM access_version").scalar_one())

    before = version()
    with sqlite_database.transaction() as tx:
        service.put_access_policy(tx, custody, **PLACE, policy=statement(), now=NOON)
    assert version() > before


def test_a_longer_deletion_delay_holds_at_once_and_for_what_is_deleted_already(
    database: Database, custody: Custody
) -> None:
    vault = a_vault(database, custody)
    point = back_up(database, custody, vault).point
    with database.transaction() as tx:
        recovery.delete_point(tx, custody, vault, point.arn, now=NOON)
        service.put_deletion_delay(tx, custody, **PLACE, delay=30 * DAY, now=NOON + DAY)
        kept = points.find_point_by_id(tx, point.id)
    assert kept is not None
    assert kept.purge_at == NOON + 30 * DAY
    told = History(vault.id).take_all(records_of(database, custody, vault))
    assert (told.deletion_delay, told.points[point.id].purge_at) == (vault_of(database).deletion_delay, kept.purge_at)


def test_a_shorter_deletion_delay_waits_until_the_present_one_has_passed(database: Database, custody: Custody) -> None:
    vault = a_vault(database, custody)
    with database.transaction() as tx:
        service.put_deletion_delay(tx, custody, **PLACE, delay=DAY, now=NOON)
    delay = vault_of(database).deletion_delay
    assert delay.at(NOON + 7 * DAY - timedelta(seconds=1)) == 7 * DAY
    assert delay.at(NOON + 7 * DAY) == DAY
    assert History(vault.id).take_all(records_of(database, custody, vault)).deletion_delay == delay
    with database.transaction() as tx:
        service.put_deletion_delay(tx, custody, **PLACE, delay=7 * DAY, now=NOON + 3 * DAY)
    assert vault_of(database).deletion_delay.at(NOON + 400 * DAY) == 7 * DAY


def test_a_locked_vaults_deletion_delay_is_not_lowered(sqlite_database: Database, custody: Custody) -> None:
    a_vault(sqlite_database, custody)
    lock: dict[str, Any] = {"min_retention_days": None, "max_retention_days": None, "changeable_for_days": None}
    with sqlite_database.transaction() as tx:
        service.put_lock(tx, custody, **PLACE, **lock, now=NOON)
        with pytest.raises(VaultLockedError, match="7 days"):
            service.put_deletion_delay(tx, custody, **PLACE, delay=DAY, now=NOON)
        service.put_deletion_delay(tx, custody, **PLACE, delay=8 * DAY, now=NOON)


@pytest.mark.parametrize("days", [0, 36_501])
def test_a_deletion_delay_that_cannot_be_is_refused(sqlite_database: Database, custody: Custody, days: int) -> None:
    a_vault(sqlite_database, custody)
    with sqlite_database.transaction() as tx, pytest.raises(InvalidVaultError, match="1 to 36500 days"):
        service.put_deletion_delay(tx, custody, **PLACE, delay=days * DAY, now=NOON)


@pytest.mark.parametrize(
    "tags", [{"": "x"}, {"k" * 129: "x"}, {"k": "v" * 257}, {"aws:x": "y"}, {str(n): "" for n in range(51)}]
)
def test_tags_that_cannot_be_are_refused(sqlite_database: Database, custody: Custody, tags: dict[str, str]) -> None:
    with pytest.raises((InvalidTagError, LimitExceededError)):
        a_vault(sqlite_database, custody, tags=tags)


def test_a_record_lies_in_storage_before_what_it_says_is_committed(sqlite_database: Database, custody: Custody) -> None:
    vault = a_vault(sqlite_database, custody)

    class PowerCutError(Exception):
        pass

    def interrupted() -> None:
        with sqlite_database.transaction() as tx:
            service.put_lock(
                tx, custody, **PLACE, min_retention_days=7, max_retention_days=None, changeable_for_days=None, now=NOON
            )
            raise PowerCutError

    with pytest.raises(PowerCutError):
        interrupted()
    assert vault_of(sqlite_database).lock is None
    found, faults = ledger.read(
        custody.storage_of(vault), vault.id, trusted=frozenset({custody.signer.public}), end=None
    )
    assert [written.record.kind for written in found] == ["vault-created", "lock-put"]
    assert faults == ()


def test_a_database_older_than_storage_is_noticed_and_changes_nothing(
    sqlite_database: Database, custody: Custody
) -> None:
    vault = a_vault(sqlite_database, custody)
    with sqlite_database.reading() as tx:
        before = store.head_of(tx, vault.id)
    with sqlite_database.transaction() as tx:
        service.put_access_policy(tx, custody, **PLACE, policy=statement(), now=NOON)
    with sqlite_database.transaction() as tx:
        store.set_head(tx, vault.id, before)  # as an older copy would have it
    with sqlite_database.transaction() as tx, pytest.raises(CatalogueBehindError, match="older copy"):
        service.put_access_policy(tx, custody, **PLACE, policy=None, now=NOON)
    assert ledger.last_number(custody.storage_of(vault)) == 2
    assert before == Head(1, before.digest)
