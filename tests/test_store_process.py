"""Which process holds a lane, and when it is proven to be gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tests.forking import exit_code

from failstop._process import is_gone, this_process


def identity_of(code: str) -> subprocess.Popen[str]:
    command = (
        f"from failstop._process import this_process; print(this_process(), flush=True); {code}"
    )
    return subprocess.Popen(
        [sys.executable, "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_process_that_runs_is_not_gone() -> None:
    assert not is_gone(this_process())
    with identity_of("input()") as other:
        assert other.stdout is not None
        identity = other.stdout.readline().strip()
        assert identity != this_process()
        assert not is_gone(identity)
        other.kill()
        other.wait(20)
        assert is_gone(identity)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")  # noqa: PTH110
def test_a_pid_that_is_used_again_is_another_process() -> None:
    boot, namespace, pid, started = this_process().split("/")
    assert is_gone("/".join((boot, namespace, pid, str(int(started) - 1))))


def test_a_process_of_another_boot_is_gone() -> None:
    _, *rest = this_process().split("/")
    assert is_gone("/".join(("another-boot", *rest)))


def test_of_a_process_of_another_container_nothing_is_known() -> None:
    boot, _, pid, started = this_process().split("/")
    assert not is_gone("/".join((boot, "pid:[1]", str(int(pid) + 1_000_000), started)))


def test_without_a_start_time_only_a_missing_pid_proves_it() -> None:
    boot, namespace, pid, _ = this_process().split("/")
    assert not is_gone(f"{boot}/{namespace}/{pid}/-")
    assert not is_gone(f"{boot}/{namespace}/1/-")
    with identity_of("") as other:
        other.communicate(timeout=20)
    assert is_gone("/".join((boot, namespace, str(other.pid), "-")))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_another_process() -> None:
    parent = this_process()
    child = os.fork()
    if child == 0:
        os._exit(0 if this_process() != parent and not is_gone(parent) else 1)
    assert exit_code(child) == 0
