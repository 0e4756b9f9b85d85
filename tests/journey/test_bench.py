"""The benchmark of the API against a running server: it prints its figures as JSON."""

import json
import subprocess
import sys
from pathlib import Path

from tests.running import PATIENCE, Running, environment, found_organization

BENCH = Path(__file__).resolve().parents[2] / "bench" / "api.py"


def test_the_benchmark_prints_the_rate_of_verified_calls_as_json(dev: Running) -> None:
    found_organization(dev)
    done = subprocess.run(
        [sys.executable, str(BENCH), "--url", dev.url, "--seconds", "0.2", "--connections", "2"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout)["calls"]
    assert set(calls) == {"sts GetCallerIdentity", "organizations DescribeOrganization"}
    for measured in calls.values():
        assert set(measured) == {"precomputed", "signed"}
        for figures in measured.values():
            assert figures["requests_per_second"] > 0
