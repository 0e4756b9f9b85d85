"""The table: for every operation that is served, which actions on which resources its caller must be allowed."""

from collections.abc import Mapping
from typing import Final

from holdfast.server.operations import backup, keys, organizations
from holdfast.server.operations.identity import IAM_RULES, STS_RULES
from holdfast.server.operations.others import CLOUDTRAIL_RULES, HOLDFAST_RULES, TAGGING_RULES
from holdfast.server.operations.scene import Check, Rule, Scene, tagging

_RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "backup": backup.RULES,
    "cloudtrail": CLOUDTRAIL_RULES,
    "holdfast": HOLDFAST_RULES,
    "iam": IAM_RULES,
    "kms": keys.RULES,
    "organizations": organizations.RULES,
    "resourcegroupstaggingapi": TAGGING_RULES,
    "sts": STS_RULES,
}

_MADE_WITH_TAGS: Final = ("CreateAccount", "CreateOrganizationalUnit", "CreatePolicy", "InviteAccountToOrganization")
# Service Authorization Reference: what is made with tags asks for the service's tagging action as well.
_TAGGING: Final = {
    "backup": {name: "backup:TagResource" for name in backup.RULES if name.startswith("Create")},
    "iam": {
        "CreateOpenIDConnectProvider": "iam:TagOpenIDConnectProvider",
        "CreatePolicy": "iam:TagPolicy",
        "CreateRole": "iam:TagRole",
        "CreateUser": "iam:TagUser",
        "CreateVirtualMFADevice": "iam:TagMFADevice",
    },
    "kms": {"CreateKey": "kms:TagResource"},
    "organizations": dict.fromkeys(_MADE_WITH_TAGS, "organizations:TagResource"),
}

RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    service: {name: tagging(rule, actions[name]) if name in actions else rule for name, rule in rules.items()}
    for service, rules in _RULES.items()
    for actions in (_TAGGING.get(service, {}),)
}
"""By boto3's name of the service, and the operation."""

__all__ = ["RULES", "Check", "Rule", "Scene"]
