"""How far a policy has come: which accounts have its present version, since when, and which do not, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, page_of
from holdfast.database.values import from_json, instant, stamp
from holdfast.policy.chain_store import evaluation_from
from holdfast.policy.errors import PolicyNotFoundError
from holdfast.policy.model.validation import ValidationError


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far a policy has come in one account."""

    account_id: str
    version_in_force: int | None
    """The version that the document in force was made with; None if it was made without this policy."""
    since: datetime
    """Since when the document in force holds for the account."""
    errors: tuple[ValidationError, ...]
    """Why the document that the policy makes now is withheld; empty if it is in force."""


_VERSION = text("""
    SELECT version FROM policy_version
     WHERE organization_id = :organization AND policy_id = :policy AND starts_at <= :at AND ends_at > :at""")
_CHAINS = text("""
    SELECT c.id, c.attachments, e.document_id, e.errors, e.policy_versions, e.starts_at, e.chain_id
      FROM chain c
      JOIN chain_evaluation e ON e.chain_id = c.id AND e.starts_at <= :at AND e.ends_at > :at
     WHERE c.organization_id = :organization AND c.attachments LIKE :needle""")
_ACCOUNTS = text("""
    SELECT ac.account_id, ac.chain_id, ac.starts_at AS chain_since, own.document_id AS own_document,
           own.starts_at AS own_since, cd.document_id AS chain_document, cd.starts_at AS document_since
      FROM account_chain ac
      LEFT JOIN account_document own
        ON own.account_id = ac.account_id AND own.type = ac.type AND own.starts_at <= :at AND own.ends_at > :at
      LEFT JOIN chain_document cd ON cd.chain_id = ac.chain_id AND cd.starts_at <= :at AND cd.ends_at > :at
     WHERE ac.chain_id IN :chains AND ac.starts_at <= :at AND ac.ends_at > :at AND ac.account_id > :after
     ORDER BY ac.account_id LIMIT :limit""").bindparams(sa.bindparam("chains", expanding=True))
# The last computations that gave the documents in force, wherever the accounts stood then.
_SOURCES = text("""
    SELECT ac.account_id, e.document_id, e.policy_versions
      FROM account_chain ac
      JOIN chain_evaluation e ON e.chain_id = ac.chain_id AND e.document_id IN :documents
       AND e.starts_at <= :at AND e.starts_at < ac.ends_at AND e.ends_at > ac.starts_at
     WHERE ac.account_id IN :accounts AND ac.starts_at <= :at
     ORDER BY ac.starts_at, e.starts_at""").bindparams(
    sa.bindparam("documents", expanding=True), sa.bindparam("accounts", expanding=True)
)


def policy_version(tx: sa.Connection, organization_id: str, policy_id: str, *, at: datetime) -> int:
    """Return the version that a policy had at an instant.

    Raises:
        PolicyNotFoundError: there was no such policy then.
    """
    where = {"organization": organization_id, "policy": policy_id, "at": stamp(at)}
    version = tx.execute(_VERSION, where).scalar_one_or_none()
    if version is None:
        raise PolicyNotFoundError
    return int(version)


def receipts(
    tx: sa.Connection, organization_id: str, policy_id: str, *, at: datetime, after: Any, limit: int
) -> Page[Receipt]:
    """Return a page of how far a policy had come at an instant, one for each account below its attachments, by id."""
    moment = stamp(at)
    where = {"organization": organization_id, "at": moment, "needle": f'%"{policy_id}"%'}
    chains = {row.id: evaluation_from(row) for row in tx.execute(_CHAINS, where)}
    if not chains:
        return Page(())
    rows = tx.execute(
        _ACCOUNTS, {"chains": sorted(chains), "at": moment, "after": after or "", "limit": limit + 1}
    ).all()
    page = page_of(rows, limit, lambda row: row.account_id)
    versions = _versions_in_force(tx, policy_id, page.items, moment)
    found = tuple(
        Receipt(
            account_id=row.account_id,
            version_in_force=versions.get(row.account_id),
            since=instant(row.own_since or max(row.chain_since, row.document_since or 0)),
            errors=chains[row.chain_id].errors,
        )
        for row in page.items
    )
    return Page(found, page.position)


def _versions_in_force(
    tx: sa.Connection, policy_id: str, rows: tuple["sa.Row[Any]", ...], moment: int
) -> Mapping[str, int]:
    """Return the version of the policy that each account's document in force was made with."""
    held = {row.account_id: row.own_document or row.chain_document for row in rows}
    documents = sorted({document for document in held.values() if document is not None})
    if not documents:
        return {}
    versions: dict[str, int] = {}
    for row in tx.execute(_SOURCES, {"documents": documents, "accounts": sorted(held), "at": moment}):
        if held[row.account_id] == row.document_id:
            made_with = from_json(row.policy_versions).get(policy_id)
            versions.pop(row.account_id, None)
            if made_with is not None:
                versions[row.account_id] = made_with
    return versions
