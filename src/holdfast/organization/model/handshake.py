"""Handshakes: questions between accounts, which are answered, cancelled or expire.

An INVITE asks an account to join. ENABLE_ALL_FEATURES asks the whole organization; each invited member gets a child of
it, APPROVE_ALL_FEATURES, and when all have accepted theirs the parent is OPEN for the management account to complete
(AWS Organizations User Guide, "Enabling all features for an organization").
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from holdfast.organization.errors import HandshakeAlreadyInStateError, InvalidHandshakeTransitionError
from holdfast.organization.model.tree import Organization


class HandshakeAction(StrEnum):
    """What a handshake asks for."""

    INVITE = "INVITE"
    ENABLE_ALL_FEATURES = "ENABLE_ALL_FEATURES"
    APPROVE_ALL_FEATURES = "APPROVE_ALL_FEATURES"
    ADD_ORGANIZATIONS_SERVICE_LINKED_ROLE = "ADD_ORGANIZATIONS_SERVICE_LINKED_ROLE"
    """Never sent; lists can be asked for it."""
    TRANSFER_RESPONSIBILITY = "TRANSFER_RESPONSIBILITY"
    """Never sent; lists can be asked for it."""


class HandshakeState(StrEnum):
    """How far a handshake has come."""

    REQUESTED = "REQUESTED"
    OPEN = "OPEN"
    CANCELED = "CANCELED"
    ACCEPTED = "ACCEPTED"
    DECLINED = "DECLINED"
    EXPIRED = "EXPIRED"


FOLLOWS: Final[Mapping[HandshakeState, frozenset[HandshakeState]]] = {
    HandshakeState.REQUESTED: frozenset(  # a parent that waits for its children
        {HandshakeState.OPEN, HandshakeState.CANCELED, HandshakeState.EXPIRED}
    ),
    HandshakeState.OPEN: frozenset(
        {HandshakeState.ACCEPTED, HandshakeState.DECLINED, HandshakeState.CANCELED, HandshakeState.EXPIRED}
    ),
    HandshakeState.CANCELED: frozenset(),
    HandshakeState.ACCEPTED: frozenset(),
    HandshakeState.DECLINED: frozenset(),
    HandshakeState.EXPIRED: frozenset(),
}


class PartyKind(StrEnum):
    """What takes part in a handshake."""

    ACCOUNT = "ACCOUNT"
    ORGANIZATION = "ORGANIZATION"
    EMAIL = "EMAIL"


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a handshake."""

    kind: PartyKind
    id: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing that a handshake tells its reader."""

    kind: str
    value: str
    details: tuple["Detail", ...] = ()


@dataclass(frozen=True, slots=True)
class Handshake:
    """One handshake, as it was sent and as it stands."""

    id: str
    organization_id: str
    management_account: str
    """Of the organization that sent it."""
    action: HandshakeAction
    state: HandshakeState
    """As written; what holds at an instant is `state_at`."""
    parties: tuple[Party, ...]
    details: tuple[Detail, ...]
    requested_at: datetime
    expires_at: datetime
    account_id: str | None = None
    """Who is asked; None if the whole organization is, or an account that is not known yet."""
    email: str | None = None
    """The address of an account that is not known yet."""
    parent_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the account is to be tagged with when it joins."""
    ended_at: datetime | None = None

    def state_at(self, now: datetime) -> HandshakeState:
        """Return the state that holds now: an open handshake expires by itself."""
        if FOLLOWS[self.state] and self.expires_at <= now:
            return HandshakeState.EXPIRED
        return self.state


def refuse_transition(handshake: Handshake, to: HandshakeState, *, now: datetime) -> None:
    """Refuse to answer a handshake in a way that its state does not allow.

    Raises:
        HandshakeAlreadyInStateError: it was answered so before.
        InvalidHandshakeTransitionError: it is over, in another way.
    """
    state = handshake.state_at(now)
    if state is to:
        raise HandshakeAlreadyInStateError
    if to not in FOLLOWS[state]:
        raise InvalidHandshakeTransitionError(
            f"You cannot perform this operation on a handshake in its current state ({state.value})."
        )


def invitation_details(organization: Organization, target: Party, notes: str | None) -> tuple[Detail, ...]:
    """Return what an invitation tells: who invites, into what, whom, and why."""
    sender = Detail(
        "ORGANIZATION",
        organization.id,
        (
            Detail("MASTER_EMAIL", organization.management_email),
            Detail("MASTER_NAME", organization.management_name),
            Detail("ORGANIZATION_FEATURE_SET", organization.feature_set.value),
        ),
    )
    receiver = Detail(target.kind.value, target.id)
    return (sender, receiver, *([Detail("NOTES", notes)] if notes else []))
