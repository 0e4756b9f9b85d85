"""`holdfast rebuild` as people run it."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.vault.builders import ACCOUNT, RECOVERY, ROOT_KEY, a_custody, a_vault, back_up

from holdfast.database.connection import Database
from holdfast.key.service import print_recovery_key
from holdfast.vault.custody import Custody


@pytest.fixture
def custody(tmp_path: Path, sqlite_database: Database) -> Custody:
    found = a_custody(tmp_path / "storage")
    vault = a_vault(sqlite_database, found)
    back_up(sqlite_database, found, vault)
    return found


def holdfast(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "holdfast.cli.main", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": "src", "COLUMNS": "40"},
    )


def key_file(path: Path, key: bytes) -> Path:
    path.write_text(base64.b64encode(key).decode() + "\n", encoding="ascii")
    return path


def test_a_new_data_directory_comes_from_storage_and_root_key(tmp_path: Path, custody: Custody) -> None:
    done = holdfast(
        "rebuild",
        *("--data-dir", tmp_path / "new"),
        *("--storage", tmp_path / "storage"),
        *("--root-key", key_file(tmp_path / "key", ROOT_KEY.material)),
        *("--administrator-of", ACCOUNT),
        "--json",
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["sound"]
    assert [(vault["name"], vault["points"]) for vault in answer["vaults"]] == [("Daily", 1)]
    assert answer["administrator"]["Account"] == ACCOUNT
    assert "looking for vaults" in done.stderr
    again = holdfast("rebuild", "--data-dir", tmp_path / "new")
    assert again.returncode == 0, again.stderr
    assert "1 recovery points in 1 vaults are back" in again.stdout
    assert ACCOUNT in again.stdout


def test_the_recovery_key_is_read_from_standard_input(tmp_path: Path, custody: Custody) -> None:
    done = holdfast(
        "rebuild",
        *("--data-dir", tmp_path / "new"),
        *("--storage", tmp_path / "storage"),
        *("--recovery-key", "-"),
        stdin=print_recovery_key(RECOVERY.private),
    )
    assert done.returncode == 0, done.stderr
    assert "nobody can sign in yet" in done.stdout
    assert "Before an account restores" in done.stdout
    assert (tmp_path / "new" / "recovery.pub").read_bytes() == RECOVERY.public


def test_findings_are_named_and_have_an_exit_code_of_their_own(tmp_path: Path, custody: Custody) -> None:
    (snapshot,) = (tmp_path / "storage").glob("vaults/*/*/1/snapshots/*")
    snapshot.unlink()
    done = holdfast(
        "rebuild",
        *("--data-dir", tmp_path / "new"),
        *("--storage", tmp_path / "storage"),
        *("--root-key", key_file(tmp_path / "key", ROOT_KEY.material)),
    )
    assert done.returncode == 4, done.stderr
    assert "is gone" in done.stdout


@pytest.mark.parametrize(("text", "says"), [("no 1 key", "letters and the digits 2 to 7"), ("AAAA", "mistyped")])
def test_what_is_no_recovery_key_is_refused_before_anything_is_made(
    tmp_path: Path, custody: Custody, text: str, says: str
) -> None:
    done = holdfast(
        "rebuild", "--data-dir", tmp_path / "new", "--storage", tmp_path / "storage", "--recovery-key", "-", stdin=text
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_data_directory_with_a_configuration_keeps_it(tmp_path: Path, custody: Custody) -> None:
    arguments = ("rebuild", "--data-dir", tmp_path / "new", "--storage", tmp_path / "storage")
    key = key_file(tmp_path / "key", ROOT_KEY.material)
    assert holdfast(*arguments, "--root-key", key).returncode == 0
    done = holdfast(*arguments)
    assert done.returncode == 1
    assert "leave --storage and --root-key out" in done.stderr
