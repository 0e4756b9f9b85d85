"""One request on its way to a handler: who calls what, where, and the transaction it happens in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from holdfast.access.model.caller import Caller
from holdfast.core.clock import Clock, MachineTime
from holdfast.core.seal import RootKey
from holdfast.core.settings import Settings
from holdfast.database.connection import Database
from holdfast.wire.attempts import FailedAttempts, guesses
from holdfast.wire.paging import PageTokens


@dataclass(frozen=True, slots=True)
class Instance:
    """What one running installation consists of, put together once in `server/app.py`."""

    settings: Settings
    root_key: RootKey
    clock: Clock
    machine: MachineTime
    database: Database
    tokens: PageTokens
    guesses: FailedAttempts = field(init=False, repr=False)
    """Wrong passwords and one-time passwords of users, for all that asks for one."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "guesses", guesses(self.machine))


@dataclass(frozen=True, slots=True)
class Received:
    """One authenticated, parsed and validated request, before its transaction is open and its caller is let in."""

    service: str
    """The service as boto3 names it: `backup`, `organizations`, `holdfast`, ..."""
    operation: str
    region: str
    """The region of the signature's scope."""
    partition: str
    request_id: str
    source_ip: str
    user_agent: str
    access_key_id: str
    """Empty for the few operations that need no signature."""
    is_encrypted: bool = False
    """Whether it came over TLS."""


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated and authorized request.

    The dispatcher opens one transaction for it (reading or writing, as the operation needs), writes the audit entry of
    a changing call in the same one, and commits it when the handler returned.
    """

    service: str
    operation: str
    region: str
    partition: str
    request_id: str
    source_ip: str
    user_agent: str
    access_key_id: str
    caller: Caller
    now: datetime
    """Civil time at the start of the request."""
    tx: sa.Connection
    instance: Instance
    is_encrypted: bool = False

    def page_position(self, filters: Mapping[str, Any], token: str | None) -> Any:
        """Return the position that a page token of this operation stands for, None for the first page.

        Raises:
            InvalidPageTokenError: it was not given to this account for these filters.
        """
        return None if token is None else self.instance.tokens.read(self._scope, filters, token)

    def page_token(self, filters: Mapping[str, Any], position: Any) -> str | None:
        """Return the token of the page after `position` (a JSON value), None when there is no such page."""
        return None if position is None else self.instance.tokens.issue(self._scope, filters, position)

    @property
    def _scope(self) -> str:
        return f"{self.service}:{self.operation}:{self.caller.account}:{self.region}"


Handler = Callable[[Call, dict[str, Any]], Mapping[str, Any] | None]
"""Takes the validated members of the operation's input shape, gives those of its output shape.

Instants are aware datetimes and blobs are bytes, both ways. Members that are None are left out of the answer; members
that the model does not know are a mistake in the program.
"""
