"""The command: what scripts, benches and the day when all else is lost need, from storage and password alone.

Exit codes are restic's: 0 done, 1 failed, 3 finished but incomplete, 10 no repository, 11 locked, 12 wrong password.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import orjson

from holdfast.core.clock import SystemMachineTime
from holdfast.core.errors import HoldfastError, InvalidInputError
from holdfast.repository.blob_writer import WriteLimits
from holdfast.repository.check import Depth
from holdfast.repository.chunk import ChunkClass
from holdfast.repository.entry import Kind, Problem, path_text
from holdfast.repository.filetree import WalkRules, walk_tree
from holdfast.repository.key_file import (
    COST_FOR_HUMAN_PASSWORD,
    COST_FOR_RANDOM_PASSWORD,
    NoRepositoryError,
    WrongPasswordError,
)
from holdfast.repository.lock import RepositoryLockedError
from holdfast.repository.own_process import use_memory_sparingly
from holdfast.repository.repository import Repository
from holdfast.repository.restore import Existing
from holdfast.repository.snapshot import Snapshot, SnapshotNotFoundError
from holdfast.repository.storage import LocalStorage, open_storage
from holdfast.repository.sweep import SweepRules
from holdfast.repository.tree import Node
from holdfast.repository.writer import Limits

DONE, FAILED, INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD, INTERRUPTED = 0, 1, 3, 10, 11, 12, 130
_PROBLEMS_SHOWN = 100
_PACK_MIB = range(4, 129)  # what restic reads without a word
_LEFTOVERS_AFTER = timedelta(days=1)
_LETTER = {
    Kind.FILE: "-",
    Kind.DIR: "d",
    Kind.SYMLINK: "l",
    Kind.DEV: "b",
    Kind.CHARDEV: "c",
    Kind.FIFO: "p",
    Kind.SOCKET: "s",
}


class NoPasswordError(InvalidInputError):
    """No password was given."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    use_memory_sparingly()
    signal.signal(signal.SIGTERM, _interrupt)  # a service manager that stops us: the same good order
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Python must not find out again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the same
        _say(f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename is not None else ""))
        return FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except NoRepositoryError as error:
        _say(f"error: {error}; `init` makes one")
        return NO_REPOSITORY
    except HoldfastError as error:
        _say(f"error: {error}")
        match error:
            case RepositoryLockedError():
                return LOCKED
            case WrongPasswordError():
                return WRONG_PASSWORD
            case _:
                return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m holdfast.repository",
        description="Read and write a restic repository (format version 2). REPO is a path or an s3://, gs:// or az:// "
        "URL; the password is in RESTIC_PASSWORD or in a file.",
    )
    parser.add_argument("--password-file", type=Path, help="the file whose first line is the password")
    parser.add_argument("--cache-dir", type=Path, help="keep an index cache there: a large repository opens quickly")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], what: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=what, description=what)
        made.add_argument("repo", metavar="REPO")
        made.set_defaults(run=run)
        return made

    init = command("init", _init, "make a new repository")
    init.add_argument(
        "--random-password",
        action="store_true",
        help="the password has 256 random bits: opening need not cost a second",
    )
    backup = command("backup", _backup, "back up what a directory holds; its newest snapshot is the parent")
    backup.add_argument("source", metavar="SRC", type=Path)
    backup.add_argument("--tag", action="append", default=[])
    backup.add_argument("--host", default=os.uname().nodename)
    backup.add_argument("--one-file-system", action="store_true")
    backup.add_argument("--chunk-class", choices=[c.value for c in ChunkClass], default=ChunkClass.FILE.value)
    backup.add_argument("--pack-size", metavar="MIB", type=int, choices=_PACK_MIB, default=16, help="16; 4 to 128")
    restore = command("restore", _restore, "restore a snapshot; DST then holds what the source held")
    restore.add_argument("snapshot", metavar="SNAPSHOT|latest")
    restore.add_argument("target", metavar="DST", type=Path)
    restore.add_argument("--include", action="append", default=[], help="only paths that match, such as /etc/*.conf")
    restore.add_argument("--existing", choices=[e.value for e in Existing], default=Existing.REFUSE.value)
    restore.add_argument("--verify", action="store_true", help="read back what was written")
    ls = command("ls", _ls, "list snapshots, or what one holds")
    ls.add_argument("snapshot", metavar="SNAPSHOT|latest", nargs="?")
    ls.add_argument("--include", action="append", default=[])
    check = command("check", _check, "look for damage")
    check.add_argument("--headers", action="store_true", help="read every pack's header as well")
    check.add_argument("--read-data", action="store_true", help="read every byte")
    forget = command("forget", _forget, "remove snapshots; a sweep gives their room back")
    forget.add_argument("snapshots", metavar="SNAPSHOT", nargs="+")
    sweep = command("sweep", _sweep, "delete what no snapshot needs")
    sweep.add_argument("--dry-run", action="store_true", help="only say what would be done")
    sweep.add_argument("--max-unused", type=float, default=SweepRules().max_unused, help="the share that may stay")
    copy = command("copy", _copy, "copy snapshots of another repository into REPO, sending only what is missing")
    copy.add_argument("source", metavar="FROM")
    copy.add_argument("snapshots", metavar="SNAPSHOT|latest", nargs="+")
    copy.add_argument("--from-password-file", type=Path, required=True)
    copy.add_argument("--pack-size", metavar="MIB", type=int, choices=_PACK_MIB, default=16, help="16; 4 to 128")
    diff = command("diff", _diff, "say what is different between two snapshots")
    diff.add_argument("before", metavar="SNAPSHOT")
    diff.add_argument("after", metavar="SNAPSHOT|latest")
    dump = command("dump", _dump, "write one file of a snapshot to standard output")
    dump.add_argument("snapshot", metavar="SNAPSHOT|latest")
    dump.add_argument("path", metavar="PATH")
    command("repair", _repair, "make the index anew from what packs say")
    command("keys", _keys, "list the key files")
    add_key = command("add-key", _add_key, "let another password open the repository")
    add_key.add_argument("--new-password-file", type=Path, required=True)
    remove_key = command("remove-key", _remove_key, "take a password away")
    remove_key.add_argument("key", metavar="KEY")
    unlock = command("unlock", _unlock, "remove the locks of processes that are gone")
    unlock.add_argument("--remove-all", action="store_true", help="all locks, damaged ones too; nobody must be at work")
    return parser


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _password(options: argparse.Namespace) -> str:
    path = options.password_file or os.environ.get("RESTIC_PASSWORD_FILE")
    if path:
        return _password_in(Path(path))
    password = os.environ.get("RESTIC_PASSWORD")
    if not password:
        raise NoPasswordError("set RESTIC_PASSWORD, or name a file by --password-file")
    return password


def _password_in(path: Path) -> str:
    try:
        password = path.read_text(encoding="utf-8-sig").strip()  # as restic reads it
    except OSError as error:
        raise NoPasswordError(f"the password file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise NoPasswordError(f"the password file {path} is not text in UTF-8") from error
    if not password:
        raise NoPasswordError(f"there is no password in {path}: the file is empty")
    return password


def _open(options: argparse.Namespace) -> Repository:
    return Repository.open(
        open_storage(options.repo), _password(options), host_id=os.uname().nodename, cache=options.cache_dir
    )


def _limits(options: argparse.Namespace) -> Limits:
    return Limits(write=WriteLimits(pack_bytes=options.pack_size << 20))


def _find(repository: Repository, name: str) -> Snapshot:
    """Return the snapshot that `latest` or a part of an id means; damaged ones do not stand in the way."""
    if name != "latest":
        return repository.snapshot(repository.resolve(name))
    found = repository.snapshots(damaged=lambda error: _say(f"warning: {error}"))
    if not found:
        raise SnapshotNotFoundError("the repository has no snapshots yet")
    return found[-1]


def _init(options: argparse.Namespace) -> int:
    repository = Repository.create(
        open_storage(options.repo),
        _password(options),
        host_id=os.uname().nodename,
        at=SystemMachineTime().now(),
        cost=COST_FOR_RANDOM_PASSWORD if options.random_password else COST_FOR_HUMAN_PASSWORD,
    )
    _tell(options, {"repository": repository.id}, f"repository {repository.id[:10]} made at {options.repo}")
    return DONE


def _backup(options: argparse.Namespace) -> int:
    repository = _open(options)
    source = str(options.source.absolute())
    before = [
        snapshot
        for snapshot in repository.snapshots(damaged=lambda error: _say(f"warning: {error}"))
        if snapshot.paths == (source,) and snapshot.hostname == options.host
    ]
    with repository.begin(
        hostname=options.host, chunk_class=ChunkClass(options.chunk_class), limits=_limits(options)
    ) as writer:
        parent = repository.parent(before[-1].id, writer.index) if before else None
        rules = WalkRules(one_filesystem=options.one_file_system)
        for item in walk_tree(options.source, parent=parent, rules=rules):
            writer.add(item)
        writer.finish_tree()
        written = writer.commit(
            at=SystemMachineTime().now(),
            tags=options.tag,
            paths=[source],
            parent=before[-1].id if before else None,
        )
    _warn(written.problems)
    counts = {
        key: getattr(written, key)
        for key in ("files", "files_kept", "dirs", "others", "bytes_total", "bytes_read", "bytes_new", "bytes_stored")
    }
    _tell(
        options,
        {"snapshot": written.snapshot_id, "problems": [str(problem) for problem in written.problems], **counts},
        f"snapshot {written.snapshot_id[:8]}: {written.files} files ({written.files_kept} unchanged), "
        f"{_size(written.bytes_total)}; {_size(written.bytes_new)} new, {_size(written.bytes_stored)} stored",
    )
    return DONE if written.is_complete else INCOMPLETE


def _restore(options: argparse.Namespace) -> int:
    repository = _open(options)
    snapshot = _find(repository, options.snapshot)
    restored = repository.restore(
        snapshot.id,
        options.target,
        include=options.include,
        existing=Existing(options.existing),
        verify=options.verify,
    )
    _warn(restored.problems)
    _tell(
        options,
        {
            "snapshot": snapshot.id,
            "files": restored.files,
            "dirs": restored.dirs,
            "others": restored.others,
            "files_left": restored.files_left,
            "bytes_written": restored.bytes_written,
            "problems": [str(problem) for problem in restored.problems],
        },
        f"{restored.files} files and {restored.dirs} directories of snapshot {snapshot.id[:8]} restored, "
        f"{_size(restored.bytes_written)}",
    )
    return DONE if restored.is_complete else INCOMPLETE


def _ls(options: argparse.Namespace) -> int:
    repository = _open(options)
    if options.snapshot is None:
        damaged: list[HoldfastError] = []
        for snapshot in repository.snapshots(damaged=damaged.append):
            value: dict[str, object] = {
                "id": snapshot.id,
                "time": snapshot.at.isoformat(),
                "hostname": snapshot.hostname,
                "paths": snapshot.paths,
                "tags": snapshot.tags,
            }
            labels = " ".join((*snapshot.paths, *(f"[{tag}]" for tag in snapshot.tags)))
            _tell(options, value, f"{snapshot.id[:8]}  {snapshot.at:%F %T}  {snapshot.hostname}  {labels}")
        for error in damaged:
            _say(f"warning: {error}")
        return INCOMPLETE if damaged else DONE
    for path, node in repository.entries(_find(repository, options.snapshot).id, include=options.include):
        meta = node.metadata
        value = {
            "path": path_text(path),
            "kind": node.kind.value,
            "mode": meta.mode,
            "uid": meta.uid,
            "gid": meta.gid,
            "size": meta.size,
            "mtime_ns": meta.mtime_ns,
        }
        _tell(options, value, _line(path, node))
    return DONE


def _check(options: argparse.Namespace) -> int:
    depth = Depth.BYTES if options.read_data else Depth.HEADERS if options.headers else Depth.STRUCTURE
    report = _open(options).check(depth)
    for hint in report.hints:
        _say(f"hint: {hint}")
    for problem in report.problems:
        _say(f"problem: {problem}")
    _tell(
        options,
        {
            "depth": depth.name.lower(),
            "snapshots": report.snapshots,
            "packs": report.packs,
            "blobs": report.blobs,
            "bytes_read": report.bytes_read,
            "problems": report.problems,
            "hints": report.hints,
        },
        f"{report.snapshots} snapshots, {report.packs} packs, {report.blobs} blobs: "
        + ("no problem found" if report.is_sound else f"{len(report.problems)} problems"),
    )
    return DONE if report.is_sound else FAILED


def _forget(options: argparse.Namespace) -> int:
    repository = _open(options)
    ids = [repository.resolve(name) for name in options.snapshots]
    repository.forget(ids)
    _tell(options, {"forgotten": ids}, f"{len(ids)} snapshots forgotten")
    return DONE


def _sweep(options: argparse.Namespace) -> int:
    repository = _open(options)
    rules = SweepRules(max_unused=options.max_unused)
    plan = repository.plan_sweep(rules)
    value: dict[str, object] = {
        "remove": len(plan.remove),
        "repack": len(plan.repack),
        "stray": len(plan.stray),
        "doomed": len(plan.doomed),
        "keep": len(plan.keep),
        "bytes_freed": plan.bytes_freed,
    }
    text = (
        f"{len(plan.remove)} packs to delete, {len(plan.repack)} to rewrite, {len(plan.stray)} strays, "
        f"{len(plan.doomed)} left over; {_size(plan.bytes_freed)} to be freed"
    )
    if not options.dry_run and plan.has_work:
        repository.mark_sweep(plan, at=SystemMachineTime().now())
        swept = repository.carry_out_sweep(rules)
        value |= {"deleted": len(swept.deleted), "spared": len(swept.spared)}
        text += f": {len(swept.deleted)} packs deleted, {len(swept.spared)} spared"
    if not options.dry_run and isinstance(repository.storage, LocalStorage):
        value["leftovers"] = repository.storage.remove_leftovers(SystemMachineTime().now() - _LEFTOVERS_AFTER)
    _tell(options, value, text)
    return DONE


def _copy(options: argparse.Namespace) -> int:
    target = _open(options)
    source = Repository.open(
        open_storage(options.source), _password_in(options.from_password_file), host_id=os.uname().nodename
    )
    for name in options.snapshots:
        copied = target.copy_from(source, _find(source, name).id, limits=_limits(options))
        _tell(
            options,
            {"snapshot": copied.snapshot_id, "original": copied.snapshot.original, "bytes_new": copied.bytes_new},
            f"snapshot {copied.snapshot_id[:8]}: {copied.files} files, {_size(copied.bytes_total)}; "
            f"{_size(copied.bytes_new)} new",
        )
    return DONE


def _diff(options: argparse.Namespace) -> int:
    repository = _open(options)
    before, after = (_find(repository, name).id for name in (options.before, options.after))
    for difference in repository.diff(before, after):
        path = path_text(difference.path)
        value = {"path": path, "change": difference.change.value}
        _tell(options, value, f"{difference.change.value:8} {path}")
    return DONE


def _dump(options: argparse.Namespace) -> int:
    repository = _open(options)
    path = tuple(os.fsencode(part) for part in options.path.strip("/").split("/"))
    repository.dump(_find(repository, options.snapshot).id, path, sys.stdout.buffer)
    return DONE


def _repair(options: argparse.Namespace) -> int:
    repaired = _open(options).repair_index()
    for text in repaired.unreadable:
        _say(f"problem: {text}")
    _tell(
        options,
        {
            "packs": repaired.packs,
            "added": [pack.hex() for pack in repaired.added],
            "dropped": [pack.hex() for pack in repaired.dropped],
            "unreadable": repaired.unreadable,
        },
        f"{repaired.packs} packs in the index: {len(repaired.added)} taken in, {len(repaired.dropped)} dropped, "
        f"{len(repaired.unreadable)} unreadable; check the repository now",
    )
    return FAILED if repaired.unreadable or repaired.dropped else DONE


def _keys(options: argparse.Namespace) -> int:
    for key in _open(options).key_files():
        value = {"id": key.id, "username": key.username, "hostname": key.hostname, "created": key.created}
        whose = "damaged" if key.created is None else f"{key.created}  {key.username}@{key.hostname}"
        _tell(options, value, f"{key.id[:8]}  {whose}")
    return DONE


def _add_key(options: argparse.Namespace) -> int:
    key_id = _open(options).add_password(_password_in(options.new_password_file), at=SystemMachineTime().now())
    _tell(options, {"key": key_id}, f"key file {key_id[:8]} made")
    return DONE


def _remove_key(options: argparse.Namespace) -> int:
    repository = _open(options)
    found = [key.id for key in repository.key_files() if key.id.startswith(options.key)]
    repository.remove_key_file(found[0] if len(found) == 1 else options.key)
    _tell(options, {"removed": options.key}, f"key file {options.key[:8]} removed; the master key stays as it is")
    return DONE


def _unlock(options: argparse.Namespace) -> int:
    repository = _open(options)
    removed = repository.remove_all_locks() if options.remove_all else [lock.id for lock in repository.unlock()]
    _tell(options, {"removed": removed}, f"{len(removed)} {'' if options.remove_all else 'stale '}locks removed")
    return DONE


def _line(path: tuple[bytes, ...], node: Node) -> str:
    meta = node.metadata
    bits = "".join(letter if meta.mode & 1 << 8 - at else "-" for at, letter in enumerate("rwxrwxrwx"))
    target = f" -> {meta.link_target.decode('utf-8', 'backslashreplace')}" if node.kind is Kind.SYMLINK else ""
    return f"{_LETTER[node.kind]}{bits} {meta.uid:5} {meta.gid:5} {meta.size:12} {path_text(path)}{target}"


def _warn(problems: Sequence[Problem]) -> None:
    for problem in problems[:_PROBLEMS_SHOWN]:
        _say(f"warning: {problem}")
    if len(problems) > _PROBLEMS_SHOWN:
        _say(f"warning: and {len(problems) - _PROBLEMS_SHOWN} more")


def _tell(options: argparse.Namespace, value: Mapping[str, object], text: str) -> None:
    sys.stdout.write((orjson.dumps(value).decode() if options.json else text) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 - units
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
