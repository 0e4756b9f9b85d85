"""What the tests of the repository engine share: a repository, a tree to back up, and restic as the witness."""

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.repository.weed import Weed, running_weed

from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PASSWORD = "correct horse battery staple"


class Restic:
    """The real restic, on one repository."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository = repository
        self._cache = cache
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(cache),
            "TZ": "UTC",
            "RESTIC_REPOSITORY": str(repository),
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_CACHE_DIR": str(cache),
        }

    def at(self, url: str, **environment: str) -> "Restic":
        """Return the same restic for a repository elsewhere."""
        other = Restic(self.repository, self._cache)
        other._environment |= {"RESTIC_REPOSITORY": url, **environment}
        return other

    def run(self, *arguments: str, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run restic; fail with its own words if it fails and `check` is set."""
        done = subprocess.run(
            ["restic", *arguments], env=self._environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"restic {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done

    def start(self, *arguments: str, stdin: int | None = None) -> subprocess.Popen[bytes]:
        """Start restic and do not wait until it ends."""
        return subprocess.Popen(["restic", *arguments], env=self._environment, stdin=stdin, stdout=subprocess.DEVNULL)

    def check(self) -> None:
        """Have restic read and check every byte."""
        done = self.run("check", "--read-data")
        assert "no errors were found" in done.stdout


@pytest.fixture
def restic(tmp_path: Path) -> Restic:
    assert shutil.which("restic"), "restic is needed: apt-get install restic"
    cache = tmp_path / "restic-cache"
    cache.mkdir()
    return Restic(tmp_path / "repository", cache)


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    """A real S3 server with one bucket, `vault`."""
    with running_weed(tmp_path_factory.mktemp("weed")) as running:
        running.client().create_bucket(Bucket="vault")
        yield running


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "repository")


@pytest.fixture
def repository(storage: LocalStorage) -> Repository:
    return Repository.create(storage, PASSWORD, host_id="a-host", at=NOON)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty directory to back up."""
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def descriptor_count() -> Iterator[None]:
    """Fail if the test leaves descriptors open."""
    gc.collect()  # what an earlier test left to Python
    before = len(list(Path("/proc/self/fd").iterdir()))
    yield
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
