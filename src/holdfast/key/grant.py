"""Grants on a key: a principal may use it for some operations, beside what its policy and the account say.

A grant counts as an allowing statement of the key's policy; a denial anywhere still wins. It holds from the moment it
is made, so grant tokens are accepted and never needed. Rules: AWS Key Management Service Developer Guide, "Grants in
AWS KMS".
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from holdfast.core.errors import InvalidInputError, LimitExceededError, NotFoundError

OPERATIONS: Final = (
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "DescribeKey",
    "RetireGrant",
)
"""What can be granted here: CreateGrant cannot, so that nobody gives on what was given to them."""
MOST: Final = 5_000
"""Grants that a key may have; each is looked at when the key is used."""

PRINCIPAL: Final = re.compile(r"arn:[a-z-]+:(iam|sts)::[0-9]{12}:(root|user/.+|role/.+|assumed-role/.+)\Z")
NAME: Final = re.compile(r"[a-zA-Z0-9:/_-]{1,256}\Z")


class GrantNotFoundError(NotFoundError):
    """There is no such grant."""


class InvalidGrantError(InvalidInputError):
    """A grant says something that none can say here."""


class TooManyGrantsError(LimitExceededError):
    """The key has as many grants as it may have."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one principal may do with one key."""

    id: str
    token: str = field(repr=False)
    key_id: str
    name: str
    grantee: str
    retiring: str | None
    operations: tuple[str, ...]
    subset: Mapping[str, str]
    """Pairs that the encryption context must have."""
    equals: Mapping[str, str] | None
    """The pairs that the encryption context must consist of; None where it is free."""
    issuing_account: str
    created_at: datetime

    def says_the_same_as(self, other: "Grant") -> bool:
        """Return whether two grants differ in nothing but their ids."""
        return _said(self) == _said(other)


def _said(grant: Grant) -> tuple[object, ...]:
    rules = (grant.operations, dict(grant.subset), None if grant.equals is None else dict(grant.equals))
    return grant.name, grant.grantee, grant.retiring, rules


def statements(grants: Sequence[Grant]) -> list[dict[str, Any]]:
    """Return the statements of a key policy that say what these grants say."""
    return [statement for grant in grants for statement in _statements(grant)]


def _statements(grant: Grant) -> list[dict[str, Any]]:
    uses = [f"kms:{name}" for name in grant.operations if name not in {"RetireGrant", "DescribeKey"}]
    condition: dict[str, dict[str, Any]] = {}
    pairs = grant.subset if grant.equals is None else grant.equals
    if pairs:
        condition["StringEquals"] = {f"kms:EncryptionContext:{key}": value for key, value in pairs.items()}
    if grant.equals:
        condition["ForAllValues:StringEquals"] = {"kms:EncryptionContextKeys": sorted(grant.equals)}
    found = [_allow(f"grant{grant.id}", grant.grantee, uses, condition)] if uses else []
    if "DescribeKey" in grant.operations:
        found.append(_allow(f"describe{grant.id}", grant.grantee, ["kms:DescribeKey"], {}))
    return found


def _allow(sid: str, principal: str, actions: list[str], condition: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"AWS": principal},
        "Action": actions,
        "Resource": "*",
        "Condition": condition,
    }


def policy_with(policy: str, grants: Sequence[Grant]) -> str:
    """Return a key's policy with what its grants allow."""
    if not grants:
        return policy
    document = json.loads(policy)
    own = document.get("Statement", [])
    document["Statement"] = [*(own if isinstance(own, list) else [own]), *statements(grants)]
    return json.dumps(document)


def retirers(grant: Grant) -> tuple[str, ...]:
    """Return who may retire a grant without a policy that lets them."""
    own = (grant.grantee,) if "RetireGrant" in grant.operations else ()
    return (*((grant.retiring,) if grant.retiring else ()), *own)
