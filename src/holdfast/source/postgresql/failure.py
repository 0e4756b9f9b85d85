"""What the words of PostgreSQL's servers and client programs mean when something fails.

Neither a refused connection nor a failed dump comes with a code, only with words; those that are not known here make
the widest error that fits.
"""

import re
from dataclasses import dataclass
from typing import Final

from holdfast.source.protocol import (
    SecretRefusedError,
    SourceBusyError,
    SourceError,
    SourceMissingError,
    SourceUnreachableError,
    SourceUnreadableError,
)


@dataclass(frozen=True, slots=True)
class _Sign:
    """Words that tell what happened, and what helps."""

    words: tuple[str, ...]
    error: type[SourceError]
    advice: str

    def seen_in(self, text: str) -> bool:
        return any(re.search(word, text, re.IGNORECASE) for word in self.words)


_LATER = "it may work a little later"
_SIGNS: Final = (
    _Sign(
        (
            r"password authentication failed",
            r"no password supplied",
            r"no pg_hba\.conf entry",
            r'role ".*" does not exist',
            r'role ".*" is not permitted to log in',
            r"authentication failed",
        ),
        SecretRefusedError,
        "put a secret with a user name and password that the server accepts",
    ),
    _Sign((r'database ".*" does not exist',), SourceMissingError, "correct the URL, or delete the resource"),
    _Sign(
        (
            r"too many (clients|connections)",
            r"remaining connection slots",
            r"the database system is (starting|shutting)",
            r"lock timeout",
            r"due to statement timeout",  # pg_dump sets one for nothing but locks
            r"conflict with recovery",
            r"deadlock detected",
        ),
        SourceBusyError,
        _LATER,
    ),
    _Sign(
        (r"affected by row-level security",),
        SourceUnreadableError,
        "give the role BYPASSRLS, since a dump under row-level security would leave rows out",
    ),
    _Sign(
        (r"permission denied for large object",),
        SourceUnreadableError,
        "let the role own the large objects or SELECT them, or leave them out with large-objects=omit in the URL",
    ),
    _Sign(
        (r"permission denied", r"must be owner", r"must be superuser"),
        SourceUnreadableError,
        "grant the role pg_read_all_data to read, or what it needs to restore",
    ),
    _Sign(
        (r"does not support SSL", r"root certificate", r"certificate verify failed", r"server certificate for"),
        SourceUnreadableError,
        "install the server's certificate authority on this host, or write sslmode=require into the URL if the "
        "server's identity need not be proven",
    ),
    _Sign(
        (
            r"terminating connection",
            r"server closed the connection",
            r"connection to server .* failed",
            r"could not connect",
            r"connection timeout",
            r"timeout expired",
            r"could not translate host name",
            r"connection has been closed",
            r"could not receive data",
            r"the connection is (closed|lost)",
        ),
        SourceUnreachableError,
        _LATER,
    ),
)


def explained(words: str, at: str, otherwise: type[SourceError]) -> SourceError:
    """Return the error that the words of a server or a client program speak of, as narrow as can be told."""
    said = _telling(words)
    for sign in _SIGNS:
        if sign.seen_in(words):
            return sign.error(f"{at}: {said}; {sign.advice}")
    return otherwise(f"{at}: {said}")


def _telling(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fatal|failed|denied", line, re.IGNORECASE)]
    return " / ".join((telling or lines)[-3:])[-1000:] or "no reason was given"
