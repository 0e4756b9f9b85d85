"""One run inside a mover: how far it is, whether it shall stop, and the question that comes before every commit."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.core.clock import MachineTime
from holdfast.core.errors import HoldfastError
from holdfast.job.protocol import (
    Brought,
    Commit,
    FromMover,
    Problems,
    ProgressMade,
    ReadyToCommit,
    Stop,
    Ticket,
    Trouble,
)

_MOST_TROUBLES: Final = 10_000
_TROUBLES_A_LINE: Final = 500
_LONGEST_TROUBLE: Final = 4_000


class GivenUpError(HoldfastError):
    """The run was told to stop, or nobody was there any more who could have told it."""


class Run:
    """One ticket being worked on. The worker's thread does the work, the listener's hears the supervisor."""

    def __init__(
        self, ticket: Ticket, say: Callable[[FromMover], None], machine: MachineTime, *, die: Callable[[], None]
    ) -> None:
        """Take the ticket, and how to speak. `die` ends the process and all that it started, at once."""
        self.ticket = ticket
        self.progress = ProgressMade()
        self._say = say
        self._die = die
        self._forsaken = False
        self._machine = machine
        self._heard_at = machine.monotonic()
        self._answers: queue.Queue[Commit | Stop] = queue.Queue()
        self._guard = threading.Lock()
        self._reason: str | None = None
        self._let_go: list[Callable[[], None]] = []

    # What the listener does

    def hear(self) -> None:
        """Note that the supervisor is there.

        Not if it had been silent for too long before: a process that was frozen finds lines that are old, and its job
        may have been given to somebody else.
        """
        if not self.is_forsaken:
            self._heard_at = self._machine.monotonic()

    def answer(self, answer: Commit | Stop) -> None:
        """Pass on what the supervisor said to the question whether to commit."""
        self._answers.put(answer)

    @property
    def silence(self) -> float:
        """For how many seconds the supervisor has said nothing."""
        return self._machine.monotonic() - self._heard_at

    @property
    def is_forsaken(self) -> bool:
        """Whether the supervisor was silent for so long that the job may have been given to somebody else."""
        if not self._forsaken:
            self._forsaken = self.silence > self.ticket.silence.total_seconds()
        return self._forsaken

    def give_up(self, reason: str) -> None:
        """Make the work end; may come from any thread and more than once, the first reason counts."""
        with self._guard:
            if self._reason is not None:
                return
            self._reason = reason
            let_go = list(self._let_go)
        self._answers.put(Stop())
        for step in let_go:
            step()

    # What the worker does

    @property
    def reason(self) -> str | None:
        """Why the work has to end; None if it may go on."""
        return self._reason

    def is_given_up(self) -> bool:
        """Whether the work has to end."""
        return self._reason is not None

    def refuse_if_given_up(self) -> None:
        """End the work here if it has to end.

        Raises:
            GivenUpError: it has to.
        """
        if self._reason is not None:
            raise GivenUpError(self._reason)

    def on_giving_up(self, step: Callable[[], None]) -> None:
        """Have `step` called when the work has to end, at once if it has to already."""
        with self._guard:
            given_up = self._reason is not None
            self._let_go.append(step)
        if given_up:
            step()

    def undo(self, step: Callable[[], None]) -> None:
        """Remove what this run has made, if the job is still its own; else leave it to the run that has the job now.

        What is removed is found by its name, and by now that may be the other's.
        """
        if self.is_forsaken:
            self._die()
        step()

    def say_troubles(self, troubles: Sequence[Trouble]) -> None:
        """Report what is not as it should be, as far as lines and patience go."""
        told = [Trouble(one.path[:_LONGEST_TROUBLE], one.what[:_LONGEST_TROUBLE]) for one in troubles[:_MOST_TROUBLES]]
        for start in range(0, len(told), _TROUBLES_A_LINE):
            self._say(Problems(tuple(told[start : start + _TROUBLES_A_LINE])))

    def ask(self, brought: Brought, *, adopting: bool = False) -> None:
        """Ask whether the work may be committed, and return only if it may, now.

        Raises:
            GivenUpError: it may not, or the answer came too late to be relied on.
        """
        self.refuse_if_given_up()
        patience = self.ticket.silence.total_seconds()
        asked_at = self._machine.monotonic()
        self._say(ReadyToCommit(brought, adopting))
        try:
            answer = self._answers.get(timeout=patience)
        except queue.Empty:
            self.give_up("nobody answered whether the snapshot may be written")
            answer = Stop()
        self.refuse_if_given_up()
        # A process that was frozen in between wakes up with an answer that was meant for then.
        if isinstance(answer, Stop) or self._machine.monotonic() - asked_at > patience:
            self.give_up("the supervisor's permission to write the snapshot came too late")
        self.refuse_if_given_up()
