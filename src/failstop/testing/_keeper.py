"""The keeper: ends the servers of a test process that is gone, and removes their directory.

It runs as a script in a session of its own, so that neither Ctrl-C nor a `kill -9` of the tests
reaches it. It imports nothing of failstop: it has to be there before the first server is.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from pathlib import Path

import psutil

__all__ = ["kill", "processes", "title"]


def title(process: psutil.Process) -> str:
    """Return what `ps` shows of a process, nothing where it is gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def processes(mark: str) -> list[psutil.Process]:
    """Return the living server processes that carry `mark`, the lowest pid first.

    The postmaster has the mark in the path of its data directory, its children in their title
    (`cluster_name`): so the orphans of a killed postmaster are found too.
    """
    servers = [p for p in psutil.process_iter(["name"]) if p.info["name"] == "postgres"]
    return [process for process in servers if mark in title(process)]


def kill(mark: str, *, timeout: float = 10.0) -> None:
    """Send SIGKILL to every process that carries `mark`, until there is none.

    Raises:
        TimeoutError: a process is left after `timeout` seconds.
    """
    until = time.monotonic() + timeout
    while left := processes(mark):
        if time.monotonic() > until:
            raise TimeoutError(f"{len(left)} server processes did not end in {timeout} s")
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.002)


def _keep(directory: Path) -> None:
    sys.stdin.buffer.read()  # ends when the last holder of the other end is gone, however it went
    kill(f"{directory.name}/")
    shutil.rmtree(directory)


if __name__ == "__main__":
    _keep(Path(sys.argv[1]))
