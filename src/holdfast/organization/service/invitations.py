"""Handshakes: inviting accounts, and asking the members to let the organization have all features."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from holdfast.core import ids
from holdfast.core.paging import Page, Position
from holdfast.organization.errors import (
    DuplicateHandshakeError,
    HandshakeConstraint,
    HandshakeConstraintError,
    HandshakeNotFoundError,
    InputReason,
    OrganizationAccessDeniedError,
    OrganizationInputError,
)
from holdfast.organization.model.handshake import (
    Detail,
    Handshake,
    HandshakeAction,
    HandshakeState,
    Party,
    PartyKind,
    invitation_details,
    refuse_transition,
)
from holdfast.organization.model.limits import LIMITS, Limits
from holdfast.organization.model.names import account_id_problem, email_problem
from holdfast.organization.model.tags import refuse_too_many
from holdfast.organization.model.tree import Account, AccountStatus, FeatureSet, JoinedMethod, Organization
from holdfast.organization.service import membership
from holdfast.organization.service.accounts import remove_account, take_in
from holdfast.organization.service.tree import get_root, lock
from holdfast.organization.store import accounts, handshakes, tree

_A_DAY = timedelta(days=1)


def invite(
    tx: sa.Connection,
    organization: Organization,
    target: Party,
    notes: str | None = None,
    tags: Mapping[str, str] | None = None,
    *,
    now: datetime,
    limits: Limits = LIMITS,
) -> Handshake:
    """Ask an account, named by id or by e-mail address, to join the organization.

    An address that no account has yet waits for the account that will have it; whether one that has it is bound
    elsewhere is only told to that account, when it accepts.

    Raises:
        OrganizationInputError: the target is malformed, or no account has this id.
        HandshakeConstraintError: it is in this organization already or manages another, there are too many accounts or
            invitations, or the organization is asking its members for all features.
        DuplicateHandshakeError: it was asked and has not answered yet.
        ConstraintError: there are too many tags.
    """
    lock(tx, organization)
    refuse_too_many({}, tags or {}, limits)
    account = _target_account(tx, target)
    if account is not None and target.kind is PartyKind.ACCOUNT:
        _refuse_bound(tx, organization, account)
    email = target.id.lower() if target.kind is PartyKind.EMAIL else ""
    account_id = None if account is None else account.id
    if handshakes.find_open_invitation(tx, organization.id, account_id, email, now=now) is not None:
        raise DuplicateHandshakeError
    if handshakes.find_open_migration(tx, organization.id, now=now) is not None:
        raise HandshakeConstraintError(
            HandshakeConstraint.INVITE_DISABLED_DURING_ENABLE_ALL_FEATURES,
            "You can't invite accounts while the organization is in the process of enabling all features.",
        )
    _refuse_too_many_invitations(tx, organization, now=now, limits=limits)
    handshake = Handshake(
        id=ids.handshake_id(),
        organization_id=organization.id,
        management_account=organization.management_account,
        action=HandshakeAction.INVITE,
        state=HandshakeState.OPEN,
        parties=(Party(PartyKind.ORGANIZATION, organization.id.removeprefix("o-")), target),
        details=invitation_details(organization, target, notes),
        requested_at=now,
        expires_at=now + limits.invitation_life,
        account_id=account_id,
        email=email or None,
        tags=dict(tags or {}),
    )
    handshakes.insert_handshakes(tx, [handshake])
    return handshake


def enable_all_features(
    tx: sa.Connection, organization: Organization, *, now: datetime, limits: Limits = LIMITS
) -> Handshake:
    """Ask every invited member to let the organization have all features; invitations that wait are cancelled.

    When all have approved (at once, where there is none), the management account completes it by accepting.

    Raises:
        HandshakeConstraintError: it has them already, or its members are being asked.
    """
    lock(tx, organization)
    if organization.has_all_features:
        raise HandshakeConstraintError(
            HandshakeConstraint.ORGANIZATION_ALREADY_HAS_ALL_FEATURES,
            "All features are already enabled on this organization.",
        )
    if handshakes.find_open_migration(tx, organization.id, now=now) is not None:
        raise HandshakeConstraintError(
            HandshakeConstraint.ORGANIZATION_IS_ALREADY_PENDING_ALL_FEATURES_MIGRATION,
            "The organization has already started the process to enable all features.",
        )
    sender = Party(PartyKind.ORGANIZATION, organization.id.removeprefix("o-"))
    parent = Handshake(
        id=ids.handshake_id(),
        organization_id=organization.id,
        management_account=organization.management_account,
        action=HandshakeAction.ENABLE_ALL_FEATURES,
        state=HandshakeState.REQUESTED,
        parties=(sender,),
        details=(Detail("ORGANIZATION", organization.id),),
        requested_at=now,
        expires_at=now + limits.features_life,
    )
    children = [
        replace(
            parent,
            id=ids.handshake_id(),
            action=HandshakeAction.APPROVE_ALL_FEATURES,
            state=HandshakeState.OPEN,
            parties=(sender, Party(PartyKind.ACCOUNT, account_id)),
            details=(*parent.details, Detail("PARENT_HANDSHAKE", parent.id)),
            account_id=account_id,
            parent_id=parent.id,
        )
        for account_id in accounts.invited_members(tx, organization.id, organization.management_account)
    ]
    if not children:
        parent = replace(parent, state=HandshakeState.OPEN)
    handshakes.cancel_all_from(tx, organization.id, now=now)
    handshakes.insert_handshakes(tx, [parent, *children])
    return parent


def accept(
    tx: sa.Connection, account_id: str, handshake_id: str, *, now: datetime, limits: Limits = LIMITS
) -> Handshake:
    """Accept a handshake as the account that was asked, or complete one as the management account that sent it.

    An account that is a member of another organization leaves that one first, under the rules for leaving.

    Raises:
        HandshakeNotFoundError: there is none that this account is party to.
        HandshakeAlreadyInStateError: it was accepted before.
        InvalidHandshakeTransitionError: it is over, or members have not approved yet.
        HandshakeConstraintError: the account is bound elsewhere, or the organization is full.
    """
    handshake = _mine(tx, account_id, handshake_id)
    handshake = _again(tx, handshake)
    organization = tree.find_organization(tx, handshake.organization_id)
    if organization is None:
        raise HandshakeNotFoundError
    refuse_transition(handshake, HandshakeState.ACCEPTED, now=now)
    if handshake.action is HandshakeAction.ENABLE_ALL_FEATURES:
        _complete_features(tx, organization, account_id)
    elif not _is_asked(tx, handshake, account_id):
        raise OrganizationAccessDeniedError
    elif handshake.action is HandshakeAction.INVITE:
        _join(tx, organization, handshake, account_id, now=now, limits=limits)
    accepted = _end(tx, handshake, HandshakeState.ACCEPTED, now=now)
    if handshake.action is HandshakeAction.APPROVE_ALL_FEATURES:
        handshakes.open_if_all_approved(tx, organization.id, now=now)
    return accepted


def decline(tx: sa.Connection, account_id: str, handshake_id: str, *, now: datetime) -> Handshake:
    """Decline a handshake as the account that was asked.

    Raises:
        HandshakeNotFoundError: there is none that this account is party to.
        OrganizationAccessDeniedError: it was sent by this account's organization, which cancels instead.
        HandshakeAlreadyInStateError: it was declined before.
        InvalidHandshakeTransitionError: it is over.
    """
    handshake = _mine(tx, account_id, handshake_id)
    if not _is_asked(tx, handshake, account_id):
        raise OrganizationAccessDeniedError
    handshake = _again(tx, handshake)
    refuse_transition(handshake, HandshakeState.DECLINED, now=now)
    return _end(tx, handshake, HandshakeState.DECLINED, now=now)


def cancel(tx: sa.Connection, account_id: str, handshake_id: str, *, now: datetime) -> Handshake:
    """Take a handshake back, with its children, as the management account of the organization that sent it.

    Raises:
        HandshakeNotFoundError: there is none that this account is party to.
        OrganizationAccessDeniedError: another account sent it.
        HandshakeAlreadyInStateError: it was cancelled before.
        InvalidHandshakeTransitionError: it is over.
    """
    handshake = _mine(tx, account_id, handshake_id)
    if handshake.management_account != account_id:
        raise OrganizationAccessDeniedError
    handshake = _again(tx, handshake)
    refuse_transition(handshake, HandshakeState.CANCELED, now=now)
    handshakes.cancel_children(tx, handshake.id, now=now)
    return _end(tx, handshake, HandshakeState.CANCELED, now=now)


def get_handshake(tx: sa.Connection, account_id: str, handshake_id: str) -> Handshake:
    """Return a handshake that this account was sent, or that its organization sent and it may read.

    Raises:
        HandshakeNotFoundError: there is none.
    """
    return _mine(tx, account_id, handshake_id)


def list_sent(
    tx: sa.Connection,
    organization: Organization,
    *,
    action: HandshakeAction | None = None,
    parent_id: str | None = None,
    now: datetime,
    after: Position,
    limit: int,
    limits: Limits = LIMITS,
) -> Page[Handshake]:
    """Return a page of what the organization sent, of one action or one parent if given, oldest first.

    What is over is shown for a while longer.

    Raises:
        OrganizationInputError: both filters are given.
    """
    _refuse_two_filters(action, parent_id)
    return handshakes.handshakes_from(
        tx,
        organization.id,
        action=action,
        parent_id=parent_id,
        shown_since=now - limits.handshakes_shown,
        after=after,
        limit=limit,
    )


def list_received(
    tx: sa.Connection,
    account_id: str,
    *,
    action: HandshakeAction | None = None,
    parent_id: str | None = None,
    now: datetime,
    after: Position,
    limit: int,
    limits: Limits = LIMITS,
) -> Page[Handshake]:
    """Return a page of what an account was sent, of one action or one parent if given, oldest first.

    What is over is shown for a while longer.

    Raises:
        OrganizationInputError: both filters are given.
    """
    _refuse_two_filters(action, parent_id)
    account = accounts.find_account(tx, account_id)
    return handshakes.handshakes_to(
        tx,
        account_id,
        "" if account is None else account.email,
        action=action,
        parent_id=parent_id,
        shown_since=now - limits.handshakes_shown,
        after=after,
        limit=limit,
    )


def _target_account(tx: sa.Connection, target: Party) -> Account | None:
    if target.kind is PartyKind.EMAIL:
        problem = email_problem(target.id)
        if problem is not None:
            raise OrganizationInputError(
                InputReason.INVALID_EMAIL_ADDRESS_TARGET,
                f"You specified an invalid email address for the invited account owner. {problem}",
            )
        return accounts.find_account_by_email(tx, target.id)
    if target.kind is PartyKind.ORGANIZATION:
        raise OrganizationInputError(
            InputReason.INVALID_PARTY_TYPE_TARGET,
            "You specified an invalid party type as the target parameter. Name an ACCOUNT or an EMAIL.",
        )
    problem = account_id_problem(target.id)
    if problem is not None:
        raise OrganizationInputError(InputReason.INVALID_PATTERN, problem)
    account = accounts.find_account(tx, target.id)
    if account is None:
        raise OrganizationInputError(
            InputReason.INVALID_PARTY_TYPE_TARGET, f"You specified an account that doesn't exist: {target.id}."
        )
    return account


def _refuse_bound(tx: sa.Connection, organization: Organization, account: Account) -> None:
    if account.organization_id is None:
        return
    other = tree.find_organization_of(tx, account.id)
    if account.organization_id == organization.id or (other is not None and other.management_account == account.id):
        raise HandshakeConstraintError(
            HandshakeConstraint.ALREADY_IN_AN_ORGANIZATION,
            "The AWS account is already a member of an organization.",
        )


def _refuse_too_many_invitations(
    tx: sa.Connection, organization: Organization, *, now: datetime, limits: Limits
) -> None:
    present = accounts.count_accounts(tx, organization.id)
    if present + handshakes.count_open_invitations(tx, organization.id, now=now) >= limits.accounts:
        raise HandshakeConstraintError(
            HandshakeConstraint.ACCOUNT_NUMBER_LIMIT_EXCEEDED,
            f"You have exceeded the allowed number of AWS accounts ({limits.accounts}).",
        )
    if handshakes.count_invitations_since(tx, organization.id, now - _A_DAY) >= limits.invitations_a_day:
        raise HandshakeConstraintError(
            HandshakeConstraint.HANDSHAKE_RATE_LIMIT_EXCEEDED,
            f"You have exceeded the number of invitations that you can send in one day ({limits.invitations_a_day}).",
        )


def _join(
    tx: sa.Connection,
    organization: Organization,
    handshake: Handshake,
    account_id: str,
    *,
    now: datetime,
    limits: Limits,
) -> None:
    account = accounts.lock_account(tx, account_id)
    if account is None or account.status is not AccountStatus.ACTIVE:
        raise OrganizationAccessDeniedError("A closed account can't join an organization.")
    _refuse_bound(tx, organization, account)
    if accounts.count_accounts(tx, organization.id) >= limits.accounts:
        raise HandshakeConstraintError(
            HandshakeConstraint.ACCOUNT_NUMBER_LIMIT_EXCEEDED,
            f"The organization has as many accounts as it may have ({limits.accounts}).",
        )
    left = tree.find_organization_of(tx, account_id)
    if left is not None:
        remove_account(tx, left, account_id, now=now, limits=limits)
    root = get_root(tx, organization)
    take_in(tx, organization, account, root, JoinedMethod.INVITED, handshake.tags, now=now, limits=limits)


def _mine(tx: sa.Connection, account_id: str, handshake_id: str) -> Handshake:
    handshake = handshakes.find_handshake(tx, handshake_id)
    if handshake is None:
        raise HandshakeNotFoundError
    if handshake.management_account == account_id or _is_asked(tx, handshake, account_id):
        return handshake
    reader = membership.find_membership(tx, account_id)
    if reader is None or reader.organization.id != handshake.organization_id or not reader.sees_everything:
        raise HandshakeNotFoundError
    return handshake


def _is_asked(tx: sa.Connection, handshake: Handshake, account_id: str) -> bool:
    if handshake.account_id is not None or handshake.email is None:
        return handshake.account_id == account_id
    account = accounts.find_account(tx, account_id)
    return account is not None and account.email.lower() == handshake.email


def _again(tx: sa.Connection, handshake: Handshake) -> Handshake:
    """Return the handshake as it stands when nobody else can answer it any more until this transaction ends."""
    tree.lock_organization(tx, handshake.organization_id)
    return handshakes.find_handshake(tx, handshake.id) or handshake


def _complete_features(tx: sa.Connection, organization: Organization, account_id: str) -> None:
    if account_id != organization.management_account:
        raise OrganizationAccessDeniedError
    tree.set_feature_set(tx, organization.id, FeatureSet.ALL)


def _end(tx: sa.Connection, handshake: Handshake, state: HandshakeState, *, now: datetime) -> Handshake:
    handshakes.set_state(tx, handshake.id, state, ended_at=now)
    return replace(handshake, state=state, ended_at=now)


def _refuse_two_filters(action: HandshakeAction | None, parent_id: str | None) -> None:
    if action is not None and parent_id is not None:
        raise OrganizationInputError(InputReason.MAX_LIMIT_EXCEEDED_FILTER, "You specified too many filter parameters.")
