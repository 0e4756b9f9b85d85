"""Signatures: what botocore signs is accepted, and nothing else is."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from holdfast.wire.message import HttpRequest
from holdfast.wire.signature import Flaw, SignatureError, SigningKeys, read_signature, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = SigningKeys()
OFF = timedelta(minutes=5, seconds=1)

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
path_parts = st.lists(words.map(lambda word: quote(word, safe="~-_.:@$!'()*,;=&+")), max_size=4)
queries = st.lists(st.tuples(words, words), max_size=4)
header_values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
headers = st.dictionaries(st.from_regex(r"x-[a-z0-9-]{1,8}", fullmatch=True), header_values, max_size=3)
methods = st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH"])
bodies = st.binary(max_size=20)


def signed(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    extra: dict[str, str],
    body: bytes,
    *,
    auth: Callable[..., Any] = SigV4Auth,
    token: str | None = None,
) -> HttpRequest:
    encoded = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    url = f"http://localhost:8420{path}" + (f"?{encoded}" if encoded else "")
    request: Any = AWSRequest(method, url, headers=extra, data=body)
    auth(Credentials("AKID", SECRET, token), "backup", "eu-north-1").add_auth(request)
    parts = urlsplit(request.url)
    sent = [*request.headers.items(), ("host", "localhost:8420")]
    return HttpRequest.of(method, parts.path or "/", parts.query, sent, body)


def check(request: HttpRequest, *, late: timedelta = timedelta(), secret: str = SECRET) -> None:
    signature = read_signature(request)
    verify(request, signature, secret, now=signature.signed_at + late, keys=KEYS)


def flaw_of(request: HttpRequest, **how: Any) -> Flaw:
    with pytest.raises(SignatureError) as caught:
        check(request, **how)
    return caught.value.flaw


@given(methods, path_parts, queries, headers, bodies, st.none() | st.just("a token"))
def test_what_botocore_signs_is_accepted(
    method: str, path: list[str], query: list[tuple[str, str]], extra: dict[str, str], body: bytes, token: str | None
) -> None:
    request = signed(method, "/" + "/".join(path), query, extra, body, token=token)
    check(request)
    assert read_signature(request).session_token == token


@given(methods.filter(lambda method: method != "POST"), path_parts, queries, st.none() | st.just("a token"))
def test_what_botocore_presigns_is_accepted(
    method: str, path: list[str], query: list[tuple[str, str]], token: str | None
) -> None:
    request = signed(method, "/" + "/".join(path), query, {}, b"", auth=SigV4QueryAuth, token=token)
    check(request, late=timedelta(minutes=50))
    assert read_signature(request).session_token == token


@given(st.data(), methods, path_parts, queries, headers, bodies)
def test_any_single_change_is_refused(
    data: st.DataObject,
    method: str,
    path: list[str],
    query: list[tuple[str, str]],
    extra: dict[str, str],
    body: bytes,
) -> None:
    request = signed(method, "/" + "/".join(path), query, extra, body, token="a token")
    signed_names = read_signature(request).signed_headers
    changes = ["method", "path", "query", "body", "signature", "secret", "scope", *signed_names]
    what = data.draw(st.sampled_from(changes))
    match what:
        case "method":
            changed = replace(request, method=data.draw(methods.filter(lambda other: other != method)))
        case "path":
            at = data.draw(st.integers(1, len(request.path)))
            changed = replace(request, path=request.path[:at] + "x" + request.path[at:])
        case "query":
            at = data.draw(st.integers(0, len(request.query)))
            changed = replace(request, query=request.query[:at] + "x" + request.query[at:])
        case "body":
            at = data.draw(st.integers(0, len(body)))
            changed = replace(request, body=body[:at] + b"x" + body[at:])
        case "secret":
            with pytest.raises(SignatureError):
                check(request, secret=SECRET[:-1])
            return
        case "signature":
            authorization = request.headers["authorization"]
            at = data.draw(st.integers(1, 64))
            digit = "0" if authorization[-at] != "0" else "1"
            tampered = authorization[:-at] + digit + authorization[len(authorization) - at + 1 :]
            changed = with_headers(request, authorization=tampered)
        case "scope":
            other = request.headers["authorization"].replace("/eu-north-1/backup/", "/eu-north-1/organizations/")
            changed = with_headers(request, authorization=other)
        case name:
            changed = with_headers(request, **{name: request.headers[name] + "1"})
    with pytest.raises(SignatureError):
        check(changed)


def with_headers(request: HttpRequest, **changes: str) -> HttpRequest:
    return replace(request, headers={**request.headers, **changes})


def a_request(**extra: str) -> HttpRequest:
    return signed("PUT", "/backup-vaults/x", [], extra, b"{}")


@pytest.mark.parametrize("late", [OFF, -OFF, timedelta(days=1)], ids=str)
def test_a_signature_more_than_five_minutes_off_is_refused(late: timedelta) -> None:
    assert flaw_of(a_request(), late=late) is Flaw.SKEWED


@pytest.mark.parametrize("late", [timedelta(minutes=5), timedelta(minutes=-5), timedelta()], ids=str)
def test_a_signature_within_five_minutes_is_accepted(late: timedelta) -> None:
    check(a_request(), late=late)


def test_a_presigned_request_ends_when_it_says() -> None:
    request = signed("GET", "/", [("Action", "GetCallerIdentity")], {}, b"", auth=SigV4QueryAuth)
    check(request, late=timedelta(hours=1))
    assert flaw_of(request, late=timedelta(hours=1, seconds=1)) is Flaw.SKEWED
    assert flaw_of(request, late=timedelta(minutes=-5, seconds=-1)) is Flaw.SKEWED


def test_a_presigned_request_may_leave_its_body_unsigned_only_if_it_has_none() -> None:
    request = signed("GET", "/", [], {}, b"", auth=S3SigV4QueryAuth)
    check(request)
    assert flaw_of(replace(request, body=b"x")) is Flaw.MISMATCH


def test_an_unsigned_body_is_refused() -> None:
    with pytest.raises(SignatureError, match="x-amz-content-sha256 is UNSIGNED-PAYLOAD") as caught:
        check(a_request(**{"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}))
    assert caught.value.flaw is Flaw.MISMATCH


def test_an_x_amz_header_that_was_not_signed_is_refused() -> None:
    with pytest.raises(SignatureError, match="x-amz-target") as caught:
        check(with_headers(a_request(), **{"x-amz-target": "Another.Operation"}))
    assert caught.value.flaw is Flaw.MISMATCH


def test_the_host_has_to_be_signed() -> None:
    request = a_request()
    authorization = request.headers["authorization"].replace("SignedHeaders=host;", "SignedHeaders=")
    assert flaw_of(with_headers(request, authorization=authorization)) is Flaw.MISMATCH


def test_a_header_sent_twice_counts_as_both() -> None:
    request = a_request()
    twice = HttpRequest.of(
        request.method, request.path, request.query, [*request.headers.items(), ("Host", "elsewhere")], request.body
    )
    assert flaw_of(twice) is Flaw.MISMATCH


def test_the_date_header_will_do_too() -> None:
    request = a_request(Date="Mon, 23 Nov 2026 12:00:00 GMT")
    assert "x-amz-date" not in request.headers
    check(request)


GOOD = "Credential=AKID/20261123/eu-north-1/backup/aws4_request, SignedHeaders=host;x-amz-date, Signature=" + "0" * 64


@pytest.mark.parametrize(
    ("authorization", "flaw"),
    [
        (None, Flaw.MISSING),
        ("Bearer xyz", Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256", Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD.replace("Signature=", "Sig="), Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD + ", Signature=" + "1" * 64, Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD.replace("/aws4_request", ""), Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD.replace("AKID/", "/"), Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD.replace("host;", "x-amz-date;host;"), Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD.replace("host;", "host;x-absent;"), Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD[:-1], Flaw.INCOMPLETE),
        ("AWS4-HMAC-SHA256 " + GOOD.replace("20261123", "20261122"), Flaw.MISMATCH),
        ("AWS4-HMAC-SHA256 " + GOOD, Flaw.MISMATCH),
    ],
)
def test_an_authorization_with_a_part_missing_is_named(authorization: str | None, flaw: Flaw) -> None:
    sent = {"host": "localhost", "x-amz-date": "20261123T120000Z"}
    if authorization is not None:
        sent["authorization"] = authorization
    assert flaw_of(HttpRequest("GET", "/", "", sent)) is flaw


@pytest.mark.parametrize("date", ["", "20261123", "20261399T000000Z", "2026-11-23", "\u0662\u0660261123T120000Z"])
def test_a_date_that_is_none_is_named(date: str) -> None:
    sent = {"authorization": "AWS4-HMAC-SHA256 " + GOOD, "x-amz-date": date, "host": "localhost"}
    request = HttpRequest("GET", "/", "", sent)
    assert flaw_of(request) is Flaw.INCOMPLETE


@pytest.mark.parametrize(
    ("part", "instead"),
    [
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Algorithm=NONE"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=604801"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=0"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=-5"),
        ("X-Amz-Expires=3600", "X-Amz-Expires=60&X-Amz-Expires=3600"),
        ("X-Amz-Date=", "X-Amz-Day="),
        ("X-Amz-Date=", "x=%ff&X-Amz-Date="),
    ],
)
def test_a_presigned_query_with_a_part_missing_is_named(part: str, instead: str) -> None:
    request = signed("GET", "/", [], {}, b"", auth=SigV4QueryAuth)
    assert part in request.query
    assert flaw_of(replace(request, query=request.query.replace(part, instead))) is Flaw.INCOMPLETE


def test_derived_keys_are_kept_within_bounds() -> None:
    keys = SigningKeys(most=3)
    made = {day: keys.get(SECRET, f"202611{day:02}", "eu-north-1", "backup") for day in range(1, 9)}
    assert len(keys._keys) == 3
    assert keys.get(SECRET, "20261101", "eu-north-1", "backup") == made[1]


def test_the_published_example_of_a_derived_key_holds() -> None:
    """The key of AWS General Reference, "Deriving the signing key"."""
    key = KEYS.get(SECRET, "20150830", "us-east-1", "iam")
    assert key.hex() == "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"
