"""Sealing under the root key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.seal import RootKey, SealBrokenError

ROOT = RootKey(bytes(range(32)))


@given(plaintext=st.binary(max_size=200), context=st.text(max_size=20))
def test_what_is_sealed_opens_again(plaintext: bytes, context: str) -> None:
    assert ROOT.unseal("secret", ROOT.seal("secret", plaintext, context=context), context=context) == plaintext


@given(position=st.integers(min_value=0, max_value=40), flip=st.integers(min_value=1, max_value=255))
def test_one_changed_byte_is_noticed(position: int, flip: int) -> None:
    sealed = bytearray(ROOT.seal("secret", b"a plaintext", context="row 1"))
    sealed[position % len(sealed)] ^= flip
    with pytest.raises(SealBrokenError):
        ROOT.unseal("secret", bytes(sealed), context="row 1")


@pytest.mark.parametrize(
    ("root", "purpose", "context"),
    [(ROOT, "secret", "row 2"), (ROOT, "other", "row 1"), (RootKey.generate(), "secret", "row 1")],
    ids=["moved to another row", "used for another purpose", "opened with another root key"],
)
def test_a_sealed_value_opens_only_where_it_belongs(root: RootKey, purpose: str, context: str) -> None:
    sealed = ROOT.seal("secret", b"a plaintext", context="row 1")
    with pytest.raises(SealBrokenError):
        root.unseal(purpose, sealed, context=context)


def test_a_root_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        RootKey(b"short")
