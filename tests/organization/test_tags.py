"""Tags on the things of an organization."""

import pytest
import sqlalchemy as sa
from sqlalchemy import text
from tests.organization.builders import NOON, a_unit, an_account

from holdfast.organization.errors import (
    Constraint,
    ConstraintError,
    InputReason,
    OrganizationInputError,
    TargetNotFoundError,
)
from holdfast.organization.model.limits import Limits
from holdfast.organization.model.tags import tags_of
from holdfast.organization.model.tree import Organization
from holdfast.organization.service import accounts, tags, tree

_POLICY = text("""
    INSERT INTO policy (id, organization_id, type, name, description, content, version, aws_managed, created_at,
                        updated_at)
    VALUES (:id, :organization, 'BACKUP_POLICY', :id, '', '{}', 1, :managed, 0, 0)""")
_RESOURCE_POLICY = text("""
    INSERT INTO resource_policy (organization_id, id, content, updated_at) VALUES (:organization, :id, '{}', 0)""")


def test_everything_in_an_organization_can_be_tagged(tx: sa.Connection, organization: Organization) -> None:
    tx.execute(_POLICY, {"id": "p-0123456789", "organization": organization.id, "managed": False})
    tx.execute(_RESOURCE_POLICY, {"id": "rp-01234567", "organization": organization.id})
    targets = [
        organization.root_id,
        a_unit(tx, organization, "Prod").id,
        an_account(tx, organization, "shop"),
        "p-0123456789",
        "rp-01234567",
    ]
    for number, target in enumerate(targets):
        tags.tag(tx, organization, target, {"number": str(number), "same": "x"})
    for number, target in enumerate(targets):
        assert tags.tags_on(tx, organization, target) == {"number": str(number), "same": "x"}
        tags.tag(tx, organization, target, {"same": "y"})
        tags.untag(tx, organization, target, ["number", "never there"])
        assert tags.tags_on(tx, organization, target) == {"same": "y"}


@pytest.mark.parametrize("target", ["r-0000", "ou-0000-00000000", "999999999999", "p-0123456789", "rp-01234567"])
def test_what_is_not_there_has_no_tags(tx: sa.Connection, organization: Organization, target: str) -> None:
    with pytest.raises(TargetNotFoundError):
        tags.tags_on(tx, organization, target)
    with pytest.raises(TargetNotFoundError):
        tags.tag(tx, organization, target, {"a": "b"})


def test_policies_of_aws_cannot_be_tagged(tx: sa.Connection, organization: Organization) -> None:
    tx.execute(_POLICY, {"id": "p-FullAWSAccess", "organization": organization.id, "managed": True})
    with pytest.raises(TargetNotFoundError):
        tags.tag(tx, organization, "p-FullAWSAccess", {"a": "b"})


def test_fifty_tags_are_enough(tx: sa.Connection, organization: Organization) -> None:
    tags.tag(tx, organization, organization.root_id, {f"key {n}": "" for n in range(50)})
    tags.tag(tx, organization, organization.root_id, {"key 1": "again"})
    with pytest.raises(ConstraintError) as refused:
        tags.tag(tx, organization, organization.root_id, {"one": "more"})
    assert refused.value.reason is Constraint.MAX_TAG_LIMIT_EXCEEDED


def test_too_many_first_tags_make_nothing(tx: sa.Connection, organization: Organization) -> None:
    one = Limits(tags=1)
    with pytest.raises(ConstraintError):
        accounts.create_account(tx, organization, "a", "a@example.com", {"a": "", "b": ""}, now=NOON, limits=one)
    assert accounts.list_requests(tx, organization, after=None, limit=20).items == ()


def test_tags_go_with_what_they_were_on(tx: sa.Connection, organization: Organization) -> None:
    unit = a_unit(tx, organization, "Prod")
    tags.tag(tx, organization, unit.id, {"a": "b"})
    tree.delete_unit(tx, organization, unit.id, now=NOON)
    assert tx.execute(text("SELECT count(*) FROM tag")).scalar_one() == 0
    tags.tag(tx, organization, organization.root_id, {"a": "b"})
    tree.delete_organization(tx, organization, now=NOON)
    assert tx.execute(text("SELECT count(*) FROM tag")).scalar_one() == 0


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("a", "1"), ("a", "2")], InputReason.DUPLICATE_TAG_KEY),
        ([("aws:mine", "1")], InputReason.INVALID_SYSTEM_TAGS_PARAMETER),
        ([("AWS:mine", "1")], InputReason.INVALID_SYSTEM_TAGS_PARAMETER),
    ],
)
def test_tags_that_cannot_be_written(pairs: list[tuple[str, str]], reason: InputReason) -> None:
    with pytest.raises(OrganizationInputError) as refused:
        tags_of(pairs)
    assert refused.value.reason is reason
