"""The types of policies that an organization has, and how much of each it may have.

Limits: AWS Organizations User Guide, "Quotas and service limits for AWS Organizations".
"""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

BACKUP: Final = "BACKUP_POLICY"
TAG: Final = "TAG_POLICY"
AI_OPT_OUT: Final = "AISERVICES_OPT_OUT_POLICY"
SERVICE_CONTROL: Final = "SERVICE_CONTROL_POLICY"
RESOURCE_CONTROL: Final = "RESOURCE_CONTROL_POLICY"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of policy and its limits."""

    name: str
    most_characters: int = 10_000
    most_policies: int = 1_000
    most_attached_to_a_node: int = 10
    inherits: bool = True  # whether policies of this type merge into an effective policy
    managed_id: str | None = None  # the policy that AWS attaches to every node while the type is on

    @property
    def arn_segment(self) -> str:
        """How the type is written in the ARNs of its policies."""
        return self.name.lower()


KINDS: Final = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(
                SERVICE_CONTROL,
                most_characters=10_240,
                most_policies=10_000,
                inherits=False,
                managed_id="p-FullAWSAccess",
            ),
            Kind(
                RESOURCE_CONTROL,
                most_characters=5_120,
                most_policies=2_000,
                most_attached_to_a_node=5,
                inherits=False,
                managed_id="p-RCPFullAWSAccess",
            ),
            Kind(TAG),
            Kind(BACKUP),
            Kind(AI_OPT_OUT, most_characters=2_500, most_attached_to_a_node=5),
            Kind("CHATBOT_POLICY", most_attached_to_a_node=5),
            Kind("DECLARATIVE_POLICY_EC2"),
            Kind("SECURITYHUB_POLICY"),
            Kind("SECURITYHUB_CSPM_POLICY"),
            Kind("INSPECTOR_POLICY"),
            Kind("UPGRADE_ROLLOUT_POLICY"),
            Kind("BEDROCK_POLICY"),
            Kind("S3_POLICY"),
            Kind("NETWORK_SECURITY_DIRECTOR_POLICY"),
            Kind("GUARDDUTY_POLICY"),
        )
    }
)
