"""What the extension adds to organizations: accounts with given ids and other names, and the tree in one answer."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from holdfast.core.errors import ConflictError, InvalidInputError
from holdfast.core.paging import Page
from holdfast.organization.model.names import OrganizationArns
from holdfast.organization.model.tags import tags_of
from holdfast.organization.model.tree import Account, Organization
from holdfast.organization.service import accounts, tags, whole_tree
from holdfast.organization.service.authority import Reach
from holdfast.organization.service.whole_tree import Branch
from holdfast.policy.attached import Attached, attached_to
from holdfast.wire import organizations_effects as effects
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import arns_of, listed, organization_for

_BRANCH: Final = 100
_VERSION_LENGTH: Final = 16


def import_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Take an account with a given id into the organization; one that it has already stays as it is."""
    organization = organization_for(call, Reach.MANAGEMENT)
    account, new = accounts.import_account(
        call.tx,
        organization,
        shape["AccountId"],
        shape["Name"],
        shape["Email"],
        parent_id=shape.get("ParentId"),
        alias=shape.get("Alias"),
        external_id=shape.get("ExternalId"),
        tags=tags_of(shape.get("Tags", {}).items()),
        now=call.now,
    )
    if new:
        effects.accounts_joined(call, organization.id, [account.id])
        effects.access_role_made(call, organization, account.id, shape.get("RoleName"))
    return {"Account": _described(call, organization, account)}


def update_account_names(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give an account these other names instead of those it had."""
    organization = organization_for(call, Reach.MANAGEMENT)
    present = accounts.get_account(call.tx, organization, shape["AccountId"])
    expected = shape.get("ExpectedVersion")
    if expected is not None and expected != _version(present):
        raise ConflictError(
            f"The names of account {present.id} are at version {_version(present)}, not {expected}. Read them again."
        )
    named = accounts.name_account(
        call.tx, organization, present.id, alias=shape.get("Alias"), external_id=shape.get("ExternalId")
    )
    return {"Account": _described(call, organization, named)}


def describe_account(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Describe an account with its other names."""
    organization = organization_for(call, Reach.READER)
    account = accounts.get_account(call.tx, organization, shape["AccountId"])
    return {"Account": _described(call, organization, account)}


def list_accounts(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the accounts of the organization with their other names, or find the one that has a name."""
    organization = organization_for(call, Reach.READER)
    arns = arns_of(call, organization)
    alias, external_id = shape.get("Alias"), shape.get("ExternalId")
    if alias is not None and external_id is not None:
        raise InvalidInputError("Give Alias or ExternalId, not both: each of them names one account.")

    def fetch(after: Any, limit: int) -> Page[Account]:
        if alias is None and external_id is None:
            return accounts.list_accounts(call.tx, organization, after=after, limit=limit)
        found = accounts.find_account_by_name(call.tx, organization, alias=alias, external_id=external_id)
        return Page((found,))

    return listed(call, shape, "Accounts", fetch, lambda account: _account_to_wire(arns, account), page=_BRANCH)


def get_organization_tree(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give units, accounts and attachments in one answer, paged inside each unit."""
    organization = organization_for(call, Reach.READER)
    parent, at, token = shape.get("ParentId"), shape.get("At"), shape.get("NextToken")
    limit = shape.get("MaxResults", _BRANCH)
    if token is None:
        branches = whole_tree.get_tree(call.tx, organization, parent, at=at, limit=limit)
    elif parent is None:
        raise InvalidInputError(
            "A page token goes on inside one node. Give the ParentId of the node that it came with."
        )
    else:
        after = call.page_position(_branch_filters(parent, shape), token)
        branches = [whole_tree.get_branch(call.tx, organization, parent, at=at, after=after, limit=limit)]
    nodes = [branch.unit.id for branch in branches]
    nodes += [account.id for branch in branches for account in branch.accounts.items]
    attached = attached_to(call.tx, organization.id, nodes, at)
    return {
        "OrganizationId": organization.id,
        "ManagementAccountId": organization.management_account,
        "FeatureSet": organization.feature_set.value,
        "Nodes": [_branch_to_wire(call, shape, branch, attached) for branch in branches],
    }


def _branch_filters(parent: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    return {"ParentId": parent, "At": shape.get("At")}


def _branch_to_wire(
    call: Call, shape: Mapping[str, Any], branch: Branch, attached: Mapping[str, list[Attached]]
) -> dict[str, Any]:
    unit = branch.unit
    return {
        "Id": unit.id,
        "ParentId": unit.parent_id,
        "Name": unit.name,
        "Type": unit.kind.value,
        "Path": unit.path,
        "AccountCount": branch.account_count,
        "Accounts": [
            {
                "AccountId": account.id,
                "Name": account.name,
                "Email": account.email,
                "Status": account.status.value,
                "Alias": account.alias,
                "ExternalId": account.external_id,
                "Attachments": _attachments_to_wire(attached.get(account.id, ())),
            }
            for account in branch.accounts.items
        ],
        "Attachments": _attachments_to_wire(attached.get(unit.id, ())),
        "NextToken": call.page_token(_branch_filters(unit.id, shape), branch.accounts.position),
    }


def _attachments_to_wire(attached: Iterable[Attached]) -> list[dict[str, Any]]:
    return [{"PolicyId": one.policy_id, "PolicyType": one.type, "AttachedAt": one.attached_at} for one in attached]


def _described(call: Call, organization: Organization, account: Account) -> dict[str, Any]:
    shape = _account_to_wire(arns_of(call, organization), account)
    return {**shape, "Tags": tags.tags_on(call.tx, organization, account.id)}


def _account_to_wire(arns: OrganizationArns, account: Account) -> dict[str, Any]:
    return {
        "AccountId": account.id,
        "Arn": arns.account(account.id),
        "Name": account.name,
        "Email": account.email,
        "Status": account.status.value,
        "Alias": account.alias,
        "ExternalId": account.external_id,
        "ParentId": account.unit_id,
        "Path": account.path,
        "JoinedAt": account.joined_at,
        "Version": _version(account),
    }


def _version(account: Account) -> str:
    names = f"{account.alias or ''}\n{account.external_id or ''}"
    return hashlib.sha256(names.encode()).hexdigest()[:_VERSION_LENGTH]


OPERATIONS: Final[Mapping[str, Handler]] = {
    "ImportAccount": import_account,
    "UpdateAccountNames": update_account_names,
    "DescribeAccount": describe_account,
    "ListAccounts": list_accounts,
    "GetOrganizationTree": get_organization_tree,
}
