"""Which process this is, and whether another one is proven to be gone.

A pid alone says neither: it is used again after a crash, a restart of the machine, and in every
container. Never here: what to do about it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

__all__ = ["is_gone", "is_of_here", "this_clock", "this_process"]

UNKNOWN = "-"
START_TIME = 19
"""The place of the start time in /proc/PID/stat, counted from the state, which is the third."""


def this_process() -> str:
    """Return this process's identity: boot, pid namespace, pid and start time."""
    return _identity(os.getpid())


@lru_cache(maxsize=1)
def this_clock() -> str | None:
    """Return which clock `time.monotonic()` reads, the same in all that share it; None if unknown.

    A boot begins it anew, and a container may have one of its own.
    """
    boot = _boot()
    return None if boot == UNKNOWN else f"{boot}/{_link('time')}"


@lru_cache(maxsize=1)  # keyed by the pid, so a forked child has its own
def _identity(pid: int) -> str:
    return "/".join((_boot(), _namespace(), str(pid), _started(pid)))


def is_gone(identity: str) -> bool:
    """Say whether it is proven that the process no longer runs.

    False where that cannot be known, such as for a process of another container.
    """
    boot, namespace, pid, started = identity.split("/")
    if boot != _boot():
        return True
    if namespace != _namespace():
        return False
    if started != UNKNOWN:
        return _started(int(pid)) != started
    return not _exists(int(pid))


def is_of_here(identity: str) -> bool:
    """Say whether the process is, or was, where this one can know of it."""
    return identity.split("/")[1] == _namespace()


def _boot() -> str:
    return _read(Path("/proc/sys/kernel/random/boot_id")).strip() or UNKNOWN


def _namespace() -> str:
    return _link("pid")


def _link(namespace: str) -> str:
    try:
        return str(Path(f"/proc/self/ns/{namespace}").readlink())
    except OSError:
        return UNKNOWN


def _started(pid: int) -> str:
    """Return the start time in clock ticks; the name before it may hold any character."""
    fields = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    is_running = len(fields) > START_TIME and fields[0] not in ("Z", "X")
    return fields[START_TIME] if is_running else UNKNOWN


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
