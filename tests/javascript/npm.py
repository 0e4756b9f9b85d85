"""What the tests take from npm: stock clients and servers written in JavaScript, in the locked versions."""

import fcntl
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def javascript() -> Path:
    """Return the directory with our scripts and what they need."""
    return installed(HERE)


def installed(directory: Path) -> Path:
    """Return the directory with what its locked list names; `make setup` puts that there, and so does this.

    A list that has changed since is put there again.
    """
    for program in ("node", "npm"):
        assert shutil.which(program), f"{program} is missing. Install it (on Debian: apt-get install nodejs npm)"
    with (directory / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may be the first
        there = directory / "node_modules" / ".package-lock.json"
        if not there.exists() or there.stat().st_mtime < (directory / "package-lock.json").stat().st_mtime:
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=directory, check=True, timeout=600)
    return directory
