"""The index cache: quick, small, and never believed against storage."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.repository.builders import a_file, a_repository
from tests.repository.conftest import NOON, PASSWORD
from tests.repository.dying import DyingStorage

from holdfast.repository.check import Depth
from holdfast.repository.index_cache import open_cached_index
from holdfast.repository.pack import BlobKind
from holdfast.repository.repository import Repository
from holdfast.repository.storage import MemoryStorage
from holdfast.repository.sweep import SweepRules


class CountingStorage(DyingStorage):
    """Counts how often index files are read."""

    def __init__(self, inner: MemoryStorage) -> None:
        super().__init__(inner, 10**9)
        self.index_files_read = 0

    def get(self, name: str) -> bytes:
        self.index_files_read += name.startswith("index/")
        return super().get(name)


@pytest.fixture
def counted() -> CountingStorage:
    storage = MemoryStorage()
    a_repository(storage)
    return CountingStorage(storage)


def opened(storage: CountingStorage, cache: Path) -> Repository:
    return Repository.open(storage, PASSWORD, host_id="h", cache=cache)


def test_only_new_index_files_are_read(counted: CountingStorage, tmp_path: Path) -> None:
    content = [os.urandom(10_000) for _ in range(5)]
    for data in content[:-1]:
        opened(counted, tmp_path).write([a_file(b"f", content=data)], at=NOON)
    counted.index_files_read = 0
    again = opened(counted, tmp_path).write([a_file(b"f", content=content[0])], at=NOON)
    assert again.bytes_new == 0
    assert counted.index_files_read == 1, "the last one was new; the others were known"
    counted.index_files_read = 0
    opened(counted, tmp_path).write([a_file(b"f", content=content[0])], at=NOON)
    assert counted.index_files_read == 0


def test_cached_and_loaded_index_say_the_same(counted: CountingStorage, tmp_path: Path) -> None:
    repository = opened(counted, tmp_path)
    written = repository.write([a_file(b"%02d" % n, content=os.urandom(100)) for n in range(50)], at=NOON)
    cached = repository.load_index()
    loaded = Repository.open(counted, PASSWORD, host_id="h").load_index()
    assert len(cached) == len(loaded) == 51
    for _, node in repository.entries(written.snapshot_id):
        for blob in node.content or ():
            assert cached.find(BlobKind.DATA, blob) == loaded.find(BlobKind.DATA, blob) is not None
            assert not cached.has(BlobKind.TREE, blob)
    assert cached.find(BlobKind.TREE, written.snapshot.tree) == loaded.find(BlobKind.TREE, written.snapshot.tree)


@pytest.mark.parametrize("harm", ["garbage", "truncated", "another version", "empty"])
def test_a_cache_that_is_broken_is_made_anew(harm: str, counted: CountingStorage, tmp_path: Path) -> None:
    repository = opened(counted, tmp_path)
    written = repository.write([a_file(b"f")], at=NOON)
    repository.load_index().close()
    (path,) = tmp_path.glob("*.sqlite")
    for log in tmp_path.glob("*.sqlite-*"):
        log.unlink()
    match harm:
        case "garbage":
            path.write_bytes(os.urandom(20_000))
        case "truncated":
            path.write_bytes(path.read_bytes()[:1000])
        case "empty":
            path.write_bytes(b"")
        case _:
            data = bytearray(path.read_bytes())
            data[60:64] = (99).to_bytes(4, "big")  # SQLite's user_version
            path.write_bytes(data)
    assert opened(counted, tmp_path).load_index().has(BlobKind.TREE, written.snapshot.tree)


def test_what_a_sweep_took_is_not_believed_any_more(counted: CountingStorage, tmp_path: Path) -> None:
    repository = opened(counted, tmp_path)
    content = os.urandom(50_000)
    gone = repository.write([a_file(b"f", content=content)], at=NOON)
    repository.write([a_file(b"g")], at=NOON)
    repository.load_index()
    repository.forget([gone.snapshot_id])
    rules = SweepRules(max_unused=0.0)
    repository.mark_sweep(repository.plan_sweep(rules), at=NOON)
    during = repository.write([a_file(b"f", content=content)], at=NOON)
    assert during.bytes_new == len(content), "a doomed pack is not relied on"
    repository.carry_out_sweep(rules)
    repository.write([a_file(b"f", content=content)], at=NOON)
    assert repository.check(Depth.BYTES).problems == ()


def measured(*blobs: int) -> list[dict[str, Any]]:
    """Run the bench for repositories of so many blobs; each opening is a process of its own."""
    program = Path(__file__).parents[2] / "bench" / "index_cache.py"
    arguments = [sys.executable, str(program), "--json", "-", "--blobs", *map(str, blobs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(arguments, stdout=subprocess.PIPE, env=environment, check=True, text=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_opening_takes_no_more_memory_the_larger_a_repository_is() -> None:
    small, larger = measured(1000, 60_000)
    assert larger["again"]["open_mb"] < small["again"]["open_mb"] + 5
    assert larger["without_cache"]["open_mb"] > small["without_cache"]["open_mb"] + 20, "and without a cache it does"


@pytest.mark.deep
def test_ten_million_blobs_take_less_than_300_mb() -> None:
    small, large = measured(10_000, 10_000_000)
    assert large["first"]["peak_mb"] < 300
    assert large["again"]["peak_mb"] < 300
    assert large["again"]["open_mb"] < small["again"]["open_mb"] + 5
    # The names of index files are compared, 200 of them instead of one; not a blob is read.
    assert large["again"]["seconds"] < small["again"]["seconds"] + 0.1


def test_two_processes_may_use_one_cache(counted: CountingStorage, tmp_path: Path) -> None:
    repository = opened(counted, tmp_path)
    repository.write([a_file(b"f")], at=NOON)
    first = open_cached_index(counted, repository.box, repository_id=repository.id, directory=tmp_path)
    repository.write([a_file(b"g", content=b"more")], at=NOON)
    second = open_cached_index(counted, repository.box, repository_id=repository.id, directory=tmp_path)
    assert len(second) == 4
    first.close()
    second.close()
