"""What is kept of identities and credentials, on both kinds of database."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from tests.access.builders import HERE, THERE, allow, document, insert_row

from holdfast.access import credential_store, policy_service, second_factor, second_factor_store, service, store
from holdfast.access.credentials import (
    RoleSession,
    assume_role,
    change_root_key,
    create_access_key,
    end_expired_sessions,
    find_signer,
    session_token,
)
from holdfast.access.gathering import identity_policies
from holdfast.access.model import CallerKind, Person, root_caller
from holdfast.access.model.identity import Kind
from holdfast.access.tag import put_tags, remove_tags, tags_of
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.values import FOREVER
from holdfast.key import service as keys
from holdfast.key import store as key_store
from holdfast.server.authorize import controls_of
from holdfast.server.principals import Households, get_target, neighbours
from holdfast.trail.reading import Wanted, find_entries
from holdfast.trail.service import Decision, Entry, record

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROOT = RootKey(bytes(range(32)))
REGION = "eu-north-1"
TRUST = (
    '{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}}'
)


def test_lists_are_by_path_and_name_and_after_the_last_one_shown(database: Database) -> None:
    with database.transaction() as tx:
        for name, path in (("c", "/team/"), ("a", "/"), ("b", "/team/red/")):
            service.create_user(tx, HERE, name, path=path, now=NOW)
            service.create_group(tx, HERE, name, path=path, now=NOW)
            service.create_role(tx, HERE, name, TRUST, path=path, now=NOW)
            policy_service.create_policy(tx, HERE, name, document(allow()), path=path, now=NOW)
        service.create_user(tx, THERE, "d", now=NOW)
        for found in (
            store.list_users(tx, HERE, path="/team/"),
            store.list_groups(tx, HERE, path="/team/"),
            store.list_roles(tx, HERE, path="/team/"),
            store.list_policies(tx, HERE, path="/team/"),
        ):
            assert [each.name for each in found] == ["b", "c"]
        assert [user.name for user in store.list_users(tx, HERE, after="a", limit=1)] == ["b"]


def test_what_a_user_may_comes_from_themselves_and_their_groups(database: Database) -> None:
    with database.transaction() as tx:
        service.create_user(tx, HERE, "maria", now=NOW)
        service.create_group(tx, HERE, "keepers", now=NOW)
        service.create_group(tx, HERE, "others", now=NOW)
        service.add_to_group(tx, HERE, "keepers", "maria")
        own = policy_service.create_policy(tx, HERE, "Own", document(allow("backup:*")), now=NOW).arn
        policy_service.attach(tx, Kind.USER, HERE, "maria", own)
        policy_service.attach(tx, Kind.GROUP, HERE, "keepers", "arn:aws:iam::aws:policy/ReadOnlyAccess")
        policy_service.put_inline(tx, Kind.GROUP, HERE, "keepers", "more", document(allow("kms:*")))
        policy_service.put_inline(tx, Kind.GROUP, HERE, "others", "never", document(allow("*")))
        found = [policy.name for policy in identity_policies(tx, HERE, Kind.USER, "maria")]
        assert sorted(found) == sorted([own, "arn:aws:iam::aws:policy/ReadOnlyAccess", "more of group keepers"])
        assert store.attached_to(tx, HERE, own) == [(Kind.USER, "maria")]
        service.set_boundary(tx, Kind.USER, HERE, "maria", own)
        assert store.bounded_by(tx, HERE, own) == [(Kind.USER, "maria")]


def test_a_session_comes_back_with_person_tags_and_policies(database: Database) -> None:
    person = Person("https://login.example.com", "maria")
    with database.transaction() as tx:
        role = service.create_role(tx, HERE, "Keepers", TRUST, tags=[("kind", "role")], now=NOW)
        asked = RoleSession(
            name="tonight",
            policy=document(allow("backup:*")),
            policy_arns=("arn:aws:iam::aws:policy/ReadOnlyAccess",),
            tags=(("team", "red"),),
            transitive=("team",),
            source_identity="maria",
            person=person,
        )
        session, made = assume_role(tx, ROOT, root_caller(THERE), role, asked, now=NOW)
        found = credential_store.find_session(tx, made.id)
        assert found is not None
        assert found.session == session
        signer = find_signer(tx, ROOT, made.id, made.token)
        assert signer is not None
        caller = signer.caller
        assert (caller.kind, caller.person, caller.source_identity) == (CallerKind.ROLE, person, "maria")
        assert caller.tags == (("team", "red"), ("kind", "role"))
        # Person, transitive tags and source identity go on into the next session of a chain.
        _, next_made = assume_role(tx, ROOT, caller, role, RoleSession(name="later"), now=NOW)
        chained = find_signer(tx, ROOT, next_made.id, next_made.token)
        assert chained is not None
        assert (chained.caller.person, chained.caller.source_identity) == (person, "maria")
        assert chained.caller.tags == (("team", "red"), ("kind", "role"))


def test_expired_sessions_go_and_others_stay(database: Database) -> None:
    with database.transaction() as tx:
        for hours in (1, 12):
            service.create_user(tx, HERE, f"user-{hours}", now=NOW)
            create_access_key(tx, ROOT, HERE, f"user-{hours}", now=NOW)
            session_token(tx, ROOT, root_caller(HERE), duration=timedelta(minutes=15 * hours), now=NOW)
        assert end_expired_sessions(tx, now=NOW + timedelta(minutes=80)) == 1
        assert end_expired_sessions(tx, now=NOW + timedelta(hours=30)) == 1


def test_secrets_are_sealed_anew_under_another_root_key(database: Database) -> None:
    new = RootKey.generate()
    with database.transaction() as tx:
        service.create_user(tx, HERE, "maria", now=NOW)
        _, key = create_access_key(tx, ROOT, HERE, "maria", now=NOW)
        _, session = session_token(tx, ROOT, root_caller(HERE), duration=None, now=NOW)
        device, seed = second_factor.create_device(tx, ROOT, HERE, "phone", now=NOW)
        assert change_root_key(tx, ROOT, new) == 3
        found = second_factor_store.find_device(tx, device.serial)
        assert found is not None
        assert new.unseal(second_factor.SEED_PURPOSE, found[1], context=device.serial) == seed
        for made in (key, session):
            signer = find_signer(tx, new, made.id, made.token)
            assert signer is not None
            assert signer.secret == made.secret
        kept = tx.execute(text("SELECT sealed_secret FROM access_key")).scalar_one()
        assert key.secret.encode() not in bytes(kept)


def test_tags_are_put_replaced_and_removed(database: Database) -> None:
    with database.transaction() as tx:
        put_tags(tx, HERE, "", "arn:x", {"a": "1", "b": "2"})
        put_tags(tx, HERE, "", "arn:x", {"b": "3"})
        assert tags_of(tx, HERE, "", "arn:x") == {"a": "1", "b": "3"}
        remove_tags(tx, HERE, "", "arn:x", ["a", "c"])
        assert tags_of(tx, HERE, "", "arn:x") == {"b": "3"}


def test_keys_and_aliases_are_listed_in_pages(database: Database) -> None:
    with database.transaction() as tx:
        made = sorted(keys.create_key(tx, ROOT, HERE, REGION, now=NOW).id for _ in range(3))
        assert [key.id for key in key_store.list_keys(tx, HERE, REGION, after=made[0], limit=1)] == [made[1]]
        for number, key_id in enumerate(made):
            keys.create_alias(tx, keys.get_key(tx, HERE, REGION, key_id), f"alias/{number}", now=NOW)
        names = [alias.name for alias in key_store.list_aliases(tx, HERE, REGION, after="alias/0")]
        assert names == ["alias/1", "alias/2"]
        (only,) = key_store.list_aliases(tx, HERE, REGION, key_id=made[2])
        assert only.name == "alias/2"


def test_control_policies_are_gathered_along_the_path(database: Database) -> None:
    with database.transaction() as tx:
        insert_row(tx, "organization", id="o-1", management_account=THERE, root_id="r-1")
        insert_row(tx, "account", id=HERE, name="a", email="a", status="ACTIVE", organization_id="o-1")
        insert_row(
            tx,
            "placement",
            account_id=HERE,
            organization_id="o-1",
            unit_id="ou-1",
            path="o-1/r-1/ou-1/",
            ends_at=FOREVER,
        )
        assert controls_of(tx, HERE).scps == ()
        kind = "SERVICE_CONTROL_POLICY"
        insert_row(tx, "policy_type", organization_id="o-1", type=kind, status="ENABLED")
        insert_row(tx, "policy", id="p-1", organization_id="o-1", type=kind, name="n", content=document(allow()))
        for target in ("r-1", HERE):
            insert_row(
                tx, "attachment", organization_id="o-1", policy_id="p-1", target_id=target, type=kind, ends_at=FOREVER
            )
        found = controls_of(tx, HERE)
        assert [(level.node, len(level.policies)) for level in found.scps] == [
            ("root r-1", 1),
            ("unit ou-1", 0),
            (f"account {HERE}", 1),
        ]
        assert found.management_accounts == {THERE}
        assert neighbours(tx, HERE) == [HERE]
        arn = f"arn:aws:backup:{REGION}:{HERE}:backup-vault:Daily"
        insert_row(
            tx, "vault", id="v", account=HERE, region=REGION, name="Daily", deleted_at=FOREVER,
            policy=document({**allow("backup:CopyIntoBackupVault"), "Principal": "*"}),
        )  # fmt: skip
        target_found = get_target(tx, Households(tx), arn, "backup:x", owner=None, default_owner=THERE)
        assert (target_found.owner, target_found.policy is not None) == (HERE, True)


def test_entries_of_the_trail_are_found(database: Database) -> None:
    with database.transaction() as tx:
        for number in range(4):
            entry = Entry(
                at=NOW + timedelta(hours=number),
                account=HERE,
                region=REGION,
                service="kms",
                operation=f"Do{number}",
                principal_arn=f"arn:aws:iam::{HERE}:user/maria_{number % 2}",
                decision=Decision.ALLOWED,
                reason="",
                parameters={"KeyId": f"100%{number}"},
            )
            record(tx, entry)

        def found(**wanted: object) -> list[str]:
            asked = Wanted(account=HERE, region=REGION, **wanted)  # type: ignore[arg-type]  # each test names its own
            return [each.operation for each in find_entries(tx, asked, before=None, limit=10)]

        assert found() == ["Do3", "Do2", "Do1", "Do0"]
        assert found(since=NOW + timedelta(hours=1), until=NOW + timedelta(hours=2)) == ["Do2", "Do1"]
        assert found(name="maria_1") == ["Do3", "Do1"]
        assert found(resource="100%2") == ["Do2"]
        assert found(operation="Do0", service="kms") == ["Do0"]
