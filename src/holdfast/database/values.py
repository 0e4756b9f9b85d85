"""How values lie in columns: instants as whole microseconds since 1970, open intervals up to FOREVER, JSON as text."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

FOREVER: Final = 2**63 - 1
"""The end of an interval that still holds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def stamp(at: datetime) -> int:
    """Return an aware instant as microseconds since 1970, as columns hold it."""
    return (at - _EPOCH) // _MICROSECOND


def stamp_or_none(at: datetime | None) -> int | None:
    """Return `stamp(at)`, and None for None."""
    return None if at is None else stamp(at)


def instant(column: int) -> datetime:
    """Return the instant that a column holds, aware and in UTC."""
    return _EPOCH + timedelta(microseconds=column)


def instant_or_none(column: int | None) -> datetime | None:
    """Return `instant(column)`, and None for None and for FOREVER."""
    return None if column is None or column == FOREVER else instant(column)


def to_json(value: Any) -> str:
    """Return `value` as JSON text with sorted keys, the same for equal values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def from_json(column: str) -> Any:
    """Return the value of a JSON column."""
    return orjson.loads(column)


def json_rows(tx: sa.Connection, parameter: str, *columns: str) -> str:
    """Return the SQL of a table with these columns, all of them text, from a parameter that is JSON: a list of rows.

    Thousands of rows so go into a statement as one value.
    """
    if tx.dialect.name == "sqlite":
        named = ", ".join(f"json_extract(value, '$[{place}]') AS {name}" for place, name in enumerate(columns))
        return f"(SELECT {named} FROM json_each(:{parameter})) AS given"
    named = ", ".join(f"value ->> {place} AS {name}" for place, name in enumerate(columns))
    return f"(SELECT {named} FROM json_array_elements(CAST(:{parameter} AS JSON)) AS each_row(value)) AS given"


def random_uuid(tx: sa.Connection) -> str:
    """Return the SQL expression that gives each row a new random UUID, in the dialect of `tx`."""
    if tx.dialect.name == "sqlite":
        quad = "lower(hex(randomblob(2)))"
        third = f"'4' || substr({quad}, 2)"
        fourth = f"substr('89ab', 1 + (abs(random()) % 4), 1) || substr({quad}, 2)"
        last = "lower(hex(randomblob(6)))"
        return f"({quad} || {quad} || '-' || {quad} || '-' || {third} || '-' || {fourth} || '-' || {last})"
    return "CAST(gen_random_uuid() AS TEXT)"


def ordered_uuid(tx: sa.Connection, at: str, place: str = "0") -> str:
    """Return the SQL expression that gives each row a new UUID of version 7, whose order is that of `at`.

    `at` is an expression too, in microseconds since 1970, and `place` one for the order of up to 4,096 groups of rows
    of one instant. What was made together lies together in an index of such ids, and a thousand new rows touch a few of
    its pages instead of a thousand.
    """
    ms = f"({at} / 1000)"
    if tx.dialect.name == "sqlite":
        begins = f"printf('%08x-%04x-7%03x', {ms} >> 16, {ms} & 65535, {place} & 4095)"
    else:
        begins = (
            f"lpad(to_hex({ms} >> 16), 8, '0') || '-' || lpad(to_hex({ms} & 65535), 4, '0') || '-7'"
            f" || lpad(to_hex({place} & 4095), 3, '0')"
        )
    return f"({begins} || substr({random_uuid(tx)}, 19))"
