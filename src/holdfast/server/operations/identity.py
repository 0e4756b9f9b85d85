"""What each operation of `iam` and `sts` asks for.

Actions, resources and condition keys: Service Authorization Reference, "Actions, resources, and condition keys for AWS
Identity and Access Management (IAM)" and "... AWS Security Token Service".
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from holdfast.access import password_store, store
from holdfast.access.backup_role import find_role_by_arn
from holdfast.access.gathering import trust_policy
from holdfast.access.model import DocumentKind, Policy, parse_document
from holdfast.access.model.identity import Kind
from holdfast.access.model.second_factor import WrongCodeError
from holdfast.access.second_factor import is_right_code
from holdfast.server.operations.scene import Check, Parameters, Rule, Scene, Value, arn_account, listed, reading

_NOBODY: Final = Policy(
    "trust policy of a role that does not exist",
    parse_document(
        '{"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "000000000000"}}}',
        DocumentKind.TRUST,
    ),
)
"""Trusts nobody, so that a refusal does not tell whether a role exists."""
_MEMBER: Final = {Kind.USER: "UserName", Kind.GROUP: "GroupName", Kind.ROLE: "RoleName"}
_NOUN: Final = {Kind.USER: "User", Kind.GROUP: "Group", Kind.ROLE: "Role"}
_READING: Final = ("Get", "List", "Simulate", "Generate")


def _identity_arn(scene: Scene, kind: Kind, name: str | None, path: str | None = None) -> str:
    """Return the ARN of an identity; without a name, of the caller's own user."""
    if name is None:
        return scene.caller.principal_arn if scene.caller.name is not None else scene.global_arn("iam", "root")
    found: Any = None
    if path is None:
        finders = {Kind.USER: store.find_user, Kind.GROUP: store.find_group, Kind.ROLE: store.find_role}
        found = finders[kind](scene.tx, scene.account, name)
    return str(found.arn) if found is not None else scene.global_arn("iam", f"{kind.value}{path or '/'}{name}")


def _on_identity(action: str, kind: Kind, *, creating: bool = False) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        path = (parameters.get("Path") or "/") if creating else None
        arn = _identity_arn(scene, kind, parameters.get(_MEMBER[kind]), path)
        values: dict[str, Value] = {
            "iam:PolicyARN": parameters.get("PolicyArn"),
            "iam:PermissionsBoundary": parameters.get("PermissionsBoundary"),
        }
        return [Check(action, arn, values=values)]

    return checks


def _on_policy(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        arn = parameters.get("PolicyArn")
        if arn is None:
            arn = scene.global_arn("iam", f"policy{parameters.get('Path') or '/'}{parameters['PolicyName']}")
        owner = arn_account(arn)
        # The policies that come with Holdfast belong to everybody.
        return [Check(action, arn, owner=scene.account if owner in {None, "aws"} else owner)]

    return checks


def _plain(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    return lambda _scene, _parameters: [Check(action)]


def _free(_scene: Scene, _parameters: Parameters) -> list[Check]:
    """Ask for nothing: whoever is somebody may do it."""
    return []


def _linked_role(scene: Scene, parameters: Parameters) -> list[Check]:
    service = parameters["AWSServiceName"]
    arn = scene.global_arn("iam", f"role/aws-service-role/{service}/*")
    return [Check("iam:CreateServiceLinkedRole", arn, values={"iam:AWSServiceName": service})]


def _last_used(scene: Scene, parameters: Parameters) -> list[Check]:
    from holdfast.access.credential_store import find_key  # noqa: PLC0415 - only here

    found = find_key(scene.tx, parameters["AccessKeyId"])
    name = found.key.user_name if found is not None and found.key.account == scene.account else "*"
    return [Check("iam:GetAccessKeyLastUsed", _identity_arn(scene, Kind.USER, name))]


def _assume_role(scene: Scene, parameters: Parameters) -> list[Check]:
    """The role's trust policy decides; tags and a source identity need actions of their own."""
    arn = parameters["RoleArn"]
    owner = arn_account(arn) or scene.account
    role = find_role_by_arn(scene.tx, arn)
    policy = _NOBODY if role is None else trust_policy(role)
    tags = listed(parameters.get("Tags"))
    values: dict[str, Value] = {
        "sts:ExternalId": parameters.get("ExternalId"),
        "sts:RoleSessionName": parameters.get("RoleSessionName"),
        "sts:SourceIdentity": parameters.get("SourceIdentity"),
        "sts:TransitiveTagKeys": parameters.get("TransitiveTagKeys"),
    }
    actions = ["sts:AssumeRole"]
    if tags:
        actions.append("sts:TagSession")
    if parameters.get("SourceIdentity"):
        actions.append("sts:SetSourceIdentity")
    values |= _second_factor(scene, parameters)
    return [Check(action, arn, owner=owner, values=values, policy=policy, policy_decides=True) for action in actions]


def _assume_with_web_identity(scene: Scene, parameters: Parameters) -> list[Check]:
    """The role's trust policy decides about what the caller's identity provider says."""
    identity = scene.caller.web_identity
    tags = {} if identity is None else dict(identity.tags)
    claims = {
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        "TransitiveTagKeys": () if identity is None else identity.transitive,
        "SourceIdentity": None if identity is None else identity.source_identity,
    }
    given = {**claims, "RoleArn": parameters["RoleArn"], "RoleSessionName": parameters["RoleSessionName"]}
    found = _assume_role(scene, given)
    tagged: dict[str, Value] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    if tags:
        tagged["aws:TagKeys"] = tuple(tags)
    first = replace(found[0], action="sts:AssumeRoleWithWebIdentity")
    return [replace(check, values={**check.values, **tagged}) for check in (first, *found[1:])]


def _second_factor(scene: Scene, parameters: Parameters) -> dict[str, Value]:
    """Return what a second factor that comes with the request adds to it; the handler then takes the code.

    Raises:
        WrongCodeError: the code is not the present one of a device of the caller's.
        TooManyAttemptsError: too many wrong ones were given for this device.
    """
    serial, code = parameters.get("SerialNumber"), parameters.get("TokenCode")
    if serial is None and code is None:
        return {}
    if serial is None or code is None:
        raise WrongCodeError(
            "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
        )
    guesses, instance = scene.instance.guesses, scene.instance
    guesses.refuse_if_too_many(serial, "code")
    if not is_right_code(scene.tx, instance.root_key, scene.caller, serial, code, machine_now=instance.machine.now()):
        guesses.failed(serial, "code")
        raise WrongCodeError("MultiFactorAuthentication failed with invalid MFA one time pass code.")
    return {"aws:MultiFactorAuthPresent": True, "aws:MultiFactorAuthAge": 0}


def _session_token(scene: Scene, parameters: Parameters) -> list[Check]:
    return [Check("sts:GetSessionToken", values=_second_factor(scene, parameters), is_free=True)]


def _change_password(scene: Scene, _parameters: Parameters) -> list[Check]:
    """Where the account lets its users change their passwords, it can still be denied."""
    policy = password_store.find_policy(scene.tx, scene.account)
    free = scene.caller.name is not None and policy is not None and policy.users_may_change
    return [Check("iam:ChangePassword", scene.caller.principal_arn, is_free=free)]


def _on_provider(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the check of an action on an OpenID Connect provider, by its ARN or the URL of a new one."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        arn = parameters.get("OpenIDConnectProviderArn")
        if arn is None:
            arn = scene.global_arn("iam", f"oidc-provider/{parameters['Url'].removeprefix('https://')}")
        return [Check(action, arn, owner=arn_account(arn) or scene.account)]

    return checks


def _on_device(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the check of an action on a virtual MFA device, by its serial number or the name of a new one."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        serial = parameters.get("SerialNumber")
        if serial is None:
            path, name = parameters.get("Path") or "/", parameters["VirtualMFADeviceName"]
            serial = scene.global_arn("iam", f"mfa{path}{name}")
        return [Check(action, serial, owner=arn_account(serial) or scene.account)]

    return checks


def _simulate(scene: Scene, parameters: Parameters) -> list[Check]:
    return [Check("iam:SimulatePrincipalPolicy", parameters["PolicySourceArn"], owner=scene.account)]


_ABOUT_IDENTITIES: Final = {
    Kind.USER: (
        "AttachUserPolicy",
        "CreateAccessKey",
        "CreateLoginProfile",
        "DeactivateMFADevice",
        "DeleteAccessKey",
        "DeleteLoginProfile",
        "DeleteUser",
        "DeleteUserPermissionsBoundary",
        "DeleteUserPolicy",
        "DetachUserPolicy",
        "EnableMFADevice",
        "GetLoginProfile",
        "GetUser",
        "GetUserPolicy",
        "ListAccessKeys",
        "ListAttachedUserPolicies",
        "ListGroupsForUser",
        "ListMFADevices",
        "ListUserPolicies",
        "ListUserTags",
        "PutUserPermissionsBoundary",
        "PutUserPolicy",
        "ResyncMFADevice",
        "TagUser",
        "UntagUser",
        "UpdateAccessKey",
        "UpdateLoginProfile",
        "UpdateUser",
    ),
    Kind.GROUP: (
        "AddUserToGroup",
        "AttachGroupPolicy",
        "DeleteGroup",
        "DeleteGroupPolicy",
        "DetachGroupPolicy",
        "GetGroup",
        "GetGroupPolicy",
        "ListAttachedGroupPolicies",
        "ListGroupPolicies",
        "PutGroupPolicy",
        "RemoveUserFromGroup",
        "UpdateGroup",
    ),
    Kind.ROLE: (
        "AttachRolePolicy",
        "DeleteRole",
        "DeleteRolePermissionsBoundary",
        "DeleteRolePolicy",
        "DeleteServiceLinkedRole",
        "DetachRolePolicy",
        "GetRole",
        "GetRolePolicy",
        "ListAttachedRolePolicies",
        "ListRolePolicies",
        "ListRoleTags",
        "PutRolePermissionsBoundary",
        "PutRolePolicy",
        "TagRole",
        "UntagRole",
        "UpdateAssumeRolePolicy",
        "UpdateRole",
        "UpdateRoleDescription",
    ),
}
_ABOUT_POLICIES: Final = (
    "CreatePolicy",
    "CreatePolicyVersion",
    "DeletePolicy",
    "DeletePolicyVersion",
    "GetPolicy",
    "GetPolicyVersion",
    "ListEntitiesForPolicy",
    "ListPolicyTags",
    "ListPolicyVersions",
    "SetDefaultPolicyVersion",
    "TagPolicy",
    "UntagPolicy",
)
_ABOUT_DEVICES: Final = (
    "CreateVirtualMFADevice",
    "DeleteVirtualMFADevice",
    "GetMFADevice",
    "ListMFADeviceTags",
    "TagMFADevice",
    "UntagMFADevice",
)
_ABOUT_PROVIDERS: Final = (
    "AddClientIDToOpenIDConnectProvider",
    "CreateOpenIDConnectProvider",
    "DeleteOpenIDConnectProvider",
    "GetOpenIDConnectProvider",
    "ListOpenIDConnectProviderTags",
    "RemoveClientIDFromOpenIDConnectProvider",
    "TagOpenIDConnectProvider",
    "UntagOpenIDConnectProvider",
    "UpdateOpenIDConnectProviderThumbprint",
)
_ABOUT_NOTHING: Final = (
    "CreateAccountAlias",
    "DeleteAccountAlias",
    "DeleteAccountPasswordPolicy",
    "GenerateCredentialReport",
    "GetAccountAuthorizationDetails",
    "GetAccountPasswordPolicy",
    "GetAccountSummary",
    "GetCredentialReport",
    "GetServiceLinkedRoleDeletionStatus",
    "ListAccountAliases",
    "ListGroups",
    "ListOpenIDConnectProviders",
    "ListPolicies",
    "ListRoles",
    "ListUsers",
    "ListVirtualMFADevices",
    "SimulateCustomPolicy",
    "UpdateAccountPasswordPolicy",
)


def _iam_rules() -> dict[str, Rule]:
    rules = {
        "ChangePassword": Rule(_change_password),
        "CreateServiceLinkedRole": Rule(_linked_role),
        "GetAccessKeyLastUsed": reading(_last_used),
        "SimulatePrincipalPolicy": reading(_simulate),
    }
    for kind, names in _ABOUT_IDENTITIES.items():
        for name in names:
            rules[name] = Rule(_on_identity(f"iam:{name}", kind), changing=not name.startswith(_READING))
        creation = f"Create{_NOUN[kind]}"
        rules[creation] = Rule(_on_identity(f"iam:{creation}", kind, creating=True))
    for name in _ABOUT_PROVIDERS:
        rules[name] = Rule(_on_provider(f"iam:{name}"), changing=not name.startswith(_READING))
    for name in _ABOUT_DEVICES:
        rules[name] = Rule(_on_device(f"iam:{name}"), changing=not name.startswith(_READING))
    for name in _ABOUT_POLICIES:
        rules[name] = Rule(_on_policy(f"iam:{name}"), changing=not name.startswith(_READING))
    for name in _ABOUT_NOTHING:
        rules[name] = Rule(_plain(f"iam:{name}"), changing=not name.startswith(_READING))
    return rules


IAM_RULES: Final[Mapping[str, Rule]] = _iam_rules()
STS_RULES: Final[Mapping[str, Rule]] = {
    "AssumeRole": Rule(_assume_role),
    "AssumeRoleWithWebIdentity": Rule(_assume_with_web_identity),
    "GetAccessKeyInfo": reading(_plain("sts:GetAccessKeyInfo")),
    "GetCallerIdentity": reading(_free),
    "GetSessionToken": Rule(_session_token),
}
