"""Work that goes on beside the requests: named loops, each in a thread, that survive their own errors."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from holdfast.core.clock import MachineTime

log = structlog.get_logger()

_LONGEST_PAUSE: Final = 60.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Something done again and again, `every` so many seconds of machine time, or earlier when it is woken."""

    name: str
    every: float
    work: Callable[[], object]


@dataclass
class Loops:
    """The running loops of one server."""

    machine: MachineTime
    loops: Sequence[Loop]
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start a thread for each loop."""
        for loop in self.loops:
            thread = threading.Thread(target=self._run, args=(loop,), name=f"loop-{loop.name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End every loop after the work it is doing now."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, loop: Loop) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                loop.work()
                failures = 0
            except Exception as error:
                failures += 1
                log.exception("loop.failed", loop=loop.name, error=str(error), times=failures)
            pause = min(loop.every * 2**failures, max(loop.every, _LONGEST_PAUSE)) if failures else loop.every
            self.machine.wait(self._stopping, pause)
