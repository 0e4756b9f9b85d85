"""Reading policy documents, with the place of everything."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.model.document import Json, Literal, MalformedPolicyError, parse, read

_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.sampled_from(["a", "b/c", "~", "ä", ""]), inner)),
    max_leaves=20,
)


def plain(value: Json) -> Any:
    if isinstance(value, Literal):
        return json.loads(value)
    if isinstance(value, dict):
        return {key: plain(member) for key, member in value.items()}
    return [plain(element) for element in value] if isinstance(value, list) else value


@given(_VALUES, st.sampled_from([None, 2]))
def test_what_json_writes_is_read_back(value: Any, indent: int | None) -> None:
    assert plain(parse(json.dumps(value, indent=indent)).value) == value


@given(st.text(alphabet='{}[]",:0.1eE+-truefalsn\\u \n', max_size=30))
def test_texts_are_read_exactly_when_json_reads_them(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(MalformedPolicyError):
            parse(text)
        return
    try:
        assert plain(parse(text, fold_keys=False).value) == expected
    except MalformedPolicyError as refusal:
        assert "twice" in refusal.reason or "null character" in refusal.reason  # noqa: PT017 - json takes these two


def test_each_value_is_found_by_its_pointer_with_line_and_column() -> None:
    parsed = parse('{\n  "a/b": [1,\n    {"~": true}]\n}')
    assert parsed.line_and_column("") == (1, 1)
    assert parsed.line_and_column("/a~1b") == (2, 10)
    assert parsed.line_and_column("/a~1b/0") == (2, 11)
    assert parsed.line_and_column("/a~1b/1/~0") == (3, 11)
    assert parsed.line_and_column("/a~1b/1/missing/deeper") == (3, 5)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        "01",
        "1.",
        ".5",
        "+1",
        "'a'",
        "{a:1}",
        "[1,]",
        '{"a":1,}',
        '"\t"',
        "[1 2]",
        '{"a" 1}',
        "",
        "\ufeff{}",
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedPolicyError):
        parse(text)


def test_an_error_in_the_text_tells_the_character() -> None:
    with pytest.raises(MalformedPolicyError) as refusal:
        parse('{"a": [1, }')
    assert (refusal.value.pointer, refusal.value.offset) == ("/a/1", 10)


def test_a_policy_that_is_no_object_cannot_be_merged() -> None:
    with pytest.raises(MalformedPolicyError):
        read("[]")
