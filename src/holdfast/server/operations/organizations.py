"""What each operation of `organizations` asks for.

Actions, resources and condition keys: Service Authorization Reference, "Actions, resources, and condition keys for AWS
Organizations". Which accounts may call at all (the management account, delegated administrators, members for their own)
is the organization's own rule, and its handlers hold to it, its resource policy included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text

from holdfast.server.operations.scene import Check, Parameters, Rule, Scene, Value, reading

_ORGANIZATION = text("""
    SELECT o.id, o.management_account FROM account a
      JOIN organization o ON o.id = a.organization_id AND o.deleted_at IS NULL
     WHERE a.id = :account""")
_POLICY_TYPE = text("SELECT type FROM policy WHERE organization_id = :organization AND id = :id")


@dataclass(frozen=True, slots=True)
class _Above:
    """The organization above the caller's account."""

    id: str
    management_account: str


def _above(scene: Scene) -> _Above | None:
    row = scene.tx.execute(_ORGANIZATION, {"account": scene.account}).first()
    return None if row is None else _Above(row.id, row.management_account)


def _type_of(scene: Scene, above: _Above | None, policy_id: str) -> str | None:
    if above is None:
        return None
    return scene.tx.execute(_POLICY_TYPE, {"organization": above.id, "id": policy_id}).scalar_one_or_none()


def _arn(scene: Scene, above: _Above, kind: str, name: str) -> str:
    return scene.global_arn("organizations", f"{kind}/{above.id}/{name}", account=above.management_account)


def _target_arn(scene: Scene, above: _Above | None, target: str) -> str:
    """Return the ARN of a root, unit or account."""
    if above is None:
        return "*"
    kind = "root" if target.startswith("r-") else "ou" if target.startswith("ou-") else "account"
    return _arn(scene, above, kind, target)


def _policy_arn(scene: Scene, above: _Above | None, policy_id: str, policy_type: str | None) -> str:
    if above is None or policy_type is None:
        return "*"
    return _arn(scene, above, "policy", f"{policy_type.lower()}/{policy_id}")


def _check(action: str, resource: str, values: Mapping[str, Value] | None = None) -> Check:
    """Return the caller's own half of the decision; the organization's half is made by its handlers."""
    return Check(action, resource, values=values or {})


def _targets(action: str, *members: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the checks of an action on the roots, units and accounts that members name."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        above = _above(scene)
        named = [parameters[member] for member in members if parameters.get(member)]
        values = {"organizations:PolicyType": parameters.get("PolicyType") or parameters.get("Filter")}
        return [_check(action, _target_arn(scene, above, each), values) for each in named] or [
            _check(action, "*", values)
        ]

    return checks


def _policy(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    """Return the checks of an action on a policy, and on the target that it is attached to or detached from."""

    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        above = _above(scene)
        policy_type = _type_of(scene, above, parameters["PolicyId"])
        values: dict[str, Value] = {"organizations:PolicyType": policy_type}
        found = [_check(action, _policy_arn(scene, above, parameters["PolicyId"], policy_type), values)]
        if "TargetId" in parameters:
            found.append(_check(action, _target_arn(scene, above, parameters["TargetId"]), values))
        return found

    return checks


def _plain(action: str, **values: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(_scene: Scene, parameters: Parameters) -> list[Check]:
        given: dict[str, Value] = {f"organizations:{key}": parameters.get(member) for key, member in values.items()}
        return [_check(action, "*", given)]

    return checks


def _tagged(action: str) -> Callable[[Scene, Parameters], list[Check]]:
    def checks(scene: Scene, parameters: Parameters) -> list[Check]:
        above, named = _above(scene), parameters["ResourceId"]
        policy_type = _type_of(scene, above, named) if named.startswith("p-") else None
        resource = (
            _policy_arn(scene, above, named, policy_type)
            if named.startswith("p-")
            else _target_arn(scene, above, named)
        )
        return [_check(action, resource, {"organizations:PolicyType": policy_type})]

    return checks


_ON_TARGETS: Final = {
    "CloseAccount": ("AccountId",),
    "CreateOrganizationalUnit": ("ParentId",),
    "DeleteOrganizationalUnit": ("OrganizationalUnitId",),
    "DescribeAccount": ("AccountId",),
    "DescribeEffectivePolicy": ("TargetId",),
    "DescribeOrganizationalUnit": ("OrganizationalUnitId",),
    "DisablePolicyType": ("RootId",),
    "EnablePolicyType": ("RootId",),
    "ListAccountsForParent": ("ParentId",),
    "ListChildren": ("ParentId",),
    "ListDelegatedServicesForAccount": ("AccountId",),
    "ListEffectivePolicyValidationErrors": ("AccountId",),
    "ListOrganizationalUnitsForParent": ("ParentId",),
    "ListParents": ("ChildId",),
    "ListPoliciesForTarget": ("TargetId",),
    "MoveAccount": ("AccountId", "SourceParentId", "DestinationParentId"),
    "RemoveAccountFromOrganization": ("AccountId",),
    "UpdateOrganizationalUnit": ("OrganizationalUnitId",),
}
_PLAIN: Final = (
    "AcceptHandshake",
    "CancelHandshake",
    "CreateAccount",
    "CreateGovCloudAccount",
    "CreateOrganization",
    "DeclineHandshake",
    "DeleteOrganization",
    "DeleteResourcePolicy",
    "DescribeCreateAccountStatus",
    "DescribeHandshake",
    "DescribeOrganization",
    "DescribeResourcePolicy",
    "DescribeResponsibilityTransfer",
    "EnableAllFeatures",
    "InviteAccountToOrganization",
    "InviteOrganizationToTransferResponsibility",
    "LeaveOrganization",
    "ListAWSServiceAccessForOrganization",
    "ListAccounts",
    "ListCreateAccountStatus",
    "ListHandshakesForAccount",
    "ListHandshakesForOrganization",
    "ListInboundResponsibilityTransfers",
    "ListOutboundResponsibilityTransfers",
    "ListRoots",
    "PutResourcePolicy",
    "TerminateResponsibilityTransfer",
    "UpdateResponsibilityTransfer",
)
_OF_POLICIES: Final = (
    "AttachPolicy",
    "DeletePolicy",
    "DescribePolicy",
    "DetachPolicy",
    "ListTargetsForPolicy",
    "UpdatePolicy",
)
_READING: Final = ("Describe", "List")


def _rules() -> dict[str, Rule]:
    rules = {
        "CreatePolicy": Rule(_plain("organizations:CreatePolicy", PolicyType="Type")),
        "ListPolicies": reading(_plain("organizations:ListPolicies", PolicyType="Filter")),
        "ListAccountsWithInvalidEffectivePolicy": reading(
            _plain("organizations:ListAccountsWithInvalidEffectivePolicy", PolicyType="PolicyType")
        ),
        "ListTagsForResource": reading(_tagged("organizations:ListTagsForResource")),
        "TagResource": Rule(_tagged("organizations:TagResource")),
        "UntagResource": Rule(_tagged("organizations:UntagResource")),
    }
    for verb in ("EnableAWSServiceAccess", "DisableAWSServiceAccess"):
        rules[verb] = Rule(_plain(f"organizations:{verb}", ServicePrincipal="ServicePrincipal"))
    for verb in ("RegisterDelegatedAdministrator", "DeregisterDelegatedAdministrator"):
        rules[verb] = Rule(_plain(f"organizations:{verb}", ServicePrincipal="ServicePrincipal"))
    rules["ListDelegatedAdministrators"] = reading(
        _plain("organizations:ListDelegatedAdministrators", ServicePrincipal="ServicePrincipal")
    )
    for name, members in _ON_TARGETS.items():
        rules[name] = Rule(_targets(f"organizations:{name}", *members), changing=not name.startswith(_READING))
    for name in _PLAIN:
        rules[name] = Rule(_plain(f"organizations:{name}"), changing=not name.startswith(_READING))
    for name in _OF_POLICIES:
        rules[name] = Rule(_policy(f"organizations:{name}"), changing=not name.startswith(_READING))
    return rules


RULES: Final[Mapping[str, Rule]] = _rules()
