"""What the operator configured, as values; `server/configuration.py` reads them from a file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from holdfast.core.outgoing import Reach

LOCAL_SITE: Final = "local"
DEFAULT_STORAGE: Final = "local"


class Mode(StrEnum):
    """How a server runs: for real, or as a development server whose civil clock can be moved."""

    SERVE = "serve"
    DEV = "dev"


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where repositories lie. Storages of one fault domain fail together."""

    name: str
    url: str
    """`file:///PATH` or `s3://BUCKET/PREFIX`."""
    fault_domain: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Endpoint and credentials of the storage; never shown."""


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Where resources are reached: how many movers may work there at once, and for which regions."""

    name: str
    concurrency: int = 4
    regions: tuple[str, ...] = ("*",)
    restore_concurrency: int = 2


@dataclass(frozen=True, slots=True)
class HostGrant:
    """One line of this host's own allow-list: what movers here may touch at all, whatever the API says."""

    url_prefix: str
    read: bool = True
    restore: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything configured about one installation."""

    data_dir: Path
    mode: Mode
    regions: Mapping[str, str]
    """Every region known here, by name, and the name of the storage that its vaults take."""
    storages: Mapping[str, StorageSettings]
    sites: Mapping[str, SiteSettings]
    host_grants: tuple[HostGrant, ...] = ()
    heartbeat: timedelta = timedelta(seconds=5)
    """How often a mover must be heard of; after four silent beats its job may be taken over."""
    default_region: str = "us-east-1"
    host_id: str = "holdfast"
    """Stands for this host in the locks of repositories; no two hosts that share a storage may have the same."""
    outgoing: Reach = field(default_factory=Reach)
    """Where Holdfast may send requests beside the public network."""
    authorities: Path | None = None
    """Certificates of authorities that other servers are trusted by, beside the system's own."""
    state_storage: str | None = None
    """The storage that copies of the control database go to; None where there are none."""
    state_every: timedelta = timedelta(hours=1)
    """How often the control database is copied."""
    jobs_listed_for: timedelta | None = None
    """How long after their creation AWS's lists of jobs show them; None, the default, is for ever. AWS's is 30 days."""
    own: tuple[str, ...] = ()
    """Holdfast's own places on this host, as URLs or absolute paths: never a source, never a target."""

    def storage_of(self, region: str) -> StorageSettings:
        """Return the storage that new vaults of `region` take."""
        return self.storages[self.regions[region]]

    def site_serves(self, site: str, region: str) -> bool:
        """Return whether `site` exists and belongs to `region`."""
        found = self.sites.get(site)
        return found is not None and (region in found.regions or "*" in found.regions)

    def site_for(self, region: str) -> str:
        """Return the site that restores into `region` use: the first that serves it."""
        return next(name for name in self.sites if self.site_serves(name, region))
