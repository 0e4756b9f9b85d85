"""What a role lacks for backups, told in words."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from tests.access.builders import HERE, THERE, allow, deny, document, level, scp

from holdfast.access import policy_service, service
from holdfast.access.backup_role import may_backup, may_restore
from holdfast.access.managed import BACKUP_ACTIONS, RESTORE_ACTIONS
from holdfast.access.model.identity import Kind
from holdfast.database.connection import Database

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ROLE = f"arn:aws:iam::{HERE}:role/Backups"
TREE = f"arn:aws:elasticfilesystem:eu-north-1:{HERE}:file-system/fs-1"
FOR_BACKUP = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForBackup"
FOR_RESTORES = "arn:aws:iam::aws:policy/service-role/AWSBackupServiceRolePolicyForRestores"


def trust(principal: dict[str, str], effect: str = "Allow", **more: Any) -> str:
    return json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": {"Effect": effect, "Action": "sts:AssumeRole", "Principal": principal, **more},
        }
    )


BACKUP_SERVICE = {"Service": "backup.amazonaws.com"}


def a_role(tx: sa.Connection, *policies: str, trusting: str = trust(BACKUP_SERVICE)) -> None:
    service.create_role(tx, HERE, "Backups", trusting, now=NOW)
    for policy in policies:
        policy_service.attach(tx, Kind.ROLE, HERE, "Backups", policy)


@pytest.mark.parametrize("resource_type", sorted(BACKUP_ACTIONS))
def test_the_managed_policies_are_enough_for_every_type(database: Database, resource_type: str) -> None:
    with database.transaction() as tx:
        a_role(tx, FOR_BACKUP, FOR_RESTORES)
        assert may_backup(tx, ROLE, resource_type, "arn:aws:s3:::bucket", account=HERE) == ()
        assert may_restore(tx, ROLE, resource_type, "arn:aws:s3:::bucket", account=HERE) == ()


def test_a_role_may_be_limited_to_single_resources(database: Database) -> None:
    other = TREE.replace("fs-1", "fs-2")
    with database.transaction() as tx:
        a_role(tx)
        own = document(allow([*BACKUP_ACTIONS["EFS"], *RESTORE_ACTIONS["EFS"]], TREE))
        policy_service.put_inline(tx, Kind.ROLE, HERE, "Backups", "own", own)
        for may in (may_backup, may_restore):
            assert may(tx, ROLE, "EFS", TREE, account=HERE) == ()
            (*_, sentence) = may(tx, ROLE, "EFS", other, account=HERE)
            assert f"on {other}: no identity-based policy allows it" in sentence


def test_a_role_that_is_not_there_is_named(database: Database) -> None:
    with database.transaction() as tx:
        a_role(tx, FOR_BACKUP)
        for arn in (ROLE + "2", ROLE.replace("role/", "role/path/"), ROLE.replace(":iam:", ":sts:"), "Backups"):
            (sentence,) = may_backup(tx, arn, "EFS", TREE, account=HERE)
            assert sentence == f"The role {arn} does not exist; create it in account {HERE}"
        (sentence,) = may_backup(tx, ROLE, "EFS", TREE, account=THERE)
        assert "belongs to account" in sentence


@pytest.mark.parametrize(
    ("trusting", "words"),
    [
        (trust({"Service": "ec2.amazonaws.com"}), "does not trust backup.amazonaws.com"),
        (trust({"AWS": HERE}), "does not trust backup.amazonaws.com"),
        (trust(BACKUP_SERVICE, "Deny"), "denies it to backup.amazonaws.com"),
        (
            trust(BACKUP_SERVICE, Condition={"StringEquals": {"aws:SourceAccount": THERE}}),
            "does not trust backup.amazonaws.com",
        ),
    ],
)
def test_a_role_that_does_not_trust_the_service_is_told_how(database: Database, trusting: str, words: str) -> None:
    with database.transaction() as tx:
        a_role(tx, FOR_BACKUP, trusting=trusting)
        (sentence,) = may_backup(tx, ROLE, "EFS", TREE, account=HERE)
    assert sentence.startswith(f"The role {ROLE} cannot be assumed by AWS Backup")
    assert words in sentence


def test_a_role_without_the_right_is_told_which_one(database: Database) -> None:
    with database.transaction() as tx:
        a_role(tx, FOR_RESTORES)
        (sentence,) = may_backup(tx, ROLE, "EFS", TREE, account=HERE)
        assert sentence == (
            f"The role {ROLE} may not do elasticfilesystem:Backup on {TREE}: no identity-based policy allows it"
        )
        policy_service.put_inline(
            tx, Kind.ROLE, HERE, "Backups", "never", document(deny("elasticfilesystem:*", f"{TREE}*"))
        )
        policy_service.attach(tx, Kind.ROLE, HERE, "Backups", FOR_BACKUP)
        (sentence,) = may_backup(tx, ROLE, "EFS", TREE, account=HERE)
        assert "explicitly denied by statement 1 of the identity-based policy never of role Backups" in sentence
        assert may_backup(tx, ROLE, "EFS", TREE[:-1] + "2", account=HERE) == ()


def test_boundary_and_control_policies_bind_backup_roles(database: Database) -> None:
    with database.transaction() as tx:
        a_role(tx, FOR_BACKUP)
        full = scp({"Effect": "Allow", "Action": "*", "Resource": "*"})
        levels = (level("root r-1", full), level("unit ou-1", full, scp(deny("elasticfilesystem:Backup"))))
        (sentence,) = may_backup(tx, ROLE, "EFS", TREE, account=HERE, scps=levels)
        assert "service control policy" in sentence
        assert may_backup(tx, ROLE, "EFS", TREE, account=HERE, scps=levels, management_accounts=frozenset({HERE})) == ()
        service.set_boundary(tx, Kind.ROLE, HERE, "Backups", FOR_RESTORES)
        (sentence,) = may_backup(tx, ROLE, "EFS", TREE, account=HERE)
        assert "no permissions boundary allows it" in sentence


def test_every_type_has_rights_for_both_ways() -> None:
    assert BACKUP_ACTIONS.keys() == RESTORE_ACTIONS.keys()
