"""Running a PostgreSQL client program: clean environment, the password in memory alone, a bounded tail of its words.

The password reaches the program as a password file that has no name on disk: an anonymous file in memory, handed down
as a descriptor. It is in no argument, no environment variable and no directory.
"""

import contextlib
import fcntl
import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from typing import IO

from holdfast.source.protocol import SecretRefusedError, SourceSecret

_TAIL_BYTES = 64 << 10
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_TERM_SECONDS = 10.0


def password_line(password: str) -> bytes:
    """Return the line of a password file that gives `password` to every server.

    Raises:
        SecretRefusedError: it holds a line end or a zero byte, which such a file cannot say.
    """
    if any(mark in password for mark in "\n\r\0"):
        raise SecretRefusedError("a database password with a line end or a zero byte cannot be handed to pg_dump")
    return f"*:*:*:*:{_escaped(password)}\n".encode()


@contextlib.contextmanager
def password_file(secret: SourceSecret) -> Iterator[int]:
    """Give the descriptor of a password file in memory that only this user may read.

    Raises:
        SecretRefusedError: the password cannot be written into such a file.
    """
    line = password_line(secret.password)
    descriptor = os.memfd_create("secret", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)  # libpq refuses one that others may read
        os.write(descriptor, line)
        yield descriptor
    finally:
        os.close(descriptor)


class Child:
    """One running client program. Started by one thread; `stop` may come from any, at any time."""

    def __init__(
        self, arguments: Sequence[str], *, secret: SourceSecret | None, stdin: bool = False, stdout: bool = True
    ) -> None:
        self.name = os.path.basename(arguments[0])  # noqa: PTH119 - a text, no path to work on
        self._password = "" if secret is None else secret.password
        self._tail = bytearray()
        environment = {"LC_ALL": "C", "PATH": os.defpath, "HOME": "/nonexistent", "PGTZ": "UTC"}
        with contextlib.ExitStack() as stack:
            handed: tuple[int, ...] = ()
            if secret is not None:
                descriptor = stack.enter_context(password_file(secret))
                environment["PGPASSFILE"] = f"/proc/self/fd/{descriptor}"
                handed = (descriptor,)
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                arguments,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if stdout else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
                pass_fds=handed,
                bufsize=0,
            )
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                _widen(pipe)
        self._listener = threading.Thread(target=self._listen, name=f"{self.name}-stderr", daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def stdin(self) -> IO[bytes]:
        """Where the program reads from."""
        if self._process.stdin is None:
            raise ValueError(f"{self.name} was started without an input")
        return self._process.stdin

    def read(self) -> Iterator[bytes]:
        """Yield what the program writes, until it closes its output."""
        pipe = self._process.stdout
        if pipe is None:
            raise ValueError(f"{self.name} was started without an output")
        while piece := pipe.read(_PIPE_BYTES):
            yield piece

    def end(self) -> int:
        """Close the program's input, wait until it has ended, and return its exit code (negative: a signal)."""
        if self._process.stdin is not None:
            # A program that is gone already tells so by its exit code.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        code = self._process.wait()
        self._close()
        return code

    def stop(self) -> None:
        """End the program: ask it first, so that it cancels its work on the server, and kill it if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_TERM_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """Stop the program if it runs, and let go of its pipes; only the thread that uses them may call this."""
        self.stop()
        self._close()

    def words(self) -> str:
        """Return the last of what the program said on stderr, without the password."""
        text = bytes(self._tail).decode("utf-8", "replace").strip()
        for form in {self._password, _escaped(self._password)} - {""}:
            text = text.replace(form, "***")
        return text

    def _close(self) -> None:
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None and not pipe.closed:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _listen(self) -> None:
        pipe = self._process.stderr
        if pipe is None:
            return
        while piece := pipe.read(_TAIL_BYTES):
            self._tail += piece
            del self._tail[:-_TAIL_BYTES]


def _escaped(password: str) -> str:
    return password.replace("\\", "\\\\").replace(":", "\\:")


def _widen(pipe: IO[bytes]) -> None:
    """Let a pipe hold more, so that the two sides wait for each other less often."""
    with contextlib.suppress(OSError):  # the limit for this user is lower: slower, not wrong
        fcntl.fcntl(pipe.fileno(), _F_SETPIPE_SZ, _PIPE_BYTES)
