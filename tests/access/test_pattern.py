"""Wildcards: against a slow matcher that is plainly right, and against patterns made to be slow."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.access.model.pattern import arn_pattern, parse_template, resource_pattern, text_pattern

VAULT = "arn:aws:backup:eu-north-1:111122223333:backup-vault:Daily"


def as_resource(pattern: str, arn: str) -> bool:
    return re.match(resource_pattern(parse_template(pattern, with_variables=True)), arn, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*", True),
        (VAULT, True),
        (VAULT.upper(), False),
        ("arn:aws:backup", True),
        ("arn:aws:backup:*", True),
        ("arn:aws:backup:eu-*:*:backup-vault:*", True),
        ("arn:aws:backup:*:111122223333:*", True),
        ("arn:aws:backup:*:999999999999:*", False),
        ("arn:aws:backup:eu*Daily", False),
        ("arn:aws:backup:eu-north-?:111122223333:backup-vault:D???y", True),
        ("arn:aws:backup:eu-north-1?111122223333:backup-vault:Daily", False),
        ("arn:*:backup:*:*:backup-vault:Daily", True),
        ("arn:aws:s3:::*", False),
        ("arn:aws:backup:*:*:recovery-point:*", False),
        ("arn:aws:backup:*:*:backup-vault:Dai*ly*", True),
    ],
)
def test_a_resource_pattern(pattern: str, matches: bool) -> None:
    assert as_resource(pattern, VAULT) is matches


def test_a_pattern_for_an_arn_does_not_speak_of_an_action_without_resource() -> None:
    assert not as_resource("arn:aws:backup:*:*:*", "*")
    assert as_resource("*", "*")


def slow_match(pattern: list[str], text: str, *, inside: frozenset[int]) -> bool:
    """Match by trying everything: positions in `inside` hold asterisks that stop at colons."""
    ways = {0}
    for position, c in enumerate(pattern):
        following: set[int] = set()
        for at in ways:
            if c == "*":
                end = at
                following.add(at)
                while end < len(text) and not (position in inside and text[end] == ":"):
                    end += 1
                    following.add(end)
            elif at < len(text) and (c == text[at] or (c == "?" and (text[at] != ":" or not inside))):
                following.add(at + 1)
        ways = following
    return len(text) in ways


SHORT = st.text(alphabet="ab:*?", max_size=12)
TEXT = st.text(alphabet="ab:", max_size=14)


@given(pattern=SHORT, text=TEXT)
def test_a_text_pattern_matches_as_the_slow_matcher_says(pattern: str, text: str) -> None:
    expression = text_pattern(parse_template(pattern, with_variables=True))
    expected = slow_match(list(pattern), text, inside=frozenset())
    assert (re.match(expression, text, re.DOTALL) is not None) is expected


@given(rest=st.text(alphabet="ab:*", max_size=12), text=TEXT)
def test_a_resource_pattern_matches_as_the_slow_matcher_says(rest: str, text: str) -> None:
    pattern, arn = "arn:b:c:d:e:" + rest, "arn:b:c:d:e:" + text
    last_of_part = {i for i, c in enumerate(pattern) if c == "*" and pattern[i + 1 : i + 2] in {"", ":"}}
    inside = frozenset(i for i, c in enumerate(pattern) if c == "*" and i not in last_of_part)
    # Asterisks in a row are one: the widest of them.
    assert as_resource(pattern, arn) is slow_match(list(pattern), arn, inside=inside)


@given(parts=st.lists(st.text(alphabet="a*", max_size=4), min_size=6, max_size=8), text=TEXT)
def test_a_condition_matches_the_parts_of_an_arn_one_by_one(parts: list[str], text: str) -> None:
    pattern = ":".join(parts)
    expression = arn_pattern(parse_template(pattern, with_variables=True))
    colons = [i for i, c in enumerate(pattern) if c == ":"]
    inside = frozenset(i for i, c in enumerate(pattern) if c == "*" and i < colons[4])
    arn = "a:aa::a:b:" + text
    assert (re.match(expression, arn, re.DOTALL) is not None) is slow_match(list(pattern), arn, inside=inside)


@pytest.mark.parametrize("pattern", ["arn:a:b:c:d:" + "*a" * 60 + "b", "arn:a:b:c:d:" + "a*" * 200 + "b"])
def test_a_pattern_full_of_asterisks_is_no_slower(pattern: str) -> None:
    arn = "arn:a:b:c:d:" + "a" * 2000
    assert not as_resource(pattern, arn)  # would not end in a lifetime if every asterisk were tried again
