"""Measure the repository engine against restic (and borg where it is installed), in alternation, on the same data.

    python bench/repository.py                     all cases, three rounds
    python bench/repository.py --cases small --rounds 5 --scale 0.2
    python bench/repository.py --json out.json

Each tool runs as a process of its own, start and key derivation included, but for `unchanged-in-process`, which is
what a running worker does. Every round runs the tools one after the other, and the ratio is taken within the round, so
that a machine that is busy for a minute is busy for both. `--scale` shrinks the data sets.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from holdfast.core.clock import SystemMachineTime
from holdfast.repository.filetree import walk_tree
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage

PASSWORD = "bench"  # noqa: S105 - nothing is protected by it
MIB = 1 << 20
WORDS = [f"{number:x}" for number in range(40_000, 48_000)]


@dataclass(frozen=True)
class Run:
    """One measured run."""

    seconds: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True)
class Result:
    """One case with one tool: medians and spread, and the median of the ratios to restic's run of the same round."""

    case: str
    tool: str
    seconds: float
    fastest: float
    slowest: float
    cpu: float
    peak_mb: float
    ratio: float
    cpu_ratio: float
    repository_mb: float


class Ours:
    name = "holdfast"

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "holdfast.repository", *map(str, arguments)]

    def init(self, repo: Path) -> list[str]:
        return self.command("init", repo)

    def backup(self, repo: Path, source: Path) -> list[str]:
        return self.command("backup", repo, source)

    def restore(self, repo: Path, target: Path) -> list[str]:
        return self.command("restore", repo, "latest", target)


class Restic:
    name = "restic"

    def init(self, repo: Path) -> list[str]:
        return ["restic", "-q", "-r", str(repo), "init"]

    def backup(self, repo: Path, source: Path) -> list[str]:
        return ["restic", "-q", "-r", str(repo), "backup", str(source)]

    def restore(self, repo: Path, target: Path) -> list[str]:
        return ["restic", "-q", "-r", str(repo), "restore", "latest", "--target", str(target)]


class Borg:
    name = "borg"

    def init(self, repo: Path) -> list[str]:
        return ["borg", "init", "-e", "repokey", str(repo)]

    def backup(self, repo: Path, source: Path) -> list[str]:
        return ["borg", "create", "-C", "zstd,3", f"{repo}::{time.time_ns()}", str(source)]

    def restore(self, repo: Path, target: Path) -> list[str]:
        target.mkdir()
        last = subprocess.run(
            ["borg", "list", "--last", "1", "--short", str(repo)], env=environment(), capture_output=True, check=True
        )
        return ["sh", "-c", f"cd {target} && borg extract --sparse {repo}::{last.stdout.decode().strip()}"]


Tool = Ours | Restic | Borg


def environment() -> dict[str, str]:
    cache = str(Path(tempfile.gettempdir()) / "holdfast-bench-cache")
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
        "RESTIC_PASSWORD": PASSWORD,
        "RESTIC_CACHE_DIR": cache,
        "BORG_PASSPHRASE": PASSWORD,
        "BORG_BASE_DIR": cache,
        "HOME": cache,
    }


def measure(command: list[str]) -> Run:
    """Run a command; return what it took. Peak memory is the largest child's so far, so it is asked of a shell."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    words = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    assert process.returncode == 0, f"{' '.join(command)}: {words.decode()}"
    return Run(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def text_bytes(chance: random.Random, size: int) -> bytes:
    """Return bytes that compress as text does."""
    words = chance.choices(WORDS, k=size // 5 + 1)
    return " ".join(words).encode()[:size]


def make_mixed(root: Path, scale: float) -> None:
    """2 GiB at scale 1: many small text files, some of middle size, few large ones; half of the bytes are random."""
    chance = random.Random(1)
    for number in range(int(80_000 * scale)):
        directory = root / "small" / f"{number // 400:04}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number:06}.txt").write_bytes(text_bytes(chance, chance.randrange(200, 12_000)))
    (root / "middle").mkdir()
    for number in range(int(1_000 * scale) + 1):
        data = text_bytes(chance, 300_000) if number % 2 else chance.randbytes(300_000)
        (root / "middle" / f"{number:05}.dat").write_bytes(data)
    (root / "large").mkdir()
    for number in range(8):
        with (root / "large" / f"{number}.bin").open("wb") as out:
            for _ in range(max(1, int(150 * scale))):
                out.write(chance.randbytes(MIB) if number % 2 else text_bytes(chance, MIB))


def make_small(root: Path, scale: float) -> None:
    """100,000 files of 1 to 8 KiB at scale 1."""
    chance = random.Random(2)
    for number in range(int(100_000 * scale)):
        directory = root / f"{number // 500:04}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number:06}").write_bytes(text_bytes(chance, chance.randrange(1024, 8192)))


def make_few(root: Path, scale: float) -> None:
    """100 files."""
    chance = random.Random(3)
    for number in range(100):
        (root / f"{number:03}").write_bytes(text_bytes(chance, 20_000))


def make_sparse(root: Path, scale: float) -> None:
    """An image of 4 GiB with 1 GiB of data at scale 1."""
    chance = random.Random(4)
    with (root / "disk.img").open("wb") as out:
        size = int(4096 * scale)
        for at in range(0, size, 4):
            out.seek(at * MIB)
            out.write(chance.randbytes(MIB) if at % 8 else text_bytes(chance, MIB))
        out.truncate(size * MIB)


def change_some(root: Path) -> None:
    """Write 1 % of the files anew."""
    chance = random.Random(5)
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.stat().st_size < MIB)
    for path in chance.sample(files, max(1, len(files) // 100)):
        path.write_bytes(text_bytes(chance, path.stat().st_size))


def repository_mb(repo: Path) -> float:
    return sum(path.stat().st_size for path in repo.rglob("*") if path.is_file()) / 1e6


class Bench:
    """The cases, on data sets below one directory."""

    def __init__(self, base: Path, tools: list[Tool], rounds: int, scale: float) -> None:
        self.base = base
        self.tools = tools
        self.rounds = rounds
        self.scale = scale
        self.results: list[Result] = []

    def data(self, name: str, make: Callable[[Path, float], None]) -> Path:
        root = self.base / f"data-{name}"
        if not root.exists():
            say(f"making {name}")
            root.mkdir()
            make(root, self.scale)
        return root

    def first_backup(self, case: str, source: Path) -> None:
        def run(tool: Tool, number: int) -> Run:
            self.fresh(tool, case)
            return measure(tool.backup(self.repo(tool, case), source))

        self.compare(case, run)

    def changed_backup(self, case: str, first: str, source: Path) -> None:
        """The repositories of `first` hold the data as it was; each round starts from a copy of them."""
        change_some(source)

        def run(tool: Tool, number: int) -> Run:
            shutil.rmtree(self.repo(tool, case), ignore_errors=True)
            shutil.copytree(self.repo(tool, first), self.repo(tool, case))
            return measure(tool.backup(self.repo(tool, case), source))

        self.compare(case, run)

    def unchanged(self, source: Path) -> None:
        for tool in self.tools:
            self.fresh(tool, "unchanged")
            measure(tool.backup(self.repo(tool, "unchanged"), source))

        self.compare("unchanged", lambda tool, _: measure(tool.backup(self.repo(tool, "unchanged"), source)))
        repository = Repository.open(LocalStorage(self.repo(self.tools[0], "unchanged")), PASSWORD, host_id="bench")

        def in_process(tool: Tool, number: int) -> Run:
            if not isinstance(tool, Ours):
                return measure(tool.backup(self.repo(tool, "unchanged"), source))
            begun, cpu = time.perf_counter(), time.process_time()
            parent = repository.snapshots()[-1]
            with repository.begin(hostname="bench") as writer:
                for entry in walk_tree(source, parent=repository.parent(parent.id, writer.index)):
                    writer.add(entry)
                writer.finish_tree()
                writer.commit(at=SystemMachineTime().now(), parent=parent.id, paths=[str(source)])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            return Run(time.perf_counter() - begun, time.process_time() - cpu, peak)

        self.compare("unchanged-in-process", in_process, repos="unchanged")

    def restore(self, case: str, first: str) -> None:
        # Each run has a target of its own, and nothing is deleted in between: ext4 steps over every inode that was
        # deleted in the last half minute when it looks for a free one, which would be measured instead.
        targets = self.base / "restored"
        shutil.rmtree(targets, ignore_errors=True)  # what an interrupted run left
        targets.mkdir()

        def run(tool: Tool, number: int) -> Run:
            return measure(tool.restore(self.repo(tool, first), targets / f"{tool.name}-{number}"))

        try:
            self.compare(case, run, repos=first)
        finally:
            shutil.rmtree(targets)

    def compare(self, case: str, run: Callable[[Tool, int], Run], *, repos: str | None = None) -> None:
        runs: dict[str, list[Run]] = {tool.name: [] for tool in self.tools}
        for number in range(self.rounds):
            # Who goes first changes, since the second finds warmer caches.
            for tool in self.tools if number % 2 else self.tools[::-1]:
                os.sync()
                runs[tool.name].append(run(tool, number))
        for tool in self.tools:
            mine, restic = runs[tool.name], runs["restic"]
            self.results.append(
                Result(
                    case=case,
                    tool=tool.name,
                    seconds=statistics.median(r.seconds for r in mine),
                    fastest=min(r.seconds for r in mine),
                    slowest=max(r.seconds for r in mine),
                    cpu=statistics.median(r.cpu for r in mine),
                    peak_mb=max(r.peak_mb for r in mine),
                    ratio=statistics.median(m.seconds / r.seconds for m, r in zip(mine, restic, strict=True)),
                    cpu_ratio=statistics.median(m.cpu / r.cpu for m, r in zip(mine, restic, strict=True)),
                    repository_mb=repository_mb(self.repo(tool, repos or case)),
                )
            )
            say(line(self.results[-1]))

    def repo(self, tool: Tool, case: str) -> Path:
        return self.base / f"repo-{tool.name}-{case}"

    def fresh(self, tool: Tool, case: str) -> None:
        shutil.rmtree(self.repo(tool, case), ignore_errors=True)
        measure(tool.init(self.repo(tool, case)))


HEAD = (
    "case                   tool       median s (fastest..slowest)   CPU s  peak MB"
    "  wall/restic  CPU/restic  repository MB"
)


def line(result: Result) -> str:
    return (
        f"{result.case:22} {result.tool:9} {result.seconds:9.3f} ({result.fastest:.3f}..{result.slowest:.3f})".ljust(60)
        + f"{result.cpu:8.2f} {result.peak_mb:8.0f} {result.ratio:12.2f} {result.cpu_ratio:11.2f}"
        + f" {result.repository_mb:14.1f}"
    )


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


CASES = ("mixed", "mixed-changed", "mixed-restore", "small", "small-changed", "small-restore", "unchanged", "sparse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--directory", type=Path, help="where data and repositories go; kept, and used again")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tools: list[Tool] = [Ours(), Restic()]
    if shutil.which("borg"):
        tools.append(Borg())
    base = options.directory or Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    base.mkdir(exist_ok=True)
    bench = Bench(base, tools, options.rounds, options.scale)
    try:
        run_cases(bench, set(options.cases))
    finally:
        if options.directory is None:
            shutil.rmtree(base, ignore_errors=True)
    print(HEAD)
    for result in bench.results:
        print(line(result))
    if options.json:
        version = subprocess.run(["restic", "version"], capture_output=True, text=True, check=True).stdout.strip()
        about = {"restic": version, "rounds": options.rounds, "scale": options.scale, "cpus": os.cpu_count()}
        options.json.write_text(json.dumps({**about, "results": [asdict(r) for r in bench.results]}, indent=2))


def run_cases(bench: Bench, cases: set[str]) -> None:
    for name, make in (("mixed", make_mixed), ("small", make_small)):
        wanted = {case for case in cases if case.startswith(name)}
        if not wanted:
            continue
        source = bench.data(name, make)
        if name in wanted or not all(bench.repo(tool, name).exists() for tool in bench.tools):
            bench.first_backup(name, source)
        if f"{name}-restore" in wanted:
            bench.restore(f"{name}-restore", name)
        if f"{name}-changed" in wanted:
            bench.changed_backup(f"{name}-changed", name, source)
    if "unchanged" in cases:
        bench.unchanged(bench.data("few", make_few))
    if "sparse" in cases:
        bench.first_backup("sparse", bench.data("sparse", make_sparse))
        bench.restore("sparse-restore", "sparse")


if __name__ == "__main__":
    main()
