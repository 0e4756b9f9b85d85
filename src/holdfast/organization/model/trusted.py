"""The services that an organization can trust, and how many delegated administrators each may have.

Source: AWS Organizations User Guide, "AWS services that you can use with AWS Organizations", and each service's own
page below it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from holdfast.organization.errors import Constraint, ConstraintError, InputReason, OrganizationInputError

BACKUP: Final = "backup.amazonaws.com"
_SUFFIX: Final = ".amazonaws.com"
_MANY: Final = 1_000
"""Where no limit is published."""


@dataclass(frozen=True, slots=True)
class TrustedService:
    """A service that works with organizations."""

    principal: str
    administrators: int
    """How many delegated administrators it may have; 0 where it has none."""
    policy_types: tuple[str, ...] = ()
    """Policy types that need the service to be trusted."""


def _services() -> Mapping[str, TrustedService]:
    """Return every known service by its principal."""
    administrators = {
        "access-analyzer": 1,
        "account": 1,
        "application-signals.cloudwatch": 1,
        "auditmanager": 1,
        "aws-artifact-account-sync": 0,
        "backup": 5,
        "cloudtrail": 3,
        "compute-optimizer": 1,
        "config": _MANY,
        "config-multiaccountsetup": _MANY,
        "controltower": 0,
        "cost-optimization-hub.bcm": 1,
        "detective": 1,
        "devops-guru": 1,
        "ds": 0,
        "fms": 10,
        "guardduty": 1,
        "health": 5,
        "iam": 1,
        "inspector2": 1,
        "ipam": 1,
        "license-management.marketplace": 0,
        "license-manager": 1,
        "license-manager.member-account": 1,
        "license-manager-linux-subscriptions": 1,
        "macie": 1,
        "malware-protection.guardduty": 1,
        "member.org.stacksets.cloudformation": 5,
        "mgn": _MANY,
        "networkmanager": 10,
        "notifications": 5,
        "observabilityadmin": 1,
        "private-marketplace.marketplace": 1,
        "ram": 0,
        "reachabilityanalyzer.networkinsights": 5,
        "reporting.trustedadvisor": 5,
        "resource-explorer-2": 1,
        "securityhub": 1,
        "securitylake": 1,
        "servicecatalog": 50,
        "servicequotas": 0,
        "ssm": 3,
        "ssm-quicksetup": 1,
        "sso": 1,
        "storage-lens.s3": 5,
        "tagpolicies.tag": 0,
        "vpc-reachability-analyzer": 5,
        "wellarchitected": 0,
    }
    policy_types = {
        "inspector2": ("INSPECTOR_POLICY",),
        "securityhub": ("SECURITYHUB_POLICY", "SECURITYHUB_CSPM_POLICY"),
    }
    return {
        name + _SUFFIX: TrustedService(name + _SUFFIX, count, policy_types.get(name, ()))
        for name, count in administrators.items()
    }


SERVICES: Final = _services()


def get_service(principal: str) -> TrustedService:
    """Return the service with this principal.

    Raises:
        OrganizationInputError: no such service works with organizations.
    """
    found = SERVICES.get(principal)
    if found is None:
        raise OrganizationInputError(
            InputReason.UNRECOGNIZED_SERVICE_PRINCIPAL, f"You specified an unrecognized service principal: {principal}."
        )
    return found


def refuse_another_administrator(service: TrustedService, present: int) -> None:
    """Refuse one more delegated administrator where a service has `present` of them.

    Raises:
        OrganizationInputError: the service has no delegated administrators at all.
        ConstraintError: there are as many as there may be.
    """
    if service.administrators == 0:
        raise OrganizationInputError(
            InputReason.UNRECOGNIZED_SERVICE_PRINCIPAL,
            f"The service {service.principal} does not support delegated administrators.",
        )
    if present < service.administrators:
        return
    if service.administrators == 1:
        raise ConstraintError(
            Constraint.DELEGATED_ADMINISTRATOR_EXISTS_FOR_THIS_SERVICE,
            f"{service.principal} already has a delegated administrator. Deregister it first.",
        )
    raise ConstraintError(
        Constraint.MAX_DELEGATED_ADMINISTRATORS_FOR_SERVICE_LIMIT_EXCEEDED,
        f"You have exceeded the number of delegated administrators for {service.principal} ({service.administrators}).",
    )
