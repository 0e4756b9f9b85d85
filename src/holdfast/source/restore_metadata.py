"""What a restore is asked for, in the keys that clients of AWS Backup send for EFS and RDS.

Key names: AWS Backup Developer Guide, "Restore an Amazon EFS file system" and "Restore an RDS database"; Amazon RDS API
Reference, "RestoreDBInstanceFromDBSnapshot". Keys of our own begin with `holdfast:`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from holdfast.core.errors import InvalidStateError
from holdfast.repository.entry import InvalidEntryError, refuse_bad_name
from holdfast.source.location import Location, Scheme, location
from holdfast.source.protocol import OptionRefusedError

TARGET_URL: Final = "holdfast:target-url"
ROOT_MODE: Final = "holdfast:root-mode"
ROOT_OWNER: Final = "holdfast:root-owner"
ROOT_MTIME: Final = "holdfast:root-mtime"
_NEW: Final = "newFileSystem"
_EXISTING: Final = "file-system-id"
_ITEMS: Final = "ItemsToRestore"
_REQUEST: Final = "aws:backup:request-id"
_BOOLEAN: Final = ("true", "false")
# Accepted, because every client sends them, and without a meaning for a directory on a disk.
_WITHOUT_MEANING: Final = frozenset({"KmsKeyId", "CreationToken", "availabilityZoneName", _REQUEST})
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    _NEW: _BOOLEAN,
    "Encrypted": _BOOLEAN,
    "singleAzFilesystem": _BOOLEAN,
    "PerformanceMode": ("generalPurpose", "maxIO"),
}
_KNOWN: Final = _WITHOUT_MEANING | {*_CHOICES, TARGET_URL, ROOT_MODE, ROOT_OWNER, ROOT_MTIME, _EXISTING, _ITEMS}
MISSING_ROLES: Final = "createMissingRoles"
LOCALE: Final = "holdfast:locale"
SECRET_KEY: Final = "holdfast:secret-name"  # noqa: S105 - the key of a name
_IDENTIFIER_KEY: Final = "DBInstanceIdentifier"
_LATEST: Final = "UseLatestRestorableTime"
# Most describe a machine, and there is none to make here.
_DATABASE_WITHOUT_MEANING: Final = re.findall(
    r"\w+",
    """
    AllocatedStorage AutoMinorVersionUpgrade AvailabilityZone BackupRetentionPeriod BackupTarget
    CACertificateIdentifier CopyTagsToSnapshot CustomIamInstanceProfile DBInstanceClass DBName DBParameterGroupName
    DBSnapshotIdentifier DBSubnetGroupName DedicatedLogVolume DeletionProtection Domain DomainAuthSecretArn
    DomainDnsIps DomainFqdn DomainIAMRoleName DomainOu EnableCloudwatchLogsExports EnableCustomerOwnedIp
    EnableIAMDatabaseAuthentication Encrypted EngineLifecycleSupport EngineVersion Iops KmsKeyId LicenseModel
    MaxAllocatedStorage MultiAZ NetworkType OptionGroupName Port PreferredBackupWindow ProcessorFeatures
    PubliclyAccessible StorageThroughput StorageType UseDefaultProcessorFeatures VpcSecurityGroupIds vpcId
    """,
)
_DATABASE_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    MISSING_ROLES: _BOOLEAN,
    _LATEST: _BOOLEAN,
    "Engine": ("postgres",),
}
_DATABASE_KNOWN: Final = frozenset(_DATABASE_WITHOUT_MEANING) | {
    *_DATABASE_CHOICES,
    _REQUEST,
    TARGET_URL,
    SECRET_KEY,
    LOCALE,
    _IDENTIFIER_KEY,
    "RestoreTime",
}
_IDENTIFIER: Final = re.compile(r"[^\x00-\x1f/]{1,63}")
_MOST_ITEMS: Final = 5
_MOST_BYTES: Final = 200_000


class OptionMissingError(OptionRefusedError):
    """A restore's metadata lacks a key without which nobody knows where the restore shall go."""


class NotRestoredError(InvalidStateError):
    """Recovery points of this type are not restored by this release."""


@dataclass(frozen=True, slots=True)
class FileRestore:
    """One restore of a file tree, as asked for."""

    target: Location | None
    """The new directory to restore into; None to restore into an existing file system."""
    file_system_id: str | None
    """The existing file system, below whose directory a new one is made; None with a target."""
    items: tuple[tuple[bytes, ...], ...]
    """The paths that are wanted; none means everything."""
    root_mode: int | None = None
    root_owner: tuple[int, int] | None = None
    root_mtime_ns: int | None = None


def file_restore(metadata: Mapping[str, str]) -> FileRestore:
    """Return what the metadata of a restore asks for.

    Raises:
        OptionRefusedError: a key is unknown, a value makes no sense, or it is not clear where the restore shall go.
    """
    _refuse_keys("EFS", metadata, _KNOWN, _CHOICES)
    url = metadata.get(TARGET_URL)
    new = metadata.get(_NEW, "true" if url is not None else "false").lower()
    items = _items(metadata.get(_ITEMS))
    if new == "true":
        if url is None:
            raise OptionMissingError(
                f"a restore to a new file system needs {TARGET_URL}, the URL of a directory that does not exist yet, "
                "in a place that a site grant allows to restore into, such as file:///srv/restored/www"
            )
        target = location(url)
        if target.scheme is not Scheme.FILE:
            raise OptionRefusedError(f"{TARGET_URL} is a file:/// URL for file trees, not {url!r}")
        return FileRestore(target, None, items, _root_mode(metadata), _root_owner(metadata), _root_mtime(metadata))
    if url is not None:
        raise OptionRefusedError(f"{TARGET_URL} goes with newFileSystem true; leave one of the two out")
    if not metadata.get(_EXISTING):
        raise OptionMissingError(
            "a restore needs file-system-id, the file system below which a new directory is made, "
            f"or newFileSystem true and {TARGET_URL}"
        )
    return FileRestore(None, metadata[_EXISTING], items)


@dataclass(frozen=True, slots=True)
class DatabaseRestore:
    """One restore of a database, as asked for."""

    target: Location | None
    """The database to restore into; None to name it by `identifier` on the server that it came from."""
    identifier: str
    create_missing_roles: bool
    secret_name: str | None
    """The secret for the server that is restored to; None for the one of the resource."""
    locale: str | None
    """The locale of the new database where the recorded one does not exist on the server."""

    def place(self, original: Location) -> Location:
        """Return the database to restore into, given the one that was backed up."""
        if self.target is not None:
            return self.target
        return Location(original.scheme, original.host, original.port, (self.identifier.encode(),), original.options)


def database_restore(metadata: Mapping[str, str]) -> DatabaseRestore:
    """Return what the metadata of a restore asks for.

    Raises:
        OptionRefusedError: a key is unknown, a value makes no sense, or the new database has no name.
    """
    _refuse_keys("RDS", metadata, _DATABASE_KNOWN, _DATABASE_CHOICES)
    if metadata.get("RestoreTime") or metadata.get(_LATEST, "false").lower() == "true":
        raise OptionRefusedError(
            "this recovery point is one instant; leave RestoreTime and UseLatestRestorableTime out"
        )
    create = metadata.get(MISSING_ROLES, "false").lower()
    url, identifier = metadata.get(TARGET_URL), metadata.get(_IDENTIFIER_KEY, "")
    target = None if url is None else location(url)
    if target is not None and (target.scheme is not Scheme.POSTGRESQL or not target.path):
        raise OptionRefusedError(f"{TARGET_URL} names a database, as in postgresql://db.internal/shop_restored")
    if target is None and not identifier:
        raise OptionMissingError(
            f"a restore needs {_IDENTIFIER_KEY}, the new database's name on the same server, or {TARGET_URL}"
        )
    if target is None and not _IDENTIFIER.fullmatch(identifier):
        raise OptionRefusedError(
            f"{_IDENTIFIER_KEY} is a database's name of 1 to 63 characters without slashes, not {identifier!r}"
        )
    return DatabaseRestore(target, identifier, create == "true", metadata.get(SECRET_KEY), metadata.get(LOCALE))


RESTORED_TYPES: Final[Mapping[str, Callable[[Mapping[str, str]], FileRestore | DatabaseRestore]]] = {
    "EFS": file_restore,
    "RDS": database_restore,
}
"""The types whose recovery points are restored, each with what reads the metadata of such a restore."""


def refuse_bad_restore(type_name: str, metadata: Mapping[str, str]) -> None:
    """Refuse metadata that no later change in the world could make good.

    Raises:
        NotRestoredError: recovery points of this type are not restored.
        OptionMissingError: it does not say where the restore shall go.
        OptionRefusedError: a key is unknown, or a value makes no sense; the text names the key.
    """
    read = RESTORED_TYPES.get(type_name)
    if read is None:
        raise NotRestoredError(
            f"recovery points of type {type_name} are not restored by this release; "
            f"those of {' and '.join(RESTORED_TYPES)} are"
        )
    read(metadata)


def _refuse_keys(
    type_name: str, metadata: Mapping[str, str], known: frozenset[str], choices: Mapping[str, tuple[str, ...]]
) -> None:
    unknown = sorted(set(metadata) - known)
    if unknown:
        raise OptionRefusedError(
            f"{unknown[0]!r} is no key of a restore of type {type_name}; known keys: {', '.join(sorted(known))}"
        )
    if sum(len(key) + len(value) for key, value in metadata.items()) > _MOST_BYTES:
        raise OptionRefusedError(f"the metadata of a restore has at most {_MOST_BYTES} characters")
    for key, allowed in choices.items():
        value = metadata.get(key)
        if value is not None and value not in allowed and not (allowed == _BOOLEAN and value.lower() in _BOOLEAN):
            raise OptionRefusedError(f"{key} is {' or '.join(allowed)}, not {value!r}")


def directory_name(at: datetime) -> bytes:
    """Return the name of the directory that a restore into an existing file system makes."""
    return f"aws-backup-restore_{at.astimezone(UTC):%Y-%m-%dT%H-%M-%S}-{at.microsecond // 1000:03d}Z".encode()


def _items(text: str | None) -> tuple[tuple[bytes, ...], ...]:
    if not text:
        return ()
    try:
        paths = json.loads(text)
    except ValueError as error:
        raise OptionRefusedError(f'ItemsToRestore is a JSON array of paths, such as ["/a/b"], not {text!r}') from error
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise OptionRefusedError('ItemsToRestore is a JSON array of paths, such as ["/a/b"]')
    if len(paths) > _MOST_ITEMS:
        raise OptionRefusedError(f"ItemsToRestore names at most {_MOST_ITEMS} paths, not {len(paths)}")
    return tuple(_item(path) for path in paths)


def _item(path: str) -> tuple[bytes, ...]:
    # Surrogate escapes let a client name bytes that are no UTF-8, the way Python spells them.
    try:
        parts = tuple(part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part)
        for part in parts:
            refuse_bad_name(part)
    except (UnicodeEncodeError, InvalidEntryError) as error:
        raise OptionRefusedError(f"{path!r} in ItemsToRestore is not a path in a recovery point: {error}") from error
    if not parts:
        raise OptionRefusedError("ItemsToRestore names the root; leave it out to restore everything")
    return parts


def _root_mode(metadata: Mapping[str, str]) -> int | None:
    text = metadata.get(ROOT_MODE)
    if text is None:
        return None
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o7777:  # noqa: PLR2004 - the permission bits
        raise OptionRefusedError(f"{ROOT_MODE} is permission bits in octal, such as 0755, not {text!r}")
    return mode


def _root_owner(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    text = metadata.get(ROOT_OWNER)
    if text is None:
        return None
    uid, colon, gid = text.partition(":")
    if not (colon and uid.isdigit() and gid.isdigit() and max(int(uid), int(gid)) < 2**32 - 1):
        raise OptionRefusedError(f"{ROOT_OWNER} is two numbers, such as 33:33, not {text!r}")
    return int(uid), int(gid)


def _root_mtime(metadata: Mapping[str, str]) -> int | None:
    text = metadata.get(ROOT_MTIME)
    if text is None:
        return None
    if not re.fullmatch(r"-?[0-9]{1,19}", text):
        raise OptionRefusedError(f"{ROOT_MTIME} is nanoseconds since 1970, not {text!r}")
    return int(text)
