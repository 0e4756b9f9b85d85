"""A mover: `python -m holdfast.job.mover`, a process that moves one job's bytes at a time.

It is spoken to over its standard input and speaks over its standard output (`job.protocol`). It ends when its input
ends, when the process that started it is gone, or when it is told goodbye.
"""

import ctypes
import os
import queue
import signal
import sys
import threading
from typing import Final

import structlog

from holdfast.core.clock import MachineTime, SystemMachineTime
from holdfast.core.errors import HoldfastError
from holdfast.job.channel import Channel, ChannelClosedError
from holdfast.job.protocol import (
    VERSION,
    Commit,
    Continue,
    FromMover,
    GaveUp,
    Goodbye,
    Hello,
    Host,
    ProtocolError,
    Result,
    Stop,
    Ticket,
    ToMover,
    WentWrong,
    encode,
    to_mover,
)
from holdfast.job.run import GivenUpError, Run
from holdfast.job.work import back_up, copy, restore, went_wrong
from holdfast.repository.own_process import use_memory_sparingly
from holdfast.repository.writer import CancelledError
from holdfast.source.protocol import SourceAbortedError

log = structlog.get_logger()

_WAKE_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 5.0
"""How long the work gets to let go of everything when nobody is there any more."""
_SET_PARENT_DEATH_SIGNAL: Final = 1


class Mover:
    """The process's two threads: this one works, the other listens, says how far it is, and watches the silence."""

    def __init__(self, channel: Channel, machine: MachineTime) -> None:
        self._channel = channel
        self._machine = machine
        self._tickets: queue.Queue[Ticket | None] = queue.Queue()
        self._host: Host | None = None
        self._run: Run | None = None
        self._said_at = machine.monotonic()
        self._idle = threading.Event()
        self._idle.set()

    def work(self) -> None:
        """Take tickets until there are no more."""
        listener = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._say(Hello(VERSION, os.getpid()))
        listener.start()
        while (ticket := self._tickets.get()) is not None:
            self._idle.clear()
            run = Run(ticket, self._say, self._machine, die=_die)
            self._run = run
            try:
                answer = self._do(run)
            finally:
                self._run = None
            self._idle.set()
            self._say(answer)

    def _do(self, run: Run) -> Result | GaveUp | WentWrong:
        try:
            return self._result(run)
        except (GivenUpError, CancelledError, SourceAbortedError) as error:
            return GaveUp(run.reason or str(error))
        except Exception as error:  # whatever went wrong, the job has to hear of it
            if run.reason is not None:
                return GaveUp(run.reason)
            if not isinstance(error, HoldfastError):
                log.exception("mover.unforeseen", job=run.ticket.job_id)
            return went_wrong(error)

    def _result(self, run: Run) -> Result:
        if self._host is None:
            raise ProtocolError("a ticket came before the host was named")
        if run.ticket.backup is not None:
            return back_up(run, run.ticket.backup, self._host, self._machine)
        if run.ticket.restore is not None:
            return restore(run, run.ticket.restore, self._host, self._machine)
        if run.ticket.copy is not None:
            return copy(run, run.ticket.copy, self._host, self._machine)
        raise ProtocolError("a ticket says neither what to back up nor what to copy or restore")

    def _say(self, message: FromMover) -> None:
        self._channel.send(encode(message))

    def _listen(self) -> None:
        try:
            while True:
                run = self._run
                line = self._channel.receive(_WAKE_SECONDS if run is None else run.ticket.beat.total_seconds() / 2)
                if line is not None and not self._hear(to_mover(line)):
                    return
                self._look_around()
        except (ChannelClosedError, ProtocolError) as error:
            self._leave(str(error))

    def _hear(self, message: ToMover) -> bool:
        """Act on what was said; false if it was the last word."""
        run = self._run
        if run is not None:
            run.hear()
        match message:
            case Host():
                self._host = message
            case Ticket():
                self._tickets.put(message)
            case Continue():
                pass
            case Commit(job_id, epoch):
                if run is not None and (job_id, epoch) == (run.ticket.job_id, run.ticket.epoch):
                    run.answer(message)
            case Stop():
                if run is not None:
                    run.give_up("the job was told to stop")
            case Goodbye():
                self._tickets.put(None)
                return False
        return True

    def _look_around(self) -> None:
        """Say how far the work is, once a beat; give it up if nobody is there any more to hear it."""
        run, now = self._run, self._machine.monotonic()
        if run is None:
            return
        if run.is_forsaken:
            run.give_up(f"the supervisor has said nothing for {run.silence:.0f} seconds")
        elif now - self._said_at >= run.ticket.beat.total_seconds() and not run.is_given_up():
            self._said_at = now
            self._channel.send(encode(run.progress), patience=run.ticket.silence.total_seconds())

    def _leave(self, reason: str) -> None:
        """Nobody is there any more: let the work go, and go."""
        run = self._run
        if run is not None:
            run.give_up(reason)
        self._tickets.put(None)
        self._idle.wait(_LAST_SECONDS)
        os._exit(1)


def _die() -> None:
    """End this process and everything that it started, now."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _take_pipes() -> tuple[int, int]:
    """Return what was standard input and output, and put harmless things there, so that nobody else talks on them."""
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return reading, writing


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the thread that started it ends, and end now if it has."""
    ctypes.CDLL(None, use_errno=True).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Be a mover for the process whose number is the one argument."""
    use_memory_sparingly()
    reading, writing = _take_pipes()
    _die_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us decides; a terminal's Ctrl-C is theirs
    machine = SystemMachineTime()
    Mover(Channel(reading, writing, machine), machine).work()


if __name__ == "__main__":
    main()
