"""Processes of this very program that work for one writer or one restore."""

import os
import signal
import subprocess
import sys
from typing import Any


def started(module: str, *arguments: str, **streams: Any) -> "subprocess.Popen[bytes]":
    """Start a module of this program as a process that finds the same libraries; `streams` go to `Popen`."""
    command = [sys.executable, "-m", module, *arguments]
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **streams)  # noqa: S603 - all ours


def leave_interrupts_to_parent() -> None:
    """Have Ctrl-C, which a terminal sends to both, end the parent alone: it then ends this process in good order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
