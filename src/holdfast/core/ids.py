"""Identifiers in the formats of AWS: how each kind of id is made.

Formats: AWS Organizations API Reference (patterns of the id members), AWS Identity and Access Management User Guide
("IAM identifiers").
"""

import secrets
import string
import uuid

_LOWER = string.ascii_lowercase + string.digits
_UPPER = string.ascii_uppercase + "234567"  # base32, as IAM's unique ids use
_NAMESPACE = uuid.UUID("5c1f1b52-70a4-5d3e-9d5a-0f6a1f2f8d11")


def _random(alphabet: str, length: int) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def organization_id() -> str:
    """Return a new organization id, `o-` and ten characters."""
    return "o-" + _random(_LOWER, 10)


def root_id() -> str:
    """Return a new root id, `r-` and four characters."""
    return "r-" + _random(_LOWER, 4)


def unit_id(root: str) -> str:
    """Return a new id for a unit below the root with id `root`: `ou-ROOT-` and eight characters."""
    return f"ou-{root.removeprefix('r-')}-{_random(_LOWER, 8)}"


def account_id() -> str:
    """Return a new random account id of twelve digits that does not begin with 0."""
    return str(secrets.randbelow(9 * 10**11) + 10**11)


def policy_id() -> str:
    """Return a new policy id, `p-` and ten characters."""
    return "p-" + _random(_LOWER, 10)


def resource_policy_id() -> str:
    """Return a new id for an organization's resource policy, `rp-` and eight characters."""
    return "rp-" + _random(_LOWER, 8)


def create_account_request_id() -> str:
    """Return a new id for the request that creates an account, `car-` and 32 characters."""
    return "car-" + _random(_LOWER, 32)


def handshake_id() -> str:
    """Return a new handshake id, `h-` and ten characters."""
    return "h-" + _random(_LOWER, 10)


def iam_id(prefix: str) -> str:
    """Return a new IAM unique id: a four-letter `prefix` (AIDA: user, AROA: role, ...) and 17 more."""
    return prefix + _random(_UPPER, 17)


def access_key_id(*, temporary: bool = False) -> str:
    """Return a new access key id: AKIA for a long-term key, ASIA for a session's, and 16 more characters."""
    return ("ASIA" if temporary else "AKIA") + _random(_UPPER, 16)


def secret_access_key() -> str:
    """Return a new secret access key of 40 characters."""
    return secrets.token_urlsafe(30)


def new_uuid() -> str:
    """Return a new random UUID in lower case."""
    return str(uuid.uuid4())


def name_uuid(*parts: str) -> str:
    """Return the UUID that belongs to these names: the same names give the same id, on every machine."""
    return str(uuid.uuid5(_NAMESPACE, "\x1f".join(parts)))
