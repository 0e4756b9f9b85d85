"""Who an OpenID Connect issuer says somebody is: what a token must say to count, and what policies may ask of it.

Rules: OpenID Connect Core 1.0, section 3.1.3.7, "ID Token Validation"; RFC 7519, "JSON Web Token"; RFC 8725, "JSON Web
Token Best Current Practices"; AWS Identity and Access Management User Guide, "Available keys for AWS OIDC federation",
"Pass session tags in AWS STS"; API Reference, "CreateOpenIDConnectProvider".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from joserfc.errors import ClaimError, ExpiredTokenError
from joserfc.jwt import JWTClaimsRegistry

from holdfast.core.errors import InvalidInputError, UnavailableError

ALGORITHMS: Final = ("RS256", "ES256")
LONGEST_URL: Final = 255
MOST_CLIENTS: Final = 100
MOST_THUMBPRINTS: Final = 5
_LEEWAY_SECONDS: Final = 60
_LONGEST_SUBJECT: Final = 255
_TAGS: Final = "https://aws.amazon.com/tags"
_SOURCE_IDENTITY: Final = "https://aws.amazon.com/source_identity"
_NOT_KEYS: Final = frozenset({"exp", "iat", "iss", "nbf"})


class InvalidIdentityTokenError(InvalidInputError):
    """A token is none, was not made by its issuer, or is not for this."""


class ExpiredIdentityTokenError(InvalidInputError):
    """A token is too old."""


class IssuerUnreachableError(UnavailableError):
    """An issuer does not tell its keys now, so its tokens cannot be checked."""


@dataclass(frozen=True, slots=True)
class OidcProvider:
    """An issuer whose people an account lets in, as far as its roles trust them."""

    arn: str
    account: str
    url: str
    """`https://...`: what tokens say as their issuer."""
    client_ids: tuple[str, ...]
    thumbprints: tuple[str, ...]
    created_at: datetime

    @property
    def name(self) -> str:
        """The issuer as ARNs and condition keys have it."""
        return self.url.removeprefix("https://")


@dataclass(frozen=True, slots=True)
class WebIdentity:
    """Somebody, as their issuer vouches for them."""

    provider: str
    """The ARN of the issuer's provider."""
    issuer: str
    subject: str
    audience: str
    keys: tuple[tuple[str, tuple[str, ...]], ...]
    """What policies may ask: `ISSUER:sub` and so on."""
    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[str, ...] = ()
    source_identity: str | None = None


def check_claims(claims: Mapping[str, Any], provider: OidcProvider, *, now: datetime) -> WebIdentity:
    """Return who a token whose signature was right is about; `now` is machine time.

    Raises:
        InvalidIdentityTokenError: it is by another issuer, for another audience, not valid yet, or says nobody's name.
        ExpiredIdentityTokenError: it is too old.
    """
    seconds = int(now.timestamp())
    try:
        JWTClaimsRegistry(now=seconds, exp={"essential": True}).validate({"exp": claims.get("exp")})
        JWTClaimsRegistry(
            now=seconds,
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": provider.url},
            sub={"essential": True},
            iat={"essential": True},
            aud={"essential": True},
        ).validate(dict(claims))
    except ExpiredTokenError as error:
        raise ExpiredIdentityTokenError("Token expired: the token's exp lies in the past") from error
    except ClaimError as error:
        raise InvalidIdentityTokenError(f"The token is not acceptable: {error}") from error
    subject = claims["sub"]
    if len(subject) > _LONGEST_SUBJECT:
        raise InvalidIdentityTokenError(f"The token's sub has more than {_LONGEST_SUBJECT} characters")
    audience = _audience(claims, provider)
    tags, transitive = _session_tags(claims.get(_TAGS))
    source_identity = claims.get(_SOURCE_IDENTITY)
    if source_identity is not None and not isinstance(source_identity, str):
        raise InvalidIdentityTokenError(f"The token's {_SOURCE_IDENTITY} is no text")
    return WebIdentity(
        provider.arn,
        provider.url,
        subject,
        audience,
        _keys(claims, provider.name, audience),
        tags,
        transitive,
        source_identity,
    )


def _keys(claims: Mapping[str, Any], name: str, audience: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what policies may ask: each claim once, since they do not tell letter case apart."""
    keys = {"aud": (audience,), "oaud": _texts(claims["aud"])}
    for claim in sorted(
        claims, key=lambda each: each != each.lower()
    ):  # those that are spelled as they should be first
        texts, folded = _texts(claims[claim]), claim.lower()
        if texts and folded not in keys and folded not in _NOT_KEYS:
            keys[folded] = texts
    return tuple((f"{name}:{claim}", texts) for claim, texts in keys.items())


def _audience(claims: Mapping[str, Any], provider: OidcProvider) -> str:
    """Return for whom the token was made: who it was issued to, where it says so; else its one audience."""
    if not set(_texts(claims["aud"])) & set(provider.client_ids):
        raise InvalidIdentityTokenError("Incorrect token audience: no client of the provider is among its audiences")
    party = claims.get("azp")
    if party is not None:
        if party not in provider.client_ids:
            raise InvalidIdentityTokenError("Incorrect token audience: the token was issued to another party (azp)")
        return str(party)
    audiences = _texts(claims["aud"])
    if len(audiences) > 1:
        raise InvalidIdentityTokenError("The token is for several audiences and does not say which it was issued to")
    return audiences[0]


def _texts(value: Any) -> tuple[str, ...]:
    """Return what a claim says as texts; nothing for what is no text, number, truth value or list of texts."""
    if isinstance(value, bool):
        return ("true" if value else "false",)
    if isinstance(value, str | int):
        return (str(value),)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    return ()


def _session_tags(value: Any) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    if value is None:
        return (), ()
    wrong = InvalidIdentityTokenError(f"The token's {_TAGS} is not of the form that session tags have")
    if not isinstance(value, dict) or not isinstance(value.get("principal_tags", {}), dict):
        raise wrong
    tags = []
    for key, given in value.get("principal_tags", {}).items():
        texts = _texts(given)
        if len(texts) != 1:
            raise wrong
        tags.append((key, texts[0]))
    transitive = value.get("transitive_tag_keys", [])
    if not isinstance(transitive, list) or not all(isinstance(key, str) for key in transitive):
        raise wrong
    return tuple(tags), tuple(transitive)
