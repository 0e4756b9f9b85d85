"""The work itself, inside a mover: a source into a repository, a snapshot into another repository or into a target."""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from holdfast.core.clock import MachineTime
from holdfast.core.errors import (
    ConflictError,
    DamagedError,
    DeniedError,
    HoldfastError,
    NotFoundError,
    UnavailableError,
)
from holdfast.core.settings import HostGrant
from holdfast.job.fault import fault_of
from holdfast.job.model import Category
from holdfast.job.protocol import (
    BackupWork,
    Brought,
    CopyWork,
    Host,
    Place,
    ProgressMade,
    RestoreWork,
    Result,
    Ticket,
    Trouble,
    WentWrong,
)
from holdfast.job.repositories import open_repository
from holdfast.job.run import Run
from holdfast.repository.entry import Kind, Problem, path_text
from holdfast.repository.key_file import NoRepositoryError, WrongPasswordError
from holdfast.repository.pack import BlobKind
from holdfast.repository.parent import ParentTree
from holdfast.repository.repository import Repository
from holdfast.repository.restore import Existing, Restored, RestoreProgress
from holdfast.repository.snapshot import Snapshot, SnapshotNotFoundError
from holdfast.repository.writer import Limits, Progress, SnapshotWriter
from holdfast.source.location import place
from holdfast.source.protocol import (
    DirectoryLanding,
    NotGrantedError,
    OptionRefusedError,
    SecretRefusedError,
    SourceError,
    SourceMissingError,
    SourceSecret,
    SourceSpec,
    Target,
    TargetOccupiedError,
    ToolMissingError,
)
from holdfast.source.registry import open_source, open_target


class ItemMissingError(NotFoundError):
    """Nothing of what shall be restored is in the recovery point."""


def back_up(run: Run, work: BackupWork, host: Host, machine: MachineTime) -> Result:
    """Read the source into the repository and write the snapshot, if the supervisor lets us.

    Raises:
        GivenUpError: it does not, or the run was told to stop.
        HoldfastError: the source, the repository or the storage could not be used to the end.
    """
    ticket = run.ticket
    repository = open_repository(ticket.repository, host, machine)
    repository.unlock()  # a mover that was killed here could not let go of its lock
    adopted = None if work.adopt_epoch is None else _left_by(repository, ticket, work.adopt_epoch)
    if adopted is not None:
        return _adopt(run, adopted)
    source = open_source(_spec(work.source, ticket.job_id, host))
    run.on_giving_up(source.abort)
    try:
        with repository.begin(
            hostname=ticket.account,
            chunk_class=source.chunk_class,
            limits=Limits(read_bytes_per_second=work.read_bytes_per_second),
            progress=lambda progress: _report(run, work.bytes_expected, progress),
            cancelled=run.is_given_up,
        ) as writer:
            parent, parent_id = _parent(repository, writer, work.parent_snapshot)
            for item in source.entries(parent):
                writer.add(item)
            run.refuse_if_given_up()
            tree = writer.finish_tree()
            ended = source.finish()
            problems = (*tree.problems, *ended.problems)
            run.say_troubles(_troubles(problems))
            brought = replace(
                _brought(tree.progress),
                consistency=str(source.consistency),
                facts=ended.facts,
                restore_metadata=ended.restore_metadata,
                problems=len(problems),
            )
            written = writer.commit(
                at=ticket.at,
                tags=ticket.tags,
                paths=[work.source.url],
                parent=parent_id,
                before_snapshot=lambda: run.ask(brought),
            )
            return Result(brought, snapshot_id=written.snapshot_id)
    finally:
        source.abort()


def copy(run: Run, work: CopyWork, host: Host, machine: MachineTime) -> Result:
    """Copy the snapshot into the repository, sending only what is missing there, if the supervisor lets us.

    Raises:
        GivenUpError: it does not, or the run was told to stop.
        HoldfastError: one of the repositories or storages could not be used to the end.
    """
    ticket = run.ticket
    repository = open_repository(ticket.repository, host, machine)
    source = open_repository(work.source, host, machine)
    for one in (repository, source):
        one.unlock()
    adopted = None if work.adopt_epoch is None else _left_by(repository, ticket, work.adopt_epoch)
    if adopted is not None:
        return _adopt(run, adopted)
    snapshot = source.snapshot(work.snapshot)
    with (
        source.reading() as reader,
        repository.begin(
            hostname=snapshot.hostname,
            limits=Limits(read_bytes_per_second=work.read_bytes_per_second),
            progress=lambda progress: _report(run, work.bytes_expected, progress),
            cancelled=run.is_given_up,
        ) as writer,
    ):
        tree = writer.copy_tree(reader, snapshot.tree)
        brought = _brought(tree.progress)
        written = writer.commit(
            at=snapshot.at,
            tags=ticket.tags,
            paths=snapshot.paths,
            username=snapshot.username,
            original=snapshot.original or snapshot.id,
            before_snapshot=lambda: run.ask(brought),
        )
    return Result(brought, snapshot_id=written.snapshot_id)


def _adopt(run: Run, left: Snapshot) -> Result:
    run.ask(Brought(), adopting=True)
    return Result(Brought(), snapshot_id=left.id, adopted=True)


def _report(run: Run, expected: int, progress: Progress) -> None:
    run.progress = ProgressMade(
        bytes_done=progress.bytes_total,
        bytes_total=max(expected, progress.bytes_total),
        bytes_stored=progress.bytes_stored,
        items_done=progress.files + progress.dirs + progress.others,
    )


def _brought(done: Progress) -> Brought:
    return Brought(
        files=done.files,
        dirs=done.dirs,
        others=done.others,
        bytes_total=done.bytes_total,
        bytes_read=done.bytes_read,
        bytes_stored=done.bytes_stored,
    )


def _left_by(repository: Repository, ticket: Ticket, epoch: int) -> Snapshot | None:
    """Return the snapshot that an earlier run of this very job wrote, and of which no row could tell any more."""
    wanted = {f"holdfast:job={ticket.job_id}", f"holdfast:epoch={epoch}"}
    return next((one for one in repository.snapshots() if wanted <= set(one.tags)), None)


def _parent(
    repository: Repository, writer: SnapshotWriter, snapshot_id: str | None
) -> tuple[ParentTree | None, str | None]:
    if snapshot_id is None:
        return None, None
    try:
        return repository.parent(snapshot_id, writer.index), snapshot_id
    except (SnapshotNotFoundError, DamagedError):
        return None, None  # then everything is read, which is slower and as right


def restore(run: Run, work: RestoreWork, host: Host, machine: MachineTime) -> Result:
    """Write what the snapshot holds into the target, and move it into place if the supervisor lets us.

    Raises:
        GivenUpError: it does not, or the run was told to stop; what was made is removed.
        HoldfastError: the target, the repository or the storage could not be used to the end.
    """
    ticket = run.ticket
    repository = open_repository(ticket.repository, host, machine)
    repository.unlock()
    with ExitStack() as stack:
        # While it is held, nothing is swept away that the target has yet to read.
        stack.enter_context(repository.locked_for_reading())
        point = _Point(repository, repository.snapshot(work.snapshot), run)
        run.progress = ProgressMade(bytes_total=work.bytes_expected)
        target = open_target(_spec(work.target, ticket.job_id, host), work.metadata, at=work.asked_at)
        run.on_giving_up(lambda: run.undo(target.abort))
        try:
            restored = _fill(run, work, repository, point, target)
            run.refuse_if_given_up()
            run.ask(Brought())
            ended = target.finish()
        except BaseException:
            run.undo(target.abort)
            raise
    problems = (*(() if restored is None else restored.problems), *ended.problems)
    run.say_troubles(_troubles(problems))
    brought = Brought(
        facts=ended.facts,
        files=0 if restored is None else restored.files,
        dirs=0 if restored is None else restored.dirs,
        others=0 if restored is None else restored.others,
        bytes_total=point.bytes_read if restored is None else restored.bytes_written,
        bytes_read=point.bytes_read if restored is None else restored.bytes_written,
        problems=len(problems),
    )
    return Result(brought, created_resource=_text(ended.facts.get("restored_to")))


def _fill(run: Run, work: RestoreWork, repository: Repository, point: "_Point", target: Target) -> Restored | None:
    landing = target.begin()
    if isinstance(landing, DirectoryLanding):
        return _restore_tree(run, work, repository, point, landing)
    landing.fill(point)
    return None


def _restore_tree(
    run: Run, work: RestoreWork, repository: Repository, point: "_Point", landing: DirectoryLanding
) -> Restored:
    if landing.items and not any(point.holds(item) for item in landing.items):
        missing = ", ".join(path_text(item) for item in landing.items)
        raise ItemMissingError(f"the recovery point holds nothing at {missing}; nothing was restored")

    def report(progress: RestoreProgress) -> None:
        run.progress = ProgressMade(
            bytes_done=progress.bytes_written,
            bytes_total=max(work.bytes_expected, progress.bytes_written),
            items_done=progress.files + progress.dirs + progress.others,
        )

    return repository.restore(
        work.snapshot,
        landing.descriptor,
        include=[_pattern(item) for item in landing.items],
        existing=Existing.REFUSE,
        progress=report,
        cancelled=run.is_given_up,
    )


def _pattern(path: tuple[bytes, ...]) -> str:
    """Return the pattern that takes this path; a byte that is no text is matched by any byte."""
    return "/" + "/".join(
        re.sub(r"[*?[]", r"[\g<0>]", name.decode("utf-8", "surrogateescape")).translate(_ANY_BYTE) for name in path
    )


_ANY_BYTE: Final = {0xDC00 + byte: "?" for byte in range(128, 256)}


class _Point:
    """What a target may read of the recovery point, with an eye on how much it has read and whether it may go on."""

    def __init__(self, repository: Repository, snapshot: Snapshot, run: Run) -> None:
        self._run = run
        self._reader = repository.reader()
        self._root = snapshot.tree
        self._tree = ParentTree(self._reader, snapshot.tree)
        self.bytes_read = 0

    def holds(self, path: tuple[bytes, ...]) -> bool:
        """Return whether there is anything at `path`."""
        return self._tree.find(path) is not None

    def names(self, directory: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the names in one directory of the point; none if there is no such directory."""
        node = self._tree.find(directory)
        tree = self._root if not directory else None if node is None else node.subtree
        return () if tree is None else tuple(child.name for child in self._reader.tree(tree))

    def read(self, path: tuple[bytes, ...]) -> Iterator[bytes]:
        """Yield the content of one file of the point, each piece verified.

        Raises:
            ItemMissingError: the point has no such file.
            GivenUpError: the work has to end.
        """
        node = self._tree.find(path)
        if node is None or node.kind is not Kind.FILE:
            raise ItemMissingError(f"the recovery point has no file {path_text(path)}")
        for blob in node.content or ():
            piece = bytes(self._reader.read(BlobKind.DATA, blob))
            self._run.refuse_if_given_up()
            self.bytes_read += len(piece)
            self._run.progress = replace(self._run.progress, bytes_done=self.bytes_read)
            yield piece


def _spec(wanted: Place, job_id: str, host: Host) -> SourceSpec:
    secret = None if wanted.secret is None else SourceSecret(wanted.secret.username, wanted.secret.password)
    return SourceSpec(
        url=wanted.url,
        type=wanted.type,
        secret=secret,
        options=wanted.options,
        grants=narrowed(host.grants, wanted.grants),
        forbidden=host.forbidden,
        job=job_id,
        tools=host.tools,
    )


def narrowed(host: Sequence[HostGrant], account: Sequence[HostGrant]) -> tuple[HostGrant, ...]:
    """Return what both the host's own list and the grants for the account allow."""
    both: list[HostGrant] = []
    for ours in host:
        for theirs in account:
            here, there = place(ours.url_prefix), place(theirs.url_prefix)
            if here.contains(there):
                narrow = theirs.url_prefix
            elif there.contains(here):
                narrow = ours.url_prefix
            else:
                continue
            both.append(HostGrant(narrow, ours.read and theirs.read, ours.restore and theirs.restore))
    return tuple(both)


def _troubles(problems: Sequence[Problem]) -> list[Trouble]:
    return [Trouble(path_text(problem.path), problem.what) for problem in problems]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


_CATEGORIES: Final[tuple[tuple[type[Exception], Category], ...]] = (
    (NotGrantedError, Category.ACCESS_DENIED),
    (SecretRefusedError, Category.ACCESS_DENIED),
    (SourceMissingError, Category.RESOURCE_NOT_FOUND),
    (ToolMissingError, Category.RESOURCE_NOT_SUPPORTED),
    (OptionRefusedError, Category.UNSUPPORTED_OPERATION),
    (TargetOccupiedError, Category.INVALID_STATE),
    (WrongPasswordError, Category.KMS_KEY_ERROR),
    (NoRepositoryError, Category.RESOURCE_NOT_FOUND),
    (NotFoundError, Category.RESOURCE_NOT_FOUND),
    (DeniedError, Category.ACCESS_DENIED),
)


def went_wrong(error: Exception) -> WentWrong:
    """Return what a failure means for the job."""
    category = next((category for kind, category in _CATEGORIES if isinstance(error, kind)), Category.FATAL_ERROR)
    fault = fault_of(error)
    match error:
        case SourceError():
            return WentWrong(str(error), error.retryable, category, fault)
        case UnavailableError() | ConflictError():
            return WentWrong(str(error), retryable=True, category=category, fault=fault)
        case HoldfastError():
            return WentWrong(str(error), retryable=False, category=category, fault=fault)
        case OSError():
            return WentWrong(f"the mover's host refused: {error}", retryable=True, category=category)
        case _:
            return WentWrong(
                f"the mover met something that nobody foresaw ({type(error).__name__}); its log says more",
                retryable=True,
                category=category,
            )
