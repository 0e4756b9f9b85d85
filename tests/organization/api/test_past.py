"""What a past instant is told, and to whom: accounts change organizations, units and types of policies go."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.devserver import DevServer, refused
from tests.policy.builders import a_policy

OTHER_MANAGER, MOVER = "111122223333", "111122224444"
BACKUP = "BACKUP_POLICY"


@pytest.fixture
def policy(organizations: Any, root: str) -> str:
    """A policy; its type is switched on."""
    organizations.enable_policy_type(RootId=root, PolicyType=BACKUP)
    made = organizations.create_policy(Name="p", Description="", Type=BACKUP, Content=json.dumps(a_policy()))
    return str(made["Policy"]["PolicySummary"]["Id"])


def plans(holdfast: Any, target: str, **at: datetime) -> list[str]:
    """Return the names of the plans that are explained for a target."""
    content = json.loads(holdfast.explain_effective_policy(TargetId=target, **at)["PolicyContent"])
    return list(content.get("plans", {}))


def test_the_past_of_an_account_is_told_only_to_itself_and_to_the_organization_it_stood_in(
    server: DevServer, organizations: Any, root: str, policy: str
) -> None:
    holdfast = server.client("holdfast")
    credentials = {}
    for account in (OTHER_MANAGER, MOVER):
        holdfast.import_account(AccountId=account, Name="a", Email=f"{account}@example.com")
        credentials[account] = server.credentials_in(account)
    organizations.attach_policy(PolicyId=policy, TargetId=root)
    asked = organizations.describe_effective_policy(PolicyType=BACKUP, TargetId=MOVER)
    then = asked["EffectivePolicy"]["LastUpdatedTimestamp"]
    server.advance(timedelta(minutes=1))
    for account in (OTHER_MANAGER, MOVER):
        organizations.remove_account_from_organization(AccountId=account)
    others = server.client("organizations", credentials[OTHER_MANAGER])
    others.create_organization()
    others.enable_policy_type(RootId=others.list_roots()["Roots"][0]["Id"], PolicyType=BACKUP)
    sent = others.invite_account_to_organization(Target={"Type": "ACCOUNT", "Id": MOVER})["Handshake"]["Id"]
    server.client("organizations", credentials[MOVER]).accept_handshake(HandshakeId=sent)

    elsewhere = server.client("holdfast", credentials[OTHER_MANAGER])
    assert plans(elsewhere, MOVER) == []
    assert refused(plans, holdfast=elsewhere, target=MOVER, At=then)[0] == "ResourceNotFoundException"
    assert refused(plans, holdfast=elsewhere, target=root, At=then)[0] == "ResourceNotFoundException"
    assert plans(server.client("holdfast", credentials[MOVER]), MOVER, At=then) == ["core"]
    assert plans(holdfast, MOVER, At=then) == ["core"]
    assert refused(plans, holdfast=holdfast, target=MOVER)[0] == "ResourceNotFoundException"


def test_a_unit_is_explained_for_the_time_when_it_and_its_policies_were_there(
    server: DevServer, organizations: Any, root: str, policy: str
) -> None:
    holdfast = server.client("holdfast")
    before = organizations.describe_effective_policy(PolicyType=BACKUP)["EffectivePolicy"]["LastUpdatedTimestamp"]
    server.advance(timedelta(minutes=1))
    unit = organizations.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=unit)
    then = holdfast.get_organization_tree(ParentId=unit)["Nodes"][0]["Attachments"][0]["AttachedAt"]
    server.advance(timedelta(minutes=1))
    organizations.disable_policy_type(RootId=root, PolicyType=BACKUP)
    assert plans(holdfast, unit, At=then) == ["core"]
    assert refused(plans, holdfast=holdfast, target=unit)[0] == "ResourceNotFoundException"
    organizations.delete_organizational_unit(OrganizationalUnitId=unit)
    organizations.enable_policy_type(RootId=root, PolicyType=BACKUP)
    assert plans(holdfast, unit, At=then) == ["core"]
    assert plans(holdfast, root, At=then) == []
    assert refused(plans, holdfast=holdfast, target=unit)[0] == "ResourceNotFoundException"
    assert refused(plans, holdfast=holdfast, target=unit, At=before)[0] == "ResourceNotFoundException"
    earlier = before - timedelta(days=1)
    assert refused(plans, holdfast=holdfast, target=root, At=earlier)[0] == "ResourceNotFoundException"
