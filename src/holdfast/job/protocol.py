"""What a supervisor and a mover say to each other: frozen values, each a line of JSON.

A mover has no database, no root key and no standing credential. It is told which host it is on (by the process there
that keeps movers), then gets one ticket after another. While it works it says how far it is; before it writes the
snapshot it asks, and waits for a fresh answer; at the end it brings a result or a failure. The same lines travel over
a pipe to a local mover and over HTTPS to one at another site: no shared memory, no file handles, no order of calls.
"""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any, Final

import orjson

from holdfast.core.errors import InvalidInputError
from holdfast.core.settings import HostGrant
from holdfast.job.model import Category, Fault, Kind

VERSION: Final = 1
"""Raised when a line changes its meaning; a mover of another version gets no ticket."""

LONGEST_LINE: Final = 8 << 20


class ProtocolError(InvalidInputError):
    """A line that came over is none of ours."""


# What a mover is told


@dataclass(frozen=True, slots=True)
class Host:
    """The host that a mover runs on, as its own configuration has it; no ticket can widen this."""

    name: str
    """Stands for this host in the locks of repositories."""
    grants: tuple[HostGrant, ...] = ()
    forbidden: tuple[str, ...] = ()
    """Holdfast's own directories here, as absolute paths, which no grant opens."""
    tools: tuple[str, ...] = ()
    """Directories with client programs, looked through before the host's PATH."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A username and a password for the source."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RepositoryAccess:
    """All that is needed to open the one repository of this job."""

    storage_url: str
    path: str
    password: str = field(repr=False)
    storage_options: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """What is read, or where a restore goes."""

    url: str
    type: str
    """The resource type in AWS's words: `EFS`, `RDS`, ..."""
    secret: Secret | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    grants: tuple[HostGrant, ...] = ()
    """What the management account lets this account touch at the site; the host's own list decides besides."""


@dataclass(frozen=True, slots=True)
class BackupWork:
    """Read a source into the repository."""

    source: Place
    parent_snapshot: str | None = None
    """The last snapshot of the same resource."""
    bytes_expected: int = 0
    read_bytes_per_second: int = 0
    """0: as fast as it goes."""
    adopt_epoch: int | None = None
    """The run that had been allowed to write its snapshot: if it did, that one is taken and nothing is read again."""


@dataclass(frozen=True, slots=True)
class RestoreWork:
    """Write what a snapshot holds into a target."""

    snapshot: str
    target: Place
    metadata: Mapping[str, str]
    asked_at: datetime
    bytes_expected: int = 0


@dataclass(frozen=True, slots=True)
class CopyWork:
    """Copy a snapshot of another repository into this ticket's."""

    source: RepositoryAccess
    snapshot: str
    bytes_expected: int = 0
    read_bytes_per_second: int = 0
    """0: as fast as it goes."""
    adopt_epoch: int | None = None
    """As for `BackupWork`."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """One job's run: what to do, and all that is needed for it, ending with its epoch."""

    job_id: str
    epoch: int
    kind: Kind
    account: str
    resource_arn: str
    repository: RepositoryAccess
    at: datetime
    """Civil time of the run, which the snapshot bears."""
    beat: timedelta
    """How often both sides say something."""
    silence: timedelta
    """A mover that has not heard its supervisor for so long stops by itself."""
    backup: BackupWork | None = None
    restore: RestoreWork | None = None
    copy: CopyWork | None = None
    recovery_point_id: str | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        """What the snapshot is tagged with, so that storage alone says which run of which job made it."""
        return (
            f"holdfast:recovery-point={self.recovery_point_id}",
            f"holdfast:job={self.job_id}",
            f"holdfast:epoch={self.epoch}",
            f"holdfast:resource={self.resource_arn}",
        )


@dataclass(frozen=True, slots=True)
class Continue:
    """The supervisor is there, and the epoch still counts."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The snapshot of this run, and of no other, may be written now."""

    job_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Give the work up and leave nothing half done."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """There are no more tickets."""


# What a mover says


@dataclass(frozen=True, slots=True)
class Hello:
    """A mover is there and waits for a ticket."""

    version: int
    process: int


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """How far the work is."""

    bytes_done: int = 0
    bytes_total: int = 0
    bytes_stored: int = 0
    items_done: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is not in the snapshot, or not restored, as it should be."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Problems:
    """Some of the troubles there were; more may follow."""

    troubles: tuple[Trouble, ...]


@dataclass(frozen=True, slots=True)
class Brought:
    """What a run brought home, or is about to."""

    consistency: str = "none"
    facts: Mapping[str, Any] = field(default_factory=dict)
    restore_metadata: Mapping[str, str] = field(default_factory=dict)
    files: int = 0
    dirs: int = 0
    others: int = 0
    bytes_total: int = 0
    bytes_read: int = 0
    bytes_stored: int = 0
    problems: int = 0
    """How many there were in all; `Problems` brings at most so many."""


@dataclass(frozen=True, slots=True)
class ReadyToCommit:
    """The source has proved that it ended well, everything is stored: may the snapshot be written?"""

    brought: Brought
    adopting: bool = False
    """Whether the snapshot is there already, written by the run that `BackupWork.adopt_epoch` names."""


@dataclass(frozen=True, slots=True)
class Result:
    """The work is done."""

    brought: Brought
    snapshot_id: str | None = None
    adopted: bool = False
    """Whether the snapshot is that of an earlier run, whose own words then count; `brought` is empty."""
    created_resource: str | None = None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The work was stopped because the supervisor said so, or said nothing for too long; nothing was committed."""

    reason: str


@dataclass(frozen=True, slots=True)
class WentWrong:
    """The work could not be done; nothing was committed."""

    reason: str
    retryable: bool
    category: Category
    fault: Fault = Fault.NOTHING


ToMover = Host | Ticket | Continue | Commit | Stop | Goodbye
FromMover = Hello | ProgressMade | Problems | ReadyToCommit | Result | GaveUp | WentWrong

_TO_MOVER: Final = {kind.__name__: kind for kind in typing.get_args(ToMover)}
_FROM_MOVER: Final = {kind.__name__: kind for kind in typing.get_args(FromMover)}


def encode(message: ToMover | FromMover) -> bytes:
    """Return a message as one line, with its end.

    Raises:
        ProtocolError: it is longer than a line may be.
    """
    line = orjson.dumps({"say": type(message).__name__, **_plain(message)}) + b"\n"
    if len(line) > LONGEST_LINE:
        raise ProtocolError(f"a {type(message).__name__} of {len(line)} bytes is longer than a line may be")
    return line


def to_mover(line: bytes) -> ToMover:
    """Return what a supervisor said.

    Raises:
        ProtocolError: it is none of the messages that a mover is told.
    """
    message: ToMover = _decode(line, _TO_MOVER)
    return message


def from_mover(line: bytes) -> FromMover:
    """Return what a mover said.

    Raises:
        ProtocolError: it is none of the messages that a mover says.
    """
    message: FromMover = _decode(line, _FROM_MOVER)
    return message


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case datetime():
            return value.isoformat()
        case StrEnum():
            return value.value
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case _ if is_dataclass(value):
            return {part.name: _plain(getattr(value, part.name)) for part in fields(value)}
        case _:
            return value


def _decode(line: bytes, known: Mapping[str, type]) -> Any:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ProtocolError(f"a line is not JSON: {line[:80]!r}") from error
    if not isinstance(value, dict):
        raise ProtocolError("a line is no JSON object")
    kind = known.get(value.pop("say", None)) if isinstance(value.get("say"), str) else None
    if kind is None:
        raise ProtocolError(f"a line says nothing that is known here: {line[:80]!r}")
    return _build(kind, value, kind.__name__)


@cache
def _types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(wanted: Any, value: Any, where: str) -> Any:
    """Return `value` as the type that a message's member has; unknown members are ignored, wrong ones refused."""
    if is_dataclass(wanted) and isinstance(wanted, type):
        if not isinstance(value, dict):
            raise ProtocolError(f"{where} is no object")
        given = {
            part.name: _build(_types(wanted)[part.name], value[part.name], f"{where}.{part.name}")
            for part in fields(wanted)
            if part.name in value
        }
        try:
            return wanted(**given)
        except TypeError as error:
            raise ProtocolError(f"{where} lacks something: {error}") from error
    origin, parameters = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is types.UnionType:
        if value is None and type(None) in parameters:
            return None
        return _build(next(kind for kind in parameters if kind is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ProtocolError(f"{where} is no list")
        return tuple(_build(parameters[0], item, where) for item in value)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise ProtocolError(f"{where} is no object")
        return {name: _build(parameters[1], item, f"{where}.{name}") for name, item in value.items()}
    return _scalar(wanted, value, where)


def _scalar(wanted: Any, value: Any, where: str) -> Any:
    if wanted is Any:
        return value
    try:
        if wanted is timedelta and isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
        if wanted is datetime and isinstance(value, str):
            at = datetime.fromisoformat(value)
            if at.tzinfo is not None:
                return at
        if isinstance(wanted, type) and issubclass(wanted, StrEnum) and isinstance(value, str):
            return wanted(value)
    except (ValueError, OverflowError) as error:
        raise ProtocolError(f"{where} is not right: {error}") from error
    if wanted in (str, int, bool) and type(value) is wanted:
        return value
    raise ProtocolError(f"{where} is {value!r:.80}, which is no {getattr(wanted, '__name__', wanted)}")
