"""A vault's repositories: one per source account and generation, their passwords, and the key file beside each.

Before anything is backed up into a repository, `holdfast/key.json` lies in its directory (which restic ignores): the
password wrapped by the vault's KMS key, that key sealed under the root key with all its versions, the password sealed
to the recovery key, and which vault it is. It is signed as records are.
"""

import base64
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa
from sqlalchemy import text

from holdfast.core.clock import MachineTime
from holdfast.core.errors import DamagedError, NotFoundError
from holdfast.core.ids import new_uuid
from holdfast.core.seal import RootKey
from holdfast.database.connection import Database
from holdfast.key.service import open_chain, open_with_recovery, seal_to_recovery, unwrap, unwrap_whatever_state, wrap
from holdfast.repository.key_file import NoRepositoryError
from holdfast.repository.repository import Repository
from holdfast.repository.storage import AlreadyStoredError, Storage
from holdfast.vault import keys, ledger, store
from holdfast.vault.custody import Custody, vault_path
from holdfast.vault.model import Vault
from holdfast.vault.records import FORMAT, Kind, Signer, canonical, opened, signed
from holdfast.vault.service import lock_body
from holdfast.vault.storage import Below
from holdfast.vault.store import RepositoryRow

KEY_FILE: Final = "holdfast/key.json"
PASSWORD_BYTES: Final = 32

_OTHER_PROCESSES_WAIT = text("SELECT pg_advisory_xact_lock(hashtext(:id))")
_preparing: dict[str, threading.Lock] = {}
_preparing_guard = threading.Lock()


class RepositoryGoneError(NotFoundError):
    """The catalogue has no such repository."""


class KeyFileDamagedError(DamagedError):
    """The key file beside a repository is not the one that belongs there."""


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """All that a mover needs to open one repository, and nothing else."""

    repository_id: str
    storage_url: str
    storage_options: Mapping[str, str] = field(repr=False)
    path: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What lies beside a repository to open it without a database."""

    repository_id: str
    vault: Mapping[str, Any]
    source_account: str
    generation: int
    path: str
    key: Mapping[str, Any]
    """The vault's KMS key, as `keys.key_to_body` gives it."""
    wrapped_password: bytes
    sealed_password: bytes | None
    created_at: datetime
    signed_by: bytes

    def password(self, root_key: RootKey) -> str:
        """Return the repository's password.

        Raises:
            InvalidCiphertextError: another root key, or something was changed.
        """
        chain = self.key["chain"].encode()
        return open_chain(root_key, chain, self.wrapped_password, _context(self.repository_id)).decode()

    def password_by_recovery(self, private: bytes) -> tuple[str, bytes]:
        """Return the password, and the public key of the signer of records at the time it was sealed.

        Whoever does not know the password could not have sealed it, so a signer named here is to be trusted as far as
        the repository opens with that password.

        Raises:
            InvalidCiphertextError: another recovery key, or something was changed.
            KeyFileDamagedError: nothing was sealed to a recovery key.
        """
        if self.sealed_password is None:
            raise KeyFileDamagedError(f"the password of {self.path} was never sealed to a recovery key")
        value = orjson.loads(open_with_recovery(private, self.sealed_password))
        return value["password"], base64.b64decode(value["signer"])


def repository_for(
    tx: sa.Connection, custody: Custody, vault: Vault, source_account: str, *, now: datetime
) -> RepositoryRow:
    """Return the repository that backups of `source_account` into `vault` go to, its row made at the first use."""
    found = store.newest_repository(tx, vault.id, source_account)
    if found is not None:
        return found
    return new_generation(tx, custody, vault, source_account, now=now)


def new_generation(
    tx: sa.Connection, custody: Custody, vault: Vault, source_account: str, *, now: datetime
) -> RepositoryRow:
    """Begin a new repository with a password of its own: the first, or after suspected exposure."""
    newest = store.newest_repository(tx, vault.id, source_account)
    generation = 1 if newest is None else newest.generation + 1
    repository_id = new_uuid()
    password = base64.b64encode(secrets.token_bytes(PASSWORD_BYTES))
    row = RepositoryRow(
        id=repository_id,
        vault_id=vault.id,
        source_account=source_account,
        generation=generation,
        storage=vault.storage,
        path=f"{vault_path(vault.id)}/{source_account}/{generation}",
        wrapped_password=wrap(tx, custody.root_key, vault.key_arn, password, _context(repository_id)),
        key_arn=vault.key_arn,
        is_cold=False,
        ready=False,
        created_at=now,
    )
    store.insert_repository(tx, row)
    return row


def cold_repository_for(tx: sa.Connection, custody: Custody, warm: RepositoryRow, *, now: datetime) -> RepositoryRow:
    """Return the repository that points of a warm one go to when they turn cold, its row made at the first use."""
    found = store.find_cold_beside(tx, warm)
    if found is not None:
        return found
    repository_id = new_uuid()
    password = _password(tx, custody, warm).encode()
    row = replace(
        warm,
        id=repository_id,
        path=f"{warm.path}-cold",
        wrapped_password=wrap(tx, custody.root_key, warm.key_arn, password, _context(repository_id)),
        is_cold=True,
        ready=False,
        created_at=now,
    )
    store.insert_repository(tx, row)
    return row


def prepare_repository(
    database: Database, custody: Custody, repository_id: str, *, host_id: str, machine: MachineTime, now: datetime
) -> RepositoryRow:
    """Make sure that a repository exists in storage with its key beside it. Slow, and so with transactions of its own.

    Repeating it after a crash goes on where it stopped.

    Raises:
        RepositoryGoneError: the catalogue has no such repository.
        KeyFileDamagedError: another repository's key lies there.
    """
    with _one_at_a_time(database, repository_id):
        with database.reading() as tx:
            row, vault = _row_and_vault(tx, repository_id)
            if row.ready:
                return row
            password = _password(tx, custody, row)
            content = _key_file(tx, custody, vault, row, password)
        storage = Below(custody.storage(row.storage), row.path)
        _lay_key_file(storage, custody, row, content, password)
        _create(storage, password, host_id=host_id, machine=machine, now=now)
        with database.transaction() as tx:
            ledger.append(tx, custody, vault, Kind.REPOSITORY_CREATED, _body(row), at=now)
        through = ledger.put_pending(database, custody, vault)
        with database.transaction() as tx:
            store.settle(tx, vault.id, through=through)
            store.set_ready(tx, row.id)
            ready, _ = _row_and_vault(tx, repository_id)
        return ready


def access_for_job(tx: sa.Connection, custody: Custody, repository_id: str) -> RepositoryAccess:
    """Return what a mover needs to open a repository; the vault's key must be usable now.

    Raises:
        RepositoryGoneError: the catalogue has no such repository.
        KeyNotFoundError, KeyDisabledError, KeyStateError: the vault's key can't be used.
    """
    row, _ = _row_and_vault(tx, repository_id)
    settings = custody.settings.storages[row.storage]
    return RepositoryAccess(row.id, settings.url, settings.options, row.path, _password(tx, custody, row))


def open_repository(database: Database, custody: Custody, repository_id: str, *, machine: MachineTime) -> Repository:
    """Open a repository in this process, and let go of locks whose holders are gone.

    Raises:
        HoldfastError: its key can't be used, or its storage can't be reached.
    """
    with database.reading() as tx:
        row, _ = _row_and_vault(tx, repository_id)
        password = _password(tx, custody, row)
    repository = Repository.open(
        Below(custody.storage(row.storage), row.path),
        password,
        host_id=custody.settings.host_id,
        machine=machine,
        lock_wait=timedelta(seconds=1),
    )
    repository.unlock()
    return repository


def read_key_file(storage: Storage) -> KeyFile:
    """Return the key file in a repository's directory; its own signature is checked, whose it is is not.

    Raises:
        NotStoredError: there is none.
        RecordDamagedError: it was changed.
        KeyFileDamagedError: it is no key file.
    """
    document, signer = opened(storage.get(KEY_FILE), name=KEY_FILE)
    try:
        sealed = document["sealed_password"]
        return KeyFile(
            repository_id=document["repository"],
            vault=document["vault"],
            source_account=document["source_account"],
            generation=int(document["generation"]),
            path=document["path"],
            key=document["kms_key"],
            wrapped_password=base64.b64decode(document["wrapped_password"]),
            sealed_password=None if sealed is None else base64.b64decode(sealed),
            created_at=datetime.fromisoformat(document["created_at"]),
            signed_by=signer,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise KeyFileDamagedError(f"{KEY_FILE} is no key file: {error!r}") from error


def rewrap(tx: sa.Connection, custody: Custody, row: RepositoryRow, password: str) -> RepositoryRow:
    """Wrap a repository's password anew, by the newest version of its key; no data moves. Return its row as it is now.

    `lay_key_file_anew` comes next, so that storage says the same.
    """
    wrapped = wrap(tx, custody.root_key, row.key_arn, password.encode(), _context(row.id))
    store.set_wrapped_password(tx, row.id, wrapped)
    return replace(row, wrapped_password=wrapped)


def lay_key_file_anew(tx: sa.Connection, custody: Custody, vault: Vault, row: RepositoryRow, password: str) -> None:
    """Replace the key file beside a repository, whose password stays."""
    content = _key_file(tx, custody, vault, row, password)
    Below(custody.storage(row.storage), row.path).put(KEY_FILE, content)


def _row_and_vault(tx: sa.Connection, repository_id: str) -> tuple[RepositoryRow, Vault]:
    row = store.find_repository(tx, repository_id)
    vault = None if row is None else store.find_vault_by_id(tx, row.vault_id)
    if row is None or vault is None:
        raise RepositoryGoneError(f"there is no repository {repository_id}")
    return row, vault


def _password(tx: sa.Connection, custody: Custody, row: RepositoryRow) -> str:
    return unwrap(tx, custody.root_key, row.key_arn, row.wrapped_password, _context(row.id)).decode()


def password_whatever_state(tx: sa.Connection, custody: Custody, row: RepositoryRow) -> str:
    """Return a repository's password, also where its key is disabled: for laying its key file anew, nothing else."""
    return unwrap_whatever_state(tx, custody.root_key, row.key_arn, row.wrapped_password, _context(row.id)).decode()


def _context(repository_id: str) -> dict[str, str]:
    return {"holdfast:repository": repository_id}


def _key_file(tx: sa.Connection, custody: Custody, vault: Vault, row: RepositoryRow, password: str) -> bytes:
    key = keys.key_to_body(tx, custody.root_key, row.key_arn)
    return key_file_content(vault, row, password, key, custody.recovery_key, custody.signer)


def key_file_content(
    vault: Vault,
    row: RepositoryRow,
    password: str,
    key: Mapping[str, Any],
    recovery_key: bytes | None,
    signer: Signer,
) -> bytes:
    """Return the key file that belongs beside a repository."""
    sealed = None
    if recovery_key is not None:
        inner = canonical({"password": password, "signer": base64.b64encode(signer.public).decode()})
        sealed = base64.b64encode(seal_to_recovery(recovery_key, inner)).decode()
    facts = {
        "id": vault.id,
        "account": vault.account,
        "region": vault.region,
        "name": vault.name,
        "arn": vault.arn,
        "created_at": vault.created_at.isoformat(),
        "lock": None if vault.lock is None else lock_body(vault.lock),
    }
    return signed(
        _body(row)
        | {
            "format": FORMAT,
            "vault": facts,
            "kms_key": dict(key),
            "wrapped_password": base64.b64encode(row.wrapped_password).decode(),
            "sealed_password": sealed,
        },
        signer,
    )


def _body(row: RepositoryRow) -> dict[str, Any]:
    return {
        "repository": row.id,
        "source_account": row.source_account,
        "generation": row.generation,
        "path": row.path,
        "key_arn": row.key_arn,
        "is_cold": row.is_cold,
        "created_at": row.created_at.isoformat(),
    }


def _lay_key_file(storage: Storage, custody: Custody, row: RepositoryRow, content: bytes, password: str) -> None:
    try:
        storage.put(KEY_FILE, content, new=True)
    except AlreadyStoredError as error:
        # Laid by an earlier attempt: it must open to the same password, though its nonces differ.
        present = read_key_file(storage)
        if present.repository_id != row.id or present.password(custody.root_key) != password:
            raise KeyFileDamagedError(
                f"beside {row.path} lies the key of another repository; it is not touched. Find out who else writes "
                "to this storage"
            ) from error


def _create(storage: Storage, password: str, *, host_id: str, machine: MachineTime, now: datetime) -> None:
    """Make the repository unless it is there; the config is put last, so keys without one are a crash's rubbish."""
    try:
        Repository.open(storage, password, host_id=host_id, machine=machine)
    except NoRepositoryError:
        for stray in list(storage.list("keys/")):
            storage.delete(stray.name)
        Repository.create(storage, password, host_id=host_id, at=now, machine=machine)


@contextmanager
def _one_at_a_time(database: Database, repository_id: str) -> Iterator[None]:
    """Let one thread of one process prepare a repository; on SQLite there is only one process."""
    with _preparing_guard:
        lock = _preparing.setdefault(repository_id, threading.Lock())
    with lock, ExitStack() as stack:
        if not database.is_sqlite:
            tx = stack.enter_context(database.transaction())
            tx.execute(_OTHER_PROCESSES_WAIT, {"id": f"prepare/{repository_id}"})
        yield
