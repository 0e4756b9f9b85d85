"""Instants as the protocols write them: ISO 8601, seconds since 1970, and the date of HTTP headers."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_seconds(seconds: float) -> datetime:
    """Return the instant so many seconds after 1970 began.

    Raises:
        ValueError: no calendar has that instant.
    """
    try:
        return _EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
    except OverflowError as error:
        raise ValueError(f"{seconds} is not an instant") from error


def from_text(text: str) -> datetime:
    """Return the instant that `text` gives: ISO 8601, seconds since 1970, or the date of an HTTP header.

    Raises:
        ValueError: it is none of these.
    """
    if text[:4].isdigit() and text[4:5] == "-":
        instant = datetime.fromisoformat(text)
    elif text[:1].isalpha():
        instant = parsedate_to_datetime(text)
    else:
        return from_seconds(float(text))
    if instant.tzinfo is None:
        return instant.replace(tzinfo=UTC)
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is not an instant") from error


def to_seconds(instant: datetime) -> int | float:
    """Return seconds since 1970, with a fraction only where there is one."""
    microseconds = (instant - _EPOCH) // timedelta(microseconds=1)
    whole, rest = divmod(microseconds, 1_000_000)
    return microseconds / 1_000_000 if rest else whole


def to_iso(instant: datetime) -> str:
    """Return the instant as ISO 8601 in UTC, with a fraction only where there is one."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def to_http_date(instant: datetime) -> str:
    """Return the instant as HTTP headers write it, to the second."""
    return format_datetime(instant.astimezone(UTC), usegmt=True)
