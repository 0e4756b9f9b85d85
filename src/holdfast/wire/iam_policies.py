"""Policies of identities on the `iam` API: inline, managed and attached ones."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from holdfast.access import policy_service, store
from holdfast.access.model.identity import Kind, ManagedPolicy, PolicyVersion
from holdfast.access.policy_service import AttachedPolicy
from holdfast.access.tag import check_tags, put_tags, remove_tags, tags_of
from holdfast.wire.call import Call, Handler
from holdfast.wire.iam_page import page_of

_MEMBER: Final = {Kind.USER: "UserName", Kind.GROUP: "GroupName", Kind.ROLE: "RoleName"}


def _put(kind: Kind) -> Handler:
    def put_inline_policy(call: Call, shape: dict[str, Any]) -> None:
        name = shape[_MEMBER[kind]]
        policy_service.put_inline(
            call.tx, kind, call.caller.account, name, shape["PolicyName"], shape["PolicyDocument"]
        )

    return put_inline_policy


def _get(kind: Kind) -> Handler:
    def get_inline_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
        name = shape[_MEMBER[kind]]
        document = policy_service.get_inline(call.tx, kind, call.caller.account, name, shape["PolicyName"])
        return {
            _MEMBER[kind]: name,
            "PolicyName": shape["PolicyName"],
            "PolicyDocument": quote(document, safe=""),
        }

    return get_inline_policy


def _list(kind: Kind) -> Handler:
    def list_inline_policies(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
        name = shape[_MEMBER[kind]]
        page = page_of(call, shape, {"name": name})
        names = policy_service.list_inline(call.tx, kind, call.caller.account, name)
        return page.answer("PolicyNames", page.cut(names, str), str, str)

    return list_inline_policies


def _delete(kind: Kind) -> Handler:
    def delete_inline_policy(call: Call, shape: dict[str, Any]) -> None:
        policy_service.delete_inline(call.tx, kind, call.caller.account, shape[_MEMBER[kind]], shape["PolicyName"])

    return delete_inline_policy


def _attach(kind: Kind) -> Handler:
    def attach_policy(call: Call, shape: dict[str, Any]) -> None:
        policy_service.attach(call.tx, kind, call.caller.account, shape[_MEMBER[kind]], shape["PolicyArn"])

    return attach_policy


def _detach(kind: Kind) -> Handler:
    def detach_policy(call: Call, shape: dict[str, Any]) -> None:
        policy_service.detach(call.tx, kind, call.caller.account, shape[_MEMBER[kind]], shape["PolicyArn"])

    return detach_policy


def _attached_to_wire(policy: AttachedPolicy) -> dict[str, str]:
    return {"PolicyName": policy.name, "PolicyArn": policy.arn}


def _attached(kind: Kind) -> Handler:
    def list_attached_policies(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
        name, path = shape[_MEMBER[kind]], shape.get("PathPrefix", "/")
        page = page_of(call, shape, {"name": name, "path": path})
        found = policy_service.attached(call.tx, kind, call.caller.account, name)
        below = sorted((each for each in found if each.path.startswith(path)), key=lambda each: each.arn)
        return page.answer(
            "AttachedPolicies", page.cut(below, lambda each: each.arn), lambda each: each.arn, _attached_to_wire
        )

    return list_attached_policies


def policy_to_wire(policy: ManagedPolicy, attachments: int) -> dict[str, Any]:
    """Return a managed policy, without its documents."""
    return {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": policy.arn,
        "Path": policy.path,
        "DefaultVersionId": policy.default_version,
        "AttachmentCount": attachments,
        "PermissionsBoundaryUsageCount": 0,
        "IsAttachable": not policy.path.startswith("/aws-service-role/"),
        "Description": policy.description or None,
        "CreateDate": policy.created_at,
        "UpdateDate": policy.updated_at,
    }


def create_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a managed policy."""
    policy = policy_service.create_policy(
        call.tx,
        call.caller.account,
        shape["PolicyName"],
        shape["PolicyDocument"],
        path=shape.get("Path", "/"),
        description=shape.get("Description", ""),
        tags=[(tag["Key"], tag["Value"]) for tag in shape.get("Tags") or ()],
        partition=call.partition,
        now=call.now.replace(microsecond=0),
    )
    return {"Policy": {**policy_to_wire(policy, 0), "Tags": shape.get("Tags") or None}}


def get_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a managed policy, without its document."""
    arn = shape["PolicyArn"]
    policy = policy_service.get_policy(call.tx, call.caller.account, arn)
    attachments = len(store.attached_to(call.tx, call.caller.account, arn))
    bounded = len(store.bounded_by(call.tx, call.caller.account, arn))
    shown = policy_to_wire(policy, attachments)
    return {"Policy": {**shown, "PermissionsBoundaryUsageCount": bounded, "Tags": _tags(call, arn)}}


def list_policies(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List managed policies."""
    scope, path = shape.get("Scope", "All"), shape.get("PathPrefix", "/")
    only_attached = shape.get("OnlyAttached", False)
    usage = shape.get("PolicyUsageFilter")
    page = page_of(call, shape, {"scope": scope, "path": path, "attached": only_attached, "usage": usage})
    counts = store.attachment_counts(call.tx, call.caller.account)
    found = policy_service.list_policies(call.tx, call.caller.account, scope=scope, path=path)
    if only_attached or usage == "PermissionsPolicy":
        found = [policy for policy in found if counts.get(policy.arn)]
    elif usage == "PermissionsBoundary":
        found = [policy for policy in found if store.bounded_by(call.tx, call.caller.account, policy.arn)]
    by_arn = sorted(found, key=lambda policy: policy.arn)
    return page.answer(
        "Policies",
        page.cut(by_arn, lambda policy: policy.arn),
        lambda policy: policy.arn,
        lambda policy: policy_to_wire(policy, counts.get(policy.arn, 0)),
    )


def delete_policy(call: Call, shape: dict[str, Any]) -> None:
    """Delete a managed policy."""
    policy_service.delete_policy(call.tx, call.caller.account, shape["PolicyArn"])


def _version_to_wire(version: PolicyVersion, default: str, *, with_document: bool) -> dict[str, Any]:
    return {
        "Document": quote(version.document, safe="") if with_document else None,
        "VersionId": version.version,
        "IsDefaultVersion": version.version == default,
        "CreateDate": version.created_at,
    }


def create_policy_version(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Add a version to a managed policy."""
    set_default = bool(shape.get("SetAsDefault", False))
    made = policy_service.create_version(
        call.tx,
        call.caller.account,
        shape["PolicyArn"],
        shape["PolicyDocument"],
        set_default=set_default,
        now=call.now.replace(microsecond=0),
    )
    default = made.version if set_default else ""
    return {"PolicyVersion": _version_to_wire(made, default, with_document=False)}


def get_policy_version(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give one version of a managed policy with its document."""
    account, arn = call.caller.account, shape["PolicyArn"]
    version = policy_service.get_version(call.tx, account, arn, shape["VersionId"])
    default = policy_service.get_policy(call.tx, account, arn).default_version
    return {"PolicyVersion": _version_to_wire(version, default, with_document=True)}


def list_policy_versions(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the versions of a managed policy."""
    account, arn = call.caller.account, shape["PolicyArn"]
    default = policy_service.get_policy(call.tx, account, arn).default_version
    found = policy_service.versions_of(call.tx, account, arn)
    return {
        "Versions": [_version_to_wire(each, default, with_document=False) for each in found],
        "IsTruncated": False,
    }


def set_default_policy_version(call: Call, shape: dict[str, Any]) -> None:
    """Let another version of a managed policy be the one in force."""
    policy_service.set_default_version(
        call.tx, call.caller.account, shape["PolicyArn"], shape["VersionId"], now=call.now
    )


def delete_policy_version(call: Call, shape: dict[str, Any]) -> None:
    """Delete a version of a managed policy that is not in force."""
    policy_service.delete_version(call.tx, call.caller.account, shape["PolicyArn"], shape["VersionId"])


def list_entities_for_policy(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List whom a managed policy is attached to, or bounds."""
    account, arn = call.caller.account, shape["PolicyArn"]
    policy_service.get_policy(call.tx, account, arn)
    usage, wanted = shape.get("PolicyUsageFilter"), shape.get("EntityFilter")
    found = [] if usage == "PermissionsBoundary" else store.attached_to(call.tx, account, arn)
    if usage != "PermissionsPolicy":
        found += store.bounded_by(call.tx, account, arn)
    answer: dict[str, Any] = {"PolicyGroups": [], "PolicyUsers": [], "PolicyRoles": [], "IsTruncated": False}
    for kind, name in sorted(set(found)):
        noun = kind.value.capitalize()
        if wanted not in {None, noun} or (wanted == "LocalManagedPolicy"):
            continue
        finder = {Kind.USER: store.find_user, Kind.GROUP: store.find_group, Kind.ROLE: store.find_role}[kind]
        identity = finder(call.tx, account, name)
        unique = "" if identity is None else identity.id
        answer[f"Policy{noun}s"].append({f"{noun}Name": name, f"{noun}Id": unique})
    return answer


def _tags(call: Call, arn: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(call.tx, call.caller.account, "", arn).items()]


def tag_policy(call: Call, shape: dict[str, Any]) -> None:
    """Tag a managed policy."""
    arn = policy_service.get_policy(call.tx, call.caller.account, shape["PolicyArn"]).arn
    put_tags(call.tx, call.caller.account, "", arn, check_tags((tag["Key"], tag["Value"]) for tag in shape["Tags"]))


def untag_policy(call: Call, shape: dict[str, Any]) -> None:
    """Take tags off a managed policy."""
    arn = policy_service.get_policy(call.tx, call.caller.account, shape["PolicyArn"]).arn
    remove_tags(call.tx, call.caller.account, "", arn, shape["TagKeys"])


def list_policy_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a managed policy."""
    arn = policy_service.get_policy(call.tx, call.caller.account, shape["PolicyArn"]).arn
    return {"Tags": _tags(call, arn), "IsTruncated": False}


def _per_kind() -> dict[str, Handler]:
    handlers: dict[str, Handler] = {}
    for kind in Kind:
        noun = kind.value.capitalize()
        handlers[f"Put{noun}Policy"] = _put(kind)
        handlers[f"Get{noun}Policy"] = _get(kind)
        handlers[f"Delete{noun}Policy"] = _delete(kind)
        handlers[f"List{noun}Policies"] = _list(kind)
        handlers[f"Attach{noun}Policy"] = _attach(kind)
        handlers[f"Detach{noun}Policy"] = _detach(kind)
        handlers[f"ListAttached{noun}Policies"] = _attached(kind)
    return handlers


OPERATIONS: Final[Mapping[str, Handler]] = {
    **_per_kind(),
    "CreatePolicy": create_policy,
    "CreatePolicyVersion": create_policy_version,
    "DeletePolicy": delete_policy,
    "DeletePolicyVersion": delete_policy_version,
    "GetPolicy": get_policy,
    "GetPolicyVersion": get_policy_version,
    "ListEntitiesForPolicy": list_entities_for_policy,
    "ListPolicies": list_policies,
    "ListPolicyTags": list_policy_tags,
    "ListPolicyVersions": list_policy_versions,
    "SetDefaultPolicyVersion": set_default_policy_version,
    "TagPolicy": tag_policy,
    "UntagPolicy": untag_policy,
}
