"""What every source and every target must do. Each implementation runs these suites with a few lines of its own."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from holdfast.core.errors import NotFoundError
from holdfast.repository.entry import Content, Entry, Extent, Hole, Kept, Kind, Noticed, Problem
from holdfast.source.protocol import (
    Consistency,
    NotGrantedError,
    Source,
    SourceAbortedError,
    SourceError,
    SourceIncompleteError,
    SourceMissingError,
    SourceSpec,
)
from holdfast.source.registry import open_source


def read_content(content: Content | Kept | None) -> bytes:
    """Return all bytes of a file's content, as a writer would read them."""
    assert content is not None
    assert not isinstance(content, Kept)
    out = bytearray()
    for piece in content.read():
        match piece:
            case Extent(descriptor, offset, length):
                out += os.pread(descriptor, length, offset)
            case Hole(length):
                out += bytes(length)
            case Noticed():
                continue
            case _:
                out += piece
    return bytes(out)


def read_all(source: Source) -> tuple[dict[tuple[bytes, ...], tuple[Entry, bytes]], list[Problem]]:
    """Read a source to its end: every entry with its content, and the problems."""
    found: dict[tuple[bytes, ...], tuple[Entry, bytes]] = {}
    problems = []
    for item in source.entries():
        if isinstance(item, Problem):
            problems.append(item)
        else:
            found[item.path] = (item, read_content(item.content) if item.kind is Kind.FILE else b"")
    return found, problems


class PointInMemory:
    """A recovery point's entries, kept in memory."""

    def __init__(self, files: dict[tuple[bytes, ...], bytes]) -> None:
        self.files = files

    def names(self, directory: tuple[bytes, ...]) -> tuple[bytes, ...]:
        depth = len(directory)
        return tuple(sorted({path[depth] for path in self.files if path[:depth] == directory and len(path) > depth}))

    def read(self, path: tuple[bytes, ...]) -> Iterator[bytes]:
        if path not in self.files:
            raise NotFoundError(f"the point has no {path}")
        data = self.files[path]
        return (data[at : at + 65536] for at in range(0, len(data), 65536))


def children() -> set[int]:
    """Return the processes that this one has started and that still run."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def descriptors() -> list[str]:
    """Return what this process has open."""
    found = []
    for name in sorted(os.listdir("/proc/self/fd")):  # noqa: PTH208 - names alone
        try:
            found.append(f"{name} {Path('/proc/self/fd', name).readlink()}")
        except FileNotFoundError:
            continue  # the descriptor of this very listing
    return found


def opened_since(before: list[str]) -> list[str]:
    """Return what this process has open now and had not before."""
    return sorted(set(descriptors()) - set(before))


class SourceContract:
    """Subclasses give `spec`: a source with at least two entries, and `missing`: the same kind of source, not there."""

    consistency: Consistency

    @pytest.fixture
    def spec(self) -> SourceSpec:
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> SourceSpec:
        raise NotImplementedError

    def test_a_stream_that_was_read_to_its_end_is_proven(self, spec: SourceSpec) -> None:
        source = open_source(spec)
        assert source.consistency is self.consistency
        found, _ = read_all(source)
        report = source.finish()
        assert len(found) >= 2
        assert json.loads(json.dumps(report.facts)) == report.facts

    def test_entries_come_in_the_order_of_a_tree(self, spec: SourceSpec) -> None:
        source = open_source(spec)
        found, _ = read_all(source)
        source.finish()
        assert list(found) == sorted(found)
        assert all(path[:-1] in found for path in found if len(path) > 1)

    def test_nothing_is_proven_before_it_was_read(self, spec: SourceSpec) -> None:
        source = open_source(spec)
        with pytest.raises(SourceIncompleteError):
            source.finish()
        source.abort()

    def test_a_stream_that_was_left_half_way_is_never_proven(self, spec: SourceSpec) -> None:
        source = open_source(spec)
        for item in islice(source.entries(), 1):
            assert isinstance(item, Entry)
        with pytest.raises(SourceIncompleteError):
            source.finish()
        source.abort()

    def test_a_source_is_read_once(self, spec: SourceSpec) -> None:
        source = open_source(spec)
        read_all(source)
        with pytest.raises(SourceAbortedError):
            next(source.entries())
        source.finish()

    def test_an_aborted_source_gives_nothing_more_and_is_never_proven(self, spec: SourceSpec) -> None:
        source = open_source(spec)
        stream = source.entries()
        next(stream)
        source.abort()
        source.abort()
        with pytest.raises(SourceAbortedError):
            list(stream)
        with pytest.raises(SourceIncompleteError):
            source.finish()

    @pytest.mark.parametrize("end", ["finish", "abort before reading", "abort while reading"])
    def test_nothing_is_left_open_or_running(self, spec: SourceSpec, end: str) -> None:
        open_files, running = descriptors(), children()
        source = open_source(spec)
        match end:
            case "finish":
                read_all(source)
                source.finish()
            case "abort before reading":
                source.abort()
            case _:
                stream = source.entries()
                next(stream)
                source.abort()
                with pytest.raises(SourceAbortedError):
                    list(stream)
        del source
        assert opened_since(open_files) == []
        assert children() == running

    def test_without_a_grant_of_the_host_nothing_is_touched(self, spec: SourceSpec) -> None:
        with pytest.raises(NotGrantedError, match="does not allow to read"):
            open_source(replace(spec, grants=()))

    def test_what_is_not_there_is_missing(self, missing: SourceSpec) -> None:
        open_files, running = descriptors(), children()
        with pytest.raises(SourceMissingError) as raised:
            read_all(open_source(missing))
        assert not raised.value.retryable
        assert opened_since(open_files) == []
        assert children() == running

    def test_an_unknown_option_is_refused(self, spec: SourceSpec) -> None:
        with pytest.raises(SourceError, match="'colour' is no option"):
            open_source(replace(spec, options={"colour": "red"}))

    def test_an_option_that_aws_has_for_other_types_is_no_hindrance(self, spec: SourceSpec) -> None:
        open_source(replace(spec, options={"WindowsVSS": "enabled"})).abort()
