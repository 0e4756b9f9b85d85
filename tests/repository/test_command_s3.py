"""The command as a new user runs it against a bucket: from nothing to a swept repository, and what goes wrong."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from tests.repository.conftest import Restic
from tests.repository.trees import describe
from tests.repository.typed import Command
from tests.repository.weed import ADMIN, READER, SECRET, Weed

from holdfast.core.ids import new_uuid


class Shell(Command):
    """The command on a bucket."""

    def but(self, url: str = "", **changed: str) -> Command:
        """Return the same with another URL or other variables."""
        return Command(url or self.repository, **{**self.environment, **changed})

    def says(self, name: str, *arguments: str | Path, code: int = 0) -> dict[str, object]:
        """Return the last line of what it says."""
        found: dict[str, object] = json.loads(self(name, *arguments, code=code).stdout.splitlines()[-1])
        return found


@pytest.fixture
def shell(weed: Weed) -> Shell:
    return Shell(
        f"s3://vault/{new_uuid()}",
        AWS_ACCESS_KEY_ID=ADMIN,
        AWS_SECRET_ACCESS_KEY=SECRET,
        AWS_ENDPOINT_URL=weed.endpoint,
    )


def test_a_bucket_from_init_to_sweep(shell: Shell, source: Path, tmp_path: Path, restic: Restic) -> None:
    (source / "d").mkdir()
    (source / "d" / "large").write_bytes(os.urandom(2 << 20))
    (source / "small").write_text("content")
    shell("init", "--random-password")
    first = shell.says("backup", source)
    assert (first["files"], first["files_kept"]) == (2, 0)
    (source / "small").write_text("other content")
    second = shell.says("backup", source, "--tag", "again")
    assert (second["files_kept"], second["bytes_read"]) == (1, len("other content")), "the first one is its parent"
    listed = [json.loads(line) for line in shell("ls").stdout.splitlines()]
    assert [snapshot["id"] for snapshot in listed] == [first["snapshot"], second["snapshot"]]
    paths = [json.loads(line)["path"] for line in shell("ls", "latest").stdout.splitlines()]
    assert paths == ["/d", "/d/large", "/small"]
    assert shell.says("check", "--read-data")["problems"] == []
    shell("restore", "latest", tmp_path / "restored", "--verify")
    assert describe(tmp_path / "restored") == describe(source)

    in_bucket = restic.at(
        f"s3:{shell.environment['AWS_ENDPOINT_URL']}/{shell.repository.removeprefix('s3://')}",
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
    incomplete = shell("restore", "latest", tmp_path / "restored", "--existing", "keep", code=3)
    assert "/small: a directory is in its place" in incomplete.stderr

    shell("forget", str(first["snapshot"]))
    swept = shell.says("sweep", "--max-unused", "0")
    assert swept["deleted"]
    assert shell.says("check", "--read-data")["hints"] == []
    in_bucket.check()


def test_what_goes_wrong_says_what_to_do(shell: Shell, source: Path, weed: Weed) -> None:
    (source / "file").write_text("content")
    assert "`init` makes one" in shell("backup", source, code=10).stderr
    shell("init", "--random-password")
    assert "already" in shell("init", code=1).stderr
    wrong = shell.but(RESTIC_PASSWORD="wrong")("backup", source, code=12)
    assert "the password opens none" in wrong.stderr
    for name, *arguments in (["init", "--random-password"], ["backup", source], ["ls"]):
        missing = shell.but("s3://nowhere/x")(str(name), *arguments, code=1)
        assert "bucket nowhere" in missing.stderr
        assert "make it first" in missing.stderr
    stranger = shell.but(AWS_ACCESS_KEY_ID="nobody")("ls", code=1)
    assert "access denied" in stranger.stderr
    assert "AWS_ACCESS_KEY_ID" in stranger.stderr
    reader = shell.but(AWS_ACCESS_KEY_ID=READER)("backup", source, code=1)
    assert "access denied" in reader.stderr
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        down = shell.but(AWS_ENDPOINT_URL=endpoint)("ls", code=1)
    assert endpoint in down.stderr
    assert "does not answer" in down.stderr
    assert weed.endpoint not in down.stderr
