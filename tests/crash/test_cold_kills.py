"""A server that is killed while it moves a recovery point to cold storage: the point stays whole, in one tier."""

import os
import random
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from tests.recovery.test_cold import TIME, Cellar
from tests.vault.builders import DAY, a_custody, a_vault

from holdfast.core.clock import SystemMachineTime
from holdfast.database.connection import Database
from holdfast.recovery.cold import ColdMover, Moved
from holdfast.recovery.model import StorageClass
from holdfast.vault import store as vaults
from holdfast.vault.repositories import access_for_job

_REPOSITORY = Path(__file__).parents[2]
_LONGEST = 0.5
"""Seconds in which such a move has ended."""


def killed_move(cellar: Cellar, after: float) -> None:
    """Have another process move what is due, and kill it so many seconds after it has begun."""
    url = cellar.database.engine.url.render_as_string(hide_password=False)
    storage = cellar.custody.settings.storages["local"].url.removeprefix("file://")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.cold_server", url, storage, TIME.isoformat()],
        stdout=subprocess.PIPE,
        cwd=_REPOSITORY,
        env={**os.environ, "PYTHONPATH": f"{_REPOSITORY / 'src'}{os.pathsep}{_REPOSITORY}"},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
        SystemMachineTime().wait(threading.Event(), after)
        process.kill()
        process.wait()


def restic_finds_no_fault(cellar: Cellar) -> None:
    with cellar.database.reading() as tx:
        found = [access_for_job(tx, cellar.custody, row.id) for row in vaults.repositories_of(tx, cellar.vault.id)]
    assert len(found) == 2
    for access in found:
        place = Path(access.storage_url.removeprefix("file://")) / access.path
        environment = os.environ | {"RESTIC_PASSWORD": access.password, "RESTIC_REPOSITORY": str(place)}
        # The lock of the killed may still be there: restic goes by our host's name and not by the process.
        done = subprocess.run(
            ["restic", "--no-cache", "--no-lock", "check", "--read-data"],
            env=environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "kills"),
    [
        pytest.param("postgres_database", 2, marks=pytest.mark.postgres),
        pytest.param("postgres_database", 40, marks=[pytest.mark.postgres, pytest.mark.deep]),
        pytest.param("sqlite_database", 40, marks=pytest.mark.deep),
    ],
)
def test_a_move_that_is_killed_at_any_moment_is_finished_by_the_next(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, kills: int
) -> None:
    database: Database = request.getfixturevalue(kind)
    custody = a_custody(tmp_path / "storage")
    cellar = Cellar(database, custody, a_vault(database, custody))
    seed = random.randrange(1 << 32)  # noqa: S311 - nothing secret hangs on it
    moments = random.Random(seed)  # noqa: S311 - the same
    cold = set()
    for number in range(kills):
        text = f"{seed}-{number}-" + moments.randbytes(200_000).hex()
        point = cellar.back_up(text)
        killed_move(cellar, moments.uniform(0, _LONGEST))
        listed = cellar.point(point)  # in either tier, and whole there
        assert cellar.text(listed, tmp_path / f"then-{number}") == text, f"seed {seed}"
        if listed.storage_class is StorageClass.WARM:
            assert (listed.repository_id, listed.snapshot_id) == (point.repository_id, point.snapshot_id)
            # Where the record was written and its commit lost, the catalogue catches up instead.
            assert cellar.move().waiting == {}, f"seed {seed}"
        moved = cellar.point(point)
        assert moved.storage_class is StorageClass.COLD
        assert cellar.text(moved, tmp_path / f"out-{number}") == text
        cold.add(moved.snapshot_id)
    assert cellar.keep(TIME + 3 * DAY).trouble == {}
    assert cellar.snapshots() == (set(), cold), f"seed {seed}"
    restic_finds_no_fault(cellar)


def test_a_server_that_is_stopped_gives_a_move_up_and_the_next_finishes_it(
    sqlite_database: Database, tmp_path: Path
) -> None:
    custody = a_custody(tmp_path / "storage")
    cellar = Cellar(sqlite_database, custody, a_vault(sqlite_database, custody))
    points = [cellar.back_up(f"{number}" * 9000) for number in range(2)]
    mover = ColdMover(cellar.database, custody, SystemMachineTime())
    mover.stop()
    assert mover.move_due(now=TIME) == Moved()
    assert [cellar.point(point).storage_class for point in points] == [StorageClass.WARM] * 2
    assert {cellar.point(point).status_message for point in points} == {None}
    assert set(cellar.move(TIME + timedelta(hours=1)).points) == {point.arn for point in points}
