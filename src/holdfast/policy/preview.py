"""What if: what a change of policies, attachments or places would do to every account. Nothing is written.

A preview takes the same steps as the change itself: the same checks, the same chains, the same computation; only that
the results are compared with what is in force instead of being written.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import FOREVER, from_json
from holdfast.organization.errors import AccountNotFoundError, DestinationParentNotFoundError, DuplicateAccountError
from holdfast.policy import chain_store, distribution, service, store
from holdfast.policy.chain_store import Evaluation
from holdfast.policy.distribution import EMPTY_DOCUMENT
from holdfast.policy.errors import PolicyTypeNotEnabledError
from holdfast.policy.model.admission import admit
from holdfast.policy.model.chain import Chain, chain_of
from holdfast.policy.model.comparison import Comparison, compare
from holdfast.policy.model.kind import KINDS
from holdfast.policy.model.validation import ValidationError
from holdfast.policy.store import Policy

DRAFT_ID = "p-draft"
"""The id that stands for a policy which does not exist yet."""


@dataclass(frozen=True, slots=True)
class CreateDraft:
    """A new policy, attached to `target_id` if one is given."""

    policy_type: str
    content: str = field(repr=False)
    target_id: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateDraft:
    """Another content of a policy."""

    policy_id: str
    content: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachDraft:
    """A policy attached to one more node."""

    policy_id: str
    target_id: str


@dataclass(frozen=True, slots=True)
class DetachDraft:
    """A policy attached to one node less."""

    policy_id: str
    target_id: str


@dataclass(frozen=True, slots=True)
class MoveDraft:
    """An account under another unit, or under the root; what that does to policies of one type."""

    policy_type: str
    account_id: str
    destination_id: str


@dataclass(frozen=True, slots=True)
class EnableDraft:
    """A type switched on."""

    policy_type: str


@dataclass(frozen=True, slots=True)
class DisableDraft:
    """A type switched off, with every attachment of it."""

    policy_type: str


Draft: TypeAlias = CreateDraft | UpdateDraft | AttachDraft | DetachDraft | MoveDraft | EnableDraft | DisableDraft


@dataclass(frozen=True, slots=True)
class Effect:
    """What a change would do to some accounts, all in the same way."""

    account_ids: tuple[str, ...]
    before: str = field(repr=False)
    """The canonical text of the document in force now."""
    after: str = field(repr=False)
    """The canonical text of the document that would be in force."""
    errors: tuple[ValidationError, ...]
    """Why the document that the policies would make is invalid; then what is in force now stays."""
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class _State:
    """Where some accounts are now: their chain, the document in force, and what is wrong with the newest one."""

    chain: Chain | None
    content: str
    errors: tuple[ValidationError, ...]


_STATES = text("""
    SELECT ac.account_id, ac.chain_id, COALESCE(own.document_id, cd.document_id) AS document_id
      FROM account_chain ac
      JOIN chain c ON c.id = ac.chain_id
      LEFT JOIN account_document own
        ON own.account_id = ac.account_id AND own.type = ac.type AND own.ends_at = :forever
      LEFT JOIN chain_document cd ON cd.chain_id = ac.chain_id AND cd.ends_at = :forever
     WHERE c.organization_id = :organization AND ac.type = :type AND ac.ends_at = :forever""")
_DOCUMENTS = text("SELECT id, content FROM document WHERE id IN :ids").bindparams(sa.bindparam("ids", expanding=True))

_Successor: TypeAlias = Callable[[str, Chain | None], Chain | None]


def preview(
    tx: sa.Connection, organization_id: str, draft: Draft, *, regions: Collection[str], now: datetime
) -> tuple[Effect, ...]:
    """Return what the draft would do: an effect for each group of accounts that it touches in the same way.

    An account is touched if its document, or what is wrong with it, becomes another.

    Raises:
        HoldfastError: whatever the change itself would raise.
    """
    policy_type, successor, drafted = _plan(tx, organization_id, draft, regions=regions, now=now)
    if not KINDS[policy_type].inherits:
        return ()
    groups = _groups(tx, organization_id, policy_type, everyone=isinstance(draft, EnableDraft))
    moves: dict[tuple[_State, Chain | None], list[str]] = defaultdict(list)
    for state, accounts in groups:
        for account in accounts:
            moves[state, successor(account, state.chain)].append(account)
    moved = {
        (state, chain): accounts
        for (state, chain), accounts in moves.items()
        if chain != state.chain or (chain is not None and chain.policy_ids & drafted.keys())
    }
    chains = list(dict.fromkeys(chain for _, chain in moved if chain is not None))
    policies = distribution.policies_on(tx, organization_id, chains) | drafted
    evaluations, contents = distribution.compute(chains, policies, now=now)
    evaluated = {each.chain_id: each for each in evaluations}
    effects = [_effect(state, chain, accounts, evaluated, contents) for (state, chain), accounts in moved.items()]
    return tuple(effect for effect in effects if effect is not None)


def _effect(
    state: _State,
    chain: Chain | None,
    accounts: list[str],
    evaluated: Mapping[str, Evaluation],
    contents: Mapping[str, str],
) -> Effect | None:
    after, errors = EMPTY_DOCUMENT, tuple[ValidationError, ...]()
    if chain is not None:
        evaluation = evaluated[chain.id]
        errors = evaluation.errors
        after = state.content if evaluation.document_id is None else contents[evaluation.document_id]
    if (after, errors) == (state.content, state.errors):
        return None
    comparison = compare(from_json(state.content), from_json(after))
    return Effect(tuple(sorted(accounts)), state.content, after, errors, comparison)


def _groups(
    tx: sa.Connection, organization_id: str, policy_type: str, *, everyone: bool
) -> list[tuple[_State, list[str]]]:
    """Return all accounts of the organization by what they have now."""
    if everyone:
        return [(_State(None, EMPTY_DOCUMENT, ()), sorted(chain_store.places(tx, organization_id, None)))]
    where = {"organization": organization_id, "type": policy_type, "forever": FOREVER}
    found: dict[tuple[str, str | None], list[str]] = defaultdict(list)
    for row in tx.execute(_STATES, where):
        found[row.chain_id, row.document_id].append(row.account_id)
    chains = chain_store.chains_by_id(tx, sorted({chain_id for chain_id, _ in found}))
    evaluations = chain_store.open_evaluations(tx, list(chains))
    documents = _contents(tx, sorted({document for _, document in found if document is not None}))
    return [
        (
            _State(chains[chain_id], documents.get(document or "", EMPTY_DOCUMENT), evaluations[chain_id].errors),
            accounts,
        )
        for (chain_id, document), accounts in found.items()
    ]


def _contents(tx: sa.Connection, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in range(0, len(ids), 200):
        found |= {row.id: row.content for row in tx.execute(_DOCUMENTS, {"ids": ids[start : start + 200]})}
    return found


def _plan(
    tx: sa.Connection, organization_id: str, draft: Draft, *, regions: Collection[str], now: datetime
) -> tuple[str, _Successor, dict[str, tuple[int, str]]]:
    """Return the type that a draft is about, the chain that follows for each account, and contents that are drafted."""
    match draft:
        case CreateDraft(policy_type, content, target_id):
            service.refuse_creation(tx, organization_id, policy_type, content, regions=regions, now=now)
            new = Policy(DRAFT_ID, organization_id, policy_type, "", "", content)
            if target_id is None:
                return policy_type, _unchanged, {}
            target, attached = service.attachable(tx, new, target_id)
            successor = _below(tx, organization_id, target.path, [*attached, DRAFT_ID])
            return policy_type, successor, {DRAFT_ID: (0, content)}
        case UpdateDraft(policy_id, content):
            policy = service.changeable(tx, organization_id, policy_id)
            admit(policy.type, content, regions=regions, now=now)
            return policy.type, _unchanged, {policy_id: (policy.version + 1, content)}
        case AttachDraft(policy_id, target_id):
            policy = service.get_policy(tx, organization_id, policy_id)
            target, attached = service.attachable(tx, policy, target_id)
            return policy.type, _below(tx, organization_id, target.path, [*attached, policy_id]), {}
        case DetachDraft(policy_id, target_id):
            policy = service.get_policy(tx, organization_id, policy_id)
            target, attached = service.detachable(tx, policy, target_id)
            left = [each for each in attached if each != policy_id]
            return policy.type, _below(tx, organization_id, target.path, left), {}
        case MoveDraft():
            return draft.policy_type, _moved(tx, organization_id, draft), {}
        case EnableDraft(policy_type):
            service.enableable(tx, organization_id, policy_type)
            nothing = Chain(organization_id, policy_type, ())
            return policy_type, lambda _account, _chain: nothing, {}
        case DisableDraft(policy_type):
            service.kind_of(policy_type)
            if not store.is_enabled(tx, organization_id, policy_type):
                raise PolicyTypeNotEnabledError
            return policy_type, lambda _account, _chain: None, {}


def _unchanged(_account: str, chain: Chain | None) -> Chain | None:
    return chain


def _below(tx: sa.Connection, organization_id: str, path: Sequence[str], attached: Sequence[str]) -> _Successor:
    """Return the successor where these policies are attached to the last node of `path`."""
    prefix = "/".join([organization_id, *path, ""])
    places = chain_store.places(tx, organization_id, None)
    scope = {account for account, place in places.items() if place.startswith(prefix) or account == path[-1]}
    known: dict[Chain, Chain] = {}

    def successor(account: str, chain: Chain | None) -> Chain | None:
        if chain is None or account not in scope:
            return chain
        if chain not in known:
            known[chain] = chain.with_node(path, attached)
        return known[chain]

    return successor


def _moved(tx: sa.Connection, organization_id: str, draft: MoveDraft) -> _Successor:
    service.kind_of(draft.policy_type)
    if not store.is_enabled(tx, organization_id, draft.policy_type):
        raise PolicyTypeNotEnabledError
    if not chain_store.places(tx, organization_id, [draft.account_id]):
        raise AccountNotFoundError
    destination = store.find_target(tx, organization_id, draft.destination_id)
    if destination is None or destination.kind == "ACCOUNT":
        raise DestinationParentNotFoundError
    present = store.find_target(tx, organization_id, draft.account_id)
    if present is not None and tuple(present.path[:-1]) == tuple(destination.path):
        raise DuplicateAccountError
    path = [*destination.path, draft.account_id]
    attached = store.attachments(tx, organization_id, draft.policy_type, path)
    new = chain_of(organization_id, draft.policy_type, path, attached)

    def successor(account: str, chain: Chain | None) -> Chain | None:
        return new if account == draft.account_id else chain

    return successor
