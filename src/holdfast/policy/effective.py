"""What holds for an account, now or at any past instant: the document, since when, why, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.paging import Page, page_of
from holdfast.database.values import FOREVER, from_json, instant, stamp
from holdfast.policy import store
from holdfast.policy.chain_store import evaluation_from
from holdfast.policy.distribution import EMPTY_DOCUMENT
from holdfast.policy.errors import EffectivePolicyNotFoundError
from holdfast.policy.model.chain import Chain, Merger
from holdfast.policy.model.merge import Attached, Effective, Level, document_id, effective
from holdfast.policy.model.validation import ValidationError


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """The effective policy of one account and type at one instant."""

    account_id: str
    policy_type: str
    document_id: str
    content: str = field(repr=False)
    since: datetime
    """Since when this document holds for the account."""
    updated_at: datetime
    """When it was last computed, whatever came out."""
    errors: tuple[ValidationError, ...]
    """Why the document that the policies make now is withheld; empty if it is the one in force."""
    versions: Mapping[str, int]
    """The versions of policies that were last computed."""


_IN_FORCE = text("""
    SELECT ac.chain_id, ac.starts_at AS chain_since, e.document_id, e.errors, e.policy_versions, e.starts_at,
           own.document_id AS own_document, own.starts_at AS own_since, cd.document_id AS chain_document,
           cd.starts_at AS document_since, d.content
      FROM account_chain ac
      JOIN chain_evaluation e ON e.chain_id = ac.chain_id AND e.starts_at <= :at AND e.ends_at > :at
      LEFT JOIN account_document own
        ON own.account_id = ac.account_id AND own.type = ac.type AND own.starts_at <= :at AND own.ends_at > :at
      LEFT JOIN chain_document cd ON cd.chain_id = ac.chain_id AND cd.starts_at <= :at AND cd.ends_at > :at
      LEFT JOIN document d ON d.id = COALESCE(own.document_id, cd.document_id)
     WHERE ac.account_id = :account AND ac.type = :type AND ac.starts_at <= :at AND ac.ends_at > :at""")

# The computation that gave a document, on the last chain on which the account could have got it.
_SOURCE = text("""
    SELECT e.chain_id, e.document_id, e.errors, e.policy_versions, e.starts_at, c.organization_id, c.attachments
      FROM account_chain ac
      JOIN chain c ON c.id = ac.chain_id
      JOIN chain_evaluation e ON e.chain_id = ac.chain_id AND e.document_id = :document
       AND e.starts_at <= :at AND e.starts_at < ac.ends_at AND e.ends_at > ac.starts_at
     WHERE ac.account_id = :account AND ac.type = :type AND ac.starts_at <= :at
     ORDER BY ac.starts_at DESC, e.starts_at DESC LIMIT 1""")

# Every account of an organization is on a chain of a type exactly while the type is switched on; so is its management
# account, which stays.
_SWITCHED_ON = text("""
    SELECT count(*)
      FROM organization o
      JOIN account_chain ac
        ON ac.account_id = o.management_account AND ac.type = :type AND ac.starts_at <= :at AND ac.ends_at > :at
      JOIN chain c ON c.id = ac.chain_id AND c.organization_id = o.id
     WHERE o.id = :organization""")

_INVALID = text("""
    SELECT ac.account_id
      FROM account_chain ac
      JOIN chain c ON c.id = ac.chain_id
      JOIN chain_evaluation e ON e.chain_id = ac.chain_id AND e.ends_at = :forever
     WHERE c.organization_id = :organization AND ac.type = :type AND ac.ends_at = :forever AND e.document_id IS NULL
       AND ac.account_id > :after
     ORDER BY ac.account_id LIMIT :limit""")


def effective_policy(
    tx: sa.Connection,
    account_id: str,
    policy_type: str,
    *,
    organization_id: str,
    now: datetime,
    at: datetime | None = None,
) -> PolicyInForce:
    """Return what holds for an account at `at`, without it at `now`.

    Raises:
        EffectivePolicyNotFoundError: the type is (or was then) not switched on for the account.
    """
    if at is None and not store.is_enabled(tx, organization_id, policy_type):
        raise EffectivePolicyNotFoundError
    moment = stamp(at or now)
    row = tx.execute(_IN_FORCE, {"account": account_id, "type": policy_type, "at": moment}).one_or_none()
    if row is None:
        raise EffectivePolicyNotFoundError
    evaluation = evaluation_from(row)
    held = row.own_document or row.chain_document
    since = row.own_since if row.own_document else max(row.chain_since, row.document_since or 0)
    return PolicyInForce(
        account_id=account_id,
        policy_type=policy_type,
        document_id=held or document_id(policy_type, EMPTY_DOCUMENT),
        content=row.content or EMPTY_DOCUMENT,
        since=instant(since),
        updated_at=instant(max(row.chain_since, evaluation.at)),
        errors=evaluation.errors,
        versions=evaluation.versions,
    )


def explain(tx: sa.Connection, account_id: str, policy_type: str, *, at: datetime) -> Effective:
    """Return the document that holds for an account at `at`, with the origin of every value.

    Raises:
        EffectivePolicyNotFoundError: there is none of this type then.
    """
    moment = stamp(at)
    held = tx.execute(_IN_FORCE, {"account": account_id, "type": policy_type, "at": moment}).one_or_none()
    if held is None:
        raise EffectivePolicyNotFoundError
    named = held.own_document or held.chain_document
    where = {"account": account_id, "type": policy_type, "document": named, "at": moment}
    row = tx.execute(_SOURCE, where).one_or_none() if named else None
    if row is None:
        return Effective({}, ())
    chain = Chain.from_json(row.organization_id, policy_type, from_json(row.attachments))
    contents = store.contents_of_versions(tx, row.organization_id, evaluation_from(row).versions)
    return Merger(contents).effective(chain)


def explain_node(
    tx: sa.Connection, organization_id: str, path: Sequence[str], policy_type: str, *, at: datetime
) -> Effective:
    """Return what the policies on `path`, from the root down to a unit, made at `at`; what is below may add to it.

    Whether it would be valid by itself is no question: only accounts have effective policies.

    Raises:
        EffectivePolicyNotFoundError: the type was not switched on then.
    """
    where = {"organization": organization_id, "type": policy_type, "at": stamp(at)}
    if not tx.execute(_SWITCHED_ON, where).scalar_one():
        raise EffectivePolicyNotFoundError
    attached = store.contents_attached_at(tx, organization_id, policy_type, path, at=at)
    chain = [Level(node, tuple(Attached(*policy) for policy in attached.get(node, []))) for node in path]
    return effective(chain, policy_type=policy_type)


def accounts_with_invalid_policy(
    tx: sa.Connection, organization_id: str, policy_type: str, *, after: Any, limit: int
) -> Page[str]:
    """Return a page of the ids of accounts whose policies make an invalid document, in the order of their ids.

    Raises:
        EffectivePolicyNotFoundError: the type is not switched on.
    """
    if not store.is_enabled(tx, organization_id, policy_type):
        raise EffectivePolicyNotFoundError
    where = {"organization": organization_id, "type": policy_type, "forever": FOREVER}
    rows = tx.execute(_INVALID, {**where, "after": after or "", "limit": limit + 1})
    return page_of([row.account_id for row in rows], limit, lambda account: account)
