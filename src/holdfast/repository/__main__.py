"""Run a repository from the command line: `python -m holdfast.repository COMMAND REPO ...`."""

import sys

if __name__ == "__main__":
    try:
        from holdfast.repository.command import main

        code = main(sys.argv[1:])
    except KeyboardInterrupt:  # before there was anything to end
        code = 130
    sys.exit(code)
