"""The movers of this host: warm processes, one job each at a time, replaced after some jobs or any trouble."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from typing import Final

import structlog

from holdfast.core.clock import MachineTime
from holdfast.core.errors import UnavailableError
from holdfast.job.channel import Channel, ChannelClosedError
from holdfast.job.protocol import (
    VERSION,
    FromMover,
    Goodbye,
    Hello,
    Host,
    ProtocolError,
    ToMover,
    encode,
    from_mover,
)

log = structlog.get_logger()

_JOBS_EACH: Final = 50
"""After so many jobs a mover is replaced, so that nothing can leak for long."""

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 5.0

_ENVIRONMENT: Final = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "COVERAGE_PROCESS_START",
    "COVERAGE_PROCESS_CONFIG",
)
"""What a mover inherits. The root key may stand in our environment, so nothing else does."""


class MoverGoneError(UnavailableError):
    """The mover died, or does not answer; whatever it was doing, it committed nothing."""


class Mover:
    """One mover process and the conversation with it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self._process = process
        self._channel = channel
        self.jobs = 0
        self.is_usable = True

    @property
    def is_alive(self) -> bool:
        """Whether its process is there."""
        return self._process.poll() is None

    @property
    def process_id(self) -> int:
        """The number of its process, which is that of its process group too."""
        return self._process.pid

    def send(self, message: ToMover, *, patience: float = 30.0) -> None:
        """Say something to it.

        Raises:
            MoverGoneError: it is gone, or does not listen.
        """
        try:
            self._channel.send(encode(message), patience=patience)
        except ChannelClosedError as error:
            raise self._gone(str(error)) from error

    def receive(self, seconds: float) -> FromMover | None:
        """Return what it says next, None if it said nothing for so long.

        Raises:
            MoverGoneError: it is gone, or says what is none of our messages.
        """
        try:
            line = self._channel.receive(seconds)
            return None if line is None else from_mover(line)
        except (ChannelClosedError, ProtocolError) as error:
            raise self._gone(str(error)) from error

    def strike(self) -> None:
        """Kill it and everything that it started; works on a frozen one too. Whoever talks with it notices."""
        self.is_usable = False
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill it and everything that it started, and let go of it."""
        self.strike()
        self._process.wait()
        self._channel.close()

    def dismiss(self) -> None:
        """Say goodbye, and kill it if it does not go."""
        self.is_usable = False
        with suppress(ChannelClosedError, subprocess.TimeoutExpired):
            self._channel.send(encode(Goodbye()), patience=_END_SECONDS)
            self._process.wait(_END_SECONDS)
        self.kill()

    def _gone(self, how: str) -> MoverGoneError:
        self.is_usable = False
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        code = self._process.returncode
        if code is None:
            return MoverGoneError(f"the mover does not answer any more: {how}")
        ending = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return MoverGoneError(f"the mover process ended in the middle of the job ({ending})")


class Movers:
    """The movers of this host, as many as are needed at once. Used from many threads."""

    def __init__(self, host: Host, machine: MachineTime, *, environment: Mapping[str, str] = os.environ) -> None:
        self._host = host
        self._machine = machine
        self._environment = {name: environment[name] for name in _ENVIRONMENT if name in environment}
        self._guard = threading.Lock()
        self._idle: list[Mover] = []
        self._busy: list[Mover] = []
        self._closed = False
        self._orders: SimpleQueue[tuple[Future[Mover], Callable[[], Mover]] | None] = SimpleQueue()
        self._starter: threading.Thread | None = None

    @contextmanager
    def one(self) -> Iterator[Mover]:
        """Have a mover for one job. It goes back among the idle ones if it is still usable then, else it is killed.

        Raises:
            MoverGoneError: none could be started, or the movers were closed.
        """
        mover = self._take()
        mover.jobs += 1
        try:
            self._refuse_if_closed()
            yield mover
        except BaseException:
            mover.is_usable = False  # who knows in the middle of what it is
            raise
        finally:
            self._give_back(mover)

    @property
    def processes(self) -> list[int]:
        """The process numbers of all movers."""
        with self._guard:
            return [mover.process_id for mover in (*self._idle, *self._busy)]

    def close(self) -> None:
        """Kill every mover with what it started; those at work notice that theirs is gone."""
        with self._guard:
            self._closed = True  # one that is being started now is killed by whoever ordered it
            idle, self._idle = self._idle, []
            busy = list(self._busy)
            starter, self._starter = self._starter, None
        for mover in busy:
            mover.strike()
        for mover in idle:
            mover.kill()
        if starter is not None:
            self._orders.put(None)
            starter.join()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise MoverGoneError("this process is being stopped")

    def _take(self) -> Mover:
        with self._guard:
            self._refuse_if_closed()
            while self._idle:
                mover = self._idle.pop()
                if not mover.is_alive:
                    log.warning("mover.found_dead", process=mover.process_id)  # it died while it had nothing to do
                    mover.kill()
                    continue
                self._busy.append(mover)
                return mover
            if self._starter is None:
                self._starter = threading.Thread(target=self._start_ordered, name="mover-starter", daemon=True)
                self._starter.start()
        order: Future[Mover] = Future()
        self._orders.put((order, self._start))
        try:
            mover = order.result(_START_SECONDS * 2)
        except TimeoutError as error:
            order.add_done_callback(_kill_late)
            raise MoverGoneError("no mover could be started in time; the host may be overloaded") from error
        with self._guard:
            self._busy.append(mover)
        return mover

    def _give_back(self, mover: Mover) -> None:
        with self._guard:
            self._busy.remove(mover)
            if mover.is_usable and not self._closed and mover.jobs < _JOBS_EACH:
                self._idle.append(mover)
                return
        if mover.is_usable:
            mover.dismiss()
        else:
            mover.kill()

    def _start_ordered(self) -> None:
        # The kernel kills a mover when the *thread* that started it ends, so one thread starts them all and stays.
        while (job := self._orders.get()) is not None:
            order, start = job
            try:
                order.set_result(start())
            except BaseException as error:  # noqa: BLE001 - the one who waits gets it
                order.set_exception(error)

    def _start(self) -> Mover:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "holdfast.job.mover", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            process_group=0,
            bufsize=0,
        )
        if process.stdin is None or process.stdout is None:
            raise MoverGoneError("a mover was started without pipes")
        channel = Channel(os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno()), self._machine)
        process.stdin.close()
        process.stdout.close()
        mover = Mover(process, channel)
        try:
            _greet(mover, self._host)
        except BaseException:
            mover.kill()
            raise
        log.info("mover.started", process=process.pid)
        return mover


def _greet(mover: Mover, host: Host) -> None:
    hello = mover.receive(_START_SECONDS)
    if not isinstance(hello, Hello):
        raise MoverGoneError(f"a mover did not say hello in {_START_SECONDS:.0f} seconds")
    if hello.version != VERSION:
        raise MoverGoneError(f"a mover speaks version {hello.version}, not {VERSION}; restart this process")
    mover.send(host)


def _kill_late(order: Future[Mover]) -> None:
    if order.exception() is None:
        order.result().kill()
