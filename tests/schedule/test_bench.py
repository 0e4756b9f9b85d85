"""The benchmark of due runs: it fills, makes every plan due once, and prints its figures."""

import json
import subprocess
import sys
from pathlib import Path

from tests.running import PATIENCE, environment

BENCH = Path(__file__).resolve().parents[2] / "bench" / "schedule.py"


def test_the_benchmark_makes_each_plan_due_once_and_prints_its_figures_as_json(tmp_path: Path) -> None:
    directory = tmp_path / "schedule"
    done = subprocess.run(
        [sys.executable, str(BENCH), "--directory", str(directory), "--resources", "6000", "--accounts", "20"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not directory.exists(), "what is not kept is removed"
    measured = json.loads(done.stdout)["measure"]
    assert {plan: figures["jobs"] for plan, figures in measured.items()} == {"every": 6000, "gold": 594, "rare": 6}
    for figures in measured.values():
        assert figures["rows_per_second"] > 0
        assert figures["slowest_transaction_ms"] > 0
