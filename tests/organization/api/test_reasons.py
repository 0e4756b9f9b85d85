"""Limits and rules of an organization, each refused through boto3 with its exact exception and reason."""

import json
from typing import Any

import pytest
from tests.devserver import MANAGEMENT, DevServer, refused

BACKUP = "backup.amazonaws.com"
CONSTRAINT, HANDSHAKE, INPUT = (
    "ConstraintViolationException",
    "HandshakeConstraintViolationException",
    "InvalidInputException",
)
DENY = json.dumps({"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}})


def an_account(organizations: Any, name: str) -> str:
    """Make an account and return its id."""
    made = organizations.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"]
    assert made["State"] == "SUCCEEDED", made
    return str(made["AccountId"])


def test_a_service_has_so_many_delegated_administrators_and_no_suspended_ones(organizations: Any, root: str) -> None:
    organizations.enable_aws_service_access(ServicePrincipal=BACKUP)
    register = organizations.register_delegated_administrator
    closed = an_account(organizations, "closed")
    organizations.close_account(AccountId=closed)
    suspended = refused(register, AccountId=closed, ServicePrincipal=BACKUP)
    assert suspended == (CONSTRAINT, "CANNOT_REGISTER_SUSPENDED_ACCOUNT_AS_DELEGATED_ADMINISTRATOR")
    accounts = [an_account(organizations, f"a{number}") for number in range(6)]
    for account in accounts[:5]:
        register(AccountId=account, ServicePrincipal=BACKUP)
    sixth = refused(register, AccountId=accounts[5], ServicePrincipal=BACKUP)
    assert sixth == (CONSTRAINT, "MAX_DELEGATED_ADMINISTRATORS_FOR_SERVICE_LIMIT_EXCEEDED")
    distrust = refused(organizations.disable_aws_service_access, ServicePrincipal=BACKUP)
    assert distrust == (CONSTRAINT, "DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE")
    remove = refused(organizations.remove_account_from_organization, AccountId=accounts[0])
    assert remove == (CONSTRAINT, "CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG")


def test_a_service_that_a_policy_type_needs_stays_trusted(organizations: Any, root: str) -> None:
    organizations.enable_aws_service_access(ServicePrincipal="inspector2.amazonaws.com")
    organizations.enable_policy_type(RootId=root, PolicyType="INSPECTOR_POLICY")
    kept = refused(organizations.disable_aws_service_access, ServicePrincipal="inspector2.amazonaws.com")
    assert kept == (CONSTRAINT, "POLICY_TYPE_ENABLED_FOR_THIS_SERVICE")


def test_the_last_control_policy_of_a_node_stays(organizations: Any, root: str) -> None:
    organizations.enable_policy_type(RootId=root, PolicyType="SERVICE_CONTROL_POLICY")
    last = refused(organizations.detach_policy, PolicyId="p-FullAWSAccess", TargetId=root)
    assert last == (CONSTRAINT, "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED")
    organizations.enable_policy_type(RootId=root, PolicyType="RESOURCE_CONTROL_POLICY")
    kept = refused(organizations.detach_policy, PolicyId="p-RCPFullAWSAccess", TargetId=root)
    assert kept == (INPUT, "NON_DETACHABLE_POLICY")
    managed = refused(organizations.update_policy, PolicyId="p-FullAWSAccess", Content=DENY)
    assert managed == (INPUT, "IMMUTABLE_POLICY")
    for number in range(9):
        made = organizations.create_policy(
            Type="SERVICE_CONTROL_POLICY", Name=f"p{number}", Description="", Content=DENY
        )["Policy"]["PolicySummary"]["Id"]
        organizations.attach_policy(PolicyId=made, TargetId=root)
    one_more = organizations.create_policy(Type="SERVICE_CONTROL_POLICY", Name="more", Description="", Content=DENY)
    eleventh = refused(organizations.attach_policy, PolicyId=one_more["Policy"]["PolicySummary"]["Id"], TargetId=root)
    assert eleventh == (CONSTRAINT, "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED")


def test_what_needs_all_features_says_so(server: DevServer, organizations: Any) -> None:
    organizations.create_organization(FeatureSet="CONSOLIDATED_BILLING")
    shop = an_account(organizations, "shop")
    needs = (CONSTRAINT, "ORGANIZATION_NOT_IN_ALL_FEATURES_MODE")
    assert refused(organizations.close_account, AccountId=shop) == needs
    assert refused(organizations.close_account, AccountId=MANAGEMENT) == (
        CONSTRAINT,
        "CANNOT_CLOSE_MANAGEMENT_ACCOUNT",
    )
    assert refused(organizations.register_delegated_administrator, AccountId=shop, ServicePrincipal=BACKUP) == needs


def test_while_all_features_are_asked_for_nobody_is_invited_and_nothing_is_asked_twice(
    server: DevServer, organizations: Any
) -> None:
    guest = "111122223333"
    organizations.create_organization(FeatureSet="CONSOLIDATED_BILLING")
    server.client("holdfast").import_account(AccountId=guest, Name="guest", Email="guest@example.com")
    credentials = server.credentials_in(guest)
    organizations.remove_account_from_organization(AccountId=guest)
    target = {"Type": "ACCOUNT", "Id": guest}
    sent = organizations.invite_account_to_organization(Target=target)["Handshake"]["Id"]
    server.client("organizations", credentials).accept_handshake(HandshakeId=sent)
    organizations.enable_all_features()
    again = refused(organizations.enable_all_features)
    assert again == (HANDSHAKE, "ORGANIZATION_IS_ALREADY_PENDING_ALL_FEATURES_MIGRATION")
    other = {"Type": "EMAIL", "Id": "other@example.com"}
    invited = refused(organizations.invite_account_to_organization, Target=other)
    assert invited == (HANDSHAKE, "INVITE_DISABLED_DURING_ENABLE_ALL_FEATURES")


@pytest.mark.parametrize(
    "what", [{"Action": "backup:DeleteRecoveryPoint"}, {"NotAction": "organizations:List*"}], ids=str
)
def test_the_resource_policy_speaks_of_organizations_alone(organizations: Any, root: str, what: dict[str, str]) -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": MANAGEMENT}, "Resource": "*", **what}
    content = json.dumps({"Version": "2012-10-17", "Statement": statement})
    answer = refused(organizations.put_resource_policy, Content=content)
    assert answer == (INPUT, "UNSUPPORTED_ACTION_IN_RESOURCE_POLICY")


@pytest.mark.deep
def test_an_organization_has_two_thousand_units_a_thousand_policies_and_closes_250_accounts(
    organizations: Any, root: str
) -> None:
    for number in range(2_000):
        organizations.create_organizational_unit(ParentId=root, Name=f"unit {number}")
    unit = refused(organizations.create_organizational_unit, ParentId=root, Name="more")
    assert unit == (CONSTRAINT, "OU_NUMBER_LIMIT_EXCEEDED")
    given = {"Type": "BACKUP_POLICY", "Description": "", "Content": '{"plans": {}}'}
    for number in range(1_000):
        organizations.create_policy(Name=f"p{number}", **given)
    policy = refused(organizations.create_policy, Name="more", **given)
    assert policy == (CONSTRAINT, "POLICY_NUMBER_LIMIT_EXCEEDED")
    for number in range(250):
        organizations.close_account(AccountId=an_account(organizations, f"a{number}"))
    last = an_account(organizations, "last")
    assert refused(organizations.close_account, AccountId=last) == (CONSTRAINT, "CLOSE_ACCOUNT_QUOTA_EXCEEDED")
