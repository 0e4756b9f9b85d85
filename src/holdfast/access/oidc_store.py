"""The SQL of OpenID Connect providers."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy import text

from holdfast.access.model.web_identity import OidcProvider
from holdfast.database.values import from_json, instant, stamp, to_json

_COLUMNS = "arn, account, url, client_ids, thumbprints, created_at"
_ADD = text(f"""
    INSERT INTO iam_oidc_provider ({_COLUMNS})
    VALUES (:arn, :account, :url, :client_ids, :thumbprints, :at) ON CONFLICT DO NOTHING""")
_FIND = text(f"SELECT {_COLUMNS} FROM iam_oidc_provider WHERE arn = :arn")
_OF_ACCOUNT = text(f"SELECT {_COLUMNS} FROM iam_oidc_provider WHERE account = :account ORDER BY arn")
_BY_URL = text(f"SELECT {_COLUMNS} FROM iam_oidc_provider WHERE account = :account AND url = :url")
_UPDATE = text("UPDATE iam_oidc_provider SET client_ids = :client_ids, thumbprints = :thumbprints WHERE arn = :arn")
_DELETE = text("DELETE FROM iam_oidc_provider WHERE arn = :arn")


def _provider(row: sa.Row[Any]) -> OidcProvider:
    return OidcProvider(
        arn=row.arn,
        account=row.account,
        url=row.url,
        client_ids=tuple(from_json(row.client_ids)),
        thumbprints=tuple(from_json(row.thumbprints)),
        created_at=instant(row.created_at),
    )


def _lists(provider: OidcProvider) -> dict[str, Any]:
    return {
        "arn": provider.arn,
        "client_ids": to_json(provider.client_ids),
        "thumbprints": to_json(provider.thumbprints),
    }


def add_provider(tx: sa.Connection, provider: OidcProvider) -> bool:
    """Write a new provider; return False when there is one of this ARN."""
    row = {**_lists(provider), "account": provider.account, "url": provider.url, "at": stamp(provider.created_at)}
    return tx.execute(_ADD, row).rowcount == 1


def find_provider(tx: sa.Connection, arn: str) -> OidcProvider | None:
    """Return the provider with this ARN."""
    row = tx.execute(_FIND, {"arn": arn}).one_or_none()
    return None if row is None else _provider(row)


def find_provider_of(tx: sa.Connection, account: str, url: str) -> OidcProvider | None:
    """Return an account's provider for an issuer."""
    row = tx.execute(_BY_URL, {"account": account, "url": url}).one_or_none()
    return None if row is None else _provider(row)


def list_providers(tx: sa.Connection, account: str) -> list[OidcProvider]:
    """Return the providers of an account."""
    return [_provider(row) for row in tx.execute(_OF_ACCOUNT, {"account": account})]


def update_provider(tx: sa.Connection, provider: OidcProvider) -> None:
    """Write for whom, and with which thumbprints, a provider's tokens count."""
    tx.execute(_UPDATE, _lists(provider))


def delete_provider(tx: sa.Connection, arn: str) -> None:
    """Remove a provider."""
    tx.execute(_DELETE, {"arn": arn})
