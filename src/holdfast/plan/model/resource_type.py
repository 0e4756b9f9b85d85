"""Resource types: how each is named, and which ARN patterns mean all resources of a type.

Patterns: AWS Organizations User Guide, "Backup policy syntax and examples" (resource types of a resources selection);
AWS Backup Developer Guide, "Assigning resources using the AWS Backup API".
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One type of resource that can be registered here."""

    name: str
    service: str
    """The service part of its ARNs."""
    prefix: str
    """What the resource part of its ARNs begins with; empty for buckets."""


RESOURCE_TYPES: Final = {
    kind.name: kind
    for kind in (
        ResourceType("EFS", "elasticfilesystem", "file-system/"),
        ResourceType("EBS", "ec2", "volume/"),
        ResourceType("RDS", "rds", "db:"),
        ResourceType("S3", "s3", ""),
        ResourceType("DynamoDB", "dynamodb", "table/"),
        ResourceType("Storage Gateway", "storagegateway", "gateway/"),
    )
}
"""The types that can be backed up here, by the names that AWS Backup gives them."""
