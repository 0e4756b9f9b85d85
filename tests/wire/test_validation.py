"""What fits a shape and what does not, and what a refusal says."""

from typing import Any

import pytest

from holdfast.wire.model import Service, compiled_service
from holdfast.wire.validation import Fault, InvalidParametersError, validate


@pytest.fixture(scope="module")
def service() -> Service:
    shapes = {
        "Input": {
            "type": "structure",
            "required": ["Name"],
            "members": {
                "Name": {"shape": "Name"},
                "Count": {"shape": "Count"},
                "Whole": {"shape": "Whole"},
                "Color": {"shape": "Color"},
                "Items": {"shape": "Items"},
                "Tags": {"shape": "Tags"},
                "Blob": {"shape": "Blob"},
                "Secret": {"shape": "Secret"},
                "Either": {"shape": "Either"},
                "Child": {"shape": "Input"},
            },
        },
        "Name": {"type": "string", "min": 2, "max": 5, "pattern": "[a-z]+"},
        "Count": {"type": "integer", "min": 1, "max": 1000},
        "Whole": {"type": "integer"},
        "Color": {"type": "string", "enum": ["red", "green"]},
        "Items": {"type": "list", "member": {"shape": "Name"}, "max": 2},
        "Tags": {"type": "map", "key": {"shape": "Name"}, "value": {"shape": "Color"}, "min": 1},
        "Blob": {"type": "blob", "max": 3},
        "Secret": {"type": "string", "pattern": "[a-z]+", "sensitive": True},
        "Either": {
            "type": "structure",
            "union": True,
            "members": {"Left": {"shape": "Name"}, "Right": {"shape": "Name"}},
        },
    }
    operation = {"name": "Do", "http": {"method": "POST", "requestUri": "/"}, "input": {"shape": "Input"}}
    metadata = {"protocol": "json", "apiVersion": "2026-01-01", "endpointPrefix": "made-up", "targetPrefix": "Made"}
    return compiled_service("made-up", {"metadata": metadata, "operations": {"Do": operation}, "shapes": shapes})


@pytest.mark.parametrize(
    "more",
    [
        {"Name": "ab"},
        {"Name": "abcde"},
        {"Count": 1},
        {"Count": 1000},
        {"Whole": -(2**31)},
        {"Color": "red"},
        {"Items": []},
        {"Items": ["ab", "cd"]},
        {"Tags": {"ab": "red"}},
        {"Blob": b"abc"},
        {"Either": {"Left": "ab"}},
        {"Child": {"Name": "ab"}},
        {"Unknown": []},
    ],
    ids=str,
)
def test_what_fits_passes(service: Service, more: dict[str, Any]) -> None:
    validate(service.operations["Do"].input, {"Name": "ab", **more})


@pytest.mark.parametrize(
    ("more", "path", "fault"),
    [
        ({"Name": None}, "Name", Fault.MISSING),
        ({"Name": "a"}, "Name", Fault.TOO_SHORT),
        ({"Name": "abcdef"}, "Name", Fault.TOO_LONG),
        ({"Name": "AB"}, "Name", Fault.PATTERN),
        ({"Name": "ab\n"}, "Name", Fault.PATTERN),
        ({"Count": 0}, "Count", Fault.TOO_SMALL),
        ({"Count": 1001}, "Count", Fault.TOO_LARGE),
        ({"Whole": 2**31}, "Whole", Fault.TOO_LARGE),
        ({"Whole": -(2**31) - 1}, "Whole", Fault.TOO_SMALL),
        ({"Color": "blue"}, "Color", Fault.ENUM),
        ({"Items": ["ab", "cd", "ef"]}, "Items", Fault.TOO_LONG),
        ({"Items": ["ab", "c"]}, "Items[1]", Fault.TOO_SHORT),
        ({"Tags": {}}, "Tags", Fault.TOO_SHORT),
        ({"Tags": {"ab": "blue"}}, "Tags[ab]", Fault.ENUM),
        ({"Tags": {"A": "red"}}, "Tags[A]", Fault.TOO_SHORT),
        ({"Blob": b"abcd"}, "Blob", Fault.TOO_LONG),
        ({"Either": {}}, "Either", Fault.UNION),
        ({"Either": {"Left": "ab", "Right": "ab"}}, "Either", Fault.UNION),
        ({"Child": {}}, "Child.Name", Fault.MISSING),
        ({"Child": {"Name": "ab", "Child": {"Name": "a"}}}, "Child.Child.Name", Fault.TOO_SHORT),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_by_its_path(
    service: Service, more: dict[str, Any], path: str, fault: Fault
) -> None:
    with pytest.raises(InvalidParametersError) as caught:
        validate(service.operations["Do"].input, {"Name": "ab", **more})
    [problem] = caught.value.problems
    assert (problem.path, problem.fault) == (path, fault)
    assert path in problem.sentence


def test_a_refusal_never_repeats_a_secret(service: Service) -> None:
    with pytest.raises(InvalidParametersError) as caught:
        validate(service.operations["Do"].input, {"Name": "ab", "Secret": "HUNTER2"})
    assert "HUNTER2" not in str(caught.value)


def test_a_refusal_lists_ten_problems_at_most_and_shortens_values(service: Service) -> None:
    with pytest.raises(InvalidParametersError) as caught:
        validate(service.operations["Do"].input, {"Name": "ab", "Tags": {f"{n:02}": "x" * 5000 for n in range(50)}})
    assert len(caught.value.problems) == 10
    assert len(str(caught.value)) < 5000


def test_an_operation_without_input_takes_anything() -> None:
    validate(None, {"Anything": 1})
