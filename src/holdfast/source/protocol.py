"""What a source must do to be backed up, what a target must do to be restored into, and what can go wrong with either.

A source is opened, gives its entries as one stream, and is finished or aborted. `finish` *proves* that the source
ended well, before a snapshot is written: a stream that merely stopped is never a success. A target is begun, filled,
and finished or aborted; abort removes only what the target itself made.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from holdfast.core.errors import (
    AlreadyExistsError,
    DeniedError,
    HoldfastError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from holdfast.core.settings import HostGrant
from holdfast.repository.chunk import ChunkClass
from holdfast.repository.entry import Entry, Problem
from holdfast.repository.parent import ParentTree


class SourceError(HoldfastError):
    """A source could not be read to its end, or a target not filled; the text says why and what to do."""

    retryable: ClassVar[bool] = False
    """Whether the same work may succeed a little later without anybody doing something about it."""


class SourceMissingError(SourceError, NotFoundError):
    """What should be read is not there."""


class SourceUnreadableError(SourceError):
    """What should be read is there, and may not or can not be read."""


class NotGrantedError(SourceError, DeniedError):
    """The host, or the management account, has not granted that this may be touched."""


class SecretRefusedError(SourceError, DeniedError):
    """The secret is missing, or the source does not accept it."""


class ToolMissingError(SourceError):
    """A program that is needed to read the source is not installed on this host, or is too old."""


class OptionRefusedError(SourceError, InvalidInputError):
    """An option, a URL or a restore's metadata says something that cannot be done."""


class SourceIncompleteError(SourceError):
    """The stream ended and the source did not end well: what was read is not all, and must not become a point."""


class SourceUnreachableError(SourceError, UnavailableError):
    """The server that holds the source does not answer, or went away."""

    retryable = True


class SourceBusyError(SourceError, UnavailableError):
    """The source is in use in a way that keeps it from being read now: a lock, a conflict, too many connections."""

    retryable = True


class SourceAbortedError(SourceError):
    """Reading was given up because `abort` was called."""


class TargetOccupiedError(SourceError, AlreadyExistsError):
    """What a restore would make exists already and is not empty; a restore never overwrites."""


class TargetFailedError(SourceError):
    """A restore went wrong, or what it made is not what the recovery point holds."""


class Consistency(StrEnum):
    """What the entries of one stream have to do with each other in time."""

    NONE = "none"
    """Each entry is of its own moment."""
    CRASH = "crash"
    """All of one instant, as after a power cut."""
    APPLICATION = "application"
    """All of one instant at which the application itself calls its data consistent."""


@dataclass(frozen=True, slots=True)
class SourceSecret:
    """A username and a password, handed to the connector and to nobody else."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """All that a connector is told about what it shall read or restore into."""

    url: str
    type: str
    """The resource type in AWS's words: `EFS`, `RDS`, ..."""
    secret: SourceSecret | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    """The connector's own options, by names that its module documents."""
    grants: tuple[HostGrant, ...] = ()
    """This host's own allow-list. Without a line that fits, nothing is touched."""
    forbidden: tuple[str, ...] = ()
    """Holdfast's own directories, as absolute paths, which no grant opens."""
    job: str = ""
    """The job's id, under which a server shows our connections."""
    tools: tuple[str, ...] = ()
    """Directories with client programs, looked through before the host's PATH."""
    certificates: str = ""
    """A file with the certificate authorities that servers are judged by; empty for the host's own."""

    @property
    def own_options(self) -> Mapping[str, str]:
        """The options without those of AWS's own, which begin with a capital and mean other types of resources."""
        return {name: value for name, value in self.options.items() if not name[:1].isupper()}


@dataclass(frozen=True, slots=True)
class SourceReport:
    """How a source ended, or what a restore made."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Versions, positions, counts: what the recovery point says about itself, JSON values only."""
    problems: tuple[Problem, ...] = ()
    """What is not in the stream although somebody may expect it, each with the reason."""
    restore_metadata: Mapping[str, str] = field(default_factory=dict)
    """What a restore of this should be started with, for somebody who has nothing to change."""


class Source(Protocol):
    """One opened source. Used by one thread; `abort` may come from any."""

    @property
    def consistency(self) -> Consistency:
        """What the entries have to do with each other in time."""
        ...

    @property
    def chunk_class(self) -> ChunkClass:
        """How the content is best cut."""
        ...

    def entries(self, parent: ParentTree | None = None) -> Iterator[Entry | Problem]:
        """Yield everything once, and what is missing of it, in the order that `repository.entry` asks for.

        `parent` is the last snapshot of the same resource, for sources that can tell what has not changed since.
        A file's content is read before the next entry is asked for.

        Raises:
            SourceError: the source cannot be read on.
        """
        ...

    def finish(self) -> SourceReport:
        """Prove that the stream was all there is, and let go of the source.

        Raises:
            SourceIncompleteError: it was not: an exit code, a missing end, entries that were never asked for.
        """
        ...

    def abort(self) -> None:
        """Let go of the source at once, leaving nothing running; may be called at any time and more than once."""
        ...


class PointReader(Protocol):
    """Read access to the recovery point that is being restored."""

    def names(self, directory: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the names in one directory of the point; none if there is no such directory."""
        ...

    def read(self, path: tuple[bytes, ...]) -> Iterator[bytes]:
        """Yield the content of one file of the point, each piece verified.

        Raises:
            NotFoundError: the point has no such file.
        """
        ...


@dataclass(frozen=True, slots=True)
class DirectoryLanding:
    """A restore of a tree: what was asked for goes into this directory, and nowhere else."""

    descriptor: int
    """An open descriptor of the directory, which stays open until the target is finished or aborted."""
    items: tuple[tuple[bytes, ...], ...] = ()
    """The paths in the point that are wanted, each with all it holds; none means everything."""


class StreamLanding(Protocol):
    """A restore that takes the point's content itself, in the order that it needs."""

    def fill(self, point: PointReader) -> None:
        """Read what is needed out of the point and bring it in.

        Raises:
            SourceError: it cannot be brought in.
        """
        ...


Landing = DirectoryLanding | StreamLanding


class Target(Protocol):
    """One place that a restore fills. Used by one thread; `abort` may come from any."""

    def begin(self) -> Landing:
        """Make the place where the restore lands, and say what kind of place it is.

        Raises:
            TargetOccupiedError: it exists and is not empty.
            NotGrantedError: a restore may not go there.
        """
        ...

    def finish(self) -> SourceReport:
        """Verify what was restored, keep it, and say what it is.

        Raises:
            TargetFailedError: it is not what the point holds.
        """
        ...

    def abort(self) -> None:
        """Remove what this target made, and only that; may be called at any time and more than once.

        From another thread it stops a stream that is being taken in, and forbids to finish; the thread that fills the
        target calls it again when it has stopped, and only then is a `DirectoryLanding` removed. What cannot be removed
        is logged.
        """
        ...
