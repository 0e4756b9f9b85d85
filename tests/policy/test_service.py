"""The verbs of policies: what they refuse, and what control policies need."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from tests.policy.builders import REGIONS, a_policy
from tests.policy.organization import Tree

from holdfast.organization.errors import TargetNotFoundError
from holdfast.policy import service, store
from holdfast.policy.errors import (
    DuplicateAttachmentError,
    DuplicatePolicyError,
    PolicyConstraintError,
    PolicyInputError,
    PolicyInUseError,
    PolicyNotAttachedError,
    PolicyNotFoundError,
    PolicyTypeAlreadyEnabledError,
    PolicyTypeNotAvailableError,
    PolicyTypeNotEnabledError,
    ResourcePolicyNotFoundError,
)
from holdfast.policy.model.document import MalformedPolicyError
from holdfast.policy.model.kind import KINDS, RESOURCE_CONTROL, SERVICE_CONTROL
from holdfast.policy.store import Policy

DENY = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "backup:*", "Resource": "*"}]}


def managed(tree: Tree, policy_type: str) -> Policy:
    return service.get_policy(tree.tx, tree.id, KINDS[policy_type].managed_id or "")


def test_a_policy_can_be_prepared_while_its_type_is_off_but_not_attached(tree: Tree) -> None:
    policy = tree.policy()
    with pytest.raises(PolicyTypeNotEnabledError):
        tree.attach(policy, tree.root)


def test_names_are_unique_within_a_type(tree: Tree) -> None:
    tree.policy(name="daily")
    with pytest.raises(DuplicatePolicyError):
        tree.policy(name="daily")
    other = tree.policy({"tags": {}}, name="daily", policy_type="TAG_POLICY")
    tree.policy({"tags": {}}, name="weekly", policy_type="TAG_POLICY")
    with pytest.raises(DuplicatePolicyError):
        service.update_policy(tree.tx, tree.id, other.id, name="weekly", regions=REGIONS, now=tree.now)
    same = service.update_policy(tree.tx, tree.id, other.id, name="daily", regions=REGIONS, now=tree.now)
    assert (same.name, same.version) == ("daily", 1)


def test_a_refused_update_leaves_the_policy_as_it_was(tree: Tree) -> None:
    policy = tree.policy()
    with pytest.raises(MalformedPolicyError):
        service.update_policy(tree.tx, tree.id, policy.id, name="new", content="{}", regions=REGIONS, now=tree.now)
    assert service.get_policy(tree.tx, tree.id, policy.id) == policy


def test_a_version_is_kept_for_each_name_and_content(tree: Tree) -> None:
    policy = tree.policy()
    same = service.update_policy(tree.tx, tree.id, policy.id, description="why", regions=REGIONS, now=tree.tick())
    assert (same.version, same.description) == (1, "why")
    changed = tree.update(policy, {"plans": {}})
    assert changed.version == 2
    contents = [store.contents_of_versions(tree.tx, tree.id, {policy.id: version})[policy.id] for version in (1, 2)]
    assert contents == [json.dumps(a_policy()), '{"plans": {}}']


REFUSALS: dict[str, tuple[type[Exception], Callable[[Tree, Policy], Any]]] = {
    "an unknown policy": (PolicyNotFoundError, lambda tree, _: service.get_policy(tree.tx, tree.id, "p-12345678")),
    "deleting an unknown policy": (
        PolicyNotFoundError,
        lambda tree, _: service.delete_policy(tree.tx, tree.id, "p-12345678", now=tree.now),
    ),
    "deleting an attached policy": (
        PolicyInUseError,
        lambda tree, policy: service.delete_policy(tree.tx, tree.id, policy.id, now=tree.now),
    ),
    "attaching twice": (DuplicateAttachmentError, lambda tree, policy: tree.attach(policy, tree.root)),
    "attaching to an unknown unit": (TargetNotFoundError, lambda tree, policy: tree.attach(policy, "ou-1234-12345678")),
    "attaching to an unknown account": (TargetNotFoundError, lambda tree, policy: tree.attach(policy, "999999999999")),
    "detaching from an unknown account": (
        TargetNotFoundError,
        lambda tree, policy: tree.detach(policy, "999999999999"),
    ),
    "detaching what is not attached": (
        PolicyNotAttachedError,
        lambda tree, policy: tree.detach(policy, tree.units["Prod"]),
    ),
    "switching on twice": (PolicyTypeAlreadyEnabledError, lambda tree, _: tree.enable()),
    "switching off what is off": (PolicyTypeNotEnabledError, lambda tree, _: tree.disable("TAG_POLICY")),
    "an unknown type": (PolicyInputError, lambda tree, _: tree.enable("OTHER_POLICY")),
    "changing a policy that AWS manages": (
        PolicyInputError,
        lambda tree, _: tree.update(managed(tree, SERVICE_CONTROL), DENY),
    ),
    "deleting a policy that AWS manages": (
        PolicyInputError,
        lambda tree, _: service.delete_policy(tree.tx, tree.id, "p-FullAWSAccess", now=tree.now),
    ),
    "reading no resource policy": (
        ResourcePolicyNotFoundError,
        lambda tree, _: service.get_resource_policy(tree.tx, tree.id),
    ),
    "deleting no resource policy": (
        ResourcePolicyNotFoundError,
        lambda tree, _: service.delete_resource_policy(tree.tx, tree.id),
    ),
    "a resource policy that is none": (
        PolicyInputError,
        lambda tree, _: service.put_resource_policy(tree.tx, tree.id, "{}", now=tree.now),
    ),
}


@pytest.mark.parametrize(("error", "act"), REFUSALS.values(), ids=REFUSALS)
def test_a_verb_refuses_what_cannot_be(tree: Tree, error: type[Exception], act: Callable[[Tree, Policy], Any]) -> None:
    tree.enable()
    policy = tree.policy()
    tree.attach(policy, tree.root)
    with pytest.raises(error):
        act(tree, policy)


def test_ten_backup_policies_may_be_attached_to_a_node_and_no_more(tree: Tree) -> None:
    tree.enable()
    for _ in range(10):
        tree.attach(tree.policy({"plans": {}}), tree.root)
    with pytest.raises(PolicyConstraintError) as refusal:
        tree.attach(tree.policy({"plans": {}}), tree.root)
    assert refusal.value.reason == "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"
    tree.attach(tree.policy({"plans": {}}), tree.units["Prod"])


def test_an_organization_may_have_a_thousand_backup_policies(tree: Tree) -> None:
    tree.tx.execute(
        text("""INSERT INTO policy (id, organization_id, type, name, description, content, version, aws_managed,
                                    created_at, updated_at)
                VALUES (:id, :organization, 'BACKUP_POLICY', :id, '', '{}', 1, :no, 0, 0)"""),
        [{"id": f"p-{number}", "organization": tree.id, "no": False} for number in range(1_000)],
    )
    with pytest.raises(PolicyConstraintError) as refusal:
        tree.policy()
    assert refusal.value.reason == "POLICY_NUMBER_LIMIT_EXCEEDED"


def test_an_organization_for_billing_only_has_no_policies(tree: Tree) -> None:
    tree.tx.execute(text("UPDATE organization SET feature_set = 'CONSOLIDATED_BILLING'"))
    with pytest.raises(PolicyTypeNotAvailableError):
        tree.policy()
    with pytest.raises(PolicyTypeNotAvailableError):
        tree.enable()


@pytest.mark.parametrize("policy_type", [SERVICE_CONTROL, RESOURCE_CONTROL])
def test_what_allows_everything_is_attached_everywhere_while_the_type_is_on(tree: Tree, policy_type: str) -> None:
    tree.enable(policy_type)
    tree.unit("New")
    tree.account("newcomer", "New")
    nodes = {tree.root, tree.organization.management_account, *tree.units.values(), *tree.accounts.values()}
    allowing = managed(tree, policy_type).id
    assert store.attachments(tree.tx, tree.id, policy_type) == {node: [allowing] for node in nodes}
    tree.disable(policy_type)
    assert store.attachments(tree.tx, tree.id, policy_type) == {}
    assert service.get_policy(tree.tx, tree.id, allowing).aws_managed


def test_every_node_keeps_at_least_one_service_control_policy(tree: Tree) -> None:
    tree.enable(SERVICE_CONTROL)
    allowing = managed(tree, SERVICE_CONTROL)
    with pytest.raises(PolicyConstraintError) as refusal:
        tree.detach(allowing, tree.root)
    assert refusal.value.reason == "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED"
    tree.attach(tree.policy(DENY, policy_type=SERVICE_CONTROL), tree.root)
    tree.detach(allowing, tree.root)
    tree.attach(allowing, tree.root)


def test_the_resource_control_policy_that_allows_everything_cannot_be_detached(tree: Tree) -> None:
    tree.enable(RESOURCE_CONTROL)
    with pytest.raises(PolicyInputError) as refusal:
        tree.detach(managed(tree, RESOURCE_CONTROL), tree.root)
    assert refusal.value.reason == "NON_DETACHABLE_POLICY"


def test_a_change_of_policies_makes_access_be_decided_anew(tree: Tree) -> None:
    def version() -> int:
        return int(tree.tx.execute(text("SELECT version FROM access_version")).scalar_one())

    seen = [version()]
    tree.enable(SERVICE_CONTROL)
    seen.append(version())
    deny = tree.policy(DENY, policy_type=SERVICE_CONTROL)
    tree.attach(deny, tree.units["Dev"])
    seen.append(version())
    tree.update(deny, {**DENY, "Statement": []} | DENY)
    seen.append(version())
    tree.detach(deny, tree.units["Dev"])
    seen.append(version())
    assert seen == sorted(set(seen))


def test_the_resource_policy_is_one_and_is_replaced(tree: Tree) -> None:
    grant = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "organizations:Describe*", "Resource": "*"}],
    }
    first = service.put_resource_policy(tree.tx, tree.id, json.dumps(grant), now=tree.now)
    second = service.put_resource_policy(tree.tx, tree.id, json.dumps(grant, indent=1), now=tree.now)
    assert second.id == first.id
    assert service.get_resource_policy(tree.tx, tree.id) == second
    service.delete_resource_policy(tree.tx, tree.id)
    with pytest.raises(ResourcePolicyNotFoundError):
        service.get_resource_policy(tree.tx, tree.id)


@pytest.mark.parametrize(
    "action",
    [{"Action": "*"}, {"Action": ["backup:*"]}, {"NotAction": "organizations:Leave*"}],
    ids=["every action", "another service", "every action but one"],
)
def test_the_resource_policy_speaks_of_the_organization_alone(tree: Tree, action: dict[str, Any]) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Resource": "*"} | action
    content = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    with pytest.raises(PolicyInputError) as refusal:
        service.put_resource_policy(tree.tx, tree.id, content, now=tree.now)
    assert refusal.value.reason == "UNSUPPORTED_ACTION_IN_RESOURCE_POLICY"


def test_attachments_to_a_node_that_is_gone_end(tree: Tree) -> None:
    tree.enable()
    tree.attach(tree.policy(), tree.units["Dev"])
    service.node_removed(tree.tx, tree.id, tree.units["Dev"], now=tree.tick())
    assert store.attachments(tree.tx, tree.id, "BACKUP_POLICY") == {}
