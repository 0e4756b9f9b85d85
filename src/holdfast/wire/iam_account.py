"""Everything of an account at once on the `iam` API: for scanners and auditors."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from holdfast.access import credential_store, policy_service, second_factor_store, store
from holdfast.access.credential_report import credential_report
from holdfast.access.model.identity import Group, IdentityNotFoundError, Kind, ManagedPolicy, Role, User
from holdfast.access.tag import tags_of
from holdfast.organization.service.accounts import accounts_by_id, remove_alias, set_alias
from holdfast.wire.call import Call, Handler
from holdfast.wire.iam_page import page_of
from holdfast.wire.iam_policies import policy_to_wire

_KINDS: Final = ("User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy")
_LISTS: Final = {
    "User": "UserDetailList",
    "Group": "GroupDetailList",
    "Role": "RoleDetailList",
    "LocalManagedPolicy": "Policies",
    "AWSManagedPolicy": "Policies",
}
_Item = tuple[str, str, Callable[[], dict[str, Any]]]
"""What it is, its ARN, and how it is shown."""


def get_account_authorization_details(call: Call, shape: dict[str, Any]) -> dict[str, Any]:
    """Give users, groups, roles and managed policies of the account, with all that is attached to them."""
    wanted = shape.get("Filter") or list(_KINDS)
    page = page_of(call, shape, {"filter": sorted(wanted)})
    items = sorted((item for item in _items(call) if item[0] in wanted), key=lambda item: item[1])
    rest = [item for item in items if item[1] > page.after]
    shown, more = rest[: page.size], len(rest) > page.size
    answer: dict[str, Any] = {name: [] for name in _LISTS.values()}
    for kind, _, show in shown:
        answer[_LISTS[kind]].append(show())
    marker = call.page_token(page.filters, shown[-1][1]) if more else None
    return {**answer, "IsTruncated": more, "Marker": marker}


def _items(call: Call) -> list[_Item]:
    tx, account = call.tx, call.caller.account
    counts = store.attachment_counts(tx, account)
    items: list[_Item] = [("User", each.arn, partial(_user, call, each)) for each in store.list_users(tx, account)]
    items += [("Group", each.arn, partial(_group, call, each)) for each in store.list_groups(tx, account)]
    items += [("Role", each.arn, partial(_role, call, each)) for each in store.list_roles(tx, account)]
    for policy in policy_service.list_policies(tx, account):
        used = counts.get(policy.arn, 0)
        if not policy.is_aws_managed:
            items.append(("LocalManagedPolicy", policy.arn, partial(_policy, call, policy, used)))
        elif used:
            items.append(("AWSManagedPolicy", policy.arn, partial(_policy, call, policy, used)))
    return items


def _inline(call: Call, kind: Kind, name: str) -> list[dict[str, str]]:
    found = store.inline_policies(call.tx, call.caller.account, kind, name)
    return [{"PolicyName": policy, "PolicyDocument": quote(document, safe="")} for policy, document in found.items()]


def _attached(call: Call, kind: Kind, name: str) -> list[dict[str, str]]:
    found = policy_service.attached(call.tx, kind, call.caller.account, name)
    return [{"PolicyName": policy.name, "PolicyArn": policy.arn} for policy in found]


def _tags(call: Call, arn: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags_of(call.tx, call.caller.account, "", arn).items()]


def _boundary(arn: str | None) -> dict[str, str] | None:
    return None if arn is None else {"PermissionsBoundaryType": "Policy", "PermissionsBoundaryArn": arn}


def _user(call: Call, user: User) -> dict[str, Any]:
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": user.arn,
        "CreateDate": user.created_at,
        "UserPolicyList": _inline(call, Kind.USER, user.name),
        "GroupList": [group.name for group in store.groups_of(call.tx, user.account, user.name)],
        "AttachedManagedPolicies": _attached(call, Kind.USER, user.name),
        "PermissionsBoundary": _boundary(user.boundary),
        "Tags": _tags(call, user.arn),
    }


def _group(call: Call, group: Group) -> dict[str, Any]:
    return {
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.id,
        "Arn": group.arn,
        "CreateDate": group.created_at,
        "GroupPolicyList": _inline(call, Kind.GROUP, group.name),
        "AttachedManagedPolicies": _attached(call, Kind.GROUP, group.name),
    }


def _role(call: Call, role: Role) -> dict[str, Any]:
    used = {"LastUsedDate": role.last_used_at, "Region": role.last_used_region} if role.last_used_at else {}
    return {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.id,
        "Arn": role.arn,
        "CreateDate": role.created_at,
        "AssumeRolePolicyDocument": quote(role.trust, safe=""),
        "InstanceProfileList": [],
        "RolePolicyList": _inline(call, Kind.ROLE, role.name),
        "AttachedManagedPolicies": _attached(call, Kind.ROLE, role.name),
        "PermissionsBoundary": _boundary(role.boundary),
        "Tags": _tags(call, role.arn),
        "RoleLastUsed": used,
    }


def _policy(call: Call, policy: ManagedPolicy, used: int) -> dict[str, Any]:
    shown = policy_to_wire(policy, used)
    versions = policy_service.versions_of(call.tx, call.caller.account, policy.arn)
    return {
        **shown,
        "PermissionsBoundaryUsageCount": len(store.bounded_by(call.tx, call.caller.account, policy.arn)),
        "PolicyVersionList": [
            {
                "Document": quote(version.document, safe=""),
                "VersionId": version.version,
                "IsDefaultVersion": version.version == policy.default_version,
                "CreateDate": version.created_at,
            }
            for version in versions
        ],
    }


def get_account_summary(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Count what the account has."""
    tx, account = call.tx, call.caller.account
    devices = second_factor_store.devices_of(tx, account)
    return {
        "SummaryMap": {
            **store.counts(tx, account),
            "MFADevices": len(devices),
            "MFADevicesInUse": len([device for device in devices if device.user_name is not None]),
            "AccountMFAEnabled": 0,
            "AccountAccessKeysPresent": int(bool(credential_store.keys_of(tx, account, None))),
            "AccountPasswordPresent": 0,
            "AccessKeysPerUserQuota": 2,
            "AttachedPoliciesPerUserQuota": 20,
            "AttachedPoliciesPerGroupQuota": 20,
            "AttachedPoliciesPerRoleQuota": 20,
            "PolicySizeQuota": 6144,
            "VersionsPerPolicyQuota": 5,
        }
    }


def create_account_alias(call: Call, shape: dict[str, Any]) -> None:
    """Give the account an alias, by which its users sign in; it takes the place of the one before."""
    set_alias(call.tx, call.caller.account, shape["AccountAlias"])


def delete_account_alias(call: Call, shape: dict[str, Any]) -> None:
    """Take its alias from the account."""
    if not remove_alias(call.tx, call.caller.account, shape["AccountAlias"]):
        raise IdentityNotFoundError(f"The Account Alias {shape['AccountAlias']} does not exist.")


def list_account_aliases(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """List the account's alias."""
    (account,) = accounts_by_id(call.tx, [call.caller.account])
    return {"AccountAliases": [account.alias] if account.alias else [], "IsTruncated": False}


def generate_credential_report(_call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Tell that the report is there: it is made when it is read."""
    return {"State": "COMPLETE", "Description": "The report is made anew whenever it is read"}


def get_credential_report(call: Call, _shape: dict[str, Any]) -> dict[str, Any]:
    """Give the users of the account with their credentials, and when each was last used, as CSV."""
    now = call.now.replace(microsecond=0)
    content = credential_report(call.tx, call.caller.account, partition=call.partition)
    return {"Content": content.encode(), "ReportFormat": "text/csv", "GeneratedTime": now}


OPERATIONS: Final[Mapping[str, Handler]] = {
    "CreateAccountAlias": create_account_alias,
    "DeleteAccountAlias": delete_account_alias,
    "GenerateCredentialReport": generate_credential_report,
    "GetCredentialReport": get_credential_report,
    "ListAccountAliases": list_account_aliases,
    "GetAccountAuthorizationDetails": get_account_authorization_details,
    "GetAccountSummary": get_account_summary,
}
