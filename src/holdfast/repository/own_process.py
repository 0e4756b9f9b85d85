"""Processes that move data: how they start others of this very program, and how they use memory."""

import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

_ARENA_MAX = -8  # <malloc.h> of glibc; mallopt(3)


def started(module: str, *arguments: str, **streams: Any) -> "subprocess.Popen[bytes]":
    """Start a module of this program as a process that finds the same libraries; `streams` go to `Popen`."""
    command = [sys.executable, "-m", module, *arguments]
    path = os.pathsep.join(filter(None, sys.path))
    # Ctrl-C, which a terminal sends to all, is for this process alone: it ends the other in good order. What is blocked
    # here is blocked there from its first instruction on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **streams)  # noqa: S603 - all ours
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def connected(module: str) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start a module of this program with one end of a socket, whose number is its argument; return the other end."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        return started(module, str(number), stdin=subprocess.DEVNULL, pass_fds=[number]), ours


def received(connection: socket.socket, size: int) -> bytearray | None:
    """Return as many bytes as were asked for, or None if the other side has gone."""
    data = bytearray(size)
    view = memoryview(data)
    try:
        while view:
            count = connection.recv_into(view)
            if not count:
                return None
            view = view[count:]
    except ConnectionError:
        return None
    return data


def received_with_descriptors(connection: socket.socket, size: int, *, at_most: int) -> tuple[bytes, list[int]] | None:
    """Return as many bytes as were asked for and the descriptors that came with them, or None like `received`."""
    try:
        head, descriptors, _, _ = socket.recv_fds(connection, size, at_most)
    except ConnectionError:
        return None
    rest = received(connection, size - len(head)) if head else None
    return None if rest is None else (head + rest, descriptors)


def use_memory_sparingly() -> None:
    """Settle how this process uses memory; called first thing, before there are threads.

    glibc gives every thread an arena of its own that keeps what was freed in it: with two arenas the peak of a backup
    is a quarter lower, and nothing is slower. And a backup makes millions of small values and no cycles: looking for
    those as often as Python does would cost a tenth of its time.
    """
    with suppress(OSError, AttributeError):  # another C library, which has no such setting
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 2)
    gc.set_threshold(200_000, 20, 100)
