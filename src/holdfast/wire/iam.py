"""Identities on the `iam` API: users, groups and roles. Policies are in `iam_policies.py`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from holdfast.access import credential_store, credentials, service, store
from holdfast.access.model.identity import AccessKey, Group, Kind, Role, User
from holdfast.access.tag import check_tags, put_tags, remove_tags, tags_of
from holdfast.wire import iam_account, iam_oidc, iam_policies, iam_sign_in
from holdfast.wire.call import Call, Handler
from holdfast.wire.iam_page import Page, page_of
from holdfast.wire.iam_sign_in import user_name

_PAGE: Final = 100


def _now(call: Call) -> datetime:
    return call.now.replace(microsecond=0)


def _pairs(shape: dict[str, Any]) -> list[tuple[str, str]]:
    return [(tag["Key"], tag["Value"]) for tag in shape.get("Tags") or ()]


def _tags(call: Call, arn: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(call.tx, call.caller.account, "", arn).items()]


def _boundary(arn: str | None) -> dict[str, str] | None:
    return None if arn is None else {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}


def user_to_wire(call: Call, user: User, *, whole: bool = True) -> dict[str, Any]:
    """Return a user; in lists without tags and boundary."""
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": user.arn,
        "CreateDate": user.created_at,
        "PermissionsBoundary": _boundary(user.boundary) if whole else None,
        "Tags": (_tags(call, user.arn) or None) if whole else None,
    }


def group_to_wire(group: Group) -> dict[str, Any]:
    """Return a group."""
    return {
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.id,
        "Arn": group.arn,
        "CreateDate": group.created_at,
    }


def role_to_wire(call: Call, role: Role, *, whole: bool = True) -> dict[str, Any]:
    """Return a role; in lists without tags, boundary and last use."""
    used = {"LastUsedDate": role.last_used_at, "Region": role.last_used_region} if role.last_used_at else {}
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": role.created_at,
        "AssumeRolePolicyDocument": quote(role.trust, safe=""),
        "Description": role.description or None,
        "MaxSessionDuration": role.max_session,
        "PermissionsBoundary": _boundary(role.boundary) if whole else None,
        "Tags": (_tags(call, role.arn) or None) if whole else None,
        "RoleLastUsed": used if whole else None,
    }


def _listing(call: Call, shape: dict[str, Any]) -> Page:
    return page_of(call, shape, {"path": shape.get("PathPrefix", "/")})


def create_user(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a user."""
    user = service.create_user(
        call.tx,
        call.caller.account,
        shape["UserName"],
        path=shape.get("Path", "/"),
        boundary=shape.get("PermissionsBoundary"),
        tags=_pairs(shape),
        partition=call.partition,
        now=_now(call),
    )
    return {"User": user_to_wire(call, user)}


def get_user(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a user, or the caller; an account's root is shown as one."""
    if "UserName" not in shape and call.caller.arn.endswith(":root"):
        root = {"UserId": call.caller.account, "Arn": call.caller.arn, "Path": "/", "UserName": "root"}
        return {"User": {**root, "CreateDate": _now(call)}}
    return {"User": user_to_wire(call, service.get_user(call.tx, call.caller.account, user_name(call, shape)))}


def list_users(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the users of the account."""
    page = _listing(call, shape)
    found = store.list_users(call.tx, call.caller.account, path=page.path, after=page.after, limit=page.size + 1)
    return page.answer("Users", found, lambda user: user.name, lambda user: user_to_wire(call, user, whole=False))


def delete_user(call: Call, shape: dict[str, Any]) -> None:
    """Delete a user."""
    service.delete_user(call.tx, call.caller.account, shape["UserName"])


def create_group(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a group."""
    group = service.create_group(
        call.tx,
        call.caller.account,
        shape["GroupName"],
        path=shape.get("Path", "/"),
        partition=call.partition,
        now=_now(call),
    )
    return {"Group": group_to_wire(group)}


def get_group(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a group and its members."""
    group = service.get_group(call.tx, call.caller.account, shape["GroupName"])
    members = store.members(call.tx, call.caller.account, group.name)
    return {
        "Group": group_to_wire(group),
        "Users": [user_to_wire(call, user, whole=False) for user in members],
        "IsTruncated": False,
    }


def list_groups(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the groups of the account."""
    page = _listing(call, shape)
    found = store.list_groups(call.tx, call.caller.account, path=page.path, after=page.after, limit=page.size + 1)
    return page.answer("Groups", found, lambda group: group.name, group_to_wire)


def list_groups_for_user(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the groups that a user is in."""
    user = service.get_user(call.tx, call.caller.account, shape["UserName"])
    groups = store.groups_of(call.tx, call.caller.account, user.name)
    return {"Groups": [group_to_wire(group) for group in groups], "IsTruncated": False}


def delete_group(call: Call, shape: dict[str, Any]) -> None:
    """Delete a group."""
    service.delete_group(call.tx, call.caller.account, shape["GroupName"])


def add_user_to_group(call: Call, shape: dict[str, Any]) -> None:
    """Make a user a member of a group."""
    service.add_to_group(call.tx, call.caller.account, shape["GroupName"], shape["UserName"])


def remove_user_from_group(call: Call, shape: dict[str, Any]) -> None:
    """Take a user out of a group."""
    service.remove_from_group(call.tx, call.caller.account, shape["GroupName"], shape["UserName"])


def create_role(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a role."""
    role = service.create_role(
        call.tx,
        call.caller.account,
        shape["RoleName"],
        shape["AssumeRolePolicyDocument"],
        path=shape.get("Path", "/"),
        description=shape.get("Description", ""),
        max_session=shape.get("MaxSessionDuration", 3600),
        boundary=shape.get("PermissionsBoundary"),
        tags=_pairs(shape),
        partition=call.partition,
        now=_now(call),
    )
    return {"Role": role_to_wire(call, role)}


def create_service_linked_role(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make a service's own role in the account."""
    role = service.create_service_linked_role(
        call.tx,
        call.caller.account,
        shape["AWSServiceName"],
        description=shape.get("Description", ""),
        partition=call.partition,
        now=_now(call),
    )
    return {"Role": role_to_wire(call, role)}


def delete_service_linked_role(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Delete a service's own role; it is gone when this answers."""
    role = service.get_role(call.tx, call.caller.account, shape["RoleName"])
    service.delete_service_linked_role(call.tx, call.caller.account, role.name)
    return {"DeletionTaskId": f"task{role.path}{role.name}/{role.id}"}


def get_service_linked_role_deletion_status(_call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Tell that a service-linked role is gone, for that happens at once."""
    return {"Status": "SUCCEEDED"}


def get_role(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give a role."""
    return {"Role": role_to_wire(call, service.get_role(call.tx, call.caller.account, shape["RoleName"]))}


def list_roles(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the roles of the account."""
    page = _listing(call, shape)
    found = store.list_roles(call.tx, call.caller.account, path=page.path, after=page.after, limit=page.size + 1)
    return page.answer("Roles", found, lambda role: role.name, lambda role: role_to_wire(call, role, whole=False))


def update_role(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Change a role's description or longest session."""
    service.update_role(
        call.tx,
        call.caller.account,
        shape["RoleName"],
        description=shape.get("Description"),
        max_session=shape.get("MaxSessionDuration"),
    )
    return {}


def update_role_description(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Change a role's description."""
    role = service.update_role(
        call.tx, call.caller.account, shape["RoleName"], description=shape.get("Description", "")
    )
    return {"Role": role_to_wire(call, role)}


def update_assume_role_policy(call: Call, shape: dict[str, Any]) -> None:
    """Replace a role's trust policy."""
    service.update_trust(call.tx, call.caller.account, shape["RoleName"], shape["PolicyDocument"])


def delete_role(call: Call, shape: dict[str, Any]) -> None:
    """Delete a role."""
    service.delete_role(call.tx, call.caller.account, shape["RoleName"])


def _key_to_wire(key: AccessKey) -> dict[str, Any]:
    return {
        "UserName": key.user_name,
        "AccessKeyId": key.id,
        "Status": key.status,
        "CreateDate": key.created_at,
    }


def _key_owner(call: Call, shape: dict[str, Any]) -> str | None:
    """Return whose access keys a request means: a user by name, the caller, or, for the root, the root."""
    if "UserName" in shape:
        return str(shape["UserName"])
    return None if call.caller.arn.endswith(":root") else user_name(call, shape)


def create_access_key(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Make an access key; its secret is shown this once."""
    key, made = credentials.create_access_key(
        call.tx, call.instance.root_key, call.caller.account, _key_owner(call, shape), now=_now(call)
    )
    name = key.user_name or "root"
    return {"AccessKey": {**_key_to_wire(key), "UserName": name, "SecretAccessKey": made.secret}}


def list_access_keys(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List a user's access keys."""
    found = credentials.list_access_keys(call.tx, call.caller.account, _key_owner(call, shape))
    return {"AccessKeyMetadata": [_key_to_wire(key) for key in found], "IsTruncated": False}


def update_access_key(call: Call, shape: dict[str, Any]) -> None:
    """Make an access key active or inactive."""
    credentials.set_key_active(
        call.tx,
        call.caller.account,
        _key_owner(call, shape),
        shape["AccessKeyId"],
        active=shape["Status"] == "Active",
    )


def delete_access_key(call: Call, shape: dict[str, Any]) -> None:
    """Delete an access key."""
    credentials.delete_access_key(call.tx, call.caller.account, _key_owner(call, shape), shape["AccessKeyId"])


def get_access_key_last_used(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Tell when, and for what, an access key was last used."""
    owner = credentials.owner_of(call.tx, call.caller.account, shape["AccessKeyId"])
    found = credential_store.find_key(call.tx, shape["AccessKeyId"])
    key = None if found is None else found.key
    used: dict[str, Any] = {"ServiceName": "N/A", "Region": "N/A"}
    if key is not None and key.last_used_at is not None:
        used = {
            "LastUsedDate": key.last_used_at,
            "ServiceName": key.last_used_service or "N/A",
            "Region": key.last_used_region or "N/A",
        }
    return {"UserName": owner, "AccessKeyLastUsed": used}


def put_user_permissions_boundary(call: Call, shape: dict[str, Any]) -> None:
    """Bound a user by a managed policy."""
    service.set_boundary(call.tx, Kind.USER, call.caller.account, shape["UserName"], shape["PermissionsBoundary"])


def delete_user_permissions_boundary(call: Call, shape: dict[str, Any]) -> None:
    """Bound a user no longer."""
    service.set_boundary(call.tx, Kind.USER, call.caller.account, shape["UserName"], None)


def put_role_permissions_boundary(call: Call, shape: dict[str, Any]) -> None:
    """Bound a role by a managed policy."""
    service.set_boundary(call.tx, Kind.ROLE, call.caller.account, shape["RoleName"], shape["PermissionsBoundary"])


def delete_role_permissions_boundary(call: Call, shape: dict[str, Any]) -> None:
    """Bound a role no longer."""
    service.set_boundary(call.tx, Kind.ROLE, call.caller.account, shape["RoleName"], None)


def _tag(call: Call, arn: str, shape: dict[str, Any]) -> None:
    put_tags(call.tx, call.caller.account, "", arn, check_tags(_pairs(shape)))
    store.raise_access_version(call.tx)


def _untag(call: Call, arn: str, shape: dict[str, Any]) -> None:
    remove_tags(call.tx, call.caller.account, "", arn, shape["TagKeys"])
    store.raise_access_version(call.tx)


def tag_user(call: Call, shape: dict[str, Any]) -> None:
    """Tag a user."""
    _tag(call, service.get_user(call.tx, call.caller.account, shape["UserName"]).arn, shape)


def untag_user(call: Call, shape: dict[str, Any]) -> None:
    """Take tags off a user."""
    _untag(call, service.get_user(call.tx, call.caller.account, shape["UserName"]).arn, shape)


def list_user_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a user."""
    user = service.get_user(call.tx, call.caller.account, shape["UserName"])
    return {"Tags": _tags(call, user.arn), "IsTruncated": False}


def tag_role(call: Call, shape: dict[str, Any]) -> None:
    """Tag a role."""
    _tag(call, service.get_role(call.tx, call.caller.account, shape["RoleName"]).arn, shape)


def untag_role(call: Call, shape: dict[str, Any]) -> None:
    """Take tags off a role."""
    _untag(call, service.get_role(call.tx, call.caller.account, shape["RoleName"]).arn, shape)


def list_role_tags(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """List the tags of a role."""
    role = service.get_role(call.tx, call.caller.account, shape["RoleName"])
    return {"Tags": _tags(call, role.arn), "IsTruncated": False}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "AddUserToGroup": add_user_to_group,
    "CreateAccessKey": create_access_key,
    "CreateGroup": create_group,
    "CreateRole": create_role,
    "CreateServiceLinkedRole": create_service_linked_role,
    "CreateUser": create_user,
    "DeleteAccessKey": delete_access_key,
    "DeleteGroup": delete_group,
    "DeleteRole": delete_role,
    "DeleteRolePermissionsBoundary": delete_role_permissions_boundary,
    "DeleteServiceLinkedRole": delete_service_linked_role,
    "DeleteUser": delete_user,
    "DeleteUserPermissionsBoundary": delete_user_permissions_boundary,
    "GetAccessKeyLastUsed": get_access_key_last_used,
    "GetGroup": get_group,
    "GetRole": get_role,
    "GetServiceLinkedRoleDeletionStatus": get_service_linked_role_deletion_status,
    "GetUser": get_user,
    "ListAccessKeys": list_access_keys,
    "ListGroups": list_groups,
    "ListGroupsForUser": list_groups_for_user,
    "ListRoleTags": list_role_tags,
    "ListRoles": list_roles,
    "ListUserTags": list_user_tags,
    "ListUsers": list_users,
    "PutRolePermissionsBoundary": put_role_permissions_boundary,
    "PutUserPermissionsBoundary": put_user_permissions_boundary,
    "RemoveUserFromGroup": remove_user_from_group,
    "TagRole": tag_role,
    "TagUser": tag_user,
    "UntagRole": untag_role,
    "UntagUser": untag_user,
    "UpdateAccessKey": update_access_key,
    "UpdateAssumeRolePolicy": update_assume_role_policy,
    "UpdateRole": update_role,
    "UpdateRoleDescription": update_role_description,
    **iam_account.OPERATIONS,
    **iam_policies.OPERATIONS,
    **iam_oidc.OPERATIONS,
    **iam_sign_in.OPERATIONS,
}
