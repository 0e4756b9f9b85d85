"""Which of the host's PostgreSQL client programs fit a server."""

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.source.protocol import ToolMissingError

_PACKAGED: Final = ("/usr/lib/postgresql", "/usr/pgsql-*", "/opt/homebrew/opt")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\.\d+|[a-z]+\d*)?")
_LONGEST_ANSWER_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Tools:
    """The client programs of one release, in one directory."""

    directory: Path
    major: int
    version: str

    def program(self, name: str) -> str:
        """Return the path of one program.

        Raises:
            ToolMissingError: the directory has no such program.
        """
        path = shutil.which(name, path=str(self.directory))
        if path is None:
            raise ToolMissingError(
                f"{self.directory} has pg_dump {self.version} but no {name}: install all PostgreSQL client programs"
            )
        return path


def choose_tools(configured: Iterable[str], *, at_least: int) -> Tools:
    """Return the oldest client programs that are not older than major version `at_least`.

    An older client refuses a newer server, and what a client wrote needs a server at least as new as itself, so the
    oldest that fits leaves most choice for a restore. The `configured` directories come first, then PATH, then where
    packages put them.

    Raises:
        ToolMissingError: none fits; the text says which were found.
    """
    found = [tools for directory in _directories(configured) if (tools := _tools_in(directory)) is not None]
    fitting = [tools for tools in found if tools.major >= at_least]
    if fitting:
        return min(fitting, key=lambda tools: tools.major)
    have = ", ".join(f"{tools.version} in {tools.directory}" for tools in found) or "none"
    raise ToolMissingError(
        f"the server is PostgreSQL {at_least} and needs client programs of that version or newer on this host "
        f"(found: {have}): install the package postgresql-client-{at_least}"
    )


def _directories(configured: Iterable[str]) -> Iterator[Path]:
    seen = set()
    paths = [Path(text) for text in (*configured, *os.environ.get("PATH", os.defpath).split(os.pathsep)) if text]
    for pattern in _PACKAGED:
        top = Path(pattern)
        paths += sorted(top.parent.glob(f"{top.name}/*/bin")) + sorted(top.parent.glob(f"{top.name}/bin"))
    for path in paths:
        if path.is_absolute() and path not in seen:
            seen.add(path)
            yield path


def _tools_in(directory: Path) -> Tools | None:
    program = directory / "pg_dump"
    try:
        status = program.stat()
    except OSError:
        return None
    answer = _version_of(str(program), status.st_mtime_ns)
    return None if answer is None else Tools(directory, *answer)


@functools.lru_cache(maxsize=64)
def _version_of(program: str, _changed: int) -> tuple[int, str] | None:
    try:
        answer = subprocess.run(  # noqa: S603 - the host's own program, without any input of others
            [program, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={"LC_ALL": "C", "PATH": os.defpath},
            timeout=_LONGEST_ANSWER_SECONDS,
            check=False,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(answer)
    return None if match is None else (int(match[1]), match[1] + (match[2] or ""))


@functools.lru_cache(maxsize=64)
def has_option(program: str, option: str) -> bool:
    """Return whether a program's own help names an option, such as `--restrict-key`."""
    answer = subprocess.run(  # noqa: S603 - the host's own program, without any input of others
        [program, "--help"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"LC_ALL": "C", "PATH": os.defpath},
        timeout=_LONGEST_ANSWER_SECONDS,
        check=False,
    )
    return option.encode() in answer.stdout
