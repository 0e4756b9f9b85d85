"""Where a PostgreSQL server is, and connections to it."""

import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import make_conninfo

from holdfast.source.location import Location
from holdfast.source.postgresql.failure import explained
from holdfast.source.protocol import (
    OptionRefusedError,
    SecretRefusedError,
    SourceSecret,
    SourceSpec,
    SourceUnreachableError,
    SourceUnreadableError,
)

OLDEST_SERVER: Final = 120000
_SSL_MODES: Final = ("verify-full", "verify-ca", "require")
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_environment = threading.Lock()


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and how to speak with it; without the password."""

    place: Location
    user: str
    sslmode: str
    certificates: str
    application: str

    @property
    def database(self) -> str:
        """The database's name."""
        return self.place.path[0].decode()

    def parameters(self, database: str | None = None) -> dict[str, Any]:
        """Return libpq's parameters, for this database or another on the same server."""
        found: dict[str, Any] = {
            "host": self.place.host,
            "port": str(self.place.port),
            "dbname": self.database if database is None else database,
            "user": self.user,
            "sslmode": self.sslmode,
            "application_name": self.application,
            "connect_timeout": "15",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "6",
            "target_session_attrs": "any",
        }
        if self.sslmode.startswith("verify-"):
            found["sslrootcert"] = self.certificates
        return found

    def conninfo(self, database: str | None = None) -> str:
        """Return libpq's keyword string, each value quoted by its rules: a name stays a name whatever is in it."""
        return make_conninfo("", **self.parameters(database))


def address(spec: SourceSpec, place: Location) -> tuple[Address, SourceSecret]:
    """Return where the database of `spec` is, and the secret to use there.

    Raises:
        OptionRefusedError: no database is named, or the connection would not be protected.
        SecretRefusedError: there is no secret.
    """
    if not place.path:
        raise OptionRefusedError(f"{place.key} names a server; name one of its databases, as in {place.below}shop")
    if spec.secret is None or not spec.secret.username:
        raise SecretRefusedError(f"{place.key} needs a secret with a user name and password; put one and name it")
    mode = {**place.options, **spec.own_options}.get("sslmode")
    if mode is None:
        mode = "prefer" if place.is_loopback else "verify-full"
    elif mode not in _SSL_MODES and not (mode in ("disable", "prefer") and place.is_loopback):
        raise OptionRefusedError(
            f"sslmode={mode} would send the password and all data unprotected; use one of {', '.join(_SSL_MODES)} "
            "(disable and prefer only on this machine itself)"
        )
    roots = spec.certificates or next((path for path in _BUNDLES if Path(path).exists()), "system")
    # Each opening has a name of its own, so that a superseded run of a job never ends the backends of its successor.
    application = f"holdfast {spec.job} {secrets.token_hex(4)}"
    return Address(place, spec.secret.username, mode, roots, application), spec.secret


def connect(where: Address, secret: SourceSecret, database: str | None = None) -> psycopg.Connection[Any]:
    """Return a connection in autocommit.

    Raises:
        SourceError: there is none to be had; as narrow a class as the server's words allow.
    """
    _forget_environment()
    try:
        connection = psycopg.connect(
            make_conninfo("", **where.parameters(database), password=secret.password), autocommit=True
        )
    except psycopg.Error as error:
        raise explained(_without(str(error), secret), where.place.key, SourceUnreachableError) from None
    if connection.info.server_version < OLDEST_SERVER:
        version = connection.info.parameter_status("server_version")
        connection.close()
        raise SourceUnreadableError(f"{where.place.key} is PostgreSQL {version}; 12 and newer are supported")
    return connection


def end_backends(where: Address, secret: SourceSecret) -> int:
    """End every connection of this address's name that the server still has; return how many there were."""
    with connect(where, secret) as connection:
        rows = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND usename = current_user AND pid <> pg_backend_pid()",
            (where.application,),
        ).fetchall()
    return len(rows)


def _without(words: str, secret: SourceSecret) -> str:
    return words.replace(secret.password, "***") if secret.password else words


def _forget_environment() -> None:
    """Drop what libpq would take from the environment: another host, a service file, more options."""
    with _environment:
        for name in [name for name in os.environ if name.startswith("PG")]:
            del os.environ[name]
