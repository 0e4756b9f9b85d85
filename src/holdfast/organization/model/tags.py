"""Tags on roots, units, accounts and policies: what may be written."""

from collections.abc import Iterable, Mapping
from typing import Final

from holdfast.organization.errors import Constraint, ConstraintError, InputReason, OrganizationInputError
from holdfast.organization.model.limits import Limits

_RESERVED: Final = "aws:"


def tags_of(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return given pairs of keys and values as tags.

    Raises:
        OrganizationInputError: a key comes twice, or is reserved.
    """
    tags: dict[str, str] = {}
    for key, value in pairs:
        refuse_reserved([key])
        if key in tags:
            raise OrganizationInputError(
                InputReason.DUPLICATE_TAG_KEY, f"Your request includes duplicate tag keys: {key}."
            )
        tags[key] = value
    return tags


def refuse_reserved(keys: Iterable[str]) -> None:
    """Refuse tag keys that nobody may write.

    Raises:
        OrganizationInputError: a key begins with `aws:`.
    """
    for key in keys:
        if key.lower().startswith(_RESERVED):
            raise OrganizationInputError(
                InputReason.INVALID_SYSTEM_TAGS_PARAMETER,
                f"The tag key {key} begins with {_RESERVED}, which is reserved. Use another key.",
            )


def refuse_too_many(present: Mapping[str, str], added: Mapping[str, str], limits: Limits) -> None:
    """Refuse to add tags to those that are there if that makes too many.

    Raises:
        ConstraintError: it does.
    """
    if len(present.keys() | added.keys()) > limits.tags:
        raise ConstraintError(
            Constraint.MAX_TAG_LIMIT_EXCEEDED, f"You have exceeded the number of tags allowed ({limits.tags})."
        )
