"""Policies on the `organizations` API: of every type, attached to nodes, switched on and off, and what they come to."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from holdfast.core.paging import page_of
from holdfast.database.values import stamp
from holdfast.organization.errors import AccountNotFoundError, TargetNotFoundError
from holdfast.organization.model.names import OrganizationArns
from holdfast.organization.model.tree import NodeKind, Organization, kind_of
from holdfast.organization.service import accounts, tree
from holdfast.organization.service.authority import Reach
from holdfast.organization.service.tags import tag, tags_on, untag
from holdfast.policy import service, store
from holdfast.policy.effective import accounts_with_invalid_policy, effective_policy
from holdfast.policy.errors import PolicyInputError, PolicyInputReason
from holdfast.policy.model.kind import KINDS, SERVICE_CONTROL
from holdfast.policy.model.validation import ValidationError
from holdfast.policy.service import ResourcePolicy
from holdfast.policy.store import Policy, Target
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import account_to_wire, arns_of, listed, organization_for, tags_from_wire

_PAGE: Final = 20


def create_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Store a policy; it does nothing until it is attached."""
    policy_type = shape["Type"]
    organization = organization_for(
        call, Reach.DELEGABLE, _named(call, lambda arns: [arns.policy(policy_type, "*")]), PolicyType=policy_type
    )
    tags = tags_from_wire(shape)
    policy = service.create_policy(
        call.tx,
        organization.id,
        policy_type,
        shape["Name"],
        shape["Description"],
        shape["Content"],
        regions=call.instance.settings.regions.keys(),
        now=call.now,
    )
    if tags:
        tag(call.tx, organization, policy.id, tags)
    return {"Policy": _policy_to_wire(arns_of(call, organization), policy)}


def update_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Change a policy's name, description or content, and with it the effective policies below it."""
    organization, _ = _organization_and_policy(call, shape, Reach.DELEGABLE)
    policy = service.update_policy(
        call.tx,
        organization.id,
        shape["PolicyId"],
        name=shape.get("Name"),
        description=shape.get("Description"),
        content=shape.get("Content"),
        regions=call.instance.settings.regions.keys(),
        now=call.now,
    )
    return {"Policy": _policy_to_wire(arns_of(call, organization), policy)}


def delete_policy(call: Call, shape: dict[str, Any]) -> None:
    """Delete a policy that is attached nowhere."""
    organization, policy = _organization_and_policy(call, shape, Reach.DELEGABLE)
    if not policy.aws_managed:
        untag(call.tx, organization, policy.id, list(tags_on(call.tx, organization, policy.id)))
    service.delete_policy(call.tx, organization.id, policy.id, now=call.now)


def describe_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a policy with its content."""
    organization, policy = _organization_and_policy(call, shape, Reach.READER)
    return {"Policy": _policy_to_wire(arns_of(call, organization), policy)}


def list_policies(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the policies of a type."""
    policy_type = shape["Filter"]
    organization = organization_for(call, Reach.READER, PolicyType=policy_type)
    arns = arns_of(call, organization)
    return listed(
        call,
        shape,
        "Policies",
        lambda after, limit: page_of(
            store.list_policies(call.tx, organization.id, policy_type, after=tuple(after or (-1, "")), limit=limit + 1),
            limit,
            lambda policy: [0 if policy.created_at is None else stamp(policy.created_at), policy.id],
        ),
        lambda policy: _summary_to_wire(arns, policy),
    )


def attach_policy(call: Call, shape: dict[str, Any]) -> None:
    """Attach a policy to the root, a unit or an account."""
    organization, policy = _organization_and_policy(call, shape, Reach.DELEGABLE, target=shape["TargetId"])
    service.attach_policy(call.tx, organization.id, policy.id, shape["TargetId"], now=call.now)


def detach_policy(call: Call, shape: dict[str, Any]) -> None:
    """End the attachment of a policy to a node."""
    organization, policy = _organization_and_policy(call, shape, Reach.DELEGABLE, target=shape["TargetId"])
    service.detach_policy(call.tx, organization.id, policy.id, shape["TargetId"], now=call.now)


def list_policies_for_target(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the policies of a type that are attached directly to a node."""
    policy_type, target_id = shape["Filter"], shape["TargetId"]
    organization = organization_for(
        call, Reach.READER, _named(call, lambda arns: [arns.node(target_id)]), PolicyType=policy_type
    )
    service.get_target(call.tx, organization.id, target_id)
    arns = arns_of(call, organization)
    return listed(
        call,
        shape,
        "Policies",
        lambda after, limit: page_of(
            store.policies_for_target(
                call.tx, organization.id, target_id, policy_type, after=tuple(after or (-1, "")), limit=limit + 1
            ),
            limit,
            lambda attached: [attached[0], attached[1].id],
        ),
        lambda attached: _summary_to_wire(arns, attached[1]),
    )


def list_targets_for_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the nodes that a policy is attached to."""
    organization, policy = _organization_and_policy(call, shape, Reach.READER)
    arns = arns_of(call, organization)
    return listed(
        call,
        shape,
        "Targets",
        lambda after, limit: page_of(
            store.targets_for_policy(call.tx, organization.id, policy.id, after=after or "", limit=limit + 1),
            limit,
            lambda target: target.id,
        ),
        lambda target: _target_to_wire(arns, target),
    )


def enable_policy_type(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Switch a type of policies on at the root."""
    organization = _organization_of_root(call, shape)
    service.enable_policy_type(call.tx, organization.id, shape["PolicyType"], now=call.now)
    return {"Root": _root_to_wire(call, organization)}


def disable_policy_type(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Switch a type of policies off; every attachment of it ends."""
    organization = _organization_of_root(call, shape)
    service.disable_policy_type(call.tx, organization.id, shape["PolicyType"], now=call.now)
    return {"Root": _root_to_wire(call, organization)}


def describe_effective_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give what the policies above an account make together; without a target, for the caller's account."""
    policy_type = _effective_type(shape, control_type_is_known=True)
    target_id = shape.get("TargetId", call.caller.account)
    if kind_of(target_id) is not NodeKind.ACCOUNT:
        raise _unsupported_target()
    reach = Reach.MEMBER if target_id == call.caller.account else Reach.READER
    organization = organization_for(
        call, reach, _named(call, lambda arns: [arns.account(target_id)]), PolicyType=policy_type
    )
    _require_account(call, organization, target_id, TargetNotFoundError())
    found = effective_policy(call.tx, target_id, policy_type, organization_id=organization.id, now=call.now)
    return {
        "EffectivePolicy": {
            "PolicyContent": found.content,
            "LastUpdatedTimestamp": found.updated_at,
            "TargetId": target_id,
            "PolicyType": policy_type,
        }
    }


def list_effective_policy_validation_errors(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List why the policies above an account do not make a valid document."""
    account_id = shape.get("AccountId", "")
    if kind_of(account_id) is not NodeKind.ACCOUNT:
        raise _unsupported_target()
    policy_type = _effective_type(shape)
    limit = _page_size(shape)
    organization = organization_for(
        call, Reach.READER, _named(call, lambda arns: [arns.account(account_id)]), PolicyType=policy_type
    )
    _require_account(call, organization, account_id, AccountNotFoundError())
    found = effective_policy(call.tx, account_id, policy_type, organization_id=organization.id, now=call.now)
    filters = {"AccountId": account_id, "PolicyType": policy_type}
    start = call.page_position(filters, shape.get("NextToken")) or 0
    answer = {
        **filters,
        "EffectivePolicyValidationErrors": [_error_to_wire(error) for error in found.errors[start : start + limit]],
        "NextToken": call.page_token(filters, start + limit if start + limit < len(found.errors) else None),
    }
    if found.errors:
        account = accounts.get_account(call.tx, organization, account_id)
        answer |= {"Path": account.path, "EvaluationTimestamp": found.updated_at}
    return answer


def list_accounts_with_invalid_effective_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the accounts whose policies do not make a valid document."""
    policy_type = _effective_type(shape)
    limit = _page_size(shape)
    organization = organization_for(call, Reach.READER, PolicyType=policy_type)
    filters = {"PolicyType": policy_type}
    after = call.page_position(filters, shape.get("NextToken"))
    page = accounts_with_invalid_policy(call.tx, organization.id, policy_type, after=after, limit=limit)
    arns = arns_of(call, organization)
    found = {account.id: account for account in accounts.accounts_by_id(call.tx, page.items)}
    return {
        **filters,
        "Accounts": [account_to_wire(arns, found[account_id]) for account_id in page.items if account_id in found],
        "NextToken": call.page_token(filters, page.position),
    }


def put_resource_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give the organization its resource policy, which lets member accounts manage policies."""
    organization = organization_for(call, Reach.MANAGEMENT)
    tags = tags_from_wire(shape)
    policy = service.put_resource_policy(call.tx, organization.id, shape["Content"], now=call.now)
    if tags:
        tag(call.tx, organization, policy.id, tags)
    return {"ResourcePolicy": _resource_policy_to_wire(arns_of(call, organization), policy)}


def describe_resource_policy(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Give the organization's resource policy."""
    organization = organization_for(call, Reach.READER)
    policy = service.get_resource_policy(call.tx, organization.id)
    return {"ResourcePolicy": _resource_policy_to_wire(arns_of(call, organization), policy)}


def delete_resource_policy(call: Call, _shape: dict[str, Any]) -> None:
    """Delete the organization's resource policy."""
    organization = organization_for(call, Reach.MANAGEMENT)
    policy = service.get_resource_policy(call.tx, organization.id)
    untag(call.tx, organization, policy.id, list(tags_on(call.tx, organization, policy.id)))
    service.delete_resource_policy(call.tx, organization.id)


def _organization_and_policy(
    call: Call, shape: Mapping[str, Any], reach: Reach, *, target: str | None = None
) -> tuple[Organization, Policy]:
    """Return the caller's organization and the policy that the request names, if the caller may do this to it."""
    member_of = organization_for(call, Reach.MEMBER)
    known = store.find_policy(call.tx, member_of.id, shape["PolicyId"])
    policy_type = None if known is None else known.type

    def resources(arns: OrganizationArns) -> list[str]:
        named = [arns.policy(policy_type or "*", shape["PolicyId"])]
        return named if target is None else [*named, arns.node(target)]

    organization = organization_for(call, reach, _named(call, resources), PolicyType=policy_type)
    return organization, service.get_policy(call.tx, organization.id, shape["PolicyId"])


def _organization_of_root(call: Call, shape: Mapping[str, Any]) -> Organization:
    policy_type, root_id = shape["PolicyType"], shape["RootId"]
    organization = organization_for(
        call, Reach.DELEGABLE, _named(call, lambda arns: [arns.root(root_id)]), PolicyType=policy_type
    )
    tree.get_root(call.tx, organization, root_id)
    return organization


def _require_account(call: Call, organization: Organization, account_id: str, absent: Exception) -> None:
    target = store.find_target(call.tx, organization.id, account_id)
    if target is None:
        raise absent


def _effective_type(shape: Mapping[str, Any], *, control_type_is_known: bool = False) -> str:
    """Return the type of an effective policy that the request names."""
    policy_type = shape.get("PolicyType")
    if not policy_type:
        raise PolicyInputError(PolicyInputReason.INPUT_REQUIRED, "You must provide a value for the parameter.")
    if policy_type in KINDS and KINDS[policy_type].inherits:
        return str(policy_type)
    if control_type_is_known and policy_type != SERVICE_CONTROL:
        raise PolicyInputError(PolicyInputReason.INVALID_ENUM, "You specified an invalid value.")
    raise PolicyInputError(PolicyInputReason.INVALID_POLICY_TYPE, "You specified an invalid policy type.")


def _page_size(shape: Mapping[str, Any]) -> int:
    size = int(shape.get("MaxResults", _PAGE))
    if size < 1:
        raise PolicyInputError(
            PolicyInputReason.TOO_FEW_RESULTS, "You provided a value that is below the minimum allowed."
        )
    if size > _PAGE:
        raise PolicyInputError(
            PolicyInputReason.TOO_MANY_RESULTS, "You provided a value that exceeds the maximum allowed."
        )
    return size


def _unsupported_target() -> PolicyInputError:
    return PolicyInputError(
        PolicyInputReason.TARGET_NOT_SUPPORTED, "You specified a target that is not currently supported."
    )


def _named(call: Call, name: Callable[[OrganizationArns], list[str]]) -> Callable[[Organization], list[str]]:
    """Return what names the things that a call is about, once its organization is known."""
    return lambda organization: name(arns_of(call, organization))


def _summary_to_wire(arns: OrganizationArns, policy: Policy) -> dict[str, Any]:
    arn = arns.policy(policy.type, policy.id)
    if policy.aws_managed:
        arn = f"arn:{arns.partition}:organizations::aws:policy/{policy.type.lower()}/{policy.id}"
    return {
        "Id": policy.id,
        "Arn": arn,
        "Name": policy.name,
        "Description": policy.description,
        "Type": policy.type,
        "AwsManaged": policy.aws_managed,
    }


def _policy_to_wire(arns: OrganizationArns, policy: Policy) -> dict[str, Any]:
    return {"PolicySummary": _summary_to_wire(arns, policy), "Content": policy.content}


def _target_to_wire(arns: OrganizationArns, target: Target) -> dict[str, Any]:
    return {"TargetId": target.id, "Arn": arns.node(target.id), "Name": target.name, "Type": target.kind}


def _root_to_wire(call: Call, organization: Organization) -> dict[str, Any]:
    root = tree.get_root(call.tx, organization)
    return {
        "Id": root.id,
        "Arn": arns_of(call, organization).root(root.id),
        "Name": root.name,
        "PolicyTypes": [
            {"Type": policy_type, "Status": status} for policy_type, status in tree.policy_types(call.tx, organization)
        ],
    }


def _resource_policy_to_wire(arns: OrganizationArns, policy: ResourcePolicy) -> dict[str, Any]:
    return {
        "ResourcePolicySummary": {"Id": policy.id, "Arn": arns.resource_policy(policy.id)},
        "Content": policy.content,
    }


def _error_to_wire(error: ValidationError) -> dict[str, Any]:
    return {
        "ErrorCode": error.code,
        "ErrorMessage": error.message,
        "PathToError": error.path,
        "ContributingPolicies": list(error.contributing_policies),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "AttachPolicy": attach_policy,
    "CreatePolicy": create_policy,
    "DeletePolicy": delete_policy,
    "DeleteResourcePolicy": delete_resource_policy,
    "DescribeEffectivePolicy": describe_effective_policy,
    "DescribePolicy": describe_policy,
    "DescribeResourcePolicy": describe_resource_policy,
    "DetachPolicy": detach_policy,
    "DisablePolicyType": disable_policy_type,
    "EnablePolicyType": enable_policy_type,
    "ListAccountsWithInvalidEffectivePolicy": list_accounts_with_invalid_effective_policy,
    "ListEffectivePolicyValidationErrors": list_effective_policy_validation_errors,
    "ListPolicies": list_policies,
    "ListPoliciesForTarget": list_policies_for_target,
    "ListTargetsForPolicy": list_targets_for_policy,
    "PutResourcePolicy": put_resource_policy,
    "UpdatePolicy": update_policy,
}
