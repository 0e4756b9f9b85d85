"""Entries and repositories for tests, with everything that is not the point filled in."""

from tests.repository.conftest import NOON, PASSWORD

from holdfast.repository.entry import BytesContent, Entry, Kind, Metadata
from holdfast.repository.repository import Repository
from holdfast.repository.storage import MemoryStorage, Storage


def a_file(*path: bytes, content: bytes = b"content") -> Entry:
    return Entry(path, Kind.FILE, Metadata(mtime_ns=int(NOON.timestamp()) * 10**9), BytesContent(content))


def a_directory(*path: bytes) -> Entry:
    return Entry(path, Kind.DIR, Metadata(mode=0o755))


def a_repository(storage: Storage | None = None) -> Repository:
    return Repository.create(storage or MemoryStorage(), PASSWORD, host_id="a-host", at=NOON)
