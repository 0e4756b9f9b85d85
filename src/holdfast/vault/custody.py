"""What it takes to open a vault: the configured storages and the root key."""

from dataclasses import dataclass

from holdfast.core.errors import InvalidStateError
from holdfast.core.seal import RootKey
from holdfast.core.settings import Settings
from holdfast.repository.storage import Storage
from holdfast.vault.model import Vault
from holdfast.vault.records import Signer
from holdfast.vault.storage import VAULTS, Below, open_storage


class StorageNotConfiguredError(InvalidStateError):
    """The storage that something lies on is not in the configuration any more."""


@dataclass(frozen=True, slots=True)
class Custody:
    """Hands out the storage of vaults, and signs their records."""

    settings: Settings
    root_key: RootKey
    recovery_key: bytes | None = None
    """The public half of the recovery key, which passwords are sealed to; None while there is none."""

    @property
    def signer(self) -> Signer:
        """The signer of records that belongs to the root key."""
        return Signer.of(self.root_key)

    def storage(self, name: str) -> Storage:
        """Return a configured storage, whole.

        Raises:
            StorageNotConfiguredError: there is none of that name.
        """
        found = self.settings.storages.get(name)
        if found is None:
            raise StorageNotConfiguredError(
                f"storage {name!r} is not configured any more, but vaults lie on it: put [storage.{name}] back"
            )
        return open_storage(found)

    def storage_of(self, vault: Vault) -> Storage:
        """Return the part of a storage that is the vault's own."""
        return Below(self.storage(vault.storage), vault_path(vault.id))


def vault_path(vault_id: str) -> str:
    """Return the directory of a vault on its storage."""
    return f"{VAULTS}{vault_id}"
