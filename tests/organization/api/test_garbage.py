"""Whatever a client sends, the answer is the operation's own: never a failure of the server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.model import ListShape, ServiceModel, Shape, StructureShape
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.devserver import MANAGEMENT, DevServer

from holdfast.wire.organizations import OPERATIONS

OURS = sorted(OPERATIONS.keys() - {"DeleteOrganization"})
ODD = (
    "",
    " ",
    "0",
    "1234567890123",
    "r-",
    "r-zzzz",
    "ou-zzzz-01234567",
    "p-FullAWSAccess",
    "rp-01234567",
    "h-0123456789",
)
ODDER = (
    "é" * 40,
    "\x00",
    "'; DROP TABLE account; --",
    "%",
    "_",
    "../..",
    "x" * 200_000,
    "null",
    "\ud800",
    "١٢٣٤٥٦٧٨٩٠١٢",
)
NAMES = (
    "BACKUP_POLICY",
    "{}",
    "aws:x",
    "backup.amazonaws.com",
    "a@example.com",
    "ACCOUNT",
    "EMAIL",
    "INVITE",
    "ALL",
    "SUCCEEDED",
    "a",
)


def _value(shape: Shape, known: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Return values of about this shape: some that are fine, some that are not."""
    if isinstance(shape, StructureShape):
        return _structure(shape, known)
    if isinstance(shape, ListShape):
        return st.lists(_value(shape.member, known), max_size=3) | st.none()
    if shape.type_name == "integer":
        return st.integers(-1, 22) | st.sampled_from([2**70, "7", None, 1.5])
    fine = list(getattr(shape, "enum", ()) or ())
    texts = st.sampled_from([*known, *ODD, *ODDER, *NAMES, *fine])
    return texts | st.text(max_size=20) | st.sampled_from([None, 7, True, [], {}, ["a"], {"a": 1}])


def _structure(shape: Shape | None, known: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    if not isinstance(shape, StructureShape):
        return st.just({})
    required = {name: _value(shape.members[name], known) for name in shape.required_members}
    others = {name: _value(member, known) for name, member in shape.members.items() if name not in required}
    return st.fixed_dictionaries(required, optional=others)


@dataclass(frozen=True)
class World:
    """An organization, and a client that sends whatever it is given."""

    server: DevServer
    model: ServiceModel
    known: tuple[str, ...]
    connection: HTTPConnection

    def send(self, operation: str, parameters: dict[str, Any]) -> tuple[int, str | None]:
        """Send parameters as they are; return the status, and the code of a refusal."""
        target = f"{self.model.metadata['targetPrefix']}.{operation}"
        headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
        request = AWSRequest("POST", f"{self.server.url}/", headers, json.dumps(parameters))
        SigV4Auth(Credentials("testing", "testing"), "organizations", "us-east-1").add_auth(request)
        self.connection.request("POST", "/", request.body, dict(request.headers.items()))
        answer = self.connection.getresponse()
        body = json.loads(answer.read() or "{}")
        return answer.status, body.get("__type") if answer.status != HTTPStatus.OK else None


@pytest.fixture(scope="module")
def world(running: DevServer) -> Iterator[World]:
    """An organization with one of everything."""
    running.reset()
    client = running.client("organizations")
    client.create_organization()
    root = client.list_roots()["Roots"][0]["Id"]
    unit = client.create_organizational_unit(ParentId=root, Name="Prod")["OrganizationalUnit"]["Id"]
    member = client.create_account(AccountName="a", Email="shop@example.com")["CreateAccountStatus"]["AccountId"]
    connection = HTTPConnection(running.url.removeprefix("http://"), timeout=60)
    client.enable_policy_type(RootId=root, PolicyType="BACKUP_POLICY")
    policy = client.create_policy(Type="BACKUP_POLICY", Name="p", Description="", Content='{"plans": {}}')
    known = (MANAGEMENT, root, unit, member, policy["Policy"]["PolicySummary"]["Id"])
    yield World(running, client.meta.service_model, known, connection)
    connection.close()


@pytest.mark.parametrize("operation", OURS)
def test_garbage_is_refused_in_the_operation_s_own_words(world: World, operation: str) -> None:
    model = world.model.operation_model(operation)
    allowed = {shape.name for shape in model.error_shapes} | {"SerializationException", None}

    @settings(max_examples=max(10, settings().max_examples // 5))
    @given(parameters=_structure(model.input_shape, world.known))
    def holds(parameters: dict[str, Any]) -> None:
        status, code = world.send(operation, parameters)
        assert status in {HTTPStatus.OK, HTTPStatus.BAD_REQUEST}
        assert code in allowed

    holds()
