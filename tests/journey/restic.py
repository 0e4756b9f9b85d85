"""Plain restic on the repositories of a server, with passwords as a user gets them."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.running import PATIENCE, environment, holdfast


def repositories_in(data_dir: Path) -> list[Path]:
    """Every repository that a server has made."""
    return sorted(path.parent for path in (data_dir / "storage").glob("**/config") if path.is_file())


def restic(repository: Path, *arguments: str | Path, **more: str) -> str:
    """Run restic on a repository; return what it says."""
    done = subprocess.run(
        ["restic", "--repo", repository, "--no-cache", *arguments],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass(frozen=True)
class Storage:
    """A server's storage, and its root key: all that a user has left when the server is gone."""

    data_dir: Path
    _passwords: dict[Path, str] = field(default_factory=dict)

    @property
    def root_key(self) -> Path:
        return self.data_dir / "root.key"

    def password(self, repository: Path) -> str:
        """Return the password of a repository."""
        if repository not in self._passwords:
            told = holdfast("vault", "password", repository, "--root-key", self.root_key)
            assert told.returncode == 0, told.stderr
            self._passwords[repository] = told.stdout.strip()
        return self._passwords[repository]

    def run(self, repository: Path, *arguments: str | Path) -> str:
        """Run restic on a repository; return what it says."""
        return restic(repository, *arguments, RESTIC_PASSWORD=self.password(repository))

    def check(self, repository: Path) -> None:
        """Have restic read every byte and find no fault."""
        assert "no errors were found" in self.run(repository, "check", "--read-data")

    def snapshots(self, repository: Path, *tags: str) -> list[dict[str, Any]]:
        """Return the snapshots of a repository with these tags."""
        wanted = ["--tag", ",".join(tags)] if tags else []
        return json.loads(self.run(repository, "snapshots", "--json", "--no-lock", *wanted)) or []

    def snapshots_of(self, job: str) -> list[dict[str, Any]]:
        """Return the snapshots that say that a job made them."""
        return [
            {**found, "repository": repository}
            for repository in repositories_in(self.data_dir)
            for found in self.snapshots(repository, f"holdfast:job={job}")
        ]

    def snapshot_of(self, job: str) -> dict[str, Any]:
        """Return the one snapshot that a job made."""
        (snapshot,) = self.snapshots_of(job)
        return snapshot

    def restore(self, job: str, target: Path) -> Path:
        """Have restic restore what a job made; return where."""
        snapshot = self.snapshot_of(job)
        self.run(snapshot["repository"], "restore", snapshot["id"], "--target", target)
        return target
