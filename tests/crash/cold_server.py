"""A process that moves what is due to cold storage and nothing else: what a crash test kills.

Arguments: the database's URL, the directory of the storage, and the civil time. Says `ready` when it begins.
"""

import sys
from datetime import datetime
from pathlib import Path

from tests.vault.builders import StillMachine, a_custody

from holdfast.database.connection import Database
from holdfast.recovery.cold import ColdMover


def main() -> None:
    """Move once, to the end."""
    url, storage, now = sys.argv[1], Path(sys.argv[2]), datetime.fromisoformat(sys.argv[3])
    mover = ColdMover(Database.open(url), a_custody(storage), StillMachine(now))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    mover.move_due(now=now)


if __name__ == "__main__":
    main()
