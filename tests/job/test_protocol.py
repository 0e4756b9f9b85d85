"""The lines between supervisor and mover: what is written reads back, what is not ours is refused."""

import os
import threading
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.clock import SystemMachineTime
from holdfast.job import protocol
from holdfast.job.channel import Channel, ChannelClosedError
from holdfast.job.protocol import (
    LONGEST_LINE,
    BackupWork,
    Continue,
    FromMover,
    ProgressMade,
    ProtocolError,
    Secret,
    ToMover,
    Trouble,
    encode,
    from_mover,
    to_mover,
)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts, st.lists, max_leaves=5)
spans = st.integers(0, 10**6).map(lambda seconds: timedelta(milliseconds=seconds))
instants = st.datetimes(timezones=st.just(UTC))


def values(wanted: Any) -> st.SearchStrategy[Any]:
    """Build anything that a message may hold, from the types of its members."""
    origin, parameters = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is types.UnionType:
        return st.one_of([st.none() if kind is type(None) else values(kind) for kind in parameters])
    if origin is tuple:
        return st.lists(values(parameters[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(texts, values(parameters[1]), max_size=3)
    if is_dataclass(wanted) and isinstance(wanted, type):
        hints = typing.get_type_hints(wanted)
        return st.builds(wanted, **{part.name: values(hints[part.name]) for part in fields(wanted)})
    scalars: dict[Any, st.SearchStrategy[Any]] = {
        str: texts,
        int: st.integers(0, 2**53),
        bool: st.booleans(),
        timedelta: spans,
        datetime: instants,
        Any: json_values,
    }
    return scalars[wanted] if wanted in scalars else st.sampled_from(wanted)


def test_every_message_is_known_by_its_name() -> None:
    for known in (protocol._TO_MOVER, protocol._FROM_MOVER):
        assert all(kind.__name__ == name for name, kind in known.items())
    assert protocol._TO_MOVER.keys().isdisjoint(protocol._FROM_MOVER)


@given(values(ToMover))
def test_what_a_supervisor_says_is_what_a_mover_hears(message: ToMover) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert to_mover(line) == message


@given(values(FromMover))
def test_what_a_mover_says_is_what_a_supervisor_hears(message: FromMover) -> None:
    assert from_mover(encode(message)) == message


@given(st.binary(max_size=200) | json_values.map(orjson.dumps))
def test_a_line_that_is_none_of_ours_is_refused_with_one_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        to_mover(line)
    with pytest.raises(ProtocolError):
        from_mover(line)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"say":"Continue","to":"me"}', None),
        (b'{"say":"Result"}', "nothing that is known"),
        (b'{"say":["Commit"]}', "nothing that is known"),
        (b'{"say":"Host"}', "Host lacks something"),
        (b'{"say":"Host","name":7}', "Host.name is 7, which is no str"),
        (b'{"say":"Host","name":"h","grants":{}}', "Host.grants is no list"),
        (b'{"say":"Host","name":"h","grants":[{"url_prefix":"a","read":1}]}', "Host.grants.read is 1"),
        (b'{"say":"Ticket","kind":"THEFT"}', "Ticket.kind is not right"),
        (b'{"say":"Ticket","at":"2026-01-01T00:00:00"}', "Ticket.at"),
        (b'{"say":"Ticket","beat":1e300}', "Ticket.beat is not right"),
    ],
)
def test_a_wrong_line_is_refused_by_what_is_wrong_with_it(line: bytes, words: str | None) -> None:
    if words is None:
        assert to_mover(line) == Continue(), "what a newer one adds is ignored"
        return
    with pytest.raises(ProtocolError, match=words):
        to_mover(line)


def test_no_secret_shows_in_what_is_logged() -> None:
    secret = Secret("user", "hunter2")
    access = protocol.RepositoryAccess("s3://bucket", "a", "hunter2", {"secret_access_key": "hunter2"})
    place = protocol.Place("file:///a", "EFS", secret)
    assert "hunter2" not in repr((secret, access, place, BackupWork(place)))


def test_a_line_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ProtocolError, match="longer"):
        encode(protocol.Problems((Trouble("x" * LONGEST_LINE, ""),)))


@pytest.fixture
def ends() -> tuple[Channel, Channel]:
    there, back = os.pipe(), os.pipe()
    machine = SystemMachineTime()
    return Channel(back[0], there[1], machine), Channel(there[0], back[1], machine)


def test_lines_come_whole_however_they_were_cut(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    lines = [encode(ProgressMade(n, n, n, n)) for n in range(50)] + [b"x" * 300_000 + b"\n"]

    def send() -> None:
        for line in lines:
            near.send(line)

    sender = threading.Thread(target=send)
    sender.start()
    assert [far.receive(20) for _ in lines] == [line[:-1] for line in lines]
    sender.join()
    assert far.receive(0.01) is None
    near.close()
    with pytest.raises(ChannelClosedError):
        far.receive(20)
    with pytest.raises(ChannelClosedError):
        far.send(b"a\n")
    far.close()
    far.close()


def test_one_who_does_not_read_is_not_waited_for_for_ever(ends: tuple[Channel, Channel]) -> None:
    near, far = ends
    with pytest.raises(ChannelClosedError, match="does not read"):
        near.send(b"x" * (1 << 20) + b"\n", patience=0.05)
    near.close()
    far.close()


def test_a_line_without_an_end_is_refused(ends: tuple[Channel, Channel]) -> None:
    near, far = ends

    def flood() -> None:
        try:
            near.send(b"x" * (LONGEST_LINE + (1 << 20)))
        except ChannelClosedError:
            return

    sender = threading.Thread(target=flood)
    sender.start()
    with pytest.raises(ProtocolError, match="does not end"):
        far.receive(20)
    far.close()
    sender.join()
    near.close()
