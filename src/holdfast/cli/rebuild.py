"""`holdfast rebuild`: the catalogue comes back from storage and a key. Progress goes to standard error."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from holdfast.access.credentials import create_first_administrator
from holdfast.cli.keys import recovery_key_in
from holdfast.cli.opening import open_or_make
from holdfast.core.clock import SystemClock, SystemMachineTime
from holdfast.database.connection import Database
from holdfast.database.facts import OPERATOR, recalled, remember
from holdfast.database.schema import upgrade
from holdfast.recovery.rebuild import Rebuilt, VaultRebuilt, rebuild
from holdfast.server.configuration import Configuration, load_configuration
from holdfast.server.data_directory import DataDirectory
from holdfast.vault.custody import Custody
from holdfast.vault.records import Signer

EXIT_SOUND: Final = 0
EXIT_FINDINGS: Final = 4
_WIDE: Final = 1000


@dataclass(frozen=True, slots=True)
class Options:
    """What `holdfast rebuild` was asked for."""

    data_dir: Path
    storage: str | None = None
    root_key: Path | None = None
    recovery_key: Path | None = None
    administrator_of: str | None = None
    as_json: bool = False


def run_rebuild(options: Options) -> int:
    """Rebuild, print what came back, and return the exit code: 4 when something was not as it was written.

    Raises:
        HoldfastError: a key, the configuration or the storage can't be used.
    """
    private = None if options.recovery_key is None else recovery_key_in(options.recovery_key)
    directory = DataDirectory(options.data_dir)
    mode = open_or_make(directory, storage=options.storage, root_key=options.root_key, recovery_private=private)
    with directory.held():
        return _run(options, directory, load_configuration(directory, mode), private)


def _run(options: Options, directory: DataDirectory, configuration: Configuration, private: bytes | None) -> int:
    root_key = directory.load_root_key()
    public = directory.recovery_public_key.read_bytes() if directory.recovery_public_key.exists() else None
    custody = Custody(configuration.settings, root_key, public)
    database = Database.open(configuration.database_url)
    administrator: dict[str, str] | None = None
    try:
        upgrade(database)
        now = SystemClock().now()
        found = rebuild(
            database, custody, now=now, machine=SystemMachineTime(), recovery_private=private, progress=_say
        )
        if options.administrator_of is not None:
            with database.transaction() as tx:
                if recalled(tx, OPERATOR) is None:
                    remember(tx, OPERATOR, options.administrator_of)
                made = create_first_administrator(tx, root_key, options.administrator_of, "admin", now=now)
            administrator = {
                "Account": options.administrator_of,
                "AccessKeyId": made.id,
                "SecretAccessKey": made.secret,
            }
    finally:
        database.close()
    signer = Signer.of(root_key).public.hex()
    if options.as_json:
        print(json.dumps(_as_json(found, signer, administrator), indent=2))
    else:
        print_rebuilt(found)
        _print_next(found, administrator)
    return EXIT_SOUND if found.is_sound else EXIT_FINDINGS


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _as_json(found: Rebuilt, signer: str, administrator: dict[str, str] | None) -> dict[str, Any]:
    return {
        "sound": found.is_sound,
        "signer": signer,
        "accounts": found.accounts,
        "vaults": [asdict(vault) | {"sound": vault.is_sound} for vault in found.vaults],
        "administrator": administrator,
    }


def print_rebuilt(found: Rebuilt) -> None:
    """Print what came back from storage, and whatever was not as it was written."""
    table = Table("account", "region", "vault", "points", "hidden", "holds", "lock", "records", "as written")
    for vault in found.vaults:
        table.add_row(
            vault.account or "?",
            vault.region or "?",
            vault.name or vault.id,
            str(vault.points),
            str(vault.hidden),
            str(vault.holds),
            vault.locked or "none",
            f"{vault.records} ({vault.behind} new to the database)" if vault.behind else str(vault.records),
            "left out: never finished" if vault.unfinished else "yes" if vault.is_sound else "NO",
        )
    Console(width=_WIDE).print(table)  # ids are never cut off, however narrow the terminal
    for vault in found.vaults:
        for line in _findings(vault):
            print(f"{vault.name or vault.id}: {line}")
    lost = sum(vault.lost for vault in found.vaults)
    points = sum(vault.points for vault in found.vaults) - lost
    back = sum(not vault.unfinished for vault in found.vaults)
    print(f"{points} recovery points in {back} vaults are back" + (f", {lost} cannot be opened" if lost else ""))
    print("Checked: keys, signed records, and that snapshots are there; `restic check --read-data` reads every byte")


def _print_next(found: Rebuilt, administrator: dict[str, str] | None) -> None:
    if found.accounts:
        print(
            f"accounts made anew: {', '.join(found.accounts)}; names, users, roles, policies and the organization are "
            "not in storage, set them up again"
        )
    if administrator is not None:
        print(f"administrator of account {administrator['Account']}: admin")
        print(f"  Access key id      {administrator['AccessKeyId']}")
        print(f"  Secret access key  {administrator['SecretAccessKey']}")
    elif found.accounts:
        print("nobody can sign in yet: run the same command with --administrator-of ACCOUNT")
    if found.accounts:
        print(
            "Before an account restores: start `holdfast serve`; as the administrator create the organization "
            "(CreateOrganization), invite the other accounts (InviteAccountToOrganization), say where they may restore "
            "(PutSiteGrant with AllowRestore), and make a role for restores that trusts backup.amazonaws.com"
        )


def _findings(vault: VaultRebuilt) -> list[str]:
    brought = vault.brought_in
    return [
        *vault.faults,
        *(f"the snapshot of {arn} is gone" for arn in vault.missing),
        *(f"no record tells of the snapshot {place}" for place in vault.unrecorded),
        *(f"no record tells of {arn}, which the database lists" for arn in brought.unnamed),
        *(
            f"{arn} cannot be opened: its repository's key file is missing or damaged"
            for arn in brought.without_repository
        ),
    ]
