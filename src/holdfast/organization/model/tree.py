"""The tree: an organization, its root, units and accounts, and the paths between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from holdfast.organization.errors import Constraint, ConstraintError
from holdfast.organization.model.limits import Limits

ROOT_NAME: Final = "Root"


class FeatureSet(StrEnum):
    """What an organization is used for: everything, or one bill only (then no policies)."""

    ALL = "ALL"
    CONSOLIDATED_BILLING = "CONSOLIDATED_BILLING"


class AccountStatus(StrEnum):
    """Whether an account can be used; a closed one is suspended."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"


class JoinedMethod(StrEnum):
    """How an account came into its organization."""

    INVITED = "INVITED"
    CREATED = "CREATED"


class NodeKind(StrEnum):
    """What a node of the tree is."""

    ROOT = "ROOT"
    UNIT = "ORGANIZATIONAL_UNIT"
    ACCOUNT = "ACCOUNT"


@dataclass(frozen=True, slots=True)
class Organization:
    """One organization: the accounts under one management account."""

    id: str
    management_account: str
    management_email: str
    management_name: str
    root_id: str
    feature_set: FeatureSet
    created_at: datetime

    @property
    def has_all_features(self) -> bool:
        """Whether policies and trusted access can be used."""
        return self.feature_set is FeatureSet.ALL


@dataclass(frozen=True, slots=True)
class Unit:
    """The root or an organizational unit: what accounts and units stand under."""

    id: str
    organization_id: str
    parent_id: str | None
    """None for the root."""
    name: str
    depth: int
    """0 for the root."""
    path: str
    """`o-1/r-1/ou-1/`, down to and with this unit; a unit never moves."""
    created_at: datetime

    @property
    def kind(self) -> NodeKind:
        """Whether this is the root or a unit."""
        return NodeKind.ROOT if self.parent_id is None else NodeKind.UNIT


@dataclass(frozen=True, slots=True)
class Account:
    """One account, in an organization or on its own."""

    id: str
    name: str
    email: str
    status: AccountStatus
    created_at: datetime
    alias: str | None = None
    external_id: str | None = None
    organization_id: str | None = None
    unit_id: str | None = None
    """The unit or root it stands under now."""
    unit_path: str | None = None
    """The path of that unit."""
    placed_at: datetime | None = None
    """Since when it stands there."""
    joined_method: JoinedMethod | None = None
    joined_at: datetime | None = None
    closed_at: datetime | None = None

    @property
    def path(self) -> str | None:
        """`o-1/r-1/ou-1/123456789012/`, down to and with this account."""
        return None if self.unit_path is None else child_path(self.unit_path, self.id)


@dataclass(frozen=True, slots=True)
class Node:
    """One step on the way from the root to an account."""

    id: str
    kind: NodeKind
    name: str


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an account stood in the tree, since when until when."""

    account_id: str
    organization_id: str
    unit_id: str
    path: str
    """The path of the unit, without the account."""
    starts_at: datetime
    ends_at: datetime | None
    """None while it still holds."""


_KINDS: Final = (
    (re.compile(r"r-[0-9a-z]{4,32}"), NodeKind.ROOT),
    (re.compile(r"ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}"), NodeKind.UNIT),
    (re.compile(r"[0-9]{12}"), NodeKind.ACCOUNT),
)


def kind_of(node_id: str) -> NodeKind | None:
    """Return what kind of node has an id of this form; None if none has."""
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(node_id)), None)


def child_path(parent_path: str, child_id: str) -> str:
    """Return the path of what stands directly under a node."""
    return f"{parent_path}{child_id}/"


def node_ids(path: str) -> Sequence[str]:
    """Return the ids on a path from the root on, without the organization's."""
    return path.rstrip("/").split("/")[1:]


def refuse_another_level(parent: Unit, limits: Limits) -> None:
    """Refuse a unit under `parent` if the tree would become too deep.

    Raises:
        ConstraintError: it would.
    """
    if parent.depth >= limits.depth:
        raise ConstraintError(
            Constraint.OU_DEPTH_LIMIT_EXCEEDED,
            "You cannot add an organizational unit to the specified parent because it would exceed the max depth "
            f"allowed ({limits.depth} levels below the root).",
        )


def refuse_too_many_units(units: int, limits: Limits) -> None:
    """Refuse one more unit where there are `units` of them.

    Raises:
        ConstraintError: there are as many as there may be.
    """
    if units >= limits.units:
        raise ConstraintError(
            Constraint.OU_NUMBER_LIMIT_EXCEEDED,
            f"You have exceeded the allowed number of organizational units ({limits.units}).",
        )


def refuse_too_many_accounts(accounts: int, limits: Limits) -> None:
    """Refuse one more account where there are `accounts` of them, open invitations and closed accounts included.

    Raises:
        ConstraintError: there are as many as there may be.
    """
    if accounts >= limits.accounts:
        raise ConstraintError(
            Constraint.ACCOUNT_NUMBER_LIMIT_EXCEEDED,
            f"You have exceeded the allowed number of AWS accounts ({limits.accounts}).",
        )
