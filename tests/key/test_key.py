"""Encryption keys: what they wrap opens again, with and without a database, and only with the right key."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tests.access.builders import insert_row

from holdfast.access.model import Caller, CallerKind, MalformedPolicyError
from holdfast.access.store import access_version
from holdfast.core.errors import InvalidInputError
from holdfast.core.seal import RootKey, SealBrokenError
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER
from holdfast.key import service
from holdfast.key.model import (
    IncorrectKeyError,
    InvalidCiphertextError,
    Key,
    KeyDisabledError,
    KeyNeededError,
    KeyNotFoundError,
    KeyState,
    KeyStateError,
    Manager,
    Material,
    decrypt,
    encrypt,
    generate_recovery_pair,
    open_with_recovery,
    seal_to_recovery,
)

ROOT = RootKey(bytes(range(32)))
HERE, REGION = "111122223333", "eu-north-1"
NOW = datetime(2026, 11, 1, tzinfo=UTC)
CONTEXT = {"repository": "r-1"}


def a_key(tx: sa.Connection, **more: str) -> Key:
    return service.create_key(tx, ROOT, HERE, REGION, now=NOW, **more)  # type: ignore[arg-type]  # texts only


@given(plaintext=st.binary(max_size=100), context=st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_what_is_encrypted_opens_with_the_same_context(plaintext: bytes, context: dict[str, str]) -> None:
    material = Material(1, bytes(32))
    key_id = "1234abcd-12ab-34cd-56ef-1234567890ab"
    boxed = encrypt(key_id, material, plaintext, context)
    assert decrypt(key_id, material, boxed, dict(reversed(context.items()))) == plaintext
    with pytest.raises(InvalidCiphertextError):
        decrypt(key_id, material, boxed, {**context, "another key": ""})


def test_a_wrapped_value_opens_from_storage_and_root_key_alone(database: Database) -> None:
    with database.transaction() as tx:
        key = a_key(tx)
        old = service.wrap(tx, ROOT, key.arn, b"password", CONTEXT)
        service.rotate(tx, ROOT, key, now=NOW)
        new = service.wrap(tx, ROOT, key.arn, b"password", CONTEXT)
        chain = service.exported_chain(tx, ROOT, key.arn)
        assert service.unwrap(tx, ROOT, key.arn, old, CONTEXT) == b"password"
        assert service.unwrap(tx, ROOT, key.arn, new, CONTEXT) == b"password"
    assert service.open_chain(ROOT, chain, old, CONTEXT) == b"password"
    assert service.open_chain(ROOT, chain, new, CONTEXT) == b"password"


def test_a_chain_opens_with_nothing_else(database: Database) -> None:
    with database.transaction() as tx:
        key, other = a_key(tx), a_key(tx)
        wrapped = service.wrap(tx, ROOT, key.arn, b"password", CONTEXT)
        chain, foreign = (service.exported_chain(tx, ROOT, each.arn) for each in (key, other))
        service.rotate(tx, ROOT, key, now=NOW)
        newer = service.wrap(tx, ROOT, key.arn, b"password", CONTEXT)
    for words, root, chain_used, value, context in (
        ("this is", RootKey(bytes(32)), chain, wrapped, CONTEXT),
        ("not here", ROOT, foreign, wrapped, CONTEXT),
        ("version 2", ROOT, chain, newer, CONTEXT),
        ("another encryption context", ROOT, chain, wrapped, {"repository": "r-2"}),
        ("cannot be read", ROOT, b"{}", wrapped, CONTEXT),
        ("not a ciphertext", ROOT, chain, b"HFK1", CONTEXT),
        ("root key", ROOT, chain.replace(key.arn.encode(), other.arn.encode()), wrapped, CONTEXT),
    ):
        with pytest.raises(InvalidCiphertextError, match=words):
            service.open_chain(root, chain_used, value, context)


@given(plaintext=st.binary(max_size=64), position=st.integers(0, 200), flip=st.integers(1, 255))
def test_only_the_recovery_key_opens_what_was_sealed_to_it(plaintext: bytes, position: int, flip: int) -> None:
    pair, other = generate_recovery_pair(), generate_recovery_pair()
    sealed = seal_to_recovery(pair.public, plaintext)
    assert open_with_recovery(pair.private, sealed) == plaintext
    changed = bytearray(sealed)
    changed[position % len(sealed)] ^= flip
    for private, value in ((other.private, sealed), (pair.private, sealed[:30]), (b"short", sealed)):
        with pytest.raises(InvalidCiphertextError):
            open_with_recovery(private, value)
    # The highest bit of a point's last byte means nothing in X25519; every other bit does.
    if position % len(sealed) != 35 or flip != 0x80:
        with pytest.raises(InvalidCiphertextError):
            open_with_recovery(pair.private, bytes(changed))
    assert pair.private not in repr(pair).encode()


@pytest.mark.parametrize("public", [b"short", bytes(32)])
def test_a_wrong_recovery_key_is_refused_before_anything_is_sealed_to_it(public: bytes) -> None:
    with pytest.raises(InvalidInputError, match="recovery key"):
        seal_to_recovery(public, b"password")


def test_disabling_a_key_stops_its_use_and_enabling_brings_it_back(database: Database) -> None:
    with database.transaction() as tx:
        key = a_key(tx)
        wrapped = service.wrap(tx, ROOT, key.arn, b"x", CONTEXT)
        before = access_version(tx)
        service.set_enabled(tx, key, enabled=False)
        assert access_version(tx) > before
        for use in (
            lambda: service.wrap(tx, ROOT, key.arn, b"x", CONTEXT),
            lambda: service.unwrap(tx, ROOT, key.arn, wrapped, CONTEXT),
            lambda: service.rotate(tx, ROOT, service.get_key_by_arn(tx, key.arn), now=NOW),
        ):
            with pytest.raises(KeyDisabledError, match="enable it"):
                use()
        service.set_enabled(tx, service.get_key_by_arn(tx, key.arn), enabled=True)
        assert service.unwrap(tx, ROOT, key.arn, wrapped, CONTEXT) == b"x"


def test_the_backup_key_is_made_on_first_use_and_is_nobodys_to_change(database: Database) -> None:
    with database.transaction() as tx:
        with pytest.raises(KeyNotFoundError, match="first vault"):
            service.get_key(tx, HERE, REGION, "alias/aws/backup")
        key = service.backup_key(tx, ROOT, HERE, REGION, now=NOW)
        assert service.backup_key(tx, ROOT, HERE, REGION, now=NOW) == key
        assert key.manager is Manager.AWS
        assert service.get_key(tx, HERE, REGION, "alias/aws/backup") == key
        assert service.backup_key(tx, ROOT, HERE, "eu-west-1", now=NOW).id != key.id
        changes: list[Callable[[], object]] = [
            lambda: service.set_enabled(tx, key, enabled=False),
            lambda: service.schedule_deletion(tx, key, now=NOW),
            lambda: service.put_policy(tx, key, key.policy, caller=None),
            lambda: service.create_alias(tx, key, "alias/mine", now=NOW),
        ]
        for change in changes:
            with pytest.raises(KeyStateError, match="managed by AWS Backup"):
                change()


def test_a_key_waits_before_it_is_deleted_and_can_be_kept(database: Database) -> None:
    with database.transaction() as tx:
        key = a_key(tx)
        service.create_alias(tx, key, "alias/mine", now=NOW)
        wrapped = service.wrap(tx, ROOT, key.arn, b"x", CONTEXT)
        with pytest.raises(InvalidInputError, match="7 to 30 days"):
            service.schedule_deletion(tx, key, days=6, now=NOW)
        waiting = service.schedule_deletion(tx, key, days=7, now=NOW)
        with pytest.raises(KeyStateError, match="pending deletion"):
            service.unwrap(tx, ROOT, key.arn, wrapped, CONTEXT)
        assert service.due_for_deletion(tx, now=NOW + timedelta(days=6)) == ([], [])
        kept = service.cancel_deletion(tx, waiting)
        assert kept.state is KeyState.DISABLED
        with pytest.raises(KeyStateError, match="not pending"):
            service.cancel_deletion(tx, kept)
        service.schedule_deletion(tx, kept, days=7, now=NOW)
        (due,), _ = service.due_for_deletion(tx, now=NOW + timedelta(days=7))
        assert due.id == key.id
        service.delete_key(tx, due)
        for name in (key.id, key.arn, "alias/mine"):
            with pytest.raises(KeyNotFoundError):
                service.get_key(tx, HERE, REGION, name)


def lock_a_point(tx: sa.Connection, key: Key) -> str:
    arn = f"arn:aws:backup:{REGION}:{HERE}:recovery-point:1"
    insert_row(
        tx,
        "vault",
        id="v1",
        account=HERE,
        region=REGION,
        name="Daily",
        key_arn=key.arn,
        locked=True,
        deleted_at=FOREVER,
    )
    insert_row(tx, "recovery_point", id="p1", arn=arn, vault_id="v1", key_arn=key.arn)
    return arn


def test_a_key_that_locked_points_need_is_not_deleted(database: Database) -> None:
    with database.transaction() as tx:
        key, free = a_key(tx), a_key(tx)
        waiting = service.schedule_deletion(tx, free, now=NOW)
        point = lock_a_point(tx, key)
        with pytest.raises(KeyNeededError, match=point):
            service.schedule_deletion(tx, key, now=NOW)
        # Locked while its key waited already: the deletion does not happen.
        tx.execute(text("UPDATE recovery_point SET key_arn = :arn"), {"arn": free.arn})
        _, kept = service.due_for_deletion(tx, now=NOW + timedelta(days=31))
        assert kept == [waiting]


def test_a_key_is_rotated_when_its_period_has_passed(database: Database) -> None:
    with database.transaction() as tx:
        key = a_key(tx)
        service.set_rotation(tx, key, enabled=True, days=90)
        assert service.rotate_due(tx, ROOT, now=NOW + timedelta(days=89)) == []
        assert [each.id for each in service.rotate_due(tx, ROOT, now=NOW + timedelta(days=90))] == [key.id]
        assert service.newest_version(tx, key.arn) == 2
        with pytest.raises(InvalidInputError, match="90 to 2560"):
            service.set_rotation(tx, key, enabled=True, days=10)


def test_a_key_is_found_by_id_arn_alias_and_alias_arn(database: Database) -> None:
    with database.transaction() as tx:
        key = a_key(tx)
        service.create_alias(tx, key, "alias/mine", now=NOW)
        alias_arn = f"arn:aws:kms:{REGION}:{HERE}:alias/mine"
        for name in (key.id, key.arn, "alias/mine", alias_arn):
            assert service.get_key(tx, HERE, REGION, name) == key
        for name in ("alias/other", "nothing", key.arn[:-1], f"arn:aws:s3:{REGION}:{HERE}:key/{key.id}"):
            with pytest.raises(KeyNotFoundError, match="does not exist"):
                service.get_key(tx, HERE, REGION, name)
        with pytest.raises(KeyNotFoundError):
            service.get_key(tx, "444455556666", REGION, key.id)
        with pytest.raises(KeyNotFoundError, match="it names"):
            service.get_key(tx, HERE, "eu-west-1", key.arn)


def test_aliases_are_unique_movable_and_not_reserved(database: Database) -> None:
    with database.transaction() as tx:
        key, other = a_key(tx), a_key(tx)
        service.create_alias(tx, key, "alias/mine", now=NOW)
        with pytest.raises(service.AliasExistsError):
            service.create_alias(tx, other, "alias/mine", now=NOW)
        for wrong in ("mine", "alias/aws/mine", "alias/"):
            with pytest.raises(service.InvalidAliasError):
                service.create_alias(tx, key, wrong, now=NOW)
        service.update_alias(tx, other, "alias/mine")
        assert service.get_key(tx, HERE, REGION, "alias/mine") == other
        service.delete_alias(tx, HERE, REGION, "alias/mine")
        acts: list[Callable[[], None]] = [
            lambda: service.delete_alias(tx, HERE, REGION, "alias/mine"),
            lambda: service.update_alias(tx, key, "alias/mine"),
        ]
        for act in acts:
            with pytest.raises(service.AliasNotFoundError):
                act()


def test_a_ciphertext_says_which_key_made_it(database: Database) -> None:
    with database.transaction() as tx:
        key, other = a_key(tx), a_key(tx)
        boxed = service.encrypt_for(tx, ROOT, key, b"secret", CONTEXT)
        assert service.decrypt_for(tx, ROOT, boxed, CONTEXT, expected=None) == (key, b"secret")
        with pytest.raises(IncorrectKeyError):
            service.decrypt_for(tx, ROOT, boxed, CONTEXT, expected=other)
        with pytest.raises(InvalidCiphertextError, match="does not exist"):
            service.decrypt_for(tx, ROOT, boxed[:4] + bytes(16) + boxed[20:], CONTEXT, expected=None)
        with pytest.raises(InvalidCiphertextError, match="version 9"):
            service.decrypt_for(tx, ROOT, boxed[:20] + b"\0\0\0\x09" + boxed[24:], CONTEXT, expected=None)
        with pytest.raises(InvalidInputError, match="GenerateDataKey"):
            service.encrypt_for(tx, ROOT, key, bytes(4097), CONTEXT)
        data_key = service.generate_data_key(tx, ROOT, key, 32, CONTEXT)
        assert service.decrypt_for(tx, ROOT, data_key.ciphertext, CONTEXT, expected=key)[1] == data_key.plaintext


def test_a_key_policy_that_locks_everybody_out_is_refused(database: Database) -> None:
    other = '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*", '
    other += '"Principal": {"AWS": "arn:aws:iam::111122223333:user/other"}}}'
    arn = "arn:aws:iam::111122223333:user/maria"
    maria = Caller(HERE, arn, "AIDAMARIA", arn, CallerKind.USER)
    with database.transaction() as tx:
        key = a_key(tx)
        with pytest.raises(MalformedPolicyError, match="will not allow you"):
            service.put_policy(tx, key, other, caller=maria)
        service.put_policy(tx, key, other.replace("user/other", "user/maria"), caller=maria)
        service.put_policy(tx, key, other, caller=maria, bypass_lockout_check=True)
        assert service.get_key_by_arn(tx, key.arn).policy == other


def test_a_new_root_key_opens_every_key_and_the_old_one_none(database: Database) -> None:
    with database.transaction() as tx:
        key = a_key(tx)
        wrapped = service.wrap(tx, ROOT, key.arn, b"x", CONTEXT)
        service.rotate(tx, ROOT, key, now=NOW)
        new = RootKey.generate()
        assert service.change_root_key(tx, ROOT, new) == 2
        assert service.unwrap(tx, new, key.arn, wrapped, CONTEXT) == b"x"
        with pytest.raises(SealBrokenError):
            service.unwrap(tx, ROOT, key.arn, wrapped, CONTEXT)
