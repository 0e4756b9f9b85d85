"""`holdfast rekey`: another root key for an installation, with the server stopped."""

import base64
import json
from pathlib import Path

from holdfast.cli.keys import root_key_in
from holdfast.cli.opening import existing
from holdfast.core.clock import SystemClock, SystemMachineTime
from holdfast.core.errors import InvalidInputError
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.database.facts import OPERATOR, recalled
from holdfast.recovery.rekey import ROOT_KEY, change_root_key, finish
from holdfast.server.app import trail_storage
from holdfast.server.configuration import load_configuration
from holdfast.server.data_directory import DataDirectory, write_private
from holdfast.trail.model import TrailKey
from holdfast.trail.sealing import Sealer
from holdfast.vault.custody import Custody


class SameRootKeyError(InvalidInputError):
    """The new root key is the old one."""


def run_rekey(data_dir: Path, new_root_key: Path | None, *, as_json: bool) -> int:
    """Put everything under another root key: the one in a file, or a new one; what was interrupted is gone on with.

    Raises:
        DirectoryInUseError: the server is running.
        OtherRootKeyError: the database is sealed under neither of the two keys.
        HoldfastError: something cannot be opened or stored; nothing is lost, and the same command goes on.
    """
    directory = DataDirectory(data_dir)
    mode = existing(directory)
    with directory.held():
        configuration = load_configuration(directory, mode)
        old = directory.load_root_key()
        new = _next_key(directory, new_root_key)
        if new.id == old.id:
            raise SameRootKeyError("this is the present root key; leave --new-root-key out and a new one is made")
        public = directory.recovery_public_key.read_bytes() if directory.recovery_public_key.exists() else None
        before, after = Custody(configuration.settings, old, public), Custody(configuration.settings, new, public)
        storage = trail_storage(configuration.settings)
        database = Database.open(configuration.database_url)
        try:
            with database.reading() as tx:
                known, operator = recalled(tx, ROOT_KEY), recalled(tx, OPERATOR) or ""
            if known != new.id:
                Sealer(database, storage, TrailKey.of(old), SystemMachineTime()).run()
                change_root_key(database, before, after, now=SystemClock().now(), account=operator)
            done = finish(database, after, storage)
        finally:
            database.close()
        outside = directory.root_key_is_outside
        if not outside:
            _put_into_place(directory, old, new)
    if as_json:
        shown = {"root_key": new.id, "before": old.id, "secrets": done.secrets, "repositories": done.repositories}
        print(json.dumps(shown))
        return 0
    print(f"root key {new.id} in place of {old.id}: {done.secrets} values, {done.repositories} repositories")
    if outside:
        print("Next: hand the new root key to the server where the old one came from, its environment or credential.")
    else:
        print(f"The new key is {directory.root_key}: put a copy with the recovery kit. The old one is kept as")
        print(f"{_kept(directory, old)}; states saved until now open with it alone.")
    return 0


def _next_key(directory: DataDirectory, given: Path | None) -> RootKey:
    if given is not None:
        return root_key_in(given)
    if not directory.next_root_key.exists():
        write_private(directory.next_root_key, _text(RootKey.generate()))
    return root_key_in(directory.next_root_key)


def _put_into_place(directory: DataDirectory, old: RootKey, new: RootKey) -> None:
    kept = _kept(directory, old)
    if not kept.exists():
        write_private(kept, _text(old))
    if not directory.next_root_key.exists():
        write_private(directory.next_root_key, _text(new))
    directory.next_root_key.replace(directory.root_key)


def _kept(directory: DataDirectory, old: RootKey) -> Path:
    return directory.path / f"root.key.{old.id}"


def _text(key: RootKey) -> bytes:
    return base64.b64encode(key.material) + b"\n"
