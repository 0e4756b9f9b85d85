"""Directory trees and single files on a site's disks: `file:///srv/www`.

Every file is of its own moment, so the consistency is `none`; what changed while it was read, vanished or could not be
read is a problem in the stream, never silent. Option `one-filesystem=true` (in the URL or the options) leaves out what
is mounted below.
"""

import os
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import cast

from holdfast.repository.chunk import ChunkClass
from holdfast.repository.entry import Content, Entry, Kept, Kind, Piece, Problem, UnreadableError
from holdfast.repository.filetree import WalkRules, walk_tree
from holdfast.repository.parent import ParentTree
from holdfast.source.confined import Identity, open_above, open_granted, own_identities
from holdfast.source.grant import Purpose
from holdfast.source.location import Location, location
from holdfast.source.protocol import (
    Consistency,
    OptionRefusedError,
    SourceAbortedError,
    SourceError,
    SourceIncompleteError,
    SourceReport,
    SourceSpec,
    SourceUnreadableError,
)

_OPTIONS = frozenset({"one-filesystem"})


class FileSource:
    """One tree or file that is being read."""

    def __init__(self, spec: SourceSpec) -> None:
        self._place = location(spec.url)
        self._one_filesystem = _one_filesystem(spec, self._place)
        self._spec = spec
        self._own = own_identities(spec.forbidden)
        self._guard = threading.Lock()
        self._aborted = threading.Event()
        self._walking = False
        self._complete = False
        self._found = 0
        self._lost = ""
        self._descriptor: int | None = None
        opened = self._open(self._place)
        self._status = os.fstat(opened)
        self._single = None if stat.S_ISDIR(self._status.st_mode) else self._place.path[-1]
        if self._single is None:
            self._descriptor = opened
            return
        # A single file is read as the one entry of its directory, so that it is opened and judged like any other.
        os.close(opened)
        self._descriptor = self._open_above()

    @property
    def consistency(self) -> Consistency:
        """Each file is of its own moment."""
        return Consistency.NONE

    @property
    def chunk_class(self) -> ChunkClass:
        """Files are cut as files."""
        return ChunkClass.FILE

    def entries(self, parent: ParentTree | None = None) -> Iterator[Entry | Problem]:
        """Yield what the tree holds; a single file is a tree with that one entry.

        Raises:
            SourceAbortedError: `abort` was called.
            SourceUnreadableError: the directory itself cannot be read.
        """
        with self._guard:
            if self._descriptor is None or self._walking or self._complete:
                raise SourceAbortedError("the source was let go of, or is being read already")
            self._walking = True
            descriptor = self._descriptor
        try:
            rules = WalkRules(one_filesystem=self._one_filesystem, exclude=self._excluded)
            walk = cast("Generator[Entry | Problem]", walk_tree(descriptor, parent=parent, rules=rules))
            with closing(walk):  # it holds descriptors of its own
                yield from self._watched(walk)
            self._complete = True
        except UnreadableError as error:
            raise SourceUnreadableError(f"{self._place.key}: {error}") from error
        finally:
            with self._guard:
                self._walking = False
            if self._aborted.is_set():
                self._let_go()

    def finish(self) -> SourceReport:
        """Prove that the whole tree was walked and that it is still the one that was opened.

        Raises:
            SourceIncompleteError: it was not, or is not.
        """
        if not self._complete:
            raise SourceIncompleteError(f"{self._place.key} was not read to its end")
        if self._lost:
            raise SourceIncompleteError(f"{self._place.key} could not be read: {self._lost}")
        if self._single is not None and not self._found:
            raise SourceIncompleteError(f"{self._place.key} vanished, or is no file any more")
        try:
            again = self._open(self._place)
        except SourceError as error:
            raise SourceIncompleteError(f"{self._place.key} went away while it was read: {error}") from error
        try:
            now = os.fstat(again)
        finally:
            os.close(again)
        if self._single is None and Identity(now.st_dev, now.st_ino) != self._identity:
            raise SourceIncompleteError(f"{self._place.key} was replaced while it was read (unmounted, or renamed)")
        self._let_go()
        return SourceReport(
            facts={"url": self._place.key, "entries": self._found, "single_file": self._single is not None},
            restore_metadata=self._restore_metadata(),
        )

    def abort(self) -> None:
        """Stop before the next entry; the descriptor is closed by whoever uses it last."""
        self._aborted.set()
        with self._guard:
            if self._walking:
                return
        self._let_go()

    def _watched(self, stream: Iterator[Entry | Problem]) -> Iterator[Entry | Problem]:
        """Stop when aborted, count, and leave out Holdfast's own directories, which a mount may show in the tree."""
        left_out: tuple[bytes, ...] | None = None
        for item in stream:
            if self._aborted.is_set():
                raise SourceAbortedError(f"reading {self._place.key} was given up")
            if left_out is not None and item.path[: len(left_out)] == left_out:
                continue
            if isinstance(item, Problem):
                if not item.path:
                    self._lost = item.what
                yield item
            elif item.kind is Kind.DIR and Identity(item.metadata.device, item.metadata.inode) in self._own:
                left_out = item.path
                yield Problem(item.path, "left out: a directory of Holdfast itself")
            elif self._single is None:
                self._found += 1
                yield item
            elif item.kind is Kind.FILE and item.content is not None:
                self._found += 1
                yield item._replace(content=self._proven(item.content))

    def _proven(self, content: Content | Kept) -> Content | Kept:
        """Notice when the one file there is cannot be read: then the source is lost, and not one file of many."""
        if isinstance(content, Kept):
            return content._replace(otherwise=_Proven(content.otherwise, self._lose))
        return _Proven(content, self._lose)

    def _lose(self, why: str) -> None:
        self._lost = why

    def _excluded(self, path: tuple[bytes, ...]) -> bool:
        return self._single is not None and path != (self._single,)

    @property
    def _identity(self) -> Identity:
        return Identity(self._status.st_dev, self._status.st_ino)

    def _open(self, place: Location) -> int:
        return open_granted(place, Purpose.READ, grants=self._spec.grants, forbidden=self._spec.forbidden)

    def _open_above(self) -> int:
        return open_above(self._place, forbidden=self._spec.forbidden)

    def _restore_metadata(self) -> dict[str, str]:
        found = {"newFileSystem": "true"}
        if self._single is None:
            # The root of a tree has no entry of its own, so what it looked like is said here.
            found["holdfast:root-mode"] = f"{stat.S_IMODE(self._status.st_mode):04o}"
            found["holdfast:root-owner"] = f"{self._status.st_uid}:{self._status.st_gid}"
            found["holdfast:root-mtime"] = str(self._status.st_mtime_ns)
        return found

    def _let_go(self) -> None:
        with self._guard:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Proven:
    """Content that tells when it cannot be read."""

    content: Content
    lose: Callable[[str], None]

    def read(self) -> Iterator[Piece]:
        """Yield the content."""
        try:
            yield from self.content.read()
        except UnreadableError as error:
            self.lose(str(error))
            raise


def _one_filesystem(spec: SourceSpec, place: Location) -> bool:
    options = {**place.options, **spec.own_options}
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise OptionRefusedError(f"{unknown[0]!r} is no option of a file source; known options: one-filesystem")
    value = options.get("one-filesystem", "false")
    if value not in ("true", "false"):
        raise OptionRefusedError(f"one-filesystem is true or false, not {value!r}")
    return value == "true"
