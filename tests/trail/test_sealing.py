"""The sealed audit trail: whatever is done to it by hand is found, by Holdfast and by a script of its own."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from holdfast.core.clock import ManualMachineTime
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.repository.storage import LocalStorage
from holdfast.trail.model import Checked, TrailKey, merkle_root
from holdfast.trail.sealing import Sealer, TrailTouchedError, check_trail
from holdfast.trail.service import Decision, Entry, record

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = TrailKey.of(RootKey(bytes(range(32))))
SCRIPT = Path(__file__).parents[2] / "scripts" / "verify-trail"


@dataclass
class Trail:
    """A sealed trail on disk: two blocks of three entries, and one entry that is not sealed."""

    database: Database
    blocks: Path
    sealer: Sealer

    def write(self, *operations: str) -> None:
        with self.database.transaction() as tx:
            for operation in operations:
                record(
                    tx,
                    Entry(
                        at=NOW,
                        account="111122223333",
                        region="eu-north-1",
                        service="backup",
                        operation=operation,
                        principal_arn="arn:aws:iam::111122223333:user/märia",
                        decision=Decision.ALLOWED,
                        reason="statement 1",
                        parameters={"BackupVaultName": "Daily"},
                    ),
                )

    def check(self) -> Checked:
        with self.database.reading() as tx:
            return check_trail(tx, self.sealer.storage, KEY.public)

    def execute(self, *statements: str) -> None:
        with self.database.transaction() as tx:
            for statement in statements:
                tx.execute(text(statement))

    def by_script(self) -> tuple[int, str]:
        command = [sys.executable, str(SCRIPT), "--blocks", str(self.blocks), "--key", KEY.public.hex()]
        command += ["--database", self.database.engine.url.database or ""]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.returncode, done.stdout


def a_trail(database: Database, tmp_path: Path) -> Trail:
    blocks = tmp_path / "storage" / "audit"
    blocks.mkdir(parents=True)
    sealer = Sealer(database, LocalStorage(blocks), KEY, ManualMachineTime(NOW))
    made = Trail(database, blocks, sealer)
    made.write("CreateBackupVault", "StartBackupJob", "DeleteRecoveryPoint")
    assert sealer.run() == 3
    made.write("PutBackupVaultAccessPolicy", "DeleteBackupVault", "CreateUser")
    assert sealer.run() == 3
    made.write("CreateRole")
    return made


@pytest.fixture
def trail(sqlite_database: Database, tmp_path: Path) -> Trail:
    return a_trail(sqlite_database, tmp_path)


def test_a_trail_is_sealed_and_checked_on_every_kind_of_database(database: Database, tmp_path: Path) -> None:
    trail = a_trail(database, tmp_path)
    assert trail.check().findings == ()
    trail.execute("UPDATE audit_entry SET reason = '' WHERE operation = 'CreateUser'")
    (finding,) = trail.check().findings
    assert "was changed: reason was 'statement 1' and is ''" in finding


def test_an_untouched_trail_is_whole_and_tells_its_unsealed_tail(trail: Trail) -> None:
    checked = trail.check()
    assert (checked.blocks, checked.entries, checked.unsealed, checked.findings) == (2, 6, 1, ())
    code, told = trail.by_script()
    assert (code, "2 blocks, 6 entries sealed" in told) == (0, True)
    assert trail.sealer.run() == 1
    assert trail.sealer.run() == 0
    assert trail.check().unsealed == 0


ENTRY_2 = "id = (SELECT min(id) + 1 FROM audit_entry)"
LOWEST, SECOND = "(SELECT min(id) FROM audit_entry WHERE id > 0)", "(SELECT max(id) - 5 FROM audit_entry)"
SWAP = (
    f"UPDATE audit_entry SET id = -1 WHERE id = {LOWEST}",
    f"UPDATE audit_entry SET id = {SECOND} - 1 WHERE id = {SECOND}",
    "UPDATE audit_entry SET id = 2 WHERE id = -1",
)
COLUMNS = (
    "at, kind, account, region, service, operation, principal_arn, source_ip, user_agent, request_id, decision, "
    "reason, parameters"
)
TEXTS = COLUMNS.removeprefix("at, ").split(", ")
INSERT = f"INSERT INTO audit_entry ({COLUMNS}, block) SELECT {COLUMNS}, 1 FROM audit_entry WHERE {ENTRY_2}"
CUT_OFF = ("DELETE FROM audit_block WHERE number = 2", "DELETE FROM audit_entry WHERE block = 2")


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ((f"UPDATE audit_entry SET person = '' WHERE {ENTRY_2}",), "was changed"),
        *(
            ((f"UPDATE audit_entry SET {column} = {value} WHERE {ENTRY_2}",), "was changed")
            for column, value in (("at", "at + 1"), *((each, f"{each} || 'x'") for each in TEXTS))
        ),
        ((f"DELETE FROM audit_entry WHERE {ENTRY_2}",), "was dropped"),
        ((f"UPDATE audit_entry SET block = 2 WHERE {ENTRY_2}",), "was added"),
        ((f"UPDATE audit_entry SET block = NULL WHERE {ENTRY_2}",), "was dropped"),
        ((f"UPDATE audit_entry SET block = 7 WHERE {ENTRY_2}",), "block 7, which does not exist"),
        (SWAP, "was changed"),
        ((INSERT,), "was added"),
        (("DELETE FROM audit_block WHERE number = 2",), "block 2 was cut off"),
        (("DELETE FROM audit_block", "DELETE FROM audit_entry"), "block 1 was cut off"),
        (
            ("DELETE FROM audit_block WHERE number = 2", "DELETE FROM audit_entry WHERE block = 2"),
            "block 2 was cut off",
        ),
    ],
)
def test_what_is_done_to_the_database_is_found(trail: Trail, statements: tuple[str, ...], words: str) -> None:
    trail.execute(*statements)
    assert any(words in finding for finding in trail.check().findings)
    code, told = trail.by_script()
    assert (code, words in told) == (4, True)


def swap(a: Path, b: Path) -> None:
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


ONE, TWO = "000000000001.json", "000000000002.json"


@pytest.mark.parametrize(
    ("touch", "words"),
    [
        (lambda d: (d / ONE).unlink(), "block 1 was dropped from storage"),
        (lambda d: (d / TWO).unlink(), "block 2 was dropped from storage"),
        (lambda d: (d / ONE).write_text((d / ONE).read_text().replace("StartBackupJob", "ListTags")), "was changed"),
        (lambda d: (d / ONE).write_text((d / ONE).read_text().replace('"entries": 3', '"entries": 2')), "was changed"),
        (lambda d: (d / TWO).write_text("{}"), "block 2 in storage"),
        (lambda d: (d / TWO).write_text("nothing"), "block 2 in storage"),
        (lambda d: swap(d / ONE, d / TWO), "was swapped"),
    ],
    ids=["first dropped", "last dropped", "entry changed", "count changed", "emptied", "no JSON", "swapped"],
)
def test_what_is_done_to_storage_is_found(trail: Trail, touch: Callable[[Path], object], words: str) -> None:
    touch(trail.blocks)
    assert any(words in finding for finding in trail.check().findings)
    code, told = trail.by_script()
    if (
        trail.database.is_sqlite or "block 2 was dropped" not in words
    ):  # without the database, nothing misses the last one
        assert (code, words in told) == (4, True)


def test_a_block_signed_by_somebody_else_is_found(trail: Trail) -> None:
    forger = Sealer(trail.database, trail.sealer.storage, TrailKey.of(RootKey.generate()), trail.sealer.machine)
    forger.run()
    (finding,) = trail.check().findings
    assert "block 3 in storage was changed: its signature is not of this installation's trail key" in finding
    assert trail.by_script()[0] == 4


def test_a_block_that_was_not_stored_yet_is_stored_by_the_next_run(trail: Trail) -> None:
    (trail.blocks / TWO).unlink()
    trail.execute("UPDATE audit_block SET stored = (1 = 0) WHERE number = 2")
    assert trail.check().findings == ()
    trail.sealer.run()
    assert (trail.blocks / TWO).exists()
    assert trail.check().findings == ()


def test_what_was_touched_before_it_was_stored_is_not_stored(trail: Trail) -> None:
    (trail.blocks / TWO).unlink()
    trail.execute(
        "UPDATE audit_block SET stored = (1 = 0) WHERE number = 2",
        "UPDATE audit_entry SET operation = 'ListTags' WHERE operation = 'DeleteBackupVault'",
    )
    with pytest.raises(TrailTouchedError, match="block 2"):
        trail.sealer.run()
    assert not (trail.blocks / TWO).exists()
    assert trail.check().findings == ("entries of block 2, which is not stored yet, were changed, dropped or added",)


def test_a_database_older_than_its_storage_is_noticed_and_overwrites_nothing(trail: Trail) -> None:
    kept = (trail.blocks / TWO).read_bytes()
    trail.execute(*CUT_OFF)
    with pytest.raises(TrailTouchedError, match="older than its storage"):
        trail.sealer.run()
    assert (trail.blocks / TWO).read_bytes() == kept


@given(texts=st.lists(st.text(max_size=5), min_size=1, max_size=20, unique=True), data=st.data())
def test_the_root_changes_with_every_entry_and_with_their_order(texts: list[str], data: st.DataObject) -> None:
    root = merkle_root(texts)
    position = data.draw(st.integers(0, len(texts) - 1))
    assert merkle_root([*texts[:position], texts[position] + "x", *texts[position + 1 :]]) != root
    assert merkle_root([*texts[:position], *texts[position + 1 :]]) != root
    if len(texts) > 1:
        assert merkle_root(texts[::-1]) != root
