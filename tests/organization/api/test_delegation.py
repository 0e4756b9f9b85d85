"""Trusted access, delegated administrators and tags through boto3."""

from typing import Any

import pytest
from tests.devserver import MANAGEMENT, DevServer, refused

BACKUP = "backup.amazonaws.com"


@pytest.fixture
def member(organizations: Any, root: str) -> str:
    """A member account."""
    status = organizations.create_account(AccountName="shop", Email="shop@example.com")["CreateAccountStatus"]
    return str(status["AccountId"])


def everything(client: Any, operation: str, member: str, **parameters: Any) -> list[Any]:
    """Return all items of a list, read by its paginator."""
    return [item for page in client.get_paginator(operation).paginate(**parameters) for item in page[member]]


def test_services_are_trusted_and_not_any_more(organizations: Any, root: str) -> None:
    for principal in (BACKUP, "config.amazonaws.com", "sso.amazonaws.com"):
        organizations.enable_aws_service_access(ServicePrincipal=principal)
    listed = everything(
        organizations,
        "list_aws_service_access_for_organization",
        "EnabledServicePrincipals",
        PaginationConfig={"PageSize": 2},
    )
    assert [one["ServicePrincipal"] for one in listed] == [BACKUP, "config.amazonaws.com", "sso.amazonaws.com"]
    assert all(one["DateEnabled"] for one in listed)
    organizations.disable_aws_service_access(ServicePrincipal=BACKUP)
    assert len(organizations.list_aws_service_access_for_organization()["EnabledServicePrincipals"]) == 2
    unknown = refused(organizations.enable_aws_service_access, ServicePrincipal="toaster.amazonaws.com")
    assert unknown == ("InvalidInputException", "UNRECOGNIZED_SERVICE_PRINCIPAL")


def test_a_delegated_administrator_reads_but_changes_nothing(
    server: DevServer, organizations: Any, root: str, member: str
) -> None:
    register = organizations.register_delegated_administrator
    untrusted = refused(register, AccountId=member, ServicePrincipal=BACKUP)
    assert untrusted == ("ConstraintViolationException", "SERVICE_ACCESS_NOT_ENABLED")
    organizations.enable_aws_service_access(ServicePrincipal=BACKUP)
    register(AccountId=member, ServicePrincipal=BACKUP)
    assert refused(register, AccountId=member, ServicePrincipal=BACKUP)[0] == "AccountAlreadyRegisteredException"
    management = refused(register, AccountId=MANAGEMENT, ServicePrincipal=BACKUP)
    assert management == ("ConstraintViolationException", "CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR")
    unknown = refused(register, AccountId="999999999999", ServicePrincipal=BACKUP)
    assert unknown[0] == "AccountNotFoundException"

    delegate = server.client("organizations", server.credentials_in(member))
    assert len(delegate.list_accounts()["Accounts"]) == 2
    assert delegate.describe_organization()["Organization"]["AvailablePolicyTypes"]
    (listed,) = everything(delegate, "list_delegated_administrators", "DelegatedAdministrators")
    assert listed["Id"] == member
    assert listed["DelegationEnabledDate"]
    (service,) = everything(delegate, "list_delegated_services_for_account", "DelegatedServices", AccountId=member)
    assert service["ServicePrincipal"] == BACKUP
    assert refused(delegate.create_organizational_unit, ParentId=root, Name="mine")[0] == "AccessDeniedException"
    assert refused(delegate.tag_resource, ResourceId=root, Tags=[])[0] == "AccessDeniedException"

    held = refused(organizations.disable_aws_service_access, ServicePrincipal=BACKUP)
    assert held == ("ConstraintViolationException", "DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE")
    bound = refused(organizations.remove_account_from_organization, AccountId=member)
    assert bound == ("ConstraintViolationException", "CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG")
    organizations.deregister_delegated_administrator(AccountId=member, ServicePrincipal=BACKUP)
    assert refused(delegate.list_accounts)[0] == "AccessDeniedException"
    services = refused(organizations.list_delegated_services_for_account, AccountId=member)
    assert services[0] == "AccountNotRegisteredException"


def test_the_resource_policy_lets_a_member_tag(server: DevServer, organizations: Any, root: str, member: str) -> None:
    statement = f"""{{"Version": "2012-10-17", "Statement": [{{"Effect": "Allow", "Principal": {{"AWS": "{member}"}},
        "Action": ["organizations:TagResource", "organizations:ListTagsForResource"], "Resource": "*"}}]}}"""
    organizations.put_resource_policy(Content=statement)
    delegate = server.client("organizations", server.credentials_in(member))
    delegate.tag_resource(ResourceId=root, Tags=[{"Key": "a", "Value": "b"}])
    assert delegate.list_tags_for_resource(ResourceId=root)["Tags"] == [{"Key": "a", "Value": "b"}]
    assert refused(delegate.untag_resource, ResourceId=root, TagKeys=["a"])[0] == "AccessDeniedException"
    organizations.delete_resource_policy()
    assert refused(delegate.list_tags_for_resource, ResourceId=root)[0] == "AccessDeniedException"


def test_tags_on_everything(organizations: Any, root: str, member: str) -> None:
    unit = organizations.create_organizational_unit(ParentId=root, Name="Prod", Tags=[{"Key": "t", "Value": "u"}])
    unit_id = unit["OrganizationalUnit"]["Id"]
    assert organizations.list_tags_for_resource(ResourceId=unit_id)["Tags"] == [{"Key": "t", "Value": "u"}]
    policy = organizations.create_policy(
        Type="BACKUP_POLICY", Name="p", Description="", Content='{"plans": {}}', Tags=[{"Key": "t", "Value": "p"}]
    )["Policy"]["PolicySummary"]["Id"]
    assert organizations.list_tags_for_resource(ResourceId=policy)["Tags"] == [{"Key": "t", "Value": "p"}]
    for target in (root, unit_id, member, policy):
        organizations.tag_resource(ResourceId=target, Tags=[{"Key": "x", "Value": "1"}, {"Key": "y", "Value": ""}])
        organizations.untag_resource(ResourceId=target, TagKeys=["x", "t", "nothing"])
        tags = everything(organizations, "list_tags_for_resource", "Tags", ResourceId=target)
        assert tags == [{"Key": "y", "Value": ""}]


def test_tags_that_are_refused(organizations: Any, root: str) -> None:
    tag = organizations.tag_resource
    reserved = refused(tag, ResourceId=root, Tags=[{"Key": "aws:x", "Value": ""}])
    assert reserved == ("InvalidInputException", "INVALID_SYSTEM_TAGS_PARAMETER")
    many = [{"Key": f"k{n}", "Value": ""} for n in range(51)]
    assert refused(tag, ResourceId=root, Tags=many) == ("ConstraintViolationException", "MAX_TAG_LIMIT_EXCEEDED")
    assert organizations.list_tags_for_resource(ResourceId=root)["Tags"] == []
    for nothing in ("r-zzzz", "999999999999", "p-0123456789", "rp-01234567"):
        assert refused(tag, ResourceId=nothing, Tags=[])[0] == "TargetNotFoundException"
