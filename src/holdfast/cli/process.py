"""Starting a development server as a process of its own, and making sure that it ends."""

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from holdfast.core.errors import UnavailableError

_PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Server:
    """A running server."""

    url: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> int:
        """End it as Ctrl-C would, and return its exit code; killed when it does not end by itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def start_dev(data_dir: Path, *arguments: str, port: int = 0, log: Path | None = None, leave: bool = False) -> Server:
    """Start `holdfast dev` on `data_dir` and return once it accepts requests.

    Args:
        data_dir: its data directory; made if it is not there.
        arguments: further command line arguments.
        port: 0 for any free one.
        log: where its messages go; standard error when not given.
        leave: whether it goes on when this process ends; otherwise it ends with it, whatever happens.

    Raises:
        UnavailableError: it ended before it was ready; the text says how.
    """
    command = [sys.executable, "-m", "holdfast.cli.main", "dev", "--port", str(port), "--data-dir", str(data_dir)]
    if not leave:
        command.append("--until-stdin-closes")
    command += arguments
    with log.open("ab") if log else _standard_error() as messages:
        process = subprocess.Popen(  # noqa: S603 - our own program, with an argument list
            command,
            stdin=subprocess.DEVNULL if leave else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            start_new_session=leave,
        )
    line = _first_line(process)
    if not line.startswith("ready "):
        process.kill()
        code = process.wait()
        where = f"; its messages are in {log}" if log else ""
        raise UnavailableError(f"the development server did not start (exit code {code}){where}")
    return Server(line.removeprefix("ready ").strip(), process)


@contextmanager
def _standard_error() -> Iterator[int]:
    yield sys.stderr.fileno()


def _first_line(process: "subprocess.Popen[bytes]") -> str:
    if process.stdout is None:
        raise RuntimeError("the server's output is not read")
    descriptor = process.stdout.fileno()
    read = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while b"\n" not in read:
            if not selector.select(_PATIENCE_SECONDS):
                break
            piece = os.read(descriptor, 4096)
            if not piece:
                break
            read += piece
    with suppress(OSError):
        process.stdout.close()
    return read.split(b"\n", 1)[0].decode(errors="replace")
