"""The command as a new user runs it against a bucket: from nothing to a swept repository, and what goes wrong."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.repository.conftest import PASSWORD, Restic
from tests.repository.trees import describe
from tests.repository.weed import ADMIN, READER, SECRET, Weed

from holdfast.core.ids import new_uuid


class Shell:
    """The command on one URL, with what a user has in the environment."""

    def __init__(self, url: str, endpoint: str) -> None:
        self.url = url
        self.environment: Mapping[str, str] = {
            **os.environ,
            "RESTIC_PASSWORD": PASSWORD,
            "AWS_ACCESS_KEY_ID": ADMIN,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": endpoint,
        }

    def but(self, url: str = "", **changed: str) -> "Shell":
        """Return the same with another URL or other variables."""
        other = Shell(url or self.url, "")
        other.environment = {**self.environment, **changed}
        return other

    def run(self, name: str, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast.repository", "--json", name, self.url, *map(str, arguments)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def says(self, name: str, *arguments: str | Path, code: int = 0) -> dict[str, object]:
        """Return the last line of what it says."""
        found: dict[str, object] = json.loads(self.run(name, *arguments, code=code).stdout.splitlines()[-1])
        return found


@pytest.fixture
def shell(weed: Weed) -> Shell:
    return Shell(f"s3://vault/{new_uuid()}", weed.endpoint)


def test_a_bucket_from_init_to_sweep(shell: Shell, source: Path, tmp_path: Path, restic: Restic) -> None:
    (source / "d").mkdir()
    (source / "d" / "large").write_bytes(os.urandom(2 << 20))
    (source / "small").write_text("content")
    shell.run("init", "--random-password")
    first = shell.says("backup", source)
    assert (first["files"], first["files_kept"]) == (2, 0)
    (source / "small").write_text("other content")
    second = shell.says("backup", source, "--tag", "again")
    assert (second["files_kept"], second["bytes_read"]) == (1, len("other content")), "the first one is its parent"
    listed = [json.loads(line) for line in shell.run("ls").stdout.splitlines()]
    assert [snapshot["id"] for snapshot in listed] == [first["snapshot"], second["snapshot"]]
    paths = [json.loads(line)["path"] for line in shell.run("ls", "latest").stdout.splitlines()]
    assert paths == ["/d", "/d/large", "/small"]
    assert shell.says("check", "--read-data")["problems"] == []
    shell.run("restore", "latest", tmp_path / "restored", "--verify")
    assert describe(tmp_path / "restored") == describe(source)

    in_bucket = restic.at(
        f"s3:{shell.environment['AWS_ENDPOINT_URL']}/{shell.url.removeprefix('s3://')}",
        AWS_ACCESS_KEY_ID=ADMIN,
        AWS_SECRET_ACCESS_KEY=SECRET,
    )
    in_bucket.check()
    in_bucket.run("restore", "latest", "--target", str(tmp_path / "by restic"))
    assert describe(tmp_path / "by restic") == describe(source)

    (source / "small").unlink()
    (source / "small").mkdir(mode=0o700)
    shutil.rmtree(tmp_path / "restored")
    (tmp_path / "restored" / "small").mkdir(parents=True)
    incomplete = shell.run("restore", "latest", tmp_path / "restored", "--existing", "keep", code=3)
    assert "/small: a directory is in its place" in incomplete.stderr

    shell.run("forget", str(first["snapshot"]))
    swept = shell.says("sweep", "--max-unused", "0")
    assert swept["deleted"]
    assert shell.says("check", "--read-data")["hints"] == []
    in_bucket.check()


def test_what_goes_wrong_says_what_to_do(shell: Shell, source: Path, weed: Weed) -> None:
    (source / "file").write_text("content")
    assert "`init` makes one" in shell.run("backup", source, code=10).stderr
    shell.run("init", "--random-password")
    assert "already" in shell.run("init", code=1).stderr
    wrong = shell.but(RESTIC_PASSWORD="wrong").run("backup", source, code=12)
    assert "the password opens none" in wrong.stderr
    for name, *arguments in (["init", "--random-password"], ["backup", source], ["ls"]):
        missing = shell.but("s3://nowhere/x").run(str(name), *arguments, code=1)
        assert "bucket nowhere" in missing.stderr
        assert "make it first" in missing.stderr
    stranger = shell.but(AWS_ACCESS_KEY_ID="nobody").run("ls", code=1)
    assert "access denied" in stranger.stderr
    assert "AWS_ACCESS_KEY_ID" in stranger.stderr
    reader = shell.but(AWS_ACCESS_KEY_ID=READER).run("backup", source, code=1)
    assert "access denied" in reader.stderr
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        down = shell.but(AWS_ENDPOINT_URL=endpoint).run("ls", code=1)
    assert endpoint in down.stderr
    assert "does not answer" in down.stderr
    assert weed.endpoint not in down.stderr
