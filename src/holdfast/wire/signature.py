"""Signatures: that a request was made by the holder of a secret key, just now, and not changed since.

Signature Version 4 (AWS Identity and Access Management User Guide, "AWS Signature Version 4 for API requests"), in
the Authorization header or in the query string, over the headers that the client chose to sign.
"""

import hashlib
import hmac
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from threading import Lock
from urllib.parse import quote, unquote_to_bytes

from holdfast.wire.message import HttpRequest

MAX_SKEW = timedelta(minutes=5)
"""How far the time of a signature may be from ours."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_TERMINATOR = "aws4_request"
_UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_LONGEST_PRESIGNED = timedelta(days=7)
_HEX_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_INSTANT = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]*")
_NOTHING_HASHED = hashlib.sha256(b"").hexdigest()


class Flaw(Enum):
    """What is wrong with a signature; `wire/errors.py` gives each its code."""

    MISSING = "missing"
    INCOMPLETE = "incomplete"
    UNKNOWN_KEY = "unknown key"
    MISMATCH = "mismatch"
    SKEWED = "skewed"
    EXPIRED_SESSION = "expired session"
    WRONG_SCOPE = "wrong scope"


class SignatureError(Exception):
    """A request is not signed as it has to be."""

    def __init__(self, flaw: Flaw, sentence: str) -> None:
        super().__init__(sentence)
        self.flaw = flaw


@dataclass(frozen=True, slots=True)
class Signature:
    """What a request says of its signature; nothing of it is believed before `verify` has returned."""

    access_key_id: str
    date: str
    region: str
    service: str
    """The signing name of the service."""
    signed_headers: tuple[str, ...]
    value: str
    signed_at: datetime
    expires_at: datetime | None
    """Set for a presigned request."""
    session_token: str | None

    @property
    def is_presigned(self) -> bool:
        """Whether it stands in the query string."""
        return self.expires_at is not None

    @property
    def scope(self) -> str:
        """The credential scope: date, region, service."""
        return f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"


def read_signature(request: HttpRequest) -> Signature:
    """Return what a request says of its signature.

    Raises:
        SignatureError: it has none, or one with parts missing.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return _from_header(request, authorization)
    if "X-Amz-Signature=" in request.query or "X-Amz-Credential=" in request.query:
        return _from_query(request)
    raise SignatureError(Flaw.MISSING, "Request is missing Authentication Token")


def _incomplete(sentence: str) -> SignatureError:
    return SignatureError(Flaw.INCOMPLETE, sentence)


def _from_header(request: HttpRequest, authorization: str) -> Signature:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM:
        raise _incomplete(f"The Authorization header must begin with {_ALGORITHM}")
    parts: dict[str, str] = {}
    for part in rest.split(","):
        name, equals, value = part.strip().partition("=")
        if not equals or name in parts:
            raise _incomplete("The Authorization header takes Credential, SignedHeaders and Signature, each once")
        parts[name] = value
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if not parts.get(name)]
    if missing:
        raise _incomplete(f"Authorization header requires {', '.join(missing)}")
    signed_at = _header_instant(request)
    return _signature(
        request,
        credential=parts["Credential"],
        signed_headers=parts["SignedHeaders"],
        value=parts["Signature"],
        signed_at=signed_at,
        expires_at=None,
        session_token=request.headers.get("x-amz-security-token"),
    )


def _header_instant(request: HttpRequest) -> datetime:
    text = request.headers.get("x-amz-date")
    if text is not None:
        return _instant(text)
    date = request.headers.get("date")
    if date is None:
        raise _incomplete("Authorization header requires existence of either an 'X-Amz-Date' or a 'Date' header")
    if _INSTANT.fullmatch(date):
        return _instant(date)
    try:
        return parsedate_to_datetime(date).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _incomplete(f"The Date header is not a date: {date[:100]}") from error


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise _incomplete(f"X-Amz-Date must look like 20261123T120000Z, but is {text[:100]}")
    try:
        return datetime(
            int(text[:4]),
            int(text[4:6]),
            int(text[6:8]),
            int(text[9:11]),
            int(text[11:13]),
            int(text[13:15]),
            tzinfo=UTC,
        )
    except ValueError as error:
        raise _incomplete(f"X-Amz-Date is not an instant: {text}") from error


def _from_query(request: HttpRequest) -> Signature:
    try:
        pairs = request.query_pairs
    except ValueError as error:
        raise _incomplete("The query string must be UTF-8 with percent escapes") from error
    given: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith("X-Amz-") and name in given:
            raise _incomplete(f"The query string gives {name} twice")
        given[name] = value
    wanted = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature")
    missing = [name for name in wanted if not given.get(name)]
    if missing:
        raise _incomplete(f"A presigned request requires {', '.join(missing)} in its query string")
    if given["X-Amz-Algorithm"] != _ALGORITHM:
        raise _incomplete(f"X-Amz-Algorithm must be {_ALGORITHM}")
    seconds = given.get("X-Amz-Expires", "300")
    if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= 6):  # noqa: PLR2004 - a week has six digits
        raise _incomplete("X-Amz-Expires must be a number of seconds, at most a week")
    life = timedelta(seconds=int(seconds))
    if not timedelta() < life <= _LONGEST_PRESIGNED:
        raise _incomplete("X-Amz-Expires must be between one second and a week")
    signed_at = _instant(given["X-Amz-Date"])
    return _signature(
        request,
        credential=given["X-Amz-Credential"],
        signed_headers=given["X-Amz-SignedHeaders"],
        value=given["X-Amz-Signature"],
        signed_at=signed_at,
        expires_at=signed_at + life,
        session_token=given.get("X-Amz-Security-Token"),
    )


def _signature(
    request: HttpRequest,
    *,
    credential: str,
    signed_headers: str,
    value: str,
    signed_at: datetime,
    expires_at: datetime | None,
    session_token: str | None,
) -> Signature:
    scope = credential.split("/")
    if len(scope) != 5 or not all(scope) or scope[4] != _TERMINATOR:  # noqa: PLR2004 - the parts of a credential
        raise _incomplete("Credential must look like KEY/DATE/REGION/SERVICE/aws4_request")
    names = tuple(signed_headers.split(";"))
    if list(names) != sorted(set(names)) or any(name != name.lower() or not name for name in names):
        raise _incomplete("SignedHeaders must be lower case, sorted, each name once")
    if not _HEX_SIGNATURE.fullmatch(value):
        raise _incomplete("Signature must be 64 hexadecimal digits in lower case")
    absent = [name for name in names if name not in request.headers]
    if absent:
        raise _incomplete(f"SignedHeaders names headers that the request does not have: {', '.join(absent)[:200]}")
    unsigned = sorted(
        name for name in request.headers if (name == "host" or name.startswith("x-amz-")) and name not in names
    )
    if unsigned or "host" not in names:
        raise SignatureError(
            Flaw.MISMATCH,
            f"There were headers present in the request which were not signed: {', '.join(unsigned or ['host'])}",
        )
    if scope[1] != f"{signed_at:%Y%m%d}":
        raise SignatureError(
            Flaw.MISMATCH,
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"{scope[1]} != {signed_at:%Y%m%d}",
        )
    return Signature(scope[0], scope[1], scope[2], scope[3], names, value, signed_at, expires_at, session_token)


@dataclass(slots=True)
class SigningKeys:
    """The derived keys of late, at most `most` of them; deriving one costs four hashes."""

    most: int = 4096
    _keys: OrderedDict[tuple[str, str, str, str], bytes] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def get(self, secret: str, date: str, region: str, service: str) -> bytes:
        """Return the key that signs with `secret` on that date, in that region, for that service."""
        name = (secret, date, region, service)
        key = self._keys.get(name)
        if key is None:
            key = derived_key(secret, date, region, service)
            with self._lock:
                self._keys[name] = key
                while len(self._keys) > self.most:
                    self._keys.popitem(last=False)
        return key


def derived_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the signing key that follows from a secret and a scope."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, _TERMINATOR):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def verify(request: HttpRequest, signature: Signature, secret: str, *, now: datetime, keys: SigningKeys) -> None:
    """Refuse a request whose signature was not made with `secret`, not over just this request, or not just now.

    Raises:
        SignatureError: it was not.
    """
    key = keys.get(secret, signature.date, signature.region, signature.service)
    for body_hash in _body_hashes(request, signature):
        expected = hmac.digest(key, string_to_sign(request, signature, body_hash).encode(), "sha256").hex()
        if hmac.compare_digest(expected, signature.value):
            break
    else:
        raise SignatureError(
            Flaw.MISMATCH,
            "The request signature we calculated does not match the signature you provided. "
            "Check your secret access key and signing method",
        )
    _refuse_if_not_now(signature, now)


def _refuse_if_not_now(signature: Signature, now: datetime) -> None:
    signed_at, until = signature.signed_at, signature.expires_at or signature.signed_at + MAX_SKEW
    if now > until:
        sentence = f"Signature expired: {_stamp(signed_at)} is now earlier than {_stamp(now - (until - signed_at))}"
        raise SignatureError(Flaw.SKEWED, f"{sentence} ({_stamp(now)}). Check the clock of this client")
    if signed_at > now + MAX_SKEW:
        sentence = f"Signature not yet current: {_stamp(signed_at)} is still later than {_stamp(now + MAX_SKEW)}"
        raise SignatureError(Flaw.SKEWED, f"{sentence} ({_stamp(now)} + 5 min.). Check the clock of this client")


def _stamp(instant: datetime) -> str:
    return f"{instant:%Y%m%dT%H%M%SZ}"


def _body_hashes(request: HttpRequest, signature: Signature) -> Iterable[str]:
    """Return the hashes that may stand for the body in what was signed."""
    actual = hashlib.sha256(request.body).hexdigest() if request.body else _NOTHING_HASHED
    declared = request.headers.get("x-amz-content-sha256")
    if declared is None:
        # A presigned URL may leave its body unsigned, so it must not have one.
        return (actual, _UNSIGNED_PAYLOAD) if signature.is_presigned and not request.body else (actual,)
    if declared == _UNSIGNED_PAYLOAD and signature.is_presigned and not request.body:
        return (_UNSIGNED_PAYLOAD,)
    if declared != actual:
        raise SignatureError(
            Flaw.MISMATCH, f"x-amz-content-sha256 is {declared[:64]}, but the hash of the body is {actual}"
        )
    return (actual,)


def string_to_sign(request: HttpRequest, signature: Signature, body_hash: str) -> str:
    """Return the text that the client signed, if it sent this request."""
    canonical = canonical_request(request, signature, body_hash)
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    return f"{_ALGORITHM}\n{_stamp(signature.signed_at)}\n{signature.scope}\n{hashed}"


def canonical_request(request: HttpRequest, signature: Signature, body_hash: str) -> str:
    """Return the request in the form that is hashed and signed."""
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signature.signed_headers)
    return (
        f"{request.method}\n{_canonical_path(request.path)}\n"
        f"{_canonical_query(request.query, presigned=signature.is_presigned)}\n"
        f"{headers}\n{';'.join(signature.signed_headers)}\n{body_hash}"
    )


def _canonical_path(path: str) -> str:
    """Return a raw path without dot and empty parts, encoded once more, as every service but S3 has it."""
    if path == "/":
        return path
    if "//" in path or "/." in path:
        parts: list[str] = []
        for part in path.split("/"):
            if part == "..":
                parts = parts[:-1]
            elif part not in {"", "."}:
                parts.append(part)
        path = "/" + "/".join(parts) + ("/" if parts and path.endswith("/") else "")
    return quote(path, safe="/~-_.")


def _encoded_once(text: str) -> str:
    """Return a part of a query string with exactly the escapes that are signed, whichever the client sent."""
    return text if _UNRESERVED.fullmatch(text) else quote(unquote_to_bytes(text), safe="-_.~")


def _canonical_query(query: str, *, presigned: bool) -> str:
    if not query:
        return ""
    pairs = []
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if not (presigned and name == "X-Amz-Signature"):
            pairs.append((_encoded_once(name), _encoded_once(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))
