"""JSON as Go's encoder writes it, byte for byte, for the few kinds of values that trees are made of.

Trees are named by the hash of their JSON, so an encoder that differed in one escape would name every tree anew. The
rules are those of Go's `encoding/json` and `strconv.Quote` (Go standard library documentation).
"""

import base64
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from holdfast.core.errors import DamagedError

_NS = 1_000_000_000
_DAY = 86_400
_JSON_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_JSON_TO_ESCAPE = re.compile('["\\\\\x00-\x1f<>&\u2028\u2029]')
_QUOTE_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9 _.,:;=+@%~!#$^*()\[\]{}'|?/-]*\Z")
_UNQUOTE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.|\Z))", re.DOTALL
)
_UNQUOTE_SIMPLE = {
    "a": b"\a",
    "b": b"\b",
    "f": b"\f",
    "n": b"\n",
    "r": b"\r",
    "t": b"\t",
    "v": b"\v",
    "\\": b"\\",
    '"': b'"',
    "'": b"'",
}
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))\Z")


class BadJsonError(DamagedError):
    """A stored JSON document holds a value that no encoder of this format writes."""


def string(text: str) -> str:
    """Return `text` as a JSON string with Go's escapes; lone surrogates become the replacement character."""
    escaped = _JSON_TO_ESCAPE.sub(lambda m: _JSON_ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", text)
    if not escaped.isascii():
        escaped = escaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return f'"{escaped}"'


def string_of_bytes(text: bytes) -> str:
    """Return bytes as a JSON string; each byte that is not UTF-8 becomes the replacement escape, as in Go."""
    try:
        return string(text.decode())
    except UnicodeDecodeError:
        decoded = text.decode("utf-8", "surrogateescape")
        return '"' + "".join("\\ufffd" if "\udc80" <= c <= "\udcff" else string(c)[1:-1] for c in decoded) + '"'


def name(raw: bytes) -> str:
    """Return the name of a node as its JSON string: quoted as Go source first, then as JSON."""
    if _PLAIN_NAME.match(raw):
        return f'"{raw.decode()}"'
    return string(quoted(raw))


def quoted(raw: bytes) -> str:
    """Return bytes as Go's `strconv.Quote` does, without the outer quotes."""
    out: list[str] = []
    for c in raw.decode("utf-8", "surrogateescape"):
        if c in _QUOTE_ESCAPES:
            out.append(_QUOTE_ESCAPES[c])
        elif "\udc80" <= c <= "\udcff":
            out.append(f"\\x{ord(c) - 0xDC00:02x}")
        elif c == "\x7f" or c < " ":
            out.append(f"\\x{ord(c):02x}")
        elif c.isprintable():
            out.append(c)
        elif c <= "\uffff":
            out.append(f"\\u{ord(c):04x}")
        else:
            out.append(f"\\U{ord(c):08x}")
    return "".join(out)


def unquoted(text: str) -> bytes:
    r"""Return the bytes that a name quoted as Go source spells.

    Raises:
        BadJsonError: it holds an escape that Go does not have.
    """
    if "\\" not in text:
        return text.encode("utf-8", "surrogatepass")

    def one(match: re.Match[str]) -> str:
        simple, hexadecimal, short, long, octal, other = match.groups()
        if other is not None:
            raise BadJsonError(f"the name {text!r} holds an escape that cannot be read")
        try:
            if simple:
                raw = _UNQUOTE_SIMPLE[simple]
            elif hexadecimal:
                raw = bytes([int(hexadecimal, 16)])
            elif octal:
                raw = bytes([int(octal, 8)])
            else:
                raw = chr(int(short or long, 16)).encode()
        except ValueError as error:
            raise BadJsonError(f"the name {text!r} holds an escape that cannot be read") from error
        return raw.decode("latin-1")

    plain = text.encode("utf-8", "surrogatepass").decode("latin-1")
    return _UNQUOTE.sub(one, plain).encode("latin-1")


def base64_string(data: bytes) -> str:
    """Return bytes as Go writes a byte slice."""
    return f'"{base64.b64encode(data).decode()}"'


@lru_cache(maxsize=4096)
def _date(day: int) -> str:
    year, month, day_of_month = civil_from_days(day)
    return f'"{min(max(year, 0), 9999):04d}-{month:02d}-{day_of_month:02d}T'


@lru_cache(maxsize=4096)
def _to_second(seconds: int) -> str:
    day, second = divmod(seconds, _DAY)
    hour, rest = divmod(second, 3600)
    minute, second = divmod(rest, 60)
    return f"{_date(day)}{hour:02d}:{minute:02d}:{second:02d}"


def time(ns: int) -> str:
    """Return an instant in nanoseconds since 1970 as a quoted RFC 3339 time in UTC, without trailing zeros.

    Years outside 0000 to 9999 are moved to the nearest of these, since the format has no others.
    """
    seconds, fraction = divmod(ns, _NS)
    if not fraction:
        return f'{_to_second(seconds)}Z"'
    return f"{_to_second(seconds)}.{fraction:09d}".rstrip("0") + 'Z"'


def parse_time(text: str) -> int:
    """Return the nanoseconds since 1970 of an RFC 3339 time.

    Raises:
        BadJsonError: it is not one.
    """
    match = _TIME.match(text)
    if match is None:
        raise BadJsonError(f"{text!r} is not a time")
    date, hour, minute, second, fraction, sign, hours, minutes = match.groups()
    seconds = _days(date) * _DAY + int(hour) * 3600 + int(minute) * 60 + int(second)
    if sign:
        offset = int(hours) * 3600 + int(minutes) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * _NS + (int(fraction.ljust(9, "0")) if fraction else 0)


@lru_cache(maxsize=4096)
def _days(date: str) -> int:
    year, month, day = date.split("-")
    return days_from_civil(int(year), int(month), int(day))


def civil_from_days(days: int) -> tuple[int, int, int]:
    """Return year, month and day of a number of days since 1970-01-01, in the Gregorian calendar without end."""
    days += 719_468
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9  # noqa: PLR2004 - the year of this reckoning begins in March
    return era * 400 + year_of_era + (month <= 2), month, day  # noqa: PLR2004 - the same


def days_from_civil(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date of the Gregorian calendar without end."""
    year -= month <= 2  # noqa: PLR2004 - the year of this reckoning begins in March
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1  # noqa: PLR2004 - the same
    return era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def ns_of(at: datetime) -> int:
    """Return the nanoseconds since 1970 of an aware instant."""
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


def rfc3339(at: datetime) -> str:
    """Return an aware instant as Go writes it, without quotes."""
    return time(ns_of(at))[1:-1]


def parse_rfc3339(text: str) -> datetime:
    """Return the aware instant, in UTC, that an RFC 3339 time spells; microseconds are kept.

    Raises:
        BadJsonError: it is not one, or of a year that has no calendar.
    """
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=parse_time(text) // 1000)
    except OverflowError as error:
        raise BadJsonError(f"{text!r} is not a time that can be used") from error
