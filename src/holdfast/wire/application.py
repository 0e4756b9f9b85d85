"""The door: an ASGI application that authenticates, understands, carries out and answers every request.

What happens on the event loop is only reading and writing; everything else runs in a bounded pool of threads, one
hop per request.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, Protocol

import structlog

from holdfast.access.model.web_identity import InvalidIdentityTokenError
from holdfast.core.arn import partition_of
from holdfast.core.clock import MachineTime
from holdfast.core.errors import DeniedError
from holdfast.trail.strangers import Refused
from holdfast.wire.attempts import FailedAttempts
from holdfast.wire.aws_json import JsonProtocol
from holdfast.wire.call import Received
from holdfast.wire.errors import TooManyCallsError, error_reply, internal_reply
from holdfast.wire.message import HttpReply, HttpRequest
from holdfast.wire.model import SERVICES, Operation, Service, load_service
from holdfast.wire.protocol import ErrorReply, WireProtocol
from holdfast.wire.query import QueryProtocol
from holdfast.wire.rest_json import RestJsonProtocol
from holdfast.wire.signature import Flaw, Signature, SignatureError, SigningKeys, read_signature, verify
from holdfast.wire.validation import validate

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Route = Callable[[HttpRequest], HttpReply]
"""Answers a plain request below a path prefix, in a thread of the pool."""

_UNSIGNED = "without a signature"
"""Stands for the access key of calls that bring another proof."""

log = structlog.get_logger("holdfast.wire")

_PROTOCOLS: dict[str, Callable[[Service], WireProtocol]] = {
    "rest-json": RestJsonProtocol,
    "json": JsonProtocol,
    "query": QueryProtocol,
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What belongs to an access key: its secret, and whoever it stands for."""

    secret: str = field(repr=False)
    principal: Any


class Backend(Protocol):
    """What the wire needs from behind it. Its methods are called from several threads at once."""

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        """Return the credential of a key, None if there is none, it is disabled, or the token is not its own.

        May raise `ExpiredSessionError`. It is asked before the signature is verified: nothing is to be granted here.
        """

    def invoke(self, received: Received, principal: Any, parameters: dict[str, Any]) -> Mapping[str, Any] | None:
        """Carry out one call and return its result by the model's output members.

        `principal` is the credential's, None for operations that need no signature. Raises a `HoldfastError` where
        it cannot be done, `UnsupportedOperationError` where the operation is not offered.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What may be set about the door."""

    is_region: Callable[[str], bool] = lambda _name: True
    """Whether requests may be signed for this region."""
    default_region: str = "us-east-1"
    """The region of requests that carry no signature."""
    largest_body: int = 1 << 20
    """The most bytes that a request's body may have."""
    body_seconds: float = 20.0
    """How long a client may take to send its body."""
    threads: int = 4
    """How many calls are worked on at once. More threads than cores only fight for the interpreter."""
    most_waiting: int = 1000
    """How many requests may be under way or wait for a thread; more are told to come back."""


_made: dict[str, WireProtocol] = {}
_making = Lock()


def protocol_of(service: str) -> WireProtocol:
    """Return what reads and answers the calls of a service, by boto3's name of it; its model is read once."""
    made = _made.get(service)
    if made is None:
        with _making:  # the first calls of a service come together, and one reading of the model is enough
            described = load_service(service)
            made = _made.setdefault(service, _PROTOCOLS[described.protocol](described))
    return made


class _RefusedError(Exception):
    """A request is answered without being looked at further."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class Application:
    """The ASGI application; give it to uvicorn. `close` ends its threads."""

    def __init__(
        self,
        backend: Backend,
        *,
        machine_time: MachineTime,
        settings: Settings | None = None,
        routes: Mapping[str, Route] | None = None,
        strangers: Callable[[Refused], None] | None = None,
    ) -> None:
        """Take the backend; `strangers` is told of every request that is refused before it is known whose it is."""
        self._backend = backend
        self._strangers = strangers
        self._machine_time = machine_time
        self._settings = settings or Settings()
        self._routes: dict[str, tuple[Route, bool]] = {}
        for prefix, route in (routes or {}).items():
            self.add_route(prefix, route)
        self._keys = SigningKeys()
        self._attempts = FailedAttempts(machine_time)
        self._pool = ThreadPoolExecutor(self._settings.threads, thread_name_prefix="call")
        self._under_way = 0

    def add_route(self, prefix: str, route: Route, *, own_pages: bool = False) -> None:
        """Answer plain requests whose path begins with `prefix`; of several prefixes the longest counts.

        With `own_pages`, pages in a browser that came from this very server may ask too; others never may.
        """
        routes = {**self._routes, prefix: (route, own_pages)}
        self._routes = dict(sorted(routes.items(), key=lambda item: -len(item[0])))

    def close(self) -> None:
        """Let the calls under way end, then end the threads."""
        self._pool.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection's event, as ASGI wants it."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1003})
            return
        request_id = str(uuid.uuid4())
        request = _request(scope)
        headers: list[tuple[str, str]] = []
        try:
            request = replace(request, body=await self._body(request, receive))
            reply = await self._answer(request, request_id)
        except _RefusedError as refusal:
            reply = self._protocol(request, _signature_or_flaw(request)).error(
                ErrorReply(refusal.code, str(refusal), refusal.status), request_id
            )
            headers.append(("Connection", "close"))
        except ConnectionAbortedError:
            return
        await _send(send, reply, [*reply.headers, *headers], with_body=request.method != "HEAD")

    async def _body(self, request: HttpRequest, receive: Receive) -> bytes:
        largest = self._settings.largest_body
        too_large = _RefusedError(
            413, "RequestEntityTooLargeException", f"The body of a request may have {largest} bytes at most"
        )
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared[:20]) > largest:
            raise too_large
        chunks, size = [], 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    chunk = event.get("body", b"")
                    size += len(chunk)
                    if size > largest:
                        raise too_large
                    chunks.append(chunk)
                    if not event.get("more_body", False):
                        return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        except TimeoutError as error:
            sentence = f"The body of the request did not arrive within {self._settings.body_seconds:g} seconds"
            raise _RefusedError(408, "RequestTimeoutException", sentence) from error

    async def _answer(self, request: HttpRequest, request_id: str) -> HttpReply:
        if self._under_way >= self._settings.most_waiting:
            protocol = self._protocol(request, _signature_or_flaw(request))
            busy = TooManyCallsError("Too many calls at once; come back a little later")
            told = error_reply(protocol.service, busy) or internal_reply(protocol.service, request_id)
            return protocol.error(told, request_id)
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self.answer, request, request_id)
        finally:
            self._under_way -= 1

    def answer(self, request: HttpRequest, request_id: str) -> HttpReply:
        """Answer one request that has come in whole. Never raises."""
        for prefix, (route, own_pages) in self._routes.items():
            if request.path.startswith(prefix):
                return _plain(route, request, request_id, own_pages=own_pages)
        signature = _signature_or_flaw(request)
        protocol = self._protocol(request, signature)
        try:
            if isinstance(signature, SignatureError):
                return self._open_call(request, request_id, protocol, signature)
            self._refuse_foreign_scope(signature)
            principal = self._principal(request, signature)
            return self._carry_out(request, request_id, protocol, signature, principal)
        except Exception as error:
            if isinstance(error, SignatureError) and self._strangers is not None:
                key_id = signature.access_key_id if isinstance(signature, Signature) else ""
                self._strangers(Refused(error.flaw.value, request.source_ip, key_id[:128], request.path[:200]))
            told = error_reply(protocol.service, error)
            if told is None:
                log.exception("call.failed", request=request_id, method=request.method, path=request.path[:200])
                told = internal_reply(protocol.service, request_id)
            return protocol.error(told, request_id)

    def _open_call(
        self, request: HttpRequest, request_id: str, protocol: WireProtocol, flaw: SignatureError
    ) -> HttpReply:
        """Carry out a call without a signature, if it is of an operation that needs none."""
        if flaw.flaw is not Flaw.MISSING or not _needs_no_signature(protocol, request):
            raise flaw
        self._attempts.refuse_if_too_many(request.source_ip, _UNSIGNED)
        try:
            return self._carry_out(request, request_id, protocol, None, None)
        except (DeniedError, InvalidIdentityTokenError):
            self._attempts.failed(request.source_ip, _UNSIGNED)
            raise

    def _carry_out(
        self,
        request: HttpRequest,
        request_id: str,
        protocol: WireProtocol,
        signature: Signature | None,
        principal: Any,
    ) -> HttpReply:
        parsed = protocol.parse(request)
        validate(parsed.operation.input, parsed.parameters)
        received = self._call(request, request_id, signature, parsed.operation)
        result = self._backend.invoke(received, principal, parsed.parameters)
        return protocol.result(parsed.operation, result or {}, request_id)

    def _refuse_foreign_scope(self, signature: Signature) -> None:
        if signature.service not in SERVICES:
            raise SignatureError(
                Flaw.WRONG_SCOPE,
                f"Credential should be scoped to a service that is served here: {', '.join(sorted(SERVICES))}",
            )
        if not self._settings.is_region(signature.region):
            raise SignatureError(
                Flaw.WRONG_SCOPE, f"Credential should be scoped to a valid region, not {signature.region[:100]}"
            )

    def _principal(self, request: HttpRequest, signature: Signature) -> Any:
        address, key_id = request.source_ip, signature.access_key_id
        self._attempts.refuse_if_too_many(address, key_id)
        try:
            credential = self._credential(signature)
            verify(request, signature, credential.secret, now=self._machine_time.now(), keys=self._keys)
        except SignatureError:
            self._attempts.failed(address, key_id)
            raise
        return credential.principal

    def _credential(self, signature: Signature) -> Credential:
        credential = self._backend.credential(signature.access_key_id, signature.session_token)
        if credential is None:
            raise SignatureError(Flaw.UNKNOWN_KEY, "The security token included in the request is invalid")
        return credential

    def _call(
        self,
        request: HttpRequest,
        request_id: str,
        signature: Signature | None,
        operation: Operation,
    ) -> Received:
        region = self._settings.default_region if signature is None else signature.region
        return Received(
            service=operation.service,
            operation=operation.name,
            region=region,
            partition=partition_of(region),
            request_id=request_id,
            source_ip=request.source_ip,
            user_agent=request.headers.get("user-agent", ""),
            access_key_id="" if signature is None else signature.access_key_id,
            is_encrypted=request.is_encrypted,
        )

    def _protocol(self, request: HttpRequest, signature: Signature | SignatureError) -> WireProtocol:
        """Return the protocol of the service that a request says it is for, or seems to be for."""
        service = SERVICES.get(signature.service) if isinstance(signature, Signature) else None
        if service is not None:
            return protocol_of(service)
        if "x-amz-target" in request.headers:
            return protocol_of("organizations")
        form = "application/x-www-form-urlencoded"
        if request.headers.get("content-type", "").startswith(form) or "Action=" in request.query:
            return protocol_of("sts")
        return protocol_of("backup")


def _signature_or_flaw(request: HttpRequest) -> Signature | SignatureError:
    try:
        return read_signature(request)
    except SignatureError as flaw:
        return flaw


def _needs_no_signature(protocol: WireProtocol, request: HttpRequest) -> bool:
    """Whether a request without a signature names an operation that is open to everyone."""
    open_ones = [each.name for each in protocol.service.operations.values() if each.unsigned]
    if not open_ones or protocol.service.protocol != "query":
        return False
    return protocol.parse(request).operation.unsigned


def _plain(route: Route, request: HttpRequest, request_id: str, *, own_pages: bool) -> HttpReply:
    """Answer by a plain route, which no page in a browser may use, or only pages of this server."""
    plain_text = (("Content-Type", "text/plain; charset=utf-8"),)
    # Whatever sends a page's request says one of the two: Origin on each POST, Sec-Fetch-Site on everything.
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    is_own = own_pages and site == "same-origin" and (origin or "").partition("://")[2] == request.headers.get("host")
    if (origin is not None or site != "none") and not is_own:
        return HttpReply(403, plain_text, b"This address is not for pages in a browser\n")
    try:
        return route(request)
    except Exception:
        log.exception("route.failed", request=request_id, path=request.path[:200])
        return HttpReply(500, plain_text, f"This failed; the log tells why, under {request_id}\n".encode())


def _request(scope: Scope) -> HttpRequest:
    client = scope.get("client")
    return HttpRequest.of(
        scope["method"],
        (scope.get("raw_path") or scope["path"].encode()).decode("latin-1"),
        scope["query_string"].decode("latin-1"),
        ((name.decode("latin-1"), _header_text(value)) for name, value in scope["headers"]),
        source_ip=client[0] if client else "",
        is_encrypted=scope.get("scheme") == "https",
    )


def _header_text(value: bytes) -> str:
    """Return a header's value; clients sign it as UTF-8, but some send it as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


async def _send(send: Send, reply: HttpReply, headers: list[tuple[str, str]], *, with_body: bool) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
    if reply.status != 204:  # noqa: PLR2004 - No Content
        raw.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
