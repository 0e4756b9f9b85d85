"""Somebody who can write to the control database, but not run code, stays that way."""

import base64
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.running import eventually, found_organization, join, started

# `posix.mkdir(PATH)` in the language of Python's pickles, which runs when it is loaded.
_PAYLOAD = "cposix\nmkdir\n(V{path}\ntR."
_STATUS = """
    INSERT INTO {status} (workflow_uuid, status, name, queue_name, application_version, executor_id, priority,
                          created_at, updated_at, recovery_attempts, serialization, application_name)
    VALUES (:id, :state, 'job', :queue, 'holdfast-1', 'serve', 0, 1, 1, 0, 'py_pickle', 'holdfast')"""
_INPUT = "INSERT INTO {inputs} (workflow_uuid, inputs) VALUES (:id, :inputs)"


def table(database: sqlite3.Connection, ending: str) -> str:
    (found,) = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?", (ending,))
    return str(found[0])


@pytest.mark.parametrize("state", ["ENQUEUED", "PENDING"])
def test_a_pickled_row_in_the_engines_tables_is_refused_and_nothing_of_it_runs(tmp_path: Path, state: str) -> None:
    data, harm = tmp_path / "data", tmp_path / "harm"
    with started("dev", data) as server:
        found_organization(server)
        assert server.stop() == 0
    planted = base64.b64encode(_PAYLOAD.format(path=harm).encode()).decode()
    row = {"id": "evil:1:1", "state": state, "queue": "local/backup", "inputs": planted}
    with closing(sqlite3.connect(data / "control.db")) as database, database:
        status, inputs = table(database, "workflow_status"), table(database, "workflow_input")
        database.execute(_STATUS.format(status=status), row)
        database.execute(_INPUT.format(inputs=inputs), row)

    def ended() -> str:
        with closing(sqlite3.connect(f"file:{data / 'control.db'}?mode=ro", uri=True)) as database:
            (found,) = database.execute(f"SELECT status FROM {status} WHERE workflow_uuid = 'evil:1:1'").fetchone()
        return "" if found in {"ENQUEUED", "PENDING"} else str(found)

    with started("dev", data) as server:
        assert eventually(ended, "the planted row is refused") == "ERROR"
        assert "says that it was pickled" in server.said()
        assert not harm.exists()
        shop = join(server, "shop")
        tree = shop.sandbox / "files"
        tree.mkdir()
        (tree / "page").write_text("hello")
        job = shop.back_up(shop.register("files", tree))
        server.settle(60)
        assert shop.job(job)["State"] == "COMPLETED", "and honest jobs go on"
    assert not harm.exists()


def test_the_payload_would_have_done_its_harm(tmp_path: Path) -> None:
    """The planted row is a real one: whatever unpickles it, runs it."""
    import pickle  # noqa: PLC0415, TID251 - what the product never does, and this test has to

    pickle.loads(_PAYLOAD.format(path=tmp_path / "harm").encode())  # noqa: S301 - our own bytes
    assert (tmp_path / "harm").is_dir()
