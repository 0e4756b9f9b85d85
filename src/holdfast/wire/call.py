"""One call as it reaches a handler: who asked for which operation of which service, and how handlers look."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Self

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated, parsed and validated call of an operation.

    The wire makes it without a transaction; the dispatcher opens one and hands `call.begun(tx, caller)` to the handler.
    """

    service: str
    """The service as boto3 names it: `backup`, `organizations`, `holdfast`."""
    operation: str
    region: str
    """The region of the signature's scope."""
    partition: str
    request_id: str
    source_ip: str
    user_agent: str
    access_key_id: str
    """Empty for the few operations that need no signature."""
    parameters: dict[str, Any] = field(repr=False)
    """What was asked, by the model's member names, validated; instants are aware datetimes, blobs are bytes."""
    transaction: Connection | None = field(default=None, repr=False, compare=False)
    caller: Any = None
    """Who calls, as the dispatcher knows them once the transaction is open."""

    @property
    def tx(self) -> Connection:
        """The open transaction of this call.

        Raises:
            RuntimeError: the dispatcher has not opened one, a mistake in the program.
        """
        if self.transaction is None:
            raise RuntimeError(f"{self.service} {self.operation} was handled outside a transaction")
        return self.transaction

    def begun(self, tx: Connection, caller: Any) -> Self:
        """Return this call with its open transaction and with who calls."""
        return replace(self, transaction=tx, caller=caller)


Handler = Callable[[Call, dict[str, Any]], dict[str, Any] | None]
"""Carries out one operation: takes the call and its parameters, gives the members of the model's output shape.

Members that are None are left out of the answer. Members that the model does not know are a mistake in the program.
"""
