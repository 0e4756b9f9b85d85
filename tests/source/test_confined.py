"""What is open is the place that was granted: no links, no second names of Holdfast's own directories."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.core.settings import HostGrant
from holdfast.source.confined import make_granted, open_granted, own_places
from holdfast.source.grant import Purpose
from holdfast.source.location import file_location
from holdfast.source.protocol import NotGrantedError, SourceMissingError, SourceUnreadableError, TargetOccupiedError


@contextlib.contextmanager
def as_a_user() -> Iterator[None]:
    """Root passes every directory, so be somebody else for a moment; everybody else stays who they are."""
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if me == 0:
            os.seteuid(0)


def open_path(path: Path, *, granted: Path, forbidden: tuple[str, ...] = (), tree: bool = False) -> bytes:
    descriptor = open_granted(
        file_location(os.fsencode(path)),
        Purpose.READ,
        grants=[HostGrant(str(granted))],
        forbidden=forbidden,
        tree=tree,
    )
    try:
        return os.fsencode(Path(f"/proc/self/fd/{descriptor}").readlink())
    finally:
        os.close(descriptor)


def test_a_granted_directory_opens(tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/a\n\xff b"
    os.mkdir(odd)  # noqa: PTH102 - a name that is no text
    assert open_path(Path(os.fsdecode(odd)), granted=tmp_path) == odd


def test_a_granted_file_opens(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    assert open_path(tmp_path / "one", granted=tmp_path / "one") == os.fsencode(tmp_path / "one")
    with pytest.raises(SourceMissingError, match="is not a directory"):
        open_path(tmp_path / "one", granted=tmp_path, tree=True)


@pytest.mark.parametrize("link", ["link", "link/inner"])
def test_a_link_to_another_tree_is_refused(tmp_path: Path, link: str) -> None:
    (tmp_path / "other/inner").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/link").symlink_to(tmp_path / "other")
    with pytest.raises(NotGrantedError, match="is a symbolic link"):
        open_path(tmp_path / "mine" / link, granted=tmp_path / "mine")


def test_even_a_link_within_the_grant_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(NotGrantedError, match="name the place that it leads to"):
        open_path(tmp_path / "link", granted=tmp_path)


def test_holdfasts_own_directory_is_refused_under_its_real_name_too(tmp_path: Path) -> None:
    (tmp_path / "disk/holdfast").mkdir(parents=True)
    (tmp_path / "var").symlink_to(tmp_path / "disk")
    forbidden = (str(tmp_path / "var/holdfast"),)
    assert file_location(str(tmp_path / "disk/holdfast")) in own_places(forbidden)
    for path in (tmp_path / "disk", tmp_path / "disk/holdfast", tmp_path):
        with pytest.raises(NotGrantedError, match="belongs to Holdfast itself"):
            open_path(path, granted=Path("/"), forbidden=forbidden)


def test_a_directory_that_is_holdfasts_by_its_inode_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A bind mount needs rights that a test has not; here the own directory loses its names instead, as it does there.
    (tmp_path / "mounted/inner").mkdir(parents=True)
    monkeypatch.setattr("holdfast.source.confined.own_places", lambda _forbidden: ())
    for path in ("mounted", "mounted/inner"):
        with pytest.raises(NotGrantedError, match="Holdfast itself under another name"):
            open_path(tmp_path / path, granted=tmp_path, forbidden=(str(tmp_path / "mounted"),))


def test_what_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match="there is no file:///"):
        open_path(tmp_path / "nowhere/below", granted=tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SourceMissingError):
        open_path(tmp_path / "file/below", granted=tmp_path)


def test_a_pipe_is_no_source_and_opening_it_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceMissingError, match="neither a directory nor a file"):
        open_path(tmp_path / "pipe", granted=tmp_path)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("x")
    os.mkfifo(tmp_path / "pipe")
    before = os.listdir("/proc/self/fd")  # noqa: PTH208 - names alone
    for name in ("link", "pipe", "missing", "."):
        try:
            open_path(tmp_path / name, granted=tmp_path)
        except (NotGrantedError, SourceMissingError):
            continue
    assert len(os.listdir("/proc/self/fd")) == len(before)  # noqa: PTH208 - names alone


def make(path: Path, granted: Path) -> bool:
    descriptor, made = make_granted(file_location(str(path)), grants=[HostGrant(str(granted))], forbidden=())
    os.close(descriptor)
    return made


def test_a_restore_makes_its_directory(tmp_path: Path) -> None:
    assert make(tmp_path / "new", tmp_path)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert not make(tmp_path / "new", tmp_path)


def test_a_restore_goes_into_nothing_that_is_in_use(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").write_text("x")
    with pytest.raises(TargetOccupiedError, match="not empty"):
        make(tmp_path / "used", tmp_path)
    with pytest.raises(TargetOccupiedError, match="is no directory"):
        make(tmp_path / "used/file", tmp_path)


def test_a_restore_goes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    for path in ("link", "link/new"):
        with pytest.raises(NotGrantedError, match="symbolic link"):
            make(tmp_path / path, tmp_path)
    assert not list((tmp_path / "other").iterdir())


def test_a_restore_needs_the_directory_above(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match="there is no"):
        make(tmp_path / "a/b", tmp_path)
    with pytest.raises(NotGrantedError, match="does not allow to restore"):
        make(tmp_path / "a", tmp_path / "granted")


def test_what_may_not_be_passed_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "shut/inner").mkdir(parents=True)
    (tmp_path / "shut").chmod(0)
    with as_a_user(), pytest.raises(SourceUnreadableError, match="Permission denied"):
        open_path(tmp_path / "shut/inner", granted=tmp_path)
