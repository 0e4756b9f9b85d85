"""The data directory: what lies in it, how it is made, and whose it is.

holdfast.toml   configuration          stamp.json   which mode made it, and its format
control.db      the control database   root.key     the root key, unless it is given from outside
recovery.pub    the recovery key's public half
storage/        vaults, unless they are configured elsewhere
sandbox/        in development mode, what accounts may read and restore into
serving.lock    held by the one process that works on the directory
host.id         stands for this host in the locks of repositories
"""

import base64
import binascii
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from holdfast.core.errors import AlreadyExistsError, InvalidInputError, InvalidStateError, NotFoundError
from holdfast.core.seal import KEY_BYTES, RootKey
from holdfast.core.settings import Mode

FORMAT: Final = 1
ROOT_KEY_VARIABLE: Final = "HOLDFAST_ROOT_KEY"
ROOT_KEY_FILE_VARIABLE: Final = "HOLDFAST_ROOT_KEY_FILE"
_ACKNOWLEDGED: Final = "kit.acknowledged"
_CREDENTIAL_NAME: Final = "holdfast-root-key"


class WrongDirectoryError(InvalidStateError):
    """A data directory was made by another mode or a later release, or is something else altogether."""


class DirectoryInUseError(InvalidStateError):
    """Another process works on a data directory."""


class RecoveryKeyError(InvalidInputError):
    """A recovery key is not the one of this installation."""


class RootKeyError(InvalidInputError):
    """The root key is missing, or is no root key."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The paths of one data directory."""

    path: Path

    @property
    def configuration(self) -> Path:
        """The configuration file; it need not exist."""
        return self.path / "holdfast.toml"

    @property
    def database(self) -> Path:
        """The SQLite control database."""
        return self.path / "control.db"

    @property
    def stamp(self) -> Path:
        """What says which mode made the directory."""
        return self.path / "stamp.json"

    @property
    def root_key(self) -> Path:
        """The root key, base64, readable by the owner alone."""
        return self.path / "root.key"

    @property
    def next_root_key(self) -> Path:
        """The root key that is about to replace the present one; there only while that is under way."""
        return self.path / "root.key.next"

    @property
    def root_key_is_outside(self) -> bool:
        """Whether the root key is given by the environment or a system credential, and not by the file here."""
        return _outside_root_key(os.environ) is not None

    @property
    def recovery_public_key(self) -> Path:
        """The public half of the recovery key; the private half is printed once and never stored."""
        return self.path / "recovery.pub"

    @property
    def storage(self) -> Path:
        """Where vaults lie by default."""
        return self.path / "storage"

    @property
    def lock(self) -> Path:
        """What the one process that works on the directory holds."""
        return self.path / "serving.lock"

    @property
    def sandbox(self) -> Path:
        """What development mode grants to every account."""
        return self.path / "sandbox"

    @property
    def kit_is_acknowledged(self) -> bool:
        """Whether somebody has shown that they hold the recovery key."""
        return (self.path / _ACKNOWLEDGED).exists()

    def acknowledge_kit(self, private: bytes) -> None:
        """Note that somebody holds the recovery key, which is shown here and not kept.

        Raises:
            RecoveryKeyError: it is not the one whose public half lies here.
        """
        public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
        if not self.recovery_public_key.exists() or self.recovery_public_key.read_bytes() != public:
            raise RecoveryKeyError("this is the recovery key of another installation; look for the right kit")
        (self.path / _ACKNOWLEDGED).touch()

    @property
    def host_id_file(self) -> Path:
        """What stands for this host, made at its first start."""
        return self.path / "host.id"

    def host_id(self) -> str:
        """Return what stands for this host in the locks of repositories: random, and the same at every start."""
        if not self.host_id_file.exists():
            write_private(self.host_id_file, f"holdfast-{secrets.token_hex(8)}\n".encode())
        return self.host_id_file.read_text(encoding="ascii").strip()

    def own(self, mode: Mode) -> tuple[str, ...]:
        """Return the places here that nobody may read or restore into: all of it, but for development's sandbox."""
        here = self.path.resolve()
        if mode is Mode.SERVE:
            return (str(here),)
        database = here / self.database.name
        secrets_and_state = [self.root_key, self.recovery_public_key, self.storage, self.lock, self.host_id_file]
        files = [self.configuration, self.stamp, *secrets_and_state]
        return (*(str(here / path.name) for path in files), *(f"{database}{suffix}" for suffix in ("", "-wal", "-shm")))

    def mode(self) -> Mode | None:
        """Return the mode that made the directory, None when there is nothing yet.

        Raises:
            WrongDirectoryError: it holds something else, or a later format.
        """
        if not self.stamp.exists():
            if self.path.exists() and any(self.path.iterdir()):
                raise WrongDirectoryError(
                    f"{self.path} is not empty and no data directory of Holdfast; name an empty or new directory"
                )
            return None
        stamp = orjson.loads(self.stamp.read_bytes())
        if stamp.get("format") != FORMAT:
            raise WrongDirectoryError(
                f"{self.path} has format {stamp.get('format')}, and this release knows {FORMAT}: "
                "run the release that made it, or `holdfast upgrade --check`"
            )
        return Mode(stamp["mode"])

    def create(self, mode: Mode) -> None:
        """Make the directory for `mode`, with a new root key unless one is given from outside.

        Raises:
            AlreadyExistsError: it was made before.
            WrongDirectoryError: something else lies there.
        """
        if self.mode() is not None:
            raise AlreadyExistsError(f"{self.path} is a data directory already; start it with `holdfast {mode}`")
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.storage.mkdir(mode=0o700)
        if mode is Mode.DEV:
            self.sandbox.mkdir()
        if _outside_root_key(os.environ) is None:
            write_private(self.root_key, base64.b64encode(RootKey.generate().material) + b"\n")
        write_private(self.stamp, orjson.dumps({"format": FORMAT, "mode": mode.value}) + b"\n")

    def require(self, mode: Mode) -> None:
        """Check that the directory was made by `mode`.

        Raises:
            NotFoundError: there is none.
            WrongDirectoryError: another mode made it.
        """
        found = self.mode()
        if found is None:
            raise NotFoundError(f"there is no data directory at {self.path}; make it with `holdfast init`")
        if found is not mode:
            raise WrongDirectoryError(
                f"{self.path} was made by `holdfast {found}` and cannot be used by `holdfast {mode}`: "
                "development data never becomes production data; name another directory"
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one process that works on the directory; the kernel lets go of it when the process is gone.

        Raises:
            DirectoryInUseError: another one does.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                by = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise DirectoryInUseError(
                    f"{self.path} is served already, by process {by}; end that one, or name another directory"
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def load_root_key(self) -> RootKey:
        """Return the root key: from the environment, a system credential, or the directory's own file.

        Raises:
            RootKeyError: it is missing, readable by others, or not 32 bytes of base64.
        """
        text = _outside_root_key(os.environ)
        if text is None:
            if not self.root_key.exists():
                raise RootKeyError(
                    f"the root key is missing: put it back at {self.root_key}, or give it in {ROOT_KEY_FILE_VARIABLE}; "
                    "the recovery kit tells how to go on without it"
                )
            if stat.S_IMODE(self.root_key.stat().st_mode) & 0o077:
                raise RootKeyError(f"{self.root_key} is readable by others; run: chmod 600 {self.root_key}")
            text = self.root_key.read_text(encoding="ascii")
        return parse_root_key(text)


def parse_root_key(text: str) -> RootKey:
    """Return the root key that `text` spells in base64.

    Raises:
        RootKeyError: it does not spell 32 bytes.
    """
    try:
        return RootKey(base64.b64decode(text.strip(), validate=True))
    except (ValueError, binascii.Error) as error:
        raise RootKeyError(f"the root key is not {KEY_BYTES} bytes in base64") from error


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, durable when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _outside_root_key(environment: Mapping[str, str]) -> str | None:
    if ROOT_KEY_VARIABLE in environment:
        return environment[ROOT_KEY_VARIABLE]
    if ROOT_KEY_FILE_VARIABLE in environment:
        return Path(environment[ROOT_KEY_FILE_VARIABLE]).read_text(encoding="ascii")
    credentials = environment.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / _CREDENTIAL_NAME).exists():
        return (Path(credentials) / _CREDENTIAL_NAME).read_text(encoding="ascii")
    return None
