"""Accounts, and the handshakes by which they join, on the `organizations` API."""

from collections.abc import Mapping
from typing import Any, Final

from holdfast.organization.errors import UnsupportedEndpointError
from holdfast.organization.model.handshake import HandshakeAction, Party, PartyKind
from holdfast.organization.model.request import CreateAccountState
from holdfast.organization.service import accounts, invitations, tree
from holdfast.organization.service.authority import Reach
from holdfast.wire import organizations_effects as effects
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import (
    account_to_wire,
    arns_of,
    handshake_to_wire,
    listed,
    organization_for,
    request_to_wire,
    tags_from_wire,
)

_GOV_CLOUD_FROM: Final = "aws"
"""The partition in which accounts of AWS's GovCloud are asked for."""


def create_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make an account under the root, with a role for the management account."""
    return _create_account(call, shape, gov_cloud=False)


def create_gov_cloud_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make an account under the root and a second one, paired with it, that stands alone."""
    if call.partition != _GOV_CLOUD_FROM:
        raise UnsupportedEndpointError
    return _create_account(call, shape, gov_cloud=True)


def _create_account(call: Call, shape: dict[str, Any], *, gov_cloud: bool) -> dict[str, Any]:
    organization = organization_for(call, Reach.MANAGEMENT)
    role_name = shape.get("RoleName")
    request = accounts.create_account(
        call.tx,
        organization,
        shape["AccountName"],
        shape["Email"],
        tags_from_wire(shape),
        role_name=role_name,
        gov_cloud=gov_cloud,
        now=call.now,
    )
    if request.account_id is not None:
        effects.accounts_joined(call, organization.id, [request.account_id])
    for account_id in (request.account_id, request.gov_cloud_account_id):
        if account_id is not None:
            effects.access_role_made(call, organization, account_id, role_name)
    return {"CreateAccountStatus": request_to_wire(request)}


def describe_create_account_status(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe what came of a request to create an account."""
    organization = organization_for(call, Reach.READER)
    request = accounts.get_request(call.tx, organization, shape["CreateAccountRequestId"])
    return {"CreateAccountStatus": request_to_wire(request)}


def list_create_account_status(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the requests to create accounts."""
    organization = organization_for(call, Reach.READER)
    states = [CreateAccountState(state) for state in shape.get("States", ())]
    return listed(
        call,
        shape,
        "CreateAccountStatuses",
        lambda after, limit: accounts.list_requests(call.tx, organization, states, after=after, limit=limit),
        request_to_wire,
    )


def describe_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe an account of the organization."""
    account_id = shape["AccountId"]
    organization = organization_for(
        call, Reach.READER, lambda organization: [arns_of(call, organization).account(account_id)]
    )
    account = accounts.get_account(call.tx, organization, account_id)
    return {"Account": account_to_wire(arns_of(call, organization), account)}


def list_accounts(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List every account of the organization."""
    organization = organization_for(call, Reach.READER)
    arns = arns_of(call, organization)
    return listed(
        call,
        shape,
        "Accounts",
        lambda after, limit: accounts.list_accounts(call.tx, organization, after=after, limit=limit),
        lambda account: account_to_wire(arns, account),
    )


def list_accounts_for_parent(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the accounts directly under a node."""
    parent = shape["ParentId"]
    organization = organization_for(call, Reach.READER, lambda organization: [arns_of(call, organization).node(parent)])
    arns = arns_of(call, organization)
    return listed(
        call,
        shape,
        "Accounts",
        lambda after, limit: accounts.list_accounts_under(call.tx, organization, parent, after=after, limit=limit),
        lambda account: account_to_wire(arns, account),
    )


def move_account(call: Call, shape: dict[str, Any]) -> None:
    """Let an account stand under another node."""
    organization = organization_for(call, Reach.MANAGEMENT)
    account_id = shape["AccountId"]
    source, destination = shape["SourceParentId"], shape["DestinationParentId"]
    accounts.move_account(call.tx, organization, account_id, source, destination, now=call.now)
    effects.accounts_moved(call, [account_id])


def close_account(call: Call, shape: dict[str, Any]) -> None:
    """Close a member account."""
    organization = organization_for(call, Reach.MANAGEMENT)
    accounts.close_account(call.tx, organization, shape["AccountId"], now=call.now)


def remove_account_from_organization(call: Call, shape: dict[str, Any]) -> None:
    """Let a member account go."""
    organization = organization_for(call, Reach.MANAGEMENT)
    accounts.remove_account(call.tx, organization, shape["AccountId"], now=call.now)
    effects.accounts_left(call, organization.id, [shape["AccountId"]])


def invite_account_to_organization(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Ask an account to join."""
    organization = organization_for(call, Reach.MANAGEMENT)
    target = Party(PartyKind(shape["Target"]["Type"]), shape["Target"]["Id"])
    sent = invitations.invite(call.tx, organization, target, shape.get("Notes"), tags_from_wire(shape), now=call.now)
    return {"Handshake": handshake_to_wire(call, sent)}


def enable_all_features(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Ask the members to let the organization have all features."""
    organization = organization_for(call, Reach.MANAGEMENT)
    return {"Handshake": handshake_to_wire(call, invitations.enable_all_features(call.tx, organization, now=call.now))}


def accept_handshake(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Accept a handshake, or complete one."""
    before = tree.placement_of(call.tx, call.caller.account)
    accepted = invitations.accept(call.tx, call.caller.account, shape["HandshakeId"], now=call.now)
    effects.handshake_accepted(call, accepted, before)
    return {"Handshake": handshake_to_wire(call, accepted)}


def decline_handshake(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Decline a handshake."""
    declined = invitations.decline(call.tx, call.caller.account, shape["HandshakeId"], now=call.now)
    return {"Handshake": handshake_to_wire(call, declined)}


def cancel_handshake(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take a handshake back."""
    cancelled = invitations.cancel(call.tx, call.caller.account, shape["HandshakeId"], now=call.now)
    return {"Handshake": handshake_to_wire(call, cancelled)}


def describe_handshake(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe a handshake that the caller's account is party to."""
    found = invitations.get_handshake(call.tx, call.caller.account, shape["HandshakeId"])
    return {"Handshake": handshake_to_wire(call, found)}


def list_handshakes_for_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List what the caller's account was sent."""
    return listed(
        call,
        shape,
        "Handshakes",
        lambda after, limit: invitations.list_received(
            call.tx, call.caller.account, **_filter(shape), now=call.now, after=after, limit=limit
        ),
        lambda handshake: handshake_to_wire(call, handshake),
    )


def list_handshakes_for_organization(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List what the organization sent."""
    organization = organization_for(call, Reach.READER)
    return listed(
        call,
        shape,
        "Handshakes",
        lambda after, limit: invitations.list_sent(
            call.tx, organization, **_filter(shape), now=call.now, after=after, limit=limit
        ),
        lambda handshake: handshake_to_wire(call, handshake),
    )


def _filter(shape: Mapping[str, Any]) -> dict[str, Any]:
    given = shape.get("Filter", {})
    action = given.get("ActionType")
    return {
        "action": None if action is None else HandshakeAction(action),
        "parent_id": given.get("ParentHandshakeId"),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CreateAccount": create_account,
    "CreateGovCloudAccount": create_gov_cloud_account,
    "DescribeCreateAccountStatus": describe_create_account_status,
    "ListCreateAccountStatus": list_create_account_status,
    "DescribeAccount": describe_account,
    "ListAccounts": list_accounts,
    "ListAccountsForParent": list_accounts_for_parent,
    "MoveAccount": move_account,
    "CloseAccount": close_account,
    "RemoveAccountFromOrganization": remove_account_from_organization,
    "InviteAccountToOrganization": invite_account_to_organization,
    "EnableAllFeatures": enable_all_features,
    "AcceptHandshake": accept_handshake,
    "DeclineHandshake": decline_handshake,
    "CancelHandshake": cancel_handshake,
    "DescribeHandshake": describe_handshake,
    "ListHandshakesForAccount": list_handshakes_for_account,
    "ListHandshakesForOrganization": list_handshakes_for_organization,
}
