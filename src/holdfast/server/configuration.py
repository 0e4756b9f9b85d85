"""The configuration file, read into `core.settings.Settings`. Every key is known, or it is an error that names it.

[server]             listen = "127.0.0.1:8420"   database = "sqlite:///control.db"   default_region = "eu-north-1"
                     jobs_listed_days = 30                      (after which AWS's lists of jobs leave one out)
[storage.NAME]       url = "file:///srv/vaults"   fault_domain = "house-1"   (and credentials of the storage)
[regions.NAME]       storage = "NAME"
[site.NAME]          concurrency = 4   regions = ["*"]
[[grant]]            url_prefix = "file:///srv"   read = true   restore = false
[outgoing]           allow = ["idp.example.internal", "10.1.0.0/16"]   authorities = "ca.pem"
[state]              storage = "NAME"   every_minutes = 60      (where copies of the control database go, how often)
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import botocore.session

from holdfast.core.errors import InvalidInputError
from holdfast.core.outgoing import Reach
from holdfast.core.settings import DEFAULT_STORAGE, LOCAL_SITE, HostGrant, Mode, Settings, SiteSettings, StorageSettings
from holdfast.server.data_directory import DataDirectory

DEFAULT_PORT: Final = 8420
_SERVER: Final = {
    "certificate",
    "database",
    "default_region",
    "heartbeat_seconds",
    "jobs_listed_days",
    "listen",
    "private_key",
}


class ConfigurationError(InvalidInputError):
    """The configuration file says something that makes no sense; the text names the place."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything a server is started with."""

    settings: Settings
    host: str
    port: int
    database_url: str
    certificate: Path | None = None
    private_key: Path | None = None


def aws_regions() -> list[str]:
    """Return the names of all regions of AWS, of every partition, as the SDK's own data lists them."""
    session = botocore.session.get_session()
    return sorted(
        {
            region
            for partition in session.get_available_partitions()
            for region in session.get_available_regions("backup", partition_name=partition, allow_non_regional=False)
        }
        | {"us-east-1"}
    )


def load_configuration(
    directory: DataDirectory,
    mode: Mode,
    *,
    host: str | None = None,
    port: int | None = None,
    grants: tuple[str, ...] = (),
) -> Configuration:
    """Return the configuration of a data directory, with what the command line says on top.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value in it makes no sense.
    """
    document = _read(directory.configuration)
    _only_known(document, {"server", "storage", "regions", "site", "grant", "outgoing", "state"}, "")
    server = _table(document, "server")
    _only_known(server, _SERVER, "server.")
    outgoing = _table(document, "outgoing")
    _only_known(outgoing, {"allow", "authorities"}, "outgoing.")
    storages = _storages(directory, _table(document, "storage"))
    regions = _regions(_table(document, "regions"), storages)
    default_region = str(server.get("default_region", "us-east-1"))
    if default_region not in regions:
        raise ConfigurationError(f"server.default_region names {default_region}, which is not among the regions")
    host_grants = tuple(_grant(entry) for entry in document.get("grant", []))
    if mode is Mode.DEV:
        host_grants += (HostGrant(directory.sandbox.resolve().as_uri()),)
    host_grants += tuple(HostGrant(_as_url(grant)) for grant in grants)
    listen_host, listen_port = _listen(str(server.get("listen", f"127.0.0.1:{DEFAULT_PORT}")))
    state = _table(document, "state")
    _only_known(state, {"storage", "every_minutes"}, "state.")
    settings = Settings(
        data_dir=directory.path,
        mode=mode,
        regions=regions,
        storages=storages,
        sites=_sites(_table(document, "site")),
        host_grants=host_grants,
        heartbeat=timedelta(seconds=float(server.get("heartbeat_seconds", 5))),
        default_region=default_region,
        jobs_listed_for=_listed_for(server.get("jobs_listed_days")),
        host_id=directory.host_id(),
        outgoing=_reach(outgoing.get("allow", [])),
        authorities=_path(directory, outgoing.get("authorities")),
        state_storage=_state_storage(state, storages, regions[default_region], mode),
        state_every=_state_every(state),
        own=directory.own(mode)
        + tuple(storage.url for storage in storages.values() if storage.url.startswith("file:")),
    )
    return Configuration(
        settings=settings,
        host=host or listen_host,
        port=listen_port if port is None else port,
        database_url=_database_url(directory, str(server.get("database", "sqlite:///control.db"))),
        certificate=_path(directory, server.get("certificate")),
        private_key=_path(directory, server.get("private_key")),
    )


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _only_known(table: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigurationError(f"{where}{unknown[0]} is no setting; known there: {', '.join(sorted(known))}")


def _table(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = document.get(name, {})
    if not isinstance(found, dict):
        raise ConfigurationError(f"{name} must be a table")
    return found


def _storages(directory: DataDirectory, table: Mapping[str, Any]) -> dict[str, StorageSettings]:
    if not table:
        url = directory.storage.resolve().as_uri()
        return {DEFAULT_STORAGE: StorageSettings(DEFAULT_STORAGE, url, fault_domain="this-machine")}
    storages = {}
    for name, body in table.items():
        if "url" not in body:
            raise ConfigurationError(
                f'storage.{name} needs a url, such as "file:///srv/vaults" or "s3://bucket/prefix"'
            )
        options = {key: _expanded(str(value), f"storage.{name}.{key}") for key, value in body.items()}
        url, fault_domain = options.pop("url"), options.pop("fault_domain", name)
        storages[name] = StorageSettings(name, url, fault_domain, options)
    return storages


def _expanded(value: str, where: str) -> str:
    # Secrets by reference: "env:NAME" or "file:/path".
    if value.startswith("env:"):
        found = os.environ.get(value.removeprefix("env:"))
        if found is None:
            raise ConfigurationError(f"{where} refers to the environment variable {value[4:]}, which is not set")
        return found
    if value.startswith("file:/") and not value.startswith("file://"):
        return Path(value.removeprefix("file:")).read_text(encoding="utf-8").strip()
    return value


def _regions(table: Mapping[str, Any], storages: Mapping[str, StorageSettings]) -> dict[str, str]:
    fallback = DEFAULT_STORAGE if DEFAULT_STORAGE in storages else next(iter(storages))
    regions = dict.fromkeys(aws_regions(), fallback)
    for name, body in table.items():
        _only_known(body, {"storage"}, f"regions.{name}.")
        storage = body.get("storage", fallback)
        if storage not in storages:
            raise ConfigurationError(f"regions.{name}.storage names {storage}, and there is no [storage.{storage}]")
        regions[name] = storage
    return regions


def _state_storage(
    table: Mapping[str, Any], storages: Mapping[str, StorageSettings], usual: str, mode: Mode
) -> str | None:
    """Return where states go: as configured, else to the default region's storage; in development nowhere."""
    if "storage" not in table:
        return usual if mode is Mode.SERVE or table else None
    if table["storage"] not in storages:
        raise ConfigurationError(
            f"state.storage names {table['storage']}, and there is no [storage.{table['storage']}]"
        )
    return str(table["storage"])


def _state_every(table: Mapping[str, Any]) -> timedelta:
    minutes = table.get("every_minutes", 60)
    if not isinstance(minutes, int | float) or isinstance(minutes, bool) or minutes < 1:
        raise ConfigurationError(f"state.every_minutes is {minutes!r}; give a number of minutes, 1 at least")
    return timedelta(minutes=minutes)


def _listed_for(days: Any) -> timedelta | None:
    if days is None:
        return None
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        raise ConfigurationError(
            f"server.jobs_listed_days is {days!r}; give a number of days, or leave it out for ever"
        )
    return timedelta(days=days)


def _sites(table: Mapping[str, Any]) -> dict[str, SiteSettings]:
    sites = {LOCAL_SITE: SiteSettings(LOCAL_SITE)}
    for name, body in table.items():
        _only_known(body, {"concurrency", "restore_concurrency", "regions"}, f"site.{name}.")
        sites[name] = SiteSettings(
            name,
            concurrency=int(body.get("concurrency", 4)),
            restore_concurrency=int(body.get("restore_concurrency", 2)),
            regions=tuple(body.get("regions", ("*",))),
        )
    return sites


def _grant(body: Mapping[str, Any]) -> HostGrant:
    _only_known(body, {"url_prefix", "read", "restore"}, "grant.")
    if "url_prefix" not in body:
        raise ConfigurationError('a [[grant]] needs a url_prefix, such as "file:///srv"')
    return HostGrant(str(body["url_prefix"]), bool(body.get("read", True)), bool(body.get("restore", False)))


def _as_url(grant: str) -> str:
    return grant if "://" in grant else Path(grant).resolve().as_uri()


def _listen(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not separator or not port.isdigit():
        raise ConfigurationError(f'server.listen is {text!r}; write it as "127.0.0.1:8420"')
    return host.strip("[]"), int(port)


def _reach(listed: Any) -> Reach:
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ConfigurationError('outgoing.allow is a list such as ["idp.example.internal", "10.1.0.0/16"]')
    try:
        return Reach.of(listed)
    except InvalidInputError as error:
        raise ConfigurationError(f"outgoing.allow: {error}") from error


def _path(directory: DataDirectory, value: str | None) -> Path | None:
    return None if value is None else directory.path / value


def _database_url(directory: DataDirectory, url: str) -> str:
    prefix = "sqlite:///"
    if url.startswith(prefix):
        return prefix + str((directory.path / url.removeprefix(prefix)).resolve())
    return url
