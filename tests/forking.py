"""Forked children that are waited for with a bound, and never left behind."""

from __future__ import annotations

import os
import signal
import time


def exit_code(child: int, seconds: float = 30.0) -> int:
    """Return the child's exit code; kill a child that hangs, which is then minus SIGKILL."""
    limit = time.monotonic() + seconds
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        time.sleep(0.005)
