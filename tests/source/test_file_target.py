"""Restoring file trees: into new places inside what is granted, never over anything, all or nothing."""

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.source.contract import descriptors, opened_since

from holdfast.core.settings import HostGrant
from holdfast.source.location import file_location, location
from holdfast.source.protocol import (
    DirectoryLanding,
    NotGrantedError,
    OptionRefusedError,
    SourceMissingError,
    SourceReport,
    SourceSpec,
    TargetFailedError,
    TargetOccupiedError,
)
from holdfast.source.registry import open_target
from holdfast.source.restore_metadata import FileRestore, database_restore, directory_name, file_restore

AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
JOB = "0b3c5f1e-job"


def a_spec(path: Path, granted: Path, **more: object) -> SourceSpec:
    spec = SourceSpec(file_location(os.fsencode(path)).key, "EFS", grants=(HostGrant(str(granted)),), job=JOB)
    return replace(spec, **more)  # type: ignore[arg-type]  # fields by name


def restore(spec: SourceSpec, metadata: dict[str, str], bring: Callable[[int], object]) -> SourceReport:
    """Restore as a mover does: `bring` writes into the landing, and what goes wrong aborts the target."""
    target = open_target(spec, metadata, at=AT)
    try:
        landing = target.begin()
        assert isinstance(landing, DirectoryLanding)
        bring(landing.descriptor)
        return target.finish()
    except BaseException:
        target.abort()
        raise


def until_stopped(bring: Callable[[int], object]) -> Callable[[int], object]:
    """Bring everything, and then be stopped before the target is finished."""

    def bring_and_stop(descriptor: int) -> None:
        bring(descriptor)
        raise KeyboardInterrupt

    return bring_and_stop


def write(descriptor: int, name: bytes, data: bytes, mode: int) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT, mode, dir_fd=descriptor)
    os.write(file, data)
    os.close(file)


def bring_tree(descriptor: int) -> None:
    """Write a small tree as a restore does: relative to a descriptor."""
    os.mkdir(b"dir", dir_fd=descriptor)
    os.mkdir(b"dir/below", dir_fd=descriptor)
    write(descriptor, b"dir/below/file", b"content", 0o600)
    write(descriptor, b"two\nlines\xff", b"x", 0o640)
    os.link(b"two\nlines\xff", b"hard", src_dir_fd=descriptor, dst_dir_fd=descriptor)
    os.symlink(b"/etc/passwd", b"link", dir_fd=descriptor)
    os.mkfifo(b"pipe", dir_fd=descriptor)
    os.chmod(b"dir/below", 0o500, dir_fd=descriptor)
    os.utime(b"dir", ns=(10**18, 10**18 + 1), dir_fd=descriptor)
    os.chmod(b"dir", 0o500, dir_fd=descriptor)


def new(url: str, **more: str) -> dict[str, str]:
    return {"newFileSystem": "true", "holdfast:target-url": url, **more}


def names(path: Path) -> set[bytes]:
    return {os.fsencode(name.name) for name in path.iterdir()}


def test_a_tree_lands_in_a_new_directory_as_it_was(tmp_path: Path) -> None:
    target, open_files = tmp_path / "restored", descriptors()
    spec = a_spec(target, tmp_path)
    report = restore(spec, new(spec.url), bring_tree)
    assert report.facts == {"restored_to": spec.url, "names": 5}
    assert names(target) == {b"dir", b"two\nlines\xff", b"hard", b"link", b"pipe"}
    assert (target / "dir/below/file").read_bytes() == b"content"
    assert (target / "dir").stat().st_mode & 0o777 == 0o500
    assert (target / "dir").stat().st_mtime_ns == 10**18 + 1
    assert (target / "hard").stat().st_nlink == 2
    assert (target / "link").readlink() == Path("/etc/passwd")
    assert target.stat().st_mode & 0o777 == 0o700
    assert opened_since(open_files) == []


def test_the_root_gets_the_mode_it_had(tmp_path: Path) -> None:
    target = tmp_path / "restored"
    spec = a_spec(target, tmp_path)
    owner = f"{os.getuid()}:{os.getgid()}"
    restore(spec, new(spec.url, **{"holdfast:root-mode": "2751", "holdfast:root-owner": owner}), bring_tree)
    assert target.stat().st_mode & 0o7777 == 0o2751


def test_an_existing_file_system_gets_a_new_directory_of_its_own(tmp_path: Path) -> None:
    root = tmp_path / "www"
    root.mkdir(mode=0o750)
    (root / "dir").write_text("live")
    report = restore(a_spec(root, root), {"newFileSystem": "false", "file-system-id": "fs-1"}, bring_tree)
    (made,) = names(root) - {b"dir"}
    assert made == b"aws-backup-restore_2026-03-01T12-30-15-123Z"
    assert (root / "dir").read_text() == "live"
    assert (root / os.fsdecode(made) / "dir/below/file").read_bytes() == b"content"
    assert (root / os.fsdecode(made)).stat().st_mode & 0o777 == 0o750
    assert report.facts["restored_to"] == file_location(str(root / os.fsdecode(made))).key


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    target = tmp_path / "empty"
    target.mkdir(mode=0o711)
    spec = a_spec(target, target)
    restore(spec, new(spec.url), bring_tree)
    assert b"dir" in names(target)
    assert target.stat().st_mode & 0o777 == 0o711


def test_nothing_is_ever_written_over(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").write_text("mine")
    spec = a_spec(tmp_path / "used", tmp_path)
    with pytest.raises(TargetOccupiedError, match="not empty"):
        restore(spec, new(spec.url), bring_tree)
    assert names(tmp_path / "used") == {b"file"}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_appears_during_a_restore_is_not_written_over(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "restored"
    spec = a_spec(target, tmp_path)

    def bring(descriptor: int) -> None:
        bring_tree(descriptor)
        if kind == "file":
            (target / "hard").write_text("theirs")
        else:
            (target / "dir").mkdir()

    with pytest.raises(TargetFailedError, match="appeared in"):
        restore(spec, new(spec.url), bring)
    assert (target / "hard").read_text() == "theirs" if kind == "file" else not names(target / "dir")


def test_an_abort_removes_what_was_made_and_nothing_else(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)
    open_files = descriptors()
    with pytest.raises(KeyboardInterrupt):
        restore(spec, new(spec.url), until_stopped(bring_tree))
    assert names(tmp_path) == set()
    (tmp_path / "empty").mkdir()
    spec = a_spec(tmp_path / "empty", tmp_path)
    with pytest.raises(KeyboardInterrupt):
        restore(spec, new(spec.url), until_stopped(bring_tree))
    assert names(tmp_path) == {b"empty"}
    assert names(tmp_path / "empty") == set()
    assert opened_since(open_files) == []


def test_an_abort_from_another_thread_leaves_the_directory_to_its_writer(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)

    def bring(descriptor: int) -> None:
        stopper = threading.Thread(target=target.abort)
        stopper.start()
        stopper.join()
        bring_tree(descriptor)

    target = open_target(spec, new(spec.url), at=AT)
    landing = target.begin()
    assert isinstance(landing, DirectoryLanding)
    bring(landing.descriptor)
    with pytest.raises(TargetFailedError, match="was given up"):
        target.finish()
    target.abort()
    assert names(tmp_path) == set()


def test_what_cannot_be_removed_hides_no_other_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)

    def bring(_descriptor: int) -> None:
        monkeypatch.setattr("shutil.rmtree", _refuse)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore(spec, new(spec.url), bring)


def _refuse(*_arguments: object, **_named: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_an_abort_follows_no_link_out(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o755)
    (tmp_path / "other/keep").write_text("x")
    spec = a_spec(tmp_path / "restored", tmp_path)

    def bring(descriptor: int) -> None:
        os.symlink(os.fsencode(tmp_path / "other"), b"link", dir_fd=descriptor)

    with pytest.raises(KeyboardInterrupt):
        restore(spec, new(spec.url), until_stopped(bring))
    assert (tmp_path / "other/keep").exists()
    assert (tmp_path / "other").stat().st_mode & 0o777 == 0o755


def test_an_abort_leaves_what_others_put_there(tmp_path: Path) -> None:
    target = tmp_path / "restored"
    spec = a_spec(target, tmp_path)

    def bring(descriptor: int) -> None:
        bring_tree(descriptor)
        (target / "theirs").write_text("x")

    with pytest.raises(KeyboardInterrupt):
        restore(spec, new(spec.url), until_stopped(bring))
    assert names(target) == {b"theirs"}


def test_the_same_job_begins_again_where_a_crash_left_it(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)
    crashed = open_target(spec, new(spec.url), at=AT)
    landing = crashed.begin()
    assert isinstance(landing, DirectoryLanding)
    bring_tree(landing.descriptor)
    assert names(tmp_path / "restored") == {b".holdfast-restore-" + JOB.encode()}
    with pytest.raises(TargetOccupiedError):
        restore(replace(spec, job="another"), new(spec.url), bring_tree)
    restore(spec, new(spec.url), bring_tree)
    assert b"dir" in names(tmp_path / "restored")


def test_a_restore_stays_in_the_granted_place(tmp_path: Path) -> None:
    (tmp_path / "granted").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "granted/link").symlink_to(tmp_path / "other")
    for path in ("other/new", "granted/link/new", "granted/link"):
        spec = a_spec(tmp_path / path, tmp_path / "granted")
        with pytest.raises(NotGrantedError):
            restore(spec, new(spec.url), bring_tree)
    spec = a_spec(tmp_path / "granted/new", tmp_path / "granted")
    with pytest.raises(NotGrantedError, match="does not allow to restore"):
        restore(replace(spec, grants=(HostGrant(str(tmp_path), restore=False),)), new(spec.url), bring_tree)
    with pytest.raises(NotGrantedError, match="belongs to Holdfast itself"):
        restore(replace(spec, forbidden=(str(tmp_path / "granted/new"),)), new(spec.url), bring_tree)
    assert names(tmp_path / "other") == set()
    assert names(tmp_path / "granted") == {b"link"}


def test_the_directory_above_must_be_there(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "a/b", tmp_path)
    with pytest.raises(SourceMissingError, match="there is no"):
        restore(spec, new(spec.url), bring_tree)


def test_only_what_is_asked_for_is_wanted_and_what_the_point_lacks_is_told(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)
    items = json.dumps(["/dir/below", "missing", "dir/below/file/x"])
    target = open_target(spec, new(spec.url, ItemsToRestore=items), at=AT)
    landing = target.begin()
    assert isinstance(landing, DirectoryLanding)
    assert landing.items == ((b"dir", b"below"), (b"missing",), (b"dir", b"below", b"file", b"x"))
    bring_tree(landing.descriptor)
    problems = target.finish().problems
    assert [str(problem) for problem in problems] == [
        "/missing: not in the recovery point, so not restored",
        "/dir/below/file/x: not in the recovery point, so not restored",
    ]


def test_a_restore_that_found_nothing_of_what_was_asked_for_fails(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)
    with pytest.raises(TargetFailedError, match=r"none of ItemsToRestore; not even /nowhere"):
        restore(spec, new(spec.url, ItemsToRestore='["/nowhere"]'), bring_tree)
    assert names(tmp_path) == set()


def test_nothing_is_finished_that_was_not_begun(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)
    target = open_target(spec, new(spec.url), at=AT)
    with pytest.raises(TargetFailedError, match="was not begun"):
        target.finish()
    target.abort()


def test_a_directory_that_its_user_may_not_write_in_is_restored_all_the_same(tmp_path: Path) -> None:
    spec = a_spec(tmp_path / "restored", tmp_path)

    def bring(descriptor: int) -> None:
        os.mkdir(b"sealed", 0o555, dir_fd=descriptor)

    me = os.geteuid()
    if me == 0:
        # Root may do everything, so be somebody else, to whom the directory belongs.
        os.chown(tmp_path, 65534, 65534)
        for above in tmp_path.parents:
            if above.stat().st_uid == 0 and above != Path("/") and above != Path("/tmp"):  # noqa: S108 - pytest's own
                above.chmod(above.stat().st_mode | 0o011)
        os.seteuid(65534)
    try:
        restore(spec, new(spec.url), bring)
        assert (tmp_path / "restored/sealed").stat().st_mode & 0o777 == 0o555
    finally:
        if me == 0:
            os.seteuid(0)


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({}, "needs file-system-id"),
        ({"newFileSystem": "true"}, "needs holdfast:target-url"),
        ({"newFileSystem": "maybe"}, "true or false"),
        ({"newFileSystem": "false", "holdfast:target-url": "file:///x"}, "leave one of the two out"),
        ({"holdfast:target-url": "postgresql://h/x"}, "is a file:/// URL"),
        ({"holdfast:target-url": "file:///a/../b"}, r"goes through \. or \.\."),
        ({"file-system-id": "fs-1", "ItemsToRestore": "/a"}, "is a JSON array"),
        ({"file-system-id": "fs-1", "ItemsToRestore": '{"a": 1}'}, "is a JSON array"),
        ({"file-system-id": "fs-1", "ItemsToRestore": '["1","2","3","4","5","6"]'}, "at most 5"),
        ({"file-system-id": "fs-1", "ItemsToRestore": '["/a/../b"]'}, "not a path in a recovery point"),
        ({"file-system-id": "fs-1", "ItemsToRestore": '["/"]'}, "names the root"),
        ({"file-system-id": "fs-1", "colour": "red"}, "'colour' is no key"),
        ({"file-system-id": "fs-1", "CreationToken": "x" * 200_001}, "at most 200000"),
        ({"holdfast:target-url": "file:///x", "holdfast:root-mode": "rwx"}, "permission bits"),
        ({"holdfast:target-url": "file:///x", "holdfast:root-mode": "17777"}, "permission bits"),
        ({"holdfast:target-url": "file:///x", "holdfast:root-owner": "root"}, "two numbers"),
    ],
)
def test_metadata_that_does_not_say_where_is_refused(metadata: dict[str, str], complaint: str) -> None:
    with pytest.raises(OptionRefusedError, match=complaint):
        file_restore(metadata)


def test_what_clients_of_aws_send_is_understood() -> None:
    asked = file_restore(
        {
            "file-system-id": "fs-0123",
            "Encrypted": "true",
            "KmsKeyId": "arn:aws:kms:...",
            "PerformanceMode": "generalPurpose",
            "CreationToken": "t",
            "newFileSystem": "False",
            "ItemsToRestore": '["/a//b/", "\\udcff"]',
        }
    )
    assert asked == FileRestore(None, "fs-0123", ((b"a", b"b"), (b"\xff",)))


def test_the_target_is_the_one_that_the_metadata_names(tmp_path: Path) -> None:
    with pytest.raises(OptionRefusedError, match="not the one that the metadata names"):
        open_target(a_spec(tmp_path / "a", tmp_path), new(file_location(str(tmp_path / "b")).key), at=AT)
    spec = a_spec(tmp_path / "a", tmp_path, job="../x")
    with pytest.raises(OptionRefusedError, match="id of its job"):
        open_target(spec, new(spec.url), at=AT)


def test_the_name_of_a_restore_is_its_time_in_utc() -> None:
    assert directory_name(AT) == b"aws-backup-restore_2026-03-01T12-30-15-123Z"


ORIGINAL = location("postgresql://db.internal/shop?sslmode=require")


def test_a_database_is_restored_beside_the_one_it_came_from_or_where_it_is_told() -> None:
    beside = database_restore({"DBInstanceIdentifier": "shop2", "Engine": "postgres", "EngineVersion": "16"})
    assert beside.place(ORIGINAL).url == "postgresql://db.internal:5432/shop2?sslmode=require"
    told = database_restore({"holdfast:target-url": "postgresql://other/shop2", "DBInstanceIdentifier": "shop"})
    assert told.place(ORIGINAL).key == "postgresql://other:5432/shop2"
    assert database_restore({"DBInstanceIdentifier": "a", "createMissingRoles": "True"}).create_missing_roles


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ({}, "needs DBInstanceIdentifier"),
        ({"DBInstanceIdentifier": "a/b"}, "DBInstanceIdentifier is a database's name"),
        ({"DBInstanceIdentifier": "a" * 64}, "DBInstanceIdentifier is a database's name"),
        ({"DBInstanceIdentifier": "a", "RestoreTime": "2026-01-01"}, "one instant"),
        ({"DBInstanceIdentifier": "a", "UseLatestRestorableTime": "true"}, "one instant"),
        ({"DBInstanceIdentifier": "a", "createMissingRoles": "perhaps"}, "true or false"),
        ({"DBInstanceIdentifier": "a", "colour": "red"}, "'colour' is no key"),
        ({"DBInstanceIdentifier": "a", "Colour": "red"}, "'Colour' is no key"),
        ({"DBClusterIdentifier": "a"}, "'DBClusterIdentifier' is no key"),
        ({"DBInstanceIdentifier": "a", "TdeCredentialPassword": "p"}, "'TdeCredentialPassword' is no key"),
        ({"DBInstanceIdentifier": "a", "Engine": "mysql"}, "Engine is postgres, not 'mysql'"),
        ({"holdfast:target-url": "postgresql://h/"}, "names a database"),
        ({"holdfast:target-url": "file:///x"}, "names a database"),
    ],
)
def test_metadata_that_names_no_database_is_refused(metadata: dict[str, str], complaint: str) -> None:
    with pytest.raises(OptionRefusedError, match=complaint):
        database_restore(metadata)
