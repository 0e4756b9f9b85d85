"""Whatever comes in, the answer is a refusal in the service's own words: never a crash, never a 500."""

import asyncio
import threading
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import orjson
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.clock import SystemMachineTime
from holdfast.core.errors import NotFoundError
from holdfast.wire.application import Application, Credential, Settings
from holdfast.wire.call import Received
from holdfast.wire.message import HttpReply, HttpRequest
from holdfast.wire.model import Operation, load_service


class Refusing:
    """A backend that knows every key and finds nothing."""

    def credential(self, access_key_id: str, session_token: str | None) -> Credential | None:
        return Credential("secret", access_key_id)

    def invoke(self, call: Received, principal: Any, parameters: dict[str, Any]) -> Mapping[str, Any] | None:
        raise NotFoundError(f"{call.operation} found nothing")


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    application = Application(Refusing(), machine_time=SystemMachineTime())
    yield application
    application.close()


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
latin = st.text(st.characters(max_codepoint=255), max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
authorizations = latin | st.builds(
    "AWS4-HMAC-SHA256 Credential={}/{}/{}/{}/aws4_request, SignedHeaders={}, Signature={}".format,
    latin,
    st.just("20261123") | latin,
    latin,
    st.sampled_from(["backup", "iam", "organizations"]) | latin,
    st.just("host;x-amz-date") | latin,
    st.just("0" * 64) | latin,
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "host": latin,
        "authorization": authorizations,
        "x-amz-date": st.just("20261123T120000Z") | latin,
        "date": latin,
        "x-amz-target": latin,
        "x-amz-content-sha256": latin,
        "content-type": st.just("application/x-www-form-urlencoded") | latin,
        "user-agent": latin,
    },
)


@given(latin, latin, latin, headers, st.binary(max_size=50))
def test_garbage_is_refused(
    application: Application, method: str, path: str, query: str, sent: dict[str, str], body: bytes
) -> None:
    reply = application.answer(HttpRequest(method, path, query, sent, body), "an-id")
    assert 400 <= reply.status < 500
    assert ("x-amzn-RequestId", "an-id") in reply.headers


def signed(service: str, method: str, path: str, body: bytes, target: str) -> HttpRequest:
    extra = {"X-Amz-Target": target} if target else {}
    request: Any = AWSRequest(method, f"http://localhost{path}", headers=extra, data=body)
    SigV4Auth(Credentials("AKID", "secret"), load_service(service).signing_name, "eu-north-1").add_auth(request)
    return HttpRequest.of(method, path, "", [*request.headers.items(), ("host", "localhost")], body)


def drawn_operation(data: st.DataObject, service: str) -> Operation:
    operations = load_service(service).operations
    return operations[
        data.draw(st.sampled_from([name for name in operations if operations[name].method in {"PUT", "POST"}]))
    ]


def mutated(value: Any, data: st.DataObject, members: list[str]) -> Any:
    """Return an object with members that the operation knows, holding anything."""
    known = data.draw(st.dictionaries(st.sampled_from(members), json_values, max_size=4)) if members else {}
    return {**known, **value}


@given(st.data(), st.sampled_from(["organizations", "kms", "resourcegroupstaggingapi", "cloudtrail"]))
def test_a_signed_json_body_of_anything_is_refused_or_understood(
    application: Application, data: st.DataObject, service: str
) -> None:
    operation = data.draw(
        st.sampled_from(sorted(load_service(service).operations.values(), key=lambda each: each.name))
    )
    members = list(operation.input.members) if operation.input else []
    body = orjson.dumps(mutated(data.draw(st.dictionaries(text, json_values, max_size=2)), data, members))
    request = signed(service, "POST", "/", body, f"{load_service(service).target_prefix}.{operation.name}")
    assert_told(service, application.answer(request, "an-id"))


@given(st.data(), st.sampled_from(["backup", "holdfast"]))
def test_a_signed_rest_body_of_anything_is_refused_or_understood(
    application: Application, data: st.DataObject, service: str
) -> None:
    operation = drawn_operation(data, service)
    members = list(operation.input.members) if operation.input else []
    body = orjson.dumps(mutated({}, data, members))
    path = operation.uri.partition("?")[0].replace("{", "").replace("}", "")
    assert_told(service, application.answer(signed(service, operation.method, path, body, ""), "an-id"))


@given(st.data(), st.sampled_from(["iam", "sts", "cloudformation"]))
def test_a_signed_form_of_anything_is_refused_or_understood(
    application: Application, data: st.DataObject, service: str
) -> None:
    operation = data.draw(
        st.sampled_from(sorted(load_service(service).operations.values(), key=lambda each: each.name))
    )
    members = ["None", *(operation.input.members if operation.input else [])]
    tails = ["", ".member.1", ".member.x", ".1", ".", ".member.1.Key", ".entry.1.key", "..", ".member"]
    values = ["x", "", "%ff", "1", "%00", "\u00e9"]
    pair = st.tuples(st.sampled_from(members), st.sampled_from(tails), st.sampled_from(values))
    pairs = data.draw(st.lists(pair, max_size=4))
    body = f"Action={operation.name}" + "".join(f"&{name}{tail}={value}" for name, tail, value in pairs)
    assert_told(service, application.answer(signed(service, "POST", "/", body.encode(), ""), "an-id"))


def assert_told(service: str, reply: HttpReply) -> None:
    assert 400 <= reply.status < 500, reply.body
    response = {
        "status_code": reply.status,
        "headers": {name.lower(): value for name, value in reply.headers},
        "body": reply.body,
    }
    shape: Any = None
    understood: Any = create_parser(load_service(service).protocol).parse(response, shape)
    assert understood["Error"]["Code"]
    assert understood["Error"]["Message"]


def test_more_calls_than_may_wait_are_told_to_come_back() -> None:
    release = threading.Event()

    class Slow(Refusing):
        def invoke(self, call: Received, principal: Any, parameters: dict[str, Any]) -> Mapping[str, Any] | None:
            release.wait(10)
            return {}

    application = Application(Slow(), machine_time=SystemMachineTime(), settings=Settings(threads=1, most_waiting=2))
    request = signed("backup", "GET", "/backup-vaults/", b"", "")
    scope = {
        "type": "http",
        "method": "GET",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in request.headers.items()],
    }
    sent: list[MutableMapping[str, Any]] = []

    def statuses() -> list[int]:
        return [event["status"] for event in sent if event["type"] == "http.response.start"]

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def many() -> None:
        refused = asyncio.Event()

        async def send(event: MutableMapping[str, Any]) -> None:
            sent.append(event)
            if len(statuses()) == 3:
                refused.set()

        calls = [asyncio.create_task(application(dict(scope), receive, send)) for _ in range(5)]
        await refused.wait()
        release.set()
        await asyncio.gather(*calls)

    asyncio.run(many())
    application.close()
    assert statuses() == [429, 429, 429, 200, 200]
