"""Distribution by reference: accounts point to chains, chains to documents, each since when until when.

A chain is computed once for all accounts on it. If it comes out invalid, what is in force on it stays in force;
accounts that come onto such a chain from another one keep the document they had, in a row of their own, until the chain
is valid again. Changes are worked out per chain and written by statements over sets of accounts.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from holdfast.policy import chain_store, store
from holdfast.policy.chain_store import Evaluation
from holdfast.policy.model.chain import Chain, Merger, chain_of
from holdfast.policy.model.kind import BACKUP
from holdfast.policy.model.merge import canonical, document_id
from holdfast.policy.model.validation import validate_effective

EMPTY_DOCUMENT = "{}"


def compute(
    chains: Iterable[Chain], policies: Mapping[str, tuple[int, str]], *, now: datetime
) -> tuple[list[Evaluation], dict[str, str]]:
    """Return what the chains come out as, and the contents of the valid documents by id.

    `policies` are version and content of every policy on them.
    """
    merger = Merger({policy_id: content for policy_id, (_, content) in policies.items()})
    evaluations: list[Evaluation] = []
    documents: dict[str, str] = {}
    for chain in chains:
        effective = merger.effective(chain)
        errors = validate_effective(effective, now) if chain.policy_type == BACKUP else ()
        named: str | None = None
        if not errors:
            content = canonical(effective.document)
            named = document_id(chain.policy_type, content)
            documents[named] = content
        versions = {policy_id: policies[policy_id][0] for policy_id in sorted(chain.policy_ids)}
        evaluations.append(Evaluation(chain.id, named, errors, versions))
    return evaluations, documents


def policies_on(tx: sa.Connection, organization_id: str, chains: Iterable[Chain]) -> dict[str, tuple[int, str]]:
    """Return version and content of every policy on these chains, by policy id."""
    ids = sorted({policy_id for chain in chains for policy_id in chain.policy_ids})
    found = store.policies_by_id(tx, organization_id, ids)
    return {policy.id: (policy.version, policy.content) for policy in found.values()}


def evaluate(
    tx: sa.Connection, organization_id: str, chains: Sequence[Chain], *, now: datetime
) -> dict[str, Evaluation]:
    """Compute these chains from what their policies say now and write what comes out; return it by chain id."""
    if not chains:
        return {}
    evaluations, documents = compute(chains, policies_on(tx, organization_id, chains), now=now)
    policy_type = chains[0].policy_type
    chain_store.intern_chains(tx, chains)
    chain_store.write_documents(tx, policy_type, documents, now=now)
    chain_store.write_evaluations(tx, evaluations, now=now)
    valid = [each.chain_id for each in evaluations if each.document_id is not None]
    chain_store.close_fallbacks_on(tx, policy_type, valid, now=now)
    return {each.chain_id: each for each in evaluations}


def evaluate_new(
    tx: sa.Connection, organization_id: str, chains: Sequence[Chain], *, now: datetime
) -> dict[str, Evaluation]:
    """Compute those of these chains that were not computed from what their policies say now; return all by id."""
    known = chain_store.open_evaluations(tx, [chain.id for chain in chains])
    present = {policy_id: version for policy_id, (version, _) in policies_on(tx, organization_id, chains).items()}
    stale = [
        chain
        for chain in chains
        if chain.id not in known or known[chain.id].versions != {each: present[each] for each in chain.policy_ids}
    ]
    return known | evaluate(tx, organization_id, stale, now=now)


def policy_changed(
    tx: sa.Connection, organization_id: str, policy_type: str, policy_id: str, *, now: datetime
) -> list[Chain]:
    """Recompute the chains in use that this policy stands on; return them."""
    touched = [
        chain for chain in chain_store.chains_in_use(tx, organization_id, policy_type) if policy_id in chain.policy_ids
    ]
    evaluate(tx, organization_id, touched, now=now)
    return touched


def moves_below(
    tx: sa.Connection, organization_id: str, policy_type: str, path: Sequence[str], policy_ids: Sequence[str]
) -> list[tuple[Chain, Chain]]:
    """Return for each chain of accounts at or below the last node of `path` the one that replaces it.

    `policy_ids` are what is attached to that node from now on, in order.
    """
    return [
        (chain, chain.with_node(path, policy_ids))
        for chain in chain_store.chains_below(tx, organization_id, policy_type, path)
    ]


def node_changed(
    tx: sa.Connection, organization_id: str, policy_type: str, path: Sequence[str], *, now: datetime
) -> None:
    """Put the accounts at or below the last node of `path` on the chains that follow from what is attached there."""
    attached = store.attachments(tx, organization_id, policy_type, [path[-1]])
    moves = moves_below(tx, organization_id, policy_type, path, attached.get(path[-1], []))
    evaluated = evaluate_new(tx, organization_id, list({new.id: new for _, new in moves}.values()), now=now)
    held = chain_store.open_documents(tx, [chain.id for move in moves for chain in move])
    nothing = _nothing(tx, policy_type, now)
    for chain, new in moves:
        before, after = held.get(chain.id, nothing), held.get(new.id, nothing)
        if evaluated[new.id].document_id is None and before != after:
            chain_store.fall_back_below(tx, chain, before, organization_id, path, now=now)
    chain_store.move_chains(tx, moves, organization_id, path, now=now)
    valid = [each.chain_id for each in evaluated.values() if each.document_id is not None]
    chain_store.close_fallbacks_on(tx, policy_type, valid, now=now)


def _nothing(tx: sa.Connection, policy_type: str, now: datetime) -> str:
    """Return the id of the empty document, which holds where no other ever did."""
    named = document_id(policy_type, EMPTY_DOCUMENT)
    chain_store.write_documents(tx, policy_type, {named: EMPTY_DOCUMENT}, now=now)
    return named


def place_accounts(
    tx: sa.Connection, organization_id: str, policy_type: str, accounts: Sequence[str] | None, *, now: datetime
) -> int:
    """Put accounts (all of the organization for None) on the chains of where they stand now; return how many moved.

    Accounts that stand nowhere in the organization go off their chains.
    """
    places = chain_store.places(tx, organization_id, accounts)
    before = chain_store.chain_of_accounts(tx, organization_id, policy_type, accounts)
    attached = store.attachments(tx, organization_id, policy_type)
    by_unit: dict[str, str] = {}
    chains: dict[str, Chain] = {}
    wanted: dict[str, str | None] = dict.fromkeys(before)
    for account, unit_path in places.items():
        ids = unit_path.rstrip("/").split("/")[1:]
        chain_id = None if attached.get(account) else by_unit.get(unit_path)
        if chain_id is None:
            chain = chain_of(organization_id, policy_type, [*ids, account], attached)
            chain_id = chain.id
            chains[chain_id] = chain
            if not attached.get(account):
                by_unit[unit_path] = chain_id
        wanted[account] = chain_id
    moved = {account: chain_id for account, chain_id in wanted.items() if before.get(account) != chain_id}
    _move_accounts(tx, organization_id, policy_type, moved, before, chains, now=now)
    return len(moved)


def _move_accounts(
    tx: sa.Connection,
    organization_id: str,
    policy_type: str,
    moved: Mapping[str, str | None],
    before: Mapping[str, str],
    chains: Mapping[str, Chain],
    *,
    now: datetime,
) -> None:
    joining = [chains[chain_id] for chain_id in {each for each in moved.values() if each is not None}]
    evaluated = evaluate_new(tx, organization_id, joining, now=now)
    held = chain_store.open_documents(tx, [*{*before.values(), *evaluated}])
    nothing = _nothing(tx, policy_type, now)
    fallbacks: dict[str, str | None] = {}
    for account, chain_id in moved.items():
        if chain_id is None or evaluated[chain_id].document_id is not None:
            if account in before:
                fallbacks[account] = None
            continue
        kept = held.get(before.get(account, ""), nothing)
        if kept != held.get(chain_id, nothing):
            fallbacks[account] = kept
    chain_store.set_fallbacks(tx, policy_type, fallbacks, now=now)
    chain_store.end_account_chains(tx, policy_type, [account for account in moved if account in before], now=now)
    joined = {account: chain_id for account, chain_id in moved.items() if chain_id is not None}
    chain_store.start_account_chains(tx, policy_type, joined, now=now)
