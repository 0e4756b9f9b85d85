"""Measure what opening a repository's index costs by its size: time and memory, with the local cache and without.

    python bench/index_cache.py                          10,000, a million and ten million blobs
    python bench/index_cache.py --blobs 10000 --json -   as JSON, to a file or to standard output

Index files are laid out as a repository has them, 50,000 blobs in each. Then processes of their own open the index: the
first one makes the cache, the next one finds it, and a last one (up to a million blobs) loads the index into memory.
Memory is the most that such a process had resident, the interpreter included: until the index was open, and until many
blobs had been looked up.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.repository.cipher import Box, BoxKey
from holdfast.repository.index import BLOBS_PER_FILE, Index, load_index, put_index
from holdfast.repository.index_cache import open_cached_index
from holdfast.repository.pack import BlobKind, PackedBlob
from holdfast.repository.storage import LocalStorage

LOOKUPS = 20_000
LOADED_AT_MOST = 1_000_000


@dataclass(frozen=True)
class Opened:
    """One process that opened the index, looked blobs up, and ended."""

    seconds: float
    open_mb: float
    lookup_us: float
    peak_mb: float


@dataclass(frozen=True)
class Result:
    """One size: what the first opening cost, a later one, and one without a cache."""

    blobs: int
    cache_mb: float
    first: Opened
    again: Opened
    without_cache: Opened | None


def lay_out(base: Path, key: BoxKey, blobs: int) -> None:
    """Store index files that name so many blobs, and note some of them."""
    storage, box = LocalStorage(base / "repository"), Box(key)
    with (base / "some").open("wb") as some:
        for at in range(0, blobs, BLOBS_PER_FILE):
            count = min(BLOBS_PER_FILE, blobs - at)
            names = os.urandom(32 * count)
            some.write(names[:32])
            file = [PackedBlob(BlobKind.DATA, names[n * 32 : n * 32 + 32], n * 1000, 1000, 2000) for n in range(count)]
            put_index(storage, box, [(os.urandom(32), file)])


def open_once(base: Path, key: BoxKey, *, cached: bool) -> Opened:
    """Open the index in this process and look up blobs, stored ones and strangers."""
    storage, box = LocalStorage(base / "repository"), Box(key)
    some = (base / "some").read_bytes()
    begun = time.perf_counter()
    index: Index = (
        open_cached_index(storage, box, repository_id="bench", directory=base / "cache")
        if cached
        else load_index(storage, box)
    )
    opened, open_mb = time.perf_counter(), peak_mb()
    for at in range(0, len(some), 32):
        assert index.has(BlobKind.DATA, some[at : at + 32])
    for _ in range(LOOKUPS):
        assert not index.has(BlobKind.DATA, os.urandom(32))
    looked = time.perf_counter()
    index.close()
    return Opened(opened - begun, open_mb, (looked - opened) / LOOKUPS * 1e6, peak_mb())


def peak_mb() -> float:
    # Not getrusage: that begins with what the process that started this one had.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def in_a_process(base: Path, key: BoxKey, *, cached: bool) -> Opened:
    """Run `open_once` in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--open", str(base), "cached" if cached else "loaded"],
        input=key.to_json(),
        stdout=subprocess.PIPE,
        check=True,
    )
    return Opened(**json.loads(done.stdout))


def measure(base: Path, blobs: int) -> Result:
    """Measure one size."""
    key = BoxKey.generate()
    lay_out(base, key, blobs)
    first = in_a_process(base, key, cached=True)
    again = in_a_process(base, key, cached=True)
    without = in_a_process(base, key, cached=False) if blobs <= LOADED_AT_MOST else None
    cache_mb = sum(path.stat().st_size for path in (base / "cache").iterdir()) / 1e6
    return Result(blobs, cache_mb, first, again, without)


def line(result: Result) -> str:
    first, again, without = result.first, result.again, result.without_cache
    words = [
        f"{result.blobs:>11,}",
        f"{first.seconds:8.2f} s {first.peak_mb:5.0f} MB",
        f"{again.seconds * 1000:8.1f} ms {again.open_mb:5.0f} MB",
        f"{again.lookup_us:8.1f} us {again.peak_mb:5.0f} MB",
    ]
    if without is not None:
        words.append(f"{without.seconds:8.2f} s {without.peak_mb:5.0f} MB")
    return " ".join(words)


def main() -> None:
    if sys.argv[1:2] == ["--open"]:
        key = BoxKey.from_json(sys.stdin.buffer.read())
        print(json.dumps(asdict(open_once(Path(sys.argv[2]), key, cached=sys.argv[3] == "cached"))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blobs", nargs="+", type=int, default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--json", help="a file for the results, or - for standard output")
    options = parser.parse_args()
    results = []
    print(f"{'blobs':>11} {'first opening':>19} {'opening':>20} {'look up':>20} {'no cache':>19}", file=sys.stderr)
    for blobs in options.blobs:
        base = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
        try:
            results.append(measure(base, blobs))
        finally:
            shutil.rmtree(base)
        print(line(results[-1]), file=sys.stderr)
    if options.json:
        text = json.dumps([asdict(result) for result in results], indent=2) + "\n"
        if options.json == "-":
            sys.stdout.write(text)
        else:
            Path(options.json).write_text(text)


if __name__ == "__main__":
    main()
