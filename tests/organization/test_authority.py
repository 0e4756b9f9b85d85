"""Whose leave a call needs: membership, delegation, and the organization's resource policy."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.organization.builders import MANAGEMENT, NOON, an_account

from holdfast.access.model import root_caller
from holdfast.organization.errors import NotInOrganizationError, OrganizationAccessDeniedError
from holdfast.organization.model.tree import Organization
from holdfast.organization.model.trusted import BACKUP
from holdfast.organization.service import accounts, delegation
from holdfast.organization.service.authority import Reach, organization_for

LIST, CREATE = "organizations:ListAccounts", "organizations:CreatePolicy"
_PUT = text("""
    INSERT INTO resource_policy (organization_id, id, content, updated_at) VALUES (:id, 'rp-12345678', :content, 0)""")


@pytest.fixture
def member(tx: sa.Connection, organization: Organization) -> str:
    """An ordinary member account."""
    return an_account(tx, organization, "member")


def _may(
    tx: sa.Connection, account: str, action: str, reach: Reach, *resources: str, **values: tuple[str, ...]
) -> bool:
    try:
        organization_for(
            tx,
            root_caller(account),
            action,
            reach,
            name_resources=(lambda _: resources) if resources else None,
            values={f"organizations:{name}": value for name, value in values.items()},
        )
    except OrganizationAccessDeniedError:
        return False
    return True


def _put_policy(tx: sa.Connection, organization: Organization, *statements: dict[str, Any]) -> None:
    content = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    tx.execute(_PUT, {"id": organization.id, "content": content})


def _statement(effect: str, account: str, action: str, resource: str = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": {"AWS": account}, "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    ("reach", "ordinary", "delegated"),
    [
        (Reach.MEMBER, True, True),
        (Reach.READER, False, True),
        (Reach.DELEGABLE, False, False),
        (Reach.MANAGEMENT, False, False),
    ],
)
def test_who_may_without_a_resource_policy(
    tx: sa.Connection, organization: Organization, member: str, reach: Reach, ordinary: bool, delegated: bool
) -> None:
    assert _may(tx, MANAGEMENT, LIST, reach)
    assert _may(tx, member, LIST, reach) == ordinary
    delegation.enable_service(tx, organization, BACKUP, now=NOON)
    delegation.register_administrator(tx, organization, member, BACKUP, now=NOON)
    assert _may(tx, member, LIST, reach) == delegated


def test_strangers_are_told_that_they_are_in_no_organization(tx: sa.Connection, organization: Organization) -> None:
    accounts.register_account(tx, "111122223333", "alone", "alone@example.com", now=NOON)
    with pytest.raises(NotInOrganizationError):
        organization_for(tx, root_caller("111122223333"), LIST, Reach.MEMBER)


def test_a_resource_policy_lets_a_member_do_more(tx: sa.Connection, organization: Organization, member: str) -> None:
    other = an_account(tx, organization, "other")
    condition = {"StringEquals": {"organizations:PolicyType": "BACKUP_POLICY"}}
    _put_policy(tx, organization, _statement("Allow", member, CREATE, Condition=condition))
    assert _may(tx, member, CREATE, Reach.DELEGABLE, policytype=("BACKUP_POLICY",))
    assert not _may(tx, member, CREATE, Reach.DELEGABLE, policytype=("TAG_POLICY",))
    assert not _may(tx, member, LIST, Reach.READER)
    assert not _may(tx, other, CREATE, Reach.DELEGABLE, policytype=("BACKUP_POLICY",))


def test_what_is_for_the_management_alone_cannot_be_delegated(
    tx: sa.Connection, organization: Organization, member: str
) -> None:
    _put_policy(tx, organization, _statement("Allow", member, "organizations:*"))
    assert not _may(tx, member, "organizations:CreateAccount", Reach.MANAGEMENT)


def test_every_resource_of_a_call_must_be_granted(tx: sa.Connection, organization: Organization, member: str) -> None:
    attach = "organizations:AttachPolicy"
    policy = f"arn:aws:organizations::{MANAGEMENT}:policy/{organization.id}/backup_policy/p-1"
    unit = f"arn:aws:organizations::{MANAGEMENT}:ou/{organization.id}/ou-1"
    _put_policy(tx, organization, _statement("Allow", member, attach, policy))
    assert _may(tx, member, attach, Reach.DELEGABLE, policy)
    assert not _may(tx, member, attach, Reach.DELEGABLE, policy, unit)


def test_a_deny_takes_what_a_delegated_administrator_has(
    tx: sa.Connection, organization: Organization, member: str
) -> None:
    delegation.enable_service(tx, organization, BACKUP, now=NOON)
    delegation.register_administrator(tx, organization, member, BACKUP, now=NOON)
    _put_policy(tx, organization, _statement("Deny", member, LIST))
    assert not _may(tx, member, LIST, Reach.READER)
    assert _may(tx, member, "organizations:ListRoots", Reach.READER)
    assert _may(tx, MANAGEMENT, LIST, Reach.READER)
