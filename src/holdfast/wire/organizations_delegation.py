"""Trusted access, delegated administrators and tags on the `organizations` API."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from holdfast.core.paging import Page
from holdfast.organization.model.tree import Account
from holdfast.organization.service import delegation, tags
from holdfast.organization.service.authority import Reach
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import (
    account_to_wire,
    arns_of,
    listed,
    organization_for,
    tags_from_wire,
)


def enable_aws_service_access(call: Call, shape: dict[str, Any]) -> None:
    """Trust a service."""
    organization = organization_for(call, Reach.MANAGEMENT)
    delegation.enable_service(call.tx, organization, shape["ServicePrincipal"], now=call.now)


def disable_aws_service_access(call: Call, shape: dict[str, Any]) -> None:
    """Trust a service no longer."""
    organization = organization_for(call, Reach.MANAGEMENT)
    delegation.disable_service(call.tx, organization, shape["ServicePrincipal"])


def list_aws_service_access_for_organization(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the services that the organization trusts."""
    organization = organization_for(call, Reach.READER)
    return listed(
        call,
        shape,
        "EnabledServicePrincipals",
        lambda after, limit: delegation.list_services(call.tx, organization, after=after, limit=limit),
        lambda entry: {"ServicePrincipal": entry.name, "DateEnabled": entry.enabled_at},
    )


def register_delegated_administrator(call: Call, shape: dict[str, Any]) -> None:
    """Let a member be the delegated administrator of a service."""
    organization = organization_for(call, Reach.MANAGEMENT)
    account_id, principal = shape["AccountId"], shape["ServicePrincipal"]
    delegation.register_administrator(call.tx, organization, account_id, principal, now=call.now)


def deregister_delegated_administrator(call: Call, shape: dict[str, Any]) -> None:
    """Let a member be the delegated administrator of a service no longer."""
    organization = organization_for(call, Reach.MANAGEMENT)
    delegation.deregister_administrator(call.tx, organization, shape["AccountId"], shape["ServicePrincipal"])


def list_delegated_administrators(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the delegated administrators, of one service or of any."""
    organization = organization_for(call, Reach.READER)
    arns = arns_of(call, organization)
    principal = shape.get("ServicePrincipal")

    def to_wire(entry: tuple[Account, datetime]) -> dict[str, Any]:
        account = account_to_wire(arns, entry[0])
        del account["Paths"]
        return {**account, "DelegationEnabledDate": entry[1]}

    return listed(
        call,
        shape,
        "DelegatedAdministrators",
        lambda after, limit: delegation.list_administrators(call.tx, organization, principal, after=after, limit=limit),
        to_wire,
    )


def list_delegated_services_for_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the services that a member administers."""
    organization = organization_for(call, Reach.READER)
    account_id = shape["AccountId"]
    return listed(
        call,
        shape,
        "DelegatedServices",
        lambda after, limit: delegation.list_administered_services(
            call.tx, organization, account_id, after=after, limit=limit
        ),
        lambda entry: {"ServicePrincipal": entry.name, "DelegationEnabledDate": entry.enabled_at},
    )


def tag_resource(call: Call, shape: dict[str, Any]) -> None:
    """Add tags to a root, unit, account or policy."""
    target, added = shape["ResourceId"], tags_from_wire(shape)
    organization = organization_for(
        call, Reach.DELEGABLE, lambda organization: [tags.arn_of(call.tx, organization, target, call.partition)]
    )
    tags.tag(call.tx, organization, target, added)


def untag_resource(call: Call, shape: dict[str, Any]) -> None:
    """Remove tags from a root, unit, account or policy."""
    target = shape["ResourceId"]
    organization = organization_for(
        call, Reach.DELEGABLE, lambda organization: [tags.arn_of(call.tx, organization, target, call.partition)]
    )
    tags.untag(call.tx, organization, target, shape["TagKeys"])


def list_tags_for_resource(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags on a root, unit, account or policy."""
    target = shape["ResourceId"]
    organization = organization_for(
        call, Reach.READER, lambda organization: [tags.arn_of(call.tx, organization, target, call.partition)]
    )
    found = tags.tags_on(call.tx, organization, target)
    return listed(
        call,
        shape,
        "Tags",
        lambda _after, _limit: Page(tuple(found.items())),
        lambda tag: {"Key": tag[0], "Value": tag[1]},
    )


OPERATIONS: Final[Mapping[str, Handler]] = {
    "EnableAWSServiceAccess": enable_aws_service_access,
    "DisableAWSServiceAccess": disable_aws_service_access,
    "ListAWSServiceAccessForOrganization": list_aws_service_access_for_organization,
    "RegisterDelegatedAdministrator": register_delegated_administrator,
    "DeregisterDelegatedAdministrator": deregister_delegated_administrator,
    "ListDelegatedAdministrators": list_delegated_administrators,
    "ListDelegatedServicesForAccount": list_delegated_services_for_account,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
