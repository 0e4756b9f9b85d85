"""A process that runs jobs and nothing else: what the crash tests kill, freeze and start again.

Arguments: the database's URL, the directory of the world, the executor's name, bytes a second, seconds of a beat, and
the duty at whose beginning it shall kill itself (`-`: none). Says `ready` when it runs, and ends when its input ends.
"""

import os
import signal
import sys
import threading
from datetime import timedelta
from pathlib import Path

from tests.job.world import World

from holdfast.database.connection import Database


def die(*_anything: object) -> None:
    """Crash."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run until nobody wants it any more."""
    url, root, executor, rate, beat, die_at = sys.argv[1:]
    world = World(
        Path(root),
        Database.open(url),
        heartbeat=timedelta(seconds=float(beat)),
        read_bytes_per_second=int(rate),
    )
    if die_at != "-":
        setattr(world, die_at, die)
    supervisor = world.supervisor(executor)
    supervisor.start()
    until = threading.Event()
    ticking = threading.Thread(target=supervisor.keep_going, args=(until,))
    ticking.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    until.set()
    ticking.join()
    supervisor.stop()
    world.database.close()


if __name__ == "__main__":
    main()
