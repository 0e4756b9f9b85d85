"""Accounts: made, taken in, moved, closed, let go; listed and found by their other names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import sqlalchemy as sa

from holdfast.core import ids
from holdfast.core.paging import Page, Position
from holdfast.organization.errors import (
    AccountAlreadyClosedError,
    AccountExistsError,
    AccountNotFoundError,
    ConcurrentChangeError,
    Constraint,
    ConstraintError,
    CreateAccountRequestNotFoundError,
    DestinationParentNotFoundError,
    DuplicateAccountError,
    InputReason,
    ManagementCannotLeaveError,
    OrganizationInputError,
    SourceParentNotFoundError,
)
from holdfast.organization.model.limits import LIMITS, Limits
from holdfast.organization.model.names import account_id_problem, alias_problem, email_problem, external_id_problem
from holdfast.organization.model.request import CreateAccountFailure, CreateAccountRequest, CreateAccountState
from holdfast.organization.model.tags import refuse_too_many
from holdfast.organization.model.tree import (
    Account,
    AccountStatus,
    JoinedMethod,
    Organization,
    Unit,
    refuse_too_many_accounts,
)
from holdfast.organization.service import news
from holdfast.organization.service.tags import drop_tags, set_first_tags
from holdfast.organization.service.tree import get_parent, get_root, lock
from holdfast.organization.store import accounts, delegation, handshakes, tree

_SERVICE_ROLE_PREFIX = "AWSServiceRoleFor"
_CLEANED_AT_ONCE = 500
_FASTER = "Another request took one of the account's names at the same time. Try again."


def register_account(tx: sa.Connection, account_id: str, name: str, email: str, *, now: datetime) -> Account:
    """Make an account that stands on its own, as the first one of an installation does.

    Raises:
        OrganizationInputError: the id or the address is malformed.
        AccountExistsError: the id or the address is taken.
    """
    _refuse_malformed(account_id_problem(account_id))
    _refuse_malformed(email_problem(email))
    return _insert(tx, Account(account_id, name, email, AccountStatus.ACTIVE, now))


def create_account(
    tx: sa.Connection,
    organization: Organization,
    name: str,
    email: str,
    tags: Mapping[str, str] | None = None,
    *,
    role_name: str | None = None,
    gov_cloud: bool = False,
    now: datetime,
    limits: Limits = LIMITS,
) -> CreateAccountRequest:
    """Make an account under the organization's root, in this transaction; return the request with what came of it.

    `role_name` is only checked: whoever calls this makes the role. With `gov_cloud` a second account is made, which
    stands on its own and shares the address.

    Raises:
        OrganizationInputError: the role's name is reserved.
        ConstraintError: the organization would have too many accounts, or the account too many tags.
    """
    if role_name is not None and role_name.startswith(_SERVICE_ROLE_PREFIX):
        raise OrganizationInputError(
            InputReason.INVALID_ROLE_NAME,
            f"The role name can't begin with the reserved prefix {_SERVICE_ROLE_PREFIX}.",
        )
    lock(tx, organization)
    refuse_too_many({}, tags or {}, limits)
    _refuse_another_account(tx, organization, now=now, limits=limits)
    request = CreateAccountRequest(
        id=ids.create_account_request_id(),
        organization_id=organization.id,
        account_name=name,
        email=email,
        state=CreateAccountState.SUCCEEDED,
        requested_at=now,
        completed_at=now,
    )
    failure = _reason_not_to_create(tx, email)
    if failure is not None:
        request = replace(request, state=CreateAccountState.FAILED, failure_reason=failure.value)
        accounts.insert_request(tx, request)
        return request
    account = _insert(tx, Account(_free_id(tx), name, email, AccountStatus.ACTIVE, now))
    take_in(tx, organization, account, get_root(tx, organization), JoinedMethod.CREATED, tags, now=now, limits=limits)
    request = replace(request, account_id=account.id)
    if gov_cloud:
        second = _insert(tx, replace(account, id=_free_id(tx)), paired_with=account.id)
        request = replace(request, gov_cloud_account_id=second.id)
    accounts.insert_request(tx, request)
    return request


def import_account(
    tx: sa.Connection,
    organization: Organization,
    account_id: str,
    name: str,
    email: str,
    *,
    parent_id: str | None = None,
    alias: str | None = None,
    external_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    now: datetime,
    limits: Limits = LIMITS,
) -> tuple[Account, bool]:
    """Take an account with a given id into the organization, under the root or another parent.

    An account of this id that the organization has already is left where it is, so that importing twice changes
    nothing. Returns the account, and whether it was taken in just now.

    Raises:
        OrganizationInputError: an id, the address or the alias is malformed.
        ParentNotFoundError: there is no such parent.
        AccountExistsError: the id, address, alias or external id is another account's, or the account is known under
            another name or address.
        ConstraintError: the organization would have too many accounts, or the account too many tags.
    """
    _refuse_malformed(account_id_problem(account_id))
    _refuse_malformed(email_problem(email))
    lock(tx, organization)
    present = accounts.find_account(tx, account_id)
    if present is not None:
        if present.organization_id != organization.id:
            raise AccountExistsError(
                f"The account {account_id} exists already and does not belong to this organization. Invite it instead."
            )
        if (present.name, present.email.lower()) != (name, email.lower()):
            raise AccountExistsError(
                f"The account {account_id} is in this organization already, as {present.name} <{present.email}>."
            )
        return present, False
    parent = get_parent(tx, organization, parent_id or organization.root_id)
    _refuse_another_account(tx, organization, now=now, limits=limits)
    _refuse_taken_names(tx, account_id, alias, external_id)
    account = _insert(tx, Account(account_id, name, email, AccountStatus.ACTIVE, now, alias, external_id))
    take_in(tx, organization, account, parent, JoinedMethod.INVITED, tags, now=now, limits=limits)
    return get_account(tx, organization, account_id), True


def take_in(
    tx: sa.Connection,
    organization: Organization,
    account: Account,
    unit: Unit,
    method: JoinedMethod,
    tags: Mapping[str, str] | None,
    *,
    now: datetime,
    limits: Limits = LIMITS,
) -> None:
    """Let an account that stands on its own belong to the organization, under `unit`, and tell so."""
    accounts.set_joined(tx, account.id, organization.id, method, now=now)
    tree.place(tx, account.id, unit, now=now)
    set_first_tags(tx, organization, account.id, tags, limits)
    news.tell_joined(tx, account.id, unit, now=now)


def get_account(tx: sa.Connection, organization: Organization, account_id: str) -> Account:
    """Return an account of the organization.

    Raises:
        AccountNotFoundError: it has none with this id.
    """
    found = accounts.find_account(tx, account_id)
    if found is None or found.organization_id != organization.id:
        raise AccountNotFoundError
    return found


def find_account(tx: sa.Connection, account_id: str) -> Account | None:
    """Return an account, in whatever organization or none."""
    return accounts.find_account(tx, account_id)


def accounts_by_id(tx: sa.Connection, account_ids: Sequence[str]) -> list[Account]:
    """Return those of the accounts that exist, by id."""
    return accounts.accounts_by_id(tx, account_ids)


def find_account_by_name(
    tx: sa.Connection, organization: Organization, *, alias: str | None = None, external_id: str | None = None
) -> Account:
    """Return the organization's account with this alias, or with this external id.

    Raises:
        AccountNotFoundError: it has none.
    """
    found = None
    if alias is not None:
        found = accounts.find_account_by_alias(tx, alias)
    elif external_id is not None:
        found = accounts.find_account_by_external_id(tx, external_id)
    if found is None or found.organization_id != organization.id:
        raise AccountNotFoundError
    return found


def name_account(
    tx: sa.Connection, organization: Organization, account_id: str, *, alias: str | None, external_id: str | None
) -> Account:
    """Give an account these other names instead of those it had; None for none.

    Raises:
        AccountNotFoundError: the organization has no such account.
        OrganizationInputError: a name is malformed.
        AccountExistsError: another account has it.
    """
    lock(tx, organization)
    account = get_account(tx, organization, account_id)
    _refuse_taken_names(tx, account_id, alias, external_id)
    try:
        with tx.begin_nested():
            accounts.set_names(tx, account_id, alias=alias, external_id=external_id)
    except sa.exc.IntegrityError as error:
        raise ConcurrentChangeError(_FASTER) from error
    return replace(account, alias=alias, external_id=external_id)


def set_alias(tx: sa.Connection, account_id: str, alias: str) -> None:
    """Give an account, in an organization or not, this alias instead of the one it had.

    Raises:
        AccountNotFoundError: there is no such account.
        OrganizationInputError: the alias is malformed.
        AccountExistsError: another account has it.
    """
    account = accounts.lock_account(tx, account_id)
    if account is None:
        raise AccountNotFoundError
    _refuse_taken_names(tx, account_id, alias, None)
    try:
        with tx.begin_nested():
            accounts.set_names(tx, account_id, alias=alias, external_id=account.external_id)
    except sa.exc.IntegrityError as error:
        raise ConcurrentChangeError(_FASTER) from error


def remove_alias(tx: sa.Connection, account_id: str, alias: str) -> bool:
    """Take its alias from an account; return whether this was it."""
    account = accounts.lock_account(tx, account_id)
    if account is None or account.alias != alias:
        return False
    accounts.set_names(tx, account_id, alias=None, external_id=account.external_id)
    return True


def list_accounts(tx: sa.Connection, organization: Organization, *, after: Position, limit: int) -> Page[Account]:
    """Return a page of all accounts of the organization, the first to join first."""
    return accounts.accounts_in(tx, organization.id, after=after, limit=limit)


def list_accounts_under(
    tx: sa.Connection, organization: Organization, parent_id: str, *, after: Position, limit: int
) -> Page[Account]:
    """Return a page of the accounts directly under a node, the first to come there first.

    Raises:
        ParentNotFoundError: there is no such node.
    """
    return accounts.accounts_under(tx, get_parent(tx, organization, parent_id).id, after=after, limit=limit)


def get_request(tx: sa.Connection, organization: Organization, request_id: str) -> CreateAccountRequest:
    """Return a request to create an account.

    Raises:
        CreateAccountRequestNotFoundError: there is none with this id.
    """
    found = accounts.find_request(tx, organization.id, request_id)
    if found is None:
        raise CreateAccountRequestNotFoundError
    return found


def list_requests(
    tx: sa.Connection,
    organization: Organization,
    states: Sequence[CreateAccountState] = (),
    *,
    after: Position,
    limit: int,
) -> Page[CreateAccountRequest]:
    """Return a page of the requests to create accounts, of those states only if any are given; oldest first."""
    return accounts.requests(tx, organization.id, tuple(states) or tuple(CreateAccountState), after=after, limit=limit)


def move_account(
    tx: sa.Connection,
    organization: Organization,
    account_id: str,
    source_id: str,
    destination_id: str,
    *,
    now: datetime,
) -> None:
    """Let an account stand under another node from now on.

    Raises:
        AccountNotFoundError: the organization has no such account.
        SourceParentNotFoundError: it does not stand under `source_id`.
        DestinationParentNotFoundError: there is no node with this id.
        DuplicateAccountError: it stands there already.
    """
    lock(tx, organization)
    account = get_account(tx, organization, account_id)
    source = tree.find_unit(tx, organization.id, source_id)
    if source is None or account.unit_id != source.id:
        raise SourceParentNotFoundError
    destination = tree.find_unit(tx, organization.id, destination_id)
    if destination is None:
        raise DestinationParentNotFoundError
    if destination.id == source.id:
        raise DuplicateAccountError
    tree.place(tx, account_id, destination, now=now)
    news.tell_moved(tx, account_id, source, destination, now=now)


def close_account(
    tx: sa.Connection, organization: Organization, account_id: str, *, now: datetime, limits: Limits = LIMITS
) -> None:
    """Close a member account: it stays in the organization, suspended, until `remove_long_closed` lets it go.

    Raises:
        AccountNotFoundError: the organization has no such account.
        AccountAlreadyClosedError: it was closed before.
        ConstraintError: it is the management account or a delegated administrator, the organization has not all
            features, or too many accounts were closed lately.
    """
    lock(tx, organization)
    account = get_account(tx, organization, account_id)
    if account.id == organization.management_account:
        raise ConstraintError(
            Constraint.CANNOT_CLOSE_MANAGEMENT_ACCOUNT,
            "You can't close the management account. Remove or close all member accounts and delete the organization.",
        )
    if not organization.has_all_features:
        raise ConstraintError(
            Constraint.ORGANIZATION_NOT_IN_ALL_FEATURES_MODE,
            "You can close accounts only in an organization with all features. Call EnableAllFeatures first.",
        )
    if account.status is AccountStatus.SUSPENDED:
        raise AccountAlreadyClosedError
    _refuse_delegated(tx, organization, account_id)
    quota = limits.closings(accounts.count_accounts(tx, organization.id))
    if accounts.count_closed_since(tx, organization.id, now - limits.closing_span) >= quota:
        raise ConstraintError(
            Constraint.CLOSE_ACCOUNT_QUOTA_EXCEEDED,
            f"You have exceeded the close account quota for the past {limits.closing_span.days} days ({quota}).",
        )
    accounts.set_closed(tx, account_id, now=now)
    news.forget_decisions(tx)


def remove_account(
    tx: sa.Connection, organization: Organization, account_id: str, *, now: datetime, limits: Limits = LIMITS
) -> None:
    """Let a member account go: it stands on its own afterwards, without the organization's policies and tags.

    Raises:
        AccountNotFoundError: the organization has no such account.
        ManagementCannotLeaveError: it is the management account.
        ConstraintError: it is a delegated administrator, or was created here too short a time ago.
    """
    lock(tx, organization)
    account = get_account(tx, organization, account_id)
    if account.id == organization.management_account:
        raise ManagementCannotLeaveError
    _refuse_delegated(tx, organization, account_id)
    if account.joined_method is JoinedMethod.CREATED and account.created_at + limits.age_to_leave > now:
        raise ConstraintError(
            Constraint.WAIT_PERIOD_ACTIVE,
            f"The account was created less than {limits.age_to_leave.days} days ago and cannot leave the organization "
            f"before {account.created_at + limits.age_to_leave:%Y-%m-%d %H:%M} UTC.",
        )
    let_go(tx, organization, account_id, now=now)


def remove_long_closed(tx: sa.Connection, *, now: datetime, limits: Limits = LIMITS) -> list[tuple[str, str]]:
    """Let accounts go whose time after closing is over, some hundreds at once; return them with their organizations."""
    gone = []
    for account_id, organization_id in accounts.closed_before(tx, now - limits.closed_account_stays, _CLEANED_AT_ONCE):
        organization = tree.find_organization(tx, organization_id)
        if organization is not None:
            let_go(tx, organization, account_id, now=now)
            gone.append((account_id, organization_id))
    return gone


def next_departure(tx: sa.Connection, *, limits: Limits = LIMITS) -> datetime | None:
    """Return when the next closed account's time is over; None if there is none."""
    closed_at = accounts.first_closing(tx)
    return None if closed_at is None else closed_at + limits.closed_account_stays


def let_go(tx: sa.Connection, organization: Organization, account_id: str, *, now: datetime) -> None:
    """Let an account stand on its own, whatever it is, and tell so."""
    drop_tags(tx, organization, account_id)
    if handshakes.cancel_approvals(tx, organization.id, account_id, now=now):
        handshakes.open_if_all_approved(tx, organization.id, now=now)
    tree.end_placement(tx, account_id, now=now)
    accounts.set_left(tx, account_id)
    news.tell_left(tx, account_id, organization.id, now=now)


def _refuse_another_account(tx: sa.Connection, organization: Organization, *, now: datetime, limits: Limits) -> None:
    present = accounts.count_accounts(tx, organization.id)
    refuse_too_many_accounts(present + handshakes.count_open_invitations(tx, organization.id, now=now), limits)


def _refuse_delegated(tx: sa.Connection, organization: Organization, account_id: str) -> None:
    if delegation.is_delegated(tx, organization.id, account_id):
        raise ConstraintError(
            Constraint.CANNOT_REMOVE_DELEGATED_ADMINISTRATOR_FROM_ORG,
            f"The account {account_id} is a delegated administrator. Deregister it first.",
        )


def _refuse_malformed(problem: str | None) -> None:
    if problem is not None:
        raise OrganizationInputError(InputReason.INVALID_PATTERN, problem)


def _refuse_taken_names(tx: sa.Connection, account_id: str, alias: str | None, external_id: str | None) -> None:
    if alias is not None:
        _refuse_malformed(alias_problem(alias))
        other = accounts.find_account_by_alias(tx, alias)
        if other is not None and other.id != account_id:
            raise AccountExistsError(f"The alias {alias} is another account's. Choose another one.")
    if external_id is not None:
        _refuse_malformed(external_id_problem(external_id))
        other = accounts.find_account_by_external_id(tx, external_id)
        if other is not None and other.id != account_id:
            raise AccountExistsError(f"The external id {external_id} is another account's. Choose another one.")


def _reason_not_to_create(tx: sa.Connection, email: str) -> CreateAccountFailure | None:
    if email_problem(email) is not None:
        return CreateAccountFailure.INVALID_EMAIL
    if accounts.find_account_by_email(tx, email) is not None:
        return CreateAccountFailure.EMAIL_ALREADY_EXISTS
    return None


def _free_id(tx: sa.Connection) -> str:
    while True:
        account_id = ids.account_id()
        if accounts.find_account(tx, account_id) is None:
            return account_id


def _insert(tx: sa.Connection, account: Account, *, paired_with: str | None = None) -> Account:
    if accounts.find_account(tx, account.id) is not None:
        raise AccountExistsError(f"There is an account {account.id} already.")
    if paired_with is None and accounts.find_account_by_email(tx, account.email) is not None:
        raise AccountExistsError(f"Another account has the e-mail address {account.email}.")
    if not accounts.insert_account(tx, account, paired_with=paired_with):
        raise ConcurrentChangeError(_FASTER)
    return account
