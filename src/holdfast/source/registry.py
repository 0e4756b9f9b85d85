"""Which connector reads or fills which kind of URL."""

from collections.abc import Mapping
from datetime import datetime

from holdfast.source.file import FileSource
from holdfast.source.file_target import FileTarget
from holdfast.source.location import Scheme, location
from holdfast.source.postgresql.source import PostgresqlSource
from holdfast.source.postgresql.target import PostgresqlTarget
from holdfast.source.protocol import Source, SourceSpec, Target


def open_source(spec: SourceSpec) -> Source:
    """Return the opened source that `spec` describes.

    Raises:
        SourceError: it cannot be opened; the text says why and what to do.
    """
    match location(spec.url).scheme:
        case Scheme.FILE:
            return FileSource(spec)
        case Scheme.POSTGRESQL:
            return PostgresqlSource(spec)


def open_target(spec: SourceSpec, metadata: Mapping[str, str], *, at: datetime) -> Target:
    """Return the place that a restore with this metadata fills; `at` is when the restore was asked for.

    Raises:
        SourceError: it cannot be restored there; the text says why and what to do.
    """
    match location(spec.url).scheme:
        case Scheme.FILE:
            return FileTarget(spec, metadata, at=at)
        case Scheme.POSTGRESQL:
            return PostgresqlTarget(spec, metadata)
