"""What the `organizations` API's handlers share: shapes of its things, pages, and who may ask."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from holdfast.access.model import values_of
from holdfast.core.paging import Page, Position
from holdfast.organization.model.handshake import Detail, Handshake
from holdfast.organization.model.names import OrganizationArns
from holdfast.organization.model.request import CreateAccountRequest
from holdfast.organization.model.tags import tags_of
from holdfast.organization.model.tree import Account, AccountStatus, Organization, Unit
from holdfast.organization.service import authority
from holdfast.organization.service.authority import Reach
from holdfast.wire.call import Call

_PAGE: Final = 20
_PAGING: Final = frozenset({"NextToken", "MaxResults"})
_Item = TypeVar("_Item")


def organization_for(
    call: Call,
    reach: Reach,
    name_resources: Callable[[Organization], Iterable[str]] | None = None,
    **values: str | Iterable[str] | None,
) -> Organization:
    """Return the caller's organization if it lets the caller do what the call asks.

    `name_resources` gives the ARNs that the call is about; without it, it is about the organization as a whole.
    `values` are condition keys of the service, without their prefix.

    Raises:
        NotInOrganizationError: the caller's account belongs to none.
        OrganizationAccessDeniedError: it does not let the caller.
    """
    return authority.organization_for(
        call.tx,
        call.caller,
        f"{call.service}:{call.operation}",
        reach,
        name_resources=name_resources,
        values=values_of({f"organizations:{name}": value for name, value in values.items()}),
    )


def arns_of(call: Call, organization: Organization) -> OrganizationArns:
    """Return what names the organization's things in the partition of the request."""
    return OrganizationArns(call.partition, organization.management_account, organization.id)


def tags_from_wire(shape: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a request gives.

    Raises:
        OrganizationInputError: a key comes twice, or is reserved.
    """
    return tags_of((tag["Key"], tag["Value"]) for tag in shape.get("Tags", ()))


def listed(
    call: Call,
    shape: Mapping[str, Any],
    name: str,
    fetch: Callable[[Position, int], Page[_Item]],
    to_wire: Callable[[_Item], Any],
    *,
    page: int = _PAGE,
) -> dict[str, Any]:
    """Return the page that the request asks for, as the member `name`, with the token of the next one.

    `page` is how many items a page has where the request does not say.
    """
    filters = {member: value for member, value in shape.items() if member not in _PAGING}
    position = call.page_position(filters, shape.get("NextToken"))
    found = fetch(position, shape.get("MaxResults", page))
    return {name: [to_wire(item) for item in found.items], "NextToken": call.page_token(filters, found.position)}


def organization_to_wire(call: Call, organization: Organization, *, narrow: bool = False) -> dict[str, Any]:
    """Return an organization; members see it without the policy types that it may use."""
    arns = arns_of(call, organization)
    shape: dict[str, Any] = {
        "Id": organization.id,
        "Arn": arns.organization(),
        "FeatureSet": organization.feature_set.value,
        "MasterAccountArn": arns.account(organization.management_account),
        "MasterAccountId": organization.management_account,
        "MasterAccountEmail": organization.management_email,
    }
    if not narrow:
        # The member is deprecated; the service shows this one type there, whatever is switched on at the root.
        usable = [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}] if organization.has_all_features else []
        shape["AvailablePolicyTypes"] = usable
    return shape


def unit_to_wire(arns: OrganizationArns, unit: Unit) -> dict[str, Any]:
    """Return an organizational unit."""
    return {"Id": unit.id, "Arn": arns.unit(unit.id), "Name": unit.name, "Path": unit.path}


def account_to_wire(arns: OrganizationArns, account: Account) -> dict[str, Any]:
    """Return an account of the organization. A closed one is suspended by its status, and closed by its state."""
    return {
        "Id": account.id,
        "Arn": arns.account(account.id),
        "Email": account.email,
        "Name": account.name,
        "Status": account.status.value,
        "State": "CLOSED" if account.status is AccountStatus.SUSPENDED else account.status.value,
        "Paths": [account.path] if account.path else [],
        "JoinedMethod": None if account.joined_method is None else account.joined_method.value,
        "JoinedTimestamp": account.joined_at,
    }


def request_to_wire(request: CreateAccountRequest) -> dict[str, Any]:
    """Return the status of a request to create an account."""
    return {
        "Id": request.id,
        "AccountName": request.account_name,
        "State": request.state.value,
        "RequestedTimestamp": request.requested_at,
        "CompletedTimestamp": request.completed_at,
        "AccountId": request.account_id,
        "GovCloudAccountId": request.gov_cloud_account_id,
        "FailureReason": request.failure_reason,
    }


def handshake_to_wire(call: Call, handshake: Handshake) -> dict[str, Any]:
    """Return a handshake, in the state that it has now."""
    arns = OrganizationArns(call.partition, handshake.management_account, handshake.organization_id)
    return {
        "Id": handshake.id,
        "Arn": arns.handshake(handshake.action.value, handshake.id),
        "Parties": [{"Id": party.id, "Type": party.kind.value} for party in handshake.parties],
        "State": handshake.state_at(call.now).value,
        "RequestedTimestamp": handshake.requested_at,
        "ExpirationTimestamp": handshake.expires_at,
        "Action": handshake.action.value,
        "Resources": [_detail_to_wire(detail) for detail in handshake.details],
    }


def _detail_to_wire(detail: Detail) -> dict[str, Any]:
    shape: dict[str, Any] = {"Value": detail.value, "Type": detail.kind}
    if detail.details:
        shape["Resources"] = [_detail_to_wire(inner) for inner in detail.details]
    return shape
