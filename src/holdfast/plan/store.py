"""Which backup document holds for an account, now or at any past instant."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.database.values import instant, stamp

# A fallback of the account's own goes before the document of its chain.
_IN_FORCE = text("""
    SELECT d.id, d.content, held.since, p.organization_id
      FROM (SELECT document_id, starts_at AS since, 0 AS rank
              FROM account_document
             WHERE account_id = :account AND type = 'BACKUP_POLICY' AND starts_at <= :at AND ends_at > :at
             UNION ALL
            SELECT cd.document_id,
                   CASE WHEN cd.starts_at > ac.starts_at THEN cd.starts_at ELSE ac.starts_at END AS since, 1 AS rank
              FROM account_chain ac
              JOIN chain_document cd ON cd.chain_id = ac.chain_id AND cd.starts_at <= :at AND cd.ends_at > :at
             WHERE ac.account_id = :account AND ac.type = 'BACKUP_POLICY' AND ac.starts_at <= :at AND ac.ends_at > :at
           ) held
      JOIN document d ON d.id = held.document_id
      JOIN placement p ON p.account_id = :account AND p.starts_at <= :at AND p.ends_at > :at
     ORDER BY held.rank
     LIMIT 1""")


@dataclass(frozen=True, slots=True)
class DocumentInForce:
    """The effective backup policy of an account at an instant."""

    id: str
    content: str
    since: datetime
    organization_id: str


def document_in_force(tx: sa.Connection, account: str, *, at: datetime) -> DocumentInForce | None:
    """Return the backup document that holds for `account` at `at`, None when there is none."""
    row = tx.execute(_IN_FORCE, {"account": account, "at": stamp(at)}).one_or_none()
    return None if row is None else DocumentInForce(row.id, row.content, instant(row.since), row.organization_id)


_CONTENT = text("SELECT content FROM document WHERE id = :id")


def document_content(tx: sa.Connection, document_id: str) -> str:
    """Return the text of a document that a job refers to; documents are kept as long as one does."""
    return str(tx.execute(_CONTENT, {"id": document_id}).scalar_one())
