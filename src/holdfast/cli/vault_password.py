"""`holdfast vault password`: the password of one repository, for restoring with restic when all else is lost.

It needs only the repository's directory in storage and the root key or the recovery key: no server, no database.
Whoever has these has every backup in the repository, so the command says on standard error what it did. The password
alone goes to standard output, as restic's `--password-command` wants it.
"""

import sys
from pathlib import Path

from holdfast.cli.keys import recovery_key_in, root_key_in
from holdfast.core.errors import InvalidInputError, NotFoundError
from holdfast.repository.storage import LocalStorage, NotStoredError
from holdfast.vault.repositories import read_key_file


class NoKeyFileError(NotFoundError):
    """A directory is no repository of a vault."""


class WhichKeyError(InvalidInputError):
    """No key was given."""


def run_vault_password(repository: Path, *, root_key: Path | None, recovery_key: Path | None) -> int:
    """Print a repository's password; return the exit code. Of the keys, one is enough.

    Raises:
        WhichKeyError: no key was given.
        NoKeyFileError: no key file lies in the directory.
        InvalidCiphertextError: the key is not the one that the password was sealed under.
    """
    try:
        key_file = read_key_file(LocalStorage(repository))
    except NotStoredError as error:
        raise NoKeyFileError(
            f"{repository} is no repository of a vault: there is no holdfast/key.json in it; name a directory such as "
            "STORAGE/vaults/VAULT/ACCOUNT/1"
        ) from error
    if root_key is not None:
        password = key_file.password(root_key_in(root_key))
    elif recovery_key is not None:
        password, _ = key_file.password_by_recovery(recovery_key_in(recovery_key))
    else:
        raise WhichKeyError("give --root-key or --recovery-key, a file with the one that you have")
    vault = key_file.vault
    print(
        f"holdfast: warning: the password of vault {vault['name']} of account {vault['account']} in {vault['region']}, "
        f"for backups of account {key_file.source_account}, was printed. Who has it reads and removes them past every "
        "policy, lock and record of this installation; begin a new generation of the repository if it gets about",
        file=sys.stderr,
    )
    print(password)
    return 0
