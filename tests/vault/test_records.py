"""Signed records: whatever happens to them in storage is noticed."""

import base64
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.vault.builders import NOON, ROOT_KEY

from holdfast.core.seal import RootKey
from holdfast.vault.records import (
    Fault,
    Head,
    Kind,
    Record,
    RecordDamagedError,
    Signer,
    Written,
    decode,
    encode,
    next_record,
    record_name,
    signed,
    verify,
)

OURS = Signer.of(ROOT_KEY)
THEIRS = Signer.of(RootKey(bytes(32)))
VAULT = "11111111-1111-4111-8111-111111111111"

bodies = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)


def a_chain(length: int, signer: Signer = OURS, start: Head | None = None) -> list[Written]:
    head = start or Head()
    made = []
    for number in range(length):
        written = encode(
            next_record(VAULT, head, Kind.TAGS_PUT, {"n": number}, at=NOON + timedelta(seconds=number)), signer
        )
        made.append(written)
        head = Head(written.record.sequence, written.digest)
    return made


def files(chain: list[Written]) -> list[tuple[int, bytes]]:
    return [(written.record.sequence, written.content) for written in chain]


def faults(found: list[tuple[int, bytes]], end: Head | None = None, *, by: Signer = OURS) -> tuple[Fault, ...]:
    return verify(VAULT, found, trusted=frozenset({by.public}), end=end)[1]


def head(chain: list[Written]) -> Head:
    return Head(chain[-1].record.sequence, chain[-1].digest) if chain else Head()


@given(body=bodies)
def test_what_is_written_reads_back(body: dict[str, object]) -> None:
    record = Record(VAULT, 1, Head().digest, NOON, Kind.POINT_MADE, body)
    written = encode(record, OURS)
    assert decode(written.content, name="record") == written


@given(length=st.integers(0, 6))
def test_an_untouched_chain_has_no_faults(length: int) -> None:
    chain = a_chain(length)
    good, found = verify(VAULT, files(chain), trusted=frozenset({OURS.public}), end=head(chain))
    assert found == ()
    assert list(good) == chain


@given(st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    chain = files(a_chain(4))
    place = data.draw(st.integers(0, 3))
    number, content = chain[place]
    at = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != content[at]))
    chain[place] = (number, content[:at] + bytes([other]) + content[at + 1 :])
    assert faults(chain)


@given(length=st.integers(2, 6), data=st.data())
def test_a_record_that_is_gone_is_noticed_and_named(length: int, data: st.DataObject) -> None:
    chain = a_chain(length)
    gone = data.draw(st.integers(0, length - 1))
    found = faults(files(chain[:gone] + chain[gone + 1 :]), head(chain))
    assert Fault(gone + 1, f"record {gone + 1} is missing") in found


@given(length=st.integers(2, 6), data=st.data())
def test_records_in_another_order_are_noticed(length: int, data: st.DataObject) -> None:
    chain = files(a_chain(length))
    order = data.draw(st.permutations(range(length)).filter(lambda found: found != list(range(length))))
    renamed = [(number + 1, chain[place][1]) for number, place in enumerate(order)]
    assert faults(renamed)
    assert faults([chain[place] for place in order])


@given(length=st.integers(1, 6), data=st.data())
def test_a_record_put_in_by_somebody_else_is_noticed(length: int, data: st.DataObject) -> None:
    chain = a_chain(length)
    place = data.draw(st.integers(0, length))
    before = chain[place - 1] if place else None
    start = Head(before.record.sequence, before.digest) if before else Head()
    forged = a_chain(1, THEIRS, start)[0]
    assert faults(files([*chain[:place], forged, *chain[place + 1 :]]), None)


def test_a_record_of_another_vault_is_noticed() -> None:
    record = Record("another", 1, Head().digest, NOON, Kind.LOCK_REMOVED, {})
    assert "misplaced" in faults([(1, encode(record, OURS).content)])[0].what


def test_the_last_record_cut_off_is_noticed_by_whoever_remembers_it() -> None:
    chain = a_chain(3)
    assert faults(files(chain[:2])) == ()
    assert faults(files(chain[:2]), head(chain)) == (Fault(3, "record 3 is missing"),)
    assert faults([], head(chain)) == tuple(Fault(n, f"record {n} is missing") for n in (1, 2, 3))


def test_a_later_record_of_our_own_vouches_for_those_that_an_earlier_key_signed() -> None:
    old = a_chain(3, THEIRS)
    new = a_chain(2, OURS, head(old))
    assert faults(files(old + new)) == ()
    assert [fault.sequence for fault in faults(files(old))] == [1, 2, 3]
    assert [fault.sequence for fault in faults(files(old + new), by=THEIRS)] == [4, 5]


def test_reading_goes_on_where_it_stopped() -> None:
    chain = a_chain(5)
    good, found = verify(
        VAULT, files(chain[3:]), trusted=frozenset({OURS.public}), start=head(chain[:3]), end=head(chain)
    )
    assert found == ()
    assert list(good) == chain[3:]
    other = Head(3, "f" * 64)
    assert verify(VAULT, files(chain[3:]), trusted=frozenset({OURS.public}), start=other)[1]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content + b"\n", id="a newline"),
        pytest.param(lambda content: content.replace(b'":', b'": ', 1), id="a space"),
        pytest.param(lambda content: b"[]", id="a list"),
        pytest.param(lambda content: b"", id="nothing"),
        pytest.param(lambda content: b'{"document":{},"signature":""}', id="no key"),
        pytest.param(lambda content: b'{"document":{"key":"AA=="},"signature":"AA=="}', id="a short key"),
        pytest.param(lambda content: b"\xff\xfe", id="no text"),
    ],
)
def test_a_malformed_record_raises_one_class(change: Callable[[bytes], bytes]) -> None:
    content = a_chain(1)[0].content
    with pytest.raises(RecordDamagedError):
        decode(change(content), name="record 1")


def test_a_document_that_is_signed_but_no_record_is_refused() -> None:

    with pytest.raises(RecordDamagedError, match="no record that this release knows"):
        decode(signed({"format": 1}, OURS), name="record 1")


def test_names_sort_as_numbers_do() -> None:
    assert sorted([record_name(100), record_name(9), record_name(12)]) == [
        record_name(9),
        record_name(12),
        record_name(100),
    ]


def test_the_signers_key_follows_from_the_root_key_alone() -> None:
    assert Signer.of(RootKey(bytes(range(32)))).public == OURS.public
    assert base64.b64encode(OURS.public) != base64.b64encode(THEIRS.public)


@settings(max_examples=20)
@given(length=st.integers(1, 5), data=st.data())
def test_of_a_damaged_chain_the_good_records_are_still_given(length: int, data: st.DataObject) -> None:
    chain = a_chain(length)
    bad = data.draw(st.integers(0, length - 1))
    found = files(chain)
    found[bad] = (bad + 1, b"{}")
    good, _ = verify(VAULT, found, trusted=frozenset({OURS.public}))
    assert [written.record.sequence for written in good] == [n + 1 for n in range(length) if n != bad]
