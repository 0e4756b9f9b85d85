"""Valid documents with something wrong in them, sent to a server: stored, or refused in the exact words."""

import copy
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.policy.builders import CONTROL, FULL_POLICY, json_values
from tests.policy.served import Served
from tests.policy.test_admission import places
from tests.policy.test_vectors import VECTORS
from tests.policy.test_wire import made_policy

MALFORMED = "The provided policy document does not meet the requirements of the specified policy type."
CODES: dict[str, set[str | None]] = {
    "MalformedPolicyDocumentException": {None},
    "ConstraintViolationException": {"POLICY_CONTENT_LIMIT_EXCEEDED"},
    "InvalidInputException": {"MIN_LENGTH_EXCEEDED", "INVALID_PATTERN:CONTENT"},  # nothing at all; a NUL in it
}
VALID = [
    ("BACKUP_POLICY", FULL_POLICY),
    *(
        (vector["policy_type"], policy)
        for vector in VECTORS.values()
        if "error" not in vector
        for level in vector["chain"]
        for policy in level["policies"]
        if isinstance(policy, dict)
    ),
]
ODD_KEYS = st.sampled_from(
    ["@@assign", "@@append", "@@remove", "@@none", CONTROL, "plans", "PLANS", "", " ", "é", "x" * 51, "$account", "a.b"]
)
ODD_VALUES: st.SearchStrategy[Any] = json_values | st.sampled_from(
    [
        "cron(0 5 31 2 ? *)",
        "rate(1 day)",
        "$account",
        "$region",
        "060",
        "1e2",
        "@@all",
        2**63,
        -1,
        1.5,
        True,
        None,
        [],
        {},
    ]
)


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, str]:
    """Return the type and the text of a valid policy in which one to three places were changed."""
    policy_type, valid = draw(st.sampled_from(VALID))
    document = copy.deepcopy(valid)
    text = None
    for _ in range(draw(st.integers(1, 3))):
        found = places(document)[1:]
        if not found:
            break
        *above, last = draw(st.sampled_from(found))
        place: Any = document
        for key in above:
            place = place[key]
        match draw(st.sampled_from(["replace", "remove", "rename", "add", "wrap", "nest"])):
            case "replace":
                place[last] = draw(ODD_VALUES)
            case "remove":
                del place[last]
            case "rename" if isinstance(place, dict):
                place[draw(ODD_KEYS)] = place.pop(last)
            case "add" if isinstance(place, dict):
                place[draw(ODD_KEYS)] = draw(ODD_VALUES)
            case "wrap":
                place[last] = [place[last]]
            case _:
                place[last] = {"@@assign": place[last]}
    if draw(st.integers(0, 9)) == 0:  # broken as text as well
        text = json.dumps(document)
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(["", ",", '"', "}", "\\ud800", "\u0000", "[[["])) + text[at + 1 :]
    return policy_type, text or json.dumps(document)


@pytest.fixture(scope="module")
def client(served: Served) -> Any:
    return served.client(checks=False)


def stored(client: Any, policy_type: str, content: str) -> str | None:
    """Send a document; return the policy's id, None where it was refused as it should be."""
    try:
        return made_policy(client, "mutation", content, policy_type)
    except ClientError as error:
        response: Any = error.response
        code = response["Error"]["Code"]
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert response.get("Reason") in CODES[code]
        if code == "MalformedPolicyDocumentException":
            assert response["Error"]["Message"].startswith(MALFORMED)
        return None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(mutations())
def test_a_mutated_document_is_stored_or_refused_in_the_exact_words(client: Any, mutation: tuple[str, str]) -> None:
    policy_type, content = mutation
    policy = stored(client, policy_type, content)
    if policy is None:
        return
    try:
        root = client.list_roots()["Roots"][0]
        if policy_type not in {each["Type"] for each in root["PolicyTypes"]}:
            client.enable_policy_type(RootId=root["Id"], PolicyType=policy_type)
        # What was admitted can be attached, and what it makes can be read: as a document, or as the reasons against it.
        client.attach_policy(PolicyId=policy, TargetId=root["Id"])
        content = client.describe_effective_policy(PolicyType=policy_type)["EffectivePolicy"]["PolicyContent"]
        assert isinstance(json.loads(content), dict)
        client.detach_policy(PolicyId=policy, TargetId=root["Id"])
    finally:
        client.delete_policy(PolicyId=policy)
