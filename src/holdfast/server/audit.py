"""Checking the audit trail of a data directory, whether its server runs or not."""

from dataclasses import dataclass
from pathlib import Path

from holdfast.core.errors import NotFoundError
from holdfast.database.connection import Database
from holdfast.server.app import trail_storage
from holdfast.server.configuration import load_configuration
from holdfast.server.data_directory import DataDirectory
from holdfast.trail.model import Checked, TrailKey
from holdfast.trail.sealing import check_trail


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check found, and the public key that auditors check the same with."""

    checked: Checked
    public_key: str


def verify_trail(data_dir: Path) -> Verified:
    """Hold the database's audit entries against the sealed blocks in storage.

    Raises:
        NotFoundError: there is no data directory.
    """
    directory = DataDirectory(data_dir)
    mode = directory.mode()
    if mode is None:
        raise NotFoundError(f"{data_dir} is no data directory; name the one that `holdfast serve` runs on")
    configuration = load_configuration(directory, mode)
    key = TrailKey.of(directory.load_root_key())
    database = Database.open(configuration.database_url)
    try:
        with database.reading() as tx:
            checked = check_trail(tx, trail_storage(configuration.settings), key.public)
    finally:
        database.close()
    return Verified(checked, key.public.hex())
