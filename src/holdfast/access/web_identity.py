"""What is done with OpenID Connect issuers: registered by accounts, asked for their keys, their tokens checked.

The keys of an issuer are kept for ten minutes, and fetched anew when a token names one that is not among them, but not
more often than every ten seconds, nor by more than two threads at once: anybody may send a token. Rules: OpenID Connect
Discovery 1.0; AWS Identity and Access Management API Reference, "CreateOpenIDConnectProvider".
"""

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from joserfc import jws, jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from holdfast.access import oidc_store as store
from holdfast.access.model.identity import IdentityExistsError, IdentityNotFoundError
from holdfast.access.model.web_identity import (
    ALGORITHMS,
    LONGEST_URL,
    MOST_CLIENTS,
    MOST_THUMBPRINTS,
    InvalidIdentityTokenError,
    IssuerUnreachableError,
    OidcProvider,
    WebIdentity,
    check_claims,
)
from holdfast.access.store import raise_access_version
from holdfast.access.tag import clear_tags
from holdfast.core.clock import MachineTime
from holdfast.core.errors import InvalidInputError, LimitExceededError
from holdfast.core.outgoing import OutgoingRefusedError, UnreachableError, check_url

_THUMBPRINT: Final = re.compile(r"[0-9a-fA-F]{40}\Z")
_KEPT_SECONDS: Final = 600.0
_AGAIN_SECONDS: Final = 10.0
_MOST_AT_ONCE: Final = 2
_MOST_ISSUERS: Final = 1000
_SMALLEST_RSA: Final = 2048

MOST_BYTES: Final = 256 * 1024
"""How much of an issuer's document is read."""
Fetch = Callable[[str], bytes]
"""Gives what lies at a URL, `MOST_BYTES` at most; may raise OutgoingRefusedError and UnreachableError."""


def create_provider(
    tx: sa.Connection,
    account: str,
    url: str,
    *,
    client_ids: Iterable[str],
    thumbprints: Iterable[str],
    partition: str = "aws",
    now: datetime,
) -> OidcProvider:
    """Let roles of an account trust an issuer.

    Raises:
        InvalidInputError: the URL or a thumbprint is none.
        LimitExceededError: these are too many clients or thumbprints.
        IdentityExistsError: the account has this issuer already.
    """
    if len(url) > LONGEST_URL:
        raise InvalidInputError(f"the URL of an issuer has {LONGEST_URL} characters at most")
    check_url(url)
    name = url.removeprefix("https://")
    if not set(name) & set(".:/"):
        # Condition keys begin with it: `backup:sub` would be taken for a key of a service.
        raise InvalidInputError(f"the name of an issuer's host has a dot in it: not {name!r}")
    arn = f"arn:{partition}:iam::{account}:oidc-provider/{name}"
    provider = OidcProvider(arn, account, url, tuple(dict.fromkeys(client_ids)), tuple(thumbprints), now)
    _check(provider)
    if not store.add_provider(tx, provider):
        raise IdentityExistsError(f"Provider with url {url} already exists.")
    raise_access_version(tx)
    return provider


def get_provider(tx: sa.Connection, account: str, arn: str) -> OidcProvider:
    """Return a provider of the account.

    Raises:
        IdentityNotFoundError: it has none with this ARN.
    """
    provider = store.find_provider(tx, arn)
    if provider is None or provider.account != account:
        raise IdentityNotFoundError(f"OpenIDConnect Provider not found for arn {arn}")
    return provider


def set_clients(
    tx: sa.Connection, account: str, arn: str, *, add: str | None = None, remove: str | None = None
) -> None:
    """Let tokens for one more client count, or not any more; either may be so already."""
    provider = get_provider(tx, account, arn)
    kept = [client for client in provider.client_ids if client != remove]
    if add is not None and add not in kept:
        kept.append(add)
    changed = replace(provider, client_ids=tuple(kept))
    _check(changed)
    store.update_provider(tx, changed)
    raise_access_version(tx)


def set_thumbprints(tx: sa.Connection, account: str, arn: str, thumbprints: Iterable[str]) -> None:
    """Replace the thumbprints that are noted with a provider."""
    changed = replace(get_provider(tx, account, arn), thumbprints=tuple(thumbprints))
    _check(changed)
    store.update_provider(tx, changed)


def delete_provider(tx: sa.Connection, account: str, arn: str) -> None:
    """Let nobody in any more by this issuer; one that is not there is gone already."""
    found = store.find_provider(tx, arn)
    if found is None or found.account != account:
        return
    store.delete_provider(tx, arn)
    clear_tags(tx, account, "", arn)
    raise_access_version(tx)


def _check(provider: OidcProvider) -> None:
    if len(provider.client_ids) > MOST_CLIENTS:
        raise LimitExceededError(f"Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {MOST_CLIENTS}")
    if len(provider.thumbprints) > MOST_THUMBPRINTS:
        raise LimitExceededError(f"Cannot exceed quota for ThumbprintsPerOpenIdConnectProvider: {MOST_THUMBPRINTS}")
    for thumbprint in provider.thumbprints:
        if _THUMBPRINT.match(thumbprint) is None:
            raise InvalidInputError(f"a thumbprint is 40 hexadecimal digits, not {thumbprint!r}")


def issuer_of(token: str) -> str:
    """Return who a token says that it was issued by; nothing of it is proven yet.

    Raises:
        InvalidIdentityTokenError: it is no token.
    """
    try:
        claims = json.loads(jws.extract_compact(token.encode()).payload or b"")
    except (JoseError, ValueError, RecursionError) as error:
        raise InvalidIdentityTokenError("The ID token provided is not a valid JWT") from error
    issuer = claims.get("iss") if isinstance(claims, dict) else None
    if not isinstance(issuer, str):
        raise InvalidIdentityTokenError("The token does not say who issued it (iss)")
    return issuer


@dataclass(frozen=True, slots=True)
class _Known:
    """What an issuer said of its keys, and when."""

    keys: KeySet | None
    """None when it could not be asked; what it said before then counts until it is too old."""
    said_at: float
    asked_at: float
    why: str = ""


class Issuers:
    """The keys of issuers, kept for a while."""

    def __init__(self, machine: MachineTime, fetch: Fetch) -> None:
        self._machine = machine
        self._fetch = fetch
        self._known: dict[str, _Known] = {}
        self._guard = threading.Lock()
        self._asking = threading.BoundedSemaphore(_MOST_AT_ONCE)

    def identify(self, token: str, provider: OidcProvider) -> WebIdentity:
        """Return who a token is about.

        Raises:
            InvalidIdentityTokenError: the issuer did not sign it, or it does not count here.
            ExpiredIdentityTokenError: it is too old.
            IssuerUnreachableError: the issuer's keys are not known now.
        """
        try:
            decoded = jwt.decode(token, self._keys(provider.url), algorithms=ALGORITHMS)
        except InvalidKeyIdError:
            decoded = self._decode_with_newer(token, provider.url)
        except (JoseError, ValueError) as error:
            raise InvalidIdentityTokenError(f"The token's signature does not count: {error}") from error
        return check_claims(decoded.claims, provider, now=self._machine.now())

    def _decode_with_newer(self, token: str, url: str) -> jwt.Token:
        try:
            return jwt.decode(token, self._keys(url, newer=True), algorithms=ALGORITHMS)
        except (JoseError, ValueError) as error:
            raise InvalidIdentityTokenError(f"The token's signature does not count: {error}") from error

    def _keys(self, url: str, *, newer: bool = False) -> KeySet:
        known, now = self._known.get(url), self._machine.monotonic()
        is_good = known is not None and known.keys is not None and now - known.said_at < _KEPT_SECONDS
        if known is None or ((newer or not is_good) and now - known.asked_at >= _AGAIN_SECONDS):
            known = self._ask(url, known if is_good else None, now)
        elif not is_good:
            known = replace(known, keys=None)
        if known.keys is None:
            raise IssuerUnreachableError(f"The issuer {url} could not be asked for its keys: {known.why}")
        return known.keys

    def _ask(self, url: str, before: _Known | None, now: float) -> _Known:
        if not self._asking.acquire(blocking=False):
            raise IssuerUnreachableError("Other issuers are being asked for their keys; try again in a moment")
        try:
            known = _Known(self._published_keys(url), now, now)
        except (UnreachableError, OutgoingRefusedError, InvalidIdentityTokenError) as error:
            known = _Known(None, now, now, str(error)) if before is None else replace(before, asked_at=now)
        finally:
            self._asking.release()
        with self._guard:
            if len(self._known) >= _MOST_ISSUERS:
                self._known.clear()
            self._known[url] = known
        return known

    def _published_keys(self, url: str) -> KeySet:
        discovery = self._document(f"{url.rstrip('/')}/.well-known/openid-configuration")
        if discovery.get("issuer") != url:
            raise InvalidIdentityTokenError(f"it says that it is {str(discovery.get('issuer'))[:200]!r}")
        published = self._document(str(discovery.get("jwks_uri"))).get("keys")
        usable = [key for key in published if _is_usable(key)] if isinstance(published, list) else []
        try:
            return KeySet.import_key_set({"keys": usable})
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise InvalidIdentityTokenError(f"it publishes no key that can be used here: {error}") from error

    def _document(self, url: str) -> Mapping[str, Any]:
        try:
            document = json.loads(self._fetch(url))
        except (ValueError, RecursionError) as error:
            raise InvalidIdentityTokenError(f"what lies at {url} is no JSON") from error
        if not isinstance(document, dict):
            raise InvalidIdentityTokenError(f"what lies at {url} is no JSON object")
        return document


def _is_usable(key: Any) -> bool:
    """Whether a published key is one that tokens may be signed with here: public, for signatures, and long enough."""
    if not isinstance(key, dict) or key.get("use", "sig") != "sig" or not isinstance(key.get("kid", ""), str):
        return False
    if key.get("alg", "RS256") not in ALGORITHMS:
        return False
    if key.get("kty") == "RSA" and isinstance(key.get("n"), str):
        return len(key["n"]) * 6 >= _SMALLEST_RSA
    return key.get("kty") == "EC" and key.get("crv") == "P-256"
