"""The command, as scripts use it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.repository.conftest import PASSWORD, Restic
from tests.repository.trees import describe, make_awkward_tree
from tests.repository.typed import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(str(tmp_path / "repository"))


def test_backup_check_list_restore_forget_and_sweep(
    command: Command, source: Path, tmp_path: Path, restic: Restic
) -> None:
    make_awkward_tree(source)
    command("init", "--random-password")
    first = json.loads(command("backup", source).stdout)
    second = json.loads(command("backup", source, "--tag", "again").stdout)
    assert second["files_kept"] == first["files"]
    assert [json.loads(line)["tags"] for line in command("ls").stdout.splitlines()] == [[], ["again"]]
    restic.check()
    command("check", "--read-data")
    command("restore", "latest", tmp_path / "restored", "--verify")
    assert describe(tmp_path / "restored") == describe(source)
    listed = [json.loads(line)["path"] for line in command("ls", "latest", "--include", "/deep").stdout.splitlines()]
    assert len(listed) == 32
    command("forget", first["snapshot"], second["snapshot"])
    command("sweep", "--dry-run")
    swept = json.loads(command("sweep").stdout)
    assert swept["deleted"] > 0
    assert not list((tmp_path / "repository" / "data").rglob("*/*"))


def test_exit_codes_tell_what_happened(command: Command, source: Path, tmp_path: Path) -> None:
    (source / "file").write_text("content")
    command("ls", code=10)
    command("init", "--random-password")
    command("init", code=1)
    command("restore", "latest", tmp_path / "restored", code=1)
    command("backup", tmp_path / "nothing", code=1)
    command("backup", source)
    command("restore", "latest", source, code=1)
    command.environment["RESTIC_PASSWORD"] = "wrong"
    command("ls", code=12)
    del command.environment["RESTIC_PASSWORD"]
    command("ls", code=1)
    (tmp_path / "password").write_text(PASSWORD + "\n")
    command.environment["RESTIC_PASSWORD_FILE"] = str(tmp_path / "password")
    command("ls")


def test_an_incomplete_restore_ends_with_its_own_code(command: Command, source: Path, tmp_path: Path) -> None:
    (source / "file").write_text("content")
    command("init", "--random-password")
    command("backup", source)
    target = tmp_path / "target"
    (target / "file").mkdir(parents=True)
    done = command("restore", "latest", target, "--existing", "replace", code=3)
    assert "/file: a directory is in its place" in done.stderr


def test_a_backup_ends_quietly_when_its_listing_is_cut_off(command: Command, source: Path) -> None:
    for number in range(3000):
        (source / f"{number:05}").touch()
    command("init", "--random-password")
    command("backup", source)
    listing = [sys.executable, "-m", "holdfast.repository", "ls", command.repository, "latest"]
    with subprocess.Popen(listing, env=command.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""


@pytest.mark.parametrize("text", ["secret \n", "\nsecret", "\ufeffsecret\r\n"])
def test_a_password_file_means_to_us_what_it_means_to_restic(text: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(text.encode())
    command.environment["RESTIC_PASSWORD_FILE"] = str(tmp_path / "words")
    command("init", "--random-password")
    repository, words = str(tmp_path / "repository"), str(tmp_path / "words")
    theirs = ["restic", "-r", repository, "-p", words, "--no-cache", "snapshots"]
    subprocess.run(theirs, check=True, capture_output=True)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_refused(content: bytes, command: Command, tmp_path: Path) -> None:
    (tmp_path / "words").write_bytes(content)
    command.environment["RESTIC_PASSWORD_FILE"] = str(tmp_path / "words")
    assert "words" in command("init", code=1).stderr


def test_a_damaged_key_file_is_listed_and_can_be_removed(command: Command, tmp_path: Path) -> None:
    command("init", "--random-password")
    (first,) = (tmp_path / "repository/keys").iterdir()
    (tmp_path / "new").write_text("another")
    command("add-key", "--new-password-file", tmp_path / "new")
    (second,) = set((tmp_path / "repository/keys").iterdir()) - {first}
    second.chmod(0o600)
    second.write_bytes(b"}" + second.read_bytes()[1:])
    listed = [json.loads(line) for line in command("keys").stdout.splitlines()]
    assert {key["id"]: key["created"] is None for key in listed} == {first.name: False, second.name: True}
    command("remove-key", second.name)
    assert not second.exists()


def test_copy_diff_dump_repair_and_passwords(command: Command, source: Path, tmp_path: Path) -> None:
    (source / "d").mkdir()
    (source / "d" / "file").write_text("content")
    command("init", "--random-password")
    first = json.loads(command("backup", source).stdout)["snapshot"]
    (source / "d" / "file").write_text("other")
    command("backup", source)
    assert json.loads(command("diff", first, "latest").stdout.splitlines()[-1]) == {
        "path": "/d/file",
        "change": "content",
    }
    assert command("dump", first[:12], "/d/file").stdout == "content"
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "new").write_text("new password")
    other = Command(str(tmp_path / "other"))
    other("init", "--random-password")
    copied = json.loads(
        other("copy", tmp_path / "repository", first, "--from-password-file", tmp_path / "password").stdout
    )
    assert copied["original"] == first
    assert other("dump", "latest", "d/file").stdout == "content"
    command("repair")
    command("check", "--read-data")
    old = json.loads(command("keys").stdout)["id"]
    command("add-key", "--new-password-file", tmp_path / "new")
    command.environment["RESTIC_PASSWORD"] = "new password"
    command("remove-key", old)
    command.environment["RESTIC_PASSWORD"] = PASSWORD
    command("ls", code=12)
