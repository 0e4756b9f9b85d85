"""From a received request to its answer: one transaction, the decision, the handler, the audit entry.

The backend of the wire's application. A changing call runs in one writing transaction: authorization reads its
documents there, the handler does its work there, and the audit entry is written there; all of it is committed or none.
A call that only reads runs in a reading transaction. A refusal is recorded in a transaction of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import sqlalchemy as sa
import structlog

from holdfast.access.model.caller import Caller
from holdfast.core.errors import DeniedError
from holdfast.database import idempotency
from holdfast.trail.reads import Reads
from holdfast.trail.service import Decision, Entry, record
from holdfast.wire.application import Credential
from holdfast.wire.call import Call, Handler, Instance, Received
from holdfast.wire.errors import UnsupportedOperationError
from holdfast.wire.model import load_service

log = structlog.get_logger()


class Gatekeeper(Protocol):
    """Who decides: identities behind access keys, and what they may do."""

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        """Return the secret and the caller behind an access key, None when there is no such key."""

    def stranger(self, operation: str, parameters: Mapping[str, Any]) -> Caller:
        """Return who makes a call that needs no signature, by the proof that comes with it.

        Raises:
            HoldfastError: the proof does not count.
        """

    def is_changing(self, service: str, operation: str) -> bool:
        """Return whether the operation may write."""

    def authorize(self, call: Call, parameters: Mapping[str, Any]) -> str:
        """Return why the call is allowed: the statement that decided.

        Raises:
            DeniedError: it is not.
        """


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """Carries out requests for the wire."""

    instance: Instance
    gatekeeper: Gatekeeper
    handlers: Mapping[str, Mapping[str, Handler]]
    """By service and operation."""
    reads: Reads = field(default_factory=Reads)
    """Calls that only read, on their way into the trail."""

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        """Return the secret and the caller behind an access key, None when there is no such key."""
        return self.gatekeeper.credential(access_key_id, session_token)

    def invoke(self, received: Received, principal: Any, parameters: dict[str, Any]) -> Mapping[str, Any] | None:
        """Carry out one request.

        Raises:
            UnsupportedOperationError: the operation is not offered.
            DeniedError: the caller may not do this.
            HoldfastError: what the handler says.
        """
        handler = self.handlers.get(received.service, {}).get(received.operation)
        if handler is None:
            raise UnsupportedOperationError(received.service, received.operation)
        caller: Caller = self.gatekeeper.stranger(received.operation, parameters) if principal is None else principal
        try:
            if self.gatekeeper.is_changing(received.service, received.operation):
                with self.instance.database.transaction() as tx:
                    return self._change(tx, received, caller, handler, parameters)
            with self.instance.database.reading() as tx:
                call = self._call(tx, received, caller)
                reason = self.gatekeeper.authorize(call, parameters)
                answer = handler(call, parameters)
        except DeniedError as refusal:
            with self.instance.database.transaction() as tx:
                call = self._call(tx, received, caller)
                record(tx, _entry(call, parameters, Decision.REFUSED, getattr(refusal, "explanation", str(refusal))))
            raise
        self.reads.note(_entry(call, parameters, Decision.ALLOWED, reason, reads=True))
        return answer

    def _change(
        self, tx: sa.Connection, received: Received, caller: Caller, handler: Handler, parameters: dict[str, Any]
    ) -> Mapping[str, Any] | None:
        call = self._call(tx, received, caller)
        reason = self.gatekeeper.authorize(call, parameters)
        token = _token(received, caller, parameters)
        if token is not None:
            earlier = idempotency.earlier_answer(tx, token, now=call.now)
            if earlier is not None:
                return earlier
        answer = handler(call, parameters)
        if token is not None:
            idempotency.keep_answer(tx, token, answer or {}, now=call.now)
        record(tx, _entry(call, parameters, Decision.ALLOWED, reason))
        return answer

    def _call(self, tx: sa.Connection, received: Received, caller: Caller) -> Call:
        return Call(
            service=received.service,
            operation=received.operation,
            region=received.region,
            partition=received.partition,
            request_id=received.request_id,
            source_ip=received.source_ip,
            user_agent=received.user_agent,
            access_key_id=received.access_key_id,
            caller=caller,
            now=self.instance.clock.now(),
            tx=tx,
            instance=self.instance,
            is_encrypted=received.is_encrypted,
        )


def _token(received: Received, caller: Caller, parameters: Mapping[str, Any]) -> idempotency.Token | None:
    member = load_service(received.service).operations[received.operation].idempotency_member
    if member is None:
        return None
    return idempotency.token_of(
        account=caller.account,
        region=received.region,
        operation=f"{received.service}:{received.operation}",
        member=member,
        parameters=parameters,
    )


def _entry(call: Call, parameters: Mapping[str, Any], decision: Decision, reason: str, *, reads: bool = False) -> Entry:
    person = call.caller.person
    return Entry(
        at=call.now,
        account=call.caller.account,
        region=call.region,
        service=call.service,
        operation=call.operation,
        principal_arn=call.caller.arn,
        person=None if person is None else f"{person.issuer} {person.subject}",
        source_ip=call.source_ip,
        user_agent=call.user_agent,
        request_id=call.request_id,
        decision=decision,
        reason=reason,
        parameters=parameters,
        reads=reads,
    )
