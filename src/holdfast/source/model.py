"""What is registered: resources, grants and secrets, and the ARNs of resources."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from holdfast.core.arn import Arn, InvalidArnError, partition_of
from holdfast.core.errors import AlreadyExistsError, ConflictError, InvalidInputError, LimitExceededError, NotFoundError
from holdfast.core.ids import name_uuid
from holdfast.plan.model.resource_type import RESOURCE_TYPES
from holdfast.source.location import Location, Scheme

MOST_TAGS: Final = 50
_LONGEST_TAG_KEY: Final = 128
_LONGEST_TAG_VALUE: Final = 256
_SCHEMES: Final[Mapping[str, frozenset[Scheme]]] = {
    "EFS": frozenset({Scheme.FILE}),
    "RDS": frozenset({Scheme.POSTGRESQL}),
}
"""Which types can be read from where, as far as there are connectors."""


class UnknownResourceError(NotFoundError):
    """There is no such resource in this account and region."""


class UnknownObjectError(NotFoundError):
    """There is no such grant or secret."""


class LocationTakenError(AlreadyExistsError):
    """Another account has registered this place, or one above or below it."""


class VersionChangedError(ConflictError):
    """Somebody changed the object since the version that the caller had seen."""


class InvalidResourceError(InvalidInputError):
    """What should be registered does not make sense."""


class TooManyTagsError(LimitExceededError):
    """A resource has at most fifty tags."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One registered resource."""

    id: int
    account: str
    region: str
    arn: str
    type: str
    name: str
    source_url: str
    site: str
    secret_name: str | None
    tags: Mapping[str, str]
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Secret:
    """What a connector needs to log in somewhere: bound to scheme, host, port and site, and to one account."""

    account: str
    region: str
    name: str
    username: str
    scheme: str
    host: str
    port: int | None
    site: str
    version: int
    created_at: datetime
    updated_at: datetime
    sealed: bytes = field(repr=False)

    @property
    def context(self) -> str:
        """What its sealing is bound to: a sealed value that is moved elsewhere does not open."""
        place = f"{self.scheme}://{self.host}:{self.port} at {self.site}"
        return f"secret {self.account}/{self.region}/{self.name} for {place}"

    def fits(self, place: Location, site: str) -> bool:
        """Return whether it may be handed to the connector that reads this place."""
        return (self.scheme, self.host, self.port, self.site) == (place.scheme.value, place.host, place.port, site)


def derived_arn(
    type_name: str, name: str, place: Location, *, account: str, region: str, partition: str, site: str
) -> str:
    """Return the ARN of a resource that was registered without one: the same for the same place of the same account.

    Types and ARNs have AWS's own form, so that policies written for AWS mean the same here.
    """
    unique = uuid.UUID(name_uuid("resource", account, region, type_name, site, place.key)).hex[:17]
    match type_name:
        case "S3":
            return f"arn:{partition}:s3:::{place.path[-1].decode(errors='replace') if place.path else name}"
        case "EBS":
            return f"arn:{partition}:ec2:{region}:{account}:volume/vol-{unique}"
        case "RDS":
            return f"arn:{partition}:rds:{region}:{account}:db:{name.lower()}"
        case "DynamoDB":
            return f"arn:{partition}:dynamodb:{region}:{account}:table/{name}"
        case "Storage Gateway":
            volume = f"gateway/sgw-{unique[:8].upper()}/volume/vol-{unique}"
            return f"arn:{partition}:storagegateway:{region}:{account}:{volume}"
        case _:
            return f"arn:{partition}:elasticfilesystem:{region}:{account}:file-system/fs-{unique}"


def refuse_bad_arn(arn: str, type_name: str, *, account: str, region: str) -> None:
    """Refuse an ARN that is not one of a resource of this type in this account and region.

    Raises:
        InvalidResourceError: it is not.
    """
    kind = RESOURCE_TYPES[type_name]
    try:
        parsed = Arn.parse(arn)
    except InvalidArnError as error:
        raise InvalidResourceError(str(error)) from error
    if parsed.service != kind.service or not parsed.resource.startswith(kind.prefix):
        raise InvalidResourceError(
            f"{arn} is not the ARN of a resource of type {type_name} (arn:aws:{kind.service}:...:{kind.prefix}...)"
        )
    partition = partition_of(region)
    # The ARNs of buckets name neither account nor region.
    where = (partition, "", "") if kind.name == "S3" else (partition, account, region)
    if (parsed.partition, parsed.account, parsed.region) != where:
        raise InvalidResourceError(f"{arn} is not in account {account}, region {region}, where it should be registered")


def refuse_unreadable(type_name: str, place: Location) -> None:
    """Refuse a type that cannot be read from such a place.

    Raises:
        InvalidResourceError: there is no connector for the two together.
    """
    if type_name not in RESOURCE_TYPES:
        raise InvalidResourceError(
            f"{type_name} is no resource type that can be backed up here; there are {', '.join(RESOURCE_TYPES)}"
        )
    schemes = _SCHEMES.get(type_name)
    if schemes is None:
        raise InvalidResourceError(
            f"resources of type {type_name} cannot be read by this release; there are {', '.join(_SCHEMES)}"
        )
    if place.scheme not in schemes:
        wanted = ", ".join(f"{scheme.value}://" for scheme in sorted(schemes))
        raise InvalidResourceError(f"a resource of type {type_name} is read from {wanted}, not from {place.key}")


def refuse_bad_tags(tags: Mapping[str, str]) -> None:
    """Refuse tags that AWS would not take (AWS General Reference, "Tagging AWS resources").

    Raises:
        InvalidResourceError: a key or value is too long, or a key begins with `aws:`.
        TooManyTagsError: there are more than fifty.
    """
    if len(tags) > MOST_TAGS:
        raise TooManyTagsError(f"a resource has at most {MOST_TAGS} tags, not {len(tags)}")
    for key, value in tags.items():
        if not 1 <= len(key) <= _LONGEST_TAG_KEY or len(value) > _LONGEST_TAG_VALUE:
            raise InvalidResourceError(
                f"tag {key[:140]!r}: keys have 1 to {_LONGEST_TAG_KEY} characters, values at most {_LONGEST_TAG_VALUE}"
            )
        if key.lower().startswith("aws:"):
            raise InvalidResourceError(f"tag {key!r}: keys that begin with aws: are reserved")


def refuse_if_changed(name: str, version: int, expected: int | None) -> None:
    """Refuse a conditional change of something that is not what the caller had seen.

    Raises:
        VersionChangedError: it has another version than `expected`.
    """
    if expected is not None and expected != version:
        raise VersionChangedError(f"{name} has version {version}, not {expected}: read it again and repeat the change")
