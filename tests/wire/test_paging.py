"""Page tokens: good for the list they were given out for, and for nothing else."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from holdfast.wire.paging import InvalidPageTokenError, PageTokens

TOKENS = PageTokens(b"k" * 32)
scopes = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filters = st.dictionaries(scopes, scopes | st.integers(0, 9) | st.none(), max_size=3)
positions = st.lists(scopes | st.integers(-(2**53), 2**53), max_size=3)


@given(scopes, filters, positions)
def test_a_token_gives_its_position_back(scope: str, chosen: dict[str, object], position: list[object]) -> None:
    assert TOKENS.read(scope, chosen, TOKENS.issue(scope, chosen, position)) == position


@given(scopes, scopes, filters, filters, positions)
def test_a_token_is_good_for_no_other_list(
    scope: str, other_scope: str, chosen: dict[str, object], other: dict[str, object], position: list[object]
) -> None:
    assume((scope, chosen) != (other_scope, other))
    token = TOKENS.issue(scope, chosen, position)
    with pytest.raises(InvalidPageTokenError):
        TOKENS.read(other_scope, other, token)


@given(positions, st.data())
def test_a_changed_token_is_refused(position: list[object], data: st.DataObject) -> None:
    token = TOKENS.issue("list", {}, position)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCabc012-_"))
    changed = token[:at] + letter + token[at + 1 :]
    assume(changed != token)
    # The last letter of base64 may have bits that mean nothing; such a token says the same.
    try:
        assert TOKENS.read("list", {}, changed) == position
        assert at == len(token) - 1
    except InvalidPageTokenError:
        pass


@pytest.mark.parametrize("token", ["", "x", "AAAA", "not a token!", "ü", "=" * 50, "A" * 5000])
def test_a_made_up_token_is_refused_with_what_to_do(token: str) -> None:
    with pytest.raises(InvalidPageTokenError, match="begin again without a token"):
        TOKENS.read("list", {}, token)


def test_a_token_of_another_installation_is_refused() -> None:
    with pytest.raises(InvalidPageTokenError):
        TOKENS.read("list", {}, PageTokens(b"another key").issue("list", {}, [1]))


def test_a_token_is_short_enough_for_every_service() -> None:
    """IAM's markers have 320 characters at most."""
    assert len(TOKENS.issue("iam:ListUsers:123456789012", {"PathPrefix": "/" * 512}, ["u" * 128])) <= 320
