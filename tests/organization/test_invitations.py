"""Handshakes: invitations and the way to all features, on both databases."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa
from tests.organization.builders import DAY, HOUR, MANAGEMENT, NOON, an_account

from holdfast.organization.errors import (
    ConstraintError,
    DuplicateHandshakeError,
    HandshakeAlreadyInStateError,
    HandshakeConstraint,
    HandshakeConstraintError,
    HandshakeNotFoundError,
    InputReason,
    InvalidHandshakeTransitionError,
    OrganizationAccessDeniedError,
    OrganizationInputError,
)
from holdfast.organization.model.handshake import FOLLOWS, Handshake, HandshakeAction, HandshakeState, Party, PartyKind
from holdfast.organization.model.limits import Limits
from holdfast.organization.model.tree import FeatureSet, JoinedMethod, Organization
from holdfast.organization.service import accounts, delegation, invitations, membership, tags, tree

GUEST = "111122223333"
OTHER = "444455556666"


@pytest.fixture
def guest(tx: sa.Connection) -> Party:
    """An account that stands on its own."""
    accounts.register_account(tx, GUEST, "guest", "Guest@example.com", now=NOON)
    return Party(PartyKind.ACCOUNT, GUEST)


def test_an_invited_account_joins_under_the_root_with_its_tags(
    tx: sa.Connection, organization: Organization, guest: Party
) -> None:
    sent = invitations.invite(tx, organization, guest, "join us", {"team": "web"}, now=NOON)
    received = invitations.list_received(tx, GUEST, now=NOON, after=None, limit=20)
    assert received.items == (sent,)
    assert [(d.kind, d.value) for d in sent.details] == [
        ("ORGANIZATION", organization.id),
        ("ACCOUNT", GUEST),
        ("NOTES", "join us"),
    ]
    accepted = invitations.accept(tx, GUEST, sent.id, now=NOON + DAY)
    assert accepted.state is HandshakeState.ACCEPTED
    joined = accounts.get_account(tx, organization, GUEST)
    assert (joined.joined_method, joined.joined_at) == (JoinedMethod.INVITED, NOON + DAY)
    assert joined.unit_id == organization.root_id
    assert tags.tags_on(tx, organization, GUEST) == {"team": "web"}


def test_an_address_waits_for_the_account_that_will_have_it(tx: sa.Connection, organization: Organization) -> None:
    sent = invitations.invite(tx, organization, Party(PartyKind.EMAIL, "Later@Example.com"), now=NOON)
    assert sent.account_id is None
    accounts.register_account(tx, GUEST, "guest", "later@example.com", now=NOON + HOUR)
    accounts.register_account(tx, OTHER, "other", "other@example.com", now=NOON + HOUR)
    with pytest.raises(HandshakeNotFoundError):
        invitations.accept(tx, OTHER, sent.id, now=NOON + HOUR)
    assert invitations.list_received(tx, GUEST, now=NOON, after=None, limit=20).items == (sent,)
    invitations.accept(tx, GUEST, sent.id, now=NOON + HOUR)
    assert membership.membership_of(tx, GUEST).organization == organization


def test_an_invitation_expires_by_itself(tx: sa.Connection, organization: Organization, guest: Party) -> None:
    sent = invitations.invite(tx, organization, guest, now=NOON)
    late = NOON + 15 * DAY
    with pytest.raises(InvalidHandshakeTransitionError, match="EXPIRED"):
        invitations.accept(tx, GUEST, sent.id, now=late)
    assert sent.state_at(late) is HandshakeState.EXPIRED
    assert invitations.invite(tx, organization, guest, now=late).state_at(late) is HandshakeState.OPEN


@pytest.mark.parametrize("answer", ["accept", "decline", "cancel"])
def test_a_handshake_is_answered_once(tx: sa.Connection, organization: Organization, guest: Party, answer: str) -> None:
    sent = invitations.invite(tx, organization, guest, now=NOON)
    answers: dict[str, Callable[[], Handshake]] = {
        "accept": lambda: invitations.accept(tx, GUEST, sent.id, now=NOON),
        "decline": lambda: invitations.decline(tx, GUEST, sent.id, now=NOON),
        "cancel": lambda: invitations.cancel(tx, MANAGEMENT, sent.id, now=NOON),
    }
    answers[answer]()
    for name, repeat in answers.items():
        with pytest.raises(HandshakeAlreadyInStateError if name == answer else InvalidHandshakeTransitionError):
            repeat()


def test_each_side_answers_its_own_way(tx: sa.Connection, organization: Organization, guest: Party) -> None:
    sent = invitations.invite(tx, organization, guest, now=NOON)
    with pytest.raises(OrganizationAccessDeniedError):
        invitations.accept(tx, MANAGEMENT, sent.id, now=NOON)
    with pytest.raises(OrganizationAccessDeniedError):
        invitations.decline(tx, MANAGEMENT, sent.id, now=NOON)
    with pytest.raises(OrganizationAccessDeniedError):
        invitations.cancel(tx, GUEST, sent.id, now=NOON)


def test_only_the_parties_see_a_handshake(tx: sa.Connection, organization: Organization, guest: Party) -> None:
    sent = invitations.invite(tx, organization, guest, now=NOON)
    member = an_account(tx, organization, "member")
    assert invitations.get_handshake(tx, GUEST, sent.id) == sent
    assert invitations.get_handshake(tx, MANAGEMENT, sent.id) == sent
    with pytest.raises(HandshakeNotFoundError):
        invitations.get_handshake(tx, member, sent.id)
    delegation.enable_service(tx, organization, "backup.amazonaws.com", now=NOON)
    delegation.register_administrator(tx, organization, member, "backup.amazonaws.com", now=NOON)
    assert invitations.get_handshake(tx, member, sent.id) == sent
    with pytest.raises(HandshakeNotFoundError):
        invitations.get_handshake(tx, MANAGEMENT, "h-00000000")


def test_what_is_over_is_shown_for_thirty_days(tx: sa.Connection, organization: Organization, guest: Party) -> None:
    sent = invitations.invite(tx, organization, guest, now=NOON)
    invitations.decline(tx, GUEST, sent.id, now=NOON + DAY)

    def shown(days: int) -> int:
        now = NOON + days * DAY
        sent_by = invitations.list_sent(tx, organization, now=now, after=None, limit=20).items
        assert sent_by == invitations.list_received(tx, GUEST, now=now, after=None, limit=20).items
        return len(sent_by)

    assert [shown(1), shown(30), shown(31)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Party(PartyKind.ACCOUNT, "12"), InputReason.INVALID_PATTERN),
        (Party(PartyKind.ACCOUNT, "999999999999"), InputReason.INVALID_PARTY_TYPE_TARGET),
        (Party(PartyKind.ORGANIZATION, "o-exampleorgid"), InputReason.INVALID_PARTY_TYPE_TARGET),
        (Party(PartyKind.EMAIL, "no.body"), InputReason.INVALID_EMAIL_ADDRESS_TARGET),
    ],
    ids=str,
)
def test_who_cannot_be_invited(
    tx: sa.Connection, organization: Organization, target: Party, reason: InputReason
) -> None:
    with pytest.raises(OrganizationInputError) as refused:
        invitations.invite(tx, organization, target, now=NOON)
    assert refused.value.reason is reason


def test_members_and_the_invited_are_not_invited_again(
    tx: sa.Connection, organization: Organization, guest: Party
) -> None:
    invitations.invite(tx, organization, guest, now=NOON)
    for again in (guest, Party(PartyKind.EMAIL, "guest@example.com")):
        with pytest.raises(DuplicateHandshakeError):
            invitations.invite(tx, organization, again, now=NOON)
    member = Party(PartyKind.ACCOUNT, an_account(tx, organization, "member"))
    with pytest.raises(HandshakeConstraintError) as refused:
        invitations.invite(tx, organization, member, now=NOON)
    assert refused.value.reason is HandshakeConstraint.ALREADY_IN_AN_ORGANIZATION


def test_an_address_does_not_tell_whether_its_account_is_bound(tx: sa.Connection, organization: Organization) -> None:
    member = an_account(tx, organization, "member")
    sent = invitations.invite(tx, organization, Party(PartyKind.EMAIL, "member@example.com"), now=NOON)
    with pytest.raises(HandshakeConstraintError) as refused:
        invitations.accept(tx, member, sent.id, now=NOON)
    assert refused.value.reason is HandshakeConstraint.ALREADY_IN_AN_ORGANIZATION


def test_open_invitations_end_when_all_features_are_asked_for(tx: sa.Connection, guest: Party) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    sent = invitations.invite(tx, billing, guest, now=NOON)
    invitations.enable_all_features(tx, billing, now=NOON)
    assert invitations.get_handshake(tx, GUEST, sent.id).state is HandshakeState.CANCELED


def test_invitations_count_as_accounts_while_they_are_open(
    tx: sa.Connection, organization: Organization, guest: Party
) -> None:
    two = Limits(accounts=2)
    sent = invitations.invite(tx, organization, guest, now=NOON, limits=two)
    with pytest.raises(HandshakeConstraintError) as refused:
        invitations.invite(tx, organization, Party(PartyKind.EMAIL, "x@example.com"), now=NOON, limits=two)
    assert refused.value.reason is HandshakeConstraint.ACCOUNT_NUMBER_LIMIT_EXCEEDED
    with pytest.raises(ConstraintError):
        accounts.create_account(tx, organization, "a", "a@example.com", now=NOON, limits=two)
    invitations.decline(tx, GUEST, sent.id, now=NOON)
    invitations.invite(tx, organization, Party(PartyKind.EMAIL, "x@example.com"), now=NOON, limits=two)
    again = invitations.invite(tx, organization, guest, now=NOON, limits=Limits(accounts=3))
    with pytest.raises(HandshakeConstraintError) as full:
        invitations.accept(tx, GUEST, again.id, now=NOON, limits=Limits(accounts=1))
    assert full.value.reason is HandshakeConstraint.ACCOUNT_NUMBER_LIMIT_EXCEEDED


def test_invitations_a_day_are_limited(tx: sa.Connection, organization: Organization) -> None:
    few = Limits(accounts=2, least_invitations_a_day=2)

    def ask(n: int, days: int = 0) -> None:
        target = Party(PartyKind.EMAIL, f"a{n}@example.com")
        sent = invitations.invite(tx, organization, target, now=NOON + days * DAY, limits=few)
        invitations.cancel(tx, MANAGEMENT, sent.id, now=NOON + days * DAY)

    ask(1)
    ask(2)
    with pytest.raises(HandshakeConstraintError) as refused:
        ask(3)
    assert refused.value.reason is HandshakeConstraint.HANDSHAKE_RATE_LIMIT_EXCEEDED
    ask(3, days=1)


def test_a_member_of_another_organization_changes_over(
    tx: sa.Connection, organization: Organization, guest: Party
) -> None:
    accounts.register_account(tx, OTHER, "other", "other@example.com", now=NOON)
    second = tree.create_organization(tx, OTHER, now=NOON)
    invitations.accept(tx, GUEST, invitations.invite(tx, second, guest, now=NOON).id, now=NOON)
    invitations.accept(tx, GUEST, invitations.invite(tx, organization, guest, now=NOON).id, now=NOON + HOUR)
    assert membership.membership_of(tx, GUEST).organization == organization
    assert tree.path_of(tx, GUEST, NOON)[0].id == second.root_id
    with pytest.raises(HandshakeConstraintError) as refused:
        invitations.invite(tx, organization, Party(PartyKind.ACCOUNT, OTHER), now=NOON)
    assert refused.value.reason is HandshakeConstraint.ALREADY_IN_AN_ORGANIZATION


def test_a_closed_account_joins_nothing(tx: sa.Connection, organization: Organization, guest: Party) -> None:
    accounts.register_account(tx, OTHER, "other", "other@example.com", now=NOON)
    second = tree.create_organization(tx, OTHER, now=NOON)
    invitations.accept(tx, GUEST, invitations.invite(tx, second, guest, now=NOON).id, now=NOON)
    sent = invitations.invite(tx, organization, guest, now=NOON)
    accounts.close_account(tx, second, GUEST, now=NOON)
    with pytest.raises(OrganizationAccessDeniedError, match="closed"):
        invitations.accept(tx, GUEST, sent.id, now=NOON)


def test_created_members_need_not_approve_all_features(tx: sa.Connection) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    member = an_account(tx, billing, "created")
    parent = invitations.enable_all_features(tx, billing, now=NOON)
    assert parent.state is HandshakeState.OPEN
    assert not membership.management_of(tx, MANAGEMENT).has_all_features
    with pytest.raises(HandshakeNotFoundError):
        invitations.accept(tx, member, parent.id, now=NOON)
    invitations.accept(tx, MANAGEMENT, parent.id, now=NOON)
    now_all = membership.management_of(tx, MANAGEMENT)
    assert now_all.has_all_features
    with pytest.raises(HandshakeConstraintError) as refused:
        invitations.enable_all_features(tx, now_all, now=NOON)
    assert refused.value.reason is HandshakeConstraint.ORGANIZATION_ALREADY_HAS_ALL_FEATURES


def test_all_features_need_every_invited_member(tx: sa.Connection, guest: Party) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    accounts.register_account(tx, OTHER, "other", "other@example.com", now=NOON)
    for member in (guest, Party(PartyKind.ACCOUNT, OTHER)):
        invitations.accept(tx, member.id, invitations.invite(tx, billing, member, now=NOON).id, now=NOON)
    parent = invitations.enable_all_features(tx, billing, now=NOON)
    children = invitations.list_sent(tx, billing, parent_id=parent.id, now=NOON, after=None, limit=20).items
    assert {child.account_id for child in children} == {GUEST, OTHER}
    approve = HandshakeAction.APPROVE_ALL_FEATURES
    for asked in (GUEST, OTHER):
        with pytest.raises(InvalidHandshakeTransitionError, match="REQUESTED"):
            invitations.accept(tx, MANAGEMENT, parent.id, now=NOON)
        (mine,) = invitations.list_received(tx, asked, action=approve, now=NOON, after=None, limit=20).items
        invitations.accept(tx, asked, mine.id, now=NOON)
    assert invitations.get_handshake(tx, MANAGEMENT, parent.id).state is HandshakeState.OPEN
    invitations.accept(tx, MANAGEMENT, parent.id, now=NOON)
    assert membership.management_of(tx, MANAGEMENT).has_all_features


def test_who_leaves_need_not_approve(tx: sa.Connection, guest: Party) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    invitations.accept(tx, GUEST, invitations.invite(tx, billing, guest, now=NOON).id, now=NOON)
    parent = invitations.enable_all_features(tx, billing, now=NOON)
    with pytest.raises(HandshakeConstraintError) as pending:
        invitations.enable_all_features(tx, billing, now=NOON)
    assert pending.value.reason is HandshakeConstraint.ORGANIZATION_IS_ALREADY_PENDING_ALL_FEATURES_MIGRATION
    with pytest.raises(HandshakeConstraintError) as closed:
        invitations.invite(tx, billing, Party(PartyKind.EMAIL, "x@example.com"), now=NOON)
    assert closed.value.reason is HandshakeConstraint.INVITE_DISABLED_DURING_ENABLE_ALL_FEATURES
    accounts.remove_account(tx, billing, GUEST, now=NOON)
    assert invitations.get_handshake(tx, MANAGEMENT, parent.id).state is HandshakeState.OPEN


def test_a_cancelled_question_takes_its_children_with_it(tx: sa.Connection, guest: Party) -> None:
    billing = tree.create_organization(tx, MANAGEMENT, FeatureSet.CONSOLIDATED_BILLING, now=NOON)
    invitations.accept(tx, GUEST, invitations.invite(tx, billing, guest, now=NOON).id, now=NOON)
    parent = invitations.enable_all_features(tx, billing, now=NOON)
    invitations.cancel(tx, MANAGEMENT, parent.id, now=NOON)
    approve = HandshakeAction.APPROVE_ALL_FEATURES
    (child,) = invitations.list_received(tx, GUEST, action=approve, now=NOON, after=None, limit=20).items
    assert child.state is HandshakeState.CANCELED
    with pytest.raises(InvalidHandshakeTransitionError):
        invitations.accept(tx, GUEST, child.id, now=NOON)


def test_one_filter_at_a_time(tx: sa.Connection, organization: Organization) -> None:
    action, parent = HandshakeAction.INVITE, "h-00000000"
    with pytest.raises(OrganizationInputError):
        invitations.list_sent(tx, organization, action=action, parent_id=parent, now=NOON, after=None, limit=20)
    with pytest.raises(OrganizationInputError):
        invitations.list_received(tx, MANAGEMENT, action=action, parent_id=parent, now=NOON, after=None, limit=20)


def test_an_answered_handshake_never_changes_again() -> None:
    over = {HandshakeState.ACCEPTED, HandshakeState.DECLINED, HandshakeState.CANCELED, HandshakeState.EXPIRED}
    assert {state for state, next_states in FOLLOWS.items() if not next_states} == over


def test_an_organization_that_is_deleted_asks_nobody_any_more(
    tx: sa.Connection, organization: Organization, guest: Party
) -> None:
    sent = invitations.invite(tx, organization, guest, now=NOON)
    tree.delete_organization(tx, organization, now=NOON)
    with pytest.raises((HandshakeNotFoundError, InvalidHandshakeTransitionError)):
        invitations.accept(tx, GUEST, sent.id, now=NOON)
