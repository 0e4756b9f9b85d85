"""The tour: it ends with a compared restore, leaves nothing running, and goes on where it says it can."""

import itertools
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.running import HOLDFAST, PATIENCE, environment, eventually, family_of, is_alive, started

_IDENTICAL = re.compile(r"restored (\d+) files, identical")


@contextmanager
def tour(directory: Path, *options: str) -> Iterator["subprocess.Popen[str]"]:
    """Start the tour as a shell does, in a process group of its own."""
    process = subprocess.Popen(
        [*HOLDFAST, "quickstart", "--data-dir", str(directory), *options],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_until(process: "subprocess.Popen[str]", beginning: str) -> None:
    """Read what the tour says until a line with this beginning."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(beginning):
            return
    raise AssertionError(said)


def left_of(directory: Path) -> list[int]:
    """The processes, of anybody, that have to do with a data directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and is_alive(int(entry.name)):
            try:
                if os.fsencode(directory) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.fixture(scope="module")
def tours(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, int, str]]:
    """Two tours at once, walked to their ends: where, the exit code, and what was said."""
    directories = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    with tour(directories[0]) as one, tour(directories[1]) as two:
        said = [process.communicate(timeout=PATIENCE * 2)[0] for process in (one, two)]
        return list(zip(directories, (one.returncode, two.returncode), said, strict=True))


def test_the_tour_ends_with_a_compared_restore_even_twice_at_once(tours: list[tuple[Path, int, str]]) -> None:
    assert len(tours) == 2
    for directory, code, said in tours:
        assert code == 0, said
        found = _IDENTICAL.search(said)
        assert found is not None
        assert int(found[1]) > 40
        assert "explicit deny in a service control policy" in said
        assert "finance-keeps-seven-years" in said
        assert left_of(directory) == []


def test_the_command_at_the_end_goes_on_with_what_was_made(tours: list[tuple[Path, int, str]]) -> None:
    directory, _, said = tours[0]
    command = shlex.split(said.splitlines()[-1])
    assert command[0].endswith("holdfast")
    assert command[1:] == ["dev", "--data-dir", str(directory / "data")]
    with started("dev", Path(command[-1])) as again:
        jobs = again.client("backup").list_backup_jobs(ByAccountId="*")["BackupJobs"]
        assert [job["State"] for job in jobs] == ["COMPLETED"] * 3
        assert again.stop() == 0


def test_a_kept_server_goes_on_and_ends_as_it_was_told(tmp_path: Path) -> None:
    with tour(tmp_path, "--keep") as process:
        said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    lines = [line.strip() for line in said.splitlines()]
    (kill,) = (line for line in lines if line.startswith("kill "))
    server = int(kill.removeprefix("kill "))
    family = family_of(server)
    try:
        assert is_alive(server)
        (listing,) = (line for line in lines if " backup list-backup-jobs " in line)
        *settings, program = itertools.takewhile(lambda word: word != "--endpoint-url", shlex.split(listing))
        assert program == "aws"
        listed = subprocess.run(
            shlex.split(listing)[len(settings) :],
            env=environment(**dict(setting.split("=", 1) for setting in settings)),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert listed.returncode == 0, listed.stderr
        assert listed.stdout.count('"COMPLETED"') == 3
        assert subprocess.run(shlex.split(kill), check=False).returncode == 0
        eventually(lambda: not any(is_alive(each) for each in family), "the kept server and its movers end")
    finally:
        for each in family:
            if is_alive(each):
                os.kill(each, signal.SIGKILL)


@pytest.mark.parametrize(
    ("whom", "number", "when"),
    [("group", signal.SIGINT, "6. "), ("tour", signal.SIGTERM, "2. "), ("tour", signal.SIGKILL, "2. ")],
    ids=["ctrl-c during the backups", "terminated", "killed"],
)
def test_an_interrupted_tour_leaves_nothing_running(
    tmp_path: Path, whom: str, number: signal.Signals, when: str
) -> None:
    with tour(tmp_path) as process:
        read_until(process, when)
        family = family_of(process.pid)
        assert len(family) >= 2, "the tour, and its server"
        if whom == "group":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode != 0
        assert "Traceback" not in said
        eventually(lambda: not any(is_alive(each) for each in family), "everything that the tour started ends")
        eventually(lambda: left_of(tmp_path) == [], "nothing works on its directory any more")
