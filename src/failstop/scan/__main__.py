"""`python -m failstop.scan`: the command where the `failstop` script is not installed.

Lives here: the start of the command. Never here: anything else.
"""

import sys


def start() -> int:
    """Run the command of this process and return its exit code; without click, say what to do."""
    try:
        from failstop.scan._command import main
    except ModuleNotFoundError as error:
        sys.stderr.write(f"failstop scan needs {error.name}: pip install 'failstop[cli]'\n")
        return 2
    return main()


if __name__ == "__main__":
    sys.exit(start())
