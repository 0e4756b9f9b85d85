"""Run a repository from the command line: `python -m holdfast.repository COMMAND REPO ...`."""

import sys

from holdfast.repository.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
