"""Opening a place on disk so that it is really the place that was granted.

The path is walked part by part from the root, and no part may be a symbolic link, so what is open at the end has the
name that was compared with the grants. Each directory passed is also compared, by device and inode, with Holdfast's
own, since a mount can show a directory under a second name.
"""

import errno
import os
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from holdfast.core.settings import HostGrant
from holdfast.source.grant import Purpose, refuse_own, refuse_unless_host_allows
from holdfast.source.location import Location, Scheme, file_location, place
from holdfast.source.protocol import (
    NotGrantedError,
    SourceError,
    SourceMissingError,
    SourceUnreadableError,
    TargetOccupiedError,
)

_PASS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


# One look at a time: a hung file system then costs one thread and one short wait, not one for each caller.
_looking = threading.Lock()
_LONGEST_LOOK_SECONDS = 0.5


class Identity(NamedTuple):
    """What a file is, whatever it is called."""

    device: int
    inode: int


def own_places(forbidden: Iterable[str]) -> tuple[Location, ...]:
    """Return the locations of Holdfast's own directories and databases, under each name that they have."""
    places = []
    for text in forbidden:
        own = place(text)
        places.append(own)
        if text.startswith("/"):
            places.append(file_location(os.path.realpath(os.fsencode(text))))
    return tuple(dict.fromkeys(places))


def own_identities(forbidden: Iterable[str]) -> frozenset[Identity]:
    """Return what Holdfast's own directories are, as far as they exist."""
    found = set()
    for text in forbidden:
        if text.startswith("/"):
            try:
                status = Path(text).stat()
            except OSError:
                continue
            found.add(Identity(status.st_dev, status.st_ino))
    return frozenset(found)


def open_granted(
    wanted: Location, purpose: Purpose, *, grants: Iterable[HostGrant], forbidden: Iterable[str], tree: bool = False
) -> int:
    """Return a descriptor, open for reading, of the granted directory or file `wanted`; of a directory only if `tree`.

    Raises:
        NotGrantedError: the host does not grant it, or a part of its path is a link.
        SourceMissingError: it does not exist, or is neither a directory nor a file.
        SourceUnreadableError: this process may not open it.
    """
    forbidden = tuple(forbidden)
    refuse_own(wanted, own_places(forbidden))
    refuse_unless_host_allows(wanted, purpose, grants)
    passed = _walk(wanted, own_identities(forbidden))
    try:
        mode = os.fstat(passed).st_mode
        if tree and not stat.S_ISDIR(mode):
            raise SourceMissingError(f"{wanted.key} is not a directory")
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise SourceMissingError(
                f"{wanted.key} is neither a directory nor a file, so it cannot be backed up as one"
            )
        opened = _reopen(passed, wanted, directory=stat.S_ISDIR(mode))
    finally:
        os.close(passed)
    try:
        _refuse_moved(opened, wanted)
    except BaseException:
        os.close(opened)
        raise
    return opened


def refuse_links(wanted: Location) -> None:
    """Refuse a place on this host's disks whose path leads through a link, as far as that can be told at once.

    A mover refuses it in any case, when it opens the place. A file system that does not answer is not waited for.

    Raises:
        NotGrantedError: a part of the path is a link.
    """
    if wanted.scheme is not Scheme.FILE or not _looking.acquire(blocking=False):
        return
    found: list[NotGrantedError] = []
    looked = threading.Event()

    def look() -> None:
        try:
            os.close(_walk(wanted, frozenset()))
        except NotGrantedError as error:
            found.append(error)
        except SourceError:
            pass  # it may be made later
        finally:
            _looking.release()
            looked.set()

    threading.Thread(target=look, name="look-at-place", daemon=True).start()
    looked.wait(_LONGEST_LOOK_SECONDS)
    if found:
        raise found[0]


def open_above(wanted: Location, *, forbidden: Iterable[str]) -> int:
    """Return a descriptor of the directory that holds `wanted`, a file that was granted and opened before.

    Raises:
        NotGrantedError: a part of the path is a link.
        SourceMissingError: it does not exist any more.
        SourceUnreadableError: this process may not open it.
    """
    above = _part(wanted, len(wanted.path) - 1)
    passed = _walk(above, own_identities(forbidden))
    try:
        opened = _reopen(passed, above, directory=True)
    finally:
        os.close(passed)
    try:
        _refuse_moved(opened, above)
    except BaseException:
        os.close(opened)
        raise
    return opened


def make_granted(
    wanted: Location, *, grants: Iterable[HostGrant], forbidden: Iterable[str], may_hold: bytes = b""
) -> tuple[int, bool]:
    """Return a descriptor of the directory `wanted`, granted for restores, and whether it was made for this.

    Only the last part of the path is made. One that exists must be empty, but for a name that it `may_hold`.

    Raises:
        NotGrantedError: the host does not grant it, or a part of its path is a link.
        SourceMissingError: the directory above does not exist.
        TargetOccupiedError: it exists and is not empty, or is no directory.
    """
    grants, forbidden = tuple(grants), tuple(forbidden)
    refuse_own(wanted, own_places(forbidden))
    refuse_unless_host_allows(wanted, Purpose.RESTORE, grants)
    made = False
    if wanted.path:
        above = Location(wanted.scheme, wanted.host, wanted.port, wanted.path[:-1])
        parent = _walk(above, own_identities(forbidden))
        try:
            os.mkdir(wanted.path[-1], 0o700, dir_fd=parent)
            made = True
        except FileExistsError:
            pass
        except OSError as error:
            raise _explained(error, wanted, "made in") from error
        finally:
            os.close(parent)
    try:
        descriptor = open_granted(wanted, Purpose.RESTORE, grants=grants, forbidden=forbidden, tree=True)
    except SourceMissingError as error:
        raise TargetOccupiedError(f"{wanted.key} exists and is no directory; name one that does not exist") from error
    try:
        held = {os.fsencode(name) for name in os.listdir(descriptor)}  # noqa: PTH208 - a descriptor, not a path
    except BaseException:
        os.close(descriptor)
        raise
    if not held <= {may_hold}:
        os.close(descriptor)
        raise TargetOccupiedError(
            f"{wanted.key} exists and is not empty; a restore never overwrites, so name a directory that does not exist"
        )
    return descriptor, made


def _walk(wanted: Location, own: frozenset[Identity]) -> int:
    """Return a descriptor that only names the place, reached without passing a link or a directory of Holdfast's."""
    descriptor = os.open("/", _PASS | os.O_DIRECTORY)
    try:
        for depth, part in enumerate(wanted.path, start=1):
            try:
                below = os.open(part, _PASS, dir_fd=descriptor)
            except OSError as error:
                raise _explained(error, _part(wanted, depth), "passed through to") from error
            os.close(descriptor)
            descriptor = below
            _refuse_link_or_own(os.fstat(descriptor), _part(wanted, depth), own)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_link_or_own(status: os.stat_result, at: Location, own: frozenset[Identity]) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise NotGrantedError(
            f"{at.key} is a symbolic link, and links are not followed; "
            "name the place that it leads to, which needs a grant of its own"
        )
    if Identity(status.st_dev, status.st_ino) in own:
        raise NotGrantedError(f"{at.key} is a directory of Holdfast itself under another name")


def _reopen(passed: int, wanted: Location, *, directory: bool) -> int:
    try:
        if directory:
            return os.open(".", _READ | os.O_DIRECTORY, dir_fd=passed)
        # The link in /proc leads to the very file that is open, so nothing can be put in its place meanwhile.
        return os.open(f"/proc/self/fd/{passed}", _READ & ~os.O_NOFOLLOW)
    except OSError as error:
        raise _explained(error, wanted, "opened at") from error


def _refuse_moved(opened: int, wanted: Location) -> None:
    """Refuse a place that got another name between the walk and now."""
    if os.fsencode(Path(f"/proc/self/fd/{opened}").readlink()) != wanted.file_path:
        raise NotGrantedError(f"{wanted.key} was moved or replaced while it was being opened; try again")


def _part(wanted: Location, depth: int) -> Location:
    return Location(wanted.scheme, wanted.host, wanted.port, wanted.path[:depth])


def _explained(error: OSError, at: Location, what: str) -> SourceError:
    if error.errno == errno.ENAMETOOLONG:
        return SourceMissingError(f"a part of {at.key[:120]}... is longer than a name may be on this host")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return SourceMissingError(f"there is no {at.key} on this host")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return SourceUnreadableError(
            f"nothing can be {what} {at.key}: {error.strerror} (this process runs as uid {os.geteuid()})"
        )
    return SourceUnreadableError(f"nothing can be {what} {at.key}: {error.strerror}")
