"""Names, limits and kinds: rules without a database."""

import pytest
from tests.organization.builders import HOUR, NOON

from holdfast.organization.errors import (
    HandshakeAlreadyInStateError,
    InvalidHandshakeTransitionError,
    OrganizationInputError,
)
from holdfast.organization.model.handshake import (
    FOLLOWS,
    Handshake,
    HandshakeAction,
    HandshakeState,
    refuse_transition,
)
from holdfast.organization.model.limits import Limits
from holdfast.organization.model.names import (
    OrganizationArns,
    account_id_problem,
    alias_problem,
    email_problem,
    external_id_problem,
)
from holdfast.organization.model.tree import NodeKind, kind_of, node_ids

ARNS = OrganizationArns("aws-cn", "123456789012", "o-exampleorgid")


@pytest.mark.parametrize(
    "email",
    ["a@b.cd", "first.last+tag@sub.example.com", "x_y-z@1.de", "a" * 52 + "@example.com"],
)
def test_addresses_that_are_fine(email: str) -> None:
    assert email_problem(email) is None


@pytest.mark.parametrize(
    ("email", "says"),
    [
        ("a@b.c", "6 to 64"),
        ("a" * 53 + "@example.com", "6 to 64"),
        ("jörg@example.com", "ASCII"),
        ("example.com", "exactly one @"),
        ("@example.com", "exactly one @"),
        ("a@b@example.com", "exactly one @"),
        (".a@example.com", "before the @"),
        ("a b@example.com", "before the @"),
        ("a,b@example.com", "before the @"),
        ("a%b@example.com", "before the @"),
        ("someone@localhost", "domain"),
        ("a@-example.com", "domain"),
        ("a@example.com-", "domain"),
        ("a@.example.com", "domain"),
        ("a@exam_ple.com", "domain"),
    ],
)
def test_addresses_that_are_refused(email: str, says: str) -> None:
    assert says in (email_problem(email) or "")


@pytest.mark.parametrize(
    ("alias", "fine"),
    [
        ("abc", True),
        ("my-team-1", True),
        ("a" * 63, True),
        ("ab", False),
        ("a" * 64, False),
        ("-ab", False),
        ("ab-", False),
        ("a--b", False),
        ("Team", False),
        ("123456789012", False),
        ("12345678901", True),
    ],
)
def test_an_alias_follows_the_rules_of_iam(alias: str, fine: bool) -> None:
    assert (alias_problem(alias) is None) == fine


@pytest.mark.parametrize(
    ("account", "fine"), [("000000000001", True), ("12345678901", False), ("1234567890123", False), ("0" * 12, False)]
)
def test_account_ids_have_twelve_digits(account: str, fine: bool) -> None:
    assert (account_id_problem(account) is None) == fine


@pytest.mark.parametrize(("external", "fine"), [("CMDB/17", True), ("", False), ("a b", False), ("x" * 129, False)])
def test_external_ids_are_short_words(external: str, fine: bool) -> None:
    assert (external_id_problem(external) is None) == fine


@pytest.mark.parametrize(
    ("node", "kind", "arn"),
    [
        ("r-ab12", NodeKind.ROOT, "root/o-exampleorgid/r-ab12"),
        ("ou-ab12-01234567", NodeKind.UNIT, "ou/o-exampleorgid/ou-ab12-01234567"),
        ("111122223333", NodeKind.ACCOUNT, "account/o-exampleorgid/111122223333"),
    ],
)
def test_the_form_of_an_id_says_what_it_is(node: str, kind: NodeKind, arn: str) -> None:
    assert kind_of(node) is kind
    assert ARNS.node(node) == f"arn:aws-cn:organizations::123456789012:{arn}"


@pytest.mark.parametrize("node", ["", "r-", "ou-ab12", "1111222233334", "p-0123456789", "o-exampleorgid"])
def test_other_ids_are_no_nodes(node: str) -> None:
    assert kind_of(node) is None
    with pytest.raises(OrganizationInputError):
        ARNS.node(node)


def test_the_other_arns() -> None:
    def resource(arn: str) -> str:
        return arn.removeprefix("arn:aws-cn:organizations::123456789012:")

    assert resource(ARNS.organization()) == "organization/o-exampleorgid"
    assert resource(ARNS.policy("BACKUP_POLICY", "p-1")) == "policy/o-exampleorgid/backup_policy/p-1"
    assert resource(ARNS.handshake("INVITE", "h-1")) == "handshake/o-exampleorgid/invite/h-1"
    assert resource(ARNS.resource_policy("rp-1")) == "resourcepolicy/o-exampleorgid/rp-1"


def test_a_path_names_its_nodes() -> None:
    assert list(node_ids("o-1/r-1/ou-1/ou-2/")) == ["r-1", "ou-1", "ou-2"]


@pytest.mark.parametrize(("accounts", "quota"), [(10, 250), (1_250, 250), (2_000, 400), (50_000, 1_000)])
def test_a_fifth_of_the_accounts_may_be_closed_in_a_month(accounts: int, quota: int) -> None:
    assert Limits().closings(accounts) == quota


@pytest.mark.parametrize("to", HandshakeState)
@pytest.mark.parametrize("state", HandshakeState)
@pytest.mark.parametrize("expired", [False, True])
def test_a_handshake_moves_only_as_follows_says(state: HandshakeState, to: HandshakeState, expired: bool) -> None:
    handshake = Handshake(
        id="h-01234567",
        organization_id="o-exampleorgid",
        management_account="123456789012",
        action=HandshakeAction.INVITE,
        state=state,
        parties=(),
        details=(),
        requested_at=NOON,
        expires_at=NOON + HOUR,
    )
    now = NOON + HOUR if expired else NOON
    holds = HandshakeState.EXPIRED if expired and FOLLOWS[state] else state
    assert handshake.state_at(now) is holds
    if to in FOLLOWS[holds]:
        refuse_transition(handshake, to, now=now)
        return
    error = HandshakeAlreadyInStateError if to is holds else InvalidHandshakeTransitionError
    with pytest.raises(error):
        refuse_transition(handshake, to, now=now)
