"""The command killed in the middle of a backup: what it sent until its last index is not sent again."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Event

import pytest
from tests.repository.conftest import PASSWORD, Restic

from holdfast.repository.check import Depth
from holdfast.repository.index import index_files, read_index
from holdfast.repository.pack import PackedBlob, read_header
from holdfast.repository.repository import Repository
from holdfast.repository.storage import LocalStorage

# As `python -m holdfast.repository`, with an index every 25 blobs instead of every 50,000.
_COMMAND = """
import sys
from holdfast.repository import blob_writer, command
blob_writer.BLOBS_PER_FILE = 25
sys.exit(command.main(sys.argv[1:]))
"""
_BLOBS_PER_INDEX = 25
_UPLOADS = 2  # packs that are being stored at once, each of whose threads may be writing an index
_FILES, _FILE_BYTES = 120, 400_000  # below the least size of a piece, so each file is one blob
_BLOBS_PER_PACK = 11  # a pack of 4 MiB is full with these


class Killed:
    """A source, a repository, and the command that is killed while it backs the one up into the other."""

    def __init__(self, base: Path, chance: random.Random) -> None:
        self.source, self.storage = base / "source", LocalStorage(base / "repository")
        self._chance = chance
        self.source.mkdir()
        for number in range(_FILES):
            (self.source / f"{number:04}").write_bytes(chance.randbytes(_FILE_BYTES))
        with self.command("init", "--random-password") as init:
            assert init.wait() == 0
        self.repository = Repository.open(self.storage, PASSWORD, host_id="a-host")

    def command(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        program = [sys.executable, "-c", _COMMAND, "--json", name, str(self.storage.root), *arguments]
        return subprocess.Popen(program, stdout=subprocess.PIPE, env=environment)

    def back_up(self) -> subprocess.Popen[bytes]:
        return self.command("backup", str(self.source), "--pack-size", "4")

    def kill_one(self) -> None:
        """Start a backup and kill it some while after it has stored some number of packs more; or let it end."""
        packs = len(self.packs()) + self._chance.randrange(1, 8)
        with self.back_up() as running:
            while running.poll() is None and len(self.packs()) < packs:
                Event().wait(0.001)
            Event().wait(self._chance.random() * 0.02)
            running.send_signal(signal.SIGKILL)

    def packs(self) -> dict[bytes, int]:
        return {bytes.fromhex(stored.name.rpartition("/")[2]): stored.size for stored in self.storage.list("data/")}

    def known(self) -> set[bytes]:
        """Return every blob that an index file names."""
        files = [read_index(self.storage, self.repository.box, name) for name in index_files(self.storage)]
        return {blob.id for file in files for _, blobs in file for blob in blobs}

    def blobs(self, packs: Iterable[bytes]) -> list[PackedBlob]:
        """Return what packs hold by their own headers."""
        sizes = self.packs()
        return [blob for pack in packs for blob in read_header(self.storage, self.repository.box, pack, sizes[pack])]


def kill_and_finish(base: Path, *, kills: int, seed: int) -> None:
    print(f"seed {seed}")  # noqa: T201 - so that a failure can be repeated
    killed = Killed(base, random.Random(seed))  # noqa: S311 - only bytes and moments
    for _ in range(kills):
        before, known = killed.packs(), killed.known()
        killed.kill_one()
        new = killed.blobs(killed.packs().keys() - before.keys())
        assert not known & {blob.id for blob in new}, "what an index names is not sent again"
        lost = [blob for blob in new if blob.id not in killed.known()]
        # Each thread that stores packs may have stored one too many, and be at work on an index of what was due.
        assert len(lost) <= _UPLOADS * (_BLOBS_PER_INDEX + _BLOBS_PER_PACK)
    before, known = killed.packs(), killed.known()
    lost_bytes = {blob.id: blob.length for blob in killed.blobs(before.keys()) if blob.id not in known}
    with killed.back_up() as last:
        assert last.stdout is not None
        written = json.loads(last.stdout.read())
        assert last.wait() == 0
    sent = killed.blobs(killed.packs().keys() - before.keys())
    again = sum(blob.length for blob in sent if blob.id in known | lost_bytes.keys())
    assert again <= sum(lost_bytes.values()), "only what was sent since the last index is sent again"
    content = {hashlib.sha256(path.read_bytes()).digest() for path in killed.source.iterdir()}
    assert written["bytes_new"] == _FILE_BYTES * len(content - known)
    assert killed.repository.check(Depth.BYTES).problems == ()
    for snapshot in killed.repository.snapshots():
        target = base / "restored" / snapshot.id
        assert killed.repository.restore(snapshot.id, target).problems == ()
        for path in killed.source.iterdir():
            assert (target / path.name).read_bytes() == path.read_bytes()


def test_a_backup_killed_again_and_again_goes_on_from_its_last_index(tmp_path: Path, restic: Restic) -> None:
    kill_and_finish(tmp_path, kills=2, seed=random.SystemRandom().randrange(2**32))
    restic.run("unlock")
    restic.check()


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(30))
def test_a_backup_killed_at_any_moment_goes_on_from_its_last_index(tmp_path: Path, seed: int) -> None:
    kill_and_finish(tmp_path, kills=3, seed=seed)
