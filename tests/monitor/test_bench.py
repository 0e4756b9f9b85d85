"""The benchmark of jobs: it fills, measures and prints, and every list that it asks for is read from an index."""

import json
import subprocess
import sys
from pathlib import Path

from tests.running import PATIENCE, environment

BENCH = Path(__file__).resolve().parents[2] / "bench" / "jobs.py"


def test_the_benchmark_finds_every_list_in_an_index_and_prints_its_figures_as_json(tmp_path: Path) -> None:
    directory = tmp_path / "jobs"
    done = subprocess.run(
        [
            *(sys.executable, str(BENCH), "--directory", str(directory)),
            *("--jobs", "1000", "--accounts", "40", "--calls", "2"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not directory.exists(), "what is not kept is removed"
    report = json.loads(done.stdout)
    measured = report["measure"]
    assert len(measured["lists"]) > 20
    for name, figures in measured["lists"].items():
        assert "SCAN" not in figures["index"], name
        assert "TEMP B-TREE" not in figures["index"], name
        assert 0 < figures["first"]["median"] <= figures["first"]["most"]
    assert measured["insert"]["jobs_per_second"] > 0
    assert report["slowest_p99_of_a_list"] > 0
