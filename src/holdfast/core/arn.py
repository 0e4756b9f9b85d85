"""Amazon resource names: how everything is addressed, across accounts and regions."""

from dataclasses import dataclass
from typing import Self

from holdfast.core.errors import InvalidInputError

_PARTS = 6


class InvalidArnError(InvalidInputError):
    """A text that should be an ARN is not one."""


@dataclass(frozen=True, slots=True)
class Arn:
    """One resource name: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`; region and account may be empty."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the ARN that `text` spells.

        Raises:
            InvalidArnError: it has not six parts, or does not begin with `arn`.
        """
        parts = text.split(":", _PARTS - 1)
        if len(parts) != _PARTS or parts[0] != "arn" or not parts[1] or not parts[2] or not parts[5]:
            raise InvalidArnError(f"{text!r} is not an ARN (arn:partition:service:region:account:resource)")
        return cls(*parts[1:])

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"


def partition_of(region: str) -> str:
    """Return the partition a region belongs to: `aws`, `aws-cn` or `aws-us-gov`."""
    if region.startswith("cn-"):
        return "aws-cn"
    if region.startswith("us-gov-"):
        return "aws-us-gov"
    return "aws"
