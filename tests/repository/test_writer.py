"""The writer's other promises: processes for small files, limits, progress, cancelling, failing memory."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.repository.builders import a_directory, a_file, a_repository
from tests.repository.conftest import NOON, Restic

from holdfast.core.clock import ManualMachineTime
from holdfast.core.errors import HoldfastError, InvalidStateError
from holdfast.repository import blob_writer
from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.check import Depth
from holdfast.repository.chunk import ChunkClass, Chunker
from holdfast.repository.cipher import Box, Buffer
from holdfast.repository.entry import Entry, Extent, Kind, Metadata, Piece, UnreadableError
from holdfast.repository.pace import Pace
from holdfast.repository.repository import Repository
from holdfast.repository.seal_process import SealProcess, SealProcessDiedError
from holdfast.repository.sealing import BlobVerifyError
from holdfast.repository.writer import CancelledError, Limits, Progress


def test_many_small_files_are_sealed_by_other_processes(repository: Repository, restic: Restic, tmp_path: Path) -> None:
    content = {b"%05d" % number: b"%d " % number * (number % 700) for number in range(4000)}
    files = [a_file(name, content=data) for name, data in content.items()]
    written = repository.write(files, at=NOON, limits=Limits(write=WriteLimits(processes=2)))
    restic.check()
    assert repository.restore(written.snapshot_id, tmp_path / "restored", verify=True).problems == ()
    for name, data in content.items():
        assert (tmp_path / "restored" / os.fsdecode(name)).read_bytes() == data


def test_a_sealing_process_that_dies_fails_the_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[SealProcess] = []

    class Noted(SealProcess):
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[arg-type] # handed through
            started.append(self)

    monkeypatch.setattr(blob_writer, "SealProcess", Noted)
    repository = a_repository()

    def entries() -> Iterator[Entry]:
        for number in range(20_000):
            if number == 3000:
                started[0]._process.kill()
            yield a_file(b"%05d" % number, content=b"%d" % number * 100)

    with pytest.raises(SealProcessDiedError):
        repository.write(entries(), at=NOON, limits=Limits(write=WriteLimits(processes=1)))
    assert repository.snapshots() == []
    assert repository.locks() == []


def test_where_no_process_can_be_started_threads_seal_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object, **__: object) -> SealProcess:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(blob_writer, "SealProcess", refused)
    repository = a_repository()
    files = [a_file(b"%05d" % number, content=b"%d" % number) for number in range(2000)]
    written = repository.write(files, at=NOON, limits=Limits(write=WriteLimits(processes=2)))
    assert repository.restore(written.snapshot_id, tmp_path / "restored").files == 2000


def test_a_blob_that_does_not_read_back_is_not_relied_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seal = Box.seal

    def flipping(self: Box, plaintext: Buffer) -> bytearray:
        box = seal(self, plaintext)
        box[20] ^= 1  # as failing memory would
        return box

    repository = a_repository()
    with repository.begin() as writer:
        monkeypatch.setattr(Box, "seal", flipping)
        with pytest.raises(BlobVerifyError, match="memory"):
            writer.add(a_file(b"f"))
        monkeypatch.undo()
    assert repository.snapshots() == []


def test_cancelling_stops_in_the_middle_of_a_file_and_leaves_no_snapshot() -> None:
    class Endless:
        def read(self) -> Iterator[Piece]:
            while True:
                yield os.urandom(100_000)

    seen: list[Progress] = []
    repository = a_repository()
    with pytest.raises(CancelledError):
        repository.write(
            [Entry((b"f",), Kind.FILE, Metadata(), Endless())],
            at=NOON,
            progress=seen.append,
            cancelled=lambda: len(seen) > 0,
        )
    assert seen[-1].bytes_read > 0
    assert seen[-1].current == (b"f",)
    assert repository.snapshots() == []
    assert repository.locks() == []


def test_progress_ends_with_what_was_written() -> None:
    seen: list[Progress] = []
    content = os.urandom(300_000)
    entries = [a_directory(b"d"), a_file(b"d", b"a", content=content), a_file(b"d", b"b", content=content)]
    written = a_repository().write(entries, at=NOON, progress=seen.append)
    assert (seen[-1].files, seen[-1].dirs) == (written.files, written.dirs) == (2, 1)
    assert (written.bytes_read, written.bytes_new) == (600_000, 300_000)
    assert written.bytes_stored > 300_000


def test_a_rate_is_kept_on_average() -> None:
    machine = ManualMachineTime(NOON)
    pace = Pace(1000, machine)
    for _ in range(50):
        pace.take(100)
    assert 3.9 <= machine.monotonic() <= 5.1
    Pace(0, machine).take(10**12)


def test_a_source_that_fails_half_way_in_a_file_loses_that_file_and_says_so(repository: Repository) -> None:
    class Breaking:
        def read(self) -> Iterator[Piece]:
            yield b"x" * 2_000_000
            raise UnreadableError("unreadable: Input/output error")

    entries = [a_file(b"a"), Entry((b"b",), Kind.FILE, Metadata(), Breaking()), a_file(b"c")]
    written = repository.write(entries, at=NOON)
    assert [str(problem) for problem in written.problems] == ["/b: unreadable: Input/output error"]
    assert [path for path, _ in repository.entries(written.snapshot_id)] == [(b"a",), (b"c",)]
    assert repository.check(Depth.BYTES).problems == ()


def test_a_file_that_became_shorter_is_stored_as_it_is_and_noted(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100_000)

    class Promising:
        def read(self) -> Iterator[Piece]:
            with path.open("rb") as opened:
                yield Extent(opened.fileno(), 0, 200_000)

    repository = a_repository()
    written = repository.write([Entry((b"f",), Kind.FILE, Metadata(size=200_000), Promising())], at=NOON)
    assert "became shorter" in str(written.problems[0])
    ((_, node),) = repository.entries(written.snapshot_id)
    assert node.metadata.size == 100_000


def test_a_writer_is_used_in_its_order() -> None:
    repository = a_repository()
    with repository.begin() as writer:
        writer.add(a_file(b"a"))
        with pytest.raises(InvalidStateError):
            writer.commit(at=NOON)
        writer.finish_tree()
        for out_of_order in (lambda: writer.add(a_file(b"b")), writer.finish_tree):
            with pytest.raises(InvalidStateError):
                out_of_order()
        writer.commit(at=NOON)
        with pytest.raises(InvalidStateError):
            writer.commit(at=NOON)
        writer.abort()
    assert len(repository.snapshots()) == 1


def test_an_empty_stream_is_an_empty_snapshot(repository: Repository, restic: Restic, tmp_path: Path) -> None:
    written = repository.write([], at=NOON)
    restic.check()
    assert repository.restore(written.snapshot_id, tmp_path / "restored").is_complete


def test_a_storage_failure_in_the_background_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = a_repository()
    monkeypatch.setattr(repository.storage, "put", lambda *_a, **_k: (_ for _ in ()).throw(OSError("wire cut")))
    with pytest.raises((HoldfastError, OSError)):
        repository.begin()


@pytest.mark.parametrize(
    ("chunk_class", "count", "digest"),
    [
        (ChunkClass.FILE, 14, "187a226761c46c03"),
        (ChunkClass.ROWS, 212, "1a2f92faa6461b67"),
        (ChunkClass.IMAGE, 4, "c3c1b11b3a68fe6f"),
    ],
    ids=lambda value: value.value if isinstance(value, ChunkClass) else "",
)
def test_cuts_stay_where_they_always_were(chunk_class: ChunkClass, count: int, digest: str) -> None:
    """A cut that moves loses no data, but every deduplication against what is stored."""
    data = b"".join(hashlib.sha512(number.to_bytes(4, "big")).digest() for number in range(1 << 18))
    cuts = list(Chunker(chunk_class, 0x1234_5678_9ABC).cuts(memoryview(data), last=True))
    found = hashlib.sha256(repr(cuts).encode()).hexdigest()[:16]
    assert (len(cuts), found) == (count, digest)
