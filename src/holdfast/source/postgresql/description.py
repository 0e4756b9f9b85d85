"""`holdfast.json`: what lies beside a dump and says how it was made, and what a restore needs to know."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from holdfast.core.errors import DamagedError
from holdfast.source.postgresql.facts import DatabaseFacts, Table

FORMAT: Final = 1
DIRECTORY: Final = b"databases"
GLOBALS: Final = b"globals.sql"
NAME: Final = b"holdfast.json"
SUFFIX: Final = b".pgc"


class DescriptionDamagedError(DamagedError):
    """A recovery point's `holdfast.json` is not what a backup writes."""


@dataclass(frozen=True, slots=True)
class Description:
    """One dump: of which database, as of when, by which programs, with which options."""

    database: str
    client_version: str
    facts: DatabaseFacts
    options: Mapping[str, str]
    exit_codes: Mapping[str, int]

    @property
    def client_major(self) -> int:
        """The major version of the programs that made the dump."""
        return int(self.client_version.partition(".")[0])


def dump_name(database: str) -> bytes:
    """Return the file name of a database's dump: its own name, with escapes where that cannot be one."""
    raw = database.encode()
    escaped = raw.replace(b"%", b"%25").replace(b"/", b"%2F")
    return (b"%2E" + escaped[1:] if escaped.startswith(b".") else escaped) + SUFFIX


def to_bytes(description: Description) -> bytes:
    """Return the description as it lies in a recovery point."""
    body = {
        "format": FORMAT,
        "kind": "postgresql-dump",
        "database": description.database,
        "client_version": description.client_version,
        "options": dict(description.options),
        "exit_codes": dict(description.exit_codes),
        "facts": asdict(description.facts),
    }
    return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"


def from_bytes(data: bytes) -> Description:
    """Return what `to_bytes` wrote, also by another release; what this one does not know is left out.

    Raises:
        DescriptionDamagedError: it is no such thing, or of a format from the future.
    """
    try:
        body = json.loads(data)
        if body["kind"] != "postgresql-dump" or body["format"] != FORMAT:
            raise DescriptionDamagedError(
                f"the recovery point is of the kind {body['kind']} in format {body['format']}, "
                "which this release does not restore; use the release that made it, or a newer one"
            )
        found = _known(DatabaseFacts, body["facts"])
        found["tables"] = tuple(Table(**_known(Table, table)) for table in found["tables"])
        for name in ("extensions", "tablespaces", "roles", "policy_roles"):
            found[name] = tuple(found[name])
        return Description(
            str(body["database"]),
            str(body["client_version"]),
            DatabaseFacts(**found),
            dict(body["options"]),
            dict(body["exit_codes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DescriptionDamagedError(f"the recovery point's holdfast.json cannot be read: {error!r}") from error


def _known(kind: type[DatabaseFacts] | type[Table], body: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in body.items() if name in names}
