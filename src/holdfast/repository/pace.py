"""Keeping to a rate: bytes per second, averaged over about a second."""

import threading

from holdfast.core.clock import MachineTime


class Pace:
    """Slows its caller down to a number of bytes a second; 0 is no limit."""

    def __init__(self, bytes_per_second: int, machine: MachineTime) -> None:
        self._rate = bytes_per_second
        self._machine = machine
        self._free_at = machine.monotonic() if bytes_per_second else 0.0
        self._never = threading.Event()

    def take(self, size: int) -> None:
        """Count `size` bytes, and wait until they fit the rate."""
        if not self._rate:
            return
        now = self._machine.monotonic()
        # What was not used is kept for a second at most.
        self._free_at = max(self._free_at, now - 1) + size / self._rate
        if self._free_at > now:
            self._machine.wait(self._never, self._free_at - now)
