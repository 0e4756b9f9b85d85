"""The table: for every operation that is served, which actions on which resources its caller must be allowed."""

from collections.abc import Mapping
from typing import Final

from holdfast.server.operations import backup, keys, organizations
from holdfast.server.operations.identity import IAM_RULES, STS_RULES
from holdfast.server.operations.others import CLOUDTRAIL_RULES, HOLDFAST_RULES, TAGGING_RULES
from holdfast.server.operations.scene import Check, Rule, Scene

RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "backup": backup.RULES,
    "cloudtrail": CLOUDTRAIL_RULES,
    "holdfast": HOLDFAST_RULES,
    "iam": IAM_RULES,
    "kms": keys.RULES,
    "organizations": organizations.RULES,
    "resourcegroupstaggingapi": TAGGING_RULES,
    "sts": STS_RULES,
}
"""By boto3's name of the service, and the operation."""

__all__ = ["RULES", "Check", "Rule", "Scene"]
