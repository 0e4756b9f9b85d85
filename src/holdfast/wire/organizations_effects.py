"""What a change of the tree brings about at other stations, in the same transaction, so that it can be seen at once.

The same follows from the news that the organization publishes; this only makes it immediate.
"""

from collections.abc import Sequence

from holdfast.access.model.identity import ACCESS_ROLE
from holdfast.access.service import create_access_role
from holdfast.organization.model.handshake import Handshake, HandshakeAction
from holdfast.organization.model.tree import Organization, Placement
from holdfast.policy import service as policies
from holdfast.wire.call import Call


def organization_created(call: Call, organization: Organization) -> None:
    """Give a new organization the policies that AWS manages.

    No type is switched on: organizations made through AWS's API begin so, whatever the words of CreateOrganization say,
    and programs that set organizations up call EnablePolicyType for each type that they want.
    """
    policies.organization_created(call.tx, organization.id, now=call.now)


def unit_created(call: Call, organization: Organization, unit_id: str) -> None:
    """Attach to a new unit what stands at every node."""
    policies.nodes_added(call.tx, organization.id, [unit_id], now=call.now)


def unit_deleted(call: Call, organization: Organization, unit_id: str) -> None:
    """End what was attached to a unit."""
    policies.node_removed(call.tx, organization.id, unit_id, now=call.now)


def accounts_joined(call: Call, organization_id: str, account_ids: Sequence[str]) -> None:
    """Let the organization's policies hold for accounts that are new in it."""
    policies.nodes_added(call.tx, organization_id, account_ids, now=call.now)
    policies.recompute_accounts(call.tx, account_ids, now=call.now)


def accounts_moved(call: Call, account_ids: Sequence[str]) -> None:
    """Let the policies of their new place hold for accounts."""
    policies.recompute_accounts(call.tx, account_ids, now=call.now)


def accounts_left(call: Call, organization_id: str, account_ids: Sequence[str]) -> None:
    """Let no policy of the organization hold for accounts that left it."""
    for account_id in account_ids:
        policies.node_removed(call.tx, organization_id, account_id, now=call.now)
    policies.recompute_accounts(call.tx, account_ids, now=call.now)


def handshake_accepted(call: Call, handshake: Handshake, before: Placement | None) -> None:
    """Let policies follow an account that accepted an invitation, from the organization where it stood before."""
    if handshake.action is not HandshakeAction.INVITE:
        return
    if before is not None:
        accounts_left(call, before.organization_id, [call.caller.account])
    accounts_joined(call, handshake.organization_id, [call.caller.account])


def access_role_made(call: Call, organization: Organization, account_id: str, name: str | None) -> None:
    """Make the role by which the management account administers an account that it created."""
    create_access_role(
        call.tx,
        account_id,
        organization.management_account,
        name or ACCESS_ROLE,
        partition=call.partition,
        now=call.now,
    )
