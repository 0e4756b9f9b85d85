"""Requests that come at the same time: one changes the organization, the other sees what it did."""

import threading
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from tests.organization.builders import MANAGEMENT, NOON

from holdfast.core.errors import HoldfastError
from holdfast.database.connection import Database
from holdfast.organization.errors import (
    AccountExistsError,
    AlreadyInOrganizationError,
    ConcurrentChangeError,
    Constraint,
    ConstraintError,
    DuplicateUnitError,
    HandshakeAlreadyInStateError,
    SourceParentNotFoundError,
)
from holdfast.organization.model.handshake import Party, PartyKind
from holdfast.organization.model.limits import Limits
from holdfast.organization.model.tree import Organization
from holdfast.organization.service import accounts, invitations, tree
from holdfast.organization.store.tree import placements

Verb = Callable[[sa.Connection], object]


@pytest.fixture
def made(database: Database) -> Organization:
    """An organization that is committed."""
    with database.transaction() as tx:
        accounts.register_account(tx, MANAGEMENT, "master", "master@example.com", now=NOON)
        return tree.create_organization(tx, MANAGEMENT, now=NOON)


def _at_once(database: Database, *verbs: Verb) -> list[HoldfastError]:
    """Run verbs in transactions that begin together; return what the refused ones raised."""
    together = threading.Barrier(len(verbs))
    refusals: list[HoldfastError] = []

    def run(verb: Verb) -> None:
        together.wait()
        try:
            with database.transaction() as tx:
                verb(tx)
        except HoldfastError as error:
            refusals.append(error)

    threads = [threading.Thread(target=run, args=(verb,)) for verb in verbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refusals


def test_two_units_of_one_name_become_one(database: Database, made: Organization) -> None:
    def create(tx: sa.Connection) -> object:
        return tree.create_unit(tx, made, made.root_id, "Prod", now=NOON)

    refusals = _at_once(database, create, create, create)
    assert [type(error) for error in refusals] == [DuplicateUnitError] * 2


def test_a_limit_holds_against_everybody_at_once(database: Database, made: Organization) -> None:
    few = Limits(units=2)

    def create(name: str) -> Verb:
        return lambda tx: tree.create_unit(tx, made, made.root_id, name, now=NOON, limits=few)

    refusals = _at_once(database, *(create(name) for name in "abcd"))
    assert [error.reason for error in refusals if isinstance(error, ConstraintError)] == [
        Constraint.OU_NUMBER_LIMIT_EXCEEDED
    ] * 2


def test_an_account_is_moved_once(database: Database, made: Organization) -> None:
    with database.transaction() as tx:
        units = [tree.create_unit(tx, made, made.root_id, name, now=NOON).id for name in "ab"]
        account = accounts.create_account(tx, made, "shop", "shop@example.com", now=NOON).account_id
    assert account is not None

    def move(unit: str) -> Verb:
        return lambda tx: accounts.move_account(tx, made, str(account), made.root_id, unit, now=NOON)

    refusals = _at_once(database, *(move(unit) for unit in units))
    assert [type(error) for error in refusals] == [SourceParentNotFoundError]
    with database.reading() as tx:
        assert len(placements(tx, account)) == 1


def test_one_account_makes_one_organization(database: Database) -> None:
    with database.transaction() as tx:
        accounts.register_account(tx, MANAGEMENT, "master", "master@example.com", now=NOON)

    def create(tx: sa.Connection) -> object:
        return tree.create_organization(tx, MANAGEMENT, now=NOON)

    refusals = _at_once(database, create, create)
    assert [type(error) for error in refusals] == [AlreadyInOrganizationError]


def test_an_invitation_is_accepted_once(database: Database, made: Organization) -> None:
    with database.transaction() as tx:
        accounts.register_account(tx, "111122223333", "guest", "guest@example.com", now=NOON)
        sent = invitations.invite(tx, made, Party(PartyKind.ACCOUNT, "111122223333"), now=NOON)

    def accept(tx: sa.Connection) -> object:
        return invitations.accept(tx, "111122223333", sent.id, now=NOON)

    refusals = _at_once(database, accept, accept)
    assert [type(error) for error in refusals] == [HandshakeAlreadyInStateError]


def test_one_address_becomes_one_account_across_organizations(database: Database, made: Organization) -> None:
    with database.transaction() as tx:
        accounts.register_account(tx, "111122223333", "second", "second@example.com", now=NOON)
        second = tree.create_organization(tx, "111122223333", now=NOON)

    def bring(organization: Organization, account: str) -> Verb:
        return lambda tx: accounts.import_account(tx, organization, account, "shop", "shop@example.com", now=NOON)

    refusals = _at_once(database, bring(made, "444455556666"), bring(second, "777788889999"))
    assert len(refusals) == 1
    assert isinstance(refusals[0], AccountExistsError | ConcurrentChangeError)


def test_one_alias_is_given_to_one_account_across_organizations(database: Database, made: Organization) -> None:
    with database.transaction() as tx:
        accounts.register_account(tx, "111122223333", "second", "second@example.com", now=NOON)
        second = tree.create_organization(tx, "111122223333", now=NOON)

    def name(organization: Organization, account: str) -> Verb:
        return lambda tx: accounts.name_account(tx, organization, account, alias="same", external_id=None)

    refusals = _at_once(database, name(made, MANAGEMENT), name(second, "111122223333"))
    assert len(refusals) == 1
    assert isinstance(refusals[0], AccountExistsError | ConcurrentChangeError)
