"""The command of a repository as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.repository.conftest import PASSWORD


class Command:
    """The command on one path or URL, with what a user has in the environment."""

    def __init__(self, repository: str, **environment: str) -> None:
        self.repository = repository
        self.environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, **environment}

    def __call__(self, name: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast.repository", "--json", name, self.repository, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done
