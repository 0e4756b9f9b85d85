"""Rows of chains, documents and the intervals between them: who was on which chain, and what held there, when.

Every interval table keeps at most one open row for a key. Replacing it changes the open row in place if it began at
the same instant (or, the clock having been set back, later): it never held.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import FOREVER, from_json, stamp, to_json
from holdfast.policy.model.chain import Chain
from holdfast.policy.model.validation import ValidationError

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One computation of a chain: the document if it was valid, else why it was not."""

    chain_id: str
    document_id: str | None
    """None if the document was invalid; then what held before still holds."""
    errors: tuple[ValidationError, ...]
    versions: Mapping[str, int]
    """The version of each policy that it was computed from."""
    at: int = 0


_CHAIN_COLUMNS = "c.id, c.organization_id, c.type, c.attachments"
_INSERT_CHAIN = text("""
    INSERT INTO chain (id, organization_id, type, attachments) VALUES (:id, :organization, :type, :attachments)
    ON CONFLICT DO NOTHING""")
_CHAINS = text(f"SELECT {_CHAIN_COLUMNS} FROM chain c WHERE c.id IN :ids").bindparams(
    sa.bindparam("ids", expanding=True)
)
# Accounts at or below a node: all of the organization, those below a unit, or one.
_SCOPE = """
    SELECT account_id FROM placement
     WHERE organization_id = :organization AND ends_at = :forever AND (path LIKE :below OR account_id = :node)"""
_CHAINS_IN_USE = text(f"""
    SELECT DISTINCT {_CHAIN_COLUMNS} FROM account_chain ac JOIN chain c ON c.id = ac.chain_id
     WHERE c.organization_id = :organization AND ac.type = :type AND ac.ends_at = :forever""")
_CHAINS_BELOW = text(f"""
    SELECT DISTINCT {_CHAIN_COLUMNS} FROM account_chain ac JOIN chain c ON c.id = ac.chain_id
     WHERE c.organization_id = :organization AND ac.type = :type AND ac.ends_at = :forever
       AND ac.account_id IN ({_SCOPE})""")
_ALL_CHAINS_OF_ACCOUNTS = """
    SELECT ac.account_id, ac.chain_id FROM account_chain ac JOIN chain c ON c.id = ac.chain_id
     WHERE ac.type = :type AND ac.ends_at = :forever AND c.organization_id = :organization"""
_CHAIN_OF_ACCOUNTS = text(f"{_ALL_CHAINS_OF_ACCOUNTS} AND ac.account_id IN :accounts").bindparams(
    sa.bindparam("accounts", expanding=True)
)
_LEFT = text("""
    SELECT DISTINCT ac.account_id, c.organization_id
      FROM account_chain ac JOIN chain c ON c.id = ac.chain_id
     WHERE ac.ends_at = :forever AND ac.account_id IN :accounts
       AND NOT EXISTS (SELECT 1 FROM placement p
                        WHERE p.account_id = ac.account_id AND p.ends_at = :forever
                          AND p.organization_id = c.organization_id)""").bindparams(
    sa.bindparam("accounts", expanding=True)
)
_ORGANIZATION_OF = text("""
    SELECT account_id, organization_id FROM placement
     WHERE ends_at = :forever AND account_id IN :accounts""").bindparams(sa.bindparam("accounts", expanding=True))
_END_CHAINS = """
    {verb} WHERE ends_at = :forever AND starts_at {compared} :now AND account_id = :account"""
_PLACES = text("""
    SELECT account_id, path FROM placement
     WHERE ends_at = :forever AND organization_id = :organization AND account_id IN :accounts""").bindparams(
    sa.bindparam("accounts", expanding=True)
)
_ALL_PLACES = text(
    "SELECT account_id, path FROM placement WHERE ends_at = :forever AND organization_id = :organization"
)

_INSERT_DOCUMENT = text("""
    INSERT INTO document (id, type, content, created_at) VALUES (:id, :type, :content, :now)
    ON CONFLICT DO NOTHING""")
_OPEN_DOCUMENTS = text("""
    SELECT chain_id, document_id FROM chain_document WHERE ends_at = :forever AND chain_id IN :ids""").bindparams(
    sa.bindparam("ids", expanding=True)
)
_OPEN_EVALUATIONS = text("""
    SELECT chain_id, document_id, errors, policy_versions, starts_at FROM chain_evaluation
     WHERE ends_at = :forever AND chain_id IN :ids""").bindparams(sa.bindparam("ids", expanding=True))

_REPLACE_DOCUMENT = (
    text("""UPDATE chain_document SET document_id = :document
             WHERE chain_id = :chain AND ends_at = :forever AND starts_at >= :now"""),
    text("""UPDATE chain_document SET ends_at = :now
             WHERE chain_id = :chain AND ends_at = :forever AND starts_at < :now"""),
    text("""INSERT INTO chain_document (chain_id, document_id, starts_at, ends_at)
            SELECT CAST(:chain AS TEXT), CAST(:document AS TEXT), CAST(:now AS BIGINT), CAST(:forever AS BIGINT)
             WHERE NOT EXISTS (SELECT 1 FROM chain_document WHERE chain_id = :chain AND ends_at = :forever)"""),
)
_REPLACE_EVALUATION = (
    text("""UPDATE chain_evaluation SET document_id = :document, errors = :errors, policy_versions = :versions
             WHERE chain_id = :chain AND ends_at = :forever AND starts_at >= :now"""),
    text("""UPDATE chain_evaluation SET ends_at = :now
             WHERE chain_id = :chain AND ends_at = :forever AND starts_at < :now"""),
    text("""INSERT INTO chain_evaluation (chain_id, document_id, errors, policy_versions, starts_at, ends_at)
            SELECT CAST(:chain AS TEXT), CAST(:document AS TEXT), CAST(:errors AS TEXT), CAST(:versions AS TEXT),
                   CAST(:now AS BIGINT), CAST(:forever AS BIGINT)
             WHERE NOT EXISTS (SELECT 1 FROM chain_evaluation WHERE chain_id = :chain AND ends_at = :forever)"""),
)
_CLOSE_FALLBACKS = (
    """DELETE FROM account_document
        WHERE type = :type AND ends_at = :forever AND starts_at >= :now AND account_id IN ({accounts})""",
    """UPDATE account_document SET ends_at = :now
        WHERE type = :type AND ends_at = :forever AND starts_at < :now AND account_id IN ({accounts})""",
)
_ON_CHAIN = "SELECT account_id FROM account_chain WHERE chain_id = :chain AND ends_at = :forever"
_ON_CHAIN_BELOW = f"{_ON_CHAIN} AND account_id IN ({_SCOPE})"
_FALL_BACK = """
    INSERT INTO account_document (account_id, type, document_id, starts_at, ends_at)
    SELECT moving.account_id, CAST(:type AS TEXT), CAST(:document AS TEXT), CAST(:now AS BIGINT),
           CAST(:forever AS BIGINT)
      FROM ({accounts}) moving
     WHERE NOT EXISTS (SELECT 1 FROM account_document own
                        WHERE own.account_id = moving.account_id AND own.type = :type AND own.ends_at = :forever)"""

# Accounts on some chains, as far as they stand below a node, go over to other chains.
_MOVE = (
    """{moved} UPDATE account_chain SET chain_id = (SELECT new FROM moved WHERE old = chain_id)
        WHERE ends_at = :forever AND starts_at >= :now AND chain_id IN (SELECT old FROM moved) {below}""",
    """{moved} INSERT INTO account_chain (account_id, type, chain_id, starts_at, ends_at)
       SELECT account_id, type, moved.new, CAST(:now AS BIGINT), ends_at
         FROM account_chain JOIN moved ON moved.old = chain_id
        WHERE ends_at = :forever AND starts_at < :now {below}""",
    """{moved} UPDATE account_chain SET ends_at = :now
        WHERE ends_at = :forever AND starts_at < :now AND chain_id IN (SELECT old FROM moved) {below}""",
)
_DROP_ACCOUNT_CHAIN = text("""
    DELETE FROM account_chain
     WHERE account_id = :account AND type = :type AND ends_at = :forever AND starts_at >= :now""")
_END_ACCOUNT_CHAIN = text("""
    UPDATE account_chain SET ends_at = :now
     WHERE account_id = :account AND type = :type AND ends_at = :forever AND starts_at < :now""")
_INSERT_ACCOUNT_CHAIN = text("""
    INSERT INTO account_chain (account_id, type, chain_id, starts_at, ends_at)
    VALUES (:account, :type, :chain, :now, :forever)""")
_IN_ORGANIZATION = """
    SELECT ac.account_id FROM account_chain ac JOIN chain c ON c.id = ac.chain_id
     WHERE c.organization_id = :organization AND ac.type = :type AND ac.ends_at = :forever"""
_DROP_TYPE = text("""
    DELETE FROM account_chain WHERE type = :type AND ends_at = :forever AND starts_at >= :now
       AND chain_id IN (SELECT id FROM chain WHERE organization_id = :organization AND type = :type)""")
_END_TYPE = text("""
    UPDATE account_chain SET ends_at = :now WHERE type = :type AND ends_at = :forever AND starts_at < :now
       AND chain_id IN (SELECT id FROM chain WHERE organization_id = :organization AND type = :type)""")


def _chain(row: Any) -> Chain:
    return Chain.from_json(row.organization_id, row.type, from_json(row.attachments))


def intern_chains(tx: sa.Connection, chains: Iterable[Chain]) -> None:
    """Keep these chains; those that are kept already stay as they are."""
    rows = [
        {
            "id": chain.id,
            "organization": chain.organization_id,
            "type": chain.policy_type,
            "attachments": to_json(chain.to_json()),
        }
        for chain in chains
    ]
    if rows:
        tx.execute(_INSERT_CHAIN, rows)


def chains_by_id(tx: sa.Connection, chain_ids: Sequence[str]) -> dict[str, Chain]:
    """Return those of these chains that are kept, by id."""
    return {row.id: _chain(row) for batch in _batches(chain_ids) for row in tx.execute(_CHAINS, {"ids": batch})}


def chains_in_use(tx: sa.Connection, organization_id: str, policy_type: str) -> list[Chain]:
    """Return the chains that accounts are on now."""
    where = {"organization": organization_id, "type": policy_type, "forever": FOREVER}
    return [_chain(row) for row in tx.execute(_CHAINS_IN_USE, where)]


def chains_below(tx: sa.Connection, organization_id: str, policy_type: str, path: Sequence[str]) -> list[Chain]:
    """Return the chains of the accounts that stand below the last node of `path`, or are it."""
    where = {"type": policy_type, "forever": FOREVER, **_scope(organization_id, path)}
    return [_chain(row) for row in tx.execute(_CHAINS_BELOW, where)]


def _scope(organization_id: str, path: Sequence[str]) -> dict[str, str]:
    return {
        "organization": organization_id,
        "below": "/".join([organization_id, *path, "%"]),
        "node": path[-1],
    }


def chain_of_accounts(
    tx: sa.Connection, organization_id: str, policy_type: str, accounts: Sequence[str] | None
) -> dict[str, str]:
    """Return the ids of the chains that accounts are on now, by account; of all in the organization for None."""
    where = {"type": policy_type, "forever": FOREVER, "organization": organization_id}
    if accounts is None:
        rows = tx.execute(text(_ALL_CHAINS_OF_ACCOUNTS), where)
        return {row.account_id: row.chain_id for row in rows}
    return {
        row.account_id: row.chain_id
        for batch in _batches(accounts)
        for row in tx.execute(_CHAIN_OF_ACCOUNTS, {**where, "accounts": batch})
    }


def accounts_that_left(tx: sa.Connection, accounts: Sequence[str]) -> list[str]:
    """Return those of these accounts that are on a chain of an organization in which they stand nowhere now."""
    return sorted(
        {
            row.account_id
            for batch in _batches(accounts)
            for row in tx.execute(_LEFT, {"accounts": batch, "forever": FOREVER})
        }
    )


def end_accounts(tx: sa.Connection, accounts: Sequence[str], *, now: datetime) -> None:
    """Let these accounts be on no chain and keep no document of their own, of any type."""
    rows = [{"account": account, "now": stamp(now), "forever": FOREVER} for account in accounts]
    for table in ("account_document", "account_chain"):
        for verb, compared in ((f"DELETE FROM {table}", ">="), (f"UPDATE {table} SET ends_at = :now", "<")):
            if rows:
                tx.execute(text(_END_CHAINS.format(verb=verb, compared=compared)), rows)


def accounts_by_organization(tx: sa.Connection, accounts: Sequence[str]) -> dict[str, list[str]]:
    """Return these accounts by the organization that they stand in now; those that stand in none are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for batch in _batches(accounts):
        for row in tx.execute(_ORGANIZATION_OF, {"accounts": batch, "forever": FOREVER}):
            found[row.organization_id].append(row.account_id)
    return dict(found)


def places(tx: sa.Connection, organization_id: str, accounts: Sequence[str] | None) -> dict[str, str]:
    """Return the paths of the units that accounts stand under now, by account; of all for None."""
    where = {"organization": organization_id, "forever": FOREVER}
    if accounts is None:
        return {row.account_id: row.path for row in tx.execute(_ALL_PLACES, where)}
    return {
        row.account_id: row.path
        for batch in _batches(accounts)
        for row in tx.execute(_PLACES, {**where, "accounts": batch})
    }


def _batches(values: Sequence[str]) -> Iterable[list[str]]:
    listed = list(values)
    return (listed[start : start + _BATCH] for start in range(0, len(listed), _BATCH))


def open_documents(tx: sa.Connection, chain_ids: Sequence[str]) -> dict[str, str]:
    """Return the documents in force on these chains, by chain."""
    return {
        row.chain_id: row.document_id
        for batch in _batches(chain_ids)
        for row in tx.execute(_OPEN_DOCUMENTS, {"ids": batch, "forever": FOREVER})
    }


def open_evaluations(tx: sa.Connection, chain_ids: Sequence[str]) -> dict[str, Evaluation]:
    """Return the last computation of each of these chains, by chain."""
    return {
        row.chain_id: evaluation_from(row)
        for batch in _batches(chain_ids)
        for row in tx.execute(_OPEN_EVALUATIONS, {"ids": batch, "forever": FOREVER})
    }


def evaluation_from(row: Any) -> Evaluation:
    """Return the evaluation that a row of chain_evaluation holds."""
    errors = tuple(
        ValidationError(path, code, message, tuple(policies)) for path, code, message, policies in from_json(row.errors)
    )
    return Evaluation(row.chain_id, row.document_id, errors, from_json(row.policy_versions), row.starts_at)


def write_documents(tx: sa.Connection, policy_type: str, documents: Mapping[str, str], *, now: datetime) -> None:
    """Keep documents by id; those that are kept already stay as they are."""
    rows = [{"id": id_, "type": policy_type, "content": text_, "now": stamp(now)} for id_, text_ in documents.items()]
    if rows:
        tx.execute(_INSERT_DOCUMENT, rows)


def write_evaluations(tx: sa.Connection, evaluations: Sequence[Evaluation], *, now: datetime) -> None:
    """Write what computing chains gave; from now on the valid documents are in force on their chains."""
    common = {"now": stamp(now), "forever": FOREVER}
    rows = [
        {
            **common,
            "chain": each.chain_id,
            "document": each.document_id,
            "errors": to_json(
                [[error.path, error.code, error.message, error.contributing_policies] for error in each.errors]
            ),
            "versions": to_json(dict(each.versions)),
        }
        for each in evaluations
    ]
    held = open_documents(tx, [each.chain_id for each in evaluations])
    changed = [row for row in rows if row["document"] is not None and held.get(str(row["chain"])) != row["document"]]
    for statements, values in ((_REPLACE_EVALUATION, rows), (_REPLACE_DOCUMENT, changed)):
        for statement in statements:
            if values:
                tx.execute(statement, values)


def move_chains(
    tx: sa.Connection,
    moves: Sequence[tuple[Chain, Chain]],
    organization_id: str,
    path: Sequence[str],
    *,
    now: datetime,
) -> None:
    """Put the accounts that stand below the last node of `path` on the chains that replace theirs."""
    is_root = len(path) == 1  # then all accounts on these chains stand below it
    below = "" if is_root else f"AND account_id IN ({_SCOPE})"
    common = {"now": stamp(now), "forever": FOREVER, **({} if is_root else _scope(organization_id, path))}
    for start in range(0, len(moves), _BATCH):
        batch = moves[start : start + _BATCH]
        pairs = ", ".join(f"(CAST(:old{n} AS TEXT), CAST(:new{n} AS TEXT))" for n in range(len(batch)))
        moved = f"WITH moved (old, new) AS (VALUES {pairs})"
        ids = {
            f"{side}{n}": chain.id
            for n, pair in enumerate(batch)
            for side, chain in zip(("old", "new"), pair, strict=True)
        }
        for statement in _MOVE:
            tx.execute(text(statement.format(moved=moved, below=below)), {**common, **ids})


def fall_back_below(
    tx: sa.Connection, chain: Chain, document_id: str, organization_id: str, path: Sequence[str], *, now: datetime
) -> None:
    """Let the accounts of a chain that stand below a node keep this document, if they keep none of their own yet."""
    row = {
        "chain": chain.id,
        "type": chain.policy_type,
        "document": document_id,
        "now": stamp(now),
        "forever": FOREVER,
        **_scope(organization_id, path),
    }
    tx.execute(text(_FALL_BACK.format(accounts=_ON_CHAIN_BELOW)), row)


def close_fallbacks_on(tx: sa.Connection, policy_type: str, chain_ids: Sequence[str], *, now: datetime) -> None:
    """Let the accounts on these chains keep no document of their own any more."""
    rows = [{"type": policy_type, "chain": chain_id, "now": stamp(now), "forever": FOREVER} for chain_id in chain_ids]
    for statement in _CLOSE_FALLBACKS:
        if rows:
            tx.execute(text(statement.format(accounts=_ON_CHAIN)), rows)


def end_account_chains(tx: sa.Connection, policy_type: str, accounts: Sequence[str], *, now: datetime) -> None:
    """Let each of these accounts be on no chain any more."""
    rows = [{"type": policy_type, "now": stamp(now), "forever": FOREVER, "account": account} for account in accounts]
    if rows:
        tx.execute(_DROP_ACCOUNT_CHAIN, rows)
        tx.execute(_END_ACCOUNT_CHAIN, rows)


def start_account_chains(tx: sa.Connection, policy_type: str, chains: Mapping[str, str], *, now: datetime) -> None:
    """Put each account, which is on no chain, on one."""
    common = {"type": policy_type, "now": stamp(now), "forever": FOREVER}
    rows = [{**common, "account": account, "chain": chain} for account, chain in chains.items()]
    if rows:
        tx.execute(_INSERT_ACCOUNT_CHAIN, rows)


def set_fallbacks(tx: sa.Connection, policy_type: str, documents: Mapping[str, str | None], *, now: datetime) -> None:
    """Let each account keep a document of its own if it keeps none yet, or for None keep none any more."""
    common = {"type": policy_type, "now": stamp(now), "forever": FOREVER}
    closing = [{**common, "account": account} for account, document in documents.items() if document is None]
    keeping = [
        {**common, "account": account, "document": document} for account, document in documents.items() if document
    ]
    for statement in _CLOSE_FALLBACKS:
        if closing:
            tx.execute(text(statement.format(accounts=":account")), closing)
    if keeping:
        tx.execute(text(_FALL_BACK.format(accounts="SELECT CAST(:account AS TEXT) AS account_id")), keeping)


def end_type(tx: sa.Connection, organization_id: str, policy_type: str, *, now: datetime) -> None:
    """Let no account of the organization be on a chain of this type, nor keep a document of its own."""
    row = {"organization": organization_id, "type": policy_type, "now": stamp(now), "forever": FOREVER}
    for statement in _CLOSE_FALLBACKS:
        tx.execute(text(statement.format(accounts=_IN_ORGANIZATION)), row)
    tx.execute(_DROP_TYPE, row)
    tx.execute(_END_TYPE, row)
