"""Worked examples of inheritance, admission and validation; one file each under vectors/."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from holdfast.policy.model.admission import admit
from holdfast.policy.model.document import MalformedPolicyError
from holdfast.policy.model.kind import BACKUP
from holdfast.policy.model.merge import Attached, Effective, Level, effective, replay
from holdfast.policy.model.validation import validate_effective

NOW = datetime(2026, 9, 13, 12, tzinfo=UTC)
REGIONS = frozenset(
    {"us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1", "eu-north-1"}
    | {"ap-northeast-2", "ap-northeast-3"}
)
VECTORS = {path.stem: json.loads(path.read_text()) for path in Path(__file__).parent.joinpath("vectors").glob("*.json")}
EFFECTIVE = sorted(name for name, vector in VECTORS.items() if "effective" in vector)
INVALID = sorted(
    name for name, vector in VECTORS.items() if vector.get("error", {}).get("kind") == "INVALID_EFFECTIVE_POLICY"
)
REFUSED = sorted(name for name, vector in VECTORS.items() if vector.get("error", {}).get("kind") == "ADMISSION")


def merged(vector: dict[str, Any]) -> Effective:
    chain = [
        Level(
            f"{depth}-{level['node']}",
            tuple(Attached(f"{depth}/{index}", json.dumps(policy)) for index, policy in enumerate(level["policies"])),
        )
        for depth, level in enumerate(vector["chain"])
    ]
    for level in chain:
        for policy in level.policies:
            admit(vector["policy_type"], policy.content, regions=REGIONS, now=NOW)
    return effective(chain, policy_type=vector["policy_type"])


def test_every_example_is_of_one_of_the_three_kinds() -> None:
    assert len(VECTORS) >= 18
    assert sorted([*EFFECTIVE, *INVALID, *REFUSED]) == sorted(VECTORS)


@pytest.mark.parametrize("name", EFFECTIVE)
def test_the_policies_merge_into_the_expected_document(name: str) -> None:
    vector = VECTORS[name]
    result = merged(vector)
    assert result.document == vector["effective"]
    assert replay(result.leaves) == vector["effective"]
    if vector["policy_type"] == BACKUP:
        assert validate_effective(result, NOW) == ()


@pytest.mark.parametrize("name", INVALID)
def test_the_merged_document_is_invalid_for_the_expected_reasons(name: str) -> None:
    errors = validate_effective(merged(VECTORS[name]), NOW)
    found = [
        {
            "ErrorCode": error.code,
            "ErrorMessage": error.message,
            "PathToError": error.path,
            "ContributingPolicies": sorted(error.contributing_policies),
        }
        for error in errors
    ]
    assert sorted(found, key=str) == sorted(VECTORS[name]["error"]["validation_errors"], key=str)


@pytest.mark.parametrize("name", REFUSED)
def test_the_document_is_not_admitted(name: str) -> None:
    vector = VECTORS[name]
    with pytest.raises(MalformedPolicyError):
        admit(vector["policy_type"], json.dumps(vector["chain"][0]["policies"][0]), regions=REGIONS, now=NOW)
