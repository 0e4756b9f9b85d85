"""Who can destroy what: asked of WhoCan, and really tried by everybody, for every call that takes something away."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.access.conftest import MANAGEMENT, MEMBER, OTHER, ROOT_KEY, World
from tests.access.destructive import TABLE, Destructive, Ground, Trial
from tests.access.test_attacks import allow, document, trusting

from holdfast.access.backup_role import find_role_by_arn
from holdfast.access.credentials import RoleSession, assume_role
from holdfast.access.model import root_caller

ACCOUNTS = (MANAGEMENT, MEMBER, OTHER)


@dataclass(frozen=True)
class People:
    """Everybody who could try: their credentials by ARN, and the roles that each can act in by themselves."""

    credentials: Mapping[str, Mapping[str, str]]
    acts_in: Mapping[str, set[str]]
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, world: World, arn: str, service: str) -> Any:
        """Return somebody's client of a service."""
        if (arn, service) not in self._clients:
            self._clients[arn, service] = world.client(service, self.credentials[arn])
        return self._clients[arn, service]

    def reach(self, directly: set[str]) -> set[str]:
        """Return who gets to one of these in the end, by acting in one role after another."""
        reached = set(directly)
        while nearer := {arn for arn, roles in self.acts_in.items() if roles & reached} - reached:
            reached |= nearer
        return reached


def lay_people(world: World) -> People:
    """Make users and roles of every kind in all accounts."""
    found: dict[str, Mapping[str, str]] = {}
    red = {"StringEquals": {"aws:ResourceTag/team": "red"}}
    for account in ACCOUNTS:
        iam = world.client("iam", account)
        for role, trusts, policy in (
            ("Keepers", [account], "arn:aws:iam::aws:policy/AWSBackupFullAccess"),
            ("Readers", [MEMBER, OTHER], "arn:aws:iam::aws:policy/AWSBackupOperatorAccess"),
        ):
            iam.create_role(RoleName=role, AssumeRolePolicyDocument=trusting({"AWS": trusts}))
            iam.attach_role_policy(RoleName=role, PolicyArn=policy)
        iam.put_role_policy(RoleName="Readers", PolicyName="on", PolicyDocument=document(allow("sts:AssumeRole")))
        everything = document(allow(["backup:*", "kms:*"]))
        bound = iam.create_policy(PolicyName="Bound", PolicyDocument=everything)["Policy"]["Arn"]
        never = {**allow(["backup:Delete*", "kms:Schedule*", "iam:Delete*"]), "Effect": "Deny"}
        for name, statements, more in (
            ("admin", [allow("*")], {}),
            ("operator", [allow("backup:Start*")], {}),
            ("walker", [allow("sts:AssumeRole", f"arn:aws:iam::{account}:role/Readers")], {}),
            ("denied", [allow("*"), never], {}),
            ("red", [allow("*", Condition=red)], {}),
            ("bounded", [allow("*")], {"PermissionsBoundary": bound}),
        ):
            user = iam.create_user(UserName=name, **more)["User"]["Arn"]
            iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document(*statements))
            key = iam.create_access_key(UserName=name)["AccessKey"]
            found[user] = {each: key[each] for each in ("AccessKeyId", "SecretAccessKey")}
        key_id, secret = world.keys[account]
        found[f"arn:aws:iam::{account}:root"] = {"AccessKeyId": key_id, "SecretAccessKey": secret}
    roles = {role["Arn"] for account in ACCOUNTS for role in world.client("iam", account).list_roles()["Roles"]}
    with world.database.transaction() as tx:
        for arn in sorted(roles):
            role_ = find_role_by_arn(tx, arn)
            assert role_ is not None
            asked = RoleSession(name="trial")
            _, made = assume_role(tx, ROOT_KEY, root_caller(role_.account), role_, asked, now=world.machine.now())
            found[arn] = {"AccessKeyId": made.id, "SecretAccessKey": made.secret, "SessionToken": made.token or ""}
    acts_in = {}
    for arn, who in found.items():
        assume = world.client("sts", who).assume_role
        acts_in[arn] = {role for role in roles if let_through(assume, RoleArn=role, RoleSessionName="trial")}
    return People(found, acts_in)


def let_through(call: Callable[..., Any], **given: Any) -> bool:
    """Return whether access was not what stood in the way."""
    try:
        call(**given)
    except ClientError as error:
        return not error.response["Error"]["Code"].startswith("AccessDenied")
    return True


def method(service: Any, operation: str) -> Callable[..., Any]:
    """Return the method of a client that makes a call."""
    (name,) = (python for python, wire in service.meta.method_to_api_mapping.items() if wire == operation)
    found: Callable[..., Any] = getattr(service, name)
    return found


def who_really_can(world: World, people: People, line: Destructive, ground: Ground, trial: Trial) -> set[str]:
    """Let everybody try who can name the thing; return who was let through."""
    can_be_named = line.service == "kms" and line.operation not in {"DeleteAlias", "UpdateAlias"}
    found = set()
    for arn in people.credentials:
        if not can_be_named and f":{MEMBER}:" not in arn:
            continue
        if let_through(method(people.client(world, arn, line.service), line.operation), **trial.given):
            found.add(arn)
            if not line.lasts:
                trial = line.make(ground)
    return found


@pytest.mark.parametrize("controlled", [False, True], ids=["no control policy", "destruction denied in the member"])
def test_who_can_equals_everybody_trying_for_every_call_that_destroys(whole_world: World, controlled: bool) -> None:
    world = whole_world
    people, ground = lay_people(world), Ground(world)
    policy = document(
        {**allow("backup:Delete*"), "Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{MEMBER}:user/red"}},
        {**allow("backup:DeleteRecoveryPoint"), "Principal": {"AWS": f"arn:aws:iam::{MEMBER}:user/operator"}},
    )
    ground.root("backup").put_backup_vault_access_policy(BackupVaultName=ground.full_vault(), Policy=policy)
    trials = [(line, line.make(ground)) for line in TABLE]
    if controlled:
        spared = ["sts:*", "backup:Update*", "iam:Untag*", "kms:Disable*"]
        denial = {"Effect": "Deny", "NotAction": spared, "Resource": "*"}
        world.control("ou-1-prod", document(denial))
    holdfast = world.client("holdfast")
    disagreeing = {}
    for line, trial in trials:
        pages = holdfast.get_paginator("who_can").paginate(
            Action=line.asks_for, ResourceArn=trial.resource, ResourceAccount=MEMBER, PaginationConfig={"PageSize": 9}
        )
        ways = {way["PrincipalArn"]: way["Roles"] for page in pages for way in page["Principals"]}
        directly = who_really_can(world, people, line, ground, trial)
        told = {arn for arn, roles in ways.items() if not roles}
        if trial.resource == "*":
            # Everybody may do this to their own account; here it is asked about the member's.
            told = {arn for arn in told if f":{MEMBER}:" in arn}
        reached = people.reach(directly)
        if told != directly or not reached <= set(ways):
            disagreeing[line.operation] = (sorted(told ^ directly), sorted(set(ways) ^ reached))
        elif trial.resource != "*":
            assert set(ways) == reached, line.operation
        if line.operation == "DeleteRecoveryPoint" and not controlled:
            assert directly > {f"arn:aws:iam::{MEMBER}:user/{name}" for name in ("admin", "operator", "bounded")}
            assert ways[f"arn:aws:iam::{MEMBER}:user/walker"] == [
                f"arn:aws:iam::{MEMBER}:role/{name}" for name in ("Readers", "Keepers")
            ]
            assert ways[f"arn:aws:iam::{MANAGEMENT}:root"] == [
                f"arn:aws:iam::{MEMBER}:role/OrganizationAccountAccessRole"
            ]
    assert disagreeing == {}
