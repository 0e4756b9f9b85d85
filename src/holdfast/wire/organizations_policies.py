"""Policies, their attachments and what comes of them, on the `organizations` API."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

from holdfast.access.tag import put_tags
from holdfast.database.values import stamp
from holdfast.organization.model.tree import Organization
from holdfast.organization.service.authority import Reach
from holdfast.organization.service.membership import membership_of
from holdfast.organization.service.tree import placement_of
from holdfast.policy import effective, service, store
from holdfast.policy.errors import PolicyInputError, PolicyInputReason
from holdfast.policy.model.kind import KINDS
from holdfast.policy.store import Policy, Target
from holdfast.wire.call import Call, Handler
from holdfast.wire.organizations_shapes import arns_of, organization_for, tags_from_wire

_PAGE: Final = 20
_Item = TypeVar("_Item")


def _managed_by(call: Call, policy_type: str | None = None) -> Organization:
    return organization_for(call, Reach.DELEGABLE, PolicyType=policy_type)


def _policy_of(call: Call, policy_id: str) -> tuple[Organization, Policy]:
    organization = organization_for(call, Reach.DELEGABLE)
    return organization, service.get_policy(call.tx, organization.id, policy_id)


def create_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Store a policy."""
    organization = _managed_by(call, shape["Type"])
    policy = service.create_policy(
        call.tx,
        organization.id,
        shape["Type"],
        shape["Name"],
        shape["Description"],
        shape["Content"],
        regions=call.instance.settings.regions,
        now=call.now,
    )
    tags = tags_from_wire(shape)
    if tags:
        put_tags(call.tx, organization.management_account, "", policy_arn(call, organization, policy), tags)
    return {"Policy": _policy_to_wire(call, organization, policy)}


def update_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Change a policy; what follows from it holds at once."""
    organization, _ = _policy_of(call, shape["PolicyId"])
    policy = service.update_policy(
        call.tx,
        organization.id,
        shape["PolicyId"],
        name=shape.get("Name"),
        description=shape.get("Description"),
        content=shape.get("Content"),
        regions=call.instance.settings.regions,
        now=call.now,
    )
    return {"Policy": _policy_to_wire(call, organization, policy)}


def describe_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a policy with its document."""
    organization, policy = _policy_of(call, shape["PolicyId"])
    return {"Policy": _policy_to_wire(call, organization, policy)}


def delete_policy(call: Call, shape: dict[str, Any]) -> None:
    """Delete a policy that is attached nowhere."""
    organization, _ = _policy_of(call, shape["PolicyId"])
    service.delete_policy(call.tx, organization.id, shape["PolicyId"], now=call.now)


def list_policies(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the policies of a type, oldest first."""
    organization = _managed_by(call, shape["Filter"])
    after, limit = _page(call, shape, (0, ""))
    found = store.list_policies(call.tx, organization.id, shape["Filter"], after=tuple(after), limit=limit + 1)
    following = [[0 if policy.created_at is None else stamp(policy.created_at), policy.id] for policy in found]
    summaries = [_summary(call, organization, policy) for policy in found]
    return _paged(call, shape, "Policies", summaries, following, limit)


def attach_policy(call: Call, shape: dict[str, Any]) -> None:
    """Attach a policy to the root, a unit or an account; what follows from it holds at once."""
    organization, _ = _policy_of(call, shape["PolicyId"])
    service.attach_policy(call.tx, organization.id, shape["PolicyId"], shape["TargetId"], now=call.now)


def detach_policy(call: Call, shape: dict[str, Any]) -> None:
    """Detach a policy."""
    organization, _ = _policy_of(call, shape["PolicyId"])
    service.detach_policy(call.tx, organization.id, shape["PolicyId"], shape["TargetId"], now=call.now)


def list_policies_for_target(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the policies of a type that are attached directly to a node, in the order of attachment."""
    organization = _managed_by(call, shape["Filter"])
    target = service.get_target(call.tx, organization.id, shape["TargetId"])
    after, limit = _page(call, shape, (-1, ""))
    found = store.policies_for_target(
        call.tx, organization.id, target.id, shape["Filter"], after=tuple(after), limit=limit + 1
    )
    summaries = [_summary(call, organization, policy) for _, policy in found]
    return _paged(call, shape, "Policies", summaries, [[sequence, policy.id] for sequence, policy in found], limit)


def list_targets_for_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the nodes that a policy is attached to."""
    organization, policy = _policy_of(call, shape["PolicyId"])
    after, limit = _page(call, shape, "")
    found = store.targets_for_policy(call.tx, organization.id, policy.id, after=after, limit=limit + 1)
    targets = [_target_to_wire(call, organization, target) for target in found]
    return _paged(call, shape, "Targets", targets, [target.id for target in found], limit)


def enable_policy_type(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Switch a policy type on."""
    organization = _managed_by(call, shape["PolicyType"])
    service.get_target(call.tx, organization.id, shape["RootId"])
    service.enable_policy_type(call.tx, organization.id, shape["PolicyType"], now=call.now)
    return {"Root": _root_to_wire(call, organization)}


def disable_policy_type(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Switch a policy type off; its attachments are dropped, its policies stay."""
    organization = _managed_by(call, shape["PolicyType"])
    service.get_target(call.tx, organization.id, shape["RootId"])
    service.disable_policy_type(call.tx, organization.id, shape["PolicyType"], now=call.now)
    return {"Root": _root_to_wire(call, organization)}


def describe_effective_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give the merged document that holds for an account; a member may ask for its own."""
    account = shape.get("TargetId", call.caller.account)
    organization = readable_account(call, account)
    kind = KINDS.get(shape["PolicyType"])
    if kind is None or not kind.inherits:
        raise PolicyInputError(PolicyInputReason.INVALID_POLICY_TYPE, "You specified an invalid policy type.")
    held = effective.effective_policy(
        call.tx, account, shape["PolicyType"], organization_id=organization.id, now=call.now
    )
    return {
        "EffectivePolicy": {
            "PolicyContent": held.content,
            "LastUpdatedTimestamp": held.updated_at,
            "TargetId": account,
            "PolicyType": shape["PolicyType"],
        }
    }


def list_effective_policy_validation_errors(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List why the policies of an account do not make a valid document."""
    organization = organization_for(call, Reach.READER)
    account = shape["AccountId"]
    _require_account(call, organization, account)
    held = effective.effective_policy(
        call.tx, account, shape["PolicyType"], organization_id=organization.id, now=call.now
    )
    answer: dict[str, Any] = {
        "AccountId": account,
        "PolicyType": shape["PolicyType"],
        "EffectivePolicyValidationErrors": [],
    }
    if not held.errors:
        return answer
    placement = placement_of(call.tx, account)
    after, limit = _page(call, shape, 0)
    errors = [
        {
            "ErrorCode": error.code,
            "ErrorMessage": error.message,
            "PathToError": error.path,
            "ContributingPolicies": list(error.contributing_policies),
        }
        for error in held.errors[after : after + limit + 1]
    ]
    return {
        **answer,
        "Path": f"{'' if placement is None else placement.path}{account}/",
        "EvaluationTimestamp": held.updated_at,
        **_paged(
            call,
            shape,
            "EffectivePolicyValidationErrors",
            errors,
            [after + number + 1 for number in range(len(errors))],
            limit,
        ),
    }


def list_accounts_with_invalid_effective_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the accounts whose policies do not make a valid document."""
    organization = organization_for(call, Reach.READER)
    filters = {"PolicyType": shape["PolicyType"]}
    page = effective.accounts_with_invalid_policy(
        call.tx,
        organization.id,
        shape["PolicyType"],
        after=call.page_position(filters, shape.get("NextToken")),
        limit=shape.get("MaxResults", _PAGE),
    )
    arns = arns_of(call, organization)
    return {
        "Accounts": [{"Id": account, "Arn": arns.account(account)} for account in page.items],
        "PolicyType": shape["PolicyType"],
        "NextToken": call.page_token(filters, page.position),
    }


def put_resource_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Set the policy by which member accounts may manage the organization's policies."""
    organization = organization_for(call, Reach.MANAGEMENT)
    policy = service.put_resource_policy(call.tx, organization.id, shape["Content"], now=call.now)
    return {"ResourcePolicy": _resource_policy_to_wire(call, organization, policy)}


def describe_resource_policy(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Give the organization's resource policy."""
    organization = organization_for(call, Reach.DELEGABLE)
    policy = service.get_resource_policy(call.tx, organization.id)
    return {"ResourcePolicy": _resource_policy_to_wire(call, organization, policy)}


def delete_resource_policy(call: Call, _shape: dict[str, Any]) -> None:
    """Remove the organization's resource policy."""
    organization = organization_for(call, Reach.MANAGEMENT)
    service.delete_resource_policy(call.tx, organization.id)


def readable_account(call: Call, account: str) -> Organization:
    """Return the organization of the caller, if the caller may read what holds for `account`.

    Raises:
        PolicyInputError: a root or unit was named instead of an account.
        OrganizationAccessDeniedError: a member asks for another account.
    """
    if account == call.caller.account:
        return membership_of(call.tx, account).organization
    organization = organization_for(call, Reach.READER)
    _require_account(call, organization, account)
    return organization


def _require_account(call: Call, organization: Organization, target: str) -> None:
    found = service.get_target(call.tx, organization.id, target)
    if found.kind != "ACCOUNT":
        raise PolicyInputError(
            PolicyInputReason.TARGET_NOT_SUPPORTED, "You specified a target that is not currently supported."
        )


def policy_arn(call: Call, organization: Organization, policy: Policy) -> str:
    """Return a policy's ARN; those of AWS's own belong to no organization."""
    kind = policy.type.lower()
    if policy.aws_managed:
        return f"arn:{call.partition}:organizations::aws:policy/{kind}/{policy.id}"
    owner = f"arn:{call.partition}:organizations::{organization.management_account}"
    return f"{owner}:policy/{organization.id}/{kind}/{policy.id}"


def _summary(call: Call, organization: Organization, policy: Policy) -> dict[str, Any]:
    return {
        "Id": policy.id,
        "Arn": policy_arn(call, organization, policy),
        "Name": policy.name,
        "Description": policy.description,
        "Type": policy.type,
        "AwsManaged": policy.aws_managed,
    }


def _policy_to_wire(call: Call, organization: Organization, policy: Policy) -> dict[str, Any]:
    return {"PolicySummary": _summary(call, organization, policy), "Content": policy.content}


def _target_to_wire(call: Call, organization: Organization, target: Target) -> dict[str, Any]:
    arns = arns_of(call, organization)
    arn = {"ROOT": arns.root, "ORGANIZATIONAL_UNIT": arns.unit, "ACCOUNT": arns.account}[target.kind]
    return {"TargetId": target.id, "Arn": arn(target.id), "Name": target.name, "Type": target.kind}


def _root_to_wire(call: Call, organization: Organization) -> dict[str, Any]:
    types = store.enabled_types(call.tx, organization.id)
    return {
        "Id": organization.root_id,
        "Arn": arns_of(call, organization).root(organization.root_id),
        "Name": "Root",
        "PolicyTypes": [{"Type": kind, "Status": "ENABLED"} for kind in types],
    }


def _resource_policy_to_wire(call: Call, organization: Organization, policy: service.ResourcePolicy) -> dict[str, Any]:
    owner = f"arn:{call.partition}:organizations::{organization.management_account}"
    arn = f"{owner}:resourcepolicy/{organization.id}/{policy.id}"
    return {"ResourcePolicySummary": {"Id": policy.id, "Arn": arn}, "Content": policy.content}


def _filters(shape: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in shape.items() if name not in {"NextToken", "MaxResults"}}


def _page(call: Call, shape: Mapping[str, Any], start: Any) -> tuple[Any, int]:
    position = call.page_position(_filters(shape), shape.get("NextToken"))
    return (start if position is None else position), shape.get("MaxResults", _PAGE)


def _paged(
    call: Call, shape: Mapping[str, Any], name: str, items: Sequence[_Item], positions: Sequence[Any], limit: int
) -> dict[str, Any]:
    more = len(items) > limit
    return {
        name: list(items[:limit]),
        "NextToken": call.page_token(_filters(shape), positions[limit - 1] if more else None),
    }


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CreatePolicy": create_policy,
    "UpdatePolicy": update_policy,
    "DescribePolicy": describe_policy,
    "DeletePolicy": delete_policy,
    "ListPolicies": list_policies,
    "AttachPolicy": attach_policy,
    "DetachPolicy": detach_policy,
    "ListPoliciesForTarget": list_policies_for_target,
    "ListTargetsForPolicy": list_targets_for_policy,
    "EnablePolicyType": enable_policy_type,
    "DisablePolicyType": disable_policy_type,
    "DescribeEffectivePolicy": describe_effective_policy,
    "ListEffectivePolicyValidationErrors": list_effective_policy_validation_errors,
    "ListAccountsWithInvalidEffectivePolicy": list_accounts_with_invalid_effective_policy,
    "PutResourcePolicy": put_resource_policy,
    "DescribeResourcePolicy": describe_resource_policy,
    "DeleteResourcePolicy": delete_resource_policy,
}
